"""The hand-written CDR against the real message classes, and against bytes that are no message."""

import struct
import sys
import tracemalloc

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from seg_node.errors import FrameError
from seg_node.image.wire import (
    build_compressed_image,
    build_image,
    CompressedImageMessage,
    Header,
    ImageMessage,
    parse_compressed_image,
    parse_image,
)

HEADER = Header(-7, 999_999_999, 'front_camera')
FRAME_IDS = ['abcdefghi'[:length] for length in range(10)] + ['kamera_vorne_ä']
PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.fixture(scope='module')
def ros():
    """Return rclpy's serialization and the real message classes."""
    serialization = pytest.importorskip('rclpy.serialization', reason='ROS 2 is not installed')
    messages = pytest.importorskip('sensor_msgs.msg', reason='sensor_msgs is not installed')

    class Ros:
        serialize = staticmethod(serialization.serialize_message)
        deserialize = staticmethod(serialization.deserialize_message)
        Image = messages.Image
        CompressedImage = messages.CompressedImage

        @staticmethod
        def fill_header(message, frame_id):
            message.header.stamp.sec = HEADER.sec
            message.header.stamp.nanosec = HEADER.nanosec
            message.header.frame_id = frame_id

        @classmethod
        def image(cls, frame_id, encoding):
            message = cls.Image(height=4, width=6, encoding=encoding, step=18, is_bigendian=1)
            cls.fill_header(message, frame_id)
            message.data.frombytes(PIXELS.tobytes())
            return message

        @classmethod
        def compressed(cls, frame_id, format_, data):
            message = cls.CompressedImage(format=format_)
            cls.fill_header(message, frame_id)
            message.data.frombytes(data)
            return message

    return Ros


def swap_byte_order(cdr: bytes, compressed: bool = False) -> bytes:
    """Rewrite little endian CDR of a message as big endian."""
    message = parse_compressed_image(cdr) if compressed else parse_image(cdr)

    def padded(raw):
        return raw + bytes(-len(raw) % 4)

    def string(text):
        raw = text.encode() + b'\0'
        return struct.pack('>I', len(raw)) + raw

    raw = b'\0\0\0\0' + struct.pack('>iI', message.header.sec, message.header.nanosec)
    raw = padded(raw + string(message.header.frame_id))
    if compressed:
        raw = padded(raw + string(message.format))
    else:
        raw += struct.pack('>II', message.height, message.width) + string(message.encoding)
        raw = padded(raw + bytes([message.is_bigendian])) + struct.pack('>I', message.step)
    return raw + struct.pack('>I', message.data.size) + message.data.tobytes()


# --- against rclpy ---

@pytest.mark.parametrize('frame_id', FRAME_IDS)
@pytest.mark.parametrize('encoding', ['rgb8', 'bgra8', 'mono8', 'mono16', 'nv12', ''])
def test_parse_image_reads_what_rclpy_writes(ros, frame_id, encoding):
    message = ros.image(frame_id, encoding)
    parsed = parse_image(ros.serialize(message))
    assert parsed.header == Header(HEADER.sec, HEADER.nanosec, frame_id)
    assert (parsed.height, parsed.width, parsed.step) == (4, 6, 18)
    assert parsed.encoding == encoding
    assert parsed.is_bigendian is True
    assert parsed.data.tobytes() == message.data.tobytes()


@pytest.mark.parametrize('frame_id', FRAME_IDS)
@pytest.mark.parametrize('encoding', ['rgb8', 'bgra8', 'mono8', 'mono16', 'nv12', ''])
def test_rclpy_reads_what_build_image_writes(ros, frame_id, encoding):
    header = Header(HEADER.sec, HEADER.nanosec, frame_id)
    cdr = build_image(header, 4, 6, encoding, PIXELS, is_bigendian=True)
    assert type(cdr) is bytes
    assert ros.deserialize(cdr, ros.Image) == ros.image(frame_id, encoding)


@pytest.mark.parametrize('frame_id', FRAME_IDS)
@pytest.mark.parametrize('format_', ['', 'jpg', 'png', 'jpeg', 'bgr8; jpeg compressed bgr8'])
@pytest.mark.parametrize('data', [b'', b'a', b'abcde'])
def test_compressed_image_both_ways(ros, frame_id, format_, data):
    message = ros.compressed(frame_id, format_, data)
    parsed = parse_compressed_image(ros.serialize(message))
    assert parsed.header == Header(HEADER.sec, HEADER.nanosec, frame_id)
    assert (parsed.format, parsed.data.tobytes()) == (format_, data)
    built = build_compressed_image(parsed.header, format_, data)
    assert ros.deserialize(built, ros.CompressedImage) == message


# --- by itself ---

@pytest.mark.parametrize('frame_id', FRAME_IDS)
def test_big_endian_is_read(frame_id):
    little = build_image(Header(3, 4, frame_id), 4, 6, 'bgr8', PIXELS)
    big = swap_byte_order(little)
    assert big[4:8] == b'\0\0\0\3'
    for name in ('header', 'height', 'width', 'encoding', 'is_bigendian', 'step'):
        assert getattr(parse_image(big), name) == getattr(parse_image(little), name)
    np.testing.assert_array_equal(parse_image(big).data, PIXELS.reshape(-1))
    little = build_compressed_image(Header(3, 4, frame_id), 'png', b'12345')
    parsed = parse_compressed_image(swap_byte_order(little, compressed=True))
    assert (parsed.header.frame_id, parsed.format) == (frame_id, 'png')
    assert parsed.data.tobytes() == b'12345'


def test_pixels_are_a_read_only_view_that_keeps_the_bytes_alive():
    cdr = build_image(HEADER, 4, 6, 'bgr8', PIXELS)
    before = sys.getrefcount(cdr)
    data = parse_image(cdr).data
    assert np.shares_memory(data, np.frombuffer(cdr, np.uint8))
    assert sys.getrefcount(cdr) > before
    assert not data.flags.writeable
    del cdr
    np.testing.assert_array_equal(data, PIXELS.reshape(-1))


def test_stamp_ns():
    assert Header(2, 5, '').stamp_ns == 2_000_000_005
    assert HEADER.stamp_ns == -6_000_000_001


def test_a_megabyte_costs_one_copy_to_build_and_none_to_parse():
    image = np.zeros((1000, 1000), np.uint8)
    tracemalloc.start()
    try:
        cdr = build_image(HEADER, 1000, 1000, 'mono8', image)
        build_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        parse_image(cdr)
        parse_peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert 1_000_000 < build_peak < 1_100_000
    assert parse_peak < 10_000


@pytest.mark.parametrize('data', [PIXELS, PIXELS.reshape(-1), PIXELS.tobytes(),
                                  bytearray(PIXELS.tobytes()), memoryview(PIXELS.tobytes())])
def test_builder_takes_arrays_and_raw_bytes(data):
    parsed = parse_image(build_image(HEADER, 4, 6, 'bgr8', data, step=18))
    assert (parsed.height, parsed.width, parsed.step) == (4, 6, 18)
    np.testing.assert_array_equal(parsed.data, PIXELS.reshape(-1))


def test_builder_knows_the_step_of_arrays():
    assert parse_image(build_image(HEADER, 4, 6, 'bgr8', PIXELS)).step == 18
    assert parse_image(build_image(HEADER, 4, 6, 'mono8', PIXELS[..., 0].copy())).step == 6


@pytest.mark.parametrize(('data', 'step', 'says'), [
    (PIXELS[:, ::2], None, 'not contiguous'),
    (PIXELS[..., 0], None, 'not contiguous'),
    (PIXELS.transpose(1, 0, 2), None, 'not contiguous'),
    (PIXELS.astype(np.float32), None, 'float32'),
    (PIXELS.view(np.int8), None, 'int8'),
    (PIXELS[:3], None, 'not an image of 4 x 6'),
    (PIXELS[None], None, 'not an image of 4 x 6'),
    (PIXELS, 24, 'contradicts'),
    (PIXELS.reshape(-1), None, 'give their step'),
    (PIXELS.tobytes(), None, 'give their step'),
    (memoryview(PIXELS.tobytes())[::2], 6, 'not contiguous'),
])
def test_builder_refuses_arrays_that_do_not_fit(data, step, says):
    with pytest.raises(ValueError, match=says):
        build_image(HEADER, 4, 6, 'bgr8', data, step=step)


def test_builder_refuses_a_nul_in_a_string():
    with pytest.raises(ValueError, match='NUL'):
        build_image(Header(0, 0, 'a\0b'), 4, 6, 'bgr8', PIXELS)
    with pytest.raises(ValueError, match='NUL'):
        build_compressed_image(HEADER, 'jp\0', b'')


# --- bytes that are no message ---

def malformed(cdr: bytes, says: str | None, parse=parse_image) -> None:
    with pytest.raises(FrameError, match=says) as caught:
        parse(cdr)
    assert caught.value.reason == 'malformed'


def test_strings_are_checked():
    good = build_image(Header(0, 0, 'abc'), 4, 6, 'bgr8', PIXELS)
    assert good[12:20] == b'\4\0\0\0abc\0'
    malformed(good[:19] + b'd' + good[20:], 'NUL')
    malformed(good[:17] + b'\0' + good[18:], 'NUL')
    malformed(good[:16] + b'\xff' + good[17:], 'UTF-8')
    empty = good[:12] + bytes(4) + good[20:]  # a length of 0 for '', as some writers have it
    assert parse_image(empty).header.frame_id == ''
    assert parse_image(empty).encoding == 'bgr8'


@pytest.mark.parametrize('kind', [b'', b'\0', b'\0\1', b'\0\2\0\0', b'\0\3\0\0', b'\0\7\0\0',
                                  b'\1\0\0\0', b'\xff\xff\xff\xff'])
def test_other_encapsulations_are_refused(kind):
    body = build_image(HEADER, 4, 6, 'bgr8', PIXELS)[4:] if len(kind) == 4 else b''
    malformed(kind + body, 'CDR header')
    malformed(kind + body, 'CDR header', parse_compressed_image)


def test_trailing_bytes():
    good = build_image(HEADER, 4, 6, 'bgr8', PIXELS)
    assert parse_image(good + b'\0\0\0').data.size == PIXELS.size  # rounding up to 4 is usual
    malformed(good + bytes(4), '4 bytes follow')


def test_huge_lengths_allocate_nothing():
    good = build_image(HEADER, 4, 6, 'bgr8', PIXELS)
    claims = good[:-PIXELS.size - 4] + b'\xff\xff\xff\xff' + good[-PIXELS.size:]
    long_name = good[:12] + b'\xff\xff\xff\xff' + good[16:]
    tracemalloc.start()
    try:
        malformed(claims, 'data needs 4294967295 bytes')
        malformed(long_name, 'frame_id needs 4294967295 bytes')
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('big', [False, True])
def test_every_truncation_is_refused(big):
    image = build_image(HEADER, 4, 6, 'bgr8', PIXELS)
    compressed = build_compressed_image(HEADER, 'jpeg', b'abcdef')
    if big:
        image, compressed = swap_byte_order(image), swap_byte_order(compressed, compressed=True)
    for length in range(len(image)):
        malformed(image[:length], None)
    for length in range(len(compressed)):
        malformed(compressed[:length], None, parse_compressed_image)


def survives(cdr: bytes) -> int:
    """Return how many of the two parsers took ``cdr``; whatever they return is consistent."""
    taken = 0
    for parse in (parse_image, parse_compressed_image):
        try:
            message = parse(cdr)
        except FrameError as error:
            assert error.reason == 'malformed'
            continue
        taken += 1
        assert isinstance(message, ImageMessage | CompressedImageMessage)
        assert message.data.size <= len(cdr)
        assert message.data.dtype == np.uint8
        assert message.data.ndim == 1
    return taken


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b'', b'\0\0\0\0', b'\0\1\0\0']), st.binary(max_size=200))
def test_random_bytes(start, rest):
    survives(start + rest)


def test_every_flipped_bit():
    """Flip each bit of both messages; flips in the values are taken, in lengths refused."""
    taken = refused = 0
    for cdr in (build_image(HEADER, 4, 6, 'bgr8', PIXELS),
                build_compressed_image(HEADER, 'jpeg', b'abcdef')):
        for bit in range(8 * len(cdr)):
            flipped = bytearray(cdr)
            flipped[bit // 8] ^= 1 << bit % 8
            if survives(bytes(flipped)):
                taken += 1
            else:
                refused += 1
    assert taken > 500
    assert refused > 100


@settings(max_examples=300, deadline=None)
@given(st.integers(-2**31, 2**31 - 1), st.integers(0, 2**32 - 1),
       st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=20),
       st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=20),
       st.tuples(*[st.integers(0, 2**32 - 1)] * 3), st.booleans(), st.binary(max_size=50))
def test_whatever_is_built_is_parsed(sec, nanosec, frame_id, encoding, sizes, big, data):
    height, width, step = sizes
    header = Header(sec, nanosec, frame_id)
    message = parse_image(build_image(header, height, width, encoding, data, step=step,
                                      is_bigendian=big))
    assert message.header == header
    assert (message.height, message.width, message.step) == sizes
    assert (message.encoding, message.is_bigendian) == (encoding, big)
    assert message.data.tobytes() == data
    message = parse_compressed_image(build_compressed_image(header, encoding, data))
    assert (message.header, message.format) == (header, encoding)
    assert message.data.tobytes() == data
