"""The lifecycle node: wires cameras, pipeline and inference thread together."""

from threading import Event
import time

from lifecycle_msgs.msg import State
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from ..devices.choose import open_segmenter
from ..errors import FrameError, SegNodeError
from ..frame import Frame, Products, StageClock
from ..health.report import Level, Report
from ..mailbox import Mailbox
from ..model.card import load_card
from ..model.policy import DrivablePolicy
from ..model.taxonomy import load_taxonomy
from ..pipeline import Pipeline
from ..warm_up import warm_up
from ..worker import Worker
from . import parameters
from .cameras import Camera
from .diagnostics import Diagnostics, LOOK_S

_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class SegNode(LifecycleNode):
    """
    Subscribes to cameras and publishes masks.

    Callbacks run on the executor's one thread; they only receive, answer and report. The
    network and all publishing of results run on the worker's one thread.

    :param transport: what the process did about the transport, for the diagnostics.
    """

    def __init__(self, transport: str = '') -> None:
        super().__init__('seg_node')
        self._transport = transport
        self._problems = parameters.declare(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._settings: parameters.Settings | None = None
        self._pipeline: Pipeline | None = None
        self._cameras: dict[str, Camera] = {}
        self._worker: Worker | None = None
        self._mailbox: Mailbox[Frame] | None = None
        self._error = ''
        self._failed = Event()  # set when the inference thread has ended by an error
        self._diagnostics = Diagnostics(self)
        # A steady clock: under use_sim_time a paused bag must not silence the diagnostics.
        self._timer = self.create_timer(LOOK_S, self._report,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the parameters, load the model, create the publishers."""
        try:
            if self._problems:
                raise SegNodeError('; '.join(self._problems))
            self._settings = parameters.read(self)
            self._pipeline = self._load(self._settings)
            for camera in self._settings.cameras:
                self._cameras[camera.name] = Camera(self, camera, self._pipeline.classes,
                                                    self._settings.ground,
                                                    self._settings.rectified,
                                                    self._on_frame)
        except SegNodeError as error:
            self._error = str(error)
            self.get_logger().error(f'configure failed: {error}')
            self._release()
            return _FAILURE
        self._error = ''
        self._diagnostics.period_s = self.get_parameter('diagnostics_period_s').value
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the inference thread, then let the images in."""
        assert self._pipeline is not None and self._settings is not None
        super().on_activate(state)  # enables the publishers
        self._error = ''
        self._failed.clear()
        self._mailbox = Mailbox(self._cameras)
        batch = self._settings.max_batch or self._pipeline.segmenter.preferred_batch
        self._worker = Worker(self._pipeline, self._mailbox, batch,
                              wanted=lambda name: self._cameras[name].wanted(),
                              deliver=self._deliver, refuse=self._refuse, fail=self._fail)
        for camera in self._cameras.values():
            camera.activate()
            self.get_logger().info(f'camera {camera.settings.name}: {camera.health.topic} -> '
                                   f'{camera.mask_topic}')
        return _SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the images, finish the frames in hand, end the inference thread."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything from whatever state."""
        self._stop()
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; the node is then unconfigured."""
        self._stop()
        self._release()
        return super().on_error(state)

    def shut_down(self) -> None:
        """End in order from whatever state, unless a lifecycle manager has done so already."""
        if self._state_machine.current_state[0] != State.PRIMARY_STATE_FINALIZED:
            self.trigger_shutdown()

    def _load(self, settings: parameters.Settings) -> Pipeline:
        card = load_card(settings.model)
        start = time.monotonic()
        policy = DrivablePolicy(card, settings.drivable_classes)
        chosen = open_segmenter(card, settings.wish, policy)
        published = load_taxonomy(settings.taxonomy) if settings.taxonomy else None
        ego_masks = {camera.name: camera.ego_mask for camera in settings.cameras
                     if camera.ego_mask is not None}
        pipeline = Pipeline(chosen.segmenter, card.main_output.classes, published,
                            settings.output, ego_masks)
        pipeline.tables.overlay_alpha = self.get_parameter('overlay_alpha').value
        warm_up(pipeline)
        self.get_logger().info(f'model {card.name} on {chosen.segmenter.description}, ready in '
                               f'{time.monotonic() - start:.1f} s; {self._transport}')
        if chosen.reason:
            self.get_logger().info(chosen.reason)
        self._model, self._reason = card.name, chosen.reason
        self._diagnostics.gpu_unused = chosen.gpu_unused
        return pipeline

    def _stop(self) -> None:
        for camera in self._cameras.values():
            camera.deactivate()
        if self._worker is not None and self._mailbox is not None:
            self._worker.stop()
            for frame in self._mailbox.drain():
                self._cameras[frame.camera].health.on_dropped()
        self._worker = self._mailbox = None

    def _release(self) -> None:
        for camera in self._cameras.values():
            camera.destroy()
        self._cameras = {}
        if self._pipeline is not None:
            self._pipeline.segmenter.close()
        self._pipeline = self._settings = None
        self._diagnostics.gpu_unused = ''

    # Frames

    def _on_frame(self, frame: Frame) -> None:
        if self._mailbox is not None and self._mailbox.put(frame.camera, frame) is not None:
            self._cameras[frame.camera].health.on_dropped()

    def _deliver(self, products: Products, clock: StageClock) -> None:
        """Publish; runs on the inference thread."""
        self._cameras[products.frame.camera].deliver(products, clock)

    def _refuse(self, frame: Frame, error: FrameError) -> None:
        """Count and log a refused frame; runs on the inference thread."""
        camera = self._cameras[frame.camera]
        camera.health.on_refused(error)
        self.get_logger().warning(f'image on {camera.health.topic} refused: {error}',
                                  throttle_duration_sec=5.0)

    def _fail(self, error: Exception) -> None:
        """Remember what ended the inference thread; runs on that thread, as its last act."""
        kind = '' if isinstance(error, SegNodeError) else f'{type(error).__name__}: '
        self._error = f'inference ended: {kind}{error}'
        self._failed.set()
        self.get_logger().fatal(self._error)

    # Parameters and diagnostics

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Take dynamic parameters at once, others only while the node is unconfigured."""
        dynamic = {row.name for row in parameters.NODE if row.dynamic}
        for change in changes:
            if change.name == 'use_sim_time' or change.name in dynamic:
                continue
            if self._pipeline is not None:
                return SetParametersResult(successful=False, reason=(
                    f'{change.name} is read at configure: deactivate and cleanup the node, set '
                    'it, then configure and activate'))
        for change in changes:
            self._problems = [problem for problem in self._problems
                              if not problem.startswith(f'parameter {change.name} ')]
            if change.name == 'overlay_alpha' and self._pipeline is not None:
                self._pipeline.tables.overlay_alpha = change.value
        return SetParametersResult(successful=True)

    def _report(self) -> None:
        """Look after the diagnostics, and bring a node whose inference ended to inactive."""
        if self._failed.is_set() and self._worker is not None:
            self.trigger_deactivate()
        self._diagnostics.look(
            self._node_report(), self._cameras, active=self._worker is not None,
            hardware_id=self._pipeline.segmenter.device if self._pipeline else '')

    def _node_report(self) -> Report:
        state = self._state_machine.current_state[1]
        values = {'state': state, 'transport': self._transport}
        if self._pipeline is not None and self._settings is not None:
            segmenter = self._pipeline.segmenter
            values.update(model=self._model, backend=segmenter.description,
                          device=segmenter.device, taxonomy=self._pipeline.classes.name)
            if self._reason:
                values['backend_choice'] = self._reason
        if self._error:
            return Report(Level.ERROR, self._error, values)
        return Report(Level.OK, state, values)
