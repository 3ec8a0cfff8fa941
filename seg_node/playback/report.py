"""The demo's report: what was sent, what came back, how late, how good, at what cost."""

from collections.abc import Mapping
import json
from pathlib import Path

import numpy as np

from ..errors import SegNodeError
from ..scoring.metrics import BinaryIoU, ConfusionMatrix
from .bags import Ros2Bag
from .replay_options import ReplayResult


def latencies_ms(result: ReplayResult, image_topic: str, mask_topic: str) -> dict[int, float]:
    """Return, by stamp, how long each mask took from sending its frame to its receipt."""
    sent = dict(result.sent.get(image_topic, ()))
    return {stamp: (got_ns - sent[stamp]) / 1e6
            for stamp, got_ns in result.received.get(mask_topic, ()) if stamp in sent}


def last_diagnostics(bag: Path) -> dict[str, dict[str, str]]:
    """Return the figures of the last status of each part of the node, by the part's name."""
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.serialization import deserialize_message
    parts: dict[str, dict[str, str]] = {}
    with Ros2Bag(bag) as source:
        for record in source.records(['/diagnostics']):
            for status in deserialize_message(record.data, DiagnosticArray).status:
                node, _, part = status.name.rpartition(': ')
                if node == 'seg_node':
                    parts[part] = {pair.key: pair.value for pair in status.values}
    return parts


def make_report(result: ReplayResult, answers: Mapping[str, str], cameras: list[str],
                quality: tuple[ConfusionMatrix, BinaryIoU] | None) -> dict:
    """
    Put the figures together.

    :raises SegNodeError: when frames are missing that nobody counted.
    """
    assert result.bag is not None
    parts = last_diagnostics(result.bag)
    times = [ms for pair in answers.items() for ms in latencies_ms(result, *pair).values()]
    count = {key: sum(int(parts[camera][key]) for camera in cameras)
             for key in ('received', 'segmented', 'dropped', 'refused')}
    lost = result.frames_sent - count['received']
    report: dict = {
        'frames_sent': result.frames_sent, 'frames_segmented': len(times),
        'frames_dropped': count['dropped'] + lost, 'frames_refused': count['refused'],
        'frames_lost_in_transport': lost,
        'wall_s': round(result.wall_s, 2),
        'fps': round(len(times) / result.wall_s, 2) if result.wall_s else 0.0,
        'latency_ms': {f'p{percent}': round(float(np.percentile(times, percent)), 1)
                       for percent in (50, 95, 99)} if len(times) else {},
        'stages_ms': _stages(parts, cameras),
        **{key: parts['node'].get(key, '') for key in ('model', 'backend', 'device')}}
    if quality is not None:
        confusion, drivable = quality
        report.update(miou=round(confusion.miou(), 4),
                      iou={name: round(iou, 4) for name, iou in confusion.iou().items()},
                      drivable_iou=round(drivable.value(), 4))
    if result.notices:
        report['notices'] = result.notices
    accounted = (report['frames_segmented'] + report['frames_dropped']
                 + report['frames_refused'])
    if accounted != report['frames_sent']:
        raise SegNodeError(f'{report["frames_sent"]} frames were sent but {accounted} are '
                           f'accounted for: {json.dumps(report)}')
    return report


def _stages(parts: Mapping[str, Mapping[str, str]], cameras: list[str]) -> dict[str, float]:
    """Return the median time of each stage, the slowest camera's."""
    stages: dict[str, float] = {}
    for camera in cameras:
        for key, value in parts[camera].items():
            if key.startswith('stage_'):
                name = key.removeprefix('stage_').removesuffix('_ms')
                stages[name] = max(stages.get(name, 0.0), float(value))
    return stages


def as_table(report: dict) -> str:
    """Return the report for people."""
    latency = ', '.join(f'{name} {value:g}' for name, value in report['latency_ms'].items())
    stages = ', '.join(f'{name} {value:g}' for name, value in report['stages_ms'].items())
    lines = [('model', report['model']), ('runs on', report['backend']),
             ('frames', f'{report["frames_sent"]} sent, {report["frames_segmented"]} segmented, '
                        f'{report["frames_dropped"]} dropped, {report["frames_refused"]} refused'),
             ('rate', f'{report["fps"]:g} frames/s'),
             ('latency (ms)', latency or 'no answer'), ('stages (ms)', stages)]
    if 'miou' in report:
        lines.append(('mIoU', f'{report["miou"]:.3f} against the exact truth'))
        lines.append(('drivable IoU', f'{report["drivable_iou"]:.3f}'))
        lines += [(f'  {name}', f'{iou:.3f}') for name, iou in report['iou'].items()]
    lines += [('note', notice) for notice in report.get('notices', ())]
    return '\n'.join(f'{name:14} {value}' for name, value in lines)
