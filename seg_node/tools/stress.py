"""
Measure how often a mask is badly wrong and nobody is told: the silent-failure rate of a model.

Every picture is judged as it is and with each kind of damage, by the pipeline and the judgement
that the node runs, one frame at a time. Badly wrong is a drivable area with an IoU below 0.7;
unsafe is one that, besides, covers more than 5 % of what is not road; silent is one that the
judgement calls ok. Rates are means over the kinds of damage. False alarms are counted on pictures
as they are, where the IoU is 0.9 or more. A contact sheet goes to out/.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
import json
from pathlib import Path
import sys
from typing import Any

import cv2
import numpy as np

from ..devices.choose import NAMES, ONNX_RUNTIME, open_segmenter, Wish
from ..errors import ConfigError, SegNodeError
from ..model.card import load_card, ModelCard
from ..model.card_text import write_key
from ..model.taxonomy import ClassTable
from ..pipeline import Pipeline
from ..running.warm_up import warm_up
from ..scoring.corruptions import chosen
from ..scoring.datasets import Dataset, open_dataset
from ..scoring.layouts import LAYOUTS
from ..scoring.pictures import caption, contact_sheet, Painter
from ..scoring.stress import CLEAN, GOOD, Outcome, stress, summarise
from ..trust.policy import Policy, PUBLISH, Trust
from .alarms import count_alarms
from .console import progress

_TILE = 320


class Sheet:
    """Keeps one tile a kind of damage: of the worst mask that nobody was told of, if any."""

    def __init__(self, classes: ClassTable) -> None:
        self._painter = Painter(classes)
        self._tiles: dict[str, tuple[tuple[bool, float], np.ndarray]] = {}

    def add(self, outcome: Outcome, image: np.ndarray, area: np.ndarray) -> None:
        """Keep a tile of this frame if it is worse than the one kept."""
        badness = (outcome.bad and not outcome.alarmed, -outcome.iou)
        kept = self._tiles.get(outcome.kind)
        if kept is None or badness > kept[0]:
            self._tiles[outcome.kind] = badness, self._tile(outcome, image, area)

    def _tile(self, outcome: Outcome, image: np.ndarray, area: np.ndarray) -> np.ndarray:
        panel = self._painter.drivable(image, area)
        scale = min(_TILE / panel.shape[1], _TILE * 0.75 / panel.shape[0])
        small = cv2.resize(panel, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        below = round(_TILE * 0.75) - small.shape[0]
        padded = cv2.copyMakeBorder(small, 0, below, 0, _TILE - small.shape[1],
                                    cv2.BORDER_CONSTANT)
        return np.vstack([caption(f'{outcome.kind}  IoU {outcome.iou:.2f}  {outcome.state}',
                                  _TILE), padded])

    def draw(self, title: str) -> np.ndarray:
        """Return the sheet, uint8 BGR."""
        return contact_sheet(title, [tile for _, tile in self._tiles.values()], self._painter, 5)


def main(args: list[str] | None = None) -> int:
    """Run the tool from the command line."""
    options = _parser().parse_args(args)
    try:
        _check(options)
        card = load_card(options.model)
        dataset = _dataset(options, card.main_output.classes)
        outcomes, sheet, recordings = _run(options, card, dataset)
        figures = summarise(outcomes)
        _write(options, card, figures, outcomes, sheet)
    except (SegNodeError, OSError) as error:
        print(f'stress: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(as_table(figures, outcomes))
    for line in recordings:
        print(line)
    return 0


def _run(options: argparse.Namespace, card: ModelCard,
         dataset: Dataset) -> tuple[list[Outcome], np.ndarray, list[str]]:
    """Return the judged frames, the contact sheet, and what was alarmed on recordings."""
    own = card.main_output.classes
    corruptions = list(chosen(options.corruptions).values())
    pairs = dataset.pairs[::options.every]
    wish = Wish(options.backend, threads=options.threads)
    trust = Trust(card, Policy(on_blind=PUBLISH, on_doubtful=PUBLISH))
    if trust.judge.missing:
        print(f'stress: {trust.judge.missing}', file=sys.stderr)
    pipeline = Pipeline(open_segmenter(card, wish).segmenter, own, trust=trust)
    sheet = Sheet(own)
    try:
        warm_up(pipeline)
        outcomes = list(progress(
            stress(pipeline, dataset, pairs, corruptions, options.seed, sheet.add), 'stress',
            len(pairs) * (len(corruptions) + 1)))
        recordings = [count_alarms(pipeline, path, options.every) for path in options.clean]
    finally:
        pipeline.segmenter.close()
    title = f'{card.name} on {_tail(options.images)}: the worst of each kind'
    return outcomes, sheet.draw(title), recordings


def _dataset(options: argparse.Namespace, own: ClassTable) -> Dataset:
    layout = options.layout or next(
        (entry.name for entry in LAYOUTS.values() if entry.taxonomy == own.name), 'pairs')
    table = own if LAYOUTS.get(layout) and LAYOUTS[layout].taxonomy is None else None
    return open_dataset(options.images, options.labels, layout, table)


def _check(options: argparse.Namespace) -> None:
    """Refuse before the work what would fail after it."""
    for path in filter(None, (options.json, options.details)):
        if not path.absolute().parent.is_dir():
            raise ConfigError(f'{path} cannot be written: there is no folder {path.parent}. Make '
                              'it, or give another path.')
    if options.every < 1:
        raise ConfigError(f'--every {options.every}: at least 1, every picture.')
    if options.seed < 0:
        raise ConfigError(f'--seed {options.seed}: at least 0.')
    if options.card and (options.corruptions or options.every != 1):
        raise ConfigError('--card writes the whole table: leave --corruptions and --every out.')
    chosen(options.corruptions)


def _write(options: argparse.Namespace, card: ModelCard, figures: dict[str, Any],
           outcomes: Sequence[Outcome], sheet: np.ndarray) -> None:
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + '\n', encoding='utf-8')
    if options.details:
        rows = [asdict(outcome) | {'state': str(outcome.state)} for outcome in outcomes]
        options.details.write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')
    path = options.sheet or Path('out') / f'stress_{card.name}.jpg'
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), sheet):
        raise SegNodeError(f'OpenCV cannot write {path}: is the disk full, or the folder '
                           'read-only?')
    if options.card:
        write_key(card.path, 'stress', {
            'pictures': f'{_tail(options.images)}, '
                        f'{sum(outcome.kind == CLEAN for outcome in outcomes)}',
            'command': f'python -m seg_node.tools.stress --model {card.name} --images '
                       f'{_tail(options.images)} --labels {_tail(options.labels)}',
            **figures})


def _tail(folder: Path) -> str:
    """Return the last two names of a path; the last alone is often just ``images``."""
    return '/'.join(folder.resolve().parts[-2:])


def as_table(figures: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    """Return the figures for people."""
    lines = [f'{"kind":20} {"IoU":>6} {"bad":>5} {"silent":>7} {"alarmed":>8}']
    for kind, entry in figures['by_corruption'].items():
        count = sum(outcome.bad for outcome in outcomes if outcome.kind == kind)
        lines.append(f'{kind:20} {entry["iou"]:6.3f} {count:5d} {_said(entry["silent"]):>7} '
                     f'{_said(entry["alarmed"]):>8}')
    spoilt_good = [outcome.alarmed for outcome in outcomes
                   if outcome.kind != CLEAN and outcome.iou >= GOOD]
    bad = [outcome for outcome in outcomes if outcome.kind != CLEAN and outcome.bad]
    unsafe = [outcome for outcome in bad if outcome.unsafe]
    lines += [
        f'{figures["frames"]} spoilt frames, {figures["bad"]} masks badly wrong; worst: '
        f'{figures["worst"]}',
        f'silent_rate         {_said(figures["silent_rate"])}',
        f'unsafe_silent_rate  {_said(figures["unsafe_silent_rate"])}',
        f'false_alarm_rate    {_said(figures["false_alarm_rate"])}   (clean pictures)',
        f'silent, masks counted one by one: {_count_silent(bad)} bad ones, '
        f'{_count_silent(unsafe)} unsafe ones',
        f'alarms on spoilt pictures with a good mask: {sum(spoilt_good)} of {len(spoilt_good)}']
    return '\n'.join(lines)


def _count_silent(told_of: Sequence[Outcome]) -> str:
    return f'{sum(not outcome.alarmed for outcome in told_of)} of {len(told_of)}'


def _said(value: float | None) -> str:
    return 'none' if value is None else f'{value:.3f}'


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='stress', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--model', required=True, help='model name or card folder')
    add('--images', required=True, type=Path, help='folder of images, searched with subfolders')
    add('--labels', required=True, type=Path, help='folder of label PNGs, likewise')
    add('--layout', help='how the data set lies on disk (default: by the classes of the model): '
        + ', '.join(LAYOUTS))
    add('--clean', type=Path, action='append', default=[], metavar='RECORDING',
        help='also count alarms on a video, bag or folder whose frames are all good; repeatable')
    add('--corruptions', nargs='+', metavar='NAME', help='only these (default: all); a kind '
        'without its strength means all its strengths')
    add('--every', type=int, default=1, metavar='N', help='only every Nth picture')
    add('--seed', type=int, default=0, help='of what chance does to the pictures')
    add('--json', type=Path, help='write the figures here')
    add('--details', type=Path, help='write the outcome of every frame here, as JSON')
    add('--sheet', type=Path, help='contact sheet (default: out/stress_MODEL.jpg)')
    add('--card', action='store_true', help="write the table into the model's card")
    add('--backend', default=ONNX_RUNTIME, help=', '.join(NAMES))
    add('--threads', type=int, default=0, help='of the network on the CPU; 0 = one a core')
    return parser


if __name__ == '__main__':
    sys.exit(main())
