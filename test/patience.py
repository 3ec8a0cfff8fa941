"""How long things may take on the machine as it is now."""

import os
from pathlib import Path
import time


def busy() -> float:
    """Return how many processes share a core, at least 1: so many times longer all takes."""
    running = int(Path('/proc/loadavg').read_text().split()[3].partition('/')[0])
    return max(1.0, max(os.getloadavg()[0], running) / (os.cpu_count() or 1))


def patience(seconds: float) -> float:
    """Return a limit that is this many seconds where nothing else runs."""
    return seconds * busy()


class Delay:
    """
    For how long at a time the machine holds up a process and this one.

    To be asked again and again, in turns of a few milliseconds.

    :param pid: of the other process.
    :ivar worst_s: the longest time that this process came too late to ask, or that a thread of
        the other was ready but had no core; the latter is 0 where Linux does not tell.
    """

    LOOK_S = 0.02

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._waited_ns, self._due = self._waits_ns(), time.monotonic() + self.LOOK_S
        self.worst_s = 0.0

    def look(self) -> None:
        """See how long they were held up since the last time."""
        if (now := time.monotonic()) < self._due:
            return
        before_ns, self._waited_ns = self._waited_ns, self._waits_ns()
        waited_ns = max((after_ns - before_ns.get(thread, 0)
                         for thread, after_ns in self._waited_ns.items()), default=0)
        self.worst_s = max(self.worst_s, now - self._due, waited_ns / 1e9)
        self._due = time.monotonic() + self.LOOK_S

    def _waits_ns(self) -> dict[str, int]:
        """Return how long each thread has waited for a core since its start."""
        found = {}
        for task in os.listdir(f'/proc/{self._pid}/task'):
            try:
                with open(f'/proc/{self._pid}/task/{task}/schedstat', 'rb') as file:
                    found[task] = int(file.read().split()[1])
            except OSError:  # it has ended, or this kernel keeps no such count
                continue
        return found
