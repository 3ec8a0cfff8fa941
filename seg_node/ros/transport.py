"""What a process must set before rclpy starts so that camera images survive the transport."""

from collections.abc import Iterable
import ctypes
import os
from pathlib import Path
import sys

from ..paths import shared

PROFILE = ('config', 'fastdds_shm.xml')
# Fast DDS 3 (Kilted and later) reads the first; Fast DDS 2 (Jazzy and before) only the second,
# at which Kilted warns of a deprecated variable.
_VARIABLES = {'libfastdds': 'FASTDDS_DEFAULT_PROFILES_FILE',
              'libfastrtps': 'FASTRTPS_DEFAULT_PROFILES_FILE'}
TRANSPORTS = 'FASTDDS_BUILTIN_TRANSPORTS'
# Fast DDS reads these from the working directory by itself.
_LOCAL_PROFILES = ('DEFAULT_FASTDDS_PROFILES.xml', 'DEFAULT_FASTRTPS_PROFILES.xml')

# mallopt parameters of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_MALLOPT = ((_M_MMAP_THRESHOLD, 64 << 20), (_M_TRIM_THRESHOLD, 512 << 20),
            (_M_TOP_PAD, 64 << 20), (_M_ARENA_MAX, 1))


def apply_transport_environment() -> str:
    """
    Prepare this process for large messages; call it before ``rclpy.init``.

    Fast DDS gets the shipped profile, unless the user configured its transports, and glibc is
    told to keep image buffers instead of returning each to the kernel. Other middlewares ignore
    the profile, other C libraries have no such switch.

    :returns: one line that says what was done, for the log and the diagnostics.
    :raises ConfigError: when the profile is missing in this installation.
    """
    memory = 'glibc keeps freed buffers' if keep_buffers() else 'malloc as it is'
    return f'{_select_profile()}; {memory}'


def _select_profile() -> str:
    for name in (TRANSPORTS, *_VARIABLES.values()):
        if os.environ.get(name):
            return f'{name}={os.environ[name]} (from the environment)'
    for file in _LOCAL_PROFILES:
        if Path(file).exists():
            return f'Fast DDS profile {Path(file).resolve()} (in the working directory)'
    profile = str(shared(*PROFILE))
    for name in profile_variables():
        os.environ[name] = profile
    return f'Fast DDS profile {profile}'


def profile_in_force() -> Path | None:
    """Return the profile that Fast DDS takes, as far as it can be known; None = its defaults."""
    for name in profile_variables():
        if os.environ.get(name):
            return Path(os.environ[name])
    return next((Path(file) for file in _LOCAL_PROFILES if Path(file).exists()), None)


def profile_variables() -> list[str]:
    """Return the variables by which the installed Fast DDS finds a profile."""
    found = [variable for library, variable in _VARIABLES.items()
             if any(any(folder.glob(f'{library}.so*')) for folder in _library_folders())]
    return found or list(_VARIABLES.values())


def _library_folders() -> Iterable[Path]:
    """Yield where ROS libraries lie: the wheels' environment, the sourced workspaces."""
    yield Path(sys.prefix) / 'lib'
    for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep):
        if prefix:
            yield Path(prefix) / 'lib'
    for folder in os.environ.get('LD_LIBRARY_PATH', '').split(os.pathsep):
        if folder:
            yield Path(folder)


def keep_buffers() -> bool:
    """
    Let glibc reuse the memory of images instead of unmapping it after each one.

    Fetching megabytes from the kernel page by page for every message takes longer than filling
    them. Returns whether this C library has the switch.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 (other libraries' mallopt has other parameters)
        results = [libc.mallopt(parameter, value) for parameter, value in _MALLOPT]
    except (AttributeError, OSError, TypeError):
        return False
    return all(results)
