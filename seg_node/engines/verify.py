"""Whether an engine says the same as the model it was built from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..devices import backend as backends
from ..devices.host import HostSegmenter
from ..devices.segmenter import Segmenter
from ..errors import BackendError, FrameError
from ..frame import Demand, Frame, StageClock
from ..geometry import Size
from ..gpu.engine_manifest import LEAST_AGREEMENT
from ..image.wire import Header, ImageMessage
from ..model.card import ModelCard
from ..scoring.drive import Drive, resized

#: BGR image (H, W, 3) uint8 -> labels (H, W) uint8
Segment = Callable[[np.ndarray], np.ndarray]

class DisagreementError(BackendError):
    """The engine says something else than its model, or refuses a test image."""


_FRAMES = (12, 132)
_LABELS = Demand(confidence=False, drivable=False)


@dataclass(frozen=True)
class Verification:
    """
    How far an engine's labels agree with ONNX Runtime's on the CPU.

    :ivar agreement: share of the pixels of all frames.
    :ivar control: the same between the engine's labels of one frame and ONNX Runtime's of
        another one. Only well below the agreement does this tell anything.
    :ivar frames: what was shown.
    """

    agreement: float
    control: float
    frames: list[str]

    @property
    def conclusive(self) -> bool:
        """Whether the frames differ enough for the agreement to mean something."""
        return self.control < self.agreement - 0.05

    def entry(self) -> tuple[dict[str, Any] | None, str | None]:
        """Return ``verified`` and ``verified_reason`` of the manifest."""
        if self.conclusive:
            return {'agreement': round(self.agreement, 6), 'control': round(self.control, 6),
                    'frames': self.frames}, None
        return None, (f'the model labels {" and ".join(self.frames)} alike ({self.control:.2%}), '
                      f'so that the agreement of {self.agreement:.2%} says nothing')


def verify(segment: Segment, card: ModelCard, camera: Size, precision: str) -> Verification:
    """
    Compare labels with those of the card's own model in ONNX Runtime on the CPU.

    :param segment: what is to be verified.
    :param camera: size of the frames shown.
    :raises DisagreementError: they agree less than this precision allows.
    :raises BackendError: it could not be found out, as when memory runs out.
    """
    images = street_frames(camera)
    backend = backends.load('onnxruntime', card, providers=['CPUExecutionProvider'], threads=0)
    reference = by_segmenter(HostSegmenter(card, backend))
    wanted = [reference(image) for image in images]
    backend.close()
    found = [segment(image) for image in images]
    agreement = float(np.mean([a == b for a, b in zip(found, wanted, strict=True)]))
    result = Verification(agreement, float(np.mean(found[0] == wanted[1])),
                          [f'frame {index} of the drive at {camera}' for index in _FRAMES])
    if agreement < LEAST_AGREEMENT[precision]:
        least = LEAST_AGREEMENT[precision]
        raise DisagreementError(
            f'the {precision} engine of {card.name} agrees with ONNX Runtime on {agreement:.2%} '
            f'of the pixels; at least {least:.2%} is wanted. It is not used: take a wider '
            'precision (fp16, fp32), for int8 more images like those of the road.')
    return result


def street_frames(camera: Size) -> list[np.ndarray]:
    """Return two frames of the shipped drive that do not look alike, BGR uint8."""
    first, last = _FRAMES
    return resized(Drive(), range(first, last + 1, last - first), camera)


def by_segmenter(segmenter: Segmenter) -> Segment:
    """Return the function that labels one image with a segmenter."""
    def segment(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        message = ImageMessage(Header(0, 0, ''), height, width, 'bgr8', False, width * 3,
                               np.ascontiguousarray(image).reshape(-1))
        [result] = segmenter.segment([Frame('', message)], _LABELS, StageClock())
        if isinstance(result, FrameError):
            raise DisagreementError(
                f'the engine refuses a test image: {result}') from result
        return result.labels.copy()  # a segmenter may use its buffers again
    return segment
