"""The GPU's driver layer on the simulated driver; and that the simulation finds mistakes."""

import subprocess
import sys

from gpu import simulated
import pytest

START = """
import ctypes, numpy as np, pycuda.driver as cuda
from gpu.simulator import refused, Simulator
from seg_node.errors import BackendError
from seg_node.gpu.driver import Gpu
from seg_node.gpu.graph import CudaError
sim = Simulator()
def fails(call, words):
    try:
        call()
    except (cuda.Error, CudaError) as error:
        assert words in str(error), error
    else:
        raise AssertionError('no error')
"""
RAW = START + """
cuda.init()
context = cuda.Device(0).retain_primary_context()
context.push()
stream = cuda.Stream()
host = cuda.pagelocked_zeros(1000, np.uint8)
device = cuda.mem_alloc(1000)
"""
RAW_END = """
del stream, host, device
context.pop()
context.detach()
"""


def run(code, **more):
    """Run code on the simulated driver; it must end with 0."""
    result = simulated.run(code, **more)
    assert result.returncode == 0, (result.returncode, result.stderr[-3000:])
    return result


# The simulated driver.

def test_streams_do_nothing_until_somebody_waits():
    run(RAW + """
host[:] = 7
cuda.memcpy_htod_async(device, host, stream)
back = cuda.pagelocked_empty(1000, np.uint8)
cuda.memcpy_dtoh_async(back, device, stream)
assert (back == 255).all()  # as fresh memory is
host[:] = 8  # too early: the copy has not been made
stream.synchronize()
assert (back == 8).all()
del back
""" + RAW_END)


def test_copies_are_checked():
    run(RAW + """
big = np.zeros(1001, np.uint8)
fails(lambda: cuda.memcpy_htod(device, big), 'cuMemcpyHtoD failed')
fails(lambda: cuda.memcpy_dtoh(big, device), 'cuMemcpyDtoH failed')
fails(lambda: cuda.memcpy_htod_async(host.ctypes.data, host, stream), 'failed')
cuda.memcpy_htod_async(device, big[:1000], stream)  # not page-locked
assert sim.counts()['pageable copies'] == 1
fails(lambda: host.base.get_device_pointer(), 'failed')  # not mapped
""" + RAW_END)


def test_a_stray_write_is_noticed():
    run(RAW + """
ctypes.memset(int(device) + 1000, 1, 1)
device.free()
assert sim.counts()['overrun'] == 1
""" + RAW_END)
    result = simulated.run(RAW + 'ctypes.memset(int(device) + 1024, 1, 1)')
    assert result.returncode == -11  # SIGSEGV, at the guard page


def test_contexts_belong_to_threads():
    run(RAW + """
from threading import Thread
said = []
def use():
    try:
        cuda.memcpy_htod_async(device, host, stream)
    except cuda.Error as error:
        said.append(str(error))
thread = Thread(target=use, daemon=True)
thread.start()
thread.join(60)
assert 'error 201' in said[0], said
""" + RAW_END)


def test_what_may_not_be_captured_spoils_the_capture():
    run(START + """
gpu = Gpu()
with gpu.active():
    memory, pinned, mark = gpu.allocate(100, 'a test'), gpu.pin(100, 'a test'), gpu.event()
    pinned.array[:] = 1
    for spoil, code in ((lambda: gpu.allocate(16, 'too late'), 900),
                        (lambda: gpu.raw_stream.synchronize(), 900),
                        (lambda: gpu.store(memory.address, np.zeros(9, np.uint8)), 900),
                        (lambda: cuda.memset_d8_async(memory.address, 0, 9), 906)):
        def record():
            gpu.upload(memory.address, pinned.array)
            try:
                spoil()
            except (cuda.Error, BackendError) as error:
                assert f'error {code}' in str(error), error
        fails(lambda: gpu.capture(record), 'cuStreamEndCapture failed: simulated error 901')
    def raises():
        raise BackendError('no')
    assert refused(lambda: gpu.capture(raises)) == 'no'
    end = gpu.event()
    def finish():
        gpu.record(end)
        gpu.wait(end)
    graph = gpu.capture(lambda: gpu.upload(memory.address, pinned.array))  # usable again
    pinned.array[:] = 5
    gpu.launch(graph)
    gpu.download(pinned.array[50:], memory.address)
    finish()
    assert (pinned.array == 5).all()
    plain = gpu.capture(lambda: gpu.record(mark))
    gpu.launch(plain)
    finish()
    fails(lambda: mark.ms_since(mark), 'cuEventElapsedTime failed')  # no time inside a graph
    fails(lambda: mark.record(gpu.stream, captured=True), 'cuEventRecordWithFlags failed')
    timed = gpu.capture(lambda: gpu.record(mark, captured=True))
    gpu.launch(timed)
    finish()
    assert mark.ms_since(mark) == 0
    for one in (graph, plain, timed):
        one.close()
gpu.close()
assert sim.counts()['live graphs'] == 0
""")


# The driver layer.

def test_nothing_is_left_and_nothing_is_current():
    run(START + """
gpu = Gpu()
assert (gpu.name, gpu.compute_capability, gpu.driver) == ('simulated GPU', (8, 7), '13.0')
assert not gpu.integrated
with gpu.active():
    gpu.allocate(10, 'a test')
    pinned = gpu.pin(10, 'a test')
    pinned.array[:] = 3
    view = pinned.array[2:5]
    assert pinned.address == 0
    gpu.event()
assert sim.counts()['contexts pushed here'] == 0
gpu.close()
gpu.close()
left = sim.counts()
assert not left['live device blocks'] and not left['live streams']
assert left['live pinned blocks'] == 1 and (view == 3).all()  # as long as somebody looks at it
del view
assert sim.counts()['live pinned blocks'] == 0
assert 'was closed' in refused(lambda: gpu.active().__enter__())
""")


def test_shared_memory_is_mapped():
    run(START + """
gpu = Gpu()
assert gpu.integrated
with gpu.active():
    pinned = gpu.pin(10, 'a test')
    assert pinned.address == pinned.array.ctypes.data
gpu.close()
""", CUDASIM_INTEGRATED='1')


def test_a_process_may_end_without_closing():
    result = run(START + """
gpu = Gpu()
with gpu.active():
    gpu.allocate(10, 'a test')
    view = gpu.pin(10, 'a test').array
""")
    assert not result.stderr


def test_an_exception_leaves_the_context_in_order():
    run(START + """
gpu = Gpu()
try:
    with gpu.active():
        memory = gpu.allocate(10, 'a test')
        raise KeyError('mine')
except KeyError:
    pass
assert sim.counts()['contexts pushed here'] == 0
with gpu.active():
    gpu.free(memory)
    gpu.free(memory)
gpu.close()
""")


@pytest.mark.parametrize('when', ['used', 'closed'])
def test_a_driver_that_does_not_take_the_context_back(when):
    """PyCUDA would end the process with 134; results handed out stay readable all the same."""
    run(START + f"""
gpu = Gpu()
with gpu.active():
    gpu.allocate(10, 'a test')
    view = gpu.pin(10, 'a test').array
    view[:] = 4
sim.fail('cuCtxPopCurrent_v2', 1, 1000)
if {when == 'used'}:
    def use():
        with gpu.active():
            pass
    assert 'does not take back the context' in refused(use)
    assert 'no longer gives the context' in refused(use)
gpu.close()
assert (view == 4).all()
""")


def test_messages_name_the_mend():
    run(START + """
gpu = Gpu()
with gpu.active():
    sim.fail('cuMemAlloc_v2', 1, 2, code=2)
    text = refused(lambda: gpu.allocate(3 << 20, 'a test'))
    assert text == ('GPU error while allocating 3.0 MiB for a test: cuMemAlloc failed: simulated '
                    'error 2. Use a smaller max_batch or engine, or end what else uses the GPU '
                    '(nvidia-smi lists it).'), text
gpu.close()
assert 'nvidia-smi must list the GPU' in refused(lambda: Gpu(1))
""")


def test_after_errors_that_stay_the_process_is_to_be_restarted():
    run(START + """
gpu = Gpu()
with gpu.active():
    memory = gpu.allocate(16, 'a test')
    for code in (700, 714, 715, 716, 717, 718, 719):
        sim.fail('cuMemcpyHtoD_v2', 1, code=code)
        text = refused(lambda: gpu.store(memory.address, np.zeros(9, np.uint8)))
        assert 'restart the process' in text and 'Configure' not in text, text
        sim.reset()
    sim.fail('cuMemcpyHtoD_v2', 1, code=1)
    assert 'Configure the node again' in refused(
        lambda: gpu.store(memory.address, np.zeros(9, np.uint8)))
    mark = gpu.event()
    sim.fail('cuEventSynchronize', 1, code=700)
    assert 'restart the process' in refused(lambda: gpu.wait(mark))
gpu.close()
""")


def test_no_gpu():
    run(START + """
text = refused(Gpu)
assert text.startswith('GPU error while finding the GPU: cuInit failed'), text
assert 'install the NVIDIA driver' in text
""", CUDASIM_NO_DEVICE='1')


def test_no_pycuda():
    code = ('import sys; sys.modules["pycuda"] = None\n'
            'from seg_node.gpu.driver import Gpu\nGpu()')
    result = subprocess.run([sys.executable, '-c', code], cwd=simulated.ROOT,
                            capture_output=True, text=True, timeout=60)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith('seg_node.errors.BackendError: backend tensorrt needs PyCUDA')
    assert 'pip install pycuda' in last and 'nvidia-smi' in last
