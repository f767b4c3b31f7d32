"""A bound on the requests a second of each caller."""

import time
from collections.abc import Callable

MAX_CALLERS = 65_536  # whose rates are remembered


class RateLimiter:
    """So many requests a second for each caller, and as many at once after a rest.

    The generic cell rate algorithm (ITU-T I.371): a caller is a time up to which it has used its
    share, which is a token bucket in one number.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._used: dict[str, float] = {}
        self._clock = clock

    def wait(self, caller: str, rate: int) -> float:
        """Take a request in: 0, or the seconds after which it would be."""
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
