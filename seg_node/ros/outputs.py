"""One camera's image outputs: raw, compressed, and run lengths, for those who listen."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from ..image import encode, wire
from ..products import of_head, Output, OUTPUTS
from .listeners import listeners
from .topics import COMPRESSED, transported

QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)


class ImageOutputs:
    """
    Publishers of ``products.OUTPUTS``, each with its ``/compressed`` beside it.

    :param topic: gives the topic of an output by its name.
    :param heads: roles of the model's further outputs, which are published likewise.
    """

    def __init__(self, node: LifecycleNode, topic: Callable[[str], str],
                 heads: Iterable[str] = ()) -> None:
        self._node = node
        self._outputs = {output.name: output for output in (*OUTPUTS, *map(of_head, heads))}
        self._raw: dict[str, LifecyclePublisher] = {}
        self._compressed: dict[str, LifecyclePublisher] = {}
        for output in self._outputs.values():
            name = topic(output.name)
            self._raw[output.name] = node.create_lifecycle_publisher(Image, name, QOS)
            if output.coding == 'rows':
                self._compressed[output.name] = node.create_lifecycle_publisher(
                    CompressedImage, transported(node, name, COMPRESSED), QOS)
        self._listeners = [(name, listeners(publisher))
                           for publishers in (self._raw, self._compressed)
                           for name, publisher in publishers.items()]
        self._heard: list[str] = []
        self._wanted: frozenset[str] = frozenset()

    def topic(self, name: str) -> str:
        """Return where an output goes, remapping included."""
        return str(self._raw[name].topic_name)

    def wanted(self) -> frozenset[str]:
        """Return the names of the outputs that have a subscriber now."""
        heard = [name for name, count in self._listeners if count()]
        if heard != self._heard:
            self._heard, self._wanted = heard, frozenset(heard)
        return self._wanted

    def publish(self, header: wire.Header, images: Mapping[str, np.ndarray]) -> None:
        """Publish what has a subscriber, with a stamp and frame_id."""
        for name, image in images.items():
            output, raw, compressed = (self._outputs[name], self._raw[name],
                                       self._compressed.get(name))
            if raw.get_subscription_count():
                raw.publish(_message(output, header, image))
            if compressed is not None and compressed.get_subscription_count():
                compressed.publish(_compressed(output, header, image))

    def destroy(self) -> None:
        """Remove the publishers."""
        for publisher in (*self._raw.values(), *self._compressed.values()):
            self._node.destroy_lifecycle_publisher(publisher)


def _message(output: Output, header: wire.Header, image: np.ndarray) -> bytes:
    height, width = image.shape[:2]
    if output.coding == 'run_lengths':
        return wire.build_image(header, height, width, output.encoding,
                                encode.run_lengths(image), step=width)
    return wire.build_image(header, height, width, output.encoding, image)


def _compressed(output: Output, header: wire.Header, image: np.ndarray) -> bytes:
    """Class ids and areas go as PNG, pictures as JPEG, named as image_transport names them."""
    if image.ndim == 2:
        codec, data = 'png', encode.png(image)
    else:
        codec, data = 'jpeg', encode.jpeg(image)
    return wire.build_compressed_image(
        header, f'{output.encoding}; {codec} compressed {output.encoding}', data)
