"""Both executors do what the node needs of them: messages with their info, and being woken."""

import sys
from threading import Thread

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from seg_node.errors import ConfigError
from seg_node.ros.executors import make_executor, told_apart


@pytest.fixture(params=['events', 'waitset'])
def turned(request):
    """Return a node, and what turns its executor until something holds."""
    if request.param == 'events':
        pytest.importorskip('rclpy.experimental', reason='this rclpy has no events executor')
    rclpy.init()
    node = rclpy.create_node('turned')
    executor = make_executor(request.param)
    executor.add_node(node)

    def until(condition):
        for _ in range(200):
            if condition():
                return
            executor.spin_once(timeout_sec=0.1)
        raise AssertionError('it never came to that')

    yield node, until
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()


def test_a_raw_message_comes_with_its_info(turned):
    node, until = turned
    heard = []
    callback = told_apart(lambda cdr, info: heard.append((cdr, info)))
    node.create_subscription(Image, 'picture', callback, 5, raw=True)
    publisher = node.create_publisher(Image, 'picture', 5)
    until(lambda: publisher.get_subscription_count() == 1)
    cdr = bytes(serialize_message(Image(height=3)))
    publisher.publish(cdr)
    until(lambda: heard)
    [(message, info)] = heard
    assert message == cdr and info['publication_sequence_number'] >= 1


def test_another_thread_wakes_it(turned):
    node, until = turned
    until(lambda: True)
    called = []
    other = Thread(target=lambda: node.executor.create_task(lambda: called.append(1)))
    other.start()
    until(lambda: called)
    other.join()


def test_what_fails_in_a_callback_ends_one_turn_and_not_the_next(turned):
    node, until = turned
    turns = []

    def fail():
        turns.append(1)
        raise ValueError('of the callback')

    timer = node.create_timer(0.01, fail)
    for count in (1, 2):
        with pytest.raises(ValueError, match='of the callback'):
            until(lambda count=count: len(turns) > count)
    node.destroy_timer(timer)


def test_an_rclpy_without_the_events_executor(monkeypatch):
    monkeypatch.setitem(sys.modules, 'rclpy.experimental', None)
    rclpy.init()
    try:
        executor = make_executor('auto')
        assert isinstance(executor, SingleThreadedExecutor)
        executor.shutdown()
        with pytest.raises(ConfigError, match='events.*does not have.*waitset'):
            make_executor('events')
    finally:
        rclpy.shutdown()


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="'threads'.*auto | events | waitset"):
        make_executor('threads')
