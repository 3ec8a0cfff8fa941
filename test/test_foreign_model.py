"""Somebody else's model, run from a card that was written with models/README.md alone."""

import cv2
import numpy as np
import pytest

from seg_node.devices import backend as backends
from seg_node.devices.host import HostSegmenter
from seg_node.frame import Frame, StageClock
from seg_node.image import wire
from seg_node.model.card import load_card
from seg_node.pipeline import Pipeline
from seg_node.products import NAMES

FOREIGN = """
name: road-segmentation-adas-0001
description: Road, curb and mark for driver assistance, from the Open Model Zoo.
file: {file}
sha256: be5e1f6bb8a744197ffdbe36aa7d4612617bce4073a3a0c1f754e1a2b1e8965e
licences: {{code: Apache-2.0, weights: Apache-2.0, data: unknown}}
input:
  name: data
  layout: NHWC
  colour: bgr
  dtype: float32
  scale: 1
  mean: [0, 0, 0]
  std: [1, 1, 1]
  size: [512, 896]
  resize: stretch
outputs:
  - name: tf.identity
    role: labels
    kind: probabilities
    layout: NHWC
    classes:
      - {{id: 0, name: background, colour: [0, 0, 0],       drivable: false, dynamic: false}}
      - {{id: 1, name: road,       colour: [128, 64, 128],  drivable: true,  dynamic: false}}
      - {{id: 2, name: curb,       colour: [196, 196, 196], drivable: false, dynamic: false}}
      - {{id: 3, name: mark,       colour: [255, 255, 255], drivable: true,  dynamic: false}}
"""


def test_road_of_camvid(tmp_path, data_dir):
    """Its road and mark against CamVid's Road, every fourth frame of val."""
    (tmp_path / 'card.yaml').write_text(FOREIGN.format(
        file=data_dir / 'models' / 'road-segmentation-adas-0001' / 'model.onnx'))
    card = load_card(tmp_path)
    backend = backends.load('onnxruntime', card, providers=['CPUExecutionProvider'], threads=0)
    pipeline = Pipeline(HostSegmenter(card, backend), card.main_output.classes)
    paths = sorted(data_dir.glob('data/camvid/val/images/*.jpg'))[::4]
    if not paths:
        pytest.skip('SEG_NODE_DATA has no data/camvid/val/images')
    both = either = 0
    for path in paths:
        truth = cv2.imread(str(path.parents[1] / 'labels' / f'{path.stem}.png'), 0)
        message = wire.CompressedImageMessage(
            wire.Header(0, 0, 'cam'), 'jpeg', np.frombuffer(path.read_bytes(), np.uint8))
        result, = pipeline.process([Frame('cam', message)], [NAMES], StageClock())
        known, road, drivable = truth != 11, truth == 3, result.images['drivable'] > 0
        both += np.count_nonzero(drivable & road & known)
        either += np.count_nonzero((drivable | road) & known)
    assert both / either >= 0.93
