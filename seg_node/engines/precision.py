"""
Half-precision and int8 copies of an ONNX model.

int8 is written as Q/DQ nodes, per channel. For TensorRT they are symmetric: TensorRT 11 knows no
other way. For CPUs activations are unsigned with a zero point: what comes out of a ReLU has a bit
more, and VNNI multiplies unsigned by signed. All conversions happen in the ONNX file, before any
engine is built, so the same bytes give the same types on every library and version.
"""

from collections.abc import Iterator, Sequence
import importlib
from pathlib import Path
import tempfile
from typing import Any
import warnings

import numpy as np

from ..errors import BackendError, ConfigError
from ..geometry import fit, Size
from ..gpu.engine_manifest import PRECISIONS
from ..model.card import ModelCard
from ..preprocess import Preprocessor
from ..scoring.picture_file import read_picture

# Quantised, the first layers cost most of the accuracy: what they blur is lost to all others.
KEEP_FIRST = 9
# The first opset whose QuantizeLinear takes half-precision scales.
_HALF_SCALES_OPSET = 19


def network_inputs(card: ModelCard,
                   images: Sequence[Path]) -> Iterator[tuple[Size, np.ndarray]]:
    """
    Yield each image's size and the network's input for it, made as the node makes it.

    :returns: the tensor has the card's layout and dtype, a batch of one, and is valid until the
        next one is asked for.
    :raises ConfigError: when a file cannot be read as an image.
    """
    preprocessor = Preprocessor(card.input)
    for path in images:
        image = read_picture(path)
        size = Size(*image.shape[:2])
        yield size, preprocessor.tensor([image], [fit(card.input, size, None)])


def halve(source: Path, target: Path, *, keep_io: bool) -> None:
    """
    Write a copy of a model that computes in float16.

    :param keep_io: inputs and outputs stay float32, with casts inside; else they are float16,
        so that a kernel can write and read them directly.
    :raises BackendError: onnx or onnxruntime is missing, or the file cannot be read.
    :raises ConfigError: a weight is beyond the range of float16.
    """
    onnx = _require('onnx')
    model = _read(onnx, source)
    _check_range(onnx, model, source)
    onnx.save(_half_copy(model, keep_io), str(target))


def quantise(card: ModelCard, target: Path, calibration: Sequence[Path],
             keep_first: int = KEEP_FIRST, *, tensorrt: bool = False) -> None:
    """
    Write a copy of a card's model with Q/DQ nodes in int8.

    :param calibration: images of the kind the model will see.
    :param keep_first: so many first convolutions stay unquantised.
    :param tensorrt: make it for an engine: what stays unquantised is float16 with its inputs and
        outputs, and biases are not quantised, as TensorRT has no int32 DequantizeLinear. False
        makes it for CPUs: it keeps float32 and quantises the biases, which ONNX Runtime needs for
        its int8 kernels.
    :raises ConfigError: no images, or one that cannot be read.
    :raises BackendError: onnx or onnxruntime is missing, or the model cannot be converted.
    """
    if not calibration:
        raise ConfigError('int8 needs images to calibrate with: give --images a folder of them')
    onnx, quantization = _require('onnx'), _require('onnxruntime.quantization')
    with tempfile.TemporaryDirectory() as scratch:
        source, prepared = _verified(card, Path(scratch)), Path(scratch) / 'prepared.onnx'
        if tensorrt:
            onnx.save(_raised(onnx, _read(onnx, source), card.model_path), str(source))
        _require('onnxruntime.quantization.shape_inference').quant_pre_process(
            str(source), str(prepared), skip_symbolic_shape=True)
        kept = _kept(_read(onnx, prepared).graph, keep_first)
        quantization.quantize_static(
            str(prepared), str(target), _reader(quantization, card, calibration),
            quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=(quantization.QuantType.QInt8 if tensorrt
                             else quantization.QuantType.QUInt8),
            weight_type=quantization.QuantType.QInt8, nodes_to_exclude=kept,
            op_types_to_quantize=['Conv', 'Add', 'Concat'],
            extra_options={'ActivationSymmetric': tensorrt, 'WeightSymmetric': True,
                           'QuantizeBias': not tensorrt,
                           # Not the one brightest sun of all pictures.
                           'CalibMovingAverage': not tensorrt})
    if tensorrt:
        halve(target, target, keep_io=False)


def for_engine(card: ModelCard, precision: str, folder: Path,
               calibration: Sequence[Path] = ()) -> Path:
    """
    Return the model that a strongly typed engine of this precision is built from.

    fp32 is a copy of the card's file; fp16 and int8 have float16 inputs and outputs.

    :param folder: where the model is written.
    :param calibration: images, for int8 only.
    :raises ConfigError: unknown precision, no calibration images, or fp32 of a model that is not.
    :raises BackendError: see ``halve`` and ``quantise``.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f'precision {precision!r} is unknown; allowed: {", ".join(PRECISIONS)}')
    if precision == 'fp32' and card.input.dtype == 'float16':
        raise ConfigError(f'{card.name} is a float16 model, so an engine of precision fp32 would '
                          'only pretend to be one: take --precision fp16, or the float32 model')
    if precision == 'fp32':
        return _verified(card, folder)
    target = folder / f'{precision}.onnx'
    if precision == 'int8':
        quantise(card, target, calibration, tensorrt=True)
    else:
        halve(_verified(card, folder), target, keep_io=False)
    return target


def _verified(card: ModelCard, folder: Path) -> Path:
    """Return a copy of the model that has the card's checksum, for libraries that want a path."""
    copy = folder / 'model.onnx'
    copy.write_bytes(card.read_model())
    return copy


def _require(name: str) -> Any:
    """Return a module of the packages that only conversions need."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BackendError('converting a model needs the packages onnx and onnxruntime: pip '
                           f'install onnx onnxruntime ({error})') from error


def _read(onnx: Any, path: Path) -> Any:
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and onnx raise types of their own
        raise BackendError(f'{path} is not a valid ONNX model: {_first_line(error)}. Export it '
                           'again, or fetch the file again.') from error
    return model


def _check_range(onnx: Any, model: Any, path: Path) -> None:
    """
    Refuse weights that float16 cannot hold: the copy would compute something else.

    It can hold infinity, which attention fills with what it is not to see.
    """
    limit = float(np.finfo(np.float16).max)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor)
            values = values[~np.isinf(values)]
            largest = float(np.abs(values).max()) if values.size else 0.0
            if not largest <= limit:
                raise ConfigError(f'{path}: weight {tensor.name!r} reaches {largest:.4g}, but '
                                  f'float16 ends at {limit:.0f}. Take precision fp32 for this '
                                  'model.')


def _half_copy(model: Any, keep_io: bool) -> Any:
    convert = _require('onnxruntime.transformers.float16').convert_float_to_float16
    with warnings.catch_warnings():
        # One for each weight below 6e-8, which becomes that; too large ones were refused before.
        warnings.simplefilter('ignore', UserWarning)
        return convert(model, keep_io_types=keep_io)


def _raised(onnx: Any, model: Any, path: Path) -> Any:
    """Return the model at the opset that half-precision Q/DQ needs, if it is below."""
    [version] = [entry.version for entry in model.opset_import if entry.domain in ('', 'ai.onnx')]
    if version >= _HALF_SCALES_OPSET:
        return model
    try:
        return _require('onnx.version_converter').convert_version(model, _HALF_SCALES_OPSET)
    except Exception as error:  # the converter is C++ and raises RuntimeError and others
        raise BackendError(f'{path} cannot be raised from opset {version} to '
                           f'{_HALF_SCALES_OPSET}, which int8 needs: {_first_line(error)}. Export '
                           f'it with opset {_HALF_SCALES_OPSET}, or take --precision fp16.'
                           ) from error


def _kept(graph: Any, keep_first: int) -> list[str]:
    """Return the names of the nodes that are not quantised."""
    # The classifier's few weights decide between close logits; they stay as they are.
    producers = {node.output[0]: node.name for node in graph.node}
    kept = [producers[output.name] for output in graph.output if output.name in producers]
    return kept + [node.name for node in graph.node if node.op_type == 'Conv'][:keep_first]


def _reader(quantization: Any, card: ModelCard, images: Sequence[Path]) -> Any:
    class Reader(quantization.CalibrationDataReader):
        """Hands the calibration one network input after the other."""

        def __init__(self) -> None:
            self._tensors = (tensor for _, tensor in network_inputs(card, images))

        def get_next(self) -> dict[str, np.ndarray] | None:
            tensor = next(self._tensors, None)
            return None if tensor is None else {card.input.name: tensor.copy()}

    return Reader()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip('.')
