"""What changes between two frames of a pipeline, when, and what is withheld and steadied then."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_pipeline import shot

from seg_node import pipeline as pipelines
from seg_node.devices.host import HostSegmenter
from seg_node.errors import ConfigError
from seg_node.frame import StageClock
from seg_node.model.card import load_card
from seg_node.model.taxonomy import ClassTable, load_taxonomy, remap_lut, SegClass
from seg_node.pipeline import autoware_lut, Pipeline
from seg_node.trust.policy import Policy, PUBLISH, Trust, WITHHOLD
from seg_node.trust.verdict import State
from seg_node.trust.watch import Timing
from seg_node.tuning import Tuned, Tuning

CARD = load_card(Path(__file__).parent / 'models/palette_cityscapes19')
TABLE = CARD.main_output.classes
SHOWN = ('drivable', 'dynamic_mask')


@pytest.fixture
def make(palette):
    return lambda **given: Pipeline(HostSegmenter(CARD, palette), TABLE, **given)


def frame(second):
    """Return one (24, 40) in the colours of known classes, and these."""
    return shot('a', second)


def tuned(**wishes):
    return Tuned.check(CARD, Tuning(**wishes))


def has(labels, *names):
    return np.isin(labels, [TABLE.names.index(name) for name in names])


def check(images, labels, drivable, dynamic, value=255):
    np.testing.assert_array_equal(images['drivable'], has(labels, drivable) * np.uint8(255))
    np.testing.assert_array_equal(images['dynamic_mask'], has(labels, dynamic) * np.uint8(value))


@pytest.mark.parametrize('value', [255, 1, 7])
def test_all_wishes_change_together_between_two_frames(make, value):
    pipeline = make(dynamic_value=value)
    one, labels = frame(1)
    [first] = pipeline.process([one], [SHOWN], StageClock())
    assert set(np.unique(first.images['dynamic_mask'])) == {0, value}
    np.testing.assert_array_equal(first.images['dynamic_mask'] > 0,
                                  TABLE.dynamic_lut()[labels] > 0)
    pipeline.retune(tuned(drivable=('terrain',), dynamic=('road',), overlay_alpha=1.0))
    for second in (2, 3):
        one, labels = frame(second)
        [products] = pipeline.process([one], [SHOWN], StageClock())
        check(products.images, labels, 'terrain', 'road', value)
    assert pipeline.tables.overlay_alpha == 1.0


def test_frames_in_hand_are_made_by_what_they_were_begun_with(make):
    pipeline, clock = make(), StageClock()
    pipeline.retune(tuned(dynamic=('car',), drivable=('road',)))
    (one, labels), (other, others) = frame(1), frame(2)
    begun = pipeline.start([one], [SHOWN], clock)
    pipeline.retune(tuned(dynamic=('person',), drivable=('sidewalk',)))
    next_one = pipeline.start([other], [SHOWN], clock)
    [before], [after] = begun.finish(), next_one.finish()
    check(before.images, labels, 'road', 'car')
    check(after.images, others, 'sidewalk', 'person')
    assert begun.finish() == [], 'what was handed out is held on to'


def test_what_fails_while_frames_in_hand_are_made_is_told_by_them_alone(make):
    pipeline, clock = make(), StageClock()
    segment = pipeline.segmenter.segment
    pipeline.segmenter.segment = lambda *given: segment(*given) * 2
    begun = pipeline.start([frame(1)[0]], [SHOWN], clock)
    pipeline.segmenter.segment = segment
    pipeline.retune(tuned(drivable=('sidewalk',)))
    other, labels = frame(2)
    [after] = pipeline.start([other], [SHOWN], clock).finish()
    np.testing.assert_array_equal(after.images['drivable'],
                                  has(labels, 'sidewalk') * np.uint8(255))
    with pytest.raises(ValueError) as raised:
        begun.finish()
    assert raised.value.__cause__ is None


def test_wishes_that_failed_are_tried_again_and_later_ones_not_lost(make):
    pipeline = make()
    take, calls = pipeline.segmenter.retune, []

    def taken(policy):
        calls.append(policy)
        if len(calls) == 1:
            raise ConfigError('not now')
        if len(calls) == 2:  # somebody wishes again while this is done
            pipeline.retune(tuned(drivable=('wall',)))
        take(policy)

    pipeline.segmenter.retune = taken
    pipeline.retune(tuned(drivable=('terrain',)))
    one, labels = frame(1)
    with pytest.raises(ConfigError):
        pipeline.process([one], [SHOWN], StageClock())
    for drivable in ('terrain', 'wall', 'wall'):
        [products] = pipeline.process([one], [SHOWN], StageClock())
        np.testing.assert_array_equal(products.images['drivable'],
                                      has(labels, drivable) * np.uint8(255))
    assert len(calls) == 3, 'what has been taken is taken once'


def test_trust_is_retuned_too(make):
    trust = Trust(CARD)
    pipeline = make(trust=trust)
    wishes = Policy(on_blind=PUBLISH, on_doubtful=WITHHOLD), Timing(alarm_s=9.0)
    pipeline.retune(tuned(withholding=wishes[0], timing=wishes[1]))
    pipeline.process([frame(1)[0]], [()], StageClock())
    assert (trust.policy, trust.timing) == wishes
    assert pipeline.trust is trust


class Scripted(Trust):
    """Judges really, then says what it was told to."""

    states = ()

    def examine(self, frame, segmentation):
        standing = super().examine(frame, segmentation)
        state, alone = self.states[frame.header.sec]
        return replace(standing, state=state, verdict=replace(standing.verdict, state=alone))


class Noted(pipelines.Steadiness):
    """The real filter; remembers what was asked of it."""

    made = 0

    def __init__(self, dynamic):
        super().__init__(dynamic)
        type(self).made += 1
        self.calls = Counter()

    def reset(self):
        self.calls['reset'] += 1
        super().reset()

    def follow(self, segmentation, stamp_ns):
        self.calls['follow'] += 1
        super().follow(segmentation, stamp_ns)


@pytest.fixture
def noted(monkeypatch):
    Noted.made = 0
    monkeypatch.setattr(pipelines, 'Steadiness', Noted)


@pytest.mark.parametrize(('state', 'alone', 'on_doubtful', 'call'), [
    (State.OK, State.OK, WITHHOLD, 'follow'), (State.BLIND, State.OK, WITHHOLD, 'reset'),
    (State.OK, State.BLIND, WITHHOLD, 'reset'), (State.DOUBTFUL, State.OK, WITHHOLD, 'reset'),
    (State.DOUBTFUL, State.DOUBTFUL, PUBLISH, 'follow'),
    (State.OK, State.DOUBTFUL, WITHHOLD, 'follow')])
def test_a_mask_that_is_withheld_says_nothing_about_the_next_ones(make, noted, state, alone,
                                                                  on_doubtful, call):
    """And one of a blind camera, even where it is published."""
    trust = Scripted(CARD, Policy(on_blind=PUBLISH, on_doubtful=on_doubtful))
    trust.states = {1: (state, alone)}
    pipeline = make(trust=trust, steady=['a'])
    pipeline.process([frame(1)[0]], [()], StageClock())
    assert pipeline._steady['a'].calls == {call: 1}


def test_a_steadied_camera_keeps_its_past_unless_other_classes_move_now(make, noted):
    pipeline = make(steady=['a'])
    first = pipeline._steady['a']
    steps = [(('a',), None, True), (('a', 'b'), None, True), (('a', 'b'), ('road',), False),
             (('b',), ('road',), None)]
    for second, (names, dynamic, kept) in enumerate(steps, 1):
        before = dict(pipeline._steady)
        pipeline.retune(tuned(steady=frozenset(names), dynamic=dynamic))
        pipeline.process([frame(second)[0]], [()], StageClock())
        assert set(pipeline._steady) == set(names)
        if kept is not None:
            assert (pipeline._steady['a'] is before['a']) == kept
        if dynamic == ('road',):
            assert pipeline._steady['b'] is not first
            np.testing.assert_array_equal(pipeline._steady['b']._at_once[:19],
                                          has(np.arange(19), 'road'))
    assert pipeline._steady['b'] is before['b'] and Noted.made == 4


@pytest.mark.parametrize(('given', 'confidence', 'drivable'), [
    ({}, False, False), ({'steady': ['a']}, True, True), ({'steady': ['b']}, False, False),
    ({'trust': Policy()}, False, True), ({'trust': Policy(min_confidence=0.5)}, True, True)])
def test_what_the_filters_need_is_asked_for_though_nobody_wants_it(make, given, confidence,
                                                                   drivable, monkeypatch):
    if 'trust' in given:
        given = {'trust': Trust(CARD, given['trust'])}
        monkeypatch.setattr(type(given['trust'].judge), 'needs_drivable', True)
    pipeline, seen = make(**given), []
    segment = pipeline.segmenter.segment

    def noted(frames, demand, clock):
        seen.append((demand.confidence, demand.drivable, demand.glimpse is not None))
        return segment(frames, demand, clock)

    pipeline._begin = pipelines.starter(type('', (), {'segment': staticmethod(noted)})())
    pipeline.process([frame(1)[0]], [('mask',)], StageClock())
    assert seen == [(confidence, drivable, 'trust' in given)]


def test_what_autoware_has_no_class_for_is_unknown_and_a_table_without_a_remap_has_none():
    target = load_taxonomy('autoware16')
    lut, plain = autoware_lut(TABLE), remap_lut(TABLE, target)
    unknown = target.names.index('UNKNOWN')
    np.testing.assert_array_equal(lut, np.where(plain == 255, unknown, plain))
    assert (plain == 255).any() and len(set(lut[:19])) > 3
    assert autoware_lut(ClassTable('mine', (SegClass(0, 'moon', (0, 0, 0), True, False),))) is None
