"""
The GPU segmenter, run by real PyCUDA on the simulated driver, against the CPU path.

What this shows: every label, which calls are made and how often, what happens when one fails. What
it cannot show: speed, and the real driver and network.
"""

from pathlib import Path

from gpu import cpu_kernels
from gpu.simulated import CACHE, library, run, scenario
import numpy as np
import pytest

from seg_node.errors import ConfigError
from seg_node.gpu.engine_cache import VerifiedEngine
from seg_node.gpu.placement import COPIED, Placement
from seg_node.gpu.segmenter import TensorRTSegmenter
from seg_node.gpu.upload import read
from seg_node.model.card import InputSpec, load_card

MODELS = Path(__file__).parent / 'models'


# Run in one process, which costs a second of imports.
SHORT = ('encodings', 'sizes', 'two_engines', 'grows', 'malformed', 'numbers', 'views', 'stale',
         'capture', 'capture_again', 'enqueue_fails', 'cubins', 'many_kinds', 'proof', 'tensorrt',
         'warm', 'outputs', 'tensorrt_profiles', 'rtx',
         'retuned')


@pytest.fixture(scope='module')
def reports():
    """Return what each of the short scenarios reports."""
    return dict(zip(SHORT, scenario('segmenter_worker.py', *SHORT, timeout=300), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize('integrated', [False, True])
def test_labels_and_costs_of_200_frames(integrated):
    [report] = scenario('segmenter_worker.py', 'many', timeout=300,
                        CUDASIM_INTEGRATED=str(int(integrated)))
    counts, expected, batches = report['counts'], report['expected'], report['batches']
    assert report['frames'] >= 200 and batches > 60
    mapped = {name: f'{name} mapped' in report['description']
              for name in ('images', 'results')}
    for name, times in {
            'cuMemcpyHtoDAsync_v2': 0 if mapped['images'] else report['frames'],
            'cuMemcpyDtoHAsync_v2': 0, 'cuMemsetD8Async': 0, 'cuEventRecord': 0,
            'cuEventRecordWithFlags': 0, 'cuStreamWaitEvent': 0,
            'cuEventElapsedTime_v2': 3 * batches, 'cuCtxPushCurrent_v2': 2 * batches,
            'overrun': 0, 'freed in use': 0,
            'cuMemcpyHtoD_v2': 0, 'cuMemcpyDtoH_v2': 0, 'pageable copies': 0,
            'cuMemAlloc_v2': 0, 'cuMemHostAlloc': 0, 'cuMemFree_v2': 0, 'cuEventCreate': 0,
            'cuGraphInstantiateWithFlags': 0, 'cuLaunchKernel': 0, 'cuGraphLaunch': batches,
            'cuEventSynchronize': batches, 'cuStreamSynchronize': 0, 'kernel stand_in': batches,
            'bytes up': 0 if mapped['images'] else expected['bytes up'],
            'bytes down': 0 if mapped['results'] else expected['bytes down']}.items():
        assert counts.get(name, 0) == times, name
    kernels = {name: times for name, times in expected.items() if name.startswith('kernel ')}
    assert len(kernels) == 3
    assert kernels == {name: times for name, times in counts.items()
                       if name.startswith('kernel ') and name != 'kernel stand_in'}
    assert set(report['ms']) == {'decode', 'preprocess', 'network', 'labels'}
    assert all(ms > 0 for ms in report['ms'].values())
    assert ('shared memory: ' if integrated else 'page-locked') in report['description']
    assert integrated or not any(mapped.values())
    assert not any(report['after'][f'live {what}'] for what in
                   ('device blocks', 'pinned blocks', 'streams', 'graphs'))
    assert report['after']['contexts pushed here'] == 0 and 'overrun' not in report['after']


def test_every_encoding_layout_and_output_size(reports):
    for note in reports['encodings'].values():
        assert note.endswith('CUDA graphs')


def test_cameras_of_different_network_sizes(reports):
    report = reports['sizes']
    assert report['runs'] == 2
    assert report['samples'] == [[360, 640], [32, 40]]  # the second takes no wide images
    reason, text = report['too large']
    assert reason == 'engine-size' and '--camera 400x60' in text


def test_a_frame_finds_the_engine_for_its_size(reports):
    report = reports['two_engines']
    assert report['loads'] == ['narrow', 'wide']
    assert len(report['asked']) == 2  # once a size, not once a frame
    for reason, text in report['errors']:
        assert reason == 'engine-size' and '--camera 400x60' in text and 'no engine for' in text
    assert report['description'].count('stand-in on simulated GPU') == 2
    assert not report['left']


def test_a_larger_network_after_a_smaller_one(reports):
    device, pinned = reports['grows']
    assert device > 1 and pinned == 0


def test_malformed_messages(reports):
    assert reports['malformed'] == {'truncated': 2, 'step': 2, 'encoding': 2, 'size': 7}


def test_scores_that_are_no_numbers(reports):
    report = reports['numbers']
    assert [reason for reason, _ in report] == ['logits', 'logits', 'logits', 'probabilities']
    assert 'from 0 to 1.5' in report[3][1]


def test_results_stay_valid_for_one_more_call(reports):
    assert reports['views'] == {'reused': True}


def test_the_first_frames_find_everything_made(reports):
    """At the sizes that are known: memory, executions, graphs of all batches and outputs."""
    report = reports['warm']
    made = ('cuMemAlloc_v2', 'cuMemHostAlloc', 'cuStreamBeginCapture_v2', 'cuLaunchKernel',
            'cuMemcpyHtoD_v2', 'cuEventCreate')
    assert not any(report['known'].get(name) for name in made), report['known']
    assert report['known']['cuGraphLaunch'] == 14
    # An encoding that was not thought of costs small tables and a capture, once in each slot.
    assert report['other'].get('cuMemHostAlloc', 0) == 0
    assert report['other']['cuStreamBeginCapture_v2'] == 2 == report['other']['cuMemAlloc_v2']
    # At another size than was known all of it is made at the first frame.
    assert report['unknown']['cuMemHostAlloc'] == 4


def test_another_policy_counts_from_the_next_call_on(reports):
    assert reports['retuned'] == 3


def test_only_what_is_wanted_is_made_and_downloaded(reports):
    labels, confidence, drivable, both = reports['outputs']
    plane = 60 * 80
    assert labels == 1280 + -(-plane // 256) * 256  # counters, and one aligned plane
    assert confidence == drivable == labels + -(-plane // 256) * 256
    assert both == labels + 2 * -(-plane // 256) * 256


def test_a_missing_wait_would_show(reports):
    assert 'reading the times' in reports['stale']['error']


def test_memory_that_is_not_cached_is_fetched_many_times():
    """Why mapped memory is no gain by itself: each of a pixel's twelve bytes is an access."""
    [report] = scenario('segmenter_worker.py', 'mapped', CUDASIM_INTEGRATED='1')
    image = 60 * 260 - 20  # bytes
    assert report['00'][:2] == [0, image]
    for way, up, down in (('10', 0, True), ('01', image, False), ('11', 0, False)):
        sectors, bytes_up, bytes_down = report[way]
        assert (bytes_up, bool(bytes_down)) == (up, down)
        assert (sectors > 0) == (up == 0 or down is False)
    # Reduced from 80x60 to 48x32: of 4.5 bytes an input pixel samples 12, row by row of a warp.
    assert 32 * report['10'][0] > 4 * image, report


def test_one_thread_at_a_time():
    [said] = scenario('segmenter_worker.py', 'threads')
    first, second, third, after_it, again, other = said
    assert first == second == third == again == 'right'
    assert "belongs to thread 'another' and was used in 'MainThread'" in after_it
    assert "belongs to thread 'MainThread' and was used in 'another'" in other


def test_what_cannot_be_captured_runs_as_plain_launches(reports):
    for before, after, graphs in reports['capture'].values():
        assert before.endswith('CUDA graphs') and graphs == 0
        assert 'plain launches, as CUDA graphs failed (' in after


def test_a_capture_that_failed_is_tried_again(reports):
    notes, problem, _ = reports['capture_again']['once']
    assert notes == [False] + [True] * 4 + [False] * 3 and not problem
    notes, problem, captures = reports['capture_again']['always']
    assert all(notes[1:]) and 'the stand-in was told so' in problem and captures == 5


def test_a_process_may_end_with_an_engine_loaded():
    result = run("""
import numpy as np
from gpu.rig import card, Engine, gpu_segmenter
from gpu.simulator import Simulator
class Told(Engine):
    def close(self):
        print('engine freed, contexts released:',
              Simulator().counts().get('cuDevicePrimaryCtxRelease_v2', 0))
        super().close()
segmenter = gpu_segmenter(card(), Told)
""", KERNELS=str(cpu_kernels.build(CACHE)), STAND_IN=str(library('stand_in.cpp')))
    assert result.returncode == 0 and not result.stderr
    assert result.stdout == 'engine freed, contexts released: 0\n'


def test_an_engine_that_refuses(reports):
    first, second, closed = reports['enqueue_fails']
    assert first.startswith('stand-in cannot run a batch of 1: the stand-in was told so.')
    assert second == closed == f'the GPU segmenter is of no use any more: {first}'


def test_kernels_for_another_gpu(reports):
    for text in reports['cubins']:
        assert 'while loading the kernels' in text and 'build_engine --force' in text
    newer = [text for text in reports['cubins'] if 'CUDA 13.2' in text]
    assert len(newer) == 2
    for text in newer:  # building again with the same toolkit would end here again
        assert 'driver is made for CUDA 13.0' in text and 'set CUDA_HOME' in text


def test_more_kinds_of_batches_than_are_kept(reports):
    report = reports['many_kinds']
    assert report['graphs'] == 128 and not report['overruns']


def test_tensorrt_engine(reports):
    report = reports['tensorrt']
    assert report.pop('description').startswith(
        'tensorrt 10.3.0 fp32 (layers: 7 fp32, 1 int32) on simulated GPU')
    assert (report.pop('batch'), report.pop('device')) == (4, 'cuda:0 simulated GPU')
    words = {'plan': 'refuses the plan', 'context': 'does not set up', 'shape': 'input of shape',
             'address': 'address for', 'enqueue': 'cannot run a batch of 2',
             'form': "tensor 'image' of the engine is CHW16"}
    assert set(report) == set(words)
    for name, text in report.items():
        assert words[name] in text
        assert name == 'form' or 'a reason of the library' in text


def test_each_batch_has_its_profile(reports):
    report = reports['tensorrt_profiles']
    assert report['batch'] == 4 and report['waits'] >= 3  # the first profile is there already


def test_tensorrt_rtx_keeps_what_it_compiled(reports):
    report = reports['rtx']
    assert report['first'] == [0, ''] and report['kept by first'] == 2
    assert report['second'] == [2, '']
    assert 'says that it cannot be captured' in report['never'][1]
    assert 'can be written by others' in report['others write']


# Failures.

# After these the frame is right all the same: nothing depends on them any more, or PyCUDA and the
# segmenter try again, or go on without graphs and say so.
FREEING = {'cuEventDestroy_v2', 'cuGraphDestroy', 'cuGraphExecDestroy', 'cuMemFreeHost',
           'cuMemFree_v2', 'cuModuleUnload', 'cuStreamDestroy_v2', 'cuDevicePrimaryCtxRelease_v2',
           'cuCtxPopCurrent_v2', 'cuStreamSynchronize'}
CAPTURING = {'cuStreamBeginCapture_v2', 'cuStreamEndCapture', 'cuGraphInstantiateWithFlags',
             'cuEventRecordWithFlags'}
# What the last push serves is the end; a launch may be one that is captured.
EITHER = {'cuCtxPushCurrent_v2', 'cuLaunchKernel', 'cuFuncSetBlockShape', 'cuMemsetD8Async',
          'cuStreamWaitEvent', 'cuMemcpyDtoHAsync_v2'}
LEAKS = {'cuMemFreeHost': 'live pinned blocks', 'cuMemFree_v2': 'live device blocks',
         'cuStreamDestroy_v2': 'live streams', 'cuGraphExecDestroy': 'live graphs'}


@pytest.mark.slow
@pytest.mark.parametrize('integrated', [False, True])
def test_every_call_may_fail(integrated):
    report = scenario('failure_worker.py', 'failures', 'once', timeout=300,
                      CUDASIM_INTEGRATED=str(int(integrated)))
    names = {entry['name'] for entry in report}
    assert {'cuInit', 'cuMemAlloc_v2', 'cuMemHostAlloc', 'cuModuleLoadDataEx', 'cuLaunchKernel',
            'cuGraphLaunch', 'cuEventSynchronize', 'kernel labels_f32'} | FREEING | CAPTURING \
        <= names
    assert ('cuMemHostGetDevicePointer_v2' in names) == integrated
    assert {'cuMemcpyHtoDAsync_v2', 'cuStreamWaitEvent'} <= names
    assert len(report) > 60
    for entry in report:
        name, note = entry['name'], 'plain launches' in entry['description']
        assert entry['happened'], entry
        if name in FREEING | CAPTURING or name in EITHER and entry['outcome'] == 'right':
            assert entry['outcome'] == 'right', entry
            assert note == (name not in FREEING and name != 'cuCtxPushCurrent_v2'), entry
        else:
            assert entry['outcome'] == 'refused' and not note, entry
            assert entry['text'].startswith('GPU error while '), entry
            assert entry['text'].count(name.partition('_v')[0]) or 'kernel' in name, entry
        if not name.startswith('kernel '):  # after these the device is lost
            left = {what: n for what, n in entry['left'].items() if n}
            assert left == ({LEAKS[name]: 1} if name in LEAKS else {}), entry


@pytest.mark.slow
def test_a_device_lost_at_any_call():
    for entry in scenario('failure_worker.py', 'failures', 'lost', timeout=300):
        if entry['name'] in FREEING - {'cuCtxPopCurrent_v2', 'cuGraphDestroy'}:
            assert entry['outcome'] == 'right', entry
        else:
            assert entry['outcome'] == 'refused' and 'GPU error while' in entry['text'], entry
        assert entry['left']['contexts pushed here'] == 0, entry


def test_one_refused_allocation_is_tried_again():
    outcome, _, _ = scenario('failure_worker.py', 'allocation_is_tried_twice')
    assert outcome == 'right'


# Without any GPU.

def test_the_best_placement_is_taken():
    """The median of each way counts, not its first runs; a discrete GPU has one way only."""
    assert Placement(False).mode == COPIED and not Placement(False).runs_left
    for best in ((False, False), (True, False), (False, True), (True, True)):
        placement, runs = Placement(True), 0
        while placement.runs_left:
            mode = placement.mode
            first = runs % 9 < 4  # plain launches, captures
            placement.took(mode, 900 if first or runs % 9 == 6 else 2 + (mode != best))
            runs += 1
        assert placement.mode == best and runs == 36
        placement.took((True, True), 0.001)
        assert placement.mode == best
        said = str(placement)
        assert f'images {"mapped" if best[0] else "copied"}' in said and '2.00 ms' in said



@pytest.mark.parametrize('name, words', [
    ('palette_labels', 'is labels; the GPU kernels label logits and probabilities'),
    ('palette_binary', 'is sigmoid'),
    ('palette_two_heads', 'has 2 outputs'),
])
def test_models_the_kernels_do_not_serve(name, words):
    engine = VerifiedEngine(b'', b'', None, Path('entry'))
    with pytest.raises(ConfigError, match=words) as refusal:
        TensorRTSegmenter(load_card(MODELS / name), engine)
    assert 'backend: onnxruntime' in str(refusal.value)


def test_an_engine_without_kernels():
    engine = VerifiedEngine(b'', None, None, Path('entry'))
    with pytest.raises(ConfigError, match='no kernels.cubin.*CUDA toolkit'):
        TensorRTSegmenter(load_card(MODELS / 'palette_cityscapes19'), engine)


def test_what_is_uploaded_is_the_message_itself():
    from gpu.rig import frame, SIZES
    spec = InputSpec('image', 'NCHW', 'rgb', 'float32', (0, 0, 0), (1, 1, 1), size=(32, 48))
    shot = frame(np.random.default_rng(0), spec, SIZES[0], 'bgr8')
    source, pixels = read(shot)
    assert source.step == shot.message.step == SIZES[0].width * 3 + 20
    assert np.shares_memory(pixels, shot.message.data) and pixels.size == source.size_bytes


def test_gpu_check_on_the_simulated_gpu(reports):
    report = reports['proof']
    assert report['labels_equal'] == 1 and report['passed']
    assert set(report['latency_ms']) == {'frame', 'decode', 'preprocess', 'network', 'labels'}
    assert 'CUDA graphs' in report['candidate']
