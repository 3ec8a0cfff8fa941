"""A folder of pictures as camera messages."""

from collections import Counter
from collections.abc import Iterator
import mimetypes
from pathlib import Path
import re

import numpy as np

from ..errors import ConfigError, FrameError
from ..image.compressed import inspect, JPEG, PNG
from ..image.decode import check_size, MAX_PIXELS
from ..image.photo import orientation
from ..scoring.picture_file import decode_picture, PICTURE_SUFFIXES
from .frames import FrameSource, Picture, picture_of
from .sources import FrameOptions, Span

FOLDER_FPS = 10.0
_PASSED_ON = {JPEG: 'jpeg', PNG: 'png'}  # by their first bytes, whatever they are called
_RAW = ('.arw', '.cr2', '.cr3', '.dng', '.nef', '.orf', '.raf', '.rw2')


class FolderSource(FrameSource):
    """
    A folder of images in natural order (``frame2`` before ``frame10``), ``fps`` a second.

    What cannot be read is left out, at its time, and counted.

    :raises ConfigError: when it holds no image, or none that can be read.
    """

    def __init__(self, path: Path, options: FrameOptions) -> None:
        # Hidden files are no pictures, whatever they are called (macOS leaves ._a1.jpg about).
        files = [file for file in path.iterdir()
                 if not file.name.startswith('.') and file.is_file()]
        self._files = sorted((file for file in files if file.suffix.lower() in PICTURE_SUFFIXES),
                             key=lambda file: natural_key(file.name))
        if not self._files:
            kinds = Counter(file.suffix or 'no suffix' for file in files)
            kinds['folder'] = sum(inner.is_dir() for inner in path.iterdir())
            kinds = +kinds
            found = ', '.join(f'{count} x {kind}' for kind, count in kinds.most_common(5))
            raise ConfigError(f'{path} holds no image ({", ".join(PICTURE_SUFFIXES)}) and no bag; '
                              f'found: {found or "no file at all"}.')
        self._strange = Counter(file.suffix.lower() for file in files if _is_strange(file))
        self._unreadable: list[str] = []
        super().__init__(path, options)

    def _count(self) -> int:
        return len(self._files)

    @property
    def period_ns(self) -> int:
        return round(1e9 / (self._options.fps or FOLDER_FPS))

    def _pictures(self, span: Span) -> Iterator[tuple[int, str, Picture]]:
        fps = self._options.fps or FOLDER_FPS
        self._unreadable.clear()
        self.losses['pictures_of_other_kinds'] = self._strange.total()
        self.losses['pictures_unreadable'] = given = 0
        for index, file in enumerate(self._files):
            time_ns = round(index * 1e9 / fps)
            if span.end_ns is not None and time_ns >= span.end_ns:
                break
            if time_ns < span.offset_ns:
                continue
            try:
                picture = self._read(file)
            except ConfigError as error:
                # A name that is no UTF-8 could not be printed.
                told = str(error).encode('utf-8', 'backslashreplace').decode()
                self._unreadable.append(told.rstrip('.'))
                self.losses['pictures_unreadable'] += 1
                continue
            given += 1
            yield time_ns, str(file), picture
        if self._unreadable and not given:
            raise ConfigError(f'none of the {len(self._unreadable)} pictures in {self.path} can '
                              f'be read: {self._unreadable[0]}.')

    def _read(self, file: Path) -> Picture:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise ConfigError(f'{file} cannot be read: {error.strerror}.') from error
        array = np.frombuffer(data, np.uint8)
        passed_on = next((kind for begin, kind in _PASSED_ON.items() if data.startswith(begin)),
                         None)
        if passed_on is not None and self._options.transport == 'compressed':
            try:
                height, width = inspect(array)
                check_size(height, width, MAX_PIXELS)
            except FrameError as error:
                raise ConfigError(f'{file} cannot be read: {error}. Remove or mend it.') from None
            if orientation(array) == 1:
                return Picture(height, width, encoded=data, format=passed_on)
        return picture_of(decode_picture(file, data))

    def remarks(self) -> list[str]:
        found = super().remarks()
        if self._unreadable:
            others = len(self._unreadable) - 1
            found.append(f'{len(self._unreadable)} of {len(self._files)} pictures are left out: '
                         f'{self._unreadable[0]}' + (f' ... and {others} more' if others else ''))
        if self._strange:
            kinds = ', '.join(f'{count} {kind}' for kind, count in self._strange.most_common())
            found.append(f'{self.path}: {kinds} left out, of kinds that are not read; convert '
                         'them to JPEG or PNG')
        return found


def _is_strange(file: Path) -> bool:
    """Return whether a file is a picture of a kind that is not read."""
    suffix = file.suffix.lower()
    kind = mimetypes.guess_type(file.name)[0] or ''
    return suffix not in PICTURE_SUFFIXES and (kind.startswith('image/') or suffix in _RAW)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which numbers in names count by value, not digit by digit."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part)
            for part in re.split(r'(\d+)', name) if part]
