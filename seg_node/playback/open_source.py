"""Opens whatever a user gives as a source of frames."""

from collections.abc import Mapping
import os
from pathlib import Path

from ..errors import ConfigError
from ..files import is_text
from ..scoring.picture_file import PICTURE_SUFFIXES
from .bag_kind import kind_of_bag
from .bags import open_bag
from .declared import DeclaredSource
from .drive_source import DriveSource, is_drive
from .picture_source import FolderSource
from .sources import FrameOptions, Source, STORAGE_SUFFIXES
from .video_source import VideoSource

_ALLOWED = ('a rosbag2 folder (with metadata.yaml), a bag file '
            f'({", ".join(STORAGE_SUFFIXES)}, .bag), a video of any kind that FFmpeg reads (.mp4, '
            f'.mkv, .avi, .mts ...), or a folder of images ({", ".join(PICTURE_SUFFIXES)}) or of '
            'a drive (with drive.yaml)')


def open_source(path: str | Path, options: FrameOptions | None = None,
                encodings: Mapping[str, str] | None = None) -> Source:
    """
    Open a bag, a video, a folder of images or a recorded drive.

    :param path: rosbag2 folder or file (sqlite3 or mcap, zstd-compressed or not), ROS 1 ``.bag``,
        video file, folder of a drive, or folder of images, which are taken in natural order
        (2 before 10).
    :param options: how frames become messages; only for videos and folders.
    :param encodings: what raw images of a bag really are, by shell pattern of their topics.
    :raises ConfigError: when there is no such path, it is none of these, or unreadable, or holds
        no image.
    """
    path = Path(path)
    if path.parts[:1] == ('~',):  # a shell leaves it as it is in INPUT=~/drive
        path = path.expanduser()
    if not is_text(str(path)):
        raise ConfigError(f'the name {ascii(str(path))} is no UTF-8, which ROS 2 and reports '
                          'cannot hold: rename it.')
    _check_readable(path)
    if not (path.is_dir() or path.is_file()):
        raise ConfigError(f'{path} is a device or a pipe, no recording. Give {_ALLOWED}.')
    bag = _bag_path(path)
    if bag is not None:
        if options is not None:
            raise ConfigError(f'{path} is a bag: its topics, stamps and frame ids are the '
                              'recorded ones. Leave out --topic, --frame-id, --fps, --transport '
                              'and --camera-info (--remap renames topics).')
        return _declared(open_bag(bag), encodings)
    if encodings:
        raise ConfigError(f'{path} is no bag, and its pictures go out as bgr8; leave out '
                          '--as-encoding.')
    options = options or FrameOptions()
    if is_drive(path):
        return DriveSource(path, options)
    if path.is_dir():
        return FolderSource(path, options)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        raise ConfigError(f'{path} is a single image; give the folder it lies in.')
    return VideoSource(path, options)


def _check_readable(path: Path) -> None:
    """:raises ConfigError: it does not exist, or this user may not read it."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f'{path} does not exist. Give {_ALLOWED}.') from None
    except OSError as error:
        raise ConfigError(f'{path} cannot be read: {error.strerror}.') from error
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise ConfigError(f'{path} cannot be read: this user has no right to (chmod, chown).')


def is_bag(path: Path) -> bool:
    """
    Return whether a path is opened as a bag.

    :raises ConfigError: it is a part of one by which none is opened.
    """
    return _bag_path(path) is not None


def _declared(source: Source, encodings: Mapping[str, str] | None) -> Source:
    try:
        return DeclaredSource(source, encodings) if encodings else source
    except BaseException:
        source.close()
        raise


def _bag_path(path: Path) -> Path | None:
    """Return the folder or file by which a bag is opened; None when it is no bag."""
    if path.is_dir():
        return _bag_in(path)
    if kind_of_bag(path):
        return path
    if path.suffix == '.zstd' and Path(path.stem).suffix in STORAGE_SUFFIXES:
        raise ConfigError(f'{path} is one compressed file of a bag; give the folder it lies in '
                          '(with its metadata.yaml).')
    return None


def _bag_in(folder: Path) -> Path | None:
    """Return the folder of a bag, or the only file of one whose recording was cut off."""
    if (folder / 'metadata.yaml').exists():
        return folder
    parts = sorted(part for part in folder.iterdir() if part.suffix in STORAGE_SUFFIXES)
    if len(parts) > 1:
        raise ConfigError(f'{folder} holds {parts[0].name} and {len(parts) - 1} more but no '
                          f'metadata.yaml: the recording was cut off. Run `ros2 bag reindex '
                          f'{folder}` or give one of the files.')
    return parts[0] if parts else None
