"""Recorded time as it is played: it runs on over rounds, long pauses and steps back."""

from collections.abc import Sequence

_STEP_BACK_NS = 1_000_000_000  # less is the usual disorder of recorders


class PlayedTime:
    """
    Maps recorded to played time.

    :param max_gap_s: a longer pause is cut to this.
    :ivar shift_ns: played minus recorded time, at present.
    """

    def __init__(self, max_gap_s: float) -> None:
        self.shift_ns = 0
        self._max_gap_s = max_gap_s
        self._gaps_ns: list[int] = []
        self._steps_back_ns: list[int] = []

    def bridge(self, gap_ns: int) -> None:
        """Take the next message, so long after the last in played time, a little later at most."""
        too_long_ns = gap_ns - round(self._max_gap_s * 1e9)
        if too_long_ns > 0:
            self._gaps_ns.append(gap_ns)
            self.shift_ns -= too_long_ns
        elif gap_ns < -_STEP_BACK_NS:
            self._steps_back_ns.append(-gap_ns)
            self.shift_ns -= gap_ns

    def losses(self) -> dict[str, int]:
        """Return how often recorded time was not followed, by kind."""
        return {kind: len(found) for kind, found in (
            ('gaps_cut', self._gaps_ns), ('time_steps_back', self._steps_back_ns)) if found}

    def remarks(self) -> list[str]:
        """Return a line for each kind."""
        found = []
        if self._gaps_ns:
            found.append(f'{len(self._gaps_ns)} pauses in recorded time, the longest of '
                         f'{max(self._gaps_ns) / 1e9:.1f} s, are cut to {self._max_gap_s:g} s '
                         '(--max-gap)')
        if self._steps_back_ns:
            found.append(f'recorded time steps back {len(self._steps_back_ns)} times, by '
                         f'{max(self._steps_back_ns) / 1e9:.1f} s at most; it is played on')
        return found


def odd_stamps(stamps: Sequence[int]) -> str:
    """Return what is wrong with the stamps of a topic, as they were sent; '' = nothing."""
    count = len(stamps)
    zero = stamps.count(0)
    repeated = count - zero - len(set(stamps) - {0})
    back = sum(0 < late < early for early, late in zip(stamps, stamps[1:], strict=False))
    found = [f'{number} of {count} stamps {what}' for number, what in (
        (zero, 'are zero'), (repeated, 'repeat'), (back, 'go back')) if number]
    return (f'{", ".join(found)}: latencies are those of single stamps only, and pictures may '
            'show a mask of another frame') if found else ''
