"""Decodes video files of every kind that FFmpeg opens, packet by packet, past what is damaged."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
import math
from pathlib import Path
import re
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..image.photo import upright

try:
    import av
    from av.sidedata.sidedata import Type as SideData
except ImportError:  # an extra: its wheel bundles codecs that no car needs
    av = None

#: 7680 x 4320 fits; a decoder keeps up to 16 pictures.
MAX_PIXELS = 2 ** 25
# Text and single pictures, which FFmpeg takes for videos of one frame.
_NO_VIDEO = ('adf', 'bin', 'idf', 'image2', 'image2pipe', 'tty', 'xbin')
_MAX_RATE = 1000.0  # what a broken container claims is far above
_MAX_STUMBLES = 1000  # packets in a row that cannot be read
_MEND = 'Convert it (e.g. `ffmpeg -i IN -c:v libx264 OUT.mp4`).'
_STEADY = 0.9  # of the frames must be a period apart, for a longer wait to tell of missing ones
_PAUSE = 2 * 50_000  # twice 5 s in 0.1 ms: a longer wait is a pause, which the player tells of
_SHORT_NS = 10 ** 9  # a video may end so much before the time it announces, or two periods
_COVER = 1 << 10  # FFmpeg's AV_DISPOSITION_ATTACHED_PIC: the picture on a record's sleeve
_MATRIX = np.dtype('<i4')


def _any_text() -> dict[str, str]:
    """Return what has PyAV pass over titles that are no Unicode: from 19 on it always does."""
    return {} if int(av.__version__.partition('.')[0]) >= 19 else {'metadata_errors': 'replace'}


@contextmanager
def _listening() -> Iterator[list[tuple[int, str, str]]]:
    """Yield the list of errors (level, who, what) that FFmpeg tells of in this thread."""
    av.logging.set_skip_repeated(False)  # it would tell of the last file in this one's place
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=True) as heard:
            yield heard
    finally:
        av.logging.set_level(None)


class _FrameTimes:
    """How far the frames of a video lie apart."""

    def __init__(self) -> None:
        self._steps: Counter[int] = Counter()  # in 0.1 ms
        self._last_ns: int | None = None

    def add(self, time_ns: int) -> None:
        """Take note of the next frame."""
        if self._last_ns is not None:
            self._steps[round((time_ns - self._last_ns) / 1e5)] += 1
        self._last_ns = time_ns

    @property
    def end_ns(self) -> int:
        """When the last frame was shown, from the first on."""
        return self._last_ns or 0

    def missing(self) -> int:
        """Return how many frames fit into the waits of a video that is steady otherwise."""
        usual = max(self._steps, key=self._steps.__getitem__, default=0)
        near = sum(count for step, count in self._steps.items() if 2 * abs(step - usual) < usual)
        if not usual or near < _STEADY * self._steps.total():
            return 0
        return sum(count * (round(step / usual) - 1) for step, count in self._steps.items()
                   if 3 * usual < 2 * step < _PAUSE)


@dataclass(frozen=True)
class VideoFrame:
    """
    One frame.

    :ivar time_ns: when it is shown, from the first frame on; never before the frame it follows.
    """

    time_ns: int
    _frame: Any
    _turned: int

    def bgr(self) -> np.ndarray:
        """Return it as (height, width, 3) uint8 BGR, turned upright as the file says."""
        return upright(self._frame.to_ndarray(format='bgr24'), self._turned)


class Video:
    """
    A video file, open; a context manager.

    :ivar path: the file.
    :ivar rate: frames per second, on average; None = the file does not say.
    :ivar count: how many frames it announces; None = it does not.
    :ivar damaged_packets: pieces of the file that could not be decoded, until now.
    :ivar damaged_frames: frames of which parts were missing and are painted over by the decoder.
    :ivar faults: pieces that FFmpeg complained about, and that are in neither of these.
    :raises ConfigError: when PyAV is not installed, or the file cannot be opened as a video.
    """

    def __init__(self, path: Path) -> None:
        if av is None:
            raise ConfigError(f'{path}: videos are read by PyAV, which is not installed '
                              '(`pip install av`).')
        self.path = path
        self.damaged_packets = self.damaged_frames = self.faults = 0
        self._first_fault = ''
        self._times = _FrameTimes()
        with _listening():  # what is damaged is told once, by those who use this
            self._container = self._open()
        try:
            self._stream = self._best_stream()
            self._check_size(self._stream.codec_context.width, self._stream.codec_context.height)
        except BaseException:
            self._container.close()
            raise
        # Slice threads would paint over what is damaged without a word.
        self._stream.codec_context.thread_count = 1
        rates = (self._stream.average_rate, self._stream.guessed_rate, self._stream.base_rate)
        self.rate = next((float(rate) for rate in rates if rate and 0 < rate <= _MAX_RATE), None)
        self.count = self._stream.frames or None

    def _open(self) -> Any:
        # Playlists could name other files, or addresses.
        options = {'protocol_whitelist': 'file'}
        try:
            # A relative name like 10:05:33.mp4 would be taken for an address.
            container = av.open(f'file:{self.path}', options=options, **_any_text())
        except (av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, 'strerror', None) or error
            raise ConfigError(f'{self.path} ({self.path.stat().st_size} bytes) cannot be opened '
                              f'as a video: {reason}. It is damaged, cut off or no video. '
                              f'{_MEND}') from error
        names = container.format.name.split(',')
        if any(name in _NO_VIDEO or name.endswith('_pipe') for name in names):
            container.close()
            raise ConfigError(f'{self.path} is no video, but {container.format.long_name}.')
        return container

    def _best_stream(self) -> Any:
        streams = [stream for stream in self._container.streams.video
                   if not int(stream.disposition) & _COVER]
        if not streams:
            raise ConfigError(f'{self.path} holds no video stream, but '
                              f'{", ".join(s.type for s in self._container.streams) or "nothing"}'
                              '.')
        if streams[0].codec_context is None:
            raise ConfigError(f'{self.path} has a codec that FFmpeg does not know. {_MEND}')
        return streams[0]

    @property
    def missing_frames(self) -> int:
        """How many frames seem to be lost between those yielded, by their times."""
        return self._times.missing()

    def at_end(self) -> list[str]:
        """Return a line for each thing that only reading to the end tells."""
        found = []
        if self.missing_frames:
            found.append(f'{self.path}: by their times {self.missing_frames} frames are missing '
                         'between the others')
        if self.faults:
            found.append(f'{self.path}: FFmpeg complains of {self.faults} pieces '
                         f'({self._first_fault})')
        if self.ends_early:
            found.append(f'{self.path} announces {self._announced_ns() / 1e9:.1f} s, but its last '
                         f'frame is at {self._times.end_ns / 1e9:.1f} s')
        return found

    @property
    def ends_early(self) -> bool:
        """Whether what was yielded is much shorter than announced."""
        missing_ns = self._announced_ns() - self._times.end_ns
        return missing_ns > max(_SHORT_NS, 2e9 / (self.rate or 25.0))

    def _announced_ns(self) -> int:
        """Return how long the video says that it is; 0 = it does not."""
        stream, clock = self._stream, self._stream.metadata.get('DURATION', '')
        if stream.duration and stream.time_base:
            return round(stream.duration * stream.time_base * 10 ** 9)
        if re.fullmatch(r'\d+:\d\d:\d\d(\.\d+)?', clock):
            hours, minutes, seconds = clock.split(':')
            return round((int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)) * 10 ** 9)
        if self._container.duration and len(self._container.streams) == 1:
            return int(self._container.duration) * 1000
        return 0

    def frames(self) -> Iterator[VideoFrame]:
        """
        Yield all frames that can be decoded, in the order they are shown.

        :raises ConfigError: a frame that is too large.
        """
        period_ns = 1e9 / (self.rate or 25.0)
        first: Fraction | None = None
        turned, index, last_ns = 1, 0, -1
        for frame in self._decoded():
            self._check_size(frame.width, frame.height)
            shown = None if frame.pts is None else frame.pts * (frame.time_base or Fraction(0))
            if first is None and shown is not None:
                first = shown - Fraction(round(index * period_ns), 10 ** 9)
            if shown is None or first is None:
                time_ns = round(index * period_ns) if last_ns < 0 else last_ns + round(period_ns)
            else:
                time_ns = round((shown - first) * 10 ** 9)
            if time_ns <= last_ns:
                time_ns = max(last_ns + 1, round(index * period_ns))
            turned = _orientation(frame) or turned
            self.damaged_frames += bool(frame.is_corrupt)
            self._times.add(time_ns)
            yield VideoFrame(time_ns, frame, turned)
            index, last_ns = index + 1, time_ns

    def _decoded(self) -> Iterator[Any]:
        """Yield decoded frames; a packet that cannot be decoded is counted and passed over."""
        stumbles = 0
        packets = self._container.demux(self._stream)
        while stumbles < _MAX_STUMBLES:
            frames: list[Any] = []
            with _listening() as heard:
                try:
                    packet = next(packets)
                    frames = packet.decode()
                    stumbles = 0
                except (StopIteration, av.error.EOFError):
                    break
                except (av.error.FFmpegError, ValueError):
                    self.damaged_packets += 1
                    stumbles += 1
                    heard.clear()
            self._note(heard, frames)
            yield from frames
        self._note(heard, [])

    def _note(self, heard: list[tuple[int, str, str]], frames: list[Any]) -> None:
        """Take note of what FFmpeg said of a packet, unless its frames tell by themselves."""
        if not heard or any(frame.is_corrupt for frame in frames):
            return
        self.faults += 1
        _, who, what = heard[0]
        self._first_fault = self._first_fault or f'{who}: {what.strip()}'

    def _check_size(self, width: int, height: int) -> None:
        if width * height > MAX_PIXELS:
            raise ConfigError(f'{self.path} has frames of {width}x{height}; at most {MAX_PIXELS} '
                              f'pixels are decoded. Scale it down.')

    def close(self) -> None:
        """Free the file and the decoder."""
        self._container.close()

    def __enter__(self) -> 'Video':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _orientation(frame: Any) -> int | None:
    """Return EXIF's number for how a frame's display matrix turns it; None = it has none."""
    found = frame.side_data.get(SideData.DISPLAYMATRIX)
    if found is None:
        return None
    a, b, _, c, d, *_ = np.frombuffer(bytes(found), _MATRIX).tolist()
    # The pixel (x, y) is shown at (a x + c y, b x + d y).
    transposed = math.hypot(a, d) < math.hypot(b, c)
    flipped = (b < 0, c < 0) if transposed else (d < 0, a < 0)  # rows, columns
    return {(False, (False, False)): 1, (False, (False, True)): 2, (False, (True, True)): 3,
            (False, (True, False)): 4, (True, (False, False)): 5, (True, (False, True)): 6,
            (True, (True, True)): 7, (True, (True, False)): 8}[transposed, flipped]
