"""
From a checkpoint to a checked card: python -m importing.import_model SOURCE OUT.

SOURCE is a folder of Hugging Face transformers or of segmentation_models_pytorch, a weights file
(with --torchvision NAME, --smp NAME --encoder NAME, or --clone FOLDER --network NAME), or an ONNX
file. The network is exported, compared with torch in ONNX Runtime, and the labels that the node
makes with the card are compared with those of the library's own processor and post-processing;
only then is anything written to OUT.
"""

import argparse
from collections.abc import Sequence
import os
from pathlib import Path
import shutil
import sys
import tempfile
from typing import Any

from seg_node.errors import ConfigError, SegNodeError
from seg_node.model.card import load_card

from . import clone, huggingface, libraries, onnx_source, runtimes, verify
from .card_file import write_card
from .class_names import bind
from .export import export, Exported
from .recipe import Recipe

_SAMPLE = (256, 448)  # of a network that takes any size


def main(args: Sequence[str] | None = None) -> int:
    """Import a model from the command line."""
    options = _parser().parse_args(args)
    try:
        run(options)
    except (SegNodeError, OSError) as error:
        print(f'import_model: {error}', file=sys.stderr)
        return 2
    return 0


def run(options: argparse.Namespace) -> None:
    """Import, verify, and put the folder in place."""
    out = options.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f'{out} is there already. Name a folder that is not, or take it away.')
    os.environ['HF_HUB_OFFLINE'] = '1'  # nothing is downloaded, whatever a library would like
    try:
        recipe = open_source(options)
    except ImportError as error:
        raise ConfigError(f'{error.name or error} is not installed here: pip install -r '
                          'requirements/import.txt (torch from the CPU index is far smaller)'
                          ) from error
    licences = _licences(options, recipe)
    images = verify.pictures(options.pictures, options.most)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix='.import-') as scratch:
        folder = Path(scratch) / out.name
        folder.mkdir()
        exported = _onnx(recipe, folder / 'model.onnx')
        classes, notes = bind(recipe.names, _channels(recipe, folder), options.classes,
                              options.void)
        about = {'name': options.name or out.name, 'licences': licences, 'url': options.url,
                 'classes': classes, 'void': options.void, 'exported': exported}
        write_card(folder, recipe, about)
        card = load_card(folder)
        found = verify.agreement(card, recipe.label, images)
        verify.require(found, recipe.own)
        write_card(folder, recipe, about, found)
        card = load_card(folder)
        if not options.no_runtimes:
            notes += runtimes.tried(card, recipe.label, images)
        if out.exists():
            out.rmdir()
        shutil.move(str(folder), str(out))
    _tell(out, found, exported, recipe, notes)


def open_source(options: argparse.Namespace) -> Recipe:
    """Return the recipe of whatever SOURCE is."""
    source, size, short = options.source, options.size, options.short_side
    if not source.exists():
        raise ConfigError(f'{source} is not there. Give a folder or file on this disk: nothing is '
                          'downloaded.')
    if libraries.is_smp_folder(source):
        return libraries.smp_recipe(source, '', '', size, short,
                                    _changes(options)['input'])
    if source.is_dir():
        if huggingface.is_folder(source):
            return huggingface.read(source, size)
        raise ConfigError(f'{source} holds no config.json with a model_type. Give the folder of a '
                          'Hugging Face model, or the file with the weights.')
    if source.suffix == '.onnx':
        return onnx_source.onnx_recipe(source, vars(options), size, short)
    if options.torchvision:
        return libraries.torchvision_recipe(source, options.torchvision, size, short)
    if options.smp:
        return libraries.smp_recipe(source, options.smp, options.encoder, size, short,
                                    _changes(options)['input'])
    if options.clone:
        _agree(options)
        return clone.clone_recipe(source, options.clone, options.network, _asked(options), size,
                                  short, _changes(options))
    raise ConfigError(f'{source} does not say which network its weights are for: give '
                      '--torchvision NAME, --smp NAME --encoder NAME, or --clone FOLDER '
                      '--network NAME.')


def _agree(options: argparse.Namespace) -> None:
    """Ask before somebody else's code is run."""
    if not options.network:
        raise ConfigError('--clone needs --network: bisenetv1, bisenetv2, pidnet_s, pidnet_m, '
                          'pidnet_l, or MODULE:CALLABLE of the clone.')
    if options.run_code:
        return
    told = f'{options.clone.resolve()} is code that will run with your rights ({options.network})'
    if not sys.stdin.isatty():
        raise ConfigError(f'{told}. Say that you want that: --run-code.')
    if input(f'{told}. Run it? [y/N] ').strip().lower() not in ('y', 'yes'):
        raise ConfigError('the code of the clone was not run, so there is nothing to import.')


def _asked(options: argparse.Namespace) -> int:
    """Return how many channels the classes that were asked for make."""
    if not options.classes:
        raise ConfigError('--clone needs --classes: the network is built for their number.')
    if ',' in options.classes:
        return options.classes.count(',') + 1 + len(options.void)
    from seg_node.model.taxonomy import load_taxonomy
    return len(load_taxonomy(options.classes)) + len(options.void)


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    arguments = dict(text.partition('=')[::2] for text in options.arguments)
    found: dict[str, Any] = {'arguments': {
        key: int(value) if value.lstrip('-').isdigit() else value
        for key, value in arguments.items()}}
    found['input'] = {key: getattr(options, key) for key in ('colour', 'scale', 'mean', 'std')
                      if getattr(options, key)}
    if options.align_corners:
        found['align_corners'] = True
    return found


def _licences(options: argparse.Namespace, recipe: Recipe) -> dict[str, str]:
    """Return the licences: told by options, by the source, or asked for."""
    known = {'code': recipe.code_licence, **recipe.told}
    found = {}
    for key in ('code', 'weights', 'data'):
        value = getattr(options, f'{key}_licence') or known.get(key, '')
        if not value and sys.stdin.isatty():
            value = input(f'Licence of the {key} (SPDX name or a sentence): ').strip()
        if not value:
            raise ConfigError(f'the licence of the {key} is not known: give --{key}-licence, an '
                              'SPDX name or a sentence ("unknown" is one). It stands in the card, '
                              'for whoever uses the model next.')
        found[key] = value
    return found


def _onnx(recipe: Recipe, path: Path) -> Exported | None:
    if recipe.onnx is not None:
        shutil.copyfile(recipe.onnx, path)
        return None
    size = recipe.input.get('size')
    return export(recipe.network, (size[0], size[1]) if size else _SAMPLE, path, recipe.any_size)


def _channels(recipe: Recipe, folder: Path) -> int:
    """Return how many classes and void channels the network has."""
    if recipe.output['kind'] == 'sigmoid':
        return 2
    import onnxruntime
    session = onnxruntime.InferenceSession(str(folder / 'model.onnx'),
                                           providers=['CPUExecutionProvider'])
    name = recipe.output.get('name', 'scores')
    shape = next(tensor.shape for tensor in session.get_outputs() if tensor.name == name)
    channels = shape[-1] if recipe.output.get('layout') == 'NHWC' else shape[1]
    if recipe.output['kind'] != 'labels' and isinstance(channels, int):
        return channels
    if recipe.names is None:
        raise ConfigError('the file does not tell how many classes it has: give its logits.')
    return len(recipe.names)


def _tell(out: Path, found: verify.Agreement, exported: Exported | None, recipe: Recipe,
          notes: Sequence[str]) -> None:
    print(f'{out}: {recipe.family}, {found.equal:.3%} of the labels on {found.pictures} pictures '
          f'({found.seen} classes seen, worst picture {found.worst:.3%}) are those of '
          f'{recipe.own}.')
    if exported is not None:
        sizes = 'any size' if exported.size else 'this size only'
        batch = 'any number' if exported.batch else 'one at a time'
        print(f'ONNX by {exported.how}: off by {exported.error:.1e} of the spread; {sizes}, '
              f'{batch}.')
    for note in notes:
        print(note)
    print(f'Next: make check-model MODEL={out} ARGS=PICTURE.jpg')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='import_model', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('source', type=Path, help='folder or file on this disk')
    add('out', type=Path, help='folder to be made, with model.onnx and card.yaml')
    add('--name', help='of the model in its card (default: that of the folder)')
    add('--torchvision', metavar='NAME', help='network of a weights file: fcn_resnet50, ...')
    add('--smp', metavar='NAME', help='segmentation_models_pytorch: unet, deeplabv3plus, ...')
    add('--encoder', metavar='NAME', default='resnet34', help='of --smp (default: %(default)s)')
    add('--clone', type=Path, help="clone of the authors' repository, whose code is run")
    add('--network', metavar='NAME', help='of --clone: bisenetv1, bisenetv2, pidnet_s, pidnet_m, '
        'pidnet_l, or MODULE:CALLABLE')
    add('--arguments', nargs='*', default=[], metavar='KEY=VALUE', help='of the callable')
    add('--run-code', action='store_true', help='run the code of --clone without asking')
    add('--classes', help='class table by name or file, or names with commas between (default: '
        'as the source names them)')
    add('--void', type=int, nargs='+', default=[], metavar='CHANNEL', help='channels that are no '
        'class: 255 in the mask')
    add('--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help='pictures are stretched to')
    add('--short-side', type=int, help='pictures keep their shape, the shorter side this long')
    for key, words in (('code', 'the code that defines the network'), ('weights', 'the weights'),
                       ('data', 'the training data')):
        add(f'--{key}-licence', metavar='TEXT', help=f'of {words}')
    add('--url', help='where it was got')
    add('--pictures', type=Path, nargs='+', default=[], help='pictures, folders or videos to '
        'compare labels on (default: those that are shipped)')
    add('--most', type=int, default=20, help='at most so many (default: %(default)s)')
    add('--no-runtimes', action='store_true', help='do not try OpenVINO and TensorRT, where they '
        'are installed')
    group = parser.add_argument_group('an ONNX file, or a clone that is not known')
    add = group.add_argument
    add('--colour', choices=('rgb', 'bgr'))
    add('--scale', type=float, help='the network gets (pixel * scale - mean) / std')
    add('--mean', type=float, nargs=3)
    add('--std', type=float, nargs=3)
    add('--interpolation', choices=('linear', 'antialias'))
    add('--kind', choices=('logits', 'probabilities', 'scores', 'labels', 'sigmoid'))
    add('--output', metavar='NAME', help='the ONNX output that is read')
    add('--align-corners', action='store_true')
    return parser


if __name__ == '__main__':
    sys.exit(main())
