"""The command line of a program that is also a ROS node: its own arguments and ROS's."""

from collections.abc import Sequence


def split_ros_args(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (the program's own arguments, those between ``--ros-args`` and ``--``)."""
    own: list[str] = []
    ros: list[str] = []
    target = own
    for argument in argv:
        if argument == '--ros-args':
            target = ros
        if argument == '--' and target is ros:
            ros.append(argument)
            target = own
        else:
            target.append(argument)
    return own, ros
