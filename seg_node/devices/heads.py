"""One output of a network, in host memory -> labels and confidence on the output grid."""

import numpy as np

from ..errors import FrameError
from ..geometry import Axis, Geometry
from ..labels import upsample_argmax, upsample_softmax
from ..model.tensors import OutputSpec


def read_head(spec: OutputSpec, values: np.ndarray, geometry: Geometry,
              confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Turn one output of the network into labels and confidence on the output grid.

    :param spec: the card's description of this output.
    :param values: this output for one frame, without the batch axis.
    :param confidence: whether the confidence is wanted; ``labels`` outputs have none.
    :returns: labels uint8 (H, W), class ids of ``spec.classes``; confidence uint8 (H, W) or None.
    :raises FrameError: not finite, not probabilities, or ids outside the class table.
    """
    maps = _channels_first(spec, values)
    rows = geometry.rows(maps.shape[1], spec.align_corners)
    columns = geometry.columns(maps.shape[2], spec.align_corners)
    if spec.kind == 'labels':
        return _pick_nearest(_checked_ids(spec, maps[0]), rows, columns), None
    scores = np.asarray(maps, np.float32)
    if spec.kind == 'logits':
        if confidence:
            return upsample_softmax(scores, rows, columns, spec.temperature)
        return upsample_argmax(scores, rows, columns)
    if spec.kind == 'sigmoid':
        if spec.activation == 'raw':
            scores = _sigmoid(scores)
        check_probabilities(spec, scores)
        # Two classes: the second wins where its probability is above the threshold.
        contest = np.concatenate([np.full_like(scores, spec.threshold), scores])
        both = np.concatenate([1 - scores, scores]) if confidence else None
        return upsample_argmax(contest, rows, columns, both)
    check_probabilities(spec, scores)
    return upsample_argmax(scores, rows, columns, scores if confidence else None)


def _pick_nearest(labels: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """Return a label map (h, w) of any integer type on the output grid by nearest, (H, W)."""
    return labels.take(columns.nearest, axis=1).take(rows.nearest, axis=0)


def _channels_first(spec: OutputSpec, values: np.ndarray) -> np.ndarray:
    if spec.layout == 'NHW':
        maps = values[None]
    else:
        maps = values if spec.layout == 'NCHW' else values.transpose(2, 0, 1)
    channels = 1 if spec.kind in ('labels', 'sigmoid') else len(spec.classes)
    if len(maps) != channels:  # a dynamic channel axis shows only now
        raise FrameError('channels', f'output {spec.name} has {len(maps)} channels, but the '
                         f'card lists {channels}: mend `classes` or `layout` in the card')
    return maps


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -logits))


def check_probabilities(spec: OutputSpec, values: np.ndarray) -> None:
    """
    Refuse values that the card calls probabilities and that are none.

    :raises FrameError: reason ``'probabilities'``.
    """
    low, high = values.min(), values.max()
    if low < -1e-3 or high > 1.001:
        raise FrameError('probabilities', f'output {spec.name} has values from {low:.3g} to '
                         f'{high:.3g}, but the card calls it {spec.kind} (0 to 1): if these are '
                         'logits, say so in the card')


def _checked_ids(spec: OutputSpec, ids: np.ndarray) -> np.ndarray:
    if ids.dtype.kind == 'f' and (ids != np.floor(ids)).any():  # NaN, too
        raise FrameError('class-id', f'output {spec.name} has values that are no whole numbers, '
                         'but the card calls it labels: if these are scores, mend `kind`')
    low, high = ids.min(), ids.max()
    if low < 0 or high >= len(spec.classes):
        mask = (' (is it a mask of 0 and 255? Divide it by 255 at its export, and list two '
                'classes)' if high == 255 and np.isin(ids, (0, 255)).all() else '')
        raise FrameError('class-id', f'output {spec.name} has class ids from {low} to {high}, '
                         f'but its class table {spec.classes.name} ends at '
                         f'{len(spec.classes) - 1}: mend `classes` in the card{mask}')
    return ids.astype(np.uint8)
