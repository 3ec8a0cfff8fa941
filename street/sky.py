"""The sky: a world-anchored panorama of gradient and clouds."""

import cv2
import numpy as np

from .algebra import turned
from .camvid import SKY, TREE
from .canvas import Canvas
from .noise import fractal, jitter, tinted, to_bytes
from .style import Style

_PX_PER_DEGREE = 8
_HALF_WIDTH_DEG = 180
_TOP_DEG = 60
_GRID_PX = 16
_COARSE = 2


class Sky:
    """Sky panorama over all directions, azimuth from -180 to 180 degrees, up to 60 above."""

    def __init__(self, rng: np.random.Generator, style: Style) -> None:
        size = (_TOP_DEG * _PX_PER_DEGREE, 2 * _HALF_WIDTH_DEG * _PX_PER_DEGREE)
        # Rows from the top (60 degrees) down to the horizon.
        height = np.linspace(1, 0, size[0], dtype=np.float32)[:, None, None]
        fade = np.clip(height * 1.6, 0, 1) ** 0.7
        sky = style.light.horizon * (1 - fade) + style.zenith * fade
        # Clouds are seen flatter the nearer they are to the horizon.
        grains = [(40 * scale, 130 * scale) for scale in (1.6, 0.8, 0.4, 0.2, 0.1, 0.05)]
        cover = fractal(rng, size, grains, falloff=0.62)
        edge = np.clip((cover + (style.clouds - 0.5) * 3.2) / 1.6 + 0.5, 0, 1)[..., None]
        shade = fractal(rng, size, grains[1:], falloff=0.6)[..., None]
        white = np.array([252, 250, 248], np.float32) * (0.35 + 0.65 * style.light.horizon / 245)
        strength = 0.9 if style.clouds > 0.5 else 0.75
        clouds = white * (1 + 0.05 * shade * (0.4 + style.clouds))
        sky = sky * (1 - strength * edge) + clouds * strength * edge
        sky = sky + self._glare(style, size)
        self._panorama = np.dstack([to_bytes(sky), np.full(size, SKY, np.uint8)])
        self._hills = style.hills_deg > 0
        if self._hills:
            self._raise_hills(rng, style)

    def _raise_hills(self, rng: np.random.Generator, style: Style) -> None:
        """Paint two ranges of hills over the panorama's foot, the far one paler."""
        height, width = self._panorama.shape[:2]
        up = np.arange(height, 0, -1)[:, None] / _PX_PER_DEGREE
        for share, haze in ((1.0, rng.uniform(0.45, 0.75)), (0.6, rng.uniform(0.15, 0.45))):
            crest = fractal(rng, (1, width), [(1, 500), (1, 160), (1, 40), (1, 8)], falloff=0.45)
            crest = style.hills_deg * share * np.clip(0.6 + 0.35 * crest, 0.05, None)
            wood = jitter(rng, ((70, 92, 78), (84, 104, 100), (96, 140, 160))[
                int(rng.integers(3))], 0.2)
            patches = fractal(rng, (height, width), [(24, 90), (8, 24), (2, 5)], falloff=0.7)
            lit = style.light.gain(np.array([0.0, 0.0, 1.0]))
            colour = tinted(wood, patches, 0.14) * lit * (1 - haze) + style.light.horizon * haze
            hill = up < crest
            self._panorama[hill] = np.dstack([to_bytes(colour), np.full(
                (height, width), TREE, np.uint8)])[hill]

    @staticmethod
    def _glare(style: Style, size: tuple[int, int]) -> np.ndarray:
        """Return (h, w, 1): the brightness around the sun."""
        sun = style.light.towards_sun
        azimuth = np.radians(np.linspace(-_HALF_WIDTH_DEG, _HALF_WIDTH_DEG, size[1]))[None, :]
        elevation = np.radians(np.linspace(_TOP_DEG, 0, size[0]))[:, None]
        cosine = (np.cos(elevation) * (np.cos(azimuth) * sun[0] - np.sin(azimuth) * sun[1])
                  + np.sin(elevation) * sun[2])
        glare = np.exp(-(1 - cosine) * 9) * 150 * min(1.0, float(style.light.sun.mean()))
        return glare[..., None].astype(np.float32)

    def draw(self, canvas: Canvas, rows: int) -> None:
        """Fill the canvas's first rows."""
        if rows <= 0:
            return
        width = canvas.view.size[1]
        small = (-(-rows // _COARSE), -(-width // _COARSE))
        step = _GRID_PX * _COARSE
        # One grid cell more on every side, so that no pixel lies outside its centres.
        grid = (-(-rows // step) + 2, -(-width // step) + 2)
        centres = [(np.arange(count) - 0.5) * step - 0.5 for count in grid]
        direction = turned(canvas.view.rays(centres[1], centres[0]), canvas.pose.rotation.T)
        azimuth = -np.degrees(np.arctan2(direction[..., 1], direction[..., 0]))
        elevation = np.degrees(np.arctan2(direction[..., 2],
                                          np.hypot(direction[..., 0], direction[..., 1])))
        maps = np.stack([(azimuth + _HALF_WIDTH_DEG) * _PX_PER_DEGREE,
                         (_TOP_DEG - elevation) * _PX_PER_DEGREE], -1).astype(np.float32)
        fine = cv2.resize(maps, (grid[1] * _GRID_PX, grid[0] * _GRID_PX))
        fine = np.ascontiguousarray(fine[_GRID_PX:_GRID_PX + small[0],
                                         _GRID_PX:_GRID_PX + small[1]])
        sky = cv2.remap(self._panorama, fine, None, cv2.INTER_LINEAR,
                        borderMode=cv2.BORDER_REPLICATE)
        full = cv2.resize(sky, (small[1] * _COARSE, small[0] * _COARSE))
        canvas.pixels[:rows] = full[:rows, :width]
        if self._hills:
            label = canvas.pixels[:rows, :, 3]
            label[...] = np.where(label > (SKY + TREE) / 2, TREE, SKY)
