"""The demo as its user runs it: folders, bags and the shipped drive, through real ROS 2."""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
from patience import patience
import pytest

from seg_node.image.wire import build_image, Header, parse_image
from seg_node.model.taxonomy import load_taxonomy
from seg_node.playback.bag_writer import BagWriter
from seg_node.playback.bags import Ros2Bag
from seg_node.playback.sources import IMAGE
from seg_node.tools.demo import main

MODELS = Path(__file__).parent / 'models'
TABLE = load_taxonomy('cityscapes19')
PALETTE = MODELS / 'palette_cityscapes19'
COUNTS = ('frames_segmented', 'frames_dropped', 'frames_refused', 'frames_lost_in_transport')


def demo(*arguments, code=0):
    """Run the demo as a process of its own; return what it printed."""
    done = subprocess.run([sys.executable, '-m', 'seg_node.tools.demo', *map(str, arguments)],
                          capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def check_results(out):
    """Check what every run must leave behind; return the report."""
    report = json.loads((out / 'report.json').read_text())
    assert report['frames_sent'] == sum(report[name] for name in COUNTS) > 0
    assert report['frames_unaccounted'] == 0 and report['problems'] == []
    assert report['device'] == 'cpu' and 'CPU' in report['backend']
    latency = report['latency_ms']
    assert 0 < latency['p50'] <= latency['p95'] <= latency['p99']
    assert {'decode', 'preprocess', 'network', 'labels', 'publish'} <= set(report['stages_ms'])
    sheet = cv2.imread(str(out / 'contact_sheet.png'))
    assert sheet is not None and sheet.std() > 5
    video = cv2.VideoCapture(str(out / 'overlay.mp4'))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == report['frames_sent']
    return report


def painted(count):
    """Return label images that move, and their pictures in class colours."""
    blocks = np.random.default_rng(0).integers(0, 19, (15, 20 + count), np.uint8)
    big = blocks.repeat(8, axis=0).repeat(8, axis=1)
    labels = [big[:, 8 * index:8 * index + 160] for index in range(count)]
    return labels, [TABLE.palette_bgr()[one] for one in labels]


def test_folder_of_images_gives_the_exact_masks(tmp_path):
    labels, images = painted(12)
    frames = tmp_path / 'frames'
    frames.mkdir()
    for index, image in enumerate(images):
        cv2.imwrite(str(frames / f'{index}.png'), image)
    printed = demo('--input', frames, '--model', PALETTE, '--out',
                   tmp_path / 'out')
    report = check_results(tmp_path / 'out')
    assert report['frames_sent'] == 12 and report['frames_segmented'] >= 6
    assert 'miou' not in report and '12 sent' in printed
    with Ros2Bag(tmp_path / 'out' / 'result') as bag:
        masks = [parse_image(record.data) for record in bag.records(['/seg_node/camera/mask'])]
    assert len(masks) == report['frames_segmented']
    start = None
    for mask in masks:
        stamp_ns = mask.header.stamp_ns
        found = mask.data.reshape(120, 160)
        index = next(i for i, one in enumerate(labels) if (one == found).all())
        if start is not None:
            assert round((stamp_ns - start[0]) / 1e8) == index - start[1]
        start = start or (stamp_ns, index)


@pytest.mark.slow
def test_the_shipped_drive_is_measured_against_its_truth(tmp_path):
    out = tmp_path / 'out'
    printed = demo('--out', out, '--duration', 1.5, '--rate', 0.5, '--transport', 'compressed')
    report = check_results(out)
    assert report['frames_sent'] == 15
    assert 0.5 < report['miou'] <= 1 and 0.8 < report['drivable_iou'] <= 1
    assert 0.9 < report['iou']['Road'] <= 1 and report['classes_scored'] == len(report['iou'])
    assert 'drivable IoU' in printed and str(out) in printed


DEPTH = np.zeros((120, 160, 8), np.uint8)  # bytes of doubles


def write_bag(path, topics):
    """Write a bag with the messages (time, topic, stamp, encoding, image), ten a second."""
    with BagWriter(path) as bag:
        for topic, encoding, stamps, images in topics:
            bag.add_topic(topic, IMAGE)
            for index, (stamp_ns, image) in enumerate(zip(stamps, images, strict=True)):
                header = Header(*divmod(stamp_ns, 10**9), 'camera')
                height, width = image.shape[:2]
                bag.write(topic, 10**9 + index * 10**8, build_image(
                    header, height, width, encoding, image.reshape(-1),
                    step=image.nbytes // height))


def test_of_several_cameras_each_is_told_about(tmp_path):
    """Stamps that repeat, one camera that cannot be used: every message is accounted for."""
    _, images = painted(8)
    depth = [DEPTH] * 8
    stamps = [10**9 + index * 10**8 for index in range(8)]
    write_bag(tmp_path / 'bag', [('/front/image_raw', 'bgr8', [0] * 4 + stamps[:4], images),
                                 ('/rear/image_raw', 'bgr8', stamps, images),
                                 ('/depth/image', '64FC1', stamps, depth)])
    out = tmp_path / 'out'
    out.mkdir()
    for name in ('overlay_depth.mp4', 'contact_sheet.png', 'mine.txt'):
        (out / name).touch()
    printed = demo('--input', tmp_path / 'bag', '--model', PALETTE, '--out', out)
    report = json.loads((out / 'report.json').read_text())
    assert report['frames_sent'] == sum(report[name] for name in COUNTS) == 24
    for name in ('front', 'rear'):
        account = report['cameras'][name]
        assert account['sent'] == 8 and account['unaccounted'] == 0 and account['masks'] > 0
    depth = report['cameras']['depth']
    assert depth['refused'] + depth['dropped'] == depth['received'] and depth['refused'] > 0
    assert report['problems'] == [] and any(
        'depth: none was segmented' in note and '64FC1' in note for note in report['notices'])
    assert any('/front/image_raw: 4 of 8 stamps are zero' in note for note in report['notices'])
    assert set(report['files']) == {path.name for path in out.iterdir()} - {'mine.txt'} == {
        'contact_sheet_front.png', 'overlay_front.mp4', 'contact_sheet_rear.png',
        'overlay_rear.mp4', 'report.json', 'result', 'node.log'}
    assert all(name in printed for name in report['files']) and 'depth  ' in printed
    # What came out is no camera to begin with, and is not replaced by itself.
    again = demo('--input', out / 'result', '--model', PALETTE, '--out', out, code=1)
    assert 'holds no camera' in again and '/seg_node/front/mask' in again
    again = demo('--input', out / 'overlay_rear.mp4', '--model', PALETTE, '--out', out, code=1)
    assert 'Give --out another folder' in again and (out / 'overlay_rear.mp4').stat().st_size


def test_nothing_but_refusals_is_a_failure_with_the_reason(tmp_path):
    write_bag(tmp_path / 'bag', [('/depth/image', '64FC1', [1, 2, 3],
                                  [DEPTH] * 3)])
    printed = demo('--input', tmp_path / 'bag', '--model', PALETTE, '--out', tmp_path / 'out',
                   code=1)
    assert 'no mask came back (depth: ' in printed and '64FC1' in printed
    assert 'Traceback' not in printed and not list((tmp_path / 'out').glob('*.png'))
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert report['frames_refused'] == 3 and report['frames_unaccounted'] == 0


@pytest.fixture
def playing(tmp_path):
    """Start a demo that would play for minutes; return it and its node's process id."""
    frames = tmp_path / 'frames'
    frames.mkdir()
    labels, images = painted(1)
    cv2.imwrite(str(frames / '0.png'), images[0])
    for index in range(1, 3000):
        (frames / f'{index}.png').symlink_to(frames / '0.png')
    process = subprocess.Popen(
        [sys.executable, '-m', 'seg_node.tools.demo', '--input', str(frames), '--model',
         str(PALETTE), '--out', str(tmp_path / 'out')], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
    bag = tmp_path / 'out' / 'result'
    end = time.monotonic() + patience(90)
    while not (children.read_text().split() and bag.exists() and sum(
            path.stat().st_size for path in bag.iterdir()) > 100_000):
        assert process.poll() is None and time.monotonic() < end, process.stdout.read()
        time.sleep(0.05)
    [node] = map(int, children.read_text().split())
    yield process, node
    process.kill()
    process.wait()


def gone(pid):
    """Return whether a process has ended soon."""
    end = time.monotonic() + 30
    while Path(f'/proc/{pid}').exists() and time.monotonic() < end:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
        if state == 'Z':  # ended; nobody has asked for its exit code, and nobody is left to
            return True
        time.sleep(0.05)
    return not Path(f'/proc/{pid}').exists()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_node_stays_behind(playing, number):
    process, node = playing
    process.send_signal(number)
    code = process.wait(patience(60))
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    assert gone(node) and 'Traceback' not in process.stdout.read()


def test_a_node_that_dies_still_leaves_a_report_and_pictures(playing, tmp_path):
    process, node = playing
    os.kill(node, signal.SIGKILL)
    printed, _ = process.communicate(timeout=patience(60))
    assert process.returncode == 1 and 'the node ended with code -9' in printed, printed
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert report['frames_segmented'] > 0
    assert report['frames_sent'] == (sum(report[name] for name in COUNTS)
                                     + report['frames_unaccounted'])
    assert cv2.imread(str(tmp_path / 'out' / 'contact_sheet.png')) is not None
    assert 'contact_sheet.png' in report['files']


@pytest.mark.parametrize('arguments', [('--rate', '0'), ('--rate', '-1'), ('--rate', 'nan'),
                                       ('--duration', 'inf'), ('--rate', 'fast')])
def test_wrong_usage_is_told_at_once(tmp_path, capsys, arguments):
    out = tmp_path / 'out'
    with pytest.raises(SystemExit, match='2'):
        main([*arguments, '--out', str(out)])
    assert arguments[0] in capsys.readouterr().err and not out.exists()


def test_a_video_without_frames_is_refused(tmp_path):
    video = tmp_path / 'empty.mp4'
    video.write_bytes(b'')
    assert 'empty.mp4' in demo('--input', video, '--out', tmp_path / 'out', code=1)


def test_a_wrong_model_is_told_before_anything_starts(tmp_path):
    printed = demo('--model', 'nonsense', '--out', tmp_path / 'out', code=1)
    assert 'nonsense' in printed and 'deeplabv3plus_lite0_camvid' in printed
    assert 'Traceback' not in printed
    printed = demo('--out', '/dev/null', code=1)
    assert 'demo: --out /dev/null cannot be made: File exists' in printed


def test_a_node_that_cannot_start_says_why(tmp_path):
    """The node's own words reach the user of the demo."""
    _, images = painted(1)
    (tmp_path / 'frames').mkdir()
    cv2.imwrite(str(tmp_path / 'frames' / '1.png'), images[0])
    folder = tmp_path / 'model'
    folder.mkdir()
    card = (MODELS / 'palette_cityscapes19' / 'card.yaml').read_text()
    (folder / 'card.yaml').write_text(card.replace('name: logits', 'name: scores'))
    (folder / 'model.onnx').write_bytes(
        (MODELS / 'palette_cityscapes19' / 'model.onnx').read_bytes())
    printed = demo('--input', tmp_path / 'frames', '--model', folder, '--out', tmp_path / 'out',
                   code=1)
    assert 'the node ended with code 1' in printed and "'scores'" in printed
