"""A node that others manage: Nav2's sequence and bond, by a stand-in written from its source."""

import os
import time

from harness import Client, MODELS, NodeProcess
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import GetState
from patience import patience
import pytest
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.parameter import Parameter as RosParameter, parameter_value_to_python

#: The manager's `bond_timeout`; 4.0 by default, but a test should not wait so long.
TIMEOUT_S = 2.0


@pytest.fixture
def client():
    client = Client()
    yield client
    client.close()


class Manager:
    """changeStateForNode, createBondConnection and checkBondConnections of lifecycle_manager."""

    def __init__(self, client):
        from bond.msg import Status
        self.client, self.kind = client, Status
        self.sister, self.alive, self.broken = '', 0.0, False
        self.publisher = client.node.create_publisher(Status, 'bond', 5)
        client.node.create_subscription(Status, 'bond', self.on_status, 5)
        client.node.create_timer(0.25, self.beat)

    def on_status(self, status):
        if status.id == 'seg_node' and status.instance_id != 'manager':
            self.sister = self.sister or status.instance_id
            if status.instance_id == self.sister:
                self.alive = time.monotonic()
                self.broken |= not status.active

    def beat(self, active=True):
        self.publisher.publish(self.kind(
            id='seg_node', instance_id='manager', active=active, heartbeat_period=0.25,
            heartbeat_timeout=TIMEOUT_S))

    def start_up(self):
        self.sister, self.broken = '', False
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            assert self.client.change_state(transition)
        assert self.client.state() == 'active'
        # waitUntilFormed(timeout / 2)
        assert self.client.spin_until(lambda: bool(self.sister), patience(TIMEOUT_S / 2)), (
            'Server was unable to be reached by bond')

    def await_respawn(self):
        """Ask until the server answers, as checkBondRespawnConnection: dead ones are seen on."""
        request = self.client.node.create_client(GetState, '/seg_node/get_state')

        def answers():
            future = request.call_async(GetState.Request())
            return self.client.spin_until(future.done, 1.0)
        assert any(answers() for _ in range(60)), 'the server did not come back'

    def is_broken(self):
        return self.broken or time.monotonic() - self.alive > TIMEOUT_S


def start(folder):
    return NodeProcess(folder, model=MODELS / 'palette_cityscapes19', backend='onnxruntime',
                       autostart=False)


def test_configure_bond_activate_kill_respawn(message_types, client, tmp_path):
    manager = Manager(client)
    node = start(tmp_path)
    manager.start_up()  # the model is still loading: the bond does not wait for it
    first = manager.sister
    beats = []
    client.node.create_subscription(manager.kind, 'bond', lambda status: beats.append(
        time.monotonic()) if status.instance_id == first else None, 100)
    node.wait_for_log('ready in')
    assert client.spin_until(lambda: len(beats) >= 5) and not manager.is_broken()
    node.process.kill()
    node.wait()
    assert client.spin_until(manager.is_broken, TIMEOUT_S + 5)
    with start(tmp_path):
        manager.await_respawn()
        manager.start_up()
        assert manager.sister != first
        assert client.change_state(Transition.TRANSITION_DEACTIVATE)
        assert client.spin_until(lambda: manager.broken), 'the node did not end the bond'
        manager.sister, manager.broken = '', False
        assert client.change_state(Transition.TRANSITION_ACTIVATE)
        assert client.spin_until(lambda: bool(manager.sister), patience(TIMEOUT_S / 2))
        manager.beat(active=False)  # the manager ends: that is answered
        assert client.spin_until(lambda: manager.broken)


def set_parameter(client, name, value):
    """Return why a parameter is not set, '' = it is."""
    parameter = RosParameter(name, value=value).to_parameter_msg()
    [result] = client.call(SetParameters, '/seg_node/set_parameters',
                           SetParameters.Request(parameters=[parameter])).results
    return '' if result.successful else result.reason


def get_parameter(client, name):
    [value] = client.call(GetParameters, '/seg_node/get_parameters',
                          GetParameters.Request(names=[name])).values
    return parameter_value_to_python(value)


def test_parameters_are_there_and_checked_before_configure(client, tmp_path, monkeypatch):
    """And without the package bond it is said what Nav2's manager needs then."""
    (tmp_path / 'bond').mkdir()
    (tmp_path / 'bond' / '__init__.py').write_text('raise ImportError')
    monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:{os.environ.get("PYTHONPATH", "")}')
    with start(tmp_path) as node:
        for name, value, words in (
                ('camera.image_topic', 'a b', 'no name of a topic'),
                ('camera.transport', 'pigeon', 'allowed: raw | compressed'),
                ('backend', 'abacus', 'allowed: auto'), ('preset', 'nav3', 'shipped are'),
                ('cameras', ['two', 'two'], 'more than once'), ('cameras', [], 'one or more'),
                ('overlay_alpha', 2.0, 'range')):
            assert words in set_parameter(client, name, value), name
        assert not set_parameter(client, 'camera.image_topic', '/usb/image_raw')
        assert not set_parameter(client, 'preset', 'nvblox')
        assert get_parameter(client, 'dynamic_value') == 1
        assert not set_parameter(client, 'dynamic_value', 7)
        assert not set_parameter(client, 'preset', 'autoware')
        assert get_parameter(client, 'dynamic_value') == 7, 'what the user has set stays'
        assert get_parameter(client, 'taxonomy') == 'autoware16'
        assert not set_parameter(client, 'cameras', ['front'])
        assert not set_parameter(client, 'front.image_topic', '/front/rgb')
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            assert client.change_state(transition)
        node.wait_for_log('camera front: /front/rgb -> /seg_node/front/mask')
        assert 'bond_timeout: 0.0' in node.log
