"""JPEG and PNG messages: whole ones are decoded, anything else is refused before decoding."""

from collections import Counter
import struct
import zlib

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from seg_node.errors import FrameError
from seg_node.image.decode import decode
from seg_node.image.wire import CompressedImageMessage, Header

RNG = np.random.default_rng(1)
SMOOTH = cv2.GaussianBlur(RNG.integers(0, 256, (48, 64, 3), np.uint8), (0, 0), 2)


def compressed(data, form='jpeg'):
    data = np.frombuffer(bytes(data), np.uint8)
    return CompressedImageMessage(Header(1, 2, 'camera'), form, data)


def refused(picture, reason, says=None):
    with pytest.raises(FrameError, match=says) as caught:
        decode(picture)
    assert caught.value.reason == reason


def file_of(suffix, image, *parameters):
    return cv2.imencode(suffix, image, parameters)[1].tobytes()


JPEG = file_of('.jpg', SMOOTH)
PNG = file_of('.png', SMOOTH)
FORMATS = ['', 'jpeg', 'png', 'jpg', 'JPEG', 'bgr8; jpeg compressed bgr8',
           'rgb8; png compressed bgr8', 'mono8; jpeg compressed mono8', 'mono8; png compressed ',
           'mono16; png compressed ', 'bayer_rggb8; jpeg compressed bgr8', 'mjpeg', 'MJPG', 'bgr8',
           'bgr8; tiff compressed ', 'h264', 'x' * 10_000]


@pytest.mark.parametrize('form', FORMATS)
def test_the_bytes_decide_not_the_format(form):
    np.testing.assert_array_equal(decode(compressed(PNG, form)), SMOOTH)
    assert np.abs(decode(compressed(JPEG, form)).astype(int) - SMOOTH).mean() < 3


@pytest.mark.parametrize('form', ['16UC1; compressedDepth png', '32FC1; compressedDepth rvl',
                                  '16UC1; png compressed ', 'bayer_rggb8; png compressed ',
                                  pytest.param('32FC1; compressedDepth' + 'x' * 9999, id='long')])
def test_formats_that_hold_depths_or_a_mosaic_are_refused(form):
    with pytest.raises(FrameError, match='publish') as caught:
        decode(compressed(PNG, form))
    assert caught.value.reason == 'format'
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize('data', [b'II*\0' + bytes(50), b'BM' + bytes(60), b'GIF89a' + bytes(20),
                                  file_of('.bmp', SMOOTH), file_of('.webp', SMOOTH), bytes(3)])
def test_other_files_are_refused(data):
    refused(compressed(data), 'format', 'neither JPEG nor PNG')


def test_depth_and_channels_of_png():
    grey16 = RNG.integers(0, 2**16, (20, 30), np.uint16)
    expected = np.dstack([np.rint(grey16 / 257).astype(np.uint8)] * 3)
    np.testing.assert_array_equal(decode(compressed(file_of('.png', grey16))), expected)
    colour16 = RNG.integers(0, 2**16, (20, 30, 3), np.uint16)
    np.testing.assert_array_equal(decode(compressed(file_of('.png', colour16))),
                                  np.rint(colour16 / 257).astype(np.uint8))
    alpha = RNG.integers(0, 256, (20, 30, 4), np.uint8)
    np.testing.assert_array_equal(decode(compressed(file_of('.png', alpha))), alpha[..., :3])
    grey = file_of('.png', SMOOTH[..., 0])
    np.testing.assert_array_equal(decode(compressed(grey)), np.dstack([SMOOTH[..., 0]] * 3))


def test_grey_jpeg():
    image = decode(compressed(file_of('.jpg', SMOOTH[..., 0])))
    assert image.shape == SMOOTH.shape
    assert (image == image[..., :1]).all()


@pytest.mark.parametrize('parameters', [
    (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    (cv2.IMWRITE_JPEG_RST_INTERVAL, 5)])
def test_kinds_of_jpeg_and_each_truncation(parameters):
    data = file_of('.jpg', SMOOTH, *parameters)
    np.testing.assert_array_equal(decode(compressed(data)),
                                  cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    for length in range(len(data)):
        refused(compressed(data[:length]), 'truncated')


def jpeg_segments(data):
    """Return (marker, bytes) of each segment before the scan, and the scan with all after it."""
    place, segments = 2, []
    while data[place + 1] != 0xDA:
        end = place + 2 + struct.unpack('>H', data[place + 2:place + 4])[0]
        segments.append((data[place + 1], data[place:end]))
        place = end
    return segments, data[place:]


def with_app1(data, payload):
    return data[:2] + b'\xff\xe1' + struct.pack('>H', len(payload) + 2) + payload + data[2:]


def test_motion_jpeg_without_huffman_tables():
    """USB cameras leave out the standard tables."""
    segments, scan = jpeg_segments(JPEG)
    bare = JPEG[:2] + b''.join(raw for code, raw in segments if code != 0xC4) + scan
    assert len(bare) < len(JPEG)
    np.testing.assert_array_equal(decode(compressed(bare)), decode(compressed(JPEG)))


@pytest.mark.parametrize('padding', [bytes(1), bytes(5000), b'\xff' * 100, JPEG[:300]])
def test_bytes_after_the_end_of_a_jpeg(padding):
    np.testing.assert_array_equal(decode(compressed(JPEG + padding)), decode(compressed(JPEG)))


@pytest.mark.parametrize('padding', [bytes(1), bytes(5000), b'\xff' * 100, JPEG])
def test_padding_does_not_hide_a_truncation(padding):
    refused(compressed(JPEG[:len(JPEG) // 2] + padding), 'truncated')


def test_thumbnail_does_not_hide_a_truncation():
    data = with_app1(JPEG, b'Exif\0\0' + JPEG[:20] + b'\xff\xd9')
    np.testing.assert_array_equal(decode(compressed(data)), decode(compressed(JPEG)))
    refused(compressed(data[:len(data) // 2]), 'truncated')


def test_a_hole_between_restart_markers_is_found():
    data = file_of('.jpg', SMOOTH, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
    hole = data[:data.index(b'\xff\xd1')] + data[data.index(b'\xff\xd3'):]
    refused(compressed(hole), 'corrupt', 'a piece is missing')


def test_exif_orientation_is_ignored():
    rotate = b'Exif\0\0MM\0*\0\0\0\x08' + struct.pack('>HHHIHHI', 1, 0x112, 3, 1, 6, 0, 0)
    data = with_app1(JPEG, rotate)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (64, 48, 3)
    np.testing.assert_array_equal(decode(compressed(data)), decode(compressed(JPEG)))


def test_each_truncation_of_a_png():
    small = file_of('.png', SMOOTH[:10, :10])
    for length in range(len(small)):
        refused(compressed(small[:length]), 'truncated')
    image = decode(compressed(small + bytes(100)))
    np.testing.assert_array_equal(image, SMOOTH[:10, :10])


def png_of(*chunks):
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
        for kind, body in chunks)


def ihdr(width, height):
    return b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)


@pytest.mark.parametrize('size', [(60000, 60000), (16385, 1), (0, 10), (16384, 16384)])
def test_size_is_known_before_decoding(size):
    rows = (b'IDAT', zlib.compress(b''))
    refused(compressed(png_of(ihdr(*size), rows, (b'IEND', b''))), 'size')
    place = JPEG.index(b'\xff\xc0') + 5
    claim = JPEG[:place] + struct.pack('>HH', *size) + JPEG[place + 4:]
    refused(compressed(claim), 'size')


@pytest.mark.parametrize('chunks', [
    [(b'IEND', b'')],
    [(b'IDAT', b''), (b'IEND', b'')],
    [(b'IHDR', b'short'), (b'IEND', b'')],
    [ihdr(8, 8), (b'IEND', b'')],
    [ihdr(8, 8), (b'IDAT', zlib.compress(bytes(10))), (b'IEND', b'')],
    [ihdr(8, 8)] + [(b'tEXt', b'')] * 70000])
def test_broken_png_is_refused(chunks):
    refused(compressed(png_of(*chunks)), 'corrupt')


@pytest.mark.parametrize('data', [
    b'\xff\xd8\xff\xd9', b'\xff\xd8' + b'\xff\xe0\0\2' * 5000 + b'\xff\xd9',
    b'\xff\xd8\xff\xda\0\2\xff\xd9', JPEG[:2] + JPEG[JPEG.index(b'\xff\xda'):]])
def test_broken_jpeg_is_refused(data):
    refused(compressed(data), 'corrupt')


def test_jpeg_of_headers_alone_is_refused():
    headers = JPEG[:JPEG.index(b'\xff\xda')] + b'\xff\xd9'
    refused(compressed(headers), 'corrupt', 'ends without a picture')


def test_empty_is_refused():
    refused(compressed(b''), 'truncated', 'empty')


def test_refusing_prints_nothing(capfd):
    """A camera with a bad cable would fill the log from inside libjpeg and libpng."""
    flipped = bytearray(PNG)
    flipped[len(PNG) // 2] ^= 4
    for data in (JPEG[:-300], JPEG[:-300] + bytes(500), PNG[:-300], bytes(flipped), b'',
                 b'\xff\xd8\xff\xd9', png_of(ihdr(60000, 60000), (b'IEND', b''))):
        with pytest.raises(FrameError):
            decode(compressed(data))
    assert capfd.readouterr() == ('', '')


def test_real_camera_jpegs(data_dir):
    files = sorted(data_dir.glob('data/camvid/*/images/*.jpg'))[:3]
    assert files, f'{data_dir} has no data/camvid/*/images/*.jpg'
    for file in files:
        raw = file.read_bytes()
        np.testing.assert_array_equal(decode(compressed(raw)), cv2.imread(str(file)))
        for length in RNG.integers(0, len(raw), 20).tolist():
            refused(compressed(raw[:length]), 'truncated')


def test_arbitrary_files_are_decoded_or_refused():
    seen = Counter()
    files = [JPEG, PNG, file_of('.jpg', SMOOTH, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)]

    @settings(max_examples=500, deadline=None, database=None)
    @given(st.sampled_from(files), st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6)),
                                            max_size=4), st.sampled_from(FORMATS))
    def check(file, changes, form):
        changed = bytearray(file)
        for place, piece in changes:
            start = int(place * len(file))
            changed[start:start + len(piece)] = piece
        try:
            image = decode(compressed(changed, form))
        except FrameError as error:
            seen[error.reason] += 1
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
            seen[''] += 1

    check()
    assert seen[''] > 20
    assert seen['corrupt'] > 20
