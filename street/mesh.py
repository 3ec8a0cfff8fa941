"""Polygon meshes: a builder for boxes, tubes, discs and lofts, and moving them about."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .algebra import turned

Colour = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Mesh:
    """
    Flat-coloured quadrilaterals (a triangle repeats its last corner).

    :ivar vertices: (V, 3) float64, metres.
    :ivar faces: (F, 4) int, corners of each face; outward faces run counter-clockwise.
    :ivar colours: (F, 3) float64 BGR display colour in full light.
    :ivar gloss: (F,) how much of the surroundings it mirrors, 0..1.
    :ivar glow: (F,) 1 for lamps, which don't need light.
    :ivar labels: (F,) class ids.
    :ivar bias_m: (F,) by how much nearer a face is sorted (decals on a surface).
    :ivar two_sided: (F,) bool, seen from both sides.
    :ivar fine: (F,) bool, left out from afar; must not change the outline.
    :ivar unseen: (F,) bool, has a label but no colour: a hole that counts as what it is in.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    gloss: np.ndarray
    glow: np.ndarray
    labels: np.ndarray
    bias_m: np.ndarray
    two_sided: np.ndarray
    fine: np.ndarray
    unseen: np.ndarray

    @cached_property
    def normals(self) -> np.ndarray:
        """(F, 3) float64 unit normals."""
        normal = _face_normals(self.vertices[self.faces])
        length = np.sqrt((normal * normal).sum(axis=1, keepdims=True))
        return np.asarray(normal / np.maximum(length, 1e-12))

    @cached_property
    def centres(self) -> np.ndarray:
        """(F, 3) float64 middles of the faces."""
        return np.asarray(self.vertices[self.faces].mean(axis=1))

    def placed(self, yaw: float, position: np.ndarray) -> 'Mesh':
        """Return the mesh turned about z by yaw (radians) and moved to position (3,)."""
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0],
                         [0, 0, 1.0]])
        moved = replace(self, vertices=turned(self.vertices, turn) + position)
        # What the cached properties would work out again.
        moved.__dict__['normals'] = turned(self.normals, turn)
        moved.__dict__['centres'] = turned(self.centres, turn) + position
        return moved


class MeshBuilder:
    """Collects faces; ``label`` and ``fine`` hold for all that is added until they change."""

    def __init__(self, label: int) -> None:
        self.label = label
        self.fine = False
        self._vertices: list[np.ndarray] = []
        self._faces: list[np.ndarray] = []
        self._looks: list[np.ndarray] = []
        self._count = 0

    def add(self, vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray | Colour, *,
            gloss: float | np.ndarray = 0.0, glow: float = 0.0, bias_m: float = 0.0,
            two_sided: bool = False, unseen: bool = False,
            inside: np.ndarray | None = None) -> None:
        """
        Add faces over vertices.

        :param colours: one BGR colour or (F, 3).
        :param inside: (3,) a point inside; faces are turned so that they look away from it.
        """
        vertices = np.asarray(vertices, float).reshape(-1, 3)
        faces = np.asarray(faces, int).reshape(-1, 4)
        if inside is not None:
            corner = vertices[faces]
            normal = _face_normals(corner)
            inward = ((corner.mean(axis=1) - inside) * normal).sum(axis=1) < 0
            faces = np.where(inward[:, None], faces[:, ::-1], faces)
        looks = np.empty((len(faces), 10))
        looks[:, :3] = colours
        looks[:, 3], looks[:, 4], looks[:, 5] = gloss, glow, self.label
        looks[:, 6], looks[:, 7], looks[:, 8] = bias_m, two_sided, self.fine
        looks[:, 9] = unseen
        self._vertices.append(vertices)
        self._faces.append(faces + self._count)
        self._looks.append(looks)
        self._count += len(vertices)

    def plate(self, corners: np.ndarray, colour: Colour, *, gloss: float = 0.0,
              glow: float = 0.0, bias_m: float = 0.0) -> None:
        """Add a flat polygon of 3 or more corners (convex), seen from both sides."""
        corners = np.asarray(corners, float)
        self.add(corners, fan(len(corners)), colour, gloss=gloss, glow=glow, bias_m=bias_m,
                 two_sided=True)

    def hole(self, corners: np.ndarray) -> None:
        """Label what is seen through a flat convex polygon (k, 3) without hiding it."""
        self.add(corners, fan(len(corners)), (0.0, 0.0, 0.0), two_sided=True, unseen=True)

    def box(self, low: tuple[float, float, float], high: tuple[float, float, float],
            colour: Colour, *, gloss: float = 0.0, glow: float = 0.0,
            bias_m: float = 0.0) -> None:
        """Add an axis-aligned box."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        vertices = np.array([[x, y, z] for z in (z0, z1) for x, y in
                             ((x0, y0), (x1, y0), (x1, y1), (x0, y1))])
        faces = np.array([[0, 3, 2, 1], [4, 5, 6, 7], [0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6],
                          [3, 0, 4, 7]])
        self.add(vertices, faces, colour, gloss=gloss, glow=glow, bias_m=bias_m)

    def tube(self, start: np.ndarray, end: np.ndarray, radius: float, end_radius: float,
             colour: Colour, *, sides: int = 6, gloss: float = 0.0, bias_m: float = 0.0) -> None:
        """Add a cylinder or cone (open ends) from start to end, both (3,)."""
        rings = tube_rings(np.stack([start, end]), np.array([radius, end_radius]), sides)
        self.rings(rings, np.asarray(colour, float), gloss=gloss, bias_m=bias_m)

    def rings(self, rings: np.ndarray, colours: np.ndarray, *, gloss: float | np.ndarray = 0.0,
              bias_m: float = 0.0, caps: bool = False) -> None:
        """
        Add the skin over closed rings of points.

        :param rings: (n, sides, 3).
        :param colours: (3,) or one a face ((n - 1) * sides, 3).
        :param caps: whether the first and last ring are closed.
        """
        count, sides = rings.shape[:2]
        index = np.arange(count * sides).reshape(count, sides)
        turned = np.roll(index, -1, axis=1)
        faces = np.stack([index[:-1], turned[:-1], turned[1:], index[1:]], -1).reshape(-1, 4)
        vertices = rings.reshape(-1, 3)
        # Each band is turned on its own middle, so bent skins come out right as well.
        middle = (rings[:-1].mean(axis=1) + rings[1:].mean(axis=1)) / 2
        corner = vertices[faces]
        normal = _face_normals(corner)
        away = corner.mean(axis=1) - np.repeat(middle, sides, axis=0)
        inward = (away * normal).sum(axis=1) < 0
        faces = np.where(inward[:, None], faces[:, ::-1], faces)
        self.add(vertices, faces, colours, gloss=gloss, bias_m=bias_m)
        if caps:
            colour = np.atleast_2d(colours)
            for ring, shade in ((rings[0], colour[0]), (rings[-1], colour[-1])):
                self.add(ring, fan(sides), shade, bias_m=bias_m, inside=vertices.mean(axis=0))

    def build(self) -> Mesh:
        """Return the mesh of all that was added."""
        looks = np.concatenate(self._looks)
        return Mesh(np.concatenate(self._vertices), np.concatenate(self._faces), looks[:, :3],
                    looks[:, 3], looks[:, 4], looks[:, 5].astype(np.uint8), looks[:, 6],
                    looks[:, 7] > 0, looks[:, 8] > 0, looks[:, 9] > 0)


def _face_normals(corners: np.ndarray) -> np.ndarray:
    """Return (F, 3) outward normals (not unit) of faces (F, 4, 3)."""
    # Written out: numpy's cross costs more than all else here.
    a, b = (corners[:, 2] - corners[:, 0]).T, (corners[:, 3] - corners[:, 1]).T
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2],
                     a[0] * b[1] - a[1] * b[0]], axis=1)


def fan(corners: int) -> np.ndarray:
    """Return (F, 4) faces that fill a convex polygon of that many corners."""
    faces = [[0, i, i + 1, min(i + 2, corners - 1)] for i in range(1, corners - 1, 2)]
    return np.array(faces)


def disc(centre: np.ndarray, across: np.ndarray, up: np.ndarray, radius: float,
         corners: int) -> np.ndarray:
    """Return (corners, 3) points of a circle spanned by two unit vectors."""
    angle = 2 * np.pi * (np.arange(corners) + 0.5) / corners
    return (centre + radius * (np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * up))


def tube_rings(path: np.ndarray, radii: np.ndarray, sides: int) -> np.ndarray:
    """
    Return (n, sides, 3): circles of the given radii square to a path (n, 3).

    All circles share the frame of the whole path, which suits nearly straight ones.
    """
    axis = path[-1] - path[0]
    axis = axis / max(float(np.linalg.norm(axis)), 1e-9)
    helper = np.array([1.0, 0, 0]) if abs(axis[2]) > 0.7 else np.array([0, 0, 1.0])
    across = _cross(axis, helper)
    across = across / np.sqrt(across @ across)
    up = _cross(axis, across)
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    circle = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * up
    return path[:, None, :] + radii[:, None, None] * circle


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2],
                     a[0] * b[1] - a[1] * b[0]])
