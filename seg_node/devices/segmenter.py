"""The seams between devices: what runs a network, and what makes labels of frames by it."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

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

    @property
    def description(self) -> str:
        """What really runs and where."""

    @property
    def device(self) -> str:
        """Where it really runs, e.g. ``cpu``."""

    @property
    def preferred_batch(self) -> int:
        """Frames worth giving it at once, if that many are ready."""

    @property
    def sample(self) -> Size:
        """A camera size that it surely takes, to try it with."""

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


class Running(Protocol):
    """Frames that a device is at."""

    #: ``time.perf_counter`` when the results are likely there: until then something else may be
    #: done; 0 = they are there, or nobody knows
    due: float

    def results(self) -> list[Result]:
        """
        Wait, and return what ``Segmenter.segment`` would have.

        :raises DeviceLostError: see there.
        """


@runtime_checkable
class Overlapping(Segmenter, Protocol):
    """A segmenter that takes the next frames while it is at the last ones."""

    @property
    def warm_runs(self) -> int:
        """How often a kind of batch must run until nothing of it is made any more."""

    def start(self, frames: Sequence[Frame], demand: Demand, clock: StageClock) -> Running:
        """
        Begin to segment.

        Two calls may be in flight. Their results are fetched in the order of the calls, and are
        valid until the next but one call.

        :raises DeviceLostError: see ``segment``.
        """


class Done:
    """Frames that a device is done with; see ``Running``."""

    due = 0.0

    def __init__(self, results: list[Result]) -> None:
        self._results = results

    def results(self) -> list[Result]:
        """Return them."""
        return self._results


def starter(segmenter: Segmenter) -> Callable[[Sequence[Frame], Demand, StageClock], Running]:
    """Return what begins to segment, or does all of it where only one thing is done at a time."""
    if isinstance(segmenter, Overlapping):
        return segmenter.start
    return lambda frames, demand, clock: Done(segmenter.segment(frames, demand, clock))
