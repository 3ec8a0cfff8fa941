"""The demo's report: what was sent, what came back, how late, how good, at what cost."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from ..scoring.metrics import BinaryIoU, ConfusionMatrix
from .accounts import Account, Accounts
from .replay_options import ReplayResult

_MEND = ' (--as-encoding says what a recording really holds, --topics leaves cameras out)'
_KINDS = ('segmented', 'dropped', 'refused', 'lost_in_transport', 'unaccounted')


def latencies_ms(result: ReplayResult, image_topic: str, mask_topic: str) -> dict[int, float]:
    """
    Return, by stamp, how long each mask took from sending its frame to its receipt.

    A stamp that several frames have tells nothing, and is left out.
    """
    frames = result.sent.get(image_topic, [])
    repeats = Counter(stamp for stamp, _ in frames)
    sent = {stamp: sent_ns for stamp, sent_ns in frames if repeats[stamp] == 1}
    return {stamp: (got_ns - sent[stamp]) / 1e6
            for stamp, got_ns in result.received.get(mask_topic, ()) if stamp in sent}


def make_report(result: ReplayResult, accounts: Accounts, answers: Mapping[str, str],
                quality: tuple[ConfusionMatrix, BinaryIoU] | None) -> dict:
    """
    Put the figures together; ``problems`` names what is really wrong.

    :param answers: the mask topic for each image topic.
    :param quality: what the masks were scored as; None = there is no truth.
    """
    cameras = accounts.of_cameras(result.counts)
    times = [ms for pair in answers.items() for ms in latencies_ms(result, *pair).values()]
    report: dict = {
        'frames_sent': result.frames_sent,
        **{f'frames_{kind}': sum(getattr(account, kind) for account in cameras.values())
           for kind in _KINDS},
        'cameras': {name: _camera(account) for name, account in cameras.items()},
        'wall_s': round(result.wall_s, 2),
        'latency_ms': {f'p{percent}': round(float(np.percentile(times, percent)), 1)
                       for percent in (50, 95, 99)} if times else {},
        'stages_ms': accounts.stages_ms(),
        **{key: accounts.parts.get('node', {}).get(key, '')
           for key in ('model', 'backend', 'device')}}
    report['fps'] = (round(report['frames_segmented'] / result.wall_s, 2) if result.wall_s
                     else 0.0)
    if quality is not None:
        report.update(_scores(*quality))
    if result.losses:
        report['source_losses'] = result.losses
    notices = [*result.notices, *_notices(cameras)]
    if notices:
        report['notices'] = notices
    report['problems'] = _problems(report, cameras, accounts.verdict)
    return report


def _camera(account: Account) -> dict:
    figures = {key: value for key, value in asdict(account).items() if value not in ('', {})}
    return {**figures, 'unaccounted': account.unaccounted}


def _scores(confusion: ConfusionMatrix, drivable: BinaryIoU) -> dict:
    """Return the scores over the classes that occur in the truth; others cannot be found."""
    confusion.scored = confusion.occurring()
    absent = [entry.name for entry in confusion.classes.classes
              if entry.id not in confusion.scored]
    return {'miou': round(confusion.miou(), 4), 'classes_scored': len(confusion.scored),
            'classes_absent': absent,
            'iou': {name: round(iou, 4) for name, iou in confusion.iou().items()},
            'drivable_iou': round(drivable.value(), 4)} if confusion.pixels else {}


def _notices(cameras: Mapping[str, Account]) -> list[str]:
    """Return what a reader of the figures should know."""
    found = []
    for name, account in cameras.items():
        if account.refused:
            reasons = ', '.join(f'{count} x {reason}'
                                for reason, count in account.refusals.items())
            none = '' if account.segmented else 'none was segmented; '
            found.append(f'{name}: {none}{account.refused} of {account.received} frames refused '
                         f'({reasons}): {account.last_refusal}'
                         + (_MEND if 'encoding' in account.refusals else ''))
        if account.from_elsewhere:
            found.append(f'{name}: {account.from_elsewhere} frames more than were sent reached '
                         'the node: another demo or driver has this ROS_DOMAIN_ID')
        if account.masks < account.segmented:
            found.append(f'{name}: {account.segmented - account.masks} masks were published but '
                         'did not come back')
    return found


def _problems(report: dict, cameras: Mapping[str, Account], verdict: str) -> list[str]:
    found = [verdict] if verdict else []
    if report['frames_unaccounted']:
        found.append(f'{report["frames_unaccounted"]} of {report["frames_sent"]} frames are '
                     'unaccounted for')
    if not any(account.masks for account in cameras.values()):
        said = '; '.join(f'{name}: {account.last_refusal or account.message}'
                         for name, account in cameras.items()
                         if account.last_refusal or account.message)
        found.append('no mask came back' + (f' ({said})' if said else ''))
    return found


def as_table(report: dict) -> str:
    """Return the report for people."""
    latency = ', '.join(f'{name} {value:g}' for name, value in report['latency_ms'].items())
    stages = ', '.join(f'{name} {value:g}' for name, value in report['stages_ms'].items())
    lines = [('model', report['model']), ('runs on', report['backend']),
             ('frames', _sum(report['frames_sent'], {
                 kind: report[f'frames_{kind}'] for kind in _KINDS}))]
    if len(report['cameras']) > 1:
        lines += [(f'  {name}', _sum(account['sent'], account))
                  for name, account in report['cameras'].items()]
    lines += [('rate', f'{report["fps"]:g} frames/s'),
              ('latency (ms)', latency or 'no answer'), ('stages (ms)', stages or 'no answer')]
    if 'miou' in report:
        absent = ', '.join(report['classes_absent'])
        lines.append(('mIoU', f'{report["miou"]:.3f} against the exact truth, '
                      f'{report["classes_scored"]} classes'
                      + (f' (not in the truth: {absent})' if absent else '')))
        lines.append(('drivable IoU', f'{report["drivable_iou"]:.3f}'))
        lines += [(f'  {name}', f'{iou:.3f}') for name, iou in report['iou'].items()]
    lines += [('note', notice) for notice in report.get('notices', ())]
    lines += [('PROBLEM', problem) for problem in report['problems']]
    return '\n'.join(f'{name:14} {value}' for name, value in lines)


def _sum(sent: int, parts: Mapping[str, int]) -> str:
    """Return e.g. '150 sent = 69 segmented + 81 dropped + 0 refused + 0 lost in transport'."""
    shown = [kind for kind in _KINDS if kind != 'unaccounted' or parts[kind]]
    return f'{sent} sent = ' + ' + '.join(f'{parts[kind]} {kind.replace("_", " ")}'
                                          for kind in shown)
