"""The look of one drive, drawn by lot: weather, sun, district and the camera's mood."""

from dataclasses import dataclass, replace

import numpy as np

from .light import Light

MOTORWAY = 'motorway'
DISTRICTS = ('high_street', 'residential', 'mixed', MOTORWAY)
# name: (share, sun, ambient, cloud cover, sky zenith BGR, horizon BGR, exposure)
_WEATHER = {
    'sunny': (0.45, 1.25, 0.34, 0.25, (226, 172, 122), (250, 244, 236), 0.92),
    'bright': (0.30, 0.45, 0.72, 0.75, (246, 238, 228), (252, 250, 246), 0.88),
    'overcast': (0.17, 0.0, 0.85, 1.0, (205, 198, 192), (238, 236, 234), 0.80),
    'dusk': (0.08, 0.0, 0.52, 0.85, (150, 132, 118), (212, 206, 204), 0.78),
}


@dataclass(frozen=True, eq=False)
class Style:
    """
    The look of one drive.

    :ivar weather: name of the weather.
    :ivar district: one of DISTRICTS.
    :ivar zenith: (3,) BGR of the sky above.
    :ivar clouds: cloud cover, 0 none to 1 closed.
    :ivar exposure: the camera's gain on display values about which it wanders.
    :ivar contrast: steepness of its tone curve, 1 = straight.
    :ivar noise: standard deviation of the sensor's noise, grey levels.
    :ivar saturation: 1 = as painted.
    :ivar tint: (3,) BGR white balance.
    :ivar hills_deg: how high far hills stand above the horizon; 0 = none.
    """

    weather: str
    district: str
    light: Light
    zenith: np.ndarray
    clouds: float
    exposure: float
    contrast: float
    noise: float
    saturation: float
    tint: np.ndarray
    hills_deg: float = 0.0


def draw_style(rng: np.random.Generator, district: str | None = None) -> Style:
    """
    Return a look; each seed gets its own.

    :param district: one of DISTRICTS; None leaves a district in town to chance.
    """
    names = list(_WEATHER)
    shares = np.array([_WEATHER[name][0] for name in names])
    weather = names[int(rng.choice(len(names), p=shares / shares.sum()))]
    _, sun, ambient, clouds, zenith, horizon, exposure = _WEATHER[weather]
    elevation, azimuth = np.radians(rng.uniform(24, 52)), rng.uniform(-np.pi, np.pi)
    towards = np.array([np.cos(elevation) * np.cos(azimuth),
                        np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    light = Light(
        towards_sun=towards, sun=sun * np.array([0.86, 0.97, 1.06]) * rng.uniform(0.9, 1.1),
        ambient=ambient * np.array([1.07, 1.0, 0.95]) * rng.uniform(0.9, 1.1),
        horizon=np.array(horizon, float) * rng.uniform(0.95, 1.02),
        haze_per_m=rng.uniform(0.0006, 0.0022))
    style = Style(
        weather=weather, district=str(rng.choice(DISTRICTS[:-1])),
        light=light, zenith=np.array(zenith, float) * rng.uniform(0.92, 1.04), clouds=clouds,
        exposure=exposure * rng.uniform(0.88, 1.1), contrast=rng.uniform(1.0, 1.35),
        noise=rng.uniform(0.8, 2.4), saturation=rng.uniform(0.75, 1.1),
        tint=1 + 0.03 * rng.uniform(-1, 1, 3))
    if district is None:
        return style
    hills = float(rng.uniform(0.5, 5.0)) if district == MOTORWAY and rng.random() < 0.7 else 0.0
    return replace(style, district=district, hills_deg=hills)
