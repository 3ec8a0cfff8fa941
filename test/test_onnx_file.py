"""Weights outside the file that the checksum covers are found wherever a tensor can be."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
import pytest
import yaml

from seg_node.devices import backend as backends
from seg_node.errors import ConfigError
from seg_node.model.card import load_card
from seg_node.model.onnx_file import CHILDREN, DATA_LOCATION, EXTERNAL_DATA, external_files
from seg_node.paths import shared

PALETTE = Path(__file__).parent / 'models' / 'palette_cityscapes19'


def outside(name='w', file='weights.bin'):
    """Return a tensor whose data lies in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4],
                         data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key='offset', value='0')
    if file:
        tensor.external_data.add(key='location', value=file)
    return tensor


def inside(name='w'):
    return numpy_helper.from_array(np.ones(4, np.float32), name)


def graph(*nodes, initializer=(), **given):
    return helper.make_graph(
        list(nodes), 'g', [helper.make_tensor_value_info('x', 1, [4])],
        [helper.make_tensor_value_info('y', 1, [4])], initializer=list(initializer), **given)


def constant(tensor):
    return helper.make_node('Constant', [], ['c'], value=tensor)


def branch(tensor):
    """Return a node whose inner graph holds the tensor."""
    inner = graph(initializer=[tensor])
    return helper.make_node('If', ['x'], ['y'], then_branch=inner, else_branch=inner)


def several(tensor):
    node = helper.make_node('Own', [], ['c'])
    node.attribute.append(helper.make_attribute('tensors', [inside(), tensor]))
    return node


def sparse(tensor):
    return onnx.SparseTensorProto(values=tensor, indices=inside('i'), dims=[9])


def function(tensor):
    return helper.make_function('own', 'F', [], ['c'], [constant(tensor)], [])


def training(tensor):
    model = helper.make_model(graph())
    model.training_info.add(algorithm=graph(initializer=[tensor]))
    return model


PLACES = {
    'initializer': lambda tensor: helper.make_model(graph(initializer=[inside(), tensor])),
    'constant': lambda tensor: helper.make_model(graph(constant(tensor))),
    'branch': lambda tensor: helper.make_model(graph(branch(tensor))),
    'branch in a branch': lambda tensor: helper.make_model(graph(helper.make_node(
        'Loop', ['x'], ['y'], body=graph(branch(tensor))))),
    'list': lambda tensor: helper.make_model(graph(several(tensor))),
    'sparse': lambda tensor: helper.make_model(graph(sparse_initializer=[sparse(tensor)])),
    'function': lambda tensor: helper.make_model(graph(), functions=[function(tensor)]),
    'training': training,
}


@pytest.mark.parametrize('place', PLACES)
def test_weights_elsewhere_are_found(place):
    make = PLACES[place]
    assert external_files(make(outside()).SerializeToString()) == ['weights.bin']
    assert external_files(make(inside()).SerializeToString()) == []
    assert external_files(make(outside(file='')).SerializeToString()) == ['another file']


def test_all_files_are_named_once():
    tensors = [outside('a', 'b.bin'), outside('b', 'a.bin'), outside('c', 'b.bin')]
    model = helper.make_model(graph(initializer=tensors))
    assert external_files(model.SerializeToString()) == ['a.bin', 'b.bin']


def test_words_that_look_like_it_are_no_weights():
    """Names and metadata may say 'location'."""
    model = helper.make_model(graph(helper.make_node('Add', ['location', 'x'], ['y']),
                                    initializer=[inside('location')]))
    helper.set_model_props(model, {'location': 'weights.bin'})
    model.graph.initializer[0].doc_string = 'location'
    assert external_files(model.SerializeToString()) == []


def test_every_way_to_a_tensor_is_walked():
    """The table against onnx's own description: no message that leads to a tensor is left out."""
    def leads(message, seen=()):
        if message.name == 'TensorProto':
            return True
        return any(field.message_type and field.message_type.name not in seen
                   and leads(field.message_type, (*seen, message.name))
                   for field in message.fields)
    front, found = [onnx.ModelProto.DESCRIPTOR], {}
    while front:
        message = front.pop()
        if message.name in found or message.name == 'TensorProto':
            continue
        children = [field for field in message.fields
                    if field.message_type and leads(field.message_type)]
        found[message.name] = {field.number: field.message_type.name for field in children}
        front += [field.message_type for field in children]
    assert found == CHILDREN
    fields = TensorProto.DESCRIPTOR.fields_by_name
    assert (fields['external_data'].number, fields['data_location'].number) == (
        EXTERNAL_DATA, DATA_LOCATION)


@pytest.mark.parametrize('data', [b'\x3a\x7f', b'\xff' * 12, b'\x0b\x0c', b'\x00\x00', b'\x3a',
                                  b'hello, I am no model'])
def test_what_is_no_model_is_said_to_be_none(data):
    with pytest.raises(ValueError, match='byte'):
        external_files(data)


def test_arbitrary_bytes_end(seed=0):
    rng = np.random.default_rng(seed)
    model = PLACES['branch in a branch'](outside()).SerializeToString()
    refused = 0
    for _ in range(500):
        changed = bytearray(model)
        for place in rng.integers(0, len(model), 3):
            changed[place] = rng.integers(256)
        try:
            external_files(bytes(changed))
        except ValueError:
            refused += 1
    assert 50 < refused < 500


@pytest.mark.parametrize('name', sorted(
    folder.parent.name for folder in shared('models').glob('*/model.onnx')))
def test_shipped_models_are_whole(name):
    assert external_files((shared('models', name) / 'model.onnx').read_bytes()) == []


# what a card does with it

def card_of(folder, model):
    """Write a model and a card that describes it."""
    card = yaml.safe_load((PALETTE / 'card.yaml').read_text())
    data = model if isinstance(model, bytes) else model.SerializeToString()
    (folder / 'model.onnx').write_bytes(data)
    card.update(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    (folder / 'card.yaml').write_text(yaml.safe_dump(card))
    return folder


def test_a_card_whose_model_has_weights_elsewhere_is_refused(tmp_path):
    """With the mend, which works."""
    model = onnx.load(str(PALETTE / 'model.onnx'))
    onnx.save(model, str(tmp_path / 'model.onnx'), save_as_external_data=True,
              location='weights.bin', size_threshold=0)
    card_of(tmp_path, (tmp_path / 'model.onnx').read_bytes())
    with pytest.raises(ConfigError, match=r'weights in weights\.bin.*onnx\.save') as caught:
        load_card(tmp_path)
    assert str(caught.value).isprintable()
    whole = onnx.load(str(tmp_path / 'model.onnx'))
    load_card(card_of(tmp_path, whole))


def test_a_file_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='is no ONNX file'):
        load_card(card_of(tmp_path, b'GIF89a' + bytes(99)))


def test_the_runtime_gets_the_bytes_that_were_checked(tmp_path):
    """A file exchanged after the card was loaded is refused, not run."""
    card = load_card(card_of(tmp_path, (PALETTE / 'model.onnx').read_bytes()))
    assert card.read_model() == (PALETTE / 'model.onnx').read_bytes()
    other = onnx.load(str(PALETTE / 'model.onnx'))
    other.producer_name = 'x' * len(other.producer_name)
    (tmp_path / 'model.onnx').write_bytes(other.SerializeToString())
    for use in (card.read_model, lambda: backends.load(
            'onnxruntime', card, providers=['CPUExecutionProvider'], threads=1)):
        with pytest.raises(ConfigError, match='sha256 is|size_bytes is'):
            use()


def test_the_runtime_never_opens_the_path(monkeypatch):
    card = load_card(PALETTE)
    model = card.read_model()
    object.__setattr__(card, 'model_path', Path('/nowhere/model.onnx'))
    monkeypatch.setattr(type(card), 'read_model', lambda card: model)
    backend = backends.load('onnxruntime', card, providers=['CPUExecutionProvider'], threads=1)
    [output] = backend.run(np.zeros((1, 3, 120, 160), np.float32))
    assert output.shape == (1, 19, 120, 160)
    backend.close()


def test_the_case(data_dir):
    with pytest.raises(ConfigError, match=r'weights\.bin'):
        load_card(data_dir / 'cases' / 'models' / 'external_swapped')
