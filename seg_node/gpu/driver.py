"""
The only importer of PyCUDA: one GPU with its context, its stream and its memory.

PyCUDA ends the whole process where a context is still current when its thread ends, and where an
object is destroyed while the driver refuses to make its context current. So the context is current
only inside ``Gpu.active``, everything is freed in there, and a context that the driver no longer
gives or takes is marked dead, after which PyCUDA frees nothing of it.

It is the primary context, the one TensorRT uses. It is retained once a process, as the CUDA
runtime does it: result arrays that outlive the segmenter stay readable.
"""

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
import importlib
import re
from threading import current_thread, get_ident
from typing import Any

import numpy as np

from ..errors import BackendError
from .graph import CudaError, Driver, Event, Graph
from .launch import Launch
from .trt import number_by_bus

_AGAIN = ('Configure the node again; if that fails, start it anew. A GPU that keeps failing says '
          'why in the kernel log (dmesg, lines with NVRM or Xid)')
# Errors after which the driver refuses this process for good, by number and by the driver's words.
_FOR_GOOD = re.compile(
    r'\b(?:error |\()(?:700|702|710|71[4-9])\b|illegal memory access|launch timed out|'
    r'device-side assert|hardware stack error|illegal instruction|misaligned address|'
    r'not supported on global/shared address space|invalid program counter|'
    r'unspecified launch failure')
_RESTART = ('The driver gives this process the GPU no more: restart the process. A GPU that keeps '
            'failing says why in the kernel log (dmesg, lines with NVRM or Xid)')
_DRIVER = 'nvidia-smi must list the GPU; if it does not, install the NVIDIA driver'
_MEMORY = ('Use a smaller max_batch or engine, or end what else uses the GPU (nvidia-smi lists '
           'it)')
_KERNELS = ('The kernels were compiled for another GPU or a newer CUDA: build the engine again on '
            'this machine with python -m seg_node.tools.build_engine --force')

# By number of the GPU; see above.
_contexts: dict[int, Any] = {}


class Memory:
    """
    Device memory.

    :ivar address: where it is.
    :ivar size: in bytes.
    """

    def __init__(self, allocation: Any, size: int) -> None:
        self._allocation = allocation
        self.address = int(allocation)
        self.size = size

    def free(self) -> None:
        """Give it back, while the context is current."""
        self._allocation = None


class Pinned:
    """
    Host memory that the GPU copies from and to at full speed.

    It is given back when the last array made of it is gone.

    :ivar array: (size,) uint8.
    :ivar address: where the GPU sees it, 0 unless it is mapped.
    """

    def __init__(self, array: np.ndarray, address: int) -> None:
        self.array = array
        self.address = address

    def free(self) -> None:
        """Let go of it, while the context is current."""
        self.array = np.empty(0, np.uint8)


class Module:
    """Compiled kernels, loaded."""

    def __init__(self, gpu: 'Gpu', module: Any) -> None:
        self._gpu = gpu
        self._module = module
        self._functions: dict[str, Any] = {}

    def launch(self, launch: Launch) -> None:
        """
        Put a launch into the GPU's stream.

        :raises BackendError: there is no such kernel, or the driver refuses the launch.
        """
        function = self._functions.get(launch.kernel)
        if function is None:
            with self._gpu.stage(f'finding kernel {launch.kernel}', _KERNELS):
                function = self._module.get_function(launch.kernel)
            function.prepare([f'{len(launch.parameters)}s'])
            self._functions[launch.kernel] = function
        with self._gpu.stage(f'launching kernel {launch.kernel}'):
            function.prepared_async_call(launch.grid, launch.block, self._gpu.raw_stream,
                                         launch.parameters)

    def free(self) -> None:
        """Unload, while the context is current."""
        self._functions.clear()
        self._module = None


class Gpu:
    """
    One NVIDIA GPU, used by the thread that made it.

    All methods but ``active``, ``take_over`` and ``close`` are called inside ``active``.

    :param number: of the GPU, as nvidia-smi counts them.
    :ivar name: as the driver gives it.
    :ivar compute_capability: major, minor.
    :ivar driver: the CUDA version the driver is made for, e.g. 12.6.
    :ivar integrated: whether host and GPU share one memory (Jetson), so that nothing is copied.
    :raises BackendError: no PyCUDA, no driver, no such GPU, or it gives no context.
    """

    def __init__(self, number: int = 0) -> None:
        self._cuda = _pycuda()
        self._owner, self._owner_name = get_ident(), current_thread().name
        self._owned: dict[int, Memory | Pinned | Module] = {}
        self._events: list[Event] = []
        self._closed = False
        with self.stage('finding the GPU', _DRIVER):
            self._cuda.init()
            device = self._cuda.Device(number)
            self.name: str = device.name()
            self.compute_capability: tuple[int, int] = device.compute_capability()
            version = self._cuda.get_driver_version()
            self.driver = f'{version // 1000}.{version % 1000 // 10}'
            self.integrated = bool(device.get_attribute(self._cuda.device_attribute.INTEGRATED))
            self._number = number
            if number not in _contexts:
                _contexts[number] = device.retain_primary_context()
            self._context = _contexts[number]
        self._calls = Driver()
        self.raw_stream: Any = None
        with self.active(), self.stage('creating a stream'):
            self.raw_stream = self._cuda.Stream()
            self.stream: int = self.raw_stream.handle

    @property
    def _alive(self) -> bool:
        return _contexts.get(self._number) is self._context

    @contextmanager
    def active(self) -> Iterator[None]:
        """
        Make the context current for the block.

        :raises BackendError: closed, not this thread's, or the driver does not give the context.
        """
        if self._closed:
            raise BackendError('the GPU was closed: configure the node again')
        if not self._alive:
            raise BackendError(f'the driver no longer gives the context of {self.name}. {_AGAIN}.')
        self.check_thread()
        with self.stage('making the context current'):
            self._context.push()
        try:
            yield
        finally:
            self._pop()

    def check_thread(self) -> None:
        """
        Refuse other threads than the owner.

        :raises BackendError: the calling thread is another.
        """
        if get_ident() != self._owner:
            raise BackendError(f'the GPU belongs to thread {self._owner_name!r} and was used in '
                               f'{current_thread().name!r}: one thread makes, uses and closes '
                               'it, or takes it over first')

    def take_over(self) -> None:
        """Make the calling thread the owner; the one before must not use it any more."""
        self._owner, self._owner_name = get_ident(), current_thread().name

    @contextmanager
    def stage(self, what: str, mend: str = _AGAIN) -> Iterator[None]:
        """Turn what CUDA reports in the block into a BackendError that says what was going on."""
        try:
            yield
        except (self._cuda.Error, CudaError) as error:
            if isinstance(error, self._cuda.MemoryError):
                mend = _MEMORY
            elif _FOR_GOOD.search(str(error)):
                mend = _RESTART
            # The traceback would keep PyCUDA's objects beyond ``active``: since Python 3.13 it is
            # part of a circle, by way of the generator's frame.
            told = str(error.with_traceback(None)).strip(' -')
            raise BackendError(f'GPU error while {what}: {told}. {mend}.') from None

    def allocate(self, size: int, what: str) -> Memory:
        """Return device memory; ``what`` it is for goes into the error."""
        with self.stage(f'allocating {_mib(size)} for {what}'):
            return self._own(Memory(self._cuda.mem_alloc(size), size))

    def pin(self, size: int, what: str) -> Pinned:
        """Return page-locked host memory, mapped where the GPU shares the memory."""
        flags = self._cuda.host_alloc_flags.DEVICEMAP if self.integrated else 0
        with self.stage(f'allocating {_mib(size)} of page-locked memory for {what}', _MEMORY):
            pinned = self._own(Pinned(self._cuda.pagelocked_empty(size, np.uint8,
                                                                  mem_flags=flags), 0))
            if self.integrated:
                pinned.address = int(pinned.array.base.get_device_pointer())
            return pinned

    def load(self, image: bytes, toolkit: str | None = None) -> Module:
        """Return the kernels of a cubin; ``toolkit`` that compiled it, e.g. 13.0, if known."""
        mend = _KERNELS
        if toolkit is not None and _release(toolkit) > _release(self.driver):
            mend = (f'The kernels were compiled by CUDA {toolkit}, the driver is made for CUDA '
                    f'{self.driver}: install a newer driver, or a toolkit of at most CUDA '
                    f'{self.driver}, set CUDA_HOME to it and build the engine again with '
                    'python -m seg_node.tools.build_engine --force')
        with self.stage('loading the kernels', mend):
            return self._own(Module(self, self._cuda.module_from_buffer(image)))

    def event(self) -> Event:
        """Return a new event, freed with the GPU."""
        with self.stage('creating an event'):
            self._events.append(Event(self._calls))
        return self._events[-1]

    def free(self, owned: Memory | Pinned | Module) -> None:
        """Free what this gave."""
        if self._owned.pop(id(owned), None) is not None:
            owned.free()

    def store(self, address: int, values: np.ndarray) -> None:
        """Copy bytes to the device and wait until they are there."""
        with self.stage('copying tables to the GPU'):
            self._cuda.memcpy_htod(address, values)

    def upload(self, address: int, values: np.ndarray) -> None:
        """Put a copy from page-locked memory to the device into the stream."""
        with self.stage('uploading images'):
            self._cuda.memcpy_htod_async(address, values, self.raw_stream)

    def download(self, values: np.ndarray, address: int) -> None:
        """Put a copy from the device to page-locked memory into the stream."""
        with self.stage('downloading results'):
            self._cuda.memcpy_dtoh_async(values, address, self.raw_stream)

    def clear(self, address: int, size: int) -> None:
        """Put the clearing of memory into the stream."""
        with self.stage('clearing the counters'):
            self._cuda.memset_d8_async(address, 0, size, self.raw_stream)

    def record(self, event: Event, captured: bool = False) -> None:
        """Put an event into the stream."""
        with self.stage('recording an event'):
            event.record(self.stream, captured)

    def wait(self, event: Event) -> None:
        """Wait until the stream has come to an event; errors of kernels show here."""
        with self.stage('running the kernels or the network'):
            event.wait()

    def capture(self, record: Callable[[], None]) -> Graph:
        """
        Return the work that ``record`` puts into the stream, as a graph.

        :raises CudaError: it cannot be captured; or what ``record`` raises.
        """
        return Graph(self._calls, self.stream, record)

    def launch(self, graph: Graph) -> None:
        """Put a graph into the stream."""
        with self.stage('launching a graph'):
            graph.launch()

    def close(self) -> None:
        """Free everything; never raises. Any thread may, once the owner no longer uses it."""
        if self._closed:
            return
        self.take_over()
        try:
            with self.active():
                self._free_all()
        except BackendError:  # the driver does not give the context, or not take it
            self._give_up()
            self._free_all()
        self._closed = True

    def _free_all(self) -> None:
        for event in self._events:
            try:
                event.close()
            except CudaError:
                pass
        self._events.clear()
        for owned in list(self._owned.values()):
            self.free(owned)
        self.raw_stream = None

    def _own(self, thing: Any) -> Any:
        self._owned[id(thing)] = thing
        return thing

    def _pop(self) -> None:
        for _ in range(2):
            try:
                self._cuda.Context.pop()
            except self._cuda.Error:
                continue
            return
        self._give_up()
        raise BackendError(f'the driver does not take back the context of {self.name}. {_AGAIN}.')

    def _give_up(self) -> None:
        """Mark the context dead: PyCUDA takes it off its stack and calls the driver no more."""
        if self._alive:
            try:  # or marking it would destroy the memory that results are views of
                self._calls.keep_primary_context(self._number)
            except CudaError:
                pass
            _contexts.pop(self._number).detach()


def _pycuda() -> Any:
    number_by_bus()
    try:
        # By name: no requirement of the package, only of machines with an NVIDIA GPU.
        return importlib.import_module('pycuda.driver')
    except ImportError as error:
        raise BackendError('backend tensorrt needs PyCUDA and the NVIDIA driver: pip install '
                           f'pycuda; {_DRIVER} ({error})') from error


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r'\d+', version))


def _mib(size: int) -> str:
    return f'{size / 2 ** 20:.1f} MiB'


@atexit.register
def _release_contexts() -> None:
    """Release the contexts in order: PyCUDA would use a call that primary contexts refuse."""
    while _contexts:
        _contexts.popitem()[1].detach()
