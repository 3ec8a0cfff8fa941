"""Sun, sky light and haze: how bright a surface is and how distance washes it out."""

from dataclasses import dataclass

import numpy as np

_GAMMA = 1 / 2.2


@dataclass(frozen=True, eq=False)
class Light:
    """
    The light of one drive.

    Convention: colours are BGR display values 0..255; light is linear, and because a power law
    keeps products, a display colour is multiplied by ``light ** (1 / 2.2)``.

    :ivar towards_sun: (3,) unit vector, world.
    :ivar sun: (3,) linear BGR strength of the direct sun.
    :ivar ambient: (3,) linear BGR strength of the sky on a surface that looks up.
    :ivar horizon: (3,) BGR that far things fade to.
    :ivar haze_per_m: share of the horizon's colour gained a metre.
    """

    towards_sun: np.ndarray
    sun: np.ndarray
    ambient: np.ndarray
    horizon: np.ndarray
    haze_per_m: float

    def gain(self, normals: np.ndarray, sunlit: np.ndarray | float = 1.0) -> np.ndarray:
        """
        Return the factors (..., 3) on a surface's display colour.

        :param normals: (..., 3) unit outward normals, world.
        :param sunlit: 0 in shadow to 1 in the sun, broadcast against ``normals[..., 0]``.
        """
        sky = 0.62 + 0.38 * normals[..., 2]
        direct = np.maximum((normals * self.towards_sun).sum(axis=-1), 0) * sunlit
        linear = sky[..., None] * self.ambient + direct[..., None] * self.sun
        return linear ** _GAMMA

    def haze(self, distance_m: np.ndarray | float) -> np.ndarray:
        """Return the share of the horizon's colour at a distance, 0..1."""
        return 1 - np.exp(-self.haze_per_m * np.asarray(distance_m, float))

    def shadow_gain(self) -> np.ndarray:
        """Return (3,): what a shadow leaves of sunlit ground's display colour."""
        up = np.array([0.0, 0.0, 1.0])
        return self.gain(up, 0.0) / self.gain(up, 1.0)
