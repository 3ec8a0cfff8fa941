"""The fused labelling against the plain reference, on logits that try to break it."""

from hypothesis import given, settings, strategies as st
from numba import njit
import numpy as np
import pytest

from seg_node import labels, reference
from seg_node.confidence_at import softmax_at
from seg_node.entropy import upsample_entropy
from seg_node.errors import FrameError
from seg_node.geometry import fit, Size
from seg_node.model.card import InputSpec
from seg_node.survey import survey


def spec(size, resize='stretch'):
    return InputSpec('image', 'NCHW', 'rgb', 'float32', (0, 0, 0), (1, 1, 1), size=size,
                     resize=resize)


def check(scores, geometry, align_corners=False, temperature=1.0):
    """Compare labels and confidence with the reference, every pixel."""
    rows = geometry.rows(scores.shape[1], align_corners)
    columns = geometry.columns(scores.shape[2], align_corners)
    truth = reference.labels(scores, rows, columns)
    alone, nothing = labels.upsample_argmax(scores, rows, columns)
    assert alone.shape == geometry.output and nothing is None
    np.testing.assert_array_equal(alone, truth)
    probabilities = reference.softmax(scores, temperature)
    given = probabilities.astype(np.float32)
    got, sure = labels.upsample_argmax(scores, rows, columns, given)
    np.testing.assert_array_equal(got, truth)
    np.testing.assert_array_equal(sure, reference.confidence(given, truth, rows, columns))
    got, sure = labels.upsample_softmax(scores, rows, columns, temperature)
    np.testing.assert_array_equal(got, truth)
    check_confidence(sure, probabilities, truth, rows, columns)
    for places in (tuple(map(np.arange, truth.shape)),
                   (np.array([0, truth.shape[0] - 1]), np.array([truth.shape[1] // 2]))):
        np.testing.assert_array_equal(
            softmax_at(scores, truth, rows, columns, places, temperature), sure[np.ix_(*places)])
    first = np.arange(256) == truth[0, 0]
    np.testing.assert_array_equal(
        softmax_at(scores, truth, rows, columns, tuple(map(np.arange, truth.shape)), temperature,
                   first.astype(np.uint8)), np.where(first[truth], sure, 0))
    return got


def check_confidence(sure, probabilities, winners, rows, columns):
    """
    Compare with the reference where rounding to float32 decides nothing, each pixel exactly.

    Where the exact value lies at half a step either neighbour is right.
    """
    fine = reference.upsample(probabilities, rows, columns)
    exact = np.take_along_axis(fine, winners[None].astype(np.intp), axis=0)[0] * 255
    assert np.abs(sure - exact).max() <= 0.5 + 1e-3
    wanted = reference.confidence(probabilities, winners, rows, columns)
    clear = np.abs(exact + 0.5 - np.rint(exact + 0.5)) > 1e-3
    np.testing.assert_array_equal(sure[clear], wanted[clear])


def smooth(rng, classes, height, width):
    """Make road-like logits: few large regions."""
    coarse = rng.normal(size=(classes, max(2, height // 8), max(2, width // 8)))
    y = np.linspace(0, coarse.shape[1] - 1, height).astype(int)
    x = np.linspace(0, coarse.shape[2] - 1, width).astype(int)
    return (coarse[:, y][:, :, x] * 4 + rng.normal(size=(classes, height, width)) * .3
            ).astype(np.float32)


@pytest.mark.parametrize('stride', [1, 4, 8, 16])
@pytest.mark.parametrize('camera', [(720, 1280), (481, 641), (97, 203), (270, 480)])
@pytest.mark.parametrize('make', [smooth, lambda rng, *s: rng.normal(size=s).astype('f4')])
def test_equals_reference(stride, camera, make):
    rng = np.random.default_rng(stride)
    network = (192, 320)
    scores = make(rng, 11, network[0] // stride, network[1] // stride)
    check(scores, fit(spec(network, 'letterbox'), Size(*camera)))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 12), st.integers(1, 12),
       st.integers(1, 90), st.integers(1, 90), st.booleans(), st.booleans())
def test_equals_reference_on_ties(seed, classes, h, w, camera_h, camera_w, corners, letterbox):
    """Small whole numbers make ties at corners, along edges and inside cells."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(-2, 2, (classes, h, w)).astype(np.float32)
    resize = 'letterbox' if letterbox else 'stretch'
    geometry = fit(spec((h * 4, w * 4), resize), Size(camera_h, camera_w))
    check(scores, geometry, corners)


def test_ties_go_to_the_lowest_class():
    scores = np.zeros((5, 4, 4), np.float32)
    assert (check(scores, fit(spec((16, 16)), Size(33, 17))) == 0).all()


def test_negative_logits():
    rng = np.random.default_rng(3)
    scores = -5 - rng.random((19, 9, 13)).astype(np.float32)
    assert len(np.unique(check(scores, fit(spec((72, 104)), Size(100, 150))))) > 5


def test_output_size_picks_the_camera_grid():
    """A smaller mask is the camera-sized mask at its nearest pixels, not another opinion."""
    rng = np.random.default_rng(4)
    scores = smooth(rng, 7, 24, 40)
    camera = Size(360, 640)
    full = check(scores, fit(spec((96, 160)), camera))
    geometry = fit(spec((96, 160)), camera, Size(150, 424))
    small = check(scores, geometry)
    rows, columns = geometry.output_pixels()
    np.testing.assert_array_equal(small, full[rows[:, None], columns])


def test_confidence_dips_at_the_border_between_two_sure_classes():
    scores = np.zeros((2, 2, 8), np.float32)
    scores[0, :, :4], scores[1, :, 4:] = 10, 10
    geometry = fit(spec((16, 64)), Size(16, 64))
    rows, columns = geometry.rows(2), geometry.columns(8)
    _, sure = labels.upsample_softmax(scores, rows, columns)
    assert sure.min() < 145 and sure.max() == 255
    assert abs(int(sure[0].argmin()) - 32) <= 1


@pytest.mark.parametrize('temperature', [0.05, 0.5, 1.3, 20])
def test_temperature_in_the_confidence_alone(temperature):
    rng = np.random.default_rng(6)
    scores = smooth(rng, 11, 40, 60)
    geometry = fit(spec((80, 120)), Size(131, 190))
    np.testing.assert_array_equal(check(scores, geometry, temperature=temperature),
                                  check(scores, geometry))


@pytest.mark.parametrize('classes', [2, 150, 255])
@pytest.mark.parametrize('camera', [(48, 64), (61, 100)])
def test_full_size_logits_of_many_classes(classes, camera):
    """With the camera on the grid of the logits no cell has a pixel but its own corner."""
    rng = np.random.default_rng(classes)
    scores = smooth(rng, classes, 48, 64)
    check(scores, fit(spec((48, 64)), Size(*camera)))


def test_scores_of_any_range():
    rng = np.random.default_rng(7)
    for scale in (1e-30, 1e30, 3e37):
        check((smooth(rng, 5, 12, 16) * scale).astype(np.float32),
              fit(spec((48, 64)), Size(50, 70)))


@pytest.mark.parametrize('threads', [2, 3, 64])
def test_threads_share_the_rows(monkeypatch, threads):
    monkeypatch.setattr(labels, 'cores', lambda: threads)
    monkeypatch.setattr(labels, '_BAND', 1)
    rng = np.random.default_rng(8)
    scores = smooth(rng, 7, 24, 40)
    check(scores, fit(spec((96, 160)), Size(135, 240)))
    check(scores[:, :1], fit(spec((4, 160)), Size(3, 240)))
    scores[3, -1, -1] = np.nan
    with pytest.raises(FrameError):
        geometry = fit(spec((96, 160)), Size(135, 240))
        labels.upsample_argmax(scores, geometry.rows(24), geometry.columns(40))


@pytest.mark.parametrize('where', [(0, 0), (128, 149), (259, 150)])
def test_points_in_blocks_where_none_lies_between_two(monkeypatch, where):
    """Several blocks, the last one not full, shared by threads, each looked through."""
    monkeypatch.setattr(labels, 'cores', lambda: 2)
    monkeypatch.setattr(labels, '_BAND', 1)
    rng = np.random.default_rng(9)
    scores = smooth(rng, 6, 260, 151)
    geometry = fit(spec((260, 151)), Size(260, 151))
    rows, columns = geometry.rows(260), geometry.columns(151)
    assert rows.is_same and columns.is_same and scores[0].size % labels._POINTS
    check(scores, geometry)
    scores[(4, *where)] = np.inf
    for find in (labels.upsample_argmax, labels.upsample_softmax):
        with pytest.raises(FrameError):
            find(scores, rows, columns)


@pytest.mark.parametrize('camera, corners, same', [
    ((48, 64), False, True), ((48, 64), True, True), ((47, 64), False, False),
    ((48, 128), False, False), ((24, 32), False, False)])
def test_the_grid_of_the_logits_is_told_from_others(camera, corners, same):
    geometry = fit(spec((48, 64)), Size(*camera))
    assert (geometry.rows(48, corners).is_same and geometry.columns(64, corners).is_same) == same
    assert not fit(spec((48, 64)), Size(48, 64)).rows(47).is_same


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('where', [(0, 0, 0), (2, 3, 4), (1, 0, 4), (0, 3, 0)])
def test_refuses_scores_that_are_not_finite(bad, where):
    scores = np.zeros((3, 4, 5), np.float32)
    scores[where] = bad
    geometry = fit(spec((16, 20)), Size(30, 40))
    for find in (labels.upsample_argmax, labels.upsample_softmax):
        with pytest.raises(FrameError, match='NaN or infinite') as refusal:
            find(scores, geometry.rows(4), geometry.columns(5))
        assert refusal.value.reason == 'logits'


@njit
def call_survey(scores, y, colder, winners, best, behind, sure, place):
    """Call it compiled: it has no way in for plain Python."""
    return survey(scores, scores, y, 0, scores.shape[2], colder, True, winners, best, behind, sure,
                  place)


@pytest.mark.parametrize('classes', [2, 5, 150])
@pytest.mark.parametrize('temperature', [0.3, 1.0, 4.0])
def test_the_sums_of_the_exponentials(classes, temperature):
    """Against float64, whatever the order in which they come: sure is one over the sum."""
    rng = np.random.default_rng(classes)
    scores = (rng.normal(size=(classes, 4, 600)) * np.geomspace(0.01, 60, 600)).astype('f4')
    scores[:, 1] = np.sort(scores[:, 1], axis=0)
    scores[:, 2] = np.sort(scores[:, 2], axis=0)[::-1]
    winners, room = np.empty(600, np.uint8), np.empty((4, 600), np.float32)
    best, behind, sure, _ = room

    for y in range(4):
        assert call_survey(scores, y, np.float32(1 / temperature), winners, *room) == 0
        np.testing.assert_array_equal(winners, scores[:, y].argmax(axis=0))
        np.testing.assert_array_equal(best, scores[:, y].max(axis=0))
        np.testing.assert_array_equal(behind, np.sort(scores[:, y], axis=0)[-2])
        exact = reference.softmax(scores[:, y], temperature).max(axis=0)
        np.testing.assert_allclose(sure, exact, rtol=2e-6)


@pytest.mark.parametrize('temperature', [0.05, 1.0, 3.0])
@pytest.mark.parametrize('classes', [2, 11])
@pytest.mark.parametrize('align_corners', [False, True])
def test_the_entropy_is_the_references(temperature, classes, align_corners):
    rng = np.random.default_rng(7)
    scores = smooth(rng, classes, 24, 31)
    scores[:, 0, 0] = 5  # all alike
    scores[0, 0, 1] = 200  # certain
    for camera, output in (((47, 61), None), ((120, 160), (33, 40)), ((24, 31), None)):
        geometry = fit(spec((24, 31)), Size(*camera), Size(*output) if output else None)
        rows, columns = geometry.rows(24, align_corners), geometry.columns(31, align_corners)
        given = reference.softmax(scores, temperature)
        wanted = reference.entropy(given, rows, columns)
        for got in (upsample_entropy(scores, rows, columns, temperature),
                    upsample_entropy(given, rows, columns, None)):
            assert got.dtype == np.uint8 and got.shape == geometry.output
            difference = np.abs(got.astype(int) - wanted)
            assert difference.max() <= 1 and (difference > 0).mean() < 2e-3
    assert got[0, 0] == 255 and got[0, 1] == 0 and 0 < got.mean() < 255
