"""The camera_info of a mask: the camera's, at the mask's size and with the image's stamp."""

from copy import deepcopy

from sensor_msgs.msg import CameraInfo

from ..geometry import Size
from ..image.wire import Header


def scaled(source: CameraInfo, header: Header, size: Size) -> CameraInfo:
    """
    Return ``source`` for another image size of the same view.

    Pixel centres are at integer coordinates, so the principal point moves to
    ``(c + 0.5) * s - 0.5``; distortion does not depend on the size. Binning and region of
    interest are kept: they speak of the sensor.
    """
    result = deepcopy(source)
    result.header.stamp.sec, result.header.stamp.nanosec = header.sec, header.nanosec
    result.header.frame_id = header.frame_id
    if (source.height, source.width) == size:
        return result
    sx, sy = size.width / source.width, size.height / source.height
    result.height, result.width = size
    for matrix, columns in ((result.k, 3), (result.p, 4)):
        if not matrix[0]:
            continue  # an uncalibrated camera has all zeros
        matrix[0] *= sx
        matrix[2] = (matrix[2] + 0.5) * sx - 0.5
        matrix[columns + 1] *= sy
        matrix[columns + 2] = (matrix[columns + 2] + 0.5) * sy - 0.5
        if columns == 4:
            matrix[3] *= sx
            matrix[7] *= sy
    return result
