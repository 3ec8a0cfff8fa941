"""Sets lamp posts, signs, signals, bollards and parked vehicles along the kerbs."""

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .car import make_car, PROFILES
from .furniture import beacon_post, bollard, lamp_post, sign_post, signal_post
from .mesh import Mesh
from .person import parked_bicycle
from .plan import KERB_M, Plan, SIDES
from .road import Road

_PARKED = ('hatchback', 'hatchback', 'saloon', 'estate', 'suv', 'van')


@dataclass(frozen=True, eq=False)
class Prop:
    """
    A mesh that stands somewhere.

    :ivar mesh: in the world.
    :ivar footprint: (4, 2) world corners on the ground, counter-clockwise.
    :ivar height: metres.
    :ivar sunlit: how much sun reaches it, 0..1.
    :ivar spread: metres by which it is wider than its footprint.
    :ivar solid: metres up to which it lets nothing through.
    """

    mesh: Mesh
    footprint: np.ndarray
    height: float
    sunlit: float = 1.0
    spread: float = 0.3
    solid: float = 0.0

    def paint(self, canvas: Canvas) -> None:
        """Draw nothing below the mesh."""


def place(mesh: Mesh, position: np.ndarray, yaw: float, size: tuple[float, float],
          sunlit: float = 1.0) -> Prop:
    """
    Return a mesh set down in the world.

    :param position: (3,) world.
    :param yaw: radians about z.
    :param size: (length, width) of its footprint, metres.
    """
    along = np.array([np.cos(yaw), np.sin(yaw)]) * size[0] / 2
    across = np.array([-np.sin(yaw), np.cos(yaw)]) * size[1] / 2
    corners = position[:2] + np.stack([-along - across, along - across, along + across,
                                       across - along])
    reach = float(np.abs(mesh.vertices[:, :2]).max()) - min(size) / 2
    return Prop(mesh.placed(yaw, position), corners, float(mesh.vertices[:, 2].max()), sunlit,
                max(reach, 0.0))


class Props:
    """
    What stands along the kerbs and never moves.

    :ivar posts: lamp posts, signs, signals, beacons, bollards.
    :ivar vehicles: parked cars and bicycles.
    """

    def __init__(self, rng: np.random.Generator, plan: Plan, road: Road) -> None:
        self._rng, self._plan, self._road = rng, plan, road
        self.posts: list[Prop] = []
        self.vehicles: list[Prop] = []
        for side in SIDES:
            self._lamps(side)
            self._signs(side)
            if plan.bands[side].parking:
                self._parked(side)
            self._bicycles(side)
        for crossing in plan.crossings:
            self._crossing(crossing)

    def _set(self, mesh: Mesh, s: float, d: float, turn: float,
             size: tuple[float, float]) -> Prop:
        """Return a mesh at (s, d), turned against the street's direction there."""
        point = self._road.to_world(s, d)
        side = 1 if d > 0 else -1
        raised = abs(d) > self._plan.bands[side].kerb
        position = np.array([point[0], point[1], KERB_M if raised else 0.0])
        return place(mesh, position, self._road.heading(s) + turn, size)

    def _post(self, mesh: Mesh, s: float, d: float, turn: float) -> None:
        self.posts.append(self._set(mesh, s, d, turn, (0.2, 0.2)))

    def _facing(self, side: int) -> float:
        """Return the turn of a sign on that side: it faces the traffic of its lane."""
        return 0.0 if side > 0 else np.pi

    def _lamps(self, side: int) -> None:
        lamp = lamp_post(self._rng)
        step = self._rng.uniform(26, 34)
        off = 0.0 if side > 0 else step / 2
        for s in np.arange(self._plan.start + off + 4, self._plan.end, step):
            if self._plan.near_side_street(side, s, 3) or self._plan.near_crossing(s, 5):
                s += 9.0
            self._post(lamp, s, side * (self._plan.bands[side].kerb + 0.35), -side * np.pi / 2)

    def _signs(self, side: int) -> None:
        for s in np.arange(self._plan.start + 8, self._plan.end, 19.0):
            s += self._rng.uniform(0, 9)
            if self._plan.near_crossing(s, 6) or self._plan.near_side_street(side, s, 1):
                continue
            turn = self._facing(side) + self._rng.uniform(-0.15, 0.15)
            self._post(sign_post(self._rng), s, side * (self._plan.bands[side].kerb + 0.45), turn)

    def _crossing(self, crossing: float) -> None:
        """Set the beacons or signals of a crossing and bollards beside it."""
        rng = self._rng
        signals = rng.random() < 0.5
        for side in SIDES:
            d = side * (self._plan.bands[side].kerb + 0.4)
            for far in (-1, 1):
                mesh = signal_post(rng) if signals else beacon_post()
                self._post(mesh, crossing + far * 2.0, d, self._facing(-far))
            if rng.random() < 0.6:
                short = bollard(rng)
                for off in (-7.5, -6.0, -4.5, 4.5, 6.0, 7.5):
                    if not self._plan.near_side_street(side, crossing + off, 3):
                        self._post(short, crossing + off, d - side * 0.05, 0.0)

    def _parked(self, side: int) -> None:
        """Park a row of vehicles, with gaps, all near the kerb."""
        rng, s = self._rng, self._plan.start + 2.0
        turn = 0.0 if side > 0 else np.pi
        while s < self._plan.end:
            make = _PARKED[int(rng.integers(len(_PARKED)))]
            profile = PROFILES[make]
            middle = s + profile.length / 2
            s += profile.length + rng.uniform(0.7, 1.6)
            blocked = (self._plan.near_crossing(middle, 10)
                       or self._plan.near_side_street(side, middle, 6.5))
            if blocked or rng.random() < 0.22:
                continue
            d = side * (self._plan.bands[side].kerb - 0.18 - profile.width / 2)
            flip = np.pi if rng.random() < 0.15 else 0.0
            self.vehicles.append(self._set(
                make_car(rng, make), middle, d, turn + flip + rng.normal(0, 0.012),
                (profile.length, profile.width)))

    def _bicycles(self, side: int) -> None:
        """Lean bicycles against what is at the back of the pavement."""
        for s in np.arange(self._plan.start + 14, self._plan.end, 27.0):
            s += self._rng.uniform(0, 12)
            if self._plan.near_side_street(side, s, 3.5):
                continue
            for off in range(int(self._rng.integers(1, 4))):
                d = side * (self._plan.bands[side].back - 0.38)
                mesh = parked_bicycle(self._rng)
                self.vehicles.append(self._set(mesh, s + off * 1.9, d, 0.06, (1.7, 0.3)))
