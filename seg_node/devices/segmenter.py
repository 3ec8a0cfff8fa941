"""The seam between devices: camera frames in, labels and confidence on the output grid out."""

from collections.abc import Sequence
from typing import Protocol

from ..errors import FrameError
from ..frame import Demand, Frame, Segmentation, StageClock
from ..geometry import Size

Result = Segmentation | FrameError


class Segmenter(Protocol):
    """Turns frames into segmentations; used by one thread at a time."""

    #: what really runs and where
    description: str
    device: str
    #: frames worth giving it at once, if that many are ready
    preferred_batch: int
    #: a camera size that it surely takes, to try it with
    sample: Size

    def segment(self, frames: Sequence[Frame], demand: Demand, clock: StageClock) -> list[Result]:
        """
        Return one result for each frame, in their order.

        :param clock: gets the time of each stage.
        :raises BackendError: when the device fails; then there is no result at all.
        """

    def take_over(self) -> None:
        """Make the calling thread the one that uses it; the one before must have ended."""

    def close(self) -> None:
        """Free the device."""
