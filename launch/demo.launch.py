"""
Play a rendered street to the segmentation node, over and over, and show all of it in RViz.

Takes the arguments of ``replay.launch.py``, but for ``source``. The street is rendered at the
first start and kept in the user's cache folder.
"""

import os
from pathlib import Path
import subprocess
import sys

from ament_index_python.packages import get_package_share_path
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from seg_node import __version__

LAUNCH = get_package_share_path('seg_node') / 'launch'
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'seg_node'
DRIVE = CACHE / f'street_{__version__}'
# The street's true labels lie in the bag, too.
CAMERA_TOPICS = '--topics /camera/image_raw /camera/camera_info'
RENDER = """
import sys
from pathlib import Path
from street.drive_bag import write_drive
write_drive(Path(sys.argv[1]), width=640, height=360, rate_hz=10.0, duration_s=12.0, seed=0)
"""


def generate_launch_description():
    """Return what `ros2 launch seg_node demo.launch.py` starts."""
    return LaunchDescription([
        OpaqueFunction(function=_render),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(LAUNCH / 'replay.launch.py')),
            launch_arguments={
                'source': str(DRIVE),
                'loops': LaunchConfiguration('loops', default='0'),
                'replay_args': LaunchConfiguration('replay_args', default=CAMERA_TOPICS),
                'rviz': LaunchConfiguration('rviz', default='true'),
            }.items()),
    ])


def _render(context):
    """Render the street, unless an earlier start has, in a process that Ctrl-C can end."""
    if (DRIVE / 'metadata.yaml').exists():  # a bag gets it last
        return
    print(f'Rendering a street into {DRIVE}; this is done once ...', flush=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, '-c', RENDER, str(DRIVE)], check=True)
