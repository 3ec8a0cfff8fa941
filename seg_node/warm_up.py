"""Runs the pipeline once before the first camera image, so that no frame pays for it."""

from dataclasses import fields

import numpy as np

from .errors import BackendError, FrameError
from .frame import Frame, StageClock, Wanted
from .pipeline import Pipeline
from .wire import Header, ImageMessage

_HEIGHT, _WIDTH = 360, 640


def warm_up(pipeline: Pipeline) -> None:
    """
    Segment one noise image with all outputs wanted.

    Loads or compiles the kernels and lets the backend allocate; and a model whose outputs
    contradict its card is found now, not on the road.

    :raises BackendError: when the model's outputs cannot be used.
    """
    noise = np.random.default_rng(0).integers(0, 256, _HEIGHT * _WIDTH * 3, np.uint8)
    message = ImageMessage(Header(0, 0, ''), _HEIGHT, _WIDTH, 'bgr8', False, _WIDTH * 3, noise)
    wanted = Wanted(*[True] * len(fields(Wanted)))
    for result in pipeline.process([Frame('', message)], [wanted], StageClock()):
        if isinstance(result, FrameError):
            raise BackendError(f'the model does not work on a test image: {result}')
