"""Reports as diagnostic_msgs."""

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.node import Node

from ..health import Report


def status(node: Node, part: str, hardware_id: str, report: Report) -> DiagnosticStatus:
    """Return a report about one part of the node as a DiagnosticStatus."""
    return DiagnosticStatus(
        level=bytes([report.level]), name=f'{node.get_fully_qualified_name()[1:]}: {part}',
        message=report.message, hardware_id=hardware_id,
        values=[KeyValue(key=key, value=value) for key, value in report.values.items()])
