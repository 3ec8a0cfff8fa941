"""
Measure the node over DDS with next to no network: the table of docs/performance.md.

    python scripts/node_figures.py [--cameras 1] [--hz 30] [--seconds 40] [--starts 5]

The network is the palette model of the tests, so nearly all that is measured is the node: receive
1280x720, preprocess, labels, publish the mask. Core time is that of all of the node's threads, a
second at a time; latency is from sending a frame to receiving its mask. With --starts the start of
the node with the default model is timed instead: warm, with kernels compiled but networks not yet
compared, and with empty caches.
"""

import argparse
from contextlib import contextmanager
import os
from pathlib import Path
import sys
import tempfile
import time

import cv2
import numpy as np

from seg_node.geometry import Size
from seg_node.model.taxonomy import load_taxonomy
from seg_node.playback.domain import reserve_domain
from seg_node.playback.messages import with_stamp
from seg_node.playback.node_process import NodeProcess
from seg_node.ros.transport import apply_transport_environment
from seg_node.scoring.drive import Drive

MODEL = Path(__file__).parents[1] / 'test' / 'models' / 'palette_cityscapes19'
SIZE = Size(720, 1280)
START_S = 120.0
SETTLE_S = 3.0


def spread(values, unit):
    """Return median, spread and number in words."""
    low, middle, high = np.percentile(values, (10, 50, 90))
    return f'{middle:.2f} {unit} ({low:.2f} to {high:.2f}, n {len(values)})'


def core_ns(pid):
    """Return the core time of a process' threads so far."""
    return sum(int(path.read_text().split()[0])
               for path in Path(f'/proc/{pid}/task').glob('*/schedstat'))


@contextmanager
def running_node(folder, **parameters):
    """Start a node; wait until it serves its cameras; return it and how long that took."""
    log = Path(folder) / 'node.log'
    start = time.monotonic()
    with NodeProcess({'on_blind': 'publish', 'frozen_after_s': 0.0, **parameters}, log) as node:
        while ' -> ' not in log.read_text():
            if node.ended() or time.monotonic() - start > START_S:
                sys.exit(f'the node did not start: {node.death() or log.read_text()}')
            time.sleep(0.01)
        yield node, time.monotonic() - start


def image_cdr():
    """Return a frame of the shipped drive as a serialised message."""
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image
    # Painted in the model's colours, or it would see noise instead of a street's segments.
    labels = Drive().labels(0)
    colours = load_taxonomy('cityscapes19').palette_bgr()[np.minimum(labels, 18)]
    picture = cv2.resize(colours, (SIZE.width, SIZE.height), interpolation=cv2.INTER_NEAREST)
    message = Image(height=SIZE.height, width=SIZE.width, encoding='bgr8', step=3 * SIZE.width)
    message.header.frame_id = 'camera'
    message.data.frombytes(picture.tobytes())
    return bytes(serialize_message(message))


class Cameras:
    """
    What a node's cameras send and what comes back; a context manager.

    :ivar sent: by camera's number and stamp (ns), when a frame was sent (monotonic ns).
    """

    def __init__(self, count):
        import rclpy
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import Image

        from seg_node.playback.recorder import Recorder
        self.names = [f'camera{number}' for number in range(count)]
        self.masks = [f'/seg_node/{name}/mask' for name in self.names]
        self.sent = {}
        self._cdr = image_cdr()
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node('camera_driver', context=self._context)
        qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        self._publishers = [self._node.create_publisher(Image, f'/{name}/image', qos)
                            for name in self.names]
        self._recorder = Recorder(self._context, self.masks)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._recorder.close()
        self._node.destroy_node()
        self._context.shutdown()

    def connected(self):
        """Return whether the node hears the cameras and its masks are heard."""
        return (all(map(self._recorder.connected, self.masks))
                and all(one.get_subscription_count() for one in self._publishers))

    def send(self, noted):
        """Send a frame of each camera."""
        for number, publisher in enumerate(self._publishers):
            stamp = time.time_ns()
            if noted:
                self.sent[number, stamp] = time.monotonic_ns()
            publisher.publish(with_stamp(self._cdr, stamp))

    def latencies_ms(self):
        """Return how long each noted frame's mask took."""
        return [(got_ns - self.sent[number, stamp]) / 1e6
                for number, mask in enumerate(self.masks)
                for stamp, got_ns in self._recorder.heard[mask].times
                if (number, stamp) in self.sent]


def measure(options):
    """Play into the node; print what a frame costs and how late its mask is."""
    cores = []
    parameters = {f'camera{n}.image_topic': f'/camera{n}/image' for n in range(options.cameras)}
    with (Cameras(options.cameras) as cameras, tempfile.TemporaryDirectory() as folder,
          running_node(folder, model=str(MODEL), cameras=cameras.names, threads=options.threads,
                       **parameters) as (node, _)):
        while not cameras.connected():
            time.sleep(0.05)
        start = due = time.monotonic()
        second = None
        while (now := time.monotonic()) < start + SETTLE_S + options.seconds:
            settled = now > start + SETTLE_S
            if settled and (second is None or now > second[0] + 1):
                used = core_ns(node.pid)
                if second is not None:
                    cores.append((used - second[1]) / 1e6 / (second[2] * options.cameras))
                second = [now, used, 0]
            cameras.send(settled)
            if second is not None:
                second[2] += 1
            due += 1 / options.hz
            time.sleep(max(0.0, due - time.monotonic()))
        time.sleep(1.0)
        times = cameras.latencies_ms()
    if not times:
        sys.exit('no mask came back')
    p50, p99, p999 = np.percentile(times, (50, 99, 99.9))
    print(f'{options.cameras} cameras at {options.hz:g} Hz: {spread(cores, "core ms a frame")}; '
          f'masks of {len(times)} of {len(cameras.sent)} frames; latency ms p50 {p50:.2f}, '
          f'p99 {p99:.2f}, p99.9 {p999:.2f} ({p999 / p50:.1f} x p50), most {max(times):.2f}')


def measure_starts(count):
    """Start the node again and again; print from the start of the process to serving."""
    kinds = {'warm': (), 'networks not compared yet': ('SEG_NODE_CACHE',),
             'empty caches': ('SEG_NODE_CACHE', 'NUMBA_CACHE_DIR')}
    before, walls, used = dict(os.environ), {}, {}
    for _ in range(count):
        for kind, variables in kinds.items():
            with tempfile.TemporaryDirectory() as folder:
                os.environ.update({name: str(Path(folder) / name) for name in variables})
                with running_node(folder) as (node, took_s):
                    used.setdefault(kind, []).append(core_ns(node.pid) / 1e9)
                walls.setdefault(kind, []).append(took_s)
                os.environ.clear()
                os.environ.update(before)
    for kind in kinds:
        print(f'start, {kind}: {spread(walls[kind], "s")}; {spread(used[kind], "core s")}')


def main():
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cameras', type=int, default=1)
    parser.add_argument('--hz', type=float, default=30.0)
    parser.add_argument('--seconds', type=float, default=40.0)
    parser.add_argument('--threads', type=int, default=1, help='of the network (default: 1)')
    parser.add_argument('--starts', type=int, default=0, help='time so many starts instead')
    options = parser.parse_args()
    domain, reservation = reserve_domain()
    os.environ.update(ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST')
    apply_transport_environment()
    with reservation:
        if options.starts:
            measure_starts(options.starts)
        else:
            measure(options)


if __name__ == '__main__':
    main()
