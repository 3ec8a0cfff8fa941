"""What is wrong with the time stamps of a stream of images."""

from dataclasses import dataclass

ZERO, REPEATED, BACK, FORWARD = 'zero', 'repeated', 'back', 'forward'
FAULTS = (ZERO, REPEATED, BACK, FORWARD)
#: A stamp that runs ahead of the clocks by more than this, in seconds, has jumped.
JUMP_S = 1.0


@dataclass(frozen=True)
class Stamp:
    """
    What one stamp is, beside the one before.

    :ivar fault: one of ``FAULTS``, or '' for none.
    :ivar jump_s: how far it jumped, in seconds; 0 unless it did.
    """

    fault: str = ''
    jump_s: float = 0.0


_GOOD, _ZERO, _REPEATED = Stamp(), Stamp(ZERO), Stamp(REPEATED)


class Stamps:
    """Compares each stamp with the one before, and with how far the clocks went meanwhile."""

    def __init__(self) -> None:
        self._last: tuple[int, float, float | None] | None = None

    def check(self, stamp_ns: int, moment: float, age_ms: float | None) -> Stamp:
        """
        Return what is wrong with the next image's stamp.

        :param moment: when the image came, in seconds of a clock that never jumps.
        :param age_ms: its age by the node's clock, which may be simulated and may jump; None
            where that clock has no time yet.
        """
        if stamp_ns == 0:
            return _ZERO  # says nothing about the next one
        last, self._last = self._last, (stamp_ns, moment, age_ms)
        if last is None:
            return _GOOD
        step_s = (stamp_ns - last[0]) / 1e9
        if step_s == 0:
            return _REPEATED
        if step_s < 0:
            return Stamp(BACK, -step_s)
        ahead_s = step_s - (moment - last[1])
        if ahead_s > JUMP_S and age_ms is not None and last[2] is not None:
            # By the node's clock, too: a simulated one may itself run fast or jump with the bag.
            ahead_s = min(ahead_s, (last[2] - age_ms) / 1e3)
        return Stamp(FORWARD, ahead_s) if ahead_s > JUMP_S else _GOOD
