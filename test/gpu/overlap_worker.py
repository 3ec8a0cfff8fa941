"""
Three cameras of two sizes through the real worker and pipeline, for test_gpu_overlap.py.

Each frame has a number and a picture of its own; whatever is published is compared with the CPU
path's labels of that very picture, and with the number of the one before. All runs in one thread:
frames arrive when the worker looks for them.
"""

import json
import sys

from gpu.rig import card, CLASSES, cpu_segmenter, frame, gpu_segmenter, SIZES
from gpu.simulator import Simulator
import numpy as np

from seg_node.errors import DeviceLostError
from seg_node.frame import Demand, Frame, StageClock
from seg_node.gpu import runner
from seg_node.image.wire import Header, ImageMessage
from seg_node.pipeline import Pipeline
from seg_node.running.mailbox import Mailbox
from seg_node.running.watchdog import AwakeClock, Watched
from seg_node.running.worker import Worker

CAMERAS = {'front': (SIZES[0], 'bgr8'), 'left': (SIZES[1], 'nv12'), 'right': (SIZES[0], 'rgb8')}
POOL = 7  # pictures of each camera
OUTPUTS = (('mask',), ('mask', 'confidence'), ('mask', 'drivable'),
           ('mask', 'confidence', 'drivable'))


class Pictures:
    """The pictures, and what the CPU path makes of them."""

    def __init__(self, model):
        rng, truth = np.random.default_rng(21), cpu_segmenter(model)
        self.messages, self.truths = {}, {}
        for name, (size, encoding) in CAMERAS.items():
            shots = [frame(rng, model.input, size, encoding, name) for _ in range(POOL)]
            self.messages[name] = [shot.message for shot in shots]
            self.truths[name] = truth.segment(shots, Demand(), StageClock())

    def frame(self, camera, number):
        """Return the frame with a number."""
        like = self.messages[camera][number % POOL]
        return Frame(camera, ImageMessage(Header(number, 0, camera), like.height, like.width,
                                          like.encoding, False, like.step, like.data))


class Cameras(Mailbox):
    """Puts frames when they are looked for: of any cameras, now and then of none."""

    def __init__(self, pictures, frames, saturated, seed=22):
        super().__init__(CAMERAS)
        self.pictures, self.left, self.saturated = pictures, frames, saturated
        self.rng = np.random.default_rng(seed)
        self.sent = dict.fromkeys(CAMERAS, 0)

    def take(self, limit=None, timeout_s=None):
        names = [name for name in CAMERAS if self.saturated or self.rng.random() < 0.5]
        if not names and timeout_s is None:
            names = [str(self.rng.choice(list(CAMERAS)))]
        for name in names[:self.left]:
            if self._slots[name].item is not None:  # there were more than are taken at once
                continue
            assert self.put(name, self.pictures.frame(name, self.sent[name])) is None
            self.sent[name] += 1
            self.left -= 1
        if not self.left and all(slot.item is None for slot in self._slots.values()):
            self.close()
        return super().take(limit, timeout_s)


class Drive:
    """A worker on a segmenter, and what became of its frames."""

    def __init__(self, pictures, segmenter, frames, *, saturated=False, on_publish=None):
        self.pictures, self.on_publish = pictures, on_publish
        self.mailbox = Cameras(pictures, frames, saturated)
        self.rng = np.random.default_rng(23)
        self.asked = []
        self.published = dict.fromkeys(CAMERAS, -1)
        self.delivered, self.refused = 0, 0
        self.worker = Worker(self.mailbox, 0, wanted=self.wanted, deliver=self.deliver,
                             refuse=self.refuse)
        self.pipeline = Pipeline(segmenter, CLASSES)

    def run(self):
        """Return why it ended, '' = there were no more frames."""
        try:
            self.worker.run(self.pipeline, Watched(AwakeClock()), 0.0)
        except DeviceLostError as error:
            reason = str(error)
        else:
            reason = ''
        dropped = len(self.worker.stop(0))
        sent = sum(self.mailbox.sent.values())
        assert sent == self.delivered + self.refused + dropped, (sent, self.__dict__)
        return reason

    def wanted(self, camera):
        # Not at random: whoever subscribes does so for many frames.
        return OUTPUTS[sum(self.mailbox.sent.values()) // 60 % len(OUTPUTS)]

    def deliver(self, products, clock):
        camera, number = products.frame.camera, products.frame.header.sec
        truth = self.pictures.truths[camera][number % POOL]
        np.testing.assert_array_equal(products.images['mask'], truth.labels)
        if 'drivable' in products.images:
            np.testing.assert_array_equal(products.images['drivable'], truth.drivable)
        if 'confidence' in products.images:
            off = products.images['confidence'].astype(int) - truth.confidence
            assert np.abs(off).max() <= 1
        assert number > self.published[camera], (camera, number)  # once, and in order
        self.published[camera] = number
        self.delivered += 1
        if self.on_publish is not None:
            self.on_publish(products)

    def refuse(self, refused, error):
        assert error.reason == 'backend', error
        self.refused += 1


def order(frames=500):
    """500 frames, none lost, wrong, repeated or late."""
    model, sim = card(), Simulator()
    pictures, segmenter = Pictures(model), gpu_segmenter(model)
    in_flight = []
    launch = segmenter._runner.launch

    def counted(batches, clock):
        in_flight.append(sum(slot.call is not None for slot in segmenter._slots._slots))
        return launch(batches, clock)
    segmenter._runner.launch = counted
    drive = Drive(pictures, segmenter, int(frames))
    reason = drive.run()
    counts = sim.counts()
    segmenter.close()
    return {'reason': reason, 'delivered': drive.delivered, 'refused': drive.refused,
            'overlapped': sum(in_flight) / len(in_flight),
            'counts': {name: counts.get(name, 0) for name in
                       ('overrun', 'freed in use', 'pageable copies')}}


def unordered():
    """Without the event between the slots one would compute in the other's memory."""
    model = card()
    pictures, segmenter = Pictures(model), gpu_segmenter(model)
    segmenter._gpu.hold = lambda stream, event, captured=False: None
    try:
        Drive(pictures, segmenter, 200, saturated=True).run()
    except AssertionError:
        return 'noticed'
    return 'not noticed'


def failures(*names):
    """A failure at every driver call (or those named), the first, a middle and the last time."""
    model, sim = card(), Simulator()
    pictures = Pictures(model)

    def life():
        segmenter = gpu_segmenter(model)
        drive = Drive(pictures, segmenter, 75)
        try:
            return drive.run(), drive.delivered, segmenter.description
        finally:
            segmenter.close()
    assert life()[:2] == ('', 75)
    sim.reset()
    segmenter = gpu_segmenter(model)
    before = sim.counts()
    Drive(pictures, segmenter, 75).run()
    after = sim.counts()
    segmenter.close()
    report = []
    for name in sorted(after):
        count = after[name] - before.get(name, 0)
        if not name.startswith(names or ('cu', 'kernel ')) or count < 1:
            continue
        for number in sorted({1, (count + 1) // 2, count}):
            segmenter = gpu_segmenter(model)
            drive = Drive(pictures, segmenter, 75)
            sim.fail(name, number, number + (name == 'cuMemAlloc_v2'),
                     2 if 'Alloc' in name else 719)
            reason = drive.run()
            report.append({'name': name, 'number': number, 'count': count, 'reason': reason,
                           'delivered': drive.delivered, 'plain': segmenter.without_graphs})
            sim.reset()
            segmenter.close()
    assert life()[:2] == ('', 75)
    return report


def overlap(mode):
    """What of the copies is done while the GPU computes, on the simulated clock."""
    model, sim = card(), Simulator()
    pictures, segmenter = Pictures(model), gpu_segmenter(model)
    sim.cost('stand_in', 12000)  # of three frames
    for kernel, us in (('preprocess_f32', 50), ('labels_f32', 70), ('corner_winners_f32', 30)):
        sim.cost(kernel, us)
    for _ in range(2):  # all graphs are there, and what each takes is known
        Drive(pictures, segmenter, 300, saturated=True).run()
    if mode == 'one by one':
        segmenter.start = None
        segmenter = OneByOne(segmenter)
    scale = (720 * 1280) / SIZES[0].pixels  # the bytes of 1280x720 for those of a small picture
    upload, runner._PIECE = segmenter._gpu.upload, 1 << 11

    def copy_and_upload(stream, address, values):
        sim.spend('host copy', values.size * scale / 8000)  # 8 GB/s
        upload(stream, address, values)
    segmenter._gpu.upload = copy_and_upload
    sim.reset()
    drive = Drive(pictures, segmenter, 300, saturated=True, on_publish=lambda products: sim.spend(
        'publish', sum(image.size for image in products.images.values()) * scale / 4000))
    assert drive.run() == ''
    found = sim.intervals()
    segmenter.close()
    kernels = merged([(begin, end) for kind, begin, end in found if kind.startswith('kernel')])
    shares = {}
    for kind in ('bytes up', 'bytes down', 'host copy', 'publish'):
        spans = [(begin, end) for name, begin, end in found if name == kind]
        shares[kind] = [sum(covered(span, kernels) for span in spans),
                        sum(end - begin for begin, end in spans)]
    start = min(begin for _, begin, _ in found)
    whole = max(end for _, _, end in found) - start
    return {'shares': shares, 'busy': sum(end - begin for begin, end in kernels) / whole,
            'frame_us': whole / drive.delivered}


class OneByOne:
    """A segmenter that does one thing after the other."""

    def __init__(self, segmenter):
        self._segmenter = segmenter
        self._gpu = segmenter._gpu
        self.preferred_batch = segmenter.preferred_batch
        self.close = segmenter.close

    def segment(self, frames, demand, clock):
        return type(self._segmenter).start(self._segmenter, frames, demand, clock).results()


def merged(spans):
    joined = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1][1] = max(end, joined[-1][1])
        else:
            joined.append([begin, end])
    return joined


def covered(span, spans):
    return sum(max(0.0, min(span[1], end) - max(span[0], begin)) for begin, end in spans)


if __name__ == '__main__':
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
