"""One phone call: its state machine, its two legs, its audio."""
