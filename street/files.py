"""Writes a rendered drive: as the files of a recorded drive, or as a bag."""

import csv
from dataclasses import astuple, fields
from fractions import Fraction
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import cv2
import numpy as np
import yaml

from seg_node import __version__
from seg_node.errors import ConfigError
from seg_node.image.wire import build_compressed_image, build_image, Header
from seg_node.playback.bag_writer import BagWriter
from seg_node.playback.frames import FRAME_ID, JPEG_QUALITY
from seg_node.playback.messages import camera_info_cdr, with_stamp
from seg_node.playback.sources import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE
from seg_node.scoring.drive import BODY, Body, CAMERA, LABELS, MANIFEST, VIDEO

from .rendering import Rendering

CRF = 23
_KEY_FRAME_S = 3.0
_HEAD = '# A rendered drive with exact truth; all files of this folder were made by the command.\n'
# Any time will do; a fixed one makes the bag reproducible.
_START_NS = 1_700_000_000 * 10**9
_IMAGE, _INFO, _TRUTH = '/camera/image_raw', '/camera/camera_info', '/camera/labels'


def write_folder(folder: Path, rendered: Rendering, rate_hz: float, command: str, *,
                 crf: int = CRF, overwrite: bool = False) -> None:
    """
    Write a drive as :class:`seg_node.scoring.drive.Drive` reads it.

    :param command: what made it, for the manifest.
    :param crf: x264's constant rate factor; less is better and larger.
    :param overwrite: replace a drive that lies there.
    :raises ConfigError: when PyAV is not installed or the folder holds something else.
    """
    _make_way(folder, overwrite)
    with (_Video(folder / VIDEO, rendered, rate_hz, crf) as video,
          ZipFile(folder / LABELS, 'w') as labels,
          (folder / BODY).open('w', newline='', encoding='utf-8') as file):
        rows = csv.writer(file, lineterminator='\n')
        rows.writerow(field.name for field in fields(Body))
        for frame in rendered.frames:
            video.add(frame.image)
            _, png = cv2.imencode('.png', frame.labels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
            # Without a date: the same drive is the same bytes.
            labels.writestr(ZipInfo(f'{frame.index:04d}.png'), png.tobytes())
            rows.writerow(f'{value:.6f}' for value in astuple(frame.body))
    (folder / CAMERA).write_text(rendered.calibration.to_yaml(), encoding='utf-8')
    manifest = {
        'command': command, 'renderer': f'street/ of seg_node {__version__}',
        'licence': 'Apache-2.0', 'provenance': 'rendered by the project from code alone: no '
        'photograph, scan, texture or model of anybody else is in it',
        'frames': rendered.count, 'rate_hz': rate_hz, 'width': rendered.calibration.width,
        'height': rendered.calibration.height, 'taxonomy': rendered.taxonomy,
        'video': f'H.264, {video.encoder}, crf {crf}, no B frames'}
    # Last: without it, this is no drive.
    (folder / MANIFEST).write_text(_HEAD + yaml.safe_dump(manifest, sort_keys=False, width=95),
                                   encoding='utf-8')


def write_bag(path: Path, rendered: Rendering, rate_hz: float, *, transport: str = 'raw',
              overwrite: bool = False) -> None:
    """
    Write a drive as an mcap bag, its truth (mono8 class ids) beside the images.

    :param transport: ``'raw'`` (bgr8) or ``'compressed'`` (JPEG).
    :raises ConfigError: when the bag cannot be written.
    """
    info = camera_info_cdr(rendered.calibration, FRAME_ID)
    raw = transport == 'raw'
    topic = _IMAGE if raw else f'{_IMAGE}/compressed'
    with BagWriter(path, overwrite=overwrite) as bag:
        for name, kind in ((_INFO, CAMERA_INFO), (topic, IMAGE if raw else COMPRESSED_IMAGE),
                           (_TRUTH, IMAGE)):
            bag.add_topic(name, kind)
        for frame in rendered.frames:
            stamp_ns = _START_NS + round(frame.index * 1e9 / rate_hz)
            header = Header(*divmod(stamp_ns, 10**9), FRAME_ID)
            bag.write(_INFO, stamp_ns, with_stamp(info, stamp_ns))
            bag.write(topic, stamp_ns, _message(header, frame.image, raw))
            height, width = frame.labels.shape
            bag.write(_TRUTH, stamp_ns, build_image(header, height, width, 'mono8', frame.labels))


def _message(header: Header, image: np.ndarray, raw: bool) -> bytes:
    if raw:
        height, width = image.shape[:2]
        return build_image(header, height, width, 'bgr8', image)
    _, jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return build_compressed_image(header, 'bgr8; jpeg compressed bgr8', jpeg)


class _Video:
    """An H.264 video as a camera encodes it: no B frames, a key frame every few seconds."""

    def __init__(self, path: Path, rendered: Rendering, rate_hz: float, crf: int) -> None:
        try:
            import av
        except ImportError as error:
            raise ConfigError('PyAV is needed to encode a drive: pip install -r '
                              'requirements/street.txt; or render into a bag (--bag).') from error
        self.encoder = f'libx264 by PyAV {av.__version__}'
        self._frame: Any = av.VideoFrame
        self._container = av.open(str(path), 'w')
        rate = Fraction(rate_hz).limit_denominator(1001)
        self._stream: Any = self._container.add_stream('libx264', rate=rate, options={
            'crf': str(crf), 'preset': 'slow', 'bf': '0',
            'g': str(max(1, round(_KEY_FRAME_S * rate_hz)))})
        self._stream.width = rendered.calibration.width
        self._stream.height = rendered.calibration.height
        self._stream.pix_fmt = 'yuv420p'

    def add(self, image: np.ndarray) -> None:
        """Append a BGR picture."""
        self._write(self._frame.from_ndarray(image, format='bgr24'))

    def _write(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def __enter__(self) -> '_Video':
        return self

    def __exit__(self, *_: object) -> None:
        self._write(None)
        self._container.close()


def _make_way(folder: Path, overwrite: bool) -> None:
    """Make the folder, without a drive in it."""
    names = {BODY, CAMERA, LABELS, MANIFEST, VIDEO}
    strange = [path.name for path in folder.iterdir() if path.name not in names
               ] if folder.is_dir() else [folder.name] if folder.exists() else []
    if strange:
        raise ConfigError(f'{folder} is not a drive only (found {strange[0]}), so nothing is '
                          'written there; give another path.')
    if (folder / MANIFEST).exists() and not overwrite:
        raise ConfigError(f'{folder} exists already; give another path or --overwrite.')
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
