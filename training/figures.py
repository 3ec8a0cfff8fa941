"""
Measure a model with ``evaluate`` and write the figures and a picture into its card.

What a model was trained on says nothing about it. So for weights trained on val too, the figures
on val are those of a twin: the same recipe without val (--twin).
"""

import argparse
import json
import os
from pathlib import Path
import platform
import tempfile
from typing import Any

import cv2
import numpy as np

from seg_node.devices import backend as backends
from seg_node.devices.host import HostSegmenter
from seg_node.frame import StageClock
from seg_node.geometry import fit, Size
from seg_node.model.card import load_card
from seg_node.pipeline import Pipeline
from seg_node.scoring.datasets import Dataset, open_dataset
from seg_node.tools import evaluate

from .card_file import replaced
from .precision import agreement

EVALUATE = 'python -m seg_node.tools.evaluate --model {} --images {} --labels {} --taxonomy {}'
RENDER = 'python -m training.render rendered --seeds 0 6 --frames 3 --size 960 540'
MOTORWAY = ' --district motorway'


def measured(model: Path, images: Path, labels: Path, taxonomy: str) -> dict[str, Any]:
    """Return the report of ``evaluate``."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / 'report.json'
        arguments = ['--model', f'{model.resolve()}', '--images', str(images), '--labels',
                     str(labels), '--taxonomy', taxonomy, '--json', str(report)]
        if evaluate.main(arguments):
            raise SystemExit(f'{model} could not be measured')
        return json.loads(report.read_text(encoding='utf-8'))


def metric(report: dict[str, Any], dataset: str, split: str, command: str) -> dict[str, Any]:
    """Return a report as a card holds it."""
    return {'dataset': dataset, 'split': split, 'metric': 'mIoU',
            'value': round(report['miou'], 4),
            'iou': {name: round(value, 4) for name, value in report['iou'].items()
                    if value is not None},
            'command': command}


def of_copy(original: Path, copy: Path, val: Path, split: str) -> list[dict[str, Any]]:
    """Return what a copy in another precision reaches, and how far it agrees with the original."""
    report = measured(copy, val / 'images', val / 'labels', 'camvid')
    kind = copy.name.rpartition('_')[2]
    cards = load_card(original.resolve()), load_card(copy.resolve())
    share = agreement(*cards, sorted((val / 'images').glob('*')))
    made = (f'python -m training.precision {cards[0].name} {kind} COPY --images '
            'camvid/train/images --compare camvid/val/images')
    return [
        {'dataset': 'CamVid', 'split': split, 'metric': f'mIoU as {kind}',
         'value': round(report['miou'], 4), 'command': made},
        {'dataset': 'CamVid', 'split': 'val', 'metric': f'labels of {kind} equal to float32',
         'value': round(share, 5), 'command': made}]


def picture(model: Path, dataset: Dataset, path: Path, columns: int = 2) -> None:
    """Draw some images with their masks below."""
    card = load_card(model)
    classes = card.main_output.classes
    backend = backends.load('onnxruntime', card, providers=['CPUExecutionProvider'], threads=0)
    pipeline = Pipeline(HostSegmenter(card, backend), classes)
    stacks = []
    for pair in dataset.pairs[1::len(dataset.pairs) // columns][:columns]:
        frame = dataset.frame(pair)
        product, = pipeline.process([frame], [('color_mask',)], StageClock())
        stacks.append(np.vstack([frame.bgr, product.images['color_mask']]))
    pipeline.segmenter.close()
    sheet = cv2.resize(np.hstack(stacks), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), sheet, (cv2.IMWRITE_JPEG_QUALITY, 88))


def replace(card: Path, key: str, value: Any) -> None:
    """Replace a top-level key of a card's file."""
    card.write_text(replaced(card.read_text(encoding='utf-8'), key, value), encoding='utf-8')


def main() -> None:
    """Parse the command line, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('folder', type=Path, help='model folder')
    parser.add_argument('--data', type=Path, required=True, help='CamVid, with val/')
    parser.add_argument('--rendered', type=Path, required=True,
                        help='made by: ' + RENDER)
    parser.add_argument('--motorway', type=Path, help='the same with' + MOTORWAY)
    parser.add_argument('--twin', type=Path,
                        help='model folder of the same recipe trained without val')
    parser.add_argument('--copies', type=Path, nargs='*', default=[],
                        help='copies by training.precision of what is measured on val, named '
                             '..._fp16, ..._int8')
    options = parser.parse_args()
    card = load_card(options.folder.resolve())
    val = options.data / 'val'
    judged = options.twin or options.folder
    on_val = measured(judged, val / 'images', val / 'labels', 'camvid')
    split = ('val; by the twin trained without it, sha256 '
             f'{load_card(judged.resolve()).sha256[:12]}' if options.twin else 'val')
    drives = {'synthetic drive': (options.rendered, RENDER)}
    if options.motorway:
        drives['synthetic drive, motorway'] = options.motorway, RENDER + MOTORWAY
    rendered = {name: measured(options.folder, folder / 'images', folder / 'labels', 'camvid11')
                for name, (folder, _) in drives.items()}
    speed = rendered['synthetic drive']
    network = fit(card.input, Size(540, 960)).network
    replace(card.path, 'metrics', [
        metric(on_val, 'CamVid', split, EVALUATE.format(
            card.name, 'camvid/val/images', 'camvid/val/labels', 'camvid')),
        *(metric(rendered[name], name, 'seeds not trained on', f'{made} && ' + EVALUATE.format(
            card.name, 'rendered/images', 'rendered/labels', 'camvid11'))
          for name, (_, made) in drives.items()),
        *(line for copy in options.copies
          for line in of_copy(judged, copy, val, split))])
    replace(card.path, 'speed', [
        {'device': f'{os.cpu_count()} cores, {platform.machine()}, {speed["backend"]}',
         'input': str(network), 'ms_per_frame': speed['ms_per_frame'],
         'command': 'the same, from the bytes of a 960x540 JPEG to the masks'}])
    picture(options.folder.resolve(), open_dataset(
        options.rendered / 'images', options.rendered / 'labels', 'pairs',
        card.main_output.classes), options.folder / 'picture.jpg')
    replace(card.path, 'picture', 'picture.jpg')
    load_card(card.path)


if __name__ == '__main__':
    main()
