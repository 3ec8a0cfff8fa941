"""
Label whole archives of recordings on Ray, by the pipeline that the node runs, and search them.

`label` takes bags, videos, drives, folders of pictures, and folders that hold such, here or on
any file system that fsspec knows. Per recording the output has a bag with the masks and a table
with a row a frame. It may be interrupted at any moment: the same command goes on where it was,
and a second time does nothing. `find` searches the table.

Exit code: 0 all is done; 1 something is missing, and is named; 2 refused or given up;
130 stopped.
"""

import argparse
from collections.abc import Sequence
import os
from pathlib import Path
import signal
import sys
from threading import current_thread, main_thread
import time
from typing import TYPE_CHECKING

import cv2

from ..devices.choose import AUTO, NAMES, ONNX_RUNTIME, PRECISION_NAMES, Wish
from ..errors import ConfigError, SegNodeError
from .source_arguments import add_encoding_argument, positive, whole

if TYPE_CHECKING:  # an extra: what it needs is looked for when it is wanted
    from pyarrow import Table

    from ..archive.order import Order
    from ..archive.output import Output
    from ..archive.recordings import Recording
    from ..archive.run import Outcome

_EVERY_S = 60.0  # between two lines where there is no terminal


def main(args: Sequence[str] | None = None) -> int:
    """Run the tool from the command line."""
    options = _parser().parse_args(args)
    try:
        return int(options.act(options))
    except (SegNodeError, OSError) as error:
        print(f'archive: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('archive: stopped; the same command goes on from here', file=sys.stderr)
        return 130


def _label(options: argparse.Namespace) -> int:
    _require()
    from ..archive.order import check_files
    from ..archive.output import Lock, Output
    from ..archive.recordings import find_recordings
    from ..archive.run import Outcome, sift
    order = _order(options)
    check_files(order)
    output = Output(options.out.absolute())
    recordings, broken, remarks = find_recordings(_whole(options.sources))
    outcome, asked = Outcome(broken=broken), len(recordings) + len(broken)
    with Lock(output):
        left = sift(output, recordings, outcome, options.again)
        try:
            if left:
                _run(options, order, output, left, outcome)
        finally:
            _report(outcome, remarks, asked)
    return 1 if outcome.broken else 0


def _run(options: argparse.Namespace, order: 'Order', output: 'Output',
         left: 'list[Recording]', outcome: 'Outcome') -> None:
    from ..archive.crew import connected, Crew, usual_workers
    from ..archive.run import Run
    with connected(options.address) as ray, Bar() as bar:
        count, each = usual_workers(ray, order.wish, options.workers)
        crew = Crew(ray, order, output.path, count, each)
        if current_thread() is main_thread():  # after Ray, which has a handler of its own
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            Run(output, crew, left, outcome, bar).go()
        finally:
            crew.close()
            for reason in dict.fromkeys(crew.gone):
                print(f'archive: a worker was lost: {reason}', file=sys.stderr)


def _find(options: argparse.Namespace) -> int:
    _require()
    from ..archive.find import as_text, find, open_table, SHOWN
    table = open_table(options.out)
    if options.limit < 0:
        raise ConfigError(f'--limit {options.limit}: 0 or more')
    shown = (table.schema.names if options.columns == ['-'] else options.columns or
             [name for name in SHOWN if name in table.schema.names])
    whole = options.table or options.sheet or options.frames
    sort = f'-{options.sort}' if options.sort and options.reverse else options.sort
    found = find(table, options.expression, sort=sort, apart_s=options.apart,
                 limit=options.limit or None, columns=() if whole else shown)
    print(as_text(found.rows, shown))
    print(f'{found.count} frames fit' + (
        f', {found.rows.num_rows} are shown' if found.rows.num_rows < found.count else ''))
    missing: dict[str, str] = {}
    if options.table:
        _write_table(options.table, found.rows)
    if options.sheet or options.frames:
        _write_frames(options, found.rows, missing)
    for uri, reason in missing.items():
        print(f'NOT THERE: {uri}: {reason}')
    return 1 if missing else 0


def _write_table(path: Path, rows: 'Table') -> None:
    from pyarrow import csv, parquet
    if path.suffix not in ('.csv', '.parquet'):
        raise ConfigError(f'--table {path}: give a name that ends in .csv or .parquet')
    (csv.write_csv if path.suffix == '.csv' else parquet.write_table)(rows, path)


def _write_frames(options: argparse.Namespace, rows: 'Table', missing: dict[str, str]) -> None:
    from ..archive.frames import classes_of, draw_sheet, read_frames, write_frames
    from ..archive.order import Order
    from ..archive.output import Output
    made_by = Output(options.out).made_by
    if made_by is None:
        raise ConfigError(f'{options.out} has no manifest: give the --out of a run of label')
    order = Order(options.model or made_by['model'], Wish(), fps=made_by['fps'],
                  encodings=tuple(map(tuple, made_by['encodings'])))
    classes = classes_of(made_by, order)
    if options.frames:
        count = write_frames(options.frames, read_frames(options.out, order, rows, missing))
        print(f'{count} pictures with labels ({classes.name}) are in {options.frames}')
    if options.sheet:
        title = f'{options.out.name}: {options.expression or "all"}'
        sheet = draw_sheet(title, read_frames(options.out, order, rows, missing), classes)
        if not cv2.imwrite(str(options.sheet), sheet):
            raise SegNodeError(f'{options.sheet} cannot be written: is the disk full, or the '
                               'folder read-only?')


def _report(outcome: 'Outcome', remarks: Sequence[str], asked: int) -> None:
    """Say what is there now and, by name, what is not."""
    for line in remarks:
        print(f'note: {line}')
    for uri, lines in outcome.remarks.items():
        for line in lines:
            print(f'note: {uri}: {line}')
    for uri, reason in outcome.broken.items():
        print(f'NOT WHOLE: {uri}: {reason}')
    speed = (f' ({outcome.new / outcome.spent_s:.2f} a second, '
             f'{1e3 * outcome.core_s / outcome.new:.1f} '
             'core ms each)' if outcome.new else '')
    print(f'{outcome.recordings} of {asked} recordings are labelled, {outcome.frames} frames; '
          f'{outcome.new} of them now{speed}')
    if outcome.refused:
        reasons = ', '.join(f'{count} {reason}' for reason, count in outcome.refused.most_common())
        print(f'{outcome.refused.total()} frames are refused, as the node would: {reasons}')


class Bar:
    """Shows the progress: a bar with the time left on a terminal, else a line a minute."""

    def __init__(self) -> None:
        from tqdm import tqdm
        self._bar = tqdm(desc='label', unit=' frames', disable=None, smoothing=0.05)
        self._start_s = self._told_s = time.monotonic()

    def __call__(self, frames: int, of: int | None, recordings: int) -> None:
        """Show frames done, of how many as far as it is known, and recordings done."""
        self._bar.total = of
        self._bar.set_postfix_str(f'{recordings} recordings', refresh=False)
        self._bar.update(frames - self._bar.n)
        now_s = time.monotonic()
        if self._bar.disable and now_s - self._told_s >= _EVERY_S:
            self._told_s = now_s
            print(self._bar.format_meter(frames, of, now_s - self._start_s, unit=' frames',
                                         postfix=f'{recordings} recordings'),
                  file=sys.stderr, flush=True)

    def __enter__(self) -> 'Bar':
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _require() -> None:
    """Refuse in one line where the extra is not installed."""
    try:
        import fsspec  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'{error.name} is not installed: pip install -r '
                          'requirements/archive.txt') from error


def _order(options: argparse.Namespace) -> 'Order':
    from ..archive.order import Order
    model = options.model
    if os.sep in model:
        model = str(Path(model).absolute())
    wish = Wish(options.backend, threads=options.threads, precision=options.precision)
    wish.check()
    return Order(
        model, wish, tuple((name, str(Path(file).absolute()))
                           for name, file in options.calibration),
        tuple(options.as_encoding), options.fps, options.piece * 60.0,
        None if options.scratch is None else str(options.scratch.absolute()), options.mixed_cpus)


def _whole(sources: Sequence[str]) -> list[str]:
    return [source if '://' in source else str(Path(source).expanduser().absolute())
            for source in sources]


def _calibration(text: str) -> tuple[str, str]:
    name, separator, file = text.rpartition(':=')
    return (name if separator else '', file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='archive', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True, metavar='label | find')
    _add_label(kinds.add_parser('label', help='label recordings'))
    _add_find(kinds.add_parser('find', help='find frames in what is labelled'))
    return parser


def _add_find(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(act=_find)
    add = parser.add_argument
    add('out', type=Path, metavar='DIR', help='the --out of label')
    add('expression', nargs='?', default='', help="e.g. \"drivable < 0.1 and state != 'ok'\"; "
        'without one all frames are meant')
    add('--columns', nargs='+', default=[], metavar='NAME', help='to be shown; - = all there are')
    add('--sort', default='', metavar='NAME', help='by this column, the least first')
    add('--reverse', action='store_true', help='the greatest first')
    add('--apart', type=positive, default=0.0, metavar='S', help='frames of one camera at least '
        'so many seconds apart')
    add('--limit', type=int, default=20, metavar='N', help='at most so many frames (default 20; '
        '0 = all)')
    add('--table', type=Path, metavar='FILE', help='write the rows here (.csv or .parquet)')
    add('--sheet', type=Path, metavar='FILE', help='draw the frames here (.png, .jpg)')
    add('--frames', type=Path, metavar='FOLDER', help='write pictures and labels here, as '
        'evaluate and the training take them')
    add('--model', help='card folder of the model that made it, if it is not a shipped one')


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(act=_label)
    add = parser.add_argument
    add('sources', nargs='+', metavar='SOURCE', help='recording, folder of recordings, pattern, '
        'or an address like s3://bucket/drives')
    add('--out', type=Path, required=True, metavar='DIR', help='where to, on a disk that all '
        'machines share')
    add('--address', metavar='ADDRESS', help="of a Ray cluster, or auto (default: Ray's own "
        'processes on this machine, for as long as this runs)')
    add('--model', default='deeplabv3plus_lite0_camvid', help='model name or card folder')
    add('--backend', default=AUTO, choices=NAMES, help='what runs the network (default: auto; '
        f'{ONNX_RUNTIME} runs anywhere)')
    add('--precision', default='auto', choices=PRECISION_NAMES)
    add('--threads', type=whole, default=1, metavar='N', help='cores a worker takes (default 1, '
        'which labels the most frames a second in all)')
    add('--workers', type=whole, metavar='N', help='default: one a GPU, else as many as there are '
        'cores for')
    add('--calibration', nargs='+', type=_calibration, default=[], metavar='[CAMERA:=]FILE',
        help='calibration with its mount, of a camera or of all: tells distances')
    add_encoding_argument(parser)
    add('--fps', type=positive, metavar='HZ', help='frames a second of folders, and of videos '
        'that do not say it')
    add('--piece', type=positive, default=5.0, metavar='MINUTES', help='longer recordings are '
        'split into such pieces (default 5)')
    add('--scratch', type=Path, metavar='DIR', help='where recordings from elsewhere are copied '
        'to while they are labelled, on each machine')
    add('--mixed-cpus', action='store_true', help='let kinds of processors mix, whose labels may '
        'differ in single pixels')
    add('--again', action='store_true', help='label anew what could not be read wholly')


if __name__ == '__main__':
    sys.exit(main())
