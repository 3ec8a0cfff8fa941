"""What is found out about the machine: its GPU, its shared memory, who sends."""

from types import SimpleNamespace

import pytest

from seg_node.devices import choose, presence
from seg_node.devices.choose import open_segmenter, Wish
from seg_node.errors import BackendError
from seg_node.model.card import load_card
from seg_node.ros import shared_memory
from seg_node.ros.cameras import Camera

MB = 1 << 20
SETTINGS = ('FASTDDS_BUILTIN_TRANSPORTS', 'FASTDDS_DEFAULT_PROFILES_FILE',
            'FASTRTPS_DEFAULT_PROFILES_FILE')
PROFILE = """<?xml version="1.0"?>
<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"><transport_descriptors>
<transport_descriptor><transport_id>a</transport_id><type>{kind}</type>{size}</transport_descriptor>
<transport_descriptor><transport_id>unused</transport_id><type>SHM</type>
<segment_size>999999999</segment_size></transport_descriptor></transport_descriptors>
<participant profile_name="p" is_default_profile="true"><rtps><userTransports>
<transport_id>a</transport_id></userTransports>
<useBuiltinTransports>{builtin}</useBuiltinTransports></rtps></participant></profiles>"""


# A GPU that is there

def test_a_gpu_that_the_driver_finds_is_there(monkeypatch, tmp_path):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.setattr(presence.trt, 'find_gpu', lambda: object())
    assert presence.gpu_is_there(tmp_path)

    def broken():
        raise BackendError('does not describe it')
    monkeypatch.setattr(presence.trt, 'find_gpu', broken)
    assert presence.gpu_is_there(tmp_path)


@pytest.mark.parametrize('trace', [
    'proc/driver/nvidia/gpus/0000:01:00.0', 'dev/nvidia0', 'dev/nvhost-gpu', 'dev/nvgpu/igpu0'])
@pytest.mark.parametrize('hidden', ['', '-1', None])
def test_a_gpu_without_cuda_leaves_traces_and_may_be_hidden(monkeypatch, tmp_path, trace, hidden):
    monkeypatch.setattr(presence.trt, 'find_gpu', lambda: None)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    assert not presence.gpu_is_there(tmp_path)
    (tmp_path / trace).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / trace).touch()
    if hidden is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', hidden)
    assert presence.gpu_is_there(tmp_path) == (hidden is None)


@pytest.mark.parametrize('there', [True, False])
def test_a_gpu_that_auto_leaves_unused_is_told_with_the_reasons(monkeypatch, there):
    monkeypatch.setattr(choose, 'gpu_is_there', lambda: there)
    chosen = open_segmenter(load_card('bisenetv2_camvid'), Wish())
    assert chosen.segmenter.device == 'cpu'
    assert chosen.gpu_unused.startswith('not TensorRT: ' if there else '')
    assert bool(chosen.gpu_unused) == there
    chosen.segmenter.close()
    chosen = open_segmenter(load_card('bisenetv2_camvid'), Wish('onnxruntime'))
    assert not chosen.gpu_unused, 'it was asked for'
    chosen.segmenter.close()


# Shared memory

@pytest.fixture
def bare(monkeypatch, tmp_path):
    """Take every setting of Fast DDS away."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


@pytest.mark.parametrize('kind, size, builtin, segment', [
    ('SHM', '<segment_size>33554432</segment_size>', 'false', 32 * MB),
    ('SHM', '', 'false', MB // 2), ('SHM', '<segment_size>a</segment_size>', 'false', MB // 2),
    ('UDPv4', '', 'false', 0), ('UDPv4', '', 'true', MB // 2),
    ('SHM', '<segment_size>33554432</segment_size>', 'true', 32 * MB)])
def test_a_profile_tells_what_each_process_takes(bare, tmp_path, kind, size, builtin, segment):
    (tmp_path / 'p.xml').write_text(PROFILE.format(kind=kind, size=size, builtin=builtin))
    for name in SETTINGS[1:]:
        bare.setenv(name, str(tmp_path / 'p.xml'))
    assert shared_memory.segment_bytes() == segment


@pytest.mark.parametrize('name, value, segment', [
    (SETTINGS[0], 'UDPv4', 0), (SETTINGS[0], 'LARGE_DATA', MB // 2),
    (SETTINGS[1], '/nowhere.xml', MB // 2), ('OTHER', 'x', MB // 2)])
def test_other_settings_take_little(bare, name, value, segment):
    bare.setenv(name, value)
    bare.setenv(name.replace('FASTDDS_DEFAULT', 'FASTRTPS_DEFAULT'), value)
    assert shared_memory.segment_bytes() == segment


def test_a_profile_in_the_working_directory_counts(bare, tmp_path):
    (tmp_path / 'DEFAULT_FASTDDS_PROFILES.xml').write_text(PROFILE.format(
        kind='SHM', size='<segment_size>8000000</segment_size>', builtin='false'))
    assert shared_memory.segment_bytes() == 8000000


def test_an_open_segment_is_seen_among_what_is_mapped(monkeypatch, tmp_path):
    maps = tmp_path / 'maps'
    monkeypatch.setattr(shared_memory, '_MAPS', maps)
    assert shared_memory.is_open(MB) is None
    maps.write_text('7f0000000000-7f0000001000 rw-s 0 00:1a 5 /dev/shm/fastdds_port7411\n'
                    '7f0000000000-7f0009000000 rw-s 0 00:1a 6 /dev/shm/other\n')
    assert shared_memory.is_open(MB) is False
    maps.write_text(maps.read_text()
                    + '7f0000000000-7f0000100000 rw-s 0 00:1a 7 /dev/shm/fastdds_7512\n')
    assert shared_memory.is_open(MB) is True
    assert shared_memory.is_open(MB + 1) is False


# Who sends

@pytest.mark.parametrize('info, alone, sender', [
    ({'publication_sequence_number': 7, 'publisher_gid': {'data': b'x'}}, False, (b'x', 7)),
    ({'publication_sequence_number': 7}, True, (b'', 7)),
    ({'publication_sequence_number': 7}, False, (b'', None)),
    ({'publication_sequence_number': None}, True, (b'', None)), ({}, True, (b'', None))],
    ids=['Kilted', 'Jazzy', 'Jazzy, two publishers', 'no numbers', 'nothing'])
def test_a_number_is_trusted_where_its_publisher_is_known(info, alone, sender):
    assert Camera._sender(SimpleNamespace(_alone=alone), info) == sender
