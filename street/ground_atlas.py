"""Paints the street from above: asphalt, markings, slabs, grass and shadows, as one image."""

from collections.abc import Sequence

import cv2
import numpy as np

from .ground_marks import (
    ASPHALT,
    CONCRETE,
    GRASS,
    IRON,
    KERB,
    paint_marks,
    PATCH,
    SLABS,
    TAR,
    WHITE,
    YELLOW,
)
from .light import Light
from .noise import fractal, jitter
from .plan import Plan, SIDES

ALONG_M = 0.04
ACROSS_M = 0.015
HALF_WIDTH_M = 11.0
_CHUNK = 512
_TILE_ROWS = 1024


class GroundAtlas:
    """
    The ground in street coordinates.

    Convention: row r shows s = start + (r + 0.5) * ALONG_M, column c shows
    d = -HALF_WIDTH_M + (c + 0.5) * ACROSS_M.

    :ivar image: (rows, columns, 4) uint8 BGRA, lit and with the shadows that stand still.
    :ivar shadow: (rows / 4, columns / 4) uint8, 255 in the sun to 0 in shadow.
    """

    def __init__(self, rng: np.random.Generator, plan: Plan, light: Light,
                 shadows: Sequence[np.ndarray]) -> None:
        self.start = plan.start
        rows = int(np.ceil((plan.end - plan.start) / ALONG_M))
        self.size = (rows, int(round(2 * HALF_WIDTH_M / ACROSS_M)))
        material = self._materials(rng, plan)
        self.shadow = self._shadow(rng, shadows)
        self.image = self._colour(rng, plan, light, material)

    def pixels(self, outline: np.ndarray, shrink: int = 1) -> np.ndarray:
        """Return street coordinates (k, 2) as fixed-point (1/16) atlas pixels (x, y)."""
        column = (outline[:, 1] + HALF_WIDTH_M) / (ACROSS_M * shrink) - 0.5
        row = (outline[:, 0] - self.start) / (ALONG_M * shrink) - 0.5
        points = np.clip(np.stack([column, row], axis=1), -4e4, 4e4)
        return np.rint(points * 16).astype(np.int32)

    def fill(self, image: np.ndarray, outline: np.ndarray, value: int) -> None:
        """Fill a polygon (k, 2) of street coordinates."""
        cv2.fillPoly(image, [self.pixels(outline)], value, cv2.LINE_8, 4)

    def _materials(self, rng: np.random.Generator, plan: Plan) -> np.ndarray:
        """Return (rows, columns) uint8: what the ground is made of."""
        material = np.full(self.size, GRASS, np.uint8)
        for outline in plan.pavement_outlines():
            self.fill(material, outline, SLABS)
        road = np.zeros(self.size, np.uint8)
        for outline in plan.road_outlines():
            self.fill(road, outline, 1)
        stone = cv2.dilate(road, np.ones((2 * round(0.14 / ALONG_M) + 1,
                                          2 * round(0.14 / ACROSS_M) + 1), np.uint8))
        material[(stone > 0) & (material == SLABS)] = KERB
        material[road > 0] = ASPHALT
        paint_marks(self.fill, rng, plan, material)
        return material

    def _shadow(self, rng: np.random.Generator, shadows: Sequence[np.ndarray]) -> np.ndarray:
        """Return the quarter-size map of what the sun reaches."""
        lit = np.full((self.size[0] // 4, self.size[1] // 4), 255, np.uint8)
        for outline in shadows:
            cv2.fillPoly(lit, [self.pixels(outline, 4)], 0, cv2.LINE_8, 4)
        return cv2.GaussianBlur(lit, (0, 0), sigmaX=1.6, sigmaY=0.8)

    def sunlit(self, s: float, d: float) -> float:
        """Return how much sun reaches the ground at a place, 0..1."""
        row = int(np.clip((s - self.start) / (4 * ALONG_M), 0, self.shadow.shape[0] - 1))
        column = int(np.clip((d + HALF_WIDTH_M) / (4 * ACROSS_M), 0, self.shadow.shape[1] - 1))
        return float(self.shadow[row, column]) / 255.0

    def _colour(self, rng: np.random.Generator, plan: Plan, light: Light,
                material: np.ndarray) -> np.ndarray:
        """Return the lit atlas, made chunk by chunk to keep memory low."""
        palette = _palette(rng, plan)
        fields = _Fields(rng, plan, self.size[1])
        up = np.array([0.0, 0.0, 1.0])
        full, shade = light.gain(up, 1.0), light.shadow_gain()
        image = np.empty((*self.size, 4), np.uint8)
        lit = cv2.resize(self.shadow, self.size[::-1], interpolation=cv2.INTER_LINEAR)
        for top in range(0, self.size[0], _CHUNK):
            rows = slice(top, min(top + _CHUNK, self.size[0]))
            kind = material[rows]
            value = fields.value(kind, top)
            # Worn paint lets the asphalt through.
            worn = (kind == WHITE) | (kind == YELLOW)
            thin = np.clip(fields.wear(kind.shape, top), 0, 0.85)[worn]
            sun = lit[rows].astype(np.float32) / 255
            for channel in range(3):
                colour = palette[:, channel][kind]
                colour[worn] += (palette[ASPHALT, channel] - colour[worn]) * thin
                colour *= value
                low = np.float32(full[channel] * shade[channel])
                colour *= low + np.float32(full[channel] - low) * sun
                np.clip(colour, 0, 255, out=colour)
                image[rows, :, channel] = colour
        image[..., 3] = 255
        return image


def _palette(rng: np.random.Generator, plan: Plan) -> np.ndarray:
    """Return (10, 3) float32 BGR of each material."""
    grey = rng.uniform(92, 126)
    slab = rng.uniform(112, 140)
    paving = [(slab, slab + 2, slab + 5), (slab - 18, slab - 6, slab + 12),
              (grey, grey, grey - 2)][int(rng.choice(3, p=(0.6, 0.15, 0.25)))]
    palette = np.zeros((10, 3), np.float32)
    palette[GRASS] = jitter(rng, (56, 100, 90), 0.15)
    palette[SLABS] = paving
    palette[ASPHALT] = (grey + 2, grey, grey - 1)
    palette[KERB] = (152, 156, 158)
    palette[WHITE] = (208, 212, 212)
    palette[YELLOW] = (88, 172, 200)
    palette[PATCH] = (grey * 0.82, grey * 0.81, grey * 0.8)
    palette[IRON] = (62, 62, 64)
    palette[TAR] = (46, 45, 45)
    if plan.motorway is not None:
        palette[GRASS] = plan.motorway.grass
        palette[ASPHALT] *= rng.uniform(0.6, 1.05)
        palette[CONCRETE] = jitter(rng, (160, 166, 170), 0.18)
    return palette


class _Fields:
    """Noise of the materials, in tiles that repeat every 40 m."""

    def __init__(self, rng: np.random.Generator, plan: Plan, columns: int) -> None:
        ratio = ALONG_M / ACROSS_M
        coarse = [(cell / ratio, cell) for cell in (160.0, 60.0, 20.0)]
        shape = (_TILE_ROWS, columns)
        self.blotches = 0.05 * fractal(rng, shape, coarse)
        self.grain = 0.07 * fractal(rng, shape, [(1, 2.5), 1], falloff=1.0)
        streaks = fractal(rng, shape, [(400, 30.0), (100, 12.0), (40, 5.0)])
        self.streaks = 0.03 * streaks
        self.worn = 0.18 + 0.22 * fractal(rng, shape, [(30, 40.0), (4, 8.0), (1, 2.0)])
        blades = fractal(rng, shape, [(30, 80.0), (4, 10.0), (1, 2.5)], falloff=0.8)
        self.grass = 0.16 * blades
        self.slabs = _slabs(rng, shape)
        d = (np.arange(columns) + 0.5) * ACROSS_M - HALF_WIDTH_M
        self.across = _wheel_tracks(d, plan)

    def _rows(self, field: np.ndarray, top: int, count: int) -> np.ndarray:
        return field[np.arange(top, top + count) % field.shape[0]]

    def wear(self, shape: tuple[int, ...], top: int) -> np.ndarray:
        return self._rows(self.worn, top, shape[0])

    def value(self, kind: np.ndarray, top: int) -> np.ndarray:
        """Return (h, w) float32 brightness factors about 1."""
        blotches, grain, streaks, grass, slabs = (
            self._rows(field, top, len(kind)) for field in
            (self.blotches, self.grain, self.streaks, self.grass, self.slabs))
        asphalt = 1 + blotches + grain + streaks + self.across
        value = np.where(kind == SLABS, slabs * (1 + blotches + 0.3 * grain), asphalt)
        np.copyto(value, 1 + grass + blotches, where=kind == GRASS)
        np.copyto(value, 1 + blotches + 0.3 * grain, where=kind == KERB)
        return np.asarray(value, np.float32)


def _wheel_tracks(d: np.ndarray, plan: Plan) -> np.ndarray:
    """Return (columns,): tyres polish two tracks a lane, oil darkens its middle, kerbs gather."""
    value = np.zeros_like(d)
    for lane in plan.lanes:
        for track in (-0.75, 0.75):
            value += 0.06 * np.exp(-((d - lane - track) / 0.28) ** 2)
        value -= 0.05 * np.exp(-((d - lane) / 0.3) ** 2)
    for side in SIDES:
        gutter = plan.bands[side].kerb - side * d
        value -= 0.22 * np.exp(-(np.maximum(gutter, 0) / 0.25) ** 2) * (gutter > 0)
    return value.astype(np.float32)


def _slabs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return the brightness of paving slabs (60 x 75 cm) with their joints."""
    down, across = round(0.6 / ALONG_M), round(0.75 / ACROSS_M)
    count = (shape[0] // down + 2, shape[1] // across + 2)
    each = 1 + 0.045 * rng.standard_normal(count, dtype=np.float32)
    row, column = np.arange(shape[0]), np.arange(shape[1])
    shift = (row // down % 2) * (across // 2)
    index = (column[None, :] + shift[:, None])
    value = each[(row // down)[:, None], index // across]
    joint = (index % across < 2) | (row % down < 1)[:, None]
    return np.where(joint, value * 0.72, value)
