"""The one mapping between camera, network and mask pixels."""

import cv2
import numpy as np
import pytest

from seg_node.errors import FrameError
from seg_node.geometry import fit, fit_frame, MAX_ASPECT, MAX_INPUT_RATIO, Size
from seg_node.model.card import InputSpec


def spec(**given):
    values = {'size': None, 'short_side': None, 'multiple': 32, 'resize': 'letterbox'} | given
    return InputSpec('image', 'NCHW', 'rgb', 'float32', (0, 0, 0), (1, 1, 1), **values)


@pytest.mark.parametrize('camera, resize, network, content, top, left', [
    ((720, 1280), 'letterbox', (384, 640), (360, 640), 12, 0),
    ((540, 960), 'letterbox', (384, 640), (360, 640), 12, 0),
    ((360, 480), 'letterbox', (384, 480), (360, 480), 12, 0),
    ((360, 480), 'stretch', (352, 480), (352, 480), 0, 0),
    ((1280, 720), 'letterbox', (640, 384), (640, 360), 0, 12),
])
def test_dynamic_size(camera, resize, network, content, top, left):
    geometry = fit(spec(short_side=360, resize=resize), Size(*camera))
    assert (geometry.network, geometry.content) == (network, content)
    assert (geometry.top, geometry.left) == (top, left)
    assert geometry.output == camera


def test_fixed_size_letterbox_and_stretch():
    letterbox = fit(spec(size=(512, 896)), Size(480, 640))
    assert letterbox.content == (512, 683) and letterbox.left == 106 and letterbox.top == 0
    stretch = fit(spec(size=(512, 896), resize='stretch'), Size(480, 640))
    assert stretch.content == stretch.network == (512, 896)


@pytest.mark.parametrize('camera', [(97, 131), (480, 640), (721, 1283)])
def test_agrees_with_opencv_resize(camera):
    """At stride 1 without border, sampling the network grid is cv2.resize by INTER_LINEAR."""
    geometry = fit(spec(size=(96, 160), resize='stretch'), Size(*camera))
    ramp = np.random.default_rng(0).random((96, 160)).astype(np.float32)
    rows, columns = geometry.rows(96), geometry.columns(160)
    below = np.minimum(rows.low + 1, 95)
    right = np.minimum(columns.low + 1, 159)
    fy, fx = rows.fraction[:, None], columns.fraction
    upper = ramp[rows.low][:, columns.low] * (1 - fx) + ramp[rows.low][:, right] * fx
    lower = ramp[below][:, columns.low] * (1 - fx) + ramp[below][:, right] * fx
    expected = cv2.resize(ramp, camera[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(upper * (1 - fy) + lower * fy, expected, atol=2e-5)


def test_align_corners_maps_corner_to_corner():
    geometry = fit(spec(size=(65, 65), resize='stretch'), Size(65, 65))
    axis = geometry.rows(9, align_corners=True)
    position = axis.low + axis.fraction
    np.testing.assert_allclose(position, np.arange(65) / 8)


def test_letterbox_round_trip():
    """A camera pixel's centre comes back from the network grid to where it was."""
    geometry = fit(spec(size=(512, 512)), Size(720, 1280))
    axis = geometry.rows(512)
    back = (axis.low + axis.fraction - geometry.top + .5) * 720 / geometry.content.height - .5
    np.testing.assert_allclose(back, np.arange(720), atol=1e-9)


def test_starts_cover_every_output_pixel_once():
    axis = fit(spec(size=(96, 160)), Size(301, 411)).columns(20)
    assert axis.starts[0] == 0 and axis.starts[-1] == 411
    for cell, (start, end) in enumerate(zip(axis.starts, axis.starts[1:], strict=False)):
        assert (axis.low[start:end] == cell).all()
    assert (axis.fraction >= 0).all() and (axis.fraction < 1).all()


FIXED, DYNAMIC = {'size': (512, 896)}, {'short_side': 360}


@pytest.mark.parametrize('resize', ['letterbox', 'stretch'])
@pytest.mark.parametrize(('camera', 'rule', 'words'), [
    ((1, 16384), DYNAMIC, '16384x1, 16384 times as long'), ((16384, 1), DYNAMIC, '1x16384'),
    ((64, 1024), DYNAMIC, '16 times'), ((64, 1024), FIXED, '16 times'),
    ((100, 801), FIXED, 'allowed is 8 times'),
    ((360, 2880), DYNAMIC, '4 times the pixels of 640x3'),
    ((2880, 360), DYNAMIC, '4 times the pixels of 640x3'),
])
def test_a_frame_that_would_cost_too_much_is_refused(camera, rule, words, resize):
    with pytest.raises(FrameError, match=words) as refusal:
        fit_frame(spec(**rule, resize=resize), Size(*camera))
    assert refusal.value.reason == 'size'


@pytest.mark.parametrize(('camera', 'rule'), [
    ((1080, 1920), DYNAMIC), ((1920, 1080), DYNAMIC), ((1080, 3840), DYNAMIC),
    ((600, 3600), DYNAMIC), ((3600, 600), FIXED), ((100, 800), FIXED), ((1, 1), DYNAMIC),
    ((4096, 4096), DYNAMIC)])
def test_what_cameras_deliver_is_fitted(camera, rule):
    """Widescreen, upright, panoramas of 6:1, and strips as far as a fixed network takes them."""
    assert fit_frame(spec(**rule), Size(*camera)) == fit(spec(**rule), Size(*camera))


@pytest.mark.parametrize('multiple', [1, 32, 512])
@pytest.mark.parametrize('resize', ['letterbox', 'stretch'])
def test_no_frame_costs_more_than_the_bound(resize, multiple):
    """Over all shapes; and the rule is met exactly: what costs less is never refused."""
    rule = spec(short_side=360, resize=resize, multiple=multiple)
    limit = MAX_INPUT_RATIO * fit(rule, Size(1080, 1920)).network.pixels
    refused = 0
    for width in range(100, 2000, 7):
        for camera in (Size(100, width), Size(width, 100)):
            cost = fit(rule, camera).network.pixels
            try:
                assert fit_frame(rule, camera).network.pixels == cost <= limit
            except FrameError:
                refused += 1
                assert cost > limit or width > MAX_ASPECT * 100
    assert refused > 300
