"""Rectified masks: straightened in the one resize that is there anyway."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_node.devices import backend
from seg_node.devices.host import HostSegmenter
from seg_node.errors import FrameError
from seg_node.frame import Demand, Frame, StageClock
from seg_node.geometry import fit_frame, Size
from seg_node.ground.calibration import load_calibration
from seg_node.ground.rectify import rectification_of
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import load_card
from seg_node.pipeline import Pipeline
from seg_node.preprocess import Preprocessor

CAMERA = load_calibration('demo_camera')
SIZE = Size(CAMERA.height, CAMERA.width)
CARD = load_card(Path(__file__).parent / 'models' / 'palette_cityscapes19')
RED, BLUE = (60, 0, 200), (220, 40, 20)


@pytest.fixture(scope='module')
def segmenter():
    return HostSegmenter(CARD, backend.load('onnxruntime', CARD, threads=1,
                                            providers=['CPUExecutionProvider']))


def chequered(width, height, side=40):
    """Return a rectified chequered picture, BGR."""
    y, x = np.mgrid[:height, :width]
    return np.where((((x // side) + (y // side)) % 2)[..., None] == 1, RED, BLUE).astype(np.uint8)


def raw_of(straight, camera):
    """Return what the camera's lens makes of a rectified picture."""
    y, x = np.mgrid[:camera.height, :camera.width]
    rays = camera.normalize(np.stack([x, y], axis=-1).reshape(-1, 2))
    at = camera.project_rectified(np.column_stack([rays, np.ones(len(rays))]))
    at = at.astype(np.float32).reshape(camera.height, camera.width, 2)
    return cv2.remap(straight, at[..., 0], at[..., 1], cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REPLICATE)


def message(image):
    height, width = image.shape[:2]
    return ImageMessage(Header(1, 2, 'optical'), height, width, 'bgr8', False, width * 3,
                        np.ascontiguousarray(image).reshape(-1))


def test_the_network_sees_the_straight_picture():
    straight = chequered(*SIZE[::-1])
    raw = raw_of(straight, CAMERA)
    rectification = rectification_of(CAMERA)
    geometry = fit_frame(CARD.input, SIZE, None, rectification)
    spec = replace(CARD.input, mean=(0.0,) * 3, std=(1.0,) * 3, scale=1.0)
    seen = Preprocessor(spec).tensor([raw], [geometry])[0]
    wanted = Preprocessor(spec).tensor([straight], [replace(geometry, rectification=None)])[0]
    inner = (slice(None), slice(8, -8), slice(8, -8))
    # Resampled twice, edges are soft; a picture left raw is wrong by many squares.
    wrong = np.abs(seen - wanted)[inner].max(axis=0) > 100
    assert wrong.mean() < 0.02
    bent = Preprocessor(spec).tensor([raw], [replace(geometry, rectification=None)])[0]
    assert (np.abs(bent - wanted)[inner].max(axis=0) > 100).mean() > 0.15


def test_labels_overlay_and_unseen_pixels_lie_on_the_rectified_grid(segmenter):
    wide = replace(CAMERA, P=CAMERA.P * np.array([[0.8], [0.8], [1.0]])
                   + np.array([[0, 0, 0.2 * 480, 0], [0, 0, 0.2 * 270, 0], [0] * 4]))
    rectification = rectification_of(wide)
    unseen = rectification.unseen(SIZE)
    assert 0.01 < unseen.mean() < 0.5
    raw = raw_of(chequered(*SIZE[::-1], side=120), wide)
    frame = Frame('camera', message(raw), rectification=rectification)
    pipeline = Pipeline(segmenter, CARD.main_output.classes)
    [products] = pipeline.process([frame], [('mask', 'drivable', 'confidence', 'overlay')],
                                          StageClock())
    images = products.images
    assert (images['mask'][unseen] == 255).all() and (images['mask'][~unseen] != 255).all()
    assert not images['drivable'][unseen].any() and not images['confidence'][unseen].any()
    straight = rectification.picture(raw, SIZE)
    red = (straight[..., 2] > 150) & ~unseen
    mask, seen = images['mask'], set()
    for part in (red, (straight[..., 0] > 180) & ~unseen):
        ids, counts = np.unique(mask[part], return_counts=True)
        assert counts.max() / counts.sum() > 0.9
        seen.add(int(ids[counts.argmax()]))
    assert len(seen) == 2
    overlay = images['overlay']
    assert np.abs(overlay[red].astype(int) - straight[red] // 2).max() < 130


def test_an_image_of_another_size_is_refused(segmenter):
    frame = Frame('camera', message(np.zeros((270, 480, 3), np.uint8)),
                  rectification=rectification_of(CAMERA))
    [result] = segmenter.segment([frame], Demand(), StageClock())
    assert isinstance(result, FrameError) and result.reason == 'calibration'
    assert '480x270' in str(result) and '960x540' in str(result)


@pytest.mark.parametrize('size', [(540, 960), (270, 480)])
def test_the_map_is_the_calibrations(size):
    positions = rectification_of(CAMERA).positions(size)
    rows, columns = np.array([0, 100, size[0] - 1]), np.array([0, 333, size[1] - 1])
    view = CAMERA.scaled(size[1], size[0])
    rays = view.rectified_rays(np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2))
    wanted = CAMERA.project(np.column_stack([rays, np.ones(len(rays))]))
    np.testing.assert_allclose(positions[np.ix_(rows, columns)].reshape(-1, 2), wanted, atol=2e-3)
