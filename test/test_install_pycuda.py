"""scripts/install_pycuda.py: finds the toolkit, says what is missing, and what it builds."""

import importlib.util
from pathlib import Path
import subprocess
import sys
import sysconfig
import zipfile

from gpu import simulated
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / 'scripts' / 'install_pycuda.py'
JETPACK_6 = '# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n'
JETPACK_7 = '# R39 (release), REVISION: 2.0, GCID: 40000000, BOARD: generic, EABI: aarch64\n'


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Return the script as a module, on a machine that has nothing of CUDA."""
    spec = importlib.util.spec_from_file_location('install_pycuda', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'JETSON', tmp_path / 'nv_tegra_release')
    monkeypatch.setattr(module, 'USUAL', tmp_path / 'usr_local')
    monkeypatch.setattr(module, 'driver_version', lambda: None)
    monkeypatch.setattr(module.sysconfig, 'get_path', lambda name: str(tmp_path / name))
    monkeypatch.setenv('PATH', str(tmp_path / 'path'))
    for name in ('CUDA_HOME', 'CUDA_PATH', 'CUDA_ROOT'):
        monkeypatch.delenv(name, raising=False)
    return module


def toolkit(folder, version=None, profiler=True, nvcc=True):
    """Make a toolkit: nvcc, and the headers of a version (12060) if one is given."""
    for name in ('bin', 'include'):
        (folder / name).mkdir(parents=True)
    if nvcc:
        (folder / 'bin' / 'nvcc').write_text('#!/bin/sh\n')
        (folder / 'bin' / 'nvcc').chmod(0o755)
    if version:
        (folder / 'include' / 'cuda.h').write_text(f'/* */\n#define CUDA_VERSION {version}\n')
        if profiler:
            (folder / 'include' / 'cudaProfiler.h').write_text('')
    return folder


def test_the_toolkit_that_was_named_comes_first(script, tmp_path, monkeypatch):
    usual = toolkit(tmp_path / 'usr_local' / 'cuda-12.6', 12060)
    assert script.find_toolkit() == (usual, (12, 6))
    by_pip = toolkit(tmp_path / 'purelib' / 'nvidia' / 'cu13', 13040)
    in_path = toolkit(tmp_path / 'apt', 12040)
    monkeypatch.setenv('PATH', str(in_path / 'bin'))
    assert script.find_toolkit() == (in_path, (12, 4))
    monkeypatch.setenv('CUDA_HOME', str(by_pip))
    assert script.find_toolkit() == (by_pip, (13, 4))
    assert script.find_toolkit(usual) == (usual, (12, 6))


def test_a_compiler_alone_is_passed_over_for_a_whole_toolkit(script, tmp_path, monkeypatch):
    """As /usr/local/bin/nvcc, a script that starts the real one."""
    monkeypatch.setenv('PATH', str(toolkit(tmp_path / 'wrapper') / 'bin'))
    whole = toolkit(tmp_path / 'usr_local' / 'cuda', 13000)
    assert script.find_toolkit() == (whole, (13, 0))


@pytest.mark.parametrize('jetson, driver, cuda, words', [
    # cuda-nvcc alone was installed: the packages with both headers are named
    (JETPACK_6, (12, 6), 'cuda-12.6', ['no include/cuda.h and no include/cudaProfiler.h',
                                       'cuda-cudart-dev-12-6', 'cuda-profiler-api-12-6']),
    (JETPACK_7, None, 'cuda-13.2', ['cuda-nvcc-13-2', 'On this Jetson']),
    (JETPACK_6, None, None, ['no CUDA toolkit was found', 'cuda-nvcc-12-6']),
    (JETPACK_7, None, None, ['cuda-nvcc-X-Y', 'X-Y as in']),
    ('', None, None, ['requirements/cuda13.txt', 'cuda-nvcc-13-0']),
    ('', (13, 0), None, ['requirements/cuda13.txt', 'cuda-nvcc-13-0']),
    ('', (12, 4), None, ["From NVIDIA's CUDA repository: ", 'cuda-cudart-dev-12-4']),
])
def test_what_is_missing_is_said_with_the_packages(script, tmp_path, monkeypatch, jetson, driver,
                                                   cuda, words):
    if jetson:
        script.JETSON.write_text(jetson)
    if cuda:
        toolkit(tmp_path / 'usr_local' / cuda)
    monkeypatch.setattr(script, 'driver_version', lambda: driver)
    with pytest.raises(script.Missing) as refusal:
        script.find_toolkit()
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert ('cuda13.txt' in str(refusal.value)) == ('requirements/cuda13.txt' in words)


def test_one_header_is_missing(script, tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_HOME', str(toolkit(tmp_path / 'home', 12080, profiler=False)))
    with pytest.raises(script.Missing, match='has no include/cudaProfiler.h. .*profiler-api-12-8'):
        script.find_toolkit()


def test_headers_newer_than_the_driver(script, tmp_path, monkeypatch):
    folder = toolkit(tmp_path / 'home', 13020)
    monkeypatch.setattr(script, 'driver_version', lambda: (12, 6))
    with pytest.raises(script.Missing) as refusal:
        script.check_driver(*script.find_toolkit(folder))
    assert all(word in str(refusal.value) for word in
               ('CUDA 13.2', 'CUDA 12.6', 'newer driver', 'cuda-nvcc-12-6'))
    monkeypatch.setattr(script, 'driver_version', lambda: (13, 0))
    script.check_driver(*script.find_toolkit(folder))  # of one generation: they fit


def test_no_compiler_and_no_headers_of_python(script, tmp_path):
    with pytest.raises(script.Missing) as refusal:
        script.check_compiler()
    version = f'python{sys.version_info[0]}.{sys.version_info[1]}-dev'
    assert str(refusal.value).endswith(f'sudo apt install g++ {version}')


def test_the_command_line(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, '--cuda', tmp_path, '--wheel', tmp_path],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(f'install_pycuda: {tmp_path} has no include/cuda.h')
    assert done.stderr.count('\n') == 1


def test_what_was_really_built(tmp_path):
    """The driver is linked, CURAND is not, and no folder but the interpreter's own is in it."""
    wheel, _ = simulated.pycuda_wheel()
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.startswith('pycuda/_driver')]
        library = Path(archive.extract(name, tmp_path))
    found = subprocess.run([simulated.tool('readelf'), '-d', library], capture_output=True,
                           text=True, check=True).stdout
    assert 'Shared library: [libcuda.so.1]' in found
    assert 'curand' not in found
    folders = {folder for line in found.splitlines() if 'RPATH' in line or 'RUNPATH' in line
               for folder in line.partition('[')[2].rstrip(']').split(':')}
    # An interpreter may have been built to give its own library folder to what it builds.
    assert folders <= {sysconfig.get_config_var('LIBDIR')}


@pytest.mark.parametrize('driver, said', [(True, ' and loads.'), (
    False, '; there is no driver to load it with.')])
def test_what_is_there_is_left_alone(driver, said):
    environment = simulated.environment()
    if not driver:
        del environment['LD_LIBRARY_PATH']
    done = subprocess.run([sys.executable, SCRIPT], env=environment, timeout=60,
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f'PyCUDA is installed{said}\n'), done.stderr
