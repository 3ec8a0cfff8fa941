"""Cars, vans and buses: bodies lofted from a side profile, with glass, wheels, lamps, plates."""

from dataclasses import dataclass

import numpy as np

from .camvid import CAR
from .mesh import disc, fan, Mesh, MeshBuilder
from .noise import jitter

_PAINTS = ((38, 36, 36), (150, 152, 154), (180, 182, 184), (226, 228, 228), (120, 64, 28),
           (36, 30, 150), (92, 50, 30), (70, 72, 74), (60, 90, 50), (150, 120, 80),
           (60, 60, 120), (104, 106, 108), (40, 44, 100), (196, 200, 204))
_GLASS = (44.0, 42.0, 38.0)
_TRIM = (38.0, 38.0, 39.0)
_TYRE = (26.0, 26.0, 27.0)
_LEVELS = 8


@dataclass(frozen=True)
class Profile:
    """
    A make of vehicle.

    :ivar length: metres; likewise width, height and wheel (radius).
    :ivar outline: (x, z) from the tail to the nose over the top, as shares of half the length and
        of the height.
    :ivar belt: height of the windows' lower edge as a share of the height.
    :ivar windows: (from, to) x shares of the side windows.
    :ivar pillars: x shares of the pillars between them.
    :ivar axles: x shares of the wheels.
    """

    length: float
    width: float
    height: float
    wheel: float
    outline: tuple[tuple[float, float], ...]
    belt: float
    windows: tuple[float, float]
    pillars: tuple[float, ...]
    axles: tuple[float, ...] = (-0.62, 0.64)
    sides: float = 0.34


PROFILES = {
    'hatchback': Profile(
        4.0, 1.72, 1.46, 0.31,
        ((-1, .50), (-.985, .64), (-.93, .70), (-.80, .93), (-.62, .98), (-.2, 1), (.1, .97),
         (.50, .665), (.80, .60), (.95, .52), (1, .42)), .63, (-.80, .42), (-.50, -.06)),
    'saloon': Profile(
        4.5, 1.78, 1.44, 0.32,
        ((-1, .52), (-.985, .66), (-.90, .70), (-.66, .72), (-.38, .96), (-.1, 1), (.12, .97),
         (.46, .665), (.80, .60), (.95, .53), (1, .42)), .63, (-.56, .38), (-.30, .02)),
    'estate': Profile(
        4.6, 1.78, 1.50, 0.32,
        ((-1, .50), (-.99, .66), (-.96, .72), (-.86, .95), (-.7, .99), (-.2, 1), (.1, .97),
         (.46, .66), (.80, .60), (.95, .52), (1, .42)), .62, (-.84, .38), (-.55, -.28, .02)),
    'suv': Profile(
        4.5, 1.85, 1.78, 0.37,
        ((-1, .48), (-.99, .66), (-.97, .72), (-.90, .96), (-.7, 1), (-.2, 1), (.16, .97),
         (.46, .66), (.82, .62), (.96, .54), (1, .40)), .62, (-.86, .38), (-.50, -.02)),
    'van': Profile(
        5.2, 1.95, 2.2, 0.35,
        ((-1, .60), (-.995, .92), (-.97, .98), (-.6, 1), (0, 1), (.34, .98), (.72, .56),
         (.93, .46), (.98, .38), (1, .30)), .54, (.34, .66), (.36,), (-.58, .66), .12),
    'bus': Profile(
        10.5, 2.5, 3.0, 0.48,
        ((-1, .55), (-.998, .95), (-.98, .99), (-.5, 1), (0, 1), (.5, 1), (.94, .99),
         (.985, .93), (.999, .5), (1, .4)), .42, (-.93, .92),
        (-.7, -.46, -.22, .02, .26, .5, .74), (-.52, .62), .06),
}


def make_car(rng: np.random.Generator, make: str) -> Mesh:
    """
    Return a vehicle standing at the origin on z = 0, its nose along x.

    :param make: one of PROFILES.
    """
    profile = PROFILES[make]
    paint = (jitter(rng, ((30, 30, 170), (150, 80, 30), (190, 196, 200))[int(rng.integers(3))],
                    0.1) if make == 'bus' else
             jitter(rng, _PAINTS[int(rng.integers(len(_PAINTS)))], 0.12))
    if make == 'van' and rng.random() < 0.6:
        paint = (222.0, 224.0, 224.0)
    builder = MeshBuilder(CAR)
    _body(builder, profile, np.array(paint))
    for axle in profile.axles:
        for side in (-1, 1):
            _wheel(builder, profile, axle * profile.length / 2, side)
    _front(builder, profile, rng)
    _rear(builder, profile, rng)
    if make not in ('bus',):
        _mirrors_and_seams(builder, profile, np.array(paint))
    return builder.build()


def _stations(profile: Profile) -> np.ndarray:
    """Return x shares at which the body is cut: the outline's corners and the pillars' edges."""
    corners = [x for x, _ in profile.outline]
    pillars = [x + off for x in profile.pillars for off in (-.022, .022)]
    wanted = sorted({*corners, *pillars, *profile.windows})
    kept = [wanted[0]]
    for x in wanted[1:]:
        if x - kept[-1] > 0.004:
            kept.append(x)
    return np.array(kept)


def _sections(profile: Profile, x: np.ndarray) -> np.ndarray:
    """Return (n, _LEVELS, 2): (half width, z) of the left half of each cut, sill to roof."""
    outline = np.array(profile.outline)
    top = np.interp(x, outline[:, 0], outline[:, 1]) * profile.height
    half = profile.width / 2 * (1 - 0.17 * np.abs(x) ** 5)
    belt = np.minimum(profile.belt * profile.height, top - 0.02)
    rise = np.maximum(top - belt, 0)
    waist = np.minimum(0.36 * profile.height, belt - 0.02)
    low = np.full_like(x, 0.13 * profile.height)
    lean = half - profile.sides * rise
    roof = np.maximum(lean * 0.97, 0.2)
    level = [(half * .95, low), (half * .99, low + 0.1), (half, waist),
             (half * .985, (waist + belt) / 2 + 0.02), (half * .955, belt),
             (lean * .98, belt + 0.90 * rise), (roof * .88, belt + 0.985 * rise),
             (np.zeros_like(x), top)]
    return np.stack([np.stack(pair, axis=-1) for pair in level], axis=1)


def _body(builder: MeshBuilder, profile: Profile, paint: np.ndarray) -> None:
    shares = _stations(profile)
    cut = _sections(profile, shares)
    x = shares * profile.length / 2
    middle = (shares[1:] + shares[:-1]) / 2
    slope = np.abs(np.gradient(cut[:, 7, 1], x))
    slope = np.maximum(slope[1:], slope[:-1])
    outline = np.array(profile.outline)
    rise = np.diff(np.interp(shares, outline[:, 0], outline[:, 1])) * profile.height / np.diff(x)
    for side in (1, -1):
        points = np.stack([np.repeat(x[:, None], _LEVELS, 1), side * cut[..., 0], cut[..., 1]],
                          axis=-1)
        index = np.arange(points.size // 3).reshape(len(x), _LEVELS)
        faces, colours, gloss = [], [], []
        for i in range(len(x) - 1):
            for j in range(_LEVELS - 1):
                faces.append([index[i, j], index[i + 1, j], index[i + 1, j + 1], index[i, j + 1]])
                glass = _is_glass(profile, j, middle[i], rise[i],
                                  float(min(cut[i, 7, 1], cut[i + 1, 7, 1])))
                colours.append(_GLASS if glass else (_TRIM if j == 0 else paint))
                gloss.append(0.55 if glass else (0.0 if j == 0 else 0.24))
        builder.add(points.reshape(-1, 3), np.array(faces), np.array(colours, float),
                    gloss=np.array(gloss), inside=np.array([0, 0, profile.height * 0.45]))
    for end in (0, -1):
        ring = np.stack([np.full(_LEVELS, x[end]), cut[end, :, 0], cut[end, :, 1]], axis=-1)
        across = np.concatenate([ring, (ring * [1, -1, 1])[::-1]])
        builder.add(across, _bands(_LEVELS), np.tile(paint, (_LEVELS - 1, 1)), gloss=0.2,
                    inside=np.array([0, 0, profile.height * 0.45]))


def _bands(levels: int) -> np.ndarray:
    """Return the faces that join the left and right half of an end ring, band by band."""
    last = 2 * levels - 1
    return np.array([[j, j + 1, last - j - 1, last - j] for j in range(levels - 1)])


def _is_glass(profile: Profile, level: int, x: float, rise: float, top: float) -> bool:
    """Return whether a face of the body is a window."""
    if any(abs(x - pillar) < 0.022 for pillar in profile.pillars):
        return False
    inside = profile.windows[0] < x < profile.windows[1]
    if level == 4:
        return inside
    steep = abs(rise) > 0.38 and top > profile.belt * profile.height * 0.98
    return level in (5, 6) and steep and not -0.3 < x < 0.05


def _wheel(builder: MeshBuilder, profile: Profile, x: float, side: int) -> None:
    """Add one wheel in its arch: tyre, rim, spokes, and the tread below the sill."""
    radius, half = profile.wheel, profile.width / 2
    along, up = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    hub = np.array([x, side * (half + 0.012), radius])
    # Everything but the tread is painted on the body's side, so it only shows from there.
    behind = hub - [0, side, 0]

    def ring(size: float, colour: tuple[float, float, float], corners: int, bias_m: float,
             centre: np.ndarray = hub, gloss: float = 0.0) -> None:
        builder.add(disc(centre, along, up, radius * size, corners), fan(corners), colour,
                    gloss=gloss, bias_m=bias_m, inside=behind)

    arch = disc(hub + [0, 0, 0.03], along, up, radius * 1.17, 16)
    arch[:, 2] = np.maximum(arch[:, 2], 0.13 * profile.height)
    builder.add(arch, fan(16), (22.0, 22.0, 22.0), bias_m=1.0, inside=behind)
    ring(1.0, _TYRE, 16, 2.0)
    ring(0.66, (150.0, 152.0, 154.0), 14, 3.0, gloss=0.2)
    builder.fine = True
    for spoke in range(5):
        turn = spoke * 2 * np.pi / 5 + 0.3
        spot = hub + radius * 0.42 * (np.cos(turn) * along + np.sin(turn) * up)
        ring(0.15, (62.0, 62.0, 64.0), 6, 4.0, spot)
    builder.fine = False
    inner = hub - [0, side * 0.21, 0]
    rim = np.stack([disc(at, along, up, radius * 0.99, 12) for at in (hub, inner)])
    builder.rings(rim, np.array(_TYRE), bias_m=-0.15)


def _patch(builder: MeshBuilder, half_length: float, x: float, y: tuple[float, float],
           z: tuple[float, float], colour: tuple[float, float, float], gloss: float = 0.0,
           glow: float = 0.0) -> None:
    """Add an upright rectangle across the car, at x (beyond half the length)."""
    corners = np.array([[x, y[0], z[0]], [x, y[1], z[0]], [x, y[1], z[1]], [x, y[0], z[1]]])
    # Layers lie a few millimetres apart; what counts is that the outer ones come later.
    layer = 1.0 + 200 * (abs(x) - half_length)
    builder.add(corners, fan(4), colour, inside=np.array([0, 0, z[0]]), bias_m=layer,
                gloss=gloss, glow=glow)


def _front(builder: MeshBuilder, profile: Profile, rng: np.random.Generator) -> None:
    """Add grille, headlamps, bumper, number plate and air intake."""
    end, half, high = profile.length / 2, profile.width / 2 * 0.84, profile.height
    x = end + 0.012
    nose = profile.outline[-1][1] * high
    _patch(builder, end, x, (-half, half), (nose * 0.34, nose * 0.62), _TRIM, gloss=0.05)
    _patch(builder, end, x + 0.005, (-half * 0.55, half * 0.55), (nose * 0.74, nose * 0.96),
           (34.0, 34.0, 35.0))
    lit = 1.0 if rng.random() < 0.25 else 0.0
    for side in (-1, 1):
        lamp = (side * half * 0.6, side * half * 0.99)
        _patch(builder, end, x + 0.006, (min(lamp), max(lamp)), (nose * 0.74, nose * 1.0),
               (226.0, 228.0, 226.0) if not lit else (248.0, 254.0, 255.0), gloss=0.3, glow=lit)
    _patch(builder, end, x + 0.012, (-0.26, 0.26), (nose * 0.48, nose * 0.48 + 0.115),
           (216.0, 220.0, 222.0))
    _patch(builder, end, x + 0.016, (-0.21, 0.21), (nose * 0.48 + 0.03, nose * 0.48 + 0.085),
           (70.0, 70.0, 70.0))


def _rear(builder: MeshBuilder, profile: Profile, rng: np.random.Generator) -> None:
    """Add tail lamps, bumper, number plate and, on tall tails, the rear window."""
    end, half, high = profile.length / 2, profile.width / 2 * 0.83, profile.height
    x = -end - 0.012
    tail = profile.outline[0][1] * high
    _patch(builder, end, x, (-half, half), (0.18 * high, 0.18 * high + 0.16), _TRIM, gloss=0.05)
    braking = 1.0 if rng.random() < 0.3 else 0.0
    for side in (-1, 1):
        lamp = (side * half * 0.78, side * half * 1.0)
        _patch(builder, end, x - 0.006, (min(lamp), max(lamp)), (tail * 0.62, tail * 1.0),
               (44.0, 40.0, 215.0) if braking else (38.0, 34.0, 150.0), gloss=0.15, glow=braking)
        _patch(builder, end, x - 0.010, (min(lamp), max(lamp)), (tail * 0.74, tail * 0.82),
               (120.0, 150.0, 220.0), gloss=0.15)
    low = tail * 0.72 if high < 1.6 else tail * 0.5
    _patch(builder, end, x - 0.008, (-0.26, 0.26), (low, low + 0.115), (60.0, 196.0, 226.0))
    _patch(builder, end, x - 0.012, (-0.21, 0.21), (low + 0.03, low + 0.085), (40.0, 70.0, 76.0))
    if profile.outline[1][1] > 0.9:
        _patch(builder, end, x - 0.006, (-half * 0.8, half * 0.8), (high * 0.58, high * 0.86),
               _GLASS, gloss=0.4)


def _mirrors_and_seams(builder: MeshBuilder, profile: Profile, paint: np.ndarray) -> None:
    """Add the door mirrors, door gaps, handles and a rubbing strip."""
    half, high = profile.width / 2, profile.height
    belt, x = profile.belt * high, profile.windows[1] * profile.length / 2 - 0.15
    shade = (paint[0] * 0.9, paint[1] * 0.9, paint[2] * 0.9)
    for side in (-1, 1):
        y = sorted((side * (half - 0.04), side * (half + 0.17)))
        builder.fine = False
        builder.box((x - 0.05, y[0], belt), (x + 0.06, y[1], belt + 0.14), shade, bias_m=2.0,
                    gloss=0.15)
        builder.fine = True
        out = side * (half + 0.004)
        for seam in (*profile.pillars[-2:], profile.windows[1]):
            at = seam * profile.length / 2
            builder.plate(np.array([[at, out, 0.2 * high], [at + 0.02, out, 0.2 * high],
                                    [at + 0.02, out * 0.97, belt], [at, out * 0.97, belt]]),
                          (paint[0] * 0.4, paint[1] * 0.4, paint[2] * 0.4), bias_m=1.0)
            builder.plate(np.array([[at - 0.3, out, belt - 0.14], [at - 0.1, out, belt - 0.14],
                                    [at - 0.1, out, belt - 0.09], [at - 0.3, out, belt - 0.09]]),
                          (paint[0] * 0.6, paint[1] * 0.6, paint[2] * 0.6), bias_m=1.5)
    builder.fine = False
