"""The fused labelling against the plain reference, on logits that try to break it."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from seg_node import labels, reference
from seg_node.errors import FrameError
from seg_node.geometry import fit, Size
from seg_node.model.card import InputSpec


def spec(size, resize='stretch'):
    return InputSpec('image', 'NCHW', 'rgb', 'float32', (0, 0, 0), (1, 1, 1), size=size,
                     resize=resize)


def check(scores, geometry, align_corners=False):
    """Compare labels and confidence with the reference, every pixel."""
    rows = geometry.rows(scores.shape[1], align_corners)
    columns = geometry.columns(scores.shape[2], align_corners)
    probabilities = labels.softmax(scores)
    got, sure = labels.upsample_argmax(scores, rows, columns, probabilities)
    alone, nothing = labels.upsample_argmax(scores, rows, columns)
    truth = reference.labels(scores, rows, columns)
    assert got.shape == geometry.output
    np.testing.assert_array_equal(got, truth)
    np.testing.assert_array_equal(alone, truth)
    assert nothing is None
    np.testing.assert_array_equal(
        sure, reference.confidence(probabilities, truth, rows, columns))
    return got


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
    _, sure = labels.upsample_argmax(scores, rows, columns, labels.softmax(scores))
    assert sure.min() < 145 and sure.max() == 255
    assert abs(int(sure[0].argmin()) - 32) <= 1


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_refuses_scores_that_are_not_finite(bad):
    scores = np.zeros((3, 4, 5), np.float32)
    scores[2, 3, 4] = bad
    geometry = fit(spec((16, 20)), Size(30, 40))
    with pytest.raises(FrameError, match='NaN or infinite') as refusal:
        labels.upsample_argmax(scores, geometry.rows(4), geometry.columns(5))
    assert refusal.value.reason == 'logits'


def test_softmax():
    logits = np.random.default_rng(0).normal(size=(6, 5, 4)).astype('f4') * 30
    np.testing.assert_allclose(labels.softmax(logits), reference.softmax(logits), rtol=1e-6)
    np.testing.assert_allclose(labels.softmax(logits).sum(axis=0), 1, rtol=1e-5)
