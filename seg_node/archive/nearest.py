"""How far the road is free: what the node's ground outputs see, as two figures of a frame."""

import math

import numpy as np

from ..errors import ConfigError
from ..frame import Products
from ..geometry import Size
from ..ground.calibration import CameraCalibration
from ..ground.free_space import FreeSpace, GridSpec
from ..ground.known import KnownCamera
from ..ground.rays import make_rays
from ..model.taxonomy import ClassTable
from ..ros.parameter_table import NODE

#: Half the width of the way straight ahead.
ASIDE_M = 1.0
_DEFAULTS = {row.name: row.default for row in NODE}


class Nearest:
    """
    Follows one camera, whose calibration may change.

    :param known: its calibration in use.
    :ivar problem: why nothing is told though there is a mount; '' = there is no problem.
    """

    def __init__(self, known: KnownCamera, classes: ClassTable) -> None:
        self._known = known
        self._ground = classes.ground_lut()
        self._made_for: tuple[Size, CameraCalibration | None] | None = None
        self._space: FreeSpace | None = None
        self.problem = ''

    def figures(self, products: Products) -> dict[str, float | None]:
        """Return ``nearest_m`` and ``free_ahead_m`` of a frame; nothing without a mount."""
        space = self._ready(products)
        mask, drivable = (products.images.get(name) for name in ('mask', 'drivable'))
        if space is None or mask is None or drivable is None:
            return {}
        seen = space.see(np.ascontiguousarray(mask), np.ascontiguousarray(drivable))
        ranges = seen.boundary_m
        finite = ranges[np.isfinite(ranges)]
        x, y = space.boundary(seen)
        ahead = x[np.isfinite(x) & (np.abs(y) <= ASIDE_M)]
        middle = np.abs(space.rays.bearings) <= math.asin(min(1.0, ASIDE_M / space.rays.limit_m))
        free: float | None = None
        if ahead.size:
            free = float(ahead.min())
        elif np.isinf(ranges[middle]).any():
            free = space.rays.foot[0] + space.rays.limit_m
        return {'nearest_m': float(finite.min()) if finite.size else None, 'free_ahead_m': free}

    def _ready(self, products: Products) -> FreeSpace | None:
        known, size = self._known.calibration, products.geometry.output
        if self._made_for == (size, known):
            return self._space
        self._made_for, self._space, self.problem = (size, known), None, ''
        if known is None or known.mount is None:
            return None
        try:
            if (known.height, known.width) != products.geometry.camera:
                raise ConfigError(f'the calibration is for {known.resolution}, the images are '
                                  f'{products.geometry.camera}: calibrate at the size in use')
            rays = make_rays(known, known.mount, size, rectified=False,
                             pitch_sigma_rad=math.radians(_DEFAULTS['pitch_sigma_deg']),
                             max_range_m=_DEFAULTS['ground_range_m'])
        except ConfigError as error:
            self.problem = f'no distances: {error}'
            return None
        self._space = FreeSpace(rays, GridSpec(), self._ground)
        return self._space
