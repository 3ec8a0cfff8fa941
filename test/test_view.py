"""What a node publishes, shown by the real Rerun: in a real browser, in a file, on loopback."""

import json
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
from threading import Event, Thread
import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('rerun', reason='needs rerun-sdk, requirements/view.txt')

from chromium import Chromium, PROGRAM
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from peer import LATCHED, Peer, wait_until
from sensor_msgs.msg import Image
from std_msgs.msg import String

from seg_node.image.wire import build_image, Header
from seg_node.tools.view import main
from seg_node.viewing.listener import outputs_of
from seg_node.viewing.viewer import program, without_analytics

ROAD, CAR = (255, 0, 255), (0, 255, 255)  # RGB, of no theme of the viewer
SIZE = 90, 160


class Camera(Thread):
    """Publishes what a node and its camera do, twenty times a second."""

    def __init__(self, peer):
        super().__init__(daemon=True)
        self._ended = Event()
        self._images = peer.speak(Image, '/camera/image_raw')
        self._outputs = {name: peer.speak(Image, f'/seg_node/front/{name}')
                         for name in ('mask', 'drivable', 'confidence')}
        self._diagnostics = peer.speak(DiagnosticArray, '/diagnostics')
        self._state = peer.speak(DiagnosticArray, '/seg_node/front/state')
        self._labels = peer.speak(String, '/seg_node/front/label_info', LATCHED)
        self._labels.publish(String(data=json.dumps({'class_map': [
            {'class_id': 0, 'class_name': 'Road', 'colour_rgb': ROAD},
            {'class_id': 1, 'class_name': 'Car', 'colour_rgb': CAR}]})))

    def run(self):
        mask = np.zeros(SIZE, np.uint8)
        mask[:, 80:] = 1
        grey = np.full((*SIZE, 3), 128, np.uint8)
        while not self._ended.wait(0.05):
            stamp_ns = time.time_ns()
            header = Header(*divmod(stamp_ns, 10**9), 'front')
            self._images.publish(build_image(header, *SIZE, 'bgr8', grey))
            for name, values in (('mask', mask), ('drivable', 255 * (1 - mask)),
                                 ('confidence', 200 + mask)):
                self._outputs[name].publish(build_image(header, *SIZE, 'mono8', values))
            for publisher, name, values in (
                    (self._diagnostics, 'seg_node: front', {
                        'topic': '/camera/image_raw', 'stage_network_ms': '7.5',
                        'output_rate_hz': '20.0', 'latency_ms_p50': ''}),
                    (self._state, 'front', {'state': 'ok'})):
                message = DiagnosticArray(status=[DiagnosticStatus(
                    level=b'\0', name=name, message='segmenting', values=[
                        KeyValue(key=key, value=value) for key, value in values.items()])])
                message.header.stamp.sec, message.header.stamp.nanosec = header.sec, header.nanosec
                publisher.publish(message)

    def end(self):
        self._ended.set()
        self.join()


@pytest.fixture(scope='module')
def camera():
    with Peer() as peer:
        camera = Camera(peer)
        camera.start()
        yield peer
        camera.end()


def free_port():
    with socket.socket() as trial:
        trial.bind(('127.0.0.1', 0))
        return trial.getsockname()[1]


class View:
    """The tool as its user starts it."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'seg_node.tools.view', *map(str, arguments)], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.process.communicate(timeout=60)[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def web(camera):
    ports = free_port(), free_port()
    with View('--web', '--port', ports[0], '--data-port', ports[1], '--rate', 10) as view:
        line = view.process.stdout.readline()
        assert line.startswith('Open http://127.0.0.1:'), line + view.process.stdout.read()
        yield view, line.split()[1], ports


def listening():
    """Return (address, port) of all TCP sockets that listen, of IPv4 and IPv6."""
    found = []
    for name, loopback in (('tcp', '0100007F'), ('tcp6', '0' * 24 + '01000000')):
        for line in Path(f'/proc/net/{name}').read_text().splitlines()[1:]:
            local, _, state = line.split()[1:4]
            address, port = local.split(':')
            if state == '0A':
                found.append(('loopback' if address == loopback else address, int(port, 16)))
    return found


def sockets_of(pid):
    """Return the inodes of the sockets of a process."""
    return {os.readlink(link) for link in Path(f'/proc/{pid}/fd').iterdir()
            if link.is_symlink() and os.readlink(link).startswith('socket:')}


def test_the_viewer_listens_on_this_machine_only_and_ends_with_the_tool(web, camera):
    view, _, ports = web
    children = Path(f'/proc/{view.process.pid}/task/{view.process.pid}/children')
    [viewer] = map(int, children.read_text().split())
    addresses = {address for address, port in listening() if port in ports}
    assert addresses == {'loopback'}
    inodes = sockets_of(viewer)
    for name in ('tcp', 'tcp6'):  # whatever else it listens on
        for line in Path(f'/proc/net/{name}').read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == '0A' and f'socket:[{fields[9]}]' in inodes:
                assert int(fields[1].split(':')[1], 16) in ports
    # Nothing of it is in the graph but its subscriptions.
    assert wait_until(lambda: camera.node.count_subscribers('/seg_node/front/mask') == 1)
    assert [(name, space) for name, space in camera.node.get_node_names_and_namespaces()
            if name == 'seg_node_view'] == [('seg_node_view', '/')]
    published = camera.node.get_publisher_names_and_types_by_node('seg_node_view', '/')
    assert {name for name, _ in published} <= {'/rosout', '/parameter_events'}
    printed = view.end()
    assert view.process.returncode == 0 and 'Traceback' not in printed
    assert wait_until(lambda: not Path(f'/proc/{viewer}').exists())


def test_rerun_s_usage_data_are_off(tmp_path):
    said = subprocess.run([program(), 'analytics', 'config'], text=True, capture_output=True,
                          env={**os.environ, **without_analytics(tmp_path)}, timeout=60).stdout
    assert json.loads(said)['analytics_enabled'] is False


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason='needs Chromium')
def test_a_browser_shows_masks_in_their_colours(web, tmp_path):
    """The colours are mixed with the grey image below, and by the browser's own scaling."""
    view, url, _ = web

    def shares(picture):
        blue, green, red = np.moveaxis(picture, 2, 0)
        return [float(found.mean()) for found in (
            (red > green + 40) & (blue > green + 40), (green > red + 40) & (blue > red + 40),
            (green > red + 40) & (green > blue + 40))]
    with Chromium(tmp_path / 'profile') as browser:
        browser.open(url)
        end = time.monotonic() + 150
        while time.monotonic() < end:
            road, car, drivable = shares(browser.picture().astype(int))
            if min(road, car, drivable) > 0.01:
                break
            time.sleep(1)
    assert min(road, car, drivable) > 0.01
    assert 0.7 < road / car < 1.4 and 0.7 < road / drivable < 1.4, 'half of the picture each'
    assert view.process.poll() is None


def test_a_recording_holds_all_of_it(camera, tmp_path):
    path = tmp_path / 'drive.rrd'
    with View('--save', path, '--rate', 10) as view:
        assert view.process.stdout.readline().startswith('Recording to')
        assert wait_until(lambda: path.exists() and path.stat().st_size > 200_000, 40)
        printed = view.end(signal.SIGTERM)
    assert view.process.returncode == 0 and 'frames were shown' in printed
    listed = subprocess.run([program(), 'rrd', 'print', '-v', path], text=True,
                            capture_output=True, timeout=60).stdout
    for entity in ('/front/image', '/front/mask', '/front/drivable', '/front/confidence',
                   '/front/ms/network', '/front/hz/output', '/front/state', '/diagnostics/now',
                   '/diagnostics/said'):
        assert entity in listed, entity
    assert main(['--save', str(path)]) == 1


def test_outputs_are_found_where_presets_put_them():
    own = ('drivable', 'state')
    moved = ('mask', 'confidence', 'label_info')
    plain = {f'/seg_node/front/{name}' for name in (*own, *moved)}
    assert set(outputs_of('/seg_node/front', plain).values()) == plain
    without = {topic.replace('info', 'info_json') for topic in plain}
    found = outputs_of('/seg_node/front', without)
    assert found['label_info'] == '/seg_node/front/label_info_json'
    one = {*(f'/seg_node/camera/{name}' for name in own),
           *(f'/segmentation/{name}' for name in moved)}
    assert outputs_of('/seg_node/camera', one)['mask'] == '/segmentation/mask'
    two = {f'/seg_node/{camera}/{name}' for name in own for camera in ('left', 'right')}
    assert outputs_of('/seg_node/right', two) == {}, 'not yet there'
    two |= {f'/segmentation/{camera}/{name}' for name in moved for camera in ('left', 'right')}
    found = outputs_of('/seg_node/right', two)
    assert found['label_info'] == '/segmentation/right/label_info'
    assert found['drivable'] == '/seg_node/right/drivable'


@pytest.mark.parametrize('arguments, said', [
    (['--native'], '--native needs a screen'), (['--save', '/no/such/folder/a.rrd'], 'no folder'),
    (['--web', '--bind', '203.0.113.7'], '203.0.113.7:9876 cannot be listened on')])
def test_what_cannot_be_shown_is_told_in_one_line(arguments, said, monkeypatch, capsys):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    assert main(arguments) == 1
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(capsys):
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(['--web', '--data-port', str(port)]) == 1
    assert f'127.0.0.1:{port} cannot be listened on' in capsys.readouterr().err
