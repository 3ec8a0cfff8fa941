"""Draws textured parallelograms in true perspective, cut into strips of fitting detail."""

from dataclasses import dataclass
from functools import lru_cache
import math

import cv2
import numpy as np

from .texture import Texture
from .view import fixed, NEAR_M, View

# A plane is cut where its depth has grown by this much, so that each part gets its mip level.
_DEPTH_STEP = 1.7
_SMALL_PX = 140.0
_HAZE_STEPS = 100


@dataclass(frozen=True, eq=False)
class Surface:
    """
    A parallelogram in optical axes with what covers it.

    :ivar origin: (3,) the texture's top left corner; right, down: the whole edges.
    :ivar look: BGR factors on the texture and BGR of the horizon that haze fades it to.
    :ivar haze_per_m: see :class:`street.light.Light`.
    :ivar hull: label the holes of a cut-out as well (a fence of bars is one fence), as far as
        the texture says they count.
    """

    texture: Texture
    origin: np.ndarray
    right: np.ndarray
    down: np.ndarray
    look: tuple[tuple[float, ...], tuple[float, ...]]
    haze_per_m: float
    label: int
    hull: bool


def draw_surface(pixels: np.ndarray, view: View, surface: Surface) -> None:
    """Draw a surface on the canvas's pixels (height, width, 4)."""
    near = float(surface.origin[2] + min(0.0, surface.down[2]))
    slope = float(surface.right[2])
    start, end = _in_front(near, slope)
    if end - start < 1e-6:
        return
    length = float(np.abs(surface.right).max()) * view.focal[0]
    whole = length < _SMALL_PX * min(near + start * slope, near + end * slope)
    while end - start > 1e-6:
        depth = near + start * slope
        stop = end
        if not whole and slope > 0:
            stop = min(end, start + (_DEPTH_STEP - 1) * depth / slope)
        elif not whole and slope < 0:
            stop = min(end, start + (1 - 1 / _DEPTH_STEP) * depth / -slope)
            stop = end if end - stop < 1e-3 else stop
        _strip(pixels, view, surface, start, stop)
        start = stop


def _strip(pixels: np.ndarray, view: View, surface: Surface, start: float, stop: float) -> None:
    """Draw the part of a surface between two shares of its width."""
    left = surface.origin + start * surface.right
    right = surface.origin + stop * surface.right
    corners = np.array([left, right, right + surface.down, left + surface.down])
    if corners[:, 2].min() < NEAR_M * 0.99:
        return
    points = view.project(corners)
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    x0, y0 = max(math.floor(x0), 0), max(math.floor(y0), 0)
    x1 = min(math.ceil(x1) + 1, view.size[1])
    y1 = min(math.ceil(y1) + 1, view.size[0])
    if x1 <= x0 or y1 <= y0:
        return
    halved = _halved(surface.texture, points.tolist(), stop - start)
    texels = surface.texture.level(*halved)
    to_texels = _to_texels(view, surface, texels.shape, x0, y0)
    if to_texels is None:
        return

    def seen(levels: np.ndarray) -> np.ndarray:
        return cv2.warpPerspective(levels, to_texels, (x1 - x0, y1 - y0),
                                   flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                                   borderMode=cv2.BORDER_REPLICATE)
    patch = seen(texels)
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillConvexPoly(mask, fixed(points - (x0, y0)), 255, cv2.LINE_8, 4)
    target = pixels[y0:y1, x0:x1]
    if surface.hull:
        hull = mask
        if surface.texture.hull is not None:
            hull = cv2.bitwise_and(mask, seen(surface.texture.hull.level(*halved)[..., 3].copy()))
        target[..., 3][hull > 127] = surface.label
    if surface.texture.cutout:
        alpha = cv2.extractChannel(patch, 3)
        cv2.bitwise_and(mask, cv2.compare(alpha, 127, cv2.CMP_GT), dst=mask)
    middle = float(left[2] + right[2]) / 2
    haze = round(_HAZE_STEPS * (1 - math.exp(-surface.haze_per_m * max(middle, 0.0))))
    cv2.copyTo(cv2.LUT(patch, _table(*surface.look, haze, surface.label)), mask, target)


def _halved(texture: Texture, points: list[list[float]], share: float) -> tuple[int, int]:
    """Return the mip level (y, x) whose texels are about as large as the pixels of a strip."""
    a, b, c, d = points
    wide = max(math.dist(a, b), math.dist(c, d))
    high = max(math.dist(b, c), math.dist(a, d))
    return _halvings(texture.size[0], high), _halvings(texture.size[1] * share, wide)


def _to_texels(view: View, surface: Surface, shape: tuple[int, ...], x0: int,
               y0: int) -> np.ndarray | None:
    """Return the (3, 3) mapping of a patch's pixels to texels; None when seen edge-on."""
    u, v = surface.right / shape[1], surface.down / shape[0]
    to_canvas = view.matrix @ np.stack([u, v, surface.origin + 0.5 * (u + v)], axis=1)
    if abs(np.linalg.det(to_canvas)) < 1e-9:
        return None
    inverse = np.linalg.inv(to_canvas)
    inverse[:, 2] += inverse[:, 0] * x0 + inverse[:, 1] * y0
    return np.asarray(inverse)


def _in_front(near: float, slope: float) -> tuple[float, float]:
    """Return the shares of a plane's width whose depth near + share * slope is in front."""
    if near >= NEAR_M and near + slope >= NEAR_M:
        return 0.0, 1.0
    if abs(slope) < 1e-9:
        return 0.0, 0.0
    cut = min(max((NEAR_M - near) / slope, 0.0), 1.0)
    return (cut, 1.0) if slope > 0 else (0.0, cut)


def _halvings(texels: float, pixels: float) -> int:
    """Return how often an axis is halved so that a texel is about as large as a pixel."""
    return max(0, math.floor(math.log2(max(texels / max(pixels, 0.5), 1.0)) + 0.35))


@lru_cache(maxsize=8192)
def _table(gain: tuple[float, ...], horizon: tuple[float, ...], haze: int,
           label: int) -> np.ndarray:
    """Return (1, 256, 4): light and haze for the colours, the class id for alpha."""
    share = haze / _HAZE_STEPS
    table = np.empty((1, 256, 4), np.uint8)
    lit = np.arange(256.0)[:, None] * gain * (1 - share) + np.array(horizon) * share
    table[0, :, :3] = np.clip(lit + 0.5, 0, 255)
    table[0, :, 3] = label
    return table
