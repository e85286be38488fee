"""Twilio with a caller: webhooks, TwiML and Media Streams, written and read as Twilio does."""
