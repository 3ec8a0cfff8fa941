"""What ``gpu_check`` compares and measures, with the CPU's segmenter in the GPU's place."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from seg_node.devices.choose import open_segmenter, Wish
from seg_node.errors import BackendError
from seg_node.geometry import Size
from seg_node.model.card import load_card
from seg_node.proving import machine, measure, stand_in
from seg_node.proving.measure import exactness, Latency
from seg_node.tools import gpu_check

MODEL = 'bisenetv2_camvid'


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch):
    """On the CPU a frame takes a tenth of a second, and nothing warms up."""
    for module in (gpu_check, measure):
        monkeypatch.setattr(module, 'WARM_UP', 1)


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
    assert report['interval_ms'] > times['network']['p50'] / 2
    assert json.loads(json.dumps(report)) == report


def test_a_fallback_to_plain_launches_does_not_pass(frames, segmenters, capsys):
    card = load_card(MODEL)
    one = segmenters(card)
    report = gpu_check.check(card, one, one, frames, precision='fp16', repeats=1)
    assert report['passed'] and report['without_graphs'] == '' and report['batch'] == 1
    one.without_graphs = 'cuStreamEndCapture failed'
    report = gpu_check.check(card, one, one, frames, precision='fp16', repeats=1)
    assert not report['passed'] and report['labels_equal'] == 1
    gpu_check._print_network(report)
    assert 'FAILED: the times are without CUDA graphs: cuStreamEnd' in capsys.readouterr().out


def test_another_model_fails(frames, segmenters):
    card = load_card(MODEL)
    other = segmenters(load_card('deeplabv3plus_lite0_camvid'))
    report = gpu_check.check(card, other, segmenters(card), frames, precision='fp16', repeats=1)
    assert not report['passed'] and report['labels_equal'] < 0.97


def test_the_bare_network_is_what_a_frame_is_measured_by(frames, segmenters):
    card = load_card(MODEL)
    one = segmenters(card)
    report = gpu_check.check(card, one, one, frames, precision='fp16', repeats=2,
                             bare=Latency(0.5, 0.6, 0.7))
    assert report['bare_network_ms'] == {'p50': 0.5, 'p95': 0.6, 'p99': 0.7}
    assert report['frame_to_network'] == pytest.approx(
        report['latency_ms']['frame']['p50'] / 0.5, abs=0.001)


def test_a_refused_frame_is_an_error_not_a_figure(frames, segmenters):
    card = load_card(MODEL)
    good, bad = segmenters(card), segmenters(card)
    bad.segment = lambda *arguments: [BackendError('broken')]
    with pytest.raises(BackendError, match='refuses a test frame: broken'):
        exactness(bad, good, [frames])


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    monkeypatch.setenv('SEG_NODE_CACHE', str(tmp_path))
    assert gpu_check.main(['--json', str(tmp_path / 'report.json')]) == 2
    said = capsys.readouterr().err
    assert said.startswith('gpu_check: there is no NVIDIA GPU number 0 here: nvidia-smi must')
    assert said.count('\n') == 1 and not (tmp_path / 'report.json').exists()


@pytest.mark.parametrize('overhead, each, wanted', [
    (0.01, 3e-6, 663_000), (0.01, 2e-4, 9950),  # a fast GPU, 200 rounds are noise; a slow one
    (0.5, 1e-4, 15_000), (3.0, 1e-4, 0),        # a slow driver; one run takes longer already
    (0.01, 0.0, 4_000_000)])                    # a clock that stands still: a bound
def test_the_stand_in_lasts_as_long_as_a_network(overhead, each, wanted):
    asked = []

    def time_of(rounds):
        asked.append(rounds)
        return overhead + each * rounds
    assert stand_in.rounds_to_last(time_of) == pytest.approx(wanted, rel=0.01)
    assert max(asked) * each < 4 * stand_in.NETWORK_MS  # no trial takes long


@pytest.mark.parametrize('arguments, passes', [(['--without-network'], True), ([], False)])
def test_a_network_that_was_asked_for_must_have_run(monkeypatch, arguments, passes):
    """A machine without TensorRT passes only where no network was wanted."""
    def missing():
        raise BackendError('TensorRT cannot be loaded')
    monkeypatch.setattr(gpu_check.trt, 'require_gpu', lambda number: gpu_check.trt.GpuInfo(
        'A10', (8, 6), '13.0'))
    monkeypatch.setattr(gpu_check.trt, 'load', missing)
    monkeypatch.setattr(gpu_check.machine, 'clocks', lambda number: {})
    monkeypatch.setattr(gpu_check.machine, 'versions', dict)
    monkeypatch.setattr(gpu_check, 'check_stand_ins', lambda options, gpu: {'passed': True})
    report = gpu_check.run(gpu_check._parser().parse_args(arguments))
    assert report['passed'] == passes and report['network'] is None
    assert ('TensorRT cannot be loaded' in report['network_reason']) != passes


# What the machine tells.

def program(folder, name, text):
    path = folder / name
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)


def test_clocks_of_a_card(tmp_path, monkeypatch):
    program(tmp_path, 'nvidia-smi', """[ "$1" = --id=1 ] || exit 6
echo 'NVIDIA H100, 580.95.05, P0, 1980 MHz, 1980 MHz, 2619 MHz, 2619 MHz, 41, 119.60 W, 700.00 W, \
12 %, [N/A], 81559 MiB'""")
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    found = machine.clocks(1, tmp_path)
    assert found['clocks.sm'] == '1980 MHz' and found['driver_version'] == '580.95.05'
    assert 'memory.used' not in found  # it does not tell
    assert machine.clocks(0, tmp_path) == {}  # it fails


def test_clocks_of_a_jetson(tmp_path, monkeypatch):
    program(tmp_path, 'nvidia-smi', "echo 'Orin (nvgpu), 540.4.0, [N/A]'")
    program(tmp_path, 'nvpmodel', "printf 'NV Power Mode: MAXN\\n0\\n'")
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    folder = tmp_path / 'sys' / 'class' / 'devfreq'
    for name in ('17000000.gpu', '13e10000.host1x'):
        (folder / name).mkdir(parents=True)
        (folder / name / 'cur_freq').write_text('1300500000\n')
    assert machine.clocks(0, tmp_path) == {'17000000.gpu cur_freq': '1300500000'}
    (tmp_path / 'etc').mkdir()
    (tmp_path / 'etc' / 'nv_tegra_release').write_text('# R36 (release), REVISION: 4.3\n')
    found = machine.machine(tmp_path)
    assert found['jetson'] == 'R36 (release), REVISION: 4.3'
    assert found['power mode'] == 'NV Power Mode: MAXN 0'


def test_compute_sanitizer(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path / 'none'))
    monkeypatch.setenv('CUDA_HOME', str(tmp_path / 'none'))
    monkeypatch.setattr(machine.nvcc, '_USUAL', Path('/none'))
    assert machine.sanitized([]) == {}
    # what racecheck says, and a run that fails by itself
    program(tmp_path, 'compute-sanitizer', """case "$2" in
racecheck) echo 'Error: Race reported between Write access'; exit 99 ;;
initcheck) echo 'gpu_check: no nvcc'; exit 2 ;;
synccheck) while :; do :; done ;;
esac""")
    monkeypatch.setenv('PATH', f'{tmp_path}:/usr/bin:/bin')
    found = machine.sanitized(['--without-network'], seconds=2)
    assert set(found) == set(machine.SANITIZERS) and found['memcheck'] == ''
    assert found['racecheck'] == 'exit status 99: Error: Race reported between Write access'
    assert found['initcheck'] == 'exit status 2: gpu_check: no nvcc'
    assert found['synccheck'] == 'did not end within 2 s'


def test_the_versions_that_take_part():
    assert {'python', 'numpy', 'onnxruntime', 'seg_node'} <= set(machine.versions())
