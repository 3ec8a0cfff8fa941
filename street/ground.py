"""Draws the ground by casting a ray through every canvas pixel onto road and pavement level."""

from functools import lru_cache

import cv2
import numpy as np

from .algebra import turned
from .camvid import PAVEMENT, ROAD, TREE
from .canvas import Canvas, clip_near
from .ground_atlas import ACROSS_M, ALONG_M, GroundAtlas, HALF_WIDTH_M
from .plan import KERB_M, Plan
from .road import Road
from .texture import Texture
from .view import fixed, SHIFT

_GRID_PX = 64
_GRAIN_M = 0.006
_GRAIN_LEVELS = 3
_FAR_M = 450.0
_STEP_M = 2.0
_KERB_STONE = (122.0, 124.0, 126.0)
_FLATTEST = 2e-3


class Ground:
    """
    The ground of one drive: two levels, road at z = 0 and all else raised by the kerb.

    The road is a hole in the raised level: a pixel shows the road where its ray passes the hole
    and meets the road, and the kerb's face where it passes the hole but meets no road.
    """

    def __init__(self, plan: Plan, road: Road, atlas: GroundAtlas) -> None:
        self.plan, self.road, self.atlas = plan, road, atlas
        self._texture = Texture(np.ascontiguousarray(atlas.image[..., :3]))
        self._grain = _stones()
        self._roads = [self._dense(outline) for outline in plan.road_outlines()]
        self._pavements = [self._dense(outline) for outline in plan.pavement_outlines()]

    def _dense(self, outline: np.ndarray) -> np.ndarray:
        """Return street coordinates as a finely divided world outline (k, 2)."""
        points = []
        for a, b in zip(outline, np.roll(outline, -1, axis=0), strict=True):
            count = max(1, int(np.ceil(np.abs(b - a).max() / _STEP_M)))
            points.append(a + (b - a) * (np.arange(count) / count)[:, None])
        street = np.concatenate(points)
        return self.road.to_world(street[:, 0], street[:, 1])

    def draw(self, canvas: Canvas, s: float) -> None:
        """
        Draw the ground.

        :param s: the car's place along the street, where rays are looked up from.
        """
        below = _below_horizon(canvas)
        top = int(np.flatnonzero(below.any(axis=1))[0]) if below.any() else len(below)
        if top >= len(below):
            return
        hole = self._mask(canvas, self._roads, KERB_M)
        face = hole & ~self._mask(canvas, self._roads, 0.0)
        paved = self._mask(canvas, self._pavements, KERB_M)
        labels = np.full(below.shape, TREE, np.uint8)
        labels[paved > 0] = PAVEMENT
        cv2.copyTo(np.full_like(labels, ROAD), hole, labels)
        cv2.copyTo(np.full_like(labels, PAVEMENT), face, labels)
        colours = self._colours(canvas, s, hole, top)
        sunlit = np.array(_KERB_STONE) * canvas.light.gain(np.array([0.0, 0, 1])) * 0.82
        colours[face[top:] > 0, :3] = np.clip(sunlit, 0, 255)
        cv2.insertChannel(labels[top:], colours, 3)
        cv2.copyTo(colours, below[top:], canvas.pixels[top:])

    def _mask(self, canvas: Canvas, outlines: list[np.ndarray], z: float) -> np.ndarray:
        mask = np.zeros(canvas.view.size, np.uint8)
        for outline in outlines:
            world = np.column_stack([outline, np.full(len(outline), z)])
            canvas.outline_mask(canvas.pose.to_camera(world), mask)
        return mask

    def _colours(self, canvas: Canvas, s: float, hole: np.ndarray, top: int) -> np.ndarray:
        """Return (rows, width, 4) uint8: the atlas as seen from row top down."""
        height, width = canvas.view.size
        columns = (np.arange(-(-width // _GRID_PX) + 2) - 0.5) * _GRID_PX - 0.5
        rows = np.arange(top, height)
        direction = turned(canvas.view.rays(columns, rows), canvas.pose.rotation.T)
        reach = [self._reach(canvas, direction, z) for z in (KERB_M, 0.0)]
        depth, halve = self._levels(canvas, reach[1][:, len(columns) // 2])
        maps = self._maps(canvas, s, direction, reach, halve)
        whole = (len(columns) * _GRID_PX, len(rows))
        fine = [cv2.resize(part, whole)[:, _GRID_PX:_GRID_PX + width] for part in maps]
        wanted = np.ascontiguousarray(fine[0])
        cv2.copyTo(np.ascontiguousarray(fine[1]), hole[top:], wanted)
        image = np.empty((len(rows), width, 4), np.uint8)
        for start, stop in _runs(halve):
            level = self._texture.level(*halve[start])
            cv2.remap(level, wanted[start:stop], None, cv2.INTER_LINEAR, image[start:stop],
                      cv2.BORDER_REPLICATE)
        self._roughen(image, wanted, halve, depth, hole[top:])
        self._haze(canvas, image, reach[1][:, len(columns) // 2])
        return image

    def _reach(self, canvas: Canvas, direction: np.ndarray, z: float) -> np.ndarray:
        """Return how far each ray goes until it meets height z, in units of the ray."""
        down = np.maximum(-direction[..., 2], 1e-6)
        return np.minimum((canvas.pose.centre[2] - z) / down, _FAR_M)

    def _levels(self, canvas: Canvas, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Return by row how coarse the atlas may be.

        :return: (rows,) float64, how often it might be halved along the street, and (rows, 2)
            int, how often it is halved along and across.
        """
        pixel = reach / canvas.view.focal[1]
        along = np.log2(np.maximum(reach * pixel / canvas.pose.centre[2] / ALONG_M, 1))
        across = np.log2(np.maximum(pixel / ACROSS_M, 1))
        halve = np.stack([np.floor(along + 0.3), np.floor(across + 0.5)], axis=1)
        return along, halve.astype(int)

    def _maps(self, canvas: Canvas, s: float, direction: np.ndarray, reach: list[np.ndarray],
              halve: np.ndarray) -> list[np.ndarray]:
        """Return (rows, columns, 2) float32 a level: pixels (x, y) of each row's mip level."""
        height, width = self._texture.size
        shrink = np.array([self._texture.level(*step).shape[:2] for step in halve]) / (
            height, width)
        guess, maps = s + reach[0], []
        for metres, rounds in zip(reach, (3, 1), strict=True):
            x = canvas.pose.centre[0] + metres * direction[..., 0]
            y = canvas.pose.centre[1] + metres * direction[..., 1]
            along, across = self.road.to_street(x, y, guess, rounds)
            # The second level lies close to the first.
            guess = along
            column = (across + HALF_WIDTH_M) / ACROSS_M * shrink[:, 1:] - 0.5
            row = (along - self.atlas.start) / ALONG_M * shrink[:, :1] - 0.5
            maps.append(np.stack([np.clip(column, -9, width), np.clip(row, -9, height)],
                                 axis=-1).astype(np.float32))
        return maps

    def _roughen(self, image: np.ndarray, wanted: np.ndarray, halve: np.ndarray,
                 depth: np.ndarray, hole: np.ndarray) -> None:
        """Put the grain of asphalt, finer than the atlas, on the near rows, in place."""
        near = halve[:, 0] <= _GRAIN_LEVELS
        top = int(np.argmax(near)) if near.any() else len(near)
        if top == len(near):
            return
        # From texels of each row's level to texels of the grain.
        finer = (np.array([ACROSS_M, ALONG_M]) / _GRAIN_M * 2.0 ** halve[top:, ::-1])
        place = wanted[top:] * finer.astype(np.float32)[:, None, :]
        # The grain repeats; remap cannot address more than 32767 pixels.
        size = len(self._grain)
        place -= np.floor(place.min(axis=(0, 1)) / size) * size
        stones = cv2.remap(self._grain, place, None, cv2.INTER_LINEAR,
                           borderMode=cv2.BORDER_WRAP)
        # Paving is much smoother.
        grain = cv2.convertScaleAbs(stones, alpha=0.35, beta=128 * 0.65)
        cv2.copyTo(stones, hole[top:], grain)
        # Towards the far rows it fades, as it falls below a pixel.
        fade = np.clip((_GRAIN_LEVELS + 1 - depth[top:]) / 1.5, 0, 1)
        part = image[top:]
        for start, stop in _runs(np.rint(fade * 8)[:, None].astype(int)):
            share = round(float(fade[start]) * 8) / 8
            table = np.full((1, 256, 4), 128, np.uint8)
            table[0, :, :3] = np.rint(128 + (np.arange(256)[:, None] - 128) * share)
            factor = cv2.LUT(cv2.merge([grain[start:stop]] * 4), table)
            cv2.multiply(part[start:stop], factor, part[start:stop], 1 / 128)

    def _haze(self, canvas: Canvas, image: np.ndarray, reach: np.ndarray) -> None:
        """Fade the far rows towards the horizon's colour, in place."""
        rows = int((reach > 15).sum())
        share = canvas.light.haze(reach[:rows]).astype(np.float32)[:, None, None]
        horizon = canvas.light.horizon.astype(np.float32)
        image[:rows, :, :3] = image[:rows, :, :3] * (1 - share) + horizon * share

    def shade(self, canvas: Canvas, outline: np.ndarray, gain: np.ndarray, blur_m: float) -> None:
        """
        Darken the ground within a world outline (k, 2): the shadow of something that moves.

        :param gain: (3,) factors on BGR where it is darkest.
        :param blur_m: width of the shadow's soft edge, metres.
        """
        corners = clip_near(canvas.pose.to_camera(
            np.column_stack([outline, np.zeros(len(outline))])))
        if len(corners) < 3:
            return
        points = canvas.view.project(corners)
        pixel = blur_m * canvas.view.focal[0] / max(float(corners[:, 2].min()), 1.0)
        reach = 2 * pixel + 1
        low = np.maximum(np.floor(points.min(axis=0) - reach).astype(int), 0)
        high = np.minimum(np.ceil(points.max(axis=0) + reach).astype(int) + 1,
                          canvas.view.size[::-1])
        if (high - low < 1).any():
            return
        mask = np.zeros((high - low)[::-1], np.uint8)
        cv2.fillPoly(mask, [fixed(points - low)], 255, cv2.LINE_8, SHIFT)
        if pixel > 0.5:
            mask = cv2.blur(mask, (2 * int(pixel) + 1, 2 * int(pixel * 0.5) + 1))
        table = np.full((1, 256, 4), 255, np.uint8)
        table[0, :, :3] = np.rint(255 - np.arange(256)[:, None] * (1 - gain))
        factor = cv2.LUT(cv2.merge([mask] * 4), table)
        target = canvas.pixels[low[1]:high[1], low[0]:high[0]]
        cv2.multiply(target, factor, target, 1 / 255)


@lru_cache(maxsize=1)
def _stones() -> np.ndarray:
    """Return the (512, 512) uint8 brightness (128 = 1) of the stones in asphalt; it tiles."""
    rng, size = np.random.default_rng(23), 512
    grain = np.zeros((size, size), np.float32)
    for sigma, weight in ((0.6, 1.0), (1.3, 0.4)):
        # Blurred with its own copies around it, so that its edges fit.
        layer = cv2.GaussianBlur(np.tile(rng.standard_normal((size, size), dtype=np.float32),
                                         (3, 3)), (0, 0), sigma)[size:2 * size, size:2 * size]
        grain += weight * layer / layer.std()
    return np.clip(128 * (1 + 0.165 * grain / grain.std()), 0, 255).astype(np.uint8)


def _below_horizon(canvas: Canvas) -> np.ndarray:
    """Return the canvas-sized mask (255) of rays that go down steeply enough to meet ground."""
    height, width = canvas.view.size
    corner = canvas.view.rays(np.array([-0.5, width - 0.5]), np.array([-0.5, height - 0.5]))
    square = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5],
                       [-0.5, height - 0.5]])
    down = -(corner @ canvas.pose.rotation)[..., 2] - _FLATTEST
    drop = np.array([down[0, 0], down[0, 1], down[1, 1], down[1, 0]])
    kept = []
    for index in range(4):
        a, b = drop[index - 1], drop[index]
        if (a > 0) != (b > 0):
            kept.append(square[index - 1] + (square[index] - square[index - 1]) * (a / (a - b)))
        if b > 0:
            kept.append(square[index])
    mask = np.zeros((height, width), np.uint8)
    if len(kept) >= 3:
        cv2.fillPoly(mask, [fixed(np.array(kept))], 255, cv2.LINE_8, SHIFT)
    return mask


def _runs(halve: np.ndarray) -> list[tuple[int, int]]:
    """Return (start, stop) of the runs of equal rows."""
    change = np.flatnonzero((halve[1:] != halve[:-1]).any(axis=1)) + 1
    edges = [0, *change.tolist(), len(halve)]
    return list(zip(edges[:-1], edges[1:], strict=True))
