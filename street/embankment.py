"""Grassy banks beside a road."""

from dataclasses import dataclass

import numpy as np

from .camvid import TREE
from .canvas import Canvas
from .noise import fractal, tinted, to_bytes
from .plan import KERB_M
from .texture import Texture

_PX_PER_M = 32.0


def make_bank_kind(rng: np.random.Generator, grass: tuple[float, float, float], length: float,
                   slope: float) -> Texture:
    """Return the look of a piece of bank, metres along and up the slope."""
    shape = (round(slope * _PX_PER_M), round(length * _PX_PER_M))
    blades = fractal(rng, shape, [(40, 60), (12, 14), (5, 4), (2, 1)], falloff=0.8)
    return Texture(to_bytes(tinted(grass, blades, 0.14)))


@dataclass(frozen=True, eq=False)
class Bank:
    """
    A piece of bank.

    :ivar corners: (4, 2) world: crest left and right as seen from the road, foot right and left.
    :ivar rise: metres from foot to crest.
    """

    texture: Texture
    corners: np.ndarray
    rise: float
    mesh: None = None
    sunlit: float = 1.0
    spread: float = 0.0
    solid: float = 0.0

    @property
    def footprint(self) -> np.ndarray:
        """(4, 2) world corners, counter-clockwise."""
        along, down = self.corners[1] - self.corners[0], self.corners[2] - self.corners[1]
        return self.corners if along[0] * down[1] > along[1] * down[0] else self.corners[::-1]

    @property
    def height(self) -> float:
        """Metres to the crest."""
        return KERB_M + self.rise

    def paint(self, canvas: Canvas) -> None:
        """Draw the slope."""
        top = np.array([*self.corners[0], KERB_M + self.rise])
        right = np.append(self.corners[1] - self.corners[0], 0.0)
        down = np.append(self.corners[3] - self.corners[0], -self.rise)
        normal = np.cross(down, right)
        gain = canvas.light.gain(normal / np.linalg.norm(normal))
        canvas.plane(self.texture, top, right, down, gain, TREE)
