"""
A node as most are written: image messages, numpy or OpenCV, one callback; see node_figures.

    python scripts/usual_node.py auto|events|waitset WAY MODEL THREADS CAMERA...

WAY is a name of seg_node.tools.baselines; of it the mask alone is made, by the same network in the
same backend as the node's. Malloc and transport are set as the node sets them.
"""

import sys

import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from seg_node.devices import backend as backends, openvino
from seg_node.geometry import fit, Size
from seg_node.model.card import load_card
from seg_node.ros.executors import make_executor
from seg_node.ros.transport import apply_transport_environment
from seg_node.tools.baselines import Baseline, BASELINES


def to_array(message: Image) -> np.ndarray:
    """Return a bgr8 image as cv_bridge does: a view of the message's data."""
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    return rows[:, :3 * message.width].reshape(message.height, message.width, 3)


def to_message(mask: np.ndarray, header) -> Image:
    """Return a mask as cv_bridge does."""
    message = Image(header=header, height=mask.shape[0], width=mask.shape[1], encoding='mono8',
                    step=mask.shape[1])
    message.data.frombytes(mask.tobytes())
    return message


def serve(node, camera: str, baseline: Baseline) -> None:
    """Answer each image of a camera with a mask."""
    publisher = node.create_publisher(
        Image, f'~/{camera}/mask', QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE))

    def answer(message: Image) -> None:
        image = to_array(message)
        publisher.publish(to_message(
            baseline.labels_of(image, fit(baseline.card.input, Size(*image.shape[:2]))),
            message.header))

    node.create_subscription(
        Image, f'/{camera}/image', answer,
        QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))


def main() -> None:
    """Run until killed."""
    apply_transport_environment()
    executor_name, way, model, threads, *cameras = sys.argv[1:]
    card = load_card(model)
    backend = backends.load(backends.OPENVINO, card, threads=int(threads),
                            precision=openvino.best_precisions('auto', card)[0])
    baseline = BASELINES[way](card, backend)
    baseline.labels_of(np.zeros((720, 1280, 3), np.uint8), fit(card.input, Size(720, 1280)))
    rclpy.init()
    node = rclpy.create_node('seg_node')
    for camera in cameras:
        serve(node, camera, baseline)
    executor = make_executor(executor_name)
    executor.add_node(node)
    print('ready', flush=True)
    while True:
        executor.spin_once(timeout_sec=0.1)


if __name__ == '__main__':
    main()
