"""Twilio with a caller: webhooks, TwiML and Media Streams as Twilio writes and reads them."""
