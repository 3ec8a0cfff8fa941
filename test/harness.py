"""A real seg_node process and a real ROS 2 client, talking over DDS."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

from seg_node.ros.transport import apply_transport_environment

apply_transport_environment()  # before rclpy, as every process with large images must

# ruff: noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from seg_node.image import wire

MODELS = Path(__file__).parent / 'models'
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                     durability=DurabilityPolicy.TRANSIENT_LOCAL)
#: The pictures here are painted, and sent again and again: what they show is not judged.
STILL = {'on_blind': 'publish', 'frozen_after_s': 0.0}
START_S = 150.0  # where nothing is compiled yet, several first starts may compile at once


class NodeProcess:
    """
    ``seg_node`` as its user starts it; everything it prints goes to a file.

    :param folder: of this test: also of what the node remembers from one start to the next.
    """

    def __init__(self, folder: Path, *arguments: str, **parameters: object) -> None:
        self.log_path = folder / f'seg_node_{time.monotonic_ns()}.log'
        command = [sys.executable, '-m', 'seg_node.ros.main', '--ros-args']
        # SEG_NODE_TEST_EXECUTOR=waitset runs all of the tests with the executor of older rclpys.
        common = STILL | {'executor': os.environ.get('SEG_NODE_TEST_EXECUTOR', 'auto')}
        for name, value in (common | parameters).items():
            command += ['-p', f'{name.replace("__", ".")}:={value}']
        with self.log_path.open('wb') as log:
            self.process = subprocess.Popen([*command, *arguments], stdout=log,
                                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                            env={**os.environ, 'XDG_STATE_HOME': str(folder)})

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self.log_path.read_text(errors='replace')

    def wait_for_log(self, text: str, timeout_s: float = START_S) -> None:
        """Wait until it has printed a text."""
        wait_until(lambda: text in self.log or self.process.poll() is not None, timeout_s)
        assert text in self.log, self.log

    def wait(self, timeout_s: float = START_S) -> int:
        """Wait for its end; return the exit code."""
        return self.process.wait(timeout_s)

    def interrupt(self) -> tuple[int, float]:
        """Press Ctrl-C; return the exit code and how long the end took, in seconds."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f'no end 20 s after Ctrl-C:\n{self.log}') from None
        return code, time.monotonic() - start

    def memory_mb(self) -> float:
        """Return its resident memory."""
        pages = int(Path(f'/proc/{self.process.pid}/statm').read_text().split()[1])
        return pages * os.sysconf('SC_PAGE_SIZE') / 1e6

    def __enter__(self) -> 'NodeProcess':
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.interrupt()


@contextmanager
def read_node(*arguments: str) -> Iterator[tuple[LifecycleNode, Any, Any]]:
    """
    Yield a node of this process, its live parameters and its settings, read as configure does.

    :param arguments: of its command line, behind ``--ros-args``.
    """
    from seg_node.ros.live_parameters import LiveParameters
    from seg_node.ros.settings import read
    context = rclpy.Context()
    rclpy.init(args=['--ros-args', *arguments], context=context)
    node = LifecycleNode('seg_node', context=context)
    try:
        live = LiveParameters(node, lambda: False, lambda wishes: None, lambda: None)
        yield node, live, read(node, live.preset())
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


class Client:
    """Publishes as cameras do, keeps everything that comes back."""

    def __init__(self, name: str = 'client') -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.messages: dict[str, list] = defaultdict(list)
        self.publishers: dict[str, object] = {}

    def close(self) -> None:
        """Leave the graph."""
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def spin_until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> bool:
        """Receive until the condition holds; return whether it does."""
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                return False
            self.executor.spin_once(timeout_sec=0.02)
        return True

    def spin(self, seconds: float) -> None:
        """Receive for a while."""
        self.spin_until(lambda: False, seconds)

    def listen(self, topic: str, kind: type = Image, qos: QoSProfile = RELIABLE) -> list:
        """Collect a topic; images parsed, others as messages."""
        raw = kind is Image
        parse = wire.parse_image if raw else lambda message: message
        found = self.messages[topic]
        self.node.create_subscription(kind, topic, lambda got: found.append(parse(got)), qos,
                                      raw=raw)
        return found

    def send(self, topic: str, cdr: bytes | CameraInfo, kind: type = Image) -> None:
        """Publish serialised bytes (or a message) once a subscriber is there."""
        if topic not in self.publishers:
            publisher = self.node.create_publisher(kind, topic, RELIABLE)
            self.publishers[topic] = publisher
            assert self.spin_until(lambda: publisher.get_subscription_count() > 0, START_S), (
                f'nobody subscribes to {topic}')
        self.publishers[topic].publish(cdr)

    def exchange(self, topic: str, cdr: bytes, answer: str, stamp_ns: int, *,
                 kind: type = Image, timeout_s: float = 60.0):
        """Publish an image and return the answer with its stamp."""
        def matching() -> list:
            return [message for message in self.messages[answer]
                    if message.header.stamp_ns == stamp_ns]
        self.send(topic, cdr, kind)
        assert self.spin_until(lambda: bool(matching()), timeout_s), (
            f'no answer with stamp {stamp_ns} on {answer}')
        return matching()[0]

    def handshake(self, topic: str, answers: list[str], cdr: bytes,
                  kind: type = Image) -> None:
        """Publish the same image until every answer's topic has delivered: all are matched."""
        def all_there() -> bool:
            return all(self.messages[answer] for answer in answers)
        for answer in answers:
            self.messages[answer].clear()
        end = time.monotonic() + START_S
        while not all_there():
            assert time.monotonic() < end, f'no answers on {answers}'
            self.send(topic, cdr, kind)
            self.spin_until(all_there, 0.5)
        self.spin(0.3)
        for answer in answers:
            self.messages[answer].clear()

    def diagnostics(self, part: str, *, timeout_s: float = 30.0,
                    until: Callable[[DiagnosticStatus], bool] = lambda _: True,
                    ) -> DiagnosticStatus:
        """Return the next status of a part of seg_node for which ``until`` holds."""
        if '/diagnostics' not in self.messages:
            self.listen('/diagnostics', DiagnosticArray)
        for _ in range(20):  # what came before is not the next
            self.executor.spin_once(timeout_sec=0)
        self.messages['/diagnostics'].clear()

        def fitting() -> list[DiagnosticStatus]:
            return [status for message in self.messages['/diagnostics']
                    for status in message.status
                    if status.name == f'seg_node: {part}' and until(status)]
        found = self.spin_until(lambda: bool(fitting()), timeout_s)
        seen = [(status.name, status.level, status.message)
                for message in self.messages['/diagnostics'] for status in message.status]
        assert found, f'no such status of {part}; seen: {seen[-6:]}'
        return fitting()[-1]

    def change_state(self, transition_id: int) -> bool:
        """Ask the node for a lifecycle transition; return its success."""
        request = ChangeState.Request()
        request.transition.id = transition_id
        return self.call(ChangeState, '/seg_node/change_state', request).success

    def state(self) -> str:
        """Return the name of the node's lifecycle state."""
        return self.call(GetState, '/seg_node/get_state', GetState.Request()
                         ).current_state.label

    def call(self, kind: type, name: str, request: object, timeout_s: float = START_S):
        """
        Call a service and return the answer.

        A process that was killed stays in the graph for seconds, so whoever has met it may ask
        the dead: each server that comes meanwhile is asked, too.
        """
        asked: list[tuple] = []  # (client, future)
        servers = 0

        def answer():
            nonlocal servers
            before, servers = servers, self.node.count_services(name)
            if servers > before:
                client = self.node.create_client(kind, name)
                assert self.spin_until(client.service_is_ready, timeout_s), f'no service {name}'
                asked.append((client, client.call_async(request)))
            return [future for _, future in asked if future.done()]
        assert self.spin_until(answer, timeout_s), (
            f'no answer of {name}, {len(asked)} times asked of {servers} servers')
        found = answer()[0].result()
        for client, _ in asked:
            self.node.destroy_client(client)
        return found


class Diagnostics:
    """Everything said on /diagnostics, and when a client heard it."""

    def __init__(self, client: Client) -> None:
        self.said = []  # (monotonic seconds, part, DiagnosticStatus)
        client.node.create_subscription(DiagnosticArray, '/diagnostics', self._hear, RELIABLE)

    def _hear(self, message):
        self.said += [(time.monotonic(), status.name.partition(': ')[2], status)
                      for status in message.status]

    def of(self, part, since=0.0, until=float('inf')):
        """Return (monotonic seconds, DiagnosticStatus) of a part of the node, oldest first."""
        newest_first = takewhile(lambda said: said[0] >= since, reversed(self.said))
        return [(moment, status) for moment, name, status in newest_first
                if name == part and moment < until][::-1]

    def well(self, parts, seconds):
        """Return whether all of them have been OK for so long."""
        now = time.monotonic()
        found = [self.of(part, now - seconds) for part in parts]
        return all(found) and all(status.level == DiagnosticStatus.OK
                                  for said in found for _, status in said)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait without receiving anything."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def values(status: DiagnosticStatus) -> dict[str, str]:
    """Return the figures of a status."""
    return {pair.key: pair.value for pair in status.values}


def all_counted(status: DiagnosticStatus) -> bool:
    """Return whether every received image is known to be segmented, dropped or refused."""
    found = values(status)
    return int(found['received']) == sum(int(found[key])
                                         for key in ('segmented', 'dropped', 'refused'))


def image_cdr(image: np.ndarray, stamp_ns: int, frame_id: str = 'cam', encoding: str = 'bgr8',
              **kwargs: object) -> bytes:
    """Return a sensor_msgs/Image as serialised bytes; size from the array."""
    header = wire.Header(stamp_ns // 10**9, stamp_ns % 10**9, frame_id)
    return wire.build_image(header, *image.shape[:2], encoding, image, **kwargs)


def compressed_cdr(data: bytes, stamp_ns: int, image_format: str) -> bytes:
    """Return a sensor_msgs/CompressedImage as serialised bytes."""
    header = wire.Header(stamp_ns // 10**9, stamp_ns % 10**9, 'cam')
    return wire.build_compressed_image(header, image_format, data)


__all__ = ['Client', 'CompressedImage', 'NodeProcess', 'all_counted', 'compressed_cdr',
           'image_cdr', 'values']
