"""A backend whose labels are not those of ONNX Runtime on the CPU is never used."""

import json
from pathlib import Path

import numpy as np
import pytest

from seg_node.devices import backend as backends, checked
from seg_node.devices.checked import CheckedBackend, compare, test_pictures as shipped_pictures
from seg_node.errors import BackendError
from seg_node.model.card import load_card

MODELS = Path(__file__).parent / 'models'
SHAPE = (1, 96, 160, 3)


class Wrapped:
    """A backend that says something else about what the real one found."""

    description, device, max_batch = 'wrapped', 'cpu', None

    def __init__(self, inner, change=lambda outputs: outputs):
        self.inner, self.change, self.runs = inner, change, 0

    def prepare(self, shape):
        self.inner.prepare(shape)

    def run(self, tensor):
        self.runs += 1
        self.last = tensor
        return self.change(self.inner.run(tensor))

    def close(self):
        pass


@pytest.fixture(scope='module')
def card():
    return load_card(MODELS / 'palette_softmax')


@pytest.fixture
def truth(card):
    backend = backends.load('onnxruntime', card, threads=1)
    yield Wrapped(backend)
    backend.close()


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv('SEG_NODE_CACHE', str(tmp_path / 'cache'))


def records(tmp_path):
    return sorted((tmp_path / 'cache' / 'checks').glob('*.json'))


@pytest.mark.parametrize('change, words', [
    (lambda outputs: [np.roll(outputs[0], 1, axis=3)], 'equal labels'),  # other classes
    (lambda outputs: [np.roll(outputs[0], 40, axis=2)], 'equal labels'),  # other places
    (lambda outputs: [np.full_like(outputs[0], np.nan)], 'equal labels'),
    (lambda outputs: [outputs[0] * 9], 'equal labels'),  # no probabilities any more
    (lambda outputs: [outputs[0] ** .2 / 9], 'outputs off by'),  # right labels, wrong values
])
def test_wrong_results_are_refused(card, truth, tmp_path, change, words):
    wrong = CheckedBackend(Wrapped(truth.inner, change), card, lambda: truth, 'wrong')
    tensor = np.zeros(SHAPE, np.float32)
    for _ in range(2):  # a refusal is not forgotten by the next frame
        with pytest.raises(BackendError, match=f'wrapped is not used for .*{words}'):
            wrong.run(tensor)
    assert not records(tmp_path)


def test_each_shape_is_compared_once_and_every_picture_counts(card, truth):
    seen = []

    def one_wrong(outputs):
        seen.append(outputs[0].shape)
        return [np.roll(outputs[0], 1, axis=3)] if len(seen) == 3 else outputs

    tensor = np.zeros(SHAPE, np.float32)
    good = CheckedBackend(Wrapped(truth.inner), card, lambda: truth)
    for _ in range(3):
        good.run(tensor)
    count = len(shipped_pictures())
    assert truth.runs == count >= 3
    good.run(np.zeros((2, 64, 96, 3), np.float32))  # with as many at once as will come
    assert truth.runs == 2 * count
    with pytest.raises(BackendError, match='at an input of shape'):
        CheckedBackend(Wrapped(truth.inner, one_wrong), card, lambda: truth).check(SHAPE)


@pytest.mark.parametrize('shape', [(1, 320, 96, 3), (1, 96, 320, 3), (1, 128, 128, 3)])
def test_pictures_are_not_stretched_to_a_shape(card, truth, shape):
    """A grid stays square, whatever the shape of the input."""
    steps = np.zeros((90, 160, 3), np.uint8)
    steps[::6] = steps[:, ::6] = 255
    compare(card, truth, truth, shape, [steps])
    seen = np.where(truth.last[0] > 0, 1, 0)[..., 0]
    wide, high = (np.diff(np.flatnonzero(seen.mean(axis=axis) > 0.9)).max() for axis in (0, 1))
    assert abs(wide - high) <= 1


def test_an_outcome_is_kept_for_exactly_what_was_compared(card, truth, tmp_path):
    def opened(kept_as='a 1.0', of=card, shape=SHAPE, pictures=None):
        before = truth.runs
        CheckedBackend(Wrapped(truth.inner), of, lambda: truth, kept_as, pictures).check(shape)
        return truth.runs > before

    assert opened() and not opened()
    [record] = records(tmp_path)
    assert json.loads(record.read_text())['equal'] == 1
    other = load_card(MODELS / 'palette_cityscapes19')
    for change in ({'kept_as': 'a 1.1'}, {'shape': (1, 64, 96, 3)},
                   {'pictures': shipped_pictures()[:2]}):
        assert opened(**change) and not opened(**change), change
    assert opened(kept_as='') and opened(kept_as='')  # what nothing identifies
    record.write_text(record.read_text()[:40])
    assert opened() and not opened()
    changed = json.loads(record.read_text())
    record.write_text(json.dumps({**changed, 'equal': 0.5}))
    assert opened()
    key = json.loads(record.read_text())['key']
    assert key['model'] == card.sha256 != other.sha256


def test_a_cache_that_cannot_be_written_costs_only_time(card, truth, tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('SEG_NODE_CACHE', str(tmp_path / 'file'))
    CheckedBackend(Wrapped(truth.inner), card, lambda: truth, 'a').check(SHAPE)


def test_labels_that_never_vary_are_told_by_their_values(card, truth):
    """A model that sees one class everywhere agrees with every wrong one, but for the values."""
    grey = [np.full((40, 60, 3), level, np.uint8) for level in (90, 130)]
    found = compare(card, Wrapped(truth.inner, lambda out: [out[0] * 0.3]), truth,
                    SHAPE, grey)
    assert found.equal == 1 and found.error > checked.MOST_ERROR and not found.good


def test_the_pictures_differ_and_show_streets(card, truth):
    """Were they alike, a backend that repeats itself would pass."""
    main = load_card('deeplabv3plus_lite0_camvid')
    backend = backends.load('onnxruntime', main, threads=0)
    pictures = shipped_pictures()
    turned = [pictures[-1], *pictures[:-1]]
    ahead = iter(turned)

    class Mixed(Wrapped):
        def run(self, tensor):
            from seg_node.geometry import Geometry, Size
            from seg_node.preprocess import Preprocessor
            size = Size(*tensor.shape[2:])
            return self.inner.run(Preprocessor(main.input).tensor(
                [next(ahead)], [Geometry(size, size, size, 0, 0, size)]))

    found = compare(main, Mixed(backend), backend, (1, 3, 192, 320), pictures)
    assert found.equal < 0.7 and found.error > 0.7
    backend.close()
