"""
The part of a camera's image that shows the vehicle itself: bonnet, mirror, gripper.

A person says once per camera where that is, as a picture or as polygons. There the mask is 255,
the confidence 0, and nothing is drivable or dynamic, whatever the network believes.
"""

from collections.abc import Sequence
from functools import lru_cache
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .errors import ConfigError, FrameError
from .files import read_file, user_path
from .frame import Segmentation
from .geometry import Geometry, Size
from .image.compressed import inspect
from .image.decode import check_size
from .model.schema import parse_yaml, shorten
from .model.taxonomy import UNLABELLED

EGO = 255
_MOST_BYTES = 2 ** 24  # of the PNG
_DRAW = ('Draw it with python -m seg_node.tools.ego_mask RECORDING --out mask.png, or with any '
         'paint program')
_POLYGONS = 'a list of polygons, each a list of at least 3 points [x, y] in pixels'
_SHIFT = 4  # fractional bits of the points given to OpenCV
_FINER = 4  # parts of a pixel's side in which polygons are drawn

Polygons = tuple[np.ndarray, ...]


class EgoMask:
    """
    Which pixels of one camera show the vehicle itself; see ``load_ego_mask``.

    :ivar source: where it comes from, for messages.
    :ivar size: of the images that it is for; None = any (polygons tell no size).
    """

    def __init__(self, source: str, shape: np.ndarray | Polygons) -> None:
        self.source = source
        self._shape = shape
        self.size = Size(*shape.shape) if isinstance(shape, np.ndarray) else None
        # One camera has one size, but may change it; the oldest is forgotten.
        self._fitted = lru_cache(maxsize=4)(self._fit)

    def pixels(self, camera: Size) -> np.ndarray:
        """
        Return the mask for images of a size, (height, width) uint8: 255 = the vehicle, 0 = not.

        :raises ConfigError: it is not for this size, leaves the image, is empty or covers all.
        """
        if isinstance(self._shape, np.ndarray):
            if self.size != camera:
                raise ConfigError(f'{self.source} is for {self.size} images, but they are '
                                  f'{camera}: draw it at the size in use')
            return self._shape
        mask = np.zeros(camera, np.uint8)
        for index, points in enumerate(self._shape):
            low, high = points.min(axis=0), points.max(axis=0)
            if min(low) < -0.5 or high[0] > camera.width or high[1] > camera.height:
                raise ConfigError(
                    f'{self.source}: polygon {index} spans x {low[0]:g} .. {high[0]:g} and '
                    f'y {low[1]:g} .. {high[1]:g}, which leaves the {camera} image: allowed are '
                    f'0 .. {camera.width} and 0 .. {camera.height}. Give it in pixels of the '
                    "camera's own image")
            # Drawn finer: OpenCV's outline of a shallow edge is more than a pixel wide.
            fine = np.zeros((_FINER * camera.height, _FINER * camera.width), np.uint8)
            fixed = np.round(((points + 0.5) * _FINER - 0.5) * 2 ** _SHIFT).astype(np.int32)
            cv2.fillPoly(fine, [fixed], (EGO,), cv2.LINE_8, _SHIFT)
            mask |= fine.reshape(camera.height, _FINER, camera.width, _FINER).max(axis=(1, 3))
        _check_share(self.source, mask)
        return mask

    def apply(self, segmentation: Segmentation) -> None:
        """
        Write 255, confidence 0 and not drivable into a segmentation, where the vehicle is.

        :raises FrameError: ``ego-mask`` when the mask does not fit the image.
        """
        geometry = segmentation.geometry
        rows, vehicle, rest = self._fitted(geometry)
        for image in segmentation.unknown_255:
            np.bitwise_or(image[rows], vehicle, out=image[rows])
        for image in segmentation.unknown_0:
            np.bitwise_and(image[rows], rest, out=image[rows])

    def share(self, camera: Size) -> float:
        """Return the share of the image that it covers; errors as ``pixels``."""
        return np.count_nonzero(self.pixels(camera)) / (camera.height * camera.width)

    def _fit(self, geometry: Geometry) -> tuple[slice, np.ndarray, np.ndarray]:
        """Return the output rows that have any of it, the mask there, and its opposite."""
        try:
            mask = self.pixels(geometry.camera)
        except ConfigError as error:
            raise FrameError('ego-mask', f'the ego mask does not fit: {error}') from error
        if geometry.rectification is not None:
            mask = geometry.rectification.ids(mask, geometry.output)
        elif geometry.output != geometry.camera:
            rows, columns = geometry.output_pixels()
            mask = mask[rows[:, None], columns]
        held = np.flatnonzero(mask.any(axis=1))
        rows_held = slice(int(held[0]), int(held[-1]) + 1) if held.size else slice(0, 0)
        vehicle = np.ascontiguousarray(mask[rows_held])
        return rows_held, vehicle, ~vehicle


assert EGO == UNLABELLED  # so that one OR writes the label


def load_ego_mask(value: str | Sequence[Any], folder: Path | None = None,
                  where: str = 'ego_mask') -> EgoMask:
    """
    Return the mask that a user names.

    :param value: the path of a PNG of the camera's size, white (255) where the vehicle is and
        black (0) elsewhere; or polygons in pixels of the camera's image (x right, y down, pixel
        centres at integers): ``[[[x, y], [x, y], [x, y], ...], ...]``, as lists or as the text of
        one. Overlapping polygons add up; pixels on an outline belong to it.
    :param folder: that a relative path starts from; None = the working directory.
    :param where: what holds the value, for messages.
    :raises ConfigError: no such picture, or one that is no mask; wrong polygons; an empty mask or
        one of the whole image.
    """
    if isinstance(value, str) and not value.lstrip().startswith('['):
        path = user_path(value, where)
        return _from_png(path if folder is None else folder / path, where)
    if isinstance(value, str):
        try:
            value = parse_yaml(value, where)
        except ConfigError as error:
            raise ConfigError(f'{where} is {shorten(value)}, which cannot be read as a list: '
                              f'{error} Allowed: {_POLYGONS}, or the path of a PNG.') from error
    return EgoMask(where, _polygons(value, where))


def _from_png(path: Path, where: str) -> EgoMask:
    """Read a picture of black and white."""
    source = f'{where} {path}'
    data = np.frombuffer(read_file(path, _MOST_BYTES, f'{_DRAW}.', source), np.uint8)
    try:
        if data[1:4].tobytes() != b'PNG':
            raise ConfigError(f'{source} is no PNG; allowed are a PNG or {_POLYGONS}. {_DRAW}: '
                              'JPEG blurs its edges.')
        height, width = inspect(data)
        check_size(height, width)
    except FrameError as error:
        raise ConfigError(f'{source} cannot be read: {error}. {_DRAW}.') from error
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ConfigError(f'{source}: its pixels cannot be decoded. {_DRAW}.')
    mask = _black_and_white(image, source)
    _check_share(source, mask)
    return EgoMask(source, mask)


def _black_and_white(image: np.ndarray, source: str) -> np.ndarray:
    """Return the one channel of a grey picture, also of one that was saved as colour."""
    channels = cv2.split(image)
    mask, alpha = channels[0], channels[3] if len(channels) == 4 else None
    found = ''
    if mask.dtype != np.uint8:
        found = 'values of 16 bit'
    elif any(np.any(mask != other) for other in channels[1:3]):
        found = 'colours'
    elif alpha is not None and np.any(alpha != 255):
        found = 'transparent pixels'
    elif np.any(wrong := (mask != 0) & (mask != EGO)):
        found = f'the values {shorten(np.unique(mask[wrong]).tolist())}'
    if found:
        raise ConfigError(f'{source} has {found}. Allowed is black (0) and white (255), white '
                          f'where the vehicle is. {_DRAW}.')
    return mask


def _polygons(value: Any, where: str) -> Polygons:
    if not isinstance(value, (list, tuple)) or not value:
        raise ConfigError(f'{where} is {shorten(value)}; allowed: {_POLYGONS}, or the path of a '
                          'PNG. Leave it out for a camera that does not see the vehicle.')
    return tuple(_polygon(points, f'{where}: polygon {index}')
                 for index, points in enumerate(value))


def _polygon(points: Any, where: str) -> np.ndarray:
    """Return the (n, 2) float64 corners of one polygon."""
    good = isinstance(points, (list, tuple)) and len(points) >= 3 and all(
        isinstance(point, (list, tuple)) and len(point) == 2 and all(map(_is_finite, point))
        for point in points)
    if not good:
        raise ConfigError(f'{where} is {shorten(points)}; allowed: {_POLYGONS}, all of them '
                          'finite numbers. Is a pair of brackets missing?')
    corners = np.array(points, np.float64)
    if min(corners.min(axis=0)) < -0.5 or corners.max() > 2 ** 15:
        raise ConfigError(f'{where} has x {corners[:, 0].min():g} .. {corners[:, 0].max():g} and '
                          f'y {corners[:, 1].min():g} .. {corners[:, 1].max():g}, which no image '
                          "has. Give it in pixels of the camera's own image, from 0 on.")
    if cv2.contourArea(corners.astype(np.float32)) < 1:
        raise ConfigError(f'{where} has no area: {shorten(points)}. Give the corners in their '
                          'order along the outline.')
    return corners


def _is_finite(number: Any) -> bool:
    return (isinstance(number, (int, float)) and not isinstance(number, bool)
            and math.isfinite(number))


def _check_share(source: str, mask: np.ndarray) -> None:
    if not mask.any():
        raise ConfigError(f'{source} is empty: no pixel shows the vehicle. Leave it out for such '
                          f'a camera. {_DRAW}, white where the vehicle is.')
    if mask.all():
        raise ConfigError(f'{source} covers the whole image, so nothing would be left to see. '
                          f'{_DRAW}, black where the street is.')
