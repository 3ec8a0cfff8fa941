"""Maps recorded time to the monotonic clock without drift."""

import math
import time


class Schedule:
    """
    When each recorded moment is due.

    Everything is computed from one fixed pair of times, so delays do not add up.

    :param rate: seconds of recorded time per second; inf = everything is due at once, and time
        runs as it passes.
    """

    def __init__(self, rate: float = 1.0) -> None:
        self._rate = rate
        self._recorded_ns = 0
        self._monotonic_ns = 0
        self._newest_ns = 0

    def start(self, recorded_ns: int, monotonic_ns: int) -> None:
        """Let a recorded moment be due at a monotonic time."""
        self._recorded_ns, self._monotonic_ns = recorded_ns, monotonic_ns
        self._newest_ns = recorded_ns

    def due_ns(self, recorded_ns: int) -> int:
        """Return the monotonic time at which a recorded moment is due."""
        return self._monotonic_ns + round((recorded_ns - self._recorded_ns) / self._rate)

    def reached(self, recorded_ns: int) -> None:
        """Take note that a moment's messages are sent: time runs on from there."""
        self._newest_ns = max(self._newest_ns, recorded_ns)

    def recorded_ns(self, monotonic_ns: int | None = None, limit_ns: int | None = None) -> int:
        """
        Return the recorded time at a monotonic time (default: now).

        It never runs back behind what was sent, nor past ``limit_ns``, the next message to send.
        """
        now_ns = time.monotonic_ns() if monotonic_ns is None else monotonic_ns
        if math.isinf(self._rate):
            mapped_ns = self._newest_ns + now_ns - self._monotonic_ns
        else:
            mapped_ns = self._recorded_ns + round((now_ns - self._monotonic_ns) * self._rate)
        if limit_ns is not None:
            mapped_ns = min(mapped_ns, limit_ns)
        return max(mapped_ns, self._newest_ns)

    def shift(self, recorded_ns: int, monotonic_ns: int) -> None:
        """Let a moment be due at a later time, and everything after it as much later."""
        self._monotonic_ns += max(0, monotonic_ns - self.due_ns(recorded_ns))
