"""Labels a piece of a recording as the node would: masks into a bag, rows into a table."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo

from ..errors import brief, ConfigError, FrameError
from ..frame import Frame, Products, StageClock
from ..ground.known import KnownCamera
from ..image import encode, wire
from ..mishaps import mishaps
from ..pipeline import Batch
from ..playback.bag_writer import BagWriter
from ..playback.camera_runs import camera_runs, CameraRun
from ..playback.definitions import definition_of, serialized
from ..playback.frames import FrameSource
from ..playback.messages import stamp_ns, type_name_of
from ..playback.own_results import COMPRESSED
from ..playback.read_ahead import ReadAhead
from ..playback.sources import CAMERA_INFO, COMPRESSED_IMAGE, Record, Source, Span
from ..ros.camera_info import calibration_of, info_of
from ..ros.label_info import label_info, topic_beside
from .nearest import Nearest
from .order import made_by, Order
from .pieces import BAG, OutputError, Piece, TABLE, Told
from .rows import figures, REFUSED, schema, Table

WANTED = ('mask', 'confidence', 'drivable')
#: So long before its piece a camera is followed, so that its state over time is known.
BEFORE_NS = 3_000_000_000
_PENDING_BYTES = 64 << 20
_DAMAGE = ('files_cut_off', 'damaged_chunks', 'damaged_packets', 'damaged_frames',
           'end_missing', 'pictures_unreadable')


class Labeller:
    """
    The product's segmenter and what is made of it; used and closed by one thread.

    :raises SegNodeError: the model cannot run here.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        spec = order.spec()
        self._loaded = spec.open()
        self._classes = spec.classes
        self.made_by = made_by(order, spec.card, self._loaded.pipeline.segmenter)
        self.columns = schema(self._classes)
        self._labels = label_info(self._classes)
        for kind in (COMPRESSED_IMAGE, CAMERA_INFO, type_name_of(type(self._labels))):
            definition_of(kind)  # takes long the first time, which no frame should pay for

    def close(self) -> None:
        """Free the device."""
        self._loaded.pipeline.segmenter.close()

    def label(self, piece: Piece, folder: Path, tell: Callable[[int], None]) -> Told:
        """
        Label a piece.

        :param folder: what is made goes there; it is empty.
        :param tell: gets the number of frames done, again and again.
        :raises ConfigError: the recording cannot be opened.
        :raises OutputError: the folder cannot be written.
        """
        pipeline = self._loaded.pipeline
        assert pipeline.trust is not None
        pipeline.trust.restart()
        with self._order.opened(piece.recording) as source:
            return _Work(self, piece, source, folder, tell).done()


class _Camera:
    """One camera of a recording while a piece is labelled."""

    def __init__(self, run: CameraRun, known: KnownCamera, nearest: Nearest, info: str) -> None:
        self.run, self.known, self.nearest, self.info_topic = run, known, nearest, info
        self.parse = wire.parse_compressed_image if run.compressed else wire.parse_image
        self.last_info = b''
        self.problem = ''

    def hear(self, cdr: bytes) -> None:
        """Take what camera_info tells, as the node does."""
        if cdr[12:] == self.last_info:  # the stamp apart
            return
        self.last_info = cdr[12:]
        try:
            with mishaps('reading'):
                self.known.tell(calibration_of(deserialize_message(cdr, CameraInfo),
                                               self.run.name))
            self.problem = self.known.contradiction
        except (ConfigError, FrameError) as error:
            self.problem = str(error)


class _Work:
    """One piece in the making."""

    def __init__(self, labeller: Labeller, piece: Piece, source: Source, folder: Path,
                 tell: Callable[[int], None]) -> None:
        self._pipeline = labeller._loaded.pipeline
        self._classes = labeller._classes
        self._order = labeller._order
        self._piece, self._source, self._tell = piece, source, tell
        self._cameras = {run.source_topic: self._camera(run) for run in camera_runs(source)}
        self._told = Told(Counter(dict.fromkeys(self._cameras, 0)))
        self._now_ns = 0
        self._wanted: dict[int, Record] = {}  # by the frame's id: what is not only looked at
        constants = {name: value for name, value in labeller.made_by.items()
                     if name in labeller.columns.names}
        with _writing(folder):
            self._table = Table(folder / TABLE, labeller.columns,
                                {**constants, 'source': piece.recording.uri})
            self._bag = BagWriter(folder / BAG, limit=_PENDING_BYTES)
        self._labels = labeller._labels
        self._begun: set[str] = set()

    def done(self) -> Told:
        """Label all of it; return what became of it."""
        try:
            with _writing(self._bag.path), self._table:
                self._label()
                self._bag.close()
        except BaseException:
            with suppress(Exception):
                self._bag.close()  # its thread ends
            raise
        self._remark()
        return self._told

    def _label(self) -> None:
        pending: tuple[list[Frame], Batch] | None = None
        try:
            with ReadAhead(self._records()) as records:
                for frames in self._batches(records):
                    started = self._pipeline.start(frames, [WANTED] * len(frames), StageClock())
                    if pending is not None:
                        self._finish(*pending)
                    pending = frames, started
                    if not started.due:
                        self._finish(*pending)
                        pending = None
        except _Broken as error:
            self._told.broken = str(error)
        if pending is not None:
            self._finish(*pending)

    def _camera(self, run: CameraRun) -> _Camera:
        base = run.source_topic.removesuffix(COMPRESSED)
        info = f'{base.rpartition("/")[0]}/camera_info'
        calibration = self._order.calibration_of(run.name)
        if calibration is None and isinstance(self._source, FrameSource):
            calibration = self._source.calibration
        known = KnownCamera(calibration, rectify=False)
        camera = _Camera(run, known, Nearest(known, self._classes), info)
        if self._piece.offset_ns and self._has(info):  # what was told at the very start
            first = next(iter(self._source.records([info])), None)
            if first is not None:
                camera.hear(first.data)
        return camera

    def _has(self, topic: str) -> bool:
        return any(found.name == topic for found in self._source.topics)

    def _records(self) -> Iterator[Record]:
        piece = self._piece
        offset = max(0, piece.offset_ns - BEFORE_NS)
        length = None if piece.length_ns is None else piece.offset_ns + piece.length_ns - offset
        topics = {*self._cameras, *(camera.info_topic for camera in self._cameras.values())}
        records = self._source.records(topics, Span(offset, length), epoch_ns=offset)
        while True:
            try:
                record = next(records, None)
            except Exception as error:  # of many libraries
                raise _Broken(brief(error)) from error
            if record is None:
                return
            yield record

    def _batches(self, records: Iterator[Record]) -> Iterator[list[Frame]]:
        """Yield frames as many as suit the device; those that cannot be read become rows."""
        most = max(1, self._pipeline.segmenter.preferred_batch)
        batch: list[Frame] = []
        infos = {camera.info_topic: camera for camera in self._cameras.values()}
        for record in records:
            camera = self._cameras.get(record.topic)
            if camera is None:
                infos[record.topic].hear(record.data)
                continue
            frame = self._frame(camera, record)
            if frame is not None:
                batch.append(frame)
            if len(batch) >= most:
                yield batch
                batch = []
        if batch:
            yield batch

    def _frame(self, camera: _Camera, record: Record) -> Frame | None:
        self._now_ns = max(self._now_ns, record.time_ns)
        offset_ns = self._piece.offset_ns
        wanted = not offset_ns or record.time_ns - self._source.start_ns >= offset_ns
        try:
            with mishaps('reading'):
                frame = Frame(camera.run.name, camera.parse(record.data), self._now_ns)
        except FrameError as error:
            if wanted:
                self._refuse(camera, record, stamp_ns(record.data), error)
            return None
        if wanted:
            self._wanted[id(frame)] = record
        return frame

    def _finish(self, frames: list[Frame], batch: Batch) -> None:
        for frame, result in zip(frames, batch.finish(), strict=True):
            record = self._wanted.pop(id(frame), None)
            if record is None:
                continue
            camera = self._cameras[record.topic]
            if isinstance(result, FrameError):
                self._refuse(camera, record, frame.header.stamp_ns, result)
            else:
                self._keep(camera, record, result)

    def _keep(self, camera: _Camera, record: Record, products: Products) -> None:
        header = products.frame.header
        mask = wire.build_compressed_image(header, 'mono8; png compressed mono8',
                                           encode.png(products.images['mask']))
        found = figures(products, self._classes) | camera.nearest.figures(products)
        self._begin(camera, record.time_ns)
        self._bag.write(camera.run.output('mask') + COMPRESSED, record.time_ns, mask)
        self._tell_camera(camera, record.time_ns, products)
        self._add(camera, record, {**found, 'stamp_ns': header.stamp_ns})

    def _begin(self, camera: _Camera, time_ns: int) -> None:
        """Announce the topics of a camera, and say what the values of its masks mean."""
        name = camera.run.name
        if name in self._begun:
            return
        self._begun.add(name)
        topic = topic_beside(camera.run.output('label_info'), self._labels)
        self._bag.add_topic(camera.run.output('mask') + COMPRESSED, COMPRESSED_IMAGE)
        self._bag.add_topic(topic, type_name_of(type(self._labels)))
        self._bag.write(topic, time_ns, serialized(self._labels))

    def _tell_camera(self, camera: _Camera, time_ns: int, products: Products) -> None:
        calibration, geometry = camera.known.calibration, products.geometry
        if (calibration is None
                or (calibration.height, calibration.width) != geometry.camera):
            return
        topic = camera.run.output('camera_info')
        self._bag.add_topic(topic, CAMERA_INFO)
        info = info_of(calibration, products.frame.header, geometry.output, False)
        self._bag.write(topic, time_ns, serialized(info))

    def _refuse(self, camera: _Camera, record: Record, stamp: int | None,
                error: FrameError) -> None:
        self._told.refused[error.reason] += 1
        self._add(camera, record, {'stamp_ns': stamp, 'state': REFUSED, 'reason': str(error),
                                   'frame_state': REFUSED})

    def _add(self, camera: _Camera, record: Record, row: dict[str, Any]) -> None:
        topic = camera.run.source_topic
        self._table.add({
            **row, 'camera': camera.run.name, 'topic': topic, 'recorded_ns': record.time_ns,
            'time': record.time_ns, 'seconds': (record.time_ns - self._source.start_ns) / 1e9})
        self._told.frames[topic] += 1
        self._tell(self._told.frames.total())

    def _remark(self) -> None:
        told = self._told
        told.remarks += self._source.remarks()
        told.announced = {topic.name: topic.count for topic in self._source.topics
                          if topic.name in self._cameras and topic.count}
        for camera in self._cameras.values():
            problem = camera.nearest.problem or camera.problem
            if problem:
                told.remarks.append(f'camera {camera.run.name}: {problem}')
        damage = [f'{name} {self._source.losses[name]}' for name in _DAMAGE
                  if self._source.losses[name]]
        if damage and not told.broken:
            told.broken = f'damaged ({", ".join(damage)}); what is whole of it is labelled'


class _Broken(Exception):
    """A recording cannot be read on."""


class _writing:
    """Tells what goes wrong while something is written as such."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, ConfigError)):
            raise OutputError(f'{self._path} cannot be written: {brief(error)}') from error
