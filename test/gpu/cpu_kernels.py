"""Builds ``kernels.cu`` for the CPU and runs it there; numpy arrays stand for device memory."""

import ctypes
import hashlib
import os
from pathlib import Path
import shutil
import subprocess
import tempfile

import numpy as np
import pytest

from seg_node.geometry import Size
from seg_node.gpu import buffers as layout, launch
from seg_node.gpu.forms import LINEAR
from seg_node.gpu.launch import ResultBlock, Scores, UploadImage
from seg_node.image.wire import Header, ImageMessage

HERE = Path(__file__).resolve().parent
SOURCE = Path(launch.__file__).parent / 'kernels.cu'
SHIM = HERE / 'cuda_cpu_shim.h'
#: What untouched bytes hold, and how many behind each buffer must stay untouched.
FILL, GUARD = 0xA5, 256
#: Kernels whose threads work together.
TOGETHER = ('corner_winners_f16', 'corner_winners_f32', 'class_histogram')
# Fused operations only where the source says so, as the exact path of the GPU.
FLAGS = ('-std=c++17', '-O2', '-Wall', '-Wextra', '-Wno-unknown-pragmas', '-Werror',
         '-ffp-contract=off', '-U_FORTIFY_SOURCE', '-fPIC', '-shared', '-DSEG_CPU')


def build(folder=None):
    """
    Return the path of the kernels as a shared library, ``NAME__cpu`` for each kernel.

    Built once for each state of the sources; kept in ``folder``, by default one of this user.
    """
    compiler = shutil.which('g++')
    if compiler is None:
        pytest.skip('needs g++ to run the CUDA kernels on the CPU')
    text = '\n'.join([
        f'#include "{SHIM.name}"', f'#include "{SOURCE.name}"',
        *(f'{"CPU_KERNEL_FIBERS" if name in TOGETHER else "CPU_KERNEL"}({name})'
          for name in launch.KERNELS)])
    key = hashlib.sha256(b'\0'.join([SOURCE.read_bytes(), SHIM.read_bytes(), text.encode(),
                                     ' '.join(FLAGS).encode()])).hexdigest()[:16]
    folder = Path(folder or Path(tempfile.gettempdir(), f'seg_node_cpu_kernels_{os.getuid()}'))
    library = folder / f'kernels_{key}.so'
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f'{library.name}.{os.getpid()}'
        subprocess.run([compiler, *FLAGS, '-I', HERE, '-I', SOURCE.parent, '-x', 'c++', '-',
                        '-o', made], input=text.encode(), check=True)
        made.replace(library)  # whole or not at all, whoever else builds
    return library


class Kernels:
    """Runs launches; 'addresses' are those of numpy arrays."""

    def __init__(self, library=None):
        self.library = ctypes.CDLL(str(library or build()))
        self.library.cpusim_watch.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        self.library.cpusim_unwatch.restype = ctypes.c_size_t
        self._masks = []

    def run(self, item):
        """Run one ``launch.Launch``."""
        function = getattr(self.library, f'{item.kernel}__cpu')
        function.restype = None
        function((ctypes.c_uint * 6)(*item.grid, *item.block), None, item.parameters)

    def watch(self, *arrays):
        """Note from now on which bytes of these arrays are read; returns a mask for each."""
        masks = [np.zeros(array.nbytes, np.uint8) for array in arrays]
        for array, mask in zip(arrays, masks, strict=True):
            self.library.cpusim_watch(array.ctypes.data, array.nbytes, mask.ctypes.data)
        self._masks += masks  # the library writes to them
        return masks

    def unwatch(self):
        """Stop watching; returns how many reads hit none of the arrays."""
        strays = self.library.cpusim_unwatch()
        self._masks.clear()
        return strays


def buffer(size, fill=FILL):
    """Return ``size`` bytes of 'device memory', aligned as the driver aligns it."""
    raw = np.empty(size + layout.ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % layout.ALIGNMENT
    raw[:] = fill
    return raw[start:start + size]


def upload(values):
    """Return a copy of an array as bytes of 'device memory'."""
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    copy = buffer(data.size)
    copy[:] = data
    return copy


def at(array):
    """Return the address of an array, 0 of None."""
    return 0 if array is None else array.ctypes.data


def camera_image(encoding, height, width, padding=0, seed=0):
    """Return a message of noise over a gradient, its rows padded, and its UploadImage."""
    rng = np.random.default_rng(seed)
    step = width * {'bgr8': 3, 'rgb8': 3, 'bgra8': 4, 'rgba8': 4, 'mono8': 1, 'nv12': 1,
                    'nv21': 1}.get(encoding, 2) + padding
    rows = height * 3 // 2 if encoding in ('nv12', 'nv21') else height
    data = rng.integers(0, 256, (rows, step)) // 2 + np.linspace(0, 127, rows)[:, None]
    data = data.astype(np.uint8).reshape(-1)[:rows * step - padding]
    return (ImageMessage(Header(0, 0, 'camera'), height, width, encoding, False, step, data),
            UploadImage(encoding, height, width, step))


def preprocess(kernels, card, frames, geometries, remap=None, seen=None):
    """
    Run one launch for each (message, source) and return the batch.

    Fails when a byte beyond the message, the tables or the remap is read, or beyond the batch one
    is written.

    :param seen: a list that gets, for each camera, the masks of the bytes read.
    """
    size = launch.input_bytes(card, geometries[0].network)
    output = buffer(len(frames) * size + GUARD)
    remap = None if remap is None else upload(remap)
    values = upload(launch.input_values(card))
    for n, ((message, source), geometry) in enumerate(zip(frames, geometries, strict=True)):
        assert message.data.size == source.size_bytes
        table = launch.tables_for(geometry, Size(8, 8))
        data, tables = upload(message.data), upload(table.data)
        masks = kernels.watch(*(array for array in (data, tables, values, remap)
                                if array is not None))
        if seen is not None:
            seen.append(masks)
        kernels.run(launch.preprocess_launch(
            card, geometry, source, table, upload=at(data), tables=at(tables),
            values=at(values), output=at(output) + n * size, remap=at(remap)))
        assert kernels.unwatch() == 0
    assert (output[len(frames) * size:] == FILL).all()
    network = geometries[0].network
    shape = (3, *network) if card.layout == 'NCHW' else (*network, 3)
    return output[:len(frames) * size].view(card.dtype).reshape(len(frames), *shape)


class Post:
    """
    Everything behind the network for a batch: scores (N, C, h, w) -> result block.

    Fails when a byte beyond the buffers is read or written.

    :param fill: what is in every byte beforehand.
    :param given: the scores as they lie in memory in this form; None = as the layout says.
    :ivar seen: for each launch the masks of the bytes read, by the name of the buffer.
    """

    def __init__(self, kernels, values, geometries, layout='NCHW', softmax=True, corners=False,
                 luts=(), confidence=True, histogram=True, fill=FILL, temperature=1.0,
                 entropy=False, form=LINEAR, given=None):
        images, classes, height, width = values.shape
        self.scores = Scores(values.dtype.name, layout, classes, Size(height, width), softmax,
                             temperature, form)
        self.layout = ResultBlock(tuple(g.output for g in geometries), confidence, len(luts),
                                   histogram, entropy)
        self.tables = [launch.tables_for(geometry, self.scores.size, corners)
                       for geometry in geometries]
        sizes = {'winners': images * self.scores.winner_bytes,
                 'sums': images * self.scores.sum_bytes if softmax and confidence else 0,
                 'entropies': images * self.scores.entropy_bytes if entropy else 0,
                 'result': self.layout.size_bytes}
        self.buffers = {name: buffer(size + GUARD, fill) for name, size in sizes.items() if size}
        self.buffers['result'][:self.layout.zero_bytes] = 0
        # Read by the kernels, written by none.
        if given is None:
            given = values if layout == 'NCHW' else values.transpose(0, 2, 3, 1)
        self.inputs = {'values': upload(given),
                       **{f'lut{n}': upload(lut) for n, lut in enumerate(luts)},
                       **{f'table{n}': upload(table.data) for n, table in enumerate(self.tables)}}
        self.launches = list(self._launches(len(luts)))
        self.seen = []
        for item in self.launches:
            everything = self.inputs | self.buffers
            masks = kernels.watch(*everything.values())
            kernels.run(item)
            assert kernels.unwatch() == 0
            self.seen.append(dict(zip(everything, masks, strict=True)))
        for name, array in self.buffers.items():
            assert (array[sizes[name]:] == fill).all()

    def parts(self, index):
        """Return one camera's part of the result."""
        return self.layout.parts(self.buffers['result'][:self.layout.size_bytes], index)

    def _launches(self, products):
        everything = self.inputs | self.buffers
        common = {name: at(everything.get(name))
                  for name in ('values', 'winners', 'sums', 'entropies', 'result')}
        yield launch.winners_launch(self.scores, self.layout, **common)
        for n, table in enumerate(self.tables):
            yield launch.labels_launch(
                self.scores, self.layout, n, table, tables=at(everything[f'table{n}']),
                luts=[at(everything[f'lut{k}']) for k in range(products)], **common)
        if self.layout.histogram:
            for n in range(len(self.tables)):
                yield launch.histogram_launch(self.layout, n, result=common['result'])
