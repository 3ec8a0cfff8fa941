"""The look-ups that make products of labels."""

import numpy as np

from seg_node import products
from seg_node.geometry import fit, Size
from seg_node.model.card import InputSpec

SPEC = InputSpec('image', 'NCHW', 'rgb', 'float32', (0, 0, 0), (1, 1, 1), size=(32, 48))
RNG = np.random.default_rng(0)
PALETTE = RNG.integers(0, 256, (256, 3), np.uint8)


def test_look_up_and_colours():
    labels = RNG.integers(0, 256, (40, 60), np.uint8)
    table = RNG.integers(0, 256, 256, np.uint8)
    np.testing.assert_array_equal(products.look_up(labels, table), table[labels])
    np.testing.assert_array_equal(products.color_mask(labels, PALETTE), PALETTE[labels])


def test_overlay_on_the_output_grid():
    image = RNG.integers(0, 256, (40, 60, 3), np.uint8)
    for output in (Size(40, 60), Size(13, 21)):
        geometry = fit(SPEC, Size(40, 60), output)
        mask = RNG.integers(0, 20, output, np.uint8)
        rows, columns = geometry.output_pixels()
        mixed = image[rows[:, None], columns] * 0.7 + PALETTE[mask] * 0.3
        laid = products.overlay(image, mask, PALETTE, 0.3, geometry)
        assert np.abs(laid - mixed).max() <= 0.5001
