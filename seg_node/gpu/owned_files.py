"""Files that hold code which the node runs: only their owner, or root, may have written them."""

import os
from pathlib import Path
import stat

from ..errors import ConfigError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def read_owned(path: Path) -> bytes:
    """Return a file's content after the check that only its owner can have written it."""
    try:
        with path.open('rb') as file:
            _refuse_others(path, os.fstat(file.fileno()))
            return file.read()
    except OSError as error:
        raise ConfigError(f'{path} cannot be read: {error.strerror}. Build the engine again with '
                          '--force, or remove its folder.') from error


def write_owned(path: Path, content: bytes) -> None:
    """Write a file that others cannot change, down to the disk."""
    with path.open('wb') as file:
        os.fchmod(file.fileno(), 0o644)  # whatever the umask is
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def check_owner(folder: Path) -> None:
    """Refuse a folder that others can write to; see ``read_owned``."""
    try:
        _refuse_others(folder, folder.stat())
    except OSError as error:
        raise ConfigError(f'{folder} cannot be read: {error.strerror}. Give the folder of an '
                          'engine, or build one.') from error


def _refuse_others(path: Path, status: os.stat_result) -> None:
    """Refuse what others may write to: an engine is code that the node would run."""
    if status.st_mode & _OTHERS_WRITE:
        raise ConfigError(f'{path} can be written by others (mode '
                          f'{stat.S_IMODE(status.st_mode):o}), and an engine is code that the '
                          f'node runs. If its content is yours: chmod go-w {path}')
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigError(f'{path} belongs to user {status.st_uid}, not to you '
                          f'({os.geteuid()}) or root, and an engine is code that the node runs. '
                          'Build the engine as the user that runs it, or set SEG_NODE_CACHE.')
