"""Paints the fronts of houses: brick or render, windows, doors and shop fronts."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from .noise import cutting, fractal, jitter, tinted, to_bytes
from .shopfront import paint_shop

TEXEL_M = 0.02
# Height of a course and length of a brick or stone, texels.
_COURSES = {'brick': (4, 11), 'stone': (15, 34)}
_BRICKS = ((58, 74, 124), (62, 82, 112), (120, 160, 182), (98, 134, 160), (52, 60, 92),
           (84, 102, 134))
_RENDERS = ((218, 224, 226), (196, 212, 220), (170, 190, 202), (206, 208, 204), (188, 178, 164),
            (160, 196, 214), (150, 152, 154), (226, 228, 230))
_STONES = ((150, 168, 178), (128, 142, 150), (164, 176, 180))


@dataclass(frozen=True)
class Skin:
    """What a building's walls are made of: 'brick', 'render' or 'stone', and its BGR colour."""

    kind: str
    colour: tuple[float, float, float]
    frame: tuple[float, float, float]


class Wall:
    """A wall being painted; all measures in metres, x from the left, y from the ground up."""

    def __init__(self, rng: np.random.Generator, width: float, height: float,
                 skin: Skin) -> None:
        self.width, self.height = width, height
        shape = (max(8, round(height / TEXEL_M)), max(8, round(width / TEXEL_M)))
        self.image = _material(rng, shape, skin)

    def box(self, x0: float, y0: float, x1: float, y1: float,
            colour: tuple[float, float, float]) -> None:
        """Paint a rectangle."""
        top, left = (self.height - y1) / TEXEL_M, x0 / TEXEL_M
        bottom, right = (self.height - y0) / TEXEL_M, x1 / TEXEL_M
        rows = slice(max(0, round(top)), max(0, round(bottom)))
        self.image[rows, max(0, round(left)):max(0, round(right))] = colour

    def shade(self, x0: float, y0: float, x1: float, y1: float, gain: float) -> None:
        """Darken or lighten a rectangle."""
        rows = slice(max(0, round((self.height - y1) / TEXEL_M)),
                     max(0, round((self.height - y0) / TEXEL_M)))
        columns = slice(max(0, round(x0 / TEXEL_M)), max(0, round(x1 / TEXEL_M)))
        part = self.image[rows, columns]
        part[...] = np.clip(part * np.float32(gain), 0, 255)

    def glass(self, rng: np.random.Generator, x0: float, y0: float, x1: float, y1: float) -> None:
        """Paint a pane: dark, with the sky's reflection and sometimes a curtain."""
        rows = slice(max(0, round((self.height - y1) / TEXEL_M)),
                     max(0, round((self.height - y0) / TEXEL_M)))
        columns = slice(max(0, round(x0 / TEXEL_M)), max(0, round(x1 / TEXEL_M)))
        part = self.image[rows, columns]
        if not part.size:
            return
        height, width = part.shape[:2]
        slope = np.linspace(0, 1, height)[:, None] + rng.uniform(-0.4, 0.4) * np.linspace(
            -1, 1, width)[None, :]
        mirrored = np.clip(rng.uniform(0.0, 0.75) - slope * rng.uniform(0.3, 0.9), 0, 1)
        dark = np.array(jitter(rng, (46, 42, 38), 0.3))
        sky = np.array((206, 190, 172))
        pane = dark + (sky - dark) * mirrored[..., None]
        if rng.random() < 0.35:
            drawn = max(1, int(width * rng.uniform(0.12, 0.3)))
            curtain = np.array(jitter(rng, (150, 156, 160), 0.2))
            pane[:, :drawn] = 0.4 * pane[:, :drawn] + 0.6 * curtain
            pane[:, width - drawn:] = 0.4 * pane[:, width - drawn:] + 0.6 * curtain
        part[...] = to_bytes(pane)


def draw_skin(rng: np.random.Generator) -> Skin:
    """Return the walls of one building."""
    kind = str(rng.choice(('brick', 'brick', 'brick', 'render', 'render', 'stone')))
    choice = {'brick': _BRICKS, 'render': _RENDERS, 'stone': _STONES}[kind]
    colour = choice[int(rng.integers(len(choice)))]
    frame = (225.0, 228.0, 230.0) if rng.random() < 0.75 else jitter(rng, (50, 52, 56), 0.3)
    return Skin(kind, jitter(rng, colour, 0.14), frame)


@lru_cache(maxsize=4)
def _masonry(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """
    Return a large sheet of a material: brightness (128 = 1) and its joints (255), both uint8.

    Every wall is a cut of it, begun at another course.
    """
    rng, shape = np.random.default_rng(21), (1500, 2800)
    stains = fractal(rng, shape, [(160, 60), (60, 20), (20, 8), 3], falloff=0.75)
    value = 1 + (0.03 if kind == 'render' else 0.05) * stains
    joint = np.zeros(shape, bool)
    if kind != 'render':
        course, length = _COURSES[kind]
        row, column = np.arange(shape[0]) // course, np.arange(shape[1])
        place = column[None, :] + (row % 2 * (length // 2))[:, None]
        each = rng.standard_normal((row[-1] + 1, place.max() // length + 1), dtype=np.float32)
        value *= 1 + (0.055 if kind == 'brick' else 0.04) * each[row[:, None], place // length]
        joint = (np.arange(shape[0]) % course == 0)[:, None] | (place % length == 0)
    return to_bytes(value * 128), joint.astype(np.uint8) * 255


def _material(rng: np.random.Generator, shape: tuple[int, int], skin: Skin) -> np.ndarray:
    """Return (h, w, 3) uint8 of a bare wall, with dirt and weather on it."""
    sheet, joints = _masonry(skin.kind)
    top = int(rng.integers(max(1, sheet.shape[0] - shape[0])))
    left = int(rng.integers(max(1, sheet.shape[1] - shape[1])))
    cut = np.s_[top:top + shape[0], left:left + shape[1]]
    # Rain leaves the foot of a wall and the strip below the eaves darker.
    up = np.arange(shape[0], dtype=np.float32)[::-1, None] * TEXEL_M
    weather = (1 - 0.22 * np.exp(-up / 0.5) - 0.3 * np.exp(-(shape[0] * TEXEL_M - up) / 0.3))
    value = cv2.multiply(sheet[cut], np.repeat(to_bytes(weather * 255), shape[1], axis=1),
                         scale=1 / 255)
    steps = np.arange(256.0)[:, None] / 128
    wall = cv2.LUT(cv2.merge([value] * 3), to_bytes(steps * skin.colour)[None])
    mortar = np.array((150, 158, 162)) * (0.4 + 0.6 * skin.colour[1] / 160)
    seams = cv2.LUT(cv2.merge([value] * 3),
                    to_bytes(steps * (0.7 * np.array(skin.colour) + 0.3 * mortar))[None])
    cv2.copyTo(seams, np.ascontiguousarray(joints[cut]), wall)
    return wall


def _window(wall: Wall, rng: np.random.Generator, skin: Skin, x0: float, y0: float, x1: float,
            y1: float, style: str) -> None:
    """Paint a window with lintel, sill, frame, bars and the shadow of its reveal."""
    stone = (176.0, 186.0, 190.0) if skin.kind == 'brick' else tuple(
        min(255.0, value * 1.12) for value in skin.colour)
    wall.box(x0 - 0.1, y1, x1 + 0.1, y1 + 0.2, (stone[0], stone[1], stone[2]))
    wall.box(x0 - 0.12, y0 - 0.1, x1 + 0.12, y0, (stone[0], stone[1], stone[2]))
    wall.shade(x0 - 0.08, y0 - 0.34, x1 + 0.08, y0 - 0.1, 0.8)
    wall.box(x0, y0, x1, y1, skin.frame)
    panes_x, panes_y = {'sash': (1, 2), 'georgian': (3, 4), 'casement': (2, 1),
                        'wide': (3, 1)}[style]
    bar = 0.06 if style != 'georgian' else 0.04
    step_x, step_y = (x1 - x0) / panes_x, (y1 - y0) / panes_y
    # Sashes hang in two planes and mirror differently; smaller panes lie in one.
    sashes = 2 if style == 'sash' else 1
    for j in range(sashes):
        low = y0 + j * (y1 - y0) / sashes
        wall.glass(rng, x0 + bar, low + bar, x1 - bar, low + (y1 - y0) / sashes - bar)
    for i in range(1, panes_x):
        wall.box(x0 + i * step_x - bar / 2, y0, x0 + i * step_x + bar / 2, y1, skin.frame)
    for j in range(1, panes_y):
        wall.box(x0, y0 + j * step_y - bar / 2, x1, y0 + j * step_y + bar / 2, skin.frame)
    wall.shade(x0, y1 - 0.14, x1, y1, 0.45)
    wall.shade(x0, y0, x0 + 0.06, y1, 0.6)


def _door(wall: Wall, rng: np.random.Generator, x: float, height: float) -> None:
    """Paint a front door with its surround, fanlight and step."""
    surround = (214.0, 216.0, 218.0) if rng.random() < 0.6 else (150.0, 160.0, 166.0)
    paint = jitter(rng, ((60, 40, 30), (40, 30, 110), (50, 70, 40), (40, 40, 44),
                         (140, 100, 60))[int(rng.integers(5))], 0.2)
    wall.box(x - 0.65, 0, x + 0.65, height + 0.25, surround)
    wall.box(x - 0.47, 0.12, x + 0.47, height, paint)
    wall.glass(rng, x - 0.42, height - 0.4, x + 0.42, height - 0.06)
    for low in (0.3, 1.1):
        wall.shade(x - 0.36, low, x - 0.05, low + 0.65, 0.78)
        wall.shade(x + 0.05, low, x + 0.36, low + 0.65, 0.78)
    wall.box(x - 0.7, 0, x + 0.7, 0.12, (140.0, 144.0, 146.0))


def paint_front(rng: np.random.Generator, width: float, height: float, skin: Skin,
                kind: str) -> np.ndarray:
    """
    Return (h, w, 3) uint8 BGR: a building's front, TEXEL_M a texel.

    :param kind: 'shop', 'terrace', 'house' or 'office'.
    """
    wall = Wall(rng, width, height, skin)
    if kind == 'office':
        _office(wall, rng, skin)
    else:
        _house(wall, rng, skin, kind)
    return wall.image


def _house(wall: Wall, rng: np.random.Generator, skin: Skin, kind: str) -> None:
    ground = 3.6 if kind == 'shop' else 3.0
    floors = max(1, round((wall.height - ground) / 2.9) + 1)
    storey = (wall.height - ground) / max(floors - 1, 1)
    style = str(rng.choice(('sash', 'sash', 'georgian', 'casement')))
    tall = rng.uniform(1.35, 1.75)
    wide = rng.uniform(0.95, 1.25) * (1.35 if style == 'casement' else 1.0)
    count = max(1, int(wall.width / rng.uniform(2.2, 3.0)))
    bay = wall.width / count
    if skin.kind != 'render' or rng.random() < 0.5:
        wall.box(0, ground - 0.08, wall.width, ground + 0.08, (166.0, 174.0, 178.0))
        wall.shade(0, ground - 0.2, wall.width, ground - 0.08, 0.75)
    for floor in range(1, floors):
        low = ground + (floor - 1) * storey + 0.75
        for index in range(count):
            middle = (index + 0.5) * bay
            _window(wall, rng, skin, middle - wide / 2, low, middle + wide / 2,
                    min(low + tall, wall.height - 0.35), style)
    if kind == 'shop':
        paint_shop(wall, rng)
    else:
        door = int(rng.integers(count))
        for index in range(count):
            middle = (index + 0.5) * bay
            if index == door:
                _door(wall, rng, middle, 2.35)
            else:
                _window(wall, rng, skin, middle - wide / 2, 0.85, middle + wide / 2,
                        0.85 + tall, style)
    pipe = rng.choice((0.12, wall.width - 0.2))
    wall.box(pipe, 0, pipe + 0.08, wall.height, (52.0, 52.0, 54.0))


def _office(wall: Wall, rng: np.random.Generator, skin: Skin) -> None:
    ground, storey = 3.8, 3.3
    floors = max(1, round((wall.height - ground) / storey))
    storey = (wall.height - ground) / floors
    ribbon = rng.random() < 0.5
    step = wall.width / max(2, round(wall.width / rng.uniform(1.6, 2.6)))
    panel = jitter(rng, (150, 152, 154), 0.25)
    for floor in range(floors):
        low = ground + floor * storey
        wall.box(0, low - 0.1, wall.width, low + 0.7, panel)
        wall.shade(0, low + 0.5, wall.width, low + 0.7, 0.8)
        for index in range(round(wall.width / step)):
            left = index * step + (0.08 if ribbon else 0.35)
            right = (index + 1) * step - (0.08 if ribbon else 0.35)
            wall.box(left - 0.05, low + 0.85, right + 0.05, low + storey - 0.45, skin.frame)
            wall.glass(rng, left, low + 0.9, right, low + storey - 0.5)
            wall.shade(left, low + storey - 0.62, right, low + storey - 0.5, 0.5)
    paint_shop(wall, rng, glazing=step)


def paint_side(rng: np.random.Generator, width: float, height: float, rise: float,
               skin: Skin) -> np.ndarray:
    """Return (h, w, 3) uint8 BGR: a building's side up to its ridge, with few windows."""
    plain = Skin('brick' if skin.kind == 'stone' else skin.kind, skin.colour, skin.frame)
    wall = Wall(rng, width, height + rise, plain)
    if rng.random() < 0.6 and width > 4:
        for low in np.arange(0.9, height - 2.0, 2.9):
            middle = width * rng.uniform(0.3, 0.7)
            _window(wall, rng, plain, middle - 0.5, low, middle + 0.5, low + 1.3, 'sash')
    return wall.image


def paint_roof(rng: np.random.Generator, width: float, slope: float) -> np.ndarray:
    """Return (h, w, 3) uint8 BGR: slates or tiles, rows along the width."""
    shape = (max(8, round(slope / 0.05)), max(8, round(width / 0.05)))
    base = ((72, 66, 62), (60, 66, 92), (66, 74, 84))[int(rng.choice(3, p=(0.55, 0.25, 0.2)))]
    roof = tinted(jitter(rng, base, 0.12), cutting(rng, shape, ((30, 30), (8, 10), 2)), 0.07)
    row, column = np.arange(shape[0]) // 5, np.arange(shape[1])
    index = (column[None, :] + (row % 2 * 3)[:, None]) // 6
    each = rng.standard_normal((row[-1] + 1, index.max() + 1), dtype=np.float32)
    roof *= (1 + 0.09 * each[row[:, None], index])[..., None]
    roof[np.arange(shape[0]) % 5 == 4] *= 0.8
    return cv2.GaussianBlur(to_bytes(roof), (0, 0), 0.5)
