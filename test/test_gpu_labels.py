"""
The whole road of a frame by the kernels, as compiled for the CPU, against the CPU path.

Both get the shipped model's scores in float32, and every label, at every size, must be equal. What
is left to a GPU is the network's own rounding. More frames: SEG_NODE_FRAMES=20.
"""

import os

from gpu.cpu_kernels import Kernels, Post, preprocess
import numpy as np
import pytest

from seg_node import preprocess as cpu
from seg_node.devices import backend as backends
from seg_node.devices.heads import read_head
from seg_node.geometry import fit, Size
from seg_node.gpu.launch import UploadImage
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import load_card
from seg_node.scoring.drive import Drive, resized

FRAMES = int(os.environ.get('SEG_NODE_FRAMES', '1'))


@pytest.fixture(scope='module')
def network():
    card = load_card('deeplabv3plus_lite0_camvid')
    backend = backends.load('onnxruntime', card, providers=['CPUExecutionProvider'], threads=1)
    yield card, backend
    backend.close()


@pytest.mark.parametrize('camera', [Size(720, 1280), Size(1080, 1920), Size(480, 640),
                                    Size(1200, 1920)], ids=str)
def test_labels_of_the_drive_are_equal_in_every_pixel(network, camera):
    card, backend = network
    kernels, drive = Kernels(), Drive()
    geometry = fit(card.input, camera)
    source = UploadImage('bgr8', *camera, 3 * camera.width)
    preprocessor, lut = cpu.Preprocessor(card.input), card.main_output.classes.drivable_lut()
    for image in resized(drive, range(0, len(drive), len(drive) // FRAMES)[:FRAMES], camera):
        message = ImageMessage(Header(0, 0, ''), *camera, 'bgr8', False, source.step,
                               image.reshape(-1))
        batch = preprocess(kernels, card.input, [(message, source)], [geometry])
        truth = preprocessor.tensor([image], [geometry])
        np.testing.assert_array_equal(batch.view(np.uint32), truth.view(np.uint32))
        scores = backend.run(batch)[0]
        parts = Post(kernels, scores, [geometry], luts=[lut], histogram=False,
                     temperature=card.main_output.temperature).parts(0)
        labels, sure = read_head(card.main_output, scores[0], geometry, True)
        np.testing.assert_array_equal(parts.labels, labels)
        np.testing.assert_array_equal(parts.products[0], lut[labels])
        assert np.abs(parts.confidence.astype(int) - sure).max() <= 1
        assert len(np.unique(labels)) > 3
