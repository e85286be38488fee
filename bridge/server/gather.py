"""
Looks at the sockets at intervals instead of waking up for each frame.

With hundreds of calls a fifth of the CPU time goes into falling asleep and waking up once per frame. A callback that
sleeps and schedules itself again makes the event loop poll without waiting, so that each poll finds a batch of frames.
A frame, a timer or a signal waits for one interval at most. uvloop's own hooks are out of reach from Python, and an
asyncio selector in its place costs more per frame. The calls' sockets are read past the loop meanwhile.
"""

from __future__ import annotations

import asyncio
import time

from _codec import SocketSet

# Below this many calls the loop is asleep most of the time, and waking up is cheaper than looking in vain.
FROM_CALLS = 20
# A pass over the sockets that takes this many intervals means that the process is near its limit: it does not sleep.
BUSY_INTERVALS = 8


class Gather:
    """
    Sleeps between two looks at the sockets while many calls are up, without the interpreter's lock.

    Args:
        interval_s: How long; 0: never.

    Attributes:
        sockets: Those that are read here; it is on while this sleeps between two looks.
    """

    def __init__(self, interval_s: float) -> None:
        self.sockets = SocketSet()
        self._interval_s = interval_s
        self._is_wanted = False
        # The callback is scheduled; set by `set_calls`, cleared by the callback when it is no longer wanted.
        self._is_armed = False
        self._woke_at = 0.0

    def set_calls(self, calls: int) -> None:
        """Start or stop by the number of open calls."""
        self._is_wanted = self._interval_s > 0 and calls >= FROM_CALLS
        if self._is_wanted and not self._is_armed:
            self._is_armed = True
            self._woke_at = time.monotonic()
            self.sockets.start()
            asyncio.get_running_loop().call_soon(self._sleep)

    def _sleep(self) -> None:
        if not self._is_wanted:
            self._is_armed = False
            self.sockets.stop()
            return
        if time.monotonic() - self._woke_at < BUSY_INTERVALS * self._interval_s:
            time.sleep(self._interval_s)
        self._woke_at = time.monotonic()
        try:
            self.sockets.look()
        finally:
            # After what the look has scheduled; after a fault too: nobody else reads these sockets.
            asyncio.get_running_loop().call_soon(self._sleep)
