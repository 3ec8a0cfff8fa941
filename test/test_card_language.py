"""What a card can say beyond the plain network, each against a plain statement of it."""

from dataclasses import replace
import hashlib

import cv2
import numpy as np
from onnx import helper, numpy_helper, TensorProto
from PIL import Image
import pytest
import yaml

from seg_node import reference
from seg_node.antialias import antialiased
from seg_node.devices import backend as backends
from seg_node.devices.heads import read_head
from seg_node.devices.host import HostSegmenter
from seg_node.devices.windows import in_layout, starts, WindowedBackend
from seg_node.errors import BackendError, ConfigError, FrameError
from seg_node.frame import Demand, Frame, StageClock
from seg_node.geometry import fit, Size
from seg_node.gpu.suits import check_heads
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import InputSpec, load_card, OutputSpec
from seg_node.model.taxonomy import ClassTable, load_taxonomy, remap_lut, SegClass
from seg_node.pipeline import Pipeline
from seg_node.preprocess import Preprocessor

SPEC = InputSpec('x', 'NCHW', 'bgr', 'float32', (0, 0, 0), (1, 1, 1), size=(32, 48))
GEOMETRY = fit(SPEC, Size(77, 130))
TABLE = load_taxonomy('camvid11')
THREE = [{'id': n, 'name': name, 'colour': [n, n, n], 'drivable': n == 1, 'dynamic': False}
         for n, name in enumerate(('blue', 'green', 'red'))]


def picture(height, width, seed=0):
    """Return a picture with soft and hard borders, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 7, 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image[height // 3:height // 2, ::3] = 255
    return image


# the resize


@pytest.mark.parametrize('size', [(32, 48), (61, 97), (120, 147), (1, 1), (200, 300), (9, 300)])
def test_antialias_is_pillows_within_a_grey_level(size):
    image = picture(120, 160)[:, 3:150]
    found = antialiased(image, Size(*size)).astype(int)
    truth = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    assert np.abs(found - truth).max() <= 1
    if size in ((32, 48), (61, 97)):  # smaller both ways, as pictures of cameras become: equal
        np.testing.assert_array_equal(found, truth)
        linear = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR).astype(int)
        assert np.abs(linear - found).max() > 30  # which another filter is not


@pytest.mark.parametrize('layout', ['NCHW', 'NHWC'])
def test_unrounded_keeps_what_lies_between_grey_levels(layout):
    spec = replace(SPEC, interpolation='unrounded', layout=layout, colour='rgb', scale=1 / 255,
                   mean=(.3, .4, .5), std=(.2, .25, .3), resize='letterbox', pad_value=51)
    image = picture(120, 160)
    geometry = fit(spec, Size(120, 160))
    found = Preprocessor(spec).tensor([image], [geometry])[0]
    found = found if layout == 'NHWC' else found.transpose(1, 2, 0)
    left, width = geometry.left, geometry.content.width
    small = cv2.resize(image[..., ::-1] / 255, (width, 32), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(found[:, left:left + width], (small - spec.mean) / spec.std,
                               atol=1e-5)
    np.testing.assert_allclose(found[:, :left], np.broadcast_to(
        (0.2 - np.array(spec.mean)) / spec.std, (32, left, 3)), atol=1e-6)


def test_the_card_chooses_the_resize():
    image = picture(120, 160)
    found = Preprocessor(replace(SPEC, interpolation='antialias')).tensor(
        [image], [fit(SPEC, Size(120, 160))])
    np.testing.assert_array_equal(found[0], antialiased(image, Size(32, 48)).transpose(2, 0, 1))


# kinds and void


def output(kind, classes=TABLE, **given):
    return OutputSpec('out', kind, 'NCHW', 'labels', classes, **given)


def maps_of(channels, seed=1):
    return np.random.default_rng(seed).random((channels, 8, 12)).astype(np.float32)


def test_the_confidence_of_scores_is_the_share_of_their_sum():
    maps = maps_of(11) * 9
    maps[:, 0, :3] = 0  # no query there
    rows, columns = GEOMETRY.rows(8), GEOMETRY.columns(12)
    labels, sure = read_head(output('scores'), maps, GEOMETRY, True)
    np.testing.assert_array_equal(labels, reference.labels(maps, rows, columns))
    total = maps.sum(axis=0)
    shares = np.where(total > 0, maps / np.where(total > 0, total, 1), 0)
    expected = reference.confidence(shares, labels, rows, columns)
    assert np.abs(sure.astype(int) - expected).max() <= 1
    with pytest.raises(FrameError, match='if these are logits, say so'):
        read_head(output('scores'), maps - 1, GEOMETRY, True)


@pytest.mark.parametrize(('void', 'ids'), [
    ((11,), [*range(11), 255]), ((0,), [255, *range(11)]), ((0, 12), [255, *range(11), 255])])
def test_void_channels_are_255(void, ids):
    spec, maps = output('logits', void_channels=void), maps_of(len(ids))
    labels, sure = read_head(spec, maps, GEOMETRY, True)
    won = reference.labels(maps, GEOMETRY.rows(8), GEOMETRY.columns(12))
    np.testing.assert_array_equal(labels, np.array(ids, np.uint8)[won])
    assert (labels == 255).any() and not sure[labels == 255].any() and sure[labels != 255].all()
    with pytest.raises(FrameError, match='channels'):
        read_head(spec, maps_of(11), GEOMETRY, True)


def test_void_ids_of_a_network_with_argmax_inside():
    spec = output('labels', void_channels=(0, 255))
    ids = np.random.default_rng(0).integers(0, 12, (1, 32, 48))
    ids[0, :3] = 255
    same = fit(SPEC, Size(32, 48))
    labels, _ = read_head(spec, ids, same, False)
    np.testing.assert_array_equal(labels, np.where(ids[0] % 255 == 0, 255, ids[0] - 1))
    ids[0, 9, 9] = 12
    with pytest.raises(FrameError, match='has the id 12'):
        read_head(spec, ids, same, False)


def test_a_class_that_is_void_is_in_no_mask():
    table = ClassTable('own', (*TABLE.classes[:2], SegClass(2, 'void', (0, 0, 0), False, False,
                                                             void=True)))
    maps = maps_of(3)
    labels, _ = read_head(output('logits', table), maps, GEOMETRY, False)
    won = reference.labels(maps, GEOMETRY.rows(8), GEOMETRY.columns(12))
    np.testing.assert_array_equal(labels, np.where(won == 2, 255, won))
    assert remap_lut(table, table)[2] == 255


# whole models


def model(folder, nodes, outputs, input_shape=('n', 3, 'h', 'w'), constants=(), name='probe',
          **card):
    """Write a network of ONNX nodes from ``x`` with a card; return the card."""
    graph = helper.make_graph(
        nodes, 'g', [helper.make_tensor_value_info('x', TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
         for name, shape in outputs],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)],
                             ir_version=8).SerializeToString()
    folder.mkdir(exist_ok=True)
    (folder / 'model.onnx').write_bytes(data)
    spec = {'name': 'x', 'layout': 'NCHW', 'colour': 'bgr', 'dtype': 'float32', 'scale': 1,
            'mean': [0, 0, 0], 'std': [1, 1, 1], 'size': [32, 48], 'resize': 'stretch'}
    head = {'role': 'labels', 'kind': 'logits', 'layout': 'NCHW', 'classes': THREE}
    document = {
        'name': name, 'description': 'a probe', 'file': 'model.onnx',
        'sha256': hashlib.sha256(data).hexdigest(),
        'licences': dict.fromkeys(('code', 'weights', 'data'), 'Apache-2.0'),
        'input': spec | card.pop('input', {}),
        'outputs': [head | {'name': entry.pop('name', outputs[0][0])} | entry
                    for entry in card.pop('heads', [{}])]} | card
    (folder / 'card.yaml').write_text(yaml.safe_dump(document))
    return load_card(folder)


def backend_of(card):
    return backends.load('onnxruntime', card, threads=1)


def segmented(card, image, **demand):
    message = ImageMessage(Header(0, 0, ''), *image.shape[:2], 'bgr8', False, image.shape[1] * 3,
                           np.ascontiguousarray(image).reshape(-1))
    [result] = HostSegmenter(card, backend_of(card)).segment([Frame('', message)],
                                                              Demand(**demand), StageClock())
    return result


def same(source='x', target='y'):
    return helper.make_node('Identity', [source], [target])


def flat(perm, shape):
    return [helper.make_node('Transpose', ['x'], ['t'], perm=perm),
            helper.make_node('Reshape', ['t', 's'], ['y'])], [('s', np.array(shape))]


@pytest.mark.parametrize(('perm', 'shape', 'declared', 'layout'), [
    ((0, 1, 2, 3), (3, 32, 48), (3, 32, 48), 'NCHW'),  # no batch
    ((0, 2, 3, 1), (32, 48, 3), (32, 48, 3), 'NHWC'),
    ((0, 1, 2, 3), (1, 3, -1), ('n', 3, 'p'), 'NCHW'),  # pixels in a row
    ((0, 2, 3, 1), (1, -1, 3), ('n', 'p', 3), 'NHWC')])
def test_a_missing_axis_is_put_back(tmp_path, perm, shape, declared, layout):
    nodes, constants = flat(perm, shape)
    card = model(tmp_path, nodes, [('y', declared)], constants=constants,
                 heads=[{'layout': layout}])
    image = picture(32, 48)
    np.testing.assert_array_equal(segmented(card, image).labels, image.argmax(axis=2))


def test_pixels_in_a_row_at_a_stride():
    spec = output('logits')
    maps = np.arange(11 * 8 * 12).reshape(1, 11, 8, 12)
    np.testing.assert_array_equal(in_layout(spec, maps.reshape(1, 11, 96), Size(32, 48)), maps)
    with pytest.raises(BackendError, match='nor that without the batch'):
        in_layout(spec, maps.reshape(11, 96), Size(32, 48))


def by_hand(card, image):
    """Return the labels by sliding windows as stated: upsample each, sum, divide."""
    window, stride = card.input.window.size, card.input.window.stride
    geometry = fit(card.input, Size(*image.shape[:2]))
    tensor = Preprocessor(card.input).tensor([image], [geometry])
    whole, inner = geometry.network, backend_of(replace(card, input=replace(
        card.input, window=None, size=window)))
    total, seen = np.zeros((3, *whole)), np.zeros(whole)
    part = fit(replace(card.input, window=None, size=window), Size(*window))
    for top in range(0, whole.height, stride[0]):
        for left in range(0, whole.width, stride[1]):
            top_, left_ = (min(top, whole.height - window[0]),
                           min(left, whole.width - window[1]))
            where = slice(top_, top_ + window[0]), slice(left_, left_ + window[1])
            maps = inner.run(np.ascontiguousarray(tensor[(..., *where)]))[0][0]
            total[(slice(None), *where)] += reference.upsample(
                maps, part.rows(maps.shape[1]), part.columns(maps.shape[2]))
            seen[where] += 1
            if left + window[1] >= whole.width:
                break
        if top + window[0] >= whole.height:
            break
    return reference.labels(total / seen, geometry.rows(whole.height),
                            geometry.columns(whole.width))


def test_sliding_windows_equal_the_plain_statement(tmp_path):
    """The scores depend on where in its window a pixel lies, so that the mean shows."""
    slope = np.random.default_rng(0).normal(0, 60, (1, 3, 8, 12)).astype(np.float32)
    nodes = [helper.make_node('AveragePool', ['x'], ['a'], kernel_shape=[4, 4], strides=[4, 4]),
             helper.make_node('Add', ['a', 's'], ['y'])]
    card = model(tmp_path, nodes, [('y', (1, 3, 8, 12))], (1, 3, 32, 48), [('s', slope)],
                 input={'size': [80, 112], 'window': {'size': [32, 48], 'stride': [24, 32]}})
    image = picture(100, 140)
    found = segmented(card, image)
    assert starts(80, 32, 24) == [0, 24, 48] and starts(112, 48, 32) == [0, 32, 64]
    assert (found.labels == by_hand(card, image)).mean() > 0.9999
    inner = backend_of(replace(card, input=replace(card.input, window=None, size=(32, 48))))
    assert isinstance(backend_of(card), WindowedBackend)
    assert not isinstance(inner, WindowedBackend)


def test_up_to_four_heads(tmp_path):
    lane = [{'id': 0, 'name': 'none', 'colour': [0, 0, 0], 'drivable': False, 'dynamic': False},
            {'id': 1, 'name': 'mark', 'colour': [9, 9, 9], 'drivable': False, 'dynamic': False},
            {'id': 2, 'name': 'void', 'colour': [0, 0, 0], 'drivable': False, 'dynamic': False,
             'void': True}]
    road = [{**entry, 'drivable': entry['id'] == 2} for entry in THREE]
    names = ['a', 'b', 'c', 'd']
    card = model(tmp_path, [same(target=name) for name in names],
                 [(name, ('n', 3, 'h', 'w')) for name in names], heads=[
                     {'name': 'a'}, {'name': 'b', 'role': 'drivable', 'classes': road},
                     {'name': 'c', 'role': 'lane_marks', 'classes': lane},
                     {'name': 'd', 'role': 'curbs', 'classes': THREE}])
    image = picture(32, 48)
    won = image.argmax(axis=2)
    found = segmented(card, image, heads=frozenset({'lane_marks'}))
    np.testing.assert_array_equal(found.labels, won)
    np.testing.assert_array_equal(found.drivable, (won == 2) * 255)
    assert set(found.heads) == {'lane_marks'}  # the one that is wanted
    np.testing.assert_array_equal(found.heads['lane_marks'], np.where(won == 2, 255, won))
    found.forget(won == 0)
    assert (found.heads['lane_marks'][won == 0] == 255).all()
    pipeline = Pipeline(HostSegmenter(card, backend_of(card)), card.main_output.classes,
                        heads=[entry.role for entry in card.other_outputs])
    message = ImageMessage(Header(0, 0, ''), 32, 48, 'bgr8', False, 144, image.reshape(-1))
    [products] = pipeline.process([Frame('', message)], [['mask', 'curbs']], StageClock())
    assert set(products.images) == {'mask', 'curbs'}
    np.testing.assert_array_equal(products.images['curbs'], won)


def test_remaps_beside_the_card(tmp_path):
    tmp_path.joinpath('to_camvid.yaml').write_text(yaml.safe_dump({
        'source': 'probe/labels', 'target': 'camvid11',
        'classes': {'green': 'Road', 'red': 'Car'}}))
    card = model(tmp_path, [same()], [('y', ('n', 3, 'h', 'w'))], remaps=['to_camvid.yaml'])
    pipeline = Pipeline(HostSegmenter(card, backend_of(card)), card.main_output.classes, TABLE,
                        remaps=card.remaps)
    image = picture(32, 48)
    message = ImageMessage(Header(0, 0, ''), 32, 48, 'bgr8', False, 144, image.reshape(-1))
    [products] = pipeline.process([Frame('', message)], [['mask']], StageClock())
    wanted = np.array([255, TABLE.names.index('Road'), TABLE.names.index('Car')])
    np.testing.assert_array_equal(products.images['mask'], wanted[image.argmax(axis=2)])
    for key, value, words in (('source', 'other', 'source is'),
                              ('classes', {'grey': 'Road'}, "'grey' is not a class")):
        file = tmp_path / 'to_camvid.yaml'
        kept = file.read_text()
        file.write_text(yaml.safe_dump(yaml.safe_load(kept) | {key: value}))
        with pytest.raises(ConfigError, match=words):
            load_card(tmp_path)
        file.write_text(kept)


@pytest.mark.parametrize(('changes', 'word'), [
    ({'input': {'interpolation': 'antialias'}}, 'input.interpolation: antialias'),
    ({'input': {'size': [64, 96], 'window': {'size': [32, 48], 'stride': [32, 48]}}},
     'input.window'),
    ({'heads': [{'classes': THREE[:2], 'void_channels': [2]}]}, r'void_channels: \[2\]'),
    ({'heads': [{'classes': [*THREE[:2], {**THREE[2], 'void': True}]}]}, 'void: true'),
    ({'heads': [{'kind': 'scores'}]}, 'is scores')])
def test_what_the_kernels_do_not_know_is_refused_by_name(tmp_path, changes, word):
    card = model(tmp_path, [same()], [('y', ('n', 3, 'h', 'w'))], **changes)
    with pytest.raises(ConfigError, match=word):
        check_heads(card)


def test_the_void_channel_of_the_cases(data_dir, tmp_path):
    """A Cityscapes network with 20 channels is refused with the mend; with it its 19 is 255."""
    source = data_dir / 'cases' / 'models' / 'void_channel'
    with pytest.raises(ConfigError, match=r'void_channels: \[19\]'):
        backend_of(load_card(source))
    document = yaml.safe_load((source / 'card.yaml').read_text())
    document['outputs'][0]['void_channels'] = [19]
    (tmp_path / 'model.onnx').write_bytes((source / 'model.onnx').read_bytes())
    (tmp_path / 'card.yaml').write_text(yaml.safe_dump(document))
    labels = segmented(load_card(tmp_path), picture(240, 320)).labels
    assert set(np.unique(labels)) <= {*range(19), 255} and 255 in labels
