"""Real builds by TensorRT-RTX, which needs no GPU to build, and what it refuses."""

from functools import cache
import hashlib
import json
from pathlib import Path
import re
import shutil

import numpy as np
import pytest
import yaml

from seg_node.engines import nvcc, verify as engine_verify
from seg_node.engines.build import build, BuildOptions
from seg_node.errors import BackendError, ConfigError
from seg_node.geometry import fit, Size
from seg_node.gpu import trt
from seg_node.gpu.engine_cache import EngineCache, open_verified
from seg_node.gpu.engine_manifest import OptimizationProfile
from seg_node.model.card import load_card
from seg_node.tools import build_engine

ROOT = Path(__file__).resolve().parents[1]
PALETTE = ROOT / 'test/models/palette_stride8'
SHIPPED = ('bisenetv2_camvid', 'deeplabv3plus_lite0_camvid')
CAMERA = Size(240, 320)


def profile(card, batch=(1, 2, 2), camera=CAMERA):
    return OptimizationProfile(batch, (fit(card.input, camera).network,))


@pytest.fixture(scope='module', autouse=True)
def made_once():
    """Render the frames of the verification and compile the kernels once: both take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nvcc, 'compile_cubin', cache(nvcc.compile_cubin))
        patch.setattr(engine_verify, 'street_frames', cache(engine_verify.street_frames))
        yield


@pytest.fixture(scope='session')
def rtx():
    try:
        return trt.load('tensorrt_rtx')
    except BackendError as error:
        pytest.skip(f'needs TensorRT-RTX, pip install tensorrt-rtx-cu13: {error}')


@pytest.fixture
def engines(tmp_path, monkeypatch):
    monkeypatch.setenv('SEG_NODE_CACHE', str(tmp_path / 'cache'))
    return EngineCache()


def ordered(card, engines, rtx, *, kind='fp16', target=(8, 9), calibration=(), force=False,
            **more):
    order = BuildOptions(kind, more.pop('profile', profile(card)), target,
                         calibration=tuple(calibration), force=force)
    return build(card, order, library=rtx, cache=engines, gpu=None, command='test', **more)


@pytest.mark.parametrize('kind', ['fp32', 'fp16', pytest.param('int8', marks=pytest.mark.slow)])
@pytest.mark.parametrize('name', SHIPPED)
def test_the_shipped_models_build(name, kind, engines, rtx, request):
    card = load_card(name)
    phases = []
    pictures = request.getfixturevalue('streets') if kind == 'int8' else ()
    found, built = ordered(card, engines, rtx, kind=kind, calibration=pictures,
                           progress=lambda *step: phases.append(step))
    assert built and len(found.plan) > 1_000_000
    half = np.dtype('float32' if kind == 'fp32' else 'float16').name
    image, logits = found.manifest.build['tensors']
    assert (image['name'], image['dtype'], image['shape'][0]) == ('image', half, -1)
    assert (logits['dtype'], logits['shape'][1]) == (half, 11)
    assert found.manifest.verified is None and 'no GPU' in found.manifest.verified_reason
    assert 'Building engine' in {phase for phase, *_ in phases}
    assert all(0 <= done <= steps for _, _, done, steps in phases)
    again = open_verified(card, precision=kind, device=None, max_batch=2, cameras=[CAMERA],
                          library=rtx)
    assert again.plan == found.plan


def test_fp16_plans_are_smaller_than_fp32(engines, rtx):
    card = load_card(SHIPPED[0])
    half, full = (ordered(card, engines, rtx, kind=kind, profile=profile(card, (1, 1, 1)))[0].plan
                  for kind in ('fp16', 'fp32'))
    assert len(half) < 0.75 * len(full)


@pytest.mark.parametrize('name', ['palette_labels', 'palette_nhwc_uint8', 'palette_softmax',
                                  'palette_two_heads', 'palette_fp16'])
def test_models_of_other_kinds_build(name, engines, rtx):
    card = load_card(ROOT / 'test/models' / name)
    found, _ = ordered(card, engines, rtx)
    assert [t['name'] for t in found.manifest.build['tensors']] == [
        card.input.name, *(output.name for output in card.outputs)]


def test_the_builder_is_asked_for_what_graphs_and_kernels_need(engines, rtx, monkeypatch):
    """Memory by the user alone, a profile for each batch, and formats that the kernels take."""
    trt, seen = rtx.module, {}

    class Builder(trt.Builder):
        def build_serialized_network(self, network, config):
            seen.update(user=config.get_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION),
                        profiles=config.num_optimization_profiles,
                        image=network.get_input(0).allowed_formats,
                        scores=network.get_output(0).allowed_formats)
            return super().build_serialized_network(network, config)
    monkeypatch.setattr(trt, 'Builder', Builder)
    card = load_card(PALETTE)

    def mask(*names):
        return sum(1 << int(getattr(trt.TensorFormat, name)) for name in names)
    for kind, image, scores in (
            ('fp16', mask('LINEAR', 'HWC8', 'CHW2', 'CHW4'), mask('LINEAR', 'HWC8')),
            ('fp32', mask('LINEAR', 'HWC'), mask('LINEAR', 'HWC'))):
        found, _ = ordered(card, engines, rtx, kind=kind, profile=profile(card, (1, 1, 3)))
        assert len(found.plan) > 1000
        assert seen == {'user': True, 'profiles': 3, 'image': image, 'scores': scores}
        assert {'memory by the user', 'a profile for each batch'} <= set(found.manifest.key.flags)
    ordered(load_card(ROOT / 'test/models/palette_two_heads'), engines, rtx)
    assert seen['image'] == mask('LINEAR') or seen['image'] == (1 << 13) - 1  # as it was


def test_an_engine_is_built_once(engines, rtx):
    card = load_card(PALETTE)
    first, built = ordered(card, engines, rtx)
    assert built
    second, built = ordered(card, engines, rtx)
    assert not built and second.manifest == first.manifest
    assert ordered(card, engines, rtx, force=True)[1]
    assert ordered(card, engines, rtx, kind='fp32')[1]
    assert ordered(card, engines, rtx, target=(8, 6))[1]
    assert ordered(card, engines, rtx, profile=profile(card, (1, 1, 1)))[1]
    assert len(engines.entries(card.name)) == 4


def test_a_damaged_engine_is_said_to_be_and_built_again_only_when_told(engines, rtx):
    card = load_card(PALETTE)
    found, _ = ordered(card, engines, rtx)
    (found.folder / 'engine.plan').write_bytes(b'x')
    with pytest.raises(ConfigError, match='engine.plan is not the file that was built'):
        ordered(card, engines, rtx)
    assert len(ordered(card, engines, rtx, force=True)[0].plan) > 1000


def test_an_output_that_the_card_does_not_read_is_dropped(engines, rtx, tmp_path):
    folder = tmp_path / 'one_head'
    shutil.copytree(ROOT / 'test/models/palette_two_heads', folder)
    card = yaml.safe_load((folder / 'card.yaml').read_text())
    card['outputs'] = card['outputs'][:1]
    (folder / 'card.yaml').write_text(yaml.safe_dump(card))
    found, _ = ordered(load_card(folder), engines, rtx)
    assert [tensor['name'] for tensor in found.manifest.build['tensors']] == ['image', 'logits']


@pytest.mark.parametrize('target', [(8, 7), (9, 0), (11, 0)])
def test_targets_that_rtx_has_not_are_refused(target, engines, rtx):
    with pytest.raises(ConfigError, match=r'unknown to tensorrt_rtx .*; allowed: sm_75, .*Jetson'):
        ordered(load_card(PALETTE), engines, rtx, target=target)


def test_without_gpu_and_target_nothing_is_guessed(engines, rtx):
    with pytest.raises(ConfigError, match='no GPU here and no --target; allowed: sm_75'):
        ordered(load_card(PALETTE), engines, rtx, target=None)


def test_a_batch_that_the_model_does_not_take_is_refused(engines, rtx):
    card = load_card(ROOT / 'test/models/palette_fixed')
    with pytest.raises(ConfigError, match='exactly 1 along N, asked is 1 to 2. Correct --batch'):
        ordered(card, engines, rtx)
    with pytest.raises(ConfigError, match='exactly 120 along H, asked is 60 to 60. Correct --siz'):
        ordered(card, engines, rtx, profile=OptimizationProfile((1, 1, 1), (Size(60, 160),)))
    fitting = OptimizationProfile((1, 1, 1), (Size(120, 160),))
    assert ordered(card, engines, rtx, profile=fitting)[1]


def test_a_profile_that_contradicts_itself_is_refused_in_tensorrts_words(engines, rtx):
    card = load_card(PALETTE)
    with pytest.raises(BackendError, match='refuses the profile .*MIN<=OPT<=MAX'):
        ordered(card, engines, rtx, profile=profile(card, (2, 1, 40)))
    assert not engines.entries(card.name)


def broken(tmp_path, change):
    """Return the card of a copy of the palette model whose file was changed."""
    folder = tmp_path / 'broken'
    shutil.copytree(PALETTE, folder)
    content = change((folder / 'model.onnx').read_bytes())
    (folder / 'model.onnx').write_bytes(content)
    text = (folder / 'card.yaml').read_text()
    text = re.sub('(?m)^sha256: .*', f'sha256: {hashlib.sha256(content).hexdigest()}', text)
    (folder / 'card.yaml').write_text(re.sub('(?m)^size_bytes: .*\n', '', text))
    return load_card(folder)


def test_an_operator_that_tensorrt_lacks_is_named(tmp_path, engines, rtx):
    card = broken(tmp_path, lambda data: data.replace(b'AveragePool', b'AveragePoof'))
    with pytest.raises(BackendError, match='AveragePoof'):
        ordered(card, engines, rtx, kind='fp32')


def test_a_build_can_be_interrupted(engines, rtx):
    def interrupted(phase, parent, done, steps):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ordered(load_card(SHIPPED[0]), engines, rtx, progress=interrupted)
    assert not engines.entries(SHIPPED[0])


def test_the_program_builds_reports_and_finds_again(engines, rtx, tmp_path, capsys):
    report = tmp_path / 'report.json'
    words = ['--model', str(PALETTE), '--camera', '320x240', '--target', 'sm_89', '--batch', '1:2',
             '--library', 'tensorrt_rtx', '--json', str(report)]
    assert build_engine.main(words) == 0
    said = json.loads(report.read_text())
    assert said['built'] and said['key']['compute_capability'] == '8.9'
    assert said['key']['profile']['batch'] == [1, 2, 2]
    assert said['build']['command'].startswith('python -m seg_node.tools.build_engine --model')
    assert f'engine.plan: {said["files"]["engine.plan"]["bytes"]} bytes' in capsys.readouterr().out
    assert build_engine.main(words) == 0
    assert not json.loads(report.read_text())['built'] and 'already' in capsys.readouterr().out
    assert build_engine.main([*words, '--target', 'sm_87']) == 2
    assert 'build_engine: target 8.7 is unknown' in capsys.readouterr().err


def test_kernels_lie_beside_the_plan_where_nvcc_is(engines, rtx):
    if shutil.which('nvcc') is None:
        pytest.skip('needs nvcc, of the CUDA toolkit')
    found, _ = ordered(load_card(PALETTE), engines, rtx)
    assert found.cubin is not None and found.cubin[:4] == b'\x7fELF'
