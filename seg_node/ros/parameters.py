"""The node's parameters as ROS keeps them: declared by the table, typed, none misspelt."""

from collections.abc import Iterable
import difflib
import re
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from ..errors import ConfigError
from .parameter_table import a_kind, CAMERA, NODE, Parameter

EMPTY = ['']  # what an empty list of strings is kept as


def declare(node: Node, rows: Iterable[Parameter] = NODE, prefix: str = '') -> list[str]:
    """
    Declare the parameters of some rows, as far as they are not there yet.

    :param prefix: of their names, '<camera>.' for those of a camera.
    :returns: what is wrong with the values given at start; such a parameter has its default,
        and configure must fail until it has been set.
    """
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
            problems.append(f'parameter {name} is []; it must be {a_kind(row.kind)}')
        try:
            node.declare_parameter(name, row.default, descriptor,
                                   ignore_override=bool(override and override.value is None))
        except (InvalidParameterTypeException, InvalidParameterValueException):
            given = override.value if override is not None else row.default
            hint = f' (write {given}.0)' if row.kind == 'double' and type(given) is int else ''
            allowed = f', allowed: {row.allowed}' if row.allowed else ''
            problems.append(f'parameter {name} is {given!r}; it must be {a_kind(row.kind)}'
                            f'{allowed}{hint}')
            node.declare_parameter(name, row.default, descriptor, ignore_override=True)
    return problems


def with_empty_lists(changes: list[RosParameter]) -> list[RosParameter]:
    """Return changes of parameters with ``[]`` as a list of strings can say it."""
    lists = {row.name for row in NODE if row.kind == 'string_array'}
    return [RosParameter(change.name, value=EMPTY)
            if change.name in lists and change.value is not None and len(change.value) == 0
            else change for change in changes]


def value_of(node: Node, name: str) -> Any:
    """Return the value of a declared parameter."""
    return node.get_parameter(name).value


def names_in(node: Node, name: str) -> list[str]:
    """
    Read a list of strings; ROS has no empty list of a certain type: ``EMPTY`` stands for it.

    :raises ConfigError: an item stands there twice.
    """
    return listed(name, value_of(node, name))


def listed(name: str, value: Iterable[str]) -> list[str]:
    """Return the items of a list parameter's value; raises as ``names_in``."""
    items = [item for item in value if item]
    for item in items:
        if items.count(item) > 1:
            raise ConfigError(f'parameter {name} is {items}: {item!r} stands there more than '
                              'once; name each only once, or the other one that was meant')
    return items


def refuse_unknown(node: Node) -> None:
    """Refuse values given for parameters that do not exist: a typing mistake, most likely."""
    cameras = names_in(node, 'cameras')
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


def wrong_type(error: InvalidParameterTypeException) -> str:
    """Say in this package's words what is wrong with a parameter that rclpy declares itself."""
    found = re.search(r"parameter '(.*)' to '(.*)' of type '.*', expecting type '(.*)'",
                      str(error))
    if found is None:
        return str(error)
    name, value, kind = found.groups()
    return f'parameter {name} is {value!r}; it must be {a_kind(kind.lower())}'


def _descriptor(row: Parameter) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=row.description, read_only=row.at_start)
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
