"""Frames on their way through the node, from the model being there and active to deactivate."""

from collections.abc import Mapping

from rclpy.node import Node

from ..errors import FrameError
from ..frame import Frame, Products, StageClock
from ..running.mailbox import Mailbox
from ..running.starts import Starts
from ..running.worker import Worker
from .cameras import Camera

_STOP_S = 0.5  # how long the executor waits for the frames in hand


class Serving:
    """
    Takes the cameras' frames on the executor's thread, publishes on the device's.

    :param starts: is told of the first frame and the first mask.
    """

    def __init__(self, node: Node, cameras: Mapping[str, Camera], starts: Starts) -> None:
        self._node = node
        self._cameras = dict(cameras)
        self._starts = starts
        self._mailbox: Mailbox[Frame] = Mailbox(cameras)
        self._worker: Worker | None = None

    def worker(self, max_batch: int) -> Worker:
        """Return what the device's thread is to run."""
        self._worker = Worker(
            self._mailbox, max_batch, wanted=lambda name: self._cameras[name].wanted(),
            deliver=self._deliver, refuse=self._refuse,
            timeout_s=lambda: self._node.get_parameter('device_timeout_s').value)
        return self._worker

    def open(self) -> None:
        """Subscribe to the cameras."""
        for camera in self._cameras.values():
            camera.activate()
            self._node.get_logger().info(f'camera {camera.settings.name}: {camera.health.topic} '
                                         f'-> {camera.mask_topic}')

    def put(self, frame: Frame) -> None:
        """Take a frame; an unread one of the same camera is dropped."""
        self._starts.frame()
        if self._mailbox.put(frame.camera, frame) is not None:
            self._cameras[frame.camera].health.on_dropped()

    def stop(self) -> None:
        """Unsubscribe; what is in hand may finish, if it is quick, and all else is dropped."""
        for camera in self._cameras.values():
            camera.deactivate()
        if self._worker is not None:
            for frame in self._worker.stop(_STOP_S):
                self._cameras[frame.camera].health.on_dropped()

    def _deliver(self, products: Products, clock: StageClock) -> None:
        """Publish; runs on the device's thread."""
        self._cameras[products.frame.camera].deliver(products, clock)
        self._starts.mask()

    def _refuse(self, frame: Frame, error: FrameError) -> None:
        """Count and log a refused frame; runs on the device's thread."""
        camera = self._cameras[frame.camera]
        camera.health.on_refused(error)
        self._starts.refused()
        self._node.get_logger().warning(f'image on {camera.health.topic} refused: {error}',
                                        throttle_duration_sec=5.0)
