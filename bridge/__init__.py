"""
Carries phone calls between Twilio Media Streams and a voice agent's WebSocket.

The way of a **webhook**: ``http.front`` reads the request, ``server.paths`` says where it goes, ``server.webhooks``
checks Twilio's signature, has a session opened with an agent (``agents.sessions``, of those that
``agents.directory`` knows and ``agents.vendors`` describes), and answers TwiML (``twilio.twiml``) whose stream
parameters carry a ``twilio.tokens`` token.

The way of a **frame**: each side's socket has a `_codec.Wire`, which finds the base64 text in Twilio's or the
agent's message, copies it once into a message of the other side, and sends that; ``call.state`` has joined the two
and sees no frame. Audio that cannot go on yet waits in the wire's ring.

The way of an **interrupt**, as of any other message: the wire hands it up to ``call.agent`` (Twilio's: to
``call.caller``), which asks the agent's dialogue what it means and tells ``call.state``, which tells
``call.caller``, which drops what is held and sends Twilio ``clear``, all in one stack. ``call.leg`` is what both
sides share: liveness, deadlines, the end. What the caller has heard by then, ``call.heard`` knows.

``call.state`` is a state machine without I/O and without a clock; ``server.registry`` knows which CallSids are
admitted, live or over. ``standins`` holds the stand-in caller and agent service, which import nothing of the above.
"""
