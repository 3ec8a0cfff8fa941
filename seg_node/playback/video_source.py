"""A video file as camera messages."""

from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigError
from .frames import FrameSource, Picture, picture_of
from .sources import FrameOptions, Span
from .video import Video


class VideoSource(FrameSource):
    """
    A video file; the stamps follow its own frame times, or ``fps`` where that is given.

    What is damaged is passed over and counted.

    :raises ConfigError: when it cannot be opened, holds no frame that can be decoded, or its
        frame rate is unknown.
    """

    def __init__(self, path: Path, options: FrameOptions) -> None:
        with Video(path) as video:
            self._announced = video.count
            if next(video.frames(), None) is None:
                raise ConfigError(f'{path} holds no frame that can be decoded; convert the video '
                                  '(e.g. `ffmpeg -i IN -c:v libx264 OUT.mp4`).')
            if options.fps is None and video.rate is None:
                raise ConfigError(f'{path} does not say how many frames a second it has; give '
                                  '--fps.')
            self._told: list[str] = []
            self._fps: float = options.fps or video.rate or 0.0
        super().__init__(path, options)

    def _count(self) -> int | None:
        return self._announced

    @property
    def period_ns(self) -> int:
        return round(1e9 / self._fps)

    def _pictures(self, span: Span) -> Iterator[tuple[int, str, Picture]]:
        self._told = []
        with Video(self.path) as video:
            for index, frame in enumerate(video.frames()):
                time_ns = (frame.time_ns if self._options.fps is None
                           else round(index * 1e9 / self._fps))
                self._take_stock(video)
                if span.end_ns is not None and time_ns >= span.end_ns:
                    return
                if time_ns >= span.offset_ns:
                    yield time_ns, f'frame {index} of {self.path}', picture_of(frame.bgr())
            self._take_stock(video)
            self.losses['frames_missing'] = video.missing_frames
            self.losses['end_missing'] = int(video.ends_early)
            self._told = video.at_end()

    def _take_stock(self, video: Video) -> None:
        self.losses['damaged_packets'] = video.damaged_packets
        self.losses['damaged_frames'] = video.damaged_frames
        self.losses['faults'] = video.faults

    def remarks(self) -> list[str]:
        found = super().remarks()
        if self.losses['damaged_packets']:
            found.append(f'{self.path} is damaged: {self.losses["damaged_packets"]} pieces could '
                         'not be decoded and are passed over')
        if self.losses['damaged_frames']:
            found.append(f'{self.path} is damaged: {self.losses["damaged_frames"]} frames are '
                         'shown with parts that the decoder painted over')
        return found + self._told
