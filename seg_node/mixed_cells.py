"""
The cells between four points of the grid whose winners differ: called by compiled loops only.

Indices have no sign: none of them counts from the end, and nobody has to ask.
"""

import numpy as np

from .jit import inner

_ZERO = np.float32(0)
_0, _1, _2, _3 = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)


@inner()
def look_up(shape, flat, colder, wanted, i, below, j, winners, best, behind, sure, up, low, crown,
             candidates, found):
    """Write what may win in a mixed cell, with scores and, if wanted, probabilities."""
    classes, height, width = shape
    right = min(j + 1, width - 1)
    plane = np.uint64(height * width)
    at = (np.uint64(i * width + j), np.uint64(i * width + right),
          np.uint64(below * width + j), np.uint64(below * width + right))
    won = winners[up, j], winners[up, right], winners[low, j], winners[low, right]
    top = best[up, j], best[up, right], best[low, j], best[low, right]
    after = behind[up, j], behind[up, right], behind[low, j], behind[low, right]
    count = _find_two(flat[0], plane, at, won, top, after, candidates, found[0])
    if count == 0:
        count = _find_candidates(flat[0], plane, at, np.uint64(classes), won, crown, candidates,
                                 found[0])
    if wanted:
        _find_chances(flat[1], plane, at, top,
                      (sure[up, j], sure[up, right], sure[low, j], sure[low, right]),
                      colder, candidates, count, found[1])
    return count


@inner()
def _find_two(scores, plane, at, won, top, after, candidates, corners):
    """
    List the two classes that win at the corners, in ascending order, if no other can.

    No other can where at each corner one of the two is the first and the other one the second.

    :returns: 2, or 0: there may be others.
    """
    one = min(won[0], won[1], won[2], won[3])
    two = max(won[0], won[1], won[2], won[3])
    first, last = np.uint64(one) * plane, np.uint64(two) * plane
    clear = True
    for c in range(4):
        a, b = scores[first + at[c]], scores[last + at[c]]
        corners[_0, np.uint64(c)], corners[_1, np.uint64(c)] = a, b
        clear &= (((won[c] == one) & (a == top[c]) & (b == after[c]))
                  | ((won[c] == two) & (b == top[c]) & (a == after[c])))
    candidates[_0], candidates[_1] = one, two
    return _2 if clear else _0


@inner()
def _find_candidates(scores, plane, at, classes, winners, crown, candidates, corners):
    """
    List, in ascending order, the classes that may win somewhere in a cell, and their scores.

    :param plane: from one class to the next; ``at``: where the corners are in the first.
    :param crown: (4, 4) float32, to work in.
    """
    rivals = np.uint64(0)
    for n in range(4):
        known = False
        for other in range(n):
            known |= winners[other] == winners[n]
        if not known:
            m = np.uint64(winners[n]) * plane
            crown[rivals, 0], crown[rivals, 1] = scores[m + at[0]], scores[m + at[1]]
            crown[rivals, 2], crown[rivals, 3] = scores[m + at[2]], scores[m + at[3]]
            rivals += np.uint64(1)
    count = np.uint64(0)
    for k in range(classes):
        m = k * plane
        a, b, c, d = scores[m + at[0]], scores[m + at[1]], scores[m + at[2]], scores[m + at[3]]
        beaten = False
        for n in range(rivals):
            if ((crown[n, _0] > a) & (crown[n, _1] > b)
                    & (crown[n, _2] > c) & (crown[n, _3] > d)):
                beaten = True
                break
        if not beaten:
            candidates[count] = k
            # One by one: an array assigned a tuple takes seconds to compile.
            corners[count, 0], corners[count, 1], corners[count, 2], corners[count, 3] = a, b, c, d
            count += np.uint64(1)
    return count


@inner()
def _find_chances(probabilities, plane, at, best, sure, colder, candidates, count, chances):
    """Write the probability of each candidate at the corners of a cell."""
    for n in range(count):
        m = candidates[n] * plane
        for c in range(4):
            value = probabilities[m + at[c]]
            chance = value
            if colder > _ZERO:  # those are logits
                chance = sure[c]
                if value < best[c]:
                    chance *= np.float32(np.exp((value - best[c]) * colder))
            chances[n, np.uint64(c)] = chance


@inner()
def fill_mixed(candidates, count, found, top, bottom, left, end, row_fraction, column_fraction,
                labels, confidence):
    """Write the pixels of a mixed cell, each its winner among the candidates."""
    wanted = confidence.shape[0] > 0
    corners, chances, edges = found[0], found[1], found[2]
    for y in range(top, bottom):
        fy = row_fraction[y]
        gy = 1 - fy
        for n in range(count):
            edges[n, _0] = corners[n, _0] * gy + corners[n, _2] * fy
            edges[n, _1] = corners[n, _1] * gy + corners[n, _3] * fy
        ids, fractions = labels[y, left:end], column_fraction[left:end]
        for x in range(np.uint64(end - left)):
            fx = fractions[x]
            gx = 1 - fx
            won, highest = _0, edges[_0, _0] * gx + edges[_0, _1] * fx
            for n in range(_1, count):
                value = edges[n, _0] * gx + edges[n, _1] * fx
                won = np.uint64(n) if value > highest else won
                highest = value if value > highest else highest
            ids[x] = np.uint8(candidates[won])
            if wanted:
                one = chances[won, _0] * gy + chances[won, _2] * fy
                other = chances[won, _1] * gy + chances[won, _3] * fy
                chance = one * gx + other * fx
                confidence[y, left + x] = np.uint8(np.int32(chance * 255 + 0.5))
