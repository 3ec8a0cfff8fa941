"""/diagnostics: looks ten times a second, speaks once a period and when something changes."""

from collections.abc import Mapping
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from ..health.judge import Judge, Verdict
from ..health.report import Level, Limits, Report
from ..health.rules import SURROUNDINGS
from .cameras import Camera
from .surroundings import Surroundings

#: Time between two looks.
LOOK_S = 0.1


class Diagnostics:
    """
    Judges the node and its cameras and publishes what there is to say.

    :ivar period_s: the longest time between two messages; a change is told at once.
    :ivar gpu_unused: why ``backend: auto`` took the CPU although a GPU is there; '' = it did not.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._surroundings = Surroundings(node)
        self._judge = Judge(SURROUNDINGS)
        self._said: object = None
        self._said_at = float('-inf')
        self.period_s: float = node.get_parameter('diagnostics_period_s').value
        self.gpu_unused = ''

    def look(self, state: Report, cameras: Mapping[str, Camera], *, idle: str,
             hardware_id: str) -> None:
        """
        Judge all, and publish if it is time or if anything but figures has changed.

        :param state: what the node says of itself; ``values['state']`` is its lifecycle state.
        :param idle: what the cameras are while no images are let in; '' = images are.
        """
        now = time.monotonic()
        limits = self._limits()
        verdicts = {name: camera.judge(limits) if not idle
                    else Verdict(Level.OK, (), (idle,)) for name, camera in cameras.items()}
        facts = self._surroundings.facts(
            images_arrive=not idle and any(camera.health.arriving for camera in cameras.values()),
            gpu_unused=self.gpu_unused)
        node = _merged(state, self._judge(facts, now))
        saying = (state.values.get('state'), node.level, node.findings,
                  [(name, verdict.level, verdict.names) for name, verdict in verdicts.items()])
        if saying == self._said and now - self._said_at < self.period_s - LOOK_S / 2:
            return
        self._said, self._said_at = saying, now
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status = [self._status('node', hardware_id, node)] + [
            self._status(name, hardware_id, verdict.report(
                cameras[name].values() if not idle
                else {'topic': cameras[name].health.topic}))
            for name, verdict in verdicts.items()]
        self._publisher.publish(message)

    def _limits(self) -> Limits:
        values = {name: self._node.get_parameter(name).value
                  for name in ('image_timeout_s', 'max_age_s', 'min_rate_hz')}
        return Limits(**values)

    def _status(self, part: str, hardware_id: str, report: Report) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=bytes([report.level]), message=report.message, hardware_id=hardware_id,
            name=f'{self._node.get_fully_qualified_name()[1:]}: {part}',
            values=[KeyValue(key=key, value=value) for key, value in report.values.items()])


def _merged(state: Report, verdict: Verdict) -> Report:
    """Return what the node says of itself and what was found about it as one report."""
    texts = [*([state.message] if state.level or not verdict.names else []), *verdict.texts]
    return Report(max(state.level, verdict.level), '; '.join(texts), state.values,
                  (*state.findings, *verdict.names))
