"""
Average the weights of runs that began from the same ones; often better than each of them.

Only for runs with ``frozen_norm``: moving statistics of batch norms do not average.
"""

import argparse
from pathlib import Path

from . import run_state


def mean(paths: list[Path], weights: list[float]) -> dict:
    """
    Return the first checkpoint with the weighted mean of all averaged models.

    :param weights: one for each, scaled here so that they sum to 1.
    :raises ValueError: checkpoints of different networks, or weights that sum to 0.
    """
    states = [run_state.load(path) for path in paths]
    first, total = states[0], sum(weights)
    if total <= 0:
        raise ValueError(f'weights {weights} sum to {total}: they must sum to more than 0')
    shapes = [{key: value.shape for key, value in state['average'].items()} for state in states]
    for path, found in zip(paths, shapes, strict=True):
        if found != shapes[0]:
            raise ValueError(f'{path} holds another network than {paths[0]}: only checkpoints of '
                             'one network can be averaged')
    first['average'] = {
        key: sum(state['average'][key] * (weight / total)
                 for state, weight in zip(states, weights, strict=True)).to(value.dtype)
        if value.is_floating_point() else value for key, value in first['average'].items()}
    return first


def main() -> None:
    """Parse the command line and average."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('out', type=Path, help='checkpoint to write, for training.export')
    parser.add_argument('checkpoints', type=Path, nargs='+', help='best.pt or last.pt of runs')
    parser.add_argument('--weights', type=float, nargs='+', help='one each; default: equal')
    options = parser.parse_args()
    weights = options.weights or [1.0] * len(options.checkpoints)
    if len(weights) != len(options.checkpoints):
        raise SystemExit(f'{len(weights)} weights for {len(options.checkpoints)} checkpoints')
    try:
        run_state.save(options.out, mean(options.checkpoints, weights))
    except ValueError as error:
        raise SystemExit(str(error)) from error


if __name__ == '__main__':
    main()
