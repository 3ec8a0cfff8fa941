"""
Make a half-precision or int8 copy of a model folder and tell how far its masks agree.

fp16 keeps float32 at its input and output. int8 is quantised with Q/DQ nodes, symmetric and per
channel, which TensorRT and ONNX Runtime both take.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
import re
import tempfile

import cv2
import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from tqdm import tqdm

from seg_node import backends
from seg_node.card import load_card, ModelCard
from seg_node.geometry import fit, Size
from seg_node.preprocess import Preprocessor
from seg_node.segmenter import read_head

from .card_file import update_card

KINDS = ('fp16', 'int8')
# Quantised, the first layers cost most of the accuracy: what they blur is lost to all others.
KEEP_FIRST = 9


class Calibration(quantization.CalibrationDataReader):
    """Network inputs made from images as the node makes them."""

    def __init__(self, card: ModelCard, images: list[Path]) -> None:
        self._name = card.input.name
        self._tensors = (tensor for _, tensor in network_inputs(card, images))

    def get_next(self) -> dict[str, np.ndarray] | None:
        tensor = next(self._tensors, None)
        return None if tensor is None else {self._name: tensor.copy()}


def network_inputs(card: ModelCard, images: list[Path]) -> Iterator[tuple[Size, np.ndarray]]:
    """Yield each image's size and the network's input for it."""
    preprocessor = Preprocessor(card.input)
    for path in images:
        image = cv2.imread(str(path))
        if image is None:
            raise ValueError(f'{path} cannot be read as an image')
        size = Size(*image.shape[:2])
        yield size, preprocessor.tensor([image], [fit(card.input, size, None)])


def convert(card: ModelCard, kind: str, folder: Path, calibration: list[Path],
            keep_first: int = KEEP_FIRST) -> None:
    """
    Write ``model.onnx`` and ``card.yaml`` of the copy.

    :param calibration: images of the kind the model will see; for int8 only.
    :param keep_first: so many first convolutions stay float32; for int8 only.
    :raises ValueError: an unknown kind, or no image to calibrate with.
    """
    if kind not in KINDS:
        raise ValueError(f'precision {kind!r} is unknown; allowed: {", ".join(KINDS)}')
    if kind == 'int8' and not calibration:
        raise ValueError('int8 needs images to calibrate with: give --images a folder of them')
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / 'model.onnx'
    if kind == 'fp16':
        model = onnx.load(str(card.model_path))
        onnx.save(convert_float_to_float16(model, keep_io_types=True), str(target))
    else:
        _quantise(card, target, calibration, keep_first)
    text = (card.directory / 'card.yaml').read_text(encoding='utf-8')
    text = re.sub(r'(?m)^name: .*$', f'name: {card.name}_{kind}', text)
    # The figures are those of the original; the copy must earn its own.
    text = re.sub(r'(?ms)^metrics:\n.*?(?=^\S)', '', text)
    (folder / 'card.yaml').write_text(text, encoding='utf-8')
    update_card(folder / 'card.yaml', target)


def _quantise(card: ModelCard, target: Path, calibration: list[Path], keep_first: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / 'prepared.onnx'
        quant_pre_process(str(card.model_path), str(prepared), skip_symbolic_shape=True)
        # The classifier's few weights decide between close logits; they stay as they are.
        graph = onnx.load(str(prepared)).graph
        producers = {node.output[0]: node.name for node in graph.node}
        kept = [producers[output.name] for output in graph.output if output.name in producers]
        kept += [node.name for node in graph.node if node.op_type == 'Conv'][:keep_first]
        quantization.quantize_static(
            str(prepared), str(target), Calibration(card, calibration),
            quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8, nodes_to_exclude=kept,
            op_types_to_quantize=['Conv', 'Add', 'Concat'],
            extra_options={'ActivationSymmetric': True, 'WeightSymmetric': True})


def agreement(first: ModelCard, second: ModelCard, images: list[Path]) -> float:
    """Return the share of pixels, at the images' size, on which both models agree."""
    same = total = 0
    engines = [backends.load('onnxruntime', card, providers=['CPUExecutionProvider'], threads=0)
               for card in (first, second)]
    for size, tensor in tqdm(network_inputs(first, images), 'compare', total=len(images),
                             mininterval=10):
        geometry = fit(first.input, size, None)
        masks = [read_head(card.main_output, engine.run(tensor)[0][0], geometry, False)[0]
                 for card, engine in zip((first, second), engines, strict=True)]
        same += int(np.count_nonzero(masks[0] == masks[1]))
        total += masks[0].size
    return same / total


def main() -> None:
    """Parse the command line, convert and compare."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('model', help='model folder')
    parser.add_argument('kind', choices=KINDS)
    parser.add_argument('folder', type=Path, help='where the copy goes')
    parser.add_argument('--images', type=Path, help='images to calibrate int8 with')
    parser.add_argument('--limit', type=int, default=64, help='how many of them, evenly spread')
    parser.add_argument('--keep-first', type=int, default=KEEP_FIRST,
                        help='int8: so many first convolutions stay float32')
    parser.add_argument('--compare', type=Path, help='images to measure the agreement on')
    arguments = parser.parse_args()
    card = load_card(arguments.model)
    calibration = sorted(arguments.images.glob('*')) if arguments.images else []
    calibration = calibration[::max(1, len(calibration) // arguments.limit)][:arguments.limit]
    convert(card, arguments.kind, arguments.folder, calibration, arguments.keep_first)
    print(f'{arguments.folder}: {(arguments.folder / "model.onnx").stat().st_size} bytes')
    if arguments.compare:
        share = agreement(card, load_card(arguments.folder), sorted(arguments.compare.glob('*')))
        print(f'labels equal to the original: {share:.4%}')


if __name__ == '__main__':
    main()
