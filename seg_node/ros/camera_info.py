"""CameraInfo in and out: a calibration of what the topic tells, and the info of a mask."""

import array

import numpy as np
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from ..errors import ConfigError
from ..geometry import Size
from ..ground.calibration import CameraCalibration
from ..ground.calibration_file import check_calibration
from ..image.wire import Header


def calibration_of(info: CameraInfo, name: str) -> CameraCalibration:
    """
    Return the calibration of the images that come with a CameraInfo.

    Width, height and matrices are the full sensor's by the definition of the message; its region
    of interest and binning are applied here, as image_geometry does.

    :param name: of the camera, for messages.
    :raises ConfigError: not calibrated, or something in it cannot be.
    """
    where = f'camera_info of {name}'
    if not info.k[0]:
        raise ConfigError(f'{where} has no calibration (K is zero): calibrate the camera')
    # What no distortion and no rectification mean may be left empty.
    r = list(info.r) if any(info.r) else np.eye(3).reshape(-1).tolist()
    k = list(info.k)
    p = list(info.p) if any(info.p) else [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
    d = list(info.d) or [0.0] * 5
    fields = check_calibration({
        'image_width': info.width, 'image_height': info.height, 'camera_name': name,
        'camera_matrix': {'rows': 3, 'cols': 3, 'data': k},
        'distortion_model': info.distortion_model if len(info.d) else 'plumb_bob',
        'distortion_coefficients': {'rows': 1, 'cols': len(d), 'data': d},
        'rectification_matrix': {'rows': 3, 'cols': 3, 'data': r},
        'projection_matrix': {'rows': 3, 'cols': 4, 'data': p}}, where)
    full = CameraCalibration(**fields)
    roi = info.roi
    return full.windowed((info.binning_x, info.binning_y),
                         (roi.x_offset, roi.y_offset, roi.width, roi.height))


def info_of(calibration: CameraCalibration, header: Header, size: Size,
            rectified: bool) -> CameraInfo:
    """
    Return the CameraInfo of a mask: the camera's view at the mask's size, with the image's stamp.

    Region of interest and binning are applied already, so the message has none. That of a
    rectified mask has no distortion any more, and its K is that of P.
    """
    view = calibration.scaled(size.width, size.height)
    message = CameraInfo(height=size.height, width=size.width, roi=RegionOfInterest())
    message.header.stamp.sec, message.header.stamp.nanosec = header.sec, header.nanosec
    message.header.frame_id = header.frame_id
    message.distortion_model = view.distortion_model
    k, d, r = view.K, view.D, view.R
    if rectified:
        message.distortion_model = 'plumb_bob'
        k, d, r = view.P[:, :3], np.zeros(5), np.eye(3)
    message.k, message.r, message.p = (k.reshape(-1).tolist(), r.reshape(-1).tolist(),
                                       view.P.reshape(-1).tolist())
    message.d = array.array('d', d.tolist())
    return message
