"""Labels that do not flicker, and what must not be held."""

from pathlib import Path

import numpy as np
import pytest

from seg_node.devices.choose import Wish
from seg_node.errors import ConfigError
from seg_node.frame import Frame, Segmentation, StageClock
from seg_node.geometry import fit, Size
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import InputSpec
from seg_node.model.taxonomy import load_taxonomy
from seg_node.pipeline import Pipeline
from seg_node.products import NAMES
from seg_node.running.loading import PipelineSpec
from seg_node.scoring.flicker import Flicker
from seg_node.steadiness import CLEAR, MAX_GAP_S, Steadiness, SURE
from seg_node.tuning import Tuning

SPEC = InputSpec('image', 'NCHW', 'rgb', 'float32', (0, 0, 0), (1, 1, 1), size=(32, 48))
CAMERA = Size(200, 160)
TABLE = load_taxonomy('camvid11')
ROAD, PAVEMENT, TREE, CAR = 3, 4, 5, 8
TORN, CERTAIN = 130, 255
STEP_NS = 100_000_000


class Sequence:
    """Feeds frames of one camera through the filter; each is a list of patches over road."""

    def __init__(self):
        self.filter = Steadiness(TABLE.dynamic_lut())
        self.stamp_ns = 10 ** 9

    def show(self, *patches, base=(ROAD, CERTAIN), size=CAMERA, drivable=True, gap_ns=STEP_NS,
             confidence=True):
        geometry = fit(SPEC, size)
        labels, sure = (np.full(size, value, np.uint8) for value in base)
        for where, label, certainty in patches:
            labels[where], sure[where] = label, certainty
        area = np.where(labels == ROAD, 255, 0).astype(np.uint8) if drivable else None
        result = Segmentation(geometry, labels, sure if confidence else None, area)
        self.stamp_ns += gap_ns
        self.filter.follow(result, self.stamp_ns)
        return result


PATCH = np.s_[50:110, 40:100]


def test_a_torn_patch_does_not_flicker():
    frames = Sequence()
    frames.show()
    for _ in range(4):
        assert (frames.show((PATCH, TREE, TORN)).labels == ROAD).all()
        assert (frames.show().labels == ROAD).all()


def test_what_lasts_is_taken_with_the_second_frame():
    frames = Sequence()
    frames.show()
    assert (frames.show((PATCH, TREE, TORN)).labels[PATCH] == ROAD).all()
    second = frames.show((PATCH, TREE, TORN))
    assert (second.labels[PATCH] == TREE).all() and (second.labels == ROAD).any()
    # Another class after the first one is no reason to wait again.
    frames.show((PATCH, PAVEMENT, TORN))
    assert (frames.show((PATCH, 1, TORN)).labels[PATCH] == 1).all()


@pytest.mark.parametrize('seed', range(4))
def test_nothing_lags_by_more_than_one_frame(seed):
    """Whatever comes: what the network said twice in a row is shown."""
    rng, frames = np.random.default_rng(seed), Sequence()
    last = None
    for _ in range(30):
        labels = rng.integers(0, 4, CAMERA, np.uint8)
        shown = frames.show((np.s_[:], labels, rng.integers(0, 256, CAMERA, np.uint8)))
        if last is not None:
            twice = labels == last
            np.testing.assert_array_equal(shown.labels[twice], labels[twice])
        last = labels


def test_an_edge_that_moves_is_not_held():
    """Its own pixels are torn, but sure ones of its class follow right behind."""
    frames = Sequence()
    for x in range(20, 140, 6):
        shown = frames.show((np.s_[:, :x], TREE, CERTAIN), (np.s_[:, x - 3:x], TREE, TORN),
                            (np.s_[:, x:x + 3], ROAD, TORN))
        assert (shown.labels[:, :x] == TREE).all() and (shown.labels[:, x:] == ROAD).all()


@pytest.mark.parametrize('certainty, held', [
    (int(np.ceil(SURE * 255)), False), (int(np.ceil(SURE * 255)) - 1, True)])
def test_a_sure_neighbour_bears_out_a_change(certainty, held):
    frames = Sequence()
    frames.show()
    beside = np.s_[50:110, 70:76]
    shown = frames.show((PATCH, TREE, TORN), (beside, TREE, certainty))
    assert (shown.labels[80, 66] == ROAD) == held and shown.labels[80, 72] == TREE


@pytest.mark.parametrize('certainty, held', [
    (int(np.ceil(CLEAR * 255)), False), (int(np.ceil(CLEAR * 255)) - 1, True)])
def test_what_is_clear_by_itself_is_taken_at_once(certainty, held):
    frames = Sequence()
    frames.show()
    shown = frames.show((PATCH, TREE, certainty))
    assert (shown.labels[80, 70] == ROAD) == held


@pytest.mark.parametrize('label', [CAR, 9, 10, 255])
def test_traffic_and_the_unknown_are_taken_at_once(label):
    frames = Sequence()
    frames.show()
    shown = frames.show((PATCH, label, TORN))
    assert (shown.labels[PATCH] == label).all() and not shown.drivable[PATCH].any()


def test_nothing_becomes_drivable_that_the_network_does_not_call_so():
    frames = Sequence()
    frames.show()
    held = frames.show((PATCH, TREE, TORN))
    assert (held.labels[PATCH] == ROAD).all() and not held.drivable[PATCH].any()
    # The other way round the label waits, and the area with it.
    frames = Sequence()
    frames.show((PATCH, TREE, TORN))
    back = frames.show(base=(ROAD, TORN))
    assert (back.labels[80, 70] == TREE) and not back.drivable[80, 70]
    assert frames.show(base=(ROAD, TORN)).drivable.all()
    unknown = Sequence()
    unknown.show((PATCH, 255, 0))
    after = unknown.show(base=(ROAD, TORN))
    assert after.labels[80, 70] == 255 and not after.drivable[80, 70]


def test_a_held_pixel_is_no_surer_than_the_frame_leaves_it():
    frames = Sequence()
    frames.show(base=(ROAD, 180))
    assert (frames.show((PATCH, TREE, 130)).confidence[PATCH] == 125).all()
    frames = Sequence()
    frames.show(base=(ROAD, 60))
    assert (frames.show((PATCH, TREE, 130)).confidence[PATCH] == 60).all()


@pytest.mark.parametrize('change', [
    {'gap_ns': round(MAX_GAP_S * 1e9) + 1}, {'gap_ns': 0}, {'gap_ns': -STEP_NS},
    {'size': Size(100, 160)}, {'drivable': False}])
def test_another_scene_is_taken_as_it_is(change):
    frames = Sequence()
    frames.show()
    patch = np.s_[40:70, 40:100]
    assert (frames.show((patch, TREE, TORN), **change).labels[patch] == TREE).all()


def test_frames_a_little_apart_are_one_scene():
    frames = Sequence()
    frames.show()
    shown = frames.show((PATCH, TREE, TORN), gap_ns=round(MAX_GAP_S * 1e9))
    assert (shown.labels[PATCH] == ROAD).all()


def test_without_confidence_nothing_is_held():
    frames = Sequence()
    frames.show()
    assert (frames.show((PATCH, TREE, TORN), confidence=False).labels[PATCH] == TREE).all()
    assert (frames.show((PATCH, ROAD, TORN)).labels == ROAD).all()


def test_it_keeps_no_buffer_of_the_segmenter():
    """The GPU's results are views of memory that is used again."""
    frames = Sequence()
    first = frames.show()
    for plane in (first.labels, first.confidence, first.drivable):
        plane.fill(7)
    assert (frames.show((PATCH, TREE, TORN)).labels[PATCH] == ROAD).all()


# --- in the pipeline ---

class Scripted:
    """A segmenter that says what it is told."""

    description = device = 'test'
    preferred_batch = 1
    sample = CAMERA

    def __init__(self):
        self.demands = []

    def segment(self, frames, demand, clock):
        self.demands.append(demand)
        results = []
        for frame in frames:
            labels = np.full(CAMERA, ROAD, np.uint8)
            sure = np.full(CAMERA, CERTAIN, np.uint8)
            if frame.header.sec % 2:
                labels[PATCH], sure[PATCH] = TREE, TORN
            results.append(Segmentation(fit(SPEC, CAMERA), labels, sure if demand.confidence
                                        else None, np.full(CAMERA, 255, np.uint8)))
        return results

    def take_over(self):
        pass

    def retune(self, policy):
        pass

    def close(self):
        pass


def frame(camera, second, nanosecond):
    pixels = np.random.default_rng(second).integers(0, 256, CAMERA.height * CAMERA.width * 3,
                                                    np.uint8)
    message = ImageMessage(Header(second, nanosecond, 'cam'), *CAMERA, 'bgr8', False,
                           CAMERA.width * 3, pixels)
    return Frame(camera, message)


def test_the_pipeline_steadies_the_cameras_it_is_told_to():
    segmenter = Scripted()
    pipeline = Pipeline(segmenter, TABLE, steady=['front'])
    for second, nanosecond in ((2, 900_000_000), (3, 0)):
        clock = StageClock()
        front, rear = pipeline.process([frame('front', second, nanosecond),
                                        frame('rear', second, nanosecond)], [('mask',)] * 2,
                                       clock)
        assert clock.ms['steadiness'] > 0
    assert (front.images['mask'][PATCH] == ROAD).all()
    assert (rear.images['mask'][PATCH] == TREE).all()
    assert all(demand.confidence for demand in segmenter.demands)
    assert set(front.images) == {'mask'} < set(NAMES)


def test_a_model_without_confidence_cannot_be_steadied():
    models = Path(__file__).parent / 'models'
    for model, steady in (('palette_cityscapes19', True), ('palette_labels', False)):
        spec = PipelineSpec.check(str(models / model), Wish('onnxruntime'))
        wishes = Tuning(steady=frozenset({'front'}))
        if steady:
            assert spec.retuned(wishes).tuned.wishes.steady == {'front'}
            continue
        with pytest.raises(ConfigError, match='front.steadiness is true, but palette_labels'):
            spec.retuned(wishes)


# --- the measure ---

def test_flicker_counts_changes_where_the_truth_stands_still():
    truth = np.zeros((4, 5), np.uint8)
    truth[0] = 255
    flicker = Flicker(10.0)
    for index in range(8):
        mask = np.zeros((4, 5), np.uint8)
        mask[1, 1] = index % 2  # one of 15 known pixels, at every step
        mask[0] = index % 2
        flicker.add(truth, mask)
    found = flicker.report()
    assert found['flicker_per_pixel_s'] == pytest.approx(10 / 15)
    assert found['flicker_at_once_per_pixel_s'] == pytest.approx(10 / 15)


@pytest.mark.parametrize('lag, late', [(0, [1, 0, 0, 0, 0]), (1, [0, 1, 0, 0, 0]),
                                       (2, [0, 0, 1, 0, 0]), (9, [0, 0, 0, 0, 1])])
def test_what_comes_late_is_lag_and_up_to_one_frame_no_flicker(lag, late):
    flicker, truths = Flicker(10.0), []
    for index in range(30):
        truth = np.zeros((3, 40), np.uint8)
        truth[:, :index // 6 * 5] = 1
        truths.append(truth)
        flicker.add(truth, truths[max(0, index - lag)])
    found = flicker.report()
    assert found['late_frames'] == late
    assert (found['flicker_per_pixel_s'] > 0) == (lag > 1)
