"""Class tables and remaps: the shipped ones, and every way in which one can be wrong."""

import itertools
from pathlib import Path
import re

import numpy as np
import pytest
import yaml

from seg_node.errors import ConfigError
from seg_node.model.taxonomy import class_table, load_taxonomy, remap_lut, UNLABELLED
from seg_node.paths import shared

SIZES = {'camvid11': 11, 'cityscapes19': 19, 'voc21': 21, 'ade20k150': 150, 'comma10k5': 5,
         'autoware16': 16}
REMAPS = sorted(file.stem for file in shared('models', 'classes', 'remaps').glob('*.yaml'))
DRIVABLE = {'camvid11': {'Road'}, 'cityscapes19': {'road'}, 'voc21': set(), 'ade20k150': {'road'},
            'comma10k5': {'Road', 'LaneMark'},
            'autoware16': {'ROAD', 'ROAD_PAINT', 'CROSSWALK'}}


def entry(number, **changes):
    """Return a valid class entry with some keys changed; None removes a key."""
    good = {'id': number, 'name': f'class {number}', 'colour': [number, 0, 255],
            'drivable': False, 'dynamic': False} | changes
    return {key: value for key, value in good.items() if value is not None}


def refusal(call, *arguments):
    """Return the message of the ConfigError that a call must raise."""
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return str(caught.value)


# the shipped tables

def test_the_shipped_tables_are_the_promised_ones():
    files = shared('models', 'classes').glob('*.yaml')
    assert {file.stem for file in files} == set(SIZES)


@pytest.mark.parametrize('name', SIZES)
def test_a_shipped_table_is_whole(name):
    table = load_taxonomy(name)
    assert table.name == name
    assert len(table) == SIZES[name]
    assert table.ids == tuple(range(SIZES[name]))
    assert len(set(table.names)) == SIZES[name]
    assert {item.name for item in table.classes if item.drivable} == DRIVABLE[name]
    assert not any(item.drivable and item.dynamic for item in table.classes)


@pytest.mark.parametrize(('table', 'number', 'name', 'colour', 'dynamic'), [
    ('camvid11', 3, 'Road', (128, 64, 128), False),
    ('camvid11', 4, 'Pavement', (60, 40, 222), False),
    ('camvid11', 10, 'Bicyclist', (0, 128, 192), True),
    ('cityscapes19', 0, 'road', (128, 64, 128), False),
    ('cityscapes19', 11, 'person', (220, 20, 60), True),
    ('cityscapes19', 18, 'bicycle', (119, 11, 32), True),
    ('voc21', 0, 'background', (0, 0, 0), False),
    ('voc21', 15, 'person', (192, 128, 128), True),
    ('voc21', 20, 'tvmonitor', (0, 64, 128), False),
    ('ade20k150', 6, 'road', (140, 140, 140), False),
    ('ade20k150', 12, 'person', (150, 5, 61), True),
    ('ade20k150', 76, 'boat', (173, 255, 0), True),
    ('ade20k150', 116, 'minibike', (163, 0, 255), True),
    ('ade20k150', 149, 'flag', (92, 0, 255), False),
    ('comma10k5', 3, 'Movable', (0, 255, 102), True),
    ('comma10k5', 4, 'MyCar', (204, 0, 255), False),
    ('autoware16', 7, 'VEHICLE', (0, 0, 142), True),
    ('autoware16', 15, 'SKY', (70, 130, 180), False),
])
def test_standard_names_and_colours(table, number, name, colour, dynamic):
    item = load_taxonomy(table).classes[number]
    assert (item.id, item.name, item.colour, item.dynamic) == (number, name, colour, dynamic)


def test_voc_colours_are_the_bit_pattern_of_its_colour_map():
    for item in load_taxonomy('voc21').classes:
        colour = [sum((item.id >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))
                  for channel in range(3)]
        assert item.colour == tuple(colour)


def test_autoware_has_the_order_of_its_pipeline():
    assert load_taxonomy('autoware16').names == (
        'UNKNOWN', 'BUILDING', 'WALL', 'OBSTACLE', 'TRAFFIC_LIGHT', 'TRAFFIC_SIGN', 'PERSON',
        'VEHICLE', 'BIKE', 'ROAD', 'SIDEWALK', 'ROAD_PAINT', 'CURBSTONE', 'CROSSWALK',
        'VEGETATION', 'SKY')


def test_colours_tell_classes_apart_except_where_the_standard_does_not():
    twins = {(table, frozenset((first.name, second.name))) for table in SIZES
             for first, second in itertools.combinations(load_taxonomy(table).classes, 2)
             if first.colour == second.colour}
    assert twins == {('ade20k150', frozenset(('road', 'skyscraper')))}


# look-up tables

def test_palette_is_bgr_and_black_without_a_class():
    palette = load_taxonomy('camvid11').palette_bgr()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    assert palette[4].tolist() == [222, 40, 60]
    assert not palette[11:].any()


def test_drivable_lut_is_the_tables_choice():
    lut = load_taxonomy('autoware16').drivable_lut()
    assert lut.shape == (256,)
    assert lut.dtype == np.uint8
    assert np.flatnonzero(lut).tolist() == [9, 11, 13]
    assert set(lut.tolist()) == {0, 255}


def test_given_names_replace_the_tables_choice():
    table = load_taxonomy('cityscapes19')
    assert np.flatnonzero(table.drivable_lut(['terrain', 'sidewalk'])).tolist() == [1, 9]
    assert not table.drivable_lut([]).any()


def test_an_unknown_drivable_class_is_refused_with_the_names():
    table = load_taxonomy('camvid11')
    message = refusal(table.drivable_lut, ['Road', 'pavment'])
    assert "'pavment'" in message
    assert "Did you mean 'Pavement'?" in message
    assert 'camvid11' in message
    assert all(name in message for name in table.names)


def test_dynamic_lut():
    lut = load_taxonomy('cityscapes19').dynamic_lut()
    assert np.flatnonzero(lut).tolist() == list(range(11, 19))
    assert lut[UNLABELLED] == 0


def test_callers_cannot_change_a_table_through_its_arrays():
    table = load_taxonomy('camvid11')
    table.palette_bgr()[:] = 7
    table.drivable_lut()[:] = 7
    assert table.palette_bgr()[3].tolist() == [128, 64, 128]
    assert table.drivable_lut()[0] == 0


# loading

def test_a_table_of_ones_own_is_loaded_by_its_path(tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump({'name': 'mine', 'classes': [entry(0), entry(1)]}))
    assert load_taxonomy(path).names == load_taxonomy(str(path)).names == ('class 0', 'class 1')


def test_255_classes_are_the_most():
    classes = [entry(number, colour=[0, 0, 0]) for number in range(255)]
    table = class_table({'name': 'full', 'classes': classes}, 'full.yaml')
    assert table.ids[-1] == 254
    message = refusal(class_table, {'name': 'full', 'classes': [*classes, entry(254)]}, 'f.yaml')
    assert 'classes is' in message
    assert '1 to 255 entries' in message


def test_an_unknown_name_is_refused_with_the_shipped_ones():
    message = refusal(load_taxonomy, 'cityscape')
    assert "Did you mean 'cityscapes19'?" in message
    assert all(name in message for name in SIZES)


@pytest.mark.parametrize(('classes', 'words'), [
    ([entry(0), entry(0)], ['classes[1].id is 0', 'must be 1', 'without gaps or repeats']),
    ([entry(0), entry(2)], ['classes[1].id is 2', 'must be 1']),
    ([entry(1), entry(0)], ['classes[0].id is 1', 'must be 0', 'order of the list']),
    ([entry(0), entry(1, name='class 0')], ["classes[1].name is 'class 0'", 'class 0 has']),
    ([entry(255)], ['classes[0].id is 255', 'at most 254', 'reserved']),
    ([entry(-1)], ['classes[0].id is -1', 'at least 0']),
    ([entry(0, id='0')], ["classes[0].id is '0'", 'a whole number']),
    ([entry(0, id=True)], ['classes[0].id is True', 'a whole number']),
    ([entry(0, colour=[0, 0, 256])], ['classes[0].colour[2] is 256', 'at most 255']),
    ([entry(0, colour=[0, -1, 0])], ['classes[0].colour[1] is -1', 'at least 0']),
    ([entry(0, colour=[0, 0])], ['classes[0].colour is [0, 0]', '3 entries', 'red, green']),
    ([entry(0, colour=[0, 0, 0.5])], ['classes[0].colour[2] is 0.5', 'a whole number']),
    ([entry(0, colour='red')], ["classes[0].colour is 'red'", 'a list']),
    ([entry(0, name=False)], ['classes[0].name is False', 'text', 'quotes']),
    ([entry(0, name='')], ["classes[0].name is ''", 'not of the right form']),
    ([entry(0, name=' road')], ["classes[0].name is ' road'", 'not of the right form']),
    ([entry(0, drivable='yes')], ["classes[0].drivable is 'yes'", 'true or false']),
    ([entry(0, dynamic=1)], ['classes[0].dynamic is 1', 'true or false']),
    ([entry(0, drivable=None)], ['classes[0].drivable is missing', 'Add it']),
    ([entry(0, id=None)], ['classes[0].id is missing']),
    ([entry(0, drivible=True)], ['classes[0].drivible', "Did you mean 'drivable'?", 'Allowed']),
    ([entry(0, color=[0, 0, 0])], ['classes[0].color ', "Did you mean 'colour'?"]),
    (['road'], ["classes[0] is 'road'", 'a mapping']),
    ([], ['classes is []', '1 to 255 entries']),
    ({}, ['classes is {}', 'a list']),
])
def test_a_wrong_class_is_refused(classes, words):
    message = refusal(class_table, {'name': 'mine', 'classes': classes}, 'mine.yaml')
    assert message.startswith('mine.yaml: ')
    for word in words:
        assert word in message


def test_everything_wrong_is_told_at_once():
    message = refusal(class_table, {'name': 'a b', 'classes': [entry(0, colour=[1, 2, 300]),
                                                               entry(1, dynamic=None)]}, 'f.yaml')
    assert [line.split()[1] for line in message.splitlines()] == [
        'classes[0].colour[2]', 'classes[1].dynamic', 'name']


@pytest.mark.parametrize(('text', 'words'), [
    ('name: mine\nname: mine\nclasses: []\n', ["'name'", 'second time', 'line 2']),
    ('name: [mine\n', ['not the YAML it must be']),
    ('? [a, b]\n: c\n', ['not the YAML it must be', 'unhashable']),
    ('1: c\n', ['1 is not a known key']),
    ('- a list\n', ["['a list']", 'must hold a mapping']),
    ('', ['None', 'must hold a mapping']),
    ('name: other\nclasses:\n- {id: 0, name: a, colour: [0, 0, 0], drivable: no, dynamic: no}\n',
     ["name is 'other'", 'mine.yaml', 'Make them equal']),
    ('classes: []\n', ['name is missing', 'classes is []']),
    ('name: mine\nclass: []\n', ['class ', "Did you mean 'classes'?"]),
])
def test_a_wrong_file_is_refused(tmp_path, text, words):
    path = tmp_path / 'mine.yaml'
    path.write_text(text)
    message = refusal(load_taxonomy, path)
    assert str(path) in message
    for word in words:
        assert word in message


def test_a_missing_or_binary_file_is_refused(tmp_path):
    assert 'No such file' in refusal(load_taxonomy, tmp_path / 'none.yaml')
    (tmp_path / 'binary.yaml').write_bytes(b'\xff\xfe\x00')
    assert 'not the YAML' in refusal(load_taxonomy, tmp_path / 'binary.yaml')


# remaps

def tables_of(stem):
    """Return the source and the target table of a shipped remap."""
    source, target = stem.split('_to_')
    return load_taxonomy(source), load_taxonomy(target)


def test_the_shipped_remaps_are_the_promised_ones():
    assert REMAPS == [
        'ade20k150_to_autoware16', 'ade20k150_to_camvid11', 'ade20k150_to_cityscapes19',
        'camvid11_to_autoware16', 'camvid11_to_cityscapes19', 'cityscapes19_to_autoware16',
        'cityscapes19_to_camvid11', 'voc21_to_cityscapes19']


@pytest.mark.parametrize('stem', REMAPS)
def test_a_shipped_remap_is_safe(stem):
    source, target = tables_of(stem)
    lut = remap_lut(source, target)
    assert (lut.shape, lut.dtype) == ((256,), np.uint8)
    assert (lut[len(source):] == UNLABELLED).all()
    mapped = lut[lut != UNLABELLED]
    assert mapped.max() < len(target)
    # Nothing becomes drivable on the way, and nothing drivable is lost.
    assert (target.drivable_lut()[lut] == source.drivable_lut()).all()


@pytest.mark.parametrize('stem', REMAPS)
def test_what_moves_stays_dynamic_or_an_obstacle(stem):
    source, target = tables_of(stem)
    kept = target.dynamic_lut().astype(bool)
    kept[UNLABELLED] = True
    if target.name == 'autoware16':
        kept[[target.names.index('OBSTACLE'), target.names.index('UNKNOWN')]] = True
    moving = source.dynamic_lut().astype(bool)
    assert kept[remap_lut(source, target)[moving]].all()


@pytest.mark.parametrize('stem', [
    'camvid11_to_autoware16', 'camvid11_to_cityscapes19', 'cityscapes19_to_autoware16',
    'cityscapes19_to_camvid11', 'ade20k150_to_autoware16'])
def test_these_remaps_leave_no_class_behind(stem):
    source, target = tables_of(stem)
    assert UNLABELLED not in remap_lut(source, target)[list(source.ids)]


def test_a_remap_by_hand():
    source, target = load_taxonomy('cityscapes19'), load_taxonomy('camvid11')
    mask = np.array([[0, 1, 11], [13, 255, 200]], np.uint8)
    assert remap_lut(source, target)[mask].tolist() == [[3, 4, 9], [8, 255, 255]]


def test_the_way_to_camvid_and_back_keeps_camvids_classes():
    camvid, cityscapes = load_taxonomy('camvid11'), load_taxonomy('cityscapes19')
    there, back = remap_lut(camvid, cityscapes), remap_lut(cityscapes, camvid)
    assert back[there[list(camvid.ids)]].tolist() == list(camvid.ids)


def test_the_same_table_maps_to_itself_and_drops_what_is_no_class():
    table = load_taxonomy('voc21')
    assert remap_lut(table, load_taxonomy('voc21')).tolist() == [
        *range(21), *[UNLABELLED] * (256 - 21)]


def test_a_missing_remap_is_refused_with_the_shipped_ones():
    message = refusal(remap_lut, load_taxonomy('voc21'), load_taxonomy('camvid11'))
    assert 'from the classes voc21 to camvid11' in message
    assert 'voc21 to cityscapes19' in message


def test_a_remap_of_ones_own(tmp_path):
    source, target = load_taxonomy('voc21'), load_taxonomy('camvid11')
    path = tmp_path / 'mine.yaml'
    path.write_text('{source: voc21, target: camvid11, others: Building, classes: {car: Car}}')
    lut = remap_lut(source, target, path)
    assert lut[7] == 8
    assert set(lut[:21].tolist()) == {1, 8}
    assert lut[21] == UNLABELLED


@pytest.mark.parametrize(('text', 'words'), [
    ('{source: voc21, target: camvid11, classes: {carr: Car}}',
     ["classes: 'carr' is not a class of voc21", "Did you mean 'car'?", 'tvmonitor']),
    ('{source: voc21, target: camvid11, classes: {car: Cars}}',
     ["classes.car: 'Cars' is not a class of camvid11", "Did you mean 'Car'?", 'Bicyclist']),
    ('{source: voc21, target: camvid11, others: Nothing, classes: {car: Car}}',
     ["others: 'Nothing' is not a class of camvid11"]),
    ('{source: voc, target: camvid11, classes: {car: Car}}',
     ["source is 'voc'", "'voc21'", 'Correct']),
    ('{source: voc21, target: camvid, classes: {car: Car}}',
     ["target is 'camvid'", "'camvid11'"]),
    ('{source: voc21, target: camvid11, classes: {car: 8}}', ['classes.car is 8', 'text']),
    ('{source: voc21, target: camvid11, classes: {}}', ['classes is {}']),
    ('{source: voc21, target: camvid11, classes: {car: Car, car: Sky}}', ["'car'", 'second']),
    ('{source: voc21, target: camvid11, other: Sky, classes: {car: Car}}',
     ['other ', "Did you mean 'others'?"]),
    ('{source: voc21, target: camvid11}', ['classes is missing']),
])
def test_a_wrong_remap_is_refused(tmp_path, text, words):
    path = tmp_path / 'mine.yaml'
    path.write_text(text)
    message = refusal(remap_lut, load_taxonomy('voc21'), load_taxonomy('camvid11'), path)
    assert str(path) in message
    for word in words:
        assert word in message


def test_the_readme_names_every_shipped_table():
    text = Path(shared('models', 'README.md')).read_text()
    section = text[text.index('## Class tables'):]
    assert set(SIZES) <= set(re.findall(r'`(\w+)`', section))
