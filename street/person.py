"""People: walkers and riders built of tubes and rings, posed for one moment."""

from dataclasses import dataclass

import numpy as np

from .camvid import BICYCLIST, PEDESTRIAN
from .mesh import disc, Mesh, MeshBuilder, tube_rings
from .noise import jitter

Colour = tuple[float, float, float]
_COATS = ((42, 38, 38), (70, 52, 40), (40, 44, 90), (60, 64, 66), (110, 80, 50), (48, 60, 50),
          (130, 130, 132), (36, 34, 110), (90, 104, 120), (28, 28, 30), (170, 172, 174))
_TROUSERS = ((44, 40, 38), (88, 62, 46), (36, 36, 38), (70, 74, 78), (90, 104, 116))
_SKINS = ((128, 150, 196), (110, 136, 186), (70, 92, 136), (140, 166, 206))
_HAIR = ((26, 28, 34), (40, 52, 72), (70, 100, 130), (120, 124, 126), (22, 22, 24))
_SIDE = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class Person:
    """
    What somebody looks like.

    :ivar height: metres.
    :ivar skirt: share of the leg that the coat covers.
    """

    height: float
    coat: Colour
    trousers: Colour
    skin: Colour
    hair: Colour
    skirt: float
    bag: Colour | None
    helmet: bool


def draw_person(rng: np.random.Generator) -> Person:
    """Return somebody."""
    def pick(choice: tuple[Colour, ...]) -> Colour:
        return jitter(rng, choice[int(rng.integers(len(choice)))], 0.2)
    return Person(
        height=float(rng.uniform(1.55, 1.86)), coat=pick(_COATS), trousers=pick(_TROUSERS),
        skin=pick(_SKINS), hair=pick(_HAIR), skirt=float(rng.choice((0.0, 0.0, 0.35))),
        bag=pick(_COATS) if rng.random() < 0.4 else None, helmet=bool(rng.random() < 0.6))


def walker(person: Person, phase: float, stride: float) -> Mesh:
    """
    Return a walking person, feet at the origin, facing along x.

    :param phase: place in the gait, radians; two steps are 2 pi.
    :param stride: 0 = standing, 1 = a brisk walk.
    """
    builder = MeshBuilder(PEDESTRIAN)
    unit = person.height / 1.75
    swing, hip = 0.42 * stride * np.sin(phase), np.array([0, 0, 0.92]) * unit
    bob = np.array([0, 0, 0.02 * stride * abs(np.cos(phase))])
    for side, angle in ((1, swing), (-1, -swing)):
        root = hip + bob + _SIDE * side * 0.09 * unit
        knee = root + 0.45 * unit * np.array([np.sin(angle + 0.08), 0, -np.cos(angle + 0.08)])
        bend = angle - 0.55 * stride * max(0.0, np.cos(phase) * -side)
        foot = knee + 0.45 * unit * np.array([np.sin(bend), 0, -np.cos(bend)])
        _limb(builder, (root, knee, foot), (0.085, 0.062, 0.045), person.trousers, unit)
        _shoe(builder, foot, unit)
    shoulder = hip + bob + np.array([0.02, 0, 0.52]) * unit
    for side, angle in ((1, -swing), (-1, swing)):
        root = shoulder + np.array([0, side * 0.185, -0.04]) * unit
        _ball(builder, root, 0.062 * unit, person.coat, fine=False)
        elbow = root + 0.3 * unit * np.array([np.sin(angle * 0.9), 0, -np.cos(angle * 0.9)])
        hand = elbow + 0.27 * unit * np.array([np.sin(angle + 0.35), 0, -np.cos(angle + 0.35)])
        _limb(builder, (root, elbow, hand), (0.055, 0.045, 0.036), person.coat, unit)
        _ball(builder, hand, 0.045 * unit, person.skin)
    _torso(builder, person, hip + bob, shoulder, unit)
    _head(builder, person, shoulder + np.array([0.02, 0, 0.19]) * unit, unit, False)
    if person.bag is not None:
        low = hip + np.array([-0.26, -0.16, 0.1]) * unit
        builder.box((low[0], low[1], low[2]), (low[0] + 0.14, low[1] + 0.32, low[2] + 0.4),
                    person.bag)
    return builder.build()


def _limb(builder: MeshBuilder, joints: tuple[np.ndarray, np.ndarray, np.ndarray],
          radii: tuple[float, float, float], colour: Colour, unit: float) -> None:
    for i in range(2):
        builder.tube(joints[i], joints[i + 1], radii[i] * unit, radii[i + 1] * unit, colour,
                     sides=6)
    _ball(builder, joints[1], radii[1] * 0.98 * unit, colour)


def _ball(builder: MeshBuilder, centre: np.ndarray, radius: float, colour: Colour, *,
          fine: bool = True) -> None:
    path = centre + np.array([[0, 0, -0.9], [0, 0, 0], [0, 0, 0.9]]) * radius
    builder.fine = fine
    builder.rings(tube_rings(path, np.array([0.45, 1, 0.45]) * radius, 6), np.array(colour),
                  caps=True)
    builder.fine = False


def _shoe(builder: MeshBuilder, foot: np.ndarray, unit: float) -> None:
    low = foot + np.array([-0.06, -0.045, -0.06]) * unit
    high = foot + np.array([0.19, 0.045, 0.03]) * unit
    builder.box((low[0], low[1], max(low[2], 0.0)), (high[0], high[1], high[2]),
                (32.0, 32.0, 34.0))


def _torso(builder: MeshBuilder, person: Person, hip: np.ndarray, shoulder: np.ndarray,
           unit: float) -> None:
    """Add the coat: oval rings from hem to neck."""
    hem = 0.12 + 0.45 * person.skirt
    cuts = ((-hem, 0.17 + 0.05 * person.skirt, 0.13 + 0.06 * person.skirt), (0.0, 0.175, 0.125),
            (0.2, 0.155, 0.115), (0.4, 0.195, 0.125), (0.5, 0.19, 0.105), (0.57, 0.09, 0.07))
    turn = 2 * np.pi * (np.arange(10) + 0.5) / 10
    rings = []
    for rise, wide, deep in cuts:
        lean = (shoulder - hip) * min(max(rise / 0.52, 0), 1) * [1, 1, 0]
        centre = hip + lean + np.array([0, 0, rise * unit])
        rings.append(centre + unit * np.stack(
            [deep * np.cos(turn), wide * np.sin(turn), np.zeros(10)], axis=1))
    colours = np.tile(np.array(person.coat), (len(cuts) - 1, 1)) * np.array(
        [[0.92], [1.0], [1.02], [1.05], [1.0]])
    # A long coat hangs over the thighs, even where a knee comes forward.
    builder.rings(np.array(rings), np.repeat(colours, 10, axis=0), caps=True,
                  bias_m=0.25 if person.skirt else 0.02)


def _head(builder: MeshBuilder, person: Person, centre: np.ndarray, unit: float,
          helmet: bool) -> None:
    """Add neck, head and hair (or a helmet)."""
    builder.tube(centre - [0, 0, 0.14 * unit], centre, 0.055 * unit, 0.05 * unit, person.skin)
    turn = 2 * np.pi * (np.arange(8) + 0.5) / 8
    rings, colours = [], []
    for rise, size in ((-0.11, 0.45), (-0.06, 0.85), (0.0, 1.0), (0.06, 0.97), (0.11, 0.6),
                       (0.128, 0.15)):
        rings.append(centre + unit * np.stack(
            [0.098 * size * np.cos(turn) + 0.008, 0.078 * size * np.sin(turn),
             np.full(8, rise + 0.03)], axis=1))
    top = (200.0, 204.0, 206.0) if helmet else person.hair
    for band in range(5):
        face = np.cos(turn + np.pi / 8) > -0.1
        # Hair on top and behind, skin in front below it.
        hairy = np.ones(8, bool) if band >= 3 else ~face if not helmet else np.zeros(8, bool)
        colours.append(np.where(hairy[:, None], np.array(top), np.array(person.skin)))
    builder.rings(np.array(rings), np.concatenate(colours), caps=True)


def rider(person: Person, phase: float) -> Mesh:
    """
    Return a person riding a bicycle, wheels on z = 0, facing along x.

    :param phase: angle of the cranks, radians.
    """
    builder = MeshBuilder(BICYCLIST)
    bicycle(builder, person.bag or (60.0, 40.0, 40.0), phase)
    hip, shoulder = np.array([-0.2, 0, 0.98]), np.array([0.22, 0, 1.42])
    for side, turn in ((1, phase), (-1, phase + np.pi)):
        root = hip + _SIDE * side * 0.09
        foot = np.array([0.05 + 0.17 * np.cos(turn), side * 0.11, 0.3 + 0.17 * np.sin(turn)])
        knee = _knee(root, foot, 0.45)
        _limb(builder, (root, knee, foot), (0.085, 0.062, 0.045), person.trousers, 1.0)
        _shoe(builder, foot, 1.0)
        arm, hand = shoulder + _SIDE * side * 0.19, np.array([0.52, side * 0.24, 1.02])
        _limb(builder, (arm, (arm + hand) / 2 + [0, side * 0.05, -0.05], hand),
              (0.055, 0.045, 0.036), person.coat, 1.0)
    turn8 = 2 * np.pi * (np.arange(10) + 0.5) / 10
    rings = []
    for share, wide, deep in ((-0.15, 0.15, 0.12), (0.0, 0.175, 0.13), (0.45, 0.165, 0.12),
                              (0.85, 0.195, 0.12), (1.05, 0.16, 0.1), (1.15, 0.08, 0.06)):
        centre = hip + (shoulder - hip) * share
        rings.append(centre + np.stack([deep * np.cos(turn8), wide * np.sin(turn8),
                                        -0.7 * deep * np.cos(turn8)], axis=1))
    builder.rings(np.array(rings), np.array(person.coat), caps=True)
    _head(builder, person, shoulder + [0.1, 0, 0.22], 1.0, person.helmet)
    return builder.build()


def _knee(hip: np.ndarray, foot: np.ndarray, bone: float) -> np.ndarray:
    """Return where the knee is when thigh and shin are as long as bone (bent forward)."""
    middle, reach = (hip + foot) / 2, foot - hip
    length = float(np.linalg.norm(reach))
    out = np.sqrt(max(bone ** 2 - (length / 2) ** 2, 0.0))
    forward = np.cross(_SIDE, reach / length)
    return np.asarray(middle + out * forward * (1 if forward[0] > 0 else -1))


def bicycle(builder: MeshBuilder, paint: Colour, phase: float) -> None:
    """Add a bicycle with its wheels on z = 0 about x = 0, heading along x."""
    along, up, radius = np.array([1.0, 0, 0]), np.array([0, 0, 1.0]), 0.34
    for x in (-0.52, 0.52):
        centre = np.array([x, 0, radius])
        outer = disc(centre, along, up, radius, 16)
        inner = disc(centre, along, up, radius - 0.045, 16)
        index = np.arange(16)
        after = np.roll(index, -1)
        builder.add(np.concatenate([outer, inner]),
                    np.stack([index, after, after + 16, index + 16], axis=1), (30.0, 30.0, 30.0),
                    two_sided=True)
        builder.hole(outer)
        # From ahead a wheel is as wide as its tyre.
        for low, high in ((0.0, radius), (radius, 2 * radius)):
            builder.plate(np.array([[x, -0.02, low], [x, 0.02, low], [x, 0.02, high],
                                    [x, -0.02, high]]), (30.0, 30.0, 30.0))
    crank, seat, head = (np.array(point) for point in
                         ((0.0, 0, 0.3), (-0.17, 0, 0.9), (0.4, 0, 0.88)))
    rear, front = np.array([-0.52, 0, radius]), np.array([0.52, 0, radius])
    builder.hole(np.stack([crank, head, seat, rear]))
    for a, b in ((crank, seat), (crank, head), (seat - [0, 0, 0.08], head), (crank, rear),
                 (seat, rear), (head + [-0.02, 0, 0.14], front)):
        builder.tube(a, b, 0.022, 0.02, paint, sides=5)
    builder.tube(np.array([0.45, -0.26, 1.02]), np.array([0.45, 0.26, 1.02]), 0.018, 0.018,
                 (40.0, 40.0, 40.0), sides=5)
    builder.box((-0.32, -0.07, 0.9), (-0.06, 0.07, 0.96), (30.0, 30.0, 32.0))
    for side in (1, -1):
        turn = phase if side > 0 else phase + np.pi
        end = crank + 0.17 * np.array([np.cos(turn), 0, np.sin(turn)]) + _SIDE * side * 0.1
        builder.tube(crank + _SIDE * side * 0.06, end, 0.015, 0.015, (80.0, 80.0, 82.0), sides=4)


def parked_bicycle(rng: np.random.Generator) -> Mesh:
    """Return a bicycle that somebody left."""
    builder = MeshBuilder(BICYCLIST)
    bicycle(builder, jitter(rng, ((40, 36, 120), (120, 70, 40), (40, 40, 42))[
        int(rng.integers(3))], 0.2), 0.6)
    return builder.build()
