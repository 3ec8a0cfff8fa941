"""What ``evaluate`` runs: a data set through the pipeline, in one process or in several."""

from collections.abc import Iterable, Sequence
from concurrent.futures import as_completed, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
import multiprocessing
from pathlib import Path

from ..devices.choose import ONNX_RUNTIME, open_segmenter, OPENVINO, Wish
from ..devices.cpu import cores
from ..devices.segmenter import Segmenter
from ..errors import ConfigError, SegNodeError
from ..model.card import load_card, ModelCard
from ..pipeline import Pipeline
from ..running.warm_up import warm_up
from ..scoring.class_match import ClassMatch
from ..scoring.datasets import Dataset, Pair
from ..scoring.evaluation import CAMERA, Head, require_pixels, run, Tally
from .console import progress
from .crf_segmenter import CrfSegmenter


@dataclass(frozen=True)
class Job:
    """
    How a data set is measured.

    :ivar model: folder of the card.
    :ivar worst: how many of the worst frames are kept.
    :ivar rate_hz: of a sequence; None = pictures on their own.
    :ivar crf: whether a CRF follows the network.
    """

    model: Path
    wish: Wish
    scoring: ClassMatch
    head: Head
    worst: int = 0
    rate_hz: float | None = None
    steadiness: bool = False
    crf: bool = False

    def check(self, workers: int) -> None:
        """
        Refuse what has no meaning together.

        :raises ConfigError: with what and why.
        """
        if not 1 <= workers <= 64:
            raise ConfigError(f'--workers {workers}: allowed are 1 to 64.')
        if workers > 1 and self.rate_hz is not None:
            raise ConfigError(f'--workers {workers}: the frames of a sequence follow one another '
                              'through one process. Leave it out.')
        if self.crf and self.wish.backend not in (ONNX_RUNTIME, OPENVINO):
            raise ConfigError(f'--crf with --backend {self.wish.backend}: the scores of the '
                              f'network are read on the CPU. Choose {ONNX_RUNTIME} or {OPENVINO}.')
        if self.crf and self.head.role != 'labels':
            raise ConfigError(f'--crf refines the labels, scored is the head {self.head.role}. '
                              'Leave one of them out.')


def measure(job: Job, dataset: Dataset, workers: int = 1) -> tuple[Tally, str]:
    """
    Return everything counted, and what really ran.

    :param workers: processes that share the pairs and the cores; the result is the same but for
        the times.
    :raises ConfigError: when an image or label cannot be used; then there is no result at all.
    :raises BackendError: when the device fails.
    """
    job.check(workers)
    parts = _shares(dataset, workers)
    if len(parts) == 1:
        tally, ran = _measure(job, dataset, shown=True)
    else:
        wish = replace(job.wish, threads=job.wish.threads or max(1, cores() // len(parts)))
        (tally, ran), *later = _in_processes(replace(job, wish=wish), parts)
        for other, _ in later:
            tally.merge(other)
    require_pixels(tally, dataset)
    return tally, ran


def _shares(dataset: Dataset, workers: int) -> list[Dataset]:
    """Return the data set in parts of neighbouring pairs, none of them empty."""
    count = min(workers, len(dataset.pairs))
    cuts = [len(dataset.pairs) * n // count for n in range(count + 1)]
    return [dataset if count == 1 else replace(dataset, pairs=dataset.pairs[start:end])
            for start, end in zip(cuts, cuts[1:], strict=False)]


def _in_processes(job: Job, parts: Sequence[Dataset]) -> list[tuple[Tally, str]]:
    """Measure each part in a process of its own; the first that fails ends all."""
    before = set(multiprocessing.active_children())
    with ProcessPoolExecutor(len(parts), multiprocessing.get_context('spawn')) as pool:
        runs = [pool.submit(_measure, job, part, part is parts[0]) for part in parts]
        try:
            for done in as_completed(runs):
                done.result()
        except BrokenProcessPool as error:
            raise SegNodeError(f'one of {len(parts)} processes was ended from outside, for want '
                               'of memory as a rule. Give fewer --workers.') from error
        except BaseException:
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            raise
    return [done.result() for done in runs]


def _measure(job: Job, dataset: Dataset, shown: bool) -> tuple[Tally, str]:
    card = load_card(job.model)
    pipeline = Pipeline(_segmenter(job, card), card.main_output.classes,
                        steady=[CAMERA] if job.steadiness else [],
                        heads=[output.role for output in card.other_outputs])

    def bar(pairs: Iterable[Pair]) -> Iterable[Pair]:
        return progress(pairs, 'evaluate', len(dataset.pairs)) if shown else pairs
    try:
        warm_up(pipeline)
        return (run(pipeline, dataset, job.scoring, job.head, job.worst, job.rate_hz, bar),
                pipeline.segmenter.description)
    finally:
        pipeline.segmenter.close()


def _segmenter(job: Job, card: ModelCard) -> Segmenter:
    if job.crf:
        return CrfSegmenter(card, job.wish.backend, job.wish.threads)
    return open_segmenter(card, job.wish).segmenter
