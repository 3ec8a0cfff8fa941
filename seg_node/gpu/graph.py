"""
What PyCUDA lacks, through ctypes on the CUDA driver: events inside graphs, and CUDA graphs.

Everything here is called with the context pushed, in the thread that uses the GPU.
"""

from collections.abc import Callable
import ctypes
from threading import get_ident
from typing import Any

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on using CUDA
_BLOCKING = 1  # CU_EVENT_BLOCKING_SYNC: who waits for it sleeps, instead of burning a core
_UNTIMED = 2  # CU_EVENT_DISABLE_TIMING
# CU_EVENT_RECORD_EXTERNAL, CU_EVENT_WAIT_EXTERNAL: nodes of the graph, which at each replay record
# the event anew, with its time, or wait for what it recorded last.
_EXTERNAL = 1


class CudaError(Exception):
    """A driver call failed: ``<function> failed: <the driver's words> (<code>)``."""


class Driver:
    """
    The driver's library.

    :raises OSError: it is not installed.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL('libcuda.so.1')
        self._capturer = 0
        self._waiting: list[Callable[[], None]] = []

    def call(self, name: str, *arguments: Any) -> None:
        """
        Call a function of the driver.

        :raises CudaError: it returned an error.
        """
        code = getattr(self._library, name)(*arguments)
        if code:
            raise CudaError(f'{name} failed: {self._words(code)} ({code})')

    def capturing(self) -> None:
        """Say that this thread captures, until ``captured``: it must not free anything."""
        self._capturer = get_ident()

    def captured(self) -> None:
        """Say that it no longer does; what waited is done."""
        self._capturer = 0
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()

    def later(self, call: Callable[[], None]) -> bool:
        """Keep a call for later if this thread captures; return whether it does."""
        if self._capturer != get_ident():
            return False
        self._waiting.append(call)
        return True

    def keep_primary_context(self, number: int) -> None:
        """Retain the primary context of a GPU for the rest of the process."""
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call('cuDeviceGet', ctypes.byref(device), ctypes.c_int(number))
        self.call('cuDevicePrimaryCtxRetain', ctypes.byref(context), device)

    def _words(self, code: int) -> str:
        text = ctypes.c_char_p()
        self._library.cuGetErrorString(code, ctypes.byref(text))
        return (text.value or b'an error the driver does not know').decode()


class Event:
    """A mark in a stream that knows when the GPU came by."""

    def __init__(self, driver: Driver, timed: bool = True) -> None:
        self._driver = driver
        self._handle = ctypes.c_void_p()
        driver.call('cuEventCreate', ctypes.byref(self._handle),
                    ctypes.c_uint(_BLOCKING | (0 if timed else _UNTIMED)))

    def record(self, stream: int, captured: bool = False) -> None:
        """
        Put the mark behind everything the stream has to do.

        :param captured: the stream is being captured: the mark gets its time at each replay.
        """
        if captured:
            self._driver.call('cuEventRecordWithFlags', self._handle, ctypes.c_void_p(stream),
                              ctypes.c_uint(_EXTERNAL))
        else:
            self._driver.call('cuEventRecord', self._handle, ctypes.c_void_p(stream))

    def hold(self, stream: int, captured: bool = False) -> None:
        """
        Let a stream wait until the GPU has come by the last record, if there was one.

        :param captured: the stream is being captured: at each replay the last record is meant.
        """
        self._driver.call('cuStreamWaitEvent', ctypes.c_void_p(stream), self._handle,
                          ctypes.c_uint(_EXTERNAL if captured else 0))

    def wait(self) -> None:
        """Sleep until the GPU has come by."""
        self._driver.call('cuEventSynchronize', self._handle)

    def ms_since(self, earlier: 'Event') -> float:
        """Return the milliseconds between two marks that the GPU has passed."""
        ms = ctypes.c_float()
        self._driver.call('cuEventElapsedTime', ctypes.byref(ms), earlier._handle, self._handle)
        return ms.value

    def close(self) -> None:
        """Free it; to be called once."""
        self._driver.call('cuEventDestroy_v2', self._handle)


class Graph:
    """
    Work recorded once from a stream and replayed as a whole, at the addresses it was made with.

    :param record: puts the work into the stream; it must not allocate, wait or use another stream.
    :raises CudaError: the work cannot be captured; the stream is usable again.
    """

    def __init__(self, driver: Driver, stream: int, record: Callable[[], None]) -> None:
        self._driver = driver
        self._stream = ctypes.c_void_p(stream)
        self._executable = ctypes.c_void_p()
        graph = ctypes.c_void_p()
        driver.capturing()
        try:
            self._record(record, graph)
        finally:
            driver.captured()
        try:
            driver.call('cuGraphInstantiateWithFlags', ctypes.byref(self._executable), graph,
                        ctypes.c_ulonglong(0))
        finally:
            self._destroy('cuGraphDestroy', graph)

    def launch(self) -> None:
        """Put the recorded work into the stream."""
        self._driver.call('cuGraphLaunch', self._executable, self._stream)

    def close(self) -> None:
        """Free it; to be called once."""
        self._destroy('cuGraphExecDestroy', self._executable)

    def _record(self, record: Callable[[], None], graph: ctypes.c_void_p) -> None:
        self._driver.call('cuStreamBeginCapture_v2', self._stream, ctypes.c_int(_THREAD_LOCAL))
        try:
            record()
        except BaseException:
            self._abandon(graph)
            raise
        self._driver.call('cuStreamEndCapture', self._stream, ctypes.byref(graph))

    def _abandon(self, graph: ctypes.c_void_p) -> None:
        """End a capture that failed, or the stream would stay unusable."""
        try:
            self._driver.call('cuStreamEndCapture', self._stream, ctypes.byref(graph))
        except CudaError:
            return  # the driver gives no graph for a spoiled capture
        self._destroy('cuGraphDestroy', graph)

    def _destroy(self, name: str, handle: ctypes.c_void_p) -> None:
        try:
            self._driver.call(name, handle)
        except CudaError:
            pass  # a few host bytes stay behind; nothing that was computed depends on them
