"""
What happens to pictures on cars: weather, lenses, sensors and cables, each as a function.

Lengths are in pixels of a picture whose shorter side has 360; they grow with the picture, so that
a strength means the same for every camera. The same picture, name and seed always give the same
result.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import zlib

import cv2
import numpy as np

from ..errors import ConfigError

Rng = np.random.Generator
_SIDE = 360


@dataclass(frozen=True)
class Corruption:
    """
    One kind of damage at one strength.

    :ivar name: stable: figures are listed and random numbers drawn by it.
    :ivar family: the kind without the strength.
    :ivar spoil: makes the damaged picture, (H, W, 3) uint8 BGR, of a whole one.
    :ivar turns: quarter turns against the clock that picture and truth make; the truth of all
        other kinds is the street as it was.
    """

    name: str
    family: str
    spoil: Callable[[np.ndarray, Rng], np.ndarray]
    turns: int = 0

    def apply(self, image: np.ndarray, key: str, seed: int) -> np.ndarray:
        """
        Return the damaged picture, packed.

        :param image: (H, W, 3) uint8 BGR.
        :param key: name of the picture; with the seed it decides what chance does to it.
        """
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode()),
                                     zlib.crc32(key.encode())])
        spoilt = self.spoil(np.ascontiguousarray(image), rng)
        return np.ascontiguousarray(np.rot90(spoilt, self.turns))

    def turn(self, truth: np.ndarray) -> np.ndarray:
        """Return the truth (H, W) turned with the picture."""
        return np.ascontiguousarray(np.rot90(truth, self.turns))


def chosen(names: list[str] | None) -> dict[str, Corruption]:
    """
    Return corruptions by name or family; None = all.

    :raises ConfigError: a name is neither.
    """
    if names is None:
        return dict(CORRUPTIONS)
    families = {entry.family for entry in CORRUPTIONS.values()}
    for name in names:
        if name not in CORRUPTIONS and name not in families:
            raise ConfigError(f'corruption {name!r} is unknown; allowed: {", ".join(CORRUPTIONS)};'
                              f' or all strengths of one kind: {", ".join(sorted(families))}')
    return {key: entry for key, entry in CORRUPTIONS.items()
            if key in names or entry.family in names}


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _pixels(image: np.ndarray, length: float) -> float:
    """Return a length of a picture of the usual size in pixels of this one."""
    return length * min(image.shape[:2]) / _SIDE


# Light


def _gain(factor: float) -> Callable[[np.ndarray, Rng], np.ndarray]:
    return lambda image, rng: _rounded(image * np.float32(factor))


def _noise(sigma: float) -> Callable[[np.ndarray, Rng], np.ndarray]:
    def spoil(image: np.ndarray, rng: Rng) -> np.ndarray:
        return _rounded(image + rng.normal(0, sigma, image.shape).astype(np.float32))
    return spoil


def _glare(image: np.ndarray, rng: Rng) -> np.ndarray:
    """The low sun in the upper half, with a veil over the whole picture."""
    height, width = image.shape[:2]
    distance = _distance(image, rng.uniform(0.15, 0.45) * height, rng.uniform(0.2, 0.8) * width)
    relative = distance / _pixels(image, _SIDE)
    light = 700 * np.exp(-(relative / 0.22) ** 2) + 150 * np.exp(-relative / 0.5)
    return _rounded(image + light[..., None])


# Lens


def _motion_blur(length: float) -> Callable[[np.ndarray, Rng], np.ndarray]:
    """A turn to the side while the shutter is open."""
    def spoil(image: np.ndarray, rng: Rng) -> np.ndarray:
        return cv2.blur(image, (max(1, round(_pixels(image, length))), 1))
    return spoil


def _defocus(radius: float) -> Callable[[np.ndarray, Rng], np.ndarray]:
    def spoil(image: np.ndarray, rng: Rng) -> np.ndarray:
        size = max(1, round(_pixels(image, radius)))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * size + 1, 2 * size + 1))
        return cv2.filter2D(image, -1, kernel / np.float32(kernel.sum()))
    return spoil


def _vignette(image: np.ndarray, rng: Rng) -> np.ndarray:
    height, width = image.shape[:2]
    distance = _distance(image, height / 2, width / 2) / np.hypot(height / 2, width / 2)
    return _rounded(image * np.clip(1.15 - 1.3 * distance ** 1.5, 0.02, 1)[..., None])


def _dirt(blobs: int) -> Callable[[np.ndarray, Rng], np.ndarray]:
    """Mud on the glass, out of focus."""
    def spoil(image: np.ndarray, rng: Rng) -> np.ndarray:
        height, width = image.shape[:2]
        cover = np.zeros((height, width), np.float32)
        for _ in range(blobs):
            centre = int(rng.integers(width)), int(rng.integers(height))
            axes = tuple(round(_pixels(image, float(rng.uniform(12, 45)))) for _ in range(2))
            cv2.ellipse(cover, centre, axes, float(rng.uniform(0, 180)), 0, 360,
                        float(rng.uniform(0.8, 1)), cv2.FILLED)
        cover = cv2.GaussianBlur(cover, (0, 0), _pixels(image, 4))[..., None]
        mud = np.float32(rng.uniform((20, 30, 40), (60, 75, 95)))
        return _rounded(image * (1 - cover) + mud * cover)
    return spoil


def _half_black(rows: slice, columns: slice) -> Callable[[np.ndarray, Rng], np.ndarray]:
    """Half of the lens is covered; slices in halves of the picture."""
    def spoil(image: np.ndarray, rng: Rng) -> np.ndarray:
        spoilt = image.copy()
        height, width = image.shape[:2]
        spoilt[_half(rows, height), _half(columns, width)] = 0
        return spoilt
    return spoil


def _half(part: slice, length: int) -> slice:
    return slice(part.start * length // 2, part.stop * length // 2)


def _constant(bgr: tuple[int, int, int]) -> Callable[[np.ndarray, Rng], np.ndarray]:
    return lambda image, rng: np.full_like(image, bgr)


def _pure_noise(image: np.ndarray, rng: Rng) -> np.ndarray:
    return rng.integers(0, 256, image.shape, np.uint8)


# Weather


def _fog(density: float) -> Callable[[np.ndarray, Rng], np.ndarray]:
    """Light is lost by exp(-density * depth); on the ground depth grows from 1 to 10."""
    def spoil(image: np.ndarray, rng: Rng) -> np.ndarray:
        height = image.shape[0]
        below = (np.arange(height) + 0.5) / height - 0.5  # the horizon lies in the middle
        depth = np.minimum(0.5 / np.maximum(below, 0.05), 10)
        kept = np.exp(-density * depth)[:, None, None]
        return _rounded(image * kept + 215 * (1 - kept))
    return spoil


def _rain(streaks: int) -> Callable[[np.ndarray, Rng], np.ndarray]:
    def spoil(image: np.ndarray, rng: Rng) -> np.ndarray:
        height, width = image.shape[:2]
        drops = np.zeros((height, width), np.uint8)
        slant = rng.uniform(-0.25, 0.25)
        lengths = _pixels(image, 1) * rng.uniform(8, 26, streaks)
        starts = rng.uniform((-0.05 * width, -0.05 * height), (width, height), (streaks, 2))
        for (x, y), length in zip(starts, lengths, strict=True):
            end = round(x + slant * length), round(y + length)
            cv2.line(drops, (round(x), round(y)), end, int(rng.integers(110, 220)),
                     max(1, round(_pixels(image, 1))), cv2.LINE_AA)
        drops = cv2.blur(drops, (1, 3))
        grey = image * np.float32(0.8) + np.float32(18)
        weight = drops[..., None] / np.float32(255)
        return _rounded(grey * (1 - weight) + 225 * weight)
    return spoil


def _snow(share: float) -> Callable[[np.ndarray, Rng], np.ndarray]:
    """Flakes until they cover this share of the picture."""
    def spoil(image: np.ndarray, rng: Rng) -> np.ndarray:
        height, width = image.shape[:2]
        flakes = np.zeros((height, width), np.uint8)
        while np.count_nonzero(flakes) < share * flakes.size:
            for _ in range(20):
                centre = int(rng.integers(width)), int(rng.integers(height))
                radius = max(1, round(_pixels(image, float(rng.gamma(2, 0.9)))))
                cv2.circle(flakes, centre, radius, int(rng.integers(190, 256)), cv2.FILLED)
        weight = cv2.GaussianBlur(flakes, (0, 0), _pixels(image, 0.8))[..., None] / np.float32(255)
        return _rounded(image * (1 - weight) + 245 * weight)
    return spoil


# Cables and drivers


def _jpeg(quality: int) -> Callable[[np.ndarray, Rng], np.ndarray]:
    def spoil(image: np.ndarray, rng: Rng) -> np.ndarray:
        data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return spoil


def _row_noise(share: float) -> Callable[[np.ndarray, Rng], np.ndarray]:
    """Rows that hold anything but the picture."""
    def spoil(image: np.ndarray, rng: Rng) -> np.ndarray:
        spoilt = image.copy()
        rows = rng.random(image.shape[0]) < share
        spoilt[rows] = rng.integers(0, 256, spoilt[rows].shape, np.uint8)
        return spoilt
    return spoil


def _rolled_rows(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Lines lost their start: bands of rows begin anywhere in the line."""
    spoilt, row = np.empty_like(image), 0
    while row < image.shape[0]:
        end = row + max(1, round(_pixels(image, float(rng.uniform(4, 40)))))
        spoilt[row:end] = np.roll(image[row:end], int(rng.integers(image.shape[1])), axis=1)
        row = end
    return spoilt


def _rolled_picture(image: np.ndarray, rng: Rng) -> np.ndarray:
    """The picture lost its start: its top follows below its bottom."""
    return np.roll(image, round(rng.uniform(0.25, 0.75) * image.shape[0]), axis=0)


def _colours_swapped(image: np.ndarray, rng: Rng) -> np.ndarray:
    return image[..., ::-1].copy()


def _yuv_as_rgb(image: np.ndarray, rng: Rng) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_BGR2YUV)[..., ::-1].copy()


def _as_it_is(image: np.ndarray, rng: Rng) -> np.ndarray:
    return image


def _distance(image: np.ndarray, row: float, column: float) -> np.ndarray:
    """Return each pixel's distance from a point in pixels, (H, W) float32."""
    rows, columns = np.ogrid[:image.shape[0], :image.shape[1]]
    return np.hypot(rows - row, columns - column).astype(np.float32)


_WHOLE, _FIRST, _SECOND = slice(0, 2), slice(0, 1), slice(1, 2)
_ALL = (
    *(Corruption(f'dark_{x:g}', 'dark', _gain(x)) for x in (0.4, 0.15, 0.05)),
    *(Corruption(f'overexposed_{x:g}', 'overexposed', _gain(x)) for x in (1.8, 3, 6)),
    *(Corruption(f'noise_{x}', 'noise', _noise(x)) for x in (15, 40, 80)),
    *(Corruption(f'motion_blur_{x}', 'motion_blur', _motion_blur(x)) for x in (15, 45, 91)),
    *(Corruption(f'defocus_{x}', 'defocus', _defocus(x)) for x in (5, 12, 24)),
    *(Corruption(f'jpeg_{x}', 'jpeg', _jpeg(x)) for x in (15, 5, 1)),
    *(Corruption(f'fog_{x:g}', 'fog', _fog(x)) for x in (0.1, 0.3, 0.8)),
    *(Corruption(f'rain_{x}', 'rain', _rain(x)) for x in (300, 1200, 4000)),
    *(Corruption(f'snow_{x:g}', 'snow', _snow(x)) for x in (0.03, 0.1, 0.3)),
    Corruption('vignette', 'vignette', _vignette),
    Corruption('glare', 'glare', _glare),
    *(Corruption(f'dirt_{x}', 'dirt', _dirt(x)) for x in (5, 12, 25)),
    Corruption('half_black_left', 'half_black', _half_black(_WHOLE, _FIRST)),
    Corruption('half_black_bottom', 'half_black', _half_black(_SECOND, _WHOLE)),
    Corruption('half_black_top', 'half_black', _half_black(_FIRST, _WHOLE)),
    *(Corruption(f'row_noise_{x}', 'row_noise', _row_noise(x / 100)) for x in (10, 40)),
    Corruption('rolled_rows', 'rolled', _rolled_rows),
    Corruption('rolled_picture', 'rolled', _rolled_picture),
    Corruption('covered_black', 'covered', _constant((0, 0, 0))),
    Corruption('covered_white', 'covered', _constant((255, 255, 255))),
    Corruption('constant_grey', 'constant', _constant((128, 128, 128))),
    Corruption('constant_green', 'constant', _constant((0, 255, 0))),
    Corruption('constant_blue', 'constant', _constant((255, 0, 0))),
    Corruption('pure_noise', 'pure_noise', _pure_noise),
    Corruption('upside_down', 'turned', _as_it_is, turns=2),
    Corruption('turned_90_left', 'turned', _as_it_is, turns=1),
    Corruption('turned_90_right', 'turned', _as_it_is, turns=3),
    Corruption('colours_swapped', 'colours', _colours_swapped),
    Corruption('yuv_as_rgb', 'colours', _yuv_as_rgb),
)
CORRUPTIONS: Mapping[str, Corruption] = {entry.name: entry for entry in _ALL}
