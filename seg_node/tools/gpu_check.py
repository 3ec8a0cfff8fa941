"""
Prove the GPU path on this machine, as far as what is installed on it allows. Needs no ROS.

First with a stand-in network, for which nvcc and PyCUDA are enough: copies, kernels, events and
CUDA graphs; masks equal to the CPU path's in every pixel; memory given back; and, where it is
installed, compute-sanitizer over all of it. Then, where TensorRT or TensorRT-RTX is installed, the
engine of a real model: built, its labels compared with ONNX Runtime's on frames of the shipped
drive.

Latency is that of whole frames, from the bytes of the message to the masks in host memory. It is
set in relation to the bare network, run back to back. Without CUDA graphs nothing passes.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
import json
from pathlib import Path
import sys
from typing import Any

from ..devices.choose import ONNX_RUNTIME, open_segmenter, TENSORRT, Wish
from ..devices.host import HostSegmenter
from ..devices.segmenter import Segmenter
from ..engines import nvcc
from ..errors import BackendError, SegNodeError
from ..frame import Frame
from ..geometry import Size
from ..gpu import trt
from ..gpu.engine import TrtEngine
from ..gpu.engine_cache import open_verified, VerifiedEngine
from ..gpu.engine_manifest import LEAST_AGREEMENT, PRECISIONS
from ..gpu.segmenter import TensorRTSegmenter
from ..image.wire import Header, ImageMessage
from ..model.card import load_card, ModelCard
from ..proving import machine, stand_in
from ..proving.measure import (
    bare_network,
    exactness,
    interval,
    Latency,
    latency,
    leaks,
    LoadEngine,
    WARM_UP,
)
from ..scoring.drive import Drive, resized
from . import build_engine
from .console import progress

FORMAT = 1
#: Sizes that the stand-in network is compared at, beside the camera's own.
SIZES = (Size(480, 640), Size(1080, 1920), Size(1200, 1920))


def street(camera: Size, frames: int) -> list[Frame]:
    """Return frames of the shipped drive, spread over all of it."""
    drive = Drive()
    shown = resized(drive, range(0, len(drive), max(1, len(drive) // frames))[:frames], camera)
    return [Frame('check', ImageMessage(Header(0, 0, ''), camera.height, camera.width, 'bgr8',
                                        False, camera.width * 3, image.reshape(-1)))
            for image in shown]


def check(card: ModelCard, candidate: Segmenter, reference: Segmenter, frames: Sequence[Frame],
          *, precision: str, repeats: int, bare: Latency | None = None) -> dict[str, Any]:
    """
    Return the figures of one network.

    :param bare: the network alone, back to back; None: what it takes among the frames.
    :raises BackendError: a segmenter refuses a frame.
    """
    found = exactness(candidate, reference,
                      ([frame] for frame in progress(frames, f'compare {precision}')))
    times = latency(candidate, frames, progress(range(WARM_UP + repeats), f'latency {precision}'))
    every = interval(candidate, frames, progress(range(repeats), f'interval {precision}'))
    equal, network = found.entry()['equal'], (bare or times['network']).p50
    # Plain launches compute the same, but their latency is not what the node is made for.
    without = str(getattr(candidate, 'without_graphs', ''))
    return {
        'model': card.name, 'sha256': card.sha256, 'precision': precision,
        'candidate': candidate.description, 'reference': reference.description,
        'frames': len(frames), 'labels_equal': equal, 'least': LEAST_AGREEMENT[precision],
        'without_graphs': without,
        'passed': equal >= LEAST_AGREEMENT[precision] and not without,
        'batch': 1, 'repeats': repeats,
        'latency_ms': {name: vars(value) for name, value in times.items()},
        'bare_network_ms': None if bare is None else vars(bare),
        'interval_ms': round(every, 4), 'interval_to_network': round(every / network, 3),
        'frame_to_network': round(times['frame'].p50 / network, 3)}


@dataclass(frozen=True)
class StandIn:
    """
    The stand-in network in one precision, ready for this GPU.

    :ivar load: makes its engine; ``rounds`` says how long it takes.
    """

    model: ModelCard
    verified: VerifiedEngine
    gpu: int
    load: LoadEngine
    rounds: int = 0

    def open(self) -> TensorRTSegmenter:
        """Return the segmenter under test."""
        return TensorRTSegmenter(self.model, self.verified, self.gpu, load_engine=self.load)

    def bare(self, camera: Size, repeats: int) -> tuple[Latency, str]:
        """Return what the network alone takes; see ``bare_network``."""
        return bare_network(self.gpu, self.verified, self.load, self.model, camera, repeats)

    def use(self, reference: Segmenter, camera: Size) -> None:
        """Open it, run it plain, recorded and replayed, and close it."""
        segmenter = self.open()
        try:
            for seed in range(3):
                exactness(segmenter, reference,
                          [[stand_in.frame(self.model.input, camera, seed)]])
        finally:
            segmenter.close()


def prepared(precision: str, gpu: trt.GpuInfo, number: int, cameras: Sequence[Size]) -> StandIn:
    """
    Return the stand-in, compiled, and lasting as long on this GPU as a real network.

    :raises BackendError: no nvcc, no PyCUDA, or the GPU fails.
    """
    model = stand_in.card('float32' if precision == 'fp32' else 'float16')
    cubin, kernels, toolkit = _compiled(gpu.compute_capability)
    verified = stand_in.verified(model, kernels, toolkit, cameras)

    def lasting(rounds: int) -> StandIn:
        return StandIn(model, verified, number,
                       partial(stand_in.StandInEngine, model=model, cubin=cubin, rounds=rounds),
                       rounds)
    return lasting(stand_in.rounds_to_last(
        lambda rounds: lasting(rounds).bare(cameras[0], 5)[0].p50))


@cache
def _compiled(capability: tuple[int, int]) -> tuple[bytes, bytes, str]:
    """Return the stand-in's kernel and the package's own, and the version of the compiler."""
    return (stand_in.compiled(capability), nvcc.compile_cubin(capability),
            nvcc.release(nvcc.find_nvcc()))


def check_stand_in(network: StandIn, precision: str, cameras: Sequence[Size], frames: int,
                   repeats: int) -> dict[str, Any]:
    """
    Return the figures of the stand-in network.

    :raises BackendError: the GPU fails.
    """
    bare, plain = network.bare(cameras[0], repeats)
    reference = HostSegmenter(network.model, stand_in.StandInBackend())
    batches = [[stand_in.frame(network.model.input, camera, seed) for camera in cameras[:count]]
               for seed in range(frames) for count in (1, len(cameras))]
    segmenter = network.open()
    try:
        cells = exactness(segmenter, reference, progress(batches, f'cells {precision}'))
        found = check(network.model, segmenter, reference, street(cameras[0], frames),
                      precision=precision, repeats=repeats, bare=bare)
    finally:
        segmenter.close()
    left = leaks(network.gpu, lambda: network.use(reference, cameras[0]))
    # Of a run of its own: asking for them is work, too.
    with ThreadPoolExecutor(1) as other:
        clocks = other.submit(machine.clocks, network.gpu)
        network.bare(cameras[0], repeats)
    found.update(cells=cells.entry(), leaks=left, rounds=network.rounds,
                 clocks_at_work=clocks.result(),
                 without_graphs=found['without_graphs'] or plain)
    found['passed'] = bool(found['passed'] and cells.whole and not plain
                           and not left['device'] and not left['host'])
    return found


def check_stand_ins(options: argparse.Namespace, gpu: trt.GpuInfo) -> dict[str, Any]:
    """
    Return the figures of the stand-in network in both precisions, and of compute-sanitizer.

    :raises BackendError: no nvcc, no PyCUDA, or the GPU fails.
    """
    cameras = tuple(dict.fromkeys((options.camera, *SIZES)))
    report: dict[str, Any] = {'cameras': list(map(str, cameras))}
    for precision in ('fp32', 'fp16'):
        network = prepared(precision, gpu, options.gpu, cameras)
        report[precision] = check_stand_in(network, precision, cameras, options.frames,
                                           options.repeats)
    report['sanitizer'] = {} if options.no_sanitizer else machine.sanitized(
        ['--without-network', '--no-sanitizer', '--frames', '1', '--repeats', '2', '--gpu',
         str(options.gpu), '--camera', str(options.camera)])
    report['passed'] = (all(report[precision]['passed'] for precision in ('fp32', 'fp16'))
                        and not any(report['sanitizer'].values()))
    return report


def check_network(options: argparse.Namespace, gpu: trt.GpuInfo) -> dict[str, Any]:
    """
    Return the figures of a real model's engine, built where it is not there yet.

    :raises SegNodeError: a step fails.
    """
    card = load_card(options.model)
    words = ['--model', options.model, '--precision', options.precision, '--camera',
             str(options.camera), '--batch', '1', '--gpu', str(options.gpu)]
    words += ['--images', str(options.images)] if options.images else []
    if build_engine.main(words):
        raise BackendError('the engine could not be built; the reason stands above')
    verified = open_verified(card, precision=options.precision, device=gpu,
                             cameras=(options.camera,))
    load: LoadEngine = TrtEngine
    bare, plain = bare_network(options.gpu, verified, load, card, options.camera, options.repeats)
    reference = open_segmenter(card, Wish(ONNX_RUNTIME)).segmenter
    candidate = open_segmenter(card, Wish(TENSORRT, gpu=options.gpu, cameras=(options.camera,),
                                          precision=options.precision)).segmenter
    try:
        report = check(card, candidate, reference, street(options.camera, options.frames),
                       precision=options.precision, repeats=options.repeats, bare=bare)
    finally:
        candidate.close()
        reference.close()
    report['passed'] = report['passed'] and not plain
    report['without_graphs'] = report['without_graphs'] or plain
    return report


def run(options: argparse.Namespace) -> dict[str, Any]:
    """
    Check what this machine allows; returns the report as ``--json`` writes it.

    :raises SegNodeError: there is no such GPU, or a step fails.
    """
    gpu = trt.require_gpu(options.gpu)
    before = machine.clocks(options.gpu)
    report: dict[str, Any] = {
        'format': FORMAT, 'gpu': {'number': options.gpu, 'name': gpu.name,
                                  'compute_capability': '{}.{}'.format(*gpu.compute_capability)},
        'machine': machine.machine(), 'versions': machine.versions(),
        'stand_in': check_stand_ins(options, gpu), 'network': None, 'network_reason': ''}
    report['clocks'] = {'before': before, 'after the stand-in': machine.clocks(options.gpu)}
    if options.without_network:
        report['network_reason'] = '--without-network was given'
    else:
        try:
            trt.load()
        except BackendError as error:
            report['network_reason'] = (f'{error}. What needs none has been checked; '
                                        '--without-network asks for no more')
        else:
            report['network'] = check_network(options, gpu)
            report['clocks']['after the network'] = machine.clocks(options.gpu)
    wanted = [report['stand_in']] + ([] if options.without_network else [report['network']])
    report['passed'] = all(part is not None and part['passed'] for part in wanted)
    return report


def main(args: list[str] | None = None) -> int:
    """Run from the command line; 1 when it does not pass, 2 when it cannot run."""
    options = _parser().parse_args(args)
    try:
        report = run(options)
    except SegNodeError as error:
        print(f'gpu_check: {error}', file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    _print(report)
    return 0 if report['passed'] else 1


def _print(report: dict[str, Any]) -> None:
    part = report['stand_in']
    for precision in ('fp32', 'fp16'):
        found = part[precision]
        cells, left = found['cells'], found['leaks']
        print(f'stand-in network {precision}, {", ".join(part["cameras"])}: '
              f'{cells["labels"]} of {cells["pixels"]} labels and {cells["drivable"]} drivable '
              f'pixels differ, the confidence by at most {cells["confidence"]} of 255')
        print('  memory given back: ' + ('yes' if not left['device'] and not left['host'] else
              f'NO: free on the GPU {left["free_device_bytes"]} bytes, held by the process '
              f'{left["resident_mib"]} MiB'))
        _print_network(found)
    for tool, said in part['sanitizer'].items():
        print(f'  compute-sanitizer {tool}: {said or "nothing found"}')
    if report['network']:
        _print_network(report['network'])
    elif report['network_reason']:
        print(f'no network: {report["network_reason"]}')
    print('passed' if report['passed'] else 'FAILED')


def _print_network(found: dict[str, Any]) -> None:
    print(f'  {found["model"]} {found["precision"]}: {found["candidate"]}\n'
          f'  labels equal to {found["reference"]}: {found["labels_equal"]:.4%} on '
          f'{found["frames"]} frames, at least {found["least"]:.2%}: '
          f'{"passed" if found["labels_equal"] >= found["least"] else "FAILED"}')
    if found['without_graphs']:
        print(f'  FAILED: the times are without CUDA graphs: {found["without_graphs"]}')
    rows = {**found['latency_ms'], 'bare network': found['bare_network_ms']}
    for name, times in rows.items():
        if times:
            print(f'  {name:12} p50 {times["p50"]:8.3f}   p95 {times["p95"]:8.3f}   '
                  f'p99 {times["p99"]:8.3f} ms')
    print(f'  frame / network: {found["frame_to_network"]}; a frame every '
          f'{found["interval_ms"]:.3f} ms, {found["interval_to_network"]} of the network alone')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='gpu_check', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--without-network', action='store_true',
        help='the stand-in network only: for machines without TensorRT')
    add('--no-sanitizer', action='store_true', help='leave compute-sanitizer out')
    add('--model', default='deeplabv3plus_lite0_camvid', help='model name or card folder')
    add('--precision', choices=PRECISIONS, default='fp16', help='default: %(default)s')
    add('--camera', type=build_engine.camera_size, default=Size(720, 1280),
        metavar='WIDTHxHEIGHT', help='default: %(default)s')
    add('--frames', type=_some, default=20, help='to compare (default: %(default)s)')
    add('--repeats', type=_some, default=500, help='to time (default: %(default)s)')
    add('--images', type=Path, help='int8: folder of images to calibrate with')
    add('--gpu', type=int, default=0, choices=range(64), metavar='NUMBER',
        help='builds and runs on this GPU, as nvidia-smi counts (default: %(default)s)')
    add('--json', type=Path, help='write the report here')
    return parser


def _some(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f'{text!r} is no whole number from 1')
    return int(text)


if __name__ == '__main__':
    sys.exit(main())
