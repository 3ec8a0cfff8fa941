"""
Real PyCUDA on a machine without a GPU: builds the simulated driver and finds or builds PyCUDA.

All of it is kept in ``${XDG_CACHE_HOME:-~/.cache}/seg_node``; only the first run takes minutes.
"""

import fcntl
import hashlib
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile

from gpu import cpu_kernels
import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'seg_node'
PYCUDA = '2026.1'
FLAGS = ('-std=c++17', '-O2', '-Wall', '-Wextra', '-Werror', '-fPIC', '-shared')
# Why PyCUDA could not be built in this run: no test tries it again.
_reasons = []


def toolkit():
    """Return the folder of the CUDA toolkit, or skip the test."""
    nvcc = shutil.which('nvcc')
    places = [os.environ.get('CUDA_ROOT'), os.environ.get('CUDA_HOME'), '/usr/local/cuda',
              nvcc and Path(nvcc).resolve().parents[1]]
    for place in places:
        if place and Path(place, 'include', 'cuda.h').is_file():
            return Path(place)
    pytest.skip('needs cuda.h of the CUDA toolkit (set CUDA_ROOT to its folder)')


def tool(name):
    """Return the path of a program, or skip the test."""
    return shutil.which(name) or pytest.skip(f'needs {name} to build the simulated CUDA driver')


def pycuda_wheel():
    """
    Return PyCUDA's wheel for this interpreter, and the seconds that building it took now.

    Found, it took 0.
    """
    if _reasons:
        pytest.skip(_reasons[0])
    folder = CACHE / 'wheels'
    folder.mkdir(parents=True, exist_ok=True)
    tag = f'cp{sys.version_info.major}{sys.version_info.minor}'
    with open(folder / '.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = sorted(folder.glob(f'pycuda-{PYCUDA}-{tag}-*.whl'))
        if found:
            return found[-1], 0.0
        start = time.monotonic()
        _build_pycuda(folder)
        return next(folder.glob(f'pycuda-{PYCUDA}-{tag}-*.whl')), time.monotonic() - start


def _build_pycuda(folder):
    print(f'building PyCUDA {PYCUDA}, once: takes some minutes', file=sys.__stderr__, flush=True)
    made = subprocess.run(
        ['nice', '-n', '5', sys.executable, ROOT / 'scripts' / 'install_pycuda.py', '--cuda',
         toolkit(), '--wheel', folder], capture_output=True, text=True,
        env={**os.environ, 'PIP_CACHE_DIR': str(CACHE / 'pip')})
    if made.returncode:
        _reasons.append(made.stderr[-500:])
        pytest.skip(_reasons[0])


def pycuda_folder():
    """Return the folder with PyCUDA unpacked, for PYTHONPATH."""
    wheel, seconds = pycuda_wheel()
    if seconds:
        print(f'PyCUDA was built in {seconds:.0f} s', file=sys.__stderr__, flush=True)

    def unpack(folder):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return _made_once(wheel.stem, unpack)


def driver_folder():
    """Return the folder with the simulated libcuda.so.1, for LD_LIBRARY_PATH."""
    compiler, include = tool('g++'), toolkit() / 'include'
    source = HERE / 'cudasim.cpp'
    extension = next(pycuda_folder().glob('pycuda/_driver*.so'))
    key = _key(source.read_bytes(), (HERE / 'cudasim.hpp').read_bytes(), str(FLAGS),
               (include / 'cuda.h').read_bytes(), extension.name)

    def make(folder):
        simulator, rest = folder / 'cudasim.o', folder / 'rest.cpp'
        subprocess.run([compiler, *FLAGS[:-1], '-isystem', include, '-c', source, '-o', simulator],
                       check=True)
        # Whatever else PyCUDA links with is there, too, and says CUDA_ERROR_NOT_SUPPORTED.
        missing = (_symbols('-D', '--undefined-only', extension)
                   - _symbols('--defined-only', simulator))
        rest.write_text(''.join(f'extern "C" int {name}() {{ return 801; }}\n'
                                for name in sorted(missing)))
        subprocess.run([compiler, *FLAGS, '-Wl,-soname,libcuda.so.1', simulator, rest, '-ldl',
                        '-o', folder / 'libcuda.so.1'], check=True)
    return _made_once(f'cudasim_{key}', make)


def library(source):
    """Return a C++ file of this folder built as a shared library: a module's image."""
    path, compiler = HERE / source, tool('g++')

    def make(folder):
        subprocess.run([compiler, *FLAGS, path, '-o', folder / 'module.so'], check=True)
    return _made_once(f'{path.stem}_{_key(path.read_bytes(), str(FLAGS))}', make) / 'module.so'


def environment(**more):
    """Return the environment in which a process finds PyCUDA and the simulated driver."""
    paths = [pycuda_folder(), ROOT, HERE.parent, *_packages()]
    return {**os.environ, 'LD_LIBRARY_PATH': str(driver_folder()),
            'PYTHONPATH': os.pathsep.join(map(str, paths)), **more}


def run(script, *arguments, timeout=120, **more):
    """Run a script of this folder, or code, on the simulated driver; returns the process."""
    target = [HERE / script] if script.endswith('.py') else ['-c', script]
    return subprocess.run([sys.executable, *target, *map(str, arguments)], cwd=ROOT,
                          env=environment(**more), capture_output=True, text=True,
                          timeout=timeout)


def scenario(script, *arguments, **more):
    """
    Run a scenario of a worker on the kernels of this package; returns what it printed, as JSON.

    The process must end with 0, which an unordered end of PyCUDA is not.
    """
    result = run(script, *arguments, KERNELS=str(cpu_kernels.build(CACHE)),
                 STAND_IN=str(library('stand_in.cpp')), **more)
    assert result.returncode == 0, (result.returncode, result.stderr[-3000:])
    return json.loads(result.stdout)


def _packages():
    """Return where NumPy comes from, should this interpreter have it from PYTHONPATH alone."""
    own, where = Path(sysconfig.get_path('purelib')), Path(np.__file__).parents[1]
    return [] if where == own else [where]


def _symbols(*arguments):
    listed = subprocess.run([tool('nm'), *arguments], check=True, capture_output=True,
                            text=True).stdout
    return {line.split()[-1] for line in listed.splitlines() if line.split()[-1].startswith('cu')}


def _key(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b'\0')
    return digest.hexdigest()[:16]


def _made_once(name, make):
    """Return a folder of the cache, made whole or not at all."""
    target = CACHE / name
    if not target.is_dir():
        scratch = CACHE / f'.{name}.{os.getpid()}'
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        make(scratch)
        try:
            scratch.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(scratch)
    return target
