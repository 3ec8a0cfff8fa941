"""The pictures and masks of frames that were found: as a contact sheet, as a labelled data set."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from ..errors import brief, ConfigError, SegNodeError
from ..image import wire
from ..image.decode import decode
from ..image.photo import orientation
from ..model.card import load_card
from ..model.taxonomy import ClassTable, UNLABELLED
from ..playback.bags import open_bag
from ..playback.own_results import COMPRESSED
from ..playback.sources import IMAGE, Source, Span
from ..scoring.pictures import caption, contact_sheet, letterboxed, Painter
from .order import Order
from .output import RECORDINGS
from .recordings import Recording
from .rows import dicts

#: Frames nearer than this are read in one go.
_TOGETHER_NS = 5_000_000_000
_JPEG = b'\xff\xd8\xff'
IMAGES, LABELS, LIST = 'images', 'labels', 'frames.csv'


@dataclass(frozen=True)
class FoundFrame:
    """
    A frame that was found.

    :ivar row: its columns.
    :ivar image: (H, W, 3) uint8 BGR.
    :ivar mask: (H, W) uint8 class ids, 255 = unlabelled; all so where the frame was refused.
    :ivar jpeg: the bytes of the camera's own JPEG, b'' where it sent another kind.
    """

    row: dict[str, Any]
    image: np.ndarray
    mask: np.ndarray
    jpeg: bytes = b''


def read_frames(out: Path, order: Order, rows: pa.Table,
                missing: dict[str, str]) -> Iterator[FoundFrame]:
    """
    Yield the frames of rows, recording by recording.

    :param missing: gets by address why the frames of a recording cannot be had.
    """
    by_source: dict[str, list[dict[str, Any]]] = {}
    for row in dicts(rows):
        by_source.setdefault(row['source'], []).append(row)
    for uri, wanted in by_source.items():
        try:
            yield from _of_recording(out, order, Recording(uri), wanted)
        except (SegNodeError, OSError) as error:
            missing[uri] = brief(error)


def _of_recording(out: Path, order: Order, recording: Recording,
                  rows: list[dict[str, Any]]) -> Iterator[FoundFrame]:
    with ExitStack() as stack:
        source = stack.enter_context(order.opened(recording))
        folder = out / RECORDINGS / recording.name
        masks = (stack.enter_context(open_bag(folder))
                 if (folder / 'metadata.yaml').exists() else None)
        kinds = {topic.name: topic.type for topic in source.topics}
        sought = {(row['topic'], row['recorded_ns'], row['stamp_ns']): row for row in rows}
        near = {key[:2] for key in sought}
        for start, end in _spans(sorted({row['recorded_ns'] for row in rows})):
            found = {} if masks is None else _masks(masks, rows, start, end)
            topics = {row['topic'] for row in rows if start <= row['recorded_ns'] <= end}
            offset = start - source.start_ns
            for record in source.records(topics, Span(offset, end - start + 1), epoch_ns=offset):
                parse = (wire.parse_image if kinds[record.topic] == IMAGE
                         else wire.parse_compressed_image)
                if (record.topic, record.time_ns) not in near:
                    continue
                message = parse(record.data)
                row = sought.pop((record.topic, record.time_ns, message.header.stamp_ns), None)
                if row is None or row['width'] is None:  # what was refused shows nothing
                    continue
                image = decode(message)
                mask = found.get((row['camera'], record.time_ns))
                if mask is None:
                    mask = np.full(image.shape[:2], UNLABELLED, np.uint8)
                upright = (message.data[:3].tobytes() == _JPEG
                           and orientation(message.data) == 1)
                yield FoundFrame(row, image, mask, message.data.tobytes() if upright else b'')
        left = [row for row in sought.values() if row['width'] is not None]
        if left:
            raise ConfigError(f'{len(left)} of its frames are not there any more')


def _spans(times: list[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last time of groups that are read in one go."""
    start = last = times[0]
    for time_ns in times[1:]:
        if time_ns - last > _TOGETHER_NS:
            yield start, last
            start = time_ns
        last = time_ns
    yield start, last


def _masks(bag: Source, rows: list[dict[str, Any]], start: int,
           end: int) -> dict[tuple[str, int], np.ndarray]:
    """Return the masks of some time by camera and time of recording."""
    wanted = {(row['camera'], row['recorded_ns']) for row in rows}
    topics = {f'/seg_node/{camera}/mask{COMPRESSED}': camera for camera, _ in wanted}
    found = {}
    offset = start - bag.start_ns
    if offset < 0:
        offset, start = 0, bag.start_ns
    for record in bag.records(topics, Span(offset, max(1, end - start + 1))):
        key = topics[record.topic], record.time_ns
        if key in wanted:
            data = wire.parse_compressed_image(record.data).data
            found[key] = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))
    return found


def classes_of(made_by: dict[str, Any], order: Order) -> ClassTable:
    """Return the classes of an output's masks; the model must be the one that made them."""
    try:
        card = load_card(order.model)
    except ConfigError as error:
        raise ConfigError(f'the class names of the output are those of {made_by["model"]}, which '
                          f'made it: give its folder as --model ({error})') from error
    if card.sha256 != made_by['model_sha256']:
        raise ConfigError(f'the output was made by {made_by["model"]} '
                          f'({made_by["model_sha256"][:12]}), not by {card.name} '
                          f'({card.sha256[:12]}): give its --model')
    return card.main_output.classes


def draw_sheet(title: str, frames: Iterable[FoundFrame], classes: ClassTable,
               columns: int = 4) -> np.ndarray:
    """Return a contact sheet, uint8 BGR: each frame under its class colours."""
    painter = Painter(classes)
    tiles: list[np.ndarray] = []
    for frame in frames:
        row = frame.row
        panel = painter.labels(frame.image, frame.mask)
        if tiles:
            panel = letterboxed(panel, (tiles[0].shape[0] - 2 * _CAPTION, *panel.shape[1:]))
        place = f'{Path(row["source"]).name} {row["camera"]} {row["seconds"]:.2f} s'
        withheld = ' (withheld)' if row['withheld'] else ''
        state = (f'{row["state"]}{withheld}  drivable {_figure(row["drivable"])}  confidence '
                 f'{_figure(row["confidence"])}  free {_figure(row["free_ahead_m"])} m')
        tiles.append(np.vstack([caption(place, panel.shape[1]), caption(state, panel.shape[1]),
                                panel]))
    if not tiles:
        raise ConfigError('no frame that was found can be shown')
    return contact_sheet(title, tiles, painter, min(columns, len(tiles)))


_CAPTION = caption('', 8).shape[0]


def _figure(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}'


def write_frames(folder: Path, frames: Iterable[FoundFrame]) -> int:
    """
    Write frames as a data set of the layout ``pairs``: images/, labels/, and a list of them.

    Pictures stay as the camera sent them where that is JPEG, else they are PNG; labels are PNG
    with the class ids of the model. What is there already stays.

    :returns: how many there are.
    :raises ConfigError: the folder cannot be written.
    """
    count = 0
    try:
        for part in (IMAGES, LABELS):
            (folder / part).mkdir(parents=True, exist_ok=True)
        with (folder / LIST).open('w', newline='', encoding='utf-8') as file:
            writer = None
            for frame in frames:
                name = (f'{Recording(frame.row["source"]).name}-{frame.row["camera"]}-'
                        f'{frame.row["recorded_ns"]:020d}')
                if frame.jpeg:
                    (folder / IMAGES / f'{name}.jpg').write_bytes(frame.jpeg)
                else:
                    _png(folder / IMAGES / f'{name}.png', frame.image)
                _png(folder / LABELS / f'{name}.png', frame.mask)
                row = {'name': name, **frame.row}
                if writer is None:
                    writer = csv.DictWriter(file, list(row))
                    writer.writeheader()
                writer.writerow(row)
                count += 1
    except OSError as error:
        raise ConfigError(f'{folder} cannot be written: {error.strerror}') from error
    return count


def _png(path: Path, image: np.ndarray) -> None:
    _, data = cv2.imencode('.png', image)
    path.write_bytes(data.tobytes())
