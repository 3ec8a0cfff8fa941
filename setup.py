"""Build description; name, version and people come from package.xml, its one home."""

import os
from pathlib import Path
import subprocess
import sys
from xml.etree import ElementTree

from setuptools import find_packages, setup
from setuptools.command.develop import develop
from setuptools.command.install_lib import install_lib

HERE = Path(__file__).resolve().parent
MANIFEST = ElementTree.parse(HERE / 'package.xml').getroot()
NAME = MANIFEST.findtext('name')
SHARED = ('calibration', 'config', 'drive', 'launch', 'models', 'presets', 'rviz')


def requirements(name):
    """Return the lines of requirements/<name>.txt that name a package."""
    lines = (HERE / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def shared_files():
    """Return what goes below share/, folder by folder: setuptools copies no trees."""
    found = [('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
             (f'share/{NAME}', ['package.xml'])]
    for top in SHARED:
        for folder in [HERE / top, *sorted((HERE / top).rglob('*'))]:
            parts = folder.relative_to(HERE).parts
            if not folder.is_dir() or any(part.startswith(('.', '__')) for part in parts):
                continue  # a file, or the cache of a tool
            files = [str(file.relative_to(HERE)) for file in sorted(folder.glob('[!.]*'))
                     if file.is_file()]
            found.append((f'share/{NAME}/{"/".join(parts)}', files))
    return [(folder, files) for folder, files in found if files]


def precompile(folder):
    """
    Compile the loops of the package that was put into a folder, so that no start has to.

    What is compiled is for this processor and for files at this place, so not for wheels.
    """
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get('PYTHONPATH')]))
    subprocess.run([sys.executable, '-m', 'seg_node.tools.precompile'], check=False,
                   cwd=folder, env={**os.environ, 'PYTHONPATH': paths})


class InstallLib(install_lib):
    """Compiles after the installation into its final place."""

    def run(self):
        super().run()
        if 'bdist_wheel' not in sys.argv and not self.get_finalized_command('install').root:
            precompile(self.install_dir)


class Develop(develop):
    """Compiles where the sources lie."""

    def run(self):
        super().run()
        precompile(HERE)


setup(
    name=NAME,
    version=MANIFEST.findtext('version'),
    description=MANIFEST.findtext('description'),
    license=MANIFEST.findtext('license'),
    maintainer=MANIFEST.findtext('maintainer'),
    maintainer_email=MANIFEST.find('maintainer').get('email'),
    packages=find_packages(include=['seg_node', 'seg_node.*']),
    package_data={'seg_node.gpu': ['kernels.cu'], 'seg_node.proving': ['stand_in.cu']},
    data_files=shared_files(),
    python_requires='>=3.10',
    classifiers=[f'Programming Language :: Python :: 3.{minor}' for minor in range(10, 15)],
    install_requires=requirements('runtime'),
    extras_require={
        'openvino': requirements('openvino'),
        'ros': requirements('ros-kilted'),
        'ros-jazzy': requirements('ros-jazzy'),
        'tools': requirements('tools'),
        'video': requirements('video'),
        'view': requirements('view'),
        'archive': requirements('archive'),
        'gpu': requirements('gpu'),
        'test': requirements('test'),
    },
    zip_safe=False,
    cmdclass={'install_lib': InstallLib, 'develop': Develop},
    entry_points={'console_scripts': [
        'seg_node = seg_node.ros.main:main',
        'precompile = seg_node.tools.precompile:main',
        'layout = seg_node.tools.layout:main',
        'replay = seg_node.tools.replay:main',
        'calibrate = seg_node.tools.calibrate:main',
        'check_mount = seg_node.tools.check_mount:main',
        'demo = seg_node.tools.demo:main',
        'view = seg_node.tools.view:main',
        'benchmark = seg_node.tools.benchmark:main',
        'evaluate = seg_node.tools.evaluate:main',
        'check_model = seg_node.tools.check_model:main',
        'build_engine = seg_node.tools.build_engine:main',
        'gpu_check = seg_node.tools.gpu_check:main',
        'healthcheck = seg_node.tools.healthcheck:main',
        'ego_mask = seg_node.tools.ego_mask:main',
        'stress = seg_node.tools.stress:main',
        'reference = seg_node.tools.reference:main',
        'archive = seg_node.tools.archive:main',
    ]},
)
