"""Workers as actors of Ray: embedded here, or on a cluster that runs already."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
import logging
import os
from pathlib import Path
import secrets
import socket
import time
from typing import Any

from ..devices import cpu
from ..devices.choose import AUTO, CUDA_PROVIDER, ONNX_RUNTIME, TENSORRT, Wish
from ..errors import brief, ConfigError, SegNodeError
from .order import Order
from .worker import Answer, Worker

#: Nothing but names and numbers goes through Ray; it allows no less.
_STORE_BYTES = 80 << 20
#: A worker that gets no frame done for so long is given up.
STUCK_S = 3600.0
#: So long nobody is there to work before the run is given up.
ALONE_S = 300.0
_OPENINGS = 3  # in a row that may fail
_AGAIN_S = 0.5  # before a worker that is starting again is asked again whether it is there
_CONNECT_S = 10.0
_LOOK_S = 1.0  # between two looks at how far the workers are
_WORK, _ASIDE = 'work', 'aside'
_ENVIRONMENT = {
    'RAY_USAGE_STATS_ENABLED': '0',
    # Else it warns of what it will do with workers that take no GPU.
    'RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO': '0'}


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """
    Yield the module ray, connected: embedded, or at an address.

    Embedded, it has no dashboard, and a token of its own that is written nowhere; usage
    statistics are off.

    :raises ConfigError: Ray is not installed, or there is none at the address.
    """
    before = {name: os.environ.get(name)
              for name in (*_ENVIRONMENT, 'RAY_AUTH_MODE', 'RAY_AUTH_TOKEN')}
    os.environ |= _ENVIRONMENT if address is not None else {
        **_ENVIRONMENT, 'RAY_AUTH_MODE': 'token', 'RAY_AUTH_TOKEN': secrets.token_hex(32)}
    try:
        ray = _imported()  # not before: it reads these once
        _connect(ray, address)
        try:
            yield ray
        finally:
            ray.shutdown()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _imported() -> Any:
    try:
        import ray
    except ImportError:  # an extra
        raise ConfigError('archives are labelled on Ray, which is not installed: pip install -r '
                          'requirements/archive.txt') from None
    return ray


def _connect(ray: Any, address: str | None) -> None:
    quiet: dict[str, Any] = {'log_to_driver': False, 'logging_level': logging.ERROR}
    if address is None:
        ray.init(address='local', include_dashboard=False, num_cpus=cpu.cores(),
                 object_store_memory=_STORE_BYTES, **quiet)
        return
    host, _, port = address.rpartition(':')
    try:
        if host and port.isdecimal():  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), _CONNECT_S).close()
        ray.init(address=address, **quiet)
    except Exception as error:  # of many kinds
        raise ConfigError(f'no Ray at --address {address}: {brief(error)}. Start it there (ray '
                          'start --head), or leave --address out.') from error


def usual_workers(ray: Any, wish: Wish,
                  workers: int | None) -> tuple[int, dict[str, float]]:
    """
    Return how many workers there are to be, and what each of them takes of the cluster.

    :param workers: how many are asked for; None = one a GPU, else one a group of cores.
    :raises ConfigError: the cluster has not got enough for one.
    """
    has = ray.cluster_resources()
    cores, gpus = int(has.get('CPU', 0)), int(has.get('GPU', 0))
    wants = wish.backend in (AUTO, TENSORRT) or (
        wish.backend == ONNX_RUNTIME and CUDA_PROVIDER in wish.providers)
    each: dict[str, float] = {'num_cpus': max(1, wish.threads)}
    most = cores // int(each['num_cpus'])
    if wants and gpus:
        each['num_gpus'] = 1
        most = min(most, gpus)
    if most < 1:
        raise ConfigError(f'a worker takes {each["num_cpus"]:g} cores (--threads), the cluster '
                          f'has {cores}: give fewer')
    if workers is not None and workers > most:
        raise ConfigError(f'--workers {workers}: there is room for {most} ({cores} cores, {gpus} '
                          f'GPUs, --threads {each["num_cpus"]:g})')
    return workers or most, each


@dataclass(eq=False)
class _Hand:
    """
    One worker.

    :ivar task: what it is at; None while it starts and opens the model.
    :ivar is_there: its process has answered: it is opening the model, or has.
    :ivar ready: it has opened the model and has nothing to do.
    :ivar failed: how often in a row it died while it opened the model.
    :ivar again_s: while it starts, not before this is it asked again.
    :ivar asked: the answer to how far it is that is not there yet.
    """

    actor: Any
    ref: Any = None
    task: Any = None
    is_there: bool = False
    ready: bool = False
    frames: int = 0
    failed: int = 0
    again_s: float = 0.0
    asked: Any = None
    moved_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Lost:
    """A task that came to nothing as its worker died."""

    reason: str


class Crew:
    """
    Gives tasks to workers, one at a time each, and takes what they answer.

    :ivar makers: what each worker that has opened its model makes labels by, and where it is.
    :ivar gone: why workers are not there any more.
    """

    def __init__(self, ray: Any, order: Order, out: Path, workers: int,
                 each: dict[str, float]) -> None:
        self._ray = ray
        # One thread does all with the device, another one tells of it.
        kind = ray.remote(concurrency_groups={_WORK: 1, _ASIDE: 1})(Worker)
        self._hands = []
        self.makers: list[tuple[dict[str, Any], str]] = []
        self.gone: list[str] = []
        for _ in range(workers):
            actor = kind.options(max_restarts=-1, max_task_retries=0, **each).remote(order, out)
            self._hands.append(_Hand(actor))
            self._start(self._hands[-1])
        self._seen_s = self._looked_s = time.monotonic()

    @property
    def is_idle(self) -> bool:
        """Whether there is somebody with nothing to do."""
        return any(hand.ready for hand in self._hands)

    @property
    def is_opening(self) -> bool:
        """Whether somebody has not opened the model yet."""
        return any(not hand.ready and hand.task is None for hand in self._hands)

    @property
    def frames(self) -> int:
        """How many frames are done of what is in hand."""
        return sum(hand.frames for hand in self._hands if hand.task is not None)

    def give(self, task: tuple[Any, ...]) -> None:
        """Have somebody idle do a task: the name of a method of ``Worker``, its arguments."""
        hand = next(hand for hand in self._hands if hand.ready)
        method, *arguments = task
        hand.ready, hand.task, hand.frames, hand.asked = False, task, 0, None
        hand.moved_s = time.monotonic()
        hand.ref = getattr(hand.actor, method).options(concurrency_group=_WORK).remote(*arguments)

    def answers(self, timeout_s: float) -> list[tuple[tuple[Any, ...], Answer | Lost]]:
        """
        Wait a while for answers; return them with their tasks.

        :raises SegNodeError: nobody is there to work any more.
        """
        self._ask_again()
        waiting = {hand.ref: hand for hand in self._hands if hand.ref is not None}
        if waiting:
            done, _ = self._ray.wait(list(waiting), num_returns=1, timeout=timeout_s)
        else:
            done = []
            time.sleep(min(timeout_s, _AGAIN_S))
        if time.monotonic() - self._looked_s >= _LOOK_S:
            self._looked_s = time.monotonic()
            self._look_after()
        found: list[tuple[tuple[Any, ...], Answer | Lost]] = []
        for ref in done:
            hand = waiting[ref]
            if not hand.is_there:
                self._greet(hand, ref)
                continue
            answer = self._answer(ref)
            task, hand.task, hand.ref = hand.task, None, None
            if isinstance(answer, Lost) or answer.lost:
                found += self._lose(hand, task, answer)
            elif task is None:
                self.makers.append(answer.value)
                hand.ready = True
            else:
                hand.ready = True
                found.append((task, answer))
        self._check_alone()
        return found

    def close(self) -> None:
        """End all workers."""
        for hand in self._hands:
            with suppress(Exception):
                self._ray.kill(hand.actor, no_restart=True)

    def _start(self, hand: _Hand) -> None:
        """
        Wait for a worker's process, anew after its death; only then is it to open the model.

        While Ray starts it again it refuses all calls at once: nothing has failed then but a call.
        """
        hand.is_there, hand.ready, hand.task = False, False, None
        hand.ref = hand.actor.progress.options(concurrency_group=_ASIDE).remote()

    def _ask_again(self) -> None:
        for hand in self._hands:
            if hand.ref is None and not hand.is_there and time.monotonic() >= hand.again_s:
                self._start(hand)

    def _greet(self, hand: _Hand, ref: Any) -> None:
        """Have a worker that is there now open the model; another one is asked again later."""
        try:
            self._ray.get(ref)
        except self._ray.exceptions.ActorUnavailableError:
            hand.ref, hand.again_s = None, time.monotonic() + _AGAIN_S
        except self._ray.exceptions.RayError as error:  # it will not come again
            self._lose(hand, None, Lost(brief(error)))
        else:
            hand.is_there = True
            hand.ref = hand.actor.open.options(concurrency_group=_WORK).remote()

    def _answer(self, ref: Any) -> Answer | Lost:
        try:
            answer = self._ray.get(ref)
            assert isinstance(answer, Answer)
            return answer
        except self._ray.exceptions.RayTaskError as error:  # nobody expects it: no worker has it
            return Answer(lost=brief(error.cause if error.cause else error))
        except self._ray.exceptions.RayActorError as error:
            return Lost(brief(error).partition(' The actor')[0])
        except self._ray.exceptions.RayError as error:
            return Lost(brief(error))

    def _lose(self, hand: _Hand, task: Any,
              answer: Answer | Lost) -> list[tuple[tuple[Any, ...], Answer | Lost]]:
        """Have a worker that died start again; one that cannot work is left out."""
        reason = answer.reason if isinstance(answer, Lost) else answer.lost
        self.gone.append(reason)
        hand.failed = 0 if task is not None else hand.failed + 1
        if hand.failed >= _OPENINGS or (isinstance(answer, Answer) and task is None):
            # It cannot even open the model.
            with suppress(Exception):
                self._ray.kill(hand.actor, no_restart=True)
            self._hands.remove(hand)
            return []
        if isinstance(answer, Answer):
            with suppress(Exception):
                self._ray.kill(hand.actor, no_restart=False)
        self._start(hand)
        return [] if task is None else [(task, Lost(reason))]

    def _look_after(self) -> None:
        """Ask all who are at work how far they are; end who has not moved for long."""
        for hand in self._hands:
            if hand.task is None:
                continue
            if hand.asked is not None:
                done, _ = self._ray.wait([hand.asked], timeout=0)
                if done:
                    with suppress(self._ray.exceptions.RayError):
                        frames = self._ray.get(hand.asked)
                        if frames != hand.frames:
                            hand.frames, hand.moved_s = frames, time.monotonic()
                    hand.asked = None
            if hand.asked is None:
                hand.asked = hand.actor.progress.options(concurrency_group=_ASIDE).remote()
            if time.monotonic() - hand.moved_s > STUCK_S:
                with suppress(Exception):
                    self._ray.kill(hand.actor, no_restart=False)

    def _check_alone(self) -> None:
        if any(hand.ready or hand.task is not None for hand in self._hands):
            self._seen_s = time.monotonic()
        elif not self._hands:
            raise SegNodeError('no worker can run: ' + '; '.join(dict.fromkeys(self.gone)))
        elif time.monotonic() - self._seen_s > ALONE_S:
            reasons = '; '.join(dict.fromkeys(self.gone)) or 'the cluster has no room for one'
            raise SegNodeError(f'no worker has come up for {ALONE_S:g} s: {reasons}')
