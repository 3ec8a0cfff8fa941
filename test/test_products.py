"""The look-ups that make products of labels."""

import numpy as np
import pytest

from seg_node import products
from seg_node.frame import DRIVABLE_CLASS, Frame, Segmentation
from seg_node.geometry import fit, Size
from seg_node.image.wire import Header, ImageMessage
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


IMAGE = RNG.integers(0, 256, (40, 60, 3), np.uint8)
FRAME = Frame('', ImageMessage(Header(0, 0, ''), 40, 60, 'bgr8', False, 180, IMAGE.reshape(-1)))
LABELS, SURE, TORN = RNG.integers(0, 20, (3, 40, 60), np.uint8)
DRIVABLE = products.look_up(LABELS, np.where(np.arange(256) < 5, 255, 0).astype(np.uint8))
REMAP, DYNAMIC, AUTOWARE = RNG.integers(0, 256, (3, 256), np.uint8)


def made(wanted, segmentation=None, **tables):
    result = segmentation or Segmentation(fit(SPEC, Size(40, 60)), LABELS, SURE, DRIVABLE,
                                          {DRIVABLE_CLASS: LABELS}, entropy=TORN)
    given = products.Tables(**{'remap': REMAP, 'dynamic': DYNAMIC, 'palette_bgr': PALETTE,
                               'autoware': AUTOWARE}
                            | tables)
    found = products.make(FRAME, result, given, wanted)
    assert found.frame is FRAME and found.segmentation is result
    assert found.missing == frozenset(wanted) - found.images.keys()
    return found.images


def test_every_output_is_made_by_its_table():
    images = made(products.NAMES, overlay_alpha=0.25)
    assert list(images) == [output.name for output in products.OUTPUTS]
    mask = REMAP[LABELS]
    for name, expected in (('mask', mask), ('confidence', SURE), ('drivable', DRIVABLE),
                           ('entropy', TORN), (DRIVABLE_CLASS, LABELS),
                           ('dynamic_mask', DYNAMIC[LABELS]), ('color_mask', PALETTE[mask]),
                           ('autoware_mask', AUTOWARE[LABELS])):
        np.testing.assert_array_equal(images[name], expected, name)
    mixed = IMAGE * 0.75 + PALETTE[mask] * 0.25
    assert np.abs(images['overlay'] - mixed).max() <= 0.5001
    for output in products.OUTPUTS:
        channels = {'mono8': (), 'bgr8': (3,)}[output.encoding]
        assert images[output.name].shape == (40, 60, *channels)
        assert images[output.name].dtype == np.uint8


@pytest.mark.parametrize('name', products.NAMES)
def test_only_what_is_wanted_is_made(name):
    assert list(made([name])) == [name]
    assert made([]) == {}


def test_without_a_remap_the_mask_is_the_labels_themselves():
    assert made(['mask'], remap=None)['mask'] is LABELS


def test_what_a_model_has_not_is_left_out():
    bare = Segmentation(fit(SPEC, Size(40, 60)), LABELS)
    assert set(made(products.NAMES, bare, autoware=None)) == {
        'mask', 'dynamic_mask', 'overlay', 'color_mask'}


def test_the_overlay_is_half_and_half_unless_told_otherwise():
    mixed = IMAGE * 0.5 + PALETTE[REMAP[LABELS]] * 0.5
    assert np.abs(made(['overlay'])['overlay'] - mixed).max() <= 0.5001


def test_a_mask_is_remapped_once_for_all_that_show_it(monkeypatch):
    calls = []
    monkeypatch.setattr(products, 'look_up', lambda *given: calls.append(given) or LABELS)
    made(['mask', 'overlay', 'color_mask'])
    assert len(calls) == 1


def test_of_the_drivable_head_only_what_is_still_drivable_stays():
    """Withheld, unlabelled and unsure pixels are 255; ids that are not drivable stay."""
    ids = np.array([[0, 1, 2, 1, 2, 0]], np.uint8)
    labels = np.array([[3, 3, 3, 255, 3, 255]], np.uint8)
    drivable = np.array([[0, 255, 0, 255, 255, 0]], np.uint8)
    table = np.zeros(256, np.uint8)
    table[1:3] = 1  # any value but 0 counts
    segmentation = Segmentation(fit(SPEC, Size(1, 6)), labels, None, drivable,
                                {DRIVABLE_CLASS: ids})
    images = made([DRIVABLE_CLASS], segmentation, drivable_class=table)
    assert images[DRIVABLE_CLASS].tolist() == [[0, 1, 255, 255, 2, 255]]
    assert ids.tolist() == [[0, 1, 2, 1, 2, 0]], "the segmenter's own image was changed"


@pytest.mark.parametrize(('heads', 'drivable'), [({}, DRIVABLE), ({DRIVABLE_CLASS: LABELS}, None)])
def test_without_head_or_area_there_is_no_drivable_class(heads, drivable):
    segmentation = Segmentation(fit(SPEC, Size(40, 60)), LABELS, SURE, drivable, heads)
    assert made([DRIVABLE_CLASS], segmentation) == {}
