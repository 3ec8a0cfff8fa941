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
from diagnostic_msgs.msg import DiagnosticArray
from fault_table import Fault, record
from harness import Client, image_cdr, MODELS, NodeProcess, RELIABLE, START_S, values
from lifecycle_msgs.msg import Transition
import numpy as np
import pytest
import rclpy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo
from test_node_life import big_palette, PALETTE, set_parameter, STREET
from test_node_outputs import camera_info

OK, WARN, ERROR, STALE = (bytes([level]) for level in range(4))
NS = 10**9


@pytest.fixture(scope='module')
def client():
    client = Client('health_client')
    yield client
    client.close()


class Diagnostics:
    """Everything said on /diagnostics, with when it came."""

    def __init__(self, client: Client) -> None:
        self.said = []  # (monotonic seconds, part, DiagnosticStatus)
        client.node.create_subscription(DiagnosticArray, '/diagnostics', self._hear, RELIABLE)

    def _hear(self, message):
        self.said += [(time.monotonic(), status.name.partition(': ')[2], status)
                      for status in message.status]

    def of(self, part, since=0.0, until=float('inf')):
        return [(moment, status) for moment, name, status in self.said
                if name == part and since <= moment < until]


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


def play(client, feeds, seconds, changes=None, until=lambda: False):
    """
    Let cameras send for a while.

    :returns: when it began, and by how much an image was late at worst, in seconds.
    """
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
        client.executor.spin_once(timeout_sec=0.005)
    return begin, late_s


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
GOOD_S, BAD_S = 4.5, 4.5


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
    names = f'[{", ".join(feed.name for feed in feeds)}]'
    with NodeProcess(tmp_path_factory.mktemp('scene'), model=PALETTE, threads=1,
                     cameras=names) as node:
        node.wait_for_log(f'camera {feeds[-1].name}')
        masks = client.listen('/seg_node/frozen/mask')
        play(client, feeds, START_S, until=lambda: bool(masks))
        play(client, feeds, GOOD_S)
        masks.clear()
        bad, bad_late_s = play(client, feeds, BAD_S, changes)
        published = len(masks)
        mended, good_late_s = play(client, feeds, GOOD_S)
        end = time.monotonic()
    return bad, mended, end, max(bad_late_s, good_late_s), published


@pytest.mark.parametrize('name, rate_hz, change, fault, words, published', SCENE,
                         ids=[row[0] for row in SCENE])
def test_a_fault_shows_and_clears(scene, diagnostics, name, rate_hz, change, fault, words,
                                  published):
    bad, mended, end, late_s, masks = scene
    before = diagnostics.of(name, bad - 2, bad)
    assert before and all(status.level == OK for _, status in before), before[-1]
    told = [moment for moment, status in diagnostics.of(name, bad, mended)
            if words in status.message and status.level != OK]
    assert told, diagnostics.of(name, bad, mended)[-1]
    flicker = [status for _, status in diagnostics.of(name, told[0], mended)
               if status.level == OK]
    assert not flicker
    after = diagnostics.of(name, mended, end)
    still_bad = [moment for moment, status in after if status.level != OK]
    cleared = min(moment for moment, status in after
                  if moment > max(still_bad, default=mended) and status.level == OK)
    last = [status for _, status in diagnostics.of(name, told[0], mended)
            if words in status.message][-1]
    record(Fault(fault, published, said(last), told[0] - bad, MENDED, cleared - mended, None))
    # On a machine that cannot even send in time, the answer is late, too.
    due_s = max(1.0, 3 / rate_hz) + 3 * late_s
    assert told[0] - bad <= due_s, late_s
    assert cleared - mended <= due_s, late_s
    assert masks > 20


def said_within(client, diagnostics, part, words, seconds, do=lambda: None):
    """Wait until a part's status holds the words; return how long it took, and the status."""
    start = time.monotonic()

    def found():
        do()
        return [status for _, status in diagnostics.of(part, start) if words in status.message]
    assert client.spin_until(lambda: bool(found()), seconds), diagnostics.of(part)[-1:]
    return time.monotonic() - start, found()[-1]


def test_two_nodes_of_one_name(client, diagnostics, tmp_path):
    with NodeProcess(tmp_path, model=PALETTE, cameras='[one]') as node:
        node.wait_for_log('camera one')
        said_within(client, diagnostics, 'node', 'active', 10)
        other = rclpy.create_node('seg_node', context=client.context)
        detect_s, status = said_within(client, diagnostics, 'node', '2 nodes are called /seg_node',
                                       10)
        assert status.level == WARN
        other.destroy_node()
        clear_s, _ = said_within(client, diagnostics, 'node', 'active', 10)
        record(Fault('a second node of the same name', 'masks of both, mixed', said(status),
                     detect_s, MENDED, clear_s, None))
        assert detect_s < 3 and clear_s < 3


def test_simulated_time_without_a_clock(client, diagnostics, tmp_path):
    feed = Feed('simless')
    with NodeProcess(tmp_path, model=PALETTE, cameras='[simless]', use_sim_time=True) as node:
        node.wait_for_log('camera simless')
        detect_s, status = said_within(client, diagnostics, 'node', 'there is no /clock', 10)
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
        clear_s, _ = said_within(client, diagnostics, 'node', 'active', 20, lambda: run(True))
        record(Fault('use_sim_time without /clock', 'masks', said(status), detect_s, MENDED,
                     clear_s, None))
        detect_s, status = said_within(client, diagnostics, 'node', '/clock has not moved', 20,
                                       lambda: run(False))
        begin = time.monotonic()
        clear_s, _ = said_within(client, diagnostics, 'node', 'active', 20, lambda: run(True))
        record(Fault('/clock stands still while images come', 'masks', said(status), detect_s,
                     MENDED, clear_s, None))


def test_overload_is_named_with_the_rate_that_fits(client, diagnostics, tmp_path):
    """A small image and a large network input: the network, not the transport, is the limit."""
    masks = client.listen('/seg_node/over/mask')
    with NodeProcess(tmp_path, model=big_palette(tmp_path / 'big'), cameras='[over]',
                     threads=1) as node:
        node.wait_for_log('camera over')
        slow = Feed('over', 2)
        play(client, [slow], START_S, until=lambda: len(masks) > 3)
        play(client, [slow], 6)  # what the start made slow is over
        status = diagnostics.of('over')[-1][1]
        assert status.level == OK
        fast = Feed('over', 12e3 / float(values(status)['processing_ms_p50']))
        start = time.monotonic()

        def told():
            return [status for _, status in diagnostics.of('over', start)
                    if 'of the images dropped, the network gives' in status.message]
        _, late_s = play(client, [fast], 15, until=told)
        detect_s = time.monotonic() - start
        masks.clear()
        begin, _ = play(client, [fast], 4)
        real_hz = len(masks) / (time.monotonic() - begin)
        status = told()[-1]
        assert status.level == WARN and 'set the camera to' in status.message
        said_hz = float(status.message.partition('network gives ')[2].split()[0])
        assert real_hz / 2 < said_hz < real_hz * 2, (status.message, real_hz)
        mended, _ = play(client, [slow], 4)
        cleared = [moment for moment, said in diagnostics.of('over', mended) if said.level == OK]
        record(Fault('a camera of 12 times the rate of the network',
                     'the newest images at the rate of the network', said(status), detect_s,
                     MENDED, cleared[0] - mended, None))
        assert detect_s < 1 + 3 * late_s
        assert cleared[0] - mended < 1.5 + 3 * late_s


def test_latency_counts_from_the_stamp_and_a_stall_has_rate_0(client, diagnostics, tmp_path):
    feed = Feed('stamp')
    with NodeProcess(tmp_path, model=PALETTE, cameras='[stamp]', image_timeout_s=30.0) as node:
        node.wait_for_log('camera stamp')
        begin, _ = play(client, [feed], START_S, {'stamp': shifted(-0.5)}, until=lambda: any(
            int(values(status).get('segmented', 0)) > 20 for _, status in diagnostics.of('stamp')))
        found = values(diagnostics.of('stamp', begin)[-1][1])
        for percent in (50, 95, 99):
            latency_ms = float(found[f'latency_ms_p{percent}'])
            assert latency_ms >= 500 + 0.9 * float(found[f'processing_ms_p{percent}']) * (
                percent == 50)
        assert float(found['processing_ms_p50']) < 400
        said_within(client, diagnostics, 'stamp', 'no image for', 10)
        assert client.spin_until(lambda: values(
            diagnostics.of('stamp')[-1][1])['output_rate_hz'] == '0.0')


def test_a_calibration_is_not_kept_over_a_deactivation(client, diagnostics, tmp_path):
    """The camera may have been exchanged meanwhile."""
    infos = client.listen('/seg_node/info/camera_info', CameraInfo)
    masks = client.listen('/seg_node/info/mask')
    feed = Feed('info')
    with NodeProcess(tmp_path, model=PALETTE, cameras='[info]') as node:
        node.wait_for_log('camera info')

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
        play(client, [feed], 20, until=lambda: any(
            'no camera_info on /info/camera_info' in status.message
            for _, status in diagnostics.of('info', start)))
        status = diagnostics.of('info')[-1][1]
        assert masks and not infos
        assert status.level == WARN and 'info.camera_info_topic' in status.message
        assert client.spin_until(told, START_S)
        said_within(client, diagnostics, 'info', 'segmenting', 10,
                    lambda: play(client, [feed], 0.2))


def test_the_period_of_the_diagnostics_is_applied_at_configure(client, diagnostics, tmp_path):
    with NodeProcess(tmp_path, model=PALETTE, cameras='[period]', autostart=False,
                     diagnostics_period_s=0.3):
        assert client.state() == 'unconfigured'
        assert set_parameter(client, 'diagnostics_period_s', 1.5).successful
        assert client.change_state(Transition.TRANSITION_CONFIGURE)
        client.spin(0.5)
        start = time.monotonic()
        client.spin(6.2)
        times = [moment for moment, _ in diagnostics.of('node', start)]
        assert 3 <= len(times) <= 5, np.diff(times)


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
