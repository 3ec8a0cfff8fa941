"""What a preset says of parameters: their values as long as nobody has set them."""

from collections.abc import Sequence
from dataclasses import replace

from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from ..errors import ConfigError
from .parameter_table import NODE, Parameter
from .parameters import EMPTY
from .presets import load_preset, NO_PRESET, Preset


class PresetValues:
    """
    Follows the parameter ``preset``.

    :ivar preset: the one in use.
    :ivar problem: what is wrong with the parameter, '' = nothing.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._chosen = set(node._parameter_overrides)  # no public way to see it
        self.preset, self.problem = NO_PRESET, ''
        override = node._parameter_overrides.get('preset')
        if override is not None and isinstance(override.value, str):
            self._load(override.value)

    def rows(self) -> list[Parameter]:
        """Return the table of the node's parameters with the preset's values as defaults."""
        return [self._row(row, self.preset) for row in NODE]

    def note(self, changes: Sequence[RosParameter]) -> None:
        """Take in changes that were made; a new preset brings its values."""
        self._chosen |= {change.name for change in changes}
        for change in changes:
            if change.name == 'preset':
                before = self.preset
                self._load(change.value)
                self._bring(before)

    def _bring(self, before: Preset) -> None:
        names = {*before.parameters, *self.preset.parameters} - self._chosen
        rows = [self._row(row, self.preset) for row in NODE if row.name in names]
        chosen = set(self._chosen)
        self._node.set_parameters([RosParameter(row.name, value=row.default) for row in rows])
        self._chosen = chosen  # that was not the user

    def _load(self, value: str) -> None:
        try:
            self.preset, self.problem = load_preset(value), ''
        except ConfigError as error:
            self.preset, self.problem = NO_PRESET, str(error)

    @staticmethod
    def _row(row: Parameter, preset: Preset) -> Parameter:
        value = preset.parameters.get(row.name, row.default)
        if isinstance(row.default, float):
            value = float(value)
        return replace(row, default=value or EMPTY if isinstance(row.default, list) else value)
