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
    stream = gpu.stream()
    pinned.array[:] = 1
    for spoil, code in ((lambda: gpu.allocate(16, 'too late'), 900),
                        (lambda: stream.raw.synchronize(), 900),
                        (lambda: gpu.store(memory.address, np.zeros(9, np.uint8)), 900),
                        (lambda: gpu.wait(mark), 900)):
        def record():
            gpu.upload(stream, memory.address, pinned.array)
            try:
                spoil()
            except (cuda.Error, BackendError) as error:
                assert f'error {code}' in str(error), error
        fails(lambda: gpu.capture(stream, record),
              'cuStreamEndCapture failed: simulated error 901')
    def raises():
        raise BackendError('no')
    assert refused(lambda: gpu.capture(stream, raises)) == 'no'
    end = gpu.event()
    def finish():
        gpu.record(stream, end)
        gpu.wait(end)
    # usable again
    graph = gpu.capture(stream, lambda: gpu.upload(stream, memory.address, pinned.array))
    pinned.array[:] = 5
    gpu.launch(graph)
    gpu.download(stream, pinned.array[50:], memory.address)
    finish()
    assert (pinned.array == 5).all()
    plain = gpu.capture(stream, lambda: gpu.record(stream, mark))
    gpu.launch(plain)
    finish()
    fails(lambda: mark.ms_since(mark), 'cuEventElapsedTime failed')  # no time inside a graph
    fails(lambda: mark.record(stream.handle, captured=True), 'cuEventRecordWithFlags failed')
    timed = gpu.capture(stream, lambda: gpu.record(stream, mark, captured=True))
    gpu.launch(timed)
    finish()
    assert mark.ms_since(mark) == 0
    for one in (graph, plain, timed):
        one.close()
gpu.close()
assert sim.counts()['live graphs'] == 0
""")


def test_the_legacy_stream_while_a_stream_is_captured():
    """Refused while a blocking stream is, which is spoiled; other streams are let alone."""
    run(RAW + """
from seg_node.gpu.graph import Driver, Graph
from threading import Thread
driver, small = Driver(), np.zeros(9, np.uint8)
table = cuda.mem_alloc(9)
for flags, words in ((0, 'error 906'), (1, 'copied')):
    one = cuda.Stream(flags)
    for in_thread in (False, True):
        said = []
        def record():
            cuda.memcpy_htod_async(device, host, one)
            if in_thread:  # PyCUDA's contexts are one thread's: through the driver
                handle = ctypes.c_void_p()
                driver.call('cuCtxGetCurrent', ctypes.byref(handle))
                def upload():
                    driver.call('cuCtxPushCurrent_v2', handle)
                    try:
                        driver.call('cuMemcpyHtoD_v2', ctypes.c_void_p(int(table)),
                                    ctypes.c_void_p(small.ctypes.data), ctypes.c_size_t(9))
                        said.append('copied')
                    except CudaError as error:
                        said.append(str(error))
                    driver.call('cuCtxPopCurrent_v2', ctypes.byref(ctypes.c_void_p()))
                thread = Thread(target=upload)
                thread.start()
                thread.join()
            else:
                try:
                    cuda.memset_d8_async(table, 0, 9)
                    said.append('copied')
                except cuda.Error as error:
                    said.append(str(error))
        if flags:
            Graph(driver, one.handle, record).close()
        else:
            fails(lambda: Graph(driver, one.handle, record), 'simulated error 901')
        assert words in said[0], (flags, in_thread, said)
    del one
del table
""" + RAW_END)


def test_the_legacy_stream_waits_for_blocking_streams_alone():
    run(RAW + """
small, table = np.zeros(9, np.uint8), cuda.mem_alloc(9)
for flags, there in ((0, True), (1, False)):
    one = cuda.Stream(flags)
    host[:] = 3 + flags
    cuda.memcpy_htod_async(device, host, one)
    cuda.memcpy_htod(table, small)
    host[:] = 0
    one.synchronize()
    back = np.zeros(1000, np.uint8)
    cuda.memcpy_dtoh(back, device)
    assert (back == (3 + flags if there else 0)).all()
    del one
del table
""" + RAW_END)


def test_events_between_streams():
    run(START + """
gpu = Gpu()
with gpu.active():
    first, second = gpu.stream(), gpu.stream()
    memory, pinned = gpu.allocate(100, 'a test'), gpu.pin(200, 'a test')
    mark = gpu.event(timed=False)
    other = gpu.event()
    gpu.record(first, other)
    def outside():
        gpu.hold(second, other)  # lies outside of the graph, and is no node of it
    text = refused(lambda: gpu.capture(second, outside))
    assert 'cuStreamWaitEvent failed: simulated error 905' in text, text
    fails(lambda: other.hold(first.handle, captured=True), 'simulated error 1 ')
    gpu.wait(other)
    fails(lambda: other.ms_since(mark), 'simulated error 400')  # an event without times
    # A replay waits for what the event recorded last before it was launched.
    up = gpu.capture(first, lambda: (gpu.upload(first, memory.address, pinned.array[:100]),
                                     gpu.record(first, mark, captured=True)))
    down = gpu.capture(second, lambda: (gpu.hold(second, mark, captured=True),
                                        gpu.download(second, pinned.array[100:], memory.address),
                                        gpu.record(second, other, captured=True)))
    for value in (1, 2, 3):
        pinned.array[:100] = value
        gpu.launch(up)
        gpu.launch(down)
        gpu.wait(other)
        assert (pinned.array[100:] == value).all()
    up.close()
    down.close()
    gpu.upload(first, memory.address, pinned.array[:100])
    gpu.free(memory)
    assert sim.counts()['freed in use'] == 1
gpu.close()
""")


def test_two_devices():
    """Numbers are the driver's; a stream, event or kernel of one is nothing to the other."""
    run(START + """
first, second = Gpu(0), Gpu(1)
assert (first.name, second.name) == ('simulated GPU', 'second simulated GPU')
with first.active():
    stream, mark, memory = first.stream(), first.event(), first.allocate(9, 'a test')
    pinned = first.pin(9, 'a test')
with second.active():
    for call in (lambda: second.upload(stream, memory.address, pinned.array),
                 lambda: second.clear(stream, memory.address, 9),
                 lambda: second.record(second.stream(), mark)):
        assert 'error 400' in refused(call)
assert 'nvidia-smi must list the GPU' in refused(lambda: Gpu(2))
first.close()
with second.active():
    second.allocate(9, 'a test')
second.close()
left = sim.counts()
assert not left['live device blocks'] and not left['live streams']
""", CUDASIM_DEVICES='2')


# The driver layer.

def test_page_locked_memory_is_given_back_by_whatever_thread_drops_it():
    """PyCUDA's own is not: it stays until the process ends."""
    run(START + """
from threading import Thread
gpu = Gpu()
held = []
def drop():
    held.clear()
def dropped():
    before = sim.counts()['live pinned blocks']
    thread = Thread(target=drop)
    thread.start()
    thread.join()
    return before - sim.counts()['live pinned blocks']
with gpu.active():
    held.append(cuda.pagelocked_empty(100, np.uint8))
assert dropped() == 0
with gpu.active():
    pinned = gpu.pin(100, 'a test')
    held.append(pinned.array[3:7])
    gpu.free(pinned)
assert sim.counts()['live pinned blocks'] == 2
assert dropped() == 1
with gpu.active():
    held.append(gpu.pin(100, 'a test').array)
gpu.close()
assert dropped() == 1  # when the GPU was closed long ago, too
""")


def test_nothing_is_freed_while_its_thread_captures():
    """Garbage is collected at any time; the driver refuses it then, and spoils the capture."""
    run(START + """
gpu = Gpu()
with gpu.active():
    stream, held, mark = gpu.stream(), [gpu.pin(100, 'a test')], gpu.event()
    gpu.free(held[0])
    arrays = [gpu.pin(100, 'a test').array]
    def record():
        gpu.record(stream, mark, captured=True)
        arrays.clear()
    gpu.free(list(gpu._owned.values())[-1])
    before = sim.counts()['live pinned blocks']
    gpu.capture(stream, record).close()
    assert before - sim.counts()['live pinned blocks'] == 1
gpu.close()
""")


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
