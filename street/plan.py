"""The plan of a street: its cross-section, side streets, crossings and building plots."""

from dataclasses import dataclass

import numpy as np

LANE_M = 3.3
KERB_M = 0.11
SIDES = (1, -1)
_SIDE_STREET_M = 6.4
_SIDE_PAVEMENT_M = 1.9


@dataclass(frozen=True)
class Band:
    """
    What lies on one side of the centre line, all in metres from it.

    :ivar kerb: edge of the road.
    :ivar back: far edge of the pavement.
    :ivar parking: whether cars park along the kerb.
    :ivar yellow: whether double yellow lines run along the kerb.
    """

    kerb: float
    back: float
    parking: bool
    yellow: bool


@dataclass(frozen=True)
class SideStreet:
    """A street that leaves the main one on one side (+1 left), between two s in metres."""

    side: int
    start: float
    end: float


@dataclass(frozen=True)
class Plot:
    """
    A piece of ground along the pavement.

    :ivar kind: 'shop', 'terrace', 'house', 'office' or 'park'.
    :ivar setback: metres of front garden between pavement and building.
    """

    side: int
    start: float
    end: float
    kind: str
    setback: float

    @property
    def length(self) -> float:
        """Frontage, metres."""
        return self.end - self.start


@dataclass(frozen=True)
class Motorway:
    """
    What a motorway has instead of kerbs, plots and people.

    :ivar lanes: d of the middle of each lane; all of them lead the car's own way.
    :ivar median: side on which the other carriageway lies.
    :ivar yellow: whether the line along the median is yellow.
    :ivar concrete: outlines (4, 2) of stretches that are concrete instead of asphalt.
    :ivar grass: BGR colour of the verges.
    """

    lanes: tuple[float, ...]
    median: int
    yellow: bool
    concrete: tuple[np.ndarray, ...]
    grass: tuple[float, float, float]


@dataclass(frozen=True)
class Plan:
    """
    The street from above, in street coordinates.

    :ivar bands: cross-section by side, +1 left and -1 right.
    :ivar crossings: s of the middle of each zebra crossing.
    :ivar motorway: None for a street in town.
    """

    start: float
    end: float
    bands: dict[int, Band]
    side_streets: tuple[SideStreet, ...]
    crossings: tuple[float, ...]
    plots: tuple[Plot, ...]
    motorway: Motorway | None = None

    @property
    def lanes(self) -> tuple[float, ...]:
        """Return the d of the middle of each lane."""
        return (-LANE_M / 2, LANE_M / 2) if self.motorway is None else self.motorway.lanes

    def pavement(self, side: int) -> tuple[float, float]:
        """Return (kerb, back) of one side as signed d."""
        band = self.bands[side]
        return side * band.kerb, side * band.back

    def road_outlines(self) -> list[np.ndarray]:
        """Return the road's surface as overlapping polygons (k, 2) of (s, d)."""
        left, right = self.bands[1].kerb, -self.bands[-1].kerb
        outlines = [np.array([[self.start, right], [self.end, right], [self.end, left],
                              [self.start, left]])]
        for street in self.side_streets:
            outlines.append(self._mouth(street))
        if self.motorway is not None:
            near, far = other_carriageway(self.bands[self.motorway.median].kerb)
            outlines.append(_strip(self.start, self.end, self.motorway.median * near,
                                   self.motorway.median * far))
        return outlines

    def _mouth(self, street: SideStreet) -> np.ndarray:
        """Return a side street's surface with its rounded corners."""
        kerb, radius, far = self.bands[street.side].kerb, 3.0, 70.0
        turn = np.linspace(0, np.pi / 2, 7)
        near = np.stack([street.start - radius * (1 - np.sin(turn)),
                         kerb + radius * (1 - np.cos(turn))], axis=1)
        off = np.stack([street.end + radius * (1 - np.sin(turn[::-1])),
                        kerb + radius * (1 - np.cos(turn[::-1]))], axis=1)
        mouth = np.concatenate([
            [[street.start - radius, kerb - 0.3]], near, [[street.start, far], [street.end, far]],
            off, [[street.end + radius, kerb - 0.3]]])
        mouth[:, 1] *= street.side
        return mouth

    def pavement_outlines(self) -> list[np.ndarray]:
        """Return the pavements as polygons (4, 2) of (s, d); the road is cut out of them."""
        outlines = []
        for side in SIDES if self.motorway is None else ():
            kerb, back = self.pavement(side)
            outlines.append(_strip(self.start, self.end, kerb, back))
        for street in self.side_streets:
            back = self.pavement(street.side)[1]
            for low, high in ((street.start - _SIDE_PAVEMENT_M, street.start),
                              (street.end, street.end + _SIDE_PAVEMENT_M)):
                outlines.append(_strip(low, high, back - 0.5 * street.side, street.side * 70.0))
        for plot in self.plots:
            if plot.kind in ('shop', 'office'):
                back = self.pavement(plot.side)[1]
                outlines.append(_strip(plot.start, plot.end, back - 0.1 * plot.side,
                                       back + plot.side * (plot.setback + 0.6)))
        return outlines

    def near_side_street(self, side: int, s: float, margin: float) -> bool:
        """Return whether s lies within margin metres of a side street on that side."""
        return any(street.side == side and street.start - margin < s < street.end + margin
                   for street in self.side_streets)

    def near_crossing(self, s: float, margin: float) -> bool:
        """Return whether s lies within margin metres of a zebra crossing's middle."""
        return any(abs(s - crossing) < margin for crossing in self.crossings)


def draw_plan(rng: np.random.Generator, district: str, start: float, end: float) -> Plan:
    """Return a street plan; crossings and side streets keep clear of each other."""
    bands = {side: _draw_band(rng, district) for side in SIDES}
    crossings = tuple(np.arange(rng.uniform(22, 48), end - 10, rng.uniform(75, 110)).tolist())
    streets: list[SideStreet] = []
    plots: list[Plot] = []
    for side in SIDES:
        _fill_side(rng, district, (start, end, side), crossings, streets, plots)
    return Plan(start, end, bands, tuple(streets), crossings, tuple(plots))


def _draw_band(rng: np.random.Generator, district: str) -> Band:
    parking = bool(rng.random() < (0.75 if district == 'residential' else 0.55))
    kerb = LANE_M + (rng.uniform(2.1, 2.4) if parking else rng.uniform(0.3, 0.9))
    width = rng.uniform(2.4, 4.2) if district == 'high_street' else rng.uniform(1.9, 3.0)
    return Band(kerb, kerb + width, parking, bool(not parking and rng.random() < 0.7))


def _fill_side(rng: np.random.Generator, district: str, where: tuple[float, float, int],
               crossings: tuple[float, ...], streets: list[SideStreet],
               plots: list[Plot]) -> None:
    """Lay plots and side streets along one side, end to end."""
    start, end, side = where
    s, until_street = start, rng.uniform(55, 85)
    setback = _draw_setback(rng, district)
    while s < end:
        clear = all(abs(s + _SIDE_STREET_M / 2 - crossing) > 13 for crossing in crossings)
        if until_street <= 0 and clear:
            s += _SIDE_PAVEMENT_M
            streets.append(SideStreet(side, s, s + _SIDE_STREET_M))
            s += _SIDE_STREET_M + _SIDE_PAVEMENT_M
            until_street = rng.uniform(45, 90)
            setback = _draw_setback(rng, district)
        kind = _draw_kind(rng, district)
        length = {'park': rng.uniform(14, 26), 'office': rng.uniform(14, 22),
                  'house': rng.uniform(9, 12)}.get(kind, rng.uniform(6.5, 10.5))
        flush = 0.0 if kind == 'shop' else setback
        plots.append(Plot(side, s, s + length, kind, flush))
        s += length
        until_street -= length
        if kind == 'house':
            s += rng.uniform(1.5, 3.5)


def _draw_setback(rng: np.random.Generator, district: str) -> float:
    if district == 'high_street':
        return float(rng.choice((0.0, 0.0, 1.5)))
    return float(rng.uniform(2.0, 4.5)) if rng.random() < 0.75 else 0.0


def _draw_kind(rng: np.random.Generator, district: str) -> str:
    kinds = {'high_street': ('shop',) * 6 + ('office',) * 2 + ('terrace',) * 2 + ('park',),
             'residential': ('terrace',) * 5 + ('house',) * 4 + ('park',) + ('shop',),
             'mixed': ('shop',) * 3 + ('terrace',) * 3 + ('house', 'office', 'park')}
    return str(rng.choice(kinds[district]))


def other_carriageway(kerb: float) -> tuple[float, float]:
    """Return the near and the far edge of the other carriageway, metres from the centre line."""
    return kerb + 0.7, kerb + 10.7


def _strip(start: float, end: float, inner: float, outer: float) -> np.ndarray:
    return np.array([[start, inner], [end, inner], [end, outer], [start, outer]])
