"""Limits how many requests per second each caller may make."""

import time
from collections.abc import Callable

MAX_CALLERS = 65_536  # callers in memory


class RateLimiter:
    """Lets `rate` requests per second of each caller through, and as many at once after a pause.

    This is the generic cell rate algorithm (ITU-T I.371), a token bucket whose state is one number:
    the time up to which a caller has used its share. Each request moves that time on by 1 / rate,
    and it may be at most one second ahead of the clock. Example with a rate of 2 per second:

        clock 10.0   two requests       let through; the share is used up to 11.0
        clock 10.0   a third            wait 0.5 s: it would be used up to 11.5
        clock 10.5   a third            let through; the share is used up to 11.5
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._used: dict[str, float] = {}
        self._clock = clock

    def wait(self, caller: str, rate: int) -> float:
        """Count a request and return 0, or return the seconds until it would be let through.

        `rate` is in requests per second.
        """
        now = self._clock()
        used = max(self._used.get(caller, now), now)
        if used + 1 / rate > now + 1:
            return used + 1 / rate - now - 1
        if caller not in self._used and len(self._used) >= MAX_CALLERS:
            self._used = {other: at for other, at in self._used.items() if at > now}
            while len(self._used) >= MAX_CALLERS:
                del self._used[next(iter(self._used))]
        self._used[caller] = used + 1 / rate
        return 0
