"""Images that a recording declares wrongly or too vaguely, under the encoding they really have."""

from collections.abc import Collection, Iterator, Mapping
import re

from ..errors import ConfigError, FrameError
from ..image.decode import ENCODINGS, MAX_PIXELS, planes
from ..image.wire import build_image, parse_image
from .sources import ALL, IMAGE, Record, Source, Span, Topic
from .topics import absolute, matches

_TYPE = re.compile(r'(8|16|32|64)[USF](?:C(\d))?')


class DeclaredSource(Source):
    """
    A source whose raw images get other encodings; nothing else of it changes.

    :param source: what to read; it is closed with this.
    :param encodings: the encoding of the topics that fit a shell pattern, e.g. ``{'*': 'bgr8'}``
        for what OpenCV calls 8UC3.
    :raises ConfigError: an encoding that is not known, or no raw image topic fits a pattern.
    """

    def __init__(self, source: Source, encodings: Mapping[str, str]) -> None:
        self._source = source
        self.path, self.topics, self.restamps = source.path, source.topics, source.restamps
        self.losses = source.losses
        raw = [topic.name for topic in source.topics if topic.type == IMAGE]
        self._encodings: dict[str, str] = {}
        for pattern, encoding in encodings.items():
            if encoding not in ENCODINGS:
                raise ConfigError(f'encoding {encoding!r} is unknown; allowed: '
                                  f'{", ".join(ENCODINGS)}.')
            fitting = [name for name in raw if matches(name, [pattern])]
            if not fitting:
                raise ConfigError(f'{source.path} has no raw image topic {pattern}; it has '
                                  f'{", ".join(map(absolute, raw)) or "none"}.')
            self._encodings.update(dict.fromkeys(fitting, encoding))

    def records(self, topics: Collection[str], span: Span = ALL,
                epoch_ns: int | None = None) -> Iterator[Record]:
        self._source.max_gap_ns = self.max_gap_ns
        for record in self._source.records(topics, span, epoch_ns):
            encoding = self._encodings.get(record.topic)
            yield record if encoding is None else self._declared(record, encoding)

    def _declared(self, record: Record, encoding: str) -> Record:
        """:raises ConfigError: when the pixels cannot have that encoding."""
        try:
            image = parse_image(record.data)
        except FrameError:
            return record  # the node says what is wrong with it
        data = build_image(image.header, image.height, image.width, encoding, image.data,
                           step=image.step, is_bigendian=image.is_bigendian)
        try:
            first = planes(parse_image(data), MAX_PIXELS)[0]
        except FrameError as error:
            if error.reason == 'size':
                return record
            raise ConfigError(f'{absolute(record.topic)} cannot be {encoding}: {error}.') from None
        told = _TYPE.fullmatch(image.encoding)
        if told is not None:
            bits, channels = int(told[1]), int(told[2] or 1)
            if bits * channels != 8 * first.itemsize * first.shape[2]:
                raise ConfigError(f'{absolute(record.topic)} cannot be {encoding}: '
                                  f'{image.encoding} has {bits * channels // 8} bytes a pixel, '
                                  f'{encoding} {first.itemsize * first.shape[2]}.')
        return Record(record.topic, record.time_ns, data)

    @property
    def start_ns(self) -> int:
        return self._source.start_ns

    @property
    def length_ns(self) -> int | None:
        return self._source.length_ns

    def problem(self, topic: Topic) -> str:
        return self._source.problem(topic)

    def remarks(self) -> list[str]:
        return self._source.remarks()

    def close(self) -> None:
        self._source.close()
