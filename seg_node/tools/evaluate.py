"""
Measure a model on a labelled data set with the pipeline that the node runs.

Masks are compared pixel by pixel at the size of the labels. Where the model's classes are not the
labels', both are translated by the remaps of the class tables and scored in the labels' classes,
or in those of --classes.

With --calibrate the temperature of the logits is fitted first, on pictures that are not scored,
and written into the model's card; the confidence is then scored before and after.

--drive scores a recorded drive; of its frames, and of pairs under --sequence, it also tells how
much the labels flicker and how late they show what moves.
"""

import argparse
from dataclasses import asdict, dataclass, replace
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
from ..image.wire import Header
from ..model.card import load_card, ModelCard
from ..model.taxonomy import ClassTable, load_taxonomy, UNLABELLED
from ..pipeline import Pipeline
from ..running.warm_up import warm_up
from ..scoring.class_match import ClassMatch, DRIVABLE_ONLY, match_classes
from ..scoring.datasets import Dataset, LAYOUTS, open_dataset, Pair
from ..scoring.drive_dataset import DriveDataset
from ..scoring.flicker import Flicker
from ..scoring.metrics import BinaryIoU, ConfusionMatrix, ExpectedCalibrationError
from ..scoring.reliability import reliability_diagram
from ..scoring.tables import as_table
from ..scoring.temperature import LIMIT
from ..scoring.worst_frames import draw_sheet, ScoredFrame, WorstFrames
from . import fit_temperature
from .console import progress

TAXONOMIES = {'camvid': 'camvid11', 'cityscapes': 'cityscapes19', 'voc': 'voc21',
              'ade20k': 'ade20k150', 'autoware': 'autoware16'}
CAMERA = 'sequence'
SHIPPED = Path('shipped')
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
    flicker: Flicker | None = None


def run(pipeline: Pipeline, dataset: Dataset, scoring: ClassMatch, worst: int = 0,
        rate_hz: float | None = None) -> Tally:
    """
    Segment every image of a data set and count how its mask compares with the label.

    :param worst: how many of the worst frames to keep with their pictures.
    :param rate_hz: the pairs are the frames of a sequence, so many a second; None = they are not.
    :raises ConfigError: when an image or label cannot be used; then there is no result at all.
    :raises BackendError: when the device fails.
    """
    tally = Tally(ConfusionMatrix(scoring.classes, scoring.measurable), BinaryIoU(),
                  ExpectedCalibrationError(), ExpectedCalibrationError(), [], 0,
                  WorstFrames(worst), None if rate_hz is None else Flicker(rate_hz))
    flags = dataset.table.drivable_lut()
    warm_up(pipeline)
    for index, pair in enumerate(progress(dataset.pairs, 'evaluate')):
        frame, labels = dataset.frame(pair), dataset.truth(pair)
        if rate_hz is not None:
            frame = _at(frame, round(index * 1e9 / rate_hz))
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
        if tally.flicker is not None:
            tally.flicker.add(truth, mask)
        if worst and here.iou():
            tally.worst.add(ScoredFrame(pair.name, here.miou(), frame.bgr, truth, mask))
    if not tally.confusion.pixels:
        raise ConfigError(f'all pixels of all {len(dataset.pairs)} labels are void (the first is '
                          f'{dataset.pairs[0].label}): there is nothing to measure. Labels of a '
                          'test split are often withheld; give those of another.')
    return tally


def _at(frame: Frame, stamp_ns: int) -> Frame:
    """Return the frame as the camera of the sequence sends it at a time."""
    header = Header(*divmod(stamp_ns, 1_000_000_000), frame.header.frame_id)
    return Frame(CAMERA, replace(frame.message, header=header), 0, frame.max_pixels)


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
        'sequence': tally.flicker.report() if tally.flicker is not None else None,
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
        'images': 'drive' if options.drive else _tail(options.images),
        'labels': 'drive' if options.drive else _tail(options.labels),
        'steadiness': options.steadiness,
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
    dataset = (DriveDataset(None if options.drive == SHIPPED else options.drive)
               if options.drive else _dataset(options, own))
    scoring = match_classes(own, dataset.table, dataset.ids, options.classes, options.remap,
                            card.remaps)
    wish = Wish(options.backend, tuple(options.providers), options.threads,
                options.gpu, options.precision)
    fitted = None
    before: ExpectedCalibrationError | None = None
    if options.calibrate:
        other = _dataset(options, own, *options.calibrate)
        fit_temperature.check(card, other, dataset)
        fitted = fit_temperature.fit(card, other, scoring, options.threads,
                                     options.calibration_limit)
        before = _run(card, wish, dataset, scoring)[0].calibration
        fit_temperature.write_temperature(card, fitted.temperature)
        card = load_card(card.path)
    rate_hz = dataset.drive.rate_hz if isinstance(dataset, DriveDataset) else options.sequence
    tally, backend = _run(card, wish, dataset, scoring, options.worst if options.sheet else 0,
                          rate_hz, options.steadiness)
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
         worst: int = 0, rate_hz: float | None = None,
         steadiness: bool = False) -> tuple[Tally, str]:
    """Return the tally of a model, and what really ran."""
    pipeline = Pipeline(open_segmenter(card, wish).segmenter, card.main_output.classes,
                        steady=[CAMERA] if steadiness else [])
    try:
        return run(pipeline, dataset, scoring, worst, rate_hz), pipeline.segmenter.description
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
    """Refuse before the work what would fail after it, or has no meaning."""
    pairs = options.images is not None and options.labels is not None
    if (options.drive is not None) == pairs or (options.drive and (options.images
                                                                    or options.labels)):
        raise ConfigError('give either --images and --labels, or --drive.')
    if options.drive and options.sequence is not None:
        raise ConfigError('--sequence has no meaning with --drive, which knows its rate.')
    if options.sequence is not None and not 0.1 <= options.sequence <= 1000:
        raise ConfigError(f'--sequence {options.sequence}: allowed are 0.1 to 1000 frames a '
                          'second.')
    if not 0 <= options.calibration_limit <= 0.5:
        raise ConfigError(f'--calibration-limit {options.calibration_limit}: allowed are 0 to '
                          '0.5.')
    if options.steadiness and not (options.drive or options.sequence):
        raise ConfigError('--steadiness needs frames in their order: give --sequence HZ, or '
                          '--drive.')
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
    add('--images', type=Path, help='folder of images, searched with subfolders')
    add('--labels', type=Path, help='folder of label PNGs, likewise')
    add('--drive', type=Path, nargs='?', const=SHIPPED, help='folder of a recorded drive instead; '
        'without a path the shipped one')
    add('--sequence', type=float, metavar='HZ', help='the pairs, by their names, are the frames '
        'of one camera, so many a second')
    add('--steadiness', action='store_true', help='as the parameter of that name: fewer changes '
        'of labels')
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
    add('--calibration-limit', type=float, default=LIMIT, metavar='ERROR', help='the calibration '
        'error that may remain on them, so that the model is less sure elsewhere; 0 = the '
        'smallest there is (default: %(default)s)')
    add('--reliability', type=Path, help='write the reliability diagram here (.png, .jpg)')
    add('--json', type=Path, help='write the report here')
    return parser


if __name__ == '__main__':
    sys.exit(main())
