"""
Rows of scores -> winners and their probabilities: called by compiled loops only.

The probabilities are never all computed: a winner's is one over the sum of the exponentials, which
is kept relative to the highest score so far while the classes go by. Four classes go by at a time:
what is known of a point is then read and written once for four scores.
"""

import numpy as np

from .jit import inner

_ZERO, _ONE, _TWO, _THREE = np.float32(0), np.float32(1), np.float32(2), np.float32(3)
LOG2_E = np.float32(1.4426950408889634)
_NOTHING = np.float32(-np.inf)
_LEAST = np.float32(-126)  # the exponent of the least normal float32
_TO_WHOLE = np.float32(12582912)  # 1.5 * 2^23: added to a float32, it leaves whole numbers
# 2^x for x in -0.5 to 0.5, least squares of the relative error: off by 1e-7 at the most.
_C1 = np.float32(0.6931468559)
_C2 = np.float32(0.24022238)
_C3 = np.float32(0.05550892952)
_C4 = np.float32(0.009671697938)
_C5 = np.float32(0.001321867248)


@inner()
def survey(scores, probabilities, y, left, end, colder, wanted, winners, best, behind, sure,
           place):
    """
    Write winners, their scores and probabilities, from column ``left`` to before ``end``.

    Ties go to the lowest class. ``behind`` is the highest score but the winner's.

    :param scores: float32 (C, h, w); of these row ``y``.
    :param probabilities: the same shape, for ``sure`` where ``colder`` is 0.
    :param colder: one over the temperature of the softmax; 0 = the probabilities are given.
    :param wanted: whether ``sure`` is.
    :param winners: uint8 (end - left,); ``best``, ``behind`` and ``sure`` are float32.
    :param place: float32 (end - left,), to work in.
    :returns: 0, or NaN where a score is not finite.
    """
    softmax = wanted and colder > _ZERO
    base = colder * LOG2_E
    check = _begin(scores[0, y, left:end], best, behind, place, sure)
    k = 1
    while k + 4 <= scores.shape[0]:
        a, b = scores[k, y, left:end], scores[k + 1, y, left:end]
        c, d = scores[k + 2, y, left:end], scores[k + 3, y, left:end]
        if softmax:
            check += _add_four(a, b, c, d, np.float32(k), best, behind, place, sure, base)
        else:
            check += _challenge_four(a, b, c, d, np.float32(k), best, behind, place)
        k += 4
    while k < scores.shape[0]:
        row = scores[k, y, left:end]
        if softmax:
            check += _add_one(row, np.float32(k), best, behind, place, sure, base)
        else:
            check += _challenge_one(row, np.float32(k), best, behind, place)
        k += 1
    for x in range(len(winners)):
        winners[x] = np.uint8(place[x])
    if softmax:
        for x in range(len(sure)):
            sure[x] = _ONE / sure[x]
    elif wanted:
        for x in range(len(sure)):
            sure[x] = probabilities[winners[x], y, left + x]
    return check


@inner(fastmath={'contract'})
def power_of_two(exponent):
    """Return 2^exponent for an exponent from -126 to 0, less counting as -126; off by 2e-7."""
    exponent = exponent if exponent > _LEAST else _LEAST
    whole = (exponent + _TO_WHOLE) - _TO_WHOLE
    rest = exponent - whole
    power = _C5
    power = power * rest + _C4
    power = power * rest + _C3
    power = power * rest + _C2
    power = power * rest + _C1
    power = power * rest + _ONE
    bits = np.float32(power).view(np.int32) + (np.int32(whole) << np.int32(23))
    return np.int32(bits).view(np.float32)


@inner(inline='always')
def _middle(after, score, most):
    """Return what is the highest but one, now that another score has come."""
    least = score if score < most else most
    return least if least > after else after


# Loops over a row, so plain that they are vectorised. Sums may be reordered in them; a NaN or an
# infinity leaves NaN in the check all the same.


@inner(fastmath={'reassoc'})
def _begin(row, top, behind, place, total):
    """Let class 0 win everywhere."""
    check = _ZERO
    for x in range(len(row)):
        top[x], behind[x] = row[x], _NOTHING
        place[x] = 0
        total[x] = 1
        check += row[x] * _ZERO
    return check


@inner(fastmath={'reassoc'})
def _challenge_one(row, k, top, behind, place):
    """Let class k win where its score is higher."""
    check = _ZERO
    for x in range(len(row)):
        score, most, won = row[x], top[x], place[x]
        check += score * _ZERO
        place[x] = k if score > most else won
        behind[x] = _middle(behind[x], score, most)
        top[x] = score if score > most else most
    return check


@inner(fastmath={'reassoc'})
def _challenge_four(a, b, c, d, k, top, behind, place):
    """Let the classes from k on win where their scores are higher."""
    check = _ZERO
    for x in range(len(a)):
        p, q, r, s, most, won = a[x], b[x], c[x], d[x], top[x], place[x]
        check += p * _ZERO + q * _ZERO + r * _ZERO + s * _ZERO
        after = _middle(behind[x], p, most)
        won, most = k if p > most else won, p if p > most else most
        after = _middle(after, q, most)
        won, most = k + _ONE if q > most else won, q if q > most else most
        after = _middle(after, r, most)
        won, most = k + _TWO if r > most else won, r if r > most else most
        behind[x] = _middle(after, s, most)
        won, most = k + _THREE if s > most else won, s if s > most else most
        top[x], place[x] = most, won
    return check


@inner(fastmath={'reassoc', 'contract'})
def _add_one(row, k, top, behind, place, total, base):
    """As ``_challenge_one``, and keep the sum of the exponentials relative to the winner."""
    check = _ZERO
    for x in range(len(row)):
        score, before, won = row[x], top[x], place[x]
        check += score * _ZERO
        behind[x] = _middle(behind[x], score, before)
        most = score if score > before else before
        top[x], place[x] = most, k if score > before else won
        total[x] = (total[x] * power_of_two((before - most) * base)
                    + power_of_two((score - most) * base))
    return check


@inner(fastmath={'reassoc', 'contract'})
def _add_four(a, b, c, d, k, top, behind, place, total, base):
    """As ``_challenge_four``, and keep the sum of the exponentials relative to the winner."""
    check = _ZERO
    for x in range(len(a)):
        p, q, r, s, before, won = a[x], b[x], c[x], d[x], top[x], place[x]
        check += p * _ZERO + q * _ZERO + r * _ZERO + s * _ZERO
        after = _middle(behind[x], p, before)
        won, most = k if p > before else won, p if p > before else before
        after = _middle(after, q, most)
        won, most = k + _ONE if q > most else won, q if q > most else most
        after = _middle(after, r, most)
        won, most = k + _TWO if r > most else won, r if r > most else most
        behind[x] = _middle(after, s, most)
        won, most = k + _THREE if s > most else won, s if s > most else most
        top[x], place[x] = most, won
        total[x] = (total[x] * power_of_two((before - most) * base)
                    + power_of_two((p - most) * base) + power_of_two((q - most) * base)
                    + power_of_two((r - most) * base) + power_of_two((s - most) * base))
    return check
