"""
The one table of the node's parameters: names, defaults, limits and what they do.

Run as a program (``python -m seg_node.ros.parameter_table``) it prints the tables of
docs/parameters.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..devices import choose as devices
from ..errors import ConfigError
from ..image.decode import MAX_PIXELS, USUAL_PIXELS
from ..trust.policy import CHOICES, PUBLISH, WITHHOLD

AUTO, EVENTS, WAITSET = EXECUTORS = ('auto', 'events', 'waitset')


@dataclass(frozen=True)
class Parameter:
    """
    One row of the table.

    :ivar dynamic: it may change while the node is configured.
    :ivar at_start: it is read once, when the process starts.
    """

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False
    at_start: bool = False

    @property
    def changes(self) -> str:
        """When it may change, for people."""
        return 'at start' if self.at_start else 'any time' if self.dynamic else 'before configure'

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
        if problem := self.problem(value):
            raise ConfigError(f'parameter {name} is {value!r}; {problem}')

    def problem(self, value: Any) -> str:
        """Return what is wrong with a value, '' = nothing."""
        if isinstance(self.default, list):
            fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        else:
            fits = type(value) is type(self.default) or (
                isinstance(self.default, float) and type(value) is int)
        if not fits:
            return f'it must be {a_kind(self.kind)}'
        if self.choices and value not in self.choices:
            return f'allowed: {self.allowed}'
        if self.low is not None and self.high is not None and not self.low <= value <= self.high:
            return f'allowed: {self.allowed}'
        return ''


def a_kind(kind: str) -> str:
    """Return the name of a type with its article."""
    return f'{"an" if kind[0] in "aeiou" else "a"} {kind}'


NODE = (
    Parameter('preset', '', 'What a consumer expects, in one word: nav2, nvblox or autoware, or '
              'the path of a file as those in presets/. It names topics, groups classes and has '
              'values for other parameters, which hold unless they are set. Empty = none.'),
    Parameter('autostart', True, 'Configure and activate at start. False: wait for a lifecycle '
              'manager.'),
    Parameter('model', 'deeplabv3plus_lite0_camvid', 'A folder name under models/, or the path '
              'of a folder with a card.yaml.'),
    Parameter('backend', 'auto', 'What runs the network. auto: TensorRT if its engine is there, '
              'else ONNX Runtime on the GPU, else OpenVINO if it is installed, else ONNX Runtime '
              'on the CPU; the log and the diagnostics say why. One asked for by name runs or '
              'configure fails.', choices=devices.NAMES),
    Parameter('precision', 'auto', 'What the network computes in. auto: fp16 with TensorRT; with '
              'OpenVINO bf16 where the processor has it, else int8 where it has VNNI and the '
              'model an int8 copy, as long as the labels stay; with ONNX Runtime as the file is. '
              'One asked for by name is what runs, or configure fails.',
              choices=devices.PRECISION_NAMES),
    Parameter('gpu_id', 0, 'Number of the GPU, as nvidia-smi counts them.', 0, 63),
    Parameter('providers', ['CPUExecutionProvider'], 'Execution providers of ONNX Runtime, in '
              'order of preference. The first one must really run, or configure fails. With '
              'backend auto, others than the default mean onnxruntime.'),
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
              'grid, as a static layer needs it; else all that is not free is unknown (-1).',
              dynamic=True),
    Parameter('connected_only', False, 'Whether only free cells that connect to the vehicle '
              'count.',
              dynamic=True),
    Parameter('dynamic_value', 255, 'What people, vehicles and the like are in dynamic_mask; all '
              'else is 0.', 1, 255),
    Parameter('taxonomy', '', 'Class table to publish in, e.g. autoware16; empty = the '
              "model's own."),
    Parameter('drivable_classes', [''], "Names of the model's classes that are drivable; "
              "empty = as the class table (or the model's drivable head) says.",
              dynamic=True),
    Parameter('dynamic_classes', [''], "Names of the model's classes that are in dynamic_mask; "
              'empty = as the class table says.', dynamic=True),
    Parameter('on_blind', WITHHOLD, 'What is published of a camera that sees nothing (covered, '
              'frozen, noise). withhold_drivable: nothing is drivable, the mask is 255, the '
              'confidence 0; publish: what the network makes of it.', choices=CHOICES,
              dynamic=True),
    Parameter('on_doubtful', PUBLISH, 'The same of a camera whose masks are implausible.',
              choices=CHOICES,
              dynamic=True),
    Parameter('min_confidence', 0.0, 'Pixels of less confidence are 255 and not drivable; 0 = '
              'off.', 0.0, 1.0,
              dynamic=True),
    Parameter('alarm_after_s', 0.3, 'The state of a camera becomes worse when half of the frames '
              'of so many seconds are, and at least two.', 0.0, 60.0,
              dynamic=True),
    Parameter('clear_after_s', 1.0, 'It becomes better when all frames of so many seconds are, '
              'and at least two.', 0.0, 60.0,
              dynamic=True),
    Parameter('frozen_after_s', 1.0, 'A picture that does not change for so long, under fresh '
              'stamps, is frozen; 0 = never (a simulator without noise).', 0.0, 3600.0,
              dynamic=True),
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
    Parameter('bond_heartbeat_period', 0.1, "Time between two heartbeats of the bond by which "
              "Nav2's lifecycle manager sees that the node lives, seconds, under the name that "
              'Nav2 has for it; 0 = no bond.', 0.0, 1.0),
    Parameter('executor', AUTO, 'What turns the callbacks. auto: the events executor of rclpy '
              'where it has one (Kilted and later), which costs less a frame; else the wait set.',
              choices=EXECUTORS, at_start=True),
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
              'for one frame: less flicker.',
              dynamic=True),
    Parameter('ego_mask', '', 'Where the camera sees the vehicle itself: a PNG of its size, white '
              'there; polygons in its pixels as text, `[[[x, y], …], …]`; or a calibration .yaml '
              'with the key ego_mask. Empty = as `calibration` says, else nowhere.'),
)


def table(rows: Iterable[Parameter], prefix: str = '') -> str:
    """Return the rows as a Markdown table."""
    lines = ['| parameter | type | default | allowed | changes | what it does |',
             '|---|---|---|---|---|---|']
    for row in rows:
        default = str(row.default).replace("['']", '[]').replace("'", '') or '(empty)'
        allowed = row.allowed.replace('|', 'or')
        lines.append(f'| `{prefix}{row.name}` | {row.kind} | `{default}` | {allowed} | '
                     f'{row.changes} | {row.description} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    print(table(NODE))
    print()
    print(table(CAMERA, '<camera>.'))
