"""What takes part in a check: versions, the GPU, its clocks; and NVIDIA's memory checker."""

from importlib import metadata
import os
from pathlib import Path
import platform
import re
import shutil
import subprocess
import sys

from .. import __version__
from ..engines import nvcc
from ..errors import BackendError
from ..gpu import trt

_PACKAGES = ('numpy', 'opencv-python-headless', 'onnxruntime', 'onnxruntime-gpu', 'onnx', 'pycuda',
             'tensorrt-cu13', 'tensorrt-cu12', 'tensorrt-rtx-cu13')
#: What nvidia-smi is asked; as it names them, so that its help explains them.
_FACTS = ('name', 'driver_version', 'pstate', 'clocks.sm', 'clocks.max.sm', 'clocks.mem',
          'clocks.max.mem', 'temperature.gpu', 'power.draw', 'power.limit', 'utilization.gpu',
          'memory.used', 'memory.total')
_SECONDS = 20  # nvidia-smi takes a second on a machine with many GPUs
#: Each looks for one kind of mistake in kernels.
SANITIZERS = ('memcheck', 'initcheck', 'racecheck', 'synccheck')


def versions() -> dict[str, str]:
    """Return the versions of what is installed of all that takes part."""
    found = {'python': platform.python_version(), 'seg_node': __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    try:
        library = trt.load()
    except BackendError:
        pass
    else:  # from apt it is no package of pip
        found[library.name] = library.version
    try:
        found['nvcc'] = nvcc.release(nvcc.find_nvcc())
    except BackendError:
        pass
    gpu = trt.find_gpu()
    if gpu is not None:
        found['CUDA of the driver'] = gpu.driver
    return found


def machine(root: Path = Path('/')) -> dict[str, str]:
    """Return what machine this is: system, processor, and the board of a Jetson."""
    found = {'system': platform.platform(), 'processor': platform.machine(),
             'cores': str(len(os.sched_getaffinity(0)))}
    for name, path in (('jetson', 'etc/nv_tegra_release'),
                       ('board', 'proc/device-tree/model')):
        text = _read(root / path)
        if text:
            found[name] = text.splitlines()[0].strip('# \0')
    power = _said('nvpmodel', '-q')
    if power:
        found['power mode'] = ' '.join(power.split())
    return found


def clocks(number: int, root: Path = Path('/')) -> dict[str, str]:
    """Return how fast a GPU runs right now and what it uses, as far as the machine tells it."""
    text = _said('nvidia-smi', f'--id={number}', '--format=csv,noheader',
                 f'--query-gpu={",".join(_FACTS)}')
    values = [value.strip() for value in text.splitlines()[0].split(',')] if text else []
    if len(values) == len(_FACTS):
        found = {name: value for name, value in zip(_FACTS, values, strict=True)
                 if not re.search(r'N/A|Not Supported', value)}
    else:
        found = {}
    # On a Jetson nvidia-smi knows little; its GPU is a device with a frequency, in Hz.
    for folder in sorted((root / 'sys/class/devfreq').glob('*')):
        if re.search(r'gpu|ga10b|gv11b|gb10b', folder.name):
            for name in ('cur_freq', 'max_freq'):
                text = _read(folder / name)
                if text:
                    found[f'{folder.name} {name}'] = text.strip()
    return found


def sanitized(arguments: list[str], seconds: float = 300) -> dict[str, str]:
    """
    Return what each of compute-sanitizer's tools says of a run of ``gpu_check``.

    :param arguments: of ``gpu_check``.
    :returns: by tool ``''`` where it found nothing, else its last lines; empty without it.
    """
    program = shutil.which('compute-sanitizer')
    if program is None:
        try:
            beside = nvcc.find_nvcc().with_name('compute-sanitizer')
        except BackendError:
            return {}
        if not beside.exists():
            return {}
        program = str(beside)
    found = {}
    for tool in SANITIZERS:
        try:
            done = subprocess.run(
                [program, '--tool', tool, '--error-exitcode', '99', '--target-processes', 'all',
                 sys.executable, '-m', 'seg_node.tools.gpu_check', *arguments],
                capture_output=True, text=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired:
            found[tool] = f'did not end within {seconds:.0f} s'
            continue
        lines = (done.stdout + done.stderr).strip().splitlines()
        found[tool] = '' if done.returncode == 0 else (
            f'exit status {done.returncode}: ' + ' | '.join(lines[-6:]))
    return found


def _said(*command: str) -> str:
    """Return what a program says, '' where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS,
                              check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return done.stdout if done.returncode == 0 else ''


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8', errors='replace')
    except OSError:
        return ''
