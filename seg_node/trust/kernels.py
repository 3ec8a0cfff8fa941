"""What is counted over the samples of a frame: a few passes over some 10 000 of them."""

import numpy as np

from ..jit import inner, njit

_UNLABELLED = 255
_JUMP, _ONE_TONE = 5, 12  # grey levels
_CONTRAST = 8  # times the mean step to the next row that a row's lightest and darkest differ
_MANY, _SQUARES = 0.5, 2  # share of columns that jump at once; in how many rows at most
_FLAT = 2  # grey levels between the lightest and the darkest of nine neighbouring samples


@njit()
def pick(upside_down, rows, columns):
    """Return some pixels of an image that is given bottom row first, (len(rows), len(columns))."""
    last = len(upside_down) - 1
    found = np.empty((len(rows), len(columns)), np.uint8)
    for y in range(len(rows)):
        row = upside_down[last - rows[y]]
        for x in range(len(columns)):
            found[y, x] = row[columns[x]]
    return found


@njit()
def without_structure(grey, labels):
    """
    Return the share of samples that are like their neighbours, and that of the blind columns.

    A column is blind if 95 % of its lower half is like its neighbours.
    """
    height, width = grey.shape
    flat = seen = blind = 0
    flat_below, seen_below = np.zeros(width, np.int64), np.zeros(width, np.int64)
    low, high = np.full(width + 2, np.uint8(255)), np.zeros(width + 2, np.uint8)
    for y in range(height):
        _span(grey[max(y - 1, 0)], grey[y], grey[min(y + 1, height - 1)], low, high)
        below = 2 * y >= height
        for x in range(width):
            is_seen = int(labels[y, x] != _UNLABELLED)
            least, most = low[x], high[x]
            for n in (1, 2):
                least = low[x + n] if low[x + n] < least else least
                most = high[x + n] if high[x + n] > most else most
            is_flat = is_seen & int(np.int64(most) - np.int64(least) <= _FLAT)
            seen += is_seen
            flat += is_flat
            seen_below[x] += is_seen if below else 0
            flat_below[x] += is_flat if below else 0
    for x in range(width):
        blind += seen_below[x] > 0 and 20 * flat_below[x] >= 19 * seen_below[x]
    return flat / max(seen, 1), blind / width


@inner()
def _span(above, here, below, low, high):
    """Write the least and the greatest of each column of three rows, from index 1 on."""
    for x in range(len(here)):
        least = most = here[x]
        for value in (above[x], below[x]):
            least = value if value < least else least
            most = value if value > most else most
        low[x + 1], high[x + 1] = least, most


@njit()
def rows_alike(grey, dark, noise):
    """
    Return the correlation of each row with the next, twice (height - 1,), and the mean grey level.

    :param dark: grey levels added to the contrast of a row the first time, ``noise`` the second:
        so that rows of noise do not count.
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
        spreads[y] = np.sqrt(max(0.0, square / width - means[y] ** 2))
    alike, clear = np.empty(height - 1), np.empty(height - 1)
    for y in range(height - 1):
        product = np.int64(0)
        for x in range(width):
            product += np.int64(grey[y, x]) * np.int64(grey[y + 1, x])
        both = product / width - means[y] * means[y + 1]
        alike[y] = both / ((spreads[y] + dark) * (spreads[y + 1] + dark))
        clear[y] = both / ((spreads[y] + noise) * (spreads[y + 1] + noise))
    return alike, clear, means.mean()


@njit()
def torn_across(upside_down, columns):
    """
    Return the greatest share of columns that jump at once from one row to the next, 0 to 1.

    A column jumps where it steps by 5 grey levels more than just above and just below. In a whole
    picture edges are slanted, rounded or short; where a picture is put together of two, or its
    lines are shifted from somewhere on, most columns jump in the same row. 0 if that happens in
    more than two rows: squares of coarse coding or scaling. On both sides there must be something
    to see that goes on in the next row: black bars and noisy skies are not torn.

    :param upside_down: (H, W) uint8, the bottom row first; H > 3.
    :param columns: those that are looked at.
    """
    height, count = len(upside_down), len(columns)
    jumps, steps = np.zeros(height, np.int64), np.zeros(height, np.int64)
    low, high = np.zeros(height, np.int64), np.zeros(height, np.int64)
    line, last = np.empty(count, np.int32), np.zeros(count, np.int32)
    above, step = np.full(count, np.int32(1000)), np.full(count, np.int32(1000))
    for y in range(height):
        row = upside_down[height - 1 - y]
        for x in range(count):
            line[x] = row[columns[x]]
        low[y], high[y], below, jumped = _step(line, last, above, step)
        if y:
            steps[y - 1] = below
        if y > 1:
            jumps[y - 2] = jumped
        line, last = last, line
    most = many = 0
    for y in range(1, height - 2):  # between this row and the next
        goes_on = min((high[y] - low[y]) * count - _CONTRAST * steps[y - 1],
                      (high[y + 1] - low[y + 1]) * count - _CONTRAST * steps[y + 1])
        if goes_on > _ONE_TONE * count:
            most = max(most, jumps[y])
        many += jumps[y] >= _MANY * count
    return most / count if many <= _SQUARES else 0.0


@inner()
def _step(line, last, above, step):
    """
    Go on to the next row.

    :returns: its least and greatest value, the sum of the steps to it, and how many columns
        jumped one row before.
    """
    low, high, total, jumped = np.int32(255), np.int32(0), np.int32(0), np.int32(0)
    for x in range(len(line)):
        value = line[x]
        low = value if value < low else low
        high = value if value > high else high
        below = abs(value - last[x])
        before = above[x] if above[x] > below else below
        total += below
        jumped += np.int32(step[x] - before >= _JUMP)
        above[x], step[x] = step[x], below
    return low, high, total, jumped


@njit()
def edge_agreement(grey, labels):
    """
    Return what there is to say of the places where labels change from one sample to the next.

    :returns: the log of the ratio of grey steps there to those elsewhere; the share of such
        places.
    """
    height, width = grey.shape
    all_steps = steps = changes = np.int64(0)
    for y in range(height - 1):
        for grey_to, label_to in ((grey[y, 1:], labels[y, 1:]), (grey[y + 1], labels[y + 1])):
            found = _border_steps(grey[y], grey_to, labels[y], label_to, width - 1)
            all_steps += found[0]
            steps += found[1]
            changes += found[2]
    others = 2 * (height - 1) * (width - 1) - changes
    inside = (all_steps - steps) / others if others else 0.0
    border = steps / changes if changes else 0.0
    return np.log((border + 1) / (inside + 1)), changes / max(1, changes + others)


@inner()
def _border_steps(grey, grey_to, labels, labels_to, count):
    """Return the sum of the steps to other samples, of those across a border, and their number."""
    total = steps = changes = np.int32(0)
    for x in range(count):
        step = abs(np.int32(grey[x]) - np.int32(grey_to[x]))
        changed = np.int32(labels[x] != labels_to[x])
        total += step
        steps += step * changed
        changes += changed
    return total, steps, changes


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
