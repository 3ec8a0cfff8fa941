"""Noise fields that materials are made of; the same for the same generator everywhere."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np


def fractal(rng: np.random.Generator, shape: tuple[int, int],
            cells: Sequence[float | tuple[float, float]], falloff: float = 0.6) -> np.ndarray:
    """
    Return smooth noise, (height, width) float32 of mean about 0 and standard deviation 1.

    :param cells: size of each octave's grains in pixels, or (down, across); coarse first.
    :param falloff: weight of each octave relative to the one before.
    """
    total = np.zeros(shape, np.float32)
    weight, power = 1.0, 0.0
    for cell in cells:
        down, across = cell if isinstance(cell, tuple) else (cell, cell)
        size = (max(2, round(shape[0] / down)), max(2, round(shape[1] / across)))
        grain = rng.standard_normal(size, dtype=np.float32)
        way = cv2.INTER_LINEAR if max(down, across) < 3 else cv2.INTER_CUBIC
        total += np.float32(weight) * cv2.resize(grain, shape[::-1], interpolation=way)
        # Interpolation takes about half of the variance.
        power += weight ** 2 * (1.0 if max(down, across) <= 1 else 0.5)
        weight *= falloff
    return total / np.float32(np.sqrt(power))


@lru_cache(maxsize=8)
def _sheet(cells: tuple[float | tuple[float, float], ...], falloff: float) -> np.ndarray:
    """Return a large sheet of noise, the same in every drive; only cuts of it differ."""
    return fractal(np.random.default_rng(20), (1400, 2600), cells, falloff)


def cutting(rng: np.random.Generator, shape: tuple[int, int],
            cells: tuple[float | tuple[float, float], ...], falloff: float = 0.6) -> np.ndarray:
    """Return noise like :func:`fractal`, cut from a sheet kept in memory: much faster."""
    sheet = _sheet(cells, falloff)
    if shape[0] > sheet.shape[0] or shape[1] > sheet.shape[1]:
        return fractal(rng, shape, cells, falloff)
    top = int(rng.integers(sheet.shape[0] - shape[0] + 1))
    left = int(rng.integers(sheet.shape[1] - shape[1] + 1))
    return sheet[top:top + shape[0], left:left + shape[1]]


def tinted(base: Sequence[float], noise: np.ndarray, strength: float) -> np.ndarray:
    """Return (h, w, 3) float32: a BGR colour made lighter and darker by noise (1 = strength)."""
    colour = np.asarray(base, np.float32)
    return colour * (1 + np.float32(strength) * noise[..., None])


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Return a float image as uint8."""
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def jitter(rng: np.random.Generator, colour: Sequence[float], spread: float) -> tuple[
        float, float, float]:
    """Return a colour near another: brightness and tint vary by about spread (0..1)."""
    value = np.asarray(colour, float) * (1 + spread * rng.uniform(-1, 1))
    value = value + spread * 40 * rng.uniform(-1, 1, 3) * 0.3
    b, g, r = np.clip(value, 4, 250)
    return float(b), float(g), float(r)
