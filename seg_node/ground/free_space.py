"""
Free space on the ground, from a mask: grid, ranges and boundary, with honest unknowns.

Only what is certainly drivable is free. The mask is read along the rays of ``RayTable``, near to
far. A point is free when it is drivable at every pitch within the uncertainty, and when no
obstacle stands nearer on its ray: what lies behind one is not seen. Everything else that is not
the nearest boundary is unknown, since the height of what is not ground cannot be told from one
camera (projected onto the ground, obstacles would smear away from the car).
"""

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np

from . import kernels
from .rays import RayTable

#: int8 values of nav_msgs/OccupancyGrid.
FREE, OCCUPIED, UNKNOWN = 0, 100, -1


@dataclass(frozen=True)
class GridSpec:
    """
    Where the cells of the grid lie in the base frame.

    :ivar cell_m: side of a cell.
    :ivar ahead_m: the grid reaches from x = 0 to here.
    :ivar aside_m: and from y = -aside_m to aside_m.
    """

    cell_m: float = 0.1
    ahead_m: float = 20.0
    aside_m: float = 10.0

    @property
    def shape(self) -> tuple[int, int]:
        """Cells along y (rows) and along x (columns), as OccupancyGrid counts them."""
        return (round(2 * self.aside_m / self.cell_m), round(self.ahead_m / self.cell_m))

    @property
    def origin(self) -> tuple[float, float]:
        """(x, y) of the corner of the first cell, metres in the base frame."""
        return 0.0, -self.aside_m


@dataclass(frozen=True)
class Seen:
    """
    What the rays of one frame tell.

    :ivar free: (R, B) bool, certainly free ground.
    :ivar boundary_m: (B,) float32, range from the camera's foot to the first ground that is not
        drivable; inf: free up to the range limit; NaN: not seen.
    """

    free: np.ndarray
    boundary_m: np.ndarray


class FreeSpace:
    """
    Turns masks of one size into free space.

    :param rays: of this camera, mount and size of mask.
    :param ground_lut: (256,) uint8, 255 for class ids that lie flat on the ground.
    :param mark_boundary: whether the nearest boundary of each ray is 100 in the grid.
    :param connected: whether only free cells that connect to the car count.
    """

    def __init__(self, rays: RayTable, grid: GridSpec, ground_lut: np.ndarray, *,
                 mark_boundary: bool = True, connected: bool = False) -> None:
        self.rays = rays
        self.grid = grid
        self._mark_boundary = mark_boundary
        self._connected = connected
        self._kinds = np.where(ground_lut > 0, kernels.FLAT, kernels.OBSTACLE).astype(np.uint8)
        self._kinds[255] = kernels.UNSEEN
        self._samples = _cell_samples(rays, grid)

    def see(self, mask: np.ndarray, drivable: np.ndarray, deviation: float = 0.0,
            sigma: float | None = None) -> Seen:
        """
        Read a mask along the rays.

        :param mask: (H, W) uint8 class ids, 255 = unknown, contiguous.
        :param drivable: (H, W) uint8, 255 = drivable.
        :param deviation: of the pitch from the mount's, radians, nose down positive.
        :param sigma: how far it may be wrong, radians; None = as the rays were made for, which is
            also the most.
        """
        rays = self.rays
        states = np.empty((len(rays.depressions), len(rays.bearings)), np.uint8)
        kernels.read_rays(rays.pixels, rays.margin, rays.shifts(deviation), mask.reshape(-1),
                          drivable.reshape(-1), self._kinds, states)
        free = np.zeros(states.shape, np.bool_)
        boundary = np.empty(len(rays.bearings), np.float32)
        slack = rays.slack if sigma is None else min(rays.slack, int(np.ceil(sigma / rays.step)))
        kernels.walk(states, rays.ranges_m, slack, rays.reach, free, boundary)
        boundary[boundary > rays.limit_m] = np.inf  # the last row of the table may lie beyond
        return Seen(free, boundary)

    def occupancy(self, seen: Seen) -> np.ndarray:
        """Return the grid, (rows along y, columns along x) int8: 0 free, 100, -1 unknown."""
        cells = np.empty(self.grid.shape, np.int8)
        kernels.fill_cells(self._samples, seen.free.reshape(-1), cells, FREE, UNKNOWN)
        if self._connected:
            _keep_connected(cells)
        if self._mark_boundary:
            x, y = self.boundary(seen)
            known = np.isfinite(x)
            column = np.floor(x[known] / self.grid.cell_m).astype(int)
            row = np.floor((y[known] + self.grid.aside_m) / self.grid.cell_m).astype(int)
            inside = ((row >= 0) & (row < cells.shape[0]) & (column >= 0)
                      & (column < cells.shape[1]))
            cells[row[inside], column[inside]] = OCCUPIED
        return cells

    def boundary(self, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
        """
        Return x and y of each ray's boundary in the base frame, (B,) metres, right to left.

        NaN where there is none within the range limit.
        """
        ranges = np.where(np.isfinite(seen.boundary_m), seen.boundary_m, np.nan)
        return (self.rays.foot[0] + ranges * np.cos(self.rays.bearings),
                self.rays.foot[1] + ranges * np.sin(self.rays.bearings))

    def outline(self, seen: Seen) -> np.ndarray:
        """
        Return the free space's outline from left to right, (n, 2) float64 metres, base frame.

        Where a ray is free to the range limit the outline lies there; rays that saw nothing are
        left out.
        """
        ranges = np.where(np.isinf(seen.boundary_m), self.rays.limit_m, seen.boundary_m)[::-1]
        bearings = self.rays.bearings[::-1]
        points = np.column_stack([self.rays.foot[0] + ranges * np.cos(bearings),
                                  self.rays.foot[1] + ranges * np.sin(bearings)])
        return points[np.isfinite(ranges)]


def _cell_samples(rays: RayTable, grid: GridSpec) -> np.ndarray:
    """
    Return which entries of the ray table tell about each cell, (rows, columns, 9) int32.

    Nine points of each cell, evenly spread; -1 where one is out of reach.
    """
    rows, columns = grid.shape
    third = grid.cell_m / 3
    x = (np.arange(columns) + 0.5) * grid.cell_m + grid.origin[0]
    y = (np.arange(rows) + 0.5) * grid.cell_m + grid.origin[1]
    samples = np.full((rows, columns, 9), -1, np.int32)
    step = rays.step
    turn = rays.bearings[1] - rays.bearings[0]
    for index, (dx, dy) in enumerate(product((-1, 0, 1), repeat=2)):
        px = x[None, :] + dx * third - rays.foot[0]
        py = y[:, None] + dy * third - rays.foot[1]
        distance = np.hypot(px, py)
        depression = np.arctan2(rays.height_m, distance)
        row = np.rint((rays.depressions[0] - depression) / step).astype(int)
        column = np.rint((np.arctan2(py, px) - rays.bearings[0]) / turn).astype(int)
        inside = ((row >= 0) & (row < rays.reach) & (column >= 0)
                  & (column < len(rays.bearings)))
        samples[..., index] = np.where(inside, row * len(rays.bearings) + column, -1)
    return samples


def _keep_connected(cells: np.ndarray) -> None:
    """Make free cells unknown that are not connected to the one nearest to the car."""
    count, parts = cv2.connectedComponents((cells == FREE).astype(np.uint8), connectivity=4)
    if count <= 1:
        return
    rows, columns = np.nonzero(parts)
    nearest = np.argmin(np.hypot(rows - (cells.shape[0] - 1) / 2, columns))
    cells[(parts != parts[rows[nearest], columns[nearest]]) & (cells == FREE)] = UNKNOWN
