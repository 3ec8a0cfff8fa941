"""
Play the shipped drive to the segmentation node, over and over, and show all of it in RViz.

Takes the arguments of ``replay.launch.py``, but for ``source``.
"""

from ament_index_python.packages import get_package_share_path
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from seg_node.ros.launching import arguments, is_launched, refuse_unknown

SHARE = get_package_share_path('seg_node')
# The drive's true labels are an image topic, too.
CAMERA_TOPICS = '--topics /camera/image_raw /camera/camera_info'


def generate_launch_description():
    """Return what `ros2 launch seg_node demo.launch.py` starts."""
    return LaunchDescription([
        OpaqueFunction(function=_check),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'replay.launch.py')),
            launch_arguments={
                'source': str(SHARE / 'drive'),
                'loops': LaunchConfiguration('loops', default='0'),
                'replay_args': LaunchConfiguration('replay_args', default=CAMERA_TOPICS),
                'rviz': LaunchConfiguration('rviz', default='true'),
            }.items()),
    ])


def _check(context):
    """Refuse what was misspelt, where this is the file that was launched."""
    if is_launched(__file__):
        refuse_unknown(context.argv, [
            'rate', 'loops', 'replay_args', *(argument.name for argument in arguments())])
