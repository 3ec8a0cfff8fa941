"""Child processes that end when their parent does, in whatever way that ends."""

from collections.abc import Callable
import ctypes
from functools import partial
import os

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def end_with_parent(number: int) -> Callable[[], None]:
    """
    Return what a child of this process is to call before its program starts (``preexec_fn``).

    It then gets a signal when the thread that started it ends.
    """
    return partial(_end_with, os.getpid(), number)


def _end_with(parent: int, number: int) -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # which has ended already
        os._exit(1)
