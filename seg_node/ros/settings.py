"""The parameters' values, checked and read into what the node is built from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
import math
import re
from typing import Any

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
from ..model.grouping import Grouping
from ..trust.policy import Policy
from ..trust.watch import Timing
from ..tuning import Tuning
from .ground import GroundSettings
from .label_info import has_vision_msgs
from .parameter_table import CAMERA, NODE
from .parameters import listed, names_in, refuse_unknown, value_of
from .presets import CAMERA_SIZE, Preset, VISION_MSGS
from .topics import COMPRESSED, info_topic, transported

CAMERA_NAME = re.compile('[A-Za-z][A-Za-z0-9_]*')
_MOST_CELLS = 4_000_000  # of the grid: a message of 4 MB


@dataclass(frozen=True)
class CameraSettings:
    """
    Where one camera is found, and how large its pictures may be.

    :ivar topic: what is subscribed to for its images.
    :ivar camera_info_topic: likewise for their calibration.
    """

    name: str
    topic: str
    camera_info_topic: str
    transport: str
    reliable: bool
    max_pixels: int
    ego_mask: EgoMask | None = None
    calibration: CameraCalibration | None = None


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
    dynamic_value: int
    preset: Preset

    def topic(self, output: str, camera: str) -> str:
        """Return the topic of a camera's output, as the preset has it."""
        return self.preset.topic(output, camera, [settings.name for settings in self.cameras])

    @property
    def grouping(self) -> Grouping | None:
        """How the preset groups the published classes; None = it does not."""
        preset = self.preset
        if not preset.label_map:
            return None
        return Grouping(preset.label_map, preset.name, f'{preset.where}: label_map')

    @property
    def ego_masks(self) -> dict[str, EgoMask]:
        """By camera name, what of its image shows the vehicle itself."""
        return {camera.name: camera.ego_mask for camera in self.cameras
                if camera.ego_mask is not None}


def read(node: Node, preset: Preset) -> Settings:
    """
    Read and check the values.

    :raises ConfigError: names the parameter, its value, what is allowed and the mend.
    """
    names = names_in(node, 'cameras')
    if not names:
        raise ConfigError('parameter cameras is empty; name at least one, e.g. [front]')
    for name in names:
        if not CAMERA_NAME.fullmatch(name):
            raise ConfigError(f'parameter cameras has {name!r}: names must be made of letters, '
                              'digits and _, beginning with a letter')
    refuse_unknown(node)
    for row in NODE:
        row.check(value_of(node, row.name), row.name)
    preset.check_cameras(names)
    _check_needs(preset, _output(node))
    cameras = tuple(_camera(node, name) for name in names)
    return Settings(
        model=value_of(node, 'model'), wish=_wish(node, cameras),
        max_batch=value_of(node, 'max_batch'), cameras=cameras, output=_output(node),
        rectified=value_of(node, 'output_grid') == 'rectified', ground=ground_settings(node),
        taxonomy=value_of(node, 'taxonomy'), dynamic_value=value_of(node, 'dynamic_value'),
        preset=preset)


def _check_needs(preset: Preset, output: Size | None) -> None:
    """Refuse what would leave the preset's consumer without what it cannot do without."""
    if VISION_MSGS in preset.needs and not has_vision_msgs():
        raise ConfigError(f'preset {preset.name} needs vision_msgs for LabelInfo, which is not '
                          'installed here: apt install ros-$ROS_DISTRO-vision-msgs, and source '
                          'the setup file again')
    if CAMERA_SIZE in preset.needs and output is not None:
        raise ConfigError(f'preset {preset.name} needs masks of the size of the camera image, '
                          f'but output_width and output_height are {output.width} and '
                          f'{output.height}: leave both at 0')


def _wish(node: Node, cameras: Iterable[CameraSettings]) -> devices.Wish:
    backend, providers = value_of(node, 'backend'), tuple(names_in(node, 'providers'))
    if backend == devices.AUTO and providers != (devices.CPU_PROVIDER,):
        backend = devices.ONNX_RUNTIME  # whose they are: that leaves no choice
    if backend != devices.ONNX_RUNTIME and providers != (devices.CPU_PROVIDER,):
        raise ConfigError(f'parameter providers is {list(providers)}, but backend is {backend!r}, '
                          'which does not use it: set backend to onnxruntime or auto, or leave '
                          'providers out')
    return devices.Wish(
        backend=backend, providers=providers, threads=value_of(node, 'threads'),
        gpu=value_of(node, 'gpu_id'), precision=value_of(node, 'precision'),
        max_batch=value_of(node, 'max_batch'),
        cameras=tuple(dict.fromkeys(
            Size(camera.calibration.height, camera.calibration.width) for camera in cameras
            if camera.calibration is not None)))


def _camera(node: Node, name: str) -> CameraSettings:
    values = {row.name: value_of(node, f'{name}.{row.name}') for row in CAMERA}
    for row in CAMERA:
        row.check(values[row.name], f'{name}.{row.name}')
    for topic in ('image_topic', 'camera_info_topic'):
        if values[topic]:
            check_topic(node, values[topic], f'parameter {name}.{topic}')
    image = values['image_topic'] or f'{name}/image_raw'
    suffix = COMPRESSED if values['transport'] == 'compressed' else ''
    return CameraSettings(name, transported(node, image, suffix),
                          values['camera_info_topic'] or info_topic(node, image),
                          values['transport'], values['reliable'], value_of(node, 'max_pixels'),
                          _ego_mask(values['ego_mask'], values['calibration'], name),
                          _calibration(values['calibration'], f'parameter {name}.calibration'))


def check_topic(node: Node, value: str, where: str) -> None:
    """Raise ConfigError where a value is no name of a topic."""
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


def ground_settings(node: Node) -> GroundSettings:
    """Read how free space is told; raises ConfigError."""
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


def tuning(value: Callable[[str], Any], cameras: Sequence[str]) -> Tuning:
    """
    Return what may change between two frames.

    :param value: returns the value of a parameter by its name.
    """
    def names(name: str) -> tuple[str, ...] | None:
        return tuple(listed(name, value(name))) or None
    return Tuning(
        drivable=names('drivable_classes'), dynamic=names('dynamic_classes'),
        withholding=Policy(*(value(name) for name in
                             ('on_blind', 'on_doubtful', 'min_confidence'))),
        timing=Timing(*(value(name) for name in
                        ('alarm_after_s', 'clear_after_s', 'frozen_after_s'))),
        overlay_alpha=value('overlay_alpha'),
        steady=frozenset(name for name in cameras if value(f'{name}.steadiness')))
