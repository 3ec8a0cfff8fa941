"""Presets: the files, and what comes out of the real node, read as each consumer reads it."""

import re
import sys

from harness import image_cdr, LATCHED, MODELS, NodeProcess, read_node
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo
from test_node_outputs import camera_info, painted, ROOT, TABLE
import yaml

from seg_node.errors import ConfigError
from seg_node.model.grouping import Grouping
from seg_node.model.taxonomy import load_taxonomy, remap_lut
from seg_node.ros.presets import load_preset, shipped
from seg_node.running.loading import PipelineSpec

PALETTE = MODELS / 'palette_cityscapes19'
HEIGHT, WIDTH = 120, 160


def costmap():
    """Return the layer's source of the example in the documentation."""
    text = (ROOT / 'docs' / 'consumers.md').read_text(encoding='utf-8')
    example = re.search('<!-- nav2 -->\n```yaml\n(.*?)```', text, re.S)[1]
    layer = yaml.safe_load(example)['local_costmap']['local_costmap']['ros__parameters']
    return layer['semantic_layer']['front']


class Nav2:
    """SemanticSegmentationLayer's and SegmentationBuffer's rules, as its source has them."""

    def __init__(self, source):
        self.listed = {name for kind in source['class_types'] for name in source[kind]['classes']}
        self.names, self.errors = {}, []

    def labels(self, info):
        for entry in info.class_map:
            if entry.class_name not in self.listed:
                self.errors.append(f'CRITICAL ERROR: {entry.class_name} is not listed')
            else:
                self.names[entry.class_id & 0xff] = entry.class_name

    def classes(self, mask, cloud_width, cloud_height):
        """Return the class name of each point of the cloud, None = skipped."""
        assert self.names, 'dropped: no LabelInfo yet'
        assert mask.width * mask.height == cloud_width * cloud_height, 'dropped: sizes differ'
        assert len(mask.data) >= mask.width * mask.height, 'dropped: too short'
        return [[self.names.get(int(mask.data[v * cloud_width + u])) for u in range(cloud_width)]
                for v in range(cloud_height)]


def nvblox(mask, info):
    """Return what nvblox makes of a mask, by its conversion and its exact synchroniser."""
    assert mask.encoding == 'mono8', 'Invalid mask image encoding'
    assert mask.header.stamp_ns == info.header.stamp.sec * 10**9 + info.header.stamp.nanosec
    assert (info.width, info.height) == (mask.width, mask.height)
    return np.asarray(mask.data[:mask.height * mask.width]).reshape(mask.height, mask.width)


def autoware(mask):
    """Decode as segmentation_pointcloud_fusion does, whose bound check comes after the write."""
    data, out, index = bytes(mask.data), np.zeros(mask.height * mask.width + 1, np.uint8), 0
    for at in range(0, len(data), 5):
        value, length = data[at], int.from_bytes(data[at + 1:at + 5], 'little', signed=True)
        out[index:index + length] = value
        index += length
    assert index == mask.height * mask.width, 'written beyond the image, or not to its end'
    return out[:-1].reshape(mask.height, mask.width)


def exchange(client, cameras, topics, **parameters):
    """Send each camera a picture until all topics have answered to the last one sent."""
    pictures = {camera: painted(HEIGHT, WIDTH, seed) for seed, camera in enumerate(cameras)}
    stamp = 0

    def answered():
        nonlocal stamp
        stamp += 1
        for camera, (_, image) in pictures.items():
            client.send(f'/{camera}/camera_info', camera_info(HEIGHT, WIDTH), CameraInfo)
            client.send(f'/{camera}/image_raw', image_cdr(image, stamp))
        return client.spin_until(lambda: all(map(now, topics)), 0.5)

    def now(topic):
        return any(getattr(message.header, 'stamp_ns', None) == stamp
                   or getattr(message.header, 'stamp', None) is not None
                   and message.header.stamp.nanosec == stamp
                   for message in client.messages[topic])
    assert any(answered() for _ in range(60)), [topic for topic in topics if not now(topic)]
    return {camera: labels for camera, (labels, _) in pictures.items()}, {
        topic: [message for message in client.messages[topic]
                if getattr(message.header, 'stamp_ns', None) == stamp
                or getattr(message.header, 'stamp', None) is not None
                and message.header.stamp.nanosec == stamp][0] for topic in topics}


def run(folder, preset, cameras, *arguments, **parameters):
    return NodeProcess(folder, *arguments, model=PALETTE, backend='onnxruntime', preset=preset,
                       cameras=f'[{", ".join(cameras)}]', on_doubtful='publish',
                       max_age_s=3600.0, **parameters)


def test_nav2_takes_it_and_logs_no_error(message_types, client, tmp_path):
    """Two cameras, half the size; who comes late gets the LabelInfo as well."""
    from vision_msgs.msg import LabelInfo
    topics = ['/segmentation/left/mask', '/segmentation/right/mask',
              '/segmentation/right/confidence', '/segmentation/left/overlay']
    for topic in topics:
        client.listen(topic)
    with run(tmp_path, 'nav2', ['left', 'right'], output_width=80, output_height=60):
        sent, got = exchange(client, ['left', 'right'], topics)
        late = client.listen('/segmentation/right/label_info', LabelInfo, LATCHED)
        assert client.spin_until(lambda: bool(late))
    layer = Nav2(costmap())
    layer.labels(late[0])
    assert not layer.errors and set(layer.names.values()) == layer.listed
    labels = sent['right'][1::2, 1::2]
    grouped = load_preset('nav2').label_map
    expected = [[None if name == 'drop' else name for name in
                 (grouped[TABLE.names[label]] for label in row)] for row in labels]
    assert layer.classes(got['/segmentation/right/mask'], 80, 60) == expected
    confidence = got['/segmentation/right/confidence']
    assert (confidence.width, confidence.height, confidence.encoding) == (80, 60, 'mono8')


def test_nvblox_takes_it(client, tmp_path):
    mask, info = '/car/camera_1/mask/image', '/car/camera_1/mask/camera_info'
    client.listen(mask)
    client.listen(info, CameraInfo)
    with run(tmp_path, 'nvblox', ['near', 'far'], '-r', '__ns:=/car',
             near__image_topic='/near/image_raw', far__image_topic='/far/image_raw'):
        sent, got = exchange(client, ['near', 'far'], [mask, info])
    np.testing.assert_array_equal(nvblox(got[mask], got[info]), TABLE.dynamic_lut()[sent['far']]
                                  // 255)


def test_autoware_takes_it(client, tmp_path):
    mask = '/perception/object_recognition/detection/mask0'
    client.listen(mask)
    client.listen('/seg_node/solo/mask')
    with run(tmp_path, 'autoware', ['solo']):
        sent, got = exchange(client, ['solo'], [mask, '/seg_node/solo/mask'])
    lut = remap_lut(TABLE, load_taxonomy('autoware16'))
    np.testing.assert_array_equal(autoware(got[mask]), lut[sent['solo']])
    plain = got['/seg_node/solo/mask']
    np.testing.assert_array_equal(plain.data.reshape(HEIGHT, WIDTH), lut[sent['solo']])


def configured(**parameters):
    """Do what configure does, as far as it needs no device."""
    with read_node(*(word for name, value in parameters.items()
                     for word in ('-p', f'{name}:={value}'))) as (_, live, settings):
        return PipelineSpec.check(settings.model, settings.wish, live.tuning(),
                                  taxonomy=settings.taxonomy, grouping=settings.grouping)


@pytest.mark.parametrize('preset, parameters, words', [
    ('nvblox', {'output_width': 80, 'output_height': 60}, 'leave both at 0'),
    ('nvblox', {'cameras': '[a, b, c, d, e]'}, 'takes at most 4'),
    ('nav2', {'taxonomy': 'autoware16'}, "'road' is not a class of autoware16"),
    ('nav3', {}, "Did you mean 'nav2'"),
    ('autoware', {'model': MODELS / 'palette_binary'}, 'There is no remap'),
])
def test_what_cannot_hold_is_refused_with_the_mend(message_types, preset, parameters, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        configured(**{'model': PALETTE, 'preset': preset, **parameters})


def test_nav2_without_vision_msgs_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, 'vision_msgs.msg', None)
    with pytest.raises(ConfigError, match='apt install ros-.ROS_DISTRO-vision-msgs'):
        configured(model=PALETTE, preset='nav2')


def test_shipped_presets_are_named_in_the_documentation():
    text = (ROOT / 'docs' / 'consumers.md').read_text(encoding='utf-8')
    assert shipped() == ['autoware', 'nav2', 'nvblox']
    for name in shipped():
        preset = load_preset(name)
        assert f'preset:={name}' in text
        for topic in preset.topics:
            assert preset.topic(topic, 'front', ['front']) != preset.topic(
                topic, 'rear', ['front', 'rear'])


@pytest.mark.parametrize('change, words', [
    ({'name': 'other'}, 'Make them equal'), ({'topics': {'masks': 'a'}}, "Did you mean 'mask'"),
    ({'topics': {'mask': 'a b'}}, 'allowed is a topic'),
    ({'topics': {'mask': '{cam}/mask'}}, 'allowed is a topic'),
    ({'parameters': {'overlay_alpa': 0.1}}, "Did you mean 'overlay_alpha'"),
    ({'parameters': {'overlay_alpha': 2.0}}, '0 .. 1'),
    ({'parameters': {'cameras': ['a']}}, 'no parameter that a preset can set'),
    ({'needs': ['coffee']}, 'allowed: vision_msgs'), ({'extra': 1}, 'not a known key'),
])
def test_a_wrong_file_is_refused(tmp_path, change, words):
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump({'name': 'mine', 'topics': {'mask': 'mask'}, **change}))
    with pytest.raises(ConfigError, match=re.escape(words)):
        load_preset(str(path))


def test_topics_of_several_cameras_must_differ(tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text('name: mine\ntopics: {mask: some/mask}\n')
    preset = load_preset(str(path))
    preset.check_cameras(['front'])
    with pytest.raises(ConfigError, match='put {camera} or {index} into it'):
        preset.check_cameras(['front', 'rear'])


@pytest.mark.parametrize('names, words', [
    ({**dict.fromkeys(TABLE.names, 'all'), 'Road': 'x'}, "Did you mean 'road'"),
    ({'road': 'road'}, 'what becomes of sidewalk'),
    (dict.fromkeys(TABLE.names, 'drop'), 'drops every class'),
])
def test_a_label_map_must_fit(names, words):
    with pytest.raises(ConfigError, match=words):
        Grouping(names, 'mine', 'mine.yaml: label_map').applied(TABLE)


def test_a_group_is_drivable_only_where_all_of_it_is():
    names = {**dict.fromkeys(TABLE.names, 'drop'), 'road': 'ground', 'sidewalk': 'ground',
             'car': 'moving', 'person': 'moving'}
    table = Grouping(names, 'mine', '').applied(TABLE)
    ground, moving = table.classes
    assert (ground.drivable, ground.ground, moving.dynamic) == (False, True, True)
    labels = np.arange(256, dtype=np.uint8)
    expected = np.full(256, 255)
    expected[[0, 1]], expected[[11, 13]] = 0, 1
    np.testing.assert_array_equal(remap_lut(TABLE, table)[labels], expected)
