"""One thread opens, runs and frees, one thing after the other; nobody waits for it."""

import gc
from pathlib import Path
from threading import current_thread, Event
import time

from patience import patience
import pytest
from test_worker import frame, Script, until

from seg_node.devices.choose import Wish
from seg_node.errors import ConfigError, DeviceLostError
from seg_node.model.taxonomy import load_taxonomy
from seg_node.pipeline import Pipeline
from seg_node.running.device_thread import DeviceThread
from seg_node.running.loading import Loaded, PipelineSpec
from seg_node.running.mailbox import Mailbox
from seg_node.running.watchdog import AwakeClock, Patience, Watched
from seg_node.running.worker import Worker
from seg_node.tuning import Tuning

PALETTE = str(Path(__file__).parent / 'models' / 'palette_cityscapes19')


class Told(Script):
    """A segmenter that tells which thread does what to it."""

    def __init__(self, story, *lines):
        super().__init__(*lines)
        self.story = story

    def segment(self, frames, demand, clock):
        self.story.append(('segment', current_thread().name))
        return super().segment(frames, demand, clock)

    def close(self):
        self.story.append(('close', current_thread().name))


class Spec:
    """What a pipeline is opened by, at a word."""

    def __init__(self, story, *lines, go=None, error=None):
        self.story, self.lines, self.go, self.error = story, lines, go, error

    def open(self):
        self.story.append(('open', current_thread().name))
        if self.go is not None:
            assert self.go.wait(10.0)
        if self.error is not None:
            raise self.error
        pipeline = Pipeline(Told(self.story, *self.lines), load_taxonomy('cityscapes19'))
        return Loaded(pipeline, '', '', 0.0, 0.0)


class Setup:
    """The thread under test, with what it says."""

    def __init__(self):
        self.story, self.lost, self.changes = [], [], 0
        self.watched = Watched(AwakeClock())
        self.device = DeviceThread(self.watched, self.change, self.lost.append, lambda: 4.0)

    def change(self):
        self.changes += 1

    def worker(self):
        """Return a worker with a frame to segment."""
        mailbox = Mailbox('a')
        mailbox.put('a', frame())
        return Worker(mailbox, 1, wanted=lambda name: (), deliver=lambda products, clock: None,
                      refuse=lambda refused, error: None)

    def done(self):
        return [what for what, _ in self.story]


@pytest.fixture
def setup():
    setup = Setup()
    yield setup
    setup.device.end(5.0)
    gc.unfreeze()


def test_everything_is_done_on_one_thread(setup):
    load = setup.device.load(Spec(setup.story))
    worker = setup.worker()
    setup.device.serve(load, worker)
    until(lambda: 'segment' in setup.done())
    worker.stop(5.0)
    setup.device.free(load)
    assert setup.device.end(5.0)
    assert setup.story == [(what, 'device') for what in ('open', 'segment', 'close')]
    assert setup.changes == 1 and not setup.lost and load.loaded is None


def test_what_is_there_after_loading_is_no_garbage_collectors_business(setup):
    assert not gc.get_freeze_count()
    setup.device.load(Spec(setup.story, error=OSError('gone')))
    load = setup.device.load(Spec(setup.story))
    until(lambda: setup.changes == 2)
    assert gc.get_freeze_count() > 1000
    setup.device.free(load)
    until(lambda: 'close' in setup.done())
    assert not gc.get_freeze_count()


def test_loading_is_seen_and_not_waited_for(setup):
    go = Event()
    start = time.monotonic()
    load = setup.device.load(Spec(setup.story, go=go))
    assert time.monotonic() - start < patience(1.0)
    until(lambda: setup.watched.what == 'loading')
    assert setup.watched._patience() is None, 'loading may take any time'
    assert load.loaded is None and not load.error and load.waits_s == 0.0
    assert setup.changes == 0
    go.set()
    until(lambda: setup.changes == 1)
    assert load.loaded is not None and load.seconds > 0.0


def test_a_load_that_fails_says_why_and_the_thread_lives_on(setup):
    bad = setup.device.load(Spec(setup.story, error=ConfigError('no such tensor')))
    odd = setup.device.load(Spec(setup.story, error=OSError('gone')))
    good = setup.device.load(Spec(setup.story))
    until(lambda: setup.changes == 3)
    assert (bad.error, odd.error, good.error) == ('no such tensor', 'OSError: gone', '')
    assert (bad.refused, odd.refused, good.refused) == (True, False, False)
    assert good.loaded is not None and not setup.lost


def test_a_load_may_wait_and_be_given_up(setup):
    start = time.monotonic()
    waiting = setup.device.load(Spec(setup.story), delay_s=60.0)
    assert 59.0 < waiting.waits_s <= 60.0 and waiting.seconds == 0.0
    setup.device.free(waiting)
    setup.device.load(Spec(setup.story))
    until(lambda: setup.changes == 1)
    assert time.monotonic() - start < 30.0 and setup.done() == ['open']


def test_what_is_given_up_while_it_is_opened_is_freed(setup):
    go = Event()
    load = setup.device.load(Spec(setup.story, go=go))
    until(lambda: setup.done() == ['open'])
    setup.device.free(load)
    go.set()
    until(lambda: setup.done() == ['open', 'close'])
    assert load.loaded is None


def test_a_lost_device_is_told_and_still_freed(setup):
    load = setup.device.load(Spec(setup.story, DeviceLostError('CUDA failure 700')))
    setup.device.serve(load, setup.worker())
    until(lambda: setup.lost)
    assert setup.lost == ['the device is lost: CUDA failure 700']
    setup.device.free(load)
    until(lambda: 'close' in setup.done())


def test_freeing_is_watched(setup):
    go, seen = Event(), []
    spec = Spec(setup.story)
    load = setup.device.load(spec)
    until(lambda: setup.changes)
    load.loaded.pipeline.segmenter.close = lambda: seen.append(
        (setup.watched.what, setup.watched._patience())) or go.wait(10.0)
    setup.device.free(load)
    until(lambda: seen)
    assert seen == [('freeing the device', Patience(2.0, 4.0))]
    assert not setup.device.end(0.05), 'it has not come back'
    go.set()


def test_a_real_model_is_opened_tried_and_timed(setup):
    wish = Wish('onnxruntime', threads=1)
    load = setup.device.load(PipelineSpec.check(PALETTE, wish))
    until(lambda: setup.changes, 60.0)
    assert load.loaded.pipeline.segmenter.device == 'cpu'
    assert 0.0 < load.loaded.usual_s < load.loaded.took_s


@pytest.mark.parametrize('changes, words', [
    ({'model': 'nowhere'}, 'nowhere'), ({'taxonomy': 'mapillary'}, 'mapillary'),
    ({'taxonomy': 'voc21'}, 'voc21'), ({'tuning': Tuning(('grass',))}, 'grass'),
    ({'wish': Wish('cuda')}, 'cuda'), ({'wish': Wish('onnxruntime', ('Nowhere',))}, 'Nowhere'),
])
def test_what_is_wrong_with_names_and_files_is_said_without_a_device(changes, words):
    given = {'model': PALETTE, 'wish': Wish('onnxruntime'), **changes}
    with pytest.raises(ConfigError, match=words):
        PipelineSpec.check(**given)
