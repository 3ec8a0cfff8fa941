"""Lets every call to the driver fail, for test_gpu_segmenter.py: failure_worker.py SCENARIO."""

import json
import sys

from gpu.rig import card, check, cpu_segmenter, frame, gpu_segmenter, SIZES
from gpu.simulator import refused, Simulator
import numpy as np

from seg_node.errors import BackendError
from seg_node.frame import Demand, StageClock
from seg_node.gpu import driver

ALLOCATIONS = ('cuMemAlloc_v2', 'cuMemHostAlloc')
STATE = ('contexts pushed here', 'live device blocks', 'live pinned blocks', 'live streams',
         'live graphs')


def life(model, shots, truths):
    """Use a segmenter from start to end; return how it went, in words, and its description."""
    try:
        segmenter = gpu_segmenter(model)
    except BackendError as error:
        return 'refused', str(error), ''
    try:
        running = None
        for shot, truth in zip([*shots, None], [None, *truths], strict=True):
            # Two in flight.
            following = shot and segmenter.start(shot, Demand(), StageClock())
            if running is not None:
                check(running.results(), truth)
            running = following
        return 'right', '', segmenter.description
    except BackendError as error:
        refused(lambda: segmenter.segment(shots[0], Demand(), StageClock()), 'of no use',
                str(error))
        return 'refused', str(error), segmenter.description
    finally:
        segmenter.close()
        segmenter.close()


def failures(lost):
    """Let every call that a segmenter's life makes fail, early, midway and late."""
    lost = lost == 'lost'
    model, rng, sim = card(), np.random.default_rng(8), Simulator()
    truth = cpu_segmenter(model)
    shots = [[frame(rng, model.input, size, encoding) for size, encoding in
              zip(SIZES, ('bgr8', 'nv12'), strict=True)] for _ in range(3)]
    shots.append(shots[0][:1])
    truths = [truth.segment(shot, Demand(), StageClock()) for shot in shots]

    def run():
        before = sim.counts()
        outcome = life(model, shots, truths)
        after = sim.counts()
        driver._release_contexts()
        return *outcome, *(after[name] - before[name] for name in STATE)
    assert run()[0] == 'right'
    sim.reset()
    assert run()[0] == 'right'
    calls = {name: count for name, count in sim.counts().items()
             if name.startswith(('cu', 'kernel ')) and count > 0}
    report = []
    for name, count in calls.items():
        times = {1, count} if not lost else {(count + 1) // 2}
        if count > 4 and not lost:
            times.add(count // 2)
        for first in sorted(times):
            print(f'{name} {first} of {count}', file=sys.stderr, flush=True)
            sim.reset()
            allocates = name in ALLOCATIONS
            # PyCUDA tries twice to allocate.
            sim.fail(name, first, first + (name == 'cuMemAlloc_v2'), 2 if allocates else 719,
                     lost)
            outcome, text, description, *left = run()
            happened = sim.counts().get(name, 0) >= first
            sim.reset()
            report.append({'name': name, 'first': first, 'count': count, 'outcome': outcome,
                           'text': text, 'description': description, 'happened': happened,
                           'left': dict(zip(STATE, left, strict=True))})
            again = run()
            assert again[0] == 'right', again  # and the next one works
    return report


def allocation_is_tried_twice():
    """PyCUDA collects garbage and tries again when memory runs out: one failure is not seen."""
    model, rng, sim = card(), np.random.default_rng(8), Simulator()
    shots = [[frame(rng, model.input, SIZES[0], 'bgr8')]]
    truths = [cpu_segmenter(model).segment(shots[0], Demand(), StageClock())]
    sim.fail('cuMemAlloc_v2', 3, code=2)
    return life(model, shots, truths)


if __name__ == '__main__':
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
