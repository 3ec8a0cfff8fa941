"""Known pictures in every encoding come back as BGR; what could be misread is refused."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from seg_node.errors import FrameError
from seg_node.image.decode import decode, ENCODINGS
from seg_node.image.wire import CompressedImageMessage, Header, ImageMessage

HEADER = Header(1, 2, 'camera')
RNG = np.random.default_rng(1)
NOISE = RNG.integers(0, 256, (12, 16, 3), np.uint8)

# (bytes per pixel in a row of each plane, rows of the plane per image row), written out once
# more here so that the table under test is not its own witness
PLANES = {'nv12': [(1, 1), (1, 0.5)], 'nv21': [(1, 1), (1, 0.5)], 'nv24': [(1, 1), (2, 1)]}
BYTES = {'bgr8': 3, 'rgb8': 3, 'bgra8': 4, 'rgba8': 4, 'mono8': 1, 'mono16': 2, 'bgr16': 6,
         'rgb16': 6, 'bgra16': 8, 'rgba16': 8, 'yuv422': 2, 'uyvy': 2, 'yuv422_yuy2': 2,
         'yuyv': 2} | {f'bayer_{p}{d}': d // 8
                       for p in ('rggb', 'bggr', 'gbrg', 'grbg') for d in (8, 16)}
WIDE = [name for name in BYTES if name.endswith('16')]


def planes_of(encoding):
    return PLANES.get(encoding) or [(BYTES[encoding], 1)]


def message(encoding, height, width, data, step=None, big=False):
    data = np.frombuffer(bytes(data), np.uint8)
    if step is None:
        step = planes_of(encoding)[0][0] * width
    return ImageMessage(HEADER, height, width, encoding, big, step, data)


def random_planes(encoding, height, width):
    return [RNG.integers(0, 256, (int(height * rows), pixel * width), np.uint8)
            for pixel, rows in planes_of(encoding)]


def refused(picture, reason, says=None):
    with pytest.raises(FrameError, match=says) as caught:
        decode(picture)
    assert caught.value.reason == reason


# --- colours ---

def test_every_encoding_is_known():
    assert set(ENCODINGS) == BYTES.keys() | PLANES.keys()


def test_bgr8_is_a_view():
    picture = message('bgr8', 12, 16, NOISE)
    image = decode(picture)
    np.testing.assert_array_equal(image, NOISE)
    assert np.shares_memory(image, picture.data)
    padded = np.zeros((12, 50), np.uint8)
    padded[:, :48] = NOISE.reshape(12, 48)
    picture = message('bgr8', 12, 16, padded, step=50)
    image = decode(picture)
    np.testing.assert_array_equal(image, NOISE)
    assert np.shares_memory(image, picture.data)
    assert image.strides == (50, 3, 1)


def in_16_bit(pixels):
    """Return values that come nearest to these 8-bit ones when scaled by 255 / 65535."""
    noise = RNG.integers(-128, 129, pixels.shape)
    return np.clip(pixels.astype(int) * 257 + noise, 0, 65535).astype(np.uint16)


ORDER = {'bgr': [0, 1, 2], 'rgb': [2, 1, 0], 'bgra': [0, 1, 2, 3], 'rgba': [2, 1, 0, 3]}


@pytest.mark.parametrize('order', ORDER)
def test_channel_orders(order):
    with_alpha = np.dstack([NOISE, NOISE[..., 0]])
    pixels = np.ascontiguousarray(with_alpha[..., ORDER[order]])
    np.testing.assert_array_equal(decode(message(f'{order}8', 12, 16, pixels)), NOISE)
    wide = in_16_bit(pixels)
    little = message(f'{order}16', 12, 16, wide.astype('<u2').tobytes())
    np.testing.assert_array_equal(decode(little), NOISE)
    big = message(f'{order}16', 12, 16, wide.astype('>u2').tobytes(), big=True)
    np.testing.assert_array_equal(decode(big), NOISE)


@pytest.mark.parametrize(('encoding', 'kind', 'big'), [
    ('mono8', 'u1', False), ('mono8', 'u1', True), ('mono16', '<u2', False),
    ('mono16', '>u2', True)])
def test_grey_has_three_equal_channels(encoding, kind, big):
    grey = NOISE[..., 0]
    raw = grey if encoding == 'mono8' else in_16_bit(grey)
    image = decode(message(encoding, 12, 16, raw.astype(kind).tobytes(), big=big))
    np.testing.assert_array_equal(image, np.dstack([grey] * 3))


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize(('kind', 'big'), [('u1', False), ('<u2', False), ('>u2', True)])
@pytest.mark.parametrize('size', [(12, 16), (13, 17)])
def test_bayer_gives_the_colours_of_the_scene(pattern, kind, big, size):
    """A scene that is one colour left and another right, seen through each mosaic."""
    scene = np.zeros((*size, 3), np.uint8)
    scene[:, :8], scene[:, 8:] = (50, 100, 200), (220, 30, 90)  # B, G, R
    rows, columns = np.mgrid[:size[0], :size[1]]
    channel = np.array(['bgr'.index(letter) for letter in pattern])[rows % 2 * 2 + columns % 2]
    mosaic = np.take_along_axis(scene, channel[..., None], 2)[..., 0]
    if kind != 'u1':
        mosaic = mosaic.astype(np.uint16) * 257
    encoding = f'bayer_{pattern}{8 if kind == "u1" else 16}'
    image = decode(message(encoding, *size, mosaic.astype(kind).tobytes(), big=big))
    np.testing.assert_array_equal(image[:, 1:6], scene[:, 1:6])
    np.testing.assert_array_equal(image[:, 10:-1], scene[:, 10:-1])


def bt601(luma, u, v):
    """Limited range BT.601 as the standard has it, in floating point, to BGR."""
    y, u, v = (1.164383 * (luma.astype(float) - 16), u.astype(float) - 128, v.astype(float) - 128)
    bgr = np.dstack([y + 2.017232 * u, y - 0.391762 * u - 0.812968 * v, y + 1.596027 * v])
    return np.clip(np.rint(bgr), 0, 255)


def yuv_picture(rows, columns):
    """Return luma (12, 16) and chroma at its resolution, with U and V far from equal."""
    return (RNG.integers(16, 236, (12, 16), np.uint8),
            RNG.integers(16, 120, (rows, columns), np.uint8),
            RNG.integers(130, 240, (rows, columns), np.uint8))


def near(image, expected, levels):
    assert np.abs(image.astype(float) - expected).max() <= levels


@pytest.mark.parametrize(('encoding', 'order'), [
    ('uyvy', 'uyvy'), ('yuv422', 'uyvy'), ('yuyv', 'yuyv'), ('yuv422_yuy2', 'yuyv')])
def test_packed_yuv(encoding, order):
    luma, u, v = yuv_picture(12, 8)
    parts = {'u': [u], 'v': [v], 'y': [luma[:, 1::2], luma[:, ::2]]}
    packed = np.stack([parts[letter].pop() for letter in order], 2)
    image = decode(message(encoding, 12, 16, packed))
    near(image, bt601(luma, u.repeat(2, 1), v.repeat(2, 1)), 1)


@pytest.mark.parametrize(('encoding', 'first'), [('nv12', 'u'), ('nv21', 'v')])
def test_semi_planar_yuv(encoding, first):
    luma, u, v = yuv_picture(6, 8)
    chroma = np.dstack([u, v] if first == 'u' else [v, u])
    image = decode(message(encoding, 12, 16, luma.tobytes() + chroma.tobytes()))
    near(image, bt601(luma, u.repeat(2, 1).repeat(2, 0), v.repeat(2, 1).repeat(2, 0)), 1)


def test_nv24():
    luma, u, v = yuv_picture(12, 16)
    near(decode(message('nv24', 12, 16, luma.tobytes() + np.dstack([u, v]).tobytes())),
         bt601(luma, u, v), 1)


def test_nv24_agrees_with_nv12_over_the_whole_range():
    """Blocks of constant chroma: both encodings carry the same picture, down to illegal values."""
    chroma = RNG.integers(0, 256, (64, 64, 2), np.uint8)
    chroma[0, :4] = [(0, 0), (255, 255), (0, 255), (255, 0)]
    luma = RNG.integers(0, 256, (128, 128), np.uint8)
    luma[:2] = [[0], [255]]
    half = decode(message('nv12', 128, 128, luma.tobytes() + chroma.tobytes()))
    full = chroma.repeat(2, 0).repeat(2, 1)
    near(decode(message('nv24', 128, 128, luma.tobytes() + full.tobytes())), half.astype(float), 2)


# --- layout ---

@pytest.mark.parametrize('encoding', ENCODINGS)
@pytest.mark.parametrize('extra', [1, 2, 13])
def test_padded_rows_give_the_same_picture(encoding, extra):
    planes = random_planes(encoding, 12, 16)
    expected = decode(message(encoding, 12, 16, b''.join(p.tobytes() for p in planes)))
    step = planes[0].shape[1] + extra
    padded = b''
    for plane in planes:
        stride = step * plane.shape[1] // planes[0].shape[1]
        room = RNG.integers(0, 256, (plane.shape[0], stride), np.uint8)
        room[:, :plane.shape[1]] = plane
        padded += room.tobytes()
        missing = stride - plane.shape[1]
    assert expected.shape == (12, 16, 3)
    for data in (padded, padded + b'more', padded[:-missing]):  # the last padding may be absent
        np.testing.assert_array_equal(decode(message(encoding, 12, 16, data, step)), expected)
    refused(message(encoding, 12, 16, padded[:-missing - 1], step), 'truncated',
            f'the message has {len(padded) - missing - 1}')


@pytest.mark.parametrize('encoding', WIDE)
def test_byte_order(encoding):
    little = RNG.integers(0, 256, BYTES[encoding] * 12 * 16, np.uint8)
    big = little.reshape(-1, 2)[:, ::-1].tobytes()
    np.testing.assert_array_equal(decode(message(encoding, 12, 16, little)),
                                  decode(message(encoding, 12, 16, big, big=True)))


@pytest.mark.parametrize('encoding', sorted(set(ENCODINGS) - set(WIDE)))
def test_byte_order_is_nothing_to_bytes(encoding):
    """Drivers set is_bigendian at random where it means nothing."""
    data = b''.join(p.tobytes() for p in random_planes(encoding, 12, 16))
    np.testing.assert_array_equal(decode(message(encoding, 12, 16, data)),
                                  decode(message(encoding, 12, 16, data, big=True)))


@pytest.mark.parametrize('encoding', PLANES)
def test_step_counting_all_planes(encoding):
    """Some drivers write step = all bytes / height for planar images."""
    data = b''.join(p.tobytes() for p in random_planes(encoding, 12, 16))
    assert len(data) % 12 == 0
    np.testing.assert_array_equal(decode(message(encoding, 12, 16, data, len(data) // 12)),
                                  decode(message(encoding, 12, 16, data)))


def test_height_counting_the_chroma_rows_is_refused():
    data = b''.join(p.tobytes() for p in random_planes('nv12', 12, 16))
    refused(message('nv12', 18, 16, data), 'truncated', 'height must be that of the picture')


def test_single_rows_have_no_use_for_step():
    pixels = NOISE[0]
    image = decode(message('bgr8', 1, 16, pixels, step=2**32 - 1))
    np.testing.assert_array_equal(image, pixels[None])
    image = decode(message('rgb8', 1, 16, pixels, step=2**32 - 1))
    np.testing.assert_array_equal(image, pixels[None, :, ::-1])


def test_single_padded_row_of_nv24():
    luma, chroma = RNG.integers(0, 256, 16, np.uint8), RNG.integers(0, 256, 32, np.uint8)
    padded = luma.tobytes() + bytes(4) + chroma.tobytes()
    np.testing.assert_array_equal(
        decode(message('nv24', 1, 16, padded, 20)),
        decode(message('nv24', 1, 16, luma.tobytes() + chroma.tobytes())))


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_short_step_and_data_are_refused(encoding):
    data = b''.join(p.tobytes() for p in random_planes(encoding, 12, 16))
    row = planes_of(encoding)[0][0] * 16
    refused(message(encoding, 12, 16, data, row - 1), 'step', f'row of 16 pixels .*: {row} bytes')
    refused(message(encoding, 12, 16, data, 0), 'step')
    refused(message(encoding, 12, 16, data[:-1]), 'truncated', f'needs {len(data)} bytes')
    refused(message(encoding, 12, 16, b''), 'truncated')


@pytest.mark.parametrize(('height', 'width'), [(0, 4), (4, 0), (0, 0), (16385, 1), (1, 16385),
                                               (2**32 - 1, 2**32 - 1), (16384, 8193)])
def test_impossible_sizes_are_refused(height, width):
    refused(message('mono8', height, width, b'', step=width), 'size')


@pytest.mark.parametrize(('encoding', 'height', 'width', 'even'), [
    ('nv12', 12, 15, 'width and height'), ('nv21', 11, 16, 'width and height'),
    ('uyvy', 11, 15, 'width'), ('yuyv', 12, 15, 'width'), ('yuv422', 12, 15, 'width'),
    ('yuv422_yuy2', 12, 15, 'width')])
def test_odd_sizes_of_subsampled_yuv_are_refused(encoding, height, width, even):
    refused(message(encoding, height, width, bytes(2000), 40), 'size', f'even {even}, not')


def test_odd_height_of_packed_yuv_is_fine():
    assert decode(message('uyvy', 11, 16, bytes(352))).shape == (11, 16, 3)


@pytest.mark.parametrize('size', [(2, 16), (16, 2), (1, 1)])
def test_bayer_needs_three_pixels(size):
    """OpenCV would return black."""
    refused(message('bayer_rggb8', *size, bytes(64), step=16), 'size', '3 x 3')
    assert decode(message('bayer_rggb8', 3, 3, b'\x80' * 9)).min() == 0x80


@pytest.mark.parametrize('encoding', ['8UC1', '8UC3', '8UC4', '8U', '16UC1', '32FC1', '64FC10'])
def test_type_names_tell_no_colour(encoding):
    refused(message(encoding, 12, 16, NOISE, 48), 'encoding', 'publish bgr8 or rgb8')


@pytest.mark.parametrize('encoding', ['', 'BGR8', 'bgr8 ', 'jpeg', 'bayer_rggb12',
                                      pytest.param('x' * 10_000, id='long')])
def test_unknown_encodings_are_refused_with_the_known_ones(encoding):
    with pytest.raises(FrameError, match='bgr8, .*nv24') as caught:
        decode(message(encoding, 12, 16, NOISE, 48))
    assert caught.value.reason == 'encoding'
    assert len(str(caught.value)) < 500


def test_threads_do_not_disturb_each_other():
    pictures = [message(e, 48, 64, b''.join(p.tobytes() for p in random_planes(e, 48, 64)))
                for e in ENCODINGS] + 3 * [CompressedImageMessage(
                    HEADER, 'jpeg', cv2.imencode('.jpg', NOISE)[1].reshape(-1))]
    expected = [decode(picture).copy() for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for image, alone in zip(pool.map(decode, pictures), expected, strict=True):
                np.testing.assert_array_equal(image, alone)


# --- whatever comes ---

SIDES = st.one_of(st.integers(1, 12), st.integers(0, 2**32 - 1))
ARBITRARY = st.builds(
    ImageMessage, st.just(HEADER), SIDES, SIDES,
    st.one_of(st.sampled_from(ENCODINGS), st.sampled_from(['8UC3', '32FC1', '']), st.text()),
    st.booleans(), st.one_of(st.integers(0, 120), st.integers(0, 2**32 - 1)),
    st.one_of(st.binary(max_size=40), st.integers(0, 2000).map(bytes)).map(
        lambda raw: np.frombuffer(raw, np.uint8)))


@st.composite
def nearly_valid(draw):
    """Draw a small image whose step and length are right or a little wrong."""
    encoding = draw(st.sampled_from(ENCODINGS))
    height, width = draw(st.integers(1, 10)), draw(st.integers(1, 10))
    step = max(0, planes_of(encoding)[0][0] * width + draw(st.integers(-1, 3)))
    rows = sum(int(height * rows) * pixel for pixel, rows in planes_of(encoding))
    length = rows * step // planes_of(encoding)[0][0] + draw(st.integers(-4, 2))
    raw = RNG.integers(0, 256, max(0, length), np.uint8).tobytes()
    return message(encoding, height, width, raw, step, draw(st.booleans()))


def outcome(picture):
    """Return the reason of the refusal, or '' for a picture of which nothing is wrong."""
    try:
        image = decode(picture)
    except FrameError as error:
        return error.reason
    assert image.dtype == np.uint8
    assert image.shape == (picture.height, picture.width, 3)
    image.sum()  # every pixel can be read
    return ''


def test_arbitrary_messages_are_decoded_or_refused():
    seen = Counter()

    @settings(max_examples=1000, deadline=None, database=None)
    @given(st.one_of(ARBITRARY, nearly_valid()))
    def check(picture):
        seen[outcome(picture)] += 1

    check()
    assert seen.keys() == {'', 'encoding', 'size', 'step', 'truncated'}
    assert seen[''] > 50
    assert seen['truncated'] > 50


# --- against cv_bridge, where ROS has it ---

@pytest.mark.parametrize(('encoding', 'code'), [
    ('mono16', cv2.COLOR_GRAY2BGR), ('rgb16', cv2.COLOR_RGB2BGR), ('bgra16', cv2.COLOR_BGRA2BGR),
    ('rgba16', cv2.COLOR_RGBA2BGR), ('bayer_rggb16', cv2.COLOR_BayerBG2BGR),
    ('bayer_gbrg16', cv2.COLOR_BayerGR2BGR)])
def test_16_bit_as_cv_bridge_says(encoding, code):
    """Its rule written out: colours first, then convertTo by 255 / 65535."""
    data = RNG.integers(0, 65536, (12, 16, BYTES[encoding] // 2), np.uint16)
    colour = cv2.cvtColor(data, code).astype(np.float64)
    expected = np.rint(colour * (255 / 65535)).astype(np.uint8)
    np.testing.assert_array_equal(decode(message(encoding, 12, 16, data.tobytes())), expected)


def test_every_16_bit_level_is_rounded_as_it_must_be():
    levels = np.arange(65536, dtype=np.uint16)
    image = decode(message('mono16', 256, 256, levels.tobytes()))
    np.testing.assert_array_equal(image[..., 1].ravel(), np.rint(levels / 257))


@pytest.mark.parametrize('encoding', sorted(BYTES.keys() - {'uyvy', 'yuyv'}))
def test_same_as_cv_bridge(encoding):
    cv_bridge = pytest.importorskip('cv_bridge', reason='cv_bridge comes with a ROS 2 '
                                                        'installation only')
    messages = pytest.importorskip('sensor_msgs.msg', reason='sensor_msgs is not installed')
    data = random_planes(encoding, 12, 16)[0].tobytes()
    ours = decode(message(encoding, 12, 16, data))
    theirs = messages.Image(height=12, width=16, encoding=encoding, step=BYTES[encoding] * 16)
    theirs.data.frombytes(data)
    np.testing.assert_array_equal(ours, cv_bridge.CvBridge().imgmsg_to_cv2(theirs, 'bgr8'))
