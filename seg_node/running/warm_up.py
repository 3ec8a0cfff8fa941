"""Runs the pipeline once before the first camera image, so that no frame pays for it."""

import numpy as np

from ..errors import BackendError, FrameError
from ..frame import Frame, StageClock
from ..image.jpeg_decode import prepare
from ..image.wire import Header, ImageMessage
from ..pipeline import Pipeline


def warm_up(pipeline: Pipeline) -> float:
    """
    Segment one noise image with all outputs wanted.

    Loads or compiles the kernels, those of decoding too, and lets the backend allocate; and a
    model whose outputs contradict its card is found now, not on the road.

    :returns: what the network took, in seconds.
    :raises BackendError: when the model's outputs cannot be used.
    """
    prepare()
    height, width = pipeline.segmenter.sample
    noise = np.random.default_rng(0).integers(0, 256, height * width * 3, np.uint8)
    message = ImageMessage(Header(0, 0, ''), height, width, 'bgr8', False, width * 3, noise)
    clock = StageClock()
    names = [output.name for output in pipeline.outputs]
    for result in pipeline.process([Frame('', message)], [names], clock):
        if isinstance(result, FrameError):
            raise BackendError(f'the model does not work on a test image: {result}')
    return clock.ms.get('network', 0.0) / 1e3
