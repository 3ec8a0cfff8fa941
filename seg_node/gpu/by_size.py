"""Several engines of one model: a frame goes to the one that was built for its size."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..devices.segmenter import Result
from ..errors import BackendError, brief, ConfigError
from ..frame import Demand, Frame, PREPARE, StageClock
from ..geometry import Size
from ..model.policy import DrivablePolicy
from .engine_cache import VerifiedEngine
from .segmenter import EngineSizeError, GpuRunning, TensorRTSegmenter

_MOST = 4  # engines on the GPU at a time: each holds its weights and buffers


class _Running:
    """A call on several engines; see ``Running``."""

    def __init__(self, first: GpuRunning) -> None:
        self._first = first
        self._others: list[tuple[GpuRunning, list[int]]] = []
        self.due = first.due

    def add(self, other: GpuRunning, places: list[int]) -> None:
        """Add what runs for the frames at some places of the call."""
        self._others.append((other, places))
        self.due = max(self.due, other.due)

    def results(self) -> list[Result]:
        """Wait for the results; see ``Running.results``."""
        results = self._first.results()
        for other, places in self._others:
            for index, result in zip(places, other.results(), strict=True):
                results[index] = result
        return results


class BySizeSegmenter:
    """
    Segments with the first engine; what that does not take, with another one; see ``Segmenter``.

    Another engine is looked for when a frame of a new network size comes, and stays open.
    Results are valid as ``TensorRTSegmenter`` says.

    :param first: on the engine that was chosen at the start; closed with this.
    :param find: returns the engine for a network size.
    :param load: makes a segmenter of it, on the same GPU.
    """

    def __init__(self, first: TensorRTSegmenter, find: Callable[[Size], VerifiedEngine],
                 load: Callable[[VerifiedEngine], TensorRTSegmenter]) -> None:
        self._find, self._load = find, load
        self._first = first
        self._policy: DrivablePolicy | None = None
        self._open: dict[Path, TensorRTSegmenter] = {}
        # By network size: a segmenter, or why there is none.
        self._known: dict[Size, TensorRTSegmenter | str] = {}
        self.device, self.preferred_batch, self.sample = (
            first.device, first.preferred_batch, first.sample)

    def segment(self, frames: Sequence[Frame], demand: Demand, clock: StageClock) -> list[Result]:
        """Segment each frame with the engine for its size; see ``Segmenter.segment``."""
        return self.start(frames, demand, clock).results()

    def start(self, frames: Sequence[Frame], demand: Demand, clock: StageClock) -> '_Running':
        """Begin with each frame on the engine for its size; see ``Overlapping.start``."""
        first = self._first.start(frames, demand, clock)
        running = _Running(first)
        elsewhere: dict[TensorRTSegmenter, list[int]] = {}
        for index, result in enumerate(first.found):
            if isinstance(result, EngineSizeError):
                other = self._other(result.network, clock)
                if isinstance(other, str):
                    first.found[index] = EngineSizeError(result.network, f'{result}. {other}')
                else:
                    elsewhere.setdefault(other, []).append(index)
        for segmenter, places in elsewhere.items():
            running.add(segmenter.start([frames[index] for index in places], demand, clock),
                        places)
        return running

    @property
    def description(self) -> str:
        """What really runs, and how."""
        return '; '.join(one.description for one in (self._first, *self._open.values()))

    @property
    def warm_runs(self) -> int:
        """How often a kind of batch must run; see ``Overlapping``."""
        return max(one.warm_runs for one in (self._first, *self._open.values()))

    def retune(self, policy: DrivablePolicy) -> None:
        """Take another policy, for engines that open later, too; see ``Segmenter.retune``."""
        self._policy = policy
        for segmenter in (self._first, *self._open.values()):
            segmenter.retune(policy)

    @property
    def without_graphs(self) -> str:
        """Why an engine goes on without CUDA graphs, '' while none does."""
        return '; '.join(filter(None, (one.without_graphs for one in
                                       (self._first, *self._open.values()))))

    def close(self) -> None:
        """Free the GPU; never raises."""
        for segmenter in (*self._open.values(), self._first):
            segmenter.close()
        self._open.clear()
        self._known.clear()

    def _other(self, network: Size, clock: StageClock) -> TensorRTSegmenter | str:
        """Return the segmenter for a network size, or why there is none."""
        known = self._known.get(network)
        if known is None:
            if len(self._known) > 256:  # a camera that keeps changing its size
                self._known.clear()
            with clock.stage(PREPARE):
                known = self._known[network] = self._opened(network)
        return known

    def _opened(self, network: Size) -> TensorRTSegmenter | str:
        try:
            engine = self._find(network)
            if engine.folder in self._open:
                return self._open[engine.folder]
            if len(self._open) + 1 >= _MOST:
                return (f'{engine.folder} is for it, but {_MOST} engines are open: build one '
                        'engine for all cameras, with one --camera for each')
            self._open[engine.folder] = opened = self._load(engine)
            if self._policy is not None:
                opened.retune(self._policy)
        except ConfigError as error:  # none was built, or it was damaged
            return f'No other engine takes it: {brief(error)}'
        except BackendError as error:  # as when the memory of the GPU is full
            return f'The engine for it cannot be opened: {brief(error)}'
        return self._open[engine.folder]
