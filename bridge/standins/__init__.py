"""
Stand-ins for the two services around the bridge: Twilio with a caller, and a voice agent.

They have their own code for the wire formats, over aiohttp, and import nothing from the rest of the
project: a shared function could hide an error of the bridge.

- ``twilio``: Twilio with a caller: signed webhooks, TwiML, Media Streams messages, playout; its REST API
- ``agent``: a voice agent service, its sessions and the protocols that it speaks
- ``audio``: G.711 mu-law, WAV files, frames, a detector of speech
- ``numbered``: frames that carry their own number
- ``inject``: deliberate faults in audio, to show that the checks detect them
- ``sockets``: abort a socket, or stop reading it
- ``accounting``, ``picture``: the audio of a call between the two, in numbers and as a picture
- ``process``: a bridge as a process of its own
- ``commands``, ``demo``: the stand-ins on the command line, alone and as one whole call

``twilio`` and ``agent`` do not import each other.
"""
