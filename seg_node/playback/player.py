"""Plays a source into ROS 2 in recorded time and listens to what comes back."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
import time

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions

from ..errors import ConfigError
from .bag_writer import BagWriter
from .messages import message_class, stamp_ns
from .qos import recorded_qos, sending_qos
from .read_ahead import ReadAhead
from .recorder import Recorder
from .replay_options import check_options, ReplayOptions, ReplayResult
from .schedule import Schedule
from .sender import CLOCK, Sender
from .sources import ALL, CAMERA_INFO, Record, Source, Topic

OUTPUTS = ('/seg_node/*', '/diagnostics')
_DISCOVERY_S = 3.5  # DDS announces anew every 3 s what was missed
_TICK_NS = 10_000_000  # /clock at 100 Hz
_KEPT = 100_000  # times kept per topic, so that an endless loop does not eat the memory
_ANSWERS = 100  # of the newest frames, answers are waited for at the end
_MAX_LINGERS = 5


def replay(source: Source, options: ReplayOptions | None = None, *,
           stop: Callable[[], bool] = lambda: False,
           on_frame: Callable[[], object] = lambda: None,
           ros_args: Sequence[str] | None = None,
           context: Context | None = None) -> ReplayResult:
    """
    Play a source.

    :param stop: asked every few milliseconds; True ends the playing in good order.
    :param on_frame: called after each image.
    :param ros_args: command line with ``--ros-args``, e.g. for remappings.
    :param context: an initialised rclpy context to use (``ros_args`` then have no effect);
        None = one of its own.
    :raises ConfigError: when an option does not fit the source, nobody listens, the source
        breaks off or the bag cannot be written (what came until then is in it).
    """
    options = options or ReplayOptions()
    check_options(options, source)
    if context is not None:
        return _Player(source, options, context, stop, on_frame).play()
    context = Context()
    rclpy.init(args=None if ros_args is None else list(ros_args), context=context,
               signal_handler_options=SignalHandlerOptions.NO)
    try:
        return _Player(source, options, context, stop, on_frame).play()
    finally:
        context.shutdown()


class _Player:
    """One playing of a source; see :func:`replay`."""

    def __init__(self, source: Source, options: ReplayOptions, context: Context,
                 stop: Callable[[], bool], on_frame: Callable[[], object]) -> None:
        self._source, self._options, self._context = source, options, context
        self._stop, self._on_frame = stop, on_frame
        self._result = ReplayResult()
        self._topics, self._result.notices = choose_topics(source, options)
        images = [topic.name for topic in self._topics if topic.is_image]
        if options.lockstep is not None and len(images) != 1:
            raise ConfigError(f'lockstep needs one image topic, {len(images)} are to be sent '
                              f'({", ".join(images)}); choose one with --topics.')
        self._lockstep = absolute(options.lockstep or '')
        self._sent = {name: deque[tuple[int, int]](maxlen=_KEPT) for name in images}
        self._late_ms = deque[float](maxlen=_KEPT)
        self._schedule = Schedule(options.rate)
        # Played time is recorded time that runs on when a bag starts again.
        self._shift_ns = 0
        self._first_ns = 0
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
                self._sender.wait_for_subscribers(self._options.wait_s, self._stop)
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
        heard = [*options.listen, *written, *([self._lockstep] if self._lockstep else [])]
        if heard:
            self._recorder = Recorder(
                self._context, [absolute(pattern) for pattern in heard],
                {*self._sender.names.values(), CLOCK}, self._writer,
                [absolute(pattern) for pattern in written],
                self._now_ns if options.clock else time.time_ns)
            stack.callback(self._recorder.close)

    def _now_ns(self) -> int:
        return self._schedule.recorded_ns()

    def _wait_for_outputs(self) -> None:
        """
        Wait until something to listen to was found; the lockstep topic has to be.

        Its publishers may be discovered seconds after the subscribers of the images.
        """
        if self._recorder is None:
            return
        start = time.monotonic()
        heard = self._recorder.heard
        while not self._stop() and not (self._lockstep in heard if self._lockstep else heard):
            self._recorder.check()
            waited = time.monotonic() - start
            if waited > self._options.wait_s and self._lockstep:
                raise ConfigError(f'nobody publishes the lockstep topic {self._lockstep} (waited '
                                  f'{self._options.wait_s:g} s). Check its name and that the node '
                                  'is active.')
            if waited > min(self._options.wait_s, _DISCOVERY_S) and not self._lockstep:
                return  # it may well appear later
            time.sleep(_TICK_NS / 1e9)
        if self._lockstep in heard and not heard[self._lockstep].stamped:
            raise ConfigError(f'lockstep topic {self._lockstep} has no header, so its messages '
                              'cannot be told apart; give an output image.')

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
            if self._result.interrupted:
                return
            if not count:
                raise ConfigError(f'{self._source.path} has no message in the chosen part; give '
                                  'a smaller start offset.')
            loop += 1

    def _send_loop(self, records: Iterator[Record], first_due_ns: int) -> int:
        """Send the source once; return how many messages that were."""
        count = 0
        for record in records:
            if self._played_ns is None:
                self._schedule.start(record.time_ns, first_due_ns)
                self._first_ns = record.time_ns
            elif not count and not self._source.restamps:
                self._shift_ns = self._played_ns + self._period_ns() - record.time_ns
            if not self._play(record):
                self._result.interrupted = True
                break
            count += 1
        return count

    def _period_ns(self) -> int:
        """Return the time between two frames of a camera, on average until now."""
        assert self._played_ns is not None
        pauses = self._result.frames_sent // max(1, len(self._sent)) - 1
        return (self._played_ns - self._first_ns) // max(1, pauses)

    def _play(self, record: Record) -> bool:
        """Send a message when it is due; return False when it was not, to end early."""
        played_ns = record.time_ns + self._shift_ns
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
        self._late_ms.append((sent_ns - due_ns) / 1e6)
        stamp = stamp_ns(record.data)
        if stamp is not None:
            self._sent[record.topic].append((stamp, sent_ns))
            if self._lockstep and not self._answered(stamp, sent_ns):
                self._result.lockstep_timeouts += 1
        self._on_frame()

    def _answered(self, stamp: int, since_ns: int) -> bool:
        """Wait for the answer to a frame; time stands still on ``/clock`` meanwhile."""
        end = time.monotonic() + self._options.lockstep_timeout_s
        while self._recorder is not None and not self._stop():
            self._recorder.check()
            left = end - time.monotonic()
            if self._recorder.wait_for(self._lockstep, stamp, since_ns,
                                       min(left, _TICK_NS / 1e9)):
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
        self._sender.tell_time(self._schedule.recorded_ns(limit_ns=limit_ns) - self._shift_ns)

    def _linger(self) -> None:
        """Wait for the answers to the last frames."""
        self._sender.wait_for_acknowledgement()
        linger_ns = round(self._options.linger_s * 1e9)
        if self._recorder is None or self._result.interrupted:
            return
        ended_ns = time.monotonic_ns()
        stamps = {stamp for sent in self._sent.values()
                  for stamp, _ in list(sent)[-_ANSWERS:]}
        while time.monotonic_ns() < ended_ns + _MAX_LINGERS * linger_ns:
            quiet_since_ns = max(ended_ns, self._recorder.last_answer_ns(stamps))
            if (time.monotonic_ns() - quiet_since_ns > linger_ns
                    or not self._wait_until(time.monotonic_ns() + _TICK_NS, None)):
                return

    def _summarize(self) -> None:
        result, names = self._result, self._sender.names
        result.sent = {names[topic]: list(sent) for topic, sent in self._sent.items()}
        result.late_ms = list(self._late_ms)
        if self._recorder is not None:
            result.notices += self._recorder.notices
            result.received = {topic: list(heard.times)
                               for topic, heard in self._recorder.heard.items()}
            result.lost = {topic: heard.lost for topic, heard in self._recorder.heard.items()
                           if heard.lost}
        if self._writer is not None:
            result.recorded = self._writer.counts
            result.bag = self._writer.path if result.recorded else None
        complete = (self._options.span == ALL and self._options.loops == 1
                    and not result.interrupted)
        for topic in self._topics:
            sent = len(self._sent.get(topic.name, ()))
            if complete and topic.is_image and topic.count and sent < min(topic.count, _KEPT):
                result.notices.append(f'{self._source.path} announces {topic.count} frames on '
                                      f'{topic.name}, but holds {sent}')


def choose_topics(source: Source, options: ReplayOptions) -> tuple[dict[Topic, str], list[str]]:
    """
    Return the topics to send with their new names, and why others are left out.

    :raises ConfigError: when an option names a topic that is not there or cannot be sent, or
        nothing is left.
    """
    known = [absolute(topic.name) for topic in source.topics]
    for asked in (*options.topics, *options.remap):
        if not any(matches(name, [asked]) for name in known):
            raise ConfigError(f'{source.path} has no topic {asked}; it has {", ".join(known)}.')
    remap = {absolute(old): new for old, new in options.remap.items()}
    chosen, notices = {}, []
    for topic in source.topics:
        name = absolute(topic.name)
        if options.topics and not matches(name, options.topics):
            continue
        problem = _problem(source, topic)
        if not problem:
            chosen[topic] = remap.get(name, topic.name)
        elif name in map(absolute, options.topics):
            raise ConfigError(f'{name} cannot be sent: {problem}.')
        else:
            notices.append(f'{name} is not sent: {problem}')
    if not chosen or not (options.topics or any(topic.is_image for topic in chosen)):
        raise ConfigError(f'nothing of {source.path} can be sent: {"; ".join(notices)}.')
    return chosen, notices


def _problem(source: Source, topic: Topic) -> str:
    if absolute(topic.name) == CLOCK:
        return 'time is told by the player'
    if message_class(topic.type) is None:
        return f'message type {topic.type} is not installed'
    return source.problem(topic)


def absolute(name: str) -> str:
    """Return a topic name or pattern as it is seen from outside; '' stays ''."""
    return name if not name or name.startswith(('/', '*')) else f'/{name}'


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a topic name fits one of some shell-style patterns."""
    return any(fnmatchcase(absolute(name), absolute(pattern)) for pattern in patterns)
