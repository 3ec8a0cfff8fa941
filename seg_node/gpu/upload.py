"""From a frame to the bytes that are uploaded, after the same checks as on the CPU path."""

import numpy as np

from ..frame import Frame
from ..image.decode import planes
from ..image.wire import ImageMessage
from .launch import ENCODINGS, UploadImage


def read(frame: Frame) -> tuple[UploadImage, np.ndarray]:
    """
    Return how a frame's image lies in memory, and its bytes (1-D uint8).

    What the kernels read themselves is a view of the message; anything else (Bayer, 16 bit,
    compressed) is decoded to BGR here.

    :raises FrameError: as ``decode`` does.
    """
    message = frame.message
    if isinstance(message, ImageMessage) and message.encoding in ENCODINGS:
        first = planes(message, frame.max_pixels)[0]
        # NumPy's stride of a single row may be anything.
        step = first.strides[0] if message.height > 1 else first[0].size
        source = UploadImage(message.encoding, message.height, message.width, step)
        return source, message.data[:source.size_bytes]
    image = np.ascontiguousarray(frame.bgr)
    height, width = image.shape[:2]
    return UploadImage('bgr8', height, width, width * 3), image.reshape(-1)
