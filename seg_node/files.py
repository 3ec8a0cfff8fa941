"""Reads the files that a user names: regular ones, bounded, and never waited for."""

import os
from pathlib import Path
import stat

from .errors import ConfigError

_KINDS = ((stat.S_ISDIR, 'a folder'), (stat.S_ISFIFO, 'a named pipe (FIFO)'),
          (stat.S_ISSOCK, 'a socket'), (stat.S_ISCHR, 'a device'), (stat.S_ISBLK, 'a device'))


def user_path(text: str | Path, where: str) -> Path:
    """
    Return the path that a user means, ``~`` and ``~name`` replaced.

    :param where: what named it (a parameter, a file and key), for the message.
    :raises ConfigError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f'{where} is {str(text)!r}: {error}. Write the whole path.') from error


def is_text(name: str) -> bool:
    """Return whether a name of a file is Unicode, which tables, JSON and ROS can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def looked_in(path: Path) -> str:
    """Return for messages where a relative path begins, '' where it is none."""
    try:
        return '' if path.is_absolute() else f' (from {os.getcwd()})'
    except OSError:  # the folder is gone
        return ''


def read_file(path: Path, most: int, mend: str, named: str = '') -> bytes:
    """
    Return the bytes of a regular file.

    A device may never end and a pipe never begin, so nothing else is read, nor opened.

    :param most: bytes that it may have.
    :param mend: what is to be done where it cannot be read, a sentence.
    :param named: how the messages name the file; '' = by its path.
    :raises ConfigError: there is none, it is no regular file, too large, or changes meanwhile.
    """
    named = named or f'{path}{looked_in(path)}'
    try:
        size = _size(os.stat(path), most, mend, named)  # opening a device may set it off
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), 'rb') as file:
            size = _size(os.fstat(file.fileno()), most, mend, named)
            data = file.read(size + 1)
    except OSError as error:
        raise ConfigError(f'{named} cannot be read: {error.strerror}. {mend}') from error
    except ValueError as error:  # a NUL, or what is not Unicode
        raise ConfigError(f'{named} cannot be read: {error}. {mend}') from error
    if len(data) != size:
        raise ConfigError(f'{named} changed while it was read. Try again when it is complete.')
    return data


def _size(status: os.stat_result, most: int, mend: str, named: str) -> int:
    if not stat.S_ISREG(status.st_mode):
        kind = next((words for test, words in _KINDS if test(status.st_mode)), 'something else')
        raise ConfigError(f'{named} is {kind}, not a regular file. {mend}')
    if status.st_size > most:
        raise ConfigError(f'{named} has {status.st_size} bytes; allowed are {most}. {mend}')
    return status.st_size
