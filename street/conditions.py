"""
Night, snow, rain, tunnels, fog and low sun, painted over a labelled picture.

What a surface is, is known from its label, and how far it is from its row below the horizon: that
is enough for pictures that a network learns from, rendered and photographed ones alike.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from .camvid import BUILDING, CAR, PAVEMENT, POLE, ROAD, SKY, TREE

_GROUND = (ROAD, PAVEMENT)


@dataclass(frozen=True, eq=False)
class _View:
    """
    A picture while it is changed.

    :ivar image: (height, width, 3) float32 BGR, 0..255.
    :ivar labels: (height, width) uint8.
    :ivar horizon: row of the horizon, by the farthest road; may be outside.
    :ivar near: (height, 1) float32: 0 at the horizon and above, 1 at the bottom; a pixel of flat
        ground is seen at a distance of about 1 / near.
    """

    image: np.ndarray
    labels: np.ndarray
    horizon: int
    near: np.ndarray

    def mask(self, *ids: int) -> np.ndarray:
        """Return (height, width, 1) float32: 1 where the label is one of these, soft edges."""
        found = np.isin(self.labels, ids).astype(np.float32)
        return cv2.GaussianBlur(found, (0, 0), 0.7)[..., None]


Condition = Callable[[_View, np.random.Generator], np.ndarray]


def changed(image: np.ndarray, labels: np.ndarray, name: str,
            rng: np.random.Generator) -> np.ndarray:
    """
    Return the picture under other conditions; what the labels say stays true.

    :param image: (height, width, 3) uint8 BGR.
    :param labels: (height, width) uint8 ids of `camvid11`, 255 = void.
    :param name: one of CONDITIONS.
    """
    view = _view(image, labels)
    return np.clip(CONDITIONS[name](view, rng) + 0.5, 0, 255).astype(np.uint8)


def _view(image: np.ndarray, labels: np.ndarray) -> _View:
    height = labels.shape[0]
    rows = np.flatnonzero((labels == ROAD).mean(axis=1) > 0.02)
    horizon = int(rows[0]) if len(rows) else int(0.45 * height)
    near = np.clip((np.arange(height) - horizon) / max(height - horizon, 1), 0, 1)
    return _View(image.astype(np.float32), labels, horizon, near.astype(np.float32)[:, None])


def _noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[float, ...],
           ) -> np.ndarray:
    """Return (height, width) float32 noise of mean 0 and spread about 1, of several grains."""
    total = np.zeros(shape, np.float32)
    for cell in cells:
        size = (max(2, int(shape[1] / cell) + 2), max(2, int(shape[0] / cell) + 2))
        coarse = rng.standard_normal(size[::-1], dtype=np.float32)
        total += cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return total / np.float32(np.sqrt(len(cells)))


def _ground_noise(view: _View, rng: np.random.Generator) -> np.ndarray:
    """Return (height, width) float32 noise that lies on the ground: finer farther away."""
    height, width = view.labels.shape
    field = _noise(rng, (256, 256), (3, 12, 48))
    distance = 1 / np.maximum(view.near, 0.03)
    columns = np.linspace(-1, 1, width)[None, :] * distance * 45 + 128
    rows = np.broadcast_to(distance * 30, (height, width))
    return cv2.remap(field, columns.astype(np.float32), rows.astype(np.float32),
                     cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _standing(view: _View) -> np.ndarray:
    """Return (height, width) float32: `near`, but of things that of the ground at their foot."""
    ground = np.isin(view.labels, _GROUND)
    near = np.where(ground, view.near, 0)[::-1]
    # The last ground met on the way up; below all ground, the bottom's.
    row = np.maximum.accumulate(np.where(near > 0, np.arange(len(near))[:, None], -1), axis=0)
    found = np.take_along_axis(near, np.maximum(row, 0), axis=0)
    whole = np.where(row < 0, 1.0, found)[::-1].astype(np.float32)
    # Things are not cut off where the ground beside them ends.
    wide = near.shape[1] // 20 | 1
    return np.where(ground, view.near, cv2.blur(whole, (wide, 1)))


def _lamps(view: _View, rng: np.random.Generator, count: int,
           colours: tuple[tuple[int, int, int], ...], ids: tuple[int, ...],
           rows: tuple[int, int]) -> np.ndarray:
    """Return (height, width, 3) float32: glows on things of some classes within some rows."""
    height, width = view.labels.shape
    glow = np.zeros((height, width, 3), np.float32)
    low, high = max(0, rows[0]), min(height, rows[1])
    places = np.argwhere(np.isin(view.labels[low:high], ids))
    for _ in range(count if len(places) else 0):
        row, column = places[int(rng.integers(len(places)))]
        radius = height * float(np.exp(rng.uniform(np.log(0.003), np.log(0.02))))
        colour = np.array(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.5, 1.2)
        cv2.circle(glow, (int(column), int(row + low)), max(1, round(radius)), colour.tolist(), -1)
    halo = cv2.GaussianBlur(glow, (0, 0), 0.03 * height) * 3
    return cv2.GaussianBlur(glow, (0, 0), 0.8) + halo


def night(view: _View, rng: np.random.Generator) -> np.ndarray:
    """Return the scene lit by headlights, street lamps and a lit sky."""
    height, width = view.labels.shape
    day = view.image / 255
    ambient = np.float32(np.exp(rng.uniform(np.log(0.015), np.log(0.12))))
    warm = np.array([0.55, 0.85, 1.1]) if rng.random() < 0.6 else np.array([1.05, 1.0, 0.95])
    x = np.linspace(-1, 1, width)[None, :] - rng.normal(0, 0.1)
    # A cone that is brightest some way ahead and ends below the horizon.
    reach = view.near * np.exp(-view.near * rng.uniform(0.3, 1.6)) * np.e
    beam = reach * np.exp(-(x / (0.35 + 0.9 * view.near)) ** 2)
    spill = 0.12 * np.exp(-((np.arange(height)[:, None] - view.horizon) / (0.1 * height)) ** 2)
    light = rng.uniform(0.2, 0.9) * (beam + spill * np.exp(-(x / 0.8) ** 2))
    lit = day * (light[..., None] * np.array([0.85, 0.97, 1.0]) + ambient * warm)
    dark_sky = view.mask(SKY) * (1 - 0.7 * rng.random())
    lit = lit * (1 - dark_sky) + dark_sky * ambient * warm * 0.3
    above, horizon = (int(0.1 * height), view.horizon + int(0.05 * height)), view.horizon
    lamps = _lamps(view, rng, int(rng.integers(0, 14)), ((120, 190, 255), (235, 240, 255)),
                   (POLE, SKY, TREE, BUILDING), above)
    cars = _lamps(view, rng, int(rng.integers(0, 8)), ((40, 30, 230), (225, 235, 255)), (CAR,),
                  (horizon - int(0.05 * height), int(0.75 * height)))
    # The camera opens up as far as it can.
    exposure = min(6.0, rng.uniform(0.06, 0.22) / max(float(lit.mean()), 1e-3))
    noise = rng.standard_normal(view.image.shape, dtype=np.float32) * rng.uniform(1, 9)
    return np.asarray((lit * exposure * 255).astype(np.float32) + lamps + cars + noise)


def snow(view: _View, rng: np.random.Generator) -> np.ndarray:
    """Return the scene with snow on verges and roofs, and more or less of it on the road."""
    image = view.image
    bright = np.float32(rng.uniform(0.7, 1.05)) * np.array([1.04, 1.0, 0.97], np.float32)
    field = _ground_noise(view, rng)
    below = (np.arange(len(view.near)) > view.horizon)[:, None, None]
    shade = 1 + 0.04 * field[..., None] + 0.05 * (image.mean(axis=2, keepdims=True) / 128 - 1)
    white = 232 * bright * shade
    cover = np.clip(rng.uniform(-0.8, 0.9) + 0.6 * field, 0, 1)[..., None]
    road = view.mask(ROAD) * cover * rng.uniform(0.3, 1)
    side = (view.mask(TREE) * below + view.mask(PAVEMENT)) * np.clip(
        rng.uniform(0.5, 1.6) + 0.4 * field, 0, 1)[..., None]
    image = image * (1 - road) + white * road
    image = image * (1 - side) + white * side
    twigs = view.mask(TREE) * (~below) * rng.uniform(0, 0.4)
    image = image * (1 - twigs) + 210 * bright * twigs
    sky = view.mask(SKY) * rng.uniform(0.3, 1)
    image = image * (1 - sky) + 222 * bright * sky
    return _flakes(image, rng, int(rng.integers(0, 500)))


def _flakes(image: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    layer = np.zeros(image.shape[:2], np.float32)
    height, width = image.shape[:2]
    for _ in range(count):
        place = (int(rng.integers(width)), int(rng.integers(height)))
        radius = int(max(1, rng.exponential(0.0025 * height)))
        cv2.circle(layer, place, radius, float(rng.uniform(0.3, 0.9)), -1)
    layer = cv2.GaussianBlur(layer, (0, 0), 1.0)[..., None]
    return np.asarray(image * (1 - layer) + 235 * layer)


def rain(view: _View, rng: np.random.Generator) -> np.ndarray:
    """Return the scene wet: a dark road that mirrors what stands above it, grey sky, streaks."""
    height, width = view.labels.shape
    image = view.image
    rows = np.arange(height)[:, None]
    stretch = rng.uniform(0.5, 1.2)
    source = np.clip(view.horizon - (rows - view.horizon) * stretch, 0, height - 1)
    ripple = _ground_noise(view, rng) * 0.012 * height * view.near
    columns = np.broadcast_to(np.arange(width), (height, width)) + ripple
    seen = cv2.remap(image, columns.astype(np.float32),
                     np.broadcast_to(source, (height, width)).astype(np.float32),
                     cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    blur = height * rng.uniform(0.003, 0.03)
    seen = cv2.GaussianBlur(seen, (0, 0), blur, sigmaY=2.5 * blur)
    ground = view.mask(*_GROUND)
    puddles = np.clip(rng.uniform(0.1, 0.8) + 0.35 * _ground_noise(view, rng), 0, 1)
    share = (puddles * (0.25 + 0.65 * (1 - view.near)))[..., None] * ground
    image = image * (1 - ground * rng.uniform(0.1, 0.45))
    image = image * (1 - share) + seen * share
    grey = image.mean(axis=2, keepdims=True)
    image = grey + (image - grey) * rng.uniform(0.4, 0.9)
    drops = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(0, 300))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        length = int(height * rng.uniform(0.01, 0.05))
        cv2.line(drops, (x, y), (x + length // 6, y + length), float(rng.uniform(0.1, 0.35)), 1)
    return np.asarray(image * (1 - drops[..., None]) + 215 * drops[..., None])


def tunnel(view: _View, rng: np.random.Generator) -> np.ndarray:
    """Return the scene under a ceiling with rows of lamps: dark, and of one colour."""
    height, width = view.labels.shape
    sodium = np.array([0.35, 0.75, 1.1]) if rng.random() < 0.5 else np.array([0.95, 1.0, 0.95])
    level = np.float32(rng.uniform(0.15, 0.6))
    image = view.image * level * sodium.astype(np.float32)
    up = np.clip((view.horizon - np.arange(height)) / max(view.horizon, 1), 0, 1)[:, None, None]
    ceiling = (40 + 60 * up + 5 * _noise(rng, (height, width), (30, 8))[..., None]) * level
    sky = view.mask(SKY)
    image = image * (1 - sky) + ceiling * sodium * sky * 1.5
    lamps = np.zeros_like(view.image)
    vanishing = (width * rng.uniform(0.35, 0.65), float(view.horizon))
    for side in (-1, 1):
        angle = side * rng.uniform(0.3, 1.2)
        for step in range(2, 12):
            along = 1.6 / step
            x, y = vanishing[0] + angle * along * height, vanishing[1] - along * height
            axes = (max(1, int(0.05 * along * height)), max(1, int(0.012 * along * height)))
            if 0 <= y < view.horizon:
                cv2.ellipse(lamps, (int(x), int(y)), axes, 0, 0, 360,
                            (255 * np.minimum(sodium, 1)).tolist(), -1)
    lamps = (lamps + 2 * cv2.GaussianBlur(lamps, (0, 0), 0.02 * height)) * sky
    noise = rng.standard_normal(view.image.shape, dtype=np.float32) * rng.uniform(1, 6)
    return np.asarray(image + lamps + noise)


def fog(view: _View, rng: np.random.Generator) -> np.ndarray:
    """Return the scene in fog: what is far fades into one grey."""
    thickness = np.exp(rng.uniform(np.log(0.02), np.log(0.3)))
    distance = 1 / np.maximum(_standing(view), 0.03)
    share = np.clip(1 - np.exp(-thickness * distance), 0, 0.97)[..., None]
    share = np.where((view.labels == SKY)[..., None], np.maximum(share, 0.9), share)
    share = cv2.GaussianBlur(share.astype(np.float32), (0, 0), 1.0)[..., None]
    return np.asarray(view.image * (1 - share) + rng.uniform(150, 225) * share)


def low_sun(view: _View, rng: np.random.Generator) -> np.ndarray:
    """Return the scene against a low sun: glare, a veil, dark surfaces, a bright road."""
    height, width = view.labels.shape
    x, y = rng.uniform(0.1, 0.9) * width, view.horizon - rng.uniform(0.0, 0.4) * height
    columns, rows = np.arange(width)[None, :], np.arange(height)[:, None]
    away = np.hypot(columns - x, rows - y) / height
    glare = np.exp(-away / rng.uniform(0.08, 0.3)) * rng.uniform(150, 420)
    streak = np.exp(-((columns - x) / (0.12 * width)) ** 2) * view.near * np.exp(-2 * view.near)
    road = view.mask(ROAD)[..., 0] * streak * rng.uniform(0, 500)
    image = view.image * rng.uniform(0.35, 0.8) + rng.uniform(0, 45)
    return np.asarray(image + (glare + road)[..., None] * np.array([0.75, 0.92, 1.0]))


CONDITIONS: dict[str, Condition] = {'night': night, 'snow': snow, 'rain': rain, 'tunnel': tunnel,
                                    'fog': fog, 'low_sun': low_sun}
