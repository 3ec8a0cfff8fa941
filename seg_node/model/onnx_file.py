"""
What an ONNX file says of files beside it, read without the onnx package.

A tensor may keep its data in another file, which no checksum of this one covers: exchanged weights
would load. Only the way down to the tensors is walked (protobuf's wire format, field numbers of
onnx.proto); everything else is stepped over.
"""

from collections.abc import Iterator

# The fields of each message that lead to a tensor, and what they hold.
CHILDREN: dict[str, dict[int, str]] = {
    'ModelProto': {7: 'GraphProto', 20: 'TrainingInfoProto', 25: 'FunctionProto'},
    'GraphProto': {1: 'NodeProto', 5: 'TensorProto', 15: 'SparseTensorProto'},
    'NodeProto': {5: 'AttributeProto'},
    'AttributeProto': {5: 'TensorProto', 6: 'GraphProto', 10: 'TensorProto', 11: 'GraphProto',
                       22: 'SparseTensorProto', 23: 'SparseTensorProto'},
    'SparseTensorProto': {1: 'TensorProto', 2: 'TensorProto'},
    'FunctionProto': {7: 'NodeProto', 11: 'AttributeProto'},
    'TrainingInfoProto': {1: 'GraphProto', 2: 'GraphProto'},
}
#: Of TensorProto: where its data lies (key and value pairs), and whether elsewhere (1).
EXTERNAL_DATA, DATA_LOCATION, _EXTERNAL = 13, 14, 1
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}  # length of each wire type


def external_files(data: bytes) -> list[str]:
    """
    Return the names of the files that a model's tensors lie in; none if it is whole.

    :param data: an ONNX file.
    :raises ValueError: it is none.
    """
    names: set[str] = set()
    elsewhere = False
    front = [('ModelProto', 0, len(data))]
    while front:
        message, start, end = front.pop()
        children = CHILDREN.get(message, {})
        for number, wire, low, high in _fields(data, start, end):
            if number in children and wire == _BYTES:
                front.append((children[number], low, high))
            elif message == 'TensorProto' and number == EXTERNAL_DATA:
                key, value = _pair(data, low, high)
                if key == 'location':
                    names.add(value)
            elif message == 'TensorProto' and number == DATA_LOCATION and wire == _VARINT:
                elsewhere = elsewhere or low == _EXTERNAL
    return sorted(names) or ['another file'] * elsewhere


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, and where each field lies; of a varint its value comes first."""
    place = start
    while place < end:
        tag, place = _varint(data, place, end)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            low, place = _varint(data, place, end)
        elif wire == _BYTES:
            length, low = _varint(data, place, end)
            place = low + length
        elif wire in _FIXED:
            low, place = place, place + _FIXED[wire]
        else:
            raise ValueError(f'byte {place} begins no field of a protobuf message')
        if place > end or not number:
            raise ValueError(f'the field before byte {place} does not fit into its message')
        yield number, wire, low, place


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    value = shift = 0
    while place < end and shift < 64:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError(f'the number before byte {place} has no end')


def _pair(data: bytes, start: int, end: int) -> tuple[str, str]:
    """Return key and value of a StringStringEntryProto."""
    parts = {number: data[low:high].decode('utf-8', 'replace')
             for number, wire, low, high in _fields(data, start, end) if wire == _BYTES}
    return parts.get(1, ''), parts.get(2, '')
