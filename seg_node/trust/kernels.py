"""What is counted over the samples of a frame: a few passes over some 10 000 of them."""

import numpy as np

from ..jit import inner, njit

_UNLABELLED = 255
_JUMP, _ONE_TONE = 5, 12  # grey levels
_CONTRAST = 8  # times the mean step to the next row that a row's lightest and darkest differ
_MANY, _SQUARES = 0.5, 2  # share of columns that jump at once; in how many rows at most
_FLAT = 2  # grey levels between the lightest and the darkest of nine neighbouring samples


@njit()
def without_structure(grey, labels):
    """
    Return the share of samples that are like their neighbours, and that of the blind columns.

    A column is blind if 95 % of its lower half is like its neighbours.
    """
    height, width = grey.shape
    flat = seen = blind = 0
    flat_below, seen_below = np.zeros(width, np.int64), np.zeros(width, np.int64)
    for y in range(height):
        below = 2 * y >= height
        for x in range(width):
            if labels[y, x] == _UNLABELLED:
                continue
            is_flat = _is_flat(grey, y, x)
            seen += 1
            flat += is_flat
            if below:
                seen_below[x] += 1
                flat_below[x] += is_flat
    for x in range(width):
        blind += seen_below[x] > 0 and 20 * flat_below[x] >= 19 * seen_below[x]
    return flat / max(seen, 1), blind / width


@inner(inline='always')
def _is_flat(grey, y, x):
    low = high = np.int64(grey[y, x])
    for v in range(max(y - 1, 0), min(y + 2, grey.shape[0])):
        for u in range(max(x - 1, 0), min(x + 2, grey.shape[1])):
            value = np.int64(grey[v, u])
            low, high = min(low, value), max(high, value)
            if high - low > _FLAT:
                return False
    return True


@njit()
def rows_alike(grey, dim):
    """
    Return the correlation of each row with the next, (height - 1,), and the mean grey level.

    :param dim: grey levels added to the contrast of a row, so that rows of noise do not count.
    """
    height, width = grey.shape
    means, spreads = np.empty(height), np.empty(height)
    for y in range(height):
        total = square = np.int64(0)
        for x in range(width):
            value = np.int64(grey[y, x])
            total += value
            square += value * value
        means[y] = total / width
        spreads[y] = np.sqrt(max(0.0, square / width - means[y] ** 2)) + dim
    alike = np.empty(height - 1)
    for y in range(height - 1):
        product = np.int64(0)
        for x in range(width):
            product += np.int64(grey[y, x]) * np.int64(grey[y + 1, x])
        alike[y] = (product / width - means[y] * means[y + 1]) / (spreads[y] * spreads[y + 1])
    return alike, means.mean()


@njit()
def torn_across(lines):
    """
    Return the greatest share of columns that jump at once from one row to the next, 0 to 1.

    A column jumps where it steps by 5 grey levels more than just above and just below. In a whole
    picture edges are slanted, rounded or short; where a picture is put together of two, or its
    lines are shifted from somewhere on, most columns jump in the same row. 0 if that happens in
    more than two rows: squares of coarse coding or scaling. On both sides there must be something
    to see that goes on in the next row: black bars and noisy skies are not torn.

    :param lines: (n, H) uint8, some columns of the picture; H > 3.
    """
    columns, height = lines.shape
    jumps, steps = np.zeros(height, np.int64), np.zeros(height, np.int64)
    low, high = np.full(height, 255, np.int64), np.zeros(height, np.int64)
    for x in range(columns):
        line = lines[x]
        last, above, step = np.int64(line[0]), np.int64(1000), np.int64(1000)
        low[0], high[0] = min(low[0], last), max(high[0], last)
        for y in range(1, height):
            value = np.int64(line[y])
            below = abs(value - last)
            low[y], high[y] = min(low[y], value), max(high[y], value)
            steps[y - 1] += below
            if y > 1:
                jumps[y - 2] += step - max(above, below) >= _JUMP
            last, above, step = value, step, below
    most = many = 0
    for y in range(1, height - 2):  # between this row and the next
        goes_on = min((high[y] - low[y]) * columns - _CONTRAST * steps[y - 1],
                      (high[y + 1] - low[y + 1]) * columns - _CONTRAST * steps[y + 1])
        if goes_on > _ONE_TONE * columns:
            most = max(most, jumps[y])
        many += jumps[y] >= _MANY * columns
    return most / columns if many <= _SQUARES else 0.0


@njit()
def edge_agreement(grey, labels):
    """Return the log of the ratio of grey steps where the labels change to those elsewhere."""
    height, width = grey.shape
    steps = np.zeros(2, np.int64)
    count = np.zeros(2, np.int64)
    for y in range(height - 1):
        for x in range(width - 1):
            here, value = labels[y, x], np.int64(grey[y, x])
            changes = np.int64(labels[y, x + 1] != here)
            steps[changes] += abs(value - np.int64(grey[y, x + 1]))
            count[changes] += 1
            changes = np.int64(labels[y + 1, x] != here)
            steps[changes] += abs(value - np.int64(grey[y + 1, x]))
            count[changes] += 1
    mean = steps / np.maximum(count, 1)
    return np.log((mean[1] + 1) / (mean[0] + 1))


@njit()
def count_bands(labels, bands):
    """Count each class id in each band of rows, (bands, 256) int64."""
    height, width = labels.shape
    for y in range(height):
        band = y * len(bands) // height
        for x in range(width):
            bands[band, labels[y, x]] += 1


@njit()
def drivable_area(drivable, labels, confidence, certainty):
    """
    Return what there is to say of the drivable area.

    :param certainty: (256,) float64, 0 to 1, what each confidence counts as.
    :returns: its share; the mean share of the height below it that is not drivable; the mean
        confidence (0 to 1) inside it, 0 if it has no inside.
    """
    height, width = drivable.shape
    area = seen = afloat = inside = 0
    sure = 0.0
    below = np.zeros(width, np.int64)
    for y in range(height - 1, -1, -1):
        for x in range(width):
            if labels[y, x] == _UNLABELLED:
                continue
            seen += 1
            if not drivable[y, x]:
                below[x] += 1
                continue
            area += 1
            afloat += below[x]
            if (drivable[max(y - 1, 0), x] and drivable[min(y + 1, height - 1), x]
                    and drivable[y, max(x - 1, 0)] and drivable[y, min(x + 1, width - 1)]):
                inside += 1
                sure += certainty[confidence[y, x]]
    return area / max(seen, 1), afloat / max(area, 1) / height, sure / max(inside, 1)
