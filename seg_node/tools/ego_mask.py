"""
Propose where a camera sees its own vehicle, from a recording of it driving.

Writes the mask (white = the vehicle) and, beside it, the mask over a frame to look at. It is a
proposal: look at the picture, mend the mask in any paint program where it is wrong, and give it
to the node as <camera>.ego_mask. Ends with 1 when nothing was found.
"""

import argparse
from pathlib import Path
import sys

import cv2
import numpy as np

from ..ego_mask import load_ego_mask
from ..errors import ConfigError, FrameError, SegNodeError
from ..geometry import Size
from ..image import wire
from ..image.decode import decode
from ..playback.ego_proposal import Proposal, Stillness
from ..playback.open_source import open_source
from ..playback.sources import IMAGE, Source, Topic
from ..scoring.pictures import caption
from .console import progress

FRAMES = 300
_TINT, _LINE = (200, 60, 255), (40, 0, 255)  # BGR


def propose(source: Source, topic: Topic, most: int = FRAMES,
            ) -> tuple[Proposal | None, np.ndarray]:
    """
    Return what is probably the vehicle, and a frame to show it over, (H, W, 3) uint8 BGR.

    :param most: frames to look at, spread over the recording where their number is known.
    :raises ConfigError: when too few frames can be used; the message says why.
    """
    parse = wire.parse_image if topic.type == IMAGE else wire.parse_compressed_image
    stillness, shown, problem = Stillness(), None, ''
    step = max(1, (topic.count or 0) // most)
    records = progress(source.records([topic.name]), 'ego_mask', topic.count)
    for index, record in enumerate(records):
        if index % step:
            continue
        try:
            image = decode(parse(record.data))
        except FrameError as error:
            problem = problem or f' The first that was refused: {error}.'
            continue
        stillness.add(image)
        if shown is None or index <= (topic.count or most) // 2:
            shown = image
    try:
        proposal = stillness.propose()
    except ConfigError as error:
        raise ConfigError(f'{source.path}, {topic.name}: {error}{problem}') from error
    assert shown is not None
    return proposal, shown


def picture(frame: np.ndarray, mask: np.ndarray, text: str) -> np.ndarray:
    """Return the frame with the mask tinted and outlined under a line of text, BGR."""
    tinted = cv2.addWeighted(frame, 0.5, np.full_like(frame, _TINT), 0.5, 0)
    panel = np.where(mask[..., None] > 0, tinted, frame)
    outline, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(panel, outline, -1, _LINE, max(1, frame.shape[1] // 640))
    return np.vstack([caption(text, frame.shape[1]), panel])


def main(args: list[str] | None = None) -> int:
    """Run the tool from the command line."""
    options = _parser().parse_args(args)
    view = options.view or options.out.with_name(f'{options.out.stem}_view.jpg')
    try:
        _check_outputs(options.out, view)
        with open_source(options.recording) as source:
            topic = _topic(source, options.topic)
            if options.show is None:
                proposal, frame = propose(source, topic, options.frames)
                for remark in source.remarks():
                    print(f'ego_mask: {remark}', file=sys.stderr)
            else:
                return _show(source, topic, options.show, view)
    except SegNodeError as error:
        print(f'ego_mask: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if proposal is None:
        print(f'Nothing in {options.recording} stays where it is while the street goes by: this '
              'camera probably does not see its vehicle, and no mask was written. If it does, '
              'paint one.')
        return 1
    return _write(options.out, view, proposal, frame)


def _write(out: Path, view: Path, proposal: Proposal, frame: np.ndarray) -> int:
    share = np.count_nonzero(proposal.mask) / proposal.mask.size
    text = (f'proposed ego mask: {100 * share:.1f} % of the image, in {100 * proposal.span:.0f} % '
            f'of its columns, clarity {proposal.clarity:.2f}')
    for path, image in ((out, proposal.mask), (view, picture(frame, proposal.mask, text))):
        if not cv2.imwrite(str(path), image):
            print(f'ego_mask: OpenCV cannot write {path}: is the disk full, or the folder '
                  'read-only?', file=sys.stderr)
            return 2
    print(f'{text}\nLook at {view}. Where it is wrong, mend {out} (white = the vehicle). Then '
          f'set the parameter <camera>.ego_mask to {out.absolute()}')
    return 0


def _show(source: Source, topic: Topic, value: str, view: Path) -> int:
    """Draw a mask that is already there over a frame of the recording."""
    mask = load_ego_mask(value, where='--show')
    _, frame = propose(source, topic, 30)
    size = Size(*frame.shape[:2])
    text = f'{value}: {100 * mask.share(size):.1f} % of the image'
    cv2.imwrite(str(view), picture(frame, mask.pixels(size), text))
    print(f'{text}\nLook at {view}')
    return 0


def _topic(source: Source, wanted: str | None) -> Topic:
    """Return the image topic that is meant."""
    topics = {topic.name: topic for topic in source.topics if topic.is_image}
    names = ', '.join(topics) or 'none'
    if wanted is not None:
        if wanted not in topics:
            raise ConfigError(f'--topic {wanted}: {source.path} has no such image topic; it has: '
                              f'{names}.')
        return topics[wanted]
    if len(topics) != 1:
        raise ConfigError(f'{source.path} has {len(topics)} image topics ({names}); an ego mask '
                          'is for one camera. Choose it with --topic.')
    return next(iter(topics.values()))


def _check_outputs(out: Path, view: Path) -> None:
    """Refuse before the work what would fail after it."""
    if out.suffix.lower() != '.png':
        raise ConfigError(f'--out {out}: allowed is .png; other formats blur the edges.')
    if view.suffix.lower() not in ('.png', '.jpg', '.jpeg'):
        raise ConfigError(f'--view {view}: allowed are .png and .jpg.')
    for path in (out, view):
        if not path.absolute().parent.is_dir():
            raise ConfigError(f'{path} cannot be written: there is no folder {path.parent}. Make '
                              'it, or give another path.')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='ego_mask', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('recording', type=Path, help='bag, video or folder of images in which the car drives')
    add('--out', type=Path, default=Path('ego_mask.png'),
        help='the mask, a .png (default: %(default)s)')
    add('--view', type=Path, help='the mask over a frame (default: beside --out)')
    add('--topic', help='of the camera, where a bag has several')
    add('--frames', type=int, default=FRAMES, help='to look at (default: %(default)s)')
    add('--show', metavar='MASK', help='propose nothing: draw this mask (as the parameter '
        'ego_mask takes it) over a frame into --view')
    return parser


if __name__ == '__main__':
    sys.exit(main())
