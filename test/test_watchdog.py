"""Who is late, who is lost, and for whom time stands still."""

import math
from threading import Event, Lock, Thread
import time

import pytest

from seg_node.running.watchdog import AwakeClock, Patience, Watchdog, Watched


class Time:
    """A clock that is set."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Setup:
    """A watchdog whose looks and ends are counted."""

    def __init__(self):
        self.time = Time()
        self.awake = AwakeClock(self.time)
        self.lates, self.lost, self.left = 0, [], []
        self.dog = Watchdog(self.awake, self.late, self.lost.append,
                            lambda code, reason: self.left.append((code, reason)))
        self.device = self.dog.watch('the device')

    def late(self):
        self.lates += 1

    def live(self, seconds, step=0.1):
        """Let time pass under the watchdog's eyes."""
        for _ in range(round(seconds / step)):
            self.time.now += step
            self.dog.look()


@pytest.fixture
def setup():
    return Setup()


def patience():
    return Patience(2.0, 3.0)


def test_time_passes_only_where_somebody_looks():
    time = Time()
    awake = AwakeClock(time)
    for step in (0.1, 0.1, 0.4):
        time.now += step
        awake.look()
    assert awake.seconds == pytest.approx(0.6)
    time.now += 3600
    awake.look()
    assert awake.seconds == pytest.approx(1.1)


@pytest.mark.parametrize('timeout_s, usual_s, suspect_s, give_up_s', [
    (10.0, 0.0, 2.0, 10.0), (10.0, 0.05, 2.0, 10.0), (10.0, 0.3, 3.0, 10.0),
    (10.0, 0.8, 8.0, 16.0), (10.0, 3.0, 30.0, 60.0), (1.0, 0.01, 1.0, 1.0)])
def test_a_model_gets_the_time_it_usually_takes(timeout_s, usual_s, suspect_s, give_up_s):
    found = Patience.of(timeout_s, usual_s)
    assert (found.suspect_s, found.give_up_s) == (pytest.approx(suspect_s),
                                                  pytest.approx(give_up_s))
    assert found.after(5.0) == Patience(found.suspect_s + 5, found.give_up_s + 5)


def test_what_is_in_hand_is_late_and_then_lost(setup):
    with setup.device.doing('a frame has been in hand', patience, lambda: 'network'):
        setup.live(1.9)
        assert not setup.dog.complaints() and setup.lates == 0
        setup.live(0.3)
        [complaint] = setup.dog.complaints()
        assert complaint.startswith('the device does not come back: a frame has been in hand for '
                                    '2.2 s (network, ')
        assert setup.lates == 1 and not setup.lost
        setup.live(1.0)
        [reason] = setup.lost
        assert 'the device does not come back: a frame has been in hand for 3.' in reason
        setup.live(2.0)
        assert len(setup.lost) == 1 and setup.lates == 1
    setup.live(0.1)
    assert not setup.dog.complaints() and setup.lates == 2


def test_each_thing_in_hand_has_its_own_time(setup):
    for _ in range(3):
        with setup.device.doing('a frame', patience):
            setup.live(1.5)
        setup.live(1.5)
    assert setup.lates == 0 and setup.device.seconds == 0.0


def test_a_stopped_process_is_not_late(setup):
    with setup.device.doing('a frame', patience):
        setup.live(1.0)
        setup.time.now += 60.0  # SIGSTOP, SIGCONT
        setup.live(0.4)
        assert not setup.dog.complaints() and not setup.lost


def test_what_may_take_any_time_is_never_late(setup):
    with setup.device.doing('loading', lambda: None):
        setup.live(1000.0, step=0.5)
        assert setup.lates == 0 and not setup.lost
        assert setup.device.seconds == pytest.approx(1000)


def test_patience_may_grow_while_it_lasts(setup):
    now = [patience()]
    with setup.device.doing('a frame', lambda: now[0]):
        now[0] = Patience(60.0, math.inf)
        setup.live(59.0, step=0.5)
        now[0] = patience().after(59.0)
        setup.live(1.5)
        assert setup.lates == 0
        setup.live(1.0)
        assert setup.lates == 1 and not setup.lost


def test_two_that_are_lost_are_told_together(setup):
    other = setup.dog.watch('the executor')
    with setup.device.doing('a frame', patience), other.doing('a callback', patience):
        setup.live(3.5)
    assert len(setup.lost) == 1
    assert 'the device' in setup.lost[0] and 'the executor' in setup.lost[0]


def test_an_end_that_does_not_come_is_forced(setup):
    setup.dog.end_within(5.0, 3, 'a reason')
    setup.dog.end_within(1.0, 0, 'another')  # the first holds
    with setup.device.doing('freeing the device', patience):
        setup.live(4.9)
        assert not setup.left
        setup.live(0.3)
    code, reason = setup.left[0]
    assert code == 3
    assert reason.startswith('a reason; the device does not come back: freeing the device for ')


def test_where_it_is_is_said_of_the_watched_thread():
    awake = AwakeClock(Time())
    watched, gate, there = Watched(awake), Lock(), Event()

    def stuck():
        with watched.doing('this', lambda: Patience(0.0, 1.0)):
            there.set()
            gate.acquire()
    with gate:
        thread = Thread(target=stuck, daemon=True)
        thread.start()
        assert there.wait(5.0)
        awake.seconds += 0.5
        line = stuck.__code__.co_firstlineno + 3
        end = time.monotonic() + 5.0
        while watched.late() != f'this for 0.5 s (test_watchdog.py:{line})':
            assert time.monotonic() < end, watched.late()
            time.sleep(0.002)
    thread.join(5.0)
    assert watched.late() == ''
