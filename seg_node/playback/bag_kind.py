"""What kind of bag a file is, by its first bytes: names lie (.MCAP, .mcap.active, .bag.orig)."""

from pathlib import Path

from .sources import STORAGE_SUFFIXES

DB3, MCAP = STORAGE_SUFFIXES
ROS1 = '.bag'
MCAP_BEGIN = b'\x89MCAP0\r\n'
_BEGIN = {MCAP_BEGIN: MCAP, b'SQLite format 3\0': DB3, b'#ROSBAG V': ROS1}


def kind_of_bag(path: Path) -> str:
    """
    Return ``'.mcap'``, ``'.db3'`` or ``'.bag'`` for a file that is such a bag; '' = it is none.

    A file with one of these endings counts as what it says, so that its error does, too.
    """
    suffix = path.suffix.lower()
    try:
        with path.open('rb') as file:
            begin = file.read(16)
    except OSError:
        begin = b''
    found = next((kind for magic, kind in _BEGIN.items() if begin.startswith(magic)), '')
    return found or (suffix if suffix in _BEGIN.values() else '')
