"""
Play a bag, a video or a folder of images to the segmentation node, as a camera would.

Everything runs in recorded time (``/clock``), and ends with the source. Takes the arguments of
``segmentation.launch.py``, too, e.g. ``image_topic`` for a bag or ``rviz:=true``.
"""

import shlex

from ament_index_python.packages import get_package_share_path
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

from seg_node.ros.launching import arguments, is_launched, refuse_unknown

LAUNCH = get_package_share_path('seg_node') / 'launch'
# The node is not ready before it has loaded its model and compiled its kernels, the latter only
# at the first start of all.
WAIT_S = 60


def generate_launch_description():
    """Return what `ros2 launch seg_node replay.launch.py` starts."""
    return LaunchDescription([
        DeclareLaunchArgument(
            'source', description='rosbag2 folder, .db3, .mcap or .bag file, video, or folder of '
                                  'images. Videos and images go out on /camera/image_raw.'),
        DeclareLaunchArgument(
            'rate', default_value='1.0', description='Seconds of recorded time per second.'),
        DeclareLaunchArgument(
            'loops', default_value='1', description='How often to play it; 0: until Ctrl-C.'),
        DeclareLaunchArgument(
            'replay_args', default_value='',
            description='More options of `ros2 run seg_node replay`, e.g. '
                        '"--start-offset 20 --duration 10 --camera-info demo_camera".'),
        OpaqueFunction(function=_check),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(LAUNCH / 'segmentation.launch.py')),
            launch_arguments={'use_sim_time': 'true'}.items()),
        OpaqueFunction(function=_player),
    ])


def _check(context):
    """Refuse what was misspelt, where this is the file that was launched."""
    if is_launched(__file__):
        refuse_unknown(context.argv, [
            'source', 'rate', 'loops', 'replay_args',
            *(argument.name for argument in arguments())])


def _player(context):
    value = context.launch_configurations
    return [Node(
        package='seg_node', executable='replay', output='screen', on_exit=Shutdown(),
        arguments=[value['source'], '--rate', value['rate'], '--loop', value['loops'],
                   '--wait-for-subscribers', str(WAIT_S), *shlex.split(value['replay_args'])])]
