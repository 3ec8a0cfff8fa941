"""
Average the weights of runs that began from the same ones; often better than each of them.

Of checkpoints (.pt) or of exported models (.onnx). Only for runs with ``frozen_norm``: moving
statistics of batch norms do not average.
"""

import argparse
from pathlib import Path

import onnx
from onnx import numpy_helper

from . import run_state


def mean(paths: list[Path], weights: list[float]) -> dict:
    """
    Return the first checkpoint with the weighted mean of all averaged models.

    :param weights: one for each, scaled here so that they sum to 1.
    :raises ValueError: checkpoints of different networks, or weights that sum to 0.
    """
    shares = _shares(weights)
    states = [run_state.load(path) for path in paths]
    first = states[0]
    _check(paths, [{key: value.shape for key, value in state['average'].items()}
                   for state in states])
    first['average'] = {
        key: sum(state['average'][key] * share
                 for state, share in zip(states, shares, strict=True)).to(value.dtype)
        if value.is_floating_point() else value for key, value in first['average'].items()}
    return first


def mean_exported(paths: list[Path], weights: list[float]) -> onnx.ModelProto:
    """
    Return the first exported model with the weighted mean of all of them.

    :param weights: one for each, scaled here so that they sum to 1.
    :raises ValueError: models of different networks, or weights that sum to 0.
    """
    shares = _shares(weights)
    models = [onnx.load(str(path)) for path in paths]
    held = [[numpy_helper.to_array(one) for one in model.graph.initializer] for model in models]
    _check(paths, [([node.op_type for node in model.graph.node], [one.shape for one in arrays])
                   for model, arrays in zip(models, held, strict=True)])
    for place, arrays in zip(models[0].graph.initializer, zip(*held, strict=True), strict=True):
        if arrays[0].dtype.kind == 'f':
            value = sum(one * share for one, share in zip(arrays, shares, strict=True))
            place.CopyFrom(numpy_helper.from_array(value.astype(arrays[0].dtype), place.name))
    return models[0]


def _shares(weights: list[float]) -> list[float]:
    total = sum(weights)
    if total <= 0:
        raise ValueError(f'weights {weights} sum to {total}: they must sum to more than 0')
    return [weight / total for weight in weights]


def _check(paths: list[Path], shapes: list) -> None:
    for path, found in zip(paths, shapes, strict=True):
        if found != shapes[0]:
            raise ValueError(f'{path} holds another network than {paths[0]}: only those of one '
                             'network can be averaged')


def main() -> None:
    """Parse the command line and average."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('out', type=Path, help='file to write: a checkpoint for training.export, '
                        'or a .onnx')
    parser.add_argument('inputs', type=Path, nargs='+', help='best.pt or last.pt of runs, or '
                        'model.onnx of exports')
    parser.add_argument('--weights', type=float, nargs='+', help='one each; default: equal')
    options = parser.parse_args()
    weights = options.weights or [1.0] * len(options.inputs)
    if len(weights) != len(options.inputs):
        raise SystemExit(f'{len(weights)} weights for {len(options.inputs)} inputs')
    suffixes = {path.suffix for path in (options.out, *options.inputs)}
    if len(suffixes) > 1:
        raise SystemExit(f'{", ".join(sorted(suffixes))}: give all of one kind')
    try:
        if suffixes == {'.onnx'}:
            onnx.save(mean_exported(options.inputs, weights), str(options.out))
        else:
            run_state.save(options.out, mean(options.inputs, weights))
    except ValueError as error:
        raise SystemExit(str(error)) from error


if __name__ == '__main__':
    main()
