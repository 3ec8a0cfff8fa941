"""
Build the TensorRT engine of a model for this machine's GPU, verify it, and keep it in the cache.

With TensorRT-RTX and --target it builds on a machine without a GPU, too; the engine is then
verified where it first runs. The node itself never builds: it opens what this made.
"""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
import json
from pathlib import Path
import re
import shlex
import sys
import time
from typing import Any

from ..engines.build import build, BuildOptions, parse_target, WORKSPACE_MIB
from ..engines.verify import by_segmenter, DisagreementError, verify
from ..errors import BackendError, ConfigError, SegNodeError
from ..geometry import camera_for, fit, Size
from ..gpu import trt
from ..gpu.engine_cache import EngineCache, VerifiedEngine
from ..gpu.engine_manifest import OptimizationProfile, PRECISIONS
from ..model.card import InputSpec, load_card, ModelCard

_IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm')


class Bars:
    """A progress bar for each phase that TensorRT is in, on stderr, if that is a terminal."""

    def __init__(self) -> None:
        self._bars: dict[str, Any] = {}

    def __call__(self, phase: str, parent: str | None, done: int, steps: int) -> None:
        """Show how far a phase is; see ``trt.Progress``."""
        from tqdm import tqdm
        if done >= steps:
            bar = self._bars.pop(phase, None)
            if bar is not None:
                bar.close()
            return
        if phase not in self._bars:
            self._bars[phase] = tqdm(total=steps, desc=phase, leave=False,
                                     position=len(self._bars), disable=not sys.stderr.isatty())
        self._bars[phase].update(done - self._bars[phase].n)


def profile_of(spec: InputSpec, batch: tuple[int, int, int], sizes: Sequence[Size],
               cameras: Sequence[Size]) -> OptimizationProfile:
    """
    Return the profile for a card's network and what the user said of sizes.

    :raises ConfigError: too little was said, or no camera leads to a size.
    """
    found = [fit(spec, camera).network for camera in cameras]
    for size in sizes:
        try:
            camera_for(spec, size)
        except ConfigError as error:
            raise ConfigError(f'{error}. Give --camera WIDTHxHEIGHT instead of --size.') from error
        found.append(size)
    if not found and spec.size is not None:
        found = [Size(*spec.size)]
    if not found:
        raise ConfigError(f'the size of this network follows the camera (short_side '
                          f'{spec.short_side}): say the size of each with --camera WIDTHxHEIGHT')
    return OptimizationProfile(batch, tuple(dict.fromkeys(found)))


def calibration_images(folder: Path | None, limit: int) -> tuple[Path, ...]:
    """
    Return at most ``limit`` images of a folder, evenly spread.

    :raises ConfigError: the folder is none, or has no images.
    """
    if folder is None:
        return ()
    images = sorted(path for path in folder.glob('*') if path.suffix.lower() in _IMAGES)
    if not images:
        raise ConfigError(f'{folder} holds no images ({", ".join(_IMAGES)}). Give a folder of '
                          'pictures of the cameras the model will see.')
    return tuple(images[::-(-len(images) // limit)])


def run(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """
    Build, verify and report.

    :param command: the command line, for the manifest.
    :returns: what ``--json`` writes.
    :raises SegNodeError: see ``engines.build.build`` and ``engines.verify.verify``.
    """
    card = load_card(options.model)
    order = BuildOptions(options.precision,
                  profile_of(card.input, options.batch, options.size or [], options.camera or []),
                  parse_target(options.target) if options.target else None,
                  options.workspace_mib, calibration_images(options.images, options.limit),
                  options.force)
    library, gpu, cache = trt.load(options.library), trt.find_gpu(options.gpu), EngineCache()
    if gpu is None and options.gpu:
        trt.require_gpu(options.gpu)  # says how many there are
    start = time.perf_counter()
    with trt.on_gpu(options.gpu) if gpu is not None else nullcontext():
        found, built = build(card, order, library=library, cache=cache, gpu=gpu, command=command,
                             progress=Bars())
    if (gpu is not None and '{}.{}'.format(*gpu.compute_capability)
            == found.manifest.key.compute_capability and found.manifest.verified is None):
        found = _verified(found, card, cache, options.gpu)
    return {'folder': str(found.folder), 'built': built, 'library': str(library),
            'total_s': round(time.perf_counter() - start, 2),
            **json.loads(found.manifest.to_json())}


def _verified(found: VerifiedEngine, card: ModelCard, cache: EngineCache,
              gpu: int = 0) -> VerifiedEngine:
    """Run the engine on test frames; one that disagrees does not stay in the cache."""
    camera = camera_for(card.input, found.manifest.key.profile.sizes[0])
    try:
        from ..gpu.segmenter import TensorRTSegmenter
        segmenter = TensorRTSegmenter(card, found, gpu)
    except SegNodeError as error:
        reason: str | None = f'it cannot be run here: {error}'
        verified: dict[str, Any] | None = None
    else:
        try:
            result = verify(by_segmenter(segmenter), card, camera, found.manifest.key.precision)
        except DisagreementError:
            cache.remove(found.folder)
            raise
        except BackendError as error:  # nothing is said against the engine, as it took minutes
            verified, reason = None, f'the check did not come to its end: {error}'
        else:
            verified, reason = result.entry()
        finally:
            segmenter.close()
    manifest = replace(found.manifest, verified=verified, verified_reason=reason)
    cache.update(found.folder, manifest)
    return replace(found, manifest=manifest)


def main(args: list[str] | None = None) -> int:
    """Run from the command line."""
    options = _parser().parse_args(args)
    words = sys.argv[1:] if args is None else args
    command = shlex.join(['python', '-m', 'seg_node.tools.build_engine', *words])
    try:
        report = run(options, command)
    except SegNodeError as error:
        print(f'build_engine: {error}', file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    _print(report)
    return 0


def _print(report: dict[str, Any]) -> None:
    key, built = report['key'], report['build']
    gpu = key['gpu'] or f'any GPU of compute capability {key["compute_capability"]}'
    print(f'{report["folder"]}\n  {report["model"]} {key["precision"]} by {report["library"]} '
          f'for {gpu}')
    print(f'  {"built" if report["built"] else "already there, built"} in '
          f'{built["build_s"]:.1f} s after {built["conversion_s"]:.1f} s of conversion')
    for name, record in report['files'].items():
        print(f'  {name}: {record["bytes"]} bytes')
    if 'kernels.cubin' not in report['files']:
        print(f'  no kernels.cubin: {built["kernels"]}')
    print(f'  layers: {built["layers"]}')
    verified = report['verified']
    print(f'  verified: {verified["agreement"]:.4%} of the labels as ONNX Runtime, '
          f'{verified["control"]:.2%} with another frame' if verified else
          f'  not verified: {report["verified_reason"]}')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='build_engine', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', required=True, help='model name or card folder')
    parser.add_argument('--precision', choices=PRECISIONS, default='fp16',
                        help='default: %(default)s')
    parser.add_argument('--batch', type=_batch, default='1:4', metavar='MIN[:BEST]:MAX',
                        help='images at a time; up to eight numbers have a profile each, more '
                        'share one that is fastest at BEST, else at MAX (default: 1:4)')
    parser.add_argument('--camera', type=camera_size, action='append', metavar='WIDTHxHEIGHT',
                        help='size of a camera; once for each size. For a network whose size '
                        'follows the camera; the engine is fastest at the first')
    parser.add_argument('--size', type=_network, action='append', metavar='HEIGHTxWIDTH',
                        help='the same said as the size of the network itself')
    parser.add_argument('--images', type=Path, help='int8: folder of images to calibrate with')
    parser.add_argument('--limit', type=_positive, default=64,
                        help='int8: how many of them, evenly spread (default: %(default)s)')
    parser.add_argument('--gpu', type=int, default=0, metavar='NUMBER', choices=range(64),
                        help='build on this GPU, as nvidia-smi counts (default: %(default)s)')
    parser.add_argument('--target', help='TensorRT-RTX: compute capability to build for, sm_89')
    parser.add_argument('--library', choices=trt.NAMES, help='default: the one installed')
    parser.add_argument('--workspace-mib', type=_positive, default=WORKSPACE_MIB,
                        help='memory that the engine may use as scratch (default: %(default)s)')
    parser.add_argument('--force', action='store_true', help='build it again where it is there')
    parser.add_argument('--json', type=Path, help='write the report here')
    return parser


def _batch(text: str) -> tuple[int, int, int]:
    numbers = [int(n) if n.isdecimal() else 0 for n in text.split(':')]
    if len(numbers) > 3 or sorted(numbers) != numbers or not 1 <= numbers[0] <= numbers[-1] <= 64:
        raise argparse.ArgumentTypeError(f'{text!r} is no range like 1:4 or 1:2:4, in 1 to 64')
    return numbers[0], numbers[1] if len(numbers) == 3 else numbers[-1], numbers[-1]


def camera_size(text: str) -> Size:
    """Return the size that is written as WIDTHxHEIGHT; for argparse."""
    match = re.fullmatch(r'(\d{1,5})x(\d{1,5})', text)
    if match is None or not all(int(side) for side in match.groups()):
        raise argparse.ArgumentTypeError(f'{text!r} is no size like 1280x720 (width x height)')
    return Size(int(match[2]), int(match[1]))


def _network(text: str) -> Size:
    return Size(*reversed(camera_size(text)))


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f'{text!r} is no whole number from 1')
    return int(text)


if __name__ == '__main__':
    sys.exit(main())
