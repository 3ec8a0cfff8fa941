"""
The only importer of PyCUDA: one GPU with its context, and what is put into its streams.

PyCUDA ends the whole process where a context is still current when its thread ends, and where an
object is destroyed while the driver refuses to make its context current. So the context is current
only inside ``Gpu.active``, everything is freed in there, and a context that the driver no longer
gives or takes is marked dead, after which PyCUDA frees nothing of it.

It is the primary context, the one TensorRT uses. It is retained once a process, as the CUDA
runtime does it: result arrays that outlive the segmenter stay readable.
"""

import atexit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import importlib
from threading import current_thread, get_ident
from typing import Any

import numpy as np

from ..errors import BackendError
from . import complaints
from .graph import CudaError, Driver, Event, Graph
from .launch import Launch
from .resources import Memory, Module, Owned, Pinned, Stream
from .trt import number_by_bus

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING

# By number of the GPU; see above.
_contexts: dict[int, Any] = {}


class Gpu:
    """
    One NVIDIA GPU, used by the thread that made it.

    All methods but ``active``, ``take_over`` and ``close`` are called inside ``active``.

    :param number: of the GPU, as nvidia-smi counts them.
    :ivar name: as the driver gives it.
    :ivar compute_capability: major, minor.
    :ivar driver: the CUDA version the driver is made for, e.g. 12.6.
    :ivar integrated: whether host and GPU share one memory (Jetson).
    :raises BackendError: no PyCUDA, no driver, no such GPU, or it gives no context.
    """

    def __init__(self, number: int = 0) -> None:
        self._cuda = _pycuda()
        self._owner, self._owner_name = get_ident(), current_thread().name
        self._owned: dict[int, Owned] = {}
        self._events: list[Event] = []
        self._closed = False
        with self.stage('finding the GPU', complaints.DRIVER):
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
            raise BackendError(f'the driver no longer gives the context of {self.name}. '
                               f'{complaints.AGAIN}.')
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
    def stage(self, what: str, mend: str = complaints.AGAIN) -> Iterator[None]:
        """Turn what CUDA reports in the block into a BackendError that says what was going on."""
        try:
            yield
        except (self._cuda.Error, CudaError) as error:
            if isinstance(error, self._cuda.MemoryError):
                mend = complaints.MEMORY
            # The traceback would keep PyCUDA's objects beyond ``active``: since Python 3.13 it is
            # part of a circle, by way of the generator's frame.
            told = complaints.complaint(what, error.with_traceback(None), mend)
            raise BackendError(told) from None

    def allocate(self, size: int, what: str) -> Memory:
        """Return device memory; ``what`` it is for goes into the error."""
        with self.stage(f'allocating {_mib(size)} for {what}'):
            return self._own(Memory(self._cuda.mem_alloc(size), size))

    def pin(self, size: int, what: str) -> Pinned:
        """Return page-locked host memory, mapped where the GPU shares the memory."""
        with self.stage(f'allocating {_mib(size)} of page-locked memory for {what}',
                        complaints.MEMORY):
            return self._own(Pinned(self._calls, size, self.integrated, self._is_alive()))

    def stream(self) -> Stream:
        """Return a new stream."""
        with self.stage('creating a stream'):
            return self._own(Stream(self._cuda.Stream(_NON_BLOCKING)))

    def stream_of(self, handle: int) -> Stream:
        """Return this GPU's stream of a handle, for networks that launch kernels themselves."""
        return next(owned for owned in self._owned.values()
                    if isinstance(owned, Stream) and owned.handle == handle)

    def load(self, image: bytes, toolkit: str | None = None) -> Module:
        """Return the kernels of a cubin; ``toolkit`` that compiled it, e.g. 13.0, if known."""
        newer = complaints.newer_toolkit(toolkit, self.driver) if toolkit is not None else ''
        with self.stage('loading the kernels', newer or complaints.KERNELS):
            return self._own(Module(self._cuda.module_from_buffer(image), self._function,
                                    self._put))

    def event(self, timed: bool = True) -> Event:
        """Return a new event, freed with the GPU; ``timed``: it knows when it was passed."""
        with self.stage('creating an event'):
            self._events.append(Event(self._calls, timed))
        return self._events[-1]

    def free(self, owned: Owned) -> None:
        """Free what this gave."""
        if self._owned.pop(id(owned), None) is not None:
            owned.free()

    def store(self, address: int, values: np.ndarray) -> None:
        """Copy bytes to memory that no stream uses yet, and wait until they are there."""
        with self.stage('copying tables to the GPU'):
            self._cuda.memcpy_htod(address, values)

    def upload(self, stream: Stream, address: int, values: np.ndarray) -> None:
        """Put a copy from page-locked memory to the device into a stream."""
        with self.stage('uploading images'):
            self._cuda.memcpy_htod_async(address, values, stream.raw)

    def download(self, stream: Stream, values: np.ndarray, address: int) -> None:
        """Put a copy from the device to page-locked memory into a stream."""
        with self.stage('downloading results'):
            self._cuda.memcpy_dtoh_async(values, address, stream.raw)

    def clear(self, stream: Stream, address: int, size: int) -> None:
        """Put the clearing of memory into a stream."""
        with self.stage('clearing memory'):
            self._cuda.memset_d8_async(address, 0, size, stream.raw)

    def record(self, stream: Stream, event: Event, captured: bool = False) -> None:
        """Put an event into a stream."""
        with self.stage('recording an event'):
            event.record(stream.handle, captured)

    def hold(self, stream: Stream, event: Event, captured: bool = False) -> None:
        """Let all that comes later in a stream wait for the event's last record."""
        with self.stage('ordering two streams'):
            event.hold(stream.handle, captured)

    def wait(self, event: Event) -> None:
        """Wait until its stream has come to an event; errors of kernels show here."""
        with self.stage('running the kernels or the network'):
            event.wait()

    def capture(self, stream: Stream, record: Callable[[], None]) -> Graph:
        """
        Return the work that ``record`` puts into a stream, as a graph.

        :raises CudaError: it cannot be captured; or what ``record`` raises.
        """
        return Graph(self._calls, stream.handle, record)

    def launch(self, graph: Graph) -> None:
        """Put a graph into the stream that it was captured from."""
        with self.stage('launching a graph'):
            graph.launch()

    def drain(self, streams: Sequence[Stream] = ()) -> None:
        """
        Wait until streams are done, all of this GPU unless told which.

        :raises BackendError: one of them has failed.
        """
        for stream in streams or [owned for owned in self._owned.values()
                                  if isinstance(owned, Stream)]:
            with self.stage('waiting for the streams'):
                stream.raw.synchronize()

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

    def _function(self, module: Any, launch: Launch) -> Any:
        with self.stage(f'finding kernel {launch.kernel}', complaints.KERNELS):
            function = module.get_function(launch.kernel)
        function.prepare([f'{len(launch.parameters)}s'])
        return function

    def _put(self, function: Any, launch: Launch, stream: Stream) -> None:
        with self.stage(f'launching kernel {launch.kernel}'):
            function.prepared_async_call(launch.grid, launch.block, stream.raw,
                                         launch.parameters)

    def _is_alive(self) -> Callable[[], bool]:
        """Return what tells so without keeping this alive."""
        number, context = self._number, self._context
        return lambda: _contexts.get(number) is context

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
        raise BackendError(f'the driver does not take back the context of {self.name}. '
                               f'{complaints.AGAIN}.')

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
                           f'pycuda; {complaints.DRIVER} ({error})') from error


def _mib(size: int) -> str:
    return f'{size / 2 ** 20:.1f} MiB'


@atexit.register
def _release_contexts() -> None:
    """Release the contexts in order: PyCUDA would use a call that primary contexts refuse."""
    while _contexts:
        _contexts.popitem()[1].detach()
