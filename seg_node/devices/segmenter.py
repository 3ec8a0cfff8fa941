"""The seams between devices: what runs a network, and what makes labels of frames by it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..errors import FrameError
from ..frame import Demand, Frame, Segmentation, StageClock
from ..geometry import Size
from ..model.policy import DrivablePolicy

Result = Segmentation | FrameError


class Backend(Protocol):
    """A loaded network; runs it, nothing else. It is used by one thread only."""

    #: what really runs, e.g. ``'onnxruntime 1.31 CPUExecutionProvider'``
    description: str
    #: where it really runs, e.g. ``'cpu'``
    device: str
    #: frames that one run can take; None = any number
    max_batch: int | None

    def prepare(self, shape: tuple[int, ...]) -> None:
        """
        Do what the first run at a shape of the input would take unusual time for.

        :raises BackendError: it cannot run at this shape.
        """

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """
        Run the network; ``prepare`` comes first.

        :param tensor: the card's input layout and dtype, batch first.
        :returns: the outputs in the card's order, batch first; valid until the next run.
        :raises BackendError: when the run fails.
        """

    def close(self) -> None:
        """Free what the network holds."""


class Segmenter(Protocol):
    """Turns frames into segmentations; made, used and closed by one thread."""

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

        A run that fails refuses its frames, reason ``errors.BACKEND``.

        :param clock: gets the time of each stage.
        :raises DeviceLostError: the device has failed for good; then there is no result at all.
        """

    def retune(self, policy: DrivablePolicy) -> None:
        """Take another policy on the same output of the network, from the next frame on."""

    def close(self) -> None:
        """Free the device."""
