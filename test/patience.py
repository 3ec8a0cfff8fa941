"""How long things may take on the machine as it is now."""

import os
from pathlib import Path


def busy() -> float:
    """Return how many processes share a core, at least 1: so many times longer all takes."""
    running = int(Path('/proc/loadavg').read_text().split()[3].partition('/')[0])
    return max(1.0, max(os.getloadavg()[0], running) / (os.cpu_count() or 1))


def patience(seconds: float) -> float:
    """Return a limit that is this many seconds where nothing else runs."""
    return seconds * busy()
