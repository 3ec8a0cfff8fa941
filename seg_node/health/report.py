"""What the diagnostics say about one part of the node."""

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """Severity, with the numbers of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Report:
    """
    One status: severity, what is wrong with the mend, and the figures behind it.

    :ivar findings: names of the rules that hold, worst first; two reports that say the same with
        other figures have the same.
    """

    level: Level
    message: str
    values: dict[str, str]
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """When to complain, as the parameters of these names say."""

    image_timeout_s: float
    max_age_s: float
    min_rate_hz: float
