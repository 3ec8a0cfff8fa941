"""Building engines: conversions, refusals, verification; real builds: test_engine_rtx.py."""

from dataclasses import replace
from functools import cache
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from seg_node.devices import backend as backends
from seg_node.devices.host import HostSegmenter, read_head
from seg_node.engines import build as engine_build, precision, verify as engine_verify
from seg_node.engines.build import BuildOptions, parse_target, profile_shapes
from seg_node.errors import BackendError, ConfigError, DeviceLostError, FrameError
from seg_node.geometry import camera_for, fit, Size
from seg_node.gpu import trt
from seg_node.gpu.engine_cache import EngineCache, open_entry
from seg_node.gpu.engine_manifest import (
    builder_flags,
    EngineKey,
    LEAST_AGREEMENT,
    Manifest,
    OptimizationProfile,
)
from seg_node.model.card import load_card
from seg_node.preprocess import Preprocessor
from seg_node.tools import build_engine, gpu_check

ROOT = Path(__file__).resolve().parents[1]
PALETTE = ROOT / 'test/models/palette_stride8'
SHIPPED = ('bisenetv2_camvid', 'deeplabv3plus_lite0_camvid')
CAMERA = Size(240, 320)
FULL = trt.Library('tensorrt', '10.3.0')
ORIN = trt.GpuInfo('Orin', (8, 7), '12.6')


def profile(card, batch=(1, 2, 4), camera=CAMERA):
    return OptimizationProfile(batch, (fit(card.input, camera).network,))


@pytest.fixture(scope='module', autouse=True)
def made_once():
    """Render the frames of the verification once for all tests: it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_verify, 'street_frames', cache(engine_verify.street_frames))
        yield


def labels_of(card, model):
    """Return the function that labels an image with a converted model in ONNX Runtime."""
    onnxruntime = pytest.importorskip('onnxruntime')
    options = onnxruntime.SessionOptions()
    # Its optimiser turns half-precision Q/DQ into operators that it has no such kernels for.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(model), options,
                                           providers=['CPUExecutionProvider'])
    [given] = session.get_inputs()
    dtype = {'tensor(float16)': np.float16, 'tensor(float)': np.float32}[given.type]
    preprocessor = Preprocessor(card.input)

    def segment(image):
        geometry = fit(card.input, Size(*image.shape[:2]))
        tensor = preprocessor.tensor([image], [geometry]).astype(dtype)
        [scores] = session.run([card.main_output.name], {card.input.name: tensor})
        assert scores.dtype == dtype
        return read_head(card.main_output, scores[0], geometry, False)[0]

    return segment


# Conversion and verification: the converted model itself, in ONNX Runtime.

@pytest.mark.parametrize('name', SHIPPED)
def test_the_fp16_model_has_half_tensors_and_is_verified(name, tmp_path):
    card = load_card(name)
    model = precision.for_engine(card, 'fp16', tmp_path)
    result = engine_verify.verify(labels_of(card, model), card, CAMERA, 'fp16')
    assert result.agreement > 0.995 and result.control < 0.9 and result.conclusive
    entry, reason = result.entry()
    assert entry['frames'][0] != entry['frames'][1] and reason is None


@pytest.mark.slow
@pytest.mark.parametrize('name', SHIPPED)
def test_the_int8_model_has_half_tensors_and_is_verified(name, tmp_path, streets):
    card = load_card(name)
    model = precision.for_engine(card, 'int8', tmp_path, streets)
    result = engine_verify.verify(labels_of(card, model), card, CAMERA, 'int8')
    assert LEAST_AGREEMENT['int8'] < result.agreement < 1 and result.conclusive
    onnx = pytest.importorskip('onnx')
    graph = onnx.load(str(model)).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    read = [node.input for node in graph.node if node.op_type == 'DequantizeLinear']
    # TensorRT takes int8 and no int32, and scales of the type it computes in.
    assert len(read) > 100
    assert {kinds[names[0]] for names in read if names[0] in kinds} == {onnx.TensorProto.INT8}
    assert {kinds[names[1]] for names in read} == {onnx.TensorProto.FLOAT16}


def test_fp32_is_the_models_own_file(tmp_path):
    card = load_card(PALETTE)
    copy = precision.for_engine(card, 'fp32', tmp_path)
    assert copy.read_bytes() == card.model_path.read_bytes()
    result = engine_verify.verify(labels_of(card, card.model_path), card, CAMERA, 'fp32')
    assert result.agreement == 1


def test_an_engine_that_disagrees_is_refused():
    card = load_card(PALETTE)
    right = labels_of(card, card.model_path)

    def shifted(image):
        return np.roll(right(image), 3, axis=1)

    with pytest.raises(BackendError, match=r'agrees with ONNX Runtime on \d\d\.\d\d% of the pix'):
        engine_verify.verify(shifted, card, CAMERA, 'fp16')


def test_a_model_that_says_the_same_of_everything_is_not_verified():
    result = engine_verify.Verification(1.0, 0.99, ['a', 'b'])
    entry, reason = result.entry()
    assert entry is None and 'the agreement of 100.00% says nothing' in reason


def test_what_a_segmenter_refuses_ends_the_verification():
    class Broken:
        def segment(self, frames, demand, clock):
            assert frames[0].bgr.shape == (4, 6, 3)
            return [FrameError('logits', 'NaN')]

    with pytest.raises(BackendError, match='refuses a test image: NaN'):
        engine_verify.by_segmenter(Broken())(np.zeros((4, 6, 3), np.uint8))


def test_conversions_refuse_what_they_cannot_do(tmp_path):
    onnx = pytest.importorskip('onnx')
    card = load_card(PALETTE)
    with pytest.raises(ConfigError, match="'fp8' is unknown; allowed: fp16, fp32, int8"):
        precision.for_engine(card, 'fp8', tmp_path)
    with pytest.raises(ConfigError, match='give --images'):
        precision.for_engine(card, 'int8', tmp_path)
    with pytest.raises(ConfigError, match='is a float16 model'):
        precision.for_engine(load_card(ROOT / 'test/models/palette_fp16'), 'fp32', tmp_path)
    (tmp_path / 'x.png').write_text('no picture')
    with pytest.raises(ConfigError, match='x.png .*cannot be read|x.png .*is not an image'):
        precision.for_engine(card, 'int8', tmp_path, [tmp_path / 'x.png'])
    with pytest.raises(BackendError, match='is not a valid ONNX model'):
        precision.halve(tmp_path / 'x.png', tmp_path / 'y.onnx', keep_io=False)
    model = onnx.load(str(card.model_path))
    weight = next(t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    big = onnx.numpy_helper.to_array(weight).copy()
    big.flat[0] = 7e4
    weight.CopyFrom(onnx.numpy_helper.from_array(big, weight.name))
    onnx.save(model, str(tmp_path / 'big.onnx'))
    with pytest.raises(ConfigError, match=f'{weight.name!r} reaches 7e.04, but float16 ends at'):
        precision.halve(tmp_path / 'big.onnx', tmp_path / 'y.onnx', keep_io=False)
    big.flat[0] = -np.inf  # what attention is not to see; float16 has it, too
    weight.CopyFrom(onnx.numpy_helper.from_array(big, weight.name))
    onnx.save(model, str(tmp_path / 'big.onnx'))
    precision.halve(tmp_path / 'big.onnx', tmp_path / 'y.onnx', keep_io=False)
    halved = onnx.load(str(tmp_path / 'y.onnx')).graph.initializer
    assert [t for t in halved if t.name == weight.name and t.data_type
            == onnx.TensorProto.FLOAT16 and onnx.numpy_helper.to_array(t).min() == -np.inf]


def test_missing_packages_are_named(monkeypatch):
    with pytest.raises(BackendError, match='pip install onnx onnxruntime'):
        precision._require('onnx_of_another_world')
    with pytest.raises(ConfigError, match="'cuda' is unknown; allowed: tensorrt, tensorrt_rtx"):
        trt.load('cuda')
    monkeypatch.setattr(trt, 'NAMES', ('tensorrt_of_another_world',))
    with pytest.raises(BackendError, match='another_world: No module.*JetPack'):
        trt.load()


# What is decided without the library.

@pytest.mark.parametrize('text, target', [('sm_89', (8, 9)), ('SM120', (12, 0)), ('8.7', (8, 7)),
                                          ('12.1', (12, 1)), (' sm_75 ', (7, 5))])
def test_targets_can_be_written_in_each_usual_way(text, target):
    assert parse_target(text) == target


@pytest.mark.parametrize('text', ['', 'sm_', 'ada', '8', '8.9.1', 'sm_8900', '-8.9'])
def test_other_targets_are_refused(text):
    with pytest.raises(ConfigError, match='no compute capability; write it as sm_89 or 8.9'):
        parse_target(text)


def test_tensorrt_builds_for_its_own_gpu_only():
    order = BuildOptions('fp16', OptimizationProfile((1, 1, 1), (Size(64, 64),)))
    with pytest.raises(BackendError, match='there is none here'):
        engine_build._capability(order, FULL, None)
    assert engine_build._capability(order, FULL, ORIN) == (8, 7)
    other = BuildOptions('fp16', order.profile, target=(8, 9))
    with pytest.raises(ConfigError, match='is not this GPU, Orin'):
        engine_build._capability(other, FULL, ORIN)


def test_shapes_follow_the_layout_and_span_all_sizes():
    span = OptimizationProfile((1, 2, 4), (Size(128, 512), Size(256, 256)))
    assert profile_shapes(span, 'NCHW') == [(1, 3, 128, 256), (2, 3, 128, 512), (4, 3, 256, 512)]
    assert profile_shapes(span, 'NHWC')[1] == (2, 128, 512, 3)


def test_an_fp32_engine_does_without_tf32():
    assert 'TF32 off' in builder_flags('fp32') and 'TF32 on' in builder_flags('fp16')


@pytest.mark.parametrize('layers, counts', [
    ([{'Outputs': [{'Format/Datatype': 'Row major linear FP16 format'}]},
      {'Outputs': [{'Format/Datatype': 'Half'}]},
      {'Outputs': [{'Format/Datatype': 'Thirty-two wide channel vectorized row major Int8 form'}]},
      {'Outputs': [{'Format/Datatype': 'Float'}, {'Format/Datatype': 'Int32'}]}],
     {'fp16': 2, 'int8': 1, 'fp32': 1, 'int32': 1}),
    ([{'Outputs': [{'DataType': 'BFloat16', 'Format': 'Row major linear'}]},
      {'Outputs': [{'Format/Datatype': 'N/A due to dynamic shapes'}]}],
     {'bf16': 1, 'N/A due to dynamic shapes': 1}),
    (['a layer of which only the name is known', {'Name': 'x', 'Outputs': []}], {'unknown': 2}),
])
def test_layers_are_counted_by_what_they_write(layers, counts):
    assert trt.layer_types({'Layers': layers}) == counts


@pytest.mark.skipif(trt.find_gpu() is not None, reason='shows what happens without a GPU')
def test_without_a_driver_no_engine_is_touched():
    # TensorRT's runtime would crash this process: it must not be reached.
    with pytest.raises(BackendError, match='no NVIDIA GPU'):
        trt.deserialise(FULL, b'plan')


def test_the_size_of_a_dynamic_network_comes_from_the_cameras():
    card, fixed = load_card(PALETTE), load_card(ROOT / 'test/models/palette_fixed')
    make = build_engine.profile_of
    wanted = fit(card.input, CAMERA).network
    assert make(card.input, (1, 1, 1), [], [CAMERA, CAMERA]).sizes == (wanted,)
    assert make(card.input, (1, 1, 1), [wanted], []).sizes == (wanted,)
    assert make(fixed.input, (1, 1, 1), [], []).sizes == (Size(*fixed.input.size),)
    with pytest.raises(ConfigError, match='--camera WIDTHxHEIGHT'):
        make(card.input, (1, 1, 1), [], [])
    with pytest.raises(ConfigError, match='no camera reaches .* 33x1000.* Give --camera'):
        make(card.input, (1, 1, 1), [Size(33, 1000)], [])


@pytest.mark.parametrize('name', [*SHIPPED, str(PALETTE), str(ROOT / 'test/models/palette_fixed')])
@pytest.mark.parametrize('camera', [(360, 640), (720, 1280), (1080, 1920), (480, 640), (640, 480)])
def test_a_camera_is_found_for_every_size_that_one_leads_to(name, camera):
    spec = load_card(name).input
    network = fit(spec, Size(*camera)).network
    assert fit(spec, camera_for(spec, network)).network == network


@pytest.mark.parametrize('arguments, message', [
    (['--batch', '4:1'], "'4:1' is no range"), (['--batch', '0'], "'0' is no range"),
    (['--batch', '1:2:3:4'], 'no range'), (['--camera', '1280'], 'is no size like 1280x720'),
    (['--size', '0x4'], 'is no size'), (['--workspace-mib', '-1'], 'no whole number'),
    (['--precision', 'fp8'], 'invalid choice'), (['--library', 'x'], 'invalid choice'),
])
def test_arguments_that_mean_nothing_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        build_engine.main(['--model', str(PALETTE), *arguments])
    assert message in capsys.readouterr().err


def test_batches_can_name_the_best():
    assert build_engine._batch('1:2:4') == (1, 2, 4)
    assert build_engine._batch('2') == (2, 2, 2) and build_engine._batch('1:4') == (1, 4, 4)


def test_calibration_images_are_spread_evenly(tmp_path):
    images = [tmp_path / f'{n}.png' for n in range(5)]
    for path in [*images, tmp_path / 'notes.txt']:
        path.write_bytes(b'')
    choose = build_engine.calibration_images
    assert choose(tmp_path, 2) == (images[0], images[3])
    assert choose(tmp_path, 3) == (images[0], images[2], images[4])
    assert choose(tmp_path, 9) == tuple(images)
    assert choose(None, 9) == ()
    with pytest.raises(ConfigError, match='holds no images'):
        choose(tmp_path / 'nowhere', 9)


@pytest.fixture
def engines(tmp_path, monkeypatch):
    monkeypatch.setenv('SEG_NODE_CACHE', str(tmp_path / 'cache'))
    return EngineCache()


# What a machine with a GPU does after a build, with ONNX Runtime in the GPU segmenter's place.

@pytest.fixture
def run_by(monkeypatch):
    """Return a function that makes the given labelling stand for the GPU segmenter's."""
    def stand_in(card, change):
        backend = backends.load('onnxruntime', card, providers=['CPUExecutionProvider'], threads=0)

        class StandIn(HostSegmenter):
            def segment(self, *arguments):
                return [replace(result, labels=change(result.labels))
                        for result in super().segment(*arguments)]

        segmenter = pytest.importorskip('seg_node.gpu.segmenter')
        monkeypatch.setattr(segmenter, 'TensorRTSegmenter',
                            lambda card, found, gpu: StandIn(card, backend))
    return stand_in


def stored(engines, card):
    key = EngineKey(card.sha256, 'tensorrt', '10.3.0', 'Orin', '8.7', 'fp16', profile(card),
                    builder_flags('fp16'), 1024, 'kernels')
    with engines.lock():
        folder = engines.store(card.name, key, {'engine.plan': b'x'}, Manifest(card.name, key, {}))
    return open_entry(folder, 'test')


def test_the_verification_is_written_into_the_manifest(engines, run_by):
    card = load_card(SHIPPED[0])
    run_by(card, lambda labels: labels)
    found = build_engine._verified(stored(engines, card), card, engines)
    assert found.manifest.verified['agreement'] == 1 > found.manifest.verified['control'] + 0.05
    assert open_entry(found.folder, 'test').manifest == found.manifest


def test_an_engine_that_disagrees_does_not_stay(engines, run_by):
    card = load_card(SHIPPED[0])
    run_by(card, lambda labels: np.roll(labels, 9, axis=0))
    with pytest.raises(BackendError, match='It is not used'):
        build_engine._verified(stored(engines, card), card, engines)
    assert not engines.entries(card.name)


def test_an_engine_that_runs_out_of_memory_at_the_check_stays(engines, run_by):
    card = load_card(SHIPPED[0])

    def full(labels):
        raise DeviceLostError('GPU error while allocating: out of memory')
    run_by(card, full)
    found = build_engine._verified(stored(engines, card), card, engines)
    assert found.manifest.verified is None and engines.entries(card.name)
    assert 'out of memory' in open_entry(found.folder, 'x').manifest.verified_reason


@pytest.mark.parametrize('text', ['{"Layers": [', BackendError('out of memory')])
def test_a_build_is_kept_before_its_layers_are_looked_at(engines, monkeypatch, text):
    card, seen = load_card(SHIPPED[0]), []

    def layer_report(*_):
        seen.extend(engines.entries(card.name))
        if isinstance(text, Exception):
            raise text
        return json.loads(text)
    monkeypatch.setattr(engine_build, 'for_engine', lambda *_: Path('model.onnx'))
    monkeypatch.setattr(engine_build, 'build_plan', lambda *_: engine_build.Plan(
        b'plan', 1.0, [], b'', []))
    monkeypatch.setattr(engine_build, '_cubin', lambda _: (b'cubin', 'compiled'))
    monkeypatch.setattr(engine_build, '_toolkit', lambda: '12.6')
    monkeypatch.setattr(trt, 'layer_report', layer_report)
    found, built = engine_build.build(
        card, BuildOptions('fp16', profile(card)), library=FULL, cache=engines, gpu=ORIN,
        command='x')
    assert built and seen == [found.folder] and found.plan == b'plan'
    assert found.toolkit == '12.6'
    assert found.manifest.build['layers'].startswith('unknown: ')
    monkeypatch.setattr(trt, 'layer_report', lambda *_: {'precisions': {'fp16': 3}})
    found, _ = engine_build.build(
        card, BuildOptions('fp16', profile(card), force=True), library=FULL, cache=engines,
        gpu=ORIN, command='x')
    assert found.manifest.build['layers'] == {'fp16': 3} and 'layers.json' in found.manifest.files


def test_the_inspectors_control_characters_are_read(monkeypatch):
    inspector = SimpleNamespace(get_engine_information=lambda _: (
        '{"Layers": [{"Name": "a\x01\nb", "Outputs": [{"DataType": "Half"}]}]}'))
    engine = SimpleNamespace(
        create_execution_context=lambda: SimpleNamespace(set_input_shape=lambda *_: True),
        create_engine_inspector=lambda: inspector)
    monkeypatch.setattr(trt, 'deserialise', lambda *_: trt.Loaded(engine, None, None))
    library = trt.Library('tensorrt', '10.3.0', SimpleNamespace(
        LayerInformationFormat=SimpleNamespace(JSON=1)))
    report = trt.layer_report(library, b'', 'image', (1, 3, 8, 8))
    assert report['precisions'] == {'fp16': 1}


INSUFFICIENT = 'CUDA error 35: CUDA driver version is insufficient for CUDA runtime version'


def test_a_driver_too_old_for_tensorrt_is_told_with_the_mend(monkeypatch):
    log = SimpleNamespace(errors=['CUDA initialization failure', INSUFFICIENT])
    monkeypatch.setattr(trt, 'find_gpu', lambda: trt.GpuInfo('A10', (8, 6), '12.6'))
    monkeypatch.setattr(trt.metadata, 'version', {'tensorrt-cu13': '10.13'}.__getitem__)
    said = trt.reasons(log)
    assert INSUFFICIENT in said and 'driver is made for CUDA 12.6' in said
    assert 'CUDA 13 (tensorrt-cu13 10.13)' in said and 'install tensorrt-cu12' in said

    def missing(name):
        raise trt.metadata.PackageNotFoundError(name)
    monkeypatch.setattr(trt.metadata, 'version', missing)  # TensorRT from apt or an image
    assert 'TensorRT for a newer CUDA' in trt.reasons(log)
    monkeypatch.setattr(trt, 'find_gpu', lambda: None)
    assert trt.reasons(log) == 'CUDA initialization failure'


def test_the_log_of_tensorrt_is_bounded():
    library = SimpleNamespace(ILogger=type('ILogger', (), {
        'INTERNAL_ERROR': 0, 'ERROR': 1, 'WARNING': 2}))
    log = trt.make_log(library)
    for number in range(5000):
        log.log(1, f'error {number}')
        log.log(2, f'warning {number}')
    assert len(log.errors) == len(log.warnings) == 100 and log.errors[-1] == 'error 4999'


class FakeCuda:
    """A driver with two GPUs; notes the calls and the numbering that was asked for."""

    def __init__(self):
        self.calls, self.order = [], None

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append(name)
            if name == 'cuInit':
                self.order = os.environ.get('CUDA_DEVICE_ORDER')
            elif name == 'cuDeviceGetCount':
                arguments[0]._obj.value = 2
            elif name == 'cuDeviceGet':
                self.calls[-1] += f' {arguments[1]}'
            return 0
        return call


@pytest.mark.parametrize('there, wanted', [(None, 'PCI_BUS_ID'), ('FASTEST_FIRST',) * 2])
def test_gpus_are_numbered_as_nvidia_smi_does(monkeypatch, there, wanted):
    cuda = FakeCuda()
    monkeypatch.setattr(trt.ctypes, 'CDLL', lambda _: cuda)
    monkeypatch.setenv('CUDA_DEVICE_ORDER', there or '')
    if there is None:
        monkeypatch.delenv('CUDA_DEVICE_ORDER')
    assert trt.find_gpu(1) is not None and cuda.order == wanted
    assert trt.find_gpu(2) is None


def test_build_and_check_take_the_same_gpu(monkeypatch, tmp_path):
    cuda, card, found = FakeCuda(), load_card(SHIPPED[0]), []
    monkeypatch.setenv('CUDA_DEVICE_ORDER', 'PCI_BUS_ID')
    monkeypatch.setenv('SEG_NODE_CACHE', str(tmp_path))
    monkeypatch.setattr(trt.ctypes, 'CDLL', lambda _: cuda)
    monkeypatch.setattr(trt, 'load', lambda _: FULL)

    def build(*_, gpu, **__):
        found.append(cuda.calls[-2:])
        raise BackendError('seen')
    monkeypatch.setattr(build_engine, 'build', build)
    with pytest.raises(BackendError, match='seen'):
        build_engine.run(build_engine._parser().parse_args(
            ['--model', SHIPPED[0], '--camera', '64x64', '--gpu', '1']), '')
    assert found == [['cuDevicePrimaryCtxRetain', 'cuCtxPushCurrent_v2']]
    assert 'cuDeviceGet 1' in cuda.calls and 'cuDeviceGet 0' not in cuda.calls
    assert cuda.calls[-1] == 'cuCtxPopCurrent_v2'
    with pytest.raises(BackendError, match='no NVIDIA GPU number 5 here: nvidia-smi -L lists 2,'):
        build_engine.run(build_engine._parser().parse_args(
            ['--model', SHIPPED[0], '--camera', '64x64', '--gpu', '5']), '')
    words = []
    monkeypatch.setattr(build_engine, 'main', lambda given: words.extend(given) or 1)
    with pytest.raises(BackendError, match='could not be built'):
        gpu_check.check_network(gpu_check._parser().parse_args(
            ['--model', card.name, '--gpu', '1']), trt.require_gpu(1))
    assert words[words.index('--gpu') + 1] == '1' and words[words.index('--batch') + 1] == '1'


@pytest.mark.skipif(trt.find_gpu() is not None, reason='shows what happens without a GPU')
def test_why_an_engine_could_not_be_verified_is_written_down(engines):
    card = load_card(SHIPPED[0])
    found = build_engine._verified(stored(engines, card), card, engines)
    assert found.manifest.verified is None
    assert 'it cannot be run here: ' in open_entry(found.folder, 'x').manifest.verified_reason
