"""
Carries phone calls between Twilio Media Streams and a voice agent's WebSocket.

The way of a **webhook**: ``http_front`` reads the request, ``server`` routes it, ``webhooks`` checks Twilio's
signature, asks the agent (``agents``) for a session, and answers TwiML (``twiml``) whose stream parameters carry
a ``tokens`` token.

The way of a **frame**: ``caller_leg`` finds the base64 text in Twilio's message, ``call`` hands it to
``agent_leg``, which wraps it for the agent; and back the same way. ``leg`` is what both sockets share: the
WebSocket rules, the bounds, and the ring for audio that cannot go on yet.

The way of an **interrupt**: ``agent_leg`` reads it, ``call`` tells ``caller_leg``, which drops what it holds and
sends Twilio ``clear``, all in one stack.

``call`` is a state machine without I/O and without a clock; ``calls`` knows which CallSids are admitted, live or
over. ``standins`` holds the stand-in caller and agent service, which import nothing of the above.
"""
