"""Sets buildings, garden boundaries and trees on the plots of a plan."""

import numpy as np

from .boundary import Boundary, boundary_row, KINDS
from .building import Building, make_building
from .foliage import Tree, tree_kind, TREE_KINDS, TreeKind
from .plan import KERB_M, Plan, Plot, SideStreet
from .road import Road

_DEPTH_M = 9.0
_KINDS_A_STREET = 6


class Scenery:
    """
    Everything along the street that grows or is built.

    :ivar boundaries: between pavement and gardens.
    """

    def __init__(self, rng: np.random.Generator, plan: Plan, road: Road) -> None:
        self._rng, self._plan, self._road = rng, plan, road
        numbers = rng.choice(TREE_KINDS, _KINDS_A_STREET, replace=False)
        self._kinds: list[TreeKind] = [tree_kind(int(number)) for number in numbers]
        self.buildings: list[Building] = []
        self.trees: list[Tree] = []
        self.boundaries: list[Boundary] = []
        for plot in plan.plots:
            self._plot(plot)
        for street in plan.side_streets:
            self._side_street(street)
        self._far_end()
        self._street_trees()

    def _corners(self, start: float, end: float, front: float, back: float,
                 side: int) -> np.ndarray:
        """Return a building's corners: front left, front right (from the street), back."""
        left, right = (start, end) if side > 0 else (end, start)
        outline = np.array([[left, front], [right, front], [right, back], [left, back]])
        return self._road.to_world(outline[:, 0], outline[:, 1] * side)

    def _plot(self, plot: Plot) -> None:
        rng, back = self._rng, self._plan.bands[plot.side].back
        if plot.kind == 'park':
            self._park(plot, back)
            return
        front = back + plot.setback
        corners = self._corners(plot.start, plot.end, front, front + _DEPTH_M, plot.side)
        self.buildings.append(make_building(rng, corners, plot.kind))
        if plot.setback > 1.4 and plot.kind in ('terrace', 'house'):
            kind = str(rng.choice(KINDS, p=(0.28, 0.2, 0.14, 0.18, 0.2)))
            gap = rng.uniform(0.15, 0.7) * (plot.length - 1.4)
            self._boundary(kind, plot, back, (plot.start, plot.start + gap))
            self._boundary(kind, plot, back, (plot.start + gap + 1.2, plot.end))
            if rng.random() < 0.3 and plot.setback > 2.6:
                self._tree(plot.start + rng.uniform(0.2, 0.8) * plot.length,
                           plot.side * (back + 0.6 * plot.setback), (2.5, 4.5))
        if rng.random() < 0.45:
            self._tree((plot.start + plot.end) / 2, plot.side * (front + _DEPTH_M + 5),
                       (8.0, 13.0))

    def _park(self, plot: Plot, back: float) -> None:
        """Fence in some grass, with trees on it and a wood behind."""
        rng = self._rng
        kind = str(rng.choice(('railings', 'hedge', 'boards', 'railings')))
        self._boundary(kind, plot, back, (plot.start, plot.end))
        for depth in np.arange(3.5, 12.0, 3.0):
            self._tree(rng.uniform(plot.start + 1.5, plot.end - 1.5),
                       plot.side * (back + depth), (6.0, 11.0))
        for s in np.arange(plot.start - 6, plot.end + 6, 3.2):
            self._tree(s + rng.uniform(-1, 1), plot.side * (back + rng.uniform(17, 23)),
                       (8.0, 13.0))

    def _boundary(self, name: str, plot: Plot, back: float, span: tuple[float, float]) -> None:
        """Set a boundary along the back of the pavement."""
        self.boundaries += boundary_row(self._rng, self._road, name, plot.side * (back + 0.05),
                                        span)

    def _tree(self, s: float, d: float, heights: tuple[float, float]) -> None:
        rng = self._rng
        place = self._road.to_world(s, d)
        kind = self._kinds[int(rng.integers(len(self._kinds)))]
        self.trees.append(Tree(kind, np.array([place[0], place[1], KERB_M]),
                               float(rng.uniform(*heights)), 1.0))

    def _side_street(self, street: SideStreet) -> None:
        """Line a side street with houses and close its view with trees."""
        rng, back = self._rng, self._plan.bands[street.side].back
        for flank, edge in ((-1, street.start - 2.4), (1, street.end + 2.4)):
            d = back + 4.5 + _DEPTH_M + rng.uniform(3, 5)
            while d < 58:
                width = rng.uniform(6.5, 9.0)
                street_d = np.array([d, d + width])
                # Front left to front right as seen from the side street.
                near, far = street_d if flank < 0 else street_d[::-1]
                if street.side < 0:
                    near, far = far, near
                rear = edge + flank * 7.0
                outline = np.array([[edge, near], [edge, far], [rear, far], [rear, near]])
                corners = self._road.to_world(outline[:, 0], outline[:, 1] * street.side)
                self.buildings.append(make_building(rng, corners, 'terrace'))
                d += width
        for s in np.arange(street.start - 6, street.end + 7, 2.6):
            self._tree(s, street.side * rng.uniform(62, 68), (8.0, 13.0))

    def _far_end(self) -> None:
        """Close the street's far end with houses that face down it and trees behind them."""
        rng, s, d = self._rng, float(self._plan.end + 6.0), 34.0
        while d > -34.0:
            width = rng.uniform(8.0, 12.0)
            outline = np.array([[s, d], [s, d - width], [s + 9, d - width], [s + 9, d]])
            corners = self._road.to_world(outline[:, 0], outline[:, 1])
            self.buildings.append(make_building(rng, corners, 'terrace'))
            d -= width
        for place in np.arange(-40, 40, 4.0).tolist():
            self._tree(s + 16 + rng.uniform(-2, 2), place + rng.uniform(-1, 1), (10.0, 15.0))

    def _street_trees(self) -> None:
        """Plant an avenue on pavements that are wide enough."""
        for side in (1, -1):
            band = self._plan.bands[side]
            if band.back - band.kerb < 2.3 or self._rng.random() < 0.45:
                continue
            for s in np.arange(self._plan.start, self._plan.end, self._rng.uniform(11, 17)):
                if not (self._plan.near_crossing(s, 9) or
                        self._plan.near_side_street(side, s, 4)):
                    self._tree(s, side * (band.kerb + 0.7), (5.0, 7.5))
