"""What all tests share: ROS 2 kept to this run alone, and the recorded data."""

import faulthandler
import fcntl
import os
from pathlib import Path
import socket
import sys
import tempfile

import cv2
import pytest

from seg_node.playback.domain import reserve_domain

#: The files that take longest, so that no worker begins one of them when all others are done.
LONG = ('test_archive_ray.py', 'test_faults.py', 'test_node_health.py', 'test_demo.py',
        'test_node_life.py', 'test_build.py', 'test_gpu_segmenter.py', 'test_replay.py',
        'test_gpu_overlap.py', 'test_street.py', 'test_openvino.py', 'test_engine_build.py',
        'test_drive.py', 'test_engine_rtx.py', 'test_evaluate.py', 'test_node_outputs.py',
        'test_gpu_nvcc.py', 'test_package.py', 'test_view.py', 'test_jpeg.py',
        'test_gpu_driver.py', 'test_precision.py', 'test_gpu_check.py', 'test_gpu_proof.py',
        'test_presets.py', 'test_recorded_cases.py', 'test_node_trust.py', 'test_docs.py',
        'test_labels.py', 'test_ego_mask_tool.py', 'test_calibration_of_confidence.py',
        'test_health.py', 'test_many_cameras.py', 'test_launch.py', 'test_stress.py',
        'test_device_thread.py', 'test_gpu_kernels.py', 'test_node_ground.py')
_RUN = pytest.StashKey[tuple[socket.socket, tempfile.TemporaryDirectory]]()
_STDERR = pytest.StashKey[int]()
#: When a test is so deep in C code that pytest-timeout's signal is not heard, all ends.
HARD_LIMIT_S = 600


def pytest_configure(config):
    """Keep the ROS 2 traffic, logs and cache of this run away from all others on the machine."""
    domain, reservation = reserve_domain()
    logs = tempfile.TemporaryDirectory(prefix='seg_node_log_')
    config.stash[_RUN] = reservation, logs
    config.stash[_STDERR] = os.dup(2)  # pytest redirects 2 while a test runs
    os.environ.update(ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
                      ROS_LOG_DIR=logs.name, SEG_NODE_CACHE=f'{logs.name}/cache')


def pytest_collection_modifyitems(items):
    """Put the files that take longest first."""
    rank = {name: index for index, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_unconfigure(config):
    """Give the domain back and remove the logs."""
    reservation, logs = config.stash[_RUN]
    reservation.close()
    logs.cleanup()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """End the process, with the stacks of all threads, when a test outlives every other limit."""
    faulthandler.dump_traceback_later(HARD_LIMIT_S, exit=True, file=item.config.stash[_STDERR])
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope='session')
def data_dir():
    """Return the folder with recorded data (data/, models/), or skip the test."""
    value = os.environ.get('SEG_NODE_DATA', '')
    if not value:
        pytest.skip('needs recorded data: set SEG_NODE_DATA to the folder that holds it')
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f'SEG_NODE_DATA is {value}, which is no folder: correct or unset it')
    return folder


@pytest.fixture(scope='module')
def message_types(request):
    """Have vision_msgs and bond, with the real types, here and in processes started from here."""
    from message_types import make_types
    distro = os.environ.get('ROS_DISTRO', '')
    folder = request.config.cache.mkdir(f'message_types_{distro}_{sys.version_info.minor}')
    with (folder / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # all workers share them
        try:
            site = make_types(folder)
        except RuntimeError as error:
            pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        patch.setenv('PYTHONPATH', os.pathsep.join(filter(None, [
            str(site), os.environ.get('PYTHONPATH')])))
        yield site


@pytest.fixture(scope='module')
def palette():
    """Return the palette model of cityscapes19 on ONNX Runtime."""
    from seg_node.devices import backend as backends
    from seg_node.model.card import load_card
    card = load_card(Path(__file__).parent / 'models/palette_cityscapes19')
    loaded = backends.load('onnxruntime', card, providers=['CPUExecutionProvider'], threads=1)
    yield loaded
    loaded.close()


@pytest.fixture(scope='module')
def client():
    """Return what talks to the node of a module as its cameras and its consumers do."""
    from harness import Client
    client = Client()
    yield client
    client.close()


@pytest.fixture(scope='session')
def streets(tmp_path_factory):
    """Return small pictures of the rendered street to calibrate with."""
    from seg_node.engines.verify import street_frames
    from seg_node.geometry import Size
    folder = tmp_path_factory.mktemp('streets')
    for index, image in enumerate(street_frames(Size(240, 320))):
        cv2.imwrite(str(folder / f'{index}.png'), image)
        cv2.imwrite(str(folder / f'{index}_turned.png'), image[:, ::-1])
    return sorted(folder.glob('*'))
