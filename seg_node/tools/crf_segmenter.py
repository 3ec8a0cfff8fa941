"""What ``evaluate --crf`` puts in the place of the node's segmenter."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from ..devices.backend import load, SAMPLE
from ..devices.heads import channels_first
from ..devices.host import HostSegmenter
from ..devices.segmenter import Result
from ..errors import ConfigError, FrameError
from ..frame import Demand, Frame, Segmentation, StageClock
from ..model.card import ModelCard
from ..model.policy import DrivablePolicy
from ..model.taxonomy import UNLABELLED
from ..reference import softmax, upsample
from ..scoring import dense_crf
from .backend_tap import BackendTap

_LEAST = 1e-12  # scores that are all 0 have no sum to divide by
_KINDS = ('logits', 'probabilities', 'scores')


class CrfSegmenter:
    """
    The host's segmenter with labels and confidence after the CRF; see ``Segmenter``.

    :raises ConfigError: without the library, or of a model that gives no scores of its classes.
    """

    sample = SAMPLE
    preferred_batch = 1

    def __init__(self, card: ModelCard, backend: str, threads: int) -> None:
        dense_crf.require()
        spec = card.main_output
        if spec.role != 'labels' or spec.kind not in _KINDS:
            raise ConfigError(f'--crf: the output {spec.name} of {card.name} is {spec.role}, '
                              f'{spec.kind}; the CRF needs {", ".join(_KINDS)} of labels.')
        self._card, self._index = card, card.outputs.index(spec)
        self._tap = BackendTap(load(backend, card, threads=threads))
        self._host = HostSegmenter(card, self._tap)
        self.description = f'{self._host.description}, then a dense CRF'
        self.device = self._host.device

    def segment(self, frames: Sequence[Frame], demand: Demand, clock: StageClock) -> list[Result]:
        """Segment the frames one by one; see ``Segmenter.segment``."""
        found: list[Result] = []
        for frame in frames:
            [result] = self._host.segment([frame], demand, clock)
            found.append(result if isinstance(result, FrameError)
                         else self._refined(frame, result))
        return found

    def retune(self, policy: DrivablePolicy) -> None:
        """Take another policy; see ``Segmenter.retune``."""
        self._host.retune(policy)

    def close(self) -> None:
        """Free the backend."""
        self._host.close()

    def _refined(self, frame: Frame, found: Segmentation) -> Segmentation:
        spec = self._card.main_output
        scores = channels_first(spec, self._tap.last[self._index][0])
        if spec.kind == 'logits':
            scores = softmax(scores, spec.temperature)
        fine = upsample(scores, found.geometry.rows(scores.shape[1], spec.align_corners),
                        found.geometry.columns(scores.shape[2], spec.align_corners))
        fine = dense_crf.refined(frame.bgr, fine / np.maximum(fine.sum(axis=0), _LEAST))
        labels = fine.argmax(axis=0).astype(np.uint8)
        sure = np.floor(fine.max(axis=0) * 255 + 0.5).astype(np.uint8)
        if spec.class_lut is not None:
            labels = cv2.LUT(labels, spec.class_lut)
            sure[labels == UNLABELLED] = 0
        return replace(found, labels=labels,
                       confidence=None if found.confidence is None else sure)
