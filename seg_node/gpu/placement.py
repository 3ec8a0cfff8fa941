"""
Where a GPU that shares the host's memory (Jetson) reads images and writes results.

In mapped page-locked memory nothing is copied, but the GPU does not cache it: each of the twelve
bytes that a pixel of the input is made of is fetched by itself, and masks are written in rows of
eight bytes. Copies to memory of its own cost bandwidth instead. Which is faster depends on the
machine and the sizes, so both are tried in the first batches, and the better one is taken.
"""

from statistics import median

#: whether images are read, and results written, where the host has them
Mode = tuple[bool, bool]
COPIED: Mode = (False, False)
_MODES: tuple[Mode, ...] = (COPIED, (True, False), (False, True), (True, True))
_DROPPED = 4  # runs of each way: plain and captured, of both slots
_TIMED = 5  # runs of each way that count


class Placement:
    """
    Tries the ways, one after the other, then keeps the best.

    :param integrated: the GPU shares the host's memory; else there is only one way.
    """

    def __init__(self, integrated: bool) -> None:
        self.mode = COPIED
        self._times: dict[Mode, list[float]] = {}
        self._left = [mode for mode in _MODES for _ in range(_DROPPED + _TIMED)] if integrated \
            else []
        if self._left:
            self.mode = self._left[0]

    @property
    def runs_left(self) -> int:
        """How many runs it still takes."""
        return len(self._left)

    def took(self, mode: Mode, ms: float) -> None:
        """Count what a run took, from the first byte copied to the results being there."""
        if not self._left or mode != self._left[0]:  # settled, or two were in flight
            return
        self._left.pop(0)
        self._times.setdefault(mode, []).append(ms)
        self.mode = self._left[0] if self._left else min(
            self._times, key=lambda one: median(self._times[one][_DROPPED:]))

    def __str__(self) -> str:
        images, results = ('mapped' if mapped else 'copied' for mapped in self.mode)
        times = {mode: median(ms[_DROPPED:]) for mode, ms in self._times.items()
                 if len(ms) > _DROPPED}
        if not times or self._left:
            return f'images {images}, results {results}'
        return (f'images {images}, results {results} ({times[self.mode]:.2f} ms, all copied '
                f'{times[COPIED]:.2f} ms)')
