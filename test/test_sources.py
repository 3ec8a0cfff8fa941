"""Bags, videos and folders of images as timed messages, and what is refused."""

import os
from pathlib import Path
import re
import shutil
import sqlite3

import cv2
import numpy as np
import pytest

pytest.importorskip('rosbags', reason='needs rosbags')

from mcap.reader import make_reader
from mcap.writer import Writer as McapWriter
from PIL import Image
from recordings import (
    folder,
    IMAGE,
    LATCHED,
    PERIOD_NS,
    picture,
    records,
    START_NS,
    STORE,
    string_cdr,
    write_bag,
    write_video,
)
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
import yaml

from seg_node.errors import ConfigError
from seg_node.image.photo import upright
from seg_node.image.wire import Header, parse_compressed_image, parse_image
from seg_node.playback import bags
from seg_node.playback.open_source import open_source
from seg_node.playback.picture_source import natural_key
from seg_node.playback.sources import FrameOptions, Record, Span
from seg_node.scoring import picture_file
from seg_node.scoring.picture_file import read_picture


def everything(source, *args):
    return list(source.records([topic.name for topic in source.topics], *args))


# Bags

@pytest.mark.parametrize('storage, mode', [
    (StoragePlugin.MCAP, CompressionMode.NONE), (StoragePlugin.MCAP, CompressionMode.STORAGE),
    (StoragePlugin.MCAP, CompressionMode.MESSAGE), (StoragePlugin.MCAP, CompressionMode.FILE),
    (StoragePlugin.SQLITE3, CompressionMode.NONE),
    (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    (StoragePlugin.SQLITE3, CompressionMode.FILE)])
def test_every_kind_of_rosbag2_gives_its_messages_byte_for_byte(tmp_path, storage, mode):
    path = write_bag(tmp_path / 'bag', records(), storage=storage, mode=mode)
    with open_source(path) as source:
        assert everything(source) == records()
        assert everything(source) == records(), 'a second time'
        assert [(topic.name, topic.type, topic.count) for topic in source.topics] == [
            (IMAGE, 'sensor_msgs/msg/Image', 5), ('/note', 'std_msgs/msg/String', 5)]
        assert not source.restamps


@pytest.mark.parametrize('storage, suffix', [(StoragePlugin.MCAP, '.mcap'),
                                             (StoragePlugin.SQLITE3, '.db3')])
def test_a_storage_file_alone_is_a_bag_too(tmp_path, storage, suffix):
    write_bag(tmp_path / 'bag', records(), storage=storage)
    alone = shutil.copy(tmp_path / 'bag' / f'bag{suffix}', tmp_path / f'alone{suffix}')
    with open_source(alone) as source:
        assert everything(source) == records()


def test_a_compressed_storage_file_is_read_with_the_metadata_beside_it(tmp_path):
    bag = write_bag(tmp_path / 'bag', records(), mode=CompressionMode.MESSAGE)
    with open_source(bag / 'bag.mcap') as source:
        assert everything(source) == records()
    alone = shutil.copy(bag / 'bag.mcap', tmp_path / 'alone.mcap')
    with (open_source(alone) as source,
          pytest.raises(ConfigError, match=r'zstd-compressed messages; give the bag.s folder')):
        everything(source)


@pytest.mark.parametrize('storage, suffix, name', [
    (StoragePlugin.MCAP, '.mcap', 'UP.MCAP'), (StoragePlugin.MCAP, '.mcap', 'a.mcap.active'),
    (StoragePlugin.SQLITE3, '.db3', 'no_ending'),
    (StoragePlugin.SQLITE3, '.db3', '50% #1 why?.db3')])
def test_a_bag_is_known_by_what_it_is(tmp_path, storage, suffix, name):
    write_bag(tmp_path / 'bag', records(), storage=storage)
    alone = shutil.copy(tmp_path / 'bag' / f'bag{suffix}', tmp_path / name)
    with open_source(alone) as source:
        assert everything(source) == records()


def split_bag(path, order):
    """Write a bag of 12 messages in 3 files that its metadata.yaml lists in some order."""
    path.mkdir()
    parts = [records(6)[4 * part:4 * part + 4] for part in range(3)]
    for part, messages in enumerate(parts):
        made = write_bag(path / 'made', messages, storage=StoragePlugin.SQLITE3)
        metadata = yaml.safe_load((made / 'metadata.yaml').read_text())
        shutil.move(made / 'made.db3', path / f'part_{part}.db3')
        shutil.rmtree(made)
    found = metadata['rosbag2_bagfile_information']
    found.pop('files', None)
    found['relative_file_paths'] = [f'part_{part}.db3' for part in order]
    found['starting_time']['nanoseconds_since_epoch'] = START_NS
    found['duration']['nanoseconds'] = 6 * PERIOD_NS
    found['message_count'] = 4 * len(order)
    for topic in found['topics_with_message_count']:
        topic['message_count'] = 6
    (path / 'metadata.yaml').write_text(yaml.dump(metadata))
    return path


def test_the_files_of_a_split_bag_are_read_by_their_time(tmp_path):
    with open_source(split_bag(tmp_path / 'good', [0, 1, 2])) as source:
        assert everything(source) == records(6) and source.remarks() == []
    with open_source(split_bag(tmp_path / 'mixed', [0, 2, 1])) as source:
        assert everything(source) == records(6)
        assert ['in another order' in line for line in source.remarks()] == [True]


def test_announced_messages_that_are_nowhere_are_an_error(tmp_path):
    with (open_source(split_bag(tmp_path / 'none', [])) as source,
          pytest.raises(ConfigError, match=r'announces 6 images on /camera/image_raw, but holds')):
        everything(source)


def test_messages_in_the_log_of_a_table_are_not_forgotten(tmp_path):
    """As a recorder leaves it that was killed."""
    path = write_bag(tmp_path / 'bag', records(), storage=StoragePlugin.SQLITE3)
    (path / 'bag.db3-wal').touch()
    with open_source(path) as source:
        assert everything(source) == records(), 'an empty one holds nothing'
    (path / 'bag.db3-wal').write_bytes(bytes(32))
    for given in (path, path / 'bag.db3'):
        with pytest.raises(ConfigError, match=r'bag.db3 was not closed.*wal_checkpoint'):
            open_source(given)


def test_times_that_ros_does_not_know_are_told(tmp_path):
    given = records()
    path = write_bag(tmp_path / 'bag', given, storage=StoragePlugin.SQLITE3)
    with sqlite3.connect(path / 'bag.db3') as table:
        table.execute('update messages set timestamp = ? where id = 10', [2 ** 62])
        table.execute('update messages set timestamp = 0 where id = 1')
        table.execute('update messages set timestamp = -5 where id = 2')
    table.close()
    with open_source(path) as source:
        found = everything(source)
        assert {record.data for record in found} == {record.data for record in given}
        times = [record.time_ns for record in found]
        assert times == sorted(times) and times[-1] == times[-2] == given[8].time_ns
        assert source.losses['times_impossible'] == 2
        assert ['2 messages have a time of rec' in line for line in source.remarks()] == [True]


def test_a_ros1_bag_is_converted_to_cdr(tmp_path):
    store = get_typestore(Stores.ROS1_NOETIC)
    types = store.types
    path = tmp_path / 'old.bag'
    pixels = np.arange(24, dtype=np.uint8)
    with Ros1Writer(path) as writer:
        header = types['std_msgs/msg/Header'](
            seq=7, stamp=types['builtin_interfaces/msg/Time'](sec=3, nanosec=5), frame_id='front')
        image = types['sensor_msgs/msg/Image'](header, 2, 4, 'bgr8', 0, 12, pixels)
        connection = writer.add_connection(IMAGE, 'sensor_msgs/msg/Image', typestore=store)
        writer.write(connection, START_NS,
                     bytes(store.serialize_ros1(image, 'sensor_msgs/msg/Image')))
        connection = writer.add_connection('/map', 'std_msgs/msg/String', typestore=store,
                                           latching=1)
        text = types['std_msgs/msg/String']('straße')
        writer.write(connection, START_NS + 1,
                     bytes(store.serialize_ros1(text, 'std_msgs/msg/String')))
        connection = writer.add_connection('/go', 'std_msgs/msg/Empty', typestore=store)
        writer.write(connection, START_NS + 2, b'')
    with open_source(path) as source:
        found = everything(source)
        assert [topic.latched for topic in source.topics] == [False, False, True]
        assert not any(source.problem(topic) for topic in source.topics)
    message = parse_image(found[0].data)
    assert message.header == Header(3, 5, 'front')
    assert (message.height, message.width, message.step) == (2, 4, 12)
    assert message.data.tobytes() == pixels.tobytes()
    assert found[1] == Record('/map', START_NS + 1, string_cdr('straße'))
    assert found[2].data == b'\x00\x01\x00\x00\x00', 'the byte of an empty ROS 2 message'


def test_a_part_of_a_bag_brings_the_latched_messages_before_it(tmp_path):
    old = Record('/tf_static', START_NS + 5, string_cdr('mounts'))
    path = write_bag(tmp_path / 'bag', [*records(), old], qos={'/tf_static': [LATCHED]},
                     types={'/tf_static': 'std_msgs/msg/String'})
    with open_source(path) as source:
        found = everything(source, Span(2 * PERIOD_NS, 2 * PERIOD_NS))
    start = START_NS + 2 * PERIOD_NS
    assert found == [Record('/tf_static', start, old.data), *records()[4:8]]


def test_only_the_topics_asked_for_are_read(tmp_path):
    path = write_bag(tmp_path / 'bag', records())
    with open_source(path) as source:
        assert {record.topic for record in source.records([IMAGE])} == {IMAGE}
        assert list(source.records([])) == []


def test_a_type_that_was_defined_differently_is_no_fit(tmp_path):
    store = get_typestore(Stores.ROS2_JAZZY)
    store.fielddefs.pop('std_msgs/msg/String')
    store.types.pop('std_msgs/msg/String')
    store.register(get_types_from_msg('string data\nuint32 checksum\n', 'std_msgs/msg/String'))
    path = write_bag(tmp_path / 'bag', records(), store=store)
    pytest.importorskip('std_msgs')
    with open_source(path) as source:
        image, note = source.topics
        assert source.problem(image) == ''
        assert 'another definition of std_msgs/msg/String' in source.problem(note)


def cut(path, share=0.6):
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])


@pytest.mark.parametrize('storage, name, mend', [
    (StoragePlugin.MCAP, 'bag.mcap', 'reindex'), (StoragePlugin.SQLITE3, 'bag.db3', 'reindex')])
def test_a_bag_that_was_cut_off_is_refused(tmp_path, storage, name, mend):
    path = write_bag(tmp_path / 'bag', records(40), storage=storage)
    cut(path / name)
    with pytest.raises(ConfigError, match=f'(?s)bag (cannot be opened|breaks after).*{mend}'):
        with open_source(path) as source:
            everything(source)


@pytest.mark.parametrize('mode', [CompressionMode.NONE, CompressionMode.STORAGE])
def test_of_a_cut_mcap_file_the_whole_messages_are_played(tmp_path, mode):
    """As a recorder leaves it that lost its power: without an index."""
    write_bag(tmp_path / 'bag', records(800), mode=mode)
    alone = Path(shutil.move(tmp_path / 'bag' / 'bag.mcap', tmp_path / 'alone.mcap'))
    cut(alone)
    with open_source(alone) as source:
        found = everything(source)
        assert 100 < len(found) < 1600 and found == records(800)[:len(found)]
        [remark] = source.remarks()
        assert 'alone.mcap is cut off' in remark and '`mcap recover`' in remark
        assert source.losses['files_cut_off'] == 1
    cut(alone, 0.0001)
    with pytest.raises(ConfigError, match='alone.mcap cannot be opened.*`mcap recover`'):
        open_source(alone)


def test_without_mcap_those_of_ros2_are_read_and_the_mend_is_told(tmp_path, monkeypatch):
    path = write_bag(tmp_path / 'bag', records())
    monkeypatch.setattr(bags, 'McapStorage', None)
    with open_source(path) as source:
        assert everything(source) == records()
    data = (path / 'bag.mcap').read_bytes()
    (tmp_path / 'b.mcap').write_bytes(data.replace(b'ros2', b'ros1', 1))
    with pytest.raises(ConfigError, match='b.mcap cannot be opened.*`pip install mcap`'):
        open_source(tmp_path / 'b.mcap')


@pytest.mark.parametrize('data', [b'', b'hello', b'\x89MCAP0\r\n'])
def test_what_is_no_mcap_file_is_told(tmp_path, data):
    (tmp_path / 'a.mcap').write_bytes(data)
    with pytest.raises(ConfigError, match='a.mcap cannot be opened: (the file is empty|its 5 byte'
                                          's begin with 68656c6c6f|it is cut off before)'):
        open_source(tmp_path / 'a.mcap')


def test_a_damaged_chunk_is_passed_over(tmp_path):
    path = write_bag(tmp_path / 'bag', records(800), mode=CompressionMode.STORAGE)
    data = bytearray((path / 'bag.mcap').read_bytes())
    at = data.index(b'\x28\xb5\x2f\xfd', len(data) // 2)  # a compressed chunk
    data[at:at + 40] = bytes(40)
    (path / 'bag.mcap').write_bytes(data)
    with open_source(path) as source:
        for _ in range(2):
            found = everything(source)
            assert 100 < len(found) < 1600 and found == [one for one in records(800)
                                                         if one in found]
            assert source.losses['damaged_chunks'] == 1
            assert ['1 groups of messages cannot be' in one for one in source.remarks()] == [True]


def test_channels_that_are_not_ros_are_left_alone(tmp_path):
    write_bag(tmp_path / 'bag', records())
    with (tmp_path / 'bag' / 'bag.mcap').open('rb') as file, (tmp_path / 'b.mcap').open(
            'wb') as out:
        writer = McapWriter(out)
        writer.start(profile='', library='test')
        schema = writer.register_schema('Meta', 'jsonschema', b'{}')
        json = writer.register_channel('/meta', 'json', schema)
        writer.add_message(json, START_NS - 5, b'{}', START_NS - 5)
        channels = {}
        for schema, channel, message in make_reader(file).iter_messages():
            if channel.topic not in channels:
                number = writer.register_schema(schema.name, schema.encoding, schema.data)
                channels[channel.topic] = writer.register_channel(channel.topic, 'cdr', number)
            writer.add_message(channels[channel.topic], message.log_time, message.data,
                               message.publish_time)
        writer.finish()
    with open_source(tmp_path / 'b.mcap') as source:
        assert everything(source) == records()
        assert source.remarks() == [
            '/meta is left alone: it holds no ROS messages (json, 1 messages)']


def test_a_bag_whose_middle_is_damaged_gives_what_is_before_it(tmp_path):
    path = write_bag(tmp_path / 'bag', records(40), storage=StoragePlugin.SQLITE3,
                     mode=CompressionMode.MESSAGE)
    data = bytearray((path / 'bag.db3').read_bytes())
    at = data.index(b'\x28\xb5\x2f\xfd', len(data) // 2)  # a compressed message
    data[at + 8:at + 40] = bytes(32)
    (path / 'bag.db3').write_bytes(data)
    found = []
    with open_source(path) as source, pytest.raises(ConfigError, match=r'breaks after \d+ mess'):
        for record in source.records([IMAGE, '/note']):
            found.append(record)
    assert 0 < len(found) < 80
    assert found == records(40)[:len(found)]


def test_a_cut_ros1_bag_is_refused(tmp_path):
    path = tmp_path / 'old.bag'
    path.write_bytes(b'#ROSBAG V2.0\n' + bytes(100))
    with pytest.raises(ConfigError, match='old.bag cannot be opened.*`rosbag reindex`'):
        open_source(path)


def test_a_bag_without_images_lists_what_it_holds(tmp_path):
    path = write_bag(tmp_path / 'bag', [record for record in records() if record.topic != IMAGE])
    with pytest.raises(ConfigError, match=r'no image to replay.*/note \(std_msgs/msg/String, 5\)'):
        open_source(path)


def test_an_empty_bag_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='no image to replay.*no topic at all'):
        open_source(write_bag(tmp_path / 'bag', []))


def test_a_folder_without_its_metadata_is_played_or_names_the_mend(tmp_path):
    """As a recorder leaves it that lost its power."""
    path = write_bag(tmp_path / 'bag', records())
    (path / 'metadata.yaml').unlink()
    with open_source(path) as source:
        assert everything(source) == records()
    shutil.copy(path / 'bag.mcap', path / 'other.mcap')
    with pytest.raises(ConfigError, match='bag.mcap and 1 more but no metadata.yaml.*ros2 bag re'):
        open_source(path)


def test_a_compressed_file_of_a_bag_is_refused(tmp_path):
    path = write_bag(tmp_path / 'bag', records(), mode=CompressionMode.FILE)
    with pytest.raises(ConfigError, match='give the folder'):
        open_source(path / 'bag.mcap.zstd')


def test_frame_options_do_not_fit_a_bag(tmp_path):
    with pytest.raises(ConfigError, match='is a bag.*Leave out --topic'):
        open_source(write_bag(tmp_path / 'bag', records()), FrameOptions())


# Videos and folders of images

def decoded(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        good, frame = capture.read()
        if not good:
            return frames
        frames.append(frame)


def test_a_video_gives_its_frames_at_its_own_rate(tmp_path):
    path = write_video(tmp_path / 'drive.avi')
    with open_source(path, FrameOptions(topic='front/image_raw', frame_id='eye')) as source:
        assert source.restamps
        assert (source.topics[0].name, source.topics[0].count) == ('front/image_raw', 6)
        found = everything(source, Span(), 10**9)
    assert [record.time_ns for record in found] == [10**9 + i * 50_000_000 for i in range(6)]
    for record, frame in zip(found, decoded(path), strict=True):
        message = parse_image(record.data)
        assert message.header.stamp_ns == record.time_ns
        assert (message.header.frame_id, message.encoding) == ('eye', 'bgr8')
        assert np.array_equal(message.data.reshape(48, 64, 3), frame)


def test_another_rate_and_a_part_of_a_video(tmp_path):
    path = write_video(tmp_path / 'drive.avi')
    with open_source(path, FrameOptions(fps=10)) as source:
        found = everything(source, Span(200_000_000, 300_000_000), 0)
    assert [record.time_ns for record in found] == [0, 100_000_000, 200_000_000]
    frame = parse_image(found[0].data).data.reshape(48, 64, 3)
    assert np.array_equal(frame, decoded(path)[2])


@pytest.mark.parametrize('make', [lambda path: write_video(path / 'a.avi', 6), folder])
def test_stamps_rise_on_when_frames_are_repeated(tmp_path, make):
    with open_source(make(tmp_path)) as source:
        first, second = everything(source, Span(), 5), everything(source)
    times = [record.time_ns for record in [*first, *second]]
    assert len(first) == len(second)
    assert len(set(np.diff(times))) == 1
    assert parse_image(first[1].data).data.tobytes() == parse_image(second[1].data).data.tobytes()


def test_a_folder_is_played_in_natural_order_at_10_fps(tmp_path):
    with open_source(folder(tmp_path)) as source:
        found = everything(source, Span(), 0)
    assert [record.time_ns for record in found] == [i * 100_000_000 for i in range(12)]
    for index, record in enumerate(found):
        message = parse_image(record.data)
        assert np.array_equal(message.data.reshape(48, 64, 3), picture(index))
        assert message.header.frame_id == 'camera_optical_frame'


@pytest.mark.parametrize('suffix, kind', [('.jpg', 'jpeg'), ('.png', 'png')])
def test_files_are_passed_on_as_they_are(tmp_path, suffix, kind):
    path = folder(tmp_path, suffix, 3)
    with open_source(path, FrameOptions(transport='compressed')) as source:
        assert source.topics[0].name == 'camera/image_raw/compressed'
        found = [parse_compressed_image(record.data) for record in everything(source, Span(), 0)]
    for index, message in enumerate(found):
        assert message.format == kind
        assert message.data.tobytes() == (path / f'frame{index}{suffix}').read_bytes()


def test_other_frames_become_good_jpegs(tmp_path):
    path = tmp_path / 'frames'
    path.mkdir()
    smooth = cv2.resize(picture(0, 4, 4), (64, 48), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path / 'a.bmp'), smooth)
    with open_source(path, FrameOptions(transport='compressed')) as source:
        message = parse_compressed_image(everything(source, Span(), 0)[0].data)
    assert message.format == 'bgr8; jpeg compressed bgr8'
    assert cv2.PSNR(cv2.imdecode(message.data, cv2.IMREAD_COLOR), smooth) > 30


def test_hidden_files_are_no_pictures(tmp_path):
    """What macOS puts beside each file on foreign disks has its name and is none."""
    path = folder(tmp_path, count=3)
    (path / '._frame0.png').write_bytes(b'\x00\x05\x16\x07AppleDouble')
    with open_source(path) as source:
        assert len(everything(source, Span(), 0)) == 3


def test_natural_order():
    names = ['b1.png', 'a10.png', 'a9.png', '7.png', 'a9b2.png', '10.png']
    assert sorted(names, key=natural_key) == [
        '7.png', '10.png', 'a9.png', 'a9b2.png', 'a10.png', 'b1.png']


CALIBRATION = """
image_width: {width}
image_height: 48
camera_name: test
distortion_model: plumb_bob
camera_matrix: {{rows: 3, cols: 3, data: [60, 0, 31.5, 0, 61, 23.5, 0, 0, 1]}}
distortion_coefficients: {{rows: 1, cols: 5, data: [-0.2, 0.1, 0, 0, 0.01]}}
rectification_matrix: {{rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}}
projection_matrix: {{rows: 3, cols: 4, data: [55, 0, 30.5, 0, 0, 56, 22.5, 0, 0, 0, 1, 0]}}
"""


def calibration(tmp_path, width=64):
    path = tmp_path / 'camera.yaml'
    path.write_text(CALIBRATION.format(width=width))
    return path


@pytest.mark.parametrize('transport', ['raw', 'compressed'])
def test_camera_info_goes_beside_each_frame(tmp_path, transport):
    pytest.importorskip('rclpy')
    options = FrameOptions(topic='front/image_raw', frame_id='eye', transport=transport,
                           camera_info=calibration(tmp_path))
    with open_source(folder(tmp_path, count=3), options) as source:
        found = everything(source, Span(), 2 * 10**9 + 7)
    infos, images = found[0::2], found[1::2]
    assert {record.topic for record in infos} == {'front/camera_info'}
    for info, image in zip(infos, images, strict=True):
        assert info.data[4:12] == image.data[4:12], 'the same stamp'
        message = STORE.deserialize_cdr(info.data, 'sensor_msgs/msg/CameraInfo')
        assert (message.header.frame_id, message.width, message.height) == ('eye', 64, 48)
        assert message.distortion_model == 'plumb_bob'
        assert message.d.tolist() == [-0.2, 0.1, 0, 0, 0.01]
        assert message.k.tolist() == [60, 0, 31.5, 0, 61, 23.5, 0, 0, 1]
        assert message.p.tolist() == [55, 0, 30.5, 0, 0, 56, 22.5, 0, 0, 0, 1, 0]


def test_a_calibration_of_another_size_is_refused(tmp_path):
    pytest.importorskip('rclpy')
    options = FrameOptions(camera_info=calibration(tmp_path, width=128))
    with (open_source(folder(tmp_path, count=1), options) as source,
          pytest.raises(ConfigError, match=r'frame0.png is 64x48.*for 128x48')):
        everything(source, Span(), 0)


def test_a_path_that_is_missing_says_what_is_allowed(tmp_path):
    with pytest.raises(ConfigError, match=r'gone.mp4 does not exist.*\.mcap.*\.mp4.*folder'):
        open_source(tmp_path / 'gone.mp4')


def test_what_is_no_recording_is_refused(tmp_path):
    """FFmpeg takes text for a video of its own."""
    for name, said in (('notes.txt', 'is no video, but Tele-typewriter'),
                       ('drive.xyz', 'cannot be opened as a video')):
        (tmp_path / name).write_text('what we saw\n' * 100)
        with pytest.raises(ConfigError, match=f'{name}.*{said}'):
            open_source(tmp_path / name)
    os.mkfifo(tmp_path / 'pipe.mp4')
    with pytest.raises(ConfigError, match='pipe.mp4 is a device or a pipe'):
        open_source(tmp_path / 'pipe.mp4')


def test_the_suffix_of_a_video_says_nothing(tmp_path):
    path = write_video(tmp_path / 'drive.avi').rename(tmp_path / 'drive.MTS')
    with open_source(path) as source:
        assert len(everything(source, Span(), 0)) == 6


def test_names_that_are_no_text_are_told_and_harm_nobody(tmp_path):
    (tmp_path / 'pictures').mkdir()
    cv2.imwrite(str(tmp_path / 'pictures' / 'b.png'), picture(0))
    broken = Path(os.fsdecode(os.fsencode(tmp_path / 'pictures') + b'/a\xe9.png'))
    broken.write_bytes(b'no picture')
    with open_source(tmp_path / 'pictures') as source:
        assert len(everything(source, Span(), 0)) == 1
        assert source.remarks()[0].encode() and 'a\\udce9.png' in source.remarks()[0]
    with pytest.raises(ConfigError, match='is no UTF-8.*rename it'):
        open_source(broken)


def test_what_may_not_be_read_is_told(tmp_path, monkeypatch):
    path = folder(tmp_path, count=1)
    for given, said in ((tmp_path / ('a' * 5000), 'cannot be read: File name too long'),
                        (path / 'frame0.png' / 'b', 'does not exist'),
                        (tmp_path / 'loop', 'cannot be read: Too many levels of symbolic links')):
        if given.name == 'loop':
            given.symlink_to('loop')
        with pytest.raises(ConfigError, match=said):
            open_source(given)
    monkeypatch.setattr(os, 'access', lambda place, mode: not mode & os.X_OK)
    with pytest.raises(ConfigError, match='frames cannot be read: this user has no right to'):
        open_source(path)


def test_home_is_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(folder(tmp_path, count=2).parent))
    with open_source('~/frames') as source:
        assert source.path == tmp_path / 'frames'


def test_a_single_image_points_to_its_folder(tmp_path):
    with pytest.raises(ConfigError, match='give the folder'):
        open_source(folder(tmp_path) / 'frame0.png')


def test_a_folder_without_images_says_what_it_found(tmp_path):
    (tmp_path / 'notes.txt').touch()
    with pytest.raises(ConfigError, match=r'holds no image.*found: 1 x \.txt'):
        open_source(tmp_path)
    (tmp_path / 'notes.txt').unlink()
    with pytest.raises(ConfigError, match='found: no file at all'):
        open_source(tmp_path)


@pytest.mark.parametrize('data', [b'', b'not an image', bytes(1000)])
def test_a_file_that_is_no_video_is_refused(tmp_path, data):
    path = tmp_path / 'drive.mp4'
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=rf'drive.mp4 \({len(data)} bytes\) cannot be opened'):
        open_source(path)


def test_a_video_without_frames_is_refused(tmp_path):
    path = write_video(tmp_path / 'drive.avi', count=0)
    with pytest.raises(ConfigError, match='cannot be opened as a video|holds no frame'):
        open_source(path)


@pytest.mark.parametrize('suffix, message', [
    ('.jpg', 'cannot be read.*Remove or mend'), ('.png', 'cannot be read.*Remove or mend'),
    ('.bmp', 'not an image that can be read')])
@pytest.mark.parametrize('transport', ['raw', 'compressed'])
def test_a_damaged_image_is_left_out_and_named(tmp_path, suffix, message, transport):
    path = folder(tmp_path, suffix, 3)
    cut(path / f'frame1{suffix}', 0.5 if suffix != '.bmp' else 0.001)
    with open_source(path, FrameOptions(transport=transport)) as source:
        found = everything(source, Span(), 0)
        assert [record.time_ns for record in found] == [0, 200_000_000], 'the others in their time'
        assert source.losses['pictures_unreadable'] == 1
        [remark] = source.remarks()
    assert re.search(f'1 of 3 pictures are left out: .*frame1{suffix}.*{message}', remark)
    for file in path.iterdir():
        cut(file, 0.001)
    with (open_source(path, FrameOptions(transport=transport)) as source,
          pytest.raises(ConfigError, match='none of the 3 pictures in .*frame0')):
        everything(source, Span(), 0)


def test_pictures_of_other_kinds_are_told_of(tmp_path):
    path = folder(tmp_path, count=2)
    (path / 'a.CR2').touch()
    (path / 'notes.txt').touch()
    with open_source(path) as source:
        assert len(everything(source, Span(), 0)) == 2
        [remark] = source.remarks()
    assert '1 .cr2 left out' in remark


def test_a_huge_picture_is_refused_by_its_header(tmp_path):
    path = folder(tmp_path, '.bmp', 1)
    data = bytearray((path / 'frame0.bmp').read_bytes())
    data[18:26] = (60_000).to_bytes(4, 'little') * 2
    (path / 'frame0.bmp').write_bytes(data)
    with (open_source(path) as source,
          pytest.raises(ConfigError, match=r'frame0.bmp is too large: Image size \(36000')):
        everything(source, Span(), 0)


@pytest.mark.parametrize('turned', range(1, 9))
def test_one_rule_for_turned_pictures_of_every_kind(tmp_path, turned):
    exif = Image.Exif()
    exif[0x112] = turned
    stored = np.ascontiguousarray(picture(0)[..., ::-1])
    for suffix in ('.tif', '.webp', '.png'):
        Image.fromarray(stored).save(tmp_path / f'a{suffix}', exif=exif, lossless=True)
        np.testing.assert_array_equal(read_picture(tmp_path / f'a{suffix}'),
                                      upright(picture(0), turned))


def test_films_are_no_pictures(tmp_path):
    films = [Image.fromarray(picture(index)) for index in range(3)]
    for suffix in ('.webp', '.avif'):
        films[0].save(tmp_path / f'a{suffix}', save_all=True, append_images=films[1:])
        with pytest.raises(ConfigError, match='a film of 3 pictures. Convert it to a video'):
            read_picture(tmp_path / f'a{suffix}')
    films[0].save(tmp_path / 'a.tif', save_all=True, append_images=films[1:])
    assert read_picture(tmp_path / 'a.tif').shape == (48, 64, 3), 'previews and pages'


@pytest.mark.parametrize('transport', ['raw', 'compressed'])
def test_the_ending_of_a_picture_says_nothing(tmp_path, transport):
    Image.fromarray(picture(0)).save(tmp_path / 'a.png', format='BMP')
    Image.fromarray(picture(1)).save(tmp_path / 'b.jpg', format='PNG')
    with open_source(tmp_path, FrameOptions(transport=transport)) as source:
        assert len(everything(source, Span(), 0)) == 2 and not source.remarks()


def test_photos_of_telephones(tmp_path):
    pytest.importorskip('pillow_heif', reason='needs pillow-heif')
    smooth = cv2.resize(picture(0, 4, 6), (96, 64), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(np.ascontiguousarray(smooth[..., ::-1])).save(
        tmp_path / 'a.HEIC', 'HEIF', quality=95)
    with open_source(tmp_path) as source:
        [record] = everything(source, Span(), 0)
    image = parse_image(record.data)
    assert cv2.PSNR(image.data.reshape(image.height, image.width, 3), smooth) > 25


def test_without_the_plugin_heic_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_file, 'pillow_heif', None)
    (tmp_path / 'a.heic').write_bytes(b'\0\0\0\x18ftypheix' + bytes(100))
    with (open_source(tmp_path) as source,
          pytest.raises(ConfigError, match='a.heic .* is not an image.*Install pillow-heif')):
        everything(source, Span(), 0)


def test_pictures_of_16_bit_keep_their_range(tmp_path):
    deep = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 20
    for name in ('deep.tif', 'deep.pgm'):
        cv2.imwrite(str(tmp_path / name), deep)
        np.testing.assert_array_equal(read_picture(tmp_path / name)[..., 0], deep >> 8)


@pytest.mark.parametrize('fps', [0, -3, float('nan'), float('inf'), 1e9])
def test_a_rate_that_is_none_is_refused(tmp_path, fps):
    with pytest.raises(ConfigError, match='fps is .*; give frames per second'):
        open_source(folder(tmp_path, count=1), FrameOptions(fps=fps))


def test_an_unknown_transport_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="'theora' is unknown; give raw or compressed"):
        open_source(folder(tmp_path), FrameOptions(transport='theora'))
