"""
Make a half-precision or int8 copy of a model folder and tell how far its masks agree.

The copies are for ONNX Runtime: fp16 keeps float32 at its input and output, int8 has Q/DQ nodes,
weights symmetric and per channel, activations without a sign. Engines for TensorRT are made from
the original, by ``seg_node.tools.build_engine``.
"""

import argparse
from pathlib import Path
import re

import numpy as np
from tqdm import tqdm

from seg_node.devices import backend as backends
from seg_node.devices.host import read_head
from seg_node.engines.precision import halve, KEEP_FIRST, network_inputs, quantise
from seg_node.errors import ConfigError
from seg_node.geometry import fit
from seg_node.model.card import load_card, ModelCard

from .card_file import replaced, update_card

KINDS = ('fp16', 'int8')


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
    try:
        if kind == 'fp16':
            halve(card.model_path, target, keep_io=True)
        else:
            quantise(card, target, calibration, keep_first)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    text = (card.directory / 'card.yaml').read_text(encoding='utf-8')
    text = re.sub(r'(?m)^name: .*$', f'name: {card.name}_{kind}', text)
    # The figures are those of the original; the copy must earn its own.
    for key in ('metrics', 'speed', 'picture'):
        text = replaced(text, key, None)
    (folder / 'card.yaml').write_text(text, encoding='utf-8')
    update_card(folder / 'card.yaml', target)


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
