"""Small archives of recordings for the tests, and what their labels are without any archive."""

import hashlib

import cv2
import numpy as np
import pyarrow.parquet as pq
from recordings import IMAGE, PERIOD_NS, START_NS, write_bag

from seg_node.archive.order import Order
from seg_node.archive.output import Lock, Output
from seg_node.archive.recordings import find_recordings
from seg_node.archive.worker import Worker
from seg_node.devices.choose import ONNX_RUNTIME, Wish
from seg_node.image.wire import build_image, Header
from seg_node.playback.sources import Record

#: Of Cityscapes, BGR: the palette model tells classes by them.
ROAD, SKY, CAR = (128, 64, 128), (180, 130, 70), (142, 0, 0)
PIECE_S = 2.0


def scene(index, height=48, width=64):
    """Return a street whose car drives to the right, (height, width, 3) uint8 BGR."""
    image = np.empty((height, width, 3), np.int16)
    image[:height // 2], image[height // 2:] = SKY, ROAD
    left = index % (width - 12)
    image[height // 2 - 4:height // 2 + 6, left:left + 12] = CAR
    image += np.random.default_rng(index).integers(-9, 10, image.shape, np.int16)
    return image.clip(0, 255).astype(np.uint8)


def bag(path, count, first=0, pictures=scene, size=(48, 64)):
    """Write a bag of scenes, ten a second."""
    messages = []
    for index in range(count):
        time_ns = START_NS + index * PERIOD_NS
        header = Header(*divmod(time_ns - 5_000_000, 10**9), 'front')
        messages.append(Record(IMAGE, time_ns, build_image(
            header, *size, 'bgr8', pictures(first + index, *size))))
    return write_bag(path, messages)


def order(models, **changes):
    """Return an order for the palette model, in short pieces."""
    return Order(str(models / 'palette_cityscapes19'), Wish(ONNX_RUNTIME, threads=1),
                 **{'piece_s': PIECE_S, **changes})


def label_here(made, sources, out, *, stop_after=None):
    """
    Label in this very process, one after the other, without Ray.

    :param stop_after: pieces after which it stops as if it were killed.
    """
    recordings, _, _ = find_recordings(map(str, sources))
    output, worker = Output(out), Worker(made, out)
    with Lock(output):
        opened = worker.open()
        assert not opened.lost, opened
        output.adopt(opened.value[0])
        for recording in recordings:
            looked = worker.look(recording).value
            for piece in looked.pieces:
                if not output.has(piece):
                    if stop_after == 0:
                        return
                    answer = worker.label(piece)
                    assert not (answer.refused or answer.fatal or answer.lost), answer
                    stop_after = None if stop_after is None else stop_after - 1
            worker.finish(recording, len(looked.pieces), looked.fingerprint)
        worker._labeller.close()


def digests(out):
    """Return what lies in an output, by path: a digest of each file."""
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.rglob('*')) if path.is_file() and path.name != 'lock'}


def rows(out):
    """Return all rows of an output."""
    return [row for path in sorted(out.glob('recordings/*/frames.parquet'))
            for row in pq.read_table(path).to_pylist()]


def folder_of_pictures(path, count):
    path.mkdir(parents=True)
    for index in range(count):
        cv2.imwrite(str(path / f'{index}.png'), scene(index))
    return path


def video(path, count, fps=10.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), fps, (64, 48))
    assert writer.isOpened()
    for index in range(count):
        writer.write(scene(index))
    writer.release()
    return path
