"""Split files, as people write them: which pairs of a data set are wanted."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath
import re

from ..errors import ConfigError
from .layouts import Layout
from .picture_file import PICTURE_SUFFIXES


def wanted_names(split: Path, layout: Layout, there: Collection[str]) -> list[str]:
    """
    Return the names of the pairs that a split file lists, in its order.

    A line may be the pair's name or the path of its image, with or without suffix, ending and
    folders above those given; what follows after a space, tab or comma (the path of the label, as
    a rule) is left alone. A byte order mark, CR and empty lines do not matter.

    :param there: the names of the pairs on disk.
    :raises ConfigError: it cannot be read, names no pair, or one twice.
    """
    try:
        lines = split.read_text(encoding='utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'--split {split} cannot be read: {error}. Give a text file with the '
                          'name of one pair a line.') from error
    by_last: dict[str, list[str]] = {}
    for name in there:
        by_last.setdefault(PurePosixPath(name).name, []).append(name)
    names = [_name(line.strip(), layout, there, by_last) for line in lines if line.strip()]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not names or twice:
        raise ConfigError(f'--split {split} ' + (f'names {twice[0]} twice' if twice
                                                 else 'names no pair')
                          + '. It must hold the name of each pair once, one a line.')
    return names


def _name(line: str, layout: Layout, there: Collection[str],
          by_last: dict[str, list[str]]) -> str:
    """Return the pair that a line means; what it says where that is none."""
    plain = ''
    for text in (line, re.split(r'[\s,;]', line)[0]):  # a name may have spaces in it
        path = PurePosixPath(text.strip().strip('"').replace('\\', '/'))
        if path.suffix.lower() in PICTURE_SUFFIXES:
            path = path.with_suffix('')
        plain = path.as_posix().removesuffix(layout.image_ending)
        parts = PurePosixPath(plain).parts
        for first in range(len(parts)):  # from all its folders to none
            name = '/'.join(parts[first:])
            if name in there:
                return name
        found = by_last.get(parts[-1], []) if parts else []
        if len(parts) == 1 and len(found) == 1:
            return found[0]
    return plain
