"""Twilio's messages, TwiML, signatures, tokens and REST interface."""
