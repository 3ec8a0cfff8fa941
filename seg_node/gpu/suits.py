"""Whether a model suits the kernels, and an engine its card."""

from collections.abc import Iterator
from dataclasses import replace

from ..errors import ConfigError
from ..model.card import ModelCard
from ..model.tensors import InputSpec, mismatches
from .engine import Engine
from .forms import FORMS, LINEAR, SCORES

_ELSE = 'Use backend: onnxruntime for this model.'


def check_heads(card: ModelCard) -> None:
    """
    Refuse what the kernels do not label.

    :raises ConfigError: the model has such outputs.
    """
    if len(card.outputs) > 1:
        raise ConfigError(f'{card.name} has {len(card.outputs)} outputs; the GPU kernels label '
                          f'one. {_ELSE}')
    spec, given = card.main_output, card.input
    unknown = [text for text, there in (
        (f'input.interpolation: {given.interpolation}', given.interpolation != 'linear'),
        ('input.window', given.window is not None),
        (f'outputs[].void_channels: {list(spec.void_channels)}', bool(spec.void_channels)),
        ('a class with void: true', bool(spec.classes.void_ids))) if there]
    if unknown:
        raise ConfigError(f'{card.name} has {", ".join(unknown)} in its card, which the GPU '
                          f'kernels do not know. {_ELSE}')
    if spec.kind not in ('logits', 'probabilities'):
        raise ConfigError(f'output {spec.name} of {card.name} is {spec.kind}; the GPU kernels '
                          f'label logits and probabilities. {_ELSE}')


def checked_input(card: ModelCard, engine: Engine) -> InputSpec:
    """
    Return the network's input in the engine's own type, which may be narrower than the card's.

    :raises ConfigError: card and engine contradict one another in anything else.
    """
    spec = card.input
    for tensor in engine.inputs:
        if tensor.name == spec.name and tensor.dtype in ('float32', 'float16'):
            if spec.dtype in ('float32', 'float16'):
                spec = replace(spec, dtype=tensor.dtype)  # type: ignore[arg-type]
    problems = [*mismatches(spec, card.outputs, engine.inputs, engine.outputs),
                *_forms(card, engine)]
    ranks = {tensor.name: len(tensor.shape) for tensor in engine.outputs}
    problems += [f'output {output.name} has {ranks[output.name]} axes, the GPU kernels label '
                 f'{output.layout}. {_ELSE}' for output in card.outputs
                 if ranks.get(output.name) not in (None, 0, len(output.layout))]
    if problems:
        raise ConfigError('\n'.join([
            f'{card.path} does not describe the engine:', *(f'- {line}' for line in problems),
            'Build the engine again with python -m seg_node.tools.build_engine --force.']))
    return spec



def _forms(card: ModelCard, engine: Engine) -> Iterator[str]:
    """Yield what lies in memory as the kernels do not take it."""
    scores = [FORMS[name] for name in SCORES]
    for tensor, layout, taken in ((card.input.name, card.input.layout, list(FORMS.values())),
                                  (card.main_output.name, card.main_output.layout, scores)):
        form = engine.forms.get(tensor, LINEAR)
        if form not in (taken if layout == 'NCHW' else [LINEAR]):
            yield f'{tensor} lies in memory as {form}, which the kernels do not take of {layout}'
