"""What the real node says of real faults, and how soon; seconds go to docs/faults.md."""

from collections.abc import Callable
from dataclasses import dataclass
import json
import os
import re
import shutil
import subprocess
import sys
import time

from builtin_interfaces.msg import Time
import fault_models
from fault_table import Fault, record
from harness import Client, Diagnostics, image_cdr, MODELS, NodeProcess, START_S, values
from lifecycle_msgs.msg import Transition
import numpy as np
from patience import Delay
import pytest
import rclpy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo
from test_node_life import PALETTE, STREET
from test_node_outputs import camera_info

from seg_node.health.window import RECENT_S

OK, WARN, ERROR, STALE = (bytes([level]) for level in range(4))
NS = 10**9


@pytest.fixture(scope='module')
def client():
    client = Client('health_client')
    yield client
    client.close()


@pytest.fixture(scope='module')
def diagnostics(client):
    return Diagnostics(client)


@dataclass
class Feed:
    """A camera that sends at a steady rate, with the wall clock's stamps unless edited."""

    name: str
    rate_hz: float = 10.0

    def __post_init__(self):
        self.topic = f'/{self.name}/image_raw'
        self.due = 0.0
        self.sent = 0

    def cdr(self, change: Callable[[int, int], tuple[int, str] | None]):
        """Return the next image; None = it is not sent."""
        now_ns = time.time_ns()
        edited = change(now_ns, self.sent)
        self.sent += 1
        if edited is None:
            return None
        stamp_ns, encoding = edited
        return image_cdr(STREET, stamp_ns, encoding=encoding)


def good(now_ns, index):
    return now_ns, 'bgr8'


def play(client, feeds, seconds, changes=None, until=lambda: False, node=None):
    """
    Let cameras send for a while.

    :param node: the process that is to answer.
    :returns: when it began, and by how much an image was sent late or the node held up at worst,
        in seconds.
    """
    delay = Delay(node.process.pid) if node else None
    begin, late_s = time.monotonic(), 0.0
    for feed in feeds:
        feed.due, feed.sent = begin, 0
    while (now := time.monotonic()) < begin + seconds and not until():
        for feed in feeds:
            if now >= feed.due:
                late_s = max(late_s, now - feed.due)
                feed.due += 1 / feed.rate_hz
                cdr = feed.cdr((changes or {}).get(feed.name, good))
                if cdr is not None:
                    client.send(feed.topic, cdr)
        due_s = min(feed.due for feed in feeds) - time.monotonic()
        client.executor.spin_once(timeout_sec=min(0.005, max(0.0, due_s)))
        if delay:
            delay.look()
    return begin, max(late_s, delay.worst_s if delay else 0.0)


def stamped(stamp_ns):
    return lambda now_ns, index: (stamp_ns, 'bgr8')


def shifted(seconds):
    return lambda now_ns, index: (now_ns + round(seconds * NS), 'bgr8')


def twice(now_ns, index):
    twice.last = now_ns if index % 2 == 0 else twice.last
    return twice.last, 'bgr8'


def loop(now_ns, index):
    """A bag of half a second that starts over."""
    return now_ns - index // 5 * NS // 2, 'bgr8'


def nine_of_ten(now_ns, index):
    return now_ns, 'bgr8' if index % 10 == 9 else 'nothing'


def silence(now_ns, index):
    return None


#: camera, rate, the fault, what it is called, what must be said, what is published meanwhile
SCENE = [
    ('silent', 10, silence, 'the camera stops (10 Hz)', 'no image', 'nothing'),
    ('slow', 1, silence, 'the camera stops (1 Hz)', 'no image', 'nothing'),
    ('refused', 10, nine_of_ten, '9 of 10 images have an unknown encoding', 'images refused',
     'masks of the good images'),
    ('slow_refused', 1, lambda now_ns, index: (now_ns, 'nothing'),
     'all images have an unknown encoding (1 Hz)', 'images refused', 'nothing'),
    ('frozen', 10, stamped(1_700_000_000 * NS), 'all stamps are the same', 'stamp',
     'masks'),
    ('zero', 10, stamped(0), 'all stamps are zero', 'are zero', 'masks'),
    ('twice', 10, twice, 'every stamp comes twice', 'have the stamp of', 'masks'),
    ('loop', 10, loop, 'the stamps jump back again and again', 'jumped back', 'masks'),
    ('old', 10, shifted(-3), 'images come 3 s late', 'stamps are 3.0 s old', 'masks'),
    ('ahead', 10, shifted(5), "the camera's clock is 5 s ahead", '5.0 s in the future', 'masks')]
LEVELS = ('OK', 'WARN', 'ERROR', 'STALE')
MENDED = 'works, once mended'
#: What each part of the scene takes at most; it goes on as soon as all is said.
SCENE_S = 40.0


def plain(text):
    """Return what is said without the mend, … for figures: what is the same in every run."""
    text = re.sub(r'-?[\d.]*\d', '…', text.partition(': ')[0])
    return re.sub(r'/\w+/image_raw', '/…/image_raw', text)


def said(status):
    return plain(f'{LEVELS[status.level[0]]} {status.message}')


@pytest.fixture(scope='module')
def scene(client, diagnostics, tmp_path_factory):
    """Let ten cameras run well, then each with its fault, then well again; return the times."""
    feeds = [Feed(name, rate_hz) for name, rate_hz, *_ in SCENE]
    changes = {name: change for name, _, change, *_ in SCENE}
    wanted = {name: words for name, _, _, _, words, _ in SCENE}

    def well_since(begin):
        return time.monotonic() > begin + 2 and diagnostics.well(wanted, 2)

    def all_due():
        # A fault begins with the image that is missing: all cameras are in step once a second.
        return time.monotonic() >= max(feed.due for feed in feeds)

    def all_told(begin):
        return len(masks) > 20 and all(
            first_told(diagnostics, name, words, begin) < time.monotonic() - 1
            for name, words in wanted.items())
    with NodeProcess(tmp_path_factory.mktemp('scene'), model=PALETTE, threads=1,
                     cameras=f'[{", ".join(wanted)}]') as node:
        node.wait_for_log(f'camera {feeds[-1].name}')
        masks = client.listen('/seg_node/frozen/mask')
        play(client, feeds, START_S, until=lambda: bool(masks))
        start = time.monotonic()
        play(client, feeds, SCENE_S, until=lambda: all_due() and well_since(start))
        masks.clear()
        start = time.monotonic()
        bad, bad_late_s = play(client, feeds, SCENE_S, changes, lambda: all_told(start), node)
        published = len(masks)
        start = time.monotonic()
        mended, good_late_s = play(client, feeds, SCENE_S, None, lambda: well_since(start), node)
        end = time.monotonic()
    return bad, mended, end, max(bad_late_s, good_late_s), published


def first_told(diagnostics, name, words, since, until=float('inf')):
    """Return when a fault was told first; infinite = it was not."""
    return next((moment for moment, status in diagnostics.of(name, since, until)
                 if words in status.message and status.level != OK), float('inf'))


@pytest.mark.parametrize('name, rate_hz, change, fault, words, published', SCENE,
                         ids=[row[0] for row in SCENE])
def test_a_fault_shows_and_clears(scene, diagnostics, name, rate_hz, change, fault, words,
                                  published):
    bad, mended, end, late_s, masks = scene
    before = diagnostics.of(name, bad - 2, bad)
    assert before and all(status.level == OK for _, status in before), before[-1:]
    told = first_told(diagnostics, name, words, bad, mended)
    assert told < mended, diagnostics.of(name, bad, mended)[-1:]
    flicker = [status for _, status in diagnostics.of(name, told, mended) if status.level == OK]
    assert not flicker
    after = diagnostics.of(name, mended, end)
    cleared = next((moment for moment, status in after if status.level == OK), float('inf'))
    assert cleared < end, after[-1:]
    # Whoever does not send for that long has stopped.
    again = [status for moment, status in after if moment > cleared and status.level != OK]
    assert not again or late_s > RECENT_S / 2, again
    last = [status for _, status in diagnostics.of(name, told, mended)
            if words in status.message][-1]
    record(Fault(fault, published, said(last), told - bad, MENDED, cleared - mended, None))
    # On a machine that cannot even send in time, the answer is late, too.
    due_s = max(1.0, 3 / rate_hz) + 3 * late_s
    assert told - bad <= due_s, late_s
    assert cleared - mended <= due_s, late_s
    assert masks > 20


def said_within(client, diagnostics, part, words, do=lambda: None):
    """Wait until a part's status holds the words; return how long it took, and the status."""
    start = time.monotonic()

    def found():
        do()
        return [status for _, status in diagnostics.of(part, start) if words in status.message]
    assert client.spin_until(lambda: bool(found()), START_S), diagnostics.of(part)[-1:]
    return time.monotonic() - start, found()[-1]


def test_simulated_time_without_a_clock(client, diagnostics, tmp_path):
    feed = Feed('simless')
    with NodeProcess(tmp_path, model=PALETTE, cameras='[simless]', use_sim_time=True) as node:
        node.wait_for_log('camera simless')
        detect_s, status = said_within(client, diagnostics, 'node', 'there is no /clock')
        assert status.level == WARN

        def run(advance):
            now = time.monotonic()
            if now >= feed.due:
                feed.due = now + 0.05
                seconds = 500 + (now - begin if advance else 0)
                client.send('/clock', Clock(clock=Time(sec=int(seconds), nanosec=int(
                    seconds % 1 * NS))), Clock)
                client.send(feed.topic, image_cdr(STREET, int(seconds * NS)))
        begin = time.monotonic()
        clear_s, _ = said_within(client, diagnostics, 'node', 'active', lambda: run(True))
        record(Fault('use_sim_time without /clock', 'masks', said(status), detect_s, MENDED,
                     clear_s, None))
        detect_s, status = said_within(client, diagnostics, 'node', '/clock has not moved',
                                       lambda: run(False))
        begin = time.monotonic()
        clear_s, _ = said_within(client, diagnostics, 'node', 'active', lambda: run(True))
        record(Fault('/clock stands still while images come', 'masks', said(status), detect_s,
                     MENDED, clear_s, None))


def test_overload_is_named_with_the_rate_that_fits(client, diagnostics, tmp_path):
    """A small image and a slow network: the network, not the transport, is the limit."""
    masks = client.listen('/seg_node/over/mask')
    slow, fast = Feed('over', 4), Feed('over')
    model = fault_models.write(tmp_path / 'slow', fault_models.takes(0.1))

    def newest(key):
        return float(values(diagnostics.of('over')[-1][1]).get(key) or 0)

    def warned(since):
        return [(moment, status) for moment, status in diagnostics.of('over', since)
                if 'of the images dropped, the network gives' in status.message]
    with NodeProcess(tmp_path, model=model, cameras='[over]', threads=1) as node:
        node.wait_for_log('camera over')
        play(client, [slow], START_S, until=lambda: len(masks) > 3)
        # The times of the first images are those of the start.
        begin, _ = play(client, [slow], START_S, until=lambda: len(masks) > 12)
        assert not warned(begin), warned(begin)[0]
        fast.rate_hz, raised = 12e3 / newest('processing_ms_p50'), time.monotonic()

        def told():
            nonlocal raised
            if fast.rate_hz < 10 * newest('output_rate_hz'):  # the machine has become faster
                fast.rate_hz, raised = 12 * newest('output_rate_hz'), time.monotonic()
            return warned(raised)
        _, late_s = play(client, [fast], 30, until=told, node=node)
        assert warned(raised), (fast, diagnostics.of('over')[-1])
        detect_s = warned(raised)[0][0] - raised
        masks.clear()
        begin, _ = play(client, [fast], 4)
        real_hz = len(masks) / (time.monotonic() - begin)
        status = warned(begin)[-1][1]
        assert status.level == WARN and 'set the camera to' in status.message
        said_hz = np.mean([float(status.message.partition('network gives ')[2].split()[0])
                           for _, status in warned(begin)])
        assert real_hz / 2 < said_hz < real_hz * 2, (status.message, real_hz)

        def cleared():
            return [moment for moment, status in diagnostics.of('over', mended)
                    if status.level == OK]
        mended = time.monotonic()
        _, late_again_s = play(client, [slow], 30, until=cleared, node=node)
        assert cleared(), diagnostics.of('over')[-1]
        mend_s = cleared()[0] - mended
        record(Fault('a camera of 12 times the rate of the network',
                     'the newest images at the rate of the network', said(status), detect_s,
                     MENDED, mend_s, None))
        assert detect_s < 1 + 3 * late_s, late_s
        told_since = [(moment - mended, status.message)
                      for moment, status in diagnostics.of('over', mended)]
        assert mend_s < 1 + 3 * late_again_s, (late_again_s, told_since)


class TestOneNode:
    """What goes without a start of its own."""

    @pytest.fixture(scope='class')
    def node(self, tmp_path_factory):
        with NodeProcess(tmp_path_factory.mktemp('node'), model=PALETTE, cameras='[stamp, info]',
                         image_timeout_s=3.0) as node:
            node.wait_for_log('camera info')
            yield node

    def test_two_nodes_of_one_name(self, node, client, diagnostics):
        said_within(client, diagnostics, 'node', 'active')
        delay = Delay(node.process.pid)
        other = rclpy.create_node('seg_node', context=client.context)
        detect_s, status = said_within(client, diagnostics, 'node', '2 nodes are called /seg_node',
                                       delay.look)
        assert status.level == WARN
        other.destroy_node()
        clear_s, _ = said_within(client, diagnostics, 'node', 'active', delay.look)
        record(Fault('a second node of the same name', 'masks of both, mixed', said(status),
                     detect_s, MENDED, clear_s, None))
        assert max(detect_s, clear_s) < 3 + 3 * delay.worst_s, (detect_s, clear_s)

    def test_latency_counts_from_the_stamp_and_a_stall_has_rate_0(self, node, client,
                                                                  diagnostics):
        feed = Feed('stamp')
        begin, _ = play(client, [feed], START_S, {'stamp': shifted(-0.5)}, until=lambda: any(
            int(values(status).get('segmented', 0)) > 20 for _, status in diagnostics.of('stamp')))
        found = values(diagnostics.of('stamp', begin)[-1][1])
        for percent in (50, 95, 99):
            latency_ms = float(found[f'latency_ms_p{percent}'])
            assert latency_ms >= 500 + 0.9 * float(found[f'processing_ms_p{percent}']) * (
                percent == 50)
        assert float(found['processing_ms_p50']) < float(found['latency_ms_p50']) - 400
        said_within(client, diagnostics, 'stamp', 'no image for')
        assert client.spin_until(lambda: values(
            diagnostics.of('stamp')[-1][1])['output_rate_hz'] == '0.0')

    def test_a_calibration_is_not_kept_over_a_deactivation(self, node, client, diagnostics):
        """The camera may have been exchanged meanwhile."""
        infos = client.listen('/seg_node/info/camera_info', CameraInfo)
        masks = client.listen('/seg_node/info/mask')
        feed = Feed('info')

        def told():
            client.send('/info/camera_info', camera_info(120, 160), CameraInfo)
            play(client, [feed], 0.3)
            return bool(infos)
        assert client.spin_until(told, START_S)
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
            assert client.change_state(transition)
        masks.clear()
        infos.clear()
        start = time.monotonic()
        play(client, [feed], START_S, until=lambda: any(
            'no camera_info on /info/camera_info' in status.message
            for _, status in diagnostics.of('info', start)))
        status = diagnostics.of('info')[-1][1]
        assert masks and not infos
        assert status.level == WARN and 'info.camera_info_topic' in status.message
        assert client.spin_until(told, START_S)
        said_within(client, diagnostics, 'info', 'segmenting',
                    lambda: play(client, [feed], 0.2))


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which('unshare'),
                    reason='a small /dev/shm of its own needs root and unshare')
@pytest.mark.parametrize('megabytes, words', [(64, '/dev/shm has 64 MB'), (20, 'did not open')])
def test_a_dev_shm_that_is_too_small(tmp_path, megabytes, words):
    """64 MB is what a container gets unless it is told otherwise."""
    inner = [sys.executable, str(MODELS.parent / 'small_memory.py'), str(tmp_path)]
    mount = f'mount -t tmpfs -o size={megabytes}m tmpfs /dev/shm && exec "$@"'
    started = subprocess.run(['unshare', '-m', 'sh', '-c', mount, 'sh', *inner], text=True,
                             capture_output=True, timeout=120, check=False)
    if 'mount:' in started.stderr or 'unshare:' in started.stderr:
        pytest.skip(f'no small /dev/shm here: {started.stderr.splitlines()[-1]}')
    assert started.returncode == 0, started.stderr
    found = json.loads(started.stdout.splitlines()[-1])
    assert words in found['node'] and '--shm-size' in found['node'] and found['node_level'] == 1
    assert found['received'] + found['lost'] >= 0.8 * found['sent'] - 5, found
    assert found['lost'] > 0.3 * found['sent'], found
    assert 'lost on the way' in found['camera'] and found['camera_level'] >= 1
    record(Fault(f'/dev/shm of {megabytes} MB, images of 2.8 MB', 'masks of the few that come',
                 plain(f'WARN {found["node"]}'), found['node_s'], 'once it is larger', None, None))
