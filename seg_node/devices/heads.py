"""One output of a network, in host memory -> labels and confidence on the output grid."""

import cv2
import numpy as np

from ..confidence_at import softmax_at
from ..entropy import upsample_entropy
from ..errors import FrameError
from ..geometry import Axis, Geometry
from ..labels import upsample_argmax, upsample_softmax
from ..model.taxonomy import UNLABELLED
from ..model.tensors import OutputSpec


def read_head(spec: OutputSpec, values: np.ndarray, geometry: Geometry,
              confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Turn one output of the network into labels and confidence on the output grid.

    :param spec: the card's description of this output.
    :param values: this output for one frame, without the batch axis.
    :param confidence: whether the confidence is wanted; ``labels`` outputs have none.
    :returns: labels uint8 (H, W), class ids of ``spec.classes``, 255 = void; confidence uint8
        (H, W), 0 where void, or None.
    :raises FrameError: not finite, not probabilities, or ids outside the class table.
    """
    labels, sure = _read(spec, values, geometry, confidence)
    lut = spec.class_lut
    if lut is not None:
        labels = cv2.LUT(labels, lut)
        if sure is not None:
            sure[labels == UNLABELLED] = 0
    return labels, sure


def _read(spec: OutputSpec, values: np.ndarray, geometry: Geometry,
          confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the winning channel (``labels``: the id) of each pixel, and the confidence."""
    maps = channels_first(spec, values)
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
    if spec.kind == 'scores':
        shares = _shares(spec, scores) if confidence else None
        return upsample_argmax(scores, rows, columns, shares)
    check_probabilities(spec, scores)
    return upsample_argmax(scores, rows, columns, scores if confidence else None)


def _shares(spec: OutputSpec, scores: np.ndarray) -> np.ndarray:
    """
    Return of scores (C, h, w) each class's share of their sum; where all are 0, that is 0.

    :raises FrameError: reason ``'scores'``: one is below 0.
    """
    low = scores.min()
    if low < 0:
        raise FrameError('scores', f'output {spec.name} has values down to {low:.3g}, but the '
                         'card calls it scores, which are at least 0: if these are logits, say '
                         'so in the card')
    total = scores.sum(axis=0)
    return np.divide(scores, total, out=np.zeros_like(scores), where=total > 0)


def can_glimpse(spec: OutputSpec) -> bool:
    """Whether ``read_confidence`` is for this output; of others all of the confidence is made."""
    return spec.kind == 'logits' and spec.class_lut is None


def read_confidence(spec: OutputSpec, values: np.ndarray, geometry: Geometry,
                    labels: np.ndarray, places: tuple[np.ndarray, np.ndarray],
                    classes: np.ndarray | None = None) -> np.ndarray:
    """
    Return what ``read_head`` has as confidence at some pixels, uint8 (R, K); elsewhere 0.

    :param spec: one that ``can_glimpse``.
    :param values: what ``read_head`` has made ``labels`` of.
    :param places: the R rows and the K columns of the pixels.
    :param classes: (256,) uint8 by class id, 0 = its pixels do not matter; None = all do.
    """
    maps = channels_first(spec, values)
    return softmax_at(maps, labels, geometry.rows(maps.shape[1], spec.align_corners),
                      geometry.columns(maps.shape[2], spec.align_corners), places,
                      spec.temperature, classes)


def read_entropy(spec: OutputSpec, values: np.ndarray, geometry: Geometry,
                 labels: np.ndarray) -> np.ndarray | None:
    """
    Return the entropy on the output grid, uint8 (H, W); None: class ids have none.

    :param values: what ``read_head`` has accepted.
    :param labels: what it made of it, (H, W) uint8; without a class there is no certainty.
    """
    torn = _entropy(spec, values, geometry)
    if torn is not None and spec.class_lut is not None:
        torn[labels == UNLABELLED] = 255
    return torn


def _entropy(spec: OutputSpec, values: np.ndarray, geometry: Geometry) -> np.ndarray | None:
    if spec.kind == 'labels':
        return None
    maps = np.asarray(channels_first(spec, values), np.float32)
    rows = geometry.rows(maps.shape[1], spec.align_corners)
    columns = geometry.columns(maps.shape[2], spec.align_corners)
    if spec.kind == 'logits':
        return upsample_entropy(maps, rows, columns, spec.temperature)
    if spec.kind == 'sigmoid':
        chance = _sigmoid(maps) if spec.activation == 'raw' else maps
        maps = np.concatenate([1 - chance, chance])
    elif spec.kind == 'scores':
        maps = _shares(spec, maps)
    return upsample_entropy(maps, rows, columns, None)


def _pick_nearest(labels: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """Return a label map (h, w) of any integer type on the output grid by nearest, (H, W)."""
    return labels.take(columns.nearest, axis=1).take(rows.nearest, axis=0)


def channels_first(spec: OutputSpec, values: np.ndarray) -> np.ndarray:
    """
    Return one frame's part of an output as (channels, h, w).

    :raises FrameError: it has not as many channels as the card says.
    """
    if spec.layout == 'NHW':
        maps = values[None]
    else:
        maps = values if spec.layout == 'NCHW' else values.transpose(2, 0, 1)
    channels = spec.channels
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
    if spec.void_channels and low >= 0 and high <= UNLABELLED:
        return _checked_against_void(spec, ids.astype(np.uint8))
    if low < 0 or high >= len(spec.classes):
        mask = (' (is it a mask of 0 and 255? Divide it by 255 at its export, and list two '
                'classes)' if high == 255 and np.isin(ids, (0, 255)).all() else '')
        raise FrameError('class-id', f'output {spec.name} has class ids from {low} to {high}, '
                         f'but its class table {spec.classes.name} ends at '
                         f'{len(spec.classes) - 1}: mend `classes` in the card{mask}')
    return ids.astype(np.uint8)


def _checked_against_void(spec: OutputSpec, ids: np.ndarray) -> np.ndarray:
    """Refuse ids that are neither a class nor one of the card's ids for void."""
    classes = [n for n in range(256) if n not in spec.void_channels][:len(spec.classes)]
    known = np.zeros(256, bool)
    known[[*classes, *spec.void_channels]] = True
    if not known[ids].all():
        strange = int(ids[~known[ids]][0])
        raise FrameError('class-id', f'output {spec.name} has the id {strange}, which is neither '
                         f'one of the {len(spec.classes)} classes nor of void_channels '
                         f'{list(spec.void_channels)}: mend `classes` or `void_channels`')
    return ids
