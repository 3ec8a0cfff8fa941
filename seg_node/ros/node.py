"""The lifecycle node: wires cameras, the device's thread and the watchdog together."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lifecycle_msgs.msg import State
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from ..devices.presence import gpu_is_there
from ..errors import ConfigError, SegNodeError
from ..frame import Frame
from ..running.device_thread import DeviceThread, Load
from ..running.loading import Loaded, PipelineSpec
from ..running.starts import delay_s, record_path, Starts
from ..running.watchdog import AwakeClock, Watchdog
from ..tuning import Tuning
from .bond import Bond
from .cameras import Camera, refuse_own_topics
from .diagnostics import Diagnostics, LOOK_S
from .executors import looked_up_once
from .live_parameters import LiveParameters
from .node_report import choice_line, node_report, NodeFacts
from .parameters import value_of, wrong_type
from .presets import CAMERA_INFO
from .serving import Serving
from .settings import ground_settings, read, Settings
from .transitions import telling

_SUCCESS, _FAILURE, _ERROR = (TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE,
                              TransitionCallbackReturn.ERROR)
_LEAVE_S = 5.0  # how long an orderly end may take once something is lost
REFUSED, FAULT = 1, 3  # exit codes


@dataclass(frozen=True)
class End:
    """
    Why the process is to end.

    :ivar code: 0, ``REFUSED`` (it will be again) or ``FAULT`` (another start may go well).
    """

    code: int
    reason: str


class SegNode(LifecycleNode):
    """
    Subscribes to cameras and publishes masks.

    Callbacks run on the executor's one thread; they only receive, answer and report. Everything
    about the network, and all publishing of results, runs on the device's one thread. A third one
    watches both. docs/lifecycle.md tells which fault ends in which state, or in which exit code.

    :param transport: what the process did about the transport, for the diagnostics.
    :param leave: ends the process at once, with exit code and reason, when all else has failed.
    :ivar end: why the process is to end, None = it is not.
    :ivar error: what failed last, '' = nothing; for the diagnostics.
    :ivar load: the model that is configured, whether it is there yet or not; None = none is.
    """

    def __init__(self, transport: str, leave: Callable[[int, str], None]) -> None:
        try:
            super().__init__('seg_node')
        except InvalidParameterTypeException as error:  # of one that rclpy declares itself
            raise ConfigError(wrong_type(error)) from None
        self._transport = transport
        self.end: End | None = None
        self.error = ''
        self.load: Load | None = None
        self._starting = self._gave_up = self._abandoning = False
        self._settings: Settings | None = None
        self._live = LiveParameters(self, lambda: self._settings is not None,
                                    self._check_tuning, self._retune)
        self._cameras: dict[str, Camera] = {}
        self._serving: Serving | None = None
        self._bond = Bond(self, 0.0)
        self.starts = Starts(record_path(self.get_fully_qualified_name()))
        self._diagnostics = Diagnostics(self)
        # A steady clock: under use_sim_time a paused bag must not silence the diagnostics.
        self._timer = self.create_timer(LOOK_S, looked_up_once(self.report),
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))
        awake = AwakeClock()
        self.watchdog = Watchdog(awake, self._wake, self._on_lost, leave)
        self._device = DeviceThread(self.watchdog.watch('the device'), self._wake, self._on_lost,
                                    lambda: self._value('device_timeout_s'))
        self.watchdog.start()

    # Start and end of the process

    def start(self) -> None:
        """Configure and activate; a node that cannot be brought to that ends its process."""
        self._starting = True
        if self.trigger_configure() == _SUCCESS and self.trigger_activate() == _SUCCESS:
            return
        self._starting = False
        if self._gave_up:
            self.get_logger().error(self.error)
        else:
            self.end = End(REFUSED, self.error)

    def refuse(self, reason: str) -> None:
        """End the process: what it was started with cannot be meant."""
        self.error = reason
        self.end = End(REFUSED, reason)

    def shut_down(self) -> None:
        """End in order from whatever state, unless a lifecycle manager has done so already."""
        if self._state_machine.current_state[0] != State.PRIMARY_STATE_FINALIZED:
            self.trigger_shutdown()

    def destroy_node(self) -> None:
        """Leave the graph, with all shared memory, even if the process is ended the hard way."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()  # or it keeps the participant

    def release_device(self, timeout_s: float) -> bool:
        """End the device's thread, after ``shut_down``; return whether it came back in time."""
        return self._device.end(timeout_s)

    def unfinished(self) -> str:
        """Say what an end would break off, '' = nothing."""
        if self.load is None or self.load.loaded is not None or self.load.error:
            return ''
        return f' while the model was loading, after {self.load.seconds:.1f} s'

    def failed(self, reason: str) -> None:
        """Keep an error for the diagnostics and log it once, unless the process ends with it."""
        if reason != self.error and not self._starting:
            self.get_logger().error(reason)
        self.error = reason

    # Lifecycle

    @telling(_FAILURE)
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the parameters and all files, create the publishers, begin to load the model."""
        settings = read(self, self._live.preset())
        spec = PipelineSpec.check(
            settings.model, settings.wish, self._live.tuning(), taxonomy=settings.taxonomy,
            grouping=settings.grouping, output=settings.output, ego_masks=settings.ego_masks,
            dynamic_value=settings.dynamic_value)
        delay = self._count_start(spec.card.sha256)
        try:
            for camera in settings.cameras:
                self._cameras[camera.name] = Camera(
                    self, camera, spec.classes, partial(settings.topic, camera=camera.name),
                    settings.ground, settings.rectified, self._on_frame, spec.heads,
                    settings.preset.name if CAMERA_INFO in settings.preset.needs else '')
            refuse_own_topics(self, self._cameras.values())
        except BaseException:
            self._release()
            raise
        self._settings = settings
        self._bond = Bond(self, self._value('bond_heartbeat_period'))
        self.load = self._device.load(spec, delay)
        self.error = ''
        self._diagnostics.period_s = self._value('diagnostics_period_s')
        return super().on_configure(state)

    @telling(_ERROR)
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the images in, as soon as the model is there."""
        super().on_activate(state)  # enables the publishers
        self.error = ''
        if self.load is not None and self.load.noticed:  # else _on_loaded will
            self._serve(self.load)
        self._bond.start(managed=not self._value('autostart'))
        return _SUCCESS

    @telling(_ERROR)
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the images, and wait a moment for the frames in hand."""
        self._starting = False
        self._stop()
        super().on_deactivate(state)
        return _ERROR if self._abandoning else _SUCCESS

    @telling(_ERROR)
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give up the model and the publishers; the device is freed as soon as it comes back."""
        self._starting = False
        self._release()
        return super().on_cleanup(state)

    @telling(_ERROR)
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give up everything from whatever state."""
        self._stop()
        self._release()
        return super().on_shutdown(state)

    @telling(_FAILURE)
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give up everything; the node is then unconfigured."""
        self._stop()
        self._release()
        return super().on_error(state)

    def _count_start(self, model: str) -> float:
        """
        Note that a start has begun; return how long it should wait, after others that failed.

        :param model: its checksum; starts with another one are not counted with these.
        :raises SegNodeError: so many have failed that none is tried any more by itself.
        """
        values = {name: parameter.value
                  for name, parameter in self.get_parameters_by_prefix('').items()}
        settings = f'{model} {sorted(values.items())}'
        failed, most = self.starts.failed(settings), self._value('max_starts')
        if self._starting and most and failed >= most:
            self._gave_up = True
            raise SegNodeError(
                f'gave up after {failed} starts without a mask (max_starts); the last one ended '
                f'at {self.starts.last_end}. Mend it, then start the node anew, or configure and '
                'activate it')
        self.starts.begin(settings)
        if failed:
            self.get_logger().warning(
                f'start {failed + 1} after {failed} without a mask: the model is loaded in '
                f'{delay_s(failed):.0f} s; the last one ended at {self.starts.last_end}')
        return delay_s(failed)

    def _serve(self, load: Load) -> None:
        """Let the images in."""
        assert self._settings is not None and load.loaded is not None
        if load.loaded.pipeline.trust is not None:
            load.loaded.pipeline.trust.restart()
        self._serving = Serving(self, self._cameras, self.starts)
        self._device.serve(load, self._serving.worker(self._settings.max_batch))
        self._serving.open()

    def _stop(self) -> None:
        self._bond.stop()
        if self._serving is not None:
            self._serving.stop()
        self._serving = None

    def _release(self) -> None:
        for camera in self._cameras.values():
            camera.destroy()
        self._cameras = {}
        if self.load is not None:
            self._device.free(self.load)
        self.load = self._settings = None
        self._diagnostics.gpu_unused = ''

    # What the other threads say

    def _on_change(self) -> None:
        """Look what has changed with the device; runs on the executor's thread."""
        load = self.load
        if load is not None and not load.noticed and (load.loaded or load.error):
            load.noticed = True
            if load.loaded is not None:
                self._on_loaded(load, load.loaded)
            else:
                self._on_load_failed(load)
        self.report()

    def _on_loaded(self, load: Load, loaded: Loaded) -> None:
        self._starting = False
        self.starts.loaded()
        self._diagnostics.gpu_unused = loaded.gpu_unused
        loaded.pipeline.retune(load.spec.tuned)  # parameters may have changed meanwhile
        self.get_logger().info(f'model {load.spec.card.name} on '
                               f'{loaded.pipeline.segmenter.description}, ready in '
                               f'{loaded.took_s:.1f} s; {self._transport}')
        if loaded.reason:
            self.get_logger().info(choice_line(loaded.reason, gpu_is_there()))
        if self.state == 'active':
            self._serve(load)

    def _on_load_failed(self, load: Load) -> None:
        """End the process, or bring a node that others manage back to unconfigured."""
        reason = f'loading failed: {load.error}'
        self.starts.fault(reason)
        self.failed(reason)
        if self._starting:
            self.end = End(REFUSED if load.refused else FAULT, reason)
        elif self.state == 'active':
            self._abandoning = True
            self.trigger_deactivate()  # which ends in on_error
            self._abandoning = False
        else:
            self.trigger_cleanup()

    def _on_lost(self, reason: str) -> None:
        """End the process; runs on the device's thread or the watchdog's."""
        self.starts.fault(reason)
        self.end = self.end or End(FAULT, reason)
        self.watchdog.end_within(_LEAVE_S, FAULT, reason)
        self._wake()

    def _wake(self) -> None:
        """Let the executor call ``_on_change``; from any thread."""
        executor = self.executor
        if executor is not None:  # else it has not begun, or is over
            # A guard condition would do, but the events executor has none.
            executor.create_task(self._on_change)

    def _on_frame(self, frame: Frame) -> None:
        if self._serving is not None:
            self._serving.put(frame)

    # Parameters and diagnostics

    @property
    def state(self) -> str:
        """The name of the lifecycle state."""
        return str(self._state_machine.current_state[1])

    def _check_tuning(self, wishes: Tuning) -> None:
        """Raise ConfigError where changes of parameters do not fit the model."""
        if self.load is not None:
            self.load.spec.retuned(wishes)

    def _retune(self) -> None:
        """Let changes of parameters take effect, all of them between the same two frames."""
        if self.load is None or self._settings is None:
            return
        self.load.spec = self.load.spec.retuned(self._live.tuning())
        if self.load.loaded is not None:
            self.load.loaded.pipeline.retune(self.load.spec.tuned)
        for camera in self._cameras.values():
            camera.retune(ground_settings(self))

    def report(self) -> None:
        """Look after the diagnostics."""
        loaded = self.load.loaded if self.load is not None else None
        idle = 'loading' if self.state == 'active' else 'inactive'
        self._diagnostics.look(
            node_report(self._facts()), self._cameras, idle='' if self._serving else idle,
            hardware_id=loaded.pipeline.segmenter.device if loaded is not None else '')

    def _facts(self) -> NodeFacts:
        ending = self.end.reason if self.end is not None and self.end.code else ''
        return NodeFacts(self.state, self._transport, ending, self.error,
                         self.watchdog.complaints(), self.load, self.starts)

    def _value(self, name: str) -> Any:
        return value_of(self, name)
