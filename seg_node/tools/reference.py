"""
Write into a model's card what is usual for it, so that the node tells implausible masks.

Give clean pictures like those the model was made for, hundreds, from more than one camera or
street if you can; labels are not needed. Some are also spoilt in many ways, and a small rule is
fitted that tells spoilt masks from good ones: the mask of the clean picture is the measure. The
rule is set so that one of a hundred clean pictures, held out, would be called doubtful.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
import sys
from typing import Any

import numpy as np
import yaml

from ..devices.choose import NAMES, ONNX_RUNTIME, open_segmenter, Wish
from ..errors import ConfigError, SegNodeError
from ..model.card import load_card, ModelCard
from ..model.card_text import write_key
from ..pipeline import Pipeline
from ..running.warm_up import warm_up
from ..scoring.corruptions import chosen, Corruption, CORRUPTIONS
from ..scoring.picture_file import PICTURE_SUFFIXES, read_picture
from ..scoring.reference_fit import CLEAN, fit_reference, Sample
from ..scoring.stress import compare, process
from ..trust.judge import Judge
from .console import progress


def collect(card: ModelCard, pipeline: Pipeline, pictures: Mapping[Path, bool],
            corruptions: list[Corruption], seed: int) -> list[Sample]:
    """
    Return what the model makes of pictures as they are and spoilt.

    :param pictures: whether each is spoilt, too.
    :raises ConfigError: a picture cannot be read or is refused.
    """
    judge, samples = Judge(card, None), []
    for path, is_spoilt in progress(pictures.items(), 'reference', len(pictures)):
        image = read_picture(path)
        clean: np.ndarray | None = None
        for corruption in (None, *(corruptions if is_spoilt else ())):
            spoilt = image if corruption is None else corruption.apply(image, path.stem, seed)
            products = process(pipeline, spoilt, path.name)
            area = products.images['drivable'] > 0
            if clean is None:
                clean = area
            truth = clean if corruption is None else corruption.turn(clean)
            iou, _ = compare(area, truth, np.ones_like(truth))
            samples.append(Sample(str(path), CLEAN if corruption is None else corruption.name,
                                  iou, judge.look(products.frame, products.segmentation)))
    return samples


def main(args: list[str] | None = None) -> int:
    """Run the tool from the command line."""
    options = _parser().parse_args(args)
    try:
        card = load_card(options.model)
        reference = _make(options, card)
        if options.out:
            options.out.write_text(yaml.safe_dump({'reference': reference}, sort_keys=False),
                                   encoding='utf-8')
        else:
            write_key(card.path, 'reference', reference)
    except (SegNodeError, OSError) as error:
        print(f'reference: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f'wrote reference to {options.out or card.path}:')
    for name, (low, high) in reference['usual'].items():
        print(f'  {name:20} usually {low:8.4f} to {high:8.4f}   weight '
              f'{reference["terms"][name]["weight"]:6.2f}')
    return 0


def _make(options: argparse.Namespace, card: ModelCard) -> dict[str, Any]:
    for option in ('at_most', 'clean_at_most'):
        if (count := getattr(options, option)) < 1:
            raise ConfigError(f'--{option.replace("_", "-")} {count}: at least 1.')
    left_out = chosen(options.leave_out) if options.leave_out else {}
    corruptions = [entry for name, entry in CORRUPTIONS.items() if name not in left_out]
    pictures: dict[Path, bool] = {}
    for folder in options.images:
        spoilt = set(spread_pictures(folder, options.at_most))
        pictures |= {path: path in spoilt for path in sorted(
            spoilt | set(spread_pictures(folder, options.clean_at_most)))}
    main_output = card.main_output
    pipeline = Pipeline(open_segmenter(card, Wish(options.backend, threads=options.threads)
                                       ).segmenter, main_output.classes)
    try:
        warm_up(pipeline)
        samples = collect(card, pipeline, pictures, corruptions, options.seed)
    finally:
        pipeline.segmenter.close()
    folders = ' '.join('/'.join(folder.resolve().parts[-2:]) for folder in options.images)
    command = (f'python -m seg_node.tools.reference --model {card.name} --images {folders} '
               f'--at-most {options.at_most} --clean-at-most {options.clean_at_most}')
    if left_out:
        command += f' --leave-out {" ".join(options.leave_out)}'
    return {'pictures': options.pictures or f'{len(pictures)} of {folders}, '
                                            f'{sum(pictures.values())} of them spoilt, too',
            'command': command,
            'classes': main_output.classes.name,
            **fit_reference(samples, len(main_output.classes))}


def spread_pictures(folder: Path, most: int) -> list[Path]:
    """Return up to so many pictures of a folder, spread evenly."""
    if not folder.is_dir():
        raise ConfigError(f'--images {folder} is no folder. Give one of pictures.')
    found = sorted(path for path in folder.rglob('*')
                   if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith('.'))
    if not found:
        raise ConfigError(f'--images {folder} holds no picture ({", ".join(PICTURE_SUFFIXES)}).')
    count = min(most, len(found))
    return [found[(2 * index + 1) * len(found) // (2 * count)] for index in range(count)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='reference', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--model', required=True, help='model name or card folder; its card is written')
    add('--images', required=True, type=Path, nargs='+', help='folders of clean pictures')
    add('--at-most', type=int, default=24, metavar='N',
        help='pictures of each folder that are spoilt, spread evenly (default: %(default)s)')
    add('--clean-at-most', type=int, default=200, metavar='N',
        help='pictures of each folder that are looked at as they are (default: %(default)s)')
    add('--leave-out', nargs='+', metavar='NAME', help='corruptions not to learn from, to be '
        'tried with afterwards')
    add('--pictures', help='what they are, for the card (default: their number and folders)')
    add('--seed', type=int, default=0, help='of what chance does to the pictures')
    add('--out', type=Path, help='write it here instead of into the card')
    add('--backend', default=ONNX_RUNTIME, help=', '.join(NAMES))
    add('--threads', type=int, default=0, help='of the network on the CPU; 0 = one a core')
    return parser


if __name__ == '__main__':
    sys.exit(main())
