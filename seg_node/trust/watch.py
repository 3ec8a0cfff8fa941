"""One camera over time: frozen pictures, and a state that one frame neither raises nor clears."""

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from .verdict import Standing, State, Verdict

_SAME = 1e-3  # share of samples that may differ in a frozen picture: a clock in a corner


@dataclass(frozen=True)
class Timing:
    """
    How long things must last, in seconds.

    :ivar alarm_s: half of the frames of this time, at least two, must be bad to raise the state.
    :ivar clear_s: all frames of this time, at least two, must be better to clear it.
    :ivar frozen_s: a picture that does not change for so long is frozen; 0 = never.
    """

    alarm_s: float = 0.3
    clear_s: float = 1.0
    frozen_s: float = 1.0


class CameraWatch:
    """Follows one camera; used by one thread, on which ``timing`` may be set."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self._past: deque[tuple[float, State, str]] = deque()
        self._bad = 0  # of the past
        self._state, self._reason = State.OK, ''
        self._last: np.ndarray | None = None
        self._last_stamp_ns = 0
        self._changed_s = 0.0

    def follow(self, verdict: Verdict, stamp_ns: int, now_s: float) -> Standing:
        """
        Take in the next frame.

        :param stamp_ns: of the frame; one that does not advance is no fresh picture.
        :param now_s: when it was received, on a steady clock.
        """
        verdict = self._frozen(verdict, stamp_ns, now_s)
        self._past.append((now_s, verdict.state, verdict.reason))
        self._bad += verdict.state > State.OK
        horizon = now_s - max(self.timing.alarm_s, self.timing.clear_s)
        while len(self._past) > 3 and self._past[0][0] < horizon:
            self._bad -= self._past.popleft()[1] > State.OK
        self._state, self._reason = self._standing(now_s)
        return Standing(self._state, self._reason, verdict)

    def _frozen(self, verdict: Verdict, stamp_ns: int, now_s: float) -> Verdict:
        """Return the verdict, or a graver one on a picture that has not changed for too long."""
        grey, last = verdict.evidence.grey, self._last
        fresh = stamp_ns != self._last_stamp_ns
        self._last_stamp_ns = stamp_ns
        if (last is None or last.shape != grey.shape
                or np.count_nonzero(grey != last) > _SAME * grey.size):
            # Kept until it changes: small changes add up, as they do where a car creeps.
            self._last, self._changed_s = grey, now_s
            return verdict
        still_s = now_s - self._changed_s
        if not fresh or verdict.state == State.BLIND or not 0 < self.timing.frozen_s <= still_s:
            return verdict
        return replace(verdict, state=State.BLIND, reason=(
            f'the picture has not changed for {still_s:.1f} s, but its stamps go on: restart the '
            'camera driver (a simulator without noise at a standstill: frozen_after_s 0)'))

    def _standing(self, now_s: float) -> tuple[State, str]:
        """Return the state over time and its reason."""
        if not self._bad:
            return State.OK, ''
        recent = self._since(now_s - self.timing.alarm_s, 3)
        calm = self._since(now_s - self.timing.clear_s, 2)
        for level in (State.BLIND, State.DOUBTFUL):
            bad = [reason for state, reason in recent if state >= level]
            if len(bad) >= 2 and 2 * len(bad) >= len(recent):
                return level, bad[-1]
            held = [reason for state, reason in calm if state >= level]
            if self._state >= level and held:
                return level, held[-1]
        return State.OK, ''

    def _since(self, start_s: float, least: int) -> list[tuple[State, str]]:
        """Return what was thought of frames since a time, at least of the last so many."""
        count = sum(moment >= start_s for moment, _, _ in self._past)
        return [(state, reason) for _, state, reason in list(self._past)[-max(count, least):]]
