"""What the real node does when its device fails: what it publishes, says, and how it ends."""

from contextlib import contextmanager
from functools import partial
from pathlib import Path
import re
import signal
import time

import fault_models
from fault_table import Fault, record
from harness import (
    all_counted,
    Client,
    Diagnostics,
    image_cdr,
    MODELS,
    NodeProcess,
    START_S,
    values,
)
from lifecycle_msgs.msg import Transition
import numpy as np
from patience import patience
import pytest
from test_node_life import set_parameter, transition

PALETTE = MODELS / 'palette_cityscapes19'
BLACK = np.zeros((120, 160, 3), np.uint8)
WHITE = np.full((120, 160, 3), 255, np.uint8)
WIDE = np.zeros((360, 640, 3), np.uint8)
OK, WARN, ERROR = (bytes([level]) for level in range(3))
TIMEOUT_S = 3.0
STUCK = 'the device does not come back: a frame of {} has been in hand for'

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope='module')
def client():
    client = Client('faults')
    client.said = Diagnostics(client)
    yield client
    client.close()


@contextmanager
def running(client: Client, folder: Path, camera: str, edit=None, first=BLACK, **parameters):
    """Start the node on one camera with a model that misbehaves, once it has published a mask."""
    model = folder / 'model'
    if not model.exists():
        fault_models.write(model, edit)
    client.listen(mask(camera))
    with start(folder, camera=camera, model=model, **parameters) as node:
        client.handshake(topic(camera), [mask(camera)], image_cdr(first, 1))
        yield node


def start(folder: Path, camera: str, **parameters) -> NodeProcess:
    given = {'backend': 'onnxruntime', 'device_timeout_s': TIMEOUT_S, 'threads': 1, **parameters}
    return NodeProcess(folder, cameras=f'[{camera}]', **given)


def topic(camera: str) -> str:
    return f'/{camera}/image_raw'


def mask(camera: str) -> str:
    return f'/seg_node/{camera}/mask'


def told(client: Client, text: str, since: float | None = None, level=ERROR):
    """
    Wait for a status of the node; return the first and how long after the cause it came.

    :param since: when the cause was, in monotonic seconds; None = what comes next is meant.
    """
    if since is None:
        for _ in range(20):  # what came before is not the next
            client.executor.spin_once(timeout_sec=0)
        since = time.monotonic()

    def found():
        return [(moment, status) for moment, status in client.said.of('node', since)
                if text in status.message]
    assert client.spin_until(lambda: bool(found()), START_S), client.said.of('node')[-1:]
    moment, status = found()[0]
    assert status.level == level, status
    return status, moment - since


def in_hand_s(text: str) -> float:
    """Return for how long a frame has been in hand, as the node says."""
    return float(re.search(r'has been in hand for (\d+\.\d) s', text).group(1))


def answered(client: Client, camera: str) -> list:
    """Return the masks that have come since the handshake, of which more may come for a while."""
    return [found for found in client.messages[mask(camera)] if found.header.stamp_ns != 1]


def last_line(node: NodeProcess) -> str:
    return node.log.strip().splitlines()[-1]


def ended(node: NodeProcess, code: int, reason: str, since: float) -> float:
    """Wait for the end with this code and reason; return how long after the cause it came."""
    assert node.wait(60) == code, node.log
    seconds, now_s = time.monotonic() - since, time.time()
    assert reason in last_line(node), node.log
    assert 'Traceback' not in node.log
    said_s = float(re.search(r'\[(\d+\.\d+)\]', last_line(node)).group(1))
    assert now_s - said_s < patience(3), 'it says why and goes'
    return seconds


def test_a_network_that_hangs_and_a_process_that_is_stopped(client, tmp_path):
    """
    It is told, the process ends with the reason, and the next start knows.

    What is in hand while the process is stopped has not been in hand for that long.
    """
    stuck = STUCK.format('stuck')
    with running(client, tmp_path, 'stuck', fault_models.hangs_on_white) as node:
        since = time.monotonic()
        client.send(topic('stuck'), image_cdr(WHITE, 2))
        status, told_s = told(client, stuck, since)
        assert '(network, ' in status.message
        # By the clock of the node, which goes by half a second a look at most.
        assert 2.0 <= in_hand_s(status.message) <= 2.6
        ended_s = ended(node, 3, stuck, since)
        assert TIMEOUT_S <= in_hand_s(last_line(node)) <= TIMEOUT_S + 0.6
        assert not answered(client, 'stuck')
    record(Fault('the network hangs on an image', 'no more masks', f'ERROR {stuck} …', told_s,
                 'the process ends', ended_s, 3))
    since = time.monotonic()
    with running(client, tmp_path, 'stuck') as node:
        works_s = time.monotonic() - since
        status, _ = told(client, '', level=OK)
        reason = values(status)['last_end']
        assert re.match(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d: the device does not come back', reason)
        record(Fault('… and is started again', 'masks',
                     'OK active (value last_end: the reason)', None, 'works', works_s, None))
        node.process.send_signal(signal.SIGSTOP)
        time.sleep(TIMEOUT_S + 1)
        node.process.send_signal(signal.SIGCONT)
        since = time.monotonic()
        client.handshake(topic('stuck'), [mask('stuck')], image_cdr(BLACK, 5))
        works_s = time.monotonic() - since
        told(client, '', level=OK)
        sent = time.monotonic()
        client.send(topic('stuck'), image_cdr(WHITE, 6))
        client.spin(0.5)  # until it is in hand
        node.process.send_signal(signal.SIGSTOP)
        before_s = time.monotonic() - sent
        time.sleep(TIMEOUT_S + 1)
        since = time.monotonic()
        node.process.send_signal(signal.SIGCONT)
        _, told_s = told(client, stuck, since)
        # All of 2 s but what was before the stop, and the one look that counts the stop.
        assert told_s > 2.0 - before_s - 0.6, before_s
        ended(node, 3, stuck, since)
    record(Fault('the process is stopped and continued', 'masks again', 'OK active', None,
                 'works', works_s, None))


def test_a_restart_tells_why_until_there_is_a_mask(client, tmp_path):
    """
    The reason of the last end stands in the status; the record is gone after a good end.

    On the way, an image that would want all memory: valid, 49 kB, one row of 16384 pixels. It
    alone is refused.
    """
    record_of(tmp_path, 'why', phase='fault', reason='a test')
    with start(tmp_path, 'why', model=PALETTE) as node:
        node.wait_for_log('camera why')
        status, _ = told(client, 'active; the last start ended at ', level=WARN)
        assert status.message.endswith(': a test')
        client.listen(mask('why'))
        client.handshake(topic('why'), [mask('why')], image_cdr(BLACK, 1))
        told(client, 'active', level=OK)
        since = time.monotonic()
        client.send(topic('why'), image_cdr(np.zeros((1, 16384, 3), np.uint8), 2))
        client.diagnostics('why', until=lambda status: (
            values(status).get('refused_size') == '1' and 'refused, for size' in status.message))
        told_s = time.monotonic() - since
        client.exchange(topic('why'), image_cdr(BLACK, 3), mask('why'), 3)
        assert node.memory_mb() < 1000
        record(Fault('an image of 16384x1', 'no mask for that image, then masks',
                     'WARN (camera) images refused, for size', told_s, 'works',
                     time.monotonic() - since, None))
        node.interrupt()
    assert not list(tmp_path.glob('seg_node/*.json'))


def test_a_signal_while_the_network_hangs(client, tmp_path):
    with running(client, tmp_path, 'sig', fault_models.hangs_on_white,
                 device_timeout_s=60.0) as node:
        client.send(topic('sig'), image_cdr(WHITE, 2))
        told(client, STUCK.format('sig'))
        ended_s = ended_by(node, signal.SIGTERM, 'sig')
    record(Fault('SIGTERM or SIGINT while the network hangs', 'nothing', 'ERROR as above',
                 None, 'the process ends', ended_s, 3))


def ended_by(node: NodeProcess, number: signal.Signals, camera: str) -> float:
    """End a node that hangs; return how long it took."""
    since = time.monotonic()
    node.process.send_signal(number)
    ended_s = ended(node, 3, f'ended by {number.name}; {STUCK.format(camera)}', since)
    assert ended_s < patience(3.5)
    return ended_s


def test_deactivate_while_the_network_hangs(client, tmp_path):
    """The call is answered, what was waiting is dropped, and nothing comes any more."""
    stuck = STUCK.format('idle')
    with running(client, tmp_path, 'idle', fault_models.hangs_on_white,
                 device_timeout_s=60.0) as node:
        before = values(client.diagnostics('idle', until=all_counted))
        since = time.monotonic()
        client.send(topic('idle'), image_cdr(WHITE, 2))
        told(client, stuck, since)
        for stamp in (3, 4):  # one to be replaced, one to be left
            client.send(topic('idle'), image_cdr(BLACK, stamp))
        client.diagnostics('idle', until=lambda status: (
            int(values(status)['received']) == int(before['received']) + 3))
        asked = time.monotonic()
        transition(client, Transition.TRANSITION_DEACTIVATE)
        answered_s = time.monotonic() - asked
        assert answered_s < patience(2.5)
        assert client.state() == 'inactive'
        told(client, stuck)
        transition(client, Transition.TRANSITION_ACTIVATE)
        found = values(client.diagnostics('idle', until=lambda status: (
            'dropped' in values(status) and all_counted(status))))
        assert int(found['dropped']) - int(before['dropped']) == 3, (before, found)
        assert not answered(client, 'idle')
        ended_by(node, signal.SIGINT, 'idle')
    record(Fault('deactivate while the network hangs', 'nothing', 'ERROR as above', None,
                 'the call is answered; the process ends as above', answered_s, 3))


def test_a_slow_model_is_no_hang(client, tmp_path):
    """Frames that take longer than all limits are published, if the model is like that."""
    for seconds in (3.0, 6.0, 12.0):  # the machine may be faster than when the model was made
        took_ms = slow_but_alive(client, tmp_path, seconds)
        if took_ms > 2000:
            break
    assert took_ms > 2000, 'no model was slow enough to be taken for one that hangs'
    record(Fault('a model that takes more than 2 s a frame', 'its masks', 'OK active', None,
                 'works', None, None))


def slow_but_alive(client: Client, folder: Path, seconds: float) -> float:
    """Have a frame segmented that takes about this long; return how many ms the network took."""
    camera, since = f'slow{seconds:.0f}', time.monotonic()
    with running(client, folder / camera, camera, fault_models.takes(seconds),
                 device_timeout_s=1.0):
        client.exchange(topic(camera), image_cdr(BLACK, 2), mask(camera), 2)
        seen = [status.message for _, status in client.said.of('node', since)]
        assert seen and not [text for text in seen if 'does not come back' in text]
        return float(values(client.diagnostics(camera, until=all_counted))['stage_network_ms'])


def test_a_network_that_fails(client, tmp_path):
    """The frame is refused and the next is tried; five in a row end the process."""
    good = partial(image_cdr, WIDE)
    with running(client, tmp_path, 'fail', fault_models.fails_unless(120, 216), WIDE) as node:
        since = time.monotonic()
        status = send_bad(client, 'fail', [1])
        told_s = time.monotonic() - since
        assert 'ONNX Runtime failed on an input of shape (1, 3, 120, 160)' in (
            values(status)['last_refusal'])
        client.exchange(topic('fail'), good(2), mask('fail'), 2)
        ended_s = time.monotonic() - since
        record(Fault('a run of the network fails', 'no mask for that image, then masks',
                     'WARN (camera) image refused, for backend', told_s, 'works', ended_s, None))
        send_bad(client, 'fail', [2, 3, 4, 5])
        client.exchange(topic('fail'), good(3), mask('fail'), 3)
        send_bad(client, 'fail', [6, 7, 8, 9])
        since = time.monotonic()
        client.send(topic('fail'), image_cdr(BLACK, 200))
        reason = 'the network failed 5 times in a row: ONNX Runtime failed on an input'
        ended_s = ended(node, 3, reason, since)
        assert ended_s < patience(3)
    record(Fault('… five times in a row', 'nothing', f'ERROR the process ends: {reason} …', None,
                 'the process ends', ended_s, 3))


def send_bad(client: Client, camera: str, numbers):
    """Send images at which the network fails, each once the one before has been refused."""
    for number in numbers:
        client.send(topic(camera), image_cdr(BLACK, 100 + number))
        status = client.diagnostics(camera, until=lambda status, number=number: values(
            status).get('refused_backend') == str(number))
    return status


def test_what_is_wrong_with_the_configuration(client, tmp_path):
    since = time.monotonic()
    with start(tmp_path, 'wrong', model=tmp_path / 'nowhere') as node:
        ended_s = ended(node, 1, 'configure failed: ', since)
    record(Fault('a parameter, the card or a file is wrong', 'nothing',
                 'ERROR the process ends: configure failed: …', None, 'the process ends', ended_s,
                 1))
    with start(tmp_path, 'wrong', model=tmp_path / 'nowhere', autostart=False) as node:
        assert client.state() == 'unconfigured'
        since = time.monotonic()
        assert not client.change_state(Transition.TRANSITION_CONFIGURE)
        _, told_s = told(client, 'configure failed: ', since)
        assert client.state() == 'unconfigured' and node.process.poll() is None
    record(Fault('… under a lifecycle manager', 'nothing', 'ERROR configure failed: …', told_s,
                 'configure answers failure', told_s, None))


def test_loading_does_not_block_the_node(client, tmp_path):
    model = fault_models.write(tmp_path / 'model', fault_models.hangs)
    with start(tmp_path, 'load', model=model) as node:
        since = time.monotonic()
        first, told_s = told(client, 'loading, ', since, level=OK)
        assert client.state() == 'active'
        assert set_parameter(client, 'overlay_alpha', 0.8).successful
        later = client.diagnostics('node', until=lambda status: seconds(status) > 1.5)
        assert later.level == OK and seconds(later) > seconds(first)
        assert client.diagnostics('load').message == 'loading'
        assert client.node.count_subscribers(topic('load')) == 0
        # It can be given up, and asked for again.
        for number in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
            asked = time.monotonic()
            transition(client, number)
            assert time.monotonic() - asked < patience(1.5)
        assert client.diagnostics('node').message == 'unconfigured'
        transition(client, Transition.TRANSITION_CONFIGURE)
        told(client, 'loading, ', level=OK)
        code, ended_s = node.interrupt()
        assert code == 0 and ended_s < patience(2.5), node.log
        assert re.search(r'ended by SIGINT while the model was loading, after \d+\.\d s$',
                         last_line(node))
    record(Fault('the model takes long to load', 'nothing', 'OK loading, … s; WARN after 60 s',
                 None, 'a signal ends it', ended_s, 0))


def seconds(status) -> float:
    found = re.match(r'loading, (\d+\.\d) s', status.message)
    return float(found.group(1)) if found else 0.0


def test_a_model_that_cannot_be_loaded_by_a_manager(client, tmp_path):
    """Configure succeeds, as all files are right; then the node is unconfigured again."""
    model = fault_models.write(tmp_path / 'model', fault_models.returns_nan)
    with start(tmp_path, 'managed', model=model, autostart=False) as node:
        for activate in (False, True):
            assert set_parameter(client, 'model', str(model)).successful
            since = time.monotonic()
            transition(client, Transition.TRANSITION_CONFIGURE)
            if activate and client.state() == 'inactive':
                client.change_state(Transition.TRANSITION_ACTIVATE)
            _, told_s = told(client, 'loading failed: the model does not work on a test image',
                             since)
            assert client.state() == 'unconfigured'
            assert set_parameter(client, 'model', str(PALETTE)).successful
            transition(client, Transition.TRANSITION_CONFIGURE)
            transition(client, Transition.TRANSITION_ACTIVATE)
            client.listen(mask('managed'))
            client.handshake(topic('managed'), [mask('managed')], image_cdr(BLACK, 1))
            transition(client, Transition.TRANSITION_DEACTIVATE)
            transition(client, Transition.TRANSITION_CLEANUP)
        assert node.process.poll() is None
    record(Fault('the model cannot be loaded, under a lifecycle manager', 'nothing',
                 'ERROR loading failed: …', told_s, 'unconfigured', told_s, None))


def test_starts_that_bring_no_mask(client, tmp_path):
    """Each waits longer; then the node stays and says so, until somebody ends it."""
    model = fault_models.write(tmp_path / 'model', fault_models.returns_nan)
    begin = partial(start, tmp_path, 'again', model=model, max_starts=2)
    reason = 'loading failed: the model does not work on a test image'
    since = time.monotonic()
    with begin() as node:
        ended_s = ended(node, 3, reason, since)
    with begin() as node:
        ended(node, 3, reason, since)
        assert 'start 2 after 1 without a mask: the model is loaded in 1 s' in node.log
    since = time.monotonic()
    with begin() as node:
        status, told_s = told(client, 'gave up after 2 starts without a mask', since)
        assert reason in status.message and client.state() == 'unconfigured'
        assert 'gave up' in last_line(node)
        code, _ = node.interrupt()
        assert code == 0
    with begin() as node:
        ended(node, 3, reason, since)
    record(Fault('the model cannot be loaded', 'nothing', f'ERROR the process ends: {reason} …',
                 None, 'the process ends', ended_s, 3))
    record(Fault('… max_starts times in a row', 'nothing',
                 'ERROR gave up after … starts without a mask …', told_s,
                 'unconfigured; works once configured by hand', None, None))


def test_a_process_that_is_killed_while_it_loads(client, tmp_path):
    model = fault_models.write(tmp_path / 'model', fault_models.hangs)
    with start(tmp_path, 'kill', model=model) as node:
        told(client, 'loading, ', level=OK)
        node.process.kill()
        node.wait()
    since = time.monotonic()
    with start(tmp_path, 'kill', model=model) as node:
        status = client.diagnostics('node', until=lambda status: 'last_end' in values(status))
        told_s = time.monotonic() - since
        assert 'ended without a word while it loaded the model: killed' in (
            values(status)['last_end'])
        node.wait_for_log('the model is loaded in 1 s')
    record(Fault('killed while it loads (out of memory, a crash)', 'nothing',
                 'WARN or value last_end of the next start: ended without a word …', told_s,
                 'the next start waits', None, -9))


def test_a_signal_before_the_node_is_there(tmp_path):
    node = start(tmp_path, 'early', model=PALETTE)
    maps = Path(f'/proc/{node.process.pid}/maps')
    while 'rclpy' not in maps.read_text():
        time.sleep(0.005)
    code, ended_s = node.interrupt()
    assert code == 0 and ended_s < patience(2.5) and 'ended by SIGINT' in last_line(node), node.log


def record_of(folder: Path, camera: str, **fields) -> None:
    """Write what a start of the node would have left behind."""
    from os import environ

    from seg_node.running.starts import Starts
    (folder / 'seg_node').mkdir()
    starts = Starts(folder / 'seg_node' / f'seg_node.{environ["ROS_DOMAIN_ID"]}.json')
    starts.begin('of other settings')
    starts.fault(fields['reason'])
