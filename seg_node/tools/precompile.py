"""
Compiles the loops of this package for this processor, so that no start of the node has to.

Numba keeps them in NUMBA_CACHE_DIR, else beside the package if that can be written, else in the
user's cache. `make` and `colcon build` run this; run it again after moving to another processor.
"""

import argparse
from importlib import import_module
import pkgutil
import sys
import time
from typing import Any

import numpy as np

import seg_node

from ..antialias import antialiased
from ..devices.heads import read_confidence, read_entropy, read_head
from ..frame import Segmentation
from ..geometry import fit, Size
from ..ground.calibration import CameraCalibration, Mount
from ..ground.cloud import GroundCloud
from ..ground.free_space import FreeSpace, GridSpec
from ..ground.rays import make_rays
from ..image import jpeg_decode
from ..image.jpeg_seam import has_seam
from ..model.taxonomy import ClassTable, SegClass
from ..model.tensors import InputSpec, OutputSpec
from ..preprocess import Preprocessor
from ..steadiness import Steadiness
from ..trust.evidence import certainty_at, measure, places

_CAMERA = Size(90, 160)
_ROOMS = ('image', 'model', 'devices', 'ground', 'trust')


def exercise() -> None:
    """Call every compiled loop with the types that it gets from the node; reads no files."""
    classes = ClassTable('two', (SegClass(0, 'road', (1, 1, 1), True, False, True),
                                 SegClass(1, 'other', (2, 2, 2), False, False, False)))
    image = np.zeros((*_CAMERA, 3), np.uint8)
    for dtype in ('float32', 'float16', 'uint8'):
        taken = InputSpec('image', 'NCHW', 'rgb', dtype, (0, 0, 0), (1, 1, 1), size=(48, 64))
        geometry = fit(taken, _CAMERA)
        Preprocessor(taken).tensor([image], [geometry])
    antialiased(image, Size(48, 64))
    logits = np.random.default_rng(0).normal(size=(2, 12, 16)).astype(np.float32)
    spec = OutputSpec('out', 'logits', 'NCHW', 'labels', classes)
    labels, sure = read_head(spec, logits, geometry, True)
    read_head(spec, logits, fit(taken, Size(*logits.shape[1:]), Size(*logits.shape[1:])), True)
    read_confidence(spec, logits, geometry, labels, places(_CAMERA, _CAMERA))
    read_entropy(spec, logits, geometry, labels)
    shares = OutputSpec('out', 'probabilities', 'NCHW', 'labels', classes)
    read_entropy(shares, np.full_like(logits, 0.5), geometry, labels)
    measure(image[..., 1], labels, labels, sure, certainty_at(1))
    steady = Steadiness(classes.dynamic_lut())
    for stamp_ns in (1, 2):
        steady.follow(Segmentation(geometry, labels, sure, labels), stamp_ns)
    jpeg_decode.prepare()
    has_seam(np.random.default_rng(0).integers(0, 256, (96, 400, 3), np.uint8), (16, 16))
    mount = Mount('camera', 'base', np.array([0.0, 0.0, 1.5]), np.zeros(3))
    pinhole = np.array([[100.0, 0, 79.5], [0, 100, 44.5], [0, 0, 1]])
    camera = CameraCalibration('camera', _CAMERA.width, _CAMERA.height, 'plumb_bob', pinhole,
                               np.zeros(5), np.eye(3), np.eye(3, 4), mount)
    rays = make_rays(camera, mount, _CAMERA, rectified=False, pitch_sigma_rad=0.01,
                     max_range_m=20.0)
    space = FreeSpace(rays, GridSpec(cell_m=0.2, ahead_m=20.0, aside_m=6.0), classes.ground_lut())
    space.occupancy(space.see(labels, labels))
    GroundCloud(camera, mount, _CAMERA, rectified=False, ground_lut=classes.ground_lut(),
                limit_m=20.0).points(labels)


def kernels() -> dict[str, Any]:
    """Return all loops that are kept compiled, by module and name."""
    found = {}
    for info in pkgutil.walk_packages(seg_node.__path__, 'seg_node.'):
        room = info.name.split('.')[1]
        if info.ispkg or info.name.count('.') > 1 and room not in _ROOMS:
            continue
        module = import_module(info.name)
        found.update({f'{info.name}.{name}': value for name, value in vars(module).items()
                      if hasattr(value, 'stats') and hasattr(value, 'py_func')
                      and value.py_func.__module__ == info.name and value.stats.cache_path})
    return found


def main(args: list[str] | None = None) -> int:
    """Compile from the command line."""
    argparse.ArgumentParser(prog='precompile', description=__doc__).parse_args(args)
    start = time.monotonic()
    exercise()
    found = kernels()
    fresh = sum(sum(kernel.stats.cache_misses.values()) for kernel in found.values())
    folders = sorted({kernel.stats.cache_path for kernel in found.values()})
    print(f'{len(found)} loops are compiled for this processor ({fresh} of them now, '
          f'{time.monotonic() - start:.1f} s), in {", ".join(folders)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
