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
from dataclasses import asdict, replace
import json
from pathlib import Path
import sys
from typing import Any

import cv2
import numpy as np

from ..devices.choose import AUTO, NAMES, ONNX_RUNTIME, PRECISION_NAMES, Wish
from ..errors import ConfigError, SegNodeError
from ..model.card import load_card, ModelCard
from ..model.taxonomy import ClassTable, load_taxonomy
from ..model.tensors import OutputSpec
from ..scoring.class_match import (
    ClassMatch,
    DRIVABLE_ONLY,
    LANE_TABLE,
    match_classes,
    match_lane_marks,
)
from ..scoring.datasets import Dataset, open_dataset
from ..scoring.drive_dataset import DriveDataset
from ..scoring.evaluation import Head, make_report
from ..scoring.layouts import LANES, LAYOUTS
from ..scoring.metrics import ExpectedCalibrationError
from ..scoring.reliability import reliability_diagram
from ..scoring.tables import as_table
from ..scoring.temperature import LIMIT
from ..scoring.worst_frames import draw_sheet
from . import fit_temperature
from .measure import Job, measure

TAXONOMIES = {'camvid': 'camvid11', 'cityscapes': 'cityscapes19', 'voc': 'voc21',
              'ade20k': 'ade20k150', 'autoware': 'autoware16'}
SHIPPED = Path('shipped')


def _described(report: dict[str, Any], options: argparse.Namespace, card: ModelCard,
               backend: str, dataset: Dataset, scoring: ClassMatch,
               head: Head) -> dict[str, Any]:
    """Return the report with what was measured; names only, so that it is the same anywhere."""
    return report | {
        'model': card.name, 'sha256': card.sha256, 'head': head.role,
        'model_taxonomy': _output(card, head.role).classes.name,
        'taxonomy': dataset.table.name, 'scored_in': scoring.classes.name,
        'layout': dataset.layout.name, 'ignore': sorted(dataset.ignore),
        'images': 'drive' if options.drive else _tail(options.images),
        'labels': 'drive' if options.drive else _tail(options.labels),
        'steadiness': options.steadiness, 'crf': options.crf, 'workers': options.workers,
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
    if report['suspicion']:
        print(f'evaluate: WARNING: {report["suspicion"]}', file=sys.stderr)
    return 0


def _evaluate(options: argparse.Namespace) -> tuple[dict[str, Any], dict[Path, np.ndarray]]:
    """Return the report and pictures by their paths."""
    card = load_card(options.model)
    head = _head(card, options)
    own = _output(card, head.role).classes
    dataset = (DriveDataset(None if options.drive == SHIPPED else options.drive)
               if options.drive else _dataset(options, own))
    scoring = _scoring(card, head, dataset, options)
    wish = Wish(options.backend, tuple(options.providers), options.threads,
                options.gpu, options.precision)
    rate_hz = dataset.drive.rate_hz if isinstance(dataset, DriveDataset) else options.sequence
    job = Job(card.directory, wish, scoring, head, options.worst if options.sheet else 0, rate_hz,
              options.steadiness, options.crf)
    job.check(options.workers)
    fitted = None
    before: ExpectedCalibrationError | None = None
    if options.calibrate:
        other = _dataset(options, own, *options.calibrate)
        fit_temperature.check(card, other, dataset)
        fitted = fit_temperature.fit(card, other, scoring, options.threads,
                                     options.calibration_limit)
        before = measure(job, dataset, options.workers)[0].calibration
        fit_temperature.write_temperature(card, fitted.temperature)
        card = load_card(card.path)
    tally, backend = measure(job, dataset, options.workers)
    report = _described(make_report(tally, scoring, dataset), options, card, backend, dataset,
                        scoring, head)
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


def _head(card: ModelCard, options: argparse.Namespace) -> Head:
    """Return what is scored: --head, else the drivable area where that alone is asked for."""
    area = options.classes == DRIVABLE_ONLY
    role = options.head or ('drivable' if area else card.main_output.role)
    roles = [output.role for output in card.outputs]
    # What is drivable can be told by the flags of a class table, too.
    if role not in (*roles, 'drivable') or (area and role != 'drivable'):
        raise ConfigError(f'--head {role}: {card.name} has the heads {", ".join(roles)}'
                          + (f'; --classes {DRIVABLE_ONLY} scores the head drivable'
                             if area else '') + '. Choose one of them.')
    if role == 'drivable':
        return Head(role, 'drivable', np.arange(256).astype(np.uint8),
                    card.main_output.role == role)
    if role != 'labels':
        return Head(role, role, None, False)
    return Head(role, 'mask', card.main_output.classes.drivable_lut(), True,
                card.drivable_output is not None)


def _output(card: ModelCard, role: str) -> OutputSpec:
    return next((output for output in card.outputs if output.role == role), card.main_output)


def _scoring(card: ModelCard, head: Head, dataset: Dataset,
             options: argparse.Namespace) -> ClassMatch:
    """Return how the classes of the head and of the labels meet."""
    own = _output(card, head.role).classes
    if dataset.layout.name == LANES:
        return match_lane_marks(own, head.role not in ('labels', 'drivable'))
    if head.role != 'drivable':
        return match_classes(own, dataset.table, dataset.ids, options.classes, options.remap,
                             card.remaps if head.role == card.main_output.role else None)
    scoring = match_classes(own, dataset.table, dataset.ids, DRIVABLE_ONLY, options.remap)
    # The mask that is published, whatever makes it: 255 is drivable, 0 is not.
    return replace(scoring, of_model=(np.arange(256) == 255).astype(np.uint8))


def _dataset(options: argparse.Namespace, own: ClassTable, images: Path | None = None,
             labels: Path | None = None) -> Dataset:
    """Open the data set; the table is that of --taxonomy, else of --layout, else the model's."""
    asked = options.taxonomy and load_taxonomy(TAXONOMIES.get(options.taxonomy, options.taxonomy))
    layout = options.layout
    if layout is None:
        name = (asked or own).name
        layout = next((entry.name for entry in LAYOUTS.values() if entry.taxonomy == name),
                      'pairs')
    if layout == LANES:
        asked = LANE_TABLE
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
    add('--head', metavar='ROLE', help='the output of the model that is scored, as its card names '
        'it: labels (default), drivable (also by --classes drivable), lane_marks ...')
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
    add('--workers', type=int, default=1, help='processes that share pictures and cores '
        '(default: %(default)s); the figures are the same, but for the times')
    add('--crf', action='store_true', help="refine the labels by DeepLab's CRF: offline only, "
        'needs requirements/crf.txt')
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
