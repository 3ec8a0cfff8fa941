"""
The node's parameters: one table, from which they are declared, checked and documented.

Run as a program (``python -m seg_node.ros.parameters``) it prints the tables of
docs/parameters.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
import difflib
import math
import re
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    InvalidTopicNameException,
)
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
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
from ..image.decode import MAX_PIXELS, USUAL_PIXELS
from ..products import OUTPUTS
from ..trust.policy import CHOICES, Policy, PUBLISH, WITHHOLD
from ..trust.watch import Timing
from .ground import GroundSettings

_MOST_CELLS = 4_000_000  # of the grid: a message of 4 MB


@dataclass(frozen=True)
class Parameter:
    """One row of the table; ``dynamic`` ones may change while the node is configured."""

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False

    @property
    def allowed(self) -> str:
        """What values are allowed, for people."""
        if self.choices:
            return ' | '.join(self.choices)
        if self.low is not None:
            return f'{self.low:.15g} .. {self.high:.15g}'  # no exponent
        return ''

    @property
    def kind(self) -> str:
        """The ROS name of the type."""
        kinds = {bool: 'bool', int: 'integer', float: 'double', str: 'string',
                 list: 'string_array'}
        return kinds[type(self.default)]

    def check(self, value: Any, name: str) -> None:
        """Raise ConfigError when the value is not one of the choices."""
        if self.choices and value not in self.choices:
            raise ConfigError(f'parameter {name} is {value!r}; allowed: {self.allowed}')


NODE = (
    Parameter('autostart', True, 'Configure and activate at start. False: wait for a lifecycle '
              'manager.'),
    Parameter('model', 'deeplabv3plus_lite0_camvid', 'A folder name under models/, or the path '
              'of a folder with a card.yaml.'),
    Parameter('backend', 'auto', 'What runs the network. auto: TensorRT if its engine is there, '
              'else ONNX Runtime on the GPU, else OpenVINO if it is installed, else ONNX Runtime '
              'on the CPU; the log and the diagnostics say why. One asked for by name runs or '
              'configure fails.', choices=devices.NAMES),
    Parameter('precision', 'auto', 'What the network computes in. auto: fp16 with TensorRT, with '
              'OpenVINO bf16 where the processor has it and the labels stay, with ONNX Runtime '
              'as the file is. One asked for by name is what runs, or configure fails.',
              choices=devices.PRECISION_NAMES),
    Parameter('gpu_id', 0, 'Number of the GPU, as nvidia-smi counts them.', 0, 63),
    Parameter('providers', ['CPUExecutionProvider'], 'With backend onnxruntime: its execution '
              'providers, in order of preference. The first one must really run, or configure '
              'fails.'),
    Parameter('threads', 0, 'Threads of the network on the CPU; 0 = one a core.', 0, 256),
    Parameter('max_batch', 0, 'The most cameras whose frames go through the network together, '
              'as far as the model allows; 0 = as suits the device (1 on the CPU).', 0, 64),
    Parameter('max_pixels', USUAL_PIXELS, 'The largest picture that is decoded, width x height in '
              'pixels; larger ones are refused, reason size.', 1, MAX_PIXELS),
    Parameter('cameras', ['camera'], 'Names of the cameras. Each has parameters '
              '`<camera>.…` (below) and topics `~/<camera>/…`.'),
    Parameter('output_width', 0, "Width of the masks in pixels (nearest); 0 = the camera's.",
              0, 16384),
    Parameter('output_height', 0, "Height of the masks in pixels (nearest); 0 = the camera's.",
              0, 16384),
    Parameter('output_grid', 'raw', "raw: the masks lie on the camera's own pixels. rectified: on "
              'those of its rectified image, by its calibration; the picture is straightened on '
              'its way into the network.', choices=('raw', 'rectified')),
    Parameter('pitch_sigma_deg', 0.5, 'Ground outputs: how far the pitch of the mount may be '
              'wrong, degrees. What an error of this size could flip is unknown.', 0.0, 10.0),
    Parameter('live_pitch', False, 'Ground outputs: follow the pitch in the picture, by vanishing '
              'point and horizon; its own uncertainty then counts.'),
    Parameter('mount_from_tf', False, 'Ground outputs: where each camera sits comes from TF, at '
              "the image's stamp (needs tf2_ros), not from its calibration file."),
    Parameter('base_frame', 'base_link', 'With mount_from_tf: the frame whose plane z = 0 is the '
              'ground.'),
    Parameter('ground_range_m', 20.0, 'Ground outputs: nothing is told beyond, metres from the '
              'camera.', 1.0, 200.0),
    Parameter('grid_cell_m', 0.1, 'Side of a cell of drivable_grid, metres.', 0.02, 2.0),
    Parameter('grid_ahead_m', 20.0, 'The grid reaches so far ahead of the base frame, metres.',
              1.0, 200.0),
    Parameter('grid_aside_m', 10.0, 'And so far to either side, metres.', 1.0, 200.0),
    Parameter('mark_boundary', True, 'Whether the nearest boundary of each ray is 100 in the '
              'grid, as a static layer needs it; else all that is not free is unknown (-1).'),
    Parameter('connected_only', False, 'Whether only free cells that connect to the vehicle '
              'count.'),
    Parameter('taxonomy', '', 'Class table to publish in, e.g. autoware16; empty = the '
              "model's own."),
    Parameter('drivable_classes', [''], "Names of the model's classes that are drivable; "
              "empty = as the class table (or the model's drivable head) says."),
    Parameter('on_blind', WITHHOLD, 'What is published of a camera that sees nothing (covered, '
              'frozen, noise). withhold_drivable: nothing is drivable, the mask is 255, the '
              'confidence 0; publish: what the network makes of it.', choices=CHOICES),
    Parameter('on_doubtful', PUBLISH, 'The same of a camera whose masks are implausible.',
              choices=CHOICES),
    Parameter('min_confidence', 0.0, 'Pixels of less confidence are 255 and not drivable; 0 = '
              'off.', 0.0, 1.0),
    Parameter('alarm_after_s', 0.3, 'The state of a camera becomes worse when half of the frames '
              'of so many seconds are, and at least two.', 0.0, 60.0),
    Parameter('clear_after_s', 1.0, 'It becomes better when all frames of so many seconds are, '
              'and at least two.', 0.0, 60.0),
    Parameter('frozen_after_s', 1.0, 'A picture that does not change for so long, under fresh '
              'stamps, is frozen; 0 = never (a simulator without noise).', 0.0, 3600.0),
    Parameter('overlay_alpha', 0.5, 'Weight of the class colours in the overlay.', 0.0, 1.0,
              dynamic=True),
    Parameter('image_timeout_s', 3.0, 'A camera silent for longer is reported as stale.',
              0.1, 3600.0, dynamic=True),
    Parameter('max_age_s', 1.0, 'Images that are older on arrival (stamp to node clock) are '
              'reported.', 0.001, 3600.0, dynamic=True),
    Parameter('min_rate_hz', 0.0, 'A camera segmented more slowly is reported; 0 = never.',
              0.0, 1000.0, dynamic=True),
    Parameter('device_timeout_s', 10.0, 'When a frame has been in hand for longer, and for more '
              'than twenty times the median, the device is lost and the process ends with exit '
              'code 3.', 0.5, 3600.0, dynamic=True),
    Parameter('max_starts', 5, 'After so many starts in a row that brought no mask the node no '
              'longer loads the model by itself; 0 = it always does.', 0, 1000),
    Parameter('diagnostics_period_s', 1.0, 'Time between two messages on /diagnostics.',
              0.1, 60.0),
)

CAMERA = (
    Parameter('image_topic', '', 'Topic of the images; empty = `<camera>/image_raw`.'),
    Parameter('camera_info_topic', '', 'Topic of the calibration; empty = `camera_info` beside '
              'the image topic.'),
    Parameter('transport', 'raw', 'raw: sensor_msgs/Image on the image topic. compressed: '
              'sensor_msgs/CompressedImage (JPEG, PNG) on `<image topic>/compressed`.',
              choices=('raw', 'compressed')),
    Parameter('reliable', False, 'Subscribe reliable instead of best effort.'),
    Parameter('calibration', '', 'Calibration file of the camera, or a name under calibration/: '
              'intrinsics, which camera_info overrules, and the mount, which the ground outputs '
              'need. Empty = none.'),
    Parameter('steadiness', False, 'Hold changes of labels that no sure pixel nearby bears out '
              'for one frame: less flicker.'),
    Parameter('ego_mask', '', 'Where the camera sees the vehicle itself: a PNG of its size, white '
              'there; polygons in its pixels as text, `[[[x, y], …], …]`; or a calibration .yaml '
              'with the key ego_mask. Empty = as `calibration` says, else nowhere.'),
)


EMPTY = ['']  # what an empty list of strings is kept as


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


def declare(node: Node) -> list[str]:
    """
    Declare the node's own parameters.

    :returns: what is wrong with the values given at start; such a parameter has its default,
        and configure must fail until it has been set.
    """
    return _declare(node, NODE, '')


def with_empty_lists(changes: list[RosParameter]) -> list[RosParameter]:
    """Return changes of parameters with ``[]`` as a list of strings can say it."""
    lists = {row.name for row in NODE if row.kind == 'string_array'}
    return [RosParameter(change.name, value=EMPTY)
            if change.name in lists and change.value is not None and len(change.value) == 0
            else change for change in changes]


def read(node: Node) -> Settings:
    """
    Read and check the values, declaring the parameters of the cameras on the way.

    :raises ConfigError: names the parameter, its value, what is allowed and the mend.
    """
    names = _names(node, 'cameras')
    if not names:
        raise ConfigError('parameter cameras is empty; name at least one, e.g. [front]')
    for name in names:
        if not re.fullmatch(r'[A-Za-z][A-Za-z0-9_]*', name) or names.count(name) > 1:
            raise ConfigError(f'parameter cameras has {name!r}: names must be unique and made '
                              'of letters, digits and _, beginning with a letter')
        if problems := _declare(node, CAMERA, f'{name}.'):
            raise ConfigError('; '.join(problems))
    _refuse_unknown(node)
    for row in NODE:
        row.check(_value(node, row.name), row.name)
    return Settings(
        model=_value(node, 'model'), wish=_wish(node), max_batch=_value(node, 'max_batch'),
        cameras=tuple(_camera(node, name) for name in names), output=_output(node),
        rectified=_value(node, 'output_grid') == 'rectified', ground=_ground(node),
        taxonomy=_value(node, 'taxonomy'),
        drivable_classes=tuple(_names(node, 'drivable_classes')) or None,
        withholding=Policy(*(_value(node, name) for name in
                             ('on_blind', 'on_doubtful', 'min_confidence'))),
        timing=Timing(*(_value(node, name) for name in
                        ('alarm_after_s', 'clear_after_s', 'frozen_after_s'))))


def _wish(node: Node) -> devices.Wish:
    backend, providers = _value(node, 'backend'), tuple(_names(node, 'providers'))
    if backend != devices.ONNX_RUNTIME and providers != (devices.CPU_PROVIDER,):
        raise ConfigError(f'parameter providers is {list(providers)}, but backend is {backend!r}, '
                          'which does not use it: set backend to onnxruntime, or leave providers '
                          'out')
    return devices.Wish(
        backend=backend, providers=providers, threads=_value(node, 'threads'),
        gpu=_value(node, 'gpu_id'), precision=_value(node, 'precision'),
        max_batch=_value(node, 'max_batch'))


def table(rows: Iterable[Parameter], prefix: str = '') -> str:
    """Return the rows as a Markdown table."""
    lines = ['| parameter | type | default | allowed | changes | what it does |',
             '|---|---|---|---|---|---|']
    for row in rows:
        default = str(row.default).replace("['']", '[]').replace("'", '') or '(empty)'
        changes = 'any time' if row.dynamic else 'before configure'
        allowed = row.allowed.replace('|', 'or')
        lines.append(f'| `{prefix}{row.name}` | {row.kind} | `{default}` | {allowed} | {changes}'
                     f' | {row.description} |')
    return '\n'.join(lines)


def _declare(node: Node, rows: Iterable[Parameter], prefix: str) -> list[str]:
    problems = []
    for row in rows:
        name = prefix + row.name
        if node.has_parameter(name):
            continue
        descriptor = _descriptor(row)
        override = node._parameter_overrides.get(name)  # no public way to see it
        if override is not None and override.value is None:  # how rcl reads []
            if row.kind == 'string_array':
                node.declare_parameter(name, EMPTY, descriptor, ignore_override=True)
                continue
            problems.append(f'parameter {name} is []; it must be {_a(row.kind)}')
        try:
            node.declare_parameter(name, row.default, descriptor,
                                   ignore_override=bool(override and override.value is None))
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            given = override.value if override is not None else row.default
            hint = f' (write {given}.0)' if row.kind == 'double' and type(given) is int else ''
            allowed = f', allowed: {row.allowed}' if row.allowed else ''
            problems.append(f'parameter {name} is {given!r}; it must be {_a(row.kind)}{allowed}'
                            f'{hint} [{error}]')
            node.declare_parameter(name, row.default, descriptor, ignore_override=True)
    return problems


def _a(kind: str) -> str:
    return f'{"an" if kind[0] in "aeiou" else "a"} {kind}'


def _descriptor(row: Parameter) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=row.description)
    if row.choices:
        descriptor.additional_constraints = 'one of: ' + ', '.join(row.choices)
    if row.low is not None and row.high is not None:
        if isinstance(row.default, float):
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(row.low), to_value=float(row.high))]
        else:
            descriptor.integer_range = [
                IntegerRange(from_value=int(row.low), to_value=int(row.high), step=1)]
    return descriptor


def _value(node: Node, name: str) -> Any:
    return node.get_parameter(name).value


def _names(node: Node, name: str) -> list[str]:
    """Read a list of strings; ROS has no empty list of a certain type: ``EMPTY`` stands for it."""
    return [item for item in _value(node, name) if item]


def _camera(node: Node, name: str) -> CameraSettings:
    values = {row.name: _value(node, f'{name}.{row.name}') for row in CAMERA}
    for row in CAMERA:
        row.check(values[row.name], f'{name}.{row.name}')
    for topic in ('image_topic', 'camera_info_topic'):
        _check_topic(node, values[topic], f'parameter {name}.{topic}')
    image = values['image_topic'] or f'{name}/image_raw'
    beside = image.rsplit('/', 1)[0] + '/camera_info' if '/' in image else 'camera_info'
    return CameraSettings(name, image, values['camera_info_topic'] or beside,
                          values['transport'], values['reliable'], _value(node, 'max_pixels'),
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
    if node.resolve_topic_name(value) in {
            node.resolve_topic_name(f'~/{camera}/{output.name}')
            for camera in _names(node, 'cameras') for output in OUTPUTS}:
        raise ConfigError(f'{where} is {value!r}, which this node publishes itself: give the '
                          'topic of the camera')


def _calibration(value: str, where: str) -> CameraCalibration | None:
    if not value:
        return None
    try:
        return load_calibration(value)
    except ConfigError as error:
        raise ConfigError(f'{where} is {value!r}: {error}') from error


def _ground(node: Node) -> GroundSettings:
    cell = _value(node, 'grid_cell_m')
    grid = GridSpec(cell, _value(node, 'grid_ahead_m'), _value(node, 'grid_aside_m'))
    rows, columns = grid.shape
    if rows * columns > _MOST_CELLS:
        raise ConfigError(f'parameters grid_cell_m, grid_ahead_m and grid_aside_m are {cell:g}, '
                          f'{grid.ahead_m:g} and {grid.aside_m:g}: that is a grid of {columns} x '
                          f'{rows} cells; allowed are {_MOST_CELLS} in all. Take larger cells or '
                          'a smaller grid')
    return GroundSettings(grid, math.radians(_value(node, 'pitch_sigma_deg')),
                          _value(node, 'ground_range_m'), _value(node, 'live_pitch'),
                          _value(node, 'base_frame') if _value(node, 'mount_from_tf') else '',
                          _value(node, 'mark_boundary'),
                          _value(node, 'connected_only'))


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
    size = Size(_value(node, 'output_height'), _value(node, 'output_width'))
    if (size.height == 0) != (size.width == 0):
        raise ConfigError(f'parameters output_width and output_height are {size.width} and '
                          f"{size.height}: set both, or neither (0: the camera's size)")
    return size if size.height else None


def _refuse_unknown(node: Node) -> None:
    """Refuse values given for parameters that do not exist: a typing mistake, most likely."""
    cameras = _names(node, 'cameras')
    for name in node._parameter_overrides:  # no public way to see it
        if not (node.has_parameter(name) or name.startswith('qos_overrides.')
                or _is_of_unused_camera(name, cameras)):
            known = [row.name for row in NODE] + [
                f'{camera}.{row.name}' for camera in cameras for row in CAMERA]
            camera, _, last = name.rpartition('.')
            if camera in cameras:
                known = [f'{camera}.{row.name}' for row in CAMERA]
                near = [f'{camera}.{match}' for match in difflib.get_close_matches(
                    last, [row.name for row in CAMERA], 1)]
            else:
                near = difflib.get_close_matches(name, known, 1)
            meant = f'; did you mean {near[0]}?' if near else f'; known: {", ".join(known)}'
            raise ConfigError(f'parameter {name} is unknown{meant}')


def _is_of_unused_camera(name: str, cameras: list[str]) -> bool:
    """Return whether it belongs to a camera that a file describes but ``cameras`` leaves out."""
    camera, _, parameter = name.rpartition('.')
    return (parameter in {row.name for row in CAMERA} and camera.isidentifier()
            and not difflib.get_close_matches(camera, cameras))


if __name__ == '__main__':
    print(table(NODE))
    print()
    print(table(CAMERA, '<camera>.'))
