"""
Damage recordings in many ways and read them, each in a process of its own.

    python scripts/mutated_recordings.py --count 200 --seed 1 [--keep FOLDER]

Bags, videos and folders of pictures are made, damaged (bytes flipped, cut, zeroed, doubled,
lengths blown up) and read to the end as demo and replay read them, every picture decoded. Each
must end within 10 s and 1 GB, by being played or by a refusal in one line; exit code 1 when one
does not.
"""

import argparse
from collections import Counter
from collections.abc import Callable
import os
from pathlib import Path
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

from seg_node.errors import FrameError, SegNodeError
from seg_node.image.decode import decode, MAX_PIXELS
from seg_node.image.wire import build_image, Header, parse_compressed_image, parse_image
from seg_node.playback.open_source import open_source
from seg_node.playback.sources import IMAGE, Span
from seg_node.playback.video import av

LIMIT_S, LIMIT_MB = 10.0, 1024
IMAGE_TYPE = 'sensor_msgs/msg/Image'
HEIGHT, WIDTH, FRAMES = 96, 128, 24


def scene(index: int) -> np.ndarray:
    """Return a smooth picture that moves, (96, 128, 3) uint8 BGR."""
    noise = np.random.default_rng(7).integers(0, 256, (9, 12 + FRAMES, 3), np.uint8)
    return cv2.resize(noise[:, index % FRAMES:index % FRAMES + 12], (WIDTH, HEIGHT))


def make_bag(path: Path, storage: StoragePlugin, mode: CompressionMode) -> None:
    """Write a rosbag2 folder."""
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection('/camera/image_raw', IMAGE_TYPE,
                                           typestore=get_typestore(Stores.ROS2_JAZZY))
        for index in range(FRAMES):
            header = Header(index, 0, 'camera')
            writer.write(connection, 10 ** 18 + index * 10 ** 8,
                         build_image(header, HEIGHT, WIDTH, 'bgr8', scene(index)))


def make_ros1_bag(path: Path) -> None:
    """Write a ROS 1 bag."""
    store = get_typestore(Stores.ROS1_NOETIC)
    types = store.types
    with Ros1Writer(path) as writer:
        connection = writer.add_connection('/camera/image_raw', IMAGE_TYPE, typestore=store)
        for index in range(FRAMES):
            header = types['std_msgs/msg/Header'](
                seq=index, frame_id='camera',
                stamp=types['builtin_interfaces/msg/Time'](sec=index, nanosec=0))
            image = types[IMAGE_TYPE](header, HEIGHT, WIDTH, 'bgr8', 0, WIDTH * 3,
                                      scene(index).reshape(-1))
            writer.write(connection, 10 ** 18 + index * 10 ** 8,
                         bytes(store.serialize_ros1(image, IMAGE_TYPE)))


def make_video(path: Path, codec: str, pixels: str = 'yuv420p') -> None:
    """Write a video by FFmpeg."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(scene(index), format='bgr24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def make_pictures(path: Path, suffix: str) -> None:
    """Write a folder of three pictures."""
    path.mkdir()
    for index in range(3):
        cv2.imwrite(str(path / f'{index}{suffix}'), scene(index))


def seeds(folder: Path) -> list[Path]:
    """Make one recording of each kind; return them."""
    made: list[tuple[str, Callable[[Path], None]]] = [
        ('plain', lambda p: make_bag(p, StoragePlugin.MCAP, CompressionMode.NONE)),
        ('chunks', lambda p: make_bag(p, StoragePlugin.MCAP, CompressionMode.STORAGE)),
        ('messages', lambda p: make_bag(p, StoragePlugin.MCAP, CompressionMode.MESSAGE)),
        ('table', lambda p: make_bag(p, StoragePlugin.SQLITE3, CompressionMode.NONE)),
        ('ros1.bag', make_ros1_bag),
        ('h264.mp4', lambda p: make_video(p, 'libx264')),
        ('h264.ts', lambda p: make_video(p, 'libx264')),
        ('h264.h264', lambda p: make_video(p, 'libx264')),
        ('mpeg4.mkv', lambda p: make_video(p, 'mpeg4')),
        ('mjpeg.avi', lambda p: make_video(p, 'mjpeg', 'yuvj420p')),
        ('flash.flv', lambda p: make_video(p, 'flv')),
        ('small.gif', lambda p: make_video(p, 'gif', 'rgb8')),
        *[(f'pictures{suffix}', lambda p, s=suffix: make_pictures(p, s))  # type: ignore[misc]
          for suffix in ('.jpg', '.png', '.bmp', '.tiff', '.webp', '.ppm')]]
    for name, make in made:
        make(folder / name)
    return [folder / name for name, _ in made]


def damage(data: bytearray, rng: np.random.Generator) -> str:
    """Damage bytes in place; return how."""
    kind = rng.choice(['flip', 'cut', 'zero', 'double', 'length', 'noise', 'head'])
    if not data:
        return 'nothing to damage'
    at = int(rng.integers(len(data)))
    size = int(rng.integers(1, max(2, len(data) // 8)))
    if kind == 'flip':
        for place in rng.integers(len(data), size=int(rng.integers(1, 40))):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == 'cut':
        del data[at:]
    elif kind == 'zero':
        data[at:at + size] = bytes(len(data[at:at + size]))
    elif kind == 'double':
        data[at:at] = data[at:at + size]
    elif kind == 'length':  # somewhere among the first bytes, where the lengths and sizes are
        place = int(rng.integers(min(len(data), 400)))
        width = int(rng.choice([2, 4, 8]))
        data[place:place + width] = rng.choice([b'\xff', b'\x7f', b'\x00', b'\x10']) * width
    elif kind == 'noise':
        data[at:at + size] = rng.bytes(len(data[at:at + size]))
    else:
        del data[:size]
    return f'{kind} at {at} of {len(data)}'


def mutate(seed: Path, target: Path, rng: np.random.Generator) -> str:
    """Copy a recording and damage one of its files; return how."""
    if seed.is_dir():
        shutil.copytree(seed, target)
        files = sorted(file for file in target.iterdir() if file.suffix != '.yaml')
        file = files[int(rng.integers(len(files)))]
    else:
        file = Path(shutil.copy(seed, target))
    data = bytearray(file.read_bytes())
    how = '; '.join(damage(data, rng) for _ in range(int(rng.integers(1, 4))))
    file.write_bytes(data)
    return how


def read(path: Path) -> str:
    """Read a recording to its end as demo and replay do; return what became of it."""
    counts: Counter[str] = Counter()
    with open_source(path) as source:
        types = {topic.name: topic.type for topic in source.topics if topic.is_image}
        for record in source.records(types, Span(), 0 if source.restamps else None):
            try:
                parse = (parse_image if types[record.topic] == IMAGE
                         else parse_compressed_image)
                decode(parse(record.data), MAX_PIXELS)
                counts['frames'] += 1
            except FrameError:
                counts['refused'] += 1
        told = len(source.remarks())
    return f'played: {counts["frames"]} frames, {counts["refused"]} refused, {told} remarks'


def tried(path: Path) -> tuple[str, float, float]:
    """Read a recording in a process of its own; return (outcome, seconds, megabytes)."""
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if not child:
        os.close(reading)
        signal.alarm(round(3 * LIMIT_S))
        try:
            said = read(path)
        except SegNodeError as error:
            said = f'refused: {error}'
        except BaseException:
            said = f'CRASH: {traceback.format_exc()}'
        os.write(writing, said.encode(errors='replace')[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, 'rb') as pipe:
        said = pipe.read().decode(errors='replace')
    _, status, usage = os.wait4(child, 0)
    spent = time.monotonic() - started
    busy = usage.ru_utime + usage.ru_stime
    if status:
        said = f'CRASH: ended by {status} {said}'
    megabytes = usage.ru_maxrss / 1024
    if min(spent, busy + 1) > LIMIT_S:  # a busy machine is no hang
        said = f'HANG: {spent:.1f} s; {said}'
    if megabytes > LIMIT_MB:
        said = f'MEMORY: {megabytes:.0f} MB; {said}'
    return said, spent, megabytes


def run(count: int, seed: int, folder: Path, say: Callable[[str], object] = print) -> list[str]:
    """Try so many damaged recordings; return what went wrong, a line each."""
    wrong: list[str] = []
    rng = np.random.default_rng(seed)
    originals = folder / 'originals'
    originals.mkdir(parents=True)
    kinds = seeds(originals)
    kept: Counter[str] = Counter()
    longest = largest = 0.0
    for index in range(count):
        original = kinds[index % len(kinds)]
        target = folder / f'{index}' / original.name
        target.parent.mkdir()
        how = mutate(original, target, rng)
        said, spent, megabytes = tried(target)
        longest, largest = max(longest, spent), max(largest, megabytes)
        kept[said.partition(':')[0]] += 1
        line = f'{index} {original.name} ({how}): {said}'
        if said.startswith(('CRASH', 'HANG', 'MEMORY')):
            wrong.append(line)
        else:
            shutil.rmtree(target.parent)
        say(line[:200] if not wrong or wrong[-1] != line else line)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(f'{count} recordings: {dict(kept)}; the longest took {longest:.1f} s, the largest '
        f'{largest:.0f} MB, of which {own:.0f} MB the program itself')
    return wrong


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--count', type=int, default=200)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--keep', type=Path, help='folder for what went wrong')
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp())
    wrong = run(options.count, options.seed, folder)
    if options.keep is None:
        shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
