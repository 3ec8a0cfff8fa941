"""The CUDA kernels, run on the CPU by the shim, against decode, numpy and the CPU's labels."""

import ctypes
from dataclasses import replace

import cv2
from gpu.cpu_kernels import at, buffer, camera_image, Kernels, Post, preprocess, upload
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from seg_node import labels, reference
from seg_node.entropy import upsample_entropy
from seg_node.geometry import fit, Size
from seg_node.gpu import launch
from seg_node.gpu.forms import FORMS, SCORES
from seg_node.gpu.launch import ResultBlock, UploadImage
from seg_node.image import decode
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import InputSpec
from seg_node.preprocess import Preprocessor
from seg_node.rectification import Rectification

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.fixture(scope='module')
def kernels():
    return Kernels()


# --- the number formats of the shim, on which all else rests ---

def test_every_half(kernels):
    library = kernels.library
    library.cpusim_from_half.restype = ctypes.c_float
    library.cpusim_from_half.argtypes = [ctypes.c_uint16]
    library.cpusim_to_half.restype = ctypes.c_uint16
    library.cpusim_to_half.argtypes = [ctypes.c_float]
    words = np.arange(2 ** 16, dtype=np.uint16)
    values = words.view(np.float16).astype(np.float32)
    got = np.array([library.cpusim_from_half(int(word)) for word in words], np.float32)
    np.testing.assert_array_equal(got, values)
    finite = np.isfinite(values)
    # each half, and what lies halfway and a little beside, must round as numpy does
    steps = np.concatenate([values[finite], np.nextafter(values[finite], np.float32(9e9)),
                            (values[finite][:-1] + values[finite][1:]) / 2])
    back = np.array([library.cpusim_to_half(float(value)) for value in steps], np.uint16)
    np.testing.assert_array_equal(back, steps.astype(np.float16).view(np.uint16))


# --- preprocessing ---

def spec(size, dtype='float16', layout='NCHW', colour='rgb', resize='letterbox', mean=MEAN,
         std=STD, scale=1.0, pad=114):
    return InputSpec('x', layout, colour, dtype, mean, std, scale, size=size, resize=resize,
                     pad_value=pad)


def check_input(got, card, geometry, bgr):
    """The very bits that the network gets on the CPU."""
    truth = Preprocessor(card).tensor([bgr], [geometry])[0]
    np.testing.assert_array_equal(got.view(np.uint8), truth.view(np.uint8))


@pytest.mark.parametrize('encoding', launch.ENCODINGS)
@pytest.mark.parametrize('camera', [(48, 64), (150, 98), (30, 120)])
def test_every_encoding(kernels, encoding, camera):
    """Down, up and sideways; rows padded; the picture is what decode makes of the message."""
    card = spec((60, 90))
    message, source = camera_image(encoding, *camera, padding=6)
    geometry = fit(card, Size(*camera))
    got = preprocess(kernels, card, [(message, source)], [geometry])
    check_input(got[0], card, geometry, decode.decode(message))


@pytest.mark.parametrize('encoding', ['uyvy', 'yuyv', 'nv12', 'nv21'])
def test_every_yuv_colour_is_opencvs(kernels, encoding):
    """Same-sized network, float32, scale 1: the colours come back as the integers they are."""
    levels = np.array([0, 1, 15, 16, 17, 40, 80, 127, 128, 129, 180, 234, 235, 236, 254, 255])
    y, u, v = (grid.reshape(-1) for grid in np.meshgrid(levels, levels, levels))
    height, width = 2, 2 * len(y)
    luma, chroma = np.repeat(y, 2), np.stack([u, v], -1)
    if encoding in ('nv12', 'nv21'):
        chroma = chroma if encoding == 'nv12' else chroma[:, ::-1]
        data, step = np.concatenate([luma, luma, chroma.reshape(-1)]), width
    else:
        order = [u, y, v, y] if encoding == 'uyvy' else [y, u, y, v]
        data, step = np.tile(np.stack(order, -1).reshape(-1), 2), 2 * width
    message = ImageMessage(Header(0, 0, ''), height, width, encoding, False, step,
                           data.astype(np.uint8))
    card = spec((height, width), 'float32', 'NHWC', 'bgr', mean=(0, 0, 0), std=(1, 1, 1))
    got = preprocess(kernels, card, [(message, UploadImage(encoding, height, width, step))],
                     [fit(card, Size(height, width))])
    np.testing.assert_array_equal(got[0], decode.decode(message))


@pytest.mark.parametrize('dtype', ['float16', 'float32', 'uint8'])
@pytest.mark.parametrize('layout', ['NCHW', 'NHWC'])
@pytest.mark.parametrize('colour', ['rgb', 'bgr'])
def test_every_network(kernels, dtype, layout, colour):
    values = {'uint8': ((0, 0, 0), (1, 1, 1), 1.0), 'float16': (MEAN, STD, 1.0),
              'float32': ((.485, .456, .406), (.229, .224, .225), 1 / 255)}[dtype]
    card = spec((61, 97), dtype, layout, colour, 'letterbox', *values)
    for camera in ((50, 130), (130, 50)):
        message, source = camera_image('bgr8', *camera, padding=5)
        geometry = fit(card, Size(*camera))
        got = preprocess(kernels, card, [(message, source)], [geometry])
        check_input(got[0], card, geometry, decode.decode(message))


def test_cameras_of_different_size_and_encoding_in_one_batch(kernels):
    card = spec((64, 96))
    frames = [camera_image(encoding, *size, seed=n) for n, (encoding, size) in enumerate(
        [('bgr8', (50, 99)), ('nv12', (128, 90)), ('yuyv', (64, 96)), ('mono8', (7, 300))])]
    geometries = [fit(card, Size(source.height, source.width)) for _, source in frames]
    batch = preprocess(kernels, card, frames, geometries)
    for item, (message, _), geometry in zip(batch, frames, geometries, strict=True):
        check_input(item, card, geometry, decode.decode(message))


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32 - 1), *[st.integers(1, 200)] * 4)
def test_every_resize_is_opencvs(kernels, seed, camera_h, camera_w, height, width):
    """Rows and columns outside of the image, weights that sum to 2047 or 2049, exact halves."""
    card = spec((height, width), 'uint8', 'NHWC', 'bgr', 'stretch', (0, 0, 0), (1, 1, 1))
    message, source = camera_image('bgr8', camera_h, camera_w, seed=seed)
    got = preprocess(kernels, card, [(message, source)], [fit(card, Size(camera_h, camera_w))])
    truth = cv2.resize(decode.decode(message), (width, height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(got[0], truth)


@pytest.mark.parametrize('camera, content', [
    ((480, 640), (540, 720)), ((720, 1280), (448, 768)), ((1080, 1920), (540, 960)),
    ((1200, 1920), (480, 768)), ((480, 640), (480, 864))])
def test_the_usual_resizes_are_opencvs(kernels, camera, content):
    card = spec(content, 'uint8', 'NHWC', 'bgr', 'stretch', (0, 0, 0), (1, 1, 1))
    message, source = camera_image('bgr8', *camera)
    got = preprocess(kernels, card, [(message, source)], [fit(card, Size(*camera))])
    truth = cv2.resize(decode.decode(message), content[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(got[0], truth)


@pytest.mark.parametrize('encoding', ['rgb8', 'nv12'])
@pytest.mark.parametrize('pad', [0, 114])
def test_remap(kernels, encoding, pad):
    """A rotation that leaves the image at the corners, and positions that are no numbers."""
    card = spec((70, 90), 'float32', resize='letterbox', pad=pad)
    message, source = camera_image(encoding, 60, 80)
    geometry = fit(card, Size(60, 80))
    y, x = np.mgrid[:geometry.content.height, :geometry.content.width].astype(np.float32)
    remap = np.stack([x * .9 + y * .3 - 6, y * .9 - x * .2 + 3], -1).astype(np.float32)
    remap[5, 5] = np.nan, 10
    remap[6, 5] = 10, np.inf
    remap[7, 5:9] = [[-.5, 3], [-1.01, 3], [79.5, 59.5], [80.01, 59.6]]
    remap[8, 5:8] = [[-.99, -.99], [3e9, 3], [79.984375, -1e30]]
    remap[9, 5:8] = [[3 + 1 / 64, 7], [3 + 3 / 64, 7], [20.25, 30.75]]  # halves of 32nds
    rectified = replace(geometry, rectification=Rectification((60, 80), lambda size: remap))
    got = preprocess(kernels, card, [(message, source)], [geometry], remap)
    check_input(got[0], card, rectified, decode.decode(message))


def laid(planes, form):
    """Return (C, H, W) as it lies in memory, by NumPy alone; room for more channels is 0."""
    count, height, width = planes.shape
    room = np.zeros((form.padded(count), height, width), planes.dtype)
    room[:count] = planes
    if not form.vector:
        return room.transpose(1, 2, 0).reshape(-1)
    return room.reshape(-1, form.vector, height, width).transpose(0, 2, 3, 1).reshape(-1)


@pytest.mark.parametrize('name', FORMS)
@pytest.mark.parametrize('colour', ['rgb', 'bgr'])
def test_every_form_of_the_input(kernels, name, colour):
    card, form = spec((37, 61), 'float16', colour=colour), FORMS[name]
    message, source = camera_image('bgr8', 50, 70)
    geometry, bgr = fit(card, Size(50, 70)), decode.decode(message)
    table = launch.tables_for(geometry, Size(8, 8))
    data, tables, values = (upload(part) for part in (message.data, table.data,
                                                      launch.input_values(card)))
    output = buffer(launch.input_bytes(card, geometry.network, form) + 64, fill=0)
    kernels.run(launch.preprocess_launch(
        card, geometry, source, table, upload=at(data), tables=at(tables), values=at(values),
        output=at(output), form=form))
    truth = Preprocessor(card).tensor([bgr], [geometry])[0]
    np.testing.assert_array_equal(output[:-64].view(np.uint16), laid(truth.view(np.uint16), form))
    assert not output[-64:].any()


@pytest.mark.parametrize('name', SCORES)
@pytest.mark.parametrize('dtype', ['f2', 'f4'])
def test_every_form_of_the_scores(kernels, name, dtype):
    rng, form = np.random.default_rng(16), FORMS[name]
    geometries = [fit(spec((64, 96)), Size(75, 101)), fit(spec((64, 96)), Size(64, 96))]
    values = np.stack([smooth(rng, 11, 16, 24) for _ in geometries]).astype(dtype)
    plain = Post(kernels, values, geometries)
    other = Post(kernels, values, geometries, form=form, given=np.concatenate(
        [laid(image, form) for image in values]))
    for index in range(2):
        one, two = plain.parts(index), other.parts(index)
        np.testing.assert_array_equal(one.labels, two.labels)
        np.testing.assert_array_equal(one.confidence, two.confidence)
        assert one.range == two.range


def test_one_pixel(kernels):
    card = spec((3, 5), 'float32', resize='stretch')
    message, source = camera_image('bgr8', 1, 1)
    geometry = fit(card, Size(1, 1))
    got = preprocess(kernels, card, [(message, source)], [geometry])
    check_input(got[0], card, geometry, decode.decode(message))


# --- labels ---

def smooth(rng, classes, height, width):
    """Make road-like logits: few large regions."""
    coarse = rng.normal(size=(classes, max(2, height // 8), max(2, width // 8))).astype('f4')
    return (np.stack([cv2.resize(plane, (width, height)) for plane in coarse]) * 6
            + rng.normal(size=(classes, height, width)) * .2)


def busy(rng, classes, height, width):
    coarse = rng.normal(size=(classes, height // 2 + 1, width // 2 + 1)).astype('f4')
    return np.stack([cv2.resize(plane, (width, height)) for plane in coarse]) * 4


def noise(rng, *shape):
    return rng.normal(size=shape) * 3


def check_labels(kernels, values, geometry, layout='NCHW', corners=False, softmax=True,
                 temperature=1.0):
    """Compare one frame with the CPU's path; return the share of confidences that differ."""
    post = Post(kernels, values[None], [geometry], layout, softmax, corners,
                temperature=temperature, entropy=True)
    scores = values.astype(np.float32)
    rows = geometry.rows(scores.shape[1], corners)
    columns = geometry.columns(scores.shape[2], corners)
    with np.errstate(over='ignore'):
        probabilities = reference.softmax(scores, temperature) if softmax else scores
    truth, sure = labels.upsample_argmax(scores, rows, columns, probabilities)
    parts = post.parts(0)
    np.testing.assert_array_equal(parts.labels, truth)
    np.testing.assert_array_equal(parts.histogram, np.bincount(truth.reshape(-1), minlength=256))
    assert parts.range.finite
    assert parts.range.low == min(scores.min(), 0) and parts.range.high == max(scores.max(), 0)
    torn = upsample_entropy(scores, rows, columns, temperature if softmax else None)
    assert np.abs(parts.entropy.astype(int) - torn).max() <= 1
    difference = np.abs(parts.confidence.astype(int) - sure)
    assert difference.max() <= 1
    return np.count_nonzero(difference) / difference.size


@pytest.mark.parametrize('stride', [2, 4, 8, 16])
@pytest.mark.parametrize('camera, output', [
    ((192, 320), None), ((180, 320), None), ((121, 203), None), ((270, 130), None),
    ((360, 640), (97, 211)), ((90, 160), (200, 331))])
@pytest.mark.parametrize('make', [smooth, busy, noise])
def test_labels_are_the_cpus(kernels, record_property, stride, camera, output, make):
    """Letterboxed or filled, odd sizes, masks smaller and larger than the camera's image."""
    rng = np.random.default_rng([stride, *camera])
    geometry = fit(spec((192, 320)), Size(*camera), Size(*output) if output else None)
    values = make(rng, 19, 192 // stride, 320 // stride)
    shares = [check_labels(kernels, values.astype('f2'), geometry, 'NCHW'),
              check_labels(kernels, values.astype('f4'), geometry, 'NHWC')]
    record_property('confidence_differs', float(max(shares)))
    assert max(shares) < 1e-3


@pytest.mark.parametrize('dtype', ['f2', 'f4'])
@pytest.mark.parametrize('layout', ['NCHW', 'NHWC'])
@pytest.mark.parametrize('corners', [False, True])
def test_labels_of_every_kind_of_output(kernels, dtype, layout, corners):
    rng = np.random.default_rng(5)
    geometry = fit(spec((64, 96)), Size(75, 101))
    values = smooth(rng, 11, 16, 24).astype(dtype)
    check_labels(kernels, values, geometry, layout, corners)
    values = reference.softmax(values.astype('f4')).astype(dtype)
    check_labels(kernels, values, geometry, layout, corners, softmax=False)


@pytest.mark.parametrize('temperature', [0.05, 0.7, 1.3, 20])
@pytest.mark.parametrize('dtype', ['f2', 'f4'])
def test_the_temperature_is_in_the_confidence_alone(kernels, temperature, dtype):
    rng = np.random.default_rng(15)
    geometry = fit(spec((64, 96)), Size(75, 101))
    values = busy(rng, 11, 16, 24).astype(dtype)
    check_labels(kernels, values, geometry, temperature=temperature)
    plain, tempered = (Post(kernels, values[None], [geometry], temperature=t).parts(0)
                       for t in (1.0, temperature))
    np.testing.assert_array_equal(tempered.labels, plain.labels)
    surer = tempered.confidence.mean() > plain.confidence.mean()
    assert surer == (temperature < 1) and (tempered.confidence != plain.confidence).mean() > 0.1


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 12), st.integers(1, 12),
       st.integers(1, 90), st.integers(1, 90), st.booleans(), st.booleans(),
       st.sampled_from(['f2', 'f4']))
def test_labels_on_ties(kernels, seed, classes, h, w, camera_h, camera_w, corners, letterbox,
                        dtype):
    """Small whole numbers make exact ties at corners, along edges and inside cells."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-2, 2, (classes, h, w)).astype(dtype)
    resize = 'letterbox' if letterbox else 'stretch'
    geometry = fit(spec((h * 4, w * 4), resize=resize), Size(camera_h, camera_w))
    check_labels(kernels, values, geometry, corners=corners)


@pytest.mark.parametrize('scale', [1e-45, 1e-41, 1e-38, 1e-20, 1e20, 1e37, 1e38, 3e38])
def test_labels_at_the_ends_of_the_float_range(kernels, scale):
    """Subnormal scores and differences that overflow float32 are labelled as float64 does."""
    rng = np.random.default_rng(6)
    values = (rng.uniform(-1, 1, (9, 8, 12)) * scale).astype('f4')
    geometry = fit(spec((64, 96)), Size(64, 96))
    check_labels(kernels, values, geometry)


def test_labels_where_classes_almost_tie(kernels):
    """Pairs of scores that differ by less than float32 keeps of their interpolation."""
    rng = np.random.default_rng(7)
    base = rng.normal(size=(1, 24, 40)) * 50
    values = np.concatenate([base + rng.normal(size=base.shape) * 1e-5 for _ in range(6)])
    check_labels(kernels, values.astype('f4'), fit(spec((192, 320)), Size(180, 313)))


def rivals(rng, cells, weights):
    """
    Return scores (2, 2 * cells, 2 * cells): two classes that tie inside each cell of four corners.

    Scores of both signs and up to 1 at the corners, so that float32 loses most; the nearest corner
    of the second class is set so that both are equal, but for rounding, at the pixel with these
    weights ((cells, cells, 2, 2), of the corners).
    """
    first, second = rng.uniform(-1, 1, (2, cells, cells, 2, 2))
    gap = ((first - second) * weights).sum((-1, -2), keepdims=True)
    heaviest = weights.max((-1, -2), keepdims=True)
    second = np.where(weights == heaviest, second + gap / heaviest, second)
    both = np.stack([first, second])
    both /= np.abs(both).max((0, -1, -2), keepdims=True)
    return both.transpose(0, 1, 3, 2, 4).reshape(2, 2 * cells, 2 * cells).astype('f4')


@pytest.mark.parametrize('seed', range(4))
def test_labels_where_float32_is_worst(kernels, seed):
    """At a pixel of each of 3600 cells both classes tie, but for what float32 cannot tell."""
    rng = np.random.default_rng([14, seed])
    cells, size = 60, 2 * 60 * 7
    geometry = fit(spec((960, 960)), Size(size, size))
    rows, columns = geometry.rows(2 * cells), geometry.columns(2 * cells)
    pick = [np.array([rng.choice(np.flatnonzero(axis.low == 2 * n)) for n in range(cells)])
            for axis in (rows, columns)]
    fy, fx = rows.fraction[pick[0]][:, None], columns.fraction[pick[1]][None]
    weights = np.stack([np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx], -1),
                        np.stack([fy * (1 - fx), fy * fx], -1)], -2)
    check_labels(kernels, rivals(rng, cells, weights), geometry)


def test_labels_beside_an_outlier(kernels):
    """One huge score elsewhere widens the margin for all pixels, never narrows it."""
    rng = np.random.default_rng(8)
    values = smooth(rng, 7, 24, 40).astype('f4')
    values[3, 0, 0] = 6e4
    geometry = fit(spec((192, 320)), Size(192, 320))
    check_labels(kernels, values, geometry)
    check_labels(kernels, values.astype('f2'), geometry)


def test_256_classes(kernels):
    rng = np.random.default_rng(9)
    check_labels(kernels, noise(rng, 256, 6, 9).astype('f2'), fit(spec((48, 72)), Size(50, 71)))


def test_batch_with_look_ups(kernels):
    """Cameras of different size; each gets its own labels, range, histogram and look-ups."""
    rng = np.random.default_rng(10)
    card = spec((64, 96))
    geometries = [fit(card, Size(*size)) for size in ((60, 100), (90, 31), (64, 96))]
    values = np.stack([smooth(rng, 7, 8, 12) * scale for scale in (1, 2, 3)]).astype('f2')
    luts = rng.integers(0, 256, (2, 256), np.uint8)
    post = Post(kernels, values, geometries, luts=luts)
    for n, geometry in enumerate(geometries):
        parts, scores = post.parts(n), values[n].astype('f4')
        truth, _ = labels.upsample_argmax(scores, geometry.rows(8), geometry.columns(12))
        np.testing.assert_array_equal(parts.labels, truth)
        np.testing.assert_array_equal(parts.products[0], luts[0][truth])
        np.testing.assert_array_equal(parts.products[1], luts[1][truth])
        np.testing.assert_array_equal(parts.histogram,
                                      np.bincount(truth.reshape(-1), minlength=256))
        assert (parts.range.low, parts.range.high) == (scores.min(), scores.max())


def test_labels_alone(kernels):
    """What is not wanted is neither computed nor given room."""
    rng = np.random.default_rng(11)
    geometry = fit(spec((64, 96)), Size(64, 96))
    values = smooth(rng, 7, 8, 12).astype('f4')
    post = Post(kernels, values[None], [geometry], confidence=False, histogram=False)
    parts = post.parts(0)
    truth, _ = labels.upsample_argmax(values, geometry.rows(8), geometry.columns(12))
    np.testing.assert_array_equal(parts.labels, truth)
    assert (parts.confidence, parts.products, parts.histogram, parts.entropy) == (
        None, (), None, None)
    assert post.layout.size_bytes == launch.aligned(64 * 96) + post.layout.zero_bytes


@pytest.mark.parametrize('bad', [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('dtype', ['f2', 'f4'])
@pytest.mark.parametrize('where', [(0, 0, 0), (4, 7, 11), (2, 3, 5)])
def test_a_score_that_is_not_finite_spoils_its_frame_alone(kernels, bad, dtype, where):
    rng = np.random.default_rng(12)
    geometry = fit(spec((64, 96)), Size(64, 96))
    values = np.stack([smooth(rng, 5, 8, 12)] * 3).astype(dtype)
    values[1][where] = bad
    post = Post(kernels, values, [geometry] * 3, luts=[np.arange(256, dtype=np.uint8) // 2],
                entropy=True)
    assert [post.parts(n).range.finite for n in range(3)] == [True, False, True]
    spoilt = post.parts(1)
    assert (spoilt.labels == 255).all() and (spoilt.products[0] == 127).all()
    assert (spoilt.confidence == 0).all() and (spoilt.entropy == 255).all()
    for name in ('labels', 'entropy'):
        np.testing.assert_array_equal(getattr(post.parts(0), name), getattr(post.parts(2), name))


@pytest.mark.parametrize('pixels', [(1, 1), (3, 5), (16, 16), (61, 67), (700, 1001)])
def test_histogram(kernels, pixels):
    layout = ResultBlock((Size(*pixels),), histogram=True)
    result = buffer(layout.size_bytes)
    result[:layout.zero_bytes] = 0
    truth = np.random.default_rng(13).integers(0, 256, pixels, np.uint8)
    truth[:pixels[0] // 2] = 7
    layout.parts(result, 0).labels[:] = truth
    kernels.run(launch.histogram_launch(layout, 0, result=at(result)))
    np.testing.assert_array_equal(layout.parts(result, 0).histogram,
                                  np.bincount(truth.reshape(-1), minlength=256))
