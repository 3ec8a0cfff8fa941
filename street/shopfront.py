"""Paints the ground floor of shops: glass, stall riser, fascia with a name, awning."""

from typing import Protocol

import cv2
import numpy as np

from .noise import cutting, jitter, tinted, to_bytes

_NAMES = ('BAKERY', 'BOOKS', 'CAFE', 'CHEMIST', 'FLOWERS', 'SHOES', 'TEA ROOM', 'OPTICIAN',
          'CYCLES', 'GALLERY', 'NEWS', 'TAILOR', 'PIZZA', 'HAIR', 'GROCER', 'BARBER', 'TRAVEL',
          'THE SWAN', 'HARDWARE', 'PHOTO', 'MUSIC', 'FISH & CHIPS', 'DELI', 'PRINT', 'TOYS')
_FASCIAS = ((38, 34, 30), (92, 48, 26), (36, 30, 124), (44, 76, 38), (120, 96, 40),
            (40, 46, 52), (200, 206, 208), (30, 60, 130), (28, 26, 84), (150, 60, 40))
_TEXEL_M = 0.02


class _Wall(Protocol):
    width: float
    height: float
    image: np.ndarray

    def box(self, x0: float, y0: float, x1: float, y1: float,
            colour: tuple[float, float, float]) -> None: ...

    def shade(self, x0: float, y0: float, x1: float, y1: float, gain: float) -> None: ...


def paint_shop(wall: _Wall, rng: np.random.Generator, glazing: float = 0.0) -> None:
    """
    Paint a shop into the lowest 3.6 m of a wall.

    :param glazing: width of its panes, metres; 0 = by lot.
    """
    paint = jitter(rng, _FASCIAS[int(rng.integers(len(_FASCIAS)))], 0.15)
    wall.box(0.15, 0, wall.width - 0.15, 3.3, paint)
    count = max(2, round((wall.width - 0.6) / (glazing or rng.uniform(1.3, 2.2))))
    pane = (wall.width - 0.6) / count
    door = int(rng.integers(count))
    for index in range(count):
        left = 0.3 + index * pane + 0.05
        right, low = left + pane - 0.1, 0.12 if index == door else 0.6
        _interior(wall, rng, left, low, right, 2.65)
        if index == door:
            wall.box((left + right) / 2 - 0.03, low, (left + right) / 2 + 0.03, 2.65, paint)
            wall.box(left, 2.1, right, 2.16, paint)
        elif rng.random() < 0.5:
            _poster(wall, rng, left, right)
    _fascia(wall, rng, paint)
    if rng.random() < 0.3:
        _awning(wall, rng)


def _rows(wall: _Wall, y0: float, y1: float) -> slice:
    return slice(max(0, round((wall.height - y1) / _TEXEL_M)),
                 max(0, round((wall.height - y0) / _TEXEL_M)))


def _interior(wall: _Wall, rng: np.random.Generator, x0: float, y0: float, x1: float,
              y1: float) -> None:
    """Paint what shows through shop glass: goods in the dark, lamps, the street's reflection."""
    part = wall.image[_rows(wall, y0, y1), round(x0 / _TEXEL_M):round(x1 / _TEXEL_M)]
    if part.shape[0] < 4 or part.shape[1] < 4:
        return
    goods = cutting(rng, part.shape[:2], ((30, 9), (12, 5), (5, 3)), falloff=0.8)
    lit = rng.uniform(0.4, 1.3)
    inside = tinted(jitter(rng, (38, 43, 47), 0.4), np.clip(goods, -1, 2.5), 0.45) * lit
    hue = 5 * cutting(rng, part.shape[:2], ((20, 10), 8))[..., None] * np.array(
        rng.uniform(-1, 1, 3), np.float32)
    mirror = np.linspace(0.32, 0.05, part.shape[0], dtype=np.float32)[:, None, None]
    sky = np.array((190, 182, 172), np.float32)
    part[...] = to_bytes((inside + hue) * (1 - mirror) + sky * mirror * rng.uniform(0.3, 1.0))
    wall.shade(x0, y1 - 0.2, x1, y1, 0.55)


def _poster(wall: _Wall, rng: np.random.Generator, left: float, right: float) -> None:
    width = (right - left) * rng.uniform(0.25, 0.5)
    x, y = left + rng.uniform(0.05, right - left - width), rng.uniform(0.8, 1.6)
    colour = jitter(rng, ((220, 222, 224), (40, 40, 190), (60, 180, 210))[int(rng.integers(3))],
                    0.15)
    wall.box(x, y, x + width, y + rng.uniform(0.4, 0.8), colour)


def _fascia(wall: _Wall, rng: np.random.Generator,
            paint: tuple[float, float, float]) -> None:
    """Paint the name board with its letters."""
    board = paint if rng.random() < 0.6 else jitter(
        rng, _FASCIAS[int(rng.integers(len(_FASCIAS)))], 0.15)
    wall.box(0.1, 2.75, wall.width - 0.1, 3.4, board)
    wall.box(0.1, 3.4, wall.width - 0.1, 3.47, (190.0, 194.0, 196.0))
    wall.shade(0.1, 3.3, wall.width - 0.1, 3.4, 0.8)
    name = _NAMES[int(rng.integers(len(_NAMES)))]
    ink = (235, 238, 240) if sum(board) < 330 else (40, 36, 34)
    if rng.random() < 0.25 and sum(board) < 330:
        ink = (90, 190, 220)
    scale, thick = 0.62 / _TEXEL_M / 40, 2
    (width, height), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_DUPLEX, scale, thick)
    x = round(wall.width / _TEXEL_M / 2 - width / 2)
    y = round((wall.height - 3.07) / _TEXEL_M + height / 2)
    cv2.putText(wall.image, name, (x, y), cv2.FONT_HERSHEY_DUPLEX, scale, ink, thick,
                cv2.LINE_AA)


def _awning(wall: _Wall, rng: np.random.Generator) -> None:
    first = jitter(rng, ((50, 40, 150), (60, 110, 50), (130, 80, 40))[int(rng.integers(3))], 0.2)
    for index, x in enumerate(np.arange(0.3, wall.width - 0.3, 0.35)):
        colour = first if index % 2 else (220.0, 222.0, 224.0)
        wall.box(x, 2.2, min(x + 0.35, wall.width - 0.3), 2.72, colour)
    wall.shade(0.3, 2.2, wall.width - 0.3, 2.3, 0.75)
    wall.shade(0.3, 1.7, wall.width - 0.3, 2.2, 0.6)
