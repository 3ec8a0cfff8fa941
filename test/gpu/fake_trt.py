"""
A ``tensorrt`` module for the simulated GPU: the names the project uses, the stand-in behind them.

It shows that the calls come in order and with the right values; that the real library has these
names is shown by test_trt_contract.py, that it computes rightly only by a GPU.
"""

from types import SimpleNamespace

from gpu.rig import card, Engine, Execution
import numpy as np

from seg_node.gpu.forms import FORMS
from seg_node.gpu.trt import Library


def library(gpu_of, **tricks):
    """
    Return the library.

    :param gpu_of: returns the Gpu, once there is one.
    :param tricks: ``plan``: what deserialising gives; ``context``, ``shape``, ``address``,
        ``enqueue``, ``capturable``: what these calls return; ``form``: of all tensors; ``rtx``:
        a dictionary, which gets what TensorRT-RTX is asked for; ``batches``: each has a profile.
    """
    tricks = {'plan': True, 'context': True, 'shape': True, 'address': True, 'enqueue': True,
              'form': 'LINEAR', 'rtx': None, 'batches': False, 'capturable': True, **tricks}

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = range(3)

    class Runtime:
        def __init__(self, log):
            self.log = log

        def deserialize_cuda_engine(self, plan):
            self.log.log(ILogger.ERROR, 'a reason of the library')
            return CudaEngine(plan) if tricks['plan'] else None

    class CudaEngine:
        num_io_tensors = 2
        device_memory_size_v2 = 1000

        def __init__(self, plan):
            assert plan == b'plan'
            manifest = SimpleNamespace(card=card())
            self.stand_in = Engine(SimpleNamespace(manifest=manifest), gpu_of())

        def get_tensor_name(self, index):
            return ('image', 'scores')[index]

        def get_tensor_mode(self, name):
            return 'INPUT' if name == 'image' else 'OUTPUT'

        def get_tensor_format(self, name):
            return tricks['form']

        def get_tensor_location(self, name):
            return 'DEVICE'

        def get_tensor_shape(self, name):
            return {'image': (-1, 3, 32, 48), 'scores': (-1, 11, 8, 12)}[name]

        def get_tensor_dtype(self, name):
            return np.float32

        num_optimization_profiles = 4 if tricks['batches'] else 1

        def get_tensor_profile_shape(self, name, profile):
            assert name == 'image' and profile < self.num_optimization_profiles
            if tricks['batches']:
                return [(profile + 1, 3, 32, 48)] * 3
            return [(1, 3, 32, 48), (2, 3, 32, 48), (4, 3, 32, 48)]

        def create_runtime_config(self):
            return RuntimeConfig(tricks['rtx'])

        def create_execution_context(self, how):
            if tricks['rtx'] is None:
                assert how == 'USER_MANAGED'
            else:
                assert how.strategy == 'USER_MANAGED' and how.cache is not None
                assert how.dynamic_shapes_kernel_specialization_strategy == 'EAGER'
                how.cache.compiled += b'k'
            return Context(self) if tricks['context'] else None

    class RuntimeConfig:
        strategy = cache = dynamic_shapes_kernel_specialization_strategy = None

        def __init__(self, asked):
            self.asked = asked

        def set_execution_context_allocation_strategy(self, strategy):
            self.strategy = strategy

        def create_runtime_cache(self):
            return RuntimeCache(self.asked)

        def set_runtime_cache(self, cache):
            self.cache = cache

    class RuntimeCache:
        def __init__(self, asked):
            self.asked, self.compiled = asked, b''

        def deserialize(self, kept):
            self.asked['found'] = len(kept)
            self.compiled = bytes(kept)
            return True

        def serialize(self):
            return self.compiled

    class Context:
        def __init__(self, engine):
            self.engine = engine
            self.execution = Execution(engine.stand_in, None)
            self.scratch, self.profile = None, 0

        def set_device_memory(self, address, size):
            assert size >= CudaEngine.device_memory_size_v2
            self.scratch = address

        def set_input_shape(self, name, shape):
            low, _, high = self.engine.get_tensor_profile_shape(name, self.profile)
            assert low[0] <= shape[0] <= high[0]  # or TensorRT would say no
            self.execution.shape = shape
            return tricks['shape']

        def set_optimization_profile_async(self, index, stream):
            assert stream and self.scratch is None
            self.profile = index
            return True

        def is_stream_capturable(self, stream):
            assert stream and tricks['rtx'] is not None
            return tricks['capturable']

        def get_tensor_shape(self, name):
            return self.execution.output_shape(name)

        def set_tensor_address(self, name, address):
            self.execution.set_address(name, address)
            return tricks['address']

        def execute_async_v3(self, stream):
            assert self.scratch
            return self.execution.enqueue(stream) and tricks['enqueue']

    module = SimpleNamespace(
        ILogger=ILogger, Runtime=Runtime, nptype=lambda kind: kind,
        TensorIOMode=SimpleNamespace(INPUT='INPUT'),
        TensorFormat=SimpleNamespace(**{name: name for name in FORMS}),
        DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER='EAGER'),
        TensorLocation=SimpleNamespace(DEVICE='DEVICE'),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED='USER_MANAGED'))
    return Library('tensorrt' if tricks['rtx'] is None else 'tensorrt_rtx', '10.3.0', module)
