"""
ONNX -> engine: one way for TensorRT 10.0 to 11.x and TensorRT-RTX.

The types are those of the ONNX file (``precision.for_engine``) and the network is strongly typed,
so no flag decides at build time in which precision a layer computes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
import hashlib
import json
from pathlib import Path
import tempfile
import time
from typing import Any

from ..errors import BackendError, brief, ConfigError
from ..gpu import trt as tensorrt
from ..gpu.engine_cache import (
    build_command,
    CUBIN,
    EngineCache,
    LAYERS,
    open_entry,
    PLAN,
    read_manifest,
    VerifiedEngine,
)
from ..gpu.engine_manifest import builder_flags, EngineKey, Manifest, OptimizationProfile
from ..gpu.forms import FORMS, SCORES
from ..gpu.kernels import source_hash
from ..gpu.trt import (
    Builder,
    GpuInfo,
    IBuilderConfig,
    INetworkDefinition,
    IOptimizationProfile,
    ITensor,
    Library,
    OnnxParser,
    Progress,
)
from ..model.card import ModelCard
from .precision import for_engine

WORKSPACE_MIB = 1024
# By numpy's name of a type, the formats that TensorRT has for it.
_FORMATS = {'float32': ('LINEAR', 'HWC'), 'float16': ('LINEAR', 'HWC8', 'CHW2', 'CHW4')}
_OPTIONS = {'N': 'batch', 'C': 'model', 'H': 'size', 'W': 'size'}


@dataclass(frozen=True)
class BuildOptions:
    """
    The engine to build.

    :ivar target: compute capability to build for (8, 9); None: the GPU's.
    :ivar calibration: images, for int8.
    :ivar force: build it again where it is there.
    """

    precision: str
    profile: OptimizationProfile
    target: tuple[int, int] | None = None
    workspace_mib: int = WORKSPACE_MIB
    calibration: tuple[Path, ...] = ()
    force: bool = False


@dataclass(frozen=True)
class Plan:
    """A built engine: its serialised form, and what was learned while building it."""

    content: bytes
    seconds: float
    tensors: list[dict[str, Any]]
    timings: bytes
    warnings: list[str]


def build(card: ModelCard, order: BuildOptions, *, library: Library, cache: EngineCache,
          gpu: GpuInfo | None, command: str, progress: Progress | None = None,
          ) -> tuple[VerifiedEngine, bool]:
    """
    Return the engine from the cache, built now if it is not there or ``force`` is set.

    :param gpu: the GPU of this machine, if it has one.
    :param command: the command line, for the manifest.
    :returns: the entry, and whether it was built now.
    :raises ConfigError: the order cannot be fulfilled for this model, library or machine.
    :raises BackendError: a conversion or TensorRT fails, with TensorRT's own words.
    """
    capability = _capability(order, library, gpu)
    key = EngineKey(
        card.sha256, library.name, library.version,
        gpu.name if gpu is not None and order.target is None else None,
        '{}.{}'.format(*capability), order.precision, order.profile,
        builder_flags(order.precision), order.workspace_mib, source_hash())
    again = build_command(card.directory, order.precision, order.profile.batch[2],
                          sizes=order.profile.sizes)
    calibration = _fingerprint(order.calibration) if order.calibration else None
    with cache.lock():
        entry = cache.folder(card.name, key)
        if entry.exists() and not order.force:
            found = open_entry(entry, again)
            if calibration not in (None, found.manifest.build.get('calibration')):
                raise ConfigError(f'{entry} was calibrated with other images. Add --force to '
                                  'build it again with these.')
            return found, False
        timings = cache.timing_cache(library, gpu.name if gpu else '{}.{}'.format(*capability))
        with tempfile.TemporaryDirectory() as scratch:
            start = time.perf_counter()
            model = for_engine(card, order.precision, Path(scratch), order.calibration)
            converted_s = time.perf_counter() - start
            plan = build_plan(library, model, card, order, capability,
                              None if library.is_rtx else cache.read_timings(timings), progress)
        if plan.timings:
            cache.write_timings(timings, plan.timings)
        files = {PLAN: plan.content}
        cubin, cubin_reason = _cubin(capability)
        if cubin is not None:
            files[CUBIN] = cubin
        manifest = Manifest(card.name, key, {}, {
            'when': datetime.now(timezone.utc).isoformat(timespec='seconds'), 'command': command,
            'conversion_s': round(converted_s, 2), 'build_s': round(plan.seconds, 2),
            'driver': gpu.driver if gpu else None, 'tensors': plan.tensors,
            'calibration': calibration, 'kernels': cubin_reason,
            'toolkit': _toolkit() if cubin is not None else None,
            'warnings': plan.warnings,
            'layers': 'unknown: not looked at yet',
        }, verified_reason='not run yet' if gpu else 'there is no GPU on the building machine')
        # Kept before it is looked at: that may fail, and a build takes minutes.
        entry = cache.store(card.name, key, files, manifest)
        layers, reason = _layers(library, plan.content, card, order, gpu, capability)
        manifest = read_manifest(entry)
        manifest.build['layers'] = layers['precisions'] if layers else reason
        cache.update(entry, manifest, {} if layers is None else
                     {LAYERS: (json.dumps(layers, indent=1) + '\n').encode()})
        return open_entry(entry, again), True


def build_plan(library: Library, model: Path, card: ModelCard, order: BuildOptions,
               capability: tuple[int, int], timings: bytes | None = None,
               progress: Progress | None = None) -> Plan:
    """
    Build the engine of an ONNX file.

    :param capability: for TensorRT-RTX; TensorRT builds for the GPU it runs on.
    :param timings: kept timings to begin with, None: the library keeps none.
    :raises ConfigError: the profile does not suit the model.
    :raises BackendError: with what TensorRT said.
    """
    trt = library.module
    log = tensorrt.make_log(trt)
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # what its constructor raises without a driver
        raise BackendError(f'{library} cannot start: {tensorrt.reasons(log)}') from error
    network = builder.create_network(_creation_flags(trt))
    parser = trt.OnnxParser(network, log)
    _parse(parser, network, model, library)
    _match(network, card)
    config = builder.create_builder_config()
    _configure(library, config, order, capability)
    _allow_formats(trt, network, card)
    _add_profile(builder, config, network.get_input(0), order.profile, card, log)
    kept = None
    if timings is not None:
        kept = config.create_timing_cache(timings)
        config.set_timing_cache(kept, False)
    monitor = tensorrt.make_monitor(trt, progress) if progress else None
    if monitor is not None:
        config.progress_monitor = monitor
    start = time.perf_counter()
    plan = builder.build_serialized_network(network, config)
    seconds = time.perf_counter() - start
    if monitor is not None and monitor.error is not None:
        raise monitor.error
    if plan is None:
        raise BackendError(f'{library} cannot build {card.name} as {order.precision} for '
                           f'{order.profile}: {tensorrt.reasons(log)}')
    return Plan(bytes(plan), seconds, _tensors(trt, network),
                b'' if kept is None else bytes(kept.serialize()),
                list(dict.fromkeys(log.warnings)))


def parse_target(text: str) -> tuple[int, int]:
    """
    Return the compute capability that is written as 8.9, sm_89 or SM89.

    :raises ConfigError: it is none.
    """
    digits = text.strip().lower().removeprefix('sm').removeprefix('_').replace('.', '', 1)
    if not digits.isdecimal() or not 2 <= len(digits) <= 3:
        raise ConfigError(f'target {text!r} is no compute capability; write it as sm_89 or 8.9')
    return int(digits[:-1]), int(digits[-1])


def _capability(order: BuildOptions, library: Library, gpu: GpuInfo | None) -> tuple[int, int]:
    """Return the compute capability to build for, or refuse."""
    if not library.is_rtx:
        if gpu is None:
            raise BackendError(f'{library} builds only on the GPU that the engine is for, and '
                               'there is none here (nvidia-smi must list it). Build on the car, '
                               'or use TensorRT-RTX with --target.')
        if order.target not in (None, gpu.compute_capability):
            raise ConfigError(f'target {order.target} is not this GPU, {gpu.name} of '
                              f'{gpu.compute_capability}, and {library} builds for no other. '
                              'Leave out --target, or build on that machine.')
        return gpu.compute_capability
    wanted = order.target or (gpu.compute_capability if gpu else None)
    known = _rtx_targets(library.module)
    if wanted is None or wanted not in known:
        said = 'there is no GPU here and no --target' if wanted is None else \
            f'target {wanted[0]}.{wanted[1]} is unknown to {library}'
        raise ConfigError(f'{said}; allowed: {", ".join(f"sm_{a}{b}" for a, b in known)}. Other '
                          'GPUs (Jetson, data centre) need the full TensorRT.')
    return wanted


def _rtx_targets(trt: Any) -> list[tuple[int, int]]:
    names = [name for name in dir(trt.ComputeCapability) if name.startswith('SM')]
    return sorted(parse_target(name) for name in names)


def _creation_flags(trt: Any) -> int:
    names = trt.NetworkDefinitionCreationFlag
    flags = 1 << int(names.STRONGLY_TYPED)
    if hasattr(names, 'EXPLICIT_BATCH'):  # 10.x knows it and ignores it, 11 has nothing else
        flags |= 1 << int(names.EXPLICIT_BATCH)
    return flags


def _parse(parser: OnnxParser, network: INetworkDefinition, model: Path,
           library: Library) -> None:
    parsed = parser.parse_from_file(str(model))
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    # Some files that are no ONNX at all parse to a network of nothing.
    if not parsed or not network.num_layers:
        said = '; '.join(f'{error.desc()} (node {error.node_name()!r}, {error.node_operator()})'
                         for error in errors) or 'it holds no layers'
        raise BackendError(f'{library} cannot read {model.name}: {said}')


def _match(network: INetworkDefinition, card: ModelCard) -> None:
    """Refuse a network that is not the card's; drop the outputs that the card does not read."""
    inputs = [network.get_input(index).name for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    names = [output.name for output in outputs]
    wanted = [output.name for output in card.outputs]
    if inputs != [card.input.name] or not set(wanted) <= set(names):
        raise ConfigError(f'{card.path} names input {card.input.name!r} and outputs {wanted}, '
                          f'the model has inputs {inputs} and outputs {names}. Correct the card.')
    for output in outputs:
        if output.name not in wanted:
            network.unmark_output(output)


def _configure(library: Library, config: IBuilderConfig, order: BuildOptions,
               capability: tuple[int, int]) -> None:
    trt = library.module
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.workspace_mib << 20)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if order.precision == 'fp32':
        config.clear_flag(trt.BuilderFlag.TF32)
    else:
        config.set_flag(trt.BuilderFlag.TF32)
    if hasattr(trt.BuilderFlag, 'REQUIRE_USER_ALLOCATION'):  # or it could not be captured
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if hasattr(config, 'set_compute_capability'):
        config.num_compute_capabilities = 1
        name = 'SM{}{}'.format(*capability)
        if not config.set_compute_capability(getattr(trt.ComputeCapability, name), 0):
            raise BackendError(f'{library} does not take {name} as a target')


def _add_profile(builder: Builder, config: IBuilderConfig, image: ITensor,
                 profile: OptimizationProfile, card: ModelCard, log: Any) -> None:
    shapes = profile_shapes(profile, card.input.layout)
    for letter, fixed, *asked in zip(card.input.layout, image.shape, *shapes, strict=True):
        if fixed >= 0 and asked != [fixed] * 3:
            raise ConfigError(f'the model takes exactly {fixed} along {letter}, asked is '
                              f'{asked[0]} to {asked[2]}. Correct --{_OPTIONS[letter]}, or export '
                              'the model with that axis dynamic.')
    for batch in profile.batches:
        ranges: IOptimizationProfile = builder.create_optimization_profile()
        ranges.set_shape(image.name, *profile_shapes(replace(profile, batch=batch),
                                                     card.input.layout))
        if config.add_optimization_profile(ranges) < 0:
            raise BackendError(f'TensorRT refuses the profile {profile}: {tensorrt.reasons(log)}')


def _allow_formats(trt: Any, network: INetworkDefinition, card: ModelCard) -> None:
    """Let TensorRT choose how input and scores lie in memory, of what the kernels take."""
    if network.num_outputs == 1:  # more heads run on the host
        _allow(trt, network.get_input(0), card.input.layout, tuple(FORMS))
        _allow(trt, network.get_output(0), card.main_output.layout, SCORES)


def _allow(trt: Any, tensor: ITensor, layout: str, taken: tuple[str, ...]) -> None:
    if layout == 'NCHW':
        names = _FORMATS.get(tensorrt.numpy_name(trt, tensor.dtype), ('LINEAR',))
        tensor.allowed_formats = sum(1 << int(getattr(trt.TensorFormat, name))
                                     for name in names if name in taken)


def profile_shapes(profile: OptimizationProfile, layout: str) -> list[tuple[int, ...]]:
    """Return the least, best and largest shape of the network's input."""
    shapes = []
    for batch, size in zip(profile.batch, (profile.low, profile.sizes[0], profile.high),
                           strict=True):
        sides = {'N': batch, 'C': 3, 'H': size.height, 'W': size.width}
        shapes.append(tuple(sides[axis] for axis in layout))
    return shapes


def _tensors(trt: Any, network: INetworkDefinition) -> list[dict[str, Any]]:
    return [_tensor(trt, 'input', network.get_input(0)),
            *(_tensor(trt, 'output', network.get_output(index))
              for index in range(network.num_outputs))]


def _tensor(trt: Any, mode: str, tensor: ITensor) -> dict[str, Any]:
    return {'name': tensor.name, 'mode': mode, 'shape': list(tensor.shape),
            'dtype': tensorrt.numpy_name(trt, tensor.dtype)}


def _layers(library: Library, plan: bytes, card: ModelCard, order: BuildOptions,
            gpu: GpuInfo | None, capability: tuple[int, int],
            ) -> tuple[dict[str, Any] | None, str]:
    """Return what the engine's layers compute in, if it can be loaded here; else why not."""
    if gpu is None or gpu.compute_capability != capability:
        return None, 'unknown: only a machine with such a GPU can load the engine'
    best = profile_shapes(order.profile, card.input.layout)[1]
    try:
        return tensorrt.layer_report(library, plan, card.input.name, best), ''
    except (BackendError, ValueError, MemoryError) as error:
        return None, f'unknown: {brief(error)}'


def _cubin(capability: tuple[int, int]) -> tuple[bytes | None, str]:
    """Return the kernels for a compute capability if nvcc is there, and how that went."""
    from . import nvcc
    try:
        return nvcc.compile_cubin(capability), 'compiled'
    except (BackendError, OSError) as error:
        return None, str(error)


def _toolkit() -> str | None:
    """Return the version of the nvcc that compiles the kernels, if it tells it."""
    from . import nvcc
    try:
        return nvcc.release(nvcc.find_nvcc())
    except BackendError:
        return None


def _fingerprint(images: Sequence[Path]) -> str:
    """Return a sha256 over the calibration images, in their order."""
    digest = hashlib.sha256()
    for path in images:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f'{len(images)} images, sha256 {digest.hexdigest()}'
