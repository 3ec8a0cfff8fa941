"""Videos of every container, turned, of variable rate, with gaps; real files, made by FFmpeg."""

from fractions import Fraction
import re
import struct

import cv2
import numpy as np
import pytest

pytest.importorskip('av', reason='needs PyAV, requirements/video.txt')

import av

from seg_node.errors import ConfigError
from seg_node.image.photo import upright
from seg_node.image.wire import parse_image
from seg_node.playback import video as module
from seg_node.playback.open_source import open_source
from seg_node.playback.sources import FrameOptions, Span
from seg_node.playback.video import Video

HEIGHT, WIDTH = 48, 80
SCENE = cv2.resize(np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8), (WIDTH, HEIGHT))


def film(path, codec='mpeg4', pixels='yuv420p', times_ms=range(0, 600, 100)):
    """Write a video whose frames are shown at some times."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=1000)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        for time_ms in times_ms:
            frame = av.VideoFrame.from_ndarray(SCENE, format='bgr24')
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def noisy_film(path, codec='libx264'):
    """Write 20 frames of 0.1 s that fill some kilobytes each."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, 'yuv420p'
        for index in range(20):
            noise = np.random.default_rng(index).integers(0, 256, (96, 160, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format='bgr24')))
        container.mux(stream.encode())
    return path


def times_of(source):
    return [record.time_ns // 10**6 for record in
            source.records([source.topics[0].name], Span(), 0)]


@pytest.mark.parametrize('name, codec, pixels', [
    ('a.mts', 'libx264', 'yuv420p'), ('a.flv', 'flv', 'yuv420p'), ('a.3gp', 'mpeg4', 'yuv420p'),
    ('a.gif', 'gif', 'rgb8'), ('a.h264', 'libx264', 'yuv420p'), ('a.webm', 'libvpx', 'yuv420p'),
    ('A.MOV', 'mpeg4', 'yuv420p'), ('no_suffix_at_all.dat', 'mpeg4', 'yuv420p')])
def test_every_container(tmp_path, name, codec, pixels):
    made = film(tmp_path / name.replace('.dat', '.mkv'), codec, pixels)
    path = made.rename(tmp_path / name)
    with open_source(path, FrameOptions(fps=10)) as source:
        assert times_of(source) == list(range(0, 600, 100)), 'none is lost'
        assert source.remarks() == []


def test_a_name_is_no_address(tmp_path, monkeypatch):
    film(tmp_path / '10:05:33 %03d.mp4')
    monkeypatch.chdir(tmp_path)
    with open_source('10:05:33 %03d.mp4') as source:
        assert len(times_of(source)) == 6


def test_frames_come_at_their_own_times(tmp_path):
    times_ms = [0, 40, 200, 240, 700]
    with open_source(film(tmp_path / 'a.mkv', times_ms=times_ms)) as source:
        assert times_of(source) == times_ms
        part = source.records(['camera/image_raw'], Span(100_000_000, 200_000_000), 0)
        assert [record.time_ns // 10**6 for record in part] == [100, 140]


def test_long_gaps_are_cut_and_told(tmp_path):
    with open_source(film(tmp_path / 'a.mkv', times_ms=[0, 100, 60_000, 60_100])) as source:
        source.max_gap_ns = 2 * 10**9
        for _ in range(2):
            assert times_of(source) == [0, 100, 2100, 2200]
            assert source.losses['gaps_cut'] == 1
            assert source.remarks() == ['1 gaps between frames are cut to 2 s (--max-gap)']


# What EXIF calls them, by the matrix (a, b, c, d): pixel (x, y) goes to (a x + c y, b x + d y).
MATRICES = {1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
            5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0)}


@pytest.mark.parametrize('turned', MATRICES)
def test_turned_and_mirrored_videos_are_upright(tmp_path, turned):
    path = film(tmp_path / 'a.mp4', times_ms=[0, 100])
    with Video(path) as video:
        stored = next(video.frames()).bgr()
    a, b, c, d = (value * 65536 for value in MATRICES[turned])
    data = bytearray(path.read_bytes())
    at = data.index(b'tkhd') + 4 + 40  # version 0: the matrix follows the volume
    assert data[at:at + 36] == struct.pack('>9i', 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    data[at:at + 36] = struct.pack('>9i', a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    with Video(path) as video:
        for frame in video.frames():
            assert np.abs(frame.bgr().astype(int) - upright(stored, turned)).mean() < 3


def test_the_picture_is_that_of_the_scene(tmp_path):
    with open_source(film(tmp_path / 'a.mp4')) as source:
        image = parse_image(next(source.records(['camera/image_raw'], Span(), 0)).data)
    shown = image.data.reshape(HEIGHT, WIDTH, 3)
    assert cv2.PSNR(shown, SCENE) > 25, 'BGR, not RGB'


@pytest.mark.parametrize('name, damage, losses, told', [
    ('a.ts', lambda data, at: data[:at] + data[at + 188 * 5:], 'damaged_frames', 'painted over'),
    ('a.flv', lambda data, at: data[:at] + bytes(9000) + data[at + 9000:], 'frames_missing',
     'by their times . frames are missing'),
    ('a.mkv', lambda data, at: data[:at], 'faults', 'announces 2.0 s, but its last frame is at'),
    ('a.mkv', lambda data, at: data[:at], 'faults', 'complains of 1 pieces .matroska.*File end')])
def test_damage_is_never_silent(tmp_path, name, damage, losses, told):
    """What the containers do not say themselves; the decoder would pass over it in silence."""
    path = noisy_film(tmp_path / name)
    with open_source(path) as source:
        assert len(times_of(source)) == 20 and source.remarks() == []
    data = path.read_bytes()
    path.write_bytes(damage(data, len(data) // 2 // 188 * 188))
    with open_source(path) as source:
        for _ in range(2):
            assert 5 < len(times_of(source)) <= 20
            assert source.losses[losses]
            assert re.search(told, ' '.join(source.remarks()))


def test_the_rate_is_the_first_that_can_be(tmp_path):
    with av.open(str(tmp_path / 'a.dv'), 'w') as container:
        stream = container.add_stream('dvvideo', rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, 'yuv420p'
        for _ in range(2):
            blank = av.VideoFrame.from_ndarray(np.zeros((576, 720, 3), np.uint8), format='bgr24')
            container.mux(stream.encode(blank))
    with open_source(tmp_path / 'a.dv') as source:
        assert times_of(source) == [0, 40]


def test_sound_alone_and_playlists_are_no_videos(tmp_path):
    with av.open(str(tmp_path / 'a.wav'), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), 's16', 'mono')
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ConfigError, match=r'a.wav holds no video stream, but audio'):
        open_source(tmp_path / 'a.wav')
    (tmp_path / 'a.m3u8').write_text('#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n'
                                     'http://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n')
    with pytest.raises(ConfigError, match='cannot be opened as a video|holds no'):
        open_source(tmp_path / 'a.m3u8')


def test_frames_that_are_too_large_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'MAX_PIXELS', HEIGHT * WIDTH - 1)
    with pytest.raises(ConfigError, match=f'frames of {WIDTH}x{HEIGHT}; at most'):
        open_source(film(tmp_path / 'a.mp4'))


def test_without_pyav_the_mend_is_told(tmp_path, monkeypatch):
    path = film(tmp_path / 'a.mp4')
    monkeypatch.setattr(module, 'av', None)
    with pytest.raises(ConfigError, match='read by PyAV, which is not installed.*pip install av'):
        open_source(path)
