"""The inference thread: takes the newest frames, runs the pipeline, hands on the results."""

from collections.abc import Callable, Collection
from threading import Thread

from .errors import FrameError
from .frame import Frame, Products, StageClock
from .mailbox import Mailbox
from .pipeline import Pipeline


class Worker:
    """
    One thread that owns the pipeline, and with it the device, while it runs.

    :param max_batch: the most frames to take at once.
    :param wanted: says which outputs of a camera somebody waits for.
    :param deliver: gets the products of each frame and the stage times of its batch.
    :param refuse: gets each refused frame and why.
    :param fail: gets the error that ended the thread; called once, at its end.
    """

    def __init__(self, pipeline: Pipeline, mailbox: Mailbox[Frame], max_batch: int, *,
                 wanted: Callable[[str], Collection[str]],
                 deliver: Callable[[Products, StageClock], None],
                 refuse: Callable[[Frame, FrameError], None],
                 fail: Callable[[Exception], None]) -> None:
        self._pipeline = pipeline
        self._mailbox = mailbox
        self._max_batch = max_batch
        self._wanted = wanted
        self._deliver = deliver
        self._refuse = refuse
        self._fail = fail
        self._thread = Thread(target=self._run, name='inference', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the mailbox, let the frames in hand finish, and end the thread."""
        self._mailbox.close()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._pipeline.segmenter.take_over()
            while frames := self._mailbox.take(self._max_batch):
                self._step(frames)
        except Exception as error:  # whatever ends inference must be seen in the diagnostics
            self._fail(error)

    def _step(self, frames: list[Frame]) -> None:
        clock = StageClock()
        wanted = [self._wanted(frame.camera) for frame in frames]
        for frame, result in zip(frames, self._pipeline.process(frames, wanted, clock),
                                 strict=True):
            if isinstance(result, FrameError):
                self._refuse(frame, result)
            else:
                self._deliver(result, clock)
