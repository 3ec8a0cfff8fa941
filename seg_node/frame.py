"""What travels through the pipeline: the camera's frame, its segmentation, its products."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
import time

import numpy as np

from .geometry import Geometry, Size
from .image.decode import decode, grey_plane, USUAL_PIXELS
from .image.wire import CompressedImageMessage, Header, ImageMessage
from .model.taxonomy import UNLABELLED
from .rectification import Rectification
from .trust.verdict import Standing

#: In place of a role: the classes of a drivable head that has several.
DRIVABLE_CLASS = 'drivable_class'
#: The stage in which a backend gets ready for a size it has not seen: it may take long.
PREPARE = 'prepare'


@dataclass
class Frame:
    """
    One camera image on its way through the node.

    :ivar camera: the camera's name.
    :ivar message: the parsed message; its pixels are a view into the received bytes.
    :ivar received_ns: when the node got it, on the monotonic clock.
    :ivar max_pixels: a larger picture is not decoded.
    :ivar rectification: how its outputs get onto the rectified grid; None = they stay on the raw.
    """

    camera: str
    message: ImageMessage | CompressedImageMessage
    received_ns: int = 0
    max_pixels: int = USUAL_PIXELS
    rectification: Rectification | None = None

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
        return decode(self.message, self.max_pixels)

    @property
    def grey(self) -> np.ndarray:
        """
        The image in some grey, (height, width) uint8: green or luma, of a mosaic its pixels.

        A view; decoded only where nothing else will do.

        :raises FrameError: when the message cannot be decoded.
        """
        plane = (grey_plane(self.message, self.max_pixels)
                 if isinstance(self.message, ImageMessage) else None)
        return self.bgr[..., 1] if plane is None else plane


@dataclass(frozen=True)
class Glimpse:
    """
    Where the confidence is looked at by who does not need all of it.

    :ivar places: by the sizes of camera and mask the rows and the columns of the pixels.
    :ivar classes: (256,) uint8 by the model's class ids, 0 = not looked at; None = all are.
    """

    places: Callable[[Size, Size], tuple[np.ndarray, np.ndarray]]
    classes: np.ndarray | None = None


@dataclass(frozen=True)
class Demand:
    """
    What is asked of a segmenter beside the labels.

    :ivar output: size of the masks; None = each camera's own.
    :ivar heads: roles of the model's further outputs that are wanted.
    :ivar glimpse: where the confidence is looked at although not all of it is wanted.
    :ivar entropy: how much the classes compete, at each pixel.
    """

    output: Size | None = None
    confidence: bool = True
    drivable: bool = True
    heads: frozenset[str] = frozenset()
    glimpse: Glimpse | None = None
    entropy: bool = False


@dataclass(frozen=True)
class Segmentation:
    """
    What the network says about one frame, on the output grid.

    :ivar labels: (H, W) uint8, class ids of the model's own class table.
    :ivar confidence: (H, W) uint8, 255 = certain, or None: not wanted, or the model has none.
    :ivar drivable: (H, W) uint8, 255 = drivable by the policy, 0 = not, or None: not wanted.
    :ivar heads: by its role the mask of each further output that was wanted, (H, W) uint8 class
        ids of its own table; ``DRIVABLE_CLASS`` = those of a drivable head with several classes.
    :ivar glimpse: (R, K) uint8, the confidence at ``Demand.glimpse`` where not all of it is made,
        or None.
    :ivar entropy: (H, W) uint8, 255 = all classes are alike, 0 = certain, or None as confidence.
    """

    geometry: Geometry
    labels: np.ndarray
    confidence: np.ndarray | None = None
    drivable: np.ndarray | None = None
    heads: Mapping[str, np.ndarray] = field(default_factory=dict)
    glimpse: np.ndarray | None = None
    entropy: np.ndarray | None = None

    @property
    def unknown_255(self) -> tuple[np.ndarray, ...]:
        """The images that say of a pixel that nothing is known of it by 255."""
        torn = () if self.entropy is None else (self.entropy,)
        return (self.labels, *self.heads.values(), *torn)

    @property
    def unknown_0(self) -> tuple[np.ndarray, ...]:
        """Those that say so by 0."""
        return tuple(image for image in (self.confidence, self.drivable) if image is not None)

    def forget(self, where: np.ndarray) -> None:
        """Make pixels unknown, (H, W) bool: label 255, confidence 0, not drivable."""
        for image in self.unknown_255:
            image[where] = UNLABELLED
        for image in self.unknown_0:
            image[where] = 0


@dataclass(frozen=True)
class Products:
    """
    What is published for one frame.

    :ivar images: by the names of ``products.OUTPUTS``; those that were wanted and that this model
        has.
    :ivar standing: how far it is to be believed; None: nobody judged it.
    :ivar missing: the names of those that were wanted and that this model does not have.
    """

    frame: Frame
    segmentation: Segmentation
    images: dict[str, np.ndarray]
    standing: Standing | None = None
    missing: frozenset[str] = frozenset()

    @property
    def geometry(self) -> Geometry:
        """How the camera's grid lies on the masks'."""
        return self.segmentation.geometry


@dataclass
class StageClock:
    """
    Adds up the wall time of the stages of one pass through the pipeline.

    :ivar current: the stage that is running, '' between two; other threads may look at it.
    """

    ms: dict[str, float] = field(default_factory=dict)
    current: str = ''

    def stage(self, name: str) -> '_Stage':
        """Return what counts the time of a ``with`` block to this stage, in milliseconds."""
        return _Stage(self, name)


class _Stage:
    """A block of a stage; no generator, as there are a dozen for each frame."""

    __slots__ = ('_clock', '_name', '_start')

    def __init__(self, clock: StageClock, name: str) -> None:
        self._clock, self._name, self._start = clock, name, 0

    def __enter__(self) -> None:
        self._clock.current = self._name
        self._start = time.perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        clock, name = self._clock, self._name
        clock.current = ''
        clock.ms[name] = clock.ms.get(name, 0.0) + (time.perf_counter_ns() - self._start) / 1e6
