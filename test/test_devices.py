"""Which device runs a model: by name or by ``auto``, and that no choice is silent."""

import sys

import numpy as np
import onnxruntime
import pytest

from seg_node.devices import choose as devices
from seg_node.devices.choose import open_segmenter, Wish
from seg_node.devices.onnx_runtime import BoundRun
from seg_node.errors import BackendError, ConfigError
from seg_node.geometry import Size
from seg_node.model.card import load_card

MODEL = 'bisenetv2_camvid'


@pytest.fixture
def card(monkeypatch):
    """Return a shipped model's card, on a machine that shows no GPU and has no OpenVINO."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    monkeypatch.setitem(sys.modules, 'openvino', None)
    return load_card(MODEL)


def test_auto_takes_the_cpu_and_says_why(card):
    chosen = open_segmenter(card, Wish())
    assert chosen.segmenter.device == 'cpu'
    first, *others = chosen.reason.split('; ')
    assert first == 'auto chose ONNX Runtime CPU'
    assert others[0].startswith('not TensorRT: there is no NVIDIA GPU number 0 here')
    assert others[1].startswith('not ONNX Runtime CUDA: ')
    assert '; not OpenVINO: ' in chosen.reason
    chosen.segmenter.close()


def test_a_backend_asked_for_by_name_needs_no_reason_and_never_falls_back(card):
    chosen = open_segmenter(card, Wish('onnxruntime'))
    assert chosen.reason == '' and 'CPUExecutionProvider' in chosen.segmenter.description
    chosen.segmenter.close()
    with pytest.raises(BackendError, match='no NVIDIA GPU number 2 here'):
        open_segmenter(card, Wish('tensorrt', gpu=2))
    with pytest.raises((BackendError, ConfigError), match='CUDAExecutionProvider'):
        open_segmenter(card, Wish('onnxruntime', (devices.CUDA_PROVIDER,)))


def test_cameras_with_an_engine_each(card, monkeypatch):
    """One engine for all cameras, else one for each; a camera without any is refused at once."""
    from seg_node.gpu import by_size, engine_cache, segmenter, trt
    front, left, odd, asked = Size(720, 1280), Size(480, 640), Size(9, 9), []

    def open_verified(card, *, cameras, **_):
        asked.append(list(cameras))
        if len(cameras) > 1 or odd in cameras:
            raise ConfigError(f'no engine for {cameras[-1]}')
        return cameras[0] if cameras else 'any'
    monkeypatch.setattr(trt, 'require_gpu', lambda number: None)
    monkeypatch.setattr(engine_cache, 'open_verified', open_verified)
    monkeypatch.setattr(segmenter, 'TensorRTSegmenter', lambda card, engine, gpu, policy: engine)
    monkeypatch.setattr(by_size, 'BySizeSegmenter', lambda first, find, load: first)

    def opened(*cameras):
        asked.clear()
        return open_segmenter(card, Wish('tensorrt', cameras=cameras)).segmenter
    assert opened() == 'any'
    assert opened(front) == front and asked == [[front]]
    assert opened(front, left) == front and asked == [[front, left], [front], [left]]
    with pytest.raises(ConfigError, match='no engine for 9x9'):
        opened(front, odd)


def test_a_provider_that_does_not_really_run_is_passed_over_by_auto(card, monkeypatch):
    """onnxruntime-gpu without a GPU lists CUDA and runs on the CPU without a word."""
    real = onnxruntime.InferenceSession

    def silent(path, options, providers):
        return real(path, options, providers=['CPUExecutionProvider'])

    monkeypatch.setattr(onnxruntime, 'get_available_providers',
                        lambda: [devices.CUDA_PROVIDER, devices.CPU_PROVIDER])
    monkeypatch.setattr(onnxruntime, 'InferenceSession', silent)
    chosen = open_segmenter(card, Wish())
    assert chosen.segmenter.device == 'cpu'
    assert ('not ONNX Runtime CUDA: provider CUDAExecutionProvider was asked for but ONNX Runtime '
            'runs on CPUExecutionProvider') in chosen.reason
    chosen.segmenter.close()
    with pytest.raises(BackendError, match='was asked for but'):
        open_segmenter(card, Wish('onnxruntime', (devices.CUDA_PROVIDER,)))


@pytest.mark.parametrize('fault, words', [(0, ''), (40, 'is not used for bisenetv2_camvid')])
def test_a_provider_is_compared_with_the_cpu_before_it_runs(card, monkeypatch, fault, words):
    """A provider may compute something else than the CPU's; see OpenVINO's int8."""
    real = onnxruntime.InferenceSession
    name = 'OpenVINOExecutionProvider'

    class Session:
        def __init__(self, path, options, providers):
            self.wrong = fault if providers[0] == name else 0
            self.providers = providers
            self.inner = real(path, options, providers=['CPUExecutionProvider'])

        def __getattr__(self, attribute):
            return getattr(self.inner, attribute)

        def get_providers(self):
            return self.providers

        def run(self, *arguments):
            return [np.roll(output, self.wrong, axis=3) for output in self.inner.run(*arguments)]

    monkeypatch.setattr(onnxruntime, 'get_available_providers',
                        lambda: [name, devices.CPU_PROVIDER])
    monkeypatch.setattr(onnxruntime, 'InferenceSession', Session)
    if fault:
        with pytest.raises(BackendError, match=words):
            open_segmenter(card, Wish('onnxruntime', (name,)))
    else:
        open_segmenter(card, Wish('onnxruntime', (name,))).segmenter.close()


@pytest.mark.parametrize('wish, words', [
    (Wish('cuda'), "backend 'cuda' is unknown; allowed: auto, onnxruntime, openvino, tensorrt"),
    (Wish(precision='fp8'), "precision 'fp8' is unknown; allowed: auto, fp16, fp32, int8, bf16"),
])
def test_unknown_words_are_refused(card, wish, words):
    with pytest.raises(ConfigError, match=words):
        open_segmenter(card, wish)


def test_a_bound_run_gives_what_a_plain_one_gives(card):
    session = onnxruntime.InferenceSession(str(card.model_path),
                                           providers=['CPUExecutionProvider'])
    bound = BoundRun(session, ['logits'], 'cpu', 0)
    rng = np.random.default_rng(0)
    results = []
    for shape in ((1, 3, 64, 96), (1, 3, 64, 96), (2, 3, 32, 64)):
        tensor = rng.standard_normal(shape, np.float32)
        logits, = bound(tensor)
        results.append((logits, session.run(['logits'], {'image': tensor})[0]))
    for logits, expected in results:  # a result outlives the runs after it
        np.testing.assert_array_equal(logits, expected)
