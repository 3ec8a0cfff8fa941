"""Writes mcap bags for `ros2 bag play`, in a thread of its own."""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
import shutil
from threading import Condition, Thread
from types import TracebackType

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import StoragePlugin, Writer

from ..errors import ConfigError
from .definitions import definition_of

_BAG_SUFFIXES = ('.db3', '.mcap', '.tmp', '.zstd')


@dataclass(frozen=True)
class _Channel:
    """A topic to be written: what must be known before its first message."""

    topic: str
    type: str
    definition: str
    type_hash: str
    qos: tuple[Qos, ...]


class BagWriter:
    """
    An mcap bag in the making; a context manager.

    Messages are written by a thread, so that the disk does not disturb the timing of the caller;
    it waits only while more than ``limit`` bytes are pending. :meth:`close` leaves a valid bag of
    what was written, unless the disk failed.

    :param path: the folder to make.
    :param overwrite: replace a bag that lies there.
    :param limit: bytes that may wait to be written.
    :raises ConfigError: when the path exists (and is no bag or ``overwrite`` is not set) or
        cannot be written.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False, limit: int = 1 << 30) -> None:
        self.path = Path(path)
        self.counts: dict[str, int] = {}
        make_way(self.path, overwrite)
        self._limit = limit
        self._channels: dict[str, _Channel] = {}
        self._pending: deque[tuple[str, int, bytes]] = deque()
        self._pending_bytes = 0
        self._changed = Condition()
        self._closing = False
        self._error: Exception | None = None
        self._writer = Writer(self.path, version=9, storage_plugin=StoragePlugin.MCAP)
        try:
            self._writer.open()
        except Exception as error:
            raise ConfigError(f'no bag can be written to {self.path}: {error}. Give a folder '
                              'that can be made.') from error
        self._thread = Thread(target=self._run, name='bag writer', daemon=True)
        self._thread.start()

    def add_topic(self, topic: str, type_name: str, type_hash: str = '',
                  qos: Sequence[Qos] = ()) -> None:
        """
        Announce a topic before its first message; a second time is harmless.

        :param type_hash: what its publisher announces, ``'RIHS01_...'``; '' = as installed.
        :param qos: what its publishers offer.
        :raises ConfigError: when the definition of the type is not known here.
        """
        if topic not in self._channels:
            self._channels[topic] = _Channel(topic, type_name,
                                             *definition_of(type_name, type_hash), tuple(qos))

    def write(self, topic: str, time_ns: int, data: bytes) -> None:
        """
        Have a message written.

        :param time_ns: when it was sent or received; later messages may have earlier times.
        :raises ConfigError: when the bag could not be written, e.g. because the disk is full.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._pending_bytes <= self._limit)
            self._check()
            self._pending.append((topic, time_ns, data))
            self._pending_bytes += len(data)
            self.counts[topic] = self.counts.get(topic, 0) + 1
            self._changed.notify_all()

    def close(self) -> None:
        """
        Write what is pending and complete the bag; without any message, remove it.

        :raises ConfigError: when something could not be written.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._check()
        if not self.counts:
            shutil.rmtree(self.path)

    def __enter__(self) -> 'BagWriter':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _check(self) -> None:
        if self._error is not None:
            raise ConfigError(f'{self.path} could not be written: {self._error}. Free disk space '
                              'or record fewer topics.') from self._error

    def _run(self) -> None:
        connections: dict[str, Connection] = {}
        try:
            while (message := self._next()) is not None:
                topic, time_ns, data = message
                if topic not in connections:
                    connections[topic] = self._connect(self._channels[topic])
                self._writer.write(connections[topic], time_ns, data)
        except Exception as error:  # handed to the caller by the next write() or close()
            self._fail(error)
        try:
            self._writer.close()
        except Exception as error:
            self._fail(error)
            with suppress(Exception):
                self._writer.abort()

    def _next(self) -> tuple[str, int, bytes] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closing)
            if not self._pending:
                return None
            message = self._pending.popleft()
            self._pending_bytes -= len(message[2])
            self._changed.notify_all()
            return message

    def _connect(self, channel: _Channel) -> Connection:
        return self._writer.add_connection(
            channel.topic, channel.type, msgdef=channel.definition, rihs01=channel.type_hash,
            offered_qos_profiles=channel.qos)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()


def make_way(path: Path, overwrite: bool) -> None:
    """Remove the bag at a path if that is wanted and it is nothing but a bag."""
    if not path.exists():
        return
    if not overwrite:
        raise ConfigError(f'{path} exists already; give another path or --overwrite.')
    strange = [path.name] if not path.is_dir() else [
        part.name for part in path.iterdir()
        if part.name != 'metadata.yaml' and part.suffix not in _BAG_SUFFIXES]
    if strange:
        raise ConfigError(f'{path} is not a bag only (found {strange[0]}), so it is not '
                          'overwritten; give another path.')
    shutil.rmtree(path)
