"""
Every name of TensorRT that the project uses exists in every version it is meant for.

The names are read off the source: attributes of the module, and of values whose class is known
from what made them, from a parameter's annotation or from an annotated variable.
"""

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BINDINGS = json.loads((ROOT / 'test/gpu/trt_contract.json').read_text())
SOURCES = sorted([*(ROOT / 'seg_node/gpu').glob('*.py'),
                  *(ROOT / 'seg_node/engines').glob('*.py')])

# What the methods of TensorRT return.
RETURNS = {
    ('Builder', 'create_network'): 'INetworkDefinition',
    ('Builder', 'create_builder_config'): 'IBuilderConfig',
    ('Builder', 'create_optimization_profile'): 'IOptimizationProfile',
    ('Builder', 'build_serialized_network'): 'IHostMemory',
    ('INetworkDefinition', 'get_input'): 'ITensor',
    ('INetworkDefinition', 'get_output'): 'ITensor',
    ('OnnxParser', 'get_error'): 'ParserError',
    ('IBuilderConfig', 'create_timing_cache'): 'ITimingCache',
    ('IBuilderConfig', 'get_timing_cache'): 'ITimingCache',
    ('ITimingCache', 'serialize'): 'IHostMemory',
    ('Runtime', 'deserialize_cuda_engine'): 'ICudaEngine',
    ('ICudaEngine', 'create_execution_context'): 'IExecutionContext',
    ('ICudaEngine', 'create_engine_inspector'): 'EngineInspector',
}
# Names that only some versions have: which, and the guard that stands before their use.
OPTIONAL = {
    ('NetworkDefinitionCreationFlag', 'EXPLICIT_BATCH'):
        ({'10.3', '10.13'}, "hasattr(names, 'EXPLICIT_BATCH')"),
    ('IBuilderConfig', 'set_compute_capability'):
        ({'rtx1.7'}, "hasattr(config, 'set_compute_capability')"),
    ('IBuilderConfig', 'num_compute_capabilities'):
        ({'rtx1.7'}, "hasattr(config, 'set_compute_capability')"),
    ('', 'ComputeCapability'): ({'rtx1.7'}, 'library.is_rtx'),
    ('BuilderFlag', 'REQUIRE_USER_ALLOCATION'):
        ({'rtx1.7'}, "hasattr(trt.BuilderFlag, 'REQUIRE_USER_ALLOCATION')"),
    ('IExecutionContext', 'is_stream_capturable'): ({'rtx1.7'}, 'not self._engine.is_rtx or'),
    **{use: ({'rtx1.7'}, 'only where ``library.is_rtx``') for use in (
        ('', 'DynamicShapesKernelSpecializationStrategy'),
        ('DynamicShapesKernelSpecializationStrategy', 'EAGER'),
        ('IRuntimeConfig', 'dynamic_shapes_kernel_specialization_strategy'),
        ('IRuntimeConfig', 'create_runtime_cache'), ('IRuntimeConfig', 'set_runtime_cache'),
        ('IRuntimeCache', 'deserialize'), ('IRuntimeCache', 'serialize'))},
    **{use: ({'10.13', '11.4', 'rtx1.7'}, 'only where ``library.is_rtx``') for use in (
        ('ICudaEngine', 'create_runtime_config'),
        ('IRuntimeConfig', 'set_execution_context_allocation_strategy'))},
}
CLASSES = {name for members in BINDINGS.values() for name in members
           if name not in ('__version__', 'functions')}


class Walker(ast.NodeVisitor):
    """
    Collects (class, name) of every attribute of TensorRT; the class is '' for the module.

    A type is the name of a class for its instances, 'class X' for the class itself, 'module', or
    'list of X'.
    """

    def __init__(self):
        self.uses = {}
        self._types = {'trt': 'module'}

    def visit_FunctionDef(self, node):
        outer = dict(self._types)
        for parameter in [*node.args.args, *node.args.kwonlyargs]:
            self._bind(parameter.arg, self._annotated(parameter.annotation))
        self.generic_visit(node)
        fields = {name: kind for name, kind in self._types.items() if name.startswith('self.')}
        self._types = {**outer, **fields}

    def visit_ClassDef(self, node):
        # Twice: a method may use what a later one stores.
        self.generic_visit(node)
        self.generic_visit(node)
        self._types = {name: kind for name, kind in self._types.items()
                       if not name.startswith('self.')}

    def visit_Assign(self, node):
        self.generic_visit(node)
        if isinstance(node.value, ast.Constant):  # None: what it was before is still its type
            return
        for target in node.targets:
            self._bind(ast.unparse(target), self._type(node.value))

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        self._bind(ast.unparse(node.target), self._annotated(node.annotation))

    def visit_For(self, node):
        self._bind(ast.unparse(node.target), self._element(node.iter))
        self.generic_visit(node)

    def visit_comprehension_of(self, node):
        for generator in node.generators:
            self._bind(ast.unparse(generator.target), self._element(generator.iter))
        self.generic_visit(node)

    visit_ListComp = visit_GeneratorExp = visit_SetComp = visit_DictComp = visit_comprehension_of

    def visit_Attribute(self, node):
        owner = self._type(node.value)
        if owner is not None and not owner.startswith('list of'):
            name = {'module': ''}.get(owner, owner.removeprefix('class '))
            self.uses.setdefault((name, node.attr), []).append(node.lineno)
        self.generic_visit(node)

    def _bind(self, name, kind):
        if name == 'trt':  # everywhere the module, wherever it came from
            return
        if kind is None:
            self._types.pop(name, None)
        else:
            self._types[name] = kind

    def _annotated(self, node):
        name = None if node is None else ast.unparse(node).strip('\'"').rpartition('.')[2]
        return name if name in CLASSES else None

    def _element(self, node):
        kind = self._type(node) or ''
        return kind.removeprefix('list of ') if kind.startswith('list of ') else None

    def _type(self, node):
        if isinstance(node, ast.Name):
            return self._types.get(node.id)
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            self.visit_comprehension_of(node)
            element = self._type(node.elt)
            return element and f'list of {element}'
        if isinstance(node, ast.Subscript):
            return self._element(node.value)
        if isinstance(node, ast.Attribute):
            if ast.unparse(node) in self._types:
                return self._types[ast.unparse(node)]
            if node.attr == 'module':  # of a trt.Library
                return 'module'
            if self._type(node.value) == 'module' and node.attr in CLASSES:
                return f'class {node.attr}'
        if isinstance(node, ast.Call):
            made = self._type(node.func)
            if made and made.startswith('class '):
                return made.removeprefix('class ')
            if isinstance(node.func, ast.Attribute):
                return RETURNS.get((self._type(node.func.value), node.func.attr))
        return None


def uses_of(source):
    walker = Walker()
    walker.visit(ast.parse(source))
    return walker.uses


def has(version, owner, name):
    members = BINDINGS[version]
    if owner:
        return name in members.get(owner, [])
    return name in members or name in members['functions']


def missing(source, optional=OPTIONAL):
    """Return what a source uses that a version lacks, and that the table does not excuse."""
    found = []
    for (owner, name), lines in sorted(uses_of(source).items()):
        versions = {version for version in BINDINGS if has(version, owner, name)}
        wanted, guard = optional.get((owner, name), (set(BINDINGS), ''))
        if versions != wanted:
            found.append(f'line {lines[0]}: {owner or "trt"}.{name} is in {sorted(versions)}')
        elif guard not in source:
            found.append(f'line {lines[0]}: {owner or "trt"}.{name} needs the guard {guard}')
    return found


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: path.stem)
def test_every_name_is_in_every_version(path):
    assert not missing(path.read_text(encoding='utf-8'))


def test_the_walk_is_not_blind():
    uses = {use for path in SOURCES for use in uses_of(path.read_text(encoding='utf-8'))}
    assert {('', 'Builder'), ('Builder', 'create_network'), ('OnnxParser', 'parse_from_file'),
            ('ParserError', 'desc'), ('INetworkDefinition', 'unmark_output'), ('ITensor', 'dtype'),
            ('IBuilderConfig', 'set_memory_pool_limit'), ('MemoryPoolType', 'WORKSPACE'),
            ('IBuilderConfig', 'add_optimization_profile'), ('ITimingCache', 'serialize'),
            ('IOptimizationProfile', 'set_shape'), ('Builder', 'build_serialized_network'),
            ('Runtime', 'deserialize_cuda_engine'), ('ICudaEngine', 'create_engine_inspector'),
            ('EngineInspector', 'get_engine_information'), ('ILogger', 'WARNING'),
            ('IExecutionContext', 'set_input_shape'), ('', 'nptype')} <= uses
    assert set(OPTIONAL) <= uses  # no excuse that nothing needs
    assert len(uses) > 45


@pytest.mark.parametrize('source, name', [
    ('builder = trt.Builder(log)\nbuilder.max_workspace_size = 1', 'Builder.max_workspace_size'),
    ('c = trt.Builder(log).create_builder_config()\nc.set_flag(trt.BuilderFlag.FP16)',
     'BuilderFlag.FP16'),
    ('def f(config: IBuilderConfig):\n    config.int8_calibrator = None',
     'IBuilderConfig.int8_calibrator'),
    ('def f(engine: "ICudaEngine"):\n    return engine.num_bindings', 'ICudaEngine.num_bindings'),
    ('class A:\n    def __init__(self, engine: ICudaEngine):\n        self._c = '
     'engine.create_execution_context()\n    def run(self):\n        self._c.execute_async_v2()',
     'IExecutionContext.execute_async_v2'),
    ('def f(network: INetworkDefinition):\n    for t in [network.get_output(i) for i in x]:\n'
     '        t.dimensions', 'ITensor.dimensions'),
    ('def f(network: INetworkDefinition):\n    return [t.dims for t in [network.get_input(0) for '
     'i in x]]', 'ITensor.dims'),
    ('trt.IInt8EntropyCalibrator2()', 'trt.IInt8EntropyCalibrator2'),
    ('names = trt.NetworkDefinitionCreationFlag\nnames.EXPLICIT_BATCH',
     "EXPLICIT_BATCH needs the guard hasattr(names, 'EXPLICIT_BATCH')"),
])
def test_the_walk_sees_a_breach(source, name):
    [line] = missing(source)
    assert name in line


def test_what_is_not_tensorrt_is_let_alone():
    assert not uses_of('def f(profile: Profile):\n    profile.batch\n    engine.anything\n'
                       'builder = make()\nbuilder.thing')


def test_the_bindings_are_those_of_the_versions_they_are_named_for():
    for version, members in BINDINGS.items():
        assert members['__version__'].startswith(version.removeprefix('rtx'))


def test_the_installed_library_has_what_was_recorded_of_its_version():
    from seg_node.errors import BackendError
    from seg_node.gpu import trt
    try:
        library = trt.load()
    except BackendError as error:
        pytest.skip(str(error))
    version = ('rtx' if library.is_rtx else '') + '.'.join(library.version.split('.')[:2])
    if version not in BINDINGS:
        pytest.skip(f'{library} is not one of the recorded versions, {", ".join(BINDINGS)}')
    for name in CLASSES & set(BINDINGS[version]):
        assert set(BINDINGS[version][name]) <= set(dir(getattr(library.module, name))), name
