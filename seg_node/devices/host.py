"""The segmenter for networks that give their outputs to the host, whatever device they run on."""

from collections.abc import Sequence

import numpy as np

from ..errors import BACKEND, BackendError, brief, DeviceLostError, FrameError
from ..frame import Demand, DRIVABLE_CLASS, Frame, PREPARE, Segmentation, StageClock
from ..geometry import fit_frame, Geometry, Size
from ..mishaps import mishaps
from ..model.card import ModelCard
from ..model.policy import DrivablePolicy
from ..preprocess import Preprocessor
from ..products import look_up
from .backend import SAMPLE
from .heads import can_glimpse, read_confidence, read_entropy, read_head
from .segmenter import Backend, Result


class HostSegmenter:
    """Decodes, runs the backend and labels on the CPU; see ``Segmenter``."""

    sample = SAMPLE

    def __init__(self, card: ModelCard, backend: Backend,
                 policy: DrivablePolicy | None = None) -> None:
        self._card = card
        self._policy = policy or DrivablePolicy(card)
        self._backend = backend
        self._others = card.other_outputs
        self._preprocessor = Preprocessor(card.input)
        self.description = backend.description
        self.device = backend.device
        self._max_batch = backend.max_batch
        self._prepared: set[tuple[int, ...]] = set()
        # A batch on the CPU costs more core time a frame than one by one, and makes all wait.
        self.preferred_batch = 1 if backend.device == 'cpu' else backend.max_batch or 4

    def segment(self, frames: Sequence[Frame], demand: Demand, clock: StageClock) -> list[Result]:
        """Segment the frames in batches of one network size; see ``Segmenter.segment``."""
        results: list[Result | None] = [None] * len(frames)
        batches: dict[Size, list[tuple[int, np.ndarray, Geometry]]] = {}
        for index, frame in enumerate(frames):
            try:
                with clock.stage('decode'), mishaps('decoding'):
                    image = frame.bgr
                geometry = fit_frame(self._card.input, Size(*image.shape[:2]), demand.output,
                                     frame.rectification)
            except FrameError as error:
                results[index] = error.with_traceback(None)  # it holds this very list
                continue
            batches.setdefault(geometry.network, []).append((index, image, geometry))
        for batch in batches.values():
            step = self._max_batch or len(batch)
            for start in range(0, len(batch), step):
                part = batch[start:start + step]
                for (index, _, _), result in zip(part, self._run(part, demand, clock),
                                                 strict=True):
                    results[index] = result
        return [result for result in results if result is not None]

    def retune(self, policy: DrivablePolicy) -> None:
        """Take another policy; see ``Segmenter.retune``."""
        self._policy = policy

    def close(self) -> None:
        """Free the backend."""
        self._backend.close()

    def _run(self, batch: list[tuple[int, np.ndarray, Geometry]], demand: Demand,
             clock: StageClock) -> list[Result]:
        try:
            with clock.stage('preprocess'), mishaps('preparing'):
                tensor = self._preprocessor.tensor([image for _, image, _ in batch],
                                                   [geometry for _, _, geometry in batch])
        except FrameError as error:
            if len(batch) == 1:
                return [error.with_traceback(None)]
            return [self._run([image], demand, clock)[0] for image in batch]
        try:
            if tensor.shape not in self._prepared:
                with clock.stage(PREPARE):
                    self._backend.prepare(tensor.shape)
                self._prepared.add(tensor.shape)
            with clock.stage('network'):
                outputs = self._backend.run(tensor)
        except DeviceLostError:
            raise
        except BackendError as error:
            return [FrameError(BACKEND, brief(error))] * len(batch)
        if any(len(output) != len(batch) for output in outputs):
            return [FrameError(BACKEND, f'the network made {min(map(len, outputs))} pictures of '
                               f'{len(batch)}, which its file calls possible: export it with a '
                               'batch of 1, or one that is dynamic throughout')] * len(batch)
        with clock.stage('labels'):
            return [self._read([output[n] for output in outputs], geometry, demand)
                    for n, (_, _, geometry) in enumerate(batch)]

    def _read(self, outputs: list[np.ndarray], geometry: Geometry, demand: Demand) -> Result:
        """Read one frame's part of the network's outputs."""
        maps = dict(zip(self._card.outputs, outputs, strict=True))
        main, head = self._card.main_output, self._policy.output
        try:
            with mishaps('labelling'):
                look, glimpse = None if demand.confidence else demand.glimpse, None
                sparse = look is not None and can_glimpse(main)
                labels, sure = read_head(main, maps[main], geometry, demand.confidence
                                         or look is not None and not sparse)
                if look is not None and sparse:
                    places = look.places(geometry.camera, geometry.output)
                    glimpse = read_confidence(main, maps[main], geometry, labels, places,
                                              look.classes)
                torn = (read_entropy(main, maps[main], geometry, labels)
                        if demand.entropy else None)
                heads = {spec.role: read_head(spec, maps[spec], geometry, False)[0]
                         for spec in self._others if spec.role in demand.heads}
                area = None
                if demand.drivable:
                    ids = (labels if head == main
                           else read_head(head, maps[head], geometry, False)[0])
                    area = look_up(ids, self._policy.lut)
                    if DRIVABLE_CLASS in demand.heads and self._policy.has_classes:
                        heads[DRIVABLE_CLASS] = ids
        except FrameError as error:
            return error.with_traceback(None)
        return Segmentation(geometry, labels, sure, area, heads, glimpse, torn)
