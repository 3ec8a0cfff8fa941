"""Plays a source into ROS 2 in recorded time and listens to what comes back."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
import time

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions

from ..errors import ConfigError
from .bag_writer import BagWriter
from .messages import stamp_ns
from .played_time import odd_stamps, PlayedTime
from .qos import recorded_qos, sending_qos
from .read_ahead import ReadAhead
from .recorder import Recorder
from .replay_options import Calls, check_options, ReplayOptions, ReplayResult
from .schedule import Schedule
from .sender import Sender
from .sources import ALL, CAMERA_INFO, Record, Source
from .topics import absolute, answer_topics, choose_topics, CLOCK, matches

OUTPUTS = ('/seg_node/*', '/diagnostics')
_DISCOVERY_S = 3.5  # DDS announces anew every 3 s what was missed
_TICK_NS = 10_000_000  # from one look at what there is to do to the next
_KEPT = 100_000  # times kept per topic, so that an endless loop does not eat the memory
_ANSWERS = 100  # of the newest frames, answers are waited for at the end
_MAX_LINGERS = 5


def replay(source: Source, options: ReplayOptions | None = None, *,
           stop: Callable[[], bool] = lambda: False,
           on_frame: Callable[[], object] = lambda: None,
           on_message: Callable[[str, bytes], object] = lambda topic, data: None,
           settled: Callable[[Mapping[str, int]], bool] | None = None,
           known: Callable[[Mapping[str, int]], bool] | None = None,
           ros_args: Sequence[str] | None = None,
           context: Context | None = None) -> ReplayResult:
    """
    Play a source.

    :param stop: asked every few milliseconds; True ends the playing in good order.
    :param on_frame: called after each image.
    :param on_message: gets topic and bytes of each message that is heard, in another thread.
    :param settled: asked after the last frame, with the number of images sent per topic: True ends
        the listening. None = it ends when no answer came for ``linger_s``.
    :param known: asked in lockstep, with the number of images sent per topic: True = it is known
        what became of all of them, and no more answers are to be waited for.
    :param ros_args: command line with ``--ros-args``, e.g. for remappings.
    :param context: an initialised rclpy context to use (``ros_args`` then have no effect);
        None = one of its own.
    :raises ConfigError: when an option does not fit the source, nobody listens, the source
        breaks off or the bag cannot be written (what came until then is in it).
    """
    options = options or ReplayOptions()
    check_options(options, source)
    calls = Calls(stop, on_frame, on_message, settled, known)
    if context is not None:
        return _Player(source, options, context, calls).play()
    context = Context()
    rclpy.init(args=None if ros_args is None else list(ros_args), context=context,
               signal_handler_options=SignalHandlerOptions.NO)
    try:
        return _Player(source, options, context, calls).play()
    finally:
        context.shutdown()


class _Player:
    """One playing of a source; see :func:`replay`."""

    def __init__(self, source: Source, options: ReplayOptions, context: Context,
                 calls: Calls) -> None:
        self._source, self._options, self._context = source, options, context
        self._calls, self._stop = calls, calls.stop
        self._result = ReplayResult()
        self._topics, self._result.notices = choose_topics(source, options)
        images = [topic.name for topic in self._topics if topic.is_image]
        self._lockstep = answer_topics(options, images)
        source.max_gap_ns = round(options.max_gap_s * 1e9)
        self._sent = {name: deque[tuple[int, int]](maxlen=_KEPT) for name in images}
        self._counts = dict.fromkeys(images, 0)
        self._late_ms = deque[float](maxlen=_KEPT)
        self._schedule = Schedule(options.rate)
        self._time = PlayedTime(options.max_gap_s)
        self._first_ns = 0
        self._next_tick_ns = 0
        self._played_ns: int | None = None
        self._recorder: Recorder | None = None
        self._writer: BagWriter | None = None
        self._written: set[str] = set()

    def play(self) -> ReplayResult:
        """Send everything, listen, and return what happened."""
        with ExitStack() as stack:
            self._sender = Sender(self._context, self._topics, self._options.clock)
            stack.callback(self._sender.close)
            self._open_bag(stack)
            self._listen(stack)
            if self._options.wait_s:
                self._sender.wait_for_subscribers(self._options.wait_s, self._stop,
                                                  self._options.wait_for_all)
                self._wait_for_outputs()
            started = time.monotonic()
            self._send_all()
            self._result.wall_s = time.monotonic() - started
            self._linger()
        self._summarize()
        return self._result

    def _open_bag(self, stack: ExitStack) -> None:
        options = self._options
        if options.record is None:
            return
        self._writer = BagWriter(options.record, overwrite=options.overwrite)
        stack.callback(self._writer.close)
        for topic in self._topics:
            name = self._sender.names[topic.name]
            if (options.record_input or matches(name, options.record_topics)
                    or (not options.record_topics and topic.type == CAMERA_INFO)):
                self._writer.add_topic(name, topic.type, qos=[recorded_qos(sending_qos(topic))])
                self._written.add(topic.name)

    def _listen(self, stack: ExitStack) -> None:
        options = self._options
        written = [] if self._writer is None else options.record_topics or OUTPUTS
        heard = [*options.listen, *options.wait_for, *written,
                 *self._lockstep.values()]
        if heard:
            self._recorder = Recorder(
                self._context, [absolute(pattern) for pattern in heard],
                {*self._sender.names.values(), CLOCK}, self._writer,
                [absolute(pattern) for pattern in written],
                self._now_ns if options.clock else time.time_ns, self._calls.on_message)
            stack.callback(self._recorder.close)

    def _now_ns(self) -> int:
        return self._schedule.recorded_ns()

    def _wait_for_outputs(self) -> None:
        """
        Wait until something to listen to was found; lockstep topic and ``wait_for`` have to be.

        Their publishers may be discovered seconds after the subscribers of the images.
        """
        if self._recorder is None:
            return
        start = time.monotonic()
        wanted = [*map(absolute, self._options.wait_for), *self._lockstep.values()]
        while not self._stop():
            self._recorder.check()
            missing = [topic for topic in wanted if not self._recorder.connected(topic)]
            if not missing and (wanted or self._recorder.heard):
                break
            waited = time.monotonic() - start
            if waited > self._options.wait_s and missing:
                raise ConfigError(f'nobody publishes {" and ".join(missing)} (waited '
                                  f'{self._options.wait_s:g} s). Check the name and that the node '
                                  'is active.')
            if waited > min(self._options.wait_s, _DISCOVERY_S) and not wanted:
                return  # it may well appear later
            time.sleep(_TICK_NS / 1e9)
        for topic in self._lockstep.values():
            heard = self._recorder.heard.get(topic)
            if heard is not None and not heard.stamped:
                raise ConfigError(f'lockstep topic {topic} has no header, so its messages cannot '
                                  'be told apart; give an output image.')

    def _send_all(self) -> None:
        loop = 0
        epoch_ns = self._options.start_stamp_ns
        settle_ns = round(self._options.settle_s * 1e9)
        if epoch_ns is None:
            epoch_ns = time.time_ns() + settle_ns
        first_due_ns = time.monotonic_ns() + settle_ns
        while not self._options.loops or loop < self._options.loops:
            records = self._source.records(self._sender.names, self._options.span,
                                           None if loop else epoch_ns)
            with ReadAhead(records) as ready:
                count = self._send_loop(ready, first_due_ns)
            if self._result.interrupted or self._result.broken:
                return
            if not count:
                raise ConfigError(f'{self._source.path} has no message in the chosen part; give '
                                  'a smaller start offset.')
            loop += 1

    def _send_loop(self, records: Iterator[Record], first_due_ns: int) -> int:
        """Send the source once; return how many messages that were."""
        count = 0
        for record in self._readable(records):
            if self._played_ns is None:
                self._schedule.start(record.time_ns, first_due_ns)
                self._first_ns = record.time_ns
            elif not self._source.restamps:
                if not count:
                    self._time.shift_ns = self._played_ns + self._period_ns() - record.time_ns
                self._time.bridge(record.time_ns + self._time.shift_ns - self._played_ns)
            if not self._play(record):
                self._result.interrupted = True
                break
            count += 1
        return count

    def _readable(self, records: Iterator[Record]) -> Iterator[Record]:
        """Yield the records until the source breaks off, if that is tolerated."""
        try:
            yield from records
        except ConfigError as error:
            if not self._options.tolerant or not self._result.frames_sent:
                raise
            self._result.broken = str(error)

    def _period_ns(self) -> int:
        """Return the time between two frames of a camera, on average until now."""
        assert self._played_ns is not None
        pauses = self._result.frames_sent // max(1, len(self._sent)) - 1
        return (self._played_ns - self._first_ns) // max(1, pauses)

    def _play(self, record: Record) -> bool:
        """Send a message when it is due; return False when it was not, to end early."""
        played_ns = record.time_ns + self._time.shift_ns
        if self._lockstep:
            self._schedule.shift(played_ns, time.monotonic_ns())
        due_ns = self._schedule.due_ns(played_ns)
        if not self._wait_until(due_ns, played_ns):
            return False
        first, self._played_ns = self._played_ns is None, played_ns
        if first:
            self._result.notices += [f'nobody subscribes to {name}'
                                     for name in self._sender.unheard()]
        self._schedule.reached(played_ns)
        self._next_tick_ns = 0
        self._tick(played_ns)
        if record.topic in self._written and self._writer is not None:
            self._writer.write(self._sender.names[record.topic], played_ns, record.data)
        sent_ns = time.monotonic_ns()
        self._sender.send(record.topic, record.data)
        if record.topic in self._sent:
            self._note_frame(record, sent_ns, due_ns)
        return True

    def _note_frame(self, record: Record, sent_ns: int, due_ns: int) -> None:
        self._result.frames_sent += 1
        self._counts[record.topic] += 1
        self._late_ms.append((sent_ns - due_ns) / 1e6)
        stamp = stamp_ns(record.data)
        if stamp is not None:
            self._sent[record.topic].append((stamp, sent_ns))
            answer = self._lockstep.get(record.topic)
            if answer is not None and not self._answered(answer, stamp, sent_ns):
                self._result.lockstep_timeouts += 1
        self._calls.on_frame()

    def _answered(self, topic: str, stamp: int, since_ns: int) -> bool:
        """Wait for the answer to a frame; time stands still on ``/clock`` meanwhile."""
        end = time.monotonic() + self._options.lockstep_timeout_s
        while self._recorder is not None and not self._stop():
            self._recorder.check()
            left = end - time.monotonic()
            if self._recorder.wait_for(topic, stamp, since_ns, min(left, _TICK_NS / 1e9)):
                return True
            if self._calls.known is not None and self._calls.known(self._named_counts()):
                return True
            if left <= 0:
                return False
        return True  # stopped: not an answer that is missing

    def _wait_until(self, due_ns: int, limit_ns: int | None) -> bool:
        """Keep the clock going until a monotonic time; return False when stopped."""
        while not self._stop():
            if self._recorder is not None:
                self._recorder.check()
            self._tick(limit_ns)
            left = due_ns - time.monotonic_ns()
            if left <= 0:
                return True
            time.sleep(min(left, _TICK_NS) / 1e9)
        return False

    def _tick(self, limit_ns: int | None) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._next_tick_ns:
            return
        self._next_tick_ns = now_ns + round(1e9 / self._options.clock_hz) - _TICK_NS // 2
        self._sender.tell_time(self._schedule.recorded_ns(limit_ns=limit_ns) - self._time.shift_ns)

    def _linger(self) -> None:
        """Wait for the answers to the last frames."""
        self._sender.wait_for_acknowledgement()
        if self._recorder is None or self._result.interrupted:
            return
        ended_ns = time.monotonic_ns()
        while not (self._quiet(ended_ns) if self._calls.settled is None
                   else self._calls.settled(self._named_counts())):
            if not self._wait_until(time.monotonic_ns() + _TICK_NS, None):
                return

    def _quiet(self, ended_ns: int) -> bool:
        """Return whether no answer to the newest frames has come for ``linger_s``."""
        assert self._recorder is not None
        linger_ns = round(self._options.linger_s * 1e9)
        stamps = {stamp for sent in self._sent.values()
                  for stamp, _ in list(sent)[-_ANSWERS:]}
        now_ns = time.monotonic_ns()
        last_ns = max(ended_ns, self._recorder.last_answer_ns(stamps))
        return now_ns > min(last_ns, ended_ns + (_MAX_LINGERS - 1) * linger_ns) + linger_ns

    def _named_counts(self) -> dict[str, int]:
        return {self._sender.names[topic]: count for topic, count in self._counts.items()}

    def _summarize(self) -> None:
        result, names = self._result, self._sender.names
        result.counts = self._named_counts()
        result.sent = {names[topic]: list(sent) for topic, sent in self._sent.items()}
        result.late_ms = list(self._late_ms)
        if self._recorder is not None:
            result.notices += self._recorder.notices
            result.received = {topic: list(heard.times)
                               for topic, heard in self._recorder.heard.items()}
            result.heard = {topic: heard.count for topic, heard in self._recorder.heard.items()}
            result.lost = {topic: heard.lost for topic, heard in self._recorder.heard.items()
                           if heard.lost}
        if self._writer is not None:
            result.recorded = self._writer.counts
            result.bag = self._writer.path if result.recorded else None
        result.notices += [*self._source.remarks(), *self._time.remarks()]
        result.losses = {kind: count for kind, count in {
            **self._source.losses, **self._time.losses()}.items() if count}
        if not self._source.restamps and self._options.loops == 1:
            odd = {names[name]: odd_stamps([stamp for stamp, _ in sent])
                   for name, sent in self._sent.items()}
            result.notices += [f'{name}: {what}' for name, what in odd.items() if what]
        complete = (self._options.span == ALL and self._options.loops == 1
                    and not result.interrupted)
        for topic in self._topics:
            sent = self._counts.get(topic.name, 0)
            if complete and topic.is_image and topic.count and sent < topic.count:
                result.notices.append(f'{self._source.path} announces {topic.count} frames on '
                                      f'{topic.name}, but holds {sent}')
