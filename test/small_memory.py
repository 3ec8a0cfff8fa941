"""
A node and a camera driver that share too small a /dev/shm; prints what the node says as JSON.

Run by test_node_health in a mount namespace of its own. As a program of two arguments it is the
driver.
"""

import json
from pathlib import Path
import subprocess
import sys
import time

from seg_node.ros.transport import apply_transport_environment

apply_transport_environment()  # before rclpy, as every process with large images must

# ruff: noqa: E402
from diagnostic_msgs.msg import DiagnosticArray
from harness import Client, image_cdr, MODELS, NodeProcess, RELIABLE, values
import numpy as np
import rclpy
from sensor_msgs.msg import Image

TOPIC, IMAGES = '/memory/image_raw', 120


def drive():
    """Send images of 1280x720 as a driver does; print how many."""
    rclpy.init()
    node = rclpy.create_node('driver')
    publisher = node.create_publisher(Image, TOPIC, 5)
    while not publisher.get_subscription_count():
        time.sleep(0.02)
    time.sleep(0.5)
    image = np.zeros((720, 1280, 3), np.uint8)
    for _ in range(IMAGES):
        publisher.publish(image_cdr(image, time.time_ns()))
        time.sleep(0.05)
    rclpy.shutdown()


def main(folder):
    """Run both; print what was said last while images came."""
    said = {}
    with NodeProcess(folder, model=MODELS / 'palette_cityscapes19', cameras='[memory]') as node:
        node.wait_for_log('camera memory')
        ready = time.monotonic()
        client = Client()

        def hear(message):
            for status in message.status:
                part = status.name.partition(': ')[2]
                said.setdefault(part, []).append((time.monotonic(), status))
        client.node.create_subscription(DiagnosticArray, '/diagnostics', hear, RELIABLE)
        driver = subprocess.Popen([sys.executable, __file__, str(folder), 'drive'])
        client.spin_until(lambda: driver.poll() is not None, 60)
        client.spin(1.5)
        client.close()
    told = [(moment, status) for moment, status in said['node'] if status.level != b'\0']
    lost = [status for _, status in said['memory'] if 'lost on the way' in status.message]
    counts = values(said['memory'][-1][1])
    print(json.dumps({
        'node': told[-1][1].message, 'node_level': told[-1][1].level[0],
        'node_s': max(0.0, told[0][0] - ready),
        'camera': lost[-1].message if lost else '', 'camera_level': lost[-1].level[0],
        'received': int(counts['received']), 'lost': int(counts['lost']), 'sent': IMAGES}))


if __name__ == '__main__':
    if sys.argv[2:] == ['drive']:
        drive()
    else:
        main(Path(sys.argv[1]))
