"""Photos that EXIF says are turned: upright in files, on the sensor's grid in messages."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from seg_node.image.decode import decode
from seg_node.image.photo import orientation, read_photo
from seg_node.image.wire import CompressedImageMessage, Header, parse_compressed_image, parse_image
from seg_node.model.taxonomy import load_taxonomy
from seg_node.playback.picture_source import FolderSource
from seg_node.playback.sources import FrameOptions
from seg_node.scoring.datasets import open_dataset

STORED = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8), (48, 32))


def exif(turned, order='>'):
    mark = b'MM\0*' if order == '>' else b'II*\0'
    return mark + struct.pack(f'{order}IHHHIHHI', 8, 1, 0x112, 3, 1, turned, 0, 0)


def photo(turned, kind='.jpg', order='>'):
    """Return a file with EXIF data."""
    data = cv2.imencode(kind, STORED)[1].tobytes()
    body = exif(turned, order)
    if kind == '.jpg':
        body = b'Exif\0\0' + body
        return data[:2] + b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body + data[2:]
    chunk = struct.pack('>I', len(body)) + b'eXIf' + body + struct.pack(
        '>I', zlib.crc32(b'eXIf' + body))
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('turned', range(1, 9))
def test_all_eight_orientations_as_opencv_turns_them(turned, order):
    data = np.frombuffer(photo(turned, '.jpg', order), np.uint8)
    assert orientation(data) == turned
    np.testing.assert_array_equal(read_photo(data), cv2.imdecode(data, cv2.IMREAD_COLOR))
    assert orientation(np.frombuffer(photo(turned, '.png', order), np.uint8)) == turned


@pytest.mark.parametrize('data', [b'', b'BM', photo(9), photo(0), photo(3)[:30], photo(3)[:20],
                                  photo(1).replace(b'MM', b'XX')])
def test_what_says_nothing_is_upright(data):
    assert orientation(np.frombuffer(data, np.uint8)) == 1


def test_a_message_keeps_the_grid_of_the_sensor():
    message = CompressedImageMessage(Header(0, 0, ''), 'jpeg', np.frombuffer(photo(6), np.uint8))
    assert decode(message).shape == (32, 48, 3)


@pytest.mark.parametrize('turned', [3, 6])
@pytest.mark.parametrize('kind', ['.jpg', '.png'])
def test_replay_and_evaluation_show_the_same(tmp_path, turned, kind):
    """By both transports, and whatever the label says it is as shown."""
    images, labels = tmp_path / 'images', tmp_path / 'labels'
    images.mkdir(), labels.mkdir()
    (images / f'a{kind}').write_bytes(photo(turned, kind))
    shown = read_photo(np.frombuffer(photo(turned, kind), np.uint8))
    assert shown.shape == ((48, 32, 3) if turned == 6 else (32, 48, 3))
    cv2.imwrite(str(labels / 'a.png'), np.zeros(shown.shape[:2], np.uint8))
    for transport, parse in (('raw', parse_image), ('compressed', parse_compressed_image)):
        source = FolderSource(images, FrameOptions(transport=transport))
        [record] = source.records([topic.name for topic in source.topics])
        image = decode(parse(record.data))
        assert np.abs(image.astype(int) - shown).mean() < 3
    dataset = open_dataset(images, labels, 'camvid')
    [pair] = dataset.pairs
    np.testing.assert_array_equal(dataset.frame(pair).bgr, shown)
    assert dataset.truth(pair).shape == shown.shape[:2]


def test_the_case(data_dir):
    folder = data_dir / 'cases/datasets/exif3'
    data = np.frombuffer((folder / 'i/1.jpg').read_bytes(), np.uint8)
    assert orientation(data) == 3
    dataset = open_dataset(folder / 'i', folder / 'l', 'pairs', load_taxonomy('camvid11'))
    np.testing.assert_array_equal(dataset.frame(dataset.pairs[0]).bgr, read_photo(data))
