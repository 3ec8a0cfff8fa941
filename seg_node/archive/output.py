"""
The folder that an archive's labels lie in: everything in it is whole, once, and by one maker.

``manifest.json`` says what made it, ``recordings/NAME/`` holds what is finished: masks as a bag,
``frames.parquet`` with a row a frame, ``recording.json``. Pieces of a recording lie in
``pieces/NAME/INDEX/`` until the last one is there. Whatever appears is made in ``making/`` and
comes by one rename, so it is there or it is not, and of two that made the same the first counts.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
import fcntl
import json
import os
from pathlib import Path
import shutil
import socket
from tempfile import mkdtemp
from types import TracebackType
from typing import Any

import yaml

from ..errors import ConfigError
from .order import difference
from .pieces import BAG, OutputError, Piece, TABLE, Told
from .recordings import Recording
from .rows import merge

MANIFEST, LOCK = 'manifest.json', 'lock'
RECORDINGS, PIECES, MAKING = 'recordings', 'pieces', 'making'
TOLD, SUMMARY = 'told.json', 'recording.json'
_INFORMATION = 'rosbag2_bagfile_information'


@dataclass(frozen=True)
class Summary:
    """
    A finished recording.

    :ivar fingerprint: of the files it was made from.
    :ivar frames: by image topic; each has its row.
    :ivar refused: frames that the node would publish nothing for, by reason.
    :ivar remarks: what was not as it should be.
    :ivar broken: why it is not whole; '' = it is.
    """

    uri: str
    fingerprint: str
    frames: dict[str, int]
    refused: dict[str, int]
    remarks: list[str]
    broken: str


class Output:
    """
    An output folder; whoever uses it may see it come and go.

    :raises ConfigError: there is another thing at its path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise ConfigError(f'--out {path} is no folder: give another path')

    @property
    def made_by(self) -> dict[str, Any] | None:
        """
        What made it; None: nothing yet.

        :raises ConfigError: its manifest cannot be read.
        """
        path = self.path / MANIFEST
        try:
            found = json.loads(path.read_text(encoding='utf-8'))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(f'{path} cannot be read: {error}. Take another --out.') from error
        if not isinstance(found, dict):
            raise ConfigError(f'{path} is no manifest. Take another --out.')
        return found

    def adopt(self, made_by: dict[str, Any]) -> None:
        """
        Take what is made by something, or refuse it if the output is another's.

        :raises ConfigError: the difference.
        """
        kept = self.made_by
        if kept is None:
            _write(self.path / MANIFEST, made_by)
            return
        found = difference(kept, made_by)
        if found:
            raise ConfigError(f'{self.path} was made by another: {found}. One output is made by '
                              'one model, version, backend and kind of processor: take another '
                              '--out, or what made this one.')

    def finished(self, recording: Recording) -> Summary | None:
        """Return what became of a recording; None = it is not finished."""
        path = self.path / RECORDINGS / recording.name / SUMMARY
        try:
            return Summary(**json.loads(path.read_text(encoding='utf-8')))
        except FileNotFoundError:
            return None

    def forget(self, recording: Recording) -> None:
        """Remove all that was made of a recording."""
        for place in (RECORDINGS, PIECES):
            _remove(self.path / place / recording.name)

    def has(self, piece: Piece) -> bool:
        """Return whether a piece is there; of a recording that was changed since it is not."""
        place = self.path / PIECES / piece.recording.name
        try:
            told = json.loads((place / str(piece.index) / TOLD).read_text(encoding='utf-8'))
        except FileNotFoundError:
            return False
        if told['fingerprint'] != piece.fingerprint:
            _remove(place)
            return False
        return True

    def begin(self, recording: Recording) -> Path:
        """Return a new folder to make something in."""
        place = self.path / MAKING
        try:
            place.mkdir(parents=True, exist_ok=True)
            return Path(mkdtemp(prefix=f'{recording.name}.{socket.gethostname()}.{os.getpid()}.',
                                dir=place))
        except OSError as error:
            raise OutputError(f'{place} cannot be written: {error.strerror}') from error

    def publish_piece(self, folder: Path, piece: Piece, told: Told) -> None:
        """Let a piece appear that was made in a folder."""
        _write(folder / TOLD, {'fingerprint': piece.fingerprint, **vars(told)})
        _appear(folder, self.path / PIECES / piece.recording.name / str(piece.index))

    def finish(self, recording: Recording, pieces: int, fingerprint: str) -> Summary:
        """Let a recording appear of which all pieces are there; a second time does nothing."""
        summary = self.finished(recording)
        place = self.path / PIECES / recording.name
        if summary is None:
            parts = [place / str(index) for index in range(pieces)]
            try:
                summary = _summary(recording, fingerprint, parts)
                folder = self.begin(recording)
                _assemble(folder, recording.name, parts)
                _write(folder / SUMMARY, asdict(summary))
            except OSError as error:
                there = self.finished(recording)  # by one that was thought dead
                if there is None:
                    raise OutputError(f'{self.path} cannot be written: {error}') from error
                return there
            _appear(folder, self.path / RECORDINGS / recording.name)
        _remove(place)
        return summary


class Lock:
    """
    Keeps an output for one run, as long as that lives; a context manager.

    :raises ConfigError: another run has it, or it cannot be written.
    """

    def __init__(self, output: Output) -> None:
        path = output.path / LOCK
        try:
            output.path.mkdir(parents=True, exist_ok=True)
            self._file = path.open('a+', encoding='utf-8')
        except OSError as error:
            raise ConfigError(f'{output.path} cannot be written: {error.strerror}. Give another '
                              '--out.') from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            who = self._file.read().strip() or 'somewhere'
            self._file.close()
            if isinstance(error, BlockingIOError):
                raise ConfigError(f'another run ({who}) labels into {output.path}: wait for it, '
                                  'or take another --out') from None
            raise ConfigError(f'{path} cannot be locked: {error.strerror}. Put --out on a local '
                              'disk, or a file system that can (NFS 4).') from error
        self._file.truncate(0)
        self._file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        self._file.flush()
        self._making = output.path / MAKING
        _remove(self._making)  # what those before left half done

    def __enter__(self) -> 'Lock':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        _remove(self._making)  # what workers left that died
        self._file.close()


def _summary(recording: Recording, fingerprint: str, parts: Sequence[Path]) -> Summary:
    told = [json.loads((part / TOLD).read_text(encoding='utf-8')) for part in parts]
    frames, refused = Counter[str](), Counter[str]()
    for one in told:
        frames.update(one['frames'])
        refused.update(one['refused'])
    remarks = list(dict.fromkeys(line for one in told for line in one['remarks']))
    remarks += [f'announces {count} frames on {topic}, but holds {frames[topic]}'
                for topic, count in told[-1]['announced'].items() if frames[topic] < count]
    broken = list(dict.fromkeys(one['broken'] for one in told if one['broken']))
    return Summary(recording.uri, fingerprint, dict(frames), dict(refused), remarks,
                   '; '.join(broken))


def _assemble(folder: Path, name: str, parts: Sequence[Path]) -> None:
    """Put the bags of pieces together to one bag, and their tables to one table."""
    merge([part / TABLE for part in parts], folder / TABLE)
    documents = []
    for index, part in enumerate(parts):
        if not (part / BAG).is_dir():
            continue  # no frame of it has a mask
        file = f'{name}_{index}.mcap'
        _link(next((part / BAG).glob('*.mcap')), folder / file)
        document = yaml.safe_load((part / BAG / 'metadata.yaml').read_text(encoding='utf-8'))
        found = document[_INFORMATION]
        found['relative_file_paths'] = [file]
        for entry in found.get('files') or []:
            entry['path'] = file
        documents.append(found)
    if documents:
        (folder / 'metadata.yaml').write_text(
            yaml.safe_dump({_INFORMATION: _merged(documents)}, sort_keys=False),
            encoding='utf-8')


def _merged(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the metadata of a bag of several files."""
    starts = [one['starting_time']['nanoseconds_since_epoch'] for one in documents]
    ends = [start + one['duration']['nanoseconds']
            for start, one in zip(starts, documents, strict=True)]
    topics: dict[str, dict[str, Any]] = {}
    for one in documents:
        for entry in one['topics_with_message_count']:
            name = entry['topic_metadata']['name']
            kept = topics.setdefault(name, {**entry, 'message_count': 0})
            kept['message_count'] += entry['message_count']
    return {**documents[0],
            'duration': {'nanoseconds': max(ends) - min(starts)},
            'starting_time': {'nanoseconds_since_epoch': min(starts)},
            'message_count': sum(one['message_count'] for one in documents),
            'topics_with_message_count': list(topics.values()),
            'relative_file_paths': [path for one in documents
                                    for path in one['relative_file_paths']],
            'files': [entry for one in documents for entry in one.get('files') or []]}


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # not every file system can
        shutil.copyfile(source, target)


def _appear(folder: Path, target: Path) -> None:
    """Rename a folder, all of it safe on the disk; where the target is already, it is dropped."""
    try:
        for path in (*folder.rglob('*'), folder):
            _sync(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder, target)
    except OSError as error:
        if target.is_dir():
            _remove(folder)
            return
        raise OutputError(f'{target} cannot be written: {error.strerror}') from error
    _sync(target.parent)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _write(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON file; it is there whole, or not."""
    new = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        new.write_text(json.dumps(document, indent=1) + '\n', encoding='utf-8')
        _sync(new)
        os.replace(new, path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise OutputError(f'{path} cannot be written: {error.strerror}') from error


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
