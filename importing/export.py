"""torch -> ONNX, and the proof that both say the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import tempfile
from typing import Any
import warnings

import numpy as np

from seg_node.errors import ConfigError

OPSET = 18  # what the exporter writes at least; ONNX Runtime has it since 1.14
#: The most that outputs may differ, as a share of how much they vary.
MOST_ERROR = 1e-3
_AXES = {0: 'batch', 2: 'height', 3: 'width'}


@dataclass(frozen=True)
class Exported:
    """
    An ONNX file that was compared with torch.

    :ivar batch, size: whether any number and size of pictures goes in.
    :ivar error: the largest difference found, as a share of how much the outputs vary.
    :ivar how: the exporter that made it.
    """

    batch: bool
    size: bool
    error: float
    how: str


def export(network: Any, size: tuple[int, int], path: Path, any_size: bool = True) -> Exported:
    """
    Write a network as ONNX, as dynamic as it stays right.

    Tried are any batch and size, any batch, and neither, by both of torch's exporters. What is
    written is compared with torch in ONNX Runtime: one picture, two where the batch is dynamic,
    and another size where that is.

    :param size: (height, width) of the input, multiples of what the network wants.
    :param any_size: whether to try for any size.
    :raises ConfigError: nothing that was written says the same as torch.
    """
    problems: list[str] = []
    for axes, dynamo in _ways():
        if 2 in axes and not any_size:
            continue
        how = f'torch.onnx, {"dynamo" if dynamo else "TorchScript"}'
        try:
            _write(network, size, path, axes, dynamo)
            error = max(_difference(network, path, shape) for shape in _shapes(size, axes))
        except Exception as error_:  # exporters and runtimes raise whatever they like
            text = str(error_).strip().splitlines() or ['']
            problems.append(f'{how}, dynamic {list(axes.values()) or "nothing"}: '
                            f'{type(error_).__name__}: {text[0][:160]}')
            continue
        if error <= MOST_ERROR:
            return Exported(0 in axes, 2 in axes, error, how)
        problems.append(f'{how}, dynamic {list(axes.values()) or "nothing"}: outputs off by '
                        f'{error:.1%} of their spread')
    raise ConfigError('no export says what torch says:\n' + '\n'.join(
        f'- {problem}' for problem in problems) + '\nExport it with the tools of its authors and '
        'import the ONNX file.')


def _ways() -> Iterator[tuple[dict[int, str], bool]]:
    for axes in (_AXES, {0: 'batch'}, {}):
        for dynamo in (True, False):
            yield axes, dynamo


def _shapes(size: tuple[int, int], axes: dict[int, str]) -> list[tuple[int, int, int]]:
    """Return (batch, height, width) of what is compared."""
    shapes = [(1, *size)]
    if 0 in axes:
        shapes.append((2, *size))
    if 2 in axes:
        shapes.append((1, size[0] + 64, max(64, size[1] - 64)))
    return shapes


def _write(network: Any, size: tuple[int, int], path: Path, axes: dict[int, str],
           dynamo: bool) -> None:
    import torch
    sample = torch.rand(2 if 0 in axes else 1, 3, *size)
    names: dict[str, Any] = {'input_names': ['image'], 'output_names': ['scores']}
    if dynamo:
        names['dynamic_shapes'] = ({axis: torch.export.Dim.DYNAMIC for axis in axes},)
    elif axes:
        names['dynamic_axes'] = {'image': axes, 'scores': axes}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        warnings.simplefilter('ignore')
        torch.onnx.export(network, (sample,), str(path), opset_version=OPSET, dynamo=dynamo,
                          external_data=False, artifacts_dir=scratch, verbose=False, **names)


def _difference(network: Any, path: Path, shape: tuple[int, int, int]) -> float:
    """Return how far ONNX Runtime is off torch for one shape, as a share of the spread."""
    import onnxruntime
    import torch
    batch, height, width = shape
    image = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        truth = network(image).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    [found] = session.run(None, {'image': image.numpy()})
    if found.shape != truth.shape:
        return float('inf')
    return float(np.abs(found - truth).max() / max(float(truth.std()), 1e-12))
