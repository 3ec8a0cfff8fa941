"""
Start the segmentation node, and what shows its outputs.

Every parameter that a node with one camera needs is an argument of the same name; an argument
that is left empty changes nothing: the value is then the one in ``params_file``, or else that of
the preset or the node's default.

The node brings itself from unconfigured to active (parameter ``autostart``), also after a
respawn, so it needs no lifecycle events from here. It is a process of its own: a node in Python
cannot be a component of a container.
"""

import os

from ament_index_python.packages import get_package_share_path
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch_ros.actions import Node

from seg_node.ros.launching import arguments, asked_for, is_launched, refuse_unknown, start_of
from seg_node.ros.transport import profile_variables

SHARE = get_package_share_path('seg_node')


def generate_launch_description():
    """Return what `ros2 launch seg_node segmentation.launch.py` starts."""
    return LaunchDescription([
        *(DeclareLaunchArgument(argument.name, default_value=argument.default,
                                description=argument.description,
                                choices=list(argument.choices) or None)
          for argument in arguments()),
        OpaqueFunction(function=_check),
        OpaqueFunction(function=_transport),
        OpaqueFunction(function=_nodes),
    ])


def _check(context):
    """Refuse what was misspelt, where this is the file that was launched."""
    if is_launched(__file__):
        refuse_unknown(context.argv, [argument.name for argument in arguments()])


def _transport(context):
    """
    Give Fast DDS the shipped profile, unless the user has configured its transports.

    The node sees to that by itself. Here it is for the camera drivers that a launch file starts
    after including this one: large images are lost where they are sent.
    """
    names = profile_variables()
    if any(os.environ.get(name) for name in ('FASTDDS_BUILTIN_TRANSPORTS', *names)):
        return []
    return [SetEnvironmentVariable(name, str(SHARE / 'config' / 'fastdds_shm.xml'))
            for name in names]


def _nodes(context):
    """Return the node, and the viewer with the very same parameters and names."""
    value = context.launch_configurations
    start = start_of(value)
    common = {'package': 'seg_node', 'output': 'screen', 'parameters': start.parameters}
    nodes = [Node(executable='seg_node', name=start.name, namespace=start.namespace,
                  emulate_tty=True, respawn=value['respawn'] == 'true', respawn_delay=2.0,
                  ros_arguments=['--log-level', value['log_level']], **common)]
    if views := asked_for(value):
        # Named by hand: it is no second node of this name, but only reads as that one does.
        # First: launch ends when it cannot start one, and forgets those that it has started.
        nodes.insert(0, Node(executable='layout', arguments=views, ros_arguments=[
            '-r', f'__node:={start.name}', '-r', f'__ns:=/{start.namespace.strip("/")}'],
            **common))
    if value['view'] == 'true':
        nodes.append(Node(package='seg_node', executable='view', output='screen'))
    return nodes
