"""What ``gpu_check`` compares and measures, with the CPU's segmenter in the GPU's place."""

import hashlib
import json

import pytest
import yaml

from seg_node.devices.choose import open_segmenter, Wish
from seg_node.errors import BackendError
from seg_node.geometry import Size
from seg_node.model.card import load_card
from seg_node.tools import gpu_check

MODEL = 'bisenetv2_camvid'


@pytest.fixture(scope='module')
def frames():
    """Return two small frames of the street."""
    return gpu_check.street(Size(180, 320), 2)


@pytest.fixture
def segmenters(tmp_path):
    """Return a function that opens a segmenter for a card, closed at the end."""
    opened = []

    def open_one(card):
        opened.append(open_segmenter(card, Wish('onnxruntime')).segmenter)
        return opened[-1]
    yield open_one
    for segmenter in opened:
        segmenter.close()


def half_copy(folder):
    """Return the card of a half-precision copy of the model."""
    precision = pytest.importorskip('seg_node.engines.precision')
    pytest.importorskip('onnx')
    card = load_card(MODEL)
    folder.mkdir()
    precision.halve(card.model_path, folder / 'model.onnx', keep_io=True)
    raw = yaml.safe_load(card.path.read_text(encoding='utf-8'))
    data = (folder / 'model.onnx').read_bytes()
    raw.update(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    raw.pop('picture', None)
    (folder / 'card.yaml').write_text(yaml.safe_dump(raw), encoding='utf-8')
    return load_card(folder)


def test_a_half_precision_copy_passes(tmp_path, frames, segmenters):
    card = load_card(MODEL)
    report = gpu_check.check(card, segmenters(half_copy(tmp_path / 'half')), segmenters(card),
                             frames, precision='fp16', repeats=3)
    assert report['passed'] and 0.995 < report['labels_equal'] < 1
    times = report['latency_ms']
    assert {'frame', 'preprocess', 'network', 'labels'} <= set(times)
    assert all(0 < value['p50'] <= value['p95'] <= value['p99'] for name, value in times.items()
               if name in ('frame', 'network'))
    assert times['frame']['p50'] > times['network']['p50'] and report['frame_to_network'] > 1
    assert json.loads(json.dumps(report)) == report


def test_a_fallback_to_plain_launches_does_not_pass(frames, segmenters, capsys):
    card = load_card(MODEL)
    one = segmenters(card)
    report = gpu_check.check(card, one, one, frames, precision='fp16', repeats=1)
    assert report['passed'] and report['without_graphs'] == '' and report['batch'] == 1
    assert {'python', 'numpy', 'onnxruntime', 'seg_node'} <= set(report['versions'])
    one.without_graphs = 'cuStreamEndCapture failed'
    report = gpu_check.check(card, one, one, frames, precision='fp16', repeats=1)
    assert not report['passed'] and report['labels_equal'] == 1
    gpu_check._print(report)
    assert 'FAILED: the times are without CUDA graphs: cuStreamEnd' in capsys.readouterr().out


def test_another_model_fails(frames, segmenters):
    card = load_card(MODEL)
    other = segmenters(load_card('deeplabv3plus_lite0_camvid'))
    report = gpu_check.check(card, other, segmenters(card), frames, precision='fp16', repeats=1)
    assert not report['passed'] and report['labels_equal'] < 0.97


def test_a_refused_frame_is_an_error_not_a_figure(frames, segmenters):
    card = load_card(MODEL)
    good, bad = segmenters(card), segmenters(card)
    bad.segment = lambda *arguments: [gpu_check.BackendError('broken')]
    with pytest.raises(BackendError, match='refuses a test frame: broken'):
        gpu_check.agreement(bad, good, frames)


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    monkeypatch.setenv('SEG_NODE_CACHE', str(tmp_path))
    assert gpu_check.main(['--json', str(tmp_path / 'report.json')]) == 2
    said = capsys.readouterr().err
    assert 'gpu_check: ' in said and ('TensorRT' in said or 'target' in said)
    assert not (tmp_path / 'report.json').exists()
