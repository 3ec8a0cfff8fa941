"""What is painted on or let into the road: lines, zebras, bays, patches, covers and cracks."""

from collections.abc import Callable

import numpy as np

from .plan import LANE_M, Motorway, Plan, SIDES, SideStreet

GRASS, SLABS, ASPHALT, KERB, WHITE, YELLOW, PATCH, IRON, TAR, CONCRETE = range(10)
_LINE_M = 0.12
Fill = Callable[[np.ndarray, np.ndarray, int], None]


def paint_marks(fill: Fill, rng: np.random.Generator, plan: Plan, material: np.ndarray) -> None:
    """
    Paint all marks into the material image; they stay on the asphalt.

    :param fill: fills a polygon (k, 2) of street coordinates with a material.
    """
    road = material == ASPHALT
    marks = material.copy()
    if plan.motorway is not None:
        for outline in plan.motorway.concrete:
            fill(marks, outline, CONCRETE)
    _patches(fill, rng, plan, marks)
    _cracks(fill, rng, plan, marks)
    if plan.motorway is not None:
        _motorway_lines(fill, plan, plan.motorway, marks)
        np.copyto(material, marks, where=road)
        return
    _covers(fill, rng, plan, marks)
    _centre_line(fill, plan, marks)
    for side in SIDES:
        _edge_lines(fill, plan, side, marks)
    for street in plan.side_streets:
        _give_way(fill, plan, street, marks)
    for crossing in plan.crossings:
        _zebra(fill, plan, crossing, marks)
    np.copyto(material, marks, where=road)


def _rectangle(s0: float, s1: float, d0: float, d1: float) -> np.ndarray:
    return np.array([[s0, d0], [s1, d0], [s1, d1], [s0, d1]])


def _centre_line(fill: Fill, plan: Plan, marks: np.ndarray) -> None:
    for s in np.arange(plan.start, plan.end, 6.0):
        if not plan.near_crossing(s + 1.0, 7.5):
            fill(marks, _rectangle(s, s + 3.0, -_LINE_M / 2, _LINE_M / 2), WHITE)


def _motorway_lines(fill: Fill, plan: Plan, motorway: Motorway, marks: np.ndarray) -> None:
    """Paint long dashes between the lanes and whole lines along the outermost ones."""
    for d in [lane + LANE_M / 2 for lane in motorway.lanes[:-1]]:
        for s in np.arange(plan.start, plan.end, 12.0):
            fill(marks, _rectangle(s, s + 3.5, d - 0.07, d + 0.07), WHITE)
    for side, lane in ((1, motorway.lanes[-1]), (-1, motorway.lanes[0])):
        d = lane + side * LANE_M / 2
        colour = YELLOW if motorway.yellow and side == motorway.median else WHITE
        fill(marks, _rectangle(plan.start, plan.end, d - 0.08, d + 0.08), colour)


def _edge_lines(fill: Fill, plan: Plan, side: int, marks: np.ndarray) -> None:
    band = plan.bands[side]
    for s in np.arange(plan.start, plan.end, 1.0):
        if plan.near_crossing(s + 0.5, 6.0) or plan.near_side_street(side, s + 0.5, 3.2):
            continue
        if band.yellow:
            for off in (0.25, 0.45):
                inner = side * (band.kerb - off)
                fill(marks, _rectangle(s, s + 1.0, inner, inner - side * 0.08), YELLOW)
        elif not band.parking:
            inner = side * (band.kerb - 0.22)
            fill(marks, _rectangle(s, s + 1.0, inner, inner - side * 0.10), WHITE)
        elif s % 2 < 1:
            inner = side * LANE_M
            fill(marks, _rectangle(s, s + 0.7, inner, inner + side * 0.08), WHITE)


def _give_way(fill: Fill, plan: Plan, street: SideStreet, marks: np.ndarray) -> None:
    """Paint the double dashes across a side street's mouth and its centre line."""
    kerb = plan.bands[street.side].kerb
    middle = (street.start + street.end) / 2
    for off in (0.25, 0.65):
        d = street.side * (kerb + off)
        for s in np.arange(street.start, middle, 0.9):
            fill(marks, _rectangle(s, s + 0.6, d, d + street.side * 0.2), WHITE)
    for off in np.arange(2.0, 60.0, 6.0):
        d = street.side * (kerb + off)
        fill(marks, _rectangle(middle - 0.05, middle + 0.05, d, d + street.side * 4.0), WHITE)


def _zebra(fill: Fill, plan: Plan, crossing: float, marks: np.ndarray) -> None:
    low, high = -plan.bands[-1].kerb, plan.bands[1].kerb
    stripe = (high - low) / (2 * round((high - low) / 1.2) + 1)
    for index in range(1, round((high - low) / stripe), 2):
        d = low + index * stripe
        fill(marks, _rectangle(crossing - 1.4, crossing + 1.4, d, d + stripe), WHITE)
    for off in (-2.4, 2.2):
        for d in np.arange(low + 0.2, high - 0.3, 0.8):
            fill(marks, _rectangle(crossing + off, crossing + off + 0.2, d, d + 0.45), WHITE)
    for lane, far in ((1, -1), (-1, 1)):
        # The side that approaches: left lane from behind, right lane from ahead.
        stop = crossing + far * 3.4
        d0, d1 = lane * 0.15, lane * (plan.bands[lane].kerb - 0.5)
        fill(marks, _rectangle(stop, stop + 0.3, d0, d1), WHITE)


def _patches(fill: Fill, rng: np.random.Generator, plan: Plan, marks: np.ndarray) -> None:
    for s in np.arange(plan.start, plan.end, 9.0):
        s0, d0 = s + rng.uniform(0, 6), rng.uniform(-plan.bands[-1].kerb, plan.bands[1].kerb)
        along, across = ((rng.uniform(4, 14), rng.uniform(0.5, 0.9)) if rng.random() < 0.6
                         else (rng.uniform(0.8, 2), rng.uniform(1, 3)))
        outline = _rectangle(s0, s0 + along, d0, d0 + across)
        if rng.random() < 0.6:
            fill(marks, outline, PATCH)
            edge = outline + np.array([[0.0, 0], [0, 0], [0, 0.03], [0, 0.03]])
            edge[2:, 1] = edge[:2, 1][::-1] + 0.03
            fill(marks, edge, TAR)


def _cracks(fill: Fill, rng: np.random.Generator, plan: Plan, marks: np.ndarray) -> None:
    for s in np.arange(plan.start, plan.end, 4.0):
        if rng.random() < 0.6:
            continue
        along = rng.random() < 0.5
        step = (0.5, 0.06) if along else (0.06, 0.4)
        count = int(rng.integers(5, 14))
        walk = np.cumsum(rng.normal((step[0] if along else 0, 0 if along else step[1]),
                                    (0.08, 0.05), (count, 2)), axis=0)
        path = walk + (s + rng.uniform(0, 4), rng.uniform(-4, 3))
        for a, b in zip(path[:-1], path[1:], strict=True):
            thick = np.array([0.0, 0.015]) if along else np.array([0.025, 0.0])
            fill(marks, np.stack([a, b, b + thick, a + thick]), TAR)


def _covers(fill: Fill, rng: np.random.Generator, plan: Plan, marks: np.ndarray) -> None:
    """Let manhole covers into the lanes and gratings into the gutters."""
    turn = np.linspace(0, 2 * np.pi, 17)[:-1]
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    for s in np.arange(plan.start, plan.end, 14.0):
        centre = np.array([s + rng.uniform(0, 12), rng.uniform(-2.6, 2.6)])
        if rng.random() < 0.7:
            fill(marks, centre + 0.38 * circle, TAR)
            fill(marks, centre + 0.31 * circle, IRON)
        for side in SIDES:
            inner = side * (plan.bands[side].kerb - 0.05)
            for bar in np.arange(0, 0.4, 0.1):
                fill(marks, _rectangle(s + bar, s + bar + 0.06, inner, inner - side * 0.35), IRON)
