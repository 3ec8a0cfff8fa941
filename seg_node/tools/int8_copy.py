"""
Make the int8 copy of a model for CPUs without bfloat16, and measure it into the model's card.

The ranges of the activations are taken from the pictures of --calibrate. On those of --images the
copy's labels are compared with the model's own, and both with --labels: a copy that does not keep
them is not written. The node takes it by itself (`precision: auto`) where the processor has VNNI
or the like and no half precision.
"""

import argparse
from dataclasses import replace
import hashlib
from pathlib import Path
import sys
import tempfile
from typing import Any

import numpy as np

from ..devices.host import HostSegmenter
from ..devices.openvino import OpenVinoBackend
from ..engines.precision import KEEP_FIRST, quantise
from ..errors import FrameError, SegNodeError
from ..frame import Demand, Frame, Segmentation, StageClock
from ..model.card import load_card, ModelCard
from ..model.card_text import write_key
from ..model.int8_copy import int8_copy, Int8Copy
from ..scoring.class_match import match_classes
from ..scoring.datasets import Dataset, open_dataset
from ..scoring.layouts import LAYOUTS
from ..scoring.metrics import ConfusionMatrix
from .console import progress
from .reference import spread_pictures

FILE = 'model_int8.onnx'


def measure(card: ModelCard, copy: Path, dataset: Dataset) -> dict[str, float]:
    """
    Return ``labels_equal`` and ``miou_loss`` of a copy, by the pictures of a data set.

    :raises SegNodeError: OpenVINO is missing, this processor has no int8, or a picture is wrong.
    """
    own = card.main_output.classes
    match = match_classes(own, dataset.table, dataset.ids)
    named = replace(card, int8=Int8Copy(copy, _sha256(copy), 1.0, 0.0))
    segmenters = [HostSegmenter(named, OpenVinoBackend(named, precision=precision, threads=0))
                  for precision in ('fp32', 'int8')]
    counts = [ConfusionMatrix(match.classes, match.measurable) for _ in segmenters]
    equal = []
    for pair in progress(dataset.pairs, 'measure'):
        frame, truth = dataset.frame(pair), match.of_labels[dataset.truth(pair)]
        labels = [_labels(segmenter, frame) for segmenter in segmenters]
        equal.append(float(np.mean(labels[0] == labels[1])))
        for count, found in zip(counts, labels, strict=True):
            count.add(truth, match.of_model[found])
    return {'labels_equal': round(float(np.mean(equal)), 5),
            'miou_loss': round(counts[0].miou() - counts[1].miou(), 4)}


def _labels(segmenter: HostSegmenter, frame: Frame) -> np.ndarray:
    [result] = segmenter.segment([frame], Demand(None, False, False), StageClock())
    if isinstance(result, FrameError):
        raise result
    assert isinstance(result, Segmentation)
    return result.labels


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Make, measure and keep the copy; return what the card says of it."""
    card = load_card(options.model)
    pictures = [path for folder in options.calibrate
                for path in spread_pictures(folder, options.at_most)]
    dataset = open_dataset(options.images, options.labels, options.layout,
                           None if LAYOUTS[options.layout].taxonomy
                           else card.main_output.classes)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / FILE
        if options.copy:
            copy.write_bytes(options.copy.read_bytes())
        else:
            quantise(card, copy, pictures, options.keep_first)
        figures = measure(card, copy, dataset)
        said = {'file': FILE, 'sha256': _sha256(copy), **figures,
                'pictures': options.pictures or f'{len(dataset.pairs)} of {options.images.name}',
                'calibration': options.calibration or f'{len(pictures)} pictures'}
        int8_copy(said, card.path)  # refuses what does not keep the labels
        (card.directory / FILE).write_bytes(copy.read_bytes())
    write_key(card.path, 'int8', said)
    return said


def main(args: list[str] | None = None) -> int:
    """Make a copy from the command line."""
    parser = argparse.ArgumentParser(prog='int8_copy', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--model', required=True, help='model name or card folder; both are written')
    add('--calibrate', required=True, type=Path, nargs='+', help='folders of pictures')
    add('--at-most', type=int, default=24, metavar='N', help='pictures of each folder')
    add('--images', required=True, type=Path, help='pictures to measure on')
    add('--labels', required=True, type=Path, help='their labels')
    add('--layout', default='camvid', choices=list(LAYOUTS), help='of the labels')
    add('--keep-first', type=int, default=KEEP_FIRST, help='convolutions that stay float32')
    add('--copy', type=Path, help='measure this one instead of making one')
    add('--pictures', help='what was measured on, for the card')
    add('--calibration', help='what the ranges were taken from, for the card')
    try:
        said = run(parser.parse_args(args))
    except (SegNodeError, OSError) as error:
        print(f'int8_copy: {error}', file=sys.stderr)
        return 2
    print(f'{said["labels_equal"]:.3%} of the labels are equal, mIoU is '
          f'{said["miou_loss"]:.4f} lower; written beside the card and into it')
    return 0


if __name__ == '__main__':
    sys.exit(main())
