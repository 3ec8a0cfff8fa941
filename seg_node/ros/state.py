"""A camera's state as a message that comes with each frame."""

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from ..health.report import Level
from ..image.wire import Header
from ..trust.verdict import Standing, State

_LEVELS = {State.OK: Level.OK, State.DOUBTFUL: Level.WARN, State.BLIND: Level.ERROR}


DISABLED = 'disabled'  # the state of a camera that was told to stop


def disabled_message(stamp: Time, name: str) -> DiagnosticArray:
    """
    Return the state of a camera that was told to stop.

    :param stamp: the time now: there is no image.
    :param name: of the status.
    """
    message = DiagnosticArray()
    message.header.stamp = stamp
    message.status = [DiagnosticStatus(
        level=bytes([Level.WARN]), name=name, message=DISABLED,
        values=[KeyValue(key='state', value=DISABLED), KeyValue(key='withheld', value='true')])]
    return message


def values(standing: Standing) -> dict[str, str]:
    """Return what there is to say of a state, for the diagnostics, too."""
    return {'state': str(standing.state), 'frame_state': str(standing.verdict.state),
            'withheld': str(standing.withheld).lower(),
            **{name: f'{value:.3f}' for name, value in standing.verdict.figures.items()}}


def state_message(header: Header, name: str, standing: Standing) -> DiagnosticArray:
    """
    Return the state as a message with the image's own stamp and frame_id.

    :param name: of the status.
    """
    message = DiagnosticArray()
    message.header.stamp.sec, message.header.stamp.nanosec = header.sec, header.nanosec
    message.header.frame_id = header.frame_id
    message.status = [DiagnosticStatus(
        level=bytes([_LEVELS[standing.state]]), name=name, message=standing.reason or 'ok',
        values=[KeyValue(key=key, value=value) for key, value in values(standing).items()])]
    return message
