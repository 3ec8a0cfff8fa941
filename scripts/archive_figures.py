"""
Measure what labelling an archive costs beside the bare pipeline, in pairs A B A B.

The bare pipeline reads the same recording by the same source and makes the same products, one
process a worker, and writes nothing. Rates are frames a second in all, without the starts.

    python scripts/archive_figures.py drive --workers 1 --pairs 2
"""

import argparse
from pathlib import Path
import re
import shutil
import subprocess
import sys
from tempfile import TemporaryDirectory
import time

ROOT = Path(__file__).resolve().parents[1]


def bare(model: str, path: str) -> None:
    """Run the pipeline over a recording when told to begin; print how long that took."""
    import cv2

    from seg_node.archive.order import Order
    from seg_node.devices.choose import ONNX_RUNTIME, Wish
    from seg_node.frame import Frame, StageClock
    from seg_node.image import wire
    from seg_node.playback.camera_runs import camera_runs
    from seg_node.playback.open_source import open_source
    from seg_node.playback.read_ahead import ReadAhead
    from seg_node.ros.transport import keep_buffers
    keep_buffers()
    cv2.setNumThreads(1)
    loaded = Order(model, Wish(ONNX_RUNTIME, threads=1)).spec().open()
    print('ready', flush=True)
    input()
    count, start, core = 0, time.perf_counter(), time.process_time()
    with open_source(path) as source:
        [run] = camera_runs(source)
        with ReadAhead(source.records([run.source_topic], epoch_ns=0)) as records:
            for record in records:
                frame = Frame(run.name, wire.parse_image(record.data), record.time_ns)
                loaded.pipeline.process([frame], [('mask', 'confidence', 'drivable')],
                                        StageClock())
                count += 1
    print(count, time.perf_counter() - start, time.process_time() - core, flush=True)


def bare_rate(model: str, path: str, workers: int) -> tuple[float, float]:
    """Return frames a second of some bare pipelines at once, and core milliseconds a frame."""
    processes = [subprocess.Popen([sys.executable, __file__, path, '--model', model, '--bare'],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                 for _ in range(workers)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == 'ready\n'
    for process in processes:
        assert process.stdin is not None
        process.stdin.write('\n')
        process.stdin.flush()
    told = [[float(word) for word in process.communicate()[0].split()] for process in processes]
    frames = sum(count for count, _, _ in told)
    return frames / max(spent for _, spent, _ in told), 1e3 * sum(
        core for _, _, core in told) / frames


def archive_rate(model: str, path: str, workers: int) -> tuple[float, float]:
    """Return the same of an archive of the recording, as often as there are workers."""
    with TemporaryDirectory() as folder:
        for index in range(workers):
            copy = Path(folder, 'in', str(index), Path(path).name)
            copy.parent.mkdir(parents=True)
            (shutil.copytree if Path(path).is_dir() else shutil.copy)(path, copy)
        done = subprocess.run(
            [sys.executable, '-m', 'seg_node.tools.archive', 'label', f'{folder}/in', '--out',
             f'{folder}/out', '--model', model, '--backend', 'onnxruntime', '--workers',
             str(workers)], capture_output=True, text=True, check=False)
        found = re.search(r'\((\S+) a second, (\S+) core ms', done.stdout)
        assert found, done.stdout + done.stderr
        return float(found.group(1)), float(found.group(2))


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('recording')
    parser.add_argument('--model', default='deeplabv3plus_lite0_camvid')
    parser.add_argument('--workers', type=int, default=1)
    parser.add_argument('--pairs', type=int, default=2)
    parser.add_argument('--bare', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        bare(options.model, options.recording)
        return
    for _ in range(options.pairs):
        rate, core_ms = bare_rate(options.model, options.recording, options.workers)
        own_rate, own_ms = archive_rate(options.model, options.recording, options.workers)
        print(f'{options.workers} workers: bare {rate:.2f} frames/s, {core_ms:.1f} core ms each; '
              f'archive {own_rate:.2f} frames/s, {own_ms:.1f} core ms each: '
              f'{own_ms / core_ms:.3f}', flush=True)


if __name__ == '__main__':
    main()
