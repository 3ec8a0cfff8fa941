"""Trees and hedges as cut-out pictures made of leaves, branches and light."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from .camvid import TREE
from .canvas import Canvas
from .noise import fractal, jitter, to_bytes
from .texture import Texture

TREE_KINDS = 18
_PX_PER_M = 46.0
_GAP_PX = 31
_LEAVES = ((44, 92, 74), (40, 78, 62), (52, 104, 92), (46, 84, 50), (50, 82, 86), (58, 100, 112),
           (48, 70, 54))


@dataclass(frozen=True, eq=False)
class TreeKind:
    """
    One picture of a tree, used by many.

    :ivar texture: cut-out picture; its bottom middle stands on the ground.
    :ivar width: metres across for a tree of height 1.
    """

    texture: Texture
    width: float


@dataclass(frozen=True, eq=False)
class Tree:
    """A tree: its picture turned to the camera at the trunk's place (3,), height in metres."""

    kind: TreeKind
    foot: np.ndarray
    height: float
    sunlit: float

    @property
    def footprint(self) -> np.ndarray:
        """(4, 2) world corners of the trunk."""
        square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.2
        return self.foot[:2] + square

    @property
    def spread(self) -> float:
        """Metres by which the crown is wider than the trunk."""
        return self.kind.width * self.height / 2

    @property
    def solid(self) -> float:
        """Metres up to which it lets nothing through."""
        return 0.0

    @property
    def mesh(self) -> None:
        """Nothing; it is a picture."""

    def paint(self, canvas: Canvas) -> None:
        """Draw the picture upright, square to the line of sight on the ground."""
        away = self.foot[:2] - canvas.pose.centre[:2]
        distance = np.linalg.norm(away)
        right = np.array([away[1], -away[0], 0.0]) / distance
        width = self.kind.width * self.height
        top = self.foot + np.array([0, 0, self.height]) - right * (width / 2)
        toward = np.array([-away[0], -away[1], distance * 1.2]) / distance
        gain = canvas.light.gain(toward / np.linalg.norm(toward), self.sunlit)
        canvas.plane(self.kind.texture, top, right * width, np.array([0, 0, -self.height]),
                     gain, TREE, hull=True)


@cache
def tree_kind(number: int) -> TreeKind:
    """Return one of the kinds of trees: round, broad, tall or conical; green to brown."""
    rng = np.random.default_rng([22, number])
    shape = str(rng.choice(('round', 'round', 'broad', 'tall', 'cone')))
    across, trunk = {'round': (0.72, 0.30), 'broad': (0.9, 0.26), 'tall': (0.42, 0.12),
                     'cone': (0.5, 0.1)}[shape]
    height = 512
    width = round(height * across)
    leaf = np.array(jitter(rng, _LEAVES[int(rng.integers(len(_LEAVES)))], 0.2))
    image = np.empty((height, width, 3), np.uint8)
    image[:] = leaf * 0.7
    alpha = np.zeros((height, width), np.uint8)
    _trunk(rng, image, alpha, trunk)
    _crown(rng, image, alpha, leaf, shape, trunk)
    # Sky and walls that are seen between leaves are labelled as the tree, as in CamVid and by the
    # rules of Cityscapes ("labels of foreground objects must never have holes").
    gap = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_GAP_PX, _GAP_PX))
    hull = cv2.morphologyEx(alpha, cv2.MORPH_CLOSE, gap)
    return TreeKind(Texture(image, alpha, hull), across)


def _trunk(rng: np.random.Generator, image: np.ndarray, alpha: np.ndarray, bare: float) -> None:
    """Draw the trunk and its boughs."""
    height, width = alpha.shape
    bark = jitter(rng, (54, 62, 72), 0.2)
    foot, fork = np.array([width / 2, height - 1.0]), np.array([
        width / 2 + rng.normal(0, 4), height * (1 - bare)])
    limbs = [(foot, fork, 9.0)]
    for _ in range(9):
        lean = rng.uniform(-1, 1)
        end = fork + np.array([lean * width * 0.36, -height * rng.uniform(0.15, 0.5)])
        limbs.append((fork + (end - fork) * 0.05, end, 4.0))
    for start, end, thick in limbs:
        for target, colour in ((image, bark), (alpha, 255)):
            for step in np.arange(0, 1, 0.25):
                a, b = start + (end - start) * step, start + (end - start) * (step + 0.25)
                cv2.line(target, (round(a[0]), round(a[1])), (round(b[0]), round(b[1])), colour,
                         max(1, round(thick * (1.15 - step * 0.8))))
    # Rounded: the bark is lighter on one side.
    column = np.abs(np.arange(width) - width / 2 + 2)[None, :, None]
    lower = slice(round(height * (1 - bare)), None)
    image[lower] = np.clip(image[lower] * (1.25 - np.minimum(column / 9, 1) * 0.55), 0, 255)


def _crown(rng: np.random.Generator, image: np.ndarray, alpha: np.ndarray, leaf: np.ndarray,
           shape: str, bare: float) -> None:
    """Draw clumps of leaves from the dark inside to the lit outside."""
    height, width = alpha.shape
    middle = np.array([width / 2, height * (1 - bare * 0.75) / 2])
    reach = np.array([width * 0.40, height * (1 - bare * 0.75) * 0.44])
    count = {'round': 95, 'broad': 110, 'tall': 70, 'cone': 80}[shape]
    turn, far = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.uniform(0, 1, count))
    place = middle + reach * np.stack([np.cos(turn), np.sin(turn)], axis=1) * far[:, None]
    if shape == 'cone':
        taper = np.clip((place[:, 1] - 8) / (2 * reach[1]), 0.06, 1)
        place[:, 0] = middle[0] + (place[:, 0] - middle[0]) * taper * 1.15
    size = np.sqrt(width * height * 0.7)
    _core(image, alpha, place, 0.05 * size, leaf * 0.36)
    # Inner clumps first, they lie deeper and darker.
    for index in np.argsort(-rng.uniform(0.2, 1, count) * (1.3 - far)):
        radius = rng.uniform(0.055, 0.095) * size
        if shape == 'cone':
            radius *= 0.5 + 0.6 * place[index, 1] / height
        up = 1 - place[index, 1] / (height * 0.9)
        light = 0.48 + 0.45 * up + 0.25 * far[index] * rng.uniform(0.6, 1.2)
        _clump(rng, image, alpha, place[index], radius, leaf * light)


def _core(image: np.ndarray, alpha: np.ndarray, place: np.ndarray, radius: float,
          colour: np.ndarray) -> None:
    """Draw the dark inside that is seen between the outer leaves."""
    for x, y in np.rint(place).astype(int).tolist():
        cv2.circle(image, (x, y), round(radius), colour.tolist(), -1)
        cv2.circle(alpha, (x, y), round(radius), 255, -1)


def _clump(rng: np.random.Generator, image: np.ndarray, alpha: np.ndarray, centre: np.ndarray,
           radius: float, colour: np.ndarray) -> None:
    count = 85
    turn, far = rng.uniform(0, 2 * np.pi, count), rng.uniform(0, 1, count) ** 0.6
    offset = np.stack([np.cos(turn), np.sin(turn) * 0.85], axis=1) * far[:, None]
    size, tilt = rng.uniform(1.6, 3.8, count), rng.uniform(0, 180, count)
    # Lit from above: a leaf's light grows towards the clump's top.
    light = 0.78 - 0.34 * offset[:, 1] + 0.14 * rng.standard_normal(count)
    shades = np.clip(colour * np.clip(light, 0.25, 1.5)[:, None], 0, 255)
    spots = np.rint((centre + offset * radius) * 4).astype(int)
    for index in np.argsort(light).tolist():
        axes = (round(size[index] * 4), round(size[index] * 2.6))
        spot, angle = spots[index].tolist(), float(tilt[index])
        cv2.ellipse(image, spot, axes, angle, 0, 360, shades[index].tolist(), -1, cv2.LINE_8, 2)
        cv2.ellipse(alpha, spot, axes, angle, 0, 360, 255, -1, cv2.LINE_8, 2)


def paint_hedge(rng: np.random.Generator, width: float, height: float) -> Texture:
    """Return a hedge's face: dense leaves with a ragged top; metres."""
    shape = (max(8, round(height * _PX_PER_M)), max(8, round(width * _PX_PER_M)))
    leaf = np.array(jitter(rng, _LEAVES[int(rng.integers(len(_LEAVES)))], 0.15), np.float32)
    relief = fractal(rng, shape, [24, 10, 5, 2.6], falloff=0.85)
    lit = cv2.GaussianBlur(relief, (0, 0), 1.2)
    # Light from above: a slope that faces up is bright.
    slope = np.diff(lit, axis=0, append=lit[-1:])
    up = np.linspace(1.12, 0.62, shape[0], dtype=np.float32)[:, None]
    value = np.clip(up * (0.82 + 0.55 * slope + 0.2 * relief), 0.15, 1.9)
    ragged = fractal(rng, (1, shape[1]), [(1, 30), (1, 9), (1, 3)], falloff=0.8)[0]
    top = np.clip(0.05 * shape[0] * (1.2 + ragged), 0, shape[0] / 3)
    alpha = np.where(np.arange(shape[0])[:, None] >= top[None, :], 255, 0).astype(np.uint8)
    return Texture(to_bytes(leaf * value[..., None]), alpha)
