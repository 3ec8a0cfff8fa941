"""
The labelling on a few pixels, each case for one of its branches.

Quick even as plain Python, which is how ``make mutation`` runs it.
"""

from numba import njit
import numpy as np
import pytest
from test_labels import check, spec

from seg_node import labels, reference
from seg_node.errors import FrameError
from seg_node.geometry import Axis, fit, Size
from seg_node.survey import power_of_two


def geometry(h, w, height, width, **given):
    return fit(spec((h * 4, w * 4), **given), Size(height, width))


@pytest.mark.parametrize('corners', [False, True])
@pytest.mark.parametrize(('classes', 'h', 'w', 'height', 'width'), [
    (1, 2, 3, 5, 7), (2, 1, 1, 3, 4), (3, 1, 4, 5, 9), (3, 4, 1, 9, 5), (4, 3, 3, 3, 3),
    (5, 4, 5, 11, 13), (3, 6, 5, 2, 3), (6, 2, 2, 12, 10), (2, 5, 5, 20, 4)])
def test_equals_reference(classes, h, w, height, width, corners):
    """Ties at corners, along edges and inside cells; then scores without any."""
    rng = np.random.default_rng(classes * h)
    for scores in (rng.integers(-2, 2, (classes, h, w)), rng.normal(size=(classes, h, w)) * 3):
        check(scores.astype(np.float32), geometry(h, w, height, width), corners)


def test_large_regions_and_a_border():
    scores = np.zeros((3, 5, 6), np.float32)
    scores[0, :2], scores[1, 2:, :3], scores[2, 2:, 3:] = 2, 3, 4
    check(scores, geometry(5, 6, 13, 9, resize='letterbox'))
    check(scores * 100, geometry(5, 6, 9, 17, resize='letterbox'))


@pytest.mark.parametrize('temperature', [0.1, 2.5])
def test_temperature(temperature):
    scores = np.random.default_rng(5).normal(size=(4, 3, 4)).astype(np.float32) * 4
    check(scores, geometry(3, 4, 7, 9), temperature=temperature)


@pytest.mark.parametrize('apart', [1e-3, 0.7, 6.0, 6.3, 30.0, 86.9, 87.1, 88.5, 104.0, 3e4])
def test_two_classes_any_distance_apart(apart):
    """The exponential over its whole range, and what lies below it."""
    scores = np.zeros((2, 2, 4), np.float32)
    scores[0, :, :2], scores[1, :, 2:] = apart, apart
    check(scores, geometry(2, 4, 5, 9))
    scores[0, 1, 0] = -apart
    check(scores, geometry(2, 4, 5, 9))


@njit
def powers_of_two(exponents):
    """Call it compiled: it has no way in for plain Python."""
    return np.array([power_of_two(exponent) for exponent in exponents])


def test_the_powers_that_the_sums_are_made_of():
    exponents = np.concatenate([-np.logspace(-6, 2.1, 60), [0, -0.5, -126, -200, -1e5, -np.inf]]
                               ).astype(np.float32)
    exact = np.exp2(np.maximum(exponents, -126).astype(np.float64))
    np.testing.assert_allclose(powers_of_two(exponents), exact, rtol=3e-7)
    assert powers_of_two(np.zeros(1, np.float32))[0] == 1


@pytest.mark.parametrize('classes', range(1, 11))
@pytest.mark.parametrize('winner', range(10))
def test_every_class_of_every_group_of_four_may_win(classes, winner):
    scores = np.random.default_rng(classes).normal(size=(classes, 3, 4)).astype(np.float32)
    scores[winner % classes] += 3
    check(scores, geometry(3, 4, 7, 9))


@pytest.mark.parametrize('at', range(4))
@pytest.mark.parametrize('above', [False, True])
def test_the_limit_of_certainty(at, above):
    """A cell of one class is certain where all of its corners are; one below it is worked out."""
    limit = np.float32(0.998041)
    scores = np.zeros((2, 2, 2), np.float32)
    scores[1] = 1
    given = np.zeros((2, 2, 2), np.float32)
    given[1] = 1
    # Far enough below that 255 is no longer what rounding gives.
    given[1].flat[at] = limit if above else 0.99
    rows, columns = Axis(*[np.array(values) for values in ([0, 0, 0], [0, .25, .5], [0, 3, 3])]
                         ), Axis(*[np.array(values) for values in
                                   ([0, 0, 1], [0, .5, 0], [0, 2, 3])])
    got, sure = labels.upsample_argmax(scores, rows, columns, given)
    truth = reference.labels(scores, rows, columns)
    np.testing.assert_array_equal(got, truth)
    np.testing.assert_array_equal(sure, reference.confidence(given, truth, rows, columns))
    assert (sure < 255).any() != above


def test_what_counts_as_certain_rounds_to_255():
    assert np.floor(float(labels._CERTAIN) * 255 + 0.5) == 255
    assert np.floor((float(labels._CERTAIN) - 2e-6) * 255 + 0.5) == 254


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('where', [(0, 0, 0), (0, 1, 2), (1, 0, 1), (2, 1, 2), (2, 2, 0)])
@pytest.mark.filterwarnings('ignore:invalid value')
def test_a_score_that_is_not_finite_is_refused(bad, where):
    scores = np.zeros((3, 3, 3), np.float32)
    scores[where] = bad
    grid = geometry(3, 3, 4, 4)
    for label in (labels.upsample_argmax, labels.upsample_softmax):
        with pytest.raises(FrameError, match='NaN or infinite') as refusal:
            label(scores, grid.rows(3), grid.columns(3))
        assert refusal.value.reason == 'logits'


@pytest.mark.parametrize(('cores', 'height', 'values', 'bands'), [
    (1, 9, 10**9, [(0, 9)]),
    (2, 9, 2 * labels._BAND - 1, [(0, 9)]),
    (2, 9, 2 * labels._BAND, [(0, 4), (4, 9)]),
    (8, 9, 3 * labels._BAND, [(0, 3), (3, 6), (6, 9)]),
    (8, 2, 9 * labels._BAND, [(0, 1), (1, 2)]),
    (8, 1, 9 * labels._BAND, [(0, 1)]),
])
def test_threads_get_bands_that_cover_every_row_once(monkeypatch, cores, height, values, bands):
    monkeypatch.setattr(labels, 'cores', lambda: cores)
    got = []
    assert labels._in_bands(lambda *band: got.append(band) is None, height, values)
    assert sorted(got) == bands
    assert not labels._in_bands(lambda first, end: first > 0, height, values)


def test_the_bands_together_are_the_whole(monkeypatch):
    monkeypatch.setattr(labels, 'cores', lambda: 3)
    monkeypatch.setattr(labels, '_BAND', 20)
    check(np.random.default_rng(9).normal(size=(3, 5, 4)).astype(np.float32),
          geometry(5, 4, 11, 9))


def axis(cells, *fractions):
    """Return an axis that samples each cell but the last at these fractions, and that at 0."""
    low = np.append(np.repeat(np.arange(cells - 1), len(fractions)), cells - 1)
    starts = np.append(np.arange(cells) * len(fractions), len(low))
    return Axis(low.astype(np.int32), np.append(np.tile(fractions, cells - 1), 0.0),
                starts.astype(np.int32))


@pytest.mark.parametrize('rows', [(0,), (0, .5), (.5,), (0, .25, .75)])
@pytest.mark.parametrize('columns', [(0,), (0, .5), (.25,), (0, .25, .5)])
def test_on_the_grid_points_and_between(rows, columns):
    """Ties at the very points of the grid, and cells of one row or column of pixels."""
    rng = np.random.default_rng(len(rows) * 10 + len(columns))
    down, across = axis(4, *rows), axis(4, *columns)
    for _ in range(4):
        scores = rng.integers(0, 3, (4, 4, 4)).astype(np.float32)
        truth = reference.labels(scores, down, across)
        given = reference.softmax(scores).astype(np.float32)
        got, sure = labels.upsample_argmax(scores, down, across, given)
        np.testing.assert_array_equal(got, truth)
        np.testing.assert_array_equal(sure, reference.confidence(given, truth, down, across))


@pytest.mark.parametrize('at', range(9))
def test_one_corner_that_is_not_certain(at):
    """In the middle of certain ones: all four cells around it are worked out."""
    given = np.zeros((2, 3, 3), np.float32)
    given[1] = 1
    given[1].flat[at] = 0.9
    grid = axis(3, 0, .25, .75)
    got, sure = labels.upsample_argmax(given, grid, grid, given)
    assert (got == 1).all()
    np.testing.assert_array_equal(sure, reference.confidence(given, got, grid, grid))


def test_the_temperature_is_1_unless_told():
    scores = np.random.default_rng(2).normal(size=(3, 3, 3)).astype(np.float32)
    grid = axis(3, 0, .5)
    for told, untold in zip(labels.upsample_softmax(scores, grid, grid, 1.0),
                            labels.upsample_softmax(scores, grid, grid), strict=True):
        np.testing.assert_array_equal(told, untold)


def test_a_mask_of_one_row():
    scores = np.random.default_rng(3).normal(size=(3, 1, 4)).astype(np.float32) * 3
    check(scores, geometry(1, 4, 1, 7))
