"""The one thread that owns the device: it opens the model, runs the frames, frees the model."""

from collections.abc import Callable
import gc
from queue import SimpleQueue
from threading import Event, Thread
import time

from ..errors import brief, ConfigError
from .loading import Loaded, PipelineSpec
from .watchdog import Patience, Watched
from .worker import Worker


class Load:
    """
    A model on its way to the device.

    :ivar loaded: once it is there.
    :ivar error: why it is not and will not be.
    :ivar refused: whether it is wrong in itself: another try ends in the same way.
    :ivar noticed: for the owner's use.
    """

    def __init__(self, spec: PipelineSpec, delay_s: float) -> None:
        self.spec = spec
        self.loaded: Loaded | None = None
        self.error = ''
        self.refused = self.noticed = False
        self.cancelled = Event()
        self._due = time.monotonic() + delay_s

    @property
    def waits_s(self) -> float:
        """How long it will wait before it begins."""
        return max(0.0, self._due - time.monotonic())

    @property
    def seconds(self) -> float:
        """How long it has been on its way, once it has begun."""
        return max(0.0, time.monotonic() - self._due)


class DeviceThread:
    """
    Does one thing after the other, each asked for by a call that returns at once.

    :param watched: where it tells the watchdog what is in hand.
    :param changed: called on this thread whenever a load has ended.
    :param lost: gets the reason when the device has failed for good, on this thread.
    :param timeout_s: says how long the device may take to free a model.
    """

    def __init__(self, watched: Watched, changed: Callable[[], None],
                 lost: Callable[[str], None], timeout_s: Callable[[], float]) -> None:
        self._watched = watched
        self._changed = changed
        self._lost = lost
        self._timeout_s = timeout_s
        self._todo: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._load: Load | None = None
        self._thread = Thread(target=self._run, name='device', daemon=True)
        self._thread.start()

    def load(self, spec: PipelineSpec, delay_s: float = 0.0) -> Load:
        """Open, check and warm a model, after a while if so wished; ``changed`` tells the end."""
        load = Load(spec, delay_s)
        self._load = load
        self._todo.put(lambda: self._open(load))
        return load

    def serve(self, load: Load, worker: Worker) -> None:
        """Let a worker run on a model that is there, until it is stopped."""
        self._todo.put(lambda: self._serve(load, worker))

    def free(self, load: Load) -> None:
        """Free a model, or give up its loading."""
        load.cancelled.set()
        self._todo.put(lambda: self._free(load))

    def end(self, timeout_s: float) -> bool:
        """End the thread once all is done; return whether that was in time."""
        self._todo.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (task := self._todo.get()) is not None:
            try:
                task()
            except Exception as error:
                self._lost(brief(error))

    def _open(self, load: Load) -> None:
        if load.cancelled.wait(load.waits_s):
            return
        with self._watched.doing('loading', lambda: None):
            try:
                load.loaded = load.spec.open()
            except Exception as error:
                load.refused = isinstance(error, ConfigError)
                load.error = brief(error)
            else:
                # What is there now stays: no collection walks through it between two frames.
                gc.collect()
                gc.freeze()
        self._changed()

    def _serve(self, load: Load, worker: Worker) -> None:
        assert load.loaded is not None
        worker.run(load.loaded.pipeline, self._watched, load.loaded.usual_s)

    def _free(self, load: Load) -> None:
        loaded, load.loaded = load.loaded, None
        if loaded is not None:
            gc.unfreeze()
            with self._watched.doing('freeing the device',
                                     lambda: Patience.of(self._timeout_s())):
                loaded.pipeline.segmenter.close()
