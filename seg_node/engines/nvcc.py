"""
Compiles ``kernels.cu`` by the machine's own nvcc, for one compute capability.

The result is a cubin, machine code: the driver has nothing left to compile. PTX would need a
driver at least as new as the toolkit that wrote it, which a Jetson often lacks.
"""

from dataclasses import dataclass
import os
from pathlib import Path
import re
import shutil
import subprocess
import sysconfig
import tempfile

from ..errors import BackendError
from ..gpu import kernels

_USUAL = Path('/usr/local/cuda/bin/nvcc')

_KERNEL = re.compile(r"Compiling entry function '(\w+)' for '(sm_\w+)'")
_MEMORY = re.compile(r'(\d+) bytes stack frame, (\d+) bytes spill stores, '
                     r'(\d+) bytes spill loads')
_REGISTERS = re.compile(r'Used (\d+) registers')
_SHARED = re.compile(r'(\d+) bytes smem')


@dataclass(frozen=True)
class Usage:
    """
    What one kernel takes of the GPU.

    :ivar architecture: ``'sm_87'``.
    :ivar registers: of a thread.
    :ivar stack: bytes of a thread; so are the spills, registers kept in memory.
    :ivar shared: bytes of a block.
    """

    kernel: str
    architecture: str
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


@dataclass(frozen=True)
class Compiled:
    """Machine code for one architecture; what each kernel takes, () if nvcc's words are new."""

    cubin: bytes
    usage: tuple[Usage, ...]


def find_nvcc() -> Path:
    """
    Return the nvcc of CUDA_HOME, CUDA_PATH, PATH, /usr/local/cuda or pip, in this order.

    :raises BackendError: there is none.
    """
    homes = [os.environ.get('CUDA_HOME'), os.environ.get('CUDA_PATH')]
    in_path = shutil.which('nvcc')
    # The last are pip's packages of the toolkit (requirements/cuda13.txt).
    candidates = [*(Path(home, 'bin', 'nvcc') for home in homes if home),
                  *([Path(in_path)] if in_path else []), _USUAL,
                  *sorted(Path(sysconfig.get_path('purelib')).glob('nvidia/cu*/bin/nvcc'),
                          reverse=True)]
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    raise BackendError('nvcc was not found in CUDA_HOME, CUDA_PATH, PATH or /usr/local/cuda: '
                       'install the CUDA toolkit (docs/gpu.md has the packages of each '
                       'platform), or set CUDA_HOME to its folder')


def release(nvcc: Path) -> str:
    """
    Return the CUDA version of an nvcc, e.g. ``'12.6'``.

    :raises BackendError: it does not run, or does not say.
    """
    text = _run([str(nvcc), '--version'], 'tell its version')
    found = re.search(r'\brelease (\d+\.\d+)', text)
    if found is None:
        raise BackendError(f'{nvcc} does not tell its version: {text}')
    return found[1]


def offered(nvcc: Path) -> list[tuple[int, int]]:
    """Return the compute capabilities (major, minor) that this nvcc compiles for, ascending."""
    text = _run([str(nvcc), '--list-gpu-arch'], 'list its architectures')
    return sorted((int(major), int(minor))
                  for major, minor in re.findall(r'compute_(\d+)(\d)\b', text))


def compile_cubin(capability: tuple[int, int], folder: Path | None = None) -> bytes:
    """
    Return the kernels as a cubin.

    :param capability: compute capability (major, minor) of the GPU.
    :param folder: if given, the cubin is kept there, too, as ``kernels.cubin``.
    :raises BackendError: no nvcc, one that does not know the GPU, or one that fails; its words.
    """
    cubin = compile_kernels(capability).cubin
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f'kernels.cubin.{os.getpid()}'
        part.write_bytes(cubin)
        part.replace(folder / 'kernels.cubin')
    return cubin


def compile_kernels(capability: tuple[int, int]) -> Compiled:
    """Return the kernels compiled and what they take; see ``compile_cubin``."""
    return compile_source(kernels.SOURCE, capability)


def compile_source(source: Path, capability: tuple[int, int]) -> Compiled:
    """Return the kernels of a file compiled and what they take; see ``compile_cubin``."""
    nvcc = find_nvcc()
    known = offered(nvcc)
    if capability not in known:
        names = ', '.join(f'{major}.{minor}' for major, minor in known)
        raise BackendError(f'{nvcc} does not compile for compute capability {capability[0]}.'
                           f'{capability[1]}; it does for {names}. Install a CUDA toolkit that '
                           'knows this GPU, or point CUDA_HOME to it.')
    with tempfile.TemporaryDirectory(prefix='seg_node_nvcc_') as scratch:
        output = Path(scratch, 'kernels.cubin')
        architecture = f'sm_{capability[0]}{capability[1]}'
        text = _run([str(nvcc), *kernels.NVCC_FLAGS, f'-arch={architecture}', '-o', str(output),
                     str(source)], f'compile {source.name} for {architecture}')
        try:
            usage = tuple(resource_usage(text))
        except BackendError:  # only told, never needed: the machine code is good
            usage = ()
        return Compiled(output.read_bytes(), usage)


def resource_usage(text: str) -> list[Usage]:
    """
    Return what each kernel takes, read from the output of ``nvcc -Xptxas -v``.

    :raises BackendError: the text tells of a kernel in a form that is not known.
    """
    pieces = _KERNEL.split(text)[1:]
    return [_usage(*pieces[n:n + 3]) for n in range(0, len(pieces), 3)]


def _usage(kernel: str, architecture: str, text: str) -> Usage:
    memory, registers = _MEMORY.search(text), _REGISTERS.search(text)
    if memory is None or registers is None:
        raise BackendError(f'nvcc tells of kernel {kernel} in a form that is not known: '
                           f'{text.strip()}')
    shared = _SHARED.search(text)
    stack, stores, loads = (int(number) for number in memory.groups())
    return Usage(kernel, architecture, int(registers[1]), stack, stores, loads,
                 int(shared[1]) if shared else 0)


def _run(command: list[str], what: str) -> str:
    """Run nvcc and return what it says."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BackendError(f'{command[0]} cannot be run: {error}') from None
    output = (done.stdout + done.stderr).strip()
    if done.returncode:
        raise BackendError(f'{command[0]} could not {what} (exit status {done.returncode}):\n'
                           f'{output or "it said nothing"}')
    return output
