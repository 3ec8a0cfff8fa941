"""What one start of the node knows of those before it."""

import json
import os

import pytest

from seg_node.running import starts
from seg_node.running.starts import delay_s, record_path, Starts


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'state' / 'seg_node.json'


def begun(path, settings='these'):
    found = Starts(path)
    found.begin(settings)
    return found


def test_the_first_start_knows_nothing(path):
    first = Starts(path)
    assert (first.last_end, first.failed('these'), first.brought_a_mask) == ('', 0, False)


def test_faults_without_a_mask_are_counted_and_the_last_reason_is_kept(path):
    for count in range(4):
        start = Starts(path)
        assert start.failed('these') == count
        start.begin('these')
        start.loaded()
        start.fault(f'reason {count}')
    last = Starts(path)
    assert last.failed('these') == 4 and last.last_end.endswith(': reason 3')
    assert last.failed('those') == 0, 'other settings begin anew'


def test_a_mask_begins_a_new_count_but_keeps_the_reason(path):
    begun(path).fault('one')
    good = begun(path)
    good.loaded()
    good.frame()
    assert not good.brought_a_mask
    good.mask()
    assert good.brought_a_mask and good.last_end.endswith('one')
    good.fault('two')
    last = Starts(path)
    assert last.failed('these') == 0 and last.last_end.endswith(': two')


def test_an_end_on_purpose_is_forgotten(path):
    begun(path).fault('one')
    begun(path).end()
    assert Starts(path).failed('these') == 0 and Starts(path).last_end == ''
    assert not path.exists()
    Starts(path).end()  # there is nothing to forget


@pytest.mark.parametrize('steps, counts, words', [
    ((), 1, 'ended without a word while it loaded the model'),
    (('loaded',), 0, ''),  # it only waited for images: nothing of its own can have ended it
    (('loaded', 'frame'), 1, 'ended without a word at the first frame'),
    (('loaded', 'frame', 'refused'), 0, ''),
    (('loaded', 'frame', 'mask'), 0, ''),
    (('loaded', 'frame', 'mask', 'frame', 'refused'), 0, ''),
])
def test_an_end_without_a_word_is_judged_by_what_was_going_on(path, steps, counts, words):
    killed = begun(path)
    for step in steps:
        getattr(killed, step)()
    later = Starts(path)
    assert later.failed('these') == counts and words in later.last_end
    assert bool(later.last_end) == bool(words)


def test_another_boot_of_the_machine_begins_anew(path, monkeypatch, tmp_path):
    begun(path).fault('one')
    boot = tmp_path / 'boot_id'
    boot.write_text('another\n')
    monkeypatch.setattr(starts, '_BOOT', boot)
    assert Starts(path).failed('these') == 0 and Starts(path).last_end.endswith('one')


@pytest.mark.parametrize('content', ['', '{', '[]', '{"starts": 3}', 'null',
                                     '{"boot": 1, "settings": 2}', '\0'])
def test_a_damaged_record_is_none(path, content):
    path.parent.mkdir()
    path.write_text(content)
    found = Starts(path)
    assert found.last_end == '' and found.failed('these') == 0
    found.begin('these')
    assert json.loads(path.read_text())['starts'] == 1


def test_where_nothing_can_be_written_nothing_is_remembered(tmp_path):
    (tmp_path / 'file').write_text('')
    for place in (None, tmp_path / 'file' / 'below.json'):
        start = begun(place)
        start.loaded()
        start.fault('one')
        start.end()
        assert Starts(place).last_end == ''


def test_frames_and_masks_cost_one_write_each(path, monkeypatch):
    start = begun(path)
    start.loaded()
    written = []
    monkeypatch.setattr(start, '_write', lambda record, real=start._write: (
        written.append(record.phase), real(record)))
    for _ in range(3):
        start.frame()
        start.refused()
        start.mask()
    assert written == ['first frame', 'tried', 'running']


def test_the_delay_grows(path):
    assert [delay_s(failed) for failed in (0, 1, 2, 3, 4, 7, 100)] == [0, 1, 2, 4, 8, 60, 60]


@pytest.mark.parametrize('environment, wanted', [
    ({'XDG_STATE_HOME': '/x', 'SEG_NODE_CACHE': '/c'}, '/x/seg_node/car.seg_node.7.json'),
    ({'SEG_NODE_CACHE': '/c'}, '/c/starts/car.seg_node.7.json'),
    ({'HOME': '/h'}, '/h/.local/state/seg_node/car.seg_node.7.json'),
])
def test_the_place_of_the_record(monkeypatch, environment, wanted):
    for name in ('XDG_STATE_HOME', 'SEG_NODE_CACHE', 'HOME'):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**environment, 'ROS_DOMAIN_ID': '7'}.items():
        monkeypatch.setenv(name, value)
    assert os.fspath(record_path('/car/seg_node')) == wanted
