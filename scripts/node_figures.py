"""
Measure the node over DDS with next to no network: the table of docs/performance.md.

    python scripts/node_figures.py [--cameras 1 2 4 8] [--hz 30] [--seconds 40] [--starts 5]

The network is the palette model of the tests, so nearly all that is measured is the node: receive
1280x720, preprocess, labels, publish the mask. Core time is that of all of the node's threads, a
second at a time; latency is from sending a frame to receiving its mask. Beside each it measures
`bare`: a program of rclpy alone (scripts/bare_node.py) that receives the same frames raw and
publishes as many bytes for each, which is what rclpy and DDS cost whoever uses them, and the ways
of seg_node.tools.baselines as nodes of their own (scripts/usual_node.py). With --starts the start
of the node with the default model is timed instead: warm, with kernels compiled but networks not
yet compared, and with empty caches.
"""

import argparse
from contextlib import contextmanager
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np

from seg_node.devices import backend as backends
from seg_node.errors import SegNodeError
from seg_node.geometry import fit, Size
from seg_node.model.card import load_card
from seg_node.model.taxonomy import load_taxonomy
from seg_node.playback.domain import reserve_domain
from seg_node.playback.messages import with_stamp
from seg_node.playback.node_process import NodeProcess
from seg_node.ros.transport import apply_transport_environment
from seg_node.scoring.drive import Drive
from seg_node.tools.baselines import BASELINES
from seg_node.tools.machine import keep_figures, kept_figures

MODEL = Path(__file__).parents[1] / 'test' / 'models' / 'palette_cityscapes19'
SIZE = Size(720, 1280)
SUBJECTS = ('node', 'bare', *BASELINES)
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
def running_other(name, cameras, options):
    """Start a program beside this one by its name in ``SUBJECTS``; return it once it hears."""
    words = (['bare_node.py', options.executor] if name == 'bare' else
             ['usual_node.py', options.executor, name, str(MODEL), str(options.threads)])
    command = [sys.executable, str(Path(__file__).with_name(words[0])), *words[1:], *cameras]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if not process.stdout.readline():
                sys.exit(f'{words[0]} did not start')
            yield process
        finally:
            process.kill()


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


def network_core_ms(threads):
    """Return what the network itself takes of a frame, median of 100 in this process."""
    card = load_card(MODEL)
    backend = backends.load(backends.OPENVINO, card, threads=threads)
    size = fit(card.input, SIZE).network
    tensor = np.random.default_rng(0).normal(size=(1, 3, *size)).astype(np.float32)
    times = []
    for _ in range(100):
        start = time.process_time_ns()
        backend.run(tensor)
        times.append((time.process_time_ns() - start) / 1e6)
    backend.close()
    return round(float(np.median(times)), 2)


@contextmanager
def subject(name, cameras, options):
    """Start what is measured, by its name in ``SUBJECTS``; return it."""
    if name != 'node':
        with running_other(name, cameras, options) as process:
            yield process
        return
    parameters = {f'{camera}.image_topic': f'/{camera}/image' for camera in cameras}
    with tempfile.TemporaryDirectory() as folder:
        with running_node(folder, model=str(MODEL), cameras=cameras, threads=options.threads,
                          executor=options.executor, **parameters) as started:
            yield started[0]


def measure(name, count, options):
    """Play into it; print and return what a frame costs and how late its mask is."""
    cores = []
    with Cameras(count) as cameras, subject(name, cameras.names, options) as process:
        end = time.monotonic() + START_S
        while not cameras.connected():
            if time.monotonic() > end:
                sys.exit(f'{name} and its cameras have not found each other in {START_S:g} s')
            time.sleep(0.05)
        start = due = time.monotonic()
        second = None
        while (now := time.monotonic()) < start + SETTLE_S + options.seconds:
            settled = now > start + SETTLE_S
            if settled and (second is None or now > second[0] + 1):
                used = core_ns(process.pid)
                if second is not None:
                    cores.append((used - second[1]) / 1e6 / (second[2] * count))
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
    low, middle, high = np.percentile(cores, (10, 50, 90)).round(2)
    p50, p99, p999 = np.percentile(times, (50, 99, 99.9)).round(2)
    print(f'{name}, {count} cameras at {options.hz:g} Hz: {middle} core ms a frame ({low} to '
          f'{high}, n {len(cores)}); masks of {len(times)} of {len(cameras.sent)} frames; latency '
          f'ms p50 {p50}, p99 {p99}, p99.9 {p999} ({p999 / p50:.1f} x p50), most '
          f'{max(times):.2f}', flush=True)
    return {'subject': name, 'cameras': count, 'hz': options.hz, 'seconds': len(cores),
            'core_ms': middle, 'core_ms_spread': [low, high], 'sent': len(cameras.sent),
            'masks': len(times), 'latency_ms': {'p50': p50, 'p99': p99, 'p99.9': p999}}


def measure_all(options):
    """Measure node and control in turn, for each number of cameras; keep it if so wished."""
    before = kept_figures(options.json) if options.json else {}
    rows = [measure(name, count, options) for count in options.cameras
            for _ in range(options.pairs) for name in options.subjects]
    if options.json:
        measured = {(row['cameras'], row['hz'], row['subject']) for row in rows}
        kept = [row for row in before.get('over_dds', {}).get('rows', [])
                if (row['cameras'], row['hz'], row['subject']) not in measured]
        keep_figures(options.json, over_dds={
            'executor': options.executor, 'threads': options.threads, 'image': str(SIZE),
            'network_core_ms': network_core_ms(options.threads),
            'rows': sorted(kept + rows, key=lambda row: (
                row['cameras'], -row['hz'], SUBJECTS.index(row['subject'])))})


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
    parser.add_argument('--cameras', type=int, nargs='+', default=[1])
    parser.add_argument('--subjects', nargs='+', choices=SUBJECTS, default=SUBJECTS)
    parser.add_argument('--pairs', type=int, default=1, help='measure each so many times')
    parser.add_argument('--executor', default='auto', help='see docs/parameters.md')
    parser.add_argument('--json', type=Path, help='put the figures into this file of a machine, '
                        'beside those of the benchmark')
    parser.add_argument('--hz', type=float, default=30.0)
    parser.add_argument('--seconds', type=float, default=40.0)
    parser.add_argument('--threads', type=int, default=1, help='of the network (default: 1)')
    parser.add_argument('--starts', type=int, default=0, help='time so many starts instead')
    options = parser.parse_args()
    domain, reservation = reserve_domain()
    os.environ.update(ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST')
    apply_transport_environment()
    with reservation:
        try:
            if options.starts:
                measure_starts(options.starts)
            else:
                measure_all(options)
        except SegNodeError as error:
            sys.exit(f'node_figures: {error}')


if __name__ == '__main__':
    main()
