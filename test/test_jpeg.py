"""Damaged JPEGs are refused; whole ones are decoded as OpenCV decodes them, whatever they hold."""

from collections import Counter
import struct
import time

import cv2
import jpeg_damage
import numpy as np
import pytest
import simplejpeg

from seg_node.errors import FrameError
from seg_node.image import jpeg_decode, jpeg_scan
from seg_node.image.decode import decode
from seg_node.image.jpeg import read_structure
from seg_node.image.jpeg_scan import examine, STANDARD
from seg_node.image.jpeg_seam import has_seam
from seg_node.image.wire import CompressedImageMessage, Header

RNG = np.random.default_rng(3)
NOISE = RNG.integers(0, 256, (150, 341, 3), np.uint8)
SCENE = np.clip(cv2.GaussianBlur(NOISE, (0, 0), 3) * 3.0 - 256, 0, 255).astype(np.uint8)


def encoded(image, *parameters):
    return cv2.imencode('.jpg', image, parameters)[1].tobytes()


def decoded(data):
    data = np.frombuffer(bytes(data), np.uint8)
    return decode(CompressedImageMessage(Header(0, 0, ''), 'jpeg', data))


def refusal(data, reason):
    with pytest.raises(FrameError) as caught:
        decoded(data)
    assert caught.value.reason == reason, caught.value
    return str(caught.value)


def by_opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8),
                        cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)


def check_whole(data):
    np.testing.assert_array_equal(decoded(data), by_opencv(data))


def boundaries(data):
    """Return where the header segments begin, the scan's header last."""
    places, at = [], 2
    while True:
        places.append(at)
        if data[at + 1] == 0xDA:
            return places
        at += 2 + struct.unpack('>H', data[at + 2:at + 4])[0]


def without(data, code):
    """Return a file without the segments of one kind."""
    places = boundaries(data)
    kept = [data[a:b] for a, b in zip(places, places[1:], strict=False) if data[a + 1] != code]
    return data[:2] + b''.join(kept) + data[places[-1]:]


def patched(data, code, offset, value):
    """Return a file with one byte of the first segment of a kind changed."""
    place = next(at for at in boundaries(data) if data[at + 1] == code) + offset
    return data[:place] + bytes([value]) + data[place + 1:]


def segment(code, payload):
    return bytes([0xFF, code]) + struct.pack('>H', len(payload) + 2) + payload


def inserted(data, piece, at=2):
    return data[:at] + piece + data[at:]


def sampled(code):
    return encoded(SCENE, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, code)


INK = np.ascontiguousarray(np.dstack([SCENE, SCENE[..., 1] // 2 + 100]))
YCCK = simplejpeg.encode_jpeg(INK, colorspace='CMYK', colorsubsampling='444')
PLAIN = encoded(SCENE)
KINDS = {
    '4:2:0': PLAIN, '4:4:4': sampled(0x111111), '4:2:2': sampled(0x211111),
    '4:4:0': sampled(0x121111), '4:1:1': sampled(0x411111),
    'grey': encoded(SCENE[..., 1]), 'progressive': encoded(SCENE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    'own tables': encoded(SCENE, cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    'restart markers': encoded(SCENE, cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
    'motion JPEG': inserted(without(PLAIN, 0xC4), segment(0xE0, b'AVI1' + bytes(12))),
    'YCCK': YCCK, 'CMYK': patched(YCCK, 0xEE, 15, 0), 'RGB': patched(
        inserted(without(sampled(0x111111), 0xE0), segment(0xEE, b'Adobe' + bytes(7))),
        0xEE, 15, 0),
    'coarse': encoded(SCENE, cv2.IMWRITE_JPEG_QUALITY, 3),
    'fine': encoded(NOISE, cv2.IMWRITE_JPEG_QUALITY, 100),
    'black': encoded(np.zeros((160, 480, 3), np.uint8), cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    'one pixel': encoded(SCENE[:1, :1])}


@pytest.fixture(params=KINDS)
def whole(request):
    return KINDS[request.param]


# whole pictures

def test_every_kind_is_decoded_as_opencv_does(whole):
    check_whole(whole)


@pytest.mark.parametrize('filler', [b'\0', bytes(3), bytes(16), bytes(1000), b'\xff', b'\xff' * 50,
                                    b'\x20' * 40, b'\x80', b'abc', bytes(range(1, 200)),
                                    RNG.integers(0, 255, 333, np.uint8).tobytes()])
def test_filler_before_the_end_marker(whole, filler):
    """Cameras fill up the scan, some in every frame; strict decoding alone refuses them all."""
    check_whole(whole[:-2] + filler + whole[-2:])


@pytest.mark.parametrize('junk', [b'\0', b'\0\0\1', b'\xff', b'\xff\xff\0', b'\x12\x34' * 50,
                                  b'\xff\xd0', b'\xff\x01'])
def test_junk_between_segments(whole, junk):
    """Logitech cameras write some bytes there."""
    for place in boundaries(whole)[1:]:
        check_whole(inserted(whole, junk, place))
    joined = whole
    for place in reversed(boundaries(whole)[1:]):
        joined = inserted(joined, junk, place)
    check_whole(joined + b'\0\xff\xd8' + bytes(99))


@pytest.mark.parametrize('trailer', [bytes(1), bytes(4000), b'\xff' * 9, PLAIN, b'\xff\xd8\xff'])
def test_bytes_behind_the_end(whole, trailer):
    check_whole(whole + trailer)


@pytest.mark.parametrize('interval', [1, 2, 7, 22])
@pytest.mark.parametrize('filler', [b'\0', bytes(4), bytes(40), b'abcde', b'\xff\xff'])
def test_filler_before_restart_markers(interval, filler):
    data = encoded(SCENE, cv2.IMWRITE_JPEG_RST_INTERVAL, interval)
    for code in range(0xD0, 0xD8):
        data = data.replace(bytes([0xFF, code]), filler + bytes([0xFF, code]))
    check_whole(data[:-2] + filler + data[-2:])


@pytest.mark.parametrize('data', [
    patched(PLAIN, 0xE0, 9, 2),  # JFIF 2.x
    PLAIN[:boundaries(PLAIN)[-1] + 11] + bytes(3) + PLAIN[boundaries(PLAIN)[-1] + 14:],  # Se = 0
    inserted(PLAIN, segment(0xEE, b'Adobe' + bytes(6) + b'\x09')),
    inserted(without(PLAIN, 0xE0), segment(0xEE, b'Adobe' + bytes(6) + b'\x09')),
    patched(YCCK, 0xEE, 15, 77),
    inserted(PLAIN, segment(0xE2, b'ICC_PROFILE\0' + b'\7\3' + bytes(50))),
    inserted(PLAIN, segment(0xFE, b'')), patched(PLAIN, 0xC0, 1, 0xC1)],
    ids=['JFIF 2', 'zeros in the scan header', 'Adobe and JFIF', 'Adobe transform 9',
         'Adobe transform 77', 'half a colour profile', 'empty comment', 'extended'])
def test_header_fields_that_some_encoders_write_wrongly(data):
    check_whole(data)
    check_whole(data[:-2] + bytes(20) + data[-2:])


def test_what_was_mended_is_mended_in_a_copy():
    data = np.frombuffer(patched(PLAIN, 0xE0, 9, 2), np.uint8).copy()
    before = data.copy()
    read_structure(data)
    np.testing.assert_array_equal(data, before)


def test_nothing_is_copied_of_a_usual_file():
    data = np.frombuffer(PLAIN + bytes(9), np.uint8)
    assert np.shares_memory(read_structure(data).file, data)
    assert read_structure(data).file.size == len(PLAIN)


@pytest.mark.parametrize('size', [(2, 64), (64, 2), (17, 400), (1, 1), (1080, 1920)])
def test_every_size(size):
    check_whole(encoded(cv2.resize(SCENE, size[::-1])))


# damage

def test_the_hard_kinds_are_refused():
    """Of 300 pictures each at most 1 % may be taken with more than 1 % of wrong pixels."""
    files = jpeg_damage.drive_jpegs(10)
    kinds = ('1400 bytes lost', 'tail lost, end marker kept', '1400 bytes zeroed')
    for kind, seen in jpeg_damage.measure(files, kinds, 300).items():
        assert seen['wrong'] <= 3, (kind, seen)
        assert seen['refused'] >= 290, (kind, seen)


def test_most_of_the_short_kinds_are_refused():
    """docs/decoding.md has the rates of many pictures; without further evidence half are taken."""
    files = jpeg_damage.drive_jpegs(10)
    limits = {'188 bytes lost': 4, '16 bytes lost': 30, '188 bytes zeroed': 2,
              '16 bytes zeroed': 2, '16 random bytes': 30}
    for kind, seen in jpeg_damage.measure(files, limits, 100).items():
        assert seen['wrong'] <= limits[kind], (kind, seen)


def test_a_damage_that_leaves_data_over_is_no_filler():
    """The rest of a picture before the end marker looks like filler to a decoder."""
    files, told = jpeg_damage.drive_jpegs(10, 95), Counter()
    rng = np.random.default_rng(1)
    for n in range(200):
        damaged = jpeg_damage.overwritten(188, None)(files[n % 10], rng)
        try:
            simplejpeg.decode_jpeg(damaged, 'BGR')
        except ValueError as error:
            if 'extraneous' in str(error):
                told[jpeg_damage.outcome(files[n % 10], damaged)] += 1
    assert told.total() > 10
    assert told['wrong'] <= told.total() // 10, told


@pytest.mark.parametrize('name', ['corrupt_accepted_lost_base90', 'corrupt_accepted_zeroed_base90',
                                  'jpeg_two_frame_headers_32000x32000'])
def test_the_cases(data_dir, name):
    start = time.process_time()
    assert 'frame header' in refusal((data_dir / f'cases/jpeg/{name}.jpg').read_bytes(), 'corrupt'
                                     ) or 'two' not in name
    assert time.process_time() - start < 0.5


def test_camvid(data_dir):
    files = [path.read_bytes() for path in
             sorted((data_dir / 'data/camvid/val/images').glob('*.jpg'))[::10]]
    for data in files:
        check_whole(data)
    kinds = ('1400 bytes lost', 'tail lost, end marker kept')
    for kind, seen in jpeg_damage.measure(files, kinds, 150).items():
        assert seen['wrong'] <= 1, (kind, seen)


# refused at once

SOF = PLAIN[PLAIN.index(b'\xff\xc0'):][:19]
LARGE = SOF[:5] + struct.pack('>HH', 16000, 16000) + SOF[9:]


def test_a_second_frame_header_is_refused():
    """710 bytes with two cost 23 s and 5.9 GB."""
    for place in (*boundaries(PLAIN)[1:], len(PLAIN) - 2):
        if place > PLAIN.index(b'\xff\xc0'):
            start = time.process_time()
            assert 'second frame header' in refusal(inserted(PLAIN, LARGE, place), 'corrupt')
            assert time.process_time() - start < 0.5


def test_a_late_or_missing_frame_header_is_refused():
    bare = without(PLAIN, 0xC0)
    assert 'before its frame header' in refusal(bare, 'corrupt')
    assert 'before its frame header' in refusal(inserted(bare, SOF, len(bare) - 2), 'corrupt')


@pytest.mark.parametrize('progressive', [0, 1])
def test_a_picture_for_which_there_are_no_bytes_is_refused(progressive):
    """A decoder would fill 16 million pixels for a few hundred bytes, scan by scan."""
    data = encoded(SCENE[:16, :16], cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    place = data.index(b'\xff\xc2' if progressive else b'\xff\xc0') + 5
    data = data[:place] + struct.pack('>HH', 4000, 4000) + data[place + 4:]
    start = time.process_time()
    assert '4000 x 4000 pixels, which need' in refusal(data, 'truncated')
    assert time.process_time() - start < 0.1


def test_scans_without_end_are_refused():
    """Each scan is a pass over all pixels."""
    data = KINDS['progressive']
    jpeg = read_structure(np.frombuffer(data, np.uint8))
    place, _, end = jpeg.scans[-1]
    assert 'more than 128 scans' in refusal(data[:-2] + data[place:end] * 128 + data[-2:],
                                            'corrupt')


@pytest.mark.parametrize(('data', 'words'), [
    (patched(patched(PLAIN, 0xC0, 4, 12), 0xC0, 1, 0xC1), '12 bits a colour'),
    (patched(PLAIN, 0xC0, 1, 0xC3), 'lossless'), (patched(PLAIN, 0xC0, 1, 0xC5), 'hierarchical'),
    (PLAIN.replace(SOF, SOF[:3] + b'\x0e' + SOF[4:9] + b'\2' + SOF[10:16]), '2 colour components'),
])
def test_kinds_that_are_not_decoded_are_named(data, words):
    assert words in refusal(data, 'format')
    assert 'publish' in refusal(data, 'format')


@pytest.mark.parametrize('data', [
    patched(PLAIN, 0xC0, 9, 4), patched(PLAIN, 0xC0, 9, 0), patched(PLAIN, 0xC0, 11, 0),
    patched(PLAIN, 0xC0, 11, 0x55), patched(PLAIN, 0xC0, 12, 3), patched(PLAIN, 0xC4, 5, 200),
    without(PLAIN, 0xDB), patched(PLAIN, 0xDA, 4, 0), patched(PLAIN, 0xDA, 4, 9),
    patched(PLAIN, 0xDA, 5, 99), patched(PLAIN, 0xDA, 6, 0x33), PLAIN[:20] + b'\xff\x09' + PLAIN])
def test_broken_headers_are_refused(data):
    refusal(data, 'corrupt' if data[20:22] != b'\xff\x09' else 'truncated')


def test_refusing_prints_nothing(capfd):
    files = jpeg_damage.drive_jpegs(2)
    jpeg_damage.measure(files, jpeg_damage.KINDS, 2)
    check = [decoded(PLAIN[:-2] + bytes(9) + PLAIN[-2:])]
    assert len(check) == 1
    out, error = capfd.readouterr()
    assert 'Corrupt JPEG' not in out + error.replace('Corrupt JPEG data: premature', '')


# the codes

def test_the_standard_tables_are_those_of_opencv():
    assert read_structure(np.frombuffer(PLAIN, np.uint8)).huffman_tables() == STANDARD


@pytest.mark.parametrize('name', [name for name in KINDS if name != 'progressive'])
def test_whole_scans_are_found_whole(name):
    """Every kind of table, sampling, restart interval and number of components."""
    jpeg = read_structure(np.frombuffer(KINDS[name], np.uint8))
    assert jpeg.simple
    assert examine(jpeg) == jpeg_scan.WHOLE


def test_extreme_pictures_are_found_whole():
    """Hard edges between black and white reach the limits of what coefficients can be."""
    board = np.kron(RNG.integers(0, 2, (40, 60)), np.ones((5, 5)))
    for picture in (NOISE, (NOISE > 127) * 255, board * 255):
        for quality in (1, 50, 100):
            data = encoded(picture.astype(np.uint8), cv2.IMWRITE_JPEG_QUALITY, quality)
            assert examine(read_structure(np.frombuffer(data, np.uint8))) == jpeg_scan.WHOLE


def test_damage_to_the_codes_is_named():
    """All verdicts come up, and most damage to a noisy scan gets one."""
    rng, seen = np.random.default_rng(5), Counter()
    data = encoded(SCENE, cv2.IMWRITE_JPEG_QUALITY, 95)
    for _ in range(400):
        damaged = jpeg_damage.overwritten(30, None)(data, rng)
        try:
            jpeg = read_structure(np.frombuffer(damaged, np.uint8))
        except FrameError:
            continue
        seen[examine(jpeg)] += 1
    assert seen.keys() >= {jpeg_scan.ENDS_EARLY, jpeg_scan.OVERRUN, jpeg_scan.BEYOND_WHITE,
                           jpeg_scan.NOT_PADDED}
    assert seen[jpeg_scan.WHOLE] < 200


def test_codes_are_looked_at_only_where_a_warning_asks_for_it(monkeypatch):
    """It costs as much as decoding does."""
    monkeypatch.setattr(jpeg_decode, 'examine', lambda jpeg: pytest.fail('it was examined'))
    check_whole(PLAIN)
    check_whole(PLAIN[:-2] + bytes(30) + PLAIN[-2:])  # equal bytes are no codes


# the seam

def shifted(image, row, column, by):
    """Return a picture as a lost piece at one block leaves it."""
    moved = image.astype(int)
    moved[16 * row:16 * row + 16, 16 * column:] += by
    moved[16 * row + 16:] += by
    return np.clip(moved, 0, 255).astype(np.uint8)


@pytest.fixture(scope='module')
def street():
    return by_opencv(jpeg_damage.drive_jpegs(1)[0])


@pytest.mark.parametrize(('by', 'share'), [(-25, 0.9), (-10, 0.5), (10, 0.5), (25, 0.9)])
def test_a_shift_of_brightness_from_one_block_on_is_seen(street, by, share):
    """What is seen as a share of all places; of a strong shift nearly all."""
    height, width = street.shape[0] // 16, street.shape[1] // 16
    seen = [has_seam(shifted(street, row, column, by), (16, 16))
            for row in range(12, height - 1, 3) for column in range(4, width - 4, 9)]
    assert np.mean(seen) > share
    assert not has_seam(street, (16, 16))


def pictures():
    """Yield pictures full of edges along the blocks."""
    rng = np.random.default_rng(4)
    noise = rng.integers(0, 30, (480, 640, 3))
    for size in (8, 16, 32):
        yield np.kron(rng.integers(0, 256, (480 // size, 640 // size, 3)),
                      np.ones((size, size, 1)))
    yield np.broadcast_to(np.repeat(rng.integers(0, 220, 30), 16)[:, None, None],
                          (480, 640, 3)) + noise
    for left in range(64, 640, 96):
        for split in range(64, 448, 64):
            panes = noise + 50
            panes[split:, :left] += 100
            panes[split:, left:] += 60
            yield panes  # two panes that end alike
            panes[split - 32:split, left:] += 100
            yield panes  # two panes that do not
    for slope in (-0.02, -0.005, 0, 0.005, 0.02):
        rows, columns = np.mgrid[:480, :640]
        yield noise + (rows > 240 + slope * (columns - 320))[..., None] * 100
    for _ in range(60):  # a box of information over a noisy picture, cut to blocks
        top, high, left, right = (16 * int(rng.integers(*limits))
                                  for limits in ((2, 26), (1, 3), (0, 8), (33, 41)))
        overlay = np.clip(noise * rng.uniform(0, 4) + rng.integers(0, 200), 0, 255)
        overlay[top:top + high, left:right] = rng.integers(0, 256)
        yield overlay
    drawn = np.full((480, 640, 3), 80)
    drawn[256:272, 320:] = drawn[272:] = 150
    yield drawn  # the very step, but drawn


def test_edges_of_scenes_are_no_seam():
    for n, image in enumerate(pictures()):
        assert not has_seam(np.clip(image, 0, 255).astype(np.uint8), (16, 16)), n


def test_small_pictures_have_no_seam():
    assert not has_seam(np.zeros((8, 8, 3), np.uint8), (16, 16))
    assert not has_seam(np.zeros((480, 300, 3), np.uint8), (16, 16))
    assert not has_seam(np.zeros((33, 640, 3), np.uint8), (16, 16))
