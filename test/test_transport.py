"""The transport environment: what is set, what of the user's is left alone, and that it works."""

from contextlib import suppress
import os
import platform
import subprocess
import sys

import pytest

from seg_node.paths import shared
from seg_node.ros import transport

NAMES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
SETTINGS = (*NAMES, 'FASTDDS_BUILTIN_TRANSPORTS')


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """Take every setting out of the environment; undo what the test sets."""
    for name in SETTINGS:
        monkeypatch.setenv(name, 'to be restored')
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def install(monkeypatch, tmp_path, *libraries):
    (tmp_path / 'lib').mkdir()
    for library in libraries:
        (tmp_path / 'lib' / library).touch()
    monkeypatch.setattr(sys, 'prefix', str(tmp_path / 'nothing'))
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    monkeypatch.setenv('LD_LIBRARY_PATH', '')


@pytest.mark.parametrize('library, expected', [
    ('libfastdds.so.3.2', NAMES[:1]), ('libfastrtps.so.2.14', NAMES[1:]), ('libother.so', NAMES)],
    ids=['Fast DDS 3', 'Fast DDS 2', 'unknown'])
def test_the_variable_that_this_fast_dds_reads_is_set(clean, tmp_path, library, expected):
    install(clean, tmp_path, library)
    text = transport.apply_transport_environment()
    profile = str(shared('config', 'fastdds_shm.xml'))
    assert {name: os.environ[name] for name in NAMES if name in os.environ} == dict.fromkeys(
        expected, profile)
    assert f'Fast DDS profile {profile}' in text


@pytest.mark.parametrize('name', SETTINGS)
def test_what_the_user_chose_is_left_alone(clean, name):
    clean.setenv(name, 'mine')
    text = transport.apply_transport_environment()
    assert text.startswith(f'{name}=mine (from the environment)')
    assert [other for other in SETTINGS if other in os.environ] == [name]


def test_a_profile_in_the_working_directory_is_left_alone(clean, tmp_path):
    (tmp_path / 'DEFAULT_FASTDDS_PROFILES.xml').touch()
    assert f'{tmp_path}/DEFAULT_FASTDDS_PROFILES.xml' in transport.apply_transport_environment()
    assert not any(name in os.environ for name in SETTINGS)


def run(program, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return subprocess.run([sys.executable, '-c', program], env={**clean, **environment},
                          capture_output=True, text=True, timeout=60, check=True).stdout


FAULTS = """
import resource
if {apply}:
    from seg_node.ros.transport import apply_transport_environment
    apply_transport_environment()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def frames():
    return [b'x' * (3 << 20) for _ in range(4)]  # as many buffers as one frame takes
frames()
before = faults()
for _ in range(25):
    frames()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc has the switch')
def test_image_buffers_are_not_fetched_from_the_kernel_each_time():
    pages = 100 * (3 << 20) // os.sysconf('SC_PAGE_SIZE')
    assert int(run(FAULTS.format(apply=True))) < pages / 20
    assert int(run(FAULTS.format(apply=False))) > pages / 2, 'the control: without, each page'


LISTENER = """
import time
from seg_node.ros.transport import apply_transport_environment
apply_transport_environment()
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node('listener')
came = set()
node.create_subscription(Image, '/camera/image_raw', lambda data: came.add(bytes(data)),
                         QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT), raw=True)
print('ready', flush=True)
end = time.monotonic() + 60
while time.monotonic() < end and len(came) < 30:
    before = len(came)
    rclpy.spin_once(node, timeout_sec=0.1)
    if len(came) > before:
        end = time.monotonic() + 5
        print('taken', flush=True)
print(len(came), *{len(data) for data in came}, flush=True)
rclpy.shutdown()
"""
#: Sends the next image when the last one has been taken: then none waits for a busy machine.
SPEAKER = """
from seg_node.ros.transport import apply_transport_environment
apply_transport_environment()
import rclpy, select, sys
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from seg_node.image.wire import Header, build_image
rclpy.init()
node = rclpy.create_node('speaker')
publisher = node.create_publisher(Image, '/camera/image_raw', QoSProfile(depth=5))
for index in range(30):
    image = build_image(Header(index, 0, ''), 720, 1280, 'bgr8', bytes(720 * 3840), step=3840)
    publisher.publish(image)
    while not index and not select.select([sys.stdin], [], [], 0.5)[0]:
        publisher.publish(image)  # until both have met
    if sys.stdin.readline() != 'taken\\n':
        break
rclpy.shutdown()
"""


def test_best_effort_images_of_1280x720_all_arrive_in_another_process():
    pytest.importorskip('rclpy', reason='needs ROS 2')
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    with subprocess.Popen([sys.executable, '-c', LISTENER], env=environment, text=True,
                          stdout=subprocess.PIPE) as listener:
        assert listener.stdout.readline() == 'ready\n'
        with subprocess.Popen([sys.executable, '-c', SPEAKER], env=environment, text=True,
                              stdin=subprocess.PIPE) as speaker:
            while (line := listener.stdout.readline()) == 'taken\n':
                with suppress(BrokenPipeError):  # the last one is not waited for
                    speaker.stdin.write(line)
                    speaker.stdin.flush()
            with suppress(BrokenPipeError):
                speaker.stdin.close()
    came, size = map(int, line.split())
    assert came == 30, 'without the profile none or few of them'
    assert size > 1280 * 720 * 3
