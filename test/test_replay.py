"""The player and the recorder over real DDS: byte for byte, at the right time, never silently."""

from itertools import combinations
import math
from pathlib import Path
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('rosbags', reason='needs rosbags')

from patience import patience
from peer import BEST_EFFORT, LATCHED as LATCHED_QOS, Peer, RELIABLE, wait_until
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from recordings import (
    folder,
    IMAGE,
    image_cdr,
    LATCHED,
    PERIOD_NS,
    records,
    START_NS,
    STORE,
    string_cdr,
    write_bag,
    write_video,
)
from rosbags.rosbag2 import CompressionMode, Reader, StoragePlugin
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from seg_node.errors import ConfigError
from seg_node.image.wire import build_image, Header, parse_image
from seg_node.playback.bag_writer import BagWriter
from seg_node.playback.camera_runs import camera_runs
from seg_node.playback.messages import stamp_ns
from seg_node.playback.open_source import open_source
from seg_node.playback.player import replay
from seg_node.playback.replay_options import ReplayOptions
from seg_node.playback.schedule import Schedule
from seg_node.playback.sources import FrameOptions, Record, Span
from seg_node.playback.topics import choose_topics
from seg_node.tools.replay import main
from seg_node.tools.ros_arguments import split_ros_args

MASK = '/seg_node/camera/mask'
PLAYED_IMAGE = '/camera/image_raw'
# An exact figure would fail on a busy machine; a wrong schedule is off by far more.
ON_TIME_MS = 30.0  # where nothing else runs


@pytest.fixture(scope='module')
def contexts():
    """
    Give all players one DDS participant and all peers another, discovered only once.

    A participant lives as long as its context has a node.
    """
    contexts = Context(), Context()
    nodes = []
    for context in contexts:
        rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
        nodes.append(Node('keeper', context=context))
    yield contexts
    for node, context in zip(nodes, contexts, strict=True):
        node.destroy_node()
        context.shutdown()


@pytest.fixture
def play(contexts):
    def play(path, frame_options=None, on_frame=lambda: None, calls=None, **options):
        options = {'linger_s': 0.2, 'settle_s': 0.2, **options}
        with open_source(path, frame_options) as source:
            return replay(source, ReplayOptions(**options), on_frame=on_frame,
                          context=contexts[0], **(calls or {}))
    return play


@pytest.fixture
def bag(tmp_path):
    return write_bag(tmp_path / 'bag', records())


@pytest.fixture
def frames(tmp_path):
    return folder(tmp_path, count=4)


@pytest.fixture
def peer(contexts):
    with Peer(contexts[1]) as peer:
        yield peer


def mask_for(data):
    """Return what a node could answer to an image: a mono8 image with its header."""
    message = parse_image(data)
    mask = np.full((message.height, message.width), message.data[0], np.uint8)
    return build_image(message.header, *mask.shape, 'mono8', mask)


class Answers(list):
    """The masks that were sent; ``heard`` tells whether somebody subscribes to them."""


@pytest.fixture
def echo(peer):
    """Answer each image with a mask; return what was sent."""
    publisher = peer.speak(Image, MASK)
    answers = Answers()
    answers.heard = lambda: publisher.get_subscription_count() > 0

    def react(data):
        answers.append(mask_for(data))
        publisher.publish(answers[-1])
    peer.hear(Image, PLAYED_IMAGE, RELIABLE, react)
    return answers


# What is sent

@pytest.mark.parametrize('qos', [RELIABLE, BEST_EFFORT], ids=['reliable', 'best effort'])
def test_a_bag_arrives_byte_for_byte_in_recorded_time(bag, peer, qos, play):
    heard = peer.hear(Image, IMAGE, qos)
    notes = peer.hear(String, '/note', qos)
    result = play(bag, rate=2.0)
    assert wait_until(lambda: len(heard) + len(notes) == 10)
    assert [data for _, data in heard] == [one.data for one in records() if one.topic == IMAGE]
    assert [data for _, data in notes] == [one.data for one in records() if one.topic == '/note']
    assert result.frames_sent == 5
    assert [stamp for stamp, _ in result.sent[IMAGE]] == [
        START_NS + i * PERIOD_NS for i in range(5)]
    # One that the machine let wait says nothing of the pace.
    sent_ms = [sent / 1e6 for _, sent in result.sent[IMAGE]]
    pace_ms = np.median([(sent_ms[late] - sent_ms[early]) / (late - early)
                         for early, late in combinations(range(5), 2)])
    assert 40 < pace_ms < 60, 'twice as fast as recorded'
    assert np.median(result.late_ms) < patience(ON_TIME_MS)
    assert not result.notices and not result.interrupted


def test_the_player_does_not_drift():
    schedule = Schedule(rate=4.0)
    schedule.start(1000, 500)
    assert [schedule.due_ns(1000 + 400 * i) for i in range(4)] == [500, 600, 700, 800]
    assert schedule.due_ns(1000 + 4 * 3600 * 10**9) == 500 + 3600 * 10**9
    schedule.shift(1400, 900)
    assert schedule.due_ns(1400) == 900
    schedule.shift(1800, 900)
    assert schedule.due_ns(1800) == 1000, 'a schedule that is kept is not shifted'


def test_recorded_time_never_runs_back_or_past_what_is_to_be_sent():
    schedule = Schedule()
    schedule.start(1000, 0)
    assert schedule.recorded_ns(300) == 1300
    assert schedule.recorded_ns(300, limit_ns=1200) == 1200
    schedule.reached(2000)
    assert schedule.recorded_ns(300) == 2000
    assert schedule.recorded_ns(1500) == 2500


def wall_offset_ns():
    """Return how far the wall clock is ahead of the monotonic one, read without a break."""
    def read():
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        return after - before, wall - (before + after) // 2
    return min(read() for _ in range(50))[1]


def test_a_video_is_a_camera_with_wall_clock_stamps(tmp_path, peer, play):
    path = write_video(tmp_path / 'drive.avi', count=4)
    heard = peer.hear(Image, PLAYED_IMAGE, BEST_EFFORT)
    before_ns = time.time_ns()
    result = play(path, FrameOptions(frame_id='eye'))
    assert wait_until(lambda: len(heard) == 4)
    capture = cv2.VideoCapture(str(path))
    offset_ns, late_ms = wall_offset_ns(), []
    for index, (_, data) in enumerate(heard):
        message = parse_image(data)
        assert message.header.frame_id == 'eye'
        assert np.array_equal(message.data.reshape(48, 64, 3), capture.read()[1])
        stamp, sent_ns = result.sent[PLAYED_IMAGE][index]
        assert message.header.stamp_ns == stamp
        late_ms.append((sent_ns + offset_ns - stamp) / 1e6)
    assert min(late_ms) >= -1, 'sent before it is stamped'
    assert np.median(late_ms) < patience(ON_TIME_MS), 'sent when it is stamped'
    assert heard and parse_image(heard[0][1]).header.stamp_ns > before_ns


def test_files_arrive_as_compressed_images(tmp_path, peer, play):
    path = folder(tmp_path, '.jpg', 3)
    heard = peer.hear(CompressedImage, f'{PLAYED_IMAGE}/compressed')
    play(path, FrameOptions(transport='compressed', fps=50), start_stamp_ns=7 * 10**9)
    assert wait_until(lambda: len(heard) == 3)
    for index, (_, data) in enumerate(heard):
        assert data.endswith((path / f'frame{index}.jpg').read_bytes())
        assert stamp_ns(data) == 7 * 10**9 + index * 20_000_000


def test_topics_are_chosen_and_renamed(bag, peer, play):
    images = peer.hear(Image, '/front/image')
    notes = peer.hear(String, '/note')
    result = play(bag, topics=['/cam*'], remap={IMAGE: '/front/image'}, rate=10.0)
    assert wait_until(lambda: len(images) == 5)
    assert list(result.sent) == ['/front/image'] and not notes


def test_latched_messages_reach_late_subscribers(tmp_path, peer, play):
    static = [Record('/tf_static', START_NS, string_cdr(f'mount {i}')) for i in range(3)]
    path = write_bag(tmp_path / 'bag', [*static, *records()], qos={'/tf_static': [LATCHED]},
                     types={'/tf_static': 'std_msgs/msg/String'})
    peer.hear(Image, IMAGE)
    late = []

    def subscribe():
        late.append(peer.hear(String, '/tf_static', LATCHED_QOS))
    play(path, rate=0.5, on_frame=lambda: late or subscribe())
    assert wait_until(lambda: len(late[0]) == 3)
    assert [data for _, data in late[0]] == [one.data for one in static]


def test_a_part_of_a_bag(bag, peer, play):
    heard = peer.hear(Image, IMAGE)
    play(bag, span=Span(2 * PERIOD_NS, 2 * PERIOD_NS), rate=10.0)
    assert wait_until(lambda: len(heard) == 2)
    assert [stamp_ns(data) for _, data in heard] == [START_NS + i * PERIOD_NS for i in (2, 3)]


def test_the_middleware_learns_of_remappings(bag, peer):
    heard = peer.hear(Image, '/elsewhere')
    with open_source(bag) as source:
        replay(source, ReplayOptions(rate=10.0),
               ros_args=['--ros-args', '-r', f'{IMAGE}:=/elsewhere'])
    assert wait_until(lambda: len(heard) == 5)


# The clock

def clock_ns(data):
    return int.from_bytes(data[4:8], 'little') * 10**9 + int.from_bytes(data[8:12], 'little')


def test_the_clock_runs_in_recorded_time_between_the_frames(tmp_path, peer, play):
    heard = peer.hear(Image, PLAYED_IMAGE)
    clock = peer.hear(Clock, '/clock', RELIABLE)
    path = folder(tmp_path, count=4)
    play(path, FrameOptions(fps=1), rate=2.0, start_stamp_ns=100 * 10**9)
    assert wait_until(lambda: len(heard) == 4)
    times = [clock_ns(data) for _, data in clock]
    assert times[0] == 100 * 10**9, 'it waits at the first frame'
    assert times == sorted(times)
    stamps = [stamp_ns(data) for _, data in heard]
    assert set(stamps) <= set(times), 'with every frame'
    between = [sum(a < now < b for now in times) for a, b in zip(stamps, stamps[1:], strict=False)]
    assert np.median(between) >= 15, '50 ticks in 500 ms are sent; a busy machine may miss some'


def test_the_clock_runs_as_often_as_wished_and_with_every_frame(frames, peer, play):
    heard = peer.hear(Image, PLAYED_IMAGE)
    clock = peer.hear(Clock, '/clock', RELIABLE)
    play(frames, FrameOptions(fps=5), clock_hz=1.0)
    assert wait_until(lambda: len(heard) == 4)
    stamps = [stamp_ns(data) for _, data in heard]
    times = [clock_ns(data) for _, data in clock if clock_ns(data) <= stamps[-1]]
    assert set(stamps) <= set(times)
    assert len(times) <= len(stamps) + 1, 'the waiting for the first frame apart'


def test_the_clock_can_be_left_out(frames, peer, play):
    heard = peer.hear(Image, PLAYED_IMAGE)
    clock = peer.hear(Clock, '/clock', RELIABLE)
    play(frames, FrameOptions(fps=50), clock=False)
    assert wait_until(lambda: len(heard) == 4)
    assert not clock


def test_a_repeated_bag_keeps_its_stamps_and_turns_the_clock_back(bag, peer, play):
    heard = peer.hear(Image, IMAGE)
    clock = peer.hear(Clock, '/clock', RELIABLE)
    result = play(bag, loops=2, rate=2.0)
    assert wait_until(lambda: len(heard) == 10)
    assert [data for _, data in heard[:5]] == [data for _, data in heard[5:]]
    times = np.array([clock_ns(data) for _, data in clock])
    back = np.flatnonzero(np.diff(times) < 0)
    assert len(back) == 1
    assert START_NS - PERIOD_NS <= times[back[0] + 1] <= START_NS
    sent_ms = np.array([sent for _, sent in result.sent[IMAGE]]) / 1e6
    assert abs(np.median(sent_ms[5:] - sent_ms[:5]) - 250) < patience(ON_TIME_MS), (
        'the same time between the rounds as between frames')


def test_a_repeated_folder_goes_on_in_time(frames, peer, play):
    heard = peer.hear(Image, PLAYED_IMAGE)
    result = play(frames, FrameOptions(fps=20), loops=3)
    assert wait_until(lambda: len(heard) == 12)
    stamps = [stamp_ns(data) for _, data in heard]
    assert set(np.diff(stamps)) == {50_000_000}
    assert result.frames_sent == 12


# Who listens

def test_the_first_frame_waits_for_a_subscriber(bag, play):
    with Peer() as peer:
        def come_late():
            time.sleep(1.0)
            late.append(peer.hear(Image, IMAGE))
        late = []
        thread = threading.Thread(target=come_late, daemon=True)
        thread.start()
        play(bag, rate=10.0)
        thread.join(30)
        assert wait_until(lambda: len(late[0]) == 5)


def test_nobody_listens(bag, play):
    with pytest.raises(ConfigError, match=r'nobody subscribes to /camera/image_raw \(waited 0.3 s'
                                          r'\).*Start the node first.*--wait-for-subscribers 0'):
        play(bag, wait_s=0.3)


def test_who_listens_elsewhere_is_named(bag, peer, play):
    peer.hear(CompressedImage, '/camera/image_raw/compressed')
    with pytest.raises(ConfigError, match='Subscribers wait on /camera/image_raw/compressed'):
        play(bag, wait_s=1.0)


def test_every_image_and_every_answer_can_be_waited_for(tmp_path, peer, play):
    two = write_bag(tmp_path / 'two', [*records(2), Record('/rear', START_NS, image_cdr(0))],
                    types={'/rear': 'sensor_msgs/msg/Image'})
    peer.hear(Image, IMAGE)
    with pytest.raises(ConfigError, match='nobody subscribes to /rear '):
        play(two, wait_for_all=True, wait_s=1.0)
    peer.hear(Image, '/rear')
    peer.speak(Image, '/answer/a')
    with pytest.raises(ConfigError, match='nobody publishes /answer/b '):
        play(two, wait_for_all=True, wait_for=['/answer/a', '/answer/b'], wait_s=1.0)
    peer.speak(Image, '/answer/b')
    result = play(two, wait_for_all=True, wait_for=['/answer/a', '/answer/b'], wait_s=10.0)
    assert result.counts == {IMAGE: 2, '/rear': 1} and result.heard == {
        '/answer/a': 0, '/answer/b': 0}


def test_the_caller_can_say_when_to_stop_listening(bag, peer, play):
    """An answer long after the last frame is still heard: nothing ends by a fixed time."""
    publisher = peer.speak(Image, MASK)
    heard = peer.hear(Image, IMAGE)
    asked, came = [], []

    def settled(counts):
        asked.append((time.monotonic(), counts))
        if len(asked) > 1 and asked[-1][0] - asked[0][0] > 1.0 and not came:
            publisher.publish(mask_for(heard[0][1]))
        return bool(came)
    result = play(bag, wait_for=[MASK], linger_s=0.0, calls={
        'settled': settled, 'on_message': lambda topic, data: came.append(topic)})
    assert {tuple(counts.items()) for _, counts in asked} == {((IMAGE, 5),)}
    assert asked[-1][0] - asked[0][0] > 1.0 and set(came) == {MASK}
    assert result.heard[MASK] >= 1


def test_a_subscriber_that_asks_for_more_is_named(bag, peer, play):
    peer.hear(Image, IMAGE, LATCHED_QOS)
    with pytest.raises(ConfigError, match='/camera/image_raw asks for another type or QoS'):
        play(bag, wait_s=1.0)


def test_without_waiting_it_is_only_noted_that_nobody_listens(bag, play):
    result = play(bag, wait_s=0, rate=10.0)
    assert result.frames_sent == 5
    assert result.notices == ['nobody subscribes to /camera/image_raw']


def this_thread_idle_s():
    """Return for how long this thread has wanted no core, since some moment."""
    waited_ns = int(Path('/proc/thread-self/schedstat').read_text().split()[1])
    return time.monotonic() - time.thread_time() - waited_ns / 1e9


SLEEPERS = """
import sys, rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node('sleeper')
for policy in (ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE):
    node.create_subscription(Image, '/camera/image_raw', print,
                             QoSProfile(depth=1, reliability=policy))
print('ready', flush=True)
sys.stdin.read()
rclpy.shutdown()
"""


def test_a_subscriber_that_never_takes_its_images_does_not_block_the_player(tmp_path, play):
    path = folder(tmp_path, count=1)
    cv2.imwrite(str(path / 'frame0.png'), np.zeros((720, 1280, 3), np.uint8))
    with subprocess.Popen([sys.executable, '-c', SLEEPERS], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout.readline() == b'ready\n'
        idle_s = []
        result = play(path, FrameOptions(fps=30), loops=40,
                      on_frame=lambda: idle_s.append(this_thread_idle_s()))
    assert result.frames_sent == 40
    assert np.median(np.diff(idle_s)) < 0.08, 'blocked, it waits for 0.1 s with each image'


# Lockstep

def test_lockstep_sends_a_frame_when_the_last_one_is_answered(bag, peer, play):
    publisher = peer.speak(Image, MASK)

    def react(data):
        time.sleep(0.05)
        publisher.publish(mask_for(data))
    peer.hear(Image, PLAYED_IMAGE, RELIABLE, react)
    # The second round has the stamps of the first: old answers must not count.
    result = play(bag, rate=1000.0, lockstep=MASK, loops=2)
    assert result.frames_sent == 10 and result.lockstep_timeouts == 0
    sent, received = result.sent[PLAYED_IMAGE], result.received[MASK]
    assert [stamp for stamp, _ in sent] == [stamp for stamp, _ in received]
    for (_, answered_ns), (_, next_ns) in zip(received, sent[1:], strict=False):
        assert answered_ns <= next_ns
    for (_, sent_ns), (_, answered_ns) in zip(sent, received, strict=True):
        assert 50 <= (answered_ns - sent_ns) / 1e6 < 500


def test_in_lockstep_a_recording_is_played_as_fast_as_the_answers_come(bag, echo, play):
    result = play(bag, rate=math.inf, lockstep={IMAGE: MASK})
    assert result.frames_sent == 5 and result.lockstep_timeouts == 0 and len(echo) == 5
    took_ms = (result.sent[IMAGE][-1][1] - result.sent[IMAGE][0][1]) / 1e6
    assert took_ms < 4 * PERIOD_NS / 1e6
    with pytest.raises(ConfigError, match='rate is inf'):
        play(bag, rate=math.inf)


def test_what_is_known_otherwise_needs_no_answer(bag, peer, play):
    peer.hear(Image, IMAGE)
    peer.speak(Image, MASK)
    asked = []

    def known(counts):
        asked.append(counts)
        return True
    result = play(bag, rate=math.inf, lockstep=MASK, calls={'known': known})
    assert result.frames_sent == 5 and result.lockstep_timeouts == 0
    assert asked[-1] == {IMAGE: 5}


def jumping(times):
    """Return records with images at these times, in seconds."""
    return [Record(IMAGE, round(s * 1e9), image_cdr(index)) for index, s in enumerate(times)]


def test_long_pauses_and_steps_back_are_bridged(tmp_path, peer, play):
    """The time of recording is 0 at first, jumps to the real one, and is set back by an hour."""
    heard = peer.hear(Image, IMAGE)
    clock = peer.hear(Clock, '/clock', RELIABLE)
    first, second = tmp_path / 'bag', tmp_path / 'other'
    write_bag(first, jumping([0, 1_700_000_000.0, 1_700_000_000.1]))
    write_bag(second, jumping([1_699_996_400.2, 1_699_996_400.3]))
    shutil.copy(second / 'other.mcap', first)  # parts are read one after the other
    metadata = (first / 'metadata.yaml').read_text()
    (first / 'metadata.yaml').write_text(re.sub(
        r'(- bag.mcap\n)', r'\1  - other.mcap\n', metadata, count=1))
    result = play(first, max_gap_s=0.3)
    assert wait_until(lambda: len(heard) == 5)
    assert result.frames_sent == 5 and result.wall_s < 5
    assert result.losses == {'gaps_cut': 1, 'time_steps_back': 1}
    assert any('longest of 1700000000.0 s, are cut to 0.3 s' in line for line in result.notices)
    assert any('steps back 1 times, by 3599.9 s' in line for line in result.notices)
    told = [clock_ns(data) for _, data in clock]
    assert min(told) < 10**9 and {1_700_000_000 * 10**9, 1_699_996_400_200_000_000} <= set(told)


def test_odd_stamps_are_told_of(tmp_path, peer, play):
    def stamped(index, stamp):
        return Record(IMAGE, START_NS + index * 10**7, build_image(
            Header(*divmod(stamp, 10**9), 'a'), 2, 2, 'mono8', bytes(4), step=2))
    peer.hear(Image, IMAGE)
    path = write_bag(tmp_path / 'bag', [stamped(index, stamp) for index, stamp in enumerate(
        [0, 0, 5, 5, 9, 7])])
    [notice] = play(path).notices
    assert notice.startswith(f'{IMAGE}: 2 of 6 stamps are zero, 1 of 6 stamps repeat, 1 of 6 '
                             'stamps go back: ')


def test_what_seg_node_published_is_left_out_beside_cameras(tmp_path, peer, play):
    results = [Record(f'/seg_node/camera/{name}', one.time_ns, one.data)
               for name in ('mask', 'overlay') for one in jumping([1.0, 1.1])]
    label = Record('/seg_node/camera/label_info_json', 10**9, string_cdr('{}'))
    types = {one.topic: 'sensor_msgs/msg/Image' for one in results}
    types[label.topic] = 'std_msgs/msg/String'
    peer.hear(Image, IMAGE)
    path = write_bag(tmp_path / 'bag', [label, *jumping([1.0, 1.1]), *results], types=types)
    result = play(path)
    assert set(result.sent) == {IMAGE}
    assert ['3 topics that seg_node itself published' in line for line in result.notices] == [True]
    assert set(play(path, topics=['*'], wait_s=0).sent) == {IMAGE, *types} - {label.topic}


def test_lockstep_counts_what_is_not_answered(frames, peer, play):
    publisher = peer.speak(Image, MASK)
    heard = []

    def react(data):
        heard.append(data)
        if len(heard) != 2:
            publisher.publish(mask_for(data))
    peer.hear(Image, PLAYED_IMAGE, RELIABLE, react)
    result = play(frames, FrameOptions(fps=1000), lockstep=MASK, lockstep_timeout_s=0.3)
    assert (result.frames_sent, result.lockstep_timeouts) == (4, 1)
    gaps_ms = np.diff([sent for _, sent in result.sent[PLAYED_IMAGE]]) / 1e6
    assert gaps_ms[1] >= 300 and max(gaps_ms[0], gaps_ms[2]) < 300


def test_lockstep_needs_a_topic_that_somebody_publishes(frames, peer, play):
    peer.hear(Image, PLAYED_IMAGE)
    with pytest.raises(ConfigError, match='nobody publishes /seg_node/camera'):
        play(frames, lockstep='seg_node/camera/mask', wait_s=0.3)


def test_lockstep_needs_answers_with_a_header(frames, peer, play):
    peer.hear(Image, PLAYED_IMAGE)
    peer.speak(String, '/seg_node/words')
    with pytest.raises(ConfigError, match='/seg_node/words has no header'):
        play(frames, lockstep='/seg_node/words', wait_s=2.0)


def test_lockstep_needs_one_image_topic(tmp_path, play):
    other = [Record('/rear/image_raw', one.time_ns, one.data) for one in records()
             if one.topic == IMAGE]
    path = write_bag(tmp_path / 'bag', [*records(), *other],
                     types={'/rear/image_raw': 'sensor_msgs/msg/Image'})
    with pytest.raises(ConfigError, match=r'2 are to be sent \(/camera/image_raw, /rear/image_ra'):
        play(path, lockstep=MASK)


# Recording

def contents(path):
    """Return {topic: [(time ns, bytes)]}, {topic: connection} of a bag."""
    messages, connections = {}, {}
    with Reader(path) as reader:
        for connection, time_ns, data in reader.messages():
            messages.setdefault(connection.topic, []).append((time_ns, bytes(data)))
            connections[connection.topic] = connection
    return messages, connections


def test_the_bag_holds_what_came_back(tmp_path, bag, peer, echo, play):
    labels = peer.speak(String, '/seg_node/camera/label_info_json', LATCHED_QOS)
    labels.publish(String(data='{"0": "road"}'))
    result = play(bag, record=tmp_path / 'out', rate=2.0)
    messages, connections = contents(result.bag)
    assert [data for _, data in messages[MASK]] == echo
    assert len(echo) == 5
    assert [data for _, data in messages['/seg_node/camera/label_info_json']] == [
        string_cdr('{"0": "road"}')], 'a latched message from before the recording'
    assert set(messages) == {MASK, '/seg_node/camera/label_info_json'}
    assert result.recorded == {topic: len(found) for topic, found in messages.items()}
    assert connections[MASK].digest == STORE.hash_rihs01('sensor_msgs/msg/Image')
    assert 'uint32 height' in connections[MASK].msgdef.data
    assert connections[MASK].ext.offered_qos_profiles[0].reliability.name == 'RELIABLE'
    latched = connections['/seg_node/camera/label_info_json'].ext.offered_qos_profiles[0]
    assert latched.durability.name == 'TRANSIENT_LOCAL'
    late_ms = [(time_ns - START_NS - index * PERIOD_NS) / 1e6
               for index, (time_ns, _) in enumerate(messages[MASK])]
    assert min(late_ms) >= 0 and np.median(late_ms) < 2 * patience(150), (
        'in recorded time, which runs twice as fast')
    assert [stamp for stamp, _ in result.received[MASK]] == [
        stamp_ns(data) for data in echo]
    assert not result.lost


def test_a_recorded_bag_can_be_played_again(tmp_path, bag, peer, echo, play):
    result = play(bag, record=tmp_path / 'out', rate=5.0)
    again = peer.hear(Image, MASK)
    with open_source(result.bag) as source:
        assert not any(source.problem(topic) for topic in source.topics)
    play(result.bag, rate=5.0)
    assert wait_until(lambda: len(again) >= 5)
    assert [data for _, data in again][-5:] == echo


def test_the_input_is_recorded_if_wanted(tmp_path, bag, echo, play):
    result = play(bag, record=tmp_path / 'out', record_input=True, rate=5.0)
    messages, _ = contents(result.bag)
    for topic in (IMAGE, '/note'):
        assert messages[topic] == [(one.time_ns, one.data) for one in records()
                                   if one.topic == topic]
    assert len(messages[MASK]) == 5


def test_topics_to_record_are_chosen_and_appear_while_playing(tmp_path, bag, peer, play):
    peer.hear(Image, IMAGE)
    words = []

    def speak():
        if not words:
            words.append(peer.speak(String, '/late/words', LATCHED_QOS))
            words[0].publish(String(data='here'))
    result = play(bag, record=tmp_path / 'out', rate=0.5, record_topics=['late/*', '/note'],
                  on_frame=speak, wait_s=1.0)
    messages, _ = contents(result.bag)
    assert {topic: len(found) for topic, found in messages.items()} == {'/late/words': 1,
                                                                        '/note': 5}


def test_listening_alone_writes_nothing(tmp_path, bag, echo, play):
    result = play(bag, listen=[MASK], rate=5.0)
    assert [stamp for stamp, _ in result.received[MASK]] == [stamp_ns(data) for data in echo]
    took_ms = [(came_ns - sent_ns) / 1e6 for (_, sent_ns), (_, came_ns) in zip(
        result.sent[IMAGE], result.received[MASK], strict=True)]
    assert min(took_ms) > 0 and np.median(took_ms) < 500
    assert result.bag is None


def test_nothing_recorded_leaves_nothing_behind(tmp_path, bag, peer, play):
    peer.hear(Image, IMAGE)
    result = play(bag, record=tmp_path / 'out', rate=10.0, wait_s=1.0)
    assert result.bag is None and not (tmp_path / 'out').exists()


def test_messages_lost_on_the_way_are_counted(bag, peer, tmp_path, play):
    peer.hear(Image, IMAGE)
    fast = peer.speak(String, '/seg_node/words', BEST_EFFORT)
    flood = []

    def drown():
        if not flood and wait_until(lambda: fast.get_subscription_count() > 0, 2.0):
            flood.extend(str(index) for index in range(5000))
            for text in flood:
                fast.publish(String(data=text))
    result = play(bag, record=tmp_path / 'out', on_frame=drown)
    came = result.recorded['/seg_node/words']
    assert 0 < came < 5000, 'more than the 50 that are kept for a reader'
    # What was lost before the first or after the last one that came cannot be known.
    words = [int(data[8:].rstrip(b'\0')) for _, data in contents(result.bag)[0]['/seg_node/words']]
    assert result.lost['/seg_node/words'] == words[-1] - words[0] + 1 - came


def test_an_existing_folder_is_refused_or_replaced(tmp_path, bag, echo, play):
    out = tmp_path / 'out'
    play(bag, record=out, rate=10.0)
    first = contents(out)[0]
    with pytest.raises(ConfigError, match=r'out exists already; give another path or --overwrite'):
        play(bag, record=out)
    assert contents(out)[0] == first
    play(bag, record=out, overwrite=True, span=Span(0, PERIOD_NS))
    assert len(contents(out)[0][MASK]) == 1


def test_only_a_bag_is_ever_replaced(tmp_path, bag, play):
    out = tmp_path / 'photos'
    out.mkdir()
    (out / 'holiday.jpg').touch()
    with pytest.raises(ConfigError, match=r'not a bag only \(found holiday.jpg\)'):
        play(bag, record=out, overwrite=True)
    assert (out / 'holiday.jpg').exists()


def test_the_source_is_not_recorded_onto(bag, play):
    with pytest.raises(ConfigError, match='is the source itself'):
        play(bag, record=bag, overwrite=True)
    assert len(contents(bag)[0][IMAGE]) == 5


def test_a_source_that_breaks_leaves_a_valid_bag(tmp_path, peer, echo, play):
    path = write_bag(tmp_path / 'bag', records(20), storage=StoragePlugin.SQLITE3,
                     mode=CompressionMode.MESSAGE)
    data = bytearray((path / 'bag.db3').read_bytes())
    at = data.index(b'\x28\xb5\x2f\xfd', len(data) // 2)  # a compressed message
    data[at + 8:at + 40] = bytes(32)
    (path / 'bag.db3').write_bytes(data)
    with pytest.raises(ConfigError, match='breaks after'):
        play(path, rate=4.0, record=tmp_path / 'out')
    recorded = contents(tmp_path / 'out')[0]
    assert 1 <= len(recorded[MASK]) < 20
    assert [data for _, data in recorded[MASK]] == echo[:len(recorded[MASK])]
    result = play(path, rate=4.0, tolerant=True)
    assert 1 <= result.frames_sent < 20 and 'breaks after' in result.broken


def test_a_full_disk_is_an_error_not_a_silence(tmp_path):
    writer = BagWriter(tmp_path / 'out')
    writer.add_topic('/a', 'std_msgs/msg/String')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, limits[1]))
    try:
        with pytest.raises(ConfigError, match='out could not be written: .*Free disk space'):
            for index in range(10):
                writer.write('/a', index, string_cdr('x' * (1 << 20)))
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_the_writer_waits_when_too_much_is_pending(tmp_path):
    data = [string_cdr(f'{index}' * 100_000) for index in range(30)]
    with BagWriter(tmp_path / 'out', limit=150_000) as writer:
        writer.add_topic('/a', 'std_msgs/msg/String')
        for index, text in enumerate(data):
            writer.write('/a', index, text)
            assert writer._pending_bytes <= 150_000 + len(text)
    assert [found for _, found in contents(tmp_path / 'out')[0]['/a']] == data


# What is refused

def test_topics_that_are_not_there(bag, play):
    for option in ({'topics': ['/wrong']}, {'remap': {'/wrong': '/x'}}):
        with pytest.raises(ConfigError, match='no topic /wrong; it has /camera/image_raw, /note'):
            play(bag, **option)


@pytest.mark.parametrize('name, played, camera', [
    ('/1cam/image', '/n1cam/image', 'camera_1cam'), ('/a b/image', '/a_b/image', 'a_b'),
    ('/a[0]/image', '/a_0_/image', 'a_0_'), ('//a//b', '/a/b', 'a_b'), ('/', '/camera', 'camera'),
    ('/caméra', '/cam_ra', 'cam_ra'), ('/a/image', '/a/image', 'a'),
    ('/a' * 150, '/' + 'a/' * 49 + 'a', 'a_' * 29 + 'a')])
def test_names_of_other_recorders(tmp_path, name, played, camera):
    """The demo gives them names that ROS 2 takes, replay by --remap."""
    bag = write_bag(tmp_path / 'bag', [Record(name, START_NS, image_cdr(0))],
                    types={name: 'sensor_msgs/msg/Image'})
    with open_source(bag) as source:
        [run] = camera_runs(source)
        assert (run.name, run.played_topic) == (camera, played)
        chosen, _ = choose_topics(source, ReplayOptions(topics=[name], remap={name: played}))
        assert list(chosen.values()) == [played]
        if name != played:
            with pytest.raises(ConfigError, match='is no name for ROS 2.*--remap gives it'):
                choose_topics(source, ReplayOptions())


def test_two_names_that_become_the_same_stay_two(tmp_path):
    names = ['/a b/image', '/a_b/image']
    bag = write_bag(tmp_path / 'bag', [Record(name, START_NS, image_cdr(0)) for name in names],
                    types=dict.fromkeys(names, 'sensor_msgs/msg/Image'))
    with open_source(bag) as source:
        assert len({run.played_topic for run in camera_runs(source)}) == 2
        assert len({run.name for run in camera_runs(source)}) == 2


def test_topics_that_cannot_be_sent_are_left_out_or_refused(tmp_path, peer, play):
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg('uint8 x', 'nowhere_msgs/msg/Thing'))
    store.fielddefs.pop('std_msgs/msg/String')
    store.types.pop('std_msgs/msg/String')
    store.register(get_types_from_msg('string data\nuint32 checksum', 'std_msgs/msg/String'))
    extra = [Record('/thing', START_NS, b'\x00\x01\x00\x00\x07'),
             Record('/clock', START_NS, b'\x00\x01\x00\x00' + bytes(8))]
    path = write_bag(tmp_path / 'bag', [*records(), *extra], store=store,
                     types={'/thing': 'nowhere_msgs/msg/Thing',
                            '/clock': 'rosgraph_msgs/msg/Clock'})
    heard = peer.hear(Image, IMAGE)
    result = play(path, rate=10.0)
    assert wait_until(lambda: len(heard) == 5)
    assert result.notices == [
        '/clock is not sent: time is told by the player',
        '/note is not sent: recorded with another definition of std_msgs/msg/String than the '
        'installed one',
        '/thing is not sent: message type nowhere_msgs/msg/Thing is not installed']
    with pytest.raises(ConfigError, match='/thing cannot be sent.*nowhere_msgs/msg/Thing is not'):
        play(path, topics=['/thing'])


@pytest.mark.parametrize('options, message', [
    ({'rate': 0.0}, 'rate is 0.0; give a positive number'),
    ({'rate': float('nan')}, 'rate is nan'),
    ({'clock_hz': 0.0}, 'clock_hz is 0.0; give a positive number.'),
    ({'loops': -1}, 'loops is -1; give a positive number or 0'),
    ({'span': Span(-1)}, 'cannot be negative'),
    ({'start_stamp_ns': 5}, 'keeps its recorded stamps'),
    ({'span': Span(10**12), 'wait_s': 0}, 'no message in the chosen part'),
])
def test_options_that_make_no_sense(bag, options, message, play):
    with pytest.raises(ConfigError, match=message):
        play(bag, **options)


def test_a_file_that_holds_less_than_it_announces_is_noted(tmp_path, play):
    path = write_video(tmp_path / 'drive.avi', count=6)
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
    result = play(path, FrameOptions(fps=50), wait_s=0)
    if result.frames_sent < 6:
        assert any('announces 6 frames' in notice for notice in result.notices)


# The command line

def run(*arguments, **options):
    return subprocess.Popen([sys.executable, '-m', 'seg_node.tools.replay', *map(str, arguments)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_the_command_line(tmp_path, bag, echo):
    with run(bag, '--rate', 5, '--lockstep', MASK, '--record', tmp_path / 'out') as process:
        out, err = process.communicate(timeout=patience(30))
    assert process.returncode == 0, err
    assert 'sent 5 frames' in out and f'recorded 5 messages of 1 topics in {tmp_path}' in out
    assert err == '', 'nothing noisy without a terminal'
    assert [data for _, data in contents(tmp_path / 'out')[0][MASK]] == echo


@pytest.mark.parametrize('number, code, ros_args', [
    (signal.SIGINT, 130, []), (signal.SIGTERM, 143, []), (signal.SIGINT, 0, ['--ros-args'])])
def test_a_signal_ends_it_with_a_valid_bag(tmp_path, frames, echo, number, code, ros_args):
    with run(frames, '--loop', '--fps', 20, '--record', tmp_path / 'out',
             *ros_args) as process:
        # The recorder is discovered while the first images are answered.
        assert wait_until(echo.heard, patience(20))
        answered = len(echo)
        assert wait_until(lambda: len(echo) >= answered + 5, patience(20))
        process.send_signal(number)
        start = time.monotonic()
        out, err = process.communicate(timeout=patience(20))
    assert process.returncode == code, err
    assert time.monotonic() - start < patience(5)
    assert 'stopped early' in out and 'Traceback' not in err
    recorded = [data for _, data in contents(tmp_path / 'out')[0][MASK]]
    first = echo.index(recorded[0])
    assert len(recorded) >= 3 and recorded == echo[first:first + len(recorded)]


@pytest.mark.parametrize('option', ['--start-offset', '--duration', '--fps', '--start-stamp'])
def test_times_that_are_none(tmp_path, capsys, option):
    with pytest.raises(SystemExit):
        main([str(folder(tmp_path, count=1)), option, 'nan'])
    assert f'{option}: nan must be a finite number' in capsys.readouterr().err


def test_a_stamp_that_ros_does_not_know(tmp_path, capsys):
    assert main([str(folder(tmp_path, count=1)), '--start-stamp', '1e12']) == 1
    assert 'start stamp is 1e+12 s; ROS 2 tells times' in capsys.readouterr().err


def test_errors_are_one_line(tmp_path, capsys):
    assert main([str(tmp_path / 'gone.mcap')]) == 1
    err = capsys.readouterr().err
    assert err.startswith('replay: ') and 'gone.mcap does not exist' in err
    assert 'Traceback' not in err


def test_unanswered_frames_give_exit_code_1(frames, peer, capsys):
    peer.hear(Image, PLAYED_IMAGE)
    peer.speak(Image, MASK)
    assert main([str(frames), '--lockstep', MASK, '--lockstep-timeout', '0.1', '--duration',
                 '0.2', '--linger', '0.1']) == 1
    assert '2 of 2 frames got no answer' in capsys.readouterr().err


def test_a_bag_has_no_frame_options(bag, capsys):
    assert main([str(bag), '--fps', '5']) == 1
    assert 'is a bag' in capsys.readouterr().err


def test_ros_arguments_are_set_apart():
    assert split_ros_args(['a', '--ros-args', '-r', 'x:=y', '--', '--rate', '2']) == (
        ['a', '--rate', '2'], ['--ros-args', '-r', 'x:=y', '--'])
    assert split_ros_args(['a', '--rate', '2']) == (['a', '--rate', '2'], [])


def test_a_renaming_that_is_none(capsys):
    with pytest.raises(SystemExit):
        main(['drive.mcap', '--remap', 'a=b'])
    assert "invalid OLD:=NEW value: 'a=b'" in capsys.readouterr().err
