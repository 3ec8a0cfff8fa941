"""The recordings of an archive: found here or on any fsspec file system, and fetched."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
import re
from tempfile import TemporaryDirectory
from typing import Any

import fsspec

from ..errors import brief, ConfigError
from ..files import is_text
from ..playback.sources import STORAGE_SUFFIXES
from ..scoring.drive import MANIFEST as DRIVE
from ..scoring.picture_file import PICTURE_SUFFIXES

_BAG = 'metadata.yaml'
_BAGS = (*STORAGE_SUFFIXES, '.bag')
#: What is taken for a video in a folder; by its own path any file may be one.
_VIDEOS = ('.264', '.265', '.3gp', '.asf', '.avi', '.divx', '.dv', '.f4v', '.flv', '.h264',
           '.h265', '.hevc', '.ivf', '.m2ts', '.m2v', '.m4v', '.mjpeg', '.mjpg', '.mkv', '.mov',
           '.mp4', '.mpeg', '.mpg', '.mts', '.mxf', '.ogv', '.ts', '.vob', '.webm', '.wmv', '.y4m')
_CHANGED = ('mtime', 'LastModified', 'last_modified', 'ETag', 'etag', 'updated')


@dataclass(frozen=True)
class Recording:
    """
    One bag, video, drive or folder of pictures.

    :ivar uri: the absolute path, or the address on an fsspec file system.
    """

    uri: str

    @property
    def name(self) -> str:
        """What it is called in the output: readable, and never the same for another one."""
        parts = PurePosixPath(self.uri.partition('::')[0].partition('://')[2] or self.uri).parts
        readable = re.sub(r'[^\w.-]+', '_', '_'.join(parts[-2:])).strip('._') or 'recording'
        return f'{readable[-80:]}-{sha256(self.uri.encode()).hexdigest()[:10]}'

    @property
    def is_local(self) -> bool:
        """Whether it lies on a disk of this machine, or one that all machines share."""
        return '://' not in self.uri

    def fingerprint(self) -> str:
        """
        Return sizes and times of its files in short: another one means it was changed.

        :raises OSError: it cannot be looked at; other file systems have kinds of their own.
        """
        files, path = fsspec.core.url_to_fs(self.uri)
        found = files.find(path, detail=True).values() if files.isdir(path) else [files.info(path)]
        told = sorted((entry['name'], entry['size'], next(
            (str(entry[key]) for key in _CHANGED if key in entry), '')) for entry in found)
        size = sum(size or 0 for _, size, _ in told)
        return f'{size} bytes {sha256(repr(told).encode()).hexdigest()[:16]}'

    @contextmanager
    def fetched(self, scratch: Path | None) -> Iterator[Path]:
        """
        Yield where it lies on this machine; what lies elsewhere is copied for as long.

        :param scratch: where to; None = where temporary files go.
        :raises ConfigError: it cannot be fetched.
        """
        if self.is_local:
            yield Path(self.uri)
            return
        with TemporaryDirectory(prefix='seg_node_archive_', dir=scratch) as folder:
            try:
                files, path = fsspec.core.url_to_fs(self.uri)
                whole = files.isdir(path)
                copy = Path(folder) / PurePosixPath(path).name
                files.get(f'{path}/' if whole else path, f'{copy}/' if whole else str(copy),
                          recursive=whole)
            except Exception as error:  # each file system has its own kinds
                raise ConfigError(f'{self.uri} cannot be fetched: {brief(error)}.') from error
            yield copy


def find_recordings(sources: Iterable[str]) -> tuple[list[Recording], dict[str, str], list[str]]:
    """
    Return the recordings that sources are or hold, each once, in the order of their paths.

    :param sources: paths, or addresses that fsspec knows; patterns (``*``) are replaced. Folders
        are searched with all below; links to folders in them are not followed.
    :returns: also why other sources hold nothing, and a line for each kind of other files.
    """
    found: dict[str, None] = {}
    broken: dict[str, str] = {}
    others: Counter[str] = Counter()
    for source in sources:
        try:
            held = list(_held_by(source, others))
        except Exception as error:  # each file system has its own kinds
            broken[source] = brief(error)
            continue
        if not held:
            broken[source] = ('holds no recording: no bag, no video, no picture '
                              f'({_BAG}, {", ".join(_BAGS)}, .mp4 ..., .jpg ...)')
        unnamed = [one for one in held if not is_text(one)]
        broken.update({ascii(one): 'its name is no UTF-8, which no table can hold: rename it'
                       for one in unnamed})
        held = [one for one in held if one not in unnamed]
        found.update(dict.fromkeys(held))
    remarks = [f'{count} files {kind} are no recordings and are left out'
               for kind, count in sorted(others.items())]
    return [Recording(uri) for uri in found], broken, remarks


def _held_by(source: str, others: Counter[str]) -> Iterator[str]:
    head, _, rest = source.partition('::')
    if rest and '://' not in head:  # a cache in front: everything is copied once anyway
        source = rest
    files, path = fsspec.core.url_to_fs(source)
    behind = source.partition('::')[1:] if '://' in source else ('', '')
    for start in (sorted(files.glob(path)) if any(sign in path for sign in '*?[') else [path]):
        if not files.exists(start):
            raise ConfigError(f'{source} does not exist')
        paths = _in_folder(files, start, others) if files.isdir(start) else iter([start])
        for one in paths:
            yield _address(files, one) + ''.join(behind)


def _address(files: Any, path: str) -> str:
    local = 'file' in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol)
    return path if local else str(files.unstrip_protocol(path))


def _in_folder(files: Any, folder: str, others: Counter[str]) -> Iterator[str]:
    entries = sorted(((PurePosixPath(entry['name']).name, entry)
                      for entry in files.ls(folder, detail=True)), key=lambda pair: pair[0])
    entries = [(name, entry) for name, entry in entries if name and not name.startswith('.')]
    below = [entry for _, entry in entries if entry['type'] == 'directory']
    by_suffix = {name: (PurePosixPath(name).suffix.lower(), entry['name'])
                 for name, entry in entries if entry['type'] != 'directory'}
    if _BAG in by_suffix or DRIVE in by_suffix:
        yield folder
        return
    single = [path for suffix, path in by_suffix.values() if suffix in (*_BAGS, *_VIDEOS)]
    yield from single
    pictures = [path for suffix, path in by_suffix.values() if suffix in PICTURE_SUFFIXES]
    if pictures and not single:
        yield folder
    for suffix, path in by_suffix.values():
        if path not in single and (single or path not in pictures):
            others[suffix or 'without a suffix'] += 1
    for entry in below:
        if not entry.get('islink'):
            yield from _in_folder(files, entry['name'], others)
