"""
A node of rclpy alone: receives images raw, publishes a mask's bytes for each; see node_figures.

    python scripts/bare_node.py auto|events|waitset CAMERA...
"""

import sys

import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from seg_node.image import wire
from seg_node.ros.executors import make_executor
from seg_node.ros.transport import apply_transport_environment


def main():
    """Run until killed."""
    apply_transport_environment()
    rclpy.init()
    node = rclpy.create_node('seg_node')
    mask = np.zeros((720, 1280), np.uint8)

    def serve(camera):
        publisher = node.create_publisher(
            Image, f'~/{camera}/mask', QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE))

        def answer(cdr):
            header = wire.parse_image(cdr).header
            publisher.publish(wire.build_image(header, *mask.shape, 'mono8', mask))

        node.create_subscription(
            Image, f'/{camera}/image', answer,
            QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT), raw=True)

    for camera in sys.argv[2:]:
        serve(camera)
    executor = make_executor(sys.argv[1])
    executor.add_node(node)
    print('ready', flush=True)
    while True:
        executor.spin_once(timeout_sec=0.1)


if __name__ == '__main__':
    main()
