"""gpu_check as it is run on a machine without TensorRT, here on the simulated driver."""

import json

from gpu import cpu_kernels
from gpu.simulated import CACHE, run
from gpu.toolkit_of_gxx import make
import pytest

# A small camera: the simulated GPU has one core, and shares it.
SMALL = """
import sys
from seg_node.geometry import Size
from seg_node.proving import stand_in
from seg_node.tools import gpu_check
gpu_check.SIZES = (Size(90, 160), Size(96, 160))
stand_in.card.__defaults__ = ('float32', 64)
stand_in.MOST_ROUNDS = 20  # the simulated clock does not see them
gpu_check.machine.clocks = lambda number: {'clocks.sm': '1980 MHz'}
"""
ARGUMENTS = ('--without-network', '--frames', '2', '--repeats', '5', '--camera', '192x108')


def proof(folder, *arguments, code='', **more):
    """Run gpu_check on the simulated GPU; return the process and the report, if there is one."""
    path = folder / 'report.json'
    done = run(f'{SMALL}\n{code}\nsys.exit(gpu_check.main({[*arguments, "--json", str(path)]!r}))',
               KERNELS=str(cpu_kernels.build(CACHE)), CUDA_HOME=str(make(folder / 'cuda')), **more)
    return done, json.loads(path.read_text()) if path.exists() else None


@pytest.fixture(scope='module')
def proved(tmp_path_factory):
    return proof(tmp_path_factory.mktemp('proof'), *ARGUMENTS)


def test_it_passes_without_tensorrt(proved):
    done, report = proved
    assert done.returncode == 0, done.stdout + done.stderr
    assert report['passed'] and report['network'] is None
    assert report['network_reason'] == '--without-network was given'
    assert done.stdout.endswith('passed\n')


@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_what_it_finds_of_the_stand_in(proved, precision):
    found = proved[1]['stand_in'][precision]
    cells = found['cells']
    assert (cells['frames'], cells['labels'], cells['drivable']) == (8, 0, 0)
    assert cells['pixels'] > 2 * (192 * 108 + 90 * 160) and cells['confidence'] <= 1
    assert found['labels_equal'] >= 0.995 and found['frames'] == 2
    assert not found['without_graphs'] and 'CUDA graphs' in found['candidate']
    for times in (found['bare_network_ms'], *(found['latency_ms'][name] for name in
                                              ('frame', 'preprocess', 'network', 'labels'))):
        assert 0 < times['p50'] <= times['p95'] <= times['p99']
    assert found['frame_to_network'] == pytest.approx(
        found['latency_ms']['frame']['p50'] / found['bare_network_ms']['p50'], abs=0.001)
    assert found['interval_ms'] > 0 and found['interval_to_network'] == pytest.approx(
        found['interval_ms'] / found['bare_network_ms']['p50'], rel=0.01)
    left = found['leaks']
    assert len(left['free_device_bytes']) == 6 and not left['device'] and not left['host']


def test_the_report_says_of_what_it_speaks(proved):
    report = proved[1]
    assert report['gpu'] == {'number': 0, 'name': 'simulated GPU', 'compute_capability': '8.7'}
    assert {'python', 'numpy', 'pycuda', 'seg_node'} <= set(report['versions'])
    assert report['versions']['nvcc'] == '13.0'
    assert {'system', 'processor', 'cores'} <= set(report['machine'])
    assert set(report['clocks']) == {'before', 'after the stand-in'}
    assert report['stand_in']['fp32']['clocks_at_work'] == {'clocks.sm': '1980 MHz'}


def test_a_gpu_that_is_not_there(tmp_path):
    done, report = proof(tmp_path, '--without-network', '--gpu', '3')
    assert (done.returncode, report) == (2, None)
    assert done.stderr == ('gpu_check: there is no NVIDIA GPU number 3 here: nvidia-smi -L lists '
                           '1, counted from 0. Give a smaller number.\n')


# Each fault is put in, looked at by the check of one precision, and taken out again.
FAULTS = """
import json
from unittest import mock
from seg_node.gpu import trt
from seg_node.gpu.driver import Gpu
from seg_node.gpu.graph import CudaError
cameras = (Size(108, 192), Size(90, 160))
network = gpu_check.prepared('fp32', trt.require_gpu(), 0, cameras)
kept, run_it, close = [], stand_in.StandInBackend.run, stand_in.StandInEngine.close

def leak(self):
    kept.append(self._gpu.allocate(1 << 20, 'a leak'))
    del self._gpu._owned[id(kept[-1])]
    close(self)

def refuse(self, stream, record):
    raise CudaError('cuStreamEndCapture failed: not today (900)')

def other_labels(self, tensor):
    return [run_it(self, tensor)[0].copy()[:, ::-1]]

faults = {'nothing': (stand_in.StandInBackend, 'run', run_it),
          'labels': (stand_in.StandInBackend, 'run', other_labels),
          'a leak': (stand_in.StandInEngine, 'close', leak),
          'no graphs': (Gpu, 'capture', refuse)}
report = {}
for name, (owner, attribute, fault) in faults.items():
    with mock.patch.object(owner, attribute, fault):
        report[name] = gpu_check.check_stand_in(network, 'fp32', cameras, 1, 3)
print(json.dumps(report))
"""


def test_what_is_wrong_does_not_pass(tmp_path):
    done = run(SMALL + FAULTS, KERNELS=str(cpu_kernels.build(CACHE)),
               CUDA_HOME=str(make(tmp_path / 'cuda')))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {name: found['passed'] for name, found in report.items()} == {
        'nothing': True, 'labels': False, 'a leak': False, 'no graphs': False}
    signs = {'labels': lambda found: found['cells']['labels'] > 0,
             'a leak': lambda found: found['leaks']['device'],
             'no graphs': lambda found: 'not today' in found['without_graphs']}
    for name, found in report.items():  # by its own sign, and by no other
        assert [sign for sign, seen in signs.items() if seen(found)] == (
            [name] if name in signs else []), found
