"""What travels through the pipeline: the camera's frame in, the segmentation out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
import time

import numpy as np

from .decode import decode
from .geometry import Geometry
from .wire import CompressedImageMessage, Header, ImageMessage


@dataclass
class Frame:
    """
    One camera image on its way through the node.

    :ivar camera: the camera's name.
    :ivar message: the parsed message; its pixels are a view into the received bytes.
    :ivar received_ns: when the node got it, on the monotonic clock.
    """

    camera: str
    message: ImageMessage | CompressedImageMessage
    received_ns: int = 0

    @property
    def header(self) -> Header:
        """Stamp and frame_id of the camera, to be passed on untouched."""
        return self.message.header

    @cached_property
    def bgr(self) -> np.ndarray:
        """
        The image as (height, width, 3) uint8 BGR, decoded at the first use.

        :raises FrameError: when the message cannot be decoded.
        """
        return decode(self.message)


@dataclass(frozen=True)
class Wanted:
    """Which of the costly outputs somebody waits for."""

    confidence: bool = True
    drivable: bool = True
    dynamic_mask: bool = False
    overlay: bool = False
    color_mask: bool = False


@dataclass(frozen=True)
class Segmentation:
    """
    What the network says about one frame, on the output grid.

    :ivar labels: (H, W) uint8, class ids of the model's own class table.
    :ivar confidence: (H, W) uint8, 255 = certain, or None: not wanted, or the model has none.
    :ivar drivable: (H, W) uint8 0/255 of a drivable-area head, or None: the model has none.
    """

    geometry: Geometry
    labels: np.ndarray
    confidence: np.ndarray | None = None
    drivable: np.ndarray | None = None


@dataclass
class StageClock:
    """Adds up the wall time of the stages of one pass through the pipeline."""

    ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block to this stage, in milliseconds."""
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            spent_ms = (time.perf_counter_ns() - start) / 1e6
            self.ms[name] = self.ms.get(name, 0.0) + spent_ms
