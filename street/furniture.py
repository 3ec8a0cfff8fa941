"""Street furniture: lamp posts, signs, signals, beacons, bollards."""

import numpy as np

from .camvid import POLE, SIGN
from .mesh import disc, fan, Mesh, MeshBuilder
from .noise import jitter

_UP = np.array([0.0, 0.0, 1.0])
_RED, _BLUE, _WHITE = (42.0, 36.0, 190.0), (150.0, 76.0, 22.0), (226.0, 228.0, 228.0)
_BLACK, _GREEN = (34.0, 34.0, 34.0), (72.0, 104.0, 22.0)
_STEEL = (132.0, 134.0, 134.0)


def lamp_post(rng: np.random.Generator) -> Mesh:
    """Return a lamp post at the origin, its arm reaching along x."""
    builder = MeshBuilder(POLE)
    height = float(rng.uniform(6.5, 9.0))
    paint = jitter(rng, (_STEEL, (70.0, 84.0, 66.0), _BLACK)[int(rng.integers(3))], 0.1)
    top = height * _UP
    builder.tube(np.zeros(3), 1.3 * _UP, 0.12, 0.11, paint, sides=8)
    builder.tube(1.3 * _UP, top, 0.085, 0.06, paint, sides=8)
    reach = float(rng.uniform(0.9, 1.9))
    bend = [top + np.array([reach * share, 0, 0.5 * np.sin(share * np.pi / 2)])
            for share in (0.0, 0.3, 0.65, 1.0)]
    for a, b in zip(bend[:-1], bend[1:], strict=True):
        builder.tube(a, b, 0.05, 0.045, paint, sides=6)
    end = bend[-1]
    builder.box((end[0] - 0.1, -0.14, end[2] - 0.08), (end[0] + 0.6, 0.14, end[2] + 0.1),
                jitter(rng, (150, 152, 152), 0.1))
    return builder.build()


def sign_post(rng: np.random.Generator) -> Mesh:
    """Return a road sign on its post; the sign faces against x."""
    builder = MeshBuilder(POLE)
    kind = str(rng.choice(('speed', 'warning', 'blue', 'direction', 'parking', 'no_entry')))
    height = float(rng.uniform(2.3, 2.8))
    builder.tube(np.zeros(3), (height + 0.7) * _UP, 0.042, 0.042, _STEEL, sides=7)
    builder.label = SIGN
    _plate(builder, rng, kind, np.array([-0.07, 0, height + 0.3]))
    if rng.random() < 0.35:
        _plate(builder, rng, 'parking', np.array([-0.07, 0, height - 0.45]))
    return builder.build()


def _plate(builder: MeshBuilder, rng: np.random.Generator, kind: str,
           centre: np.ndarray) -> None:
    """Add one sign plate, square to x."""
    across = np.array([0.0, -1.0, 0.0])

    def face(corners: np.ndarray, off: float, colour: tuple[float, float, float]) -> None:
        """Add one layer, and behind the first the plate's grey back."""
        builder.add(corners, fan(len(corners)), colour, bias_m=200 * off,
                    inside=centre + [0.05, 0, 0])
        if off == 0.0:
            builder.add(corners, fan(len(corners)), _STEEL, inside=centre - [0.05, 0, 0])

    def rectangle(wide: float, high: float, off: float, colour: tuple[float, float, float],
                  at: tuple[float, float] = (0.0, 0.0)) -> None:
        spot = centre + at[0] * across + at[1] * _UP - [off, 0, 0]
        corners = [spot + x * wide * across + z * high * _UP
                   for x, z in ((-.5, -.5), (.5, -.5), (.5, .5), (-.5, .5))]
        face(np.array(corners), off, colour)

    def circle(radius: float, off: float, colour: tuple[float, float, float],
               corners: int = 16) -> None:
        face(disc(centre - [off, 0, 0], across, _UP, radius, corners), off, colour)

    if kind == 'speed':
        circle(0.32, 0.0, _RED)
        circle(0.25, 0.004, _WHITE)
        for x in (-0.08, 0.08):
            rectangle(0.09, 0.2, 0.008, _BLACK, (x, 0.0))
    elif kind == 'no_entry':
        circle(0.34, 0.0, _RED)
        rectangle(0.44, 0.11, 0.004, _WHITE)
    elif kind == 'blue':
        circle(0.32, 0.0, _BLUE)
        rectangle(0.08, 0.34, 0.004, _WHITE)
        rectangle(0.2, 0.08, 0.008, _WHITE, (0.0, 0.12))
    elif kind == 'warning':
        for size, off, colour in ((0.46, 0.0, _RED), (0.30, 0.004, _WHITE)):
            triangle = [centre + size * (np.sin(a) * across + np.cos(a) * _UP) - [off, 0, 0.1]
                        for a in (0.0, 2 * np.pi / 3, 4 * np.pi / 3)]
            face(np.array(triangle), off, colour)
        rectangle(0.06, 0.24, 0.008, _BLACK, (0.0, -0.08))
    elif kind == 'direction':
        wide = float(rng.uniform(1.1, 1.8))
        paint = (_GREEN, _BLUE, _WHITE)[int(rng.integers(3))]
        ink = _BLACK if paint is _WHITE else _WHITE
        rectangle(wide, 0.75, 0.0, ink)
        rectangle(wide - 0.06, 0.69, 0.004, paint)
        for z in (-0.18, 0.06, 0.22):
            rectangle(wide * float(rng.uniform(0.4, 0.75)), 0.1, 0.008, ink, (0.0, z))
    else:
        rectangle(0.42, 0.55, 0.0, _WHITE)
        rectangle(0.36, 0.3, 0.004, _BLUE if rng.random() < 0.5 else (50.0, 190.0, 220.0),
                  (0.0, 0.08))
        rectangle(0.26, 0.06, 0.008, _BLACK, (0.0, -0.17))


def signal_post(rng: np.random.Generator) -> Mesh:
    """Return a traffic signal; its lamps face against x."""
    builder = MeshBuilder(POLE)
    builder.tube(np.zeros(3), 3.5 * _UP, 0.06, 0.055, (44.0, 46.0, 46.0), sides=8)
    builder.label = SIGN
    builder.plate(np.array([[-0.1, y, z] for y, z in ((-.26, 2.3), (.26, 2.3), (.26, 3.5),
                                                      (-.26, 3.5))]), _BLACK)
    builder.plate(np.array([[-0.11, y, z] for y, z in ((-.24, 2.32), (.24, 2.32), (.24, 3.48),
                                                       (-.24, 3.48))]), (52.0, 52.0, 52.0))
    builder.box((-0.3, -0.16, 2.42), (-0.1, 0.16, 3.38), _BLACK)
    green = rng.random() < 0.7
    colours = (((40.0, 40.0, 90.0) if green else (60.0, 50.0, 250.0)), (40.0, 80.0, 100.0),
               ((150.0, 240.0, 60.0) if green else (50.0, 70.0, 40.0)))
    for place, colour in zip((3.2, 2.9, 2.6), colours, strict=True):
        lit = 1.0 if max(colour) > 200 else 0.0
        builder.plate(disc(np.array([-0.305, 0, place]), np.array([0, -1.0, 0]), _UP, 0.105, 12),
                      colour, glow=lit, bias_m=0.1)
    return builder.build()


def beacon_post() -> Mesh:
    """Return the banded post of a zebra crossing with its amber globe."""
    builder = MeshBuilder(POLE)
    for band in range(6):
        paint = _BLACK if band % 2 else _WHITE
        builder.tube(band * 0.45 * _UP, (band + 1) * 0.45 * _UP, 0.06, 0.06, paint, sides=8)
    builder.label = SIGN
    globe = 2.86 * _UP
    turn = 2 * np.pi * np.arange(10) / 10
    rings = [globe + np.stack([0.17 * s * np.cos(turn), 0.17 * s * np.sin(turn),
                               np.full(10, 0.17 * h)], axis=1)
             for h, s in ((-1, .3), (-.7, .75), (0, 1), (.7, .75), (1, .3))]
    builder.rings(np.array(rings), np.array((40.0, 150.0, 240.0)), gloss=0.2, caps=True)
    return builder.build()


def bollard(rng: np.random.Generator) -> Mesh:
    """Return a bollard."""
    builder = MeshBuilder(POLE)
    paint = jitter(rng, (_BLACK, (60.0, 70.0, 74.0))[int(rng.integers(2))], 0.2)
    turn = 2 * np.pi * np.arange(8) / 8
    rings = [np.stack([r * np.cos(turn), r * np.sin(turn), np.full(8, z)], axis=1)
             for z, r in ((0, .11), (0.1, .085), (0.8, .075), (0.86, .1), (0.95, .09), (1.0, .04))]
    colours = np.repeat(np.array([paint, paint, _WHITE, paint, paint]), 8, axis=0)
    builder.rings(np.array(rings), colours, caps=True)
    return builder.build()
