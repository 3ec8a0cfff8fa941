"""
The launches of the kernels in ``kernels.cu``: name, grid, block, parameters; and what they cost.

Nothing here needs CUDA, so that all of it is tested without a GPU. A kernel takes one structure by
value; ``Launch.parameters`` are its bytes. Addresses are plain integers and name device memory,
0 = none. ``buffers.py`` says how the buffers are laid out and what the limits are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import math
import struct

import numpy as np

from ..errors import ConfigError
from ..geometry import Geometry, Size
from ..model.tensors import InputSpec
from .buffers import (
    aligned,
    check_count,
    COUNTERS,
    ENCODINGS,
    input_bytes,
    MAX_PRODUCTS,
    Parts,
    ResultBlock,
    ScoreRange,
    Scores,
    SUFFIXES,
    UploadImage,
)
from .forms import Form, in_memory, LINEAR
from .tables import input_values, Tables, tables_for

__all__ = ['aligned', 'Cost', 'costs', 'ENCODINGS', 'histogram_launch', 'input_bytes',
           'input_values', 'KERNELS', 'labels_launch', 'Launch', 'MAX_PRODUCTS', 'Parts',
           'preprocess_launch',
           'ResultBlock', 'ScoreRange', 'Scores', 'UploadImage', 'Tables', 'tables_for',
           'winners_launch']

#: All kernels of the module.
KERNELS = ('preprocess_f16', 'preprocess_f32', 'preprocess_u8', 'corner_winners_f16',
           'corner_winners_f32', 'labels_f16', 'labels_f32', 'class_histogram')
#: Threads in a block, of every kernel.
THREADS = 256

_TILE = (32, 8)  # pixels, columns and rows, of a block
_HISTOGRAM_BLOCKS = 128
_HISTOGRAM_PIXELS = 16  # of one load

# The structures of kernels.cu, in its order; 0Q ends them on a multiple of 8 bytes, as C does.
_PREPROCESS = struct.Struct('7Q I 19i 0Q')
_WINNERS = struct.Struct('6Q 7i 2f 0Q')
_LABELS = struct.Struct('16Q 8i f 0Q')
_HISTOGRAM = struct.Struct('2Q I 0Q')


@dataclass(frozen=True)
class Launch:
    """
    One launch of a kernel.

    :ivar kernel: its name in the module.
    :ivar grid: blocks in x, y, z.
    :ivar block: threads in x, y, z.
    :ivar parameters: the bytes of its one argument (PyCUDA: ``prepare([f'{len(parameters)}s'])``).
    """

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    parameters: bytes


@dataclass(frozen=True)
class Cost:
    """
    What one launch moves by design, in bytes; upper bounds, each byte counted once.

    :ivar reads: from DRAM.
    :ivar writes: to DRAM.
    :ivar cached: read again while the L2 cache still has it.
    """

    kernel: str
    reads: int
    writes: int
    cached: int = 0


def preprocess_launch(spec: InputSpec, geometry: Geometry, source: UploadImage, table: Tables, *,
                      upload: int, tables: int, values: int, output: int,
                      remap: int = 0, form: Form = LINEAR) -> Launch:
    """
    Return the launch that makes one image's part of the network's input, border included.

    :param table: of ``tables_for(geometry, ...)``.
    :param upload: address of this camera's bytes.
    :param tables: address of the uploaded ``table.data``.
    :param values: address of the uploaded ``input_values(spec)``.
    :param output: address of this image's part of the input, ``input_bytes`` long.
    :param remap: address of (content.height, content.width, 2) float32 or 0: for each pixel of
        the content the position (x, y) in the camera image that it samples, in place of the
        tables. What lies outside of the image is border.
    :param form: of the network's input; room for more than three channels is left as it is.
    """
    if (source.height, source.width) != geometry.camera:
        raise ConfigError(f'the image is {source.width}x{source.height}, its geometry is for '
                          f'{geometry.camera}: use the geometry of this size')
    network, content = geometry.network, geometry.content
    lies = in_memory(spec.layout, form)
    check_count('network input', lies.elements(3, network))
    pixels = source.pixels
    channel = [lies.channel(k, network)
               for k in ((0, 1, 2) if spec.colour == 'rgb' else (2, 1, 0))]
    parameters = _PREPROCESS.pack(
        upload, upload + source.step * source.height, tables + table.source_columns,
        tables + table.source_rows, remap, values, output, source.step, source.height,
        source.width,
        pixels.kind, pixels.stride, *pixels.offsets, network.height, network.width,
        geometry.top, geometry.left, content.height, content.width,
        *channel, network.width * lies.pixel(3), lies.pixel(3), round(spec.pad_value))
    return Launch(f'preprocess_{SUFFIXES[spec.dtype]}', _tiles(network), (THREADS, 1, 1),
                  parameters)


def winners_launch(scores: Scores, layout: ResultBlock, *, values: int, winners: int,
                   sums: int, result: int, entropies: int = 0) -> Launch:
    """
    Return the launch that finds the winner at each grid point of the whole batch.

    :param values: address of the scores.
    :param winners: address of N x ``scores.winner_bytes``.
    :param sums: address of N x ``scores.sum_bytes``; 0 unless the confidence of logits is wanted.
    :param result: address of the result block, its first ``layout.zero_bytes`` cleared.
    :param entropies: address of N x ``scores.entropy_bytes``; 0 unless ``layout.entropy``.
    """
    parameters = _WINNERS.pack(
        values, winners, sums, entropies if layout.entropy else 0,
        result + layout.range_at(0), scores.elements,
        COUNTERS // 4, *scores.strides, scores.classes, scores.size.width, scores.points,
        1 / scores.temperature, 1 / math.log(max(2, scores.classes)))
    images = len(layout.outputs)
    if images > 65535:
        raise ConfigError(f'a batch of {images} images; allowed are 65535')
    return Launch(f'corner_winners_{scores.suffix}', (-(-scores.points // THREADS), images, 1),
                  (THREADS, 1, 1), parameters)


def labels_launch(scores: Scores, layout: ResultBlock, index: int, table: Tables, *, values: int,
                  winners: int, sums: int, tables: int, result: int,
                  luts: Sequence[int] = (), entropies: int = 0) -> Launch:
    """
    Return the launch that makes one camera's labels, and its confidence and look-ups.

    :param index: of the camera in the batch; the other addresses are those of the whole batch.
    :param table: of ``tables_for`` with this camera's geometry and ``scores.size``.
    :param tables: address of the uploaded ``table.data``.
    :param sums: as ``winners_launch`` got it.
    :param luts: address of 256 bytes for each of ``layout.products``.
    :param entropies: as ``winners_launch`` got it.
    """
    if len(luts) != layout.products:
        raise ConfigError(f'{len(luts)} look-up tables for {layout.products} products')
    wanted = layout.confidence
    if wanted and scores.softmax and not sums:
        raise ConfigError('the confidence of logits needs the sums buffer: give its address to '
                          'winners_launch and to labels_launch')
    if layout.entropy and not entropies:
        raise ConfigError('the entropy needs the entropies buffer: give its address to '
                          'winners_launch and to labels_launch')
    output = layout.outputs[index]
    products = [result + layout.product_at(index, n) for n in range(layout.products)]
    spare = [0] * (MAX_PRODUCTS - layout.products)
    parameters = _LABELS.pack(
        values + index * scores.image_bytes, winners + index * scores.winner_bytes,
        sums + index * scores.sum_bytes if wanted and scores.softmax else 0,
        entropies + index * scores.entropy_bytes if layout.entropy else 0,
        result + layout.range_at(index), tables + table.label_columns, tables + table.label_rows,
        tables + table.exact_columns, tables + table.exact_rows, result + layout.labels_at(index),
        result + layout.confidence_at(index) if wanted else 0,
        result + layout.entropy_at(index) if layout.entropy else 0,
        *products, *spare, *luts, *spare, *scores.strides, scores.classes,
        *scores.size, *output, 1 / scores.temperature)
    return Launch(f'labels_{scores.suffix}', _tiles(output), (THREADS, 1, 1), parameters)


def histogram_launch(layout: ResultBlock, index: int, *, result: int) -> Launch:
    """Return the launch that counts the pixels of each class of one camera's labels."""
    output = layout.outputs[index]
    pixels = output.height * output.width
    parameters = _HISTOGRAM.pack(result + layout.labels_at(index),
                                 result + layout.histogram_at(index), pixels)
    blocks = min(-(-pixels // (THREADS * _HISTOGRAM_PIXELS)), _HISTOGRAM_BLOCKS)
    return Launch('class_histogram', (blocks, 1, 1), (THREADS, 1, 1), parameters)


def _tiles(size: Size) -> tuple[int, int, int]:
    grid = -(-size.width // _TILE[0]), -(-size.height // _TILE[1]), 1
    if grid[1] > 65535:
        raise ConfigError(f'an image of {size.height} rows; allowed on the GPU are '
                          f'{65535 * _TILE[1]}')
    return grid


def costs(spec: InputSpec, cameras: Sequence[tuple[Geometry, UploadImage]], scores: Scores,
          layout: ResultBlock, cache_bytes: int = 4 << 20) -> list[Cost]:
    """
    Return what each launch for a batch costs, in their order; the network's own is not in it.

    :param cameras: geometry and source of each image of the batch.
    :param cache_bytes: size of the device's L2 cache, by default that of AGX Orin. What a kernel
        wrote or read before and what fits is not read from DRAM again.
    """
    result = [_preprocess_cost(spec, *camera) for camera in cameras]
    images = len(cameras)
    sums = scores.sum_bytes if layout.confidence and scores.softmax else 0
    sums += scores.entropy_bytes if layout.entropy else 0
    result.append(Cost(f'corner_winners_{scores.suffix}', images * scores.image_bytes,
                       images * (scores.winner_bytes + sums + 8)))
    grid = scores.image_bytes + scores.winner_bytes + sums
    grid_fits = images * grid <= cache_bytes
    for output in layout.outputs:
        pixels = output.height * output.width
        tables = 16 * (output.height + output.width) + 8 + 256 * layout.products
        result.append(Cost(f'labels_{scores.suffix}', tables + (0 if grid_fits else grid),
                           pixels * (1 + layout.confidence + layout.products + layout.entropy),
                           grid if grid_fits else 0))
    if layout.histogram:
        for output in layout.outputs:
            pixels = output.height * output.width
            fits = images * pixels <= cache_bytes
            result.append(Cost('class_histogram', 0 if fits else pixels, 1024,
                               pixels if fits else 0))
    return result


def _preprocess_cost(spec: InputSpec, geometry: Geometry, source: UploadImage) -> Cost:
    """Count the rows that are sampled, whole: the columns between are in the same sectors."""
    table = tables_for(geometry, geometry.network)
    content = geometry.content
    rows = table.data[table.source_rows:table.source_rows + 8 * content.height].view(np.int32)
    low = rows[::2]
    used = np.union1d(np.maximum(low, 0), np.minimum(low + 1, source.height - 1))
    count = len(used)
    if source.planar:
        count += len(np.unique(used // 2))
    return Cost(f'preprocess_{SUFFIXES[spec.dtype]}',
                count * source.width * source.pixels.stride
                + 8 * (content.height + content.width) + input_values(spec).nbytes,
                input_bytes(spec, geometry.network))
