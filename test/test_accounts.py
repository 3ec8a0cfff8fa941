"""The demo's book-keeping: every frame once, on slow machines and with whatever stamps."""

import subprocess
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
import pytest
from rclpy.serialization import serialize_message

from seg_node.model.taxonomy import load_taxonomy
from seg_node.playback import accounts as module, node_process
from seg_node.playback.accounts import Accounts
from seg_node.playback.replay_options import ReplayResult
from seg_node.playback.report import as_table, latencies_ms, make_report
from seg_node.scoring.metrics import BinaryIoU, ConfusionMatrix

SENT = {'/a': 10}


class Clock:
    """A clock that tests set."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def accounts(clock):
    return Accounts({'a': '/a'}, {'a': '/mask'}, clock)


def report(accounts, node='seg_node', **values):
    """Let the node say something of camera a."""
    values = {'received': 0, 'segmented': 0, 'dropped': 0, 'refused': 0, **values}
    status = DiagnosticStatus(name=f'{node}: a', message='said', values=[
        KeyValue(key=key, value=str(value)) for key, value in values.items()])
    accounts.on_message(module.DIAGNOSTICS, serialize_message(DiagnosticArray(status=[status])))


def masks(accounts, count):
    for _ in range(count):
        accounts.on_message('/mask', b'')


def test_it_ends_as_soon_as_all_frames_are_known(accounts):
    report(accounts, received=9, segmented=5, dropped=4)
    assert not accounts.settled(SENT)
    report(accounts, received=10, segmented=5, dropped=4)  # one is in hand
    assert not accounts.settled(SENT)
    report(accounts, received=10, segmented=6, dropped=4)
    assert not accounts.settled(SENT)  # its mask is on its way
    masks(accounts, 6)
    assert accounts.settled(SENT) and accounts.verdict == ''
    account = accounts.of_cameras(SENT)['a']
    assert (account.lost_in_transport, account.unaccounted, account.in_hand) == (0, 0, 0)


def test_what_stays_away_is_lost_only_when_nothing_more_comes(accounts, clock):
    masks(accounts, 3)
    for _ in range(2 * module.QUIET_REPORTS):  # these may be older than the last frame
        report(accounts, received=8, segmented=3, dropped=5, lost=1)
    assert not accounts.settled(SENT)
    assert accounts.of_cameras(SENT)['a'].lost_in_transport == 1  # as far as the node knows
    for _ in range(module.QUIET_REPORTS):
        clock.now += 0.1
        assert not accounts.settled(SENT)
        report(accounts, received=8, segmented=3, dropped=5, lost=1)
    assert not accounts.settled(SENT)  # too soon
    clock.now += module.QUIET_S
    report(accounts, received=9, segmented=3, dropped=6, lost=1)  # one more after all
    assert not accounts.settled(SENT)
    for _ in range(module.QUIET_REPORTS):
        report(accounts, received=9, segmented=3, dropped=6, lost=1)
    clock.now += module.QUIET_S + 0.1
    assert accounts.settled(SENT) and accounts.verdict == ''
    account = accounts.of_cameras(SENT)['a']
    assert (account.lost_in_transport, account.unaccounted) == (1, 0)


def test_a_frame_that_is_never_done_ends_the_waiting_and_is_named(accounts, clock):
    values = {'received': 10, 'segmented': 3, 'dropped': 6, 'processing_ms_p50': '4000.0'}
    masks(accounts, 3)
    report(accounts, **values)
    assert not accounts.settled(SENT)
    for _ in range(79):  # a slow model is waited for
        clock.now += 1
        report(accounts, **values)
        assert not accounts.settled(SENT)
    clock.now += 2
    report(accounts, **values)
    assert accounts.settled(SENT) and '1 frames were still in hand' in accounts.verdict
    account = accounts.of_cameras(SENT)['a']
    assert (account.unaccounted, account.in_hand, account.lost_in_transport) == (1, 1, 0)


def test_a_silent_node_ends_the_waiting(accounts, clock):
    report(accounts, received=4, segmented=4)
    clock.now += 100  # while it was played to
    assert not accounts.settled(SENT)
    clock.now += module.SILENCE_S + 1
    report(accounts, node='other', received=10, segmented=10)
    assert accounts.settled(SENT) and 'said nothing' in accounts.verdict
    account = accounts.of_cameras(SENT)['a']
    assert (account.unaccounted, account.lost_in_transport) == (6, 0)


def result(stamps=range(10)):
    return ReplayResult(frames_sent=10, counts=dict(SENT), wall_s=2.0,
                        sent={'/a': [(stamp, 1000) for stamp in stamps]},
                        received={'/mask': [(stamp, 2_001_000) for stamp in stamps]})


def test_the_report_adds_up_and_names_what_is_wrong(accounts, clock):
    masks(accounts, 3)
    values = {'received': 9, 'segmented': 3, 'dropped': 4, 'refused': 2, 'refused_encoding': 2,
              'last_refusal': 'encoding 64FC1', 'stage_network_ms': '5.0'}
    report(accounts, **values)
    report(accounts, **{**values, 'stage_network_ms': '9.0'})
    found = make_report(result(), accounts, {'/a': '/mask'}, None)
    assert found['problems'][0] == 'the playing ended early' and '1 of 10' in found['problems'][1]
    assert found['frames_unaccounted'] == 1 and found['stages_ms'] == {'network': 7.0}
    assert found['latency_ms']['p50'] == 2.0 and found['fps'] == 1.5
    [notice] = found['notices']
    assert notice.startswith('a: 2 of 9 frames refused (2 x encoding): encoding 64FC1 (--as-enc')
    table = as_table(found)
    assert ('10 sent = 3 segmented + 4 dropped + 2 refused + 0 lost in transport + 1 unaccounted'
            in table) and 'PROBLEM' in table
    accounts.verdict = ''  # had the node been waited for, the tenth would be lost
    found = make_report(result(), accounts, {'/a': '/mask'}, None)
    assert found['problems'] == [] and found['frames_lost_in_transport'] == 1
    assert sum(found[f'frames_{kind}'] for kind in (
        'segmented', 'dropped', 'refused', 'lost_in_transport', 'unaccounted')) == 10


def test_no_mask_at_all_is_a_problem_with_the_reason(accounts):
    report(accounts, received=10, refused=10, refused_size=10, last_refusal='far too large')
    accounts.settled(SENT)
    found = make_report(result(()), accounts, {'/a': '/mask'}, None)
    assert found['problems'] == ['no mask came back (a: far too large)']
    assert 'a: none was segmented; 10 of 10 frames refused' in found['notices'][0]


def test_masks_and_frames_of_others_are_named(accounts):
    report(accounts, received=12, segmented=12)
    masks(accounts, 5)
    accounts.verdict = ''
    found = make_report(result(), accounts, {'/a': '/mask'}, None)
    assert '2 frames more than were sent' in found['notices'][0]
    assert '7 masks were published but did not come back' in found['notices'][1]


def test_repeated_stamps_change_no_count(accounts):
    report(accounts, received=10, segmented=10)
    masks(accounts, 10)
    assert accounts.settled(SENT)
    same = result([0, 0, 0, 5, 6, 7, 8, 9, 10, 11])
    assert set(latencies_ms(same, '/a', '/mask')) == {5, 6, 7, 8, 9, 10, 11}
    found = make_report(same, accounts, {'/a': '/mask'}, None)
    assert found['problems'] == [] and found['frames_segmented'] == 10
    assert make_report(result([0] * 10), accounts, {'/a': '/mask'}, None)['latency_ms'] == {}


def test_classes_that_the_truth_lacks_are_not_scored(accounts):
    table = load_taxonomy('camvid11')
    confusion = ConfusionMatrix(table)
    truth = np.array([[0, 0, 3, 3]], np.uint8)
    confusion.add(truth, np.array([[0, 0, 3, 9]], np.uint8))  # half of the road is a pedestrian
    masks(accounts, 1)
    found = make_report(result(), accounts, {'/a': '/mask'}, (confusion, BinaryIoU()))
    assert found['iou'] == {'Sky': 1.0, 'Road': 0.5} and found['miou'] == 0.75
    assert found['classes_scored'] == 2 and len(found['classes_absent']) == 9
    assert '2 classes (not in the truth: Building, ' in as_table(found)


@pytest.mark.parametrize('code, share', [
    ('import time; print(1, flush=True); time.sleep(60)', (0.8, 1.2)),  # waits, as if it hung
    ('print(1, flush=True)\nwhile True: pass', (0.0, 1.2)),  # wants a core all the time
])
def test_the_clock_of_a_node_stands_still_while_it_wants_a_core_and_gets_none(
        tmp_path, monkeypatch, code, share):
    """Waiting counts as time, being kept from running does not."""
    run = subprocess.Popen
    monkeypatch.setattr(node_process.subprocess, 'Popen', lambda command, **options: run(
        [sys.executable, '-c', code], **options))
    with node_process.NodeProcess({}, tmp_path / 'log') as node:
        while not (tmp_path / 'log').read_bytes():
            time.sleep(0.01)
        start, wall, used = node.clock(), time.monotonic(), node._usage()[1]
        for _ in range(10):
            time.sleep(0.15)
            node.clock()
        passed, wall, used = (node.clock() - start, time.monotonic() - wall,
                              node._usage()[1] - used)
        assert share[0] * wall - 0.2 <= passed <= share[1] * wall + 0.2
        if not share[0]:
            assert abs(passed - used) < 0.3
    assert node.ended()
