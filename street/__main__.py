"""
Render a drive down a street that a seed makes up, with its exact truth.

OUT becomes a folder with a recorded drive: H.264 video, labels, camera and how the body stood,
which replay, demo (INPUT=OUT) and seg_node.scoring.drive read; with --bag an mcap bag, whose
images are not compressed. The manifest of a recorded drive holds the command that makes it again.
"""

import argparse
from pathlib import Path
import shlex
import sys

from seg_node.errors import SegNodeError

from . import DISTRICTS
from .files import CRF, write_bag, write_folder
from .rendering import rendering, Settings


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(prog='python -m street', description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    add, default = found.add_argument, Settings()
    add('out', type=Path, metavar='OUT', help='folder to write')
    add('--seed', type=int, default=default.seed, help='another seed, another street')
    add('--district', choices=DISTRICTS, help='where it leads; default: somewhere in town')
    for name, kind, help_ in (('seconds', float, 'length of the drive'), ('width', int, 'pixels'),
                              ('height', int, 'pixels'), ('rate', float, 'frames a second')):
        key = {'seconds': 'duration_s', 'rate': 'rate_hz'}.get(name, name)
        add(f'--{name}', type=kind, default=getattr(default, key), dest=key,
            help=f'{help_} (default: %(default)s)')
    add('--camera', default=default.camera,
        help='name or file of a calibration with a mount (default: %(default)s)')
    add('--crf', type=int, default=CRF, help='quality of the video, 0 (best) to 51 (default: '
        '%(default)s)')
    add('--bag', action='store_true', help='write an mcap bag instead')
    add('--transport', choices=('raw', 'compressed'), default='raw',
        help='images of the bag: bgr8 or JPEG (default: %(default)s)')
    add('--overwrite', action='store_true', help='replace a drive or bag at OUT')
    return found


def settings(options: argparse.Namespace) -> Settings:
    """Return what a command line asks to render."""
    return Settings(**{name: getattr(options, name) for name in Settings.__dataclass_fields__})


def command(given: list[str], out: Path) -> str:
    """Return a command line as the manifest keeps it: without what only this machine has."""
    words = [out.name if word == str(out) else word for word in given if word != '--overwrite']
    return shlex.join(['python', '-m', 'street', *words])


def main(args: list[str] | None = None) -> int:
    """Render from the command line."""
    given = sys.argv[1:] if args is None else args
    options = parser().parse_args(given)
    try:
        with rendering(settings(options)) as rendered:
            if options.bag:
                write_bag(options.out, rendered, options.rate_hz, transport=options.transport,
                          overwrite=options.overwrite)
            else:
                write_folder(options.out, rendered, options.rate_hz, command(given, options.out),
                             crf=options.crf, overwrite=options.overwrite)
    except SegNodeError as error:
        print(f'street: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f'{rendered.count} frames in {options.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
