"""What a figure depends on beside the program: the machine and the libraries, for its report."""

from importlib.metadata import PackageNotFoundError, version
import json
import os
from pathlib import Path
import platform
import subprocess
from typing import Any

from ..devices import cpu
from ..errors import SegNodeError

_LIBRARIES = ('numpy', 'numba', 'opencv-python-headless', 'onnxruntime', 'openvino', 'rclpy',
              'tensorrt')
_GOVERNOR = Path('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor')
_PROFILE = Path('/sys/firmware/acpi/platform_profile')


def machine_facts() -> dict[str, object]:
    """
    Return processor, GPU, power mode, load and versions.

    ``load`` is how many tasks wanted a core on the mean of the last minute: figures of a machine
    that is wanted by others are not those of a quiet one.
    """
    return {'cpu': cpu.identity(), 'cores': cpu.cores(), 'gpu': _gpu(), 'power': _power(),
            'load': round(os.getloadavg()[0], 1), 'system': platform.platform(),
            'python': platform.python_version(), 'versions': _versions()}


def keep_figures(path: Path, **figures: object) -> None:
    """
    Put figures of this machine into its JSON file, in place of those of the same name.

    :raises SegNodeError: as ``kept_figures`` does.
    """
    text = json.dumps({**kept_figures(path), 'machine': machine_facts(), **figures}, indent=1)
    path.write_text(text + '\n', encoding='utf-8')


def kept_figures(path: Path) -> dict[str, Any]:
    """
    Return what a machine's JSON file holds until now; to be asked before anything is measured.

    :raises SegNodeError: there is no such folder, or the file holds something else, or figures of
        another processor.
    """
    if not path.absolute().parent.is_dir():
        raise SegNodeError(f'{path} cannot be written: there is no folder {path.parent}. Make it, '
                           'or name another file')
    if not path.exists():
        return {}
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
        before = kept['machine']['cpu']
    except (ValueError, KeyError, TypeError):
        raise SegNodeError(f'{path} does not hold the figures of a machine: name another '
                           'file') from None
    if before != cpu.identity():
        raise SegNodeError(f'{path} holds figures of {before}, this is {cpu.identity()}: name '
                           'another file')
    return kept


def _gpu() -> str:
    """Return the names and drivers of NVIDIA's GPUs, '' = none."""
    try:
        found = subprocess.run(
            ['nvidia-smi', '--query-gpu=name,driver_version,power.limit', '--format=csv,noheader'],
            capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ''
    return '; '.join(found.stdout.split('\n')[:-1])


def _power() -> str:
    """Return what the system says of its power mode, '' = nothing."""
    said = [path.read_text(encoding='utf-8').strip() for path in (_GOVERNOR, _PROFILE)
            if path.exists()]
    return ', '.join(said)


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
