"""Weights in files: safetensors, or PyTorch's own as far as they hold nothing but tensors."""

from collections.abc import Mapping
from pathlib import Path
import pickle
from typing import Any

from seg_node.errors import ConfigError

_INSIDE = ('state_dict', 'model_state_dict', 'model_state', 'model', 'net', 'weights')


def read_state(path: Path) -> dict[str, Any]:
    """
    Return the tensors of a file by their names; no code in it is run.

    :raises ConfigError: it cannot be read, or holds more than tensors.
    """
    import torch
    if not path.is_file():
        raise ConfigError(f'{path} is no file. Give the file that holds the weights.')
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file
            return dict(load_file(path))
        found = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(f'{path} holds more than tensors, and to read it would run the code in '
                          'it. Where you trust it, write its tensors alone: torch.save('
                          f"torch.load('{path.name}', weights_only=False).state_dict(), "
                          f"'weights.pth') ({str(error).splitlines()[0][:120]})") from error
    except Exception as error:  # what a damaged file raises depends on where
        raise ConfigError(f'{path} cannot be read as weights: {str(error).splitlines()[0][:200]}. '
                          'Give a .safetensors file, or what torch.save(model.state_dict()) '
                          'wrote.') from error
    for _ in range(2):  # checkpoints of training keep them among other things
        key = next((name for name in _INSIDE if isinstance(found, Mapping)
                    and isinstance(found.get(name), Mapping)), None)
        found = found[key] if key else found
    tensors = {name: value for name, value in found.items()
               if isinstance(value, torch.Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        raise ConfigError(f'{path} holds no tensors by name. Give what '
                          'torch.save(model.state_dict()) wrote.')
    return tensors


def fill(network: Any, tensors: Mapping[str, Any], path: Path) -> list[str]:
    """
    Load tensors into a network, which must all be there; names may have one prefix more.

    :returns: names of the tensors that the network has no place for: auxiliary heads as a rule.
    :raises ConfigError: some are missing, or of another shape.
    """
    wanted = network.state_dict()
    prefixes = ('', *dict.fromkeys(name.partition('.')[0] + '.' for name in tensors))
    prefix = max(prefixes, key=lambda head: sum(head + name in tensors for name in wanted))
    mine = {name.removeprefix(prefix): value for name, value in tensors.items()
            if name.startswith(prefix)}
    missing = [name for name in wanted if name not in mine
               and not name.endswith('num_batches_tracked')]
    other = [f'{name} {list(mine[name].shape)} instead of {list(wanted[name].shape)}'
             for name in wanted if name in mine and mine[name].shape != wanted[name].shape]
    if missing or other:
        problem = (f'{len(missing)} of {len(wanted)} tensors are missing, the first: {missing[0]}'
                   if missing else f'tensors have other shapes, the first: {other[0]}')
        raise ConfigError(f'{path} does not fit this network: {problem}. Choose the variant it '
                          'was trained as, with its number of classes.')
    network.load_state_dict({name: mine[name] for name in wanted if name in mine}, strict=False)
    network.eval()
    return [name for name in mine if name not in wanted]
