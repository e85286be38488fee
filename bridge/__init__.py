"""
Carries phone calls between Twilio Media Streams and a voice agent's WebSocket.

The way of a **webhook**: ``http_front`` reads the request, ``routes`` says where it goes, ``webhooks`` checks Twilio's
signature, has a session opened with an agent (``sessions``, of those that ``directory`` knows and ``agents``
describes), and answers TwiML (``twiml``) whose stream parameters carry a ``tokens`` token.

The way of a **frame**: each side's socket has a `_codec.Wire`, which finds the base64 text in Twilio's or the
agent's message, copies it once into a message of the other side, and sends that; ``call`` has joined the two and
sees no frame. Audio that cannot go on yet waits in the wire's ring.

The way of an **interrupt**, as of any other message: the wire hands it up to ``agent_leg`` (Twilio's: to
``caller_leg``), which asks the agent's dialogue what it means and tells ``call``, which tells ``caller_leg``, which
drops what is held and sends Twilio ``clear``, all in one stack. ``leg`` is what both sides share: liveness,
deadlines, the end. What the caller has heard by then, ``heard`` knows.

``call`` is a state machine without I/O and without a clock; ``calls`` knows which CallSids are admitted, live or
over. ``standins`` holds the stand-in caller and agent service, which import nothing of the above.
"""
