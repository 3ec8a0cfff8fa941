"""
The only importer of TensorRT: which library is there, its log, its devices, its engines.

``tensorrt`` (10.0 to 11.x, as JetPack and NVIDIA's images bring it) and ``tensorrt_rtx`` have one
API; the names that differ are looked up where they are used.

Values of the library are Any to a type checker. The aliases below say in a signature which class
is meant; the contract test reads them and checks every attribute against recorded bindings.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import ctypes
from dataclasses import dataclass, field
import importlib
from importlib import metadata
import json
import os
import re
from typing import Any, TypeAlias

import numpy as np

from ..errors import BackendError, ConfigError

Builder: TypeAlias = Any
IBuilderConfig: TypeAlias = Any
ICudaEngine: TypeAlias = Any
INetworkDefinition: TypeAlias = Any
IOptimizationProfile: TypeAlias = Any
ITensor: TypeAlias = Any
OnnxParser: TypeAlias = Any
Runtime: TypeAlias = Any

NAMES = ('tensorrt', 'tensorrt_rtx')
#: called with phase, its parent phase or None, steps done and steps in all
Progress = Callable[[str, str | None, int, int], None]

_INSTALL = ('On a Jetson TensorRT comes with JetPack (apt install python3-libnvinfer), elsewhere '
            "with NVIDIA's TensorRT images, or pip install tensorrt-cu13 (driver r580 or later), "
            'tensorrt-cu12 (drivers for CUDA 12). For GeForce and RTX cards: pip install '
            'tensorrt-rtx-cu13')
_OLD_DRIVER = 'CUDA driver version is insufficient'
# As pip knows the libraries: the name ends with the CUDA it is made for.
_VARIANTS = ('tensorrt-cu13', 'tensorrt-cu12', 'tensorrt-rtx-cu13', 'tensorrt-rtx-cu12')
_KEPT = 100  # messages of TensorRT: a node runs for weeks
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...
_TYPES = (('bf16', r'\bBF16\b|BFloat16'), ('fp16', r'\bFP16\b|\bHalf\b'),
          ('fp32', r'\bFP32\b|\bFloat\b'), ('fp8', r'\bFP8\b'), ('int8', r'\bInt8\b'),
          ('int32', r'\bInt32\b'), ('int64', r'\bInt64\b'))


@dataclass(frozen=True)
class Library:
    """
    A TensorRT that is installed.

    :ivar name: ``tensorrt`` or ``tensorrt_rtx``.
    :ivar module: the module itself.
    """

    name: str
    version: str
    module: Any = field(default=None, repr=False, compare=False)

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT-RTX, which builds without a GPU and compiles at the start."""
        return self.name == 'tensorrt_rtx'

    def __str__(self) -> str:
        return f'{self.name} {self.version}'


@dataclass(frozen=True)
class GpuInfo:
    """An NVIDIA GPU as the driver describes it; ``driver`` is its CUDA version, e.g. 12.6."""

    name: str
    compute_capability: tuple[int, int]
    driver: str


@dataclass(frozen=True)
class Loaded:
    """A deserialised engine with what must live as long as it."""

    engine: ICudaEngine
    runtime: Runtime
    log: Any


def load(name: str | None = None) -> Library:
    """
    Return the library asked for, or the first of ``NAMES`` that is installed.

    :raises ConfigError: there is no library of that name.
    :raises BackendError: it, or any, is not installed or cannot be loaded.
    """
    if name is not None and name not in NAMES:
        raise ConfigError(f'library {name!r} is unknown; allowed: {", ".join(NAMES)}')
    problems = []
    for candidate in NAMES if name is None else (name,):
        try:
            module = importlib.import_module(candidate)
        except (ImportError, OSError, RuntimeError) as error:  # a missing libnvinfer is any
            problems.append(f'{candidate}: {error}')
        else:
            return Library(candidate, module.__version__, module)
    raise BackendError(f'TensorRT cannot be loaded ({"; ".join(problems)}). {_INSTALL}')


def number_by_bus() -> None:
    """
    Let CUDA number the GPUs as nvidia-smi does, unless the environment says otherwise.

    By itself it counts the fastest first. Only heeded before the process first uses CUDA.
    """
    os.environ.setdefault('CUDA_DEVICE_ORDER', 'PCI_BUS_ID')


@contextmanager
def on_gpu(number: int) -> Iterator[None]:
    """
    Let TensorRT build and load on a GPU in this block: it takes the one whose context is current.

    The context stays for the rest of the process, as with the CUDA runtime.

    :raises BackendError: the driver does not give it.
    """
    number_by_bus()
    cuda = ctypes.CDLL('libcuda.so.1')
    device, context = ctypes.c_int(), ctypes.c_void_p()
    for name, arguments in (
            ('cuInit', (0,)), ('cuDeviceGet', (ctypes.byref(device), number)),
            ('cuDevicePrimaryCtxRetain', (ctypes.byref(context), device)),
            ('cuCtxPushCurrent_v2', (context,))):
        code = getattr(cuda, name)(*arguments)
        if code:
            raise BackendError(f'GPU {number} cannot be used: {name} failed with error {code}. '
                               'nvidia-smi must list it; end what else uses it, or start again')
    try:
        yield
    finally:
        cuda.cuCtxPopCurrent_v2(ctypes.byref(context))


def find_gpu(number: int = 0) -> GpuInfo | None:
    """
    Return a GPU by the number that nvidia-smi gives it, or None without a driver or such a GPU.

    Asked of the driver itself, as TensorRT's runtime crashes the process where there is none.
    """
    number_by_bus()
    try:
        cuda = ctypes.CDLL('libcuda.so.1')
    except OSError:
        return None
    device, count, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or count.value <= number:
        return None
    name = ctypes.create_string_buffer(256)
    capability = [ctypes.c_int(), ctypes.c_int()]
    failed = [cuda.cuDeviceGet(ctypes.byref(device), number),
              cuda.cuDeviceGetName(name, len(name), device),
              cuda.cuDriverGetVersion(ctypes.byref(version)),
              *(cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
                for value, attribute in zip(capability, (_MAJOR, _MINOR), strict=True))]
    if any(failed):
        raise BackendError('the CUDA driver has a GPU but does not describe it (errors '
                           f'{failed}): restart the machine, or install the driver again')
    major, minor = (value.value for value in capability)
    return GpuInfo(name.value.decode(), (major, minor),
               f'{version.value // 1000}.{version.value % 1000 // 10}')


def require_gpu(number: int = 0) -> GpuInfo:
    """
    Return a GPU by the number that nvidia-smi gives it.

    :raises BackendError: there is none of this number; how many there are.
    """
    gpu = find_gpu(number)
    if gpu is not None:
        return gpu
    there = next(n for n in range(number + 1) if find_gpu(n) is None)
    raise BackendError(f'there is no NVIDIA GPU number {number} here: ' + (
        f'nvidia-smi -L lists {there}, counted from 0. Give a smaller number.' if there else
        'nvidia-smi must list it. Install the driver, or use backend: onnxruntime.'))


def make_log(trt: Any) -> Any:
    """Return a logger for TensorRT that keeps what it says in ``errors`` and ``warnings``."""
    class Log(trt.ILogger):
        """Keeps errors and warnings; TensorRT itself only returns None when it fails."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: deque[str] = deque(maxlen=_KEPT)
            self.warnings: deque[str] = deque(maxlen=_KEPT)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(message)

    return Log()


def make_monitor(trt: Any, progress: Progress) -> Any:
    """
    Return a progress monitor that calls ``progress``, or None where the library has none.

    What ``progress`` raises cancels the build and is kept in ``error``: an exception must not
    travel through TensorRT.
    """
    base: Any = getattr(trt, 'IProgressMonitor', None)
    if base is None:
        return None

    class Monitor(base):
        """Passes on the phases of a build."""

        def __init__(self) -> None:
            super().__init__()
            self.error: BaseException | None = None
            self._phases: dict[str, tuple[str | None, int]] = {}

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._phases[name] = (parent, steps)
            self._tell(name, 0)

        def step_complete(self, name: str, step: int) -> bool:
            self._tell(name, step + 1)
            return self.error is None

        def phase_finish(self, name: str) -> None:
            self._tell(name, self._phases.get(name, (None, 0))[1])
            self._phases.pop(name, None)

        def _tell(self, name: str, done: int) -> None:
            try:
                parent, steps = self._phases.get(name, (None, 0))
                progress(name, parent, done, steps)
            except BaseException as error:  # Ctrl-C, too
                self.error = self.error or error

    return Monitor()


def reasons(log: Any) -> str:
    """
    Return what TensorRT said went wrong.

    Where it says that the driver is too old, with both versions and the mend; on a machine with no
    GPU it always says so, and that is left out.
    """
    said = list(dict.fromkeys(log.errors))
    if any(_OLD_DRIVER in message for message in said):
        gpu = find_gpu()
        if gpu is None:
            said = [message for message in said if _OLD_DRIVER not in message] or said
        else:
            said.append(_driver_mend(gpu.driver))
    return '; '.join(said) or 'it gave no reason'


def _driver_mend(driver: str) -> str:
    """Return what to do where the driver is older than TensorRT's CUDA."""
    cuda = 'a newer CUDA'
    for name in _VARIANTS:
        try:
            cuda = f'CUDA {name[-2:]} ({name} {metadata.version(name)})'
        except metadata.PackageNotFoundError:
            continue
        break
    return (f'the driver is made for CUDA {driver}, TensorRT for {cuda}: pip uninstall it and pip '
            f'install tensorrt-cu{driver.partition(".")[0]}, or install a newer driver (CUDA 13 '
            'needs r580 or later)')


def numpy_name(trt: Any, dtype: Any) -> str:
    """Return TensorRT's data type in numpy's words."""
    return np.dtype(trt.nptype(dtype)).name


def deserialise(library: Library, plan: bytes) -> Loaded:
    """
    Return the engine of a plan. A plan is executable code: verify it first (engine_cache).

    :raises BackendError: there is no GPU, or TensorRT refuses the plan.
    """
    if find_gpu() is None:
        raise BackendError('an engine cannot be loaded: there is no NVIDIA GPU, or its driver is '
                           'not installed (nvidia-smi must list it)')
    trt = library.module
    log = make_log(trt)
    runtime = trt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise BackendError(f'{library} refuses the plan: {reasons(log)}. Build it again on this '
                           'machine: python -m seg_node.tools.build_engine --force ...')
    return Loaded(engine, runtime, log)


def layer_report(library: Library, plan: bytes, name: str, shape: Sequence[int]) -> dict[str, Any]:
    """
    Return what an engine is made of: the inspector's text and a count of its layers by type.

    :param name: the input, which gets this shape: types of dynamic layers are unknown before.
    :raises BackendError: see ``deserialise``.
    """
    trt = library.module
    loaded = deserialise(library, plan)
    engine: ICudaEngine = loaded.engine
    context = engine.create_execution_context()
    if context is None or not context.set_input_shape(name, tuple(shape)):
        raise BackendError(f'{library} does not run the engine at shape {tuple(shape)}: '
                           f'{reasons(loaded.log)}')
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    layers = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON),
                        strict=False)  # names of layers may hold control characters
    return {'precisions': layer_types(layers), 'inspector': layers}


def layer_types(information: dict[str, Any]) -> dict[str, int]:
    """
    Return how many layers write each data type, from the inspector's JSON.

    A type that this does not know stands there as TensorRT calls it; layers without any (built
    without detailed profiling) count as ``unknown``.
    """
    counts: dict[str, int] = {}
    for layer in information.get('Layers', []):
        outputs = layer.get('Outputs', []) if isinstance(layer, dict) else []
        # 11.x splits the field in two.
        texts = [str(tensor.get('DataType') or tensor.get('Format/Datatype') or 'unknown')
                 for tensor in outputs if isinstance(tensor, dict)]
        for kind in sorted({_type_name(text) for text in texts}) or ['unknown']:
            counts[kind] = counts.get(kind, 0) + 1
    return counts


def _type_name(text: str) -> str:
    return next((name for name, pattern in _TYPES if re.search(pattern, text, re.IGNORECASE)),
                text)
