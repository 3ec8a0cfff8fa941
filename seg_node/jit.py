"""Compilation of loops by Numba, kept from run to run wherever that is possible."""

from collections.abc import Callable
from typing import Any

import numba


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """
    Return a decorator that compiles a function at its first call, without the GIL.

    Numba keeps it in ``NUMBA_CACHE_DIR``, else beside the file, else in the user's cache. Where
    none can be written it is compiled at each start, instead of ending the program.
    """
    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # no folder for the cache
            return numba.njit(nogil=True, **options)(function)
    return decorate


def inner(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator for what only compiled code calls: half the wrappers, half the wait."""
    return numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)
