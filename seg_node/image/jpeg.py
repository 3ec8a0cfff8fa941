"""
How a JPEG file is made up, and the same file without what no decoder needs.

Refused here: what is cut short, has a second frame header, is of a kind that cameras do not send,
or has far too few bytes for its size. Taken out or mended here, because strict decoding would
stumble over it although every viewer shows the picture: bytes between segments and behind the end,
colour profiles, and three header fields that some encoders write wrongly.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import FrameError

Bytes = NDArray[np.uint8]

# A picture has a dozen segments, a progressive one some dozens; each scan is a pass over it all.
_MAX_SEGMENTS, _MAX_SCANS = 4096, 128

_SOI, _EOI, _SOS, _DHT, _DQT, _DRI = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD
_APP0, _APP2, _ADOBE = 0xE0, 0xE2, 0xEE
_RST = range(0xD0, 0xD8)
_ALONE = (0x01, *_RST)  # markers that no length follows
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_ARITHMETIC = (0xC9, 0xCA)
_KINDS = {0xC3: 'lossless', 0xC5: 'hierarchical', 0xC6: 'hierarchical', 0xC7: 'hierarchical',
          0xCB: 'lossless', 0xCD: 'hierarchical', 0xCE: 'hierarchical', 0xCF: 'hierarchical'}


@dataclass(frozen=True, slots=True)
class Component:
    """A colour component: samples a MCU in each direction, and its tables by their numbers."""

    id: int
    across: int
    down: int
    quantisation: int


@dataclass(slots=True)
class Jpeg:
    """
    What the headers of a JPEG say.

    :ivar file: the bytes that a decoder needs, a view of the whole or a copy without the rest.
    :ivar coding: code of the frame header's marker, 0xC0 = baseline.
    :ivar scans: where in ``file`` the header of each scan and its data begin and end.
    :ivar definitions: payloads of the segments that define Huffman and quantisation tables.
    :ivar restart: MCUs between two restart markers; 0 = there are none.
    """

    file: Bytes
    height: int = 0
    width: int = 0
    coding: int = 0
    components: tuple[Component, ...] = ()
    scans: list[tuple[int, int, int]] = field(default_factory=list)
    definitions: list[tuple[int, bytes]] = field(default_factory=list)
    restart: int = 0

    @property
    def mcu(self) -> tuple[int, int]:
        """Height and width in pixels of what is coded together (of one component: a block)."""
        if len(self.components) == 1:
            return 8, 8
        return (8 * max(component.down for component in self.components),
                8 * max(component.across for component in self.components))

    @property
    def mcus(self) -> int:
        """How many there are."""
        height, width = self.mcu
        return -(-self.height // height) * -(-self.width // width)

    @property
    def simple(self) -> bool:
        """Whether it is coded in one pass: sequential, Huffman, all components in one scan."""
        return (self.coding in (_BASELINE, _EXTENDED) and len(self.scans) == 1
                and int(self.file[self.scans[0][0] + 4]) == len(self.components))

    def huffman_tables(self) -> dict[int, tuple[bytes, bytes]]:
        """Return by class and number (16 = the first for AC) the 16 counts and the values."""
        found = {}
        for code, payload in self.definitions:
            while code == _DHT and len(payload) >= 17:
                stop = 17 + sum(payload[1:17])
                found[payload[0]] = payload[1:17], payload[17:stop]
                payload = payload[stop:]
        return found

    def dc_steps(self) -> dict[int, int]:
        """Return the quantisation step of the DC coefficient by the table's number."""
        found = {}
        for code, payload in self.definitions:
            while code == _DQT and len(payload) >= 65:
                wide, number = divmod(payload[0], 16)
                found[number] = int.from_bytes(payload[1:3], 'big') if wide else payload[1]
                payload = payload[129 if wide else 65:]
        return found

    def check_amount(self) -> None:
        """
        Refuse a file that cannot hold its picture, for which decoders would paint it all the same.

        :raises FrameError: ``'truncated'``.
        """
        held = sum(end - start for _, start, end in self.scans)
        least = self.mcus * len(self.components) // 8  # a bit a block
        if held < least and self.coding not in _ARITHMETIC:
            raise FrameError('truncated', f'the JPEG says {self.width} x {self.height} pixels, '
                             f'which need {least} bytes or more, but its scans have {held}')


def read_structure(data: Bytes) -> Jpeg:
    """
    Return what a JPEG file says of itself after a look at its whole structure.

    :param data: the file, 1-D uint8; bytes after its end (padding) are ignored.
    :raises FrameError: ``'truncated'`` when its end or most of its data is missing, ``'corrupt'``
        when its structure is broken, ``'format'`` for a kind of JPEG that is not decoded.
    """
    reader = _Reader(data)
    reader.run()
    return reader.finished()


class _Reader:
    """A walk from marker to marker; keeps what a decoder needs."""

    def __init__(self, data: Bytes) -> None:
        self._data = data
        self._bytes = data.data  # quicker to index
        self._at, self._codes = _markers(data)
        self._not_restart = np.flatnonzero((self._codes & 0xF8) != _RST[0])
        self._kept: list[tuple[int, int]] = [(0, 2)]
        self._mended: list[tuple[int, int]] = []
        self._adobe = 0
        self._scans: list[tuple[int, int, int]] = []
        self._jpeg = Jpeg(data)

    def run(self) -> None:
        index = 1  # the first marker is the SOI
        for _ in range(_MAX_SEGMENTS):
            if index >= len(self._at):
                raise FrameError('truncated', f'the JPEG of {self._data.size} bytes has no end '
                                 '(EOI marker); the camera or the network cut it short')
            code, place = int(self._codes[index]), int(self._at[index])
            if code == _EOI:
                self._kept.append((place, place + 2))
                return
            if code == _SOI:
                raise FrameError('truncated', f'a second JPEG starts at byte {place}, before the '
                                              'first has ended')
            if code in _ALONE:
                index += 1
                continue
            end = place + 2 + self._uint16(place + 2)
            if end > self._data.size:
                raise self._cut_in_header()
            self._read(code, place, end)
            index += 1
            if index < len(self._at) and self._at[index] != end:  # something lies between
                index = int(np.searchsorted(self._at, end))
            if code == _SOS:
                index, end = self._scan(index, place, end)
            if code != _APP2:
                self._kept.append((place, end))
        raise FrameError('corrupt', f'the JPEG has more than {_MAX_SEGMENTS} segments')

    def finished(self) -> Jpeg:
        """Return the result after the checks of the whole."""
        jpeg = self._jpeg
        if not jpeg.components or not self._scans:
            raise FrameError('corrupt', 'the JPEG ends without a picture (no frame header or no '
                                        'scan)')
        if self._adobe and self._bytes[self._adobe] > 2:
            # What decoders take unknown transforms for.
            self._mended.append((self._adobe, 1 if len(jpeg.components) == 3 else 2))
        data = self._data
        if self._mended:
            data = data.copy()
            for place, value in self._mended:
                data[place] = value
        joined = all(a[1] == b[0] for a, b in zip(self._kept, self._kept[1:], strict=False))
        if joined:
            jpeg.file, jpeg.scans = data[:self._kept[-1][1]], self._scans
            return jpeg
        jpeg.file = np.concatenate([data[start:end] for start, end in self._kept])
        starts = np.array([start for start, _ in self._kept])
        lengths = [end - start for start, end in self._kept]
        moved = np.concatenate([[0], np.cumsum(lengths)[:-1]]) - starts
        for place, start, end in self._scans:
            by = int(moved[np.searchsorted(starts, place)])
            jpeg.scans.append((place + by, start + by, end + by))
        return jpeg

    def _read(self, code: int, place: int, end: int) -> None:
        """Take from a segment what is needed of it."""
        if code in _SOF:
            self._frame(code, place, end)
        elif code in (_DHT, _DQT):
            self._jpeg.definitions.append((code, bytes(self._bytes[place + 4:end])))
        elif code == _DRI and end >= place + 6:
            self._jpeg.restart = self._uint16(place + 4)
        elif code == _APP0 and end - place >= 16 and self._is(place + 4, b'JFIF\0'):
            if self._bytes[place + 9] != 1:  # its major version
                self._mended.append((place + 9, 1))
        elif code == _ADOBE and end - place >= 16 and self._is(place + 4, b'Adobe'):
            self._adobe = place + 15
        elif code == _SOS:
            self._scan_header(place, end)

    def _frame(self, code: int, place: int, end: int) -> None:
        if self._jpeg.components:
            late = ' behind the picture' if self._scans else ''
            raise FrameError('corrupt', f'the JPEG has a second frame header{late}, at byte '
                                        f'{place}: two pictures were mixed up')
        if code in _KINDS:
            raise FrameError('format', f'the JPEG is {_KINDS[code]}; publish baseline JPEG or PNG')
        count = self._bytes[place + 9] if end >= place + 10 else 0
        if count == 0 or end != place + 10 + 3 * count:
            raise FrameError('corrupt', f'the frame header at byte {place} is broken')
        if (bits := self._bytes[place + 4]) != 8:
            raise FrameError('format', f'the JPEG has {bits} bits a colour; publish 8-bit JPEG, '
                                       'or PNG')
        if count not in (1, 3, 4):
            raise FrameError('format', f'the JPEG has {count} colour components; publish grey or '
                                       'colour')
        jpeg = self._jpeg
        jpeg.coding, jpeg.height, jpeg.width = (code, self._uint16(place + 5),
                                                self._uint16(place + 7))
        jpeg.components = tuple(
            Component(self._bytes[at], self._bytes[at + 1] >> 4, self._bytes[at + 1] & 15,
                      self._bytes[at + 2]) for at in range(place + 10, end, 3))
        if not all(1 <= side <= 4 for component in jpeg.components
                   for side in (component.across, component.down)):
            raise FrameError('corrupt', f'the frame header at byte {place} has samplings that '
                                        'JPEG does not know')

    def _scan_header(self, place: int, end: int) -> None:
        if not self._jpeg.components:
            raise FrameError('corrupt', f'the JPEG has a scan at byte {place}, before its frame '
                                        'header')
        if len(self._scans) == _MAX_SCANS:
            raise FrameError('corrupt', f'the JPEG has more than {_MAX_SCANS} scans')
        count = self._bytes[place + 4] if end > place + 4 else 0
        if not 1 <= count <= 4 or end != place + 8 + 2 * count:
            raise FrameError('corrupt', f'the scan header at byte {place} is broken')
        if self._jpeg.coding in (_BASELINE, _EXTENDED):
            # Of sequential JPEG they are these; encoders that write zeros are known.
            self._mended += [(end - 3 + n, value) for n, value in enumerate((0, 63, 0))
                             if self._bytes[end - 3 + n] != value]

    def _scan(self, index: int, place: int, start: int) -> tuple[int, int]:
        """Return the index of the marker that ends a scan, and where the scan ends."""
        index = _skip_restarts(self._codes, index, self._not_restart)
        end = int(self._at[index]) if index < len(self._at) else self._data.size
        self._scans.append((place, start, end))
        return index, end

    def _uint16(self, place: int) -> int:
        if place + 2 > self._data.size:
            raise self._cut_in_header()
        return self._bytes[place] << 8 | self._bytes[place + 1]

    def _is(self, place: int, text: bytes) -> bool:
        return self._bytes[place:place + len(text)] == text

    def _cut_in_header(self) -> FrameError:
        return FrameError('truncated', f'the JPEG of {self._data.size} bytes ends inside a header')


def segments(data: Bytes, code: int) -> list[Bytes]:
    """Return the payloads of the header segments of one kind before the picture begins."""
    at, codes = _markers(data)
    found, index = [], 1
    while index < len(at) and codes[index] not in (_SOS, _EOI):
        place = int(at[index])
        length = int(data[place + 2]) << 8 | int(data[place + 3]) if place + 4 <= data.size else 2
        if codes[index] == code:
            found.append(data[place + 4:place + 2 + length])
        index = max(index + 1, int(np.searchsorted(at, place + 2 + length)))
    return found


def _markers(data: Bytes) -> tuple[NDArray[np.intp], Bytes]:
    """Return place and code of every marker (0xFF and a code; 0xFF00 is a data byte 0xFF)."""
    at = np.flatnonzero(data[:-1] == 0xFF)
    codes = data[at + 1]
    real = (codes != 0x00) & (codes != 0xFF)
    return at[real], codes[real]


def _skip_restarts(codes: Bytes, index: int, not_restart: NDArray[np.intp]) -> int:
    """
    Return the index of the first marker that ends the scan begun before ``index``.

    Restart markers count 0..7 round and round; a gap means that a part of the picture was lost
    on the way, which a decoder would paint over.
    """
    following = not_restart[np.searchsorted(not_restart, index):]
    end = int(following[0]) if following.size else len(codes)
    restarts = codes[index:end] - _RST[0]
    if np.any(restarts != np.arange(restarts.size) % 8):
        raise FrameError('corrupt', 'a piece is missing inside the JPEG (restart markers out of '
                                    'order)')
    return end
