"""A motorway: lanes one way, concrete walls and guard rails, dry or green verges, big signs."""

import numpy as np

from .boundary import BARRIERS, Boundary, boundary_row
from .camvid import POLE, SIGN
from .embankment import Bank, make_bank_kind
from .foliage import Tree, tree_kind, TREE_KINDS
from .furniture import lamp_post
from .mesh import Mesh, MeshBuilder
from .noise import jitter
from .plan import Band, KERB_M, LANE_M, Motorway, other_carriageway, Plan, SIDES
from .props import place, Prop
from .road import Road

_PIECE_M = 4.0
_SPAN_M = (40.0, 140.0)
# What stands at the road's edge: along the other carriageway, and on the outer side.
_MEDIAN = {'barrier': 0.4, 'parapet': 0.35, 'guard_rail': 0.25}
_OUTER = {'verge': 0.4, 'guard_rail': 0.25, 'barrier': 0.15, 'parapet': 0.1, 'noise_wall': 0.1}
_GRASS = ((92, 146, 172), (120, 164, 184), (70, 118, 120), (56, 100, 90))


def draw_motorway(rng: np.random.Generator, start: float, end: float) -> Plan:
    """Return the plan of a motorway of two to four lanes; the car keeps to one of them."""
    left, right = ((1, 1), (1, 2), (2, 0), (2, 1), (3, 0), (1, 3), (2, 2))[int(rng.integers(7))]
    lanes = tuple((n + 0.5) * LANE_M for n in range(-right, left))
    bands = {}
    for side, count in ((1, left), (-1, right)):
        kerb = LANE_M * count + rng.uniform(0.6, 3.2 if count < 3 else 0.9)
        bands[side] = Band(kerb, kerb, parking=False, yellow=False)
    low, high = -bands[-1].kerb, bands[1].kerb
    concrete, s = [], start + rng.uniform(0, 80)
    while s < end and rng.random() < 0.75:
        length, skew = rng.uniform(15, 90), rng.uniform(-12, 12)
        inner = low if rng.random() < 0.5 else rng.uniform(low, high)
        concrete.append(np.array([[s, inner], [s + length, inner], [s + length + skew, high],
                                  [s + skew, high]]))
        s += length + rng.uniform(20, 120)
    for side, edge in ((1, high), (-1, low)):
        if rng.random() < 0.5:
            gutter = edge - side * rng.uniform(0.25, 0.6)
            concrete.append(np.array([[start, gutter], [end, gutter], [end, edge],
                                      [start, edge]]))
    grass = jitter(rng, _GRASS[int(rng.integers(len(_GRASS)))], 0.15)
    motorway = Motorway(lanes, int(rng.choice(SIDES)), bool(rng.random() < 0.5),
                        tuple(concrete), grass)
    return Plan(start, end, bands, (), (), (), motorway)


class MotorwayScenery:
    """
    Everything along a motorway.

    :ivar walls: what runs along its edges.
    :ivar trees: beside it.
    :ivar banks: slopes of its outer verge.
    :ivar posts: lamp posts and signs.
    """

    def __init__(self, rng: np.random.Generator, plan: Plan, road: Road,
                 motorway: Motorway) -> None:
        self._rng, self._plan, self._road, self._motorway = rng, plan, road, motorway
        numbers = rng.choice(TREE_KINDS, 5, replace=False)
        self._kinds = [tree_kind(int(number)) for number in numbers]
        self.walls: list[Boundary] = []
        self.trees: list[Tree] = []
        self.banks: list[Bank] = []
        self.posts: list[Prop] = []
        self._edge(motorway.median, _MEDIAN)
        self._edge(-motorway.median, _OUTER)
        self._beyond_the_median()
        self._outer_side()
        self._signs()
        self._far_end()

    def _edge(self, side: int, kinds: dict[str, float]) -> None:
        """Line one edge; every now and then what stands there changes."""
        rng, s, kerb = self._rng, self._plan.start, self._plan.bands[side].kerb
        names, shares = list(kinds), np.array(list(kinds.values()))
        while s < self._plan.end:
            stop = min(s + rng.uniform(*_SPAN_M), self._plan.end)
            name = names[int(rng.choice(len(names), p=shares / shares.sum()))]
            if name in BARRIERS:
                # A little inside the road, so that it covers the kerb.
                inside = 0.1 if name != 'guard_rail' else -0.2
                self._wall(name, side, kerb - inside, (s, stop), 0.0)
            s = stop

    def _wall(self, name: str, side: int, d: float, span: tuple[float, float],
              base: float) -> None:
        self.walls += boundary_row(self._rng, self._road, name, side * d, span, base)

    def _beyond_the_median(self) -> None:
        """Close the other carriageway with bushes and trees."""
        side, rng = self._motorway.median, self._rng
        far = other_carriageway(self._plan.bands[side].kerb)[1]
        self._wall('hedge', side, far + 0.1, (self._plan.start, self._plan.end), KERB_M)
        self._trees(side, far + 3.0, rng.uniform(5, 14), (5.0, 12.0))
        if rng.random() < 0.5:
            # Trees between the carriageways, as far as there is room.
            self._trees(side, self._plan.bands[side].kerb + 0.35, rng.uniform(12, 60), (6.0, 12.0))

    def _outer_side(self) -> None:
        """Shape the verge: flat or a bank, with a fence, bushes and trees behind."""
        side, rng = -self._motorway.median, self._rng
        near = self._plan.bands[side].kerb + rng.uniform(0.8, 3.0)
        rise = float(rng.uniform(1.0, 4.0)) if rng.random() < 0.6 else 0.0
        far = near + max(3.0, rise * rng.uniform(1.5, 3.0))
        if rise:
            self._bank(side, (near, far), rise)
        if rng.random() < 0.6:
            name = str(rng.choice(('railings', 'boards', 'hedge', 'picket')))
            self._wall(name, side, far + 0.3, (self._plan.start, self._plan.end), KERB_M + rise)
        if rng.random() < 0.5:
            # Near enough to throw their shadows on the lanes.
            self._trees(side, near + 0.8, rng.uniform(7, 25), (6.0, 12.0))
        self._trees(side, far + 2.0, rng.uniform(5, 18), (3.0 + rise, 9.0 + rise))
        self._trees(side, far + 9.0, rng.uniform(5, 9), (6.0 + rise, 13.0 + rise))

    def _bank(self, side: int, across: tuple[float, float], rise: float) -> None:
        kind = make_bank_kind(self._rng, self._motorway.grass, _PIECE_M,
                              float(np.hypot(across[1] - across[0], rise)))
        edges = np.arange(self._plan.start, self._plan.end, _PIECE_M)
        foot = self._road.to_world(edges, side * across[0])
        crest = self._road.to_world(edges, side * across[1])
        for n in range(len(edges) - 1):
            # Left to right as seen from the road.
            a, b = (n, n + 1) if side > 0 else (n + 1, n)
            corners = np.stack([crest[a], crest[b], foot[b], foot[a]])
            self.banks.append(Bank(kind, corners, rise))

    def _trees(self, side: int, d: float, gap: float, heights: tuple[float, float]) -> None:
        rng = self._rng
        for s in np.arange(self._plan.start + rng.uniform(0, gap), self._plan.end, gap):
            at = self._road.to_world(s + rng.uniform(-0.4, 0.4) * gap, side * (
                d + rng.uniform(0, 2.5)))
            kind = self._kinds[int(rng.integers(len(self._kinds)))]
            self.trees.append(Tree(kind, np.array([*at, KERB_M]), float(rng.uniform(*heights)),
                                   1.0))

    def _signs(self) -> None:
        rng, start, end = self._rng, self._plan.start, self._plan.end
        for s in np.arange(start + rng.uniform(20, 80), end, rng.uniform(60, 110)):
            side = -self._motorway.median
            self._post(big_sign(rng), float(s), side * (self._plan.bands[side].kerb + 1.2), 0.0)
        if rng.random() < 0.5:
            lamp, side = lamp_post(rng), int(rng.choice(SIDES))
            for s in np.arange(start + 9.0, end, rng.uniform(30, 45)):
                self._post(lamp, float(s), side * (self._plan.bands[side].kerb + 0.5),
                           -side * np.pi / 2)

    def _post(self, mesh: Mesh, s: float, d: float, turn: float) -> None:
        at = self._road.to_world(s, d)
        self.posts.append(place(mesh, np.array([*at, KERB_M]), self._road.heading(s) + turn,
                                (0.3, 0.3)))

    def _far_end(self) -> None:
        """Close the view down the road with a wood."""
        for d in np.arange(-60, 60, 3.0):
            at = self._road.to_world(self._plan.end + self._rng.uniform(4, 16), d)
            kind = self._kinds[int(self._rng.integers(len(self._kinds)))]
            self.trees.append(Tree(kind, np.array([*at, KERB_M]),
                                   float(self._rng.uniform(7, 13)), 1.0))


def big_sign(rng: np.random.Generator) -> Mesh:
    """Return a large panel on two posts, or on one with an arm; it faces against x."""
    builder = MeshBuilder(POLE)
    steel = jitter(rng, (140, 142, 142), 0.15)
    wide, high = float(rng.uniform(1.5, 4.0)), float(rng.uniform(1.0, 2.4))
    low = float(rng.uniform(1.5, 2.2)) if rng.random() < 0.6 else float(rng.uniform(4.8, 5.5))
    for y in (-0.3 * wide, 0.3 * wide) if low < 3 else (0.0,):
        builder.tube(np.array([0.0, y, 0.0]), np.array([0.0, y, low + high]), 0.14, 0.11, steel)
    builder.label = SIGN
    paint = ((72.0, 104.0, 22.0), (150.0, 76.0, 22.0), (60.0, 150.0, 230.0))[
        int(rng.choice(3, p=(0.45, 0.4, 0.15)))]
    ink = (226.0, 228.0, 228.0) if paint[2] < 100 else (34.0, 34.0, 34.0)

    def panel(y: tuple[float, float], z: tuple[float, float], off: float,
              colour: tuple[float, float, float]) -> None:
        builder.plate(np.array([[-0.2 - off, a, b] for a, b in (
            (y[0], z[0]), (y[1], z[0]), (y[1], z[1]), (y[0], z[1]))]), colour, bias_m=20 * off)

    panel((-wide / 2, wide / 2), (low, low + high), 0.0, ink)
    panel((-wide / 2 + 0.05, wide / 2 - 0.05), (low + 0.05, low + high - 0.05), 0.005, paint)
    for row in np.arange(low + 0.25, low + high - 0.4, 0.45):
        end = float(rng.uniform(-0.2, 0.4)) * wide
        panel((-0.42 * wide, end), (float(row), float(row) + 0.2), 0.01, ink)
    return builder.build()
