"""From messages to products: what is asked of the device, what becomes of its answer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seg_node.devices.host import HostSegmenter
from seg_node.ego_mask import EgoMask
from seg_node.errors import FrameError
from seg_node.frame import Demand, DRIVABLE_CLASS, Frame, PREPARE, StageClock
from seg_node.geometry import Size
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import load_card
from seg_node.model.taxonomy import load_taxonomy, remap_lut
from seg_node.pipeline import Pipeline
from seg_node.products import NAMES
from seg_node.rectification import Rectification
from seg_node.trust.policy import Trust

MODELS = Path(__file__).parent / 'models'
CARD = load_card(MODELS / 'palette_cityscapes19')
TABLE = CARD.main_output.classes


class Attentive(HostSegmenter):
    """The real segmenter; remembers what it was asked for."""

    demands: list[Demand] = []

    def segment(self, frames, demand, clock):
        self.demands = [*self.demands, demand]
        return super().segment(frames, demand, clock)


@pytest.fixture
def make(palette):
    return lambda **given: Pipeline(Attentive(CARD, palette), TABLE, **given)


def shot(camera, seed, *, cut=0):
    """Return a frame (24, 40) in the colours of known classes, and these."""
    labels = np.random.default_rng(seed).integers(0, 19, (24, 40), np.uint8)
    data = TABLE.palette_bgr()[labels].reshape(-1)
    message = ImageMessage(Header(seed, 0, camera), 24, 40, 'bgr8', False, 120,
                           data[:len(data) - cut])
    return Frame(camera, message), labels


FRAMES, TRUTHS = zip(*(shot(camera, seed) for seed, camera in enumerate('abc')), strict=True)


def test_each_frame_gets_what_is_wanted_of_it_in_order(make):
    wanted = [('mask',), ('drivable', 'confidence'), ()]
    found = make().process(FRAMES, wanted, StageClock())
    assert [set(products.images) for products in found] == [set(names) for names in wanted]
    for frame, truth, products in zip(FRAMES, TRUTHS, found, strict=True):
        assert products.frame is frame and products.geometry is products.segmentation.geometry
        np.testing.assert_array_equal(products.segmentation.labels, truth)
    np.testing.assert_array_equal(found[0].images['mask'], TRUTHS[0])
    np.testing.assert_array_equal(found[1].images['drivable'], TABLE.drivable_lut()[TRUTHS[1]])


@pytest.mark.parametrize(('wanted', 'confidence', 'drivable', 'entropy'), [
    ([('mask',), (), ('overlay', 'color_mask', 'dynamic_mask')], False, False, False),
    ([('mask',), ('confidence',), ('mask',)], True, False, False),
    ([('drivable',), (), ()], False, True, False),
    ([(), (), ('confidence', 'drivable')], True, True, False),
    ([(), ('entropy',), ()], False, False, True)])
def test_the_device_is_asked_for_what_anybody_wants_and_no_more(make, wanted, confidence,
                                                                drivable, entropy):
    pipeline = make()
    found = pipeline.process(FRAMES, wanted, StageClock())
    assert pipeline.segmenter.demands == [Demand(None, confidence, drivable,
                                                 entropy=entropy)]
    for products in found:
        assert (products.segmentation.confidence is not None) == confidence
        assert (products.segmentation.drivable is not None) == drivable
        assert (products.segmentation.entropy is not None) == entropy


def test_the_judgement_is_the_same_where_no_one_wants_the_confidence(make):
    frame = shot('a', 3)[0]
    rng = np.random.default_rng(0)
    street = TABLE.palette_bgr()[np.zeros((24, 40), np.uint8)] + rng.integers(-30, 60, (24, 40, 3))
    frame.message.data = street.clip(0, 255).astype(np.uint8).reshape(-1)
    seen = {}
    for names in (('mask',), ('mask', 'confidence')):
        pipeline = make(trust=Trust(CARD))
        [products] = pipeline.process([frame], [names], StageClock())
        [demand] = pipeline.segmenter.demands
        assert demand.confidence == ('confidence' in names)
        assert (products.segmentation.confidence is None) != demand.confidence
        seen[names] = products.standing.verdict.figures
    alone, both = seen.values()
    assert alone == both and 0 < alone['drivable_confidence'] < 1


def test_a_refused_frame_keeps_its_place(make):
    broken, _ = shot('b', 1, cut=1)
    first, refused, last = make().process([FRAMES[0], broken, FRAMES[2]], [NAMES] * 3,
                                          StageClock())
    assert isinstance(refused, FrameError) and refused.reason == 'truncated'
    for products, truth in ((first, TRUTHS[0]), (last, TRUTHS[2])):
        np.testing.assert_array_equal(products.images['mask'], truth)


def test_as_many_lists_of_names_as_frames(make):
    with pytest.raises(ValueError):
        make().process(FRAMES, [NAMES] * 2, StageClock())


def test_every_output_has_the_size_asked_for(make):
    pipeline = make(output=Size(9, 11))
    [products] = pipeline.process(FRAMES[:1], [NAMES], StageClock())
    assert pipeline.segmenter.demands == [
        Demand(Size(9, 11), heads=frozenset({DRIVABLE_CLASS}), entropy=True)]
    assert products.geometry.output == (9, 11)
    assert {image.shape[:2] for image in products.images.values()} == {(9, 11)}
    rows, columns = products.geometry.output_pixels()
    np.testing.assert_array_equal(products.images['mask'], TRUTHS[0][rows][:, columns])


def test_only_the_mask_is_remapped(make):
    """Policy and dynamic classes speak of the model's classes, colours of the published ones."""
    target = load_taxonomy('autoware16')
    pipeline = make(published=target)
    assert pipeline.classes is target
    [products] = pipeline.process(FRAMES[:1], [NAMES], StageClock())
    mask = remap_lut(TABLE, target)[TRUTHS[0]]
    assert (mask != TRUTHS[0]).any()
    np.testing.assert_array_equal(products.images['mask'], mask)
    np.testing.assert_array_equal(products.images['color_mask'], target.palette_bgr()[mask])
    np.testing.assert_array_equal(products.images['dynamic_mask'],
                                  TABLE.dynamic_lut()[TRUTHS[0]])
    np.testing.assert_array_equal(products.images['drivable'], TABLE.drivable_lut()[TRUTHS[0]])


@pytest.mark.parametrize('published', [None, TABLE, load_taxonomy('cityscapes19')])
def test_the_models_own_table_needs_no_remap(make, published):
    pipeline = make(published=published)
    assert pipeline.classes == TABLE and pipeline.tables.remap is None
    np.testing.assert_array_equal(pipeline.tables.palette_bgr, TABLE.palette_bgr())


def test_an_ego_mask_is_for_its_camera_and_every_product(make):
    own = np.zeros((24, 40), np.uint8)
    own[18:] = 255
    pipeline = make(ego_masks={'b': EgoMask('test', own)})
    clock = StageClock()
    found = pipeline.process(FRAMES, [NAMES] * 3, clock)
    assert 'ego_mask' in clock.ms
    for products, truth in zip(found, TRUTHS, strict=True):
        vehicle = (own > 0) & (products.frame.camera == 'b')
        np.testing.assert_array_equal(products.images['mask'], np.where(vehicle, 255, truth))
        np.testing.assert_array_equal(products.images['drivable'],
                                      np.where(vehicle, 0, TABLE.drivable_lut()[truth]))
        assert ((products.images['confidence'] == 0) == vehicle).all()


def test_an_ego_mask_that_does_not_fit_refuses_its_camera_only(make):
    pipeline = make(ego_masks={'b': EgoMask('bonnet.png', np.eye(24, 41, dtype=np.uint8) * 255)})
    first, refused, last = pipeline.process(FRAMES, [NAMES] * 3, StageClock())
    assert isinstance(refused, FrameError) and refused.reason == 'ego-mask'
    assert refused.__traceback__ is None
    np.testing.assert_array_equal(first.images['mask'], TRUTHS[0])
    np.testing.assert_array_equal(last.images['mask'], TRUTHS[2])


def test_a_frame_refused_before_needs_no_ego_mask(make):
    broken, _ = shot('a', 0, cut=1)
    own = np.eye(24, 40, dtype=np.uint8) * 255
    [refused] = make(ego_masks={'a': EgoMask('test', own)}).process([broken], [NAMES],
                                                                   StageClock())
    assert isinstance(refused, FrameError) and refused.reason == 'truncated'


@pytest.mark.parametrize('shift', [0, 7])
def test_what_a_rectified_camera_did_not_see_is_unknown(make, shift):
    def positions(size):
        rows, columns = np.mgrid[:size[0], :size[1]]
        across = (columns + .5) * 40 / size[1] - .5 + shift
        return np.stack([across, (rows + .5) * 24 / size[0] - .5], axis=-1).astype(np.float32)
    frame = replace(FRAMES[0], rectification=Rectification((24, 40), positions))
    [products] = make().process([frame], [NAMES], StageClock())
    wanted = np.full((24, 40), 255, np.uint8)
    wanted[:, :40 - shift] = TRUTHS[0][:, shift:]
    np.testing.assert_array_equal(products.images['mask'], wanted)
    assert ((products.images['confidence'] > 0) == (wanted != 255)).all()


def test_a_device_that_answers_too_much_is_not_believed(make):
    pipeline = make(ego_masks={'a': EgoMask('test', np.eye(24, 40, dtype=np.uint8) * 255)})
    segment = pipeline.segmenter.segment
    pipeline.segmenter.segment = lambda *given: segment(*given) * 2
    with pytest.raises(ValueError):
        pipeline.process(FRAMES, [NAMES] * 3, StageClock())


def test_the_stages_are_timed(make):
    pipeline, clock = make(), StageClock()
    for _ in range(2):
        pipeline.process(FRAMES, [NAMES] * 3, clock)
    assert set(clock.ms) - {PREPARE} == {'decode', 'preprocess', 'network', 'labels', 'products'}
    assert all(0 <= spent < 60e3 for spent in clock.ms.values())


def test_a_stage_adds_up_and_counts_milliseconds(monkeypatch):
    moments = iter([0, 3_000_000, 10_000_000, 14_000_000])
    monkeypatch.setattr('seg_node.frame.time.perf_counter_ns', lambda: next(moments))
    clock = StageClock()
    with clock.stage('network'):
        pass
    with pytest.raises(KeyError), clock.stage('network'):
        raise KeyError  # what fails takes time, too
    assert clock.ms == {'network': 7.0}
