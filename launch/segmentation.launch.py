"""
Start the segmentation node.

The node brings itself from unconfigured to active (parameter ``autostart``), also after a
respawn, so it needs no lifecycle events from here.

An argument that is left empty changes nothing: the value is then the one in ``params_file``, or
else the node's default.
"""

import os

from ament_index_python.packages import get_package_share_path
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from seg_node.ros.transport import profile_variables

SHARE = get_package_share_path('seg_node')
SWITCH = ['', 'true', 'false']
# Arguments that stand for the node's parameters of the same name: texts, switches, and those that
# each camera has.
TEXTS = ('model', 'backend')
SWITCHES = ('use_sim_time', 'autostart')
OF_CAMERAS = ('image_topic', 'transport')
# What a preset calls the outputs `~/<camera>/...`; {camera} is empty where there is only one.
PRESETS = {
    '': {},
    'nav2': {'mask': '/segmentation{camera}/mask',
             'confidence': '/segmentation{camera}/confidence',
             'label_info': '/segmentation{camera}/label_info',
             'overlay': '/segmentation{camera}/overlay'},
    'nvblox': {'dynamic_mask': '/camera_{index}/mask/image',
               'camera_info': '/camera_{index}/mask/camera_info'},
}
# Parameters that a preset sets, unless params_file says otherwise: who drives by the mask does not
# look at the state beside it.
PRESET_PARAMETERS = {'nav2': {'on_doubtful': 'withhold_drivable'}}


def generate_launch_description():
    """Return what `ros2 launch seg_node segmentation.launch.py` starts."""
    return LaunchDescription([
        DeclareLaunchArgument(
            'params_file', default_value='',
            description='YAML file with parameters of the node; an example that shows them all '
                        f'is {SHARE / "config" / "seg_node.yaml"}.'),
        DeclareLaunchArgument(
            'model', default_value='',
            description='Model: a name below models/, or the folder of a model of your own.'),
        DeclareLaunchArgument(
            'backend', default_value='',
            description='What runs the network: auto, onnxruntime or tensorrt.'),
        DeclareLaunchArgument(
            'cameras', default_value='',
            description='Names of the cameras, separated by commas, e.g. front,rear.'),
        DeclareLaunchArgument(
            'image_topic', default_value='',
            description='Topic of the images, where there is one camera; several cameras have '
                        'their topics in params_file.'),
        DeclareLaunchArgument(
            'transport', default_value='', choices=['', 'raw', 'compressed'],
            description='raw: sensor_msgs/Image. compressed: sensor_msgs/CompressedImage on '
                        '<image_topic>/compressed.'),
        DeclareLaunchArgument(
            'namespace', default_value='', description='Namespace of the node.'),
        DeclareLaunchArgument(
            'preset', default_value='', choices=list(PRESETS),
            description='Names that a consumer expects. nav2: /segmentation/mask, confidence, '
                        'label_info, overlay (/segmentation/<camera>/mask ... where cameras '
                        'names several), and doubtful masks are withheld. nvblox: '
                        '/camera_0/mask/image (people and vehicles) and camera_info, /camera_1 '
                        '... in the order of cameras.'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='', choices=SWITCH,
            description='Take the time from /clock (simulators, bags).'),
        DeclareLaunchArgument(
            'autostart', default_value='', choices=SWITCH,
            description='Configure and activate at start; false: a lifecycle manager does it.'),
        DeclareLaunchArgument(
            'respawn', default_value='false', choices=['true', 'false'],
            description='Start the node again, after 2 s, whenever it ends.'),
        DeclareLaunchArgument(
            'log_level', default_value='info',
            choices=['debug', 'info', 'warn', 'error', 'fatal'],
            description='The least severe messages to log.'),
        DeclareLaunchArgument(
            'rviz', default_value='false', choices=['true', 'false'],
            description='Show camera image, overlay and drivable area in RViz (package rviz2).'),
        OpaqueFunction(function=_transport),
        OpaqueFunction(function=_node),
        Node(package='rviz2', executable='rviz2', output='log',
             arguments=['-d', str(SHARE / 'rviz' / 'seg_node.rviz')],
             condition=IfCondition(LaunchConfiguration('rviz'))),
    ])


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


def _node(context):
    """Return the node, with what the arguments say on top of the parameter file."""
    value = context.launch_configurations
    named = [name.strip() for name in value['cameras'].split(',') if name.strip()]
    for_cameras = [name for name in (*OF_CAMERAS, 'preset') if value[name]]
    if value['params_file'] and for_cameras and not named:
        raise ValueError(f'say with cameras:=... for which camera of params_file '
                         f'{" and ".join(for_cameras)} is meant')
    cameras = named or ['camera']
    if value['image_topic'] and len(cameras) > 1:
        raise ValueError('image_topic is for one camera: give the topics of several cameras in '
                         'params_file, as <camera>.image_topic')
    overrides = {name: value[name] for name in TEXTS if value[name]}
    overrides.update({name: value[name] == 'true' for name in SWITCHES if value[name]})
    overrides.update({f'{camera}.{name}': value[name] for camera in cameras
                      for name in OF_CAMERAS if value[name]})
    if named:
        overrides['cameras'] = named
    return [Node(
        package='seg_node', executable='seg_node', name='seg_node',
        namespace=value['namespace'], output='screen', emulate_tty=True,
        parameters=[*filter(None, [PRESET_PARAMETERS.get(value['preset']),
                                   value['params_file']]), overrides],
        remappings=_remappings(value['preset'], cameras),
        ros_arguments=['--log-level', value['log_level']],
        respawn=value['respawn'] == 'true', respawn_delay=2.0)]


def _remappings(preset, cameras):
    return [(f'~/{camera}/{output}',
             topic.format(index=index, camera=f'/{camera}' if len(cameras) > 1 else ''))
            for index, camera in enumerate(cameras)
            for output, topic in PRESETS[preset].items()]
