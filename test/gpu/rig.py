"""
What the tests run on the simulated GPU: a model whose network is a stand-in, and its frames.

The network finds the palette colour in the middle of each of its cells and scores it by a table;
here it is twice, as a kernel in the GPU's stream and in NumPy for the CPU path. Frames are made of
cells in palette colours, so rounding decides nothing and labels must be equal in every pixel.
"""

import os
from pathlib import Path
import struct
from types import SimpleNamespace

import cv2
import numpy as np

from seg_node.devices.host import HostSegmenter
from seg_node.frame import Frame
from seg_node.geometry import fit, Size
from seg_node.gpu.engine_cache import VerifiedEngine
from seg_node.gpu.forms import LINEAR
from seg_node.gpu.launch import Launch
from seg_node.gpu.segmenter import TensorRTSegmenter
from seg_node.image.wire import CompressedImageMessage, Header, ImageMessage
from seg_node.model.card import InputSpec, ModelCard, OutputSpec
from seg_node.model.taxonomy import load_taxonomy
from seg_node.model.tensors import TensorInfo

CLASSES = load_taxonomy('camvid11')
STRIDE = 4
# BGR; the last three are grey, for cameras without colour.
PALETTE = np.array([[40, 40, 215], [40, 215, 40], [215, 40, 40], [40, 215, 215], [215, 40, 215],
                    [215, 215, 40], [40, 40, 40], [128, 128, 128], [215, 215, 215]], np.uint8)
GREYS = 3
SCORES = (np.random.default_rng(5).normal(size=(len(PALETTE), len(CLASSES))) * 3).astype('f4')
MEAN, STD, SCALE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255


def card(kind='logits', **given):
    """Return a model card; ``given`` goes to its InputSpec."""
    given = {'size': (32, 48), 'dtype': 'float32', **given}
    spec = InputSpec('image', 'NCHW', 'rgb', mean=MEAN, std=STD, scale=SCALE, **given)
    output = OutputSpec('scores', kind, 'NCHW', 'labels', CLASSES)
    return ModelCard('stand_in', Path('card.yaml'), Path('model.onnx'), '', spec, (output,), '',
                     {})


def table(kind='logits'):
    """Return the scores of each colour, (colours, classes) float32."""
    if kind == 'logits':
        return SCORES
    exponentials = np.exp(SCORES)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def in_network():
    """Return the palette as it stands in the network's input, float32 RGB."""
    return ((PALETTE[:, ::-1] * SCALE - np.array(MEAN)) / np.array(STD)).astype('f4')


class Engine:
    """The stand-in as an engine on the GPU; see ``seg_node.gpu.engine.Engine``."""

    description = 'stand-in'
    max_batch = 4
    #: smallest and largest (height, width) of a network whose size follows the camera
    sides = (32, 32), (128, 128)
    #: what ``enqueue`` does beside its work, given the GPU; returns what it returns
    trick = staticmethod(lambda gpu: True)
    values = None

    def __init__(self, verified, gpu):
        self.gpu = gpu
        self.card = verified.manifest.card
        spec, kind = self.card.input, self.card.main_output.kind
        self.half = spec.dtype == 'float16'
        height, width = spec.size or (-1, -1)
        self.inputs = [TensorInfo('image', (-1, 3, height, width), spec.dtype)]
        self.outputs = [TensorInfo('scores', (-1, len(CLASSES), -1, -1), 'float32')]
        self.forms = {'image': LINEAR, 'scores': LINEAR}
        self.module = gpu.load(Path(os.environ['STAND_IN']).read_bytes())
        self.constants = []
        for values in (in_network(), table(kind) if self.values is None else self.values):
            memory = gpu.allocate(values.nbytes, 'the stand-in')
            gpu.store(memory.address, values)
            self.constants.append(memory.address)

    def profile(self, name):
        size = self.card.input.size
        low, high = (size, size) if size else self.sides
        return (1, 3, *low), (1, 3, *high), (self.max_batch, 3, *high)

    def execution(self, name, shape):
        return Execution(self, shape)

    def reasons(self):
        return 'the stand-in was told so'

    def close(self):
        self.module = None


class Execution:
    """The stand-in for one shape."""

    def __init__(self, engine, shape):
        self.engine = engine
        self.shape = shape
        self.addresses = {}

    def output_shape(self, name):
        count, _, height, width = self.shape
        return count, len(CLASSES), height // STRIDE, width // STRIDE

    def set_address(self, name, address):
        self.addresses[name] = address

    def enqueue(self, stream):
        engine = self.engine
        count, _, height, width = self.shape
        parameters = struct.pack('4Q7i0Q', self.addresses['image'], self.addresses['scores'],
                                 *engine.constants, count, height, width, STRIDE, len(PALETTE),
                                 len(CLASSES), engine.half)
        engine.module.launch(Launch('stand_in', (1, 1, 1), (1, 1, 1), parameters),
                             engine.gpu.stream_of(stream))
        return engine.trick(engine.gpu)

    def capturable(self, stream):
        return True

    def close(self):
        self.addresses.clear()


class Backend:
    """The stand-in for the CPU path; see ``seg_node.devices.segmenter.Backend``."""

    description, device, max_batch = 'stand-in', 'cpu', None

    def __init__(self, kind='logits'):
        self.kind = kind

    def prepare(self, shape):
        pass

    def run(self, tensor):
        seen = tensor[:, :, STRIDE // 2::STRIDE, STRIDE // 2::STRIDE].transpose(0, 2, 3, 1)
        distance = ((seen[..., None, :].astype('f4') - in_network()) ** 2).sum(axis=-1)
        return [table(self.kind)[distance.argmin(axis=-1)].transpose(0, 3, 1, 2)]

    def close(self):
        pass


def gpu_segmenter(model, engine=Engine, cubin=None, toolkit=None, **given):
    """Return the segmenter under test, on the stand-in."""
    if cubin is None:
        cubin = Path(os.environ['KERNELS']).read_bytes()
    manifest = SimpleNamespace(card=model, build={'toolkit': toolkit})
    verified = VerifiedEngine(b'', cubin, manifest, Path('engines/stand_in'))
    return TensorRTSegmenter(model, verified, load_engine=engine, **given)


def cpu_segmenter(model):
    """Return the truth."""
    return HostSegmenter(model, Backend(model.main_output.kind))


def frame(rng, spec, size, encoding, camera=''):
    """Return a frame of random cells in palette colours."""
    geometry = fit(spec, size)

    def cells(length, content, border):
        return ((border + (np.arange(length) + .5) * content / length) // STRIDE).astype(int)
    rows = cells(size.height, geometry.content.height, geometry.top)
    columns = cells(size.width, geometry.content.width, geometry.left)
    grey = encoding.startswith('mono')
    choice = rng.integers(len(PALETTE) - GREYS if grey else 0, len(PALETTE),
                          (rows[-1] + 1, columns[-1] + 1))
    image = PALETTE[choice[rows][:, columns]]
    if encoding == 'jpeg':
        data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].reshape(-1)
        return Frame(camera, CompressedImageMessage(Header(0, 0, ''), 'jpeg', data))
    data, step = encode(image, encoding)
    return Frame(camera, ImageMessage(Header(0, 0, ''), size.height, size.width, encoding, False,
                                      step, data))


def encode(image, encoding):
    """Return the bytes of a BGR image in an encoding, and its step (bgr8 with padded rows)."""
    height, width = image.shape[:2]
    if encoding == 'bgr8':
        padded = np.zeros((height, width * 3 + 20), np.uint8)
        padded[:, :width * 3] = image.reshape(height, -1)
        return padded.reshape(-1), width * 3 + 20
    codes = {'rgb8': cv2.COLOR_BGR2RGB, 'bgra8': cv2.COLOR_BGR2BGRA,
             'rgba8': cv2.COLOR_BGR2RGBA}
    if encoding in codes:
        packed = cv2.cvtColor(image, codes[encoding])
        return packed.reshape(-1), packed.shape[1] * packed.shape[2]
    if encoding == 'mono8':
        return np.ascontiguousarray(image[..., 0]).reshape(-1), width
    if encoding == 'bayer_rggb8':
        mosaic = image[..., 1].copy()
        mosaic[::2, ::2], mosaic[1::2, 1::2] = image[::2, ::2, 2], image[1::2, 1::2, 0]
        return mosaic.reshape(-1), width
    return encode_yuv(image, encoding)


def encode_yuv(image, encoding):
    """Return an image as BT.601 limited range YUV."""
    height, width = image.shape[:2]
    blue, green, red = np.moveaxis(image.astype(float), -1, 0)
    luma = np.round(16 + .257 * red + .504 * green + .098 * blue)
    u = 128 - .148 * red - .291 * green + .439 * blue
    v = 128 + .439 * red - .368 * green - .071 * blue
    if encoding.startswith('nv'):
        pair = [u, v] if encoding == 'nv12' else [v, u]
        chroma = np.stack([p.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
                           for p in pair], axis=-1)
        data = np.concatenate([luma.reshape(-1), np.round(chroma).reshape(-1)])
        return data.astype(np.uint8), width
    u, v = (p.reshape(height, width // 2, 2).mean(axis=2) for p in (u, v))
    parts = {'uyvy': (u, luma[:, ::2], v, luma[:, 1::2]),
             'yuv422_yuy2': (luma[:, ::2], u, luma[:, 1::2], v)}[encoding]
    return np.round(np.stack(parts, axis=-1)).astype(np.uint8).reshape(-1), width * 2


def check(found, wanted, drivable=None):
    """Compare both paths: labels and drivable exactly, confidence and entropy to 1."""
    assert len(found) == len(wanted)
    lut = CLASSES.drivable_lut(drivable)
    for one, truth in zip(found, wanted, strict=True):
        if isinstance(truth, Exception):
            assert type(one) is type(truth) and (one.reason, str(one)) == (
                truth.reason, str(truth)), (one, truth)
            continue
        assert not isinstance(one, Exception), one
        assert one.geometry == truth.geometry
        np.testing.assert_array_equal(one.labels, truth.labels)
        assert (one.drivable is None) == (truth.drivable is None)
        if truth.drivable is not None:
            np.testing.assert_array_equal(one.drivable, lut[truth.labels])
        assert (one.confidence is None) == (truth.confidence is None)
        if truth.confidence is not None:
            difference = one.confidence.astype(int) - truth.confidence
            assert np.abs(difference).max() <= 1
        assert (one.entropy is None) == (truth.entropy is None)
        if truth.entropy is not None:
            assert np.abs(one.entropy.astype(int) - truth.entropy).max() <= 1


SIZES = (Size(60, 80), Size(48, 74))
ENCODINGS = ('bgr8', 'rgb8', 'bgra8', 'rgba8', 'mono8', 'uyvy', 'yuv422_yuy2', 'nv12', 'nv21',
             'bayer_rggb8', 'jpeg')
