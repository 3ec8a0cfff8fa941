"""The engine cache: what it opens, and everything it refuses to."""

from dataclasses import dataclass, replace
import json
import os
from pathlib import Path
import shlex
import shutil
import signal
import subprocess
import sys
from threading import Event, Thread

import pytest

from seg_node.errors import ConfigError
from seg_node.geometry import fit, Size
from seg_node.gpu.engine_cache import EngineCache, open_verified
from seg_node.gpu.engine_manifest import builder_flags, EngineKey, Manifest, OptimizationProfile
from seg_node.gpu.trt import Library
from seg_node.model.card import load_card
from seg_node.paths import cache_root
from seg_node.tools import build_engine

ROOT = Path(__file__).resolve().parents[1]
CARD = load_card(ROOT / 'test/models/palette_stride8')
CAMERA = Size(360, 640)
LIBRARY = Library('tensorrt', '10.3.0')
FILES = {'engine.plan': b'plan' * 1000, 'kernels.cubin': b'cubin' * 100, 'layers.json': b'{}'}


@dataclass
class Orin:
    name: str = 'Orin'
    compute_capability: tuple[int, int] = (8, 7)


def key(**changes):
    profile = OptimizationProfile((1, 2, 4), (fit(CARD.input, CAMERA).network,))
    return replace(EngineKey(CARD.sha256, 'tensorrt', '10.3.0', 'Orin', '8.7', 'fp16', profile,
                             builder_flags('fp16'), 1024, 'kernels-1'), **changes)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('SEG_NODE_CACHE', str(tmp_path / 'cache'))
    return EngineCache()


def store(cache, entry_key, files=FILES, **manifest):
    with cache.lock():
        return cache.store(CARD.name, entry_key, files,
                           Manifest(CARD.name, entry_key, {}, **manifest))


def opened(**changes):
    wanted = {'precision': 'fp16', 'device': Orin(), 'max_batch': 4, 'cameras': [CAMERA],
              'library': LIBRARY, 'kernels': 'kernels-1'}
    return open_verified(CARD, **{**wanted, **changes})


def test_what_was_stored_is_opened(cache):
    verified = {'agreement': 0.999, 'control': 0.4, 'frames': ['one']}
    folder = store(cache, key(), verified=verified, build={'build_s': 3})
    found = opened()
    assert found.plan == FILES['engine.plan'] and found.cubin == FILES['kernels.cubin']
    assert found.folder == folder and found.manifest.key == key()
    assert found.manifest.verified == verified and found.manifest.build == {'build_s': 3}
    assert {name for name in os.listdir(folder)} == {*FILES, 'manifest.json'}


def test_an_engine_without_kernels_has_none(cache):
    store(cache, key(), {'engine.plan': b'x'})
    assert opened().cubin is None


def test_the_manifest_is_for_people_too(cache):
    text = (store(cache, key()) / 'manifest.json').read_text()
    raw = json.loads(text)
    assert raw['key']['gpu'] == 'Orin' and raw['key']['profile']['batch'] == [1, 2, 4]
    assert raw['files']['engine.plan']['bytes'] == 4000 and text.count('\n') > 20
    assert Manifest.from_json(text).to_json() == text


@pytest.mark.parametrize('name', ['engine.plan', 'kernels.cubin', 'layers.json'])
def test_a_changed_file_is_refused_before_anything_is_handed_out(cache, name):
    path = store(cache, key()) / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf'{name} is not the file that was built: .*sha256 \w+, '
                       rf'the file has {len(content)} bytes, sha256 [^\0]*--force'):
        opened()


@pytest.mark.parametrize('name', ['engine.plan', 'kernels.cubin', 'manifest.json'])
def test_a_missing_file_is_refused(cache, name):
    (store(cache, key()) / name).unlink()
    with pytest.raises(ConfigError, match=f'{name} cannot be read: No such file'):
        opened()


@pytest.mark.parametrize('changes, wanted, message', [
    ({'model': 'f' * 64}, {}, rf'model .*: the engine has f{{64}}, wanted is {CARD.sha256}'),
    ({'library': 'tensorrt_rtx'}, {}, 'library: the engine has tensorrt_rtx, wanted is tensorrt'),
    ({'version': '10.7.0'}, {}, 'version: the engine has 10.7.0, wanted is 10.3.0'),
    ({}, {'library': Library('tensorrt', '11.4.1')}, 'the engine has 10.3.0, wanted is 11.4.1'),
    ({'precision': 'int8'}, {}, 'precision: the engine has int8, wanted is fp16'),
    ({'gpu': 'Orin NX'}, {}, 'GPU: the engine has Orin NX, wanted is Orin'),
    ({'compute_capability': '8.9'}, {}, 'capability: the engine has 8.9, wanted is 8.7'),
    ({}, {'max_batch': 5}, r'profile: the engine has batch 1 to 4 \(best 2\), network input '
     r'\d+x\d+, wanted is batch up to 5'),
    ({}, {'cameras': [Size(360, 640), Size(480, 640)]}, 'profile: .*wanted is batch up to 4'),
    ({'flags': ('strongly typed',)}, {}, 'flags: the engine has strongly typed, wanted is strong'),
    ({'kernels': 'kernels-0'}, {}, 'kernels .*: the engine has kernels-0, wanted is kernels-1'),
])
def test_another_engine_is_refused_by_what_differs(cache, changes, wanted, message):
    store(cache, key(**changes))
    with pytest.raises(ConfigError, match=message) as caught:
        opened(**wanted)
    said = str(caught.value)
    assert said.count('the engine has') == said.count('wanted is') == 1  # that and nothing else
    assert '\n' not in said and 'is not the engine that is wanted: ' in said
    options = command_in(caught.value)
    assert options.precision == 'fp16' and load_card(options.model) == CARD
    assert options.camera[0] == CAMERA and options.batch[2] == wanted.get('max_batch', 4)


def command_in(error):
    """Parse the command of a message with the program's own command line."""
    words = shlex.split(str(error).rpartition('. Build it: ')[2])
    assert words[:3] == ['python', '-m', 'seg_node.tools.build_engine']
    return build_engine._parser().parse_args(words[3:])


def test_no_engine_at_all_is_refused_with_the_command(cache):
    with pytest.raises(ConfigError, match=f'no engine of {CARD.name} in {cache.engines}') as error:
        opened(precision='int8')
    assert command_in(error.value).images


def test_every_difference_is_named_of_the_nearest_engine(cache):
    store(cache, key(precision='fp32', version='8.6.1', flags=builder_flags('fp32')))
    store(cache, key(precision='int8'))
    with pytest.raises(ConfigError) as error:
        opened()
    assert 'has int8' in str(error.value) and 'fp32' not in str(error.value)
    assert '1 more engines of this model' in str(error.value)


def test_of_engines_that_fit_the_tightest_is_taken(cache):
    size = key().profile.sizes
    for most in (8, 4, 6):
        store(cache, key(profile=OptimizationProfile((1, 1, most), size)))
    assert opened(max_batch=3).manifest.key.profile.batch[2] == 4
    assert opened(max_batch=5).manifest.key.profile.batch[2] == 6


def test_a_broken_neighbour_does_not_hide_the_engine_that_fits(cache):
    (store(cache, key(precision='fp32')) / 'manifest.json').write_text('{')
    store(cache, key())
    assert opened().plan == FILES['engine.plan']


def test_a_build_for_a_capability_fits_every_such_gpu(cache):
    store(cache, key(gpu=None))
    assert opened(device=Orin('Orin NX')).manifest.key.gpu is None
    with pytest.raises(ConfigError, match='capability'):
        opened(device=Orin('Orin', (8, 9)))


def test_of_engines_for_unknown_cameras_the_one_that_takes_most_is_opened(cache):
    small, large = fit(CARD.input, CAMERA).network, Size(480, 640)
    one = store(cache, key())
    both = store(cache, key(profile=OptimizationProfile((1, 2, 4), (small, large))))
    assert opened(cameras=[]).folder == both
    assert opened().folder == one  # made for just this camera


def test_a_network_size_finds_its_engine(cache):
    small, large = fit(CARD.input, CAMERA).network, Size(480, 640)
    folders = {size: store(cache, key(profile=OptimizationProfile((1, 2, 4), (size,))))
               for size in (small, large)}
    for size, folder in folders.items():
        assert opened(cameras=[], sizes=[size]).folder == folder
    with pytest.raises(ConfigError, match=r'(?s)network input 64x32.*--size 32x64'):
        opened(cameras=[], sizes=[Size(32, 64)])


def test_sizes_between_the_least_and_the_largest_fit(cache):
    store(cache, key(profile=OptimizationProfile((1, 1, 4), (Size(128, 512), Size(256, 256)))))
    for network, fits in ((Size(128, 256), True), (Size(256, 512), True), (Size(264, 512), False),
                          (Size(120, 512), False)):
        assert key(profile=OptimizationProfile((1, 1, 4), (Size(128, 512), Size(256, 256)))
                   ).profile.covers(4, [network]) == fits


@pytest.mark.parametrize('change, message', [
    (lambda raw: '{', 'it is not JSON'),
    (lambda raw: '[]', 'its format is None, this version of seg_node reads 1'),
    (lambda raw: json.dumps({**raw, 'format': 2}), 'its format is 2, this version'),
    (lambda raw: json.dumps({k: v for k, v in raw.items() if k != 'files'}), 'incomplete: KeyErr'),
    (lambda raw: json.dumps({**raw, 'key': {**raw['key'], 'profile': 3}}), 'it is incomplete'),
    (lambda raw: json.dumps({**raw, 'key': {**raw['key'], 'precision': 'int8'}}),
     'its key was changed'),
    (lambda raw: json.dumps({**raw, 'files': {'../engine.plan': raw['files']['engine.plan']}}),
     'a file outside of the folder'),
])
def test_an_unreadable_manifest_is_refused(cache, change, message):
    path = store(cache, key()) / 'manifest.json'
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(ConfigError, match=rf'manifest {path} cannot be used: .*{message}'):
        opened()


def test_the_manifest_of_another_engine_is_refused(cache):
    folder, other = store(cache, key()), store(cache, key(precision='int8'))
    shutil.copy(other / 'manifest.json', folder / 'manifest.json')
    shutil.rmtree(other)
    with pytest.raises(ConfigError, match='belongs to another engine'):
        opened()


def test_a_manifest_without_a_plan_is_refused(cache):
    store(cache, key(), {'kernels.cubin': b'x'})
    with pytest.raises(ConfigError, match='lists no engine.plan'):
        opened()


@pytest.mark.parametrize('name', ['', 'engine.plan', 'kernels.cubin', 'manifest.json', '..',
                                  '../..'])
@pytest.mark.parametrize('bits', [0o020, 0o002])
def test_what_others_can_write_is_refused(cache, name, bits):
    path = store(cache, key()) / name
    path.chmod(path.stat().st_mode & 0o777 | bits)
    with pytest.raises(ConfigError, match='can be written by others .*chmod go-w'):
        opened()
    path.chmod(path.stat().st_mode & 0o755)
    opened()


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give a file to another user')
def test_what_belongs_to_another_user_is_refused(cache):
    plan = store(cache, key()) / 'engine.plan'
    os.chown(plan, 12345, -1)
    with pytest.raises(ConfigError, match='belongs to user 12345, not to you'):
        opened()


@pytest.mark.parametrize('mask', [0o002, 0o077, 0])
def test_the_users_umask_makes_no_difference(cache, mask):
    before = os.umask(mask)
    try:
        folder = store(cache, key())
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    opened()


def test_an_entry_is_replaced_whole(cache):
    store(cache, key())
    store(cache, key(), {'engine.plan': b'new'})
    found = opened()
    assert found.plan == b'new' and found.cubin is None
    assert [path.name for path in cache.engines.iterdir() if path.name != '.lock'] == [
        found.folder.name]


def test_an_entry_can_be_opened_where_it_was_copied_to(cache, tmp_path):
    folder = store(cache, key())
    copy = tmp_path / 'elsewhere' / folder.name
    shutil.copytree(folder, copy)
    shutil.rmtree(cache.engines)
    assert opened(folder=copy).folder == copy
    with pytest.raises(ConfigError, match='no engine of'):
        opened()


def test_a_verification_is_added_without_touching_the_rest(cache):
    found = opened() if store(cache, key()) else None
    cache.update(found.folder, replace(found.manifest, verified={'agreement': 1.0}))
    assert opened().manifest.verified == {'agreement': 1.0}
    assert opened().plan == FILES['engine.plan']


def test_a_removed_entry_is_gone(cache):
    cache.remove(store(cache, key()))
    with pytest.raises(ConfigError, match='no engine of'):
        opened()


def test_timings_are_kept_for_each_library_and_gpu(cache):
    with cache.lock():
        path = cache.timing_cache(LIBRARY, 'NVIDIA Orin (8.7)')
        assert cache.read_timings(path) == b''
        cache.write_timings(path, b'timings')
        assert cache.read_timings(path) == b'timings'
        assert cache.timing_cache(replace(LIBRARY, version='10.7.0'), 'x') != path
    path.chmod(0o666)
    with pytest.raises(ConfigError, match='can be written by others'):
        cache.read_timings(path)


def test_a_second_builder_waits(cache):
    entered = Event()

    def second():
        with cache.lock():
            entered.set()

    thread = Thread(target=second, daemon=True)
    with cache.lock():
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(10)
    thread.join()


KILLED = """
import os, sys
sys.path.insert(0, 'test')
from seg_node.gpu import engine_cache
import test_engine_cache as t
real = engine_cache.write_owned
def stop(path, content):
    real(path, content)
    if path.name == 'kernels.cubin':
        print('half', flush=True)
        os.read(0, 1)
engine_cache.write_owned = stop
t.store(engine_cache.EngineCache(), t.key())
"""


def test_a_killed_build_leaves_no_entry_and_is_cleaned_up(cache):
    process = subprocess.Popen([sys.executable, '-c', KILLED], cwd=ROOT, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'half\n'
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert list(cache.engines.glob('.building-*/engine.plan'))
    with pytest.raises(ConfigError, match='no engine of'):
        opened()
    store(cache, key())  # the lock is free, the scraps go
    assert not list(cache.engines.glob('.building-*')) and opened()


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv('SEG_NODE_CACHE', raising=False)
    monkeypatch.setenv('HOME', str(tmp_path))
    assert cache_root() == tmp_path / '.cache/seg_node'
    monkeypatch.setenv('SEG_NODE_CACHE', '~/engines')
    assert cache_root() == tmp_path / 'engines'
