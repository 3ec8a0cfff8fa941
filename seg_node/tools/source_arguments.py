"""What demo and replay are asked alike about the source."""

from argparse import ArgumentTypeError
import math
from typing import Any


def add_source_arguments(group: Any) -> None:
    """Add ``--as-encoding`` and ``--max-gap`` to a parser or a group of it."""
    add_encoding_argument(group)
    group.add_argument('--max-gap', type=positive, default=5.0, metavar='S',
                       help='cut longer pauses in the recording to S seconds (default 5)')


def add_encoding_argument(group: Any) -> None:
    """Add ``--as-encoding`` to a parser or a group of it."""
    group.add_argument('--as-encoding', nargs='+', type=_encoding, default=[],
                       metavar='[TOPIC:=]ENCODING',
                       help='what raw images of a bag really are, e.g. bgr8 for 8UC3, of all '
                            'topics or of one (wildcards allowed)')


def whole(text: str) -> int:
    """Return a whole number from 1 on, for argparse."""
    value = int(text)
    if value < 1:
        raise ArgumentTypeError(f'{text} must be a whole number from 1 on')
    return value


def finite(text: str) -> float:
    """Return a number, for argparse; none of what cannot be a time."""
    value = float(text)
    if not math.isfinite(value):
        raise ArgumentTypeError(f'{text} must be a finite number')
    return value


def positive(text: str) -> float:
    """Return a finite number above 0, for argparse."""
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise ArgumentTypeError(f'{text} must be a number above 0')
    return value


def _encoding(text: str) -> tuple[str, str]:
    pattern, separator, encoding = text.rpartition(':=')
    return (pattern if separator else '*', encoding)
