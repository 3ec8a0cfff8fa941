"""The host's side of the kernels: layouts, limits, and what each launch moves."""

from dataclasses import replace
from pathlib import Path
import re

from gpu.cpu_kernels import at, buffer, camera_image, Kernels, Post, preprocess, SOURCE, upload
import numpy as np
import pytest

from seg_node.errors import ConfigError
from seg_node.geometry import fit, Size
from seg_node.gpu import launch
from seg_node.gpu.buffers import ALIGNMENT
from seg_node.gpu.launch import ResultBlock, Scores, UploadImage
from seg_node.image import decode
from seg_node.model.card import InputSpec, load_card

PLAIN = {'mean': (0, 0, 0), 'std': (1, 1, 1)}


@pytest.fixture(scope='module')
def kernels():
    return Kernels()


def spec(size, dtype='float16', resize='stretch'):
    return InputSpec('x', 'NCHW', 'rgb', dtype, size=size, resize=resize, **PLAIN)


def test_structures_have_the_size_the_kernels_assert():
    sizes = re.findall(r'static_assert\(sizeof\((\w+)Parameters\) == (\d+)', SOURCE.read_text())
    packed = {'Preprocess': launch._PREPROCESS, 'Winners': launch._WINNERS,
              'Labels': launch._LABELS, 'Histogram': launch._HISTOGRAM}
    assert {name: int(size) for name, size in sizes} == {
        name: packer.size for name, packer in packed.items()}


def test_every_kernel_is_listed():
    defined = re.findall(r'extern "C" __global__ void __launch_bounds__\(kThreads\) (\w+)\(',
                         SOURCE.read_text())
    assert sorted(defined) == sorted(launch.KERNELS)


# --- layout ---

def test_parts_of_a_result_neither_overlap_nor_leave_the_block():
    layout = ResultBlock((Size(5, 7), Size(300, 401), Size(1, 1)), True, 2, True, True)
    owner = np.zeros(layout.size_bytes, np.uint8)
    for n in range(3):
        parts = layout.parts(owner, n)
        for view in (parts.labels, parts.confidence, *parts.products, parts.histogram,
                     parts.entropy):
            assert (view == 0).all()
            view[...] = 1
            assert (view.ctypes.data - owner.ctypes.data) % ALIGNMENT == 0
        owner[layout.range_at(n):layout.range_at(n) + 8] += 1
    assert owner.max() == 1
    assert layout.zero_bytes == 3 * 1280 <= min(layout.labels_at(n) for n in range(3))
    assert layout.size_bytes % ALIGNMENT == 0


@pytest.mark.parametrize('layout', ['NCHW', 'NHWC'])
def test_strides_are_numpys(layout):
    scores = Scores('float16', layout, 19, Size(64, 128))
    array = np.empty((19, 64, 128) if layout == 'NCHW' else (64, 128, 19), np.float16)
    planes = array if layout == 'NCHW' else array.transpose(2, 0, 1)
    assert tuple(2 * stride for stride in scores.strides) == planes.strides
    assert scores.image_bytes == array.nbytes


def test_source_bytes_are_what_decode_wants():
    for encoding in launch.ENCODINGS:
        message, source = camera_image(encoding, 6, 10, padding=4)
        assert message.data.size == source.size_bytes
        decode.decode(message)
        message.data = message.data[:-1]
        with pytest.raises(decode.FrameError, match='needs'):
            decode.decode(message)
    assert set(launch.ENCODINGS) < set(decode.ENCODINGS)


# --- limits ---

@pytest.mark.parametrize('make, says', [
    (lambda: UploadImage('bayer_rggb8', 4, 4, 4), 'bayer_rggb8.*bgr8.*Decode it to bgr8'),
    (lambda: UploadImage('bgr8', 4, 4, 11), 'step=11.*12 to 2'),
    (lambda: UploadImage('bgr8', 4, 4, 2 ** 32), 'step=4294967296'),
    (lambda: Scores('float64', 'NCHW', 3, Size(4, 4)), 'float64.*float16 and float32'),
    (lambda: Scores('float16', 'NHW', 3, Size(4, 4)), 'NHW.*NCHW and NHWC'),
    (lambda: Scores('float16', 'NCHW', 257, Size(4, 4)), '257 classes.*1 to 256'),
    (lambda: Scores('float16', 'NCHW', 0, Size(4, 4)), '0 classes'),
    (lambda: Scores('float16', 'NCHW', 128, Size(4096, 4096)), 'score grid has 2147483648'),
    (lambda: ResultBlock(()), '0 masks'),
    (lambda: ResultBlock((Size(4, 4),), entropy=True), 'without the confidence: ask for both'),
    (lambda: ResultBlock((Size(4, 4),), products=3), '3 look-ups.*0 to 2'),
    (lambda: ResultBlock((Size(65536, 32768),)), 'mask has 2147483648'),
])
def test_what_the_kernels_cannot_address_is_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def test_launches_that_contradict_themselves_are_refused():
    card = spec((32, 48))
    geometry = fit(card, Size(40, 60))
    table = launch.tables_for(geometry, Size(4, 6))
    none = {'upload': 0, 'tables': 0, 'values': 0, 'output': 0}
    with pytest.raises(ConfigError, match='50x40, its geometry is for 60x40'):
        launch.preprocess_launch(card, geometry, UploadImage('bgr8', 40, 50, 150), table, **none)
    for size, says in (((26755, 26755), 'network input has'), ((600000, 8), '600000 rows')):
        big = fit(spec(size), Size(40, 60))
        with pytest.raises(ConfigError, match=says):
            launch.preprocess_launch(card, big, UploadImage('bgr8', 40, 60, 180), table, **none)
    scores, layout = Scores('float16', 'NCHW', 3, Size(4, 6)), ResultBlock((Size(40, 60),), True)
    common = {'values': 0, 'winners': 0, 'sums': 0, 'tables': 0, 'result': 0}
    with pytest.raises(ConfigError, match='needs the sums buffer'):
        launch.labels_launch(scores, layout, 0, table, **common)
    with pytest.raises(ConfigError, match='1 look-up tables for 0 products'):
        launch.labels_launch(scores, layout, 0, table, luts=[1], **common)
    torn = ResultBlock((Size(40, 60),), True, entropy=True)
    with pytest.raises(ConfigError, match='needs the entropies buffer'):
        launch.labels_launch(scores, torn, 0, table, **common | {'sums': 1})
    many = ResultBlock((Size(4, 4),) * 65536)
    with pytest.raises(ConfigError, match='batch of 65536'):
        launch.winners_launch(scores, many, values=0, winners=0, sums=0, result=0)


def test_a_frame_of_more_bytes_than_31_bits_hold(kernels):
    """16384 rows of 200 000 bytes: the last ones are read where they are."""
    source = UploadImage('mono8', 16384, 4, 200_000)
    data = np.zeros(source.size_bytes, np.uint8)  # pages nobody touches take no memory
    assert data.size > 2 ** 31
    for row in range(source.height - 40, source.height):
        data[row * source.step:][:4] = row % 251
    card = spec((2048, 4), 'float32')
    geometry = fit(card, Size(16384, 4))
    table = launch.tables_for(geometry, Size(8, 8))
    tables, output = upload(table.data), buffer(launch.input_bytes(card, geometry.network))
    values = upload(launch.input_values(card))
    kernels.run(launch.preprocess_launch(card, geometry, source, table, upload=at(data),
                                         tables=at(tables), values=at(values),
                                         output=at(output)))
    planes = output.view(np.float32).reshape(3, 2048, 4)
    # row y samples halfway between camera rows 8 y + 3 and 8 y + 4
    rows = 8 * np.arange(2044, 2048) + 3
    np.testing.assert_array_equal(planes[:, 2044:, 0],
                                  np.tile((rows % 251 + (rows + 1) % 251 + 1) // 2, (3, 1)))
    assert (planes[:, :2040] == 0).all()


# --- what it moves ---

def test_labels_of_512x1024_move_less_than_a_megabyte():
    """19 classes at stride 8 in float16, counted once more by hand."""
    card = spec((512, 1024))
    geometry = fit(card, Size(512, 1024))
    scores = Scores('float16', 'NCHW', 19, Size(64, 128))
    layout = ResultBlock((Size(512, 1024),))
    image = UploadImage('bgr8', 512, 1024, 3072)
    _, winners, labels = launch.costs(card, [(geometry, image)], scores, layout)
    assert (winners.reads, winners.writes) == (19 * 64 * 128 * 2, 64 * 128 + 2 * 4)
    samples, exact = (512 + 1024) * (4 + 4), (512 + 1024) * 8
    assert (labels.reads, labels.writes) == (samples + exact + 2 * 4, 512 * 1024)
    assert labels.cached == winners.reads + 64 * 128
    total = sum(cost.reads + cost.writes for cost in (winners, labels))
    assert total == 868_368 <= 1_000_000


def written(kernels, values, geometries, **options):
    """Count the bytes of each buffer that a run writes: those that no longer hold the fill."""
    runs = [Post(kernels, values, geometries, fill=fill, **options) for fill in (0x11, 0xEE)]
    counts = {name: int(np.count_nonzero(runs[0].buffers[name] == runs[1].buffers[name]))
              for name in runs[0].buffers}
    return runs[0], counts


@pytest.mark.parametrize('confidence, luts, histogram, entropy', [
    (False, 0, False, False), (True, 1, True, False), (True, 1, True, True)])
@pytest.mark.parametrize('dtype', ['f2', 'f4'])
def test_costs_are_what_a_run_reads_and_writes(kernels, confidence, luts, histogram, entropy,
                                              dtype):
    """On scores that make every cell a contest, with ties, so that nothing is skipped."""
    rng = np.random.default_rng(0)
    values = rng.integers(-2, 3, (2, 19, 16, 24)).astype(dtype)
    card = spec((128, 192))
    cameras = [(fit(card, Size(*size)), UploadImage('bgr8', *size, 3 * size[1]))
               for size in ((128, 192), (120, 200))]
    geometries = [geometry for geometry, _ in cameras]
    post, counts = written(kernels, values, geometries, confidence=confidence,
                           luts=[np.arange(256, dtype=np.uint8)[::-1]] * luts,
                           histogram=histogram, entropy=entropy)
    costs = launch.costs(card, cameras, post.scores, post.layout)[2:]
    assert [cost.kernel for cost in costs] == [item.kernel for item in post.launches]

    reads = sum(cost.reads for cost in costs)
    touched = sum(int(np.any([seen[name] for seen in post.seen], axis=0).sum())
                  for name in post.inputs)
    assert .97 * reads <= touched <= reads  # of the look-ups only the classes' entries
    # the block's counters were cleared, so that these look written whether they were or not
    cleared = post.layout.zero_bytes - 8 * 2 - 1024 * 2 * histogram
    assert sum(counts.values()) - cleared == sum(cost.writes for cost in costs)

    uncached = launch.costs(card, cameras, post.scores, post.layout, cache_bytes=0)[2:]
    assert all(cost.cached == 0 for cost in uncached)
    assert [cost.reads for cost in uncached] == [cost.reads + cost.cached for cost in costs]


@pytest.mark.parametrize('encoding', ['bgr8', 'yuyv', 'nv12'])
@pytest.mark.parametrize('camera', [(120, 200), (300, 500), (60, 96)])
def test_cost_of_preprocessing(kernels, encoding, camera):
    card = spec((96, 160), resize='letterbox')
    message, source = camera_image(encoding, *camera)
    geometry = fit(card, Size(*camera))
    scores, layout = Scores('float16', 'NCHW', 3, Size(12, 20)), ResultBlock((Size(*camera),))
    cost = launch.costs(card, [(geometry, source)], scores, layout)[0]
    seen = []
    batch = preprocess(kernels, card, [(message, source)], [geometry], seen=seen)
    assert cost.writes == batch.nbytes
    pixels, tables, values = seen[0]
    sectors = np.pad(pixels, (0, -pixels.size % 32)).reshape(-1, 32).any(axis=1).sum() * 32
    assert .9 * cost.reads <= sectors + tables.sum() + values.size <= 1.1 * cost.reads


@pytest.mark.parametrize('title, name, stride', [
    ('BiSeNetV2', 'bisenetv2_camvid', 8), ('DeepLabV3+', 'deeplabv3plus_lite0_camvid', 2)])
def test_the_docs_say_what_a_frame_moves(title, name, stride):
    """1280x720 bgr8, the shipped cards' input sizes in fp16; labels, confidence and drivable."""
    spec = replace(load_card(name).input, dtype='float16')
    camera = Size(720, 1280)
    source, geometry = UploadImage('bgr8', 720, 1280, 3840), fit(spec, camera)
    layout = ResultBlock((camera,), confidence=True, products=1)
    cells = Size(*(side // stride for side in geometry.network))
    found = launch.costs(spec, [(geometry, source)], Scores('float16', 'NCHW', 11, cells), layout)
    total = sum(cost.reads + cost.writes for cost in found)
    text = (Path(__file__).parents[1] / 'docs' / 'gpu.md').read_text(encoding='utf-8')
    assert (f'{source.size_bytes / 1e6:.2f} MB up, {layout.size_bytes / 1e6:.2f} MB down, '
            f'{len(found)} kernel launches') in text
    assert (f'| {title}, input {geometry.network}, logits at stride {stride} | {total / 1e6:.1f} '
            f'| {total / 204.8e3:.0f} us | {total / 1008e3:.0f} us | {total / 3350e3:.0f} us |'
            ) in text
