"""What an engine is: the key it is found by, and the manifest that stands beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
import hashlib
import json
from typing import Any

from ..errors import ConfigError
from ..geometry import Size

FORMAT = 1
#: At most so many batches have a profile of their own: each takes its time to build.
MOST_BATCHES = 8
PRECISIONS = ('fp16', 'fp32', 'int8')
#: The least share of labels that an engine must have equal to ONNX Runtime's to be used: rounding
#: moves borders between classes, a wrong engine all of it.
LEAST_AGREEMENT = {'fp32': 0.9999, 'fp16': 0.995, 'int8': 0.97}


@dataclass(frozen=True)
class OptimizationProfile:
    """
    The network inputs an engine takes.

    :ivar batch: least, best and most images at a time. It is built for each of them; where those
        are more than ``MOST_BATCHES``, it is one for all, fastest at the best.
    :ivar sizes: network input sizes it was built for; the first is the best. It takes every size
        between the least and the largest side of them.
    """

    batch: tuple[int, int, int]
    sizes: tuple[Size, ...]

    @property
    def low(self) -> Size:
        """The least height and the least width."""
        return Size(min(s.height for s in self.sizes), min(s.width for s in self.sizes))

    @property
    def high(self) -> Size:
        """The largest height and the largest width."""
        return Size(max(s.height for s in self.sizes), max(s.width for s in self.sizes))

    @property
    def batches(self) -> tuple[tuple[int, int, int], ...]:
        """Least, best and most images of each of TensorRT's profiles."""
        low, _, most = self.batch
        if most - low >= MOST_BATCHES:
            return (self.batch,)
        return tuple((count, count, count) for count in range(low, most + 1))

    def covers(self, max_batch: int, sizes: Sequence[Size]) -> bool:
        """Tell whether batches of up to ``max_batch`` at all these sizes fit."""
        low, high = self.low, self.high
        return max_batch <= self.batch[2] and all(
            low.height <= s.height <= high.height and low.width <= s.width <= high.width
            for s in sizes)

    def __str__(self) -> str:
        low, best, most = self.batch
        return (f'batch {low} to {most} (best {best}), network input '
                f'{", ".join(map(str, self.sizes))}')


def builder_flags(precision: str) -> tuple[str, ...]:
    """Return the builder's settings that decide what an engine computes, for its key."""
    # TF32 keeps 10 bits of a float32: an engine that is called fp32 would not be one.
    return ('strongly typed', 'detailed profiling', 'a profile for each batch',
            'formats as TensorRT prefers', 'memory by the user',
            'TF32 off' if precision == 'fp32' else 'TF32 on')


@dataclass(frozen=True)
class EngineKey:
    """
    Everything that makes two engines different.

    :ivar model: sha256 of the card's ONNX file.
    :ivar gpu: name of the GPU; None where it was built for a compute capability alone.
    :ivar compute_capability: e.g. ``'8.7'``.
    :ivar flags: the builder's settings that change what it computes.
    :ivar kernels: hash of the source of the CUDA kernels.
    """

    model: str
    library: str
    version: str
    gpu: str | None
    compute_capability: str
    precision: str
    profile: OptimizationProfile
    flags: tuple[str, ...]
    workspace_mib: int
    kernels: str

    def digest(self) -> str:
        """Return the sha256 of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and sha256 of one file of an entry."""

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> 'FileRecord':
        """Return the record of a file's content."""
        return cls(len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class Manifest:
    """
    What stands in ``manifest.json``.

    :ivar model: the card's name.
    :ivar files: every file of the entry but the manifest.
    :ivar build: when, how long (seconds), the command, tensors, calibration and the like; for
        people, nothing depends on it.
    :ivar verified: ``agreement`` and ``control`` (shares of pixels) and ``frames``; None: it was
        not run.
    :ivar verified_reason: why it was not run.
    """

    model: str
    key: EngineKey
    files: dict[str, FileRecord]
    build: dict[str, Any] = field(compare=False, default_factory=dict)
    verified: dict[str, Any] | None = None
    verified_reason: str | None = None

    def to_json(self) -> str:
        """Return the file's text."""
        key = asdict(self.key)
        key['profile'] = {'batch': list(self.key.profile.batch),
                          'sizes': [list(size) for size in self.key.profile.sizes]}
        return json.dumps({
            'format': FORMAT, 'model': self.model, 'digest': self.key.digest(), 'key': key,
            'files': {name: {'bytes': record.size, 'sha256': record.sha256}
                      for name, record in self.files.items()},
            'verified': self.verified, 'verified_reason': self.verified_reason,
            'build': self.build}, indent=1) + '\n'

    @classmethod
    def from_json(cls, text: str) -> 'Manifest':
        """
        Return the manifest of a file's text.

        :raises ConfigError: it is not JSON, of another format, incomplete, or was changed.
        """
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise ConfigError(f'it is not JSON: {error}') from error
        found = raw.get('format') if isinstance(raw, dict) else None
        if found != FORMAT:
            raise ConfigError(f'its format is {found!r}, this version of seg_node reads {FORMAT}')
        try:
            manifest = cls(str(raw['model']), _key(raw['key']),
                           {_file_name(name): FileRecord(int(entry['bytes']), str(entry['sha256']))
                            for name, entry in raw['files'].items()},
                           dict(raw['build']), raw['verified'], raw['verified_reason'])
            digest = raw['digest']
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f'it is incomplete: {type(error).__name__} {error}') from error
        if digest != manifest.key.digest():
            raise ConfigError(f'its key was changed: digest {digest} is not that of the key, '
                              f'{manifest.key.digest()}')
        return manifest


@dataclass(frozen=True)
class Request:
    """
    The engine that is wanted; a part that is None may be anything.

    :ivar max_batch: the most images at a time.
    :ivar sizes: the network input sizes that will come.
    """

    model: str
    library: str
    version: str
    precision: str
    gpu: str | None = None
    compute_capability: str | None = None
    flags: tuple[str, ...] | None = None
    kernels: str | None = None
    max_batch: int = 1
    sizes: tuple[Size, ...] = ()

    def differences(self, key: EngineKey) -> Iterator[str]:
        """Yield a line for each part in which an engine is not the one wanted."""
        parts = (('model (sha256 of its ONNX file)', key.model, self.model),
                 ('library', key.library, self.library),
                 ('library version', key.version, self.version),
                 ('precision', key.precision, self.precision),
                 ('compute capability', key.compute_capability, self.compute_capability),
                 # A build for a compute capability alone is for every such GPU.
                 ('GPU', key.gpu, self.gpu if key.gpu is not None else None),
                 ('builder flags', key.flags, self.flags),
                 ('CUDA kernels (hash of their source)', key.kernels, self.kernels))
        for name, found, wanted in parts:
            if wanted is not None and found != wanted:
                yield f'{name}: the engine has {_text(found)}, wanted is {_text(wanted)}'
        if not key.profile.covers(self.max_batch, self.sizes):
            sizes = ', '.join(map(str, self.sizes)) or 'any'
            yield (f'profile: the engine has {key.profile}, wanted is batch up to '
                   f'{self.max_batch}, network input {sizes}')


def _key(raw: dict[str, Any]) -> EngineKey:
    low, best, most = (int(n) for n in raw['profile']['batch'])
    sizes = tuple(Size(int(height), int(width)) for height, width in raw['profile']['sizes'])
    if not sizes:
        raise ValueError('no network input size')
    texts = {name: str(raw[name]) for name in ('model', 'library', 'version',
                                               'compute_capability', 'precision', 'kernels')}
    return EngineKey(gpu=None if raw['gpu'] is None else str(raw['gpu']),
                     profile=OptimizationProfile((low, best, most), sizes),
                     flags=tuple(str(flag) for flag in raw['flags']),
                     workspace_mib=int(raw['workspace_mib']), **texts)


def _file_name(name: str) -> str:
    if '/' in name or name.startswith('.'):
        raise ValueError(f'a file outside of the folder, {name!r}')
    return name


def _text(value: object) -> str:
    return ', '.join(map(str, value)) if isinstance(value, tuple) else str(value)
