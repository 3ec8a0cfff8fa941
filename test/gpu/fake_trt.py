"""
A ``tensorrt`` module for the simulated GPU: the names the project uses, the stand-in behind them.

It shows that the calls come in order and with the right values; that the real library has these
names is shown by test_trt_contract.py, that it computes rightly only by a GPU.
"""

from types import SimpleNamespace

from gpu.rig import card, Engine, Execution
import numpy as np

from seg_node.gpu.trt import Library


def library(gpu_of, **tricks):
    """
    Return the library.

    :param gpu_of: returns the Gpu, once there is one.
    :param tricks: ``plan``: what deserialising gives; ``context``, ``shape``, ``address``,
        ``enqueue``: what these calls return; ``form``: of all tensors.
    """
    tricks = {'plan': True, 'context': True, 'shape': True, 'address': True, 'enqueue': True,
              'form': 'LINEAR', **tricks}

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

        def get_tensor_profile_shape(self, name, profile):
            assert (name, profile) == ('image', 0)
            return [(1, 3, 32, 48), (2, 3, 32, 48), (4, 3, 32, 48)]

        def create_execution_context(self, strategy):
            assert strategy == 'USER_MANAGED'
            return Context(self) if tricks['context'] else None

    class Context:
        def __init__(self, engine):
            self.execution = Execution(engine.stand_in)
            self.scratch = None

        def set_device_memory(self, address, size):
            assert size >= CudaEngine.device_memory_size_v2
            self.scratch = address

        def set_input_shape(self, name, shape):
            self.execution.set_input_shape(name, shape)
            return tricks['shape']

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
        TensorFormat=SimpleNamespace(LINEAR='LINEAR'),
        TensorLocation=SimpleNamespace(DEVICE='DEVICE'),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED='USER_MANAGED'))
    return Library('tensorrt', '10.3.0', module)
