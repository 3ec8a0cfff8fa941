"""What becomes of frames between the mailbox and the publishers, whatever the device does."""

from threading import Event, Thread
import time
from types import SimpleNamespace

import numpy as np
from patience import patience
import pytest

from seg_node.errors import BACKEND, BackendError, DeviceLostError, FrameError
from seg_node.frame import Frame, PREPARE, Products, Segmentation, StageClock
from seg_node.geometry import Geometry, Size
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.taxonomy import load_taxonomy
from seg_node.pipeline import Pipeline
from seg_node.running.mailbox import Mailbox
from seg_node.running.watchdog import AwakeClock, Patience, Watched
from seg_node.running.worker import _InHand, TRIES, Worker

SIZE = Size(8, 8)
TABLE = load_taxonomy('cityscapes19')
BAD = FrameError(BACKEND, 'the run failed')


class Script:
    """A segmenter that does for each call what the next line of a script says."""

    description = device = 'script'
    preferred_batch = 2
    sample = SIZE

    def __init__(self, *lines):
        self.lines = list(lines)
        self.batches = []

    def segment(self, frames, demand, clock):
        self.batches.append([frame.camera for frame in frames])
        line = self.lines.pop(0) if self.lines else 'good'
        if callable(line):
            line = line(clock)
        if isinstance(line, FrameError):
            return [line] * len(frames)
        if isinstance(line, list):
            return line
        if isinstance(line, Exception):
            raise line
        geometry = Geometry(SIZE, SIZE, SIZE, 0, 0, SIZE)
        return [Segmentation(geometry, np.zeros(SIZE, np.uint8)) for _ in frames]

    def retune(self, policy):
        pass

    def close(self):
        pass


class Setup:
    """A worker on a thread, with what it says."""

    def __init__(self, *lines, cameras='ab', max_batch=0, deliver=None, usual_s=0.0):
        self.segmenter = Script(*lines)
        self.mailbox = Mailbox(cameras)
        self.delivered, self.refused, self.error = [], [], None
        self.watched = Watched(AwakeClock())
        self.worker = Worker(self.mailbox, max_batch, wanted=lambda name: ('mask',),
                             deliver=deliver or self.deliver, refuse=self.refuse)
        self.pipeline = Pipeline(self.segmenter, TABLE)
        self.usual_s = usual_s
        self.thread = Thread(target=self.run, daemon=True)

    def deliver(self, products: Products, clock: StageClock):
        self.delivered.append(products.frame)

    def refuse(self, frame: Frame, error: FrameError):
        self.refused.append((frame, error))

    def run(self):
        try:
            self.worker.run(self.pipeline, self.watched, self.usual_s)
        except DeviceLostError as error:
            self.error = error

    def put(self, camera='a', count=1):
        """Put frames, each once the one before has been heard of."""
        for _ in range(count):
            before = len(self.delivered) + len(self.refused)
            self.mailbox.put(camera, frame(camera))
            until(lambda before=before: len(self.delivered) + len(self.refused) > before)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.worker.stop(5.0)
        self.thread.join(5.0)
        assert not self.thread.is_alive()


def frame(camera='a'):
    message = ImageMessage(Header(1, 2, 'cam'), *SIZE, 'bgr8', False, 24,
                           np.zeros(8 * 24, np.uint8))
    return Frame(camera, message)


def until(condition, timeout_s=10.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, 'it never came to that'
        time.sleep(0.002)


def test_how_long_the_device_is_at_a_batch_by_itself():
    batch = _InHand([frame()])
    assert not batch.runs_on and batch.left_s == 0 and batch.took_s == 0
    for due, runs_on, left in ((0.0, False, 0), (0.5, True, 0),
                               (time.perf_counter() + 100, True, 100)):
        batch.started = SimpleNamespace(due=due)
        assert batch.runs_on == runs_on and left - 50 < batch.left_s <= left
    batch.started.due = -0.5
    assert not batch.runs_on and batch.left_s == 0


def test_only_a_lost_device_is_lost():
    batch = _InHand([frame()])
    assert (batch.failure, batch.lost) == ('', False)
    batch.fail(ValueError('a fault'))
    assert 'a fault' in batch.failure and not batch.lost
    batch.fail(DeviceLostError('gone'))
    assert 'gone' in batch.failure and batch.lost


def test_frames_are_delivered_and_refused_each_to_its_own():
    reason = FrameError('encoding', 'no such encoding')
    with Setup('good', reason, 'good') as setup:
        setup.put(count=3)
        assert len(setup.delivered) == 2
        [(refused, error)] = setup.refused
        assert error is reason and refused.camera == 'a'


def test_a_batch_is_as_large_as_suits_the_device_or_as_is_wished():
    for max_batch, largest in ((0, 2), (1, 1), (3, 3)):
        setup = Setup(cameras='abcd', max_batch=max_batch)
        for camera in 'abcd':
            setup.mailbox.put(camera, frame(camera))
        with setup:
            until(lambda setup=setup: len(setup.delivered) == 4)
        assert max(len(batch) for batch in setup.segmenter.batches) == largest


@pytest.mark.parametrize('failure', [BAD, BackendError('the run failed'), ValueError('a fault')])
def test_a_failing_run_refuses_its_frames_and_the_next_are_tried(failure):
    with Setup(failure, 'good') as setup:
        setup.put(count=2)
        [(_, error)] = setup.refused
        assert error.reason == BACKEND and len(setup.delivered) == 1
    assert setup.error is None


def test_five_failing_runs_in_a_row_lose_the_device():
    bad = [BAD] * (TRIES - 1)
    with Setup(*bad, 'good', *bad, BAD) as setup:
        setup.put(count=2 * TRIES)
        setup.thread.join(5.0)
        assert len(setup.refused) == 2 * TRIES - 1 and len(setup.delivered) == 1
        assert str(setup.error) == 'the network failed 5 times in a row: the run failed'


def test_the_last_failure_of_the_last_batch_is_the_one_told():
    setup = Setup(*[[FrameError(BACKEND, f'run {n}, image {m}') for m in range(2)]
                    for n in range(TRIES)])
    with setup:
        for _ in range(TRIES):
            before = len(setup.refused)
            with setup.mailbox._changed:  # both are there when it looks
                setup.mailbox.put('a', frame('a')), setup.mailbox.put('b', frame('b'))
            until(lambda before=before: len(setup.refused) == before + 2)
        setup.thread.join(5.0)
        assert str(setup.error).endswith('in a row: run 4, image 1')


def test_what_never_reached_the_network_says_nothing_about_it():
    other = FrameError('encoding', 'no such encoding')
    with Setup(*[BAD] * (TRIES - 1), *[other] * 3, BAD) as setup:
        setup.put(count=TRIES + 3)
        setup.thread.join(5.0)
        assert 'in a row' in str(setup.error)


def test_a_lost_device_ends_at_once_and_its_frames_are_counted():
    with Setup(DeviceLostError('CUDA failure 700')) as setup:
        setup.put()
        setup.thread.join(5.0)
        assert str(setup.error) == 'the device is lost: CUDA failure 700'
        assert len(setup.refused) == 1


def test_a_publisher_that_fails_refuses_the_frame():
    def fail(products, clock):
        if not setup.refused:
            raise RuntimeError('no such publisher')
        setup.delivered.append(products.frame)
    setup = Setup(deliver=fail)
    with setup:
        setup.put(count=2)
        [(_, error)] = setup.refused
        assert error.reason == 'internal' and 'no such publisher (test_worker.py:' in str(error)
        assert len(setup.delivered) == 1


def test_stop_lets_the_frame_in_hand_finish():
    go = Event()

    def slow(clock):
        assert go.wait(10.0)
    setup = Setup(slow)
    with setup:
        setup.mailbox.put('a', frame())
        until(lambda: setup.segmenter.batches)
        stopping = Thread(target=lambda: left.extend(setup.worker.stop(10.0)), daemon=True)
        left = []
        stopping.start()
        time.sleep(0.02)
        assert stopping.is_alive()
        go.set()
        stopping.join(5.0)
        assert not stopping.is_alive()
        assert not left and len(setup.delivered) == 1


def test_stop_gives_up_what_does_not_come_back():
    """What was in hand and what was waiting is returned, and never heard of later."""
    go = Event()

    def stuck(clock):
        assert go.wait(10.0)
    setup = Setup(stuck, cameras='ab', max_batch=1)
    with setup:
        one, other = frame('a'), frame('b')
        setup.mailbox.put('a', one)
        until(lambda: setup.segmenter.batches)
        setup.mailbox.put('b', other)
        start = time.monotonic()
        left = setup.worker.stop(0.1)
        assert time.monotonic() - start < patience(2.0)
        assert [id(item) for item in left] == [id(one), id(other)]
        go.set()
        setup.thread.join(5.0)
        assert not setup.delivered and not setup.refused
        assert setup.segmenter.batches == [['a']]


def test_stop_does_not_wait_for_a_publisher_for_ever():
    go = Event()

    def stuck(products, clock):
        assert go.wait(10.0)
    with Setup(deliver=stuck) as setup:
        setup.mailbox.put('a', frame())
        until(lambda: setup.worker._lock.locked())
        start = time.monotonic()
        setup.worker.stop(0.1)
        assert time.monotonic() - start < patience(2.0)
        go.set()


def test_stop_before_the_run_is_none():
    setup = Setup()
    waiting = frame()
    setup.mailbox.put('a', waiting)
    assert setup.worker.stop(0.1) == [waiting]
    with setup:
        setup.thread.join(5.0)
        assert not setup.segmenter.batches


def test_patience_knows_what_the_model_usually_takes():
    """One slow frame changes nothing; what a new size takes to get ready for is on top."""
    found = []

    def look(clock):
        found.append(setup.watched._patience())
        with clock.stage(PREPARE):
            found.append(setup.watched._patience())
        clock.ms[PREPARE] = 7000.0
        found.append(setup.watched._patience())
    with Setup(look, lambda clock: time.sleep(0.05), look, usual_s=0.5) as setup:
        setup.put(count=3)
    usual, preparing, after, later, *_ = found
    assert usual == Patience(5.0, 10.0)  # before the first
    assert later == Patience(2.0, 10.0)  # 10 times the low median, not the first 0.5 s
    assert preparing.suspect_s == 60.0 and preparing.give_up_s == float('inf')
    assert after.suspect_s == pytest.approx(usual.suspect_s + 7.0)
    assert setup.watched._patience() is None


def test_getting_ready_is_not_what_the_model_usually_takes():
    found = []

    def prepare(clock):
        with clock.stage(PREPARE):
            time.sleep(0.3)
    with Setup(*[prepare] * 3, lambda clock: found.append(setup.watched._patience())) as setup:
        setup.put(count=4)
    assert found == [Patience(2.0, 10.0)]


def test_what_was_being_taken_at_the_stop_is_not_delivered():
    took, go = Event(), Event()

    class Slow(Mailbox):
        def take(self, limit=None, timeout_s=None):
            frames = super().take(limit, timeout_s)
            took.set()
            assert go.wait(10.0)
            return frames
    setup = Setup()
    setup.mailbox = setup.worker._mailbox = Slow('a')
    with setup:
        setup.mailbox.put('a', frame())
        assert took.wait(10.0)
        setup.worker.stop(0.05)
        go.set()
        setup.thread.join(5.0)
    assert not setup.delivered and not setup.refused


class Ahead(Script):
    """A script whose device works by itself until it is asked."""

    warm_runs = 1

    def __init__(self, *lines):
        super().__init__(*lines)
        self.events = []
        self.go = Event()

    def start(self, frames, demand, clock):
        self.events.append('start')
        number = len(self.batches)
        line = self.lines[number] if number < len(self.lines) else 'good'
        if line == 'no start':
            self.batches.append([frame.camera for frame in frames])
            raise BackendError('it did not start')
        found = Script.segment(Script(), frames, demand, clock)
        self.batches.append([frame.camera for frame in frames])
        return type('Running', (), {'due': time.perf_counter() + 20,
                                    'results': lambda _: self.results(line, number, found)})()

    def results(self, line, number, found):
        self.events.append(f'results {number}')
        if line == 'lost':
            raise DeviceLostError('it is gone')
        return found


@pytest.fixture
def ahead(request):
    setup = Setup()
    setup.segmenter = Ahead(*request.param)
    setup.pipeline = Pipeline(setup.segmenter, TABLE)
    with setup:
        setup.mailbox.put('a', frame('a'))
        until(lambda: setup.segmenter.events)
        yield setup


@pytest.mark.parametrize('ahead', [('good', 'good')], indirect=True)
def test_the_next_frames_are_brought_while_the_device_is_at_the_last(ahead):
    time.sleep(0.05)
    assert not ahead.delivered  # it waits for more, as the device is not likely done
    ahead.mailbox.put('b', frame('b'))
    until(lambda: ahead.delivered)
    ahead.mailbox.close()
    until(lambda: len(ahead.delivered) == 2)
    assert ahead.segmenter.events == ['start', 'start', 'results 0', 'results 1']
    assert [one.camera for one in ahead.delivered] == ['a', 'b']


@pytest.mark.parametrize('ahead', [('good', 'no start')], indirect=True)
def test_a_start_that_fails_is_told_after_what_runs(ahead):
    ahead.mailbox.put('b', frame('b'))
    until(lambda: ahead.refused)
    assert [one.camera for one in ahead.delivered] == ['a']
    [(refused, error)] = ahead.refused
    assert refused.camera == 'b' and 'it did not start' in str(error)


@pytest.mark.parametrize('ahead', [('lost', 'good')], indirect=True)
def test_what_is_in_flight_behind_a_lost_device_is_accounted_for(ahead):
    ahead.mailbox.put('b', frame('b'))
    until(lambda: ahead.error is not None)
    assert [one.camera for one, _ in ahead.refused] == ['a'] and not ahead.delivered
    assert [one.camera for one in ahead.worker.stop(1.0)] == ['b']
