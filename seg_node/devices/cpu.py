"""What the processor can do, and how much of it this process may use."""

from functools import lru_cache
import hashlib
import os
from pathlib import Path

_CPUINFO = Path('/proc/cpuinfo')
_QUOTA = Path('/sys/fs/cgroup/cpu.max')
# x86 names it flags, arm64 Features; both what a core is called by.
_LINES = ('model name', 'flags', 'Features', 'CPU implementer', 'CPU part')
_INT8_DOT_PRODUCT = {'avx512_vnni', 'avx_vnni', 'asimddp', 'i8mm'}


def cores() -> int:
    """Return how many cores this process may use: its affinity, its container's quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # only Linux has it
        count = os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        count = min(count, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no container, or no quota ('max')
        pass
    return count


@lru_cache
def identity() -> str:
    """Return the processor's name and a digest of its abilities; equal ones compute alike."""
    lines = _description()
    digest = hashlib.sha256('\n'.join(sorted(lines)).encode()).hexdigest()[:12]
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return f'{names[0] if names else os.uname().machine} {digest}'


@lru_cache
def has_int8_dot_product() -> bool:
    """Return whether int8 is faster than float32 here: VNNI, or Arm's dot product."""
    words = {word for line in _description() for word in line.split()}
    return bool(words & _INT8_DOT_PRODUCT)


def _description() -> set[str]:
    """Return what is said of the kinds of cores, once each."""
    try:
        lines = _CPUINFO.read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError:
        return set()
    return {line for line in lines if line.startswith(_LINES)}
