"""The loops over rays, cells and pixels, compiled by Numba."""

import numpy as np

from ..jit import njit

# What a ray meets: the mask's class, as far as it matters here.
UNSEEN, DRIVABLE, FLAT, OBSTACLE = range(4)
#: So many rows of pixels in sequence are believed; fewer may be a few wrong pixels.
LEAST_ROWS = 2
#: So many of a cell's nine samples must be free for the cell to be.
ENOUGH = 6


@njit()
def read_rays(pixels, margin, shifts, mask, drivable, kinds, states):
    """Write what each ray meets at each row of the table."""
    for i in range(states.shape[0]):
        for j in range(states.shape[1]):
            at = pixels[margin + i + shifts[j], j]
            if at < 0:
                states[i, j] = UNSEEN
            else:
                kind = kinds[mask[at]]
                states[i, j] = DRIVABLE if drivable[at] and kind != UNSEEN else kind


@njit()
def walk(states, ranges, slack, reach, free, boundary):
    """
    Follow each ray from near to far; see ``free_space.Seen`` for the results.

    A row is free when the rows up to ``slack`` before and behind it are drivable, as far as the
    camera sees them, and no obstacle came first.
    """
    rows, bearings = states.shape
    for j in range(bearings):
        first = 0
        while first < rows and states[first, j] == UNSEEN:
            first += 1
        boundary[j] = np.nan
        if first >= reach:
            continue
        boundary[j] = np.inf
        told = False
        last_bad = first - 1
        bad_rows = obstacle_rows = 0
        for i in range(first, rows):
            state = states[i, j]
            if state == DRIVABLE:
                bad_rows = obstacle_rows = 0
            else:
                last_bad = i
                bad_rows += 1
                obstacle_rows = obstacle_rows + 1 if state == OBSTACLE else 0
                if obstacle_rows >= LEAST_ROWS:
                    # Rows up to slack before the obstacle were refused by last_bad already.
                    if not told and i < reach:
                        boundary[j] = ranges[i - bad_rows + 1]
                    told = True
                    break
                if not told and i < reach:
                    if state == UNSEEN:
                        boundary[j] = np.nan  # what comes first is not known
                        told = True
                    elif bad_rows >= LEAST_ROWS or i + 1 == reach:
                        boundary[j] = ranges[i - bad_rows + 1]
                        told = True
            middle = i - slack
            if first <= middle < reach and last_bad < max(first, middle - slack):
                free[middle, j] = True


@njit()
def fill_cells(samples, free, cells, is_free, is_unknown):
    """Write a cell as free when two thirds of its samples are."""
    for i in range(cells.shape[0]):
        for j in range(cells.shape[1]):
            count = 0
            for k in range(samples.shape[2]):
                at = samples[i, j, k]
                count += at >= 0 and free[at]
            cells[i, j] = is_free if count >= ENOUGH else is_unknown


@njit()
def select_points(points, mask, flat, cloud):
    """Write the points of flat pixels, NaN for all else."""
    for i in range(mask.shape[0]):
        if flat[mask[i]]:
            for k in range(3):
                cloud[i, k] = points[i, k]
        else:
            for k in range(3):
                cloud[i, k] = np.nan
