"""Everyone else who moves: cars, cyclists, walkers."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .car import make_car, PROFILES
from .mesh import Mesh
from .person import draw_person, Person, rider, walker
from .plan import KERB_M, LANE_M, Motorway, other_carriageway, Plan, SIDES
from .ride import LANE_D, Ride

_PHASES = 16
_PEOPLE = 14
_LEAD_S = 0.8  # who drives ahead brakes first
_MOVING = ('hatchback', 'hatchback', 'saloon', 'estate', 'suv', 'van', 'bus')


@dataclass(frozen=True, eq=False)
class State:
    """Where a mover is: street coordinates (metres), turn against the street, its shape."""

    s: float
    d: float
    turn: float
    z: float
    mesh: Mesh


@dataclass(frozen=True, eq=False)
class Vehicle:
    """A car that keeps to its lane: ahead with a gap, or oncoming."""

    mesh: Mesh
    size: tuple[float, float]
    d: float
    speed: float
    start: float
    ride: Ride | None

    def s(self, time_s: float) -> float:
        """Return its place along the street, metres."""
        if self.ride is None:
            return self.start + self.speed * time_s
        return self.ride.s(time_s + _LEAD_S) + self.start

    def at(self, time_s: float) -> State:
        """Return where it is."""
        oncoming = self.ride is None and self.speed < 0
        return State(self.s(time_s), self.d, np.pi if oncoming else 0.0, 0.0, self.mesh)


@dataclass(frozen=True)
class Walker:
    """Somebody on the pavement, or crossing at a zebra (``cross_at`` is when)."""

    person: Person
    start: float
    d: float
    speed: float
    cross_at: float | None
    plan: Plan
    size: tuple[float, float] = (0.5, 0.5)

    def s(self, time_s: float) -> float:
        """Return the place along the street, metres."""
        return self.start + (self.speed * time_s if self.cross_at is None else 0.0)

    def at(self, time_s: float) -> State:
        """Return where the person is and how the legs stand."""
        pace = 0.0 if abs(self.speed) < 0.1 else min(abs(self.speed) / 1.3, 1.3)
        phase = 2 * np.pi * 0.9 * pace * time_s + self.start
        mesh = _walker_mesh(self.person, int(phase / (2 * np.pi) * _PHASES) % _PHASES,
                            pace > 0)
        if self.cross_at is not None:
            d = self.d + self.speed * (time_s - self.cross_at)
            turn = np.pi / 2 if self.speed > 0 else -np.pi / 2
        else:
            d = self.d
            turn = 0.0 if self.speed > 0 else np.pi
        s = self.s(time_s)
        return State(s, d, turn, self._level(s, d), mesh)

    def _level(self, s: float, d: float) -> float:
        side = 1 if d > 0 else -1
        on_road = (abs(d) < self.plan.bands[side].kerb
                   or self.plan.near_side_street(side, s, 0.0))
        return 0.0 if on_road else KERB_M


@dataclass(frozen=True)
class Cyclist:
    """A cyclist near the left edge of a lane."""

    person: Person
    start: float
    d: float
    speed: float
    size: tuple[float, float] = (1.75, 0.5)

    def s(self, time_s: float) -> float:
        """Return the place along the street, metres."""
        return self.start + self.speed * time_s

    def at(self, time_s: float) -> State:
        """Return where the cyclist is and how the pedals stand."""
        phase = int(time_s * 1.1 * _PHASES + self.start) % _PHASES
        turn = 0.0 if self.speed > 0 else np.pi
        return State(self.s(time_s), self.d, turn, 0.0,
                     _rider_mesh(self.person, phase))


@lru_cache(maxsize=2048)
def _walker_mesh(person: Person, phase: int, moving: bool) -> Mesh:
    return walker(person, 2 * np.pi * phase / _PHASES, 1.0 if moving else 0.0)


@lru_cache(maxsize=512)
def _rider_mesh(person: Person, phase: int) -> Mesh:
    return rider(person, 2 * np.pi * phase / _PHASES)


Mover = Vehicle | Walker | Cyclist


def draw_movers(rng: np.random.Generator, plan: Plan, ride: Ride,
                duration_s: float) -> list[Mover]:
    """Return everyone who is about during the drive."""
    if plan.motorway is not None:
        return _motorway_traffic(rng, plan, plan.motorway, ride, duration_s)
    # Few people, met again and again: their poses are kept, and nobody looks twice.
    people = [draw_person(rng) for _ in range(_PEOPLE)]
    movers: list[Mover] = _vehicles(rng, ride, duration_s)
    movers += _cyclists(rng, people, plan, ride, duration_s)
    vehicles = list(movers)
    movers += _crossing(rng, people, plan, ride, vehicles, duration_s)
    return movers + _walkers(rng, people, plan)


def _vehicles(rng: np.random.Generator, ride: Ride, duration_s: float) -> list[Mover]:
    """Return the cars ahead in the lane and those that come the other way."""
    movers: list[Mover] = []
    gap = rng.uniform(11, 30)
    for _ in range(3):
        make = _MOVING[int(rng.integers(len(_MOVING)))]
        profile = PROFILES[make]
        gap += profile.length / 2
        movers.append(Vehicle(make_car(rng, make), (profile.length, profile.width), LANE_D,
                              0.0, gap, ride))
        gap += profile.length / 2 + rng.uniform(10, 35)
    meet = rng.uniform(1.0, 3.0)
    while meet < duration_s + 10:
        make = _MOVING[int(rng.integers(len(_MOVING)))]
        profile, speed = PROFILES[make], -8.0
        start = ride.s(meet) - speed * meet
        movers.append(Vehicle(make_car(rng, make), (profile.length, profile.width), -LANE_D,
                              speed, start, None))
        meet += rng.uniform(1.6, 5.0) + profile.length / 8
    return movers


def _motorway_traffic(rng: np.random.Generator, plan: Plan, motorway: Motorway, ride: Ride,
                      duration_s: float) -> list[Mover]:
    """Return the vehicles of all lanes: ahead, beside, and beyond the median."""
    movers: list[Mover] = []

    def fill(d: float, s: float, end: float, speed: float, own: bool) -> None:
        """Set vehicles along a lane from s to end (metres, at the beginning)."""
        gaps = rng.uniform(6, 25), rng.uniform(25, 80)
        while (s := s + rng.uniform(*gaps)) < end:
            make = _MOVING[int(rng.integers(len(_MOVING)))]
            profile = PROFILES[make]
            s += profile.length
            movers.append(Vehicle(make_car(rng, make), (profile.length, profile.width), d,
                                  speed, s, ride if own else None))

    for lane in motorway.lanes:
        own = abs(lane - LANE_D) < 0.1
        speed = ride.speed * (1 + 0.08 * (lane - LANE_D) / LANE_M * -motorway.median
                              + rng.uniform(-0.03, 0.03))
        behind = min(0.0, (ride.speed - speed) * duration_s) - 8.0
        fill(lane, 6.0 if own else behind, 260.0, speed, own)
    near = other_carriageway(plan.bands[motorway.median].kerb)[0]
    for n in range(3):
        speed = -ride.speed * rng.uniform(0.85, 1.1)
        fill(motorway.median * (near + 1.8 + LANE_M * n), 0.0, plan.end - speed * duration_s,
             speed, False)
    return movers


def _cyclists(rng: np.random.Generator, people: list[Person], plan: Plan, ride: Ride,
              duration_s: float) -> list[Mover]:
    movers: list[Mover] = []
    for side in SIDES:
        d = side * min(plan.bands[side].kerb - 0.55, 3.0)
        if side > 0:
            # Slower than the car, but far enough ahead never to be run over.
            speed = 4.5
            lead = max(ride.s(t) - speed * t for t in np.linspace(0, duration_s, 60))
            movers.append(Cyclist(_somebody(rng, people), lead + rng.uniform(8, 20), d, speed))
        else:
            for meet in np.arange(rng.uniform(2, 5), duration_s + 8, rng.uniform(5, 9)):
                start = ride.s(meet) + 4.5 * meet
                movers.append(Cyclist(_somebody(rng, people), start, d, -4.5))
    return movers


def _crossing(rng: np.random.Generator, people: list[Person], plan: Plan, ride: Ride,
              vehicles: list[Mover], duration_s: float) -> list[Mover]:
    """Let people cross at the zebras while no car is near."""
    movers: list[Mover] = []
    for crossing in plan.crossings:
        for moment in np.arange(0.0, duration_s, 1.3):
            width = plan.bands[1].kerb + plan.bands[-1].kerb + 1.0
            times = np.linspace(moment, moment + width / 1.4, 8)
            clear = all(abs(vehicle.s(t) - crossing) > 7.0
                        for t in times for vehicle in vehicles)
            gap = crossing - np.array([ride.s(t) for t in times])
            if not clear or gap.min() < 9.0 or rng.random() < 0.4:
                continue
            side = int(rng.choice(SIDES))
            d, speed = side * (plan.bands[side].kerb + 0.5), -side * rng.uniform(1.2, 1.5)
            movers.append(Walker(_somebody(rng, people), crossing + rng.uniform(-1, 1), d, speed,
                                 float(moment), plan))
    return movers


def _walkers(rng: np.random.Generator, people: list[Person], plan: Plan) -> list[Mover]:
    """Return the people on both pavements; some stand about in pairs."""
    movers: list[Mover] = []
    for side in SIDES:
        band = plan.bands[side]
        low, high = band.kerb + 1.15, band.back - 0.75
        if high < low:
            low = high = (band.kerb + band.back) / 2 + 0.1
        s = plan.start
        while s < plan.end:
            s += rng.uniform(3.0, 15.0)
            d = side * rng.uniform(low, high)
            speed = rng.choice((-1.0, 1.0)) * rng.uniform(1.0, 1.6)
            if rng.random() < 0.25:
                speed = 0.02
            for behind in (0.0, 0.75)[:2 if rng.random() < 0.3 else 1]:
                movers.append(Walker(_somebody(rng, people), float(s) + behind, d, float(speed),
                                     None, plan))
    return movers


def _somebody(rng: np.random.Generator, people: list[Person]) -> Person:
    return people[int(rng.integers(len(people)))]
