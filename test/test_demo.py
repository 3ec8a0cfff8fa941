"""The demo as its user runs it: a folder, a video and the rendered street, through real ROS 2."""

import json
from pathlib import Path
import subprocess
import sys

import cv2
import numpy as np
import pytest

from seg_node.image.wire import parse_image
from seg_node.model.taxonomy import load_taxonomy
from seg_node.playback.bags import Ros2Bag

MODELS = Path(__file__).parent / 'models'
TABLE = load_taxonomy('cityscapes19')
COUNTS = ('frames_segmented', 'frames_dropped', 'frames_refused')


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
    assert report['frames_lost_in_transport'] == 0
    assert report['device'] == 'cpu' and 'CPUExecutionProvider' in report['backend']
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
    printed = demo('--input', frames, '--model', MODELS / 'palette_cityscapes19', '--out',
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
    printed = demo('--out', out)
    report = check_results(out)
    assert report['frames_sent'] == 150
    assert 0.5 < report['miou'] <= 1 and 0.8 < report['drivable_iou'] <= 1
    assert 0.8 < report['iou']['Road'] <= 1
    assert 'drivable IoU' in printed


def test_a_video_without_frames_is_refused(tmp_path):
    video = tmp_path / 'empty.mp4'
    video.write_bytes(b'')
    assert 'empty.mp4' in demo('--input', video, '--out', tmp_path / 'out', code=1)


def test_a_wrong_model_is_told_before_anything_starts(tmp_path):
    printed = demo('--model', 'nonsense', '--out', tmp_path / 'out', code=1)
    assert 'nonsense' in printed and 'deeplabv3plus_lite0_camvid' in printed
    assert 'Traceback' not in printed


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
