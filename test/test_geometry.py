"""The one mapping between camera, network and mask pixels."""

import cv2
import numpy as np
import pytest

from seg_node.geometry import fit, Size
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
