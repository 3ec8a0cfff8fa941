"""What runs along a road: hedges, fences, railings, walls, concrete barriers, guard rails."""

from dataclasses import dataclass

import numpy as np

from .camvid import BUILDING, FENCE, TREE
from .canvas import Canvas
from .foliage import paint_hedge
from .mesh import fan, Mesh, MeshBuilder
from .noise import fractal, jitter, tinted, to_bytes
from .plan import KERB_M
from .road import Road
from .texture import Texture

_PX_PER_M = 50.0
_PIECE_M = 4.0
_SHORTEST_M = 0.5
KINDS = ('hedge', 'boards', 'picket', 'railings', 'wall')
BARRIERS = ('barrier', 'parapet', 'noise_wall', 'guard_rail')
_HEIGHTS = {'hedge': (1.1, 2.0), 'boards': (1.2, 1.8), 'picket': (0.9, 1.15),
            'railings': (1.0, 1.4), 'wall': (0.6, 1.1), 'barrier': (0.75, 1.4),
            'parapet': (0.45, 0.8), 'noise_wall': (2.2, 4.0), 'guard_rail': (0.7, 0.8)}
_CONCRETE = ('barrier', 'parapet', 'noise_wall')
_THICKNESS = {'hedge': 0.7, 'boards': 0.06, 'picket': 0.05, 'railings': 0.05, 'wall': 0.25,
              'barrier': 0.35, 'parapet': 0.35, 'noise_wall': 0.25, 'guard_rail': 0.08}


@dataclass(frozen=True, eq=False)
class BoundaryKind:
    """
    A make of boundary, used along one plot.

    :ivar kind: one of KINDS or BARRIERS.
    :ivar length: metres that the texture covers; pieces are that long.
    """

    kind: str
    height: float
    length: float
    texture: Texture
    top: tuple[float, float, float]

    @property
    def label(self) -> int:
        """Its class id; walls of brick or concrete are Building, as in CamVid."""
        if self.kind == 'wall' or self.kind in _CONCRETE:
            return BUILDING
        return TREE if self.kind == 'hedge' else FENCE


class Boundary:
    """
    One straight piece of a boundary.

    :ivar kind: its make.
    :ivar footprint: (4, 2) world corners, counter-clockwise.
    :ivar mesh: its top and ends where it is thick, else None.
    """

    sunlit, spread = 1.0, 0.0

    def __init__(self, kind: BoundaryKind, corners: np.ndarray, base: float = KERB_M) -> None:
        """
        Take a place.

        :param corners: (4, 2) world: start and end on the street's side, end and start behind.
        :param base: height of the ground it stands on, metres.
        """
        self.kind = kind
        a, b, c = corners[:3]
        turn = (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])
        self.footprint = corners if turn > 0 else corners[::-1]
        self.height = kind.height + base - KERB_M
        self.solid = self.height if kind.kind in ('boards', 'wall', *_CONCRETE) else 0.0
        self._low = np.column_stack([corners, np.full(4, base)])
        self._normal = _outward(self._low[1] - self._low[0], self._low[0] - self._low[3])
        self.mesh = self._block() if _THICKNESS[kind.kind] > 0.1 else None

    def _block(self) -> Mesh:
        """Return the top and the two ends."""
        low = self._low
        # A hedge's leaves stand up beyond its top.
        top = low + [0, 0, self.kind.height * (0.93 if self.kind.kind == 'hedge' else 1.0)]
        builder, inside = MeshBuilder(self.kind.label), (low + top).mean(axis=0) / 2
        builder.add(top, fan(4), self.kind.top, inside=inside)
        for i, j in ((1, 2), (3, 0)):
            builder.add(np.stack([low[i], low[j], top[j], top[i]]), fan(4), self.kind.top,
                        inside=inside)
        if self.kind.kind == 'parapet':
            _tube_rail(builder, top)
        return builder.build()

    def paint(self, canvas: Canvas) -> None:
        """Draw its face."""
        start, along = self._low[0], self._low[1] - self._low[0]
        side = along[0] * (canvas.pose.centre[1] - start[1]) - along[1] * (
            canvas.pose.centre[0] - start[0])
        if side > 0:
            start, along = self._low[1], -along
        canvas.plane(self.kind.texture, start + [0, 0, self.kind.height], along,
                     np.array([0, 0, -self.kind.height]), canvas.light.gain(self._normal),
                     self.kind.label, hull=self.kind.kind in ('railings', 'picket'))


def _outward(along: np.ndarray, away: np.ndarray) -> np.ndarray:
    """Return the horizontal unit normal of a face that looks the way of ``away``."""
    normal = np.array([along[1], -along[0], 0.0])
    normal = normal / max(float(np.linalg.norm(normal)), 1e-9)
    return normal if normal @ away >= 0 else -normal


def make_boundary_kind(rng: np.random.Generator, kind: str, length: float) -> BoundaryKind:
    """Return a make of boundary whose pieces are that long (metres)."""
    height = float(rng.uniform(*_HEIGHTS[kind]))
    if kind == 'hedge':
        texture = paint_hedge(rng, length, height)
        mean = texture.level(0, 0)[..., :3].reshape(-1, 3).mean(axis=0)
        return BoundaryKind(kind, height, length, texture,
                            (float(mean[0]), float(mean[1]), float(mean[2])))
    shape = (round(height * _PX_PER_M), round(length * _PX_PER_M))
    paint = {'boards': _boards, 'picket': _picket, 'railings': _railings, 'wall': _wall,
             'guard_rail': _guard_rail}.get(kind, _concrete)
    image, alpha = paint(rng, shape)
    top = {'wall': (150.0, 156.0, 158.0)}.get(kind, (90.0, 100.0, 110.0))
    if kind in _CONCRETE:
        b, g, r = image[0].mean(axis=0)
        top = (float(b), float(g), float(r))
    return BoundaryKind(kind, height, length, Texture(image, alpha), top)


def boundary_row(rng: np.random.Generator, road: Road, name: str, d: float,
                 span: tuple[float, float], base: float = KERB_M) -> list[Boundary]:
    """
    Return straight pieces of one make that follow the road.

    :param name: one of KINDS or BARRIERS.
    :param d: where their front stands; they reach away from the road's middle.
    :param span: from and to s, metres.
    :param base: height of the ground, metres.
    """
    count = max(1, round((span[1] - span[0]) / _PIECE_M))
    length = (span[1] - span[0]) / count
    if length < _SHORTEST_M:
        return []
    kind = make_boundary_kind(rng, name, length)
    points = road.to_world(np.linspace(*span, count + 1), d)
    row = []
    for start, end in zip(points[:-1], points[1:], strict=True):
        along = (end - start) / np.linalg.norm(end - start)
        depth = np.array([-along[1], along[0]]) * np.sign(d) * _THICKNESS[name]
        row.append(Boundary(kind, np.stack([start, end, end + depth, start + depth]), base))
    return row


def _boards(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, None]:
    wood = jitter(rng, ((70, 96, 122), (84, 108, 126), (58, 74, 92))[int(rng.integers(3))], 0.15)
    image = tinted(wood, fractal(rng, shape, [(30, 4), (12, 2)]), 0.09)
    board = np.arange(shape[1]) // 7
    each = 1 + 0.08 * rng.standard_normal(board[-1] + 1, dtype=np.float32)
    image *= each[board][None, :, None]
    image[:, np.arange(shape[1]) % 7 == 0] *= 0.55
    image[:2] *= 1.15
    image[-8:] *= 0.7
    image[:, :5] *= 0.75
    return to_bytes(image), None


def _picket(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    paint = jitter(rng, (206, 210, 212) if rng.random() < 0.7 else (88, 110, 84), 0.1)
    image = tinted(paint, fractal(rng, shape, [20, 5]), 0.05)
    phase = np.arange(shape[1]) % 7
    solid = np.repeat((phase < 5)[None, :], shape[0], axis=0)
    for share in (0.25, 0.75):
        row = round(share * shape[0])
        solid[row - 2:row + 3] = True
        image[row + 3:row + 5] *= 0.75
    solid[0, (phase < 1) | (phase > 3)] = False
    image[:, phase == 4] *= 0.8
    return to_bytes(image), np.where(solid, 255, 0).astype(np.uint8)


def _railings(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    paint = (40.0, 40.0, 40.0) if rng.random() < 0.6 else jitter(rng, (140, 142, 142), 0.15)
    image = tinted(paint, fractal(rng, shape, [8, 3]), 0.08)
    column = np.arange(shape[1])
    solid = np.repeat((column % 6 < 2)[None, :], shape[0], axis=0)
    for row in (3, shape[0] - 7):
        solid[row:row + 3] = True
    solid[:, column % 75 < 4] = True
    image[:, column % 6 == 0] *= 1.3
    return to_bytes(image), np.where(solid, 255, 0).astype(np.uint8)


def _wall(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, None]:
    brick = jitter(rng, ((60, 78, 122), (104, 140, 162))[int(rng.integers(2))], 0.15)
    image = tinted(brick, fractal(rng, shape, [(40, 60), (12, 12), 3]), 0.07)
    row, column = np.arange(shape[0]) // 4, np.arange(shape[1])
    index = (column[None, :] + (row % 2 * 5)[:, None]) // 11
    each = rng.standard_normal((row[-1] + 1, index.max() + 1), dtype=np.float32)
    image *= (1 + 0.1 * each[row[:, None], index])[..., None]
    image[np.arange(shape[0]) % 4 == 0] *= 0.85
    image[:4] = (150, 156, 158)
    image[4:6] *= 0.6
    return to_bytes(image), None


def _concrete(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, None]:
    """Cast concrete, from smooth to stained, dirty at the foot, with a joint at each end."""
    grey = float(rng.uniform(75, 190))
    stains = fractal(rng, shape, [(60, 40), (25, 12), (80, 4), (4, 4)], falloff=0.7)
    image = tinted(jitter(rng, (grey * 0.96, grey, grey * 1.02), 0.06), stains,
                   float(np.exp(rng.uniform(np.log(0.008), np.log(0.13)))))
    down = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None, None]
    image *= 1 - float(rng.uniform(0.0, 0.35)) * down ** 2
    if rng.random() < 0.3:
        # Boards of the mould left their lines.
        image[np.arange(shape[0]) % int(rng.integers(9, 16)) == 0] *= 0.9
    image[:, :2] *= float(rng.uniform(0.6, 1.0))
    image[:int(rng.integers(2, 8))] *= float(rng.uniform(1.0, 1.35))
    return to_bytes(image), None


def _guard_rail(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[
        np.ndarray, np.ndarray]:
    """Steel: a beam with two waves on posts two metres apart."""
    image = tinted(jitter(rng, (158, 162, 162), 0.15), fractal(rng, shape, [(6, 60), 4]), 0.06)
    beam = round(0.45 * shape[0])
    wave = np.cos(np.linspace(0, 4 * np.pi, beam, dtype=np.float32))
    image[:beam] *= (1 + 0.22 * wave)[:, None, None]
    solid = np.zeros(shape, np.uint8)
    solid[:beam] = 255
    for column in range(10, shape[1], 100):
        solid[:, column:column + 7] = 255
        image[beam:, column:column + 7] *= 0.6
    image[beam:beam + 3] *= 0.6
    return to_bytes(image), solid


def _tube_rail(builder: MeshBuilder, top: np.ndarray) -> None:
    """Add a steel tube on brackets above a wall's top (4, 3)."""
    builder.label = FENCE
    steel, rise = (150.0, 154.0, 154.0), np.array([0.0, 0.0, 0.3])
    start, end = (top[0] + top[3]) / 2, (top[1] + top[2]) / 2
    for share in (0.17, 0.5, 0.83):
        foot = start + share * (end - start)
        builder.tube(foot, foot + rise, 0.09, 0.05, (128.0, 132.0, 134.0), sides=5)
    builder.tube(start + rise, end + rise, 0.075, 0.075, steel, sides=6)
