"""Finds frames in an output's table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from ..errors import ConfigError
from .expression import parse
from .output import RECORDINGS
from .pieces import TABLE
from .rows import dicts

#: By which a frame is told from all others.
KEYS = ('source', 'camera', 'topic', 'stamp_ns', 'recorded_ns')
#: What is shown of a frame where nobody asks for other columns.
SHOWN = ('source', 'camera', 'seconds', 'state', 'drivable', 'confidence', 'free_ahead_m',
         'sharpness')


@dataclass(frozen=True)
class Found:
    """
    The frames that fit.

    :ivar count: how many there are in all.
    :ivar rows: those that were asked for.
    """

    count: int
    rows: pa.Table


def open_table(out: Path) -> ds.Dataset:
    """
    Return the table of all finished recordings of an output.

    :raises ConfigError: there is none, or it cannot be read.
    """
    files = sorted((out / RECORDINGS).glob(f'*/{TABLE}'))
    if not files:
        raise ConfigError(f'{out} holds no finished recording: give the --out of a run of label')
    try:
        return ds.dataset([str(file) for file in files], format='parquet')
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f'the table of {out} cannot be read: {error}') from error


def find(table: ds.Dataset, expression: str, *, sort: str = '', apart_s: float = 0.0,
         limit: int | None = None, columns: Sequence[str] = ()) -> Found:
    """
    Return the rows that fit an expression, in the order of recordings and time.

    :param expression: see ``parse``; '' = all.
    :param sort: a column; with ``-`` before it the greatest come first.
    :param apart_s: of frames of one camera nearer to one another only the first counts.
    :param columns: beside ``KEYS``; () = all.
    :raises ConfigError: an unknown column, or an expression that cannot be read.
    """
    names = table.schema.names
    for name in (*columns, *filter(None, [sort.lstrip('-')])):
        if name not in names:
            raise ConfigError(f'there is no column {name!r}; there are {", ".join(names)}')
    wanted = list(dict.fromkeys((*KEYS, *(columns or names), *filter(None, [sort.lstrip('-')]))))
    chosen = parse(expression, table.schema) if expression.strip() else None
    try:
        if limit is not None and not sort and not apart_s:
            return Found(table.count_rows(filter=chosen),
                         table.head(limit, columns=wanted, filter=chosen))
        rows = table.to_table(columns=wanted, filter=chosen)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f'the table cannot be searched: {error}') from error
    if apart_s:
        rows = rows.filter(pa.array(_apart(rows, round(apart_s * 1e9))))
    if sort:
        order = 'descending' if sort.startswith('-') else 'ascending'
        keys = [(sort.lstrip('-'), order)]
        picked = pc.sort_indices(rows, sort_keys=keys)
        rows = rows.take(picked if limit is None else picked[:limit])
    return Found(len(picked) if sort else rows.num_rows,
                 rows if limit is None else rows.slice(0, limit))


def _apart(rows: pa.Table, gap_ns: int) -> np.ndarray:
    """Return which rows are far enough from the last one kept of their camera, (N,) bool."""
    keep = np.zeros(rows.num_rows, np.bool_)
    last: dict[tuple[Any, Any], int] = {}
    cameras = zip(rows['source'].to_pylist(), rows['camera'].to_pylist(), strict=True)
    for index, (camera, time_ns) in enumerate(zip(
            cameras, rows['recorded_ns'].to_pylist(), strict=True)):
        before = last.get(camera)
        if before is None or not 0 <= time_ns - before < gap_ns:
            keep[index] = True
            last[camera] = time_ns
    return keep


def as_text(rows: pa.Table, columns: Sequence[str]) -> str:
    """Return rows for people."""
    lines = [list(columns)]
    for row in dicts(rows.select(list(columns))):
        lines.append([_said(row[name]) for name in columns])
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)
                               ).rstrip() for line in lines)


def _said(value: Any) -> str:
    if value is None:
        return '-'
    return f'{value:.4g}' if isinstance(value, float) else str(value)
