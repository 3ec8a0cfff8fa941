"""The int8 copy of a model that its card vouches for."""

from dataclasses import dataclass
import hashlib
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import read_file, user_path

#: What a copy must keep, or no card may name it; of the pictures that the card says.
LEAST_EQUAL, MOST_LOSS = 0.995, 0.005
_MOST_BYTES = 2 ** 31


@dataclass(frozen=True)
class Int8Copy:
    """
    A copy with most of its convolutions in int8, for processors with VNNI or the like.

    :ivar path: the ONNX file.
    :ivar labels_equal: share of its labels that are the model's own.
    :ivar miou_loss: by how much its mIoU is lower.
    """

    path: Path
    sha256: str
    labels_equal: float
    miou_loss: float

    def read(self) -> bytes:
        """
        Return the file.

        :raises ConfigError: it is missing, or not the one that was measured.
        """
        data = read_file(self.path, _MOST_BYTES, 'Make it anew: python -m '
                         'seg_node.tools.int8_copy', f'the int8 copy {self.path}')
        digest = hashlib.sha256(data).hexdigest()
        if digest != self.sha256:
            raise ConfigError(f'{self.path} has sha256 {digest}, but the card has measured '
                              f'{self.sha256}: fetch the file again, or make it and the '
                              'figures anew with python -m seg_node.tools.int8_copy')
        return data


def int8_copy(raw: dict[str, Any] | None, card: Path) -> Int8Copy | None:
    """
    Return the copy that a card names.

    :param raw: the card's key ``int8``; None = it names none.
    :raises ConfigError: by the card's own figures the copy does not keep the labels.
    """
    if raw is None:
        return None
    if raw['labels_equal'] < LEAST_EQUAL or raw['miou_loss'] > MOST_LOSS:
        raise ConfigError(f'{card}: int8 has labels_equal {raw["labels_equal"]:g} and miou_loss '
                          f'{raw["miou_loss"]:g}; allowed are at least {LEAST_EQUAL:g} and at '
                          f'most {MOST_LOSS:g}. Leave the key out, or make a better copy: python '
                          '-m seg_node.tools.int8_copy')
    return Int8Copy(card.parent / user_path(raw['file'], f'{card}: int8.file'), raw['sha256'],
                    raw['labels_equal'], raw['miou_loss'])
