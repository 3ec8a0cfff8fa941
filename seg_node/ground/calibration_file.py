"""Reads ROS camera_info YAML files strictly: every key, shape and number is checked."""

from collections.abc import Iterable, Sequence
import math
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..ego_mask import EgoMask, load_ego_mask
from ..errors import ConfigError
from ..geometry import Size
from ..model.schema import read_yaml, shorten, suggestion

#: How many coefficients a distortion model may have, as OpenCV and image_geometry read them.
MODELS = {'plumb_bob': (4, 5), 'rational_polynomial': (8, 12, 14), 'equidistant': (4,)}
_ALIASES = {'fisheye': 'equidistant'}
_KEYS = ('image_width', 'image_height', 'camera_name', 'camera_matrix', 'distortion_model',
         'distortion_coefficients', 'rectification_matrix', 'projection_matrix')
_MOUNT_KEYS = ('frame_id', 'base_frame', 'translation', 'rotation_rpy')
_RECALIBRATE = 'Copy the value from the output of the camera calibration'


def read_calibration(path: Path) -> dict[str, Any]:
    """
    Return the fields of a calibration file, checked.

    :return: keys as in ``CameraCalibration``; ``mount`` is None or a
        dictionary with the fields of ``Mount``.
    :raises ConfigError: naming file, key, value, what is allowed and the mend.
    """
    return _Reader(path, read_yaml(path)).fields()


def check_calibration(document: dict[str, Any], where: str) -> dict[str, Any]:
    """
    Return the fields of a calibration that did not come from a file, checked as one that did.

    :param document: as a camera_info YAML file holds it.
    :param where: what holds it, for messages.
    :raises ConfigError: naming key, value, what is allowed and the mend.
    """
    return _Reader(where, document).fields()


def read_ego_mask(path: Path) -> EgoMask | None:
    """
    Return the ego mask that a calibration file names, checked against its image size.

    :return: None when the file has no key ``ego_mask``.
    :raises ConfigError: when the mask or anything else in the file is wrong.
    """
    reader = _Reader(path, read_yaml(path))
    fields = reader.fields()
    if 'ego_mask' not in reader.document:
        return None
    mask = load_ego_mask(reader.document['ego_mask'], path.parent, f'{path}: ego_mask')
    mask.pixels(Size(fields['height'], fields['width']))
    return mask


class _Reader:
    """One document being read; knows where it comes from for the messages."""

    def __init__(self, path: Path | str, document: dict[str, Any]) -> None:
        self.path = path
        self.document = document

    def fields(self) -> dict[str, Any]:
        self.check_keys(self.document, _KEYS, ('mount', 'ego_mask'), '')
        model = self.model()
        width, height = self.size('image_width'), self.size('image_height')
        fields: dict[str, Any] = {
            'name': self.text(self.document, 'camera_name', ''), 'width': width,
            'height': height, 'distortion_model': model,
            'K': self.matrix('camera_matrix', 3, 3),
            'D': self.coefficients(model),
            'R': self.matrix('rectification_matrix', 3, 3),
            'P': self.matrix('projection_matrix', 3, 4), 'mount': self.mount()}
        self.check_camera('camera_matrix', fields['K'], width, height)
        self.check_camera('projection_matrix', fields['P'])
        self.check_rotation(fields['R'])
        return fields

    def refuse(self, key: str, value: Any, allowed: str, mend: str) -> NoReturn:
        raise ConfigError(f'{self.path}: {key} is {shorten(value)}; allowed: {allowed}. {mend}')

    def check_keys(self, mapping: dict[str, Any], needed: Sequence[str],
                   optional: Sequence[str], prefix: str) -> None:
        for key in needed:
            if key not in mapping:
                raise ConfigError(f'{self.path}: {prefix}{key} is missing. Add it; a camera_info '
                                  f'YAML file has {", ".join(needed)} here.')
        for key in mapping:
            if key not in needed and key not in optional:
                allowed = [*needed, *optional]
                raise ConfigError(f'{self.path}: {prefix}{key} is no key of a calibration file; '
                                  f'allowed: {", ".join(allowed)}. Remove or rename it.'
                                  f'{suggestion(key, allowed)}')

    def model(self) -> str:
        name = self.document['distortion_model']
        if name == '':
            self.refuse('distortion_model', name, f'{", ".join(MODELS)}',
                        'Drivers leave it empty where the camera was never calibrated: calibrate '
                        'it (python -m seg_node.tools.calibrate), or for a camera without '
                        'distortion write plumb_bob with five zeros.')
        model = _ALIASES.get(name, name) if isinstance(name, str) else name
        if not isinstance(model, str) or model not in MODELS:
            self.refuse('distortion_model', name, f'{", ".join((*MODELS, *_ALIASES))}',
                        f'Calibrate with one of these models.{suggestion(str(name), MODELS)}')
        return model

    def coefficients(self, model: str) -> np.ndarray:
        block = self.document['distortion_coefficients']
        found = block.get('cols') if isinstance(block, dict) else None
        if isinstance(block, dict) and found not in MODELS[model]:
            counts = ' or '.join(map(str, MODELS[model]))
            self.refuse('distortion_coefficients.cols', found, f'{counts} for {model}',
                        f'{_RECALIBRATE}; the number must fit the distortion model.')
        return self.matrix('distortion_coefficients', 1, found or MODELS[model][0]).ravel()

    def size(self, key: str) -> int:
        value = self.document[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 32767:
            self.refuse(key, value, 'whole numbers from 1 to 32767',
                        'Give the size of the calibrated image in pixels.')
        return value

    def text(self, mapping: dict[str, Any], key: str, prefix: str) -> str:
        value = mapping[key]
        if not isinstance(value, str) or not value.strip():
            self.refuse(prefix + key, value, 'non-empty text', 'Put a name in quotes.')
        return value

    def numbers(self, key: str, values: Any, count: int) -> np.ndarray:
        if not isinstance(values, list) or len(values) != count or not all(_finite(values)):
            self.refuse(key, values, f'a list of {count} finite numbers', f'{_RECALIBRATE}.')
        return np.array(values, np.float64)

    def matrix(self, key: str, rows: int, columns: int) -> np.ndarray:
        block = self.document[key]
        if not isinstance(block, dict):
            self.refuse(key, block, 'a mapping with rows, cols and data', f'{_RECALIBRATE}.')
        self.check_keys(block, ('rows', 'cols', 'data'), (), f'{key}.')
        for name, wanted in (('rows', rows), ('cols', columns)):
            if block[name] != wanted or isinstance(block[name], bool):
                self.refuse(f'{key}.{name}', block[name], str(wanted),
                            f'{_RECALIBRATE}; the size must fit the distortion model.')
        return self.numbers(f'{key}.data', block['data'], rows * columns).reshape(rows, columns)

    def check_camera(self, key: str, matrix: np.ndarray, width: int = 0, height: int = 0) -> None:
        """Refuse what is no pinhole matrix; with a size also a centre outside the image."""
        if (matrix[0, 0] <= 0 or matrix[1, 1] <= 0 or matrix[1, 0] != 0
                or list(matrix[2]) != [0.0, 0.0, 1.0, 0.0][:matrix.shape[1]]):
            self.refuse(f'{key}.data', matrix.ravel().tolist(),
                        'fx 0 cx .. 0 fy cy .. 0 0 1 .. with fx, fy above 0', f'{_RECALIBRATE}.')
        inside = 0 <= matrix[0, 2] <= width - 1 and 0 <= matrix[1, 2] <= height - 1
        if width and not inside:
            self.refuse(f'{key}.data', [matrix[0, 2], matrix[1, 2]],
                        f'a centre (cx, cy) inside the {width}x{height} image',
                        'Correct image_width and image_height, or the centre.')

    def check_rotation(self, matrix: np.ndarray) -> None:
        if not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-4) or np.linalg.det(matrix) < 0:
            self.refuse('rectification_matrix.data', matrix.ravel().tolist(),
                        'a rotation (orthonormal, determinant 1)',
                        'For one camera without stereo it is the identity.')

    def mount(self) -> dict[str, Any] | None:
        block = self.document.get('mount')
        if 'mount' not in self.document:
            return None
        if not isinstance(block, dict):
            self.refuse('mount', block, f'a mapping with {", ".join(_MOUNT_KEYS)}',
                        'Fill the block in or remove it.')
        self.check_keys(block, _MOUNT_KEYS, (), 'mount.')
        rotation = self.numbers('mount.rotation_rpy', block['rotation_rpy'], 3)
        if np.abs(rotation).max() > 2 * math.pi:
            self.refuse('mount.rotation_rpy', rotation.tolist(), 'radians from -2 pi to 2 pi',
                        'Convert degrees to radians.')
        return {'frame_id': self.text(block, 'frame_id', 'mount.'),
                'base_frame': self.text(block, 'base_frame', 'mount.'),
                'translation': self.numbers('mount.translation', block['translation'], 3),
                'rotation_rpy': rotation}


def _finite(values: Iterable[Any]) -> Iterable[bool]:
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and math.isfinite(value) for value in values)
