"""The parameters while the node runs: there from the start, and checked when they are set."""

from collections.abc import Callable, Sequence

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from ..errors import ConfigError
from ..tuning import Tuning
from .parameter_table import CAMERA, NODE, Parameter
from .parameters import declare, listed, value_of, with_empty_lists
from .preset_values import PresetValues
from .presets import load_preset, Preset
from .settings import CAMERA_NAME, check_topic, tuning

_TOPICS = ('image_topic', 'camera_info_topic')


class LiveParameters:
    """
    Declares the node's parameters and those of its cameras, and answers who sets them.

    :param configured: says whether the node is: most parameters cannot be changed then.
    :param check: checks what may change between two frames; raises ConfigError.
    :param apply: is told once such changes have been made.
    """

    def __init__(self, node: Node, configured: Callable[[], bool],
                 check: Callable[[Tuning], None], apply: Callable[[], None]) -> None:
        self._node = node
        self._configured = configured
        self._check_tuning = check
        self._apply = apply
        self._preset = PresetValues(node)
        self._problems = declare(node, self._preset.rows()) + self._declare_cameras()
        node.add_pre_set_parameters_callback(with_empty_lists)
        node.add_on_set_parameters_callback(self._on_set)
        node.add_post_set_parameters_callback(self._after_set)

    def preset(self) -> Preset:
        """
        Return the preset in use.

        :raises ConfigError: it, or a value that was given at start, is wrong.
        """
        problems = [*filter(None, [self._preset.problem]), *self._problems]
        if problems:
            raise ConfigError('; '.join(problems))
        return self._preset.preset

    def tuning(self) -> Tuning:
        """Return what may change between two frames, as it is now."""
        return tuning(lambda name: value_of(self._node, name), self._cameras())

    def _cameras(self) -> list[str]:
        """Return the names of the cameras, as far as they can be."""
        return [name for name in dict.fromkeys(value_of(self._node, 'cameras'))
                if CAMERA_NAME.fullmatch(name)]

    def _declare_cameras(self) -> list[str]:
        return [problem for name in self._cameras()
                for problem in declare(self._node, CAMERA, f'{name}.')]

    def _on_set(self, changes: Sequence[RosParameter]) -> SetParametersResult:
        """Say whether changes, all of them together, can be made."""
        try:
            rows = [(change, self._row(change.name)) for change in changes]
            for change, row in rows:
                if row is not None:
                    self._check(change, row)
            if self._configured() and any(row is not None for _, row in rows):
                new = {change.name: change.value for change in changes}
                self._check_tuning(tuning(
                    lambda name: new[name] if name in new else value_of(self._node, name),
                    self._cameras()))
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _check(self, change: RosParameter, row: Parameter) -> None:
        if self._configured() and not row.dynamic:
            raise ConfigError(f'{change.name} is read at configure: deactivate and cleanup the '
                              'node, set it, then configure and activate')
        where = f'parameter {change.name}'
        row.check(change.value, change.name)
        if row.name in _TOPICS and change.value:
            check_topic(self._node, change.value, where)
        if row.name == 'preset':
            load_preset(change.value)
        if row.kind == 'string_array':
            names = listed(change.name, change.value)
            if row.name == 'cameras' and not (names and all(map(CAMERA_NAME.fullmatch, names))):
                raise ConfigError(f'{where} is {names}: allowed are one or more names, made of '
                                  'letters, digits and _, beginning with a letter')

    def _after_set(self, changes: Sequence[RosParameter]) -> None:
        names = {change.name for change in changes}
        self._problems = [problem for problem in self._problems if not any(
            problem.startswith(f'parameter {name} ') for name in names)]
        self._preset.note(changes)
        if 'cameras' in names:
            self._problems += self._declare_cameras()
        if self._configured():
            self._apply()

    def _row(self, name: str) -> Parameter | None:
        """Return the row of a parameter; None for those that are ROS's own."""
        camera, dot, last = name.rpartition('.')
        rows: Sequence[Parameter] = CAMERA if dot else NODE
        if dot and camera not in self._cameras():
            return None
        return next((row for row in rows if row.name == last), None)
