"""
Makes small real networks that misbehave at run time, out of the palette model.

A ``Loop`` of ONNX runs for as long as its condition holds; what it counts is multiplied by zero
and added to the scores, so that the answers are the palette model's.
"""

from collections.abc import Callable
import hashlib
from pathlib import Path
import time

import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
import yaml

PALETTE = Path(__file__).parent / 'models' / 'palette_cityscapes19'
_FOR_EVER = 2 ** 62


def write(folder: Path, edit: Callable[[onnx.ModelProto], None] | None = None,
          **card_changes: object) -> Path:
    """Write a changed palette model with a card that fits it; return its folder."""
    folder.mkdir(parents=True)
    model = onnx.load(PALETTE / 'model.onnx')
    if edit:
        edit(model)
    onnx.save(model, folder / 'model.onnx')
    card = yaml.safe_load((PALETTE / 'card.yaml').read_text())
    data = (folder / 'model.onnx').read_bytes()
    card.update(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), **card_changes)
    (folder / 'card.yaml').write_text(yaml.safe_dump(card))
    return folder


def hangs_on_white(model: onnx.ModelProto) -> None:
    """Run for ever on an image that is white all over; at most one is at a time."""
    _loop(model, trips=_FOR_EVER, above=2.2)


def hangs(model: onnx.ModelProto) -> None:
    """Run for ever on any image: it never gets through the loading."""
    _loop(model, trips=_FOR_EVER, above=-1e9)


def takes(seconds: float) -> Callable[[onnx.ModelProto], None]:
    """
    Return what makes the network take about this long for the same answers.

    A core whose other thread was busy while the loop was timed may run nearly twice as fast later:
    who must know how long it takes, asks the node.
    """
    return lambda model: _loop(model, trips=round(seconds / _trip_s()), above=-1e9)


def _trip_s() -> float:
    """Return what one trip of a loop takes at the least."""
    import onnxruntime
    model, trips = onnx.load(PALETTE / 'model.onnx'), 200_000
    _loop(model, trips=trips, above=-1e9)
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=['CPUExecutionProvider'])
    image = np.zeros((1, 3, 8, 8), np.float32)
    spent_s = []
    for _ in range(5):
        start = time.perf_counter()
        session.run(None, {'image': image})
        spent_s.append(time.perf_counter() - start)
    return min(spent_s) / trips


def fails_unless(height: int, width: int) -> Callable[[onnx.ModelProto], None]:
    """Return what makes ONNX Runtime fail for network inputs of any other size than this."""
    def edit(model: onnx.ModelProto) -> None:
        source = model.graph.input[0].name
        for node in model.graph.node:
            node.input[:] = ['reshaped' if name == source else name for name in node.input]
        _constant(model, 'fixed_shape', np.array([1, 3, height, width]))
        model.graph.node.insert(0, helper.make_node('Reshape', [source, 'fixed_shape'],
                                                    ['reshaped']))
    return edit


def returns_nan(model: onnx.ModelProto) -> None:
    """Put a NaN into the last constant of the network."""
    constant = model.graph.initializer[-1]
    array = numpy_helper.to_array(constant).copy()
    array.reshape(-1)[-1] = np.nan
    constant.CopyFrom(numpy_helper.from_array(array, constant.name))


def _loop(model: onnx.ModelProto, *, trips: int, above: float) -> None:
    """Loop as often before the scores come out, if the darkest value is above a threshold."""
    graph = model.graph
    scores = graph.output[0].name
    for node in graph.node:
        node.output[:] = ['plain_scores' if name == scores else name for name in node.output]
    _constant(model, 'trips', np.array(trips, np.int64))
    _constant(model, 'above', np.array(above, np.float32))
    _constant(model, 'nought', np.array(0, np.float32))
    body = helper.make_graph(
        [helper.make_node('Identity', ['go_on_in'], ['go_on']),
         helper.make_node('Add', ['count_in', 'one'], ['count'])],
        'body',
        [helper.make_tensor_value_info('trip', TensorProto.INT64, []),
         helper.make_tensor_value_info('go_on_in', TensorProto.BOOL, []),
         helper.make_tensor_value_info('count_in', TensorProto.FLOAT, [])],
        [helper.make_tensor_value_info('go_on', TensorProto.BOOL, []),
         helper.make_tensor_value_info('count', TensorProto.FLOAT, [])],
        [numpy_helper.from_array(np.array(1, np.float32), 'one')])
    graph.node.extend([
        helper.make_node('ReduceMin', [graph.input[0].name], ['darkest'], keepdims=0),
        helper.make_node('Greater', ['darkest', 'above'], ['begins']),
        helper.make_node('Loop', ['trips', 'begins', 'nought'], ['counted'], body=body),
        helper.make_node('Mul', ['counted', 'nought'], ['nothing']),
        helper.make_node('Add', ['plain_scores', 'nothing'], [scores])])
    onnx.checker.check_model(model, full_check=True)


def _constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
