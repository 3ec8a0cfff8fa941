"""Every recording that went wrong for somebody: what becomes of each of its frames."""

from collections import Counter
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rosbags', reason='needs rosbags')

from test_demo import demo

from seg_node.devices import backend as backends
from seg_node.devices.host import HostSegmenter
from seg_node.errors import ConfigError, FrameError
from seg_node.frame import Frame, StageClock
from seg_node.image.wire import parse_compressed_image, parse_image
from seg_node.model.card import load_card
from seg_node.pipeline import Pipeline
from seg_node.playback.camera_runs import camera_runs
from seg_node.playback.drawing import draw
from seg_node.playback.matched import MatchedFrame
from seg_node.playback.open_source import open_source
from seg_node.playback.sources import FrameOptions, IMAGE, Span
from seg_node.playback.video import Video
from seg_node.scoring.pictures import Painter

CARD = load_card(Path(__file__).parent / 'models' / 'palette_cityscapes19')
LEFT, DEPTH = '/zed/zed_node/left/image_rect_color', '/zed/zed_node/depth/depth_registered'
CAM = '/cam/image_raw'


@pytest.fixture(scope='module')
def cases(data_dir):
    folder = data_dir / 'cases'
    if not folder.is_dir():
        pytest.skip(f'{data_dir} has no cases')
    return folder


@pytest.fixture(scope='module')
def outcome():
    """Run each frame of a source as the node does; count by topic what becomes of it."""
    backend = backends.load('onnxruntime', CARD, providers=['CPUExecutionProvider'], threads=1)
    pipeline = Pipeline(HostSegmenter(CARD, backend), CARD.main_output.classes)

    def outcome(source):
        counts = Counter()
        types = {topic.name: topic.type for topic in source.topics if topic.is_image}
        for record in source.records(types, Span(), None if not source.restamps else 0):
            parse = parse_image if types[record.topic] == IMAGE else parse_compressed_image
            [found] = pipeline.process([Frame('a', parse(record.data))], [['mask']], StageClock())
            counts[record.topic, found.reason if isinstance(found, FrameError) else 'mask'] += 1
        return counts
    yield outcome
    backend.close()


BAGS = {
    'zed': {(LEFT, 'mask'): 8, (DEPTH, 'encoding'): 8},
    'depth_only': {('/camera/depth/image_rect_raw', 'encoding'): 8},
    '8uc3': {('/image_front_left', 'encoding'): 8},
    'mjpeg_format': {(f'{CAM}/compressed', 'mask'): 8},
    'zero_stamps': {(CAM, 'mask'): 8}, 'dup_stamps': {(CAM, 'mask'): 8},
    'log_zero': {(CAM, 'mask'): 8}, 'one_line_image': {(CAM, 'mask'): 8, (CAM, 'size'): 16},
    'ros1_profile': {(CAM, 'mask'): 3}, 'profile_empty': {(CAM, 'mask'): 8},
    'json_other': {(CAM, 'mask'): 8},
}


def test_every_case_has_its_outcome_here(cases):
    assert {path.stem for path in (cases / 'bags').iterdir()} == set(BAGS)
    assert {path.name for path in (cases / 'videos').iterdir()} == set(VIDEOS)
    assert {path.name for path in (cases / 'photos').iterdir()} == set(PHOTOS)


@pytest.mark.parametrize('name', BAGS)
def test_bags(cases, outcome, name):
    with open_source(cases / 'bags' / f'{name}.mcap') as source:
        assert outcome(source) == BAGS[name]
        told = source.remarks()
    assert told == (['/meta is left alone: it holds no ROS messages (json, 0 messages)']
                    if name == 'json_other' else [])


def test_what_a_recording_declares_badly_can_be_declared(cases, outcome):
    path = cases / 'bags' / '8uc3.mcap'
    with open_source(path, encodings={'*front*': 'bgr8'}) as source:
        assert outcome(source) == {('/image_front_left', 'mask'): 8}
    for given, said in (({'*': 'mono8'}, 'cannot be mono8: 8UC3 has 3 bytes a pixel, mono8 1'),
                        ({'*': 'bgra8'}, 'cannot be bgra8'),
                        ({'*': 'yuv9'}, "'yuv9' is unknown; allowed: bgr8"),
                        ({'/rear': 'bgr8'}, 'has no raw image topic /rear; it has /image_front')):
        with (pytest.raises(ConfigError, match=said),
              open_source(path, encodings=given) as source):
            list(source.records(['/image_front_left']))


VIDEOS = {  # frames, pieces lost, frames with damage; the top left corner is red where upright
    'damaged_mid.mp4': (53, 7, 1), 'badindex.avi': (46, 1, 0), 'cut_faststart.mp4': (30, 1, 0),
    'rot90.mp4': (12, 0, 0), 'rot180.mp4': (12, 0, 0)}


@pytest.mark.parametrize('name', VIDEOS)
def test_videos(cases, name):
    frames, lost, damaged = VIDEOS[name]
    with open_source(cases / 'videos' / name) as source:
        [topic] = source.topics
        found = [parse_image(record.data) for record in source.records([topic.name], Span(), 0)]
        assert len(found) == frames
        assert (source.losses['damaged_packets'], source.losses['damaged_frames']) == (
            lost, damaged)
        assert [f'{lost} piece' in line for line in source.remarks()][:1] == [True] * (lost > 0)
    times = np.diff([image.header.stamp_ns for image in found])
    assert times.min() > 0 and (lost or set(times) == {100_000_000})
    assert (found[0].width, found[0].height) == ((96, 160) if name == 'rot90.mp4' else (160, 96))


def test_turned_videos_are_upright(cases):
    """All were made of one scene: the pictures are those of it, turned back."""
    def first(name):
        with open_source(cases / 'videos' / name) as source:
            record = next(source.records(['camera/image_raw'], Span(), 0))
            image = parse_image(record.data)
            return image.data.reshape(image.height, image.width, 3).astype(int)
    stored = first('cut_faststart.mp4')
    assert np.abs(first('rot90.mp4') - np.rot90(stored, -1)).mean() < 3
    assert np.abs(first('rot180.mp4') - stored[::-1, ::-1]).mean() < 3


PHOTOS = {'exif6': [(160, 96)] * 2, 'exif3': [(96, 160)] * 2, 'appledouble': [(96, 160)] * 2,
          'mixed': [(96, 160), (160, 96), (192, 320)]}


@pytest.mark.parametrize('name', PHOTOS)
def test_photos(cases, name):
    shown = {}
    for transport, parse in (('raw', parse_image), ('compressed', parse_compressed_image)):
        with open_source(cases / 'photos' / name, FrameOptions(transport=transport)) as source:
            records = list(source.records([source.topics[0].name], Span(), 0))
            assert source.remarks() == []
        shown[transport] = [Frame('a', parse(record.data)).bgr for record in records]
    assert [image.shape[:2] for image in shown['raw']] == PHOTOS[name]
    for raw, compressed in zip(*shown.values(), strict=True):
        assert np.abs(raw.astype(int) - compressed).mean() < 3, 'one rule for both transports'


def test_the_demo_shows_each_camera_that_gave_masks(cases, tmp_path):
    """And names the refused one, with the reason and the mend; no frame is dropped in lockstep."""
    printed = demo('--input', cases / 'bags/zed.mcap', '--model', CARD.directory, '--lockstep',
                   '--out', tmp_path / 'out')
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert report['frames_segmented'] == 8 and report['frames_refused'] == 8
    assert {path.name for path in (tmp_path / 'out').iterdir()} == set(report['files']) == {
        'contact_sheet_zed_zed_node_left.png', 'overlay_zed_zed_node_left.mp4', 'report.json',
        'result', 'node.log'}
    assert 'none was segmented' in printed and "'32FC1'" in printed and '--topics' in printed


def test_pictures_of_mixed_sizes_are_all_shown(cases, tmp_path):
    with open_source(cases / 'photos/mixed') as source:
        [run] = camera_runs(source)
        shown = [parse_image(record.data) for record in
                 source.records([run.source_topic], Span(), 0)]
    frames = [MatchedFrame(index, Frame('a', image).bgr, {
        run.output(name): np.zeros((image.height, image.width), np.uint8)
        for name in ('mask', 'drivable')}) for index, image in enumerate(shown)]
    report = {'cameras': {'camera': {'masks': 3, 'sent': 3}}, 'wall_s': 1.0, 'model': 'm',
              'fps': 3.0, 'backend': 'b', 'latency_ms': {}}
    assert draw(frames, run, tmp_path, '', Painter(CARD.main_output.classes), report, {}) == [
        'contact_sheet.png', 'overlay.mp4']
    with Video(tmp_path / 'overlay.mp4') as video:
        assert len(list(video.frames())) == 3
