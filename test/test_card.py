"""Model cards: what is read, every refusal, and that schema, code and README agree."""

import copy
from dataclasses import fields
import json
import os
from pathlib import Path
import re
import subprocess
import sys

import jsonschema
import numpy as np
import onnxruntime
import pytest
import yaml

from seg_node.errors import ConfigError
from seg_node.model.card import check_card, InputSpec, load_card, Metric, OutputSpec, TensorInfo
from seg_node.model.taxonomy import load_taxonomy
from seg_node.paths import shared

MODELS = Path(__file__).parent / 'models'
PALETTE = MODELS / 'palette_cityscapes19'
README = shared('models', 'README.md').read_text(encoding='utf-8')
VALID = yaml.safe_load((PALETTE / 'card.yaml').read_text(encoding='utf-8'))
VALID['file'] = str(PALETTE / 'model.onnx')
BINARY = yaml.safe_load((MODELS / 'palette_binary' / 'card.yaml').read_text())['outputs'][0]
CLASSES = BINARY['classes']
REMOVE = object()


def edited(changes, base=VALID):
    """Return a copy of a card with dotted keys ('outputs.0.kind') set or removed."""
    card = copy.deepcopy(base)
    for key, value in changes.items():
        *steps, last = (int(step) if step.isdigit() else step for step in key.split('.'))
        place = card
        for step in steps:
            place = place[step]
        if value is REMOVE:
            del place[last]
        else:
            place[last] = value
    return card


def loaded(folder, card):
    """Write a card into a folder and load it."""
    (folder / 'card.yaml').write_text(yaml.safe_dump(card, sort_keys=False), encoding='utf-8')
    return load_card(folder)


def refusal(call, *arguments):
    """Return the message of the ConfigError that a call must raise."""
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return str(caught.value)


def session_of(card):
    """Return ONNX Runtime's session for a card's model."""
    return onnxruntime.InferenceSession(str(card.model_path),
                                        providers=['CPUExecutionProvider'])


def tensors_of(session):
    """Return the inputs and the outputs of a session."""
    return [[TensorInfo.from_onnx(tensor.name, tensor.shape, tensor.type) for tensor in tensors]
            for tensors in (session.get_inputs(), session.get_outputs())]


# what a card says

def test_a_card_becomes_the_specs():
    card = load_card(PALETTE)
    assert card.name == 'palette_cityscapes19'
    assert card.directory == PALETTE
    assert card.model_path == PALETTE / 'model.onnx'
    assert card.licences == {'code': 'Apache-2.0', 'weights': 'Apache-2.0', 'data': 'none'}
    assert card.opset == 17
    assert card.input == InputSpec(
        name='image', layout='NCHW', colour='rgb', dtype='float32',
        mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), scale=1.0, size=None,
        short_side=120, multiple=8, resize='letterbox', pad_value=0.0)
    assert card.outputs == (OutputSpec('logits', 'logits', 'NCHW', 'labels',
                                       load_taxonomy('cityscapes19')),)
    assert card.labels_output == card.main_output == card.outputs[0]
    assert card.drivable_output is None
    assert card.raw['file'] == 'model.onnx'
    hash((card.input, card.outputs))  # geometry is cached by them


def test_heads_are_found_by_their_role():
    both, binary = load_card(MODELS / 'palette_two_heads'), load_card(MODELS / 'palette_binary')
    assert (both.labels_output, both.drivable_output) == both.outputs
    assert (both.drivable_output.kind, both.drivable_output.activation) == ('sigmoid', 'raw')
    assert both.drivable_output.threshold == 0.5
    assert both.main_output.role == 'labels'
    assert binary.labels_output is None
    assert binary.main_output == binary.drivable_output
    assert binary.drivable_output.classes.name == 'palette_binary/drivable'
    assert binary.drivable_output.classes.names == ('other', 'road')


def test_the_fields_beside_the_tensors(tmp_path):
    card = loaded(tmp_path, edited({
        'source': {'url': 'https://example.org'}, 'weaknesses': ['night'],
        'metrics': [{'dataset': 'a', 'split': 'val', 'metric': 'mIoU', 'value': 0.5}]}))
    assert card.source == {'url': 'https://example.org'}
    assert card.metrics == (Metric('a', 'val', 'mIoU', 0.5),)
    assert card.weaknesses == ('night',)


def test_an_int8_copy_counts_only_if_it_keeps_the_labels(tmp_path):
    said = {'file': 'int8.onnx', 'sha256': 'a' * 64, 'labels_equal': 0.995, 'miou_loss': 0.005}
    copy = loaded(tmp_path, edited({'int8': said})).int8
    assert copy.path == tmp_path / 'int8.onnx' and copy.sha256 == said['sha256']
    for worse in ({'labels_equal': 0.9949}, {'miou_loss': 0.0051}):
        message = refusal(loaded, tmp_path, edited({'int8': said | worse}))
        assert 'allowed are at least 0.995 and at most 0.005' in message
        assert f'{next(iter(worse.values())):g}' in message
    assert 'no int8 copy' not in refusal(copy.read) and 'int8.onnx' in refusal(copy.read)


def test_an_inline_table_is_named_by_model_and_role(tmp_path):
    card = loaded(tmp_path, edited({'outputs': [BINARY | {'name': 'a name with spaces'}]}))
    assert card.outputs[0].classes.name == 'palette_cityscapes19/drivable'


def test_classes_may_be_a_table_beside_the_card(tmp_path):
    (tmp_path / 'mine.yaml').write_text(yaml.safe_dump({'name': 'mine', 'classes': CLASSES}))
    card = loaded(tmp_path, edited({'outputs.0.classes': 'mine.yaml'}))
    assert card.outputs[0].classes.name == 'mine'


# finding a card

@pytest.mark.parametrize('place', [PALETTE, str(PALETTE), PALETTE / 'card.yaml',
                                   f'{PALETTE}/card.yaml'])
def test_a_card_is_found_by_folder_or_path(place):
    assert load_card(place).name == 'palette_cityscapes19'


def test_relative_places_start_with_a_dot_or_have_a_slash(monkeypatch):
    monkeypatch.chdir(PALETTE)
    for place in ('.', './card.yaml', 'card.yaml', '../palette_cityscapes19', Path('card.yaml')):
        assert load_card(place).name == 'palette_cityscapes19'


@pytest.mark.parametrize('place', ['.', 'card.yaml'])
def test_a_place_without_a_card_is_refused(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    message = refusal(load_card, place)
    assert f'no model card at card.yaml (from {tmp_path}). ' in message
    assert 'models/README.md' in message


def test_an_unknown_name_is_refused_with_the_shipped_ones():
    message = refusal(load_card, 'bisenet_camvid')
    assert "no model 'bisenet_camvid'" in message
    assert "Did you mean 'bisenetv2_camvid'?" in message
    assert 'deeplabv3plus_lite0_camvid' in message
    assert 'Shipped' in refusal(load_card, '')


def test_a_bare_name_of_a_folder_here_is_not_guessed(tmp_path, monkeypatch):
    (tmp_path / 'mine').mkdir()
    monkeypatch.chdir(tmp_path)
    assert './mine' in refusal(load_card, 'mine')


# the file

def test_another_file_is_refused(tmp_path):
    other = '0' * 64
    message = refusal(loaded, tmp_path, edited({'sha256': other}))
    assert other in message
    assert VALID['sha256'] in message


def test_one_changed_bit_is_found(tmp_path):
    data = bytearray((PALETTE / 'model.onnx').read_bytes())
    data[300] ^= 1
    (tmp_path / 'model.onnx').write_bytes(data)
    assert 'sha256 is' in refusal(loaded, tmp_path, edited({'file': 'model.onnx'}))


def test_a_cut_off_file_is_refused_by_its_size(tmp_path):
    (tmp_path / 'model.onnx').write_bytes((PALETTE / 'model.onnx').read_bytes()[:200])
    message = refusal(loaded, tmp_path, edited({'file': 'model.onnx'}))
    assert f'size_bytes is {VALID["size_bytes"]}' in message
    assert '200 bytes' in message


def test_size_and_source_are_optional(tmp_path):
    card = loaded(tmp_path, edited({'size_bytes': REMOVE, 'opset': REMOVE}))
    assert (card.size_bytes, card.opset, card.source) == (None, None, {})


def test_a_missing_file_is_refused(tmp_path):
    message = refusal(loaded, tmp_path, edited({'file': 'none.onnx'}))
    assert "file is 'none.onnx'" in message
    assert str(tmp_path / 'none.onnx') in message
    assert 'No such file' in message


def test_a_git_lfs_pointer_is_told_from_a_model(tmp_path):
    (tmp_path / 'model.onnx').write_text('version https://git-lfs.github.com/spec/v1\noid ...\n')
    assert 'git lfs pull' in refusal(loaded, tmp_path, edited({'file': 'model.onnx'}))


# refusals

@pytest.mark.parametrize(('changes', 'words'), [
    # unknown keys, with the one that was meant
    ({'licenses': {}}, ['licenses', "Did you mean 'licences'?", 'Allowed here: name']),
    ({'input.color': 'rgb'}, ['input.color ', "Did you mean 'colour'?"]),
    ({'input.means': [0, 0, 0]}, ['input.means', "Did you mean 'mean'?"]),
    ({'outputs.0.class': []}, ['outputs[0].class ', "Did you mean 'classes'?"]),
    ({'outputs.0.xyz': 1}, ['outputs[0].xyz is not a known key. Allowed here: name']),
    ({'metrics': [{'mIoU': 0.5}]}, ['metrics[0].mIoU', 'metrics[0].dataset is missing']),
    ({'source': {'uri': 'x'}}, ['source.uri', "Did you mean 'url'?"]),
    # missing keys
    ({'sha256': REMOVE}, ['sha256 is missing', 'sha256sum']),
    ({'licences.data': REMOVE}, ['licences.data is missing', 'training data']),
    ({'input.mean': REMOVE}, ['input.mean is missing', '[0, 0, 0] for none']),
    ({'input.colour': REMOVE}, ['input.colour is missing', 'trained']),
    ({'input.resize': REMOVE}, ['input.resize is missing', 'stretch']),
    ({'outputs.0.classes': REMOVE}, ['outputs[0].classes is missing', 'class table']),
    # wrong values
    ({'name': 'my model'}, ["name is 'my model'", 'without spaces']),
    ({'description': ''}, ["description is ''"]),
    ({'sha256': 'ABC'}, ["sha256 is 'ABC'", '64 digits']),
    ({'size_bytes': 0}, ['size_bytes is 0', 'at least 1']),
    ({'opset': '17'}, ["opset is '17'", 'a whole number']),
    ({'licences.code': None}, ['licences.code is None', 'text']),
    ({'input.layout': 'nchw'}, ["input.layout is 'nchw'", "Did you mean 'NCHW'?"]),
    ({'input.layout': 'NHW'}, ["input.layout is 'NHW'", 'allowed: NCHW, NHWC']),
    ({'input.colour': 'BGR'}, ["input.colour is 'BGR'", "Did you mean 'bgr'?"]),
    ({'input.dtype': 'fp32'}, ["input.dtype is 'fp32'", 'allowed: float32, float16, uint8']),
    ({'input.scale': '1/255'}, ["input.scale is '1/255'", 'a number', '0.00392156862745098']),
    ({'input.scale': 0}, ['input.scale is 0', 'more than 0']),
    ({'input.mean': [1, 2]}, ['input.mean is [1, 2]', '3 entries']),
    ({'input.mean': 127}, ['input.mean is 127', 'a list']),
    ({'input.std': [1, 0, 1]}, ['input.std[1] is 0', 'more than 0']),
    ({'input.mean': [0, float('nan'), 0]}, ['input.mean[1] is nan', 'finite']),
    ({'outputs.0.temperature': float('nan')}, ['outputs[0].temperature is nan', 'finite']),
    ({'input.scale': float('inf')}, ['input.scale is inf', 'finite']),
    ({'input.short_side': 4}, ['input.short_side is 4', 'at least 8']),
    ({'input.multiple': 0}, ['input.multiple is 0', 'at least 1 and at most 512']),
    ({'input.resize': 'crop'}, ["input.resize is 'crop'", 'allowed: stretch, letterbox']),
    ({'input.pad_value': 256}, ['input.pad_value is 256', 'at most 255']),
    ({'outputs': []}, ['outputs is []', '1 to 4 entries']),
    ({'outputs.0.kind': 'softmax'}, ["outputs[0].kind is 'softmax'", 'allowed: logits']),
    ({'outputs.0.role': 'main'}, ['no output has the role labels or drivable', 'are main']),
    ({'outputs.0.role': 'labelz'}, ["outputs[0].role is 'labelz'", "Did you mean 'labels'"]),
    ({'outputs.0.role': 'overlay'}, ["outputs[0].role is 'overlay'", 'a topic of every']),
    ({'outputs.0.role': 'Lane marks'}, ["outputs[0].role is 'Lane marks'", 'small letters']),
    ({'outputs.0.layout': 'NCWH'}, ["outputs[0].layout is 'NCWH'", 'NCHW, NHWC, NHW']),
    ({'outputs.0.align_corners': 'no'}, ["align_corners is 'no'", 'true or false']),
    ({'metrics': 0.6}, ['metrics is 0.6', 'a list']),
    # keys that need each other, or exclude each other
    ({'input.size': [120, 160]}, ['input has both size and short_side', 'exactly one']),
    ({'input.short_side': REMOVE}, ['input has neither size nor short_side']),
    ({'input.multiple': REMOVE}, ['input.multiple is missing beside short_side', 'Add it']),
    ({'input.size': [120, 160], 'input.short_side': REMOVE},
     ['input.multiple has no meaning without short_side', 'Remove it']),
    ({'input.pad_value': REMOVE}, ['input.pad_value is missing beside resize: letterbox']),
    ({'input.resize': 'stretch'}, ['input.pad_value has no meaning without resize: letterbox']),
    ({'input.dtype': 'uint8'}, ['input.dtype is uint8', '[123.675', 'Set scale: 1']),
    ({'input.rounding': 'even'}, ["input.rounding is 'even'", 'allowed: nearest, up, down']),
    ({'input.longest_side': 60}, ['input.longest_side is 60', 'short_side, 120']),
    ({'input.interpolation': 'bicubic'}, ["input.interpolation is 'bicubic'"]),
    ({'input.resize': 'stretch', 'input.pad_value': REMOVE, 'input.pad': 'centre'},
     ['input.pad has no meaning without resize: letterbox']),
    ({'input.size': [120, 160], 'input.short_side': REMOVE, 'input.multiple': REMOVE,
      'input.rounding': 'up'}, ['input.rounding has no meaning without short_side']),
    ({'input.interpolation': 'unrounded', 'input.dtype': 'uint8', 'input.mean': [0, 0, 0],
      'input.std': [1, 1, 1]}, ['input.interpolation is unrounded, but dtype is uint8']),
    ({'input.window': {'size': [64, 64]}}, ['input.window.stride is missing']),
    ({'input.window': {'size': [64, 64], 'stride': [65, 1]}},
     ['input.window.stride is [65, 1]', 'more than its size']),
    ({'input.window': {'size': [64, 128], 'stride': [64, 64]}},
     ['input.window.size is [64, 128]', 'short_side is 120']),
    ({'outputs.0.void_channels': [20]}, ['void_channels are [20]', '20 channels, 0 to 19']),
    ({'outputs': [BINARY | {'void_channels': [1]}]},
     ['outputs[0].void_channels means nothing with kind: sigmoid']),
    ({'outputs.0.classes': [CLASSES[0], CLASSES[1] | {'void': True, 'drivable': True}]},
     ['classes[1].drivable is true, but void is, too']),
    ({'remaps': ['none.yaml']}, ['none.yaml']),
    ({'outputs.0.activation': 'raw'}, ['outputs[0].activation has no meaning without kind: sig']),
    ({'outputs.0.threshold': 0.5}, ['outputs[0].threshold means nothing with kind: logits']),
    ({'outputs.0.temperature': 0}, ['outputs[0].temperature is 0', '0.05']),
    ({'outputs.0.temperature': 'warm'}, ['outputs[0].temperature', 'a number']),
    ({'outputs': [BINARY | {'temperature': 1.2}]},
     ['outputs[0].temperature means nothing with kind: sigmoid']),
    ({'outputs.0.layout': 'NHW'}, ['outputs[0].layout is NHW', 'only kind: labels']),
    ({'outputs.0.kind': 'labels', 'outputs.0.align_corners': True},
     ['outputs[0].align_corners means nothing with kind: labels']),
    ({'outputs': [{key: value for key, value in BINARY.items() if key != 'activation'}]},
     ['outputs[0].activation is missing beside kind: sigmoid']),
    ({'outputs': [BINARY | {'threshold': 1}]}, ['outputs[0].threshold is 1', 'less than 1']),
    # class tables
    ({'outputs.0.classes': 'cityscapes'}, ['outputs[0].classes', "Did you mean 'cityscapes19'?"]),
    ({'outputs.0.classes': 'none.yaml'}, ['outputs[0].classes', 'none.yaml cannot be read']),
    ({'outputs.0.classes': []}, ['outputs[0].classes is []']),
    ({'outputs.0.classes': ['road']}, ["outputs[0].classes[0] is 'road'", 'mapping']),
    ({'outputs.0.classes': [CLASSES[0], CLASSES[0]]}, ['outputs[0].classes[1].id is 0']),
    ({'outputs.0.classes': CLASSES[:1]}, ['outputs[0].classes has one class', 'kind: sigmoid']),
    ({'outputs': [BINARY | {'classes': 'cityscapes19'}]},
     ['outputs[0].classes has 19 classes', 'exactly 2']),
    ({'outputs.0.role': 'drivable', 'outputs.0.classes': 'voc21'},
     ['outputs[0].role is drivable, but no class', 'drivable: true']),
    # two outputs
    ({'outputs': [BINARY, BINARY | {'role': 'labels'}]}, ["have the name 'drivable'"]),
    ({'outputs': [BINARY, BINARY | {'name': 'more'}]}, ["have the role 'drivable'"]),
    ({'outputs': [BINARY] * 5}, ['outputs is [', '1 to 4 entries']),
])
def test_a_wrong_card_is_refused(tmp_path, changes, words):
    message = refusal(loaded, tmp_path, edited(changes))
    assert str(tmp_path / 'card.yaml') in message
    for word in words:
        assert word in message


def test_everything_the_schema_finds_is_told_at_once(tmp_path):
    message = refusal(loaded, tmp_path, edited({
        'input.mean': REMOVE, 'input.layout': 'x', 'outputs.0.kind': 'y', 'colour': 1}))
    assert [line.split()[1] for line in message.splitlines()] == [
        'colour', 'input.mean', 'input.layout', 'outputs[0].kind']


def test_a_key_given_twice_is_refused(tmp_path):
    text = (PALETTE / 'card.yaml').read_text().replace('  scale: 1\n', '  scale: 1\n  scale: 2\n')
    (tmp_path / 'card.yaml').write_text(text)
    message = refusal(load_card, tmp_path)
    assert "'scale' stands here a second time" in message
    assert re.search(r'line \d+', message)


# the card against the model's tensors

IMAGE = TensorInfo('image', ('batch', 3, 'height', 'width'), 'float32')
LOGITS = TensorInfo('logits', ('batch', 19, 'h8', None), 'float32')
SIZED = {'input.short_side': REMOVE, 'input.multiple': REMOVE, 'input.size': [120, 160]}
ONE_HOT = {'outputs.0.kind': 'labels', 'outputs.0.layout': 'NHW'}
NHWC = {'input.layout': 'NHWC', 'outputs.0.layout': 'NHWC'}


@pytest.mark.parametrize(('changes', 'inputs', 'outputs'), [
    ({}, [IMAGE], [LOGITS]),
    ({}, [TensorInfo('image', (), 'float32')], [TensorInfo('logits', (), 'float16')]),
    ({}, [TensorInfo('image', (-1, 3, None, -1), 'float32')], [LOGITS]),
    ({}, [IMAGE], [TensorInfo('aux', (1,), 'int64'), LOGITS]),
    (SIZED, [TensorInfo('image', (1, 3, 120, 160), 'float32')], [LOGITS]),
    (SIZED, [IMAGE], [LOGITS]),
    (NHWC, [TensorInfo('image', (1, 'h', 'w', 3), 'float32')],
     [TensorInfo('logits', (1, 'h', 'w', 19), 'float32')]),
    (ONE_HOT, [IMAGE], [TensorInfo('logits', (1, 'h', 'w'), 'int64')]),
    (ONE_HOT | {'outputs.0.layout': 'NCHW'}, [IMAGE],
     [TensorInfo('logits', (1, 1, 'h', 'w'), 'uint8')]),
    *((ONE_HOT, [IMAGE], [TensorInfo('logits', (1, 'h', 'w'), dtype)])
      for dtype in ('bool', 'float16', 'float32', 'float64')),
    # without the batch axis, or with the pixels in a row
    (ONE_HOT, [IMAGE], [TensorInfo('logits', ('h', 'w'), 'int64')]),
    ({}, [IMAGE], [TensorInfo('logits', (19, 'h', 'w'), 'float32')]),
    ({}, [IMAGE], [TensorInfo('logits', ('n', 19, 'pixels'), 'float32')]),
    ({'outputs.0.layout': 'NHWC'}, [IMAGE], [TensorInfo('logits', ('n', 'p', 19), 'float32')]),
    ({'outputs.0.void_channels': [19]}, [IMAGE],
     [TensorInfo('logits', (1, 20, 'h', 'w'), 'float32')]),
    ({}, [IMAGE], [TensorInfo('logits', (1, 19, 'h', 'w'), 'float64')]),
])
def test_tensors_that_fit(tmp_path, changes, inputs, outputs):
    check_card(loaded(tmp_path, edited(changes)), inputs, outputs)


@pytest.mark.parametrize(('changes', 'inputs', 'outputs', 'words'), [
    ({'input.name': 'images'}, [IMAGE], [LOGITS],
     ["input.name is 'images'", "Did you mean 'image'?", 'It has: image']),
    ({}, [IMAGE, TensorInfo('size', (2,), 'int64')], [LOGITS], ['further inputs (size)']),
    ({'input.dtype': 'float16'}, [IMAGE], [LOGITS],
     ["input.dtype is float16, the model's is float32"]),
    (NHWC, [IMAGE], [LOGITS],
     ['input.layout is NHWC', "'image' has width channels", 'It looks like layout: NCHW',
      "19 classes; the model's 'logits' has any number of channels by layout NHWC"]),
    ({}, [TensorInfo('image', (1, 512, 896, 3), 'float32')], [LOGITS],
     ['input.layout is NCHW', '512 channels', 'It looks like layout: NHWC']),
    ({}, [TensorInfo('image', (1, 1, 'h', 'w'), 'float32')], [LOGITS],
     ['an image has 3 channels', "'image' has 1 channels"]),
    ({}, [TensorInfo('image', (3, 'h', 'w'), 'float32')], [LOGITS],
     ['input.layout is NCHW, 4 axes', '[3, h, w]']),
    ({}, [TensorInfo('image', (4, 3, 'h', 'w'), 'float32')], [LOGITS], ['exactly 4 images']),
    ({}, [TensorInfo('image', (1, 3, 120, 160), 'float32')], [LOGITS],
     ['short_side is for a dynamic input', 'size: [120, 160]']),
    (SIZED, [TensorInfo('image', (1, 3, 160, 120), 'float32')], [LOGITS],
     ["input.size is [120, 160], the model's is [160, 120]", 'It is [height, width]']),
    (SIZED, [TensorInfo('image', (1, 3, 120, 161), 'float32')], [LOGITS],
     ["input.size is [120, 160], the model's is [120, 161]"]),
    ({'outputs.0.name': 'logit'}, [IMAGE], [LOGITS, TensorInfo('aux', (), 'float32')],
     ["outputs[0].name is 'logit'", "Did you mean 'logits'?", 'It has: logits, aux']),
    ({}, [IMAGE], [TensorInfo('logits', (1, 21, 'h', 'w'), 'float32')],
     ['outputs[0].classes (cityscapes19) has 19 classes', "'logits' has 21 channels"]),
    ({}, [IMAGE], [TensorInfo('logits', (1, 64, 128, 19), 'float32')],
     ['64 channels by layout NCHW', 'It looks like layout: NHWC']),
    ({}, [IMAGE], [TensorInfo('logits', (1, 'h', 21), 'float32')],
     ['outputs[0].layout is NCHW, 4 axes', '[1, h, 21]']),
    ({}, [IMAGE], [TensorInfo('logits', (1, 20, 'h', 'w'), 'float32')],
     ['19 classes', '20 channels', 'void_channels: [19]']),
    ({'outputs.0.void_channels': [19, 20]}, [IMAGE], [LOGITS],
     ['19 classes and void_channels are [19, 20]', '19 channels']),
    ({}, [IMAGE], [TensorInfo('logits', (1, 'h', 'w'), 'int64')],
     ['outputs[0].kind is logits', 'int64', 'kind: labels']),
    ({}, [IMAGE], [TensorInfo('logits', (1, 19, 'h', 'w'), 'bfloat16')],
     ['float32 or float16', 'bfloat16']),
    (ONE_HOT, [IMAGE], [TensorInfo('logits', (1, 'h', 'w'), 'string')],
     ['outputs[0].kind is labels, which is whole numbers', 'string']),
    (ONE_HOT | {'outputs.0.layout': 'NCHW'}, [IMAGE],
     [TensorInfo('logits', (1, 19, 'h', 'w'), 'int64')],
     ['outputs[0].kind labels has one channel', '19 channels']),
    ({'outputs': [BINARY]}, [IMAGE], [TensorInfo('drivable', (1, 2, 'h', 'w'), 'float32')],
     ['outputs[0].kind sigmoid has one channel', '2 channels']),
])
def test_a_mismatch_prints_both_sides(tmp_path, changes, inputs, outputs, words):
    card = loaded(tmp_path, edited(changes))
    message = refusal(check_card, card, inputs, outputs)
    assert str(tmp_path / 'card.yaml') in message
    for word in words:
        assert word in message
    for tensor in (*inputs, *outputs):
        assert f'{tensor.name!r} {tensor.dtype} [' in message


def test_all_mismatches_are_told_at_once(tmp_path):
    card = loaded(tmp_path, edited({'input.dtype': 'float16', 'outputs.0.name': 'x'}))
    lines = refusal(check_card, card, [IMAGE], [LOGITS]).splitlines()
    assert [line[:14] for line in lines if line.startswith('- ')] == [
        '- input.dtype ', '- outputs[0].n']
    assert "  output 'logits' float32 [batch, 19, h8, ?]" in lines


@pytest.mark.parametrize(('kind', 'dtype'), [
    ('tensor(float)', 'float32'), ('tensor(float16)', 'float16'), ('tensor(uint8)', 'uint8'),
    ('tensor(int64)', 'int64'), ('tensor(double)', 'float64')])
def test_types_of_onnx_runtime(kind, dtype):
    assert TensorInfo.from_onnx('x', [1, 'n'], kind) == TensorInfo('x', (1, 'n'), dtype)


# real models

@pytest.mark.parametrize('name', sorted(
    folder.parent.name for folder in shared('models').glob('*/card.yaml')))
def test_a_shipped_model_fits_its_card(name):
    card = load_card(name)
    assert card.name == card.directory.name == name
    session = session_of(card)
    check_card(card, *tensors_of(session))
    image = np.zeros((1, 3, 64, 96), np.float32)
    logits, = session.run([card.main_output.name], {card.input.name: image})
    assert logits.shape[:2] == (1, len(card.main_output.classes))


# the palette models

VARIANTS = sorted(folder.name for folder in MODELS.glob('palette_*'))
CITYSCAPES = load_taxonomy('cityscapes19')


def painted():
    """Return labels (120, 160) in aligned 8x8 blocks of every class and their BGR picture."""
    blocks = np.random.default_rng(7).integers(0, 19, (15, 20)).astype(np.uint8)
    assert len(np.unique(blocks)) == 19
    labels = np.repeat(np.repeat(blocks, 8, axis=0), 8, axis=1)
    return labels, CITYSCAPES.palette_bgr()[labels]


def run(card, image):
    """Run a card's model on a BGR image by the card's formula; return its outputs by name."""
    spec = card.input
    colour = image if spec.colour == 'bgr' else image[..., ::-1]
    tensor = ((colour * spec.scale - np.array(spec.mean)) / spec.std).astype(spec.dtype)
    if spec.layout == 'NCHW':
        tensor = tensor.transpose(2, 0, 1)
    names = [output.name for output in card.outputs]
    session = session_of(card)
    return dict(zip(names, session.run(names, {spec.name: tensor[None]}), strict=True))


def classes_of(output, tensor):
    """Return the (h, w) class ids that one output holds."""
    if output.layout == 'NHW':
        return tensor[0]
    planes = tensor[0] if output.layout == 'NCHW' else tensor[0].transpose(2, 0, 1)
    if output.kind == 'sigmoid':
        return (planes[0] >= (0 if output.activation == 'raw' else output.threshold)).astype(int)
    return planes.argmax(axis=0)


def test_every_way_to_end_a_network_has_a_palette_model():
    cards = [load_card(MODELS / name) for name in VARIANTS]
    assert len(cards) == 9
    assert {output.kind for card in cards for output in card.outputs} == {
        'logits', 'probabilities', 'labels', 'sigmoid'}
    assert {card.input.dtype for card in cards} == {'float32', 'float16', 'uint8'}
    assert all(card.model_path.stat().st_size < 1024 for card in cards)


@pytest.mark.parametrize('name', VARIANTS)
def test_a_palette_model_answers_exactly(name):
    card = load_card(MODELS / name)
    check_card(card, *tensors_of(session_of(card)))
    labels, image = painted()
    tensors = run(card, image)
    for output in card.outputs:
        expected = labels[4::8, 4::8] if name == 'palette_stride8' else labels
        if output.role == 'drivable':
            positive = output.classes.names[1].split(' or ')
            expected = CITYSCAPES.drivable_lut(positive)[expected] // 255
        np.testing.assert_array_equal(classes_of(output, tensors[output.name]), expected)


def test_a_palette_model_takes_any_batch_and_survives_noise():
    card = load_card(PALETTE)
    labels, image = painted()
    noise = np.random.default_rng(3).normal(0, 2, image.shape)
    noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
    tensor = (noisy[..., ::-1] - np.array(card.input.mean)) / card.input.std
    batch = np.stack([tensor.transpose(2, 0, 1)] * 2).astype(np.float32)
    logits, = session_of(card).run(None, {'image': batch})
    assert logits.shape == (2, 19, 120, 160)
    np.testing.assert_array_equal(logits.argmax(axis=1), [labels, labels])


@pytest.mark.parametrize('changes', [{'input.colour': 'bgr'},
                                     {'input.mean': [0, 0, 0], 'input.std': [1, 1, 1]}])
def test_a_palette_model_shows_a_wrong_card(tmp_path, changes):
    card = loaded(tmp_path, edited(changes))
    labels, image = painted()
    answer = run(card, image)['logits'][0].argmax(axis=0)
    assert (answer == labels).mean() < 0.5


def test_the_generator_writes_the_same_models(tmp_path):
    subprocess.run([sys.executable, MODELS / 'make_palette_models.py', tmp_path], check=True,
                   stdout=subprocess.DEVNULL,
                   env=os.environ | {'PYTHONPATH': str(MODELS.parents[1])})
    for name in VARIANTS:
        for file in ('model.onnx', 'card.yaml'):
            assert (tmp_path / name / file).read_bytes() == (MODELS / name / file).read_bytes()


# schema, code and README agree

SCHEMA = json.loads(shared('models', 'card.schema.json').read_text(encoding='utf-8'))
TABLE_SCHEMA = json.loads(shared('models', 'classes.schema.json').read_text(encoding='utf-8'))


def keys_of(schema, prefix=''):
    """Return {dotted key: (whether it is required, its schema)} of all keys of a schema."""
    found = {}
    for name, child in schema.get('properties', {}).items():
        key = f'{prefix}{name}'
        found[key] = name in schema.get('required', ()), child
        found |= keys_of(child, f'{key}.')
        found |= keys_of(child.get('items', {}), f'{key}[].')
    return found


def readme_rows():
    """Return {key: (needed, allowed)} of README's key table."""
    section = README[README.index('## Every key'):README.index('## Recipes')]
    return {key: (needed, allowed) for key, needed, allowed in
            re.findall(r'^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|', section, re.MULTILINE)}


def all_keys():
    """Return the keys of a card and of the classes in it."""
    classes = TABLE_SCHEMA['properties']['classes']['items']
    return keys_of(SCHEMA) | keys_of(classes, 'outputs[].classes[].')


def test_the_readme_lists_every_key_and_no_other():
    assert set(readme_rows()) == set(all_keys())


def test_the_readme_says_which_keys_are_needed():
    rows = readme_rows()
    assert {key for key, (needed, _) in rows.items() if needed == 'yes'} == {
        key for key, (required, _) in all_keys().items() if required}


def test_the_readme_lists_every_allowed_word():
    words = {key: child['enum'] for key, (_, child) in all_keys().items() if 'enum' in child}
    assert {key: re.findall(r'`([^`]+)`', readme_rows()[key][1]) for key in words} == words


def test_every_key_explains_itself():
    assert all(child.get('description') for _, child in all_keys().values())


def test_the_schema_has_the_keys_of_the_specs():
    items = SCHEMA['properties']['outputs']['items']['properties']
    assert {field.name for field in fields(InputSpec)} == set(
        SCHEMA['properties']['input']['properties'])
    assert {field.name for field in fields(OutputSpec)} == set(items)
    assert {field.name for field in fields(Metric)} == set(
        SCHEMA['properties']['metrics']['items']['properties'])


@pytest.mark.parametrize('name', ['card', 'classes', 'remap'])
def test_a_schema_reads_the_same_in_draft_7(name):
    schema = json.loads(shared('models', f'{name}.schema.json').read_text(encoding='utf-8'))
    assert schema['$schema'] == 'https://json-schema.org/draft/2020-12/schema'
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft7Validator.check_schema(schema)
    both = set(jsonschema.Draft202012Validator.VALIDATORS) & set(
        jsonschema.Draft7Validator.VALIDATORS) - {'$ref'}
    notes = {'$schema', 'title', 'description'}

    def used(node):
        for key, value in node.items():
            if key == 'properties':
                for child in value.values():
                    yield from used(child)
            else:
                yield key
                if isinstance(value, dict):
                    yield from used(value)
    assert set(used(schema)) <= both | notes


def blocks(language):
    """Return README's code blocks in a language, without the indent of a list."""
    found = re.findall(rf'^( *)```{language}\n(.*?)^ *```', README, re.MULTILINE | re.DOTALL)
    return [re.sub(rf'^{indent}', '', text, flags=re.MULTILINE) for indent, text in found]


def test_the_readmes_whole_card_loads(tmp_path):
    text, = (block for block in blocks('yaml') if 'name: my_model' in block)
    card = yaml.safe_load(text)
    written_by_tools = {'int8', 'reference', 'stress'}
    assert set(card) == set(SCHEMA['properties']) - written_by_tools
    assert card.pop('remaps') == ['to_cityscapes19.yaml']
    card |= {key: VALID[key] for key in ('file', 'size_bytes', 'sha256')}
    assert loaded(tmp_path, card).metrics[0].value == 0.81


@pytest.mark.parametrize('number', range(7))
def test_a_recipe_loads(tmp_path, number):
    recipes = [block for block in blocks('yaml') if block.startswith('input:')]
    assert len(recipes) == 7
    card = VALID | yaml.safe_load(recipes[number])
    assert loaded(tmp_path, card).input.name


def test_the_readmes_commands():
    shell, = (block for block in blocks('bash') if 'onnxruntime' in block)
    shell = shell.replace('python3', sys.executable)
    listing = subprocess.run(['bash', '-c', shell], cwd=PALETTE, check=True, text=True,
                             capture_output=True).stdout
    assert "image tensor(float) ['batch', 3, 'height', 'width']" in listing
