"""
The seam between devices: camera frames in, labels and confidence on the output grid out.

``CpuSegmenter`` is the segmenter for machines whose network gives its outputs to the host.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .backends import Backend
from .card import ModelCard, OutputSpec
from .errors import FrameError
from .frame import Frame, Segmentation, StageClock
from .geometry import fit, Geometry, Size
from .labels import pick_nearest, softmax, upsample_argmax
from .preprocess import Preprocessor
from .products import look_up

Result = Segmentation | FrameError


class Segmenter(Protocol):
    """Turns frames into segmentations; used by one thread at a time."""

    #: what really runs and where
    description: str
    device: str
    #: frames worth giving it at once, if that many are ready
    preferred_batch: int
    #: a camera size that it surely takes, to try it with
    sample: Size

    def segment(self, frames: Sequence[Frame], output: Size | None, confidence: bool,
                clock: StageClock) -> list[Result]:
        """
        Return one result for each frame, in their order.

        :param output: size of the masks; None = each camera's own.
        :param confidence: whether the confidence is wanted.
        :param clock: gets the time of each stage.
        :raises BackendError: when the device fails; then there is no result at all.
        """

    def take_over(self) -> None:
        """Make the calling thread the one that uses it; the one before must have ended."""

    def close(self) -> None:
        """Free the device."""


class CpuSegmenter:
    """Decodes, runs the backend and labels on the CPU; see ``Segmenter``."""

    sample = Size(360, 640)

    def __init__(self, card: ModelCard, backend: Backend) -> None:
        self._card = card
        self._backend = backend
        self._preprocessor = Preprocessor(card.input)
        area = card.drivable_output or card.main_output
        self._drivable_lut = area.classes.drivable_lut()
        self.description = backend.description
        self.device = backend.device
        self._max_batch = backend.max_batch
        # A batch on the CPU costs more core time a frame than one by one, and makes all wait.
        self.preferred_batch = 1 if backend.device == 'cpu' else backend.max_batch or 4

    def segment(self, frames: Sequence[Frame], output: Size | None, confidence: bool,
                clock: StageClock) -> list[Result]:
        """Segment the frames in batches of one network size; see ``Segmenter.segment``."""
        results: list[Result | None] = [None] * len(frames)
        batches: dict[Size, list[tuple[int, np.ndarray, Geometry]]] = {}
        for index, frame in enumerate(frames):
            try:
                with clock.stage('decode'):
                    image = frame.bgr
            except FrameError as error:
                results[index] = error
                continue
            geometry = fit(self._card.input, Size(*image.shape[:2]), output)
            batches.setdefault(geometry.network, []).append((index, image, geometry))
        for batch in batches.values():
            step = self._max_batch or len(batch)
            for start in range(0, len(batch), step):
                part = batch[start:start + step]
                for (index, _, _), result in zip(part, self._run(part, confidence, clock),
                                                 strict=True):
                    results[index] = result
        return [result for result in results if result is not None]

    def take_over(self) -> None:
        """Do nothing: any thread may use it."""

    def close(self) -> None:
        """Free the backend."""
        self._backend.close()

    def _run(self, batch: list[tuple[int, np.ndarray, Geometry]], confidence: bool,
             clock: StageClock) -> list[Result]:
        with clock.stage('preprocess'):
            tensor = self._preprocessor.tensor([image for _, image, _ in batch],
                                               [geometry for _, _, geometry in batch])
        with clock.stage('network'):
            outputs = self._backend.run(tensor)
        with clock.stage('labels'):
            return [self._read([output[n] for output in outputs], geometry, confidence)
                    for n, (_, _, geometry) in enumerate(batch)]

    def _read(self, outputs: list[np.ndarray], geometry: Geometry, confidence: bool) -> Result:
        """Read one frame's part of the network's outputs."""
        maps = dict(zip(self._card.outputs, outputs, strict=True))
        main, drivable = self._card.main_output, self._card.drivable_output
        try:
            area = None
            if drivable is not None and drivable != main:
                area = read_head(drivable, maps[drivable], geometry, confidence=False)[0]
                area = look_up(area, self._drivable_lut)
            labels, sure = read_head(main, maps[main], geometry, confidence)
        except FrameError as error:
            return error
        return Segmentation(geometry, labels, sure, area)


def read_head(spec: OutputSpec, values: np.ndarray, geometry: Geometry,
              confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Turn one output of the network into labels and confidence on the output grid.

    :param spec: the card's description of this output.
    :param values: this output for one frame, without the batch axis.
    :param confidence: whether the confidence is wanted; ``labels`` outputs have none.
    :returns: labels uint8 (H, W), class ids of ``spec.classes``; confidence uint8 (H, W) or None.
    :raises FrameError: not finite, not probabilities, or ids outside the class table.
    """
    maps = _channels_first(spec, values)
    rows = geometry.rows(maps.shape[1], spec.align_corners)
    columns = geometry.columns(maps.shape[2], spec.align_corners)
    if spec.kind == 'labels':
        return pick_nearest(_checked_ids(spec, maps[0]), rows, columns), None
    scores = np.asarray(maps, np.float32)
    if spec.kind == 'logits':
        return upsample_argmax(scores, rows, columns, softmax(scores) if confidence else None)
    if spec.kind == 'sigmoid':
        if spec.activation == 'raw':
            scores = _sigmoid(scores)
        check_probabilities(spec, scores)
        # Two classes: the second wins where its probability is above the threshold.
        contest = np.concatenate([np.full_like(scores, spec.threshold), scores])
        both = np.concatenate([1 - scores, scores]) if confidence else None
        return upsample_argmax(contest, rows, columns, both)
    check_probabilities(spec, scores)
    return upsample_argmax(scores, rows, columns, scores if confidence else None)


def _channels_first(spec: OutputSpec, values: np.ndarray) -> np.ndarray:
    if spec.layout == 'NHW':
        maps = values[None]
    else:
        maps = values if spec.layout == 'NCHW' else values.transpose(2, 0, 1)
    channels = 1 if spec.kind in ('labels', 'sigmoid') else len(spec.classes)
    if len(maps) != channels:  # a dynamic channel axis shows only now
        raise FrameError('channels', f'output {spec.name} has {len(maps)} channels, but the '
                         f'card lists {channels}: mend `classes` or `layout` in the card')
    return maps


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -logits))


def check_probabilities(spec: OutputSpec, values: np.ndarray) -> None:
    """
    Refuse values that the card calls probabilities and that are none.

    :raises FrameError: reason ``'probabilities'``.
    """
    low, high = values.min(), values.max()
    if low < -1e-3 or high > 1.001:
        raise FrameError('probabilities', f'output {spec.name} has values from {low:.3g} to '
                         f'{high:.3g}, but the card calls it {spec.kind} (0 to 1): if these are '
                         'logits, say so in the card')


def _checked_ids(spec: OutputSpec, ids: np.ndarray) -> np.ndarray:
    low, high = ids.min(), ids.max()
    if low < 0 or high >= len(spec.classes):
        raise FrameError('class-id', f'output {spec.name} has class ids from {low} to {high}, '
                         f'but its class table {spec.classes.name} ends at '
                         f'{len(spec.classes) - 1}: mend `classes` in the card')
    return ids.astype(np.uint8)
