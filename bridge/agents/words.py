"""What the bridge says to agents in its own words, whatever their protocol."""

from __future__ import annotations

GOES_ON = "This phone call goes on after an interruption. Do not greet again. What was said so far:\n"
HANGS_UP = "The call ends after your last words. Say goodbye now, unless you have."
TRANSFERS = "The caller is connected after your last words. Say them now, unless you have."
ENDS_SOON = "This call ends in {:.0f} seconds. Come to an end with the caller."
# In the caller's place, and about the caller.
I_PRESSED = "I have pressed these keys of my telephone: {}"
CALLER_PRESSED = "The caller has pressed these keys of the telephone: {}"
