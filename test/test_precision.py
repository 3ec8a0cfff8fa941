"""Half-precision and int8 copies of a model."""

import numpy as np
import pytest

from seg_node.engines.precision import quantise
from seg_node.model.card import load_card

onnx = pytest.importorskip('onnx')
precision = pytest.importorskip('training.precision')

MODEL = 'deeplabv3plus_lite0_camvid'


@pytest.fixture
def images(data_dir):
    """Return five images that are far apart."""
    return sorted((data_dir / 'data/camvid/train/images').glob('*'))[::80]


@pytest.mark.slow
@pytest.mark.parametrize(('kind', 'least', 'share'), [('fp16', 0.998, 0.55),
                                                      ('int8', 0.96, 0.35)])
def test_a_copy_is_smaller_and_agrees(kind, least, share, tmp_path, images):
    card = load_card(MODEL)
    precision.convert(card, kind, tmp_path / 'copy', images)
    copy = load_card(tmp_path / 'copy')  # checks the sha256 too
    assert copy.name == f'{MODEL}_{kind}' and not {'metrics', 'speed', 'picture'} & set(copy.raw)
    assert (copy.model_path.stat().st_size
            < share * card.model_path.stat().st_size)
    graph = onnx.load(str(copy.model_path)).graph
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert any(node.op_type == 'QuantizeLinear' for node in graph.node) == (kind == 'int8')
    assert least < precision.agreement(card, copy, images[:3]) < 1


@pytest.mark.slow
def test_a_model_agrees_with_itself(images):
    card = load_card(MODEL)
    assert precision.agreement(card, card, images[:1]) == 1


@pytest.mark.parametrize('tensorrt', [False, True])
def test_int8_is_symmetric_for_tensorrt_and_without_a_sign_for_processors(tmp_path, images,
                                                                          tensorrt):
    """TensorRT knows no zero points; the kernels of processors are faster without a sign."""
    quantise(load_card(MODEL), tmp_path / 'model.onnx', images[:1], tensorrt=tensorrt)
    graph = onnx.load(str(tmp_path / 'model.onnx')).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    points = [tensors[node.input[2]] for node in graph.node if node.op_type == 'QuantizeLinear']
    assert points
    if tensorrt:
        assert all(point.dtype == np.int8 and not point.any() for point in points)
    else:
        assert all(point.dtype == np.uint8 for point in points)


def test_what_cannot_be_converted_is_refused(tmp_path):
    card = load_card(MODEL)
    with pytest.raises(ValueError, match='allowed: fp16, int8'):
        precision.convert(card, 'int4', tmp_path, [])
    with pytest.raises(ValueError, match='needs images to calibrate'):
        precision.convert(card, 'int8', tmp_path, [])
    unreadable = tmp_path / 'x.jpg'
    unreadable.write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'x\.jpg \(8 bytes\) is not an image'):
        precision.convert(card, 'int8', tmp_path / 'copy', [unreadable])
