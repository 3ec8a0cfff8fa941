"""Runs the pipeline before the first camera image, so that no frame pays for it."""

from collections.abc import Iterable, Sequence

import numpy as np

from ..devices.segmenter import Overlapping
from ..errors import BackendError, FrameError
from ..frame import Demand, Frame, StageClock
from ..geometry import Size
from ..image.jpeg_decode import prepare
from ..image.wire import Header, ImageMessage
from ..pipeline import Pipeline

_USUAL_ENCODINGS = ('bgr8', 'rgb8')


def warm_up(pipeline: Pipeline, cameras: Sequence[Size] = ()) -> float:
    """
    Segment noise with all outputs wanted, until nothing is made at a frame any more.

    Loads or compiles the kernels, those of decoding too, and lets the backend allocate; and a
    model whose outputs contradict its card is found now, not on the road. What a segmenter
    prepares for each kind of batch is prepared for all of them.

    :param cameras: sizes of images that will come, as far as they are known.
    :returns: what the network took for one image, in seconds.
    :raises BackendError: when the model's outputs cannot be used.
    """
    prepare()
    segmenter = pipeline.segmenter
    sizes = dict.fromkeys(cameras) if cameras and isinstance(segmenter, Overlapping) \
        else (segmenter.sample,)
    clock = StageClock()
    names = [output.name for output in pipeline.outputs]
    for size in sizes:
        if isinstance(segmenter, Overlapping):
            _rehearse(segmenter, size, pipeline.output)
        clock = StageClock()
        _check(pipeline.process([_noise(size)], [names], clock))
    return clock.ms.get('network', 0.0) / 1e3


def _rehearse(segmenter: Overlapping, size: Size, output: Size | None) -> None:
    """Run each kind of batch of one camera size, the largest first."""
    for count in range(segmenter.preferred_batch, 0, -1):
        for encoding in _USUAL_ENCODINGS:
            frames = [_noise(size, encoding)] * count
            for drivable in (True, False):
                for _ in range(segmenter.warm_runs):
                    _check(segmenter.segment(frames, Demand(output, True, drivable),
                                             StageClock()))


def _check(results: Iterable[object]) -> None:
    for result in results:
        if isinstance(result, FrameError):
            raise BackendError(f'the model does not work on a test image: {result}')


def _noise(size: Size, encoding: str = 'bgr8') -> Frame:
    height, width = size
    noise = np.random.default_rng(0).integers(0, 256, height * width * 3, np.uint8)
    return Frame('', ImageMessage(Header(0, 0, ''), height, width, encoding, False, width * 3,
                                  noise))
