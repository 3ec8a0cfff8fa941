"""MCAP files of every profile as storage of rosbags; channels that are not ROS are left alone."""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
import re
from typing import Any, BinaryIO

from mcap.data_stream import ReadDataStream
from mcap.exceptions import EndOfFile
from mcap.reader import make_reader
from mcap.records import Channel, Chunk, ChunkIndex, Message, Schema
from mcap.stream_reader import breakup_chunk, StreamReader
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    Qos,
)
from rosbags.rosbag2.errors import ReaderError
from rosbags.rosbag2.metadata import parse_qos, ReaderMetadata

from .bag_kind import MCAP_BEGIN

_FORMATS = {'ros1msg': MessageDefinitionFormat.MSG, 'ros2msg': MessageDefinitionFormat.MSG,
            'ros2idl': MessageDefinitionFormat.IDL, 'omgidl': MessageDefinitionFormat.IDL,
            '': MessageDefinitionFormat.NONE}
_ROS = ('cdr', 'ros1')
_RECORD_LIMIT = 1 << 30
_CHUNK_HEAD = 1 + 8  # opcode and length
_NEVER = 2 ** 63 - 1


class McapStorage:
    """
    One MCAP file, in the terms of rosbags' readers.

    :ivar connections: the channels with ROS messages; ``ext.serialization_format`` of those from
        ROS 1 is ``'ros1'``.
    :ivar foreign: what the other channels hold, by topic, e.g. ``'json, 5 messages'``.
    :ivar damaged_chunks: groups of messages that could not be read, when it was read last.
    :ivar cut_off: why the file ends early; '' = it does not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: list[Connection] = []
        self.metadata = ReaderMetadata(0, _NEVER, 0, 0, None, None, None, None)
        self.foreign: dict[str, str] = {}
        self.cut_off = ''
        self.damaged_chunks = 0
        self._chunks: list[ChunkIndex] = []
        self._file: BinaryIO | None = None

    def open(self) -> None:
        """
        Read what the file holds; without an index, by reading all of it.

        :raises ReaderError: when it is no MCAP file, or holds no whole message.
        """
        size = self.path.stat().st_size
        self._file = self.path.open('rb')
        try:
            begin = self._file.read(len(MCAP_BEGIN))
            if begin != MCAP_BEGIN:
                raise ReaderError(f'its {size} bytes begin with {begin.hex()}, which no MCAP file '
                                  'does' if size else 'the file is empty')
            self._describe(*self._contents())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def messages(self, connections: Collection[Connection], start: int | None = None,
                 stop: int | None = None) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield (connection, log time in ns, message); by time, where there is an index."""
        wanted = {connection.id: connection for connection in connections}
        for message in self._messages(set(wanted), start, stop):
            if (message.channel_id in wanted and (start is None or message.log_time >= start)
                    and (stop is None or message.log_time < stop)):
                yield wanted[message.channel_id], message.log_time, message.data

    def _messages(self, channels: set[int], start: int | None,
                  stop: int | None) -> Iterator[Message]:
        if not self._chunks:
            yield from (record for record in self._records() if isinstance(record, Message))
            return
        self.damaged_chunks = 0
        pending = sorted((chunk for chunk in self._chunks
                          if (start is None or chunk.message_end_time >= start)
                          and (stop is None or chunk.message_start_time < stop)),
                         key=lambda chunk: chunk.message_start_time, reverse=True)
        ready: list[tuple[int, int, Message]] = []
        order = count()
        while pending or ready:  # chunks overlap in time where several topics were recorded
            if pending and (not ready or pending[-1].message_start_time <= ready[0][0]):
                for message in self._in_chunk(pending.pop(), channels):
                    heappush(ready, (message.log_time, next(order), message))
            else:
                yield heappop(ready)[2]
        if self.damaged_chunks == len(self._chunks):
            raise ReaderError('all groups of messages are damaged')

    def _in_chunk(self, index: ChunkIndex, channels: set[int]) -> list[Message]:
        """Return the messages of some channels in a chunk; none of one that is damaged."""
        assert self._file is not None
        try:
            self._file.seek(index.chunk_start_offset + _CHUNK_HEAD)
            chunk = Chunk.read(ReadDataStream(self._file))
            return [record for record in breakup_chunk(chunk, validate_crc=True)
                    if isinstance(record, Message) and record.channel_id in channels]
        except Exception:  # each compression has its own kinds
            self.damaged_chunks += 1
            return []

    def _records(self) -> Iterator[Any]:
        """Yield all records in their order; of a file that was cut off those before its end."""
        reader = StreamReader(self._rewound(), record_size_limit=_RECORD_LIMIT)
        try:
            yield from reader.records
        except EndOfFile:
            self.cut_off = self.cut_off or 'it has no end'
        except Exception as error:  # of the library and of each compression
            if not self.cut_off:
                raise
            self.cut_off = f'{str(error) or type(error).__name__}'

    def _rewound(self) -> BinaryIO:
        assert self._file is not None
        self._file.seek(0)
        return self._file

    def _contents(self) -> tuple[dict[int, Channel], dict[int, Schema], Counter[int], int, int]:
        """Return channels, schemas, the count of messages by channel, first and last time."""
        self._chunks = []
        with suppress(StopIteration):
            try:
                summary = make_reader(self._rewound()).get_summary()
            except Exception as error:  # whatever the end of a cut file looks like
                self.cut_off = str(error) or type(error).__name__
                summary = None
            if summary is not None and summary.statistics is not None and summary.channels:
                found = summary.statistics
                self._chunks = summary.chunk_indexes
                return (summary.channels, summary.schemas,
                        Counter(found.channel_message_counts), found.message_start_time,
                        found.message_end_time)
        return self._scanned()

    def _scanned(self) -> tuple[dict[int, Channel], dict[int, Schema], Counter[int], int, int]:
        channels: dict[int, Channel] = {}
        schemas: dict[int, Schema] = {}
        counts: Counter[int] = Counter()
        first, last = _NEVER, 0
        for record in self._records():
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message):
                counts[record.channel_id] += 1
                first, last = min(first, record.log_time), max(last, record.log_time)
        if self.cut_off and not counts:
            raise ReaderError(f'it is cut off before its first whole message ({self.cut_off})')
        return channels, schemas, counts, first, last

    def _describe(self, channels: dict[int, Channel], schemas: dict[int, Schema],
                  counts: Counter[int], first: int, last: int) -> None:
        total = counts.total()
        self.metadata = self.metadata._replace(
            duration=last - first + 1 if total else 0, start_time=first if total else _NEVER,
            end_time=last + 1 if total else 0, message_count=total)
        for number, channel in sorted(channels.items()):
            schema = schemas.get(channel.schema_id)
            encoding = '' if schema is None else schema.encoding
            if channel.message_encoding not in _ROS or encoding not in _FORMATS:
                kind = channel.message_encoding or encoding or 'unknown'
                self.foreign[channel.topic] = f'{kind}, {counts[number]} messages'
                continue
            definition = MessageDefinition(
                _FORMATS[encoding], '' if schema is None else schema.data.decode(errors='replace'))
            self.connections.append(Connection(
                number, channel.topic, _ros2_name('' if schema is None else schema.name),
                definition, '', counts[number],
                ConnectionExtRosbag2(channel.message_encoding, _qos(channel)), self))


def _ros2_name(name: str) -> str:
    """Return ``pkg/msg/Name`` for ROS 1's ``pkg/Name``."""
    return re.sub(r'^(\w+)/(\w+)$', r'\1/msg/\2', name) or '__schemaless__'


def _qos(channel: Channel) -> list[Qos]:
    return parse_qos(channel.metadata.get('offered_qos_profiles', ''))
