"""The pictures on which an imported model is compared with its library; without torch."""

import cv2
import numpy as np
import pytest

from seg_node.errors import ConfigError

verify = pytest.importorskip('importing.verify')


def grey(level):
    return np.full((32, 48, 3), level, np.uint8)


def test_of_folders_and_files_of_all_kinds_that_replay_reads(tmp_path):
    for n in range(5):
        assert cv2.imwrite(str(tmp_path / f'{n}.bmp'), grey(n * 10))
    (tmp_path / '._0.bmp').write_bytes(b'what macOS leaves about')
    (tmp_path / 'notes.txt').write_text('no picture')
    found = verify.pictures([tmp_path], 3)
    assert [int(image[0, 0, 0]) for image in found] == [0, 10, 20]
    [image] = verify.pictures([tmp_path / '4.bmp'], 3)
    np.testing.assert_array_equal(image, grey(40))


def test_of_a_video_spread_over_its_length(tmp_path):
    av = pytest.importorskip('av', reason='needs PyAV, requirements/video.txt')
    with av.open(str(tmp_path / 'a.mp4'), 'w') as container:
        stream = container.add_stream('mpeg4', rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, 'yuv420p'
        for n in range(9):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(20 + n * 20), 'bgr24')))
        container.mux(stream.encode())
    found = verify.pictures([tmp_path / 'a.mp4'], 3)
    assert [round(float(image.mean()) / 20) * 20 for image in found] == [20, 80, 140]


def test_refused_by_name(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'no image')
    for place, words in ((tmp_path / 'none', 'there is nothing'),
                         (tmp_path / 'a.jpg', r'a\.jpg \(8 bytes\) is not an image')):
        with pytest.raises(ConfigError, match=words):
            verify.pictures([place], 3)
    (tmp_path / 'a.jpg').rename(tmp_path / 'a.mkv')
    with pytest.raises(ConfigError, match=r'a\.mkv.*(cannot be opened as a video|PyAV)'):
        verify.pictures([tmp_path / 'a.mkv'], 3)
    with pytest.raises(ConfigError, match='hold no picture'):
        verify.pictures([tmp_path], 3)
