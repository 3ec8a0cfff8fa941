#!/usr/bin/env python3
"""
Build PyCUDA for the interpreter that runs this, and install it there.

PyCUDA comes as source alone. Left to itself its set-up takes the toolkit whose nvcc is first in
PATH (on a Jetson none is), and builds and links CURAND, which is not used here. Two headers of the
toolkit, a C++ compiler and Python's headers are all it needs; no GPU, no driver and no nvcc. What
is missing is said before anything is compiled, with the packages of this platform.

    python3 scripts/install_pycuda.py                          # the usual case
    python3 scripts/install_pycuda.py --break-system-packages  # other options go to pip
    python3 scripts/install_pycuda.py --wheel FOLDER           # build the wheel only
    python3 scripts/install_pycuda.py --from FOLDER            # no network: all lies there
"""

import argparse
import ctypes
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile

VERSION = '2026.1'
HEADERS = ('cuda.h', 'cudaProfiler.h')
JETSON = Path('/etc/nv_tegra_release')
USUAL = Path('/usr/local')


class Missing(Exception):
    """Something that the build needs is not here; the text says what and how to get it."""


def toolkits(given=None):
    """Yield the folders that may be a CUDA toolkit, those that were named first."""
    for folder in (given, *map(os.environ.get, ('CUDA_HOME', 'CUDA_PATH', 'CUDA_ROOT'))):
        if folder:
            yield Path(folder)
            if given:
                return
    nvcc = shutil.which('nvcc')
    if nvcc:
        yield Path(nvcc).resolve().parents[1]
    yield USUAL / 'cuda'
    yield from sorted(USUAL.glob('cuda-*'), reverse=True)
    # As pip's packages of the toolkit lay it out.
    yield from sorted(Path(sysconfig.get_path('purelib')).glob('nvidia/cu*'), reverse=True)


def find_toolkit(given=None):
    """
    Return the first toolkit that has the headers, and its CUDA version as (major, minor).

    :raises Missing: none has.
    """
    found = []
    for folder in dict.fromkeys(toolkits(given)):
        missing = [name for name in HEADERS if not (folder / 'include' / name).is_file()]
        if not missing:
            return folder, version_of(folder)
        if len(missing) < len(HEADERS) or (folder / 'bin' / 'nvcc').exists() or given:
            found.append((folder, missing))
    if not found:
        raise Missing(f'no CUDA toolkit was found in CUDA_HOME, PATH or {USUAL}/cuda. '
                      + packages(driver_version()))
    folder, missing = found[0]
    raise Missing(f'{folder} has no include/{" and no include/".join(missing)}. '
                  + packages(version_of(folder) or named(folder) or driver_version()))


def version_of(folder):
    """Return the CUDA version that a toolkit's cuda.h states, None without one."""
    header = folder / 'include' / 'cuda.h'
    text = header.read_text(errors='replace') if header.is_file() else ''
    stated = re.search(r'^#define\s+CUDA_VERSION\s+(\d+)', text, re.MULTILINE)
    return stated and (int(stated[1]) // 1000, int(stated[1]) % 1000 // 10)


def named(folder):
    """Return the version in the name of a toolkit's folder, as in cuda-12.6."""
    number = re.search(r'cuda-(\d+)\.(\d+)$', str(folder.resolve()))
    return number and (int(number[1]), int(number[2]))


def driver_version():
    """Return the CUDA version that the driver is made for, None without a driver."""
    try:
        driver = ctypes.CDLL('libcuda.so.1')
    except OSError:
        return None
    number = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(number)):
        return None
    return number.value // 1000, number.value % 1000 // 10


def packages(version):
    """Return what to install on this platform to get nvcc and the headers of a CUDA version."""
    release = re.search(r'# R(\d+)', JETSON.read_text()) if JETSON.is_file() else None
    if release and not version:
        version = (12, 6) if int(release[1]) <= 36 else None
    name = '{}-{}'.format(*version) if version else 'X-Y'
    apt = 'sudo apt install ' + ' '.join(
        f'{part}-{name}' for part in ('cuda-nvcc', 'cuda-cudart-dev', 'cuda-profiler-api'))
    if release:
        which = '' if version else ' (X-Y as in /usr/local/cuda-X.Y)'
        return f'On this Jetson: {apt}{which}'
    if version is None or version[0] >= 13:
        return (f'With pip: {sys.executable} -m pip install -r requirements/cuda13.txt; from '
                f"NVIDIA's CUDA repository: {apt.replace('X-Y', '13-0')}")
    return f"From NVIDIA's CUDA repository: {apt}"


def check_compiler():
    """
    Make sure that C++ against Python's headers can be compiled.

    :raises Missing: a compiler or the headers are not here.
    """
    missing = []
    if not shutil.which('g++'):
        missing.append(('a C++ compiler', 'g++'))
    if not Path(sysconfig.get_path('include'), 'Python.h').is_file():
        missing.append((f"Python's headers ({sysconfig.get_path('include')}/Python.h)",
                        f'python{sys.version_info[0]}.{sys.version_info[1]}-dev'))
    if missing:
        raise Missing(f'{" and ".join(what for what, _ in missing)} not found: sudo apt install '
                      + ' '.join(package for _, package in missing))


def check_driver(folder, version):
    """
    Refuse headers of a newer generation than the driver: what is built then cannot be loaded.

    :raises Missing: they are, and both versions.
    """
    driver = driver_version()
    if driver and version and version[0] > driver[0]:
        raise Missing('{} is CUDA {}.{}, the driver is made for CUDA {}.{}: PyCUDA built with it '
                      'could not be loaded. Install a newer driver, or set CUDA_HOME to a toolkit '
                      'of CUDA {}. {}'.format(folder, *version, *driver, driver[0],
                                              packages(driver)))


def build(cuda, target, sources=None):
    """
    Return the path of PyCUDA's wheel, built into a folder.

    It is linked with an empty library in the driver's place, so none is needed, nor the toolkit's
    stub of it, which is another package; the real one is found when it is loaded.

    :raises Missing: it does not compile; the end of what the compiler said.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='pycuda_') as scratch:
        scratch = Path(scratch)
        subprocess.run(['g++', '-shared', '-fPIC', '-Wl,-soname,libcuda.so.1', '-x', 'c++', '-',
                        '-o', scratch / 'libcuda.so'], input=b'int nothing;', check=True)
        (scratch / '.aksetup-defaults.py').write_text(
            f'CUDA_ROOT = {str(cuda)!r}\nCUDADRV_LIB_DIR = [{str(scratch)!r}]\n'
            'CUDA_ENABLE_CURAND = False\nCUDA_ENABLE_GL = False\n')
        home = Path.home()
        environment = {
            **os.environ, 'HOME': str(scratch), 'CUDA_ROOT': str(cuda),
            # The configuration of PyCUDA lies in HOME; that of pip stays where it is.
            'XDG_CONFIG_HOME': os.environ.get('XDG_CONFIG_HOME') or str(home / '.config'),
            'PIP_CACHE_DIR': os.environ.get('PIP_CACHE_DIR') or str(home / '.cache' / 'pip'),
            # The empty library has nothing that is asked for, and would be dropped as needless.
            'LDFLAGS': '-Wl,--no-as-needed',
            'PATH': f'{cuda / "bin"}{os.pathsep}{os.environ["PATH"]}'}
        done = subprocess.run(
            [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-binary', 'pycuda',
             *offline(sources), f'pycuda=={VERSION}', '-w', scratch / 'made'],
            env=environment, capture_output=True, text=True)
        made = list((scratch / 'made').glob('*.whl'))
        if done.returncode or not made:
            raise Missing(f'PyCUDA {VERSION} does not build with {cuda}:\n'
                          + '\n'.join((done.stdout + done.stderr).strip().splitlines()[-15:]))
        # Whole or not at all: another process may be looking for it.
        part = target / f'.{made[0].name}'
        shutil.copy(made[0], part)
        return part.replace(target / made[0].name)


def offline(sources):
    """Return pip's options for a folder that holds everything, () where there is none."""
    return () if sources is None else ('--no-index', '--no-build-isolation', '--find-links',
                                       str(Path(sources).resolve()))


def problem():
    """
    Return why PyCUDA cannot be used here, not installed or not loadable; '' = it can.

    Without a driver, as where an image is built, nothing can load it: it need only be there.
    """
    code = 'import importlib.metadata as m; m.version("pycuda")' + (
        '; import pycuda.driver' if driver_version() else '')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    return '' if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def install(wheel, sources, for_pip):
    """Install a wheel in place of any PyCUDA that is there, and what it needs."""
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', *offline(sources)[:1],
           *offline(sources)[2:], *for_pip, wheel]
    subprocess.run([*pip, '--force-reinstall', '--no-deps'], check=True)
    subprocess.run(pip, check=True)


def run(options, for_pip):
    """
    Do what the command line asks for; returns what was done.

    :raises Missing: something is not here, or PyCUDA does not load.
    """
    if not options.wheel and not options.force and not problem():
        return 'PyCUDA is installed' + (' and loads.' if driver_version() else
                                        '; there is no driver to load it with.')
    check_compiler()
    cuda, version = find_toolkit(options.cuda)
    check_driver(cuda, version)
    print('Building PyCUDA {} with the CUDA {}.{} of {}; takes some minutes ...'.format(
        VERSION, *version, cuda), flush=True)
    if options.wheel:
        return str(build(cuda, options.wheel, options.sources))
    with tempfile.TemporaryDirectory(prefix='pycuda_') as scratch:
        install(build(cuda, Path(scratch), options.sources), options.sources, for_pip)
    if left := problem():
        raise Missing(f'PyCUDA was installed but does not load: {left}')
    return 'PyCUDA is installed.' if driver_version() else (
        'PyCUDA is installed; without a driver here it could not be loaded.')


def main():
    """Run from the command line; 1 when something is missing."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cuda', metavar='FOLDER', help='the toolkit to build with')
    parser.add_argument('--wheel', type=Path, metavar='FOLDER',
                        help='put the wheel there and install nothing')
    parser.add_argument('--from', dest='sources', type=Path, metavar='FOLDER',
                        help="take PyCUDA's source, and what it needs, from there alone")
    parser.add_argument('--force', action='store_true', help='build it even if it is there')
    try:
        print(run(*parser.parse_known_args()))
    except (Missing, subprocess.CalledProcessError) as error:
        print(f'install_pycuda: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
