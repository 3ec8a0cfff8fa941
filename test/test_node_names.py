"""One node, several cameras: names that are remapped, hints, switches, changes while it runs."""

import re
import subprocess
import sys
import time

from harness import image_cdr, MODELS, NodeProcess, values
import numpy as np
import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParametersAtomically
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import SetBool
from test_node_outputs import camera_info, painted, pixels, ROOT, TABLE

from seg_node.ros.state import DISABLED

MASK, DRIVABLE = '/seg_node/usb/mask', '/seg_node/usb/drivable'


@pytest.fixture(scope='module')
def node(tmp_path_factory, client):
    for topic in (MASK, DRIVABLE, '/seg_node/usb/dynamic_mask'):
        client.listen(topic)
    with NodeProcess(tmp_path_factory.mktemp('names'), '-r', 'usb/image_raw:=/dev/image_raw',
                     model=MODELS / 'palette_cityscapes19', backend='onnxruntime',
                     cameras='[usb, jpeg, space, text]', max_age_s=3600.0,
                     image_timeout_s=0.5) as process:
        _, image = painted(120, 160)
        client.handshake('/dev/image_raw', [MASK, DRIVABLE, '/seg_node/usb/dynamic_mask'],
                         image_cdr(image, 1))
        yield process


def test_camera_info_follows_a_remapped_image_topic(client, node):
    found = client.listen('/seg_node/usb/camera_info', CameraInfo)
    _, image = painted(120, 160)

    def said(words):
        def says(status):
            client.send('/dev/image_raw', image_cdr(image, 5))
            return words in status.message
        return says
    client.diagnostics('usb', until=said('no camera_info on /dev/camera_info'))
    status = client.diagnostics('usb', until=said('nobody publishes any: calibrate the camera'))
    assert 'somebody subscribes to it' in status.message and not found

    def arrived():
        client.send('/dev/camera_info', camera_info(120, 160), CameraInfo)
        client.send('/dev/image_raw', image_cdr(image, 6))
        return client.spin_until(lambda: bool(found), 0.3)
    assert client.spin_until(arrived)


@pytest.mark.parametrize('camera, topic, kind, words', [
    ('jpeg', '/jpeg/image_raw/compressed', CompressedImage,
     '/jpeg/image_raw/compressed is published: set jpeg.transport to compressed'),
    ('space', '/car/space/image_raw', Image,
     'images are published on /car/space/image_raw: set space.image_topic (or the namespace)'),
    ('text', '/text/image_raw', String, 'its type is std_msgs/msg/String'),
])
def test_where_the_images_are_is_said(client, node, camera, topic, kind, words):
    publisher = client.node.create_publisher(kind, topic, 1)
    client.diagnostics(camera, until=lambda status: words in status.message)
    client.node.destroy_publisher(publisher)


def test_outputs_that_cannot_be_made_are_told(client, node):
    listened = [client.node.create_subscription(Image, '/seg_node/usb/drivable_class', print, 1),
                client.node.create_subscription(String, '/seg_node/usb/label_info', print, 1)]
    _, image = painted(120, 160)

    def both(status):
        client.send('/dev/image_raw', image_cdr(image, 7))
        return ('no drivable_class: the model has no drivable head of several classes'
                in status.message
                and ('vision_msgs is not installed' in status.message
                     or 'label_info_json' not in str(client.node.get_topic_names_and_types())))
    client.diagnostics('usb', until=both)
    for subscription in listened:
        client.node.destroy_subscription(subscription)


def change(client, **given):
    """Set parameters, all of them or none; return why not, '' = they are set."""
    kinds = {float: ('double_value', ParameterType.PARAMETER_DOUBLE),
             str: ('string_value', ParameterType.PARAMETER_STRING),
             list: ('string_array_value', ParameterType.PARAMETER_STRING_ARRAY)}
    parameters = []
    for name, value in given.items():
        field, kind = kinds[type(value)]
        parameters.append(Parameter(name=name.replace('__', '.'), value=ParameterValue(
            type=kind, **{field: value})))
    result = client.call(SetParametersAtomically, '/seg_node/set_parameters_atomically',
                         SetParametersAtomically.Request(parameters=parameters)).result
    return '' if result.successful else result.reason


def test_classes_and_thresholds_change_together_between_two_frames(client, node):
    labels, image = painted(120, 160, seed=3)
    road, walk, car = (TABLE.names.index(name) for name in ('road', 'sidewalk', 'car'))

    def outputs(stamp):
        client.exchange('/dev/image_raw', image_cdr(image, stamp), DRIVABLE, stamp)
        dynamic = '/seg_node/usb/dynamic_mask'
        assert client.spin_until(lambda: any(message.header.stamp_ns == stamp for message in
                                             client.messages[dynamic]))
        return [pixels(next(message for message in client.messages[topic]
                            if message.header.stamp_ns == stamp)) for topic in (DRIVABLE, dynamic)]
    assert change(client, drivable_classes=['sidewalk'], dynamic_classes=['car']) == ''
    drivable, dynamic = outputs(1001)
    np.testing.assert_array_equal(drivable > 0, labels == walk)
    np.testing.assert_array_equal(dynamic > 0, labels == car)
    reason = change(client, drivable_classes=['road'], dynamic_classes=['lorry'])
    assert "'lorry' is not a class of cityscapes19" in reason
    assert 'allowed: withhold_drivable | publish' in change(
        client, drivable_classes=['road'], on_blind='panic')
    drivable, dynamic = outputs(1002)
    np.testing.assert_array_equal(drivable > 0, labels == walk), 'neither was taken'
    assert 'is read at configure' in change(client, model='x')
    assert change(client, drivable_classes=[], dynamic_classes=[]) == ''
    drivable, dynamic = outputs(1003)
    np.testing.assert_array_equal(drivable > 0, labels == road)
    np.testing.assert_array_equal(dynamic, TABLE.dynamic_lut()[labels])


def test_a_camera_is_disabled_and_enabled(client, node):
    _, image = painted(120, 160)
    from diagnostic_msgs.msg import DiagnosticArray
    states = client.listen('/seg_node/usb/state', DiagnosticArray)
    answer = client.call(SetBool, '/seg_node/usb/enable', SetBool.Request(data=False))
    assert answer.success and answer.message == DISABLED
    status = client.diagnostics('usb', until=lambda status: DISABLED in status.message)
    assert values(status)['state'] == DISABLED and status.level != b'\0'
    assert client.spin_until(lambda: any(
        message.status[0].message == DISABLED for message in states))
    publisher = client.publishers['/dev/image_raw']
    assert client.spin_until(lambda: publisher.get_subscription_count() == 0)
    answer = client.call(SetBool, '/seg_node/usb/enable', SetBool.Request(data=True))
    assert answer.success and answer.message == 'enabled'
    assert client.spin_until(lambda: publisher.get_subscription_count() == 1)
    client.handshake('/dev/image_raw', [MASK], image_cdr(image, 2000))  # both have met
    client.exchange('/dev/image_raw', image_cdr(image, 2001), MASK, 2001)
    client.diagnostics('usb', until=lambda status: DISABLED not in status.message)


def test_the_documented_subscriber_drives_on_what_is_known_and_stops_else(client, tmp_path):
    """As it stands in the documentation, with the topics of this camera."""
    text = (ROOT / 'docs' / 'consumers.md').read_text(encoding='utf-8')
    code = re.search('<!-- subscriber -->\n```python\n(.*?)```', text, re.S)[1]
    script, log = tmp_path / 'planner.py', tmp_path / 'planner.log'
    script.write_text(code.replace('/seg_node/camera/', '/seg_node/planned/'))
    _, image = painted(120, 160, seed=9)
    with NodeProcess(tmp_path, '-r', '__node:=seg_node', model=MODELS / 'palette_cityscapes19',
                     backend='onnxruntime', cameras='[planned]', max_age_s=3600.0):
        with log.open('wb') as out:
            planner = subprocess.Popen([sys.executable, str(script)], stdout=out,
                                       stderr=subprocess.STDOUT)
        try:
            def says(words):
                def holds():
                    client.send('/planned/image_raw', image_cdr(image, time.time_ns()))
                    client.spin(0.1)
                    return words in log.read_text()
                assert client.spin_until(holds, 60), log.read_text()[-2000:]
            says('free: ')
            client.call(SetBool, '/seg_node/planned/enable', SetBool.Request(data=False))
            assert client.spin_until(lambda: 'stop: disabled' in log.read_text(), 20)
            assert client.spin_until(lambda: 'stop: silence' in log.read_text(), 20)
        finally:
            planner.kill()
            planner.wait()
    share = int(re.search('free: (\\d+)%', log.read_text())[1])
    road = TABLE.names.index('road')
    assert abs(share - 100 * (painted(120, 160, seed=9)[0] == road).mean()) <= 1
