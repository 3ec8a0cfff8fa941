"""What test_gpu_segmenter.py runs in processes of their own: segmenter_worker.py SCENARIO."""

from collections import Counter
import gc
from itertools import combinations
import json
import os
from pathlib import Path
import sys
from tempfile import TemporaryDirectory
from threading import Thread
from types import SimpleNamespace

import cv2
from gpu import rig
from gpu.fake_trt import library
from gpu.rig import card, check, cpu_segmenter, Engine, frame, gpu_segmenter, SIZES
from gpu.simulator import refused, Simulator
import numpy as np
import pycuda.driver as cuda

from seg_node.errors import BackendError, ConfigError, FrameError
from seg_node.frame import Demand, Frame, StageClock
from seg_node.geometry import fit, Size
from seg_node.gpu import captures
from seg_node.gpu.by_size import BySizeSegmenter
from seg_node.gpu.engine import TrtEngine
from seg_node.gpu.engine_cache import VerifiedEngine
from seg_node.gpu.launch import costs, ResultBlock, Scores
from seg_node.gpu.resources import Stream
from seg_node.gpu.segmenter import TensorRTSegmenter
from seg_node.gpu.upload import read
from seg_node.image.wire import CompressedImageMessage, Header, ImageMessage
from seg_node.model.policy import DrivablePolicy
from seg_node.pipeline import Pipeline
from seg_node.running.warm_up import warm_up
from seg_node.tools import gpu_check


def cameras(spec, rng, *, encodings=('bgr8', 'nv12', 'yuv422_yuy2', 'rgb8')):
    """Return a function that gives the next frame of camera n."""
    def shoot(n):
        return frame(rng, spec, SIZES[n % 2], encodings[n % len(encodings)], str(n))
    return shoot


def designed(model, shots, expected):
    """Add what the design says a batch of these costs: kernels run, bytes up and down."""
    images = [read(shot)[0] for shot in shots]
    geometries = [fit(model.input, Size(image.height, image.width)) for image in images]
    height, width = (side // rig.STRIDE for side in geometries[0].network)
    scores = Scores('float32', 'NCHW', len(rig.CLASSES), Size(height, width))
    layout = ResultBlock(tuple(geometry.output for geometry in geometries), True, 1)
    for cost in costs(model.input, list(zip(geometries, images, strict=True)), scores, layout):
        expected[f'kernel {cost.kernel}'] += 1
    expected['bytes up'] += sum(image.size_bytes for image in images)
    expected['bytes down'] += layout.size_bytes


def many():
    """200 frames of four cameras, whichever are ready together; what the driver was asked."""
    model, rng, sim = card(), np.random.default_rng(1), Simulator()
    shoot, segmenter, truth = cameras(model.input, rng), gpu_segmenter(model), cpu_segmenter(model)
    sets = [ready for size in range(1, 5) for ready in combinations(range(4), size)]
    # The first run at each shape is plain, later ones are captured, once for each slot; and of an
    # odd number of sets each takes the other slot every round. Where memory is shared it is tried
    # first which way is best.
    for _ in range(3):
        for ready in sets * (1 if segmenter.warm_runs <= 4 else 3):
            segmenter.segment([shoot(n) for n in ready], Demand(), StageClock())
    sim.reset()
    frames = batches = 0
    clock, expected = StageClock(), Counter()
    while frames < 200:
        ready = rng.permutation(sets[rng.integers(len(sets))])
        shots = [shoot(n) for n in ready]
        check(segmenter.segment(shots, Demand(), clock),
              truth.segment(shots, Demand(), StageClock()))
        designed(model, shots, expected)
        frames, batches = frames + len(shots), batches + 1
    counts = sim.counts()
    description = segmenter.description
    segmenter.close()
    return {'frames': frames, 'batches': batches, 'counts': counts, 'expected': expected,
            'ms': clock.ms, 'description': description, 'after': sim.counts()}


def encodings():
    """Every encoding and size, alone and in batches; without confidence, or with the entropy."""
    notes = {}
    for kind, given in (('logits', {}), ('logits', {'dtype': 'float16'}), ('probabilities', {}),
                        ('logits', {'resize': 'letterbox', 'pad_value': 128})):
        model, rng = card(kind, **given), np.random.default_rng(2)
        segmenter, truth = gpu_segmenter(model), cpu_segmenter(model)
        shots = [frame(rng, model.input, size, encoding) for encoding in rig.ENCODINGS
                 for size in SIZES]
        for demand in (Demand(entropy=True), Demand(Size(20, 31), confidence=False)):
            for start in range(0, len(shots), 7):
                part = shots[start:start + 7]
                check(segmenter.segment(part, demand, StageClock()),
                      truth.segment(part, demand, StageClock()))
        notes[f'{kind} {given}'] = segmenter.description
        segmenter.close()
    return notes


def sizes():
    """Cameras that need different network sizes go through it one after the other."""
    model, rng, sim = card(size=None, short_side=32, multiple=4), np.random.default_rng(3), \
        Simulator()
    shots = [frame(rng, model.input, size, 'bgr8') for size in
             (Size(60, 80), Size(48, 96), Size(60, 80), Size(48, 96))]
    assert len({fit(model.input, Size(s.message.height, s.message.width)).network
                for s in shots}) == 2
    segmenter, truth = gpu_segmenter(model), cpu_segmenter(model)
    for _ in range(3):
        sim.reset()
        check(segmenter.segment(shots, Demand(), StageClock()),
              truth.segment(shots, Demand(), StageClock()))
    runs = sim.counts()['kernel stand_in']
    large = frame(rng, model.input, Size(60, 400), 'bgr8')
    [error] = segmenter.segment([large], Demand(), StageClock())
    samples = [segmenter.sample]
    segmenter.close()
    square = gpu_segmenter(model, type('Square', (Engine,), {'sides': ((32, 32), (32, 40))}))
    samples.append(square.sample)
    square.close()
    return {'runs': runs, 'samples': samples, 'too large': [error.reason, str(error)]}


def two_engines():
    """Each frame goes to the engine for its size, and only what none takes is refused."""
    model, rng = card(size=None, short_side=32, multiple=4), np.random.default_rng(3)
    loads, asked = [], []

    def load(verified):
        loads.append(verified.folder.name)
        sides = {'narrow': ((32, 32), (32, 48)), 'wide': ((32, 64), (32, 64))}
        return gpu_segmenter(model, type('Sized', (Engine,), {'sides': sides[loads[-1]]}))

    def find(size):
        asked.append(str(size))
        if size.width != 64:
            raise ConfigError(f'no engine for {size}')
        return VerifiedEngine(b'', b'', model, Path('wide'))
    segmenter = BySizeSegmenter(load(VerifiedEngine(b'', b'', model, Path('narrow'))), find, load)
    truth, errors = cpu_segmenter(model), []
    for names in (['Pavement'], ['Pavement'], ['Road', 'Tree'], ['Car']):
        for one in (segmenter, truth):  # the second engine is not open at the first time
            one.retune(DrivablePolicy(model, names))
        shots = [frame(rng, model.input, size, 'bgr8', str(number)) for number, size in
                 enumerate((Size(48, 96), Size(60, 80), Size(48, 96), Size(60, 400)))]
        found = segmenter.segment(shots, Demand(), StageClock())
        check(found[:3], truth.segment(shots[:3], Demand(), StageClock()), names)
        errors.append([found[3].reason, str(found[3])])
    description = segmenter.description
    del found  # views of page-locked memory
    segmenter.close()
    left = Simulator().counts()
    return {'loads': loads, 'asked': asked, 'errors': errors, 'description': description,
            'left': {name: n for name, n in left.items() if name.startswith('live') and n}}


def grows():
    """A smaller image for a larger network moves the network's buffers, and nothing else."""
    model, rng, sim = card(size=None, short_side=32, multiple=4), np.random.default_rng(14), \
        Simulator()
    segmenter, truth = gpu_segmenter(model), cpu_segmenter(model)
    for size in (Size(48, 96), Size(48, 96), Size(16, 48), Size(48, 96), Size(48, 96)):
        sim.reset()
        shot = [frame(rng, model.input, size, 'bgr8')]
        check(segmenter.segment(shot, Demand(), StageClock()),
              truth.segment(shot, Demand(), StageClock()))
        if size.height == 16:
            counts = sim.counts()
    segmenter.close()
    return [counts['cuMemAlloc_v2'], counts.get('cuMemHostAlloc', 0)]


def malformed():
    """What the CPU path refuses is refused for the same reason, and the rest goes through."""
    model, rng = card(), np.random.default_rng(4)
    segmenter, truth = gpu_segmenter(model), cpu_segmenter(model)
    shots = [frame(rng, model.input, SIZES[0], encoding) for encoding in rig.ENCODINGS[:10] * 2]
    for n, shot in enumerate(shots[:10]):
        message = shot.message
        if n % 5 == 0:
            message.data = message.data[:-21]
        elif n % 5 == 1:
            message.step = 10
        elif n % 5 == 2:
            message.encoding = 'bgr9'
        elif n % 5 == 3:
            message.height = 0
        else:
            message.encoding, message.width = 'nv12', 79
    strip = np.zeros((1, 16384, 3), np.uint8)
    png = cv2.imencode('.png', strip)[1].reshape(-1)
    shots += [Frame('', ImageMessage(Header(0, 0, ''), 1, 16384, 'bgr8', False, 49152,
                                     strip.reshape(-1))),
              Frame('', CompressedImageMessage(Header(0, 0, ''), 'png', png))]
    shots.append(frame(rng, model.input, SIZES[0], 'bgr8'))
    shots[-1].max_pixels = SIZES[0].pixels - 1
    found = segmenter.segment(shots, Demand(), StageClock())
    check(found, truth.segment(shots, Demand(), StageClock()))
    segmenter.close()
    return Counter(one.reason for one in found if isinstance(one, FrameError))


def numbers():
    """Scores that are not finite, or no probabilities, are refused frame by frame."""
    reasons = []
    for kind, value in (('logits', np.nan), ('logits', np.inf), ('probabilities', np.nan),
                        ('probabilities', 1.5)):
        values = rig.table(kind).copy()
        values[0, 3] = value  # for one colour only
        engine = type('Bad', (Engine,), {'values': values})
        model, rng = card(kind), np.random.default_rng(5)
        segmenter, truth = gpu_segmenter(model, engine), cpu_segmenter(model)
        grey = frame(rng, model.input, SIZES[0], 'mono8')
        colour = frame(rng, model.input, SIZES[0], 'bgr8')
        for _ in range(3):
            good, bad = segmenter.segment([grey, colour], Demand(), StageClock())
            check([good], truth.segment([grey], Demand(), StageClock()))
        reasons.append([bad.reason, str(bad)])
        segmenter.close()
    return reasons


def views():
    """Results stay as they are during the next call, and after the end."""
    model, rng = card(), np.random.default_rng(6)
    segmenter = gpu_segmenter(model)
    shots = [[frame(rng, model.input, SIZES[0], 'bgr8')] for _ in range(4)]
    found, copies = [], []
    for shot in shots:
        found += segmenter.segment(shot, Demand(), StageClock())
        copies.append(found[-1].labels.copy())
        for old, copy in zip(found[-2:], copies[-2:], strict=True):
            np.testing.assert_array_equal(old.labels, copy)
    reused = not np.array_equal(found[0].labels, copies[0])
    segmenter.close()
    np.testing.assert_array_equal(found[-1].labels, copies[-1])
    return {'reused': reused}


def stale():
    """Without the wait, the simulated stream leaves the old result behind: tests would see it."""
    model, rng = card(), np.random.default_rng(7)
    segmenter, truth = gpu_segmenter(model), cpu_segmenter(model)
    shots = [[frame(rng, model.input, SIZES[0], 'bgr8')] for _ in range(6)]
    for shot in shots[:4]:
        check(segmenter.segment(shot, Demand(), StageClock()),
              truth.segment(shot, Demand(), StageClock()))
    gc.collect()  # memory that is freed waits for the GPU, too
    gc.disable()
    runner = segmenter._runner
    wait, count = segmenter._gpu.wait, runner._count
    segmenter._gpu.wait = lambda event: None
    runner._count = lambda slot, plan, clock: None
    found = segmenter.segment(shots[4], Demand(), StageClock())
    before = truth.segment(shots[2], Demand(), StageClock())  # two calls ago, the same buffer
    check(found, before)
    runner._count = count
    text = refused(lambda: segmenter.segment(shots[5], Demand(), StageClock()))
    gc.enable()
    segmenter._gpu.wait = wait
    segmenter.close()
    return {'error': text}


def threads():
    """One thread at a time, and only by taking over; threads may end as they like."""
    model, rng = card(), np.random.default_rng(9)
    shots = [[frame(rng, model.input, SIZES[0], 'bgr8')]]
    truth = cpu_segmenter(model).segment(shots[0], Demand(), StageClock())
    segmenter, said = gpu_segmenter(model), []

    def use(take_over):
        try:
            if take_over:
                segmenter.take_over()
            check(segmenter.segment(shots[0], Demand(), StageClock()), truth)
            said.append('right')
        except BackendError as error:
            said.append(str(error))

    def in_thread(*arguments):
        thread = Thread(target=use, args=arguments, name='another', daemon=True)
        thread.start()
        thread.join(60)
    use(False)
    in_thread(True)
    in_thread(True)
    use(False)
    use(True)
    in_thread(False)
    thread = Thread(target=segmenter.close, daemon=True)
    thread.start()
    thread.join(60)
    forgotten = []
    thread = Thread(target=lambda: forgotten.append(gpu_segmenter(model)), daemon=True)
    thread.start()
    thread.join(60)  # ends without closing, and so does this process
    return said


def capture():
    """What cannot be captured runs as plain launches, rightly, and the description says so."""
    notes = {}

    def allocate(gpu):
        gpu.free(gpu.allocate(16, 'a trick'))
        return True
    calls = Counter()

    def refuse_second(gpu):
        calls['enqueue'] += 1
        return calls['enqueue'] != 2
    for name, trick in (('allocates', allocate), ('refuses', refuse_second)):
        engine = type('Trick', (Engine,), {'trick': staticmethod(trick)})
        model, rng, sim = card(), np.random.default_rng(10), Simulator()
        segmenter, truth = gpu_segmenter(model, engine), cpu_segmenter(model)
        before = segmenter.description
        sim.reset()
        for _ in range(4):
            shot = [frame(rng, model.input, SIZES[0], 'bgr8')]
            check(segmenter.segment(shot, Demand(), StageClock()),
                  truth.segment(shot, Demand(), StageClock()))
        notes[name] = [before, segmenter.description, sim.counts().get('cuGraphLaunch', 0)]
        segmenter.close()
    return notes


def capture_again():
    """A capture that failed once is tried again; one that always fails, not for ever."""
    captures.RETRY_AFTER, report = 3, {}
    for name in ('once', 'always'):
        calls = Counter()

        def trick(gpu, calls=calls, once=name == 'once'):
            if once:
                calls['enqueue'] += 1
                return calls['enqueue'] != 2
            # While it is captured only, which no plain launch is.
            try:
                for one in [one for one in gpu._owned.values() if isinstance(one, Stream)]:
                    one.raw.is_done()
            except cuda.Error:
                calls['captures'] += 1
                return False
            return True
        model, rng = card(), np.random.default_rng(10)
        segmenter = gpu_segmenter(model, type('Trick', (Engine,), {'trick': staticmethod(trick)}))
        truth, notes = cpu_segmenter(model), []
        for _ in range(8 if name == 'once' else 120):
            shot = [frame(rng, model.input, SIZES[0], 'bgr8')]
            check(segmenter.segment(shot, Demand(), StageClock()),
                  truth.segment(shot, Demand(), StageClock()))
            notes.append('plain launches' in segmenter.description)
        report[name] = [notes, segmenter.without_graphs, calls['captures']]
        segmenter.close()
    return report


def enqueue_fails():
    """An engine that says no."""
    engine = type('No', (Engine,), {'trick': staticmethod(lambda gpu: False)})
    model, rng = card(), np.random.default_rng(11)
    segmenter = gpu_segmenter(model, engine)
    shot = [frame(rng, model.input, SIZES[0], 'bgr8')]
    texts = [refused(lambda: segmenter.segment(shot, Demand(), StageClock()))
             for _ in range(2)]
    segmenter.close()
    texts.append(refused(lambda: segmenter.segment(shot, Demand(), StageClock())))
    return texts


def cubins():
    """Kernels that are none, or for another GPU."""
    return [refused(lambda image=image, toolkit=toolkit: gpu_segmenter(
                card(), cubin=image, toolkit=toolkit))
            for image in (b'nonsense', b'\x7fELF' + bytes(2000))
            for toolkit in (None, '12.6', '13.2')]


def many_kinds():
    """More kinds of batches than are kept: plans are dropped and made again."""
    model, rng, sim = card(), np.random.default_rng(12), Simulator()
    segmenter, truth = gpu_segmenter(model), cpu_segmenter(model)
    live = []
    for height in [*range(96, 18, -1), 58, 19, 40]:
        shot = [frame(rng, model.input, Size(height, 2 * height), 'bgr8')]
        for _ in range(2):
            check(segmenter.segment(shot, Demand(confidence=False), StageClock()),
                  truth.segment(shot, Demand(confidence=False), StageClock()))
        live.append(sim.counts()['live graphs'])
    segmenter.close()
    return {'graphs': max(live), 'overruns': sim.counts().get('overrun', 0)}


def warm():
    """What is made at the first frames after the warm-up, and at one of a size nobody knew."""
    model, rng, sim = card(), np.random.default_rng(18), Simulator()
    segmenter, truth = gpu_segmenter(model), cpu_segmenter(model)
    warm_up(Pipeline(segmenter, rig.CLASSES), SIZES)
    report = {}

    def use(name, kinds):
        sim.reset()
        for sizes, encoding, confidence in kinds:
            shots = [frame(rng, model.input, size, encoding) for size in sizes]
            for _ in range(2):
                check(segmenter.segment(shots, Demand(None, True, confidence), StageClock()),
                      truth.segment(shots, Demand(None, True, confidence), StageClock()))
        report[name] = sim.counts()
    use('known', [([size] * count, 'rgb8', drivable) for size, count, drivable in
                  ((SIZES[0], 1, True), (SIZES[1], 4, False), (SIZES[0], 2, False),
                   (SIZES[1], 3, True), (SIZES[0], 4, True), (SIZES[1], 1, False),
                   (SIZES[0], 3, True))])
    use('other', [([SIZES[0]], 'nv12', True)])
    use('unknown', [([Size(80, 120)] * 2, 'rgb8', True)])
    segmenter.close()
    return report


def retuned():
    """Another policy counts from the next call on, not for what is in flight."""
    model, rng = card(), np.random.default_rng(26)
    segmenter, truth = gpu_segmenter(model), cpu_segmenter(model)
    other, differs = DrivablePolicy(model, ('Sky', 'Tree')), 0
    for policy in (other, DrivablePolicy(model), other):
        shots = [frame(rng, model.input, size, 'bgr8') for size in SIZES]
        before = truth.segment(shots, Demand(), StageClock())
        running = segmenter.start(shots, Demand(), StageClock())
        truth.retune(policy)
        segmenter.retune(policy)
        after = truth.segment(shots, Demand(), StageClock())
        for wanted, found in ((before, running.results()),
                              (after, segmenter.segment(shots, Demand(), StageClock()))):
            for one, two in zip(wanted, found, strict=True):
                np.testing.assert_array_equal(one.drivable, two.drivable)
        differs += int(any((a.drivable != b.drivable).any()
                           for a, b in zip(before, after, strict=True)))
    segmenter.close()
    return differs


def mapped():
    """What the GPU fetches of an image that it reads where the host has it, and does not cache."""
    model, rng, sim = card(), np.random.default_rng(27), Simulator()
    segmenter, truth = gpu_segmenter(model), cpu_segmenter(model)
    shots = [frame(rng, model.input, SIZES[0], 'bgr8')]
    found = {}
    for mode in ((False, False), (True, False), (False, True), (True, True)):
        segmenter._runner._placement.mode = mode
        segmenter._runner._placement._left = []
        for _ in range(3):  # both slots have their tables
            sim.reset()
            check(segmenter.segment(shots, Demand(), StageClock()),
                  truth.segment(shots, Demand(), StageClock()))
        counts = sim.counts()
        found[f'{mode[0]:d}{mode[1]:d}'] = [
            counts.get(name, 0) for name in ('uncached sectors', 'bytes up', 'bytes down')]
    segmenter.close()
    return found


def outputs():
    """Bytes that come down for one frame, by what is wanted of it."""
    model, rng, sim = card(), np.random.default_rng(19), Simulator()
    segmenter, truth = gpu_segmenter(model), cpu_segmenter(model)
    found = []
    shots = [frame(rng, model.input, SIZES[0], 'bgr8')]
    for drivable in (False, True):
        for confidence in (False, True):
            demand = Demand(None, confidence, drivable)
            for _ in range(5):
                sim.reset()
                check(segmenter.segment(shots, demand, StageClock()),
                      truth.segment(shots, demand, StageClock()))
            found.append(sim.counts()['bytes down'])
    segmenter.close()
    return found


def proof():
    """What gpu_check says of the simulated GPU."""
    model, rng = card(), np.random.default_rng(17)
    shots = [frame(rng, model.input, SIZES[0], 'bgr8') for _ in range(3)]
    candidate, truth = gpu_segmenter(model), cpu_segmenter(model)
    report = gpu_check.check(model, candidate, truth, shots, precision='fp32', repeats=5)
    candidate.close()
    return report


def tensorrt():
    """TrtEngine on a library that does as it is told."""
    gpus, model, rng = [], card(), np.random.default_rng(13)
    shots = [frame(rng, model.input, size, 'bgr8') for size in SIZES]
    truth = cpu_segmenter(model).segment(shots, Demand(), StageClock())
    manifest = SimpleNamespace(key=SimpleNamespace(library='tensorrt', precision='fp32'),
                               build={'layers': {'fp32': 7, 'int32': 1}})

    def make(**tricks):
        def load_engine(verified, gpu):
            gpus.append(gpu)
            return TrtEngine(verified, gpu, library(lambda: gpus[-1], **tricks))
        return TensorRTSegmenter(model, VerifiedEngine(b'plan', Path(os.environ['KERNELS'])
                                                       .read_bytes(), manifest, Path('entry')),
                                 load_engine=load_engine)
    segmenter = make()
    for _ in range(3):
        check(segmenter.segment(shots, Demand(), StageClock()), truth)
    report = {'description': segmenter.description, 'batch': segmenter.preferred_batch,
              'device': segmenter.device}
    segmenter.close()
    for trick in ('plan', 'context', 'shape', 'address', 'enqueue'):
        def use(trick=trick):
            segmenter = make(**{trick: False})
            try:
                segmenter.segment(shots, Demand(), StageClock())
            finally:
                segmenter.close()
        report[trick] = refused(use)
    try:
        make(form='CHW16')
    except ConfigError as error:
        report['form'] = str(error)
    return report


def tensorrt_profiles():
    """Each batch runs in the profile that was built for it."""
    gpus, model, rng, sim = [], card(), np.random.default_rng(24), Simulator()
    truth = cpu_segmenter(model)

    def load_engine(verified, gpu):
        gpus.append(gpu)
        return TrtEngine(verified, gpu, library(lambda: gpus[-1], batches=True))
    segmenter = TensorRTSegmenter(model, verified_fake('tensorrt'), load_engine=load_engine)
    for count in (1, 4, 2, 3, 4, 1):
        shots = [frame(rng, model.input, size, 'bgr8') for size in SIZES * 2][:count]
        check(segmenter.segment(shots, Demand(), StageClock()),
              truth.segment(shots, Demand(), StageClock()))
    report = {'batch': segmenter.preferred_batch,
              'waits': sim.counts()['cuStreamSynchronize']}
    segmenter.close()
    return report


def rtx():
    """What TensorRT-RTX has compiled is there at the next start; its word on captures counts."""
    gpus, model, rng, asked = [], card(), np.random.default_rng(25), []
    truth, report = cpu_segmenter(model), {}
    with TemporaryDirectory() as folder:
        for name, capturable in (('first', True), ('second', True), ('never', False)):
            asked.append({})

            def load_engine(verified, gpu, capturable=capturable):
                gpus.append(gpu)
                return TrtEngine(verified, gpu, library(lambda: gpus[-1], rtx=asked[-1],
                                                        capturable=capturable))
            segmenter = TensorRTSegmenter(model, verified_fake('tensorrt_rtx', folder),
                                          load_engine=load_engine)
            for count in (1, 2, 1, 2, 1):
                shots = [frame(rng, model.input, size, 'bgr8') for size in SIZES][:count]
                check(segmenter.segment(shots, Demand(), StageClock()),
                      truth.segment(shots, Demand(), StageClock()))
            report[name] = [asked[-1].get('found', 0), segmenter.without_graphs]
            segmenter.close()
            report[f'kept by {name}'] = Path(folder, 'runtime.cache').stat().st_size
        Path(folder, 'runtime.cache').chmod(0o666)
        try:
            TensorRTSegmenter(model, verified_fake('tensorrt_rtx', folder),
                              load_engine=load_engine)
        except ConfigError as error:
            report['others write'] = str(error)
    return report


def verified_fake(name, folder='entry'):
    manifest = SimpleNamespace(key=SimpleNamespace(library=name, precision='fp32'), build={})
    return VerifiedEngine(b'plan', Path(os.environ['KERNELS']).read_bytes(), manifest,
                          Path(folder))


if __name__ == '__main__':
    print(json.dumps([globals()[name]() for name in sys.argv[1:]]))
