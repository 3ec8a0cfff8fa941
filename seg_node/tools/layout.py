"""
Shows what the node publishes: RViz, or a layout for Foxglove, with the names that are in use.

Takes the command line of the node itself (parameters, remappings, name), so that it knows every
name as the node does; the launch files start it so. Nothing of it is seen by other nodes.
"""

import argparse
from collections.abc import Sequence
import json
import os
from pathlib import Path
import shutil
import sys
import tempfile

from ..errors import ConfigError, SegNodeError
from ..ros.layouts import foxglove_layout, rviz_config, View
from .ros_arguments import split_ros_args

_DISCOVERY = 'ROS_AUTOMATIC_DISCOVERY_RANGE'


def main(args: Sequence[str] | None = None) -> int:
    """Run the program; return the exit code."""
    parser = argparse.ArgumentParser(
        prog='layout', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rviz', action='store_true', help='start RViz')
    parser.add_argument('--rviz-config', type=Path, metavar='FILE',
                        help='write a configuration for RViz')
    parser.add_argument('--foxglove', type=Path, metavar='FILE',
                        help='write a layout for Foxglove, to be imported by its menu')
    own, ros = split_ros_args(sys.argv[1:] if args is None else args)
    options = parser.parse_args(own)
    if not (options.rviz or options.rviz_config or options.foxglove):
        parser.error('say what to make: --rviz, --rviz-config FILE or --foxglove FILE')
    try:
        return _show(options, ros)
    except (SegNodeError, OSError) as error:
        print(f'layout: {error}', file=sys.stderr)
        return 1


def views_of(ros_arguments: Sequence[str]) -> tuple[list[View], str, bool]:
    """
    Return the cameras' topics, the fixed frame and use_sim_time of a node by its command line.

    :raises ConfigError: the parameters are such that the node would not start.
    """
    import rclpy
    from rclpy.node import Node

    from ..ros.live_parameters import LiveParameters
    from ..ros.settings import read
    from ..ros.topics import OUTPUT_NAMES
    context = rclpy.Context()
    try:
        rclpy.init(args=list(ros_arguments), context=context)
    except Exception as error:  # rcl's own types differ from version to version
        raise ConfigError(str(error).partition(', at /')[0]) from error
    node = Node('seg_node', context=context, enable_rosout=False, start_parameter_services=False)
    try:
        live = LiveParameters(node, lambda: False, lambda wishes: None, lambda: None)
        settings = read(node, live.preset())
        views = [View(camera.name, str(node.resolve_topic_name(camera.topic)), {
            output: str(node.resolve_topic_name(settings.topic(output, camera.name)))
            for output in OUTPUT_NAMES}) for camera in settings.cameras]
        mounted = any(camera.calibration is not None and camera.calibration.mount is not None
                      for camera in settings.cameras)
        frame = (settings.ground.base_frame if settings.ground.base_frame or not mounted else
                 next(camera.calibration.mount.base_frame for camera in settings.cameras
                      if camera.calibration is not None and camera.calibration.mount is not None))
        return views, frame or 'base_link', bool(node.get_parameter('use_sim_time').value)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def _show(options: argparse.Namespace, ros: list[str]) -> int:
    before = os.environ.get(_DISCOVERY)
    os.environ[_DISCOVERY] = 'OFF'  # or the node would be seen twice
    views, frame, simulated = views_of(ros)
    if before is None:
        del os.environ[_DISCOVERY]
    else:
        os.environ[_DISCOVERY] = before
    if options.foxglove is not None:
        text = json.dumps(foxglove_layout(views, frame), indent=1)
        options.foxglove.write_text(text, encoding='utf-8')
        print(f'layout: {options.foxglove} is the layout for Foxglove: import it by the menu of '
              'its layouts', flush=True)
    if options.rviz_config is not None:
        options.rviz_config.write_text(rviz_config(views, frame), encoding='utf-8')
    if not options.rviz:
        return 0
    program = _rviz()
    if not program:
        print('layout: RViz is not installed here (package rviz2): sudo apt install '
              f'ros-{os.environ.get("ROS_DISTRO", "$ROS_DISTRO")}-rviz2. The node runs without '
              'it; layout --foxglove FILE makes one for Foxglove', file=sys.stderr, flush=True)
        return 0
    handle, config = tempfile.mkstemp('.rviz', 'seg_node_')
    with os.fdopen(handle, 'w', encoding='utf-8') as file:
        file.write(rviz_config(views, frame))
    os.execv(program, [program, '-d', config, '--ros-args', '-p',
                       f'use_sim_time:={str(simulated).lower()}'])


def _rviz() -> str:
    """Return the path of RViz, '' = it is not installed."""
    if found := shutil.which('rviz2'):
        return found
    try:
        from ament_index_python.packages import get_package_prefix
        path = Path(get_package_prefix('rviz2')) / 'lib' / 'rviz2' / 'rviz2'
    except Exception:  # no index, or not in it
        return ''
    return str(path) if path.exists() else ''


if __name__ == '__main__':
    sys.exit(main())
