"""
Reads the codes of a baseline JPEG's scan without making pixels of them.

Decoders are content when all blocks are filled. Whether bytes that are left over before the end
marker are a camera's filler or the rest of a picture of which a piece was lost, only the codes
tell: in a whole scan no block runs over its 64 coefficients, no DC value is beyond black and
white, and the last code is followed by less than a byte of ones.
"""

from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ..jit import inner, njit
from .jpeg import Component, Jpeg

_ROW_LENGTH = 65536
# ITU T.81, K.3 to K.6: what a file without tables (motion JPEG) means, by class and number.
_DC = '00010501010101010100000000000000', '00030101010101010101010000000000'
_AC = '0002010303020403050504040000017d', '00020102040403040705040400010277'
_LUMA_AC = (
    '01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a16'
    '1718191a25262728292a3435363738393a434445464748494a535455565758595a63646566676869'
    '6a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6'
    'b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8'
    'f9fa')
_CHROMA_AC = (
    '000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434'
    'e125f11718191a262728292a35363738393a434445464748494a535455565758595a636465666768'
    '696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4'
    'b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8'
    'f9fa')


STANDARD: dict[int, tuple[bytes, bytes]] = {
    0x00: (bytes.fromhex(_DC[0]), bytes(range(12))),
    0x01: (bytes.fromhex(_DC[1]), bytes(range(12))),
    0x10: (bytes.fromhex(_AC[0]), bytes.fromhex(_LUMA_AC)),
    0x11: (bytes.fromhex(_AC[1]), bytes.fromhex(_CHROMA_AC))}

# How far beyond black and white a DC value may be: encoders round, and some overshoot on purpose.
_DC_LIMIT, _DC_SLACK = 1024, 256
WHOLE, BROKEN_CODE, ENDS_EARLY, OVERRUN, BEYOND_WHITE, TOO_LARGE, NOT_PADDED = range(7)
WORDS = {BROKEN_CODE: 'holds a code that no table knows', ENDS_EARLY: 'ends early',
         OVERRUN: 'holds a block of more than 64 coefficients',
         BEYOND_WHITE: 'holds a block that is whiter than white or blacker than black',
         TOO_LARGE: 'holds a coefficient that no picture has',
         NOT_PADDED: 'has picture data left over at its end'}


def examine(jpeg: Jpeg) -> int:
    """
    Return ``WHOLE``, or what shows that a piece of the scan is missing or was changed.

    :param jpeg: one that is ``simple``; any bytes may be between its codes and the next marker.
    """
    header, start, end = jpeg.scans[0]
    tables, dc_steps = STANDARD | jpeg.huffman_tables(), jpeg.dc_steps()
    chosen = {int(jpeg.file[at]): divmod(int(jpeg.file[at + 1]), 16)
              for at in range(header + 5, header + 5 + 2 * len(jpeg.components), 2)}
    dc, ac = (np.zeros((len(jpeg.components), _ROW_LENGTH), np.uint16) for _ in range(2))
    for row, component in enumerate(jpeg.components):
        numbers = chosen.get(component.id)
        if numbers is None or not {numbers[0], 16 + numbers[1]} <= tables.keys():
            return BROKEN_CODE
        dc[row], ac[row] = _look_ups(*tables[numbers[0]]), _look_ups(*tables[16 + numbers[1]])
    steps = np.array([dc_steps.get(component.quantisation, 1)
                      for component in jpeg.components], np.int64)
    return int(_walk(jpeg.file, start, end, dc, ac, _blocks(jpeg.components), steps, jpeg.mcus,
                     jpeg.restart))


def has_run_of_zeros(jpeg: Jpeg, length: int = 16) -> bool:
    """
    Return whether so many bytes of a scan are zero although its tables make that no picture.

    Zeros stand for the first code of a table. Where that is a coefficient and not the end of a
    block, they are a block of 42 and more equal ones: a piece that was overwritten.

    :param jpeg: one that is ``simple``, without restart markers. Zeros at its end are filler.
    """
    header, start, end = jpeg.scans[0]
    table = (STANDARD | jpeg.huffman_tables()).get(16 + int(jpeg.file[header + 6]) % 16)
    if table is None or not table[1] or table[1][0] % 16 == 0:
        return False
    return bytes(length) in jpeg.file[start:end].tobytes().rstrip(b'\0')


def _blocks(components: tuple[Component, ...]) -> NDArray[np.int64]:
    """Return the component of each block of a MCU."""
    if len(components) == 1:
        return np.zeros(1, np.int64)
    return np.repeat(np.arange(len(components)), [c.across * c.down for c in components])


def _look_ups(counts: bytes, values: bytes) -> NDArray[np.uint16]:
    """Return for every 16 bits length << 8 | value of the code they begin with; 0 = with none."""
    table = np.zeros(_ROW_LENGTH, np.uint16)
    start, rest = 0, iter(values)
    for length, count in enumerate(counts, 1):
        for value in islice(rest, count):
            stop = start + (1 << (16 - length))
            table[start:stop] = length << 8 | value
            start = stop
    return table


@njit()
def _walk(data, start, end, dc, ac, blocks, steps, mcus, restart):
    """Walk over the codes of a scan; return ``WHOLE`` or what is wrong."""
    place, held, bits = np.int64(start), np.uint64(0), np.int64(0)
    added = np.int64(0)  # bits beyond the end of a segment, zeros as decoders add them
    before = np.zeros(steps.size, np.int64)
    for mcu in range(mcus):
        if restart and mcu and mcu % restart == 0:
            verdict = _padding(held, bits, added)
            if verdict:
                return verdict
            place = _behind_restart(data, place, end)
            held, bits, added = np.uint64(0), np.int64(0), np.int64(0)
            before[:] = 0
        for component in blocks:
            k = 0
            while k < 64:
                place, held, bits, added = _refill(data, place, end, held, bits, added)
                code = np.int64((held >> np.uint64(bits - 16)) & np.uint64(0xFFFF))
                entry = np.int64(ac[component, code] if k else dc[component, code])
                length, value = entry >> 8, entry & 255
                if length == 0:
                    return BROKEN_CODE if bits - 16 >= added else ENDS_EARLY
                bits -= length
                size = value & 15 if k else value
                if k and size == 0:
                    if value != 0xF0:
                        break  # the end of the block
                    k += 16
                    if k > 64:
                        return OVERRUN
                    continue
                if k == 0 and size > 11 or k and size > 10:
                    return TOO_LARGE
                bits -= size
                if bits < added:
                    return ENDS_EARLY
                if k == 0:
                    if size:
                        before[component] += _number(held, bits, size)
                        step = steps[component]
                        if abs(before[component]) * step > _DC_LIMIT + _DC_SLACK + 2 * step:
                            return BEYOND_WHITE
                    k = 1
                else:
                    k += int(value >> 4) + 1
                    if k > 64:
                        return OVERRUN
            if bits < added:
                return ENDS_EARLY
    return _padding(held, bits, added)


@inner()
def _behind_restart(data, place, end):
    """Return where the codes go on behind the next restart marker."""
    while place + 1 < end and not (data[place] == 0xFF and 0xD0 <= data[place + 1] < 0xD8):
        place += 1
    return place + 2


@inner()
def _refill(data, place, end, held, bits, added):
    """Take bytes up to the next marker, then zeros, until more than 48 bits are at hand."""
    while bits <= 48:
        byte = np.uint64(0)
        if place < end and (data[place] != 0xFF or (place + 1 < end and data[place + 1] == 0)):
            byte = np.uint64(data[place])
            place += 2 if byte == 0xFF else 1
        else:
            added += 8
        held = (held << np.uint64(8)) | byte
        bits += 8
    return place, held, bits, added


@inner()
def _number(held, bits, size):
    """Return the signed number of so many bits that ends above the lowest ``bits``."""
    one = np.uint64(1)
    number = np.int64((held >> np.uint64(bits)) & ((one << np.uint64(size)) - one))
    return number - ((1 << size) - 1 if number < 1 << (size - 1) else 0)


@inner()
def _padding(held, bits, added):
    """Return whether the byte with the last code is filled up with ones."""
    rest = np.uint64((bits - added) % 8)
    ones = (np.uint64(1) << rest) - np.uint64(1)
    if (held >> (np.uint64(bits) - rest)) & ones != ones:
        return NOT_PADDED
    return WHOLE
