"""Reading every kind of network output; refusals included."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_node import reference
from seg_node.devices import backend as backends, host
from seg_node.devices.heads import read_entropy, read_head
from seg_node.devices.host import HostSegmenter
from seg_node.errors import BACKEND, ConfigError, FrameError
from seg_node.frame import Demand, Frame, StageClock
from seg_node.geometry import fit, Size
from seg_node.image.wire import CompressedImageMessage, Header, ImageMessage
from seg_node.model.card import InputSpec, load_card, OutputSpec
from seg_node.model.taxonomy import ClassTable, load_taxonomy

MODELS = Path(__file__).parent / 'models'

SPEC = InputSpec('image', 'NCHW', 'rgb', 'float32', (0, 0, 0), (1, 1, 1), size=(32, 48))
GEOMETRY = fit(SPEC, Size(77, 130))
TABLE = load_taxonomy('camvid11')
TWO = ClassTable('two', TABLE.classes[:2])


def output(kind, layout='NCHW', classes=TABLE, **given):
    return OutputSpec('out', kind, layout, 'labels', classes, **given)


def scores(classes=11, seed=0):
    return np.random.default_rng(seed).normal(size=(classes, 8, 12)).astype(np.float32)


SHARE = np.random.default_rng(1).random((1, 8, 12)).astype(np.float32)


def truth(maps):
    return reference.labels(maps, GEOMETRY.rows(8), GEOMETRY.columns(12))


def test_logits_in_every_layout_and_precision():
    maps = scores()
    for values, spec in ((maps, output('logits')),
                         (maps.transpose(1, 2, 0), output('logits', 'NHWC'))):
        labels, sure = read_head(spec, values, GEOMETRY, True)
        np.testing.assert_array_equal(labels, truth(maps))
        assert sure.shape == labels.shape
    half = maps.astype(np.float16)
    labels, _ = read_head(output('logits'), half, GEOMETRY, True)
    np.testing.assert_array_equal(labels, truth(half.astype(np.float32)))


@pytest.mark.parametrize('temperature', [0.05, 0.7, 1.3, 20.0])
def test_the_temperature_is_in_the_confidence_alone(temperature):
    maps = scores()
    labels, sure = read_head(output('logits', temperature=temperature), maps, GEOMETRY, True)
    np.testing.assert_array_equal(labels, truth(maps))
    exact = np.exp((maps - maps.max(axis=0)).astype(np.float64) / temperature)
    exact /= exact.sum(axis=0)
    expected = reference.confidence(exact, labels, GEOMETRY.rows(8), GEOMETRY.columns(12))
    assert np.abs(sure.astype(int) - expected).max() <= 1


def test_probabilities_are_not_squashed_again():
    maps = reference.softmax(scores())
    labels, sure = read_head(output('probabilities'), maps, GEOMETRY, True)
    np.testing.assert_array_equal(labels, truth(maps))
    expected = reference.confidence(maps, labels, GEOMETRY.rows(8), GEOMETRY.columns(12))
    np.testing.assert_array_equal(sure, expected)


@pytest.mark.parametrize('dtype', [np.int64, np.int32, np.uint8, np.float32, np.float64])
@pytest.mark.parametrize('layout', ['NHW', 'NCHW', 'NHWC'])
def test_labels_by_nearest(dtype, layout):
    ids = np.random.default_rng(0).integers(0, 11, (32, 48)).astype(dtype)
    values = {'NHW': ids, 'NCHW': ids[None], 'NHWC': ids[..., None]}[layout]
    labels, sure = read_head(output('labels', layout), values, GEOMETRY, True)
    rows = np.floor((np.arange(77) + .5) * 32 / 77).astype(int)
    columns = np.floor((np.arange(130) + .5) * 48 / 130).astype(int)
    np.testing.assert_array_equal(labels, ids[rows[:, None], columns])
    assert sure is None and labels.dtype == np.uint8


@pytest.mark.parametrize('threshold', [0.2, 0.5, 0.9])
@pytest.mark.parametrize('activation', ['raw', 'applied'])
def test_sigmoid(threshold, activation):
    raw = scores(1) * 3
    p = 1 / (1 + np.exp(-raw.astype(np.float64)))
    values = raw if activation == 'raw' else p.astype(np.float32)
    spec = output('sigmoid', classes=TWO, activation=activation, threshold=threshold)
    labels, sure = read_head(spec, values, GEOMETRY, True)
    fine = reference.upsample(p, GEOMETRY.rows(8), GEOMETRY.columns(12))[0]
    clear = np.abs(fine - threshold) > 1e-6
    np.testing.assert_array_equal(labels[clear], (fine > threshold)[clear])
    expected = np.where(labels == 1, fine, 1 - fine) * 255
    assert np.abs(sure - expected).max() <= 1


@pytest.mark.parametrize(('spec', 'values', 'chances'), [
    (output('logits', 'NHWC', temperature=1.7), scores().transpose(1, 2, 0),
     reference.softmax(scores(), 1.7)),
    (output('probabilities'), reference.softmax(scores()), reference.softmax(scores())),
    *((output('sigmoid', classes=TWO, activation=activation), values,
       np.concatenate([1 - SHARE, SHARE]))
      for activation, values in (('raw', np.log(SHARE / (1 - SHARE))), ('applied', SHARE)))])
def test_the_entropy_of_every_kind_of_output(spec, values, chances):
    labels, _ = read_head(spec, values, GEOMETRY, False)
    torn = read_entropy(spec, values, GEOMETRY, labels)
    wanted = reference.entropy(chances, GEOMETRY.rows(8), GEOMETRY.columns(12))
    assert np.abs(torn.astype(int) - wanted).max() <= 1 and torn.std() > 1


def test_class_ids_have_no_entropy():
    assert read_entropy(output('labels', 'NHW'), np.zeros((8, 12), np.uint8), GEOMETRY,
                        np.zeros((77, 130), np.uint8)) is None


def test_large_raw_scores_do_not_overflow():
    with np.errstate(all='raise', under='ignore'):
        labels, _ = read_head(output('sigmoid', classes=TWO, activation='raw'),
                              np.full((1, 8, 12), -3e4, np.float32), GEOMETRY, True)
    assert not labels.any()


@pytest.mark.parametrize('spec, values, reason, words', [
    (output('labels', 'NHW'), np.full((8, 12), 11), 'class-id', 'from 11 to 11'),
    (output('labels', 'NHW'), np.full((8, 12), -1), 'class-id', 'ends at 10'),
    (output('labels', 'NHW'), np.full((8, 12), 0.5), 'class-id', 'no whole numbers'),
    (output('labels', 'NHW'), np.full((8, 12), np.nan), 'class-id', 'no whole numbers'),
    (output('labels', 'NHW'), np.full((8, 12), 255), 'class-id', 'a mask of 0 and 255'),
    (output('probabilities'), scores() * 5, 'probabilities', 'if these are logits'),
    (output('sigmoid', classes=TWO, activation='applied'), scores(1) * 5, 'probabilities',
     '0 to 1'),
    (output('logits'), scores(12), 'channels', 'has 12 channels, but the card lists 11'),
    (output('logits'), np.full((11, 8, 12), np.nan), 'logits', 'NaN'),
    (output('probabilities'), np.full((11, 8, 12), np.nan), 'logits', 'NaN'),
])
def test_refusals(spec, values, reason, words):
    with pytest.raises(FrameError, match=words) as refusal:
        read_head(spec, values, GEOMETRY, True)
    assert refusal.value.reason == reason


def test_a_network_that_makes_one_picture_of_two_refuses_both(palette, monkeypatch):
    """Its file calls the batch dynamic, and a Reshape in it has a 1."""
    segmenter, frames, _ = palette
    run = segmenter._backend.run
    monkeypatch.setattr(segmenter._backend, 'run', lambda tensor: [one[:1] for one in run(tensor)])
    found = segmenter.segment(frames[:2], Demand(), StageClock())
    assert [one.reason for one in found] == [BACKEND] * 2
    assert 'the network made 1 pictures of 2' in str(found[0])


def test_a_mixed_batch_keeps_its_order_and_survives_a_bad_frame():
    card = load_card(MODELS / 'palette_cityscapes19')
    backend = backends.load('onnxruntime', card, providers=['CPUExecutionProvider'], threads=1)
    assert backend.max_batch is None  # so cameras of one size do go through it together
    segmenter = HostSegmenter(card, backend)
    palette = card.main_output.classes.palette_bgr()
    rng = np.random.default_rng(0)
    truths, frames = [], []
    for height, width in ((120, 160), (200, 120), (120, 160), (120, 160), (200, 120)):
        labels = rng.integers(0, 19, (height, width), np.uint8)
        data = palette[labels].reshape(-1)
        if len(frames) == 2:
            data = data[:-1]
        truths.append(labels)
        frames.append(Frame(str(len(frames)), ImageMessage(
            Header(0, 0, ''), height, width, 'bgr8', False, width * 3, data)))
    results = segmenter.segment(frames, Demand(), StageClock())
    for index, (truth, result) in enumerate(zip(truths, results, strict=True)):
        if index == 2:
            assert isinstance(result, FrameError) and result.reason == 'truncated'
        else:
            np.testing.assert_array_equal(result.labels, truth)
            assert result.confidence.shape == truth.shape
    segmenter.close()


@pytest.fixture
def palette():
    """Return a segmenter, frames of its colours and the labels that they must get."""
    card = load_card(MODELS / 'palette_cityscapes19')
    backend = backends.load('onnxruntime', card, providers=['CPUExecutionProvider'], threads=1)
    truths = np.random.default_rng(1).integers(0, 19, (3, 120, 160), np.uint8)
    images = card.main_output.classes.palette_bgr()[truths]
    yield HostSegmenter(card, backend), [frame_of(image) for image in images], truths
    backend.close()


def frame_of(image, **given):
    height, width = image.shape[:2]
    return Frame('', ImageMessage(Header(0, 0, ''), height, width, 'bgr8', False, width * 3,
                                  image.reshape(-1)), **given)


def check_only(index, reason, results, truths):
    """Exactly one frame of the batch is refused, the others are labelled."""
    assert isinstance(results[index], FrameError)
    assert results[index].reason == reason
    for n, (result, truth) in enumerate(zip(results, truths, strict=True)):
        if n != index:
            np.testing.assert_array_equal(result.labels, truth)
    return str(results[index])


@pytest.mark.parametrize('compressed', [False, True])
@pytest.mark.parametrize('size', [(1, 16384), (16384, 1), (64, 1024)])
def test_a_picture_without_sane_shape_costs_nobody_anything(palette, size, compressed):
    """16384x1 pixels, 49 kB, would ask a dynamic network for 53.8 GiB."""
    segmenter, frames, truths = palette
    strip = np.zeros((*size, 3), np.uint8)
    frames[1] = frame_of(strip)
    if compressed:
        png = cv2.imencode('.png', strip)[1].reshape(-1)
        frames[1] = Frame('', CompressedImageMessage(Header(0, 0, ''), 'png', png))
    check_only(1, 'size', segmenter.segment(frames, Demand(), StageClock()), truths)


def test_a_picture_larger_than_the_parameter_is_not_decoded(palette):
    segmenter, frames, truths = palette
    frames[2] = frame_of(np.zeros((120, 160, 3), np.uint8), max_pixels=160 * 120 - 1)
    text = check_only(2, 'size', segmenter.segment(frames, Demand(), StageClock()), truths)
    assert '19200 pixels' in text and 'up to 16384 and 19199' in text and 'max_pixels' in text


MISHAPS = [(MemoryError('Unable to allocate 53.8 GiB'), 'memory', '53.8 GiB'),
           (cv2.error('OpenCV(4): dst.cols < SHRT_MAX'), 'opencv', 'failed in OpenCV')]


@pytest.mark.parametrize('place', ['decode', 'preprocess', 'labels'])
@pytest.mark.parametrize(('mishap', 'reason', 'words'), MISHAPS)
def test_a_mishap_refuses_its_frame_only(palette, monkeypatch, place, mishap, reason, words):
    """Wherever it strikes; the two others of the same batch get their labels."""
    segmenter, frames, truths = palette
    culprit = frames[1].bgr.copy()

    def failing(function, image_of):
        def call(*arguments):
            if any(np.array_equal(image, culprit) for image in image_of(arguments)):
                raise mishap
            return function(*arguments)
        return call
    if place == 'decode':
        broken = property(lambda frame: failing(lambda image: image, tuple)(
            frame.message.data.reshape(120, 160, 3)))
        monkeypatch.setattr(Frame, 'bgr', broken)
    elif place == 'preprocess':
        tensor = segmenter._preprocessor.tensor
        monkeypatch.setattr(segmenter._preprocessor, 'tensor', failing(tensor, lambda a: a[0]))
    else:
        calls = iter(range(3))
        real = host.read_head

        def second_fails(*arguments):
            if next(calls) == 1:
                raise mishap
            return real(*arguments)
        monkeypatch.setattr(host, 'read_head', second_fails)
    results = segmenter.segment(frames, Demand(drivable=False), StageClock())
    assert words in check_only(1, reason, results, truths)
    assert results[1].__traceback__ is results[1].__context__.__traceback__ is None


@pytest.mark.parametrize(('name', 'words'), [
    ('labels_float32', None), ('labels_HW_nobatch', None),
    ('mask_0_255_uint8', 'a mask of 0 and 255')])
def test_the_cases(data_dir, name, words):
    """Taken where it is unambiguous, else with the mend."""
    card = load_card(data_dir / 'cases' / 'models' / name)
    frame = frame_of(np.full((96, 160, 3), (0, 0, 255), np.uint8))
    try:
        backend = backends.load('onnxruntime', card, providers=['CPUExecutionProvider'],
                                threads=1)
        [result] = HostSegmenter(card, backend).segment([frame], Demand(), StageClock())
    except ConfigError as error:
        result = error
    if words is None:
        assert (result.labels == 1).all()
        assert (result.drivable == 255).all()
    else:
        assert words in str(result)
