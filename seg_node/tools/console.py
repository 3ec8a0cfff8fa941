"""What the tools print: progress on a terminal, quiet otherwise."""

from collections.abc import Iterable
import sys
from typing import TypeVar

Item = TypeVar('Item')


def progress(items: Iterable[Item], title: str, total: int | None = None) -> Iterable[Item]:
    """Return the items behind a progress bar on stderr, if that is a terminal."""
    from tqdm import tqdm
    return tqdm(items, desc=title, total=total, disable=not sys.stderr.isatty(), leave=False)
