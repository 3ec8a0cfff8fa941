"""What is to be done with an archive, and with what: all that a worker must be told."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
import json
from pathlib import Path
import re
from typing import Any

from .. import __version__
from ..devices import cpu
from ..devices.choose import PRECISION_NAMES, Wish
from ..devices.segmenter import Segmenter
from ..ego_mask import EgoMask
from ..errors import ConfigError
from ..ground.calibration import CameraCalibration, load_calibration
from ..ground.calibration_file import read_ego_mask
from ..model.card import ModelCard
from ..playback.open_source import is_bag, open_source
from ..playback.sources import FrameOptions, Source
from ..running.loading import PipelineSpec
from .recordings import Recording

#: What a network that runs as it was exported computes in, by its input; uint8 tells nothing.
_EXPORTED = {'float32': 'fp32', 'float16': 'fp16'}
#: Of another kind, the rows are not.
FORMAT = 1
#: In the manifest, where any kind of processor may take part.
ANY = 'any'


@dataclass(frozen=True)
class Order:
    """
    How recordings are labelled.

    :ivar model: name or card folder, the same on all machines.
    :ivar calibrations: by camera name, '' = all others, a calibration with its mount.
    :ivar encodings: what raw images of bags really are, by topic pattern.
    :ivar fps: of videos and folders; None = their own.
    :ivar piece_s: a longer recording is split into pieces of so many seconds.
    :ivar scratch: where what lies elsewhere is copied to, on each machine.
    :ivar mixed_cpus: whether processors of several kinds may take part.
    """

    model: str
    wish: Wish
    calibrations: tuple[tuple[str, str], ...] = ()
    encodings: tuple[tuple[str, str], ...] = ()
    fps: float | None = None
    piece_s: float = 300.0
    scratch: str | None = None
    mixed_cpus: bool = False

    def spec(self) -> PipelineSpec:
        """
        Return what is to run, with the policies that the node has by default.

        :raises ConfigError: something in it cannot be.
        """
        found = [(name, read_ego_mask(Path(file))) for name, file in self.calibrations]
        masks = _EgoMasks((name, mask) for name, mask in found if mask is not None)
        return PipelineSpec.check(self.model, self.wish, ego_masks=masks)

    def calibration_of(self, camera: str) -> CameraCalibration | None:
        """Return the calibration that was given for a camera."""
        files = dict(self.calibrations)
        file = files.get(camera, files.get(''))
        return None if file is None else load_calibration(file)

    @contextmanager
    def opened(self, recording: Recording) -> Iterator[Source]:
        """
        Yield a recording, open.

        :raises ConfigError: it cannot be opened.
        """
        with recording.fetched(None if self.scratch is None else Path(self.scratch)) as path:
            bag = path.exists() and is_bag(path)
            source = open_source(
                path, FrameOptions(fps=self.fps) if self.fps and not bag else None,
                dict(self.encodings) if bag else None)
            with source:
                source.max_gap_ns = 1 << 62  # stamps are times in the recording
                yield source


class _EgoMasks(Mapping[str, EgoMask]):
    """Those of the calibrations by camera name; that of '' is every other camera's."""

    def __init__(self, masks: Iterable[tuple[str, EgoMask]]) -> None:
        self._masks = dict(masks)

    def __getitem__(self, name: str) -> EgoMask:
        return self._masks[name if name in self._masks else '']

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)


def made_by(order: Order, card: ModelCard, segmenter: Segmenter) -> dict[str, Any]:
    """Return all that labels depend on; one output is made by one such thing."""
    told = segmenter.description
    precision = next((name for name in PRECISION_NAMES
                      if re.search(rf'\b{name}\b', told)), _EXPORTED.get(card.input.dtype))
    files = [(name, sha256(Path(file).read_bytes()).hexdigest())
             for name, file in sorted(order.calibrations)]
    raw = json.dumps([card.raw, repr(card.main_output.classes)], sort_keys=True, default=str)
    return {
        'format': FORMAT, 'model': card.name, 'model_sha256': card.sha256,
        'card': sha256(raw.encode()).hexdigest(), 'version': __version__,
        'backend': told, 'precision': precision, 'threads': order.wish.threads,
        'cpu': ANY if order.mixed_cpus else cpu.identity(), 'calibrations': files,
        'encodings': sorted(order.encodings), 'fps': order.fps, 'piece_s': order.piece_s}


def difference(kept: dict[str, Any], other: dict[str, Any]) -> str:
    """Return in what two such things differ, '' = in nothing."""
    other = json.loads(json.dumps(other))
    return '; '.join(f'{key} {kept.get(key)!r}, not {other.get(key)!r}'
                     for key in {**kept, **other} if kept.get(key) != other.get(key))


def check_files(order: Order) -> None:
    """
    Refuse before the work what would fail in all of it.

    :raises SegNodeError: the model or a calibration cannot be used.
    """
    for name, file in order.calibrations:
        if not Path(file).is_file():
            raise ConfigError(f'--calibration {file}: there is no such file. Give a path that '
                              'all machines see.')
        order.calibration_of(name)
    order.spec()
