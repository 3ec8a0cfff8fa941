"""The parameters' values, checked and read into what the node is built from."""

from dataclasses import dataclass
import math
import re

from rclpy.exceptions import InvalidTopicNameException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.validate_full_topic_name import validate_full_topic_name
from rclpy.validate_topic_name import validate_topic_name

from ..devices import choose as devices
from ..ego_mask import EgoMask, load_ego_mask
from ..errors import ConfigError
from ..files import user_path
from ..geometry import Size
from ..ground.calibration import CameraCalibration, load_calibration
from ..ground.calibration_file import read_ego_mask
from ..ground.free_space import GridSpec
from ..trust.policy import Policy
from ..trust.watch import Timing
from .ground import GroundSettings
from .parameter_table import CAMERA, NODE
from .parameters import declare, names_in, refuse_unknown, value_of

_MOST_CELLS = 4_000_000  # of the grid: a message of 4 MB


@dataclass(frozen=True)
class CameraSettings:
    """Where one camera is found, and how large its pictures may be."""

    name: str
    image_topic: str
    camera_info_topic: str
    transport: str
    reliable: bool
    max_pixels: int
    ego_mask: EgoMask | None = None
    calibration: CameraCalibration | None = None
    steadiness: bool = False

    @property
    def topic(self) -> str:
        """The topic that is subscribed to."""
        suffix = '/compressed' if self.transport == 'compressed' else ''
        return self.image_topic + suffix


@dataclass(frozen=True)
class Settings:
    """The checked values that hold from configure to cleanup."""

    model: str
    wish: devices.Wish
    max_batch: int
    cameras: tuple[CameraSettings, ...]
    output: Size | None
    rectified: bool
    ground: GroundSettings
    taxonomy: str
    drivable_classes: tuple[str, ...] | None
    withholding: Policy
    timing: Timing

    @property
    def steady(self) -> frozenset[str]:
        """Names of the cameras whose labels are steadied."""
        return frozenset(camera.name for camera in self.cameras if camera.steadiness)

    @property
    def ego_masks(self) -> dict[str, EgoMask]:
        """By camera name, what of its image shows the vehicle itself."""
        return {camera.name: camera.ego_mask for camera in self.cameras
                if camera.ego_mask is not None}


def read(node: Node) -> Settings:
    """
    Read and check the values, declaring the parameters of the cameras on the way.

    :raises ConfigError: names the parameter, its value, what is allowed and the mend.
    """
    names = names_in(node, 'cameras')
    if not names:
        raise ConfigError('parameter cameras is empty; name at least one, e.g. [front]')
    for name in names:
        if not re.fullmatch(r'[A-Za-z][A-Za-z0-9_]*', name):
            raise ConfigError(f'parameter cameras has {name!r}: names must be made of letters, '
                              'digits and _, beginning with a letter')
        if problems := declare(node, CAMERA, f'{name}.'):
            raise ConfigError('; '.join(problems))
    refuse_unknown(node)
    for row in NODE:
        row.check(value_of(node, row.name), row.name)
    return Settings(
        model=value_of(node, 'model'), wish=_wish(node), max_batch=value_of(node, 'max_batch'),
        cameras=tuple(_camera(node, name) for name in names), output=_output(node),
        rectified=value_of(node, 'output_grid') == 'rectified', ground=_ground(node),
        taxonomy=value_of(node, 'taxonomy'),
        drivable_classes=tuple(names_in(node, 'drivable_classes')) or None,
        withholding=Policy(*(value_of(node, name) for name in
                             ('on_blind', 'on_doubtful', 'min_confidence'))),
        timing=Timing(*(value_of(node, name) for name in
                        ('alarm_after_s', 'clear_after_s', 'frozen_after_s'))))


def _wish(node: Node) -> devices.Wish:
    backend, providers = value_of(node, 'backend'), tuple(names_in(node, 'providers'))
    if backend != devices.ONNX_RUNTIME and providers != (devices.CPU_PROVIDER,):
        raise ConfigError(f'parameter providers is {list(providers)}, but backend is {backend!r}, '
                          'which does not use it: set backend to onnxruntime, or leave providers '
                          'out')
    return devices.Wish(
        backend=backend, providers=providers, threads=value_of(node, 'threads'),
        gpu=value_of(node, 'gpu_id'), precision=value_of(node, 'precision'),
        max_batch=value_of(node, 'max_batch'))


def _camera(node: Node, name: str) -> CameraSettings:
    values = {row.name: value_of(node, f'{name}.{row.name}') for row in CAMERA}
    for row in CAMERA:
        row.check(values[row.name], f'{name}.{row.name}')
    for topic in ('image_topic', 'camera_info_topic'):
        _check_topic(node, values[topic], f'parameter {name}.{topic}')
    image = values['image_topic'] or f'{name}/image_raw'
    beside = image.rsplit('/', 1)[0] + '/camera_info' if '/' in image else 'camera_info'
    return CameraSettings(name, image, values['camera_info_topic'] or beside,
                          values['transport'], values['reliable'], value_of(node, 'max_pixels'),
                          _ego_mask(values['ego_mask'], values['calibration'], name),
                          _calibration(values['calibration'], f'parameter {name}.calibration'),
                          values['steadiness'])


def _check_topic(node: Node, value: str, where: str) -> None:
    if not value:
        return
    try:
        validate_topic_name(value)
        validate_full_topic_name(expand_topic_name(value, node.get_name(), node.get_namespace()))
    except (InvalidTopicNameException, ValueError) as error:  # ValueError: a wrong {substitution}
        reason = str(error).partition('\n')[0].removeprefix('Invalid topic name: ').rstrip(':')
        reason = reason.partition(', at /')[0]  # a line of rcl's source
        raise ConfigError(f'{where} is {value!r}, which is no name of a topic: {reason}; allowed '
                          'is the like of /front/image_raw') from error


def _calibration(value: str, where: str) -> CameraCalibration | None:
    if not value:
        return None
    try:
        return load_calibration(value)
    except ConfigError as error:
        raise ConfigError(f'{where} is {value!r}: {error}') from error


def _ground(node: Node) -> GroundSettings:
    cell = value_of(node, 'grid_cell_m')
    grid = GridSpec(cell, value_of(node, 'grid_ahead_m'), value_of(node, 'grid_aside_m'))
    rows, columns = grid.shape
    if rows * columns > _MOST_CELLS:
        raise ConfigError(f'parameters grid_cell_m, grid_ahead_m and grid_aside_m are {cell:g}, '
                          f'{grid.ahead_m:g} and {grid.aside_m:g}: that is a grid of {columns} x '
                          f'{rows} cells; allowed are {_MOST_CELLS} in all. Take larger cells or '
                          'a smaller grid')
    return GroundSettings(grid, math.radians(value_of(node, 'pitch_sigma_deg')),
                          value_of(node, 'ground_range_m'), value_of(node, 'live_pitch'),
                          value_of(node, 'base_frame') if value_of(node, 'mount_from_tf') else '',
                          value_of(node, 'mark_boundary'),
                          value_of(node, 'connected_only'))


def _ego_mask(value: str, calibration: str, name: str) -> EgoMask | None:
    """Read the ego mask; without one of its own a camera has that of its calibration file."""
    where = f'parameter {name}.ego_mask'
    if not value:
        path = user_path(calibration, f'parameter {name}.calibration')
        return read_ego_mask(path) if _is_yaml(calibration) and path.exists() else None
    if not _is_yaml(value):
        return load_ego_mask(value, where=where)
    mask = read_ego_mask(user_path(value, where))
    if mask is None:
        raise ConfigError(f'{where} is {value}, a calibration without the key ego_mask: add it '
                          'there, or give a PNG or polygons here')
    return mask


def _is_yaml(value: str) -> bool:
    return value.endswith(('.yaml', '.yml'))


def _output(node: Node) -> Size | None:
    size = Size(value_of(node, 'output_height'), value_of(node, 'output_width'))
    if (size.height == 0) != (size.width == 0):
        raise ConfigError(f'parameters output_width and output_height are {size.width} and '
                          f"{size.height}: set both, or neither (0: the camera's size)")
    return size if size.height else None
