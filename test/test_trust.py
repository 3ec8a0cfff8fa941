"""Judgement of pictures and masks, the state over time, and what is done about it."""

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import pytest

from seg_node.devices.checked import test_pictures as shipped_pictures
from seg_node.errors import ConfigError
from seg_node.frame import Frame, Segmentation
from seg_node.geometry import fit, Size
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import load_card
from seg_node.reference import softmax
from seg_node.scoring.corruptions import chosen, CORRUPTIONS
from seg_node.trust.evidence import BANDS, certainty_at, FIGURES, grid, measure
from seg_node.trust.judge import Judge, weigh
from seg_node.trust.policy import drop_unsure, Policy, PUBLISH, Trust, WITHHOLD, withhold
from seg_node.trust.reference import layout_difference, load_reference
from seg_node.trust.verdict import Standing, State, Verdict
from seg_node.trust.watch import CameraWatch, Timing

HEIGHT, WIDTH = 180, 320
ROAD, SKY = 3, 0
OK, DOUBTFUL, BLIND = State


def street(seed=0):
    """Return a picture with structure everywhere, smooth as pictures are, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (HEIGHT, WIDTH, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def mask():
    labels = np.full((HEIGHT, WIDTH), SKY, np.uint8)
    labels[HEIGHT // 2:] = ROAD
    return labels


def frame_of(image, camera='front', stamp_ns=1):
    height, width = image.shape[:2]
    message = ImageMessage(Header(0, stamp_ns, camera), height, width, 'bgr8', False, width * 3,
                           np.ascontiguousarray(image).reshape(-1))
    return Frame(camera, message)


def segmentation(labels, confidence=None, drivable=None):
    card = load_card('deeplabv3plus_lite0_camvid')
    geometry = fit(card.input, Size(*labels.shape))
    return Segmentation(geometry, labels, confidence, drivable)


def evidence_of(image, labels=None, confidence=None):
    labels = mask() if labels is None else labels
    return measure(image[..., 1], labels, np.where(labels == ROAD, 255, 0).astype(np.uint8),
                   np.full(labels.shape, 250, np.uint8) if confidence is None else confidence,
                   certainty_at(1))


# Evidence


def test_the_figures_of_a_plain_mask():
    figures = evidence_of(street()).figures
    assert set(figures) == set(FIGURES)
    assert figures['drivable'] == pytest.approx(0.5, abs=0.01)
    assert figures['drivable_afloat'] == 0
    assert figures['drivable_confidence'] == pytest.approx(250 / 255)
    assert figures['flat'] < 0.05 and figures['blind_width'] == 0
    assert figures['row_likeness'] > 0.3


def test_borders_are_counted_once_between_two_samples():
    rows, columns = (len(places) for places in grid(Size(HEIGHT, WIDTH)))
    pairs = 2 * (rows - 1) * (columns - 1)
    assert evidence_of(street()).figures['borders'] == pytest.approx((columns - 1) / pairs)
    whole = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    assert evidence_of(street(), whole).figures['borders'] == 0


def test_drivable_area_above_the_rest_is_afloat():
    upside_down = np.ascontiguousarray(mask()[::-1])
    assert evidence_of(street(), upside_down).figures['drivable_afloat'] == pytest.approx(
        0.5, abs=0.02)


@pytest.mark.parametrize('temperature', [0.8, 1.3, 1.6])
def test_certainty_hardly_depends_on_the_temperature(temperature):
    logits = np.random.default_rng(0).normal(0, 2.5, (11, 60, 60)).astype(np.float32)
    logits[ROAD] += 6
    logits[ROAD + 2:] -= 8  # two or three classes compete for a pixel, not all
    doubts = []
    for value in (1.0, temperature):
        confidence = np.rint(255 * softmax(logits, value).max(axis=0)).astype(np.uint8)
        doubts.append(np.log(1.003 - certainty_at(value)[confidence].mean()))
    assert doubts[1] == pytest.approx(doubts[0], abs=0.2)


def test_without_confidence_a_figure_is_missing():
    labels = mask()
    figures = measure(street()[..., 1], labels, labels, None, certainty_at(1)).figures
    assert set(FIGURES) - set(figures) == {'drivable_confidence'}


def test_unlabelled_pixels_count_nowhere():
    image, labels = street(), mask()
    image[-HEIGHT // 4:], labels[-HEIGHT // 4:] = 0, 255
    evidence = evidence_of(image, labels)
    assert evidence.figures['flat'] < 0.05 and evidence.figures['blind_width'] == 0
    assert evidence.figures['drivable'] == pytest.approx(1 / 3, abs=0.02)
    assert evidence.bands.sum() == pytest.approx(evidence.grey.size * 3 / 4, rel=0.02)


def test_a_smaller_mask_is_measured_at_the_same_places():
    image, labels = street(), mask()
    large = evidence_of(cv2.resize(image, None, fx=4, fy=4)).figures
    small = evidence_of(cv2.resize(image, None, fx=4, fy=4), labels).figures
    assert small['drivable'] == pytest.approx(large['drivable'], abs=0.01)
    assert small['edges'] == pytest.approx(large['edges'], abs=0.1)


def test_the_samples_are_as_many_for_any_camera():
    for size in (Size(360, 480), Size(720, 1280), Size(375, 1242), Size(480, 360)):
        rows, columns = grid(size)
        assert 10_000 < len(rows) * len(columns) < 11_600
        assert rows[-1] < size.height and columns[-1] < size.width


@pytest.mark.parametrize('encoding, pixels', [
    ('mono8', lambda image: image[..., 1]), ('rgb8', lambda image: image[..., ::-1]),
    ('bgr8', lambda image: image)])
def test_the_grey_of_a_raw_image_is_a_view(encoding, pixels):
    data = np.ascontiguousarray(pixels(street()))
    step = data.strides[0]
    frame = Frame('front', ImageMessage(Header(0, 0, ''), HEIGHT, WIDTH, encoding, False, step,
                                        data.reshape(-1)))
    assert np.array_equal(frame.grey, street()[..., 1])
    assert np.shares_memory(frame.grey, data)


# Verdicts


@pytest.mark.parametrize('spoil, state, word', [
    (lambda image: image, State.OK, ''),
    (lambda image: image * 0, State.BLIND, 'black'),
    (lambda image: image * 0 + 255, State.BLIND, 'white'),
    (lambda image: image * 0 + 90, State.BLIND, 'even'),
    (lambda image: CORRUPTIONS['half_black_left'].apply(image, '', 0), State.BLIND, 'width'),
    (lambda image: CORRUPTIONS['half_black_bottom'].apply(image, '', 0), State.BLIND, 'width'),
    (lambda image: CORRUPTIONS['pure_noise'].apply(image, '', 0), State.BLIND, 'noise'),
    (lambda image: CORRUPTIONS['row_noise_40'].apply(image, '', 0), State.DOUBTFUL, 'rows'),
])
def test_pictures_tell_without_a_reference(spoil, state, word):
    verdict = weigh(evidence_of(spoil(street())), None)
    assert verdict.state == state and word in verdict.reason
    assert bool(verdict.reason) == (state != State.OK)


@pytest.mark.parametrize('sigma', [0, 3, 6, 10])
def test_a_bright_even_sky_with_sensor_noise_is_not_torn(sigma):
    image = street()
    image[:HEIGHT * 55 // 100] = 190
    noise = np.random.default_rng(0).normal(0, sigma, image.shape)
    assert weigh(evidence_of(np.clip(image + noise, 0, 255).astype(np.uint8)), None).state == OK


@pytest.mark.parametrize('look', [
    lambda image: image, lambda image: image[:, ::-1], lambda image: image[:, 80:560],
    lambda image: image[:, 200:440], lambda image: image[40:314],
    lambda image: cv2.addWeighted(image, 2.2, cv2.GaussianBlur(image, (0, 0), 1.5), -1.2, 0),
    lambda image: cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA),
    lambda image: cv2.copyMakeBorder(image, 45, 45, 0, 0, cv2.BORDER_CONSTANT)])
def test_hard_edges_across_a_whole_picture_are_not_torn_lines(look):
    """Kerbs, crossings and shadows under cars are rows that do not fit their neighbours."""
    for image in shipped_pictures():
        image = np.ascontiguousarray(look(image))
        labels = np.full(image.shape[:2], ROAD, np.uint8)
        assert weigh(evidence_of(image, labels), None).state == OK


def test_rolled_rows_are_torn():
    torn = CORRUPTIONS['rolled_rows']
    for seed in range(5):
        found = weigh(evidence_of(torn.apply(street(seed), str(seed), 0)), None)
        assert found.state == DOUBTFUL and 'rows' in found.reason


def cut(image, row, shift):
    """Shift all lines from a row on, as a lost packet does."""
    return np.vstack([image[:row], np.roll(image[row:], shift, axis=1)])


@pytest.mark.parametrize('row', [2, 37, HEIGHT // 2, HEIGHT - 3])
def test_a_picture_whose_lines_are_shifted_from_somewhere_on_is_torn(row):
    for seed in range(5):
        found = weigh(evidence_of(cut(street(seed), row, 60)), None)
        assert found.state == DOUBTFUL and 'jumps from one row to the next' in found.reason
        assert weigh(evidence_of(cut(street(seed), 0, 60)), None).state == OK


@pytest.mark.parametrize('spoil', [
    lambda image: cv2.copyMakeBorder(image[60:-60], 60, 60, 0, 0, cv2.BORDER_CONSTANT),
    lambda image: cv2.resize(image[::4, ::4], None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST),
    lambda image: CORRUPTIONS['jpeg_15'].apply(image, '', 0)])
def test_bars_and_squares_are_not_torn(spoil):
    assert 'jumps' not in weigh(evidence_of(spoil(street())), None).reason


@pytest.mark.parametrize('shape', [(1, 1), (2, 3), (3, 9), (4, 2), (5, 700)])
def test_tiny_pictures_are_measured(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert 0 <= evidence_of(image, np.zeros(shape, np.uint8)).figures['torn_across'] <= 1


# The state over time


@lru_cache(maxsize=1)
def usual_evidence():
    return evidence_of(street())


def verdict(state, grey=None):
    evidence = usual_evidence()
    return Verdict(state, '' if state == State.OK else f'it is {state}', evidence.figures,
                   evidence if grey is None else replace(evidence, grey=grey))


def follow(states, rate_hz=30.0, timing=None):
    """Return the state after each frame of a camera whose pictures all differ."""
    watch, rng, after = CameraWatch(timing or Timing()), np.random.default_rng(0), []
    for number, state in enumerate(states):
        grey = rng.integers(0, 256, (10, 10), np.uint8)
        after.append(watch.follow(verdict(state, grey), number, number / rate_hz).state)
    return after




def test_one_frame_neither_alarms_nor_clears():
    for rate_hz in (1, 5, 30, 100):
        assert set(follow([OK] * 20 + [BLIND] + [OK] * 60, rate_hz)) == {OK}
        assert follow([BLIND] * 200 + [OK] + [BLIND], rate_hz)[-1] == BLIND


@pytest.mark.parametrize('rate_hz', [1, 5, 30, 100])
def test_what_lasts_is_told_and_cleared_in_time(rate_hz):
    states = follow([OK] * 300 + [DOUBTFUL] * 300 + [OK] * 300, rate_hz)
    told, cleared = states.index(DOUBTFUL) - 300, states.index(OK, 300 + 150) - 600
    assert told / rate_hz <= max(0.3, 2 / rate_hz)
    assert told >= 1 and cleared >= 1
    assert 1.0 <= (cleared + 1) / rate_hz + 1e-9 and cleared / rate_hz <= max(1.1, 2 / rate_hz)


def test_every_other_frame_bad_is_told():
    assert follow([OK, BLIND] * 30)[-1] == BLIND


def test_a_graver_state_falls_back_step_by_step():
    states = follow([BLIND] * 30 + [DOUBTFUL] * 60 + [OK] * 60)
    assert states[30 + 45] == DOUBTFUL and states[-1] == OK


def test_frozen_pictures_are_blind_after_a_while():
    watch, grey = CameraWatch(Timing()), street()[::8, ::8, 0].copy()
    states = [watch.follow(verdict(OK, grey), number, number / 10) for number in range(30)]
    assert [standing.state for standing in states[:11]] == [OK] * 11
    assert states[13].state == BLIND and 'not changed' in states[13].reason
    moving = [watch.follow(verdict(OK, np.roll(grey, number, 1)), 100 + number, 3 + number / 10)
              for number in range(1, 20)]
    assert moving[-1].state == OK


def test_a_clock_in_the_corner_does_not_hide_a_frozen_picture():
    watch, standing = CameraWatch(Timing()), None
    for number in range(30):
        grey = street()[..., 0].copy()
        grey[0, :20] = number
        standing = watch.follow(verdict(OK, grey), number, number / 10)
    assert standing.state == BLIND


def test_sensor_noise_at_a_standstill_is_not_frozen():
    watch, rng = CameraWatch(Timing()), np.random.default_rng(0)
    night = np.full((90, 120), 3, np.uint8)
    for number in range(60):
        grey = night + (rng.random(night.shape) < 0.02).astype(np.uint8)
        assert watch.follow(verdict(OK, grey), number, number / 30).state == OK


@pytest.mark.parametrize('frozen_s, stamps', [(0.0, range(100)), (1.0, [7] * 100)])
def test_not_frozen_when_off_or_when_stamps_stand_still(frozen_s, stamps):
    watch, grey = CameraWatch(Timing(frozen_s=frozen_s)), street()[..., 0]
    for number, stamp in enumerate(stamps):
        assert watch.follow(verdict(OK, grey), stamp, number / 10).state == OK


# Policy


def standing(state, alone):
    return Standing(state, '', verdict(alone))


@pytest.mark.parametrize('policy, state, alone, withheld', [
    (Policy(), OK, OK, False), (Policy(), DOUBTFUL, DOUBTFUL, False),
    (Policy(), BLIND, OK, True), (Policy(), OK, BLIND, True),
    (Policy(on_blind=PUBLISH), BLIND, BLIND, False),
    (Policy(on_doubtful=WITHHOLD), DOUBTFUL, OK, True),
    (Policy(on_doubtful=WITHHOLD), OK, DOUBTFUL, False),
    (Policy(on_blind=PUBLISH, on_doubtful=WITHHOLD), BLIND, DOUBTFUL, False),
])
def test_the_policy_follows_the_state_and_a_blind_frame_at_once(policy, state, alone, withheld):
    assert policy.withholds(standing(state, alone)) == withheld


def test_withheld_is_unknown_and_never_drivable():
    result = segmentation(mask(), np.full((HEIGHT, WIDTH), 200, np.uint8),
                          np.full((HEIGHT, WIDTH), 255, np.uint8))
    result = replace(result, entropy=np.zeros((HEIGHT, WIDTH), np.uint8))
    withhold(result)
    assert set(np.unique(result.labels)) == {255}
    assert not result.drivable.any() and not result.confidence.any()
    assert set(np.unique(result.entropy)) == {255}


def test_unsure_pixels_are_unknown_and_not_drivable():
    confidence = np.tile(np.arange(WIDTH) % 256, (HEIGHT, 1)).astype(np.uint8)
    labels, drivable = mask(), np.full((HEIGHT, WIDTH), 255, np.uint8)
    result = segmentation(labels, confidence, drivable)
    drop_unsure(result, 0.5)
    unsure = confidence < 127.5
    assert np.array_equal(result.labels, np.where(unsure, 255, mask()))
    assert np.array_equal(result.drivable, np.where(unsure, 0, 255))


def test_the_examination_changes_what_is_published():
    card = load_card('deeplabv3plus_lite0_camvid')
    result = segmentation(mask(), np.full((HEIGHT, WIDTH), 250, np.uint8),
                          np.full((HEIGHT, WIDTH), 255, np.uint8))
    found = Trust(card).examine(frame_of(street() * 0), result)
    assert found.verdict.state == BLIND and found.state == OK
    assert not result.drivable.any()


def test_min_confidence_needs_a_confidence():
    with pytest.raises(ConfigError, match=r'min_confidence is 0\.5.*set it to 0'):
        Trust(load_card('test/models/palette_labels'), Policy(min_confidence=0.5))


# Reference


def with_reference(**changes):
    card = load_card('deeplabv3plus_lite0_camvid')
    shares = np.zeros((BANDS, 11))
    shares[:3, SKY] = shares[3:, ROAD] = 1
    reference = {'pictures': 'one', 'classes': 'camvid11', 'layout': shares.tolist(), 'bias': -2.0,
                 'terms': {'layout': {'usual': -3, 'spread': 1.0, 'weight': 1.0}},
                 'usual': {'layout': [0.0, 0.5]}} | changes
    return replace(card, raw=card.raw | {'reference': reference})


def test_a_mask_like_the_usual_ones_is_ok_and_another_is_doubtful():
    card = with_reference()
    judge = Judge(card, load_reference(card))
    assert not judge.missing
    good = judge(frame_of(street()), segmentation(mask()))
    assert good.state == OK and good.figures['doubt'] < 0
    other = judge(frame_of(street()), segmentation(np.full((HEIGHT, WIDTH), ROAD, np.uint8)))
    assert other.state == DOUBTFUL and other.figures['doubt'] > 0
    assert 'implausible' in other.reason and 'usually' in other.reason


@pytest.mark.parametrize('bottom', [HEIGHT // 8, 7 * HEIGHT // 8])
def test_an_area_far_from_the_usual_size_is_doubtful(bottom):
    card = with_reference(
        drivable=0.5, bias=-1.0, usual={'drivable_unusual': [0.0, 0.3]},
        terms={'drivable_unusual': {'usual': 0.0, 'spread': 0.3, 'weight': 1.0}})
    judge = Judge(card, load_reference(card))
    assert judge(frame_of(street()), segmentation(mask())).state == OK
    labels = np.full((HEIGHT, WIDTH), SKY, np.uint8)
    labels[-bottom:] = ROAD
    found = judge(frame_of(street()), segmentation(labels))
    assert found.figures['drivable_unusual'] == pytest.approx(
        abs(np.log((bottom / HEIGHT + 0.02) / 0.52)), abs=0.05)
    assert found.state == DOUBTFUL and 'usually 0.000 to 0.300' in found.reason


def test_without_a_reference_the_judge_says_what_it_cannot_tell():
    card = load_card('test/models/palette_fixed')
    judge = Trust(card).judge
    assert 'no reference' in judge.missing and 'seg_node.tools.reference' in judge.missing


def test_the_difference_of_the_same_layout_is_nothing():
    usual = np.full((BANDS, 4), 0.25)
    bands = np.zeros((BANDS, 256), np.int64)
    assert layout_difference(bands, usual) == 0
    bands[:, :4] = 100
    assert layout_difference(bands, usual) == pytest.approx(0, abs=1e-6)
    bands[:, 1:4] = 0
    assert layout_difference(bands, usual) > 1


@pytest.mark.parametrize('changes, said', [
    ({'classes': 'cityscapes19'}, "class table 'cityscapes19'"),
    ({'layout': [[0.5, 0.5]] * BANDS}, 'with 2 classes'),
    ({'layout': [[0.5] * 11] * BANDS}, 'add up to'),
    ({'usual': {'layout': [0.5, 0.1]}}, 'must not be above'),
    ({'terms': {'drivable_unusual': {'usual': 0.5, 'spread': 1.0, 'weight': 1.0}},
      'usual': {'drivable_unusual': [0.0, 1.0]}}, 'there is no reference.drivable'),
    ({'usual': {}}, 'reference.usual has no'), ({'terms': {}}, 'reference.terms is empty'),
])
def test_a_reference_that_does_not_fit_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said) as refused:
        load_reference(with_reference(**changes))
    assert 'seg_node.tools.reference' in str(refused.value)


# Corruptions


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_a_corruption_is_the_same_for_the_same_seed(name):
    corruption, image = CORRUPTIONS[name], street()
    image.setflags(write=False)
    once, again = (corruption.apply(image, 'a', 1) for _ in range(2))
    assert np.array_equal(once, again)
    assert once.dtype == np.uint8 and once.flags.c_contiguous
    assert once.shape == corruption.turn(image).shape
    if corruption.turns % 2 == 0:
        assert not np.array_equal(once, image)


@pytest.mark.parametrize('name', ['noise_15', 'rain_300', 'rolled_rows', 'pure_noise'])
def test_chance_differs_by_picture_and_seed(name):
    corruption, image = CORRUPTIONS[name], street()
    first = corruption.apply(image, 'a', 1)
    assert not np.array_equal(first, corruption.apply(image, 'b', 1))
    assert not np.array_equal(first, corruption.apply(image, 'a', 2))


def test_the_truth_turns_with_the_picture():
    truth = np.arange(6, dtype=np.uint8).reshape(2, 3)
    marked = np.repeat(truth[..., None], 3, axis=2)
    for name in ('upside_down', 'turned_90_left', 'turned_90_right'):
        spoilt = CORRUPTIONS[name].apply(marked, '', 0)[..., 0]
        assert np.array_equal(spoilt, CORRUPTIONS[name].turn(truth))
    assert np.array_equal(CORRUPTIONS['noise_15'].turn(truth), truth)


def test_corruptions_are_chosen_by_name_or_kind():
    assert list(chosen(['noise', 'dark_0.4'])) == ['dark_0.4', 'noise_15', 'noise_40', 'noise_80']
    assert len(chosen(None)) == len(CORRUPTIONS)
    with pytest.raises(ConfigError, match="'sleet' is unknown; allowed: dark_0.4"):
        chosen(['sleet'])
