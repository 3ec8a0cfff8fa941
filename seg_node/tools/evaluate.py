"""
Measure a model on a labelled data set with the pipeline that the node runs.

Masks are compared pixel by pixel at the size of the labels. Where the model's classes are not the
labels', both are translated by the remaps of the class tables and scored in the labels' classes,
or in those of --classes.

With --calibrate the temperature of the logits is fitted first, on pictures that are not scored,
and written into the model's card; the confidence is then scored before and after.
"""

import argparse
from dataclasses import asdict, dataclass
import json
from pathlib import Path
import statistics
import sys
import time
from typing import Any

import cv2
import numpy as np

from ..devices.choose import AUTO, NAMES, ONNX_RUNTIME, open_segmenter, PRECISION_NAMES, Wish
from ..errors import ConfigError, FrameError, SegNodeError
from ..frame import Frame, Products, StageClock
from ..model.card import load_card, ModelCard
from ..model.taxonomy import ClassTable, load_taxonomy, UNLABELLED
from ..pipeline import Pipeline
from ..scoring.class_match import ClassMatch, DRIVABLE_ONLY, match_classes
from ..scoring.datasets import Dataset, LAYOUTS, open_dataset, Pair
from ..scoring.metrics import BinaryIoU, ConfusionMatrix, ExpectedCalibrationError
from ..scoring.reliability import reliability_diagram
from ..scoring.worst_frames import draw_sheet, ScoredFrame, WorstFrames
from ..warm_up import warm_up
from . import fit_temperature
from .console import progress

TAXONOMIES = {'camvid': 'camvid11', 'cityscapes': 'cityscapes19', 'voc': 'voc21',
              'ade20k': 'ade20k150', 'autoware': 'autoware16'}
WANTED = ('mask', 'confidence', 'drivable')
#: Of the confidence, from which on the share of wrong drivable pixels is told.
THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


@dataclass
class Tally:
    """Everything that is counted over the frames."""

    confusion: ConfusionMatrix
    drivable: BinaryIoU
    calibration: ExpectedCalibrationError
    trusted: ExpectedCalibrationError  # of the pixels that are called drivable
    times_ms: list[float]
    void_pixels: int
    worst: WorstFrames


def run(pipeline: Pipeline, dataset: Dataset, scoring: ClassMatch, worst: int = 0) -> Tally:
    """
    Segment every image of a data set and count how its mask compares with the label.

    :param worst: how many of the worst frames to keep with their pictures.
    :raises ConfigError: when an image or label cannot be used; then there is no result at all.
    :raises BackendError: when the device fails.
    """
    tally = Tally(ConfusionMatrix(scoring.classes, scoring.measurable), BinaryIoU(),
                  ExpectedCalibrationError(), ExpectedCalibrationError(), [], 0,
                  WorstFrames(worst))
    flags = dataset.table.drivable_lut()
    warm_up(pipeline)
    for pair in progress(dataset.pairs, 'evaluate'):
        frame, labels = dataset.frame(pair), dataset.truth(pair)
        products, ms = _segment(pipeline, pair, frame, labels)
        tally.times_ms.append(ms)
        truth, mask = scoring.of_labels[labels], scoring.of_model[products.images['mask']]
        known = truth != UNLABELLED
        tally.void_pixels += int(np.count_nonzero(~known))
        here = ConfusionMatrix(scoring.classes, scoring.measurable)
        here.add(truth, mask)
        tally.confusion.counts += here.counts
        tally.drivable.add(flags[labels], products.images['drivable'], labels != UNLABELLED)
        if 'confidence' in products.images:
            sure, area = products.images['confidence'], products.images['drivable'] > 0
            tally.calibration.add(sure, truth == mask, known)
            tally.trusted.add(sure, flags[labels] > 0, area & (labels != UNLABELLED))
        if worst and here.iou():
            tally.worst.add(ScoredFrame(pair.name, here.miou(), frame.bgr, truth, mask))
    if not tally.confusion.pixels:
        raise ConfigError(f'all pixels of all {len(dataset.pairs)} labels are void (the first is '
                          f'{dataset.pairs[0].label}): there is nothing to measure. Labels of a '
                          'test split are often withheld; give those of another.')
    return tally


def _segment(pipeline: Pipeline, pair: Pair, frame: Frame,
             labels: np.ndarray) -> tuple[Products, float]:
    """Return the products of one frame and the milliseconds from its bytes to them."""
    start = time.perf_counter_ns()
    result = pipeline.process([frame], [WANTED], StageClock())[0]
    ms = (time.perf_counter_ns() - start) / 1e6
    if isinstance(result, FrameError):
        raise ConfigError(f'{pair.image} is refused: {result}. Mend it, or take the pair out.')
    shape = result.images['mask'].shape
    if shape != labels.shape:
        sizes = [f'{width}x{height}' for height, width in (shape, labels.shape)]
        raise ConfigError(f'{pair.image} is {sizes[0]}, but its label {pair.label} is {sizes[1]}. '
                          'They must have one size: scale the image (the label by nearest), or '
                          'pair the right files.')
    return result, ms


def make_report(tally: Tally, scoring: ClassMatch, dataset: Dataset) -> dict[str, Any]:
    """Return the figures as ``--json`` writes them; a figure that has no meaning here is None."""
    confusion, drivable, names = tally.confusion, tally.drivable, scoring.classes.names
    iou = confusion.iou()
    seen = confusion.counts.sum(axis=1) > 0
    return {
        'miou': confusion.miou() if iou else None,
        'iou': iou,
        'pixel_accuracy': confusion.pixel_accuracy(),
        'drivable_iou': (drivable.value() if drivable.either
                         and dataset.table.drivable_lut().any() else None),
        'ece': tally.calibration.value() if tally.calibration.pixels.any() else None,
        'drivable_by_confidence': tally.trusted.from_each(THRESHOLDS),
        'frames': len(tally.times_ms),
        'ms_per_frame': round(statistics.median(tally.times_ms), 3),
        'pixels': confusion.pixels,
        'void_pixels': tally.void_pixels,
        'confusion': {'truth': list(names), 'predicted': [*names, 'unlabelled'],
                      'pixels': confusion.counts.tolist()},
        'absent': [name for name, there in zip(names, seen, strict=True) if not there],
        'not_in_labels': [names[n] for n in scoring.classes.ids if n not in scoring.measurable],
        'not_in_model': [names[n] for n in scoring.classes.ids if n not in scoring.nameable],
    }


def _described(report: dict[str, Any], options: argparse.Namespace, card: ModelCard,
               backend: str, dataset: Dataset, scoring: ClassMatch) -> dict[str, Any]:
    """Return the report with what was measured; names only, so that it is the same anywhere."""
    return report | {
        'model': card.name, 'sha256': card.sha256, 'model_taxonomy': card.main_output.classes.name,
        'taxonomy': dataset.table.name, 'scored_in': scoring.classes.name,
        'layout': dataset.layout.name, 'ignore': sorted(dataset.ignore),
        'images': _tail(options.images), 'labels': _tail(options.labels),
        'split': options.split.name if options.split else None,
        'temperature': card.main_output.temperature,
        'backend': backend}


def _tail(folder: Path) -> str:
    """Return the last two names of a path; the last alone is often just ``images``."""
    return '/'.join(folder.resolve().parts[-2:])


def main(args: list[str] | None = None) -> int:
    """Run the evaluation from the command line."""
    options = _parser().parse_args(args)
    try:
        _check_outputs(options)
        report, sheets = _evaluate(options)
        _write(options, report, sheets)
    except (SegNodeError, OSError) as error:
        print(f'evaluate: {error}', file=sys.stderr)
        return 2
    print(as_table(report))
    return 0


def _evaluate(options: argparse.Namespace) -> tuple[dict[str, Any], dict[Path, np.ndarray]]:
    """Return the report and pictures by their paths."""
    card = load_card(options.model)
    own = card.main_output.classes
    dataset = _dataset(options, own)
    scoring = match_classes(own, dataset.table, dataset.ids, options.classes, options.remap)
    wish = Wish(options.backend, tuple(options.providers), options.threads,
                options.gpu, options.precision)
    fitted = None
    before: ExpectedCalibrationError | None = None
    if options.calibrate:
        other = _dataset(options, own, *options.calibrate)
        fit_temperature.check(card, other, dataset)
        fitted = fit_temperature.fit(card, other, scoring, options.threads)
        before = _run(card, wish, dataset, scoring)[0].calibration
        fit_temperature.write_temperature(card, fitted.temperature)
        card = load_card(card.path)
    tally, backend = _run(card, wish, dataset, scoring, options.worst if options.sheet else 0)
    report = _described(make_report(tally, scoring, dataset), options, card, backend, dataset,
                        scoring)
    if fitted is not None and before is not None:
        report['ece_before'] = before.value()
        report['fitted'] = asdict(fitted)
    sheets: dict[Path, np.ndarray] = {}
    if options.reliability:
        panels = [('before', before), ('after', tally.calibration)] if before else [
            (f'temperature {card.main_output.temperature:g}', tally.calibration)]
        sheets[options.reliability] = reliability_diagram(
            f'{card.name} on {report["images"]}', panels)
    frames = tally.worst.frames()
    if frames:
        title = f'{card.name} on {report["images"]}: mIoU {report["miou"] or 0:.3f}, worst frames'
        sheets[options.sheet] = draw_sheet(title, frames, scoring.classes)
    return report, sheets


def _run(card: ModelCard, wish: Wish, dataset: Dataset, scoring: ClassMatch,
         worst: int = 0) -> tuple[Tally, str]:
    """Return the tally of a model, and what really ran."""
    pipeline = Pipeline(open_segmenter(card, wish).segmenter, card.main_output.classes)
    try:
        return run(pipeline, dataset, scoring, worst), pipeline.segmenter.description
    finally:
        pipeline.segmenter.close()


def _dataset(options: argparse.Namespace, own: ClassTable, images: Path | None = None,
             labels: Path | None = None) -> Dataset:
    """Open the data set; the table is that of --taxonomy, else of --layout, else the model's."""
    asked = options.taxonomy and load_taxonomy(TAXONOMIES.get(options.taxonomy, options.taxonomy))
    layout = options.layout
    if layout is None:
        name = (asked or own).name
        layout = next((entry.name for entry in LAYOUTS.values() if entry.taxonomy == name),
                      'pairs')
    if asked is None and LAYOUTS.get(layout) and LAYOUTS[layout].taxonomy is None:
        asked = own
    if images is not None and labels is not None:
        return open_dataset(images, labels, layout, asked or None, options.ignore)
    return open_dataset(options.images, options.labels, layout, asked or None, options.ignore,
                        options.split)


def _check_outputs(options: argparse.Namespace) -> None:
    """Refuse before the work what would fail after it."""
    for path in filter(None, (options.json, options.sheet, options.reliability)):
        if not path.absolute().parent.is_dir():
            raise ConfigError(f'{path} cannot be written: there is no folder {path.parent}. Make '
                              'it, or give another path.')
    for name in ('sheet', 'reliability'):
        path = getattr(options, name)
        if path and path.suffix.lower() not in ('.png', '.jpg', '.jpeg'):
            raise ConfigError(f'--{name} {path}: allowed are .png and .jpg.')
    if options.worst < 1:
        raise ConfigError(f'--worst {options.worst}: at least 1.')


def _write(options: argparse.Namespace, report: dict[str, Any],
           sheets: dict[Path, np.ndarray]) -> None:
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    for path, sheet in sheets.items():
        if not cv2.imwrite(str(path), sheet):
            raise SegNodeError(f'OpenCV cannot write {path}: is the disk full, or the folder '
                               'read-only?')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='evaluate', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--model', required=True, help='model name or card folder')
    add('--images', required=True, type=Path, help='folder of images, searched with subfolders')
    add('--labels', required=True, type=Path, help='folder of label PNGs, likewise')
    add('--taxonomy', help='classes of the labels: a class table, its file, or '
        f'{", ".join(TAXONOMIES)} (default: by the layout, else those of the model)')
    add('--layout', help='how the data set lies on disk (default: by the taxonomy): ' + '; '.join(
        f'{entry.name} ({entry.about})' for entry in LAYOUTS.values()))
    add('--classes', help='class table to score in (default: that of the labels); '
        f'{DRIVABLE_ONLY} scores the drivable area alone')
    add('--remap', type=Path, help="remap file of your own, from the model's classes to those "
        'scored (default: the shipped one)')
    add('--split', type=Path, help='text file with the name of each wanted pair, one a line')
    add('--ignore', type=int, action='append', default=[], metavar='ID',
        help="id in the label files that counts nowhere, beside the layout's void; repeatable")
    add('--backend', default=ONNX_RUNTIME, help=', '.join(NAMES))
    add('--precision', default=AUTO, help='what the network computes in: '
        f'{", ".join(PRECISION_NAMES)} (default: %(default)s)')
    add('--gpu', type=int, default=0, help='number of the GPU')
    add('--providers', nargs='+', default=['CPUExecutionProvider'], help='of ONNX Runtime')
    add('--threads', type=int, default=0, help='of the network on the CPU; 0 = one a core')
    add('--sheet', type=Path, help='write a contact sheet of the worst frames here (.png, .jpg)')
    add('--worst', type=int, default=6, help='how many frames it shows (default: %(default)s)')
    add('--calibrate', type=Path, nargs=2, metavar=('IMAGES', 'LABELS'), help='fit the '
        'temperature on these pictures, in the same layout, and write it into the card')
    add('--reliability', type=Path, help='write the reliability diagram here (.png, .jpg)')
    add('--json', type=Path, help='write the report here')
    return parser


def as_table(report: dict[str, Any]) -> str:
    """Return the report for people."""
    width = max(map(len, report['iou']), default=0) + 2
    lines = [f'{report["model"]} on {report["images"]}, {report["frames"]} frames, classes '
             f'{report["scored_in"]}, {report["ms_per_frame"]} ms a frame (median)',
             f'{report["backend"]}']
    for key, title in (('miou', 'mIoU'), ('pixel_accuracy', 'pixel accuracy'),
                       ('drivable_iou', 'drivable IoU'), ('ece', 'calibration error')):
        value = 'none' if report[key] is None else f'{report[key]:.4f}'
        lines.append(f'{title:{max(width, 18)}} {value}')
    lines += [f'  {name:{max(width, 18) - 2}} {iou:.4f}' for name, iou in report['iou'].items()]
    if 'fitted' in report:
        lines.append(f'temperature {report["temperature"]:g} is in the card; calibration error '
                     f'before {report["ece_before"]:.4f}, after {report["ece"]:.4f}')
    for key, about in (('absent', 'in no label'), ('not_in_labels', 'not scored, the labels '
                       'cannot name'), ('not_in_model', 'the model cannot name')):
        if report[key]:
            lines.append(f'{about}: {", ".join(report[key])}')
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())
