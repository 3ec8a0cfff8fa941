"""Renders the synthetic drive into a bag: images, camera_info and the true labels."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import os
from pathlib import Path
from typing import Any

import cv2

from seg_node.ground.calibration import CameraCalibration
from seg_node.image.wire import build_image, Header
from seg_node.playback.bag_writer import BagWriter
from seg_node.playback.messages import camera_info_cdr, with_stamp
from seg_node.playback.sources import CAMERA_INFO, IMAGE
from seg_node.tools.console import progress

from . import SyntheticDrive

IMAGE_TOPIC, INFO_TOPIC, TRUTH_TOPIC = '/camera/image_raw', '/camera/camera_info', '/camera/labels'
FRAME_ID = 'camera_optical_frame'
START_NS = 1_700_000_000 * 10**9  # any time will do; a fixed one makes the bag reproducible

_drive: SyntheticDrive | None = None  # what a worker process renders


def write_drive(path: Path, *, width: int, height: int, rate_hz: float, duration_s: float,
                seed: int, district: str | None = None) -> int:
    """
    Render a drive on all cores and write it as an mcap bag.

    The truth (mono8 ids of the drive's taxonomy) lies beside the images on ``TRUTH_TOPIC``.

    :returns: the number of frames.
    :raises ConfigError: when the bag cannot be written.
    """
    settings = {'width': width, 'height': height, 'rate_hz': rate_hz, 'duration_s': duration_s,
                'seed': seed, 'district': district}
    # Spawned, not forked: OpenCV's threads do not survive a fork.
    with ProcessPoolExecutor(os.cpu_count(), get_context('spawn'), _prepare,
                             (settings,)) as workers:
        count, calibration = workers.submit(_describe).result()
        info = camera_info_cdr(calibration, FRAME_ID)
        frames = workers.map(_render, range(count), chunksize=4)
        with BagWriter(path, overwrite=True) as bag:
            for topic, kind in ((INFO_TOPIC, CAMERA_INFO), (IMAGE_TOPIC, IMAGE),
                                (TRUTH_TOPIC, IMAGE)):
                bag.add_topic(topic, kind)
            for time_s, image, labels in progress(frames, 'rendering', count):
                stamp_ns = START_NS + round(time_s * 1e9)
                header = Header(stamp_ns // 10**9, stamp_ns % 10**9, FRAME_ID)
                bag.write(INFO_TOPIC, stamp_ns, with_stamp(info, stamp_ns))
                for topic, encoding, pixels in ((IMAGE_TOPIC, 'bgr8', image),
                                                (TRUTH_TOPIC, 'mono8', labels)):
                    bag.write(topic, stamp_ns,
                              build_image(header, height, width, encoding, pixels))
    return count


def _prepare(settings: dict[str, Any]) -> None:
    global _drive
    cv2.setNumThreads(1)  # the processes share the cores already
    _drive = SyntheticDrive(**settings)


def _describe() -> tuple[int, CameraCalibration]:
    assert _drive is not None
    return len(_drive), _drive.calibration


def _render(index: int) -> tuple:
    assert _drive is not None
    frame = _drive.frame(index)
    return frame.time_s, frame.image, frame.labels
