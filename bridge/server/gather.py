"""
Looks at the sockets at intervals instead of waking for each.

With hundreds of calls most of the time goes into falling asleep and waking up once per frame. A callback that sleeps
and asks to be called again makes the event loop poll without waiting, so that it finds a batch of frames each time.
A frame waits at most for one interval, and so does a timer or a signal. The event loop's own hooks are out of reach
from Python, and a selector of our own would cost more per frame than uvloop's.
"""

from __future__ import annotations

import asyncio
import time

# Below this many calls the loop is asleep most of the time, and waking up is cheaper than looking in vain.
FROM_CALLS = 20
# A pass over the sockets that takes this many intervals shows a process near its limit: it takes what there is.
BUSY_INTERVALS = 8


class Gather:
    """
    Sleeps between two looks at the sockets while many calls are up, without the interpreter's lock.

    Args:
        interval_s: How long; 0: never.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._is_wanted = False
        # A callback is under way; set by `set_calls`, cleared by the callback that is not wanted any more.
        self._is_armed = False
        self._woke_at = 0.0

    def set_calls(self, calls: int) -> None:
        """Start or stop by the number of open calls."""
        self._is_wanted = self._interval_s > 0 and calls >= FROM_CALLS
        if self._is_wanted and not self._is_armed:
            self._is_armed = True
            self._woke_at = time.monotonic()
            asyncio.get_running_loop().call_soon(self._sleep)

    def _sleep(self) -> None:
        if not self._is_wanted:
            self._is_armed = False
            return
        if time.monotonic() - self._woke_at < BUSY_INTERVALS * self._interval_s:
            time.sleep(self._interval_s)
        self._woke_at = time.monotonic()
        asyncio.get_running_loop().call_soon(self._sleep)
