"""Message types by name, and the little that tools need to know of a message's CDR bytes."""

from importlib import import_module
from struct import Struct
from typing import Any

from ..ground.calibration import CameraCalibration

_STAMP = {0: Struct('>iI'), 1: Struct('<iI')}  # by the second byte of the encapsulation
_STAMP_AT = 4
_STAMP_END = 12


def message_class(type_name: str) -> Any | None:
    """Return the class of e.g. ``'std_msgs/msg/Header'``; None when it is not installed."""
    package, _, rest = type_name.partition('/')
    try:
        found = getattr(import_module(f'{package}.msg'), rest.rpartition('/')[2], None)
    except ImportError:
        return None
    return found if hasattr(found, 'get_fields_and_field_types') else None


def type_name_of(message: type) -> str:
    """Return e.g. ``'std_msgs/msg/Header'`` of a message class."""
    return f'{message.__module__.split(".", 1)[0]}/msg/{message.__name__}'


def has_header(message: Any) -> bool:
    """Return whether messages of this class begin with a ``std_msgs/Header``."""
    return next(iter(message.get_fields_and_field_types().values()), '') == 'std_msgs/Header'


def stamp_ns(cdr: bytes) -> int | None:
    """
    Return the stamp of a message that begins with a header, without decoding anything else.

    :returns: nanoseconds; None when the bytes are too short or no plain CDR.
    """
    if len(cdr) < _STAMP_END or cdr[0] or cdr[1] not in _STAMP:
        return None
    sec, nanosec = _STAMP[cdr[1]].unpack_from(cdr, _STAMP_AT)
    return int(sec) * 1_000_000_000 + int(nanosec)


def with_stamp(cdr: bytes, stamp: int) -> bytes:
    """Return little-endian message bytes with another stamp (ns) in their header."""
    return cdr[:_STAMP_AT] + _STAMP[1].pack(*divmod(stamp, 1_000_000_000)) + cdr[_STAMP_END:]


def clock_cdr(time_ns: int) -> bytes:
    """Return a serialized ``rosgraph_msgs/Clock``."""
    return b'\x00\x01\x00\x00' + _STAMP[1].pack(*divmod(time_ns, 1_000_000_000))


def camera_info_cdr(calibration: CameraCalibration, frame_id: str) -> bytes:
    """Return a serialized ``sensor_msgs/CameraInfo`` with stamp 0."""
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import CameraInfo
    info = CameraInfo(height=calibration.height, width=calibration.width,
                      distortion_model=calibration.distortion_model)
    info.header.frame_id = frame_id
    info.d = calibration.D.ravel().tolist()
    info.k = calibration.K.ravel().tolist()
    info.r = calibration.R.ravel().tolist()
    info.p = calibration.P.ravel().tolist()
    return bytes(serialize_message(info))
