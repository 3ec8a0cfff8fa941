"""
A network for checks where there is no TensorRT, on the GPU and, the same, on the CPU.

It looks at the pixel in the middle of each cell of 4 x 4 input pixels, finds the palette colour
that is nearest, and gives that colour's row of a table as the cell's scores. So both sides have
the same scores bit for bit, and a wrong upload, input, address or label shows in the masks. Frames
are made of cells in palette colours, where rounding decides nothing.

On the GPU it takes as long as it is told to, so that copies have something to hide behind.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
import struct
from typing import Literal

import numpy as np

from ..engines.nvcc import compile_source
from ..frame import Frame
from ..geometry import fit, Size
from ..gpu.driver import Gpu
from ..gpu.engine import Shape
from ..gpu.engine_cache import VerifiedEngine
from ..gpu.engine_manifest import EngineKey, Manifest, OptimizationProfile
from ..gpu.forms import LINEAR
from ..gpu.launch import Launch, THREADS
from ..image.wire import Header, ImageMessage
from ..model.card import InputSpec, ModelCard, OutputSpec
from ..model.taxonomy import load_taxonomy
from ..model.tensors import TensorInfo

SOURCE = Path(__file__).with_name('stand_in.cu')
NAME = 'stand_in'
STRIDE = 4
#: Network input for a 16:9 camera: 432 x 768, as that of the default model.
SHORT_SIDE, MULTIPLE = 432, 16
#: BGR.
PALETTE = np.array([[40, 40, 215], [40, 215, 40], [215, 40, 40], [40, 215, 215], [215, 40, 215],
                    [215, 215, 40], [40, 40, 40], [128, 128, 128], [215, 215, 215]], np.uint8)
_MEAN, _STD, _SCALE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255
_MAX_BATCH = 4
#: How long one run shall take, in ms: about what a real network does.
NETWORK_MS = 2.0
_FIRST_ROUNDS, MOST_ROUNDS = 200, 4 * 10 ** 6
_PARAMETERS = struct.Struct('4Q 7i 0Q')
# Cells decide between classes by scores that no two classes share.
_TABLE = (np.random.default_rng(5).normal(size=(len(PALETTE), 11)) * 3).astype(np.float32)
# As they stand in the network's input: RGB, normalised.
_SEEN = ((PALETTE[:, ::-1] * _SCALE - np.array(_MEAN)) / np.array(_STD)).astype(np.float32)


def card(dtype: Literal['float32', 'float16'] = 'float32',
         short_side: int = SHORT_SIDE) -> ModelCard:
    """Return the stand-in's model card; there is no file behind it."""
    spec = InputSpec('image', 'NCHW', 'rgb', dtype, _MEAN, _STD, _SCALE, short_side=short_side,
                     multiple=MULTIPLE)
    output = OutputSpec('scores', 'logits', 'NCHW', 'labels', load_taxonomy('camvid11'))
    return ModelCard(NAME, Path('card.yaml'), Path('model.onnx'), '', spec, (output,), '', {})


def frame(spec: InputSpec, camera: Size, seed: int) -> Frame:
    """Return a bgr8 frame of random cells, each in one palette colour on the network's grid."""
    geometry = fit(spec, camera)

    def cells(length: int, content: int, border: int) -> np.ndarray:
        return ((border + (np.arange(length) + .5) * content / length) // STRIDE).astype(int)
    rows = cells(camera.height, geometry.content.height, geometry.top)
    columns = cells(camera.width, geometry.content.width, geometry.left)
    choice = np.random.default_rng(seed).integers(len(PALETTE), size=(rows[-1] + 1,
                                                                      columns[-1] + 1))
    image = PALETTE[choice[rows][:, columns]]
    return Frame('check', ImageMessage(Header(0, 0, ''), camera.height, camera.width, 'bgr8',
                                       False, camera.width * 3, image.reshape(-1)))


def compiled(capability: tuple[int, int]) -> bytes:
    """
    Return the network's kernel as a cubin.

    :raises BackendError: see ``nvcc.compile_source``.
    """
    return compile_source(SOURCE, capability).cubin


def rounds_to_last(time_of: Callable[[int], float]) -> int:
    """
    Return how many rounds make the network take about ``NETWORK_MS``.

    :param time_of: milliseconds that so many rounds take; few take no longer than none.
    """
    none, rounds = time_of(0), min(_FIRST_ROUNDS, MOST_ROUNDS)
    while (longer := time_of(rounds) - none) < NETWORK_MS / 4:
        if rounds == MOST_ROUNDS:
            return rounds
        rounds = min(8 * rounds, MOST_ROUNDS)
    return int(min(max(rounds * (NETWORK_MS - none) / longer, 0), MOST_ROUNDS))


def verified(model: ModelCard, kernels: bytes, toolkit: str, cameras: Sequence[Size]
             ) -> VerifiedEngine:
    """Return what stands for an engine's files: the segmenter wants the kernels of it."""
    sizes = tuple(dict.fromkeys(fit(model.input, camera).network for camera in cameras))
    key = EngineKey('', NAME, '1', None, '', model.input.dtype,
                    OptimizationProfile((1, 1, _MAX_BATCH), sizes), (), 0, '')
    return VerifiedEngine(b'', kernels, Manifest(NAME, key, {}, {'toolkit': toolkit}), Path(NAME))


class StandInEngine:
    """
    The stand-in on the GPU; see ``gpu.engine.Engine``.

    :param model: of ``card``.
    :param cubin: of ``compiled``.
    :param rounds: dependent operations of each thread, which make it last.
    """

    description = 'stand-in network'

    def __init__(self, engine: VerifiedEngine, gpu: Gpu, *, model: ModelCard, cubin: bytes,
                 rounds: int) -> None:
        self._sizes = engine.manifest.key.profile
        self._half = model.input.dtype == 'float16'
        self._gpu, self._rounds = gpu, rounds
        self.inputs = [TensorInfo('image', (-1, 3, -1, -1), model.input.dtype)]
        self.outputs = [TensorInfo('scores', (-1, _TABLE.shape[1], -1, -1), 'float32')]
        self.forms = {'image': LINEAR, 'scores': LINEAR}
        self._module = gpu.load(cubin, engine.toolkit)
        self._constants = []
        for values in (_SEEN, _TABLE):
            memory = gpu.allocate(values.nbytes, 'the stand-in network')
            gpu.store(memory.address, values)
            self._constants.append(memory.address)

    def profile(self, name: str) -> tuple[Shape, Shape, Shape]:
        low, high = self._sizes.low, self._sizes.high
        return (1, 3, *low), (1, 3, *self._sizes.sizes[0]), (_MAX_BATCH, 3, *high)

    def execution(self, name: str, shape: Shape) -> 'StandInExecution':
        return StandInExecution(self, shape)

    def reasons(self) -> str:
        return 'it gave no reason'

    def close(self) -> None:
        self._gpu.free(self._module)

    def launch(self, shape: Shape, image: int, scores: int, stream: int) -> None:
        """Put the network into a stream."""
        count, _, height, width = shape
        cells = (height // STRIDE) * (width // STRIDE)
        parameters = _PARAMETERS.pack(image, scores, *self._constants, height, width, STRIDE,
                                      len(PALETTE), _TABLE.shape[1], self._half, self._rounds)
        self._module.launch(Launch(NAME, (-(-cells // THREADS), count, 1), (THREADS, 1, 1),
                                   parameters), self._gpu.stream_of(stream))


class StandInExecution:
    """The stand-in for one shape; see ``gpu.engine.Execution``."""

    def __init__(self, engine: StandInEngine, shape: Shape) -> None:
        self._engine = engine
        self._shape = shape
        self._addresses: dict[str, int] = {}

    def output_shape(self, name: str) -> Shape:
        count, _, height, width = self._shape
        return count, _TABLE.shape[1], height // STRIDE, width // STRIDE

    def set_address(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def enqueue(self, stream: int) -> bool:
        self._engine.launch(self._shape, self._addresses['image'], self._addresses['scores'],
                            stream)
        return True

    def capturable(self, stream: int) -> bool:
        return True

    def close(self) -> None:
        self._addresses.clear()


class StandInBackend:
    """The stand-in on the CPU; see ``devices.segmenter.Backend``."""

    description, device = 'the stand-in network in NumPy', 'cpu'
    max_batch: int | None = None

    def prepare(self, shape: tuple[int, ...]) -> None:
        pass

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        seen = tensor[:, :, STRIDE // 2::STRIDE, STRIDE // 2::STRIDE].astype(np.float32)
        seen = seen.transpose(0, 2, 3, 1)
        best = np.full(seen.shape[:3], np.inf, np.float32)
        nearest = np.zeros(seen.shape[:3], int)
        for index, colour in enumerate(_SEEN):
            distance = ((seen - colour) ** 2).sum(axis=-1)
            nearest[distance < best] = index
            best = np.minimum(best, distance)
        return [np.ascontiguousarray(_TABLE[nearest].transpose(0, 3, 1, 2))]

    def close(self) -> None:
        pass
