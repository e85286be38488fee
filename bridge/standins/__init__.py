"""
Stand-ins for the two services around the bridge: Twilio with a caller, and a voice agent.

They write and read the wire formats with their own code over aiohttp and import nothing from the rest of
the project, so an error in the bridge cannot hide in a shared function.

- ``twilio``: Twilio with a caller: signed webhooks, TwiML, Media Streams messages, playout
- ``agent``: a voice agent service, its sessions and the protocols that it speaks
- ``audio``: G.711 mu-law, WAV files, frames, a detector of speech
- ``numbered``: frames that carry their own number
- ``inject``: faults on purpose, to show that the checks see them
- ``sockets``: cutting a socket, and not reading it
- ``accounting``, ``picture``: what went where in a call between the two, in numbers and as a picture
- ``commands``, ``demo``: the stand-ins on the command line, alone and as one whole call

``twilio`` and ``agent`` do not import each other.
"""
