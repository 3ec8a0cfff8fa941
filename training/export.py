"""
Export a trained model to ONNX and write its figures into a card.

The exported file is compared with torch before it is put in place.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from .card_file import update_card
from .train import load_model

OPSET = 17  # read by TensorRT 10 and ONNX Runtime from 1.14 on
TOLERANCE = 1e-4


def export(model: nn.Module, path: Path) -> float:
    """
    Write the model with dynamic batch, height and width; return the largest difference to torch.

    :raises ValueError: when the logits differ by more than ``TOLERANCE``; no file is left then.
    """
    model = model.eval().to('cpu', memory_format=torch.contiguous_format)
    partial = path.with_suffix('.partial')
    side = f'h{model.stride}', f'w{model.stride}'
    # The newer exporter writes opset 18 or later and converts down; this one writes 17 as it is.
    with torch.no_grad():  # what layers do only to train faster stays out of the file
        torch.onnx.export(
            model, (torch.zeros(2, 3, 64, 96),), str(partial), dynamo=False, opset_version=OPSET,
            input_names=['image'], output_names=['logits'],
            dynamic_axes={'image': {0: 'batch', 2: 'height', 3: 'width'},
                          'logits': {0: 'batch', 2: side[0], 3: side[1]}})
    onnx.checker.check_model(str(partial), full_check=True)
    difference = largest_difference(model, partial)
    if difference > TOLERANCE:
        partial.unlink()
        raise ValueError(f'the exported logits differ from torch by {difference:.2g}, more than '
                         f'{TOLERANCE}: nothing was written')
    os.replace(partial, path)
    return difference


def largest_difference(model: nn.Module, path: Path) -> float:
    """Compare ONNX Runtime with torch on random images of several shapes."""
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    rng = np.random.default_rng(0)
    largest = 0.0
    for shape in ((1, 3, 384, 480), (3, 3, 96, 160), (2, 3, 224, 64)):
        image = rng.uniform(-1, 1, shape).astype(np.float32)
        with torch.no_grad():
            expected = model(torch.from_numpy(image)).numpy()
        logits, = session.run(['logits'], {'image': image})
        if logits.shape != expected.shape:
            raise ValueError(f'for {shape} the exported file gives {logits.shape}, torch gives '
                             f'{expected.shape}')
        largest = max(largest, float(np.abs(logits - expected).max()))
    return largest


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('checkpoint', type=Path, help='best.pt or last.pt of a run')
    parser.add_argument('folder', type=Path, help="model folder, with the model's card.yaml")
    arguments = parser.parse_args()
    model = arguments.folder / 'model.onnx'
    difference = export(load_model(arguments.checkpoint), model)
    update_card(arguments.folder / 'card.yaml', model)
    print(f'{model}: logits equal torch within {difference:.2g}')


if __name__ == '__main__':
    main()
