"""Buildings: textured walls, pitched or flat roofs, gables, chimneys."""

from dataclasses import dataclass

import cv2
import numpy as np

from .camvid import BUILDING, SIGN
from .canvas import Canvas
from .facade import draw_skin, paint_front, paint_roof, paint_side, Skin
from .mesh import fan, Mesh, MeshBuilder
from .noise import jitter
from .plan import KERB_M
from .texture import Texture
from .view import fixed, SHIFT

_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class Panel:
    """
    One textured parallelogram of a building.

    :ivar origin: (3,) world, top left as seen from outside.
    :ivar right: (3,) world vector of the top edge.
    :ivar down: (3,) world vector of the left edge.
    :ivar normal: (3,) unit, outward.
    """

    texture: Texture
    origin: np.ndarray
    right: np.ndarray
    down: np.ndarray
    normal: np.ndarray


@dataclass(frozen=True, eq=False)
class Building:
    """
    A building on the ground.

    :ivar footprint: (4, 2) world corners, counter-clockwise.
    :ivar height: metres to the ridge or parapet; solid: to the eaves.
    :ivar walls: textured walls; drawn first.
    :ivar roofs: textured roof slopes; drawn after the walls.
    :ivar mesh: gutters, chimneys, parapets, hanging signs; drawn last.
    """

    footprint: np.ndarray
    height: float
    solid: float
    walls: tuple[Panel, ...]
    roofs: tuple[Panel, ...]
    mesh: Mesh
    sunlit: float = 1.0
    spread: float = 0.4

    def paint(self, canvas: Canvas) -> None:
        """Draw walls and roofs that look at the camera."""
        for panel in (*self.walls, *self.roofs):
            if (panel.origin - canvas.pose.centre) @ panel.normal < 0:
                gain = canvas.light.gain(panel.normal)
                canvas.plane(panel.texture, panel.origin, panel.right, panel.down, gain, BUILDING)


def _panel(texture: Texture, top_left: np.ndarray, top_right: np.ndarray,
           down: np.ndarray) -> Panel:
    right = top_right - top_left
    normal = np.cross(down, right)
    return Panel(texture, top_left, right, down, normal / np.linalg.norm(normal))


def make_building(rng: np.random.Generator, corners: np.ndarray, kind: str) -> Building:
    """
    Return a building.

    :param corners: (4, 2) world: front left, front right (as seen from the street), back right,
        back left.
    :param kind: 'shop', 'terrace', 'house' or 'office'.
    """
    low, high = {'shop': (8.0, 12.0), 'terrace': (6.0, 8.8), 'house': (5.4, 6.4),
                 'office': (10.5, 17.0)}[kind]
    height = float(rng.uniform(low, high))
    skin = draw_skin(rng)
    eaves = np.column_stack([corners, np.full(4, KERB_M + height)])
    down = -height * _UP
    lengths = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    flat = kind == 'office' or rng.random() < 0.12
    rise = 0.0 if flat else float(rng.uniform(2.0, 3.4))
    walls = [_panel(Texture(paint_front(rng, lengths[0], height, skin, kind)), eaves[0], eaves[1],
                    down)]
    rear = Texture(paint_side(rng, lengths[2], height, 0.0, skin))
    walls.append(_panel(rear, eaves[2], eaves[3], down))
    side = _side(rng, lengths[1], height, rise, skin)
    for i, j in ((1, 2), (3, 0)):
        walls.append(_panel(side, eaves[i] + rise * _UP, eaves[j] + rise * _UP,
                            down - rise * _UP))
    details = MeshBuilder(BUILDING)
    if flat:
        roofs: tuple[Panel, ...] = ()
        _parapet(details, eaves, skin.colour)
        top = height + 0.5
    else:
        roofs = _pitched(rng, details, eaves, rise)
        top = height + rise
        _chimneys(rng, details, eaves, rise)
    if kind == 'shop' and rng.random() < 0.45:
        _hanging_sign(rng, details, eaves)
    turned = corners if _area(corners) > 0 else corners[::-1]
    return Building(turned, top, KERB_M + height, tuple(walls), roofs, details.build())


def _area(corners: np.ndarray) -> float:
    after = np.roll(corners, -1, axis=0)
    return float((corners[:, 0] * after[:, 1] - corners[:, 1] * after[:, 0]).sum() / 2)


def _parapet(details: MeshBuilder, eaves: np.ndarray, colour: tuple[float, float, float]) -> None:
    """Add the upstand around a flat roof."""
    coping = (colour[0] * 0.85, colour[1] * 0.85, colour[2] * 0.85)
    for a, b in ((eaves[0], eaves[1]), (eaves[1], eaves[2]), (eaves[2], eaves[3]),
                 (eaves[3], eaves[0])):
        details.add(np.stack([a, b, b + 0.5 * _UP, a + 0.5 * _UP]), fan(4), coping,
                    inside=eaves.mean(axis=0))


def _side(rng: np.random.Generator, width: float, height: float, rise: float,
          skin: Skin) -> Texture:
    """Return a side wall with its gable, which fills the middle of the rise above the eaves."""
    image = paint_side(rng, width, height, rise, skin)
    if not rise:
        return Texture(image)
    rows, columns = image.shape[:2]
    alpha = np.zeros((rows, columns), np.uint8)
    eaves = rows * rise / (height + rise)
    outline = np.array([[columns / 2, 0], [columns, eaves], [columns, rows], [0, rows],
                        [0, eaves]]) - 0.5
    cv2.fillPoly(alpha, [fixed(outline)], 255, cv2.LINE_8, SHIFT)
    return Texture(image, alpha)


def _pitched(rng: np.random.Generator, details: MeshBuilder, eaves: np.ndarray,
             rise: float) -> tuple[Panel, ...]:
    """Return the two slopes of a roof whose ridge runs along the street; add the gutter."""
    middle = (eaves[[0, 1]] + eaves[[3, 2]]) / 2 + rise * _UP
    out = eaves[0] - eaves[3]
    out = out / np.linalg.norm(out)
    overhang = 0.35 * out - 0.35 * rise / np.linalg.norm((eaves[0] - eaves[3]) / 2) * _UP
    texture = Texture(paint_roof(rng, float(np.linalg.norm(eaves[1] - eaves[0])),
                                 float(np.linalg.norm(middle[0] - eaves[0]))))
    front = _panel(texture, middle[0], middle[1], eaves[0] + overhang - middle[0])
    back = _panel(texture, middle[1], middle[0], eaves[2] - middle[1])
    # The gutter along the eaves.
    edge = eaves[:2] + overhang
    details.add(np.stack([edge[0], edge[1], edge[1] - 0.12 * _UP, edge[0] - 0.12 * _UP]), fan(4),
                (60.0, 60.0, 62.0), inside=eaves.mean(axis=0))
    return front, back


def _chimneys(rng: np.random.Generator, details: MeshBuilder, eaves: np.ndarray,
              rise: float) -> None:
    for share in (0.06, 0.94):
        if rng.random() < 0.5:
            continue
        ridge = (eaves[0] + eaves[3]) / 2 * (1 - share) + (eaves[1] + eaves[2]) / 2 * share
        foot = ridge + (rise - 0.7) * _UP
        brick = jitter(rng, (66, 80, 116), 0.2)
        path = np.stack([foot, foot + 1.9 * _UP])
        turn = np.pi / 4 + np.arange(4) * np.pi / 2
        square = np.stack([np.cos(turn) * 0.55, np.sin(turn) * 0.4, np.zeros(4)], axis=1)
        details.rings(path[:, None, :] + square, np.array(brick), caps=True)
        for off in (-0.2, 0.2):
            pot = foot + np.array([off, 0, 1.9])
            details.tube(pot, pot + 0.45 * _UP, 0.13, 0.11, (62.0, 92.0, 150.0), sides=5)


def _hanging_sign(rng: np.random.Generator, details: MeshBuilder, eaves: np.ndarray) -> None:
    """Add a board that sticks out of the front at first-floor height."""
    share = rng.uniform(0.15, 0.85)
    out = eaves[0] - eaves[3]
    out = out / np.linalg.norm(out)
    foot = eaves[0] * (1 - share) + eaves[1] * share
    foot = np.array([foot[0], foot[1], KERB_M + 3.7])
    a, b = foot + 0.12 * out, foot + 0.95 * out
    details.label = SIGN
    colour = jitter(rng, ((40, 34, 120), (30, 28, 26), (50, 80, 40), (200, 204, 206),
                          (120, 60, 30))[int(rng.integers(5))], 0.15)
    details.plate(np.stack([a, b, b + 0.95 * _UP, a + 0.95 * _UP]), colour)
    inset, rim = 0.1 * out, 0.1 * _UP
    ink = (225.0, 226.0, 226.0) if sum(colour) < 330 else (50.0, 46.0, 120.0)
    for low in (0.28, 0.55):
        details.plate(np.stack([a + inset, b - inset, b - inset + rim, a + inset + rim])
                      + low * _UP, ink, bias_m=0.05)
    details.label = BUILDING
