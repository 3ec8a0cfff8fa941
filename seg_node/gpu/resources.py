"""What a GPU gives: memory, streams, kernels. All are freed while its context is current."""

from collections.abc import Callable
import ctypes
from typing import Any
import weakref

import numpy as np

from .graph import CudaError, Driver
from .launch import Launch

_DEVICEMAP = 2  # CU_MEMHOSTALLOC_DEVICEMAP


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
    Page-locked host memory, which the GPU copies from and to at full speed.

    It is given back when the last array made of it is gone, in whatever thread that is. (PyCUDA's
    own is not: dropped in another thread than it was made in, it stays for ever.)

    :param mapped: the GPU is to see it, too.
    :param alive: tells whether the context is still to be used.
    :ivar array: (size,) uint8.
    :ivar address: where the GPU sees it, 0 unless it is mapped.
    :raises CudaError: there is none.
    """

    def __init__(self, calls: Driver, size: int, mapped: bool,
                 alive: Callable[[], bool]) -> None:
        context, host = ctypes.c_void_p(), ctypes.c_void_p()
        calls.call('cuCtxGetCurrent', ctypes.byref(context))
        calls.call('cuMemHostAlloc', ctypes.byref(host), ctypes.c_size_t(size),
                   ctypes.c_uint(_DEVICEMAP * mapped))
        block = (ctypes.c_ubyte * size).from_address(host.value or 0)
        # At the end of the process it goes with all else.
        weakref.finalize(block, _give_back, calls, context, host, alive).atexit = False
        self.array = np.frombuffer(memoryview(block), np.uint8)
        self.address = 0
        if mapped:
            address = ctypes.c_ulonglong()
            calls.call('cuMemHostGetDevicePointer_v2', ctypes.byref(address), host,
                       ctypes.c_uint(0))
            self.address = address.value

    def free(self) -> None:
        """Let go of it."""
        self.array = np.empty(0, np.uint8)


def _give_back(calls: Driver, context: ctypes.c_void_p, host: ctypes.c_void_p,
               alive: Callable[[], bool]) -> None:
    if calls.later(lambda: _give_back(calls, context, host, alive)) or not alive():
        return
    try:
        calls.call('cuCtxPushCurrent_v2', context)
    except CudaError:
        return
    try:
        calls.call('cuMemFreeHost', host)
    except CudaError:
        pass  # it stays until the process ends; nothing reads it any more
    finally:
        _pop(calls)


def _pop(calls: Driver) -> None:
    for _ in range(2):
        try:
            calls.call('cuCtxPopCurrent_v2', ctypes.byref(ctypes.c_void_p()))
        except CudaError:
            continue
        return


class Stream:
    """
    What the GPU does one after the other.

    It has nothing to do with the legacy stream (``CU_STREAM_NON_BLOCKING``): neither waits for
    the other, and copies of other segmenters may go on while it is captured.

    :ivar handle: as the driver knows it.
    :ivar raw: as PyCUDA knows it.
    """

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.handle: int = raw.handle

    def free(self) -> None:
        """Destroy it, while the context is current."""
        self.raw = None


class Module:
    """
    Compiled kernels, loaded.

    :param find: returns the function of a name, ready to be called.
    :param call: puts a launch of a function into a stream.
    """

    def __init__(self, module: Any, find: Callable[[Any, Launch], Any],
                 call: Callable[[Any, Launch, Stream], None]) -> None:
        self._module = module
        self._find, self._call = find, call
        self._functions: dict[str, Any] = {}

    def launch(self, launch: Launch, stream: Stream) -> None:
        """
        Put a launch into a stream.

        :raises BackendError: there is no such kernel, or the driver refuses the launch.
        """
        function = self._functions.get(launch.kernel)
        if function is None:
            function = self._functions[launch.kernel] = self._find(self._module, launch)
        self._call(function, launch, stream)

    def free(self) -> None:
        """Unload, while the context is current."""
        self._functions.clear()
        self._module = None


Owned = Memory | Pinned | Stream | Module
