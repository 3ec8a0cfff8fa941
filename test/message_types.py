"""
Real ROS types that no wheel has: vision_msgs/LabelInfo and bond/Status, made by rosidl.

A ROS installation has them; on the wheels their generators and a C compiler make them in some
ten seconds, once a pytest cache.
"""

from importlib.metadata import entry_points
from importlib.util import find_spec
import os
from pathlib import Path
import shutil
import subprocess
import sys
import sysconfig

import pytest

#: As the packages define them.
MESSAGES = {
    'vision_msgs': {'VisionClass': 'uint16 class_id\nstring class_name\n',
                    'LabelInfo': 'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\n'
                                 'float32 threshold\n'},
    'bond': {'Status': 'std_msgs/Header header\nstring id\nstring instance_id\nbool active\n'
                       'float32 heartbeat_timeout\nfloat32 heartbeat_period\n'}}
PREFIX = Path(sys.prefix)
#: The dispatching library asks for the others by name: they are loaded before it does.
PRELOAD = """
import ctypes
import pathlib
for name in {libraries}:
    ctypes.CDLL(str(pathlib.Path(__file__).parents[2] / 'lib' / name), ctypes.RTLD_GLOBAL)
"""


def make_types(folder: Path) -> Path:
    """
    Return the folder to put on Python's path, making what lacks.

    :raises RuntimeError: this machine cannot make them.
    """
    site = folder / 'site'
    for package, messages in MESSAGES.items():
        done = folder / f'{package}.done'
        if find_spec(package) is None and not done.exists():
            if find_spec('rosidl_generator_py') is None or not shutil.which('g++'):
                raise RuntimeError(f'{package} is neither installed nor to be made: rosidl_'
                                   'generator_py and g++ are needed')
            _generate(folder, package, messages)
            _compile(folder, package)
            done.touch()
    return site


def _generate(folder: Path, package: str, messages: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if not os.environ.get('AMENT_PREFIX_PATH'):
            patch.setenv('AMENT_PREFIX_PATH', str(PREFIX))  # where rosidl's templates are
        _run_rosidl(folder, package, messages)


def _run_rosidl(folder: Path, package: str, messages: dict[str, str]) -> None:
    import rosidl_cli.entry_points as found
    # Wheels list each generator twice.
    found.get_entry_points = lambda group, *, specs=None, strict=False: {
        entry.name: entry for entry in entry_points(group=group)
        if not specs or entry.name in specs}
    from rosidl_cli.command.generate.api import generate
    source = folder / 'source' / package
    (source / 'msg').mkdir(parents=True, exist_ok=True)
    for name, text in messages.items():
        (source / 'msg' / f'{name}.msg').write_text(text)
    generate(package_name=package, interface_files=[f'{source}:msg/{name}.msg'
                                                    for name in messages],
             include_paths=[str(PREFIX / 'share'), str(source.parent)],
             output_path=folder / 'made' / package, types=['c', 'py'],
             typesupports=['c', 'fastrtps_c', 'introspection_c'])


def _compile(folder: Path, package: str) -> None:
    made, libraries, site = (folder / 'made' / package, folder / 'lib', folder / 'site' / package)
    libraries.mkdir(exist_ok=True)
    include = folder / 'include'
    for part in ('c', 'fastrtps_c', 'introspection_c'):
        shutil.copytree(made / part / 'msg', include / package / 'msg', dirs_exist_ok=True)
    import numpy
    places = [include, *(path for path in PREFIX.glob('include/**/') if path.parts[-2:-1] in
                         (('include',), (f'python3.{sys.version_info[1]}',))), PREFIX / 'include',
              sysconfig.get_paths()['include'], numpy.get_include()]
    common = ['-O0', '-w', '-fPIC', '-shared', '-Wl,--unresolved-symbols=ignore-all',
              f'-L{PREFIX}/lib', f'-L{libraries}', f'-Wl,-rpath,{PREFIX}/lib:{libraries}',
              *(f'-I{place}' for place in places)]

    def library(name: str, pattern: str, needs: list[str], where: Path = libraries) -> str:
        target = where / name
        subprocess.run(
            ['g++' if pattern.endswith('cpp') else 'gcc', *common, f'-Wl,-soname,{name}',
             *map(str, made.glob(pattern)), '-o', str(target),
             *(f'-l:lib{need}.so' for need in needs)], check=True, timeout=120)
        return name
    base = f'{package}__rosidl_generator_c'
    names = [
        library(f'lib{base}.so', 'c/msg/detail/*.c',
                ['std_msgs__rosidl_generator_c', 'rosidl_runtime_c', 'rcutils']),
        library(f'lib{package}__rosidl_typesupport_fastrtps_c.so', 'fastrtps_c/msg/detail/*.cpp',
                [base, 'std_msgs__rosidl_typesupport_fastrtps_c', 'rosidl_typesupport_fastrtps_c',
                 'rosidl_typesupport_fastrtps_cpp', 'fastcdr']),
        library(f'lib{package}__rosidl_typesupport_introspection_c.so',
                'introspection_c/msg/detail/*.c',
                [base, 'std_msgs__rosidl_typesupport_introspection_c',
                 'rosidl_typesupport_introspection_c']),
        library(f'lib{package}__rosidl_typesupport_c.so', 'c/msg/*__type_support.cpp',
                [base, 'std_msgs__rosidl_typesupport_c', 'rosidl_typesupport_c']),
        library(f'lib{package}__rosidl_generator_py.so', 'py/msg/*_s.c',
                [base, 'std_msgs__rosidl_generator_py'])]
    shutil.copytree(made / 'py' / 'msg', site / 'msg', dirs_exist_ok=True)
    (site / '__init__.py').write_text(PRELOAD.format(libraries=names))
    suffix = sysconfig.get_config_var('EXT_SUFFIX')
    library(f'{package}_s__rosidl_typesupport_c{suffix}',
            f'py/_{package}_s.ep.rosidl_typesupport_c.c',
            [f'{package}__rosidl_generator_py', f'{package}__rosidl_typesupport_c',
             base, 'rosidl_typesupport_c'], site)
