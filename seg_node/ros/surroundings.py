"""What the node sees around itself: its namesakes, the clock, the shared memory."""

import time

from rclpy.node import Node

from ..health.facts import SurroundingFacts
from .shared_memory import SharedMemoryWatch


class Surroundings:
    """Asks the graph, the clock and the system; each answer costs some microseconds."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._memory = SharedMemoryWatch()
        self._name = node.get_fully_qualified_name()
        self._clock_ns, self._moved = 0, time.monotonic()

    def facts(self, *, images_arrive: bool, gpu_unused: str) -> SurroundingFacts:
        """Return what is so now."""
        now, clock_ns = time.monotonic(), self._node.get_clock().now().nanoseconds
        if clock_ns != self._clock_ns or not images_arrive:
            self._clock_ns, self._moved = clock_ns, now
        names = [f'{space.rstrip("/")}/{name}'
                 for name, space in self._node.get_node_names_and_namespaces()]
        return SurroundingFacts(
            name=self._name, namesakes=names.count(self._name),
            simulated=bool(self._node.get_parameter('use_sim_time').value),
            clock_s=clock_ns / 1e9, clock_still_s=now - self._moved,
            memory=self._memory.look(), gpu_unused=gpu_unused)
