"""OpenVINO against ONNX Runtime, the int8 fault it must not run into, and its silence."""

from dataclasses import replace
import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

from seg_node.devices import backend as backends, choose, openvino
from seg_node.devices.checked import CheckedBackend, compare, test_pictures as shipped_pictures
from seg_node.devices.choose import open_segmenter, Wish
from seg_node.devices.cpu import has_int8_dot_product
from seg_node.devices.openvino import OpenVinoBackend
from seg_node.errors import BackendError, ConfigError
from seg_node.model.card import load_card

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / 'test' / 'models'
pytest.importorskip('openvino')
CARD = load_card('deeplabv3plus_lite0_camvid')
ABLE = openvino.best_precisions('auto', CARD)


@pytest.fixture(scope='module')
def deeplab():
    """Return the shipped network at a size that does not keep the tests busy."""
    return replace(CARD, input=replace(CARD.input, short_side=192))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv('SEG_NODE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')


@pytest.mark.parametrize('name', ['palette_two_heads', 'palette_nhwc_uint8', 'palette_labels',
                                  'palette_fixed', 'palette_fp16', 'palette_binary'])
def test_fp32_gives_the_outputs_of_onnx_runtime(name):
    """Several outputs in the card's order, every layout and type, one shape after the other."""
    card = load_card(MODELS / name)
    found = OpenVinoBackend(card, precision='fp32', threads=1)
    wanted = backends.load('onnxruntime', card, threads=1)
    sizes = [card.input.size] if card.input.size else [(64, 96), (40, 56), (64, 96)]
    rng = np.random.default_rng(0)
    for size in sizes:
        for batch in (1, 2) if found.max_batch is None else (1,):
            sides = {'N': batch, 'C': 3, 'H': size[0], 'W': size[1]}
            shape = [sides[axis] for axis in card.input.layout]
            tensor = rng.integers(0, 256, shape).astype(card.input.dtype)
            for ours, theirs in zip(found.run(tensor), wanted.run(tensor), strict=True):
                assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
                tiny = 1e-6 + 1e-3 * np.abs(theirs).max()
                np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=tiny)
    assert found.max_batch == wanted.max_batch
    found.close()


def _read_only(array):
    view = array[:]
    view.flags.writeable = False
    return view


@pytest.mark.parametrize('view', [lambda array: array[:], lambda array: array[..., ::2],
                                  _read_only])
def test_what_is_filled_anew_is_read_anew(view):
    """The input is read in place, be it the array of before, one with gaps or a read-only one."""
    card = load_card(MODELS / 'palette_cityscapes19')
    backend = OpenVinoBackend(card, precision='fp32', threads=1)
    given = view(np.zeros((1, 3, 64, 96), np.float32))
    for fill in (0.5, -1.0, 2.0):
        given.base[...] = fill
        found = backend.run(given)[0].copy()
        fresh = np.full(given.shape, fill, np.float32)
        np.testing.assert_array_equal(found, backend.run(fresh)[0])
    backend.close()


@pytest.mark.parametrize('precision, equal', [('fp32', 0.9999), ('bf16', 0.995)])
def test_labels_of_the_shipped_network(deeplab, precision, equal):
    if precision not in ABLE:
        pytest.skip(f'this processor has no {precision}')
    found = OpenVinoBackend(deeplab, precision=precision, threads=0)
    wanted = backends.load('onnxruntime', deeplab, threads=0)
    agreement = compare(deeplab, found, wanted, (1, 3, 192, 352), shipped_pictures())
    assert agreement.good and agreement.equal >= equal, agreement
    # Were bf16 only said and not computed, there would be no speed in it.
    assert (agreement.error > 1e-4) == (precision != 'fp32')
    found.close()


class AnyShape(OpenVinoBackend):
    """What the backend would be with a network that is compiled once, for every size."""

    def _compile(self, shape):
        settings = self._settings
        return self._core.compile_model(self._model, 'CPU', settings).create_infer_request()


def test_int8_compiled_for_any_shape_is_refused_and_for_each_shape_right(deeplab, tmp_path,
                                                                         streets):
    """OpenVINO computes int8 networks with dynamic shapes wrong; see the backend."""
    pytest.importorskip('onnx')
    from seg_node.engines.precision import quantise
    quantise(deeplab, tmp_path / 'int8.onnx', streets[:2])
    int8 = replace(deeplab, model_path=tmp_path / 'int8.onnx')
    shape = (1, 3, 192, 352)

    def opened():
        return backends.load('onnxruntime', deeplab, threads=0)

    wanted = opened()
    fixed = OpenVinoBackend(int8, precision='fp32', threads=0)
    CheckedBackend(fixed, deeplab, opened).check(shape)
    assert compare(deeplab, fixed, wanted, shape, shipped_pictures()).error > 1e-3  # is int8
    any_shape = AnyShape(int8, precision='fp32', threads=0)
    if compare(deeplab, any_shape, wanted, shape, shipped_pictures()).equal > 0.9:
        pytest.skip('this version of OpenVINO has mended it')
    with pytest.raises(BackendError, match='is not used for deeplabv3plus_lite0_camvid at an '
                       r'input of shape \[1, 3, 192, 352\]: \d\.\d\d% equal labels'):
        CheckedBackend(any_shape, deeplab, opened).run(np.zeros(shape, np.float32))


def test_auto_takes_openvino_and_the_best_precision(deeplab):
    chosen = open_segmenter(deeplab, Wish())
    assert chosen.reason.startswith('auto chose OpenVINO; not TensorRT: ')
    assert f' CPU {ABLE[0]}, ' in chosen.segmenter.description
    assert chosen.segmenter.device == 'cpu'
    chosen.segmenter.close()


def test_a_precision_that_moves_the_labels_gives_way_and_says_so(deeplab, monkeypatch):
    monkeypatch.setattr(openvino, 'best_precisions', lambda wanted, card: ['bf16', 'fp32'])

    class Rough(OpenVinoBackend):
        def __init__(self, card, *, precision, threads):
            super().__init__(card, precision='fp32', threads=threads)
            self.identity = precision
            self._shift = 40 if precision == 'bf16' else 0

        def run(self, tensor):
            return [np.roll(output, self._shift, axis=3) for output in super().run(tensor)]

    monkeypatch.setattr(openvino, 'OpenVinoBackend', Rough)
    chosen = open_segmenter(deeplab, Wish('openvino'))
    assert chosen.reason.startswith('not in bf16: ') and 'equal labels' in chosen.reason
    chosen.segmenter.close()
    monkeypatch.setattr(openvino, 'best_precisions', lambda wanted, card: ['bf16'])
    with pytest.raises(BackendError, match='not in bf16: .*equal labels'):
        open_segmenter(deeplab, Wish('openvino', precision='bf16'))
    # auto then takes what is always right, and says why.
    chosen = open_segmenter(deeplab, Wish())
    assert chosen.reason.startswith('auto chose ONNX Runtime CPU; ')
    assert 'not OpenVINO: not in bf16: ' in chosen.reason
    chosen.segmenter.close()


def test_without_the_package_auto_goes_on_and_a_name_fails(deeplab, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    chosen = open_segmenter(deeplab, Wish())
    assert 'not OpenVINO: backend openvino needs the package openvino' in chosen.reason
    chosen.segmenter.close()
    with pytest.raises(BackendError, match='pip install openvino'):
        open_segmenter(deeplab, Wish('openvino'))


@pytest.mark.parametrize('wish, words', [
    (Wish('openvino', precision='int4'), "precision 'int4' is unknown; allowed: auto, fp16"),
    (Wish('onnxruntime', precision='bf16'), 'onnxruntime does not compute in bf16; allowed for '
     'precision: auto, fp32'),
    (Wish('tensorrt', precision='bf16'), 'tensorrt does not compute in bf16; allowed'),
    (Wish(precision='int8'), 'no backend here computes in int8: not TensorRT: .*; not ONNX '
     'Runtime CUDA: .*; not OpenVINO: .*Set precision to auto'),
])
def test_a_precision_is_what_runs_or_nothing_does(deeplab, wish, words):
    with pytest.raises(ConfigError, match=words):
        open_segmenter(replace(deeplab, int8=None), wish)


def test_a_precision_the_processor_lacks_is_refused(deeplab, monkeypatch):
    class Old:
        def get_property(self, device, name):
            return ['FP32', 'INT8']

    with pytest.raises(ConfigError, match=r"'bf16' is not what OpenVINO computes in on this "
                       r'processor \(.*\); allowed: auto, fp32'):
        openvino.check_precision(Old(), 'bf16')
    monkeypatch.setattr(openvino, '_start', lambda: (Old(), '1'))
    for vnni, copy, found in ((True, deeplab.int8, ['int8', 'fp32']), (True, None, ['fp32']),
                              (False, deeplab.int8, ['fp32'])):
        monkeypatch.setattr(openvino.cpu, 'has_int8_dot_product', lambda vnni=vnni: vnni)
        assert openvino.best_precisions('auto', replace(deeplab, int8=copy)) == found


@pytest.mark.skipif(not has_int8_dot_product(), reason='the processor has no int8')
def test_the_int8_copy_of_the_shipped_model(deeplab, tmp_path):
    """What a processor without bfloat16 takes keeps the labels, too, and is checked like all."""
    chosen = open_segmenter(deeplab, Wish('openvino', precision='int8'))
    assert ' CPU int8, ' in chosen.segmenter.description
    chosen.segmenter.close()
    fast = OpenVinoBackend(deeplab, precision='int8', threads=0)
    wanted = backends.load('onnxruntime', deeplab, threads=0)
    found = compare(deeplab, fast, wanted, (1, 3, 192, 352), shipped_pictures())
    assert found.equal >= 0.985 and 1e-3 < found.error < 0.1
    damaged = tmp_path / 'model_int8.onnx'
    damaged.write_bytes(deeplab.int8.path.read_bytes()[:-1])
    with pytest.raises(ConfigError, match='but the card has measured .*int8_copy'):
        OpenVinoBackend(replace(deeplab, int8=replace(deeplab.int8, path=damaged)),
                        precision='int8', threads=0)
    with pytest.raises(ConfigError, match='names no int8 copy.*int8_copy'):
        OpenVinoBackend(replace(deeplab, int8=None), precision='int8', threads=0)


def test_a_card_of_another_file_and_a_broken_file_are_named(deeplab, tmp_path):
    other = replace(deeplab, model_path=MODELS / 'palette_softmax' / 'model.onnx')
    with pytest.raises(ConfigError, match='does not describe'):
        OpenVinoBackend(other, precision='fp32', threads=1)
    (tmp_path / 'model.onnx').write_bytes(b'no network')
    with pytest.raises(BackendError, match='cannot be loaded by OpenVINO'):
        OpenVinoBackend(replace(deeplab, model_path=tmp_path / 'model.onnx'), precision='fp32',
                        threads=1)
    with pytest.raises(BackendError, match='OpenVINO cannot compile .* for an input of shape'):
        OpenVinoBackend(load_card(MODELS / 'palette_fixed'), precision='fp32', threads=1).run(
            np.zeros((1, 4, 120, 160), np.float32))


# Whatever would speak to another computer ends the process; so does a child that could.
GUARD = """
import os, sys

def guard(event, arguments):
    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.sendto', 'subprocess.Popen',
                 'os.fork', 'os.posix_spawn', 'socket.__new__'):
        print('SPOKE', event, file=sys.stderr, flush=True)
        os._exit(7)

sys.addaudithook(guard)
"""
RUN = GUARD + """
from seg_node.devices.choose import open_segmenter, Wish
from seg_node.frame import Demand, Frame, StageClock
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import load_card
import numpy as np

segmenter = open_segmenter(load_card(sys.argv[1]), Wish('openvino', threads=1)).segmenter
message = ImageMessage(Header(0, 0, ''), 60, 80, 'bgr8', False, 240, np.zeros(14400, np.uint8))
[result] = segmenter.segment([Frame('', message)], Demand(), StageClock())
assert result.labels.shape == (60, 80)
sockets = [name for name in os.listdir('/proc/self/fd')
           if os.path.exists(path := f'/proc/self/fd/{name}') and 'socket' in os.readlink(path)]
assert not sockets, sockets
assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')]
print('SILENT')
"""


def lonely(code, home, *prefix):
    """Run code with a home of its own and without what marks an automatic build."""
    marks = ('CI', 'TF_BUILD', 'JENKINS_URL')
    environment = {name: value for name, value in os.environ.items() if name not in marks}
    return subprocess.run(
        [*prefix, sys.executable, '-c', code, str(MODELS / 'palette_softmax')], cwd=ROOT,
        env={**environment, 'HOME': str(home)}, capture_output=True, text=True, timeout=120)


def test_nothing_leaves_the_machine(tmp_path):
    result = lonely(RUN, tmp_path)
    assert result.returncode == 0 and 'SILENT' in result.stdout, result.stderr
    assert not (tmp_path / 'intel').exists()  # where the maker's package would keep its id


def test_the_guard_sees_what_the_package_does_on_its_own(tmp_path):
    """By itself ``import openvino`` reports to its maker; the guard ends it before it can."""
    pytest.importorskip('openvino_telemetry', reason='needs openvino-telemetry')
    result = lonely(GUARD + 'import openvino, time\ntime.sleep(5)', tmp_path)
    assert result.returncode == 7 or (tmp_path / 'intel').exists()


def test_it_runs_without_any_network(tmp_path):
    alone = ['unshare', '--map-root-user', '--net']
    if subprocess.run([*alone, 'true'], capture_output=True, check=False).returncode:
        pytest.skip('this machine allows no network namespace')
    result = lonely(RUN, tmp_path, *alone)
    assert result.returncode == 0 and 'SILENT' in result.stdout, result.stderr


def test_every_backend_says_what_it_computes_in():
    assert set(choose.PRECISIONS) == set(choose.NAMES) - {choose.AUTO}
    assert all(names[0] == choose.AUTO for names in choose.PRECISIONS.values())
