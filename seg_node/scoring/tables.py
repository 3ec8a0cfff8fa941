"""What ``evaluate`` prints for people."""

from typing import Any


def as_table(report: dict[str, Any]) -> str:
    """Return the report for people."""
    width = max(map(len, report['iou']), default=0) + 2
    lines = [f'{report["model"]} on {report["images"]}, {report["frames"]} frames, classes '
             f'{report["scored_in"]}, head {report["head"]}, {report["ms_per_frame"]} ms a frame '
             '(median)',
             f'{report["backend"]}']
    for key, title in (('miou', 'mIoU'), ('pixel_accuracy', 'pixel accuracy'),
                       ('drivable_iou', 'drivable IoU'), ('ece', 'calibration error'),
                       ('drivable_head_iou', 'drivable IoU of the drivable head'),
                       ('lane_iou', 'lane IoU')):
        if key in ('drivable_head_iou', 'lane_iou') and report[key] is None:
            continue
        value = 'none' if report[key] is None else f'{report[key]:.4f}'
        lines.append(f'{title:{max(width, 18)}} {value}')
    lines += [f'  {name:{max(width, 18) - 2}} {iou:.4f}' for name, iou in report['iou'].items()]
    if report['sequence']:
        lines.append(as_line(report['sequence']))
    if 'fitted' in report:
        lines.append(f'temperature {report["temperature"]:g} is in the card; calibration error '
                     f'before {report["ece_before"]:.4f}, after {report["ece"]:.4f}')
    for key, about in (('absent', 'in no label'), ('not_in_labels', 'not scored, the labels '
                       'cannot name'), ('not_in_model', 'the model cannot name')):
        if report[key]:
            lines.append(f'{about}: {", ".join(report[key])}')
    return '\n'.join(lines)


def as_line(sequence: dict[str, Any]) -> str:
    """Return the figures of a sequence for people."""
    late = ', '.join(f'{100 * share:.1f} %' for share in sequence['late_frames'])
    return (f'flicker {sequence["flicker_per_pixel_s"] or 0:.4f} changes a pixel and second '
            'where the truth stands still; a new truth is shown at once, 1, 2, 3 frames later, '
            f'or later by {late}')
