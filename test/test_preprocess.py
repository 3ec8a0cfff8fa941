"""Image -> network input, against the formula of the card in plain numpy."""

import cv2
import numpy as np
import pytest

from seg_node.geometry import fit, Size
from seg_node.model.card import InputSpec
from seg_node.preprocess import Preprocessor

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def expected(spec, image, geometry):
    """State the card's formula: x_net = (x * scale - mean) / std."""
    small = cv2.resize(image, geometry.content[::-1], interpolation=cv2.INTER_LINEAR)
    small = small[..., ::-1] if spec.colour == 'rgb' else small
    full = np.full((*geometry.network, 3), spec.pad_value, np.float64)
    full[geometry.top:geometry.top + small.shape[0],
         geometry.left:geometry.left + small.shape[1]] = small
    x = (full * spec.scale - spec.mean) / spec.std
    return (x.transpose(2, 0, 1) if spec.layout == 'NCHW' else x).astype(spec.dtype)


@pytest.mark.parametrize('layout', ['NCHW', 'NHWC'])
@pytest.mark.parametrize('colour', ['rgb', 'bgr'])
@pytest.mark.parametrize('dtype, scale, mean, std', [
    ('float32', 1.0, MEAN, STD), ('float32', 1 / 255, (.5, .4, .3), (.2, .3, .4)),
    ('float16', 1.0, MEAN, STD), ('uint8', 1.0, (0, 0, 0), (1, 1, 1))])
def test_equals_the_formula(layout, colour, dtype, scale, mean, std):
    spec = InputSpec('x', layout, colour, dtype, mean, std, scale, size=(64, 96),
                     resize='letterbox', pad_value=114)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((50, 99), (128, 90))]
    geometries = [fit(spec, Size(*image.shape[:2])) for image in images]
    batch = Preprocessor(spec).tensor(images, geometries)
    assert batch.dtype == dtype
    for item, image, geometry in zip(batch, images, geometries, strict=True):
        np.testing.assert_array_equal(item, expected(spec, image, geometry))


def test_reused_buffer_keeps_no_border_of_another_camera():
    spec = InputSpec('x', 'NCHW', 'rgb', 'float32', (0, 0, 0), (1, 1, 1), size=(64, 64),
                     resize='letterbox')
    preprocessor = Preprocessor(spec)
    for size in ((64, 64), (32, 64), (64, 32), (32, 64)):
        image = np.full((*size, 3), 200, np.uint8)
        geometry = fit(spec, Size(*size))
        np.testing.assert_array_equal(preprocessor.tensor([image], [geometry])[0],
                                      expected(spec, image, geometry))


def test_takes_padded_rows():
    spec = InputSpec('x', 'NCHW', 'bgr', 'float32', (0, 0, 0), (1, 1, 1), size=(20, 30))
    padded = np.random.default_rng(1).integers(0, 256, (20, 40, 3), np.uint8)
    image = padded[:, :30]
    batch = Preprocessor(spec).tensor([image], [fit(spec, Size(20, 30))])
    np.testing.assert_array_equal(batch[0], image.transpose(2, 0, 1))
