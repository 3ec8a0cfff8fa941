"""Bags of ROS 2 (sqlite3, mcap, zstd) and ROS 1 as sources; messages stay undecoded CDR bytes."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from rosbags.interfaces import Connection, QosDurability
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2 import Reader as Ros2Reader
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader
from rosbags.typesys.store import Typestore
import yaml

from ..errors import ConfigError
from .bag_kind import DB3, kind_of_bag, MCAP, ROS1
from .definitions import mismatch, recorded_store
from .picture_source import natural_key
from .sources import (
    ALL,
    IMAGE_TYPES,
    LAST_NS,
    Record,
    Source,
    Span,
    STORAGE_SUFFIXES,
    Topic,
)

try:
    from .mcap_storage import McapStorage
except ImportError:  # rosbags reads those of ROS 2 alone
    McapStorage = None  # type: ignore[assignment, misc]

# Not by its recorded QoS alone: ROS 1 bags and videos of tf have none.
_ALWAYS_LATCHED = '/tf_static'
_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'


def open_bag(path: Path) -> 'BagSource':
    """
    Open a rosbag2 folder or storage file, or a ROS 1 bag.

    :raises ConfigError: when it is unreadable, empty or without an image topic.
    """
    if path.is_file() and kind_of_bag(path) == ROS1:
        return Ros1Bag(path)
    return Ros2Bag(_whole_bag(path))


class BagSource(Source):
    """
    What the bags of both ROS versions share.

    Channels that cannot be ROS topics are left alone, and told by :meth:`remarks`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.losses = Counter()
        self._left_alone: list[str] = []
        self._stores: dict[str, Typestore] = {}
        self._reader = self._open()
        try:
            found = map(self._describe, sorted(self._reader.topics))
            self.topics = tuple(topic for topic in found if topic is not None)
            self._check_images()
        except BaseException:
            self._reader.close()
            raise

    @abstractmethod
    def _open(self) -> Any:
        """Return the opened reader."""

    @abstractmethod
    def _is_latched(self, connection: Connection) -> bool:
        """Return whether late subscribers were given the old messages too."""

    @abstractmethod
    def _is_ros1(self, connection: Connection) -> bool:
        """Return whether messages are in ROS 1's format."""

    def remarks(self) -> list[str]:
        late = self.losses['times_impossible']
        return [*self._left_alone, *[
            f'{late} messages have a time of recording that ROS 2 does not know (before 1970, '
            'after 2038); they are played with those before them'][:late]]

    @property
    def start_ns(self) -> int:
        return _possible(self._reader.start_time)

    @property
    def length_ns(self) -> int:
        return _possible(self._reader.end_time) - self.start_ns

    def close(self) -> None:
        self._reader.close()

    def problem(self, topic: Topic) -> str:
        if any(mismatch(connection.msgdef, topic.type, ros1=self._is_ros1(connection))
               for connection in self._connections([topic.name])):
            return f'recorded with another definition of {topic.type} than the installed one'
        return ''

    def records(self, topics: Collection[str], span: Span = ALL,
                epoch_ns: int | None = None) -> Iterator[Record]:
        connections = self._connections(topics)
        if not connections:
            return
        start = None if not span.offset_ns else self.start_ns + span.offset_ns
        stop = None if span.end_ns is None else self.start_ns + span.end_ns
        if start is not None:
            latched = [one for one in connections if self._is_latched(one)]
            if latched:
                for record in self._read(latched, None, start):
                    yield Record(record.topic, start, record.data)
        read = self._read(connections, start, stop)
        first = next(read, None)
        if first is None:
            self._check_told(connections, span)
            return
        yield first
        yield from read

    def _check_told(self, connections: Sequence[Connection], span: Span) -> None:
        """:raises ConfigError: there is nothing where messages are announced."""
        images = {connection.topic: connection.msgcount for connection in connections
                  if connection.msgtype in IMAGE_TYPES and connection.msgcount}
        if span == ALL and images:
            raise ConfigError(f'{self.path} announces {sum(images.values())} images on '
                              f'{", ".join(sorted(images))}, but holds no message. Copy it again, '
                              'or try `ros2 bag reindex`.')

    def _read(self, connections: Sequence[Connection], start: int | None,
              stop: int | None) -> Iterator[Record]:
        count = last_ns = 0
        self.losses['times_impossible'] = 0
        messages = self._reader.messages(connections, start, stop)
        while True:
            try:
                connection, time_ns, data = next(messages)
                possible_ns = _possible(time_ns)
                self.losses['times_impossible'] += possible_ns != time_ns
                last_ns = min(possible_ns, last_ns) if possible_ns < time_ns else possible_ns
                record = Record(connection.topic, last_ns, self._cdr(data, connection))
            except StopIteration:
                return
            except ConfigError:
                raise
            except Exception as error:  # each storage, codec and conversion has its own kind
                _refuse(self.path, f'breaks after {count} messages', error)
            yield record
            count += 1

    def _connections(self, topics: Collection[str]) -> list[Connection]:
        return [one for one in self._reader.connections if one.topic in topics]

    def _cdr(self, data: bytes, connection: Connection) -> bytes:
        """Return a stored message as CDR bytes."""
        if not self._is_ros1(connection):
            if data.startswith(_ZSTD_MAGIC):  # a storage file does not say so, metadata.yaml does
                raise ConfigError(f"{self.path} holds zstd-compressed messages; give the bag's "
                                  'folder, with its metadata.yaml, instead of the file.')
            return bytes(data)
        store = self._stores.get(connection.msgtype)
        if store is None:
            store = recorded_store(connection.msgdef, connection.msgtype, ros1=True)
            self._stores[connection.msgtype] = store
        return bytes(store.ros1_to_cdr(data, connection.msgtype))

    def _describe(self, name: str) -> Topic | None:
        connections = self._connections([name])
        kinds = sorted({connection.msgtype for connection in connections})
        count = sum(connection.msgcount for connection in connections)
        if len(kinds) > 1:
            self._left_alone.append(f'{name} is left alone: it has messages of '
                                    f'{" and ".join(kinds)}, and a topic has one type')
            return None
        latched = any(self._is_latched(connection) for connection in connections)
        return Topic(name, kinds[0], count, latched or name == _ALWAYS_LATCHED)

    def _check_images(self) -> None:
        if any(topic.is_image and topic.count for topic in self.topics):
            return
        found = ', '.join(f'{topic.name} ({topic.type}, {topic.count})' for topic in self.topics)
        raise ConfigError(f'{self.path} has no image to replay: no message of '
                          f'{" or ".join(IMAGE_TYPES)}. It holds {found or "no topic at all"}.'
                          + ''.join(f' {line}.' for line in self._left_alone))


class Ros2Bag(BagSource):
    """A rosbag2 folder, or one of its sqlite3 or mcap files, an mcap file of ROS 1, too."""

    def _open(self) -> Ros2Reader:
        _check_finished(self.path)
        try:
            reader = _Reader(self.path)
            reader.open()
        except Exception as error:
            _refuse(self.path, 'cannot be opened', error)
        self._storages = getattr(reader.storage, 'storages', [reader.storage])
        self._put_in_order()
        for storage in self._storages:
            self._left_alone += [f'{topic} is left alone: it holds no ROS messages ({what})'
                                 for topic, what in getattr(storage, 'foreign', {}).items()]
            cut_off = getattr(storage, 'cut_off', '')
            if cut_off:
                self.losses['files_cut_off'] += 1
                self._left_alone.append(
                    f'{storage.path} is cut off or damaged ({cut_off}): what is whole of it is '
                    'played; `mcap recover` may find more')
        return reader

    def _put_in_order(self) -> None:
        """Read the files of a split bag by their time, unless their names say another order."""
        listed = [storage.path for storage in self._storages]
        if listed == sorted(listed, key=lambda path: natural_key(path.name)):
            return  # as it was recorded; a clock may have been set back
        self._storages.sort(key=lambda storage: storage.metadata.start_time)
        if listed != [storage.path for storage in self._storages]:
            self._left_alone.append(f'{self.path}: metadata.yaml lists its files in another order '
                                    'than they were recorded in; they are read by their times')

    def _read(self, connections: Sequence[Connection], start: int | None,
              stop: int | None) -> Iterator[Record]:
        try:
            yield from super()._read(connections, start, stop)
        finally:
            self.losses['damaged_chunks'] = sum(getattr(storage, 'damaged_chunks', 0)
                                                for storage in self._storages)

    def remarks(self) -> list[str]:
        damaged = self.losses['damaged_chunks']
        return [*super().remarks(),
                *[f'{self.path} is damaged: {damaged} groups of messages cannot be read and are '
                  'passed over'][:damaged]]

    def _is_latched(self, connection: Connection) -> bool:
        return any(qos.durability == QosDurability.TRANSIENT_LOCAL
                   for qos in connection.ext.offered_qos_profiles)

    def _is_ros1(self, connection: Connection) -> bool:
        return bool(connection.ext.serialization_format == 'ros1')


class _Table(Sqlite3Reader):
    """A file of sqlite3, which rosbags opens by an address: some signs mean something there."""

    def __init__(self, path: Path) -> None:
        super().__init__(Path(quote(str(path))) if set('?#%') & set(str(path)) else path)


def _storages() -> dict[str, Any]:
    """Return what reads the files of each kind of bag of ROS 2."""
    mcap = DirectoryReader.STORAGE_PLUGINS['mcap'] if McapStorage is None else McapStorage
    return {MCAP: mcap, DB3: _Table, 'mcap': mcap, 'sqlite3': _Table}


class _Folder(DirectoryReader):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.STORAGE_PLUGINS = _storages()


class _Reader(Ros2Reader):
    """A bag by what it is, not by the ending of its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_open = False
        self.storage = _Folder(path) if path.is_dir() else _storages()[kind_of_bag(path)](path)


class Ros1Bag(BagSource):
    """A ROS 1 bag; its messages are converted to CDR."""

    def _open(self) -> Ros1Reader:
        try:
            reader = Ros1Reader(self.path)
            reader.open()
        except Exception as error:
            _refuse(self.path, 'cannot be opened', error)
        return reader

    def _is_latched(self, connection: Connection) -> bool:
        return bool(connection.ext.latching)

    def _is_ros1(self, connection: Connection) -> bool:
        return True


def _whole_bag(path: Path) -> Path:
    """Return the folder of a storage file that is a whole bag by itself, else the path."""
    metadata = path.parent / 'metadata.yaml'
    if path.is_dir() or path.suffix not in STORAGE_SUFFIXES or not metadata.exists():
        return path
    try:
        names = yaml.safe_load(metadata.read_text())['rosbag2_bagfile_information'][
            'relative_file_paths']
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return path  # the file may well be readable without it
    return path.parent if [Path(name).name for name in names] == [path.name] else path


def _check_finished(path: Path) -> None:
    """:raises ConfigError: a part of its messages lies in a log beside it, where nobody looks."""
    for log in (path.glob('*-wal') if path.is_dir() else [path.with_name(f'{path.name}-wal')]):
        if log.is_file() and log.stat().st_size:
            table = log.with_name(log.name.removesuffix('-wal'))
            raise ConfigError(f'{table} was not closed by its recorder: messages still lie in '
                              f"{log.name}. Run `sqlite3 {table} 'PRAGMA "
                              "wal_checkpoint(TRUNCATE)'`.")


def _possible(time_ns: int) -> int:
    """Return a time of recording, within what ROS 2 knows."""
    return min(max(0, int(time_ns)), LAST_NS - 1)


def _refuse(path: Path, what: str, error: Exception) -> NoReturn:
    reason = ' '.join((str(error) or type(error).__name__).split()).rstrip('.')
    kind = '' if path.is_dir() else kind_of_bag(path)
    mend = ('`rosbag reindex`' if kind == ROS1
            else '`mcap recover`' if kind == MCAP else '`ros2 bag reindex`')
    if McapStorage is None and 'Profile' in reason:
        raise ConfigError(f'{path} {what}: {reason}. `pip install mcap` reads those of every '
                          'profile.') from error
    raise ConfigError(f'{path} {what}: {reason}. Copy it again, or try {mend} if the recording '
                      'was cut off.') from error
