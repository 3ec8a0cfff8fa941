"""
The one owner of the mapping between the camera's, the network's and the mask's pixels.

Convention: integer coordinates are pixel centres, so a resize by a factor ``s`` maps ``x`` to
``(x + 0.5) * s - 0.5`` (OpenCV's and PyTorch's ``align_corners=False`` rule).
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from .errors import ConfigError, FrameError
from .model.card import InputSpec
from .rectification import Rectification

#: What one frame may cost: its network input at most so many times the pixels that the network
#: gets of a 16:9 camera, and its longer side at most so many times the shorter one.
MAX_INPUT_RATIO, MAX_ASPECT = 4, 8


class Size(NamedTuple):
    """An image size in pixels."""

    height: int
    width: int

    @property
    def pixels(self) -> int:
        """How many pixels it has."""
        return self.height * self.width

    def __str__(self) -> str:
        return f'{self.width}x{self.height}'


@dataclass(frozen=True)
class Axis:
    """
    Where each output row (or column) samples the logits.

    :ivar low: int32, index of the lower of the two neighbours in the logits.
    :ivar fraction: float64 in [0, 1), weight of the upper neighbour.
    :ivar starts: int32, ``starts[i]:starts[i + 1]`` are the output indices whose ``low`` is i.
    """

    low: np.ndarray
    fraction: np.ndarray
    starts: np.ndarray

    @cached_property
    def nearest(self) -> np.ndarray:
        """Index of the nearest logits row (or column) for each output one; halves go up."""
        return self.low + (self.fraction >= 0.5)

    @cached_property
    def is_same(self) -> bool:
        """Whether each output row (or column) is the logits' of the same number, and all are."""
        points = np.arange(len(self.starts) - 1)
        return not self.fraction.any() and np.array_equal(self.low, points)


@dataclass(frozen=True)
class Geometry:
    """
    How one camera's image lies on the network's input and on the mask.

    :ivar camera: size of the camera image.
    :ivar network: size of the network's input.
    :ivar content: part of the network's input that the image fills; the rest is border.
    :ivar top: rows of border above the content.
    :ivar left: columns of border left of the content.
    :ivar output: size of the mask; its pixels are picked from the camera's by nearest.
    :ivar rectification: None where network and mask see the raw image; else the camera's image
        above is its rectified one, of the same size, sampled from the raw one by this.
    """

    camera: Size
    network: Size
    content: Size
    top: int
    left: int
    output: Size
    rectification: Rectification | None = None

    def rows(self, logits_height: int, align_corners: bool = False) -> Axis:
        """Return where the output rows sample logits of ``logits_height`` rows."""
        return _axis(self.output.height, self.camera.height, self.content.height, self.top,
                     self.network.height, logits_height, align_corners)

    def columns(self, logits_width: int, align_corners: bool = False) -> Axis:
        """Return where the output columns sample logits of ``logits_width`` columns."""
        return _axis(self.output.width, self.camera.width, self.content.width, self.left,
                     self.network.width, logits_width, align_corners)

    def output_pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the camera row of each output row and the camera column of each column."""
        return (_nearest(self.output.height, self.camera.height),
                _nearest(self.output.width, self.camera.width))


@lru_cache(maxsize=64)
def fit(spec: InputSpec, camera: Size, output: Size | None = None) -> Geometry:
    """
    Return the geometry for a camera image under the card's size and resize rule.

    A fixed-size network gets its size. A dynamic one gets the camera's shape with the shorter
    side at ``short_side`` (less where the longer one would pass ``longest_side``), each side a
    multiple of ``multiple``: rounded to it by ``rounding`` under ``stretch``, rounded up and
    filled with border under ``letterbox``.
    """
    if spec.size is not None:
        network = Size(*spec.size)
        factor = min(network.height / camera.height, network.width / camera.width)
        scaled = _scaled(camera, factor)
    else:
        scaled = _scaled_to_short_side(spec, camera)
        round_to = _ceil_to if spec.resize == 'letterbox' else _ROUNDINGS[spec.rounding]
        network = Size(*(round_to(side, spec.multiple) for side in scaled))
    content = scaled if spec.resize == 'letterbox' else network
    top, left = ((0, 0) if spec.pad == 'right_bottom' else
                 ((network.height - content.height) // 2, (network.width - content.width) // 2))
    return Geometry(camera, network, content, top, left, output or camera)


@lru_cache(maxsize=64)
def fit_frame(spec: InputSpec, camera: Size, output: Size | None = None,
              rectification: Rectification | None = None) -> Geometry:
    """
    Return ``fit`` for an image that a camera sent, after the one bound on its cost.

    A dynamic network follows the shape of the image: of one of 16384x1 pixels it would be asked
    for an input of millions of columns. A fixed one would be shown what nobody can recognise.

    :raises FrameError: reason ``'size'``: too long for its height or width, or the network's
        input would be too large; ``'calibration'``: the rectification is for another size.
    """
    long, short = max(camera), min(camera)
    if long > MAX_ASPECT * short:
        raise FrameError('size', f'the image is {camera}, {round(long / short, 1):g} times as '
                         f'long as it is short; allowed is {MAX_ASPECT} times. Publish the '
                         'picture of the whole camera, or crop it less')
    geometry = fit(spec, camera, output)
    nominal = fit(spec, Size(1080, 1920)).network
    if geometry.network.pixels > MAX_INPUT_RATIO * nominal.pixels:
        raise FrameError('size', f'the image of {camera} asks for a network input of '
                         f'{geometry.network}; allowed are {MAX_INPUT_RATIO} times the pixels of '
                         f'{nominal}, the input of a 16:9 image. Crop the picture to a less long '
                         'one, or use a model whose card has a fixed size')
    if rectification is not None:
        rectification.check(camera)
        geometry = replace(geometry, rectification=rectification)
    return geometry


def camera_for(spec: InputSpec, network: Size) -> Size:
    """
    Return a camera size whose images reach the network at this size.

    :raises ConfigError: by the card no camera does.
    """
    if spec.size is not None:
        camera = Size(*spec.size)
    else:
        assert spec.short_side is not None
        short = spec.short_side
        camera = (Size(short, max(short, network.width)) if network.width >= network.height
                  else Size(max(short, network.height), short))
    reached = fit(spec, camera).network
    if reached != network:
        rule = (f'is fixed at {spec.size[0]}x{spec.size[1]}' if spec.size else
                f'has short_side {spec.short_side} and multiple {spec.multiple}')
        raise ConfigError(f'no camera reaches the network at {network.height}x{network.width} '
                          f'(height x width): the card {rule}')
    return camera


def _scaled(size: Size, factor: float) -> Size:
    return Size(max(1, round(size.height * factor)), max(1, round(size.width * factor)))


def _scaled_to_short_side(spec: InputSpec, camera: Size) -> Size:
    """Return the camera's shape at the card's short side, in whole pixels by its rounding."""
    assert spec.short_side is not None
    short_side, (short, long) = spec.short_side, sorted(camera)
    if spec.longest_side is not None and long * short_side > spec.longest_side * short:
        short_side = max(1, round(spec.longest_side * short / long))
    if spec.rounding == 'nearest':
        return _scaled(camera, short_side / short)
    # In whole numbers: a quotient that is one must stay one.
    long_side = (long * short_side // short if spec.rounding == 'down'
                 else -(-long * short_side // short))
    return (Size(short_side, long_side) if camera.height <= camera.width
            else Size(long_side, short_side))


def _floor_to(side: int, multiple: int) -> int:
    return max(1, side // multiple) * multiple


def _ceil_to(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def _round_to(side: int, multiple: int) -> int:
    return max(1, round(side / multiple)) * multiple


_ROUNDINGS = {'nearest': _round_to, 'up': _ceil_to, 'down': _floor_to}


def _nearest(output: int, camera: int) -> np.ndarray:
    """Return, for each of ``output`` pixels, the camera pixel that holds its centre."""
    return ((2 * np.arange(output) + 1) * camera) // (2 * output)


@lru_cache(maxsize=256)
def _axis(output: int, camera: int, content: int, border: int, network: int, logits: int,
          align_corners: bool) -> Axis:
    in_network = border + (_nearest(output, camera) + 0.5) * (content / camera) - 0.5
    if align_corners:
        position = in_network * ((logits - 1) / max(network - 1, 1))
    else:
        position = (in_network + 0.5) * (logits / network) - 0.5
    position = np.clip(position, 0, logits - 1)
    low = np.floor(position).astype(np.int32)
    starts = np.searchsorted(low, np.arange(logits + 1)).astype(np.int32)
    return Axis(low, position - low, starts)
