"""Pixels in, pixels out: the real node over DDS with a model whose answer is known exactly."""

import json
from pathlib import Path

import cv2
from harness import (
    all_counted,
    compressed_cdr,
    CompressedImage,
    image_cdr,
    LATCHED,
    MODELS,
    NodeProcess,
    values,
)
import numpy as np
from patience import patience
import pytest
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import String

from seg_node.devices.choose import open_segmenter, Wish
from seg_node.frame import Frame, StageClock
from seg_node.image import wire
from seg_node.model.card import load_card
from seg_node.model.taxonomy import load_taxonomy, remap_lut
from seg_node.pipeline import Pipeline
from seg_node.running.warm_up import warm_up

ROOT = Path(__file__).resolve().parents[1]
TABLE = load_taxonomy('cityscapes19')
PALETTE = TABLE.palette_bgr()
STAMP_NS = 1_700_000_000_123_456_789
OUTPUTS = ('mask', 'confidence', 'entropy', 'drivable', 'dynamic_mask', 'overlay', 'color_mask')


def painted(height, width, seed=0, block=8):
    """Return random labels in blocks and the BGR image painted with the class colours."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, len(TABLE), (-(-height // block), -(-width // block)), np.uint8)
    labels = small.repeat(block, axis=0).repeat(block, axis=1)[:height, :width]
    return labels, PALETTE[labels]


def bonnet():
    """Return what the camera called ego sees of its own vehicle."""
    mask = np.zeros((120, 160), np.uint8)
    cv2.ellipse(mask, (80, 130), (90, 50), 0, 0, 360, 255, cv2.FILLED)
    return mask


@pytest.fixture(scope='module')
def node(tmp_path_factory, client):
    """Run one node with cameras: plain, wide, portrait, compressed, one that sees its bonnet."""
    folder = tmp_path_factory.mktemp('outputs')
    cv2.imwrite(str(folder / 'bonnet.png'), bonnet())
    # Exact values are compared, so the backend is the one whose arithmetic is the reference's.
    arguments = {'model': MODELS / 'palette_cityscapes19', 'backend': 'onnxruntime',
                 'image_timeout_s': 60.0,
                 'cameras': '[plain, wide, tall, jpeg, ego, small_bytes]',
                 'jpeg__transport': 'compressed',
                 'ego__ego_mask': folder / 'bonnet.png', 'ego__steadiness': True,
                 'wide__image_topic': '/sensors/wide/rgb', 'threads': 1, 'max_batch': 4,
                 'max_age_s': 3600.0}
    for camera in ('plain', 'wide', 'tall', 'jpeg', 'ego'):
        for output in OUTPUTS:
            client.listen(f'/seg_node/{camera}/{output}')
    with NodeProcess(folder, **arguments) as process:
        blank = np.zeros((120, 160, 3), np.uint8)
        _, file = cv2.imencode('.png', blank)
        for camera, topic in (('plain', '/plain/image_raw'), ('wide', '/sensors/wide/rgb'),
                              ('tall', '/tall/image_raw'), ('ego', '/ego/image_raw')):
            client.handshake(topic, [f'/seg_node/{camera}/{output}' for output in OUTPUTS],
                             image_cdr(blank, 1))
        client.handshake('/jpeg/image_raw/compressed', ['/seg_node/jpeg/mask'],
                         compressed_cdr(file.tobytes(), 1, 'png'), CompressedImage)
        yield process
        code, seconds = process.interrupt()
        assert code == 0 and seconds < patience(2), process.log


def pixels(message, channels=1):
    """Return the image of a published message, which must be packed."""
    assert message.step == message.width * channels
    assert len(message.data) == message.height * message.step
    shape = (message.height, message.width, channels)
    return message.data.reshape(shape[:2] if channels == 1 else shape)


def chances():
    """Return the softmax that the palette model has for each class's own colour, (C, C)."""
    colours = PALETTE[:len(TABLE), ::-1] / np.array([58.395, 57.12, 57.375])
    exponentials = np.exp(-((colours[:, None] - colours) ** 2).sum(axis=2))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def answers(client, camera, stamp_ns):
    """Wait for all outputs of one frame."""
    def found():
        return {output: message for output in OUTPUTS
                for message in client.messages[f'/seg_node/{camera}/{output}']
                if message.header.stamp_ns == stamp_ns}
    assert client.spin_until(lambda: len(found()) == len(OUTPUTS)), found().keys()
    return found()


def test_every_output_is_exact(client, node):
    labels, image = painted(120, 160)
    client.send('/plain/image_raw', image_cdr(image, STAMP_NS, 'front_optical'))
    got = answers(client, 'plain', STAMP_NS)
    for output, message in got.items():
        assert message.header.frame_id == 'front_optical', output
        assert message.header.stamp_ns == STAMP_NS, output
        assert not message.is_bigendian
        wanted = 'bgr8' if output in ('overlay', 'color_mask') else 'mono8'
        assert message.encoding == wanted, output
    np.testing.assert_array_equal(pixels(got['mask']), labels)
    np.testing.assert_array_equal(pixels(got['drivable']), TABLE.drivable_lut()[labels])
    np.testing.assert_array_equal(pixels(got['dynamic_mask']), (labels >= 11) * np.uint8(255))
    np.testing.assert_array_equal(pixels(got['color_mask'], 3), image)
    np.testing.assert_array_equal(pixels(got['overlay'], 3), image)  # half image, half colours
    sure = pixels(got['confidence']).astype(int)
    assert np.abs(sure - 255 * chances().diagonal()[labels]).max() <= 1
    torn = -255 * (chances() * np.log(chances())).sum(axis=1) / np.log(len(TABLE))
    assert np.abs(pixels(got['entropy']).astype(int) - torn[labels]).max() <= 1


def test_the_vehicle_itself_is_in_no_output(client, node):
    labels, image = painted(120, 160, seed=6)
    vehicle = bonnet() > 0
    client.send('/ego/image_raw', image_cdr(image, STAMP_NS, 'front_optical'))
    got = {name: pixels(message) for name, message in answers(client, 'ego', STAMP_NS).items()
           if message.encoding == 'mono8'}
    np.testing.assert_array_equal(got['mask'], np.where(vehicle, 255, labels))
    for name, table in (('drivable', TABLE.drivable_lut()), ('dynamic_mask', TABLE.dynamic_lut())):
        np.testing.assert_array_equal(got[name], np.where(vehicle, 0, table[labels]))
    assert not got['confidence'][vehicle].any() and got['confidence'][~vehicle].all()
    # Where all are sure, steadying changes nothing; but it is done.
    assert 'stage_steadiness_ms' in values(client.diagnostics('ego', until=lambda status: int(
        values(status).get('segmented', 0)) > 0))


def test_an_ego_mask_of_another_size_refuses_the_frames_and_says_why(client, node):
    """The size of the images is known only when the first one comes."""
    _, image = painted(60, 80)
    client.send('/ego/image_raw', image_cdr(image, 77))
    status = client.diagnostics('ego', until=lambda status: 'refused_ego-mask' in values(status))
    assert 'bonnet.png is for 160x120 images, but they are 80x60' in status.message
    assert not [message for message in client.messages['/seg_node/ego/mask']
                if message.header.stamp_ns == 77]


def test_padded_rows(client, node):
    labels, image = painted(120, 160, seed=1)
    padded = np.full((120, 500), 77, np.uint8)
    padded[:, :480] = image.reshape(120, 480)
    header = wire.Header(5, 6, 'cam')
    cdr = wire.build_image(header, 120, 160, 'bgr8', padded.reshape(-1), step=500)
    mask = client.exchange('/plain/image_raw', cdr, '/seg_node/plain/mask', 5_000_000_006)
    np.testing.assert_array_equal(pixels(mask), labels)


@pytest.mark.parametrize('encoding', ['rgb8', 'bgra8', 'rgba8', 'nv12', 'nv21'])
def test_encodings(client, node, encoding):
    labels, image = painted(120, 160, seed=2)
    if encoding.startswith('nv'):
        yuv = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
        luma, chroma = yuv[:120], yuv[120:].reshape(2, 60, 80)
        order = (0, 1) if encoding == 'nv12' else (1, 0)
        data = np.concatenate([luma.reshape(-1), chroma[order, :].transpose(1, 2, 0).reshape(-1)])
        cdr = wire.build_image(wire.Header(7, 1, 'cam'), 120, 160, encoding, data, step=160)
    else:
        code = {'rgb8': cv2.COLOR_BGR2RGB, 'bgra8': cv2.COLOR_BGR2BGRA,
                'rgba8': cv2.COLOR_BGR2RGBA}[encoding]
        cdr = image_cdr(cv2.cvtColor(image, code), 7_000_000_001, encoding=encoding)
    client.messages['/seg_node/plain/mask'].clear()
    mask = client.exchange('/plain/image_raw', cdr, '/seg_node/plain/mask', 7_000_000_001)
    np.testing.assert_array_equal(pixels(mask), labels)


@pytest.mark.parametrize('suffix, image_format', [
    ('.png', 'bgr8; png compressed bgr8'), ('.jpg', 'bgr8; jpeg compressed bgr8')])
def test_compressed(client, node, suffix, image_format):
    labels, image = painted(120, 160, seed=3, block=16)  # whole JPEG blocks
    quality = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
               cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444] if suffix == '.jpg' else []
    _, file = cv2.imencode(suffix, image, quality)
    client.messages['/seg_node/jpeg/mask'].clear()
    mask = client.exchange('/jpeg/image_raw/compressed',
                           compressed_cdr(file.tobytes(), 9_000_000_009, image_format),
                           '/seg_node/jpeg/mask', 9_000_000_009, kind=CompressedImage)
    np.testing.assert_array_equal(pixels(mask), labels)


def test_masks_in_fewer_bytes(client, node):
    """PNG loses nothing, Autoware's run lengths say its 16 classes, the overlay is a JPEG."""
    labels, image = painted(120, 160, seed=8)
    prefix = '/seg_node/small_bytes'
    topics = {f'{prefix}/{name}/compressed': CompressedImage
              for name in ('mask', 'drivable', 'overlay')}
    found = {topic: client.listen(topic, kind) for topic, kind in topics.items()}
    autoware = client.listen(f'{prefix}/autoware_mask')

    def all_there():
        client.send('/small_bytes/image_raw', image_cdr(image, 4242))
        return client.spin_until(lambda: all(found.values()) and bool(autoware), 0.5)
    assert any(all_there() for _ in range(60)), {name: len(got) for name, got in found.items()}
    files = {topic.split('/')[3]: got[-1] for topic, got in found.items()}
    assert files['mask'].format == 'mono8; png compressed mono8'
    assert files['overlay'].format == 'bgr8; jpeg compressed bgr8'
    assert files['mask'].header.stamp.nanosec == 4242
    read = {name: cv2.imdecode(np.frombuffer(bytes(file.data), np.uint8), cv2.IMREAD_UNCHANGED)
            for name, file in files.items()}
    np.testing.assert_array_equal(read['mask'], labels)
    np.testing.assert_array_equal(read['drivable'] > 0, labels == 0)
    assert read['overlay'].shape == (120, 160, 3)
    message = autoware[-1]
    assert (message.height, message.width, message.encoding) == (120, 160, 'mono8')
    runs = np.frombuffer(bytes(message.data), np.dtype([('value', 'u1'), ('length', '<i4')]))
    target = load_taxonomy('autoware16')
    lut = remap_lut(TABLE, target)
    lut[lut == 255] = 0
    np.testing.assert_array_equal(np.repeat(runs['value'], runs['length']).reshape(120, 160),
                                  lut[labels])


def test_two_cameras_of_different_size_at_once(client, node):
    """Each camera's answer is its own: size, stamp, frame and pixels."""
    sent = {}
    masks = {camera: client.messages[f'/seg_node/{camera}/mask'] for camera in ('wide', 'tall')}
    for turn in range(400):
        if turn >= 20 and all(len(found) >= 10 for found in masks.values()):
            break
        for camera, topic, size in (('wide', '/sensors/wide/rgb', (120, 320)),
                                    ('tall', '/tall/image_raw', (200, 120))):
            labels, image = painted(*size, seed=100 + turn)
            stamp_ns = 10**9 * (turn + 1) + size[1]
            sent[camera, stamp_ns] = labels
            client.send(topic, image_cdr(image, stamp_ns, f'{camera}_optical'))
        client.spin(0.05)
    client.spin(0.5)
    for camera, found in masks.items():
        assert len(found) >= 10, camera
        for mask in found:
            assert mask.header.frame_id == f'{camera}_optical'
            np.testing.assert_array_equal(pixels(mask), sent[camera, mask.header.stamp_ns])
    for camera in ('wide', 'tall'):
        client.diagnostics(camera, until=all_counted)


def test_stamps_that_jump_back_are_survived(client, node):
    """A bag that loops starts over with old stamps."""
    labels, image = painted(120, 160, seed=4)
    client.messages['/seg_node/plain/mask'].clear()
    for stamp_ns in (50_000_000_000, 20_000_000_000, 21_000_000_000, 3):
        mask = client.exchange('/plain/image_raw', image_cdr(image, stamp_ns),
                               '/seg_node/plain/mask', stamp_ns)
        np.testing.assert_array_equal(pixels(mask), labels)
    assert int(values(client.diagnostics('plain'))['stamps_back']) >= 2


def test_class_names_come_latched(client, node):
    """A subscriber that comes late still gets them."""
    found = client.listen('/seg_node/plain/label_info_json', String, LATCHED)
    assert client.spin_until(lambda: bool(found))
    info = json.loads(found[-1].data)
    assert info['taxonomy'] == 'cityscapes19' and info['unlabelled'] == 255
    assert [entry['class_name'] for entry in info['class_map']] == list(TABLE.names)
    assert [entry['class_id'] for entry in info['class_map']] == list(range(19))


def camera_info(height, width):
    info = CameraInfo(height=height, width=width, distortion_model='plumb_bob')
    info.k = [100.0, 0.0, width / 2 - .5, 0.0, 110.0, height / 2 - .5, 0.0, 0.0, 1.0]
    info.p = [100.0, 0.0, width / 2 - .5, 5.0, 0.0, 110.0, height / 2 - .5, 0.0, 0.0, 0.0, 1.0,
              0.0]
    info.d = [-0.2, 0.1, 0.0, 0.0, 0.0]
    info.header.frame_id = 'another'
    return info


def test_camera_info_follows_the_mask(client, node):
    found = client.listen('/seg_node/plain/camera_info', CameraInfo)
    _, image = painted(120, 160)

    def arrived():
        client.send('/plain/camera_info', camera_info(120, 160), CameraInfo)
        client.send('/plain/image_raw', image_cdr(image, STAMP_NS + 5, 'front_optical'))
        return client.spin_until(lambda: bool(found), 0.3)
    assert client.spin_until(arrived)
    info = found[-1]
    assert (info.height, info.width) == (120, 160)
    assert info.header.frame_id == 'front_optical'
    assert info.header.stamp.nanosec == (STAMP_NS + 5) % 10**9
    assert list(info.k) == list(camera_info(120, 160).k)


def test_camera_info_of_another_size_is_not_passed_on(client, node):
    found = client.listen('/seg_node/tall/camera_info', CameraInfo)
    _, image = painted(200, 120)

    def complains(status):
        client.send('/tall/camera_info', camera_info(480, 640), CameraInfo)
        client.send('/tall/image_raw', image_cdr(image, 77))
        return 'camera_info is for 640x480 but the images are 120x200' in status.message
    client.diagnostics('tall', until=complains)
    assert not found


def test_nothing_costly_is_made_for_nobody(client, node):
    """The compressed camera has subscribers everywhere; stage times prove the others do too."""
    status = values(client.diagnostics('plain'))
    assert {'stage_decode_ms', 'stage_preprocess_ms', 'stage_network_ms', 'stage_labels_ms',
            'stage_products_ms', 'stage_publish_ms'} <= set(status)


def test_output_size_taxonomy_and_drivable_classes(client, tmp_path):
    """A mask for Autoware at another size, with other classes drivable."""
    target = load_taxonomy('autoware16')
    for output in ('mask', 'drivable', 'overlay'):
        client.listen(f'/seg_node/small/{output}')
    info = client.listen('/seg_node/small/camera_info', CameraInfo)
    names = client.listen('/seg_node/small/label_info_json', String, LATCHED)
    with NodeProcess(tmp_path, model=MODELS / 'palette_cityscapes19', cameras='[small]',
                     backend='onnxruntime', output_width=80, output_height=60,
                     taxonomy='autoware16',
                     drivable_classes='[road, sidewalk]', max_age_s=3600.0):
        labels, image = painted(120, 160, seed=6)
        topics = [f'/seg_node/small/{output}' for output in ('mask', 'drivable', 'overlay')]
        client.handshake('/small/image_raw', topics, image_cdr(image, 1))

        def info_comes():
            client.send('/small/camera_info', camera_info(120, 160), CameraInfo)
            client.send('/small/image_raw', image_cdr(image, 2))
            return client.spin_until(lambda: bool(info), 0.3)
        assert client.spin_until(info_comes)
        mask = client.exchange('/small/image_raw', image_cdr(image, 99), topics[0], 99)
        small = labels[1::2, 1::2]
        np.testing.assert_array_equal(pixels(mask), remap_lut(TABLE, target)[small])
        assert client.spin_until(lambda: all(client.messages[topic] for topic in topics))
        drivable = client.messages[topics[1]][-1]
        np.testing.assert_array_equal(pixels(drivable) > 0, (small == 0) | (small == 1))
        assert pixels(client.messages[topics[2]][-1], 3).shape == (60, 80, 3)
        assert client.spin_until(lambda: bool(names))
        assert (info[-1].height, info[-1].width) == (60, 80)
        np.testing.assert_allclose(info[-1].k, [50, 0, 39.5, 0, 55, 29.5, 0, 0, 1])
        np.testing.assert_allclose(info[-1].p[3], 2.5)
        assert json.loads(names[-1].data)['taxonomy'] == 'autoware16'


@pytest.mark.parametrize('model', ['palette_two_heads', 'palette_fp16', 'palette_softmax',
                                   'palette_nhwc_uint8', 'palette_labels', 'palette_fixed'])
def test_every_kind_of_model(model):
    card = load_card(MODELS / model)
    segmenter = open_segmenter(card, Wish('onnxruntime', threads=1)).segmenter
    pipeline = Pipeline(segmenter, card.main_output.classes)
    warm_up(pipeline)
    labels, image = painted(120, 160, seed=8)
    message = wire.parse_image(image_cdr(image, 88))
    [result] = pipeline.process([Frame('', message)], [('mask', 'drivable')], StageClock())
    segmenter.close()
    np.testing.assert_array_equal(result.images['mask'], labels)
    road, terrain = TABLE.names.index('road'), TABLE.names.index('terrain')
    truth = labels == road
    if model == 'palette_two_heads':  # its drivable head takes terrain too
        truth |= labels == terrain
    np.testing.assert_array_equal(result.images['drivable'], truth * np.uint8(255))


def test_a_drivable_head_and_a_reliable_camera(client, tmp_path):
    topics = [f'/seg_node/sure/{name}' for name in ('mask', 'drivable')]
    masks, areas = map(client.listen, topics)
    with NodeProcess(tmp_path, model=MODELS / 'palette_two_heads', cameras='[sure]',
                     backend='onnxruntime', threads=1, sure__reliable=True):
        labels, image = painted(120, 160, seed=9)
        client.handshake('/sure/image_raw', topics, image_cdr(image, 1))
        client.send('/sure/image_raw', image_cdr(image, 2))
        assert client.spin_until(lambda: all(any(
            message.header.stamp_ns == 2 for message in found) for found in (masks, areas)))
    np.testing.assert_array_equal(pixels(masks[-1]), labels)
    truth = np.isin(labels, [TABLE.names.index(name) for name in ('road', 'terrain')])
    np.testing.assert_array_equal(pixels(areas[-1]), truth * np.uint8(255))
