"""Draws what the node made of a camera's frames: an overlay video and a contact sheet."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np

from ..errors import SegNodeError
from ..scoring.pictures import contact_sheet, letterboxed, OverlayVideo, Painter
from .camera_runs import CameraRun
from .matched import MatchedFrame

TILES = 12
_MAX_FPS = 60.0


def draw(frames: Iterable[MatchedFrame], run: CameraRun, out: Path, suffix: str, painter: Painter,
         report: dict, times_ms: Mapping[int, float]) -> list[str]:
    """
    Write ``overlay<suffix>.mp4`` and ``contact_sheet<suffix>.png``; return what was written.

    :param frames: what was sent, with mask and drivable area where these came.
    :param report: the figures, for the captions.
    :param times_ms: latency by stamp.
    :raises SegNodeError: when a file cannot be written.
    """
    mask, area = run.output('mask'), run.output('drivable')
    account = report['cameras'][run.name]
    every = max(1, account['masks'] // TILES)
    fps = max(1.0, min(_MAX_FPS, account['sent'] / max(report['wall_s'], 0.1)))
    tiles: list[np.ndarray] = []
    shape: tuple[int, ...] = ()
    shown = drawn = 0
    video_path, sheet_path = out / f'overlay{suffix}.mp4', out / f'contact_sheet{suffix}.png'
    with OverlayVideo(video_path, fps, painter) as video:
        for index, frame in enumerate(frames):
            if frame.image is None:
                continue
            drawn += 1
            labels = painter.labels(frame.image, frame.outputs.get(mask))
            drivable = painter.drivable(frame.image, frame.outputs.get(area))
            shape = shape or labels.shape  # a source whose frames change size: the first counts
            labels, drivable = letterboxed(labels, shape), letterboxed(drivable, shape)
            video.add(labels, drivable, _line(report, run, index, frame, mask, times_ms))
            if mask in frame.outputs:
                if shown % every == every // 2 and len(tiles) < TILES:
                    tiles.append(np.vstack([labels, drivable]))
                shown += 1
    if tiles:
        p50 = report['latency_ms'].get('p50')
        title = (f'{report["model"]}   {report["fps"]:g} frames/s   latency p50 '
                 f'{"unknown" if p50 is None else f"{p50:g} ms"}   {report["backend"]}')
        if not cv2.imwrite(str(sheet_path), contact_sheet(title, tiles, painter, 4)):
            raise SegNodeError(f'{sheet_path} cannot be written: is the disk full?')
    return [path.name for path, made in ((sheet_path, tiles), (video_path, drawn)) if made]


def _line(report: dict, run: CameraRun, index: int, frame: MatchedFrame, mask: str,
          times_ms: Mapping[int, float]) -> str:
    spent = times_ms.get(frame.stamp_ns)
    took = ('no mask' if mask not in frame.outputs else '' if spent is None
            else f'{spent:.0f} ms from stamp to receipt')
    return f'{run.name}  frame {index}  {took}   {report["model"]}'
