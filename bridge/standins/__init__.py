"""
Stand-ins for the two services around the bridge: Twilio with a caller, and a voice agent.

They write and read the wire formats with their own code over aiohttp and import nothing from the rest of
the project, so an error in the bridge cannot hide in a shared function.

- ``audio``: G.711 mu-law, WAV files, frames, a detector of speech
- ``numbered``: frames that carry their own number, and the checker of what arrives
- ``inject``: faults on purpose, to show that the checks see them
- ``playout``: what Twilio does with the audio it is sent; no I/O, no clock
- ``twiml``: the answers of webhooks, read as Twilio reads them
- ``webhook``: Twilio's HTTP side: signed forms
- ``twilio_messages``: Media Streams messages, written as Twilio does and checked as Twilio does
- ``sockets``: cutting a socket, and not reading it
- ``caller``: one phone call through Twilio
- ``agent``, ``agent_session``, ``session_socket``, ``behaviours``: a voice agent service and its calls
- ``protocols``: what it speaks, one vendor's way or another's; ``formats``: the audio in it
- ``accounting``, ``picture``: what went where in a call between the two, in numbers and as a picture
"""
