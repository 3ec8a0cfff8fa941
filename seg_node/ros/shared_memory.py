"""The shared memory through which Fast DDS carries images, as far as this process can see it."""

from collections.abc import Iterator
import os
from pathlib import Path
from xml.etree import ElementTree

from rclpy.utilities import get_rmw_implementation_identifier

from ..health.facts import SharedMemory
from . import transport

_FOLDER = '/dev/shm'
_MAPS = Path('/proc/self/maps')
_DEFAULT_SEGMENT = 512 << 10  # what Fast DDS takes unless it is told otherwise


class SharedMemoryWatch:
    """
    Looks at size and free space; what the transport needs of it is found out once.

    To be made when the node is there, as only then the transport has opened.
    """

    def __init__(self) -> None:
        fast_dds = get_rmw_implementation_identifier().startswith('rmw_fastrtps')
        self._segment = segment_bytes() if fast_dds else 0
        self._opened = is_open(self._segment) if self._segment else None

    def look(self) -> SharedMemory | None:
        """Return what is so now; None where the transport does not use shared memory."""
        if not self._segment:
            return None
        try:
            found = os.statvfs(_FOLDER)
        except OSError:
            return None
        return SharedMemory(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize,
                            self._segment, self._opened)


def segment_bytes() -> int:
    """Return how much each process takes by the Fast DDS settings in force; 0 = none is used."""
    if builtin := os.environ.get(transport.TRANSPORTS):
        return 0 if builtin.startswith(('UDP', 'TCP')) else _DEFAULT_SEGMENT
    profile = transport.profile_in_force()
    if profile is None:
        return _DEFAULT_SEGMENT
    try:
        root = ElementTree.parse(profile).getroot()
    except (OSError, ElementTree.ParseError):
        return _DEFAULT_SEGMENT
    return max(_segments(root), default=0)


def is_open(segment: int) -> bool | None:
    """
    Return whether this process has a segment of that size mapped; None where that is not told.

    Without its own, Fast DDS gives the transport up and never maps another's, either.
    """
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError:
        return None
    spans = [line.split()[0].split('-') for line in lines if f'{_FOLDER}/fast' in line]
    return any(int(end, 16) - int(start, 16) >= segment for start, end in spans)


def _segments(root: ElementTree.Element) -> Iterator[int]:
    """Yield the segment sizes of the shared-memory transports that a profile uses."""
    used = {_text(item) for item in root.iter() if _tag(item) == 'transport_id'
            and item not in {child for parent in root.iter()
                             if _tag(parent) == 'transport_descriptor' for child in parent}}
    for descriptor in root.iter():
        if _tag(descriptor) == 'transport_descriptor':
            fields = {_tag(child): _text(child) for child in descriptor}
            if fields.get('type') == 'SHM' and fields.get('transport_id') in used:
                size = fields.get('segment_size', '')
                yield int(size) if size.isdigit() else _DEFAULT_SEGMENT
    if not any(_tag(item) == 'useBuiltinTransports' and _text(item).lower() == 'false'
               for item in root.iter()):
        yield _DEFAULT_SEGMENT


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition('}')[2]


def _text(element: ElementTree.Element) -> str:
    return (element.text or '').strip()
