"""What is thought of a frame, and of a camera."""

from dataclasses import dataclass
from enum import IntEnum

from .evidence import Evidence


class State(IntEnum):
    """How far a camera's mask is to be believed; the greater, the less."""

    OK = 0
    DOUBTFUL = 1
    BLIND = 2

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Verdict:
    """
    What is to be thought of one frame.

    :ivar reason: why it is not ok, '' if it is.
    :ivar figures: what it was judged by.
    :ivar evidence: what was measured.
    """

    state: State
    reason: str
    figures: dict[str, float]
    evidence: Evidence


@dataclass(frozen=True)
class Standing:
    """
    A camera's state after a frame.

    :ivar state: over time.
    :ivar reason: why it is not ok, '' if it is.
    :ivar verdict: on this frame alone; ``blind``, too, if it is frozen.
    :ivar withheld: whether its mask was withheld.
    """

    state: State
    reason: str
    verdict: Verdict
    withheld: bool = False
