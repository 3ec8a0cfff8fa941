"""
Where built engines lie, and how one is opened only when it is exactly the one wanted.

An entry is a folder ``engines/<model>-<key>/`` below ``$SEG_NODE_CACHE`` (else
``~/.cache/seg_node``) with ``engine.plan``, ``kernels.cubin``, ``layers.json`` and
``manifest.json``. Plan and cubin are executable code: what others may write to is refused, and
the very bytes that were hashed are the ones handed out.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
import fcntl
import os
from pathlib import Path
import re
import shlex
import shutil
from typing import Protocol

from ..errors import ConfigError
from ..geometry import fit, Size
from ..model.card import ModelCard
from ..paths import cache_root
from .engine_manifest import (
    builder_flags,
    EngineKey,
    FileRecord,
    Manifest,
    OptimizationProfile,
    Request,
)
from .kernels import source_hash
from .owned_files import check_owner, read_owned, write_owned
from .trt import Library, load

PLAN, CUBIN, LAYERS, MANIFEST = 'engine.plan', 'kernels.cubin', 'layers.json', 'manifest.json'
_COMPILED = 'runtime.cache'
_SHORT = 12  # hexadecimal digits of the key in a folder's name


class Device(Protocol):
    """The GPU an engine is to run on."""

    @property
    def name(self) -> str:
        """Its name as the driver gives it."""

    @property
    def compute_capability(self) -> tuple[int, int]:
        """Major and minor."""


@dataclass(frozen=True)
class VerifiedEngine:
    """
    An engine whose files are the ones that were built, for what it is wanted for.

    :ivar cubin: the CUDA kernels for the engine's compute capability, None: none were compiled.
    """

    plan: bytes
    cubin: bytes | None
    manifest: Manifest
    folder: Path

    @property
    def toolkit(self) -> str | None:
        """The version of CUDA that compiled the kernels, where it is known."""
        found = self.manifest.build.get('toolkit')
        return None if found is None else str(found)

    def read_compiled(self) -> bytes:
        """
        Return what an earlier start has compiled, empty where there is nothing.

        :raises ConfigError: others can write to it.
        """
        path = self.folder / _COMPILED
        return read_owned(path) if path.exists() else b''

    def keep_compiled(self, content: bytes) -> None:
        """Keep what was compiled for the next start, where that is allowed."""
        scratch = self.folder / f'.{_COMPILED}.{os.getpid()}'
        try:
            write_owned(scratch, content)
            os.replace(scratch, self.folder / _COMPILED)
        except OSError:  # a cache that is read only: then it is compiled at every start
            return


def build_command(model: str | Path, precision: str, max_batch: int,
                  cameras: Sequence[Size] = (), sizes: Sequence[Size] = ()) -> str:
    """Return the command that builds an engine for these cameras, or network input sizes."""
    words = ['python', '-m', 'seg_node.tools.build_engine', '--model', str(model), '--precision',
             precision, '--batch', f'1:{max(1, max_batch)}']
    for camera in cameras:
        words += ['--camera', str(camera)]
    for size in () if cameras else sizes:
        words += ['--size', f'{size.height}x{size.width}']
    if precision == 'int8':
        words += ['--images', 'FOLDER_OF_CAMERA_IMAGES']
    return shlex.join(words)


def open_verified(card: ModelCard, *, precision: str, device: Device | None, max_batch: int = 1,
                  cameras: Sequence[Size] = (), sizes: Sequence[Size] = (),
                  library: Library | None = None, kernels: str | None = None,
                  flags: tuple[str, ...] | None = None,
                  folder: Path | None = None) -> VerifiedEngine:
    """
    Return the engine for a model on a device, after every check and before any of it is used.

    :param device: the GPU it will run on; None: for any (to look at an engine, not to run it).
    :param max_batch: the most images at a time.
    :param cameras: camera sizes that are known; the engine must take their network inputs.
    :param sizes: network inputs that it must take besides. Without either, the engine that takes
        most of what the cache's engines were built for.
    :param library: the TensorRT that will load it; None: the one that is installed.
    :param kernels: hash of the CUDA kernels' source; None: of this package's own.
    :param flags: the builder's flags; None: those of this version for the precision.
    :param folder: the entry to open; None: the one in the cache that fits.
    :raises ConfigError: there is none that fits; which part differs, both values, and the command.
    :raises BackendError: no TensorRT is installed.
    """
    library = library or load()
    if kernels is None:
        kernels = source_hash()
    if flags is None:
        flags = builder_flags(precision)
    capability = None if device is None else '{}.{}'.format(*device.compute_capability)
    request = Request(card.sha256, library.name, library.version, precision,
                      None if device is None else device.name, capability, flags, kernels,
                      max_batch, (*(fit(card.input, camera).network for camera in cameras),
                                  *sizes))
    command = build_command(card.directory, precision, max_batch, cameras, sizes)
    cache = EngineCache()
    entries = [folder] if folder is not None else cache.entries(card.name)
    if not entries:
        raise ConfigError(f'there is no engine of {card.name} in {cache.engines}. '
                          f'Build it: {command}')
    return open_entry(_fitting(entries, request, command), command)


def open_entry(entry: Path, command: str) -> VerifiedEngine:
    """
    Return what an entry holds, whatever it was built for.

    :param command: what builds it, for the message.
    :raises ConfigError: a file is missing, can be written by others, or is not the one built.
    """
    manifest = read_manifest(entry)
    contents = {}
    for name, record in manifest.files.items():
        content = read_owned(entry / name)
        found = FileRecord.of(content)
        if found != record:
            raise ConfigError(
                f'{entry / name} is not the file that was built: the manifest has {record.size} '
                f'bytes, sha256 {record.sha256}, the file has {found.size} bytes, sha256 '
                f'{found.sha256}. It was damaged or changed; it is not loaded. Build it again: '
                f'{command} --force')
        contents[name] = content
    if PLAN not in contents:
        raise ConfigError(f'{entry / MANIFEST} lists no {PLAN}. Build it again: {command} '
                          '--force')
    return VerifiedEngine(contents[PLAN], contents.get(CUBIN), manifest, entry)


def _fitting(entries: Sequence[Path], request: Request, command: str) -> Path:
    """Return the entry that is wanted, or say in what the nearest one differs."""
    problems: list[tuple[int, str]] = []
    fitting: list[tuple[OptimizationProfile, Path]] = []
    for entry in entries:
        try:
            key = read_manifest(entry).key
        except ConfigError as error:
            problems.append((0, str(error)))
            continue
        lines = list(request.differences(key))
        if lines:
            problems.append((len(lines), f'{entry} is not the engine that is wanted: '
                             + '; '.join(lines)))
        else:
            fitting.append((key.profile, entry))
    if fitting:
        return _best(fitting, known=bool(request.sizes))
    others = f' ({len(entries) - 1} more engines of this model do not fit either)'
    raise ConfigError(f'{min(problems)[1]}{others if len(entries) > 1 else ""}. '
                      f'Build it: {command}')


def _best(fitting: Sequence[tuple[OptimizationProfile, Path]], known: bool) -> Path:
    """
    Return the entry to take of several that fit.

    The one with the least room to spare was made for this use; but where the sizes that will come
    are not known, the one that takes most of the sizes that any was built for.
    """
    sizes = [] if known else {size for profile, _ in fitting for size in profile.sizes}

    def order(one: tuple[OptimizationProfile, Path]) -> tuple[int, int, Size, Path]:
        profile, entry = one
        return (-sum(profile.covers(1, [size]) for size in sizes), profile.batch[2],
                profile.high, entry)
    return min(fitting, key=order)[1]


def read_manifest(entry: Path) -> Manifest:
    """
    Return the manifest of an entry that nobody else can have changed.

    :raises ConfigError: folder or manifest can be written by others, is missing or unreadable.
    """
    check_owner(entry.parent)
    check_owner(entry)
    path = entry / MANIFEST
    content = read_owned(path)
    try:
        manifest = Manifest.from_json(content.decode('utf-8'))
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f'manifest {path} cannot be used: {error}. Remove {entry} and build '
                          'the engine again.') from error
    if not entry.name.endswith(f'-{manifest.key.digest()[:_SHORT]}'):
        raise ConfigError(f'manifest {path} belongs to another engine: its key is '
                          f'{manifest.key.digest()[:_SHORT]}, the folder is {entry.name}. Remove '
                          f'{entry} and build the engine again.')
    return manifest


class EngineCache:
    """The folder of the entries."""

    def __init__(self, root: Path | None = None) -> None:
        self.engines = (root or cache_root()) / 'engines'

    def folder(self, model: str, key: EngineKey) -> Path:
        """Return the folder of an entry, whether it is there or not."""
        return self.engines / f'{_plain(model)}-{key.digest()[:_SHORT]}'

    def entries(self, model: str) -> list[Path]:
        """Return the folders of a model's entries."""
        name = re.compile(re.escape(_plain(model)) + f'-[0-9a-f]{{{_SHORT}}}')
        if not self.engines.is_dir():
            return []
        check_owner(self.engines.parent)
        return sorted(path for path in self.engines.iterdir() if name.fullmatch(path.name))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """
        Hold the cache for one builder; a second one waits.

        Two builds at once would also time each other's kernels wrongly. The folders are made, for
        this user alone.
        """
        for folder in (self.engines.parent, self.engines):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            check_owner(folder)
        with open(self.engines / '.lock', 'w') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for left in self.engines.glob('.building-*'):  # of a build that was killed
                shutil.rmtree(left, ignore_errors=True)
            yield

    def store(self, model: str, key: EngineKey, files: dict[str, bytes],
              manifest: Manifest) -> Path:
        """
        Write an entry whole or not at all, in place of one of the same key; under ``lock``.

        :returns: its folder.
        """
        target = self.folder(model, key)
        manifest = replace(manifest, files={name: FileRecord.of(content)
                                            for name, content in files.items()})
        scratch = self.engines / f'.building-{os.getpid()}'
        scratch.mkdir(mode=0o700)
        for name, content in (*files.items(), (MANIFEST, manifest.to_json().encode())):
            write_owned(scratch / name, content)
        scratch.chmod(0o755)
        if target.exists():
            # A folder cannot replace a full one: for a moment there is no entry, never half a one.
            self.remove(target)
        os.replace(scratch, target)
        return target

    def update(self, entry: Path, manifest: Manifest,
               files: dict[str, bytes] | None = None) -> None:
        """Replace an entry's manifest, with what was learned after the build; add files."""
        for name, content in (files or {}).items():
            write_owned(entry / name, content)
        manifest = replace(manifest, files={**manifest.files, **{
            name: FileRecord.of(content) for name, content in (files or {}).items()}})
        scratch = entry / f'.{MANIFEST}'
        write_owned(scratch, manifest.to_json().encode())
        os.replace(scratch, entry / MANIFEST)

    def remove(self, entry: Path) -> None:
        """Take an entry out, whole: it is renamed before anything of it is deleted."""
        scratch = self.engines / f'.building-{os.getpid()}-old'
        os.replace(entry, scratch)
        shutil.rmtree(scratch)

    def timing_cache(self, library: Library, device: str) -> Path:
        """Return where the timings of a library on a GPU are kept."""
        return self.engines / f'timing-{library.name}-{library.version}-{_plain(device)}.cache'

    def read_timings(self, path: Path) -> bytes:
        """Return the kept timings, empty where there are none."""
        return read_owned(path) if path.exists() else b''

    def write_timings(self, path: Path, content: bytes) -> None:
        """Keep the timings of a build."""
        scratch = path.with_suffix('.new')
        write_owned(scratch, content)
        os.replace(scratch, path)


def _plain(name: str) -> str:
    return re.sub(r'[^\w.-]', '_', name)
