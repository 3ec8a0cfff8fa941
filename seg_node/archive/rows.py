"""The table: a row for each frame, what its columns mean, and how they are made."""

from collections.abc import Mapping
from pathlib import Path
import re
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..frame import Products
from ..model.taxonomy import ClassTable, UNLABELLED

#: The state of a frame that the node would publish nothing for.
REFUSED = 'refused'
_WORDS = pa.dictionary(pa.int32(), pa.string())
#: Column, type and meaning; behind them a ``share_<class>`` for each class of the model.
COLUMNS: Mapping[str, tuple[pa.DataType, str]] = {
    'source': (_WORDS, 'path or address of the recording'),
    'camera': (_WORDS, 'name of the camera, as `demo` and the node call it'),
    'topic': (_WORDS, 'image topic in the recording'),
    'stamp_ns': (pa.int64(), "the image's stamp; of videos and folders the time in the recording"),
    'recorded_ns': (pa.int64(), 'when it was recorded; of videos and folders as the stamp'),
    'seconds': (pa.float64(), 'the same from the start of the recording'),
    'time': (pa.timestamp('ns', 'UTC'), 'the same as a time: `time > "2026-03-01"`'),
    'width': (pa.int32(), 'of the image'),
    'height': (pa.int32(), 'of the image'),
    'state': (_WORDS, "the camera's state as the node tells it: ok, doubtful, blind; or refused: "
                      'the node would publish nothing'),
    'reason': (pa.string(), "why it is not ok; '' if it is"),
    'frame_state': (_WORDS, 'what is thought of this frame alone: ok, doubtful, blind'),
    'doubt': (pa.float32(), 'of this frame: above 0 its mask is implausible; null without a '
                            "reference in the model's card"),
    'withheld': (pa.bool_(), 'the node withholds its mask: all is unlabelled'),
    'drivable': (pa.float32(), 'share of the picture that is drivable, 0 to 1'),
    'confidence': (pa.float32(), 'mean confidence, 0 to 1'),
    'nearest_m': (pa.float32(), 'nearest ground that is not drivable, from the foot of the '
                                'camera; null: none in sight, or no calibration with a mount'),
    'free_ahead_m': (pa.float32(), 'how far the ground is free straight ahead, 2 m wide, in the '
                                   'base frame; null without a calibration with a mount'),
    'sharpness': (pa.float32(), "variance of the picture's Laplacian"),
    'brightness': (pa.float32(), 'mean grey level, 0 to 255'),
    'model': (_WORDS, 'name of the model'),
    'model_sha256': (_WORDS, 'digest of its network'),
    'version': (_WORDS, 'of seg_node'),
    'backend': (_WORDS, 'what ran the network'),
    'precision': (_WORDS, 'what it computed in; null: the network takes bytes and does not tell'),
    'threads': (pa.int32(), 'of the network on the CPU; 0 = one a core'),
    'cpu': (_WORDS, 'kind of processor: its name and a digest of its abilities'),
}
_GROUP = 1024  # rows kept in memory until they are written


def columns_table() -> str:
    """Return the columns as the documentation shows them."""
    lines = ['| column | what |', '|---|---|']
    lines += [f'| `{name}` | {about} |' for name, (_, about) in COLUMNS.items()]
    lines.append('| `share_CLASS`, `share_unlabelled` | share of each class of the model in the '
                 'mask, 0 to 1 |')
    return '\n'.join(lines)


def share_of(name: str) -> str:
    """Return the column of a class."""
    return 'share_' + re.sub(r'\W+', '_', name).strip('_').lower()


def schema(classes: ClassTable) -> pa.Schema:
    """Return the columns of a model's table."""
    shares = [share_of(entry.name) for entry in classes.classes if not entry.void]
    return pa.schema([(name, kind) for name, (kind, _) in COLUMNS.items()]
                     + [(name, pa.float32()) for name in dict.fromkeys(shares)]
                     + [(share_of('unlabelled'), pa.float32())])


def figures(products: Products, classes: ClassTable) -> dict[str, Any]:
    """Return what is told of a frame and its mask alone, by column."""
    mask = products.images['mask']
    size = mask.size
    counts = cv2.calcHist([mask], [0], None, [256], [0, 256]).reshape(-1) / size
    found: dict[str, Any] = {'width': products.geometry.camera.width,
                             'height': products.geometry.camera.height}
    for entry in classes.classes:
        if not entry.void:
            name = share_of(entry.name)
            found[name] = found.get(name, 0.0) + float(counts[entry.id])
    found[share_of('unlabelled')] = float(counts[UNLABELLED])
    drivable, confidence = (products.images.get(name) for name in ('drivable', 'confidence'))
    if drivable is not None:
        found['drivable'] = cv2.countNonZero(drivable) / size
    if confidence is not None:
        found['confidence'] = cv2.mean(confidence)[0] / 255
    standing = products.standing
    if standing is not None:
        verdict = standing.verdict
        found |= {'state': str(standing.state), 'reason': standing.reason,
                  'frame_state': str(verdict.state), 'withheld': standing.withheld,
                  'doubt': verdict.figures.get('doubt'),
                  'brightness': verdict.figures.get('brightness')}
    found['sharpness'] = sharpness(products.frame.grey)
    return found


def sharpness(grey: np.ndarray) -> float:
    """Return the variance of the Laplacian of (H, W) uint8."""
    _, spread = cv2.meanStdDev(cv2.Laplacian(np.ascontiguousarray(grey), cv2.CV_16S))
    return float(spread[0, 0]) ** 2


class Table:
    """
    A Parquet file in the making; a context manager. Memory stays bounded.

    :param constants: values of columns that are the same in all rows.
    :raises OSError: it cannot be written.
    """

    def __init__(self, path: Path, columns: pa.Schema, constants: Mapping[str, Any]) -> None:
        self._columns, self._constants = columns, constants
        self._rows: list[dict[str, Any]] = []
        self._writer = pq.ParquetWriter(path, columns, compression='zstd')

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; a column that is not in it is null."""
        self._rows.append({**self._constants, **row})
        if len(self._rows) >= _GROUP:
            self._flush()

    def __enter__(self) -> 'Table':
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._rows:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, self._columns))
        self._rows.clear()


def merge(parts: list[Path], path: Path) -> int:
    """Write the rows of some tables into one, in their order; return how many there are."""
    columns = pq.read_schema(parts[0])
    rows = 0
    with pq.ParquetWriter(path, columns, compression='zstd') as writer:
        for part in parts:
            with pq.ParquetFile(part) as file:
                for index in range(file.num_row_groups):
                    group = file.read_row_group(index)
                    rows += group.num_rows
                    writer.write_table(group)
    return rows


def dicts(rows: pa.Table) -> list[dict[str, Any]]:
    """Return rows by the names of their columns; times in microseconds, as Python has them."""
    for index, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            micro = pc.cast(rows.column(index), pa.timestamp('us', field.type.tz), safe=False)
            rows = rows.set_column(index, field.name, micro)
    return rows.to_pylist()
