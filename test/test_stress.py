"""The silent-failure rate, and the reference that is fitted to clean pictures."""

import json
from pathlib import Path
import shutil

import cv2
import numpy as np
import pytest

from seg_node.errors import ConfigError
from seg_node.model.card import load_card
from seg_node.model.card_text import replaced
from seg_node.model.taxonomy import load_taxonomy
from seg_node.scoring.reference_fit import fit_reference, held_out, operating_point, Sample
from seg_node.scoring.stress import CLEAN, compare, Outcome, summarise
from seg_node.tools import reference, stress
from seg_node.trust.evidence import BANDS, Evidence
from seg_node.trust.judge import weigh
from seg_node.trust.reference import load_reference
from seg_node.trust.verdict import State

MODELS = Path(__file__).parent / 'models'
TABLE = load_taxonomy('cityscapes19')
ROAD, SKY, TREE = 0, 10, 8
OK, DOUBTFUL, BLIND = State


def outcome(kind, iou, state, spill=0.0):
    return Outcome(kind, 'a', iou, spill, state)


# The figures


def test_rates_are_means_over_the_kinds():
    figures = summarise([
        outcome(CLEAN, 0.95, OK), outcome(CLEAN, 0.95, DOUBTFUL), outcome(CLEAN, 0.8, DOUBTFUL),
        outcome('fog', 0.5, OK), outcome('fog', 0.5, BLIND), outcome('fog', 0.5, DOUBTFUL),
        outcome('fog', 0.69, DOUBTFUL), outcome('fog', 0.7, OK),
        outcome('mud', 0.1, OK, 0.06), outcome('mud', 0.1, DOUBTFUL, 0.05),
        outcome('haze', 0.9, DOUBTFUL)])
    assert list(figures) == ['silent_rate', 'unsafe_silent_rate', 'false_alarm_rate',
                             'by_corruption', 'worst', 'frames', 'bad']
    assert figures['silent_rate'] == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert figures['unsafe_silent_rate'] == 1
    assert figures['false_alarm_rate'] == 0.5
    assert figures['worst'] == 'mud'
    assert (figures['frames'], figures['bad']) == (8, 6)
    assert figures['by_corruption']['fog'] == {'iou': pytest.approx(0.578), 'silent': 0.25,
                                               'alarmed': 0.6}
    assert figures['by_corruption']['haze'] == {'iou': 0.9, 'silent': None, 'alarmed': 1}


def test_a_rate_of_nothing_is_none():
    figures = summarise([outcome('fog', 0.95, OK)])
    assert [figures[name] for name in ('silent_rate', 'unsafe_silent_rate', 'false_alarm_rate',
                                       'worst')] == [None] * 4


def test_the_area_is_compared_where_the_truth_is_known():
    truth = np.array([[1, 1, 0, 0, 0]], bool)
    area = np.array([[1, 0, 1, 0, 1]], bool)
    known = np.array([[1, 1, 1, 1, 0]], bool)
    assert compare(area, truth, known) == (pytest.approx(1 / 3), 0.5)
    nothing = np.zeros((1, 5), bool)
    assert compare(nothing, nothing, known) == (1.0, 0.0)


# The tools, on a model that knows colours


def street(seed):
    """Return labels of a road under trees and sky, and the picture of them, with some noise."""
    rng = np.random.default_rng(seed)
    labels = np.full((120, 160), SKY, np.uint8)
    horizon = 50 + int(rng.integers(20))
    labels[horizon - 20:horizon] = TREE
    labels[horizon:] = TREE
    road = np.array([[70, horizon], [90, horizon], [150, 119], [10, 119]], np.int32)
    cv2.fillPoly(labels, [road], ROAD)
    picture = TABLE.palette_bgr()[labels] + rng.integers(-6, 7, (120, 160, 3))
    return labels, np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Write pictures and labels, and a copy of the palette model with a reference."""
    folder = tmp_path_factory.mktemp('stress')
    for kind in ('images', 'labels'):
        (folder / kind).mkdir()
    for seed in range(10):
        labels, picture = street(seed)
        cv2.imwrite(str(folder / 'images' / f'{seed}.png'), picture)
        cv2.imwrite(str(folder / 'labels' / f'{seed}.png'), labels)
    shutil.copytree(MODELS / 'palette_cityscapes19', folder / 'model')
    assert reference.main(['--model', str(folder / 'model'), '--images', str(folder / 'images'),
                           '--threads', '1']) == 0
    return folder


def run(data, *arguments):
    return stress.main(['--model', str(data / 'model'), '--images', str(data / 'images'),
                        '--labels', str(data / 'labels'), '--layout', 'pairs', '--threads', '1',
                        '--sheet', str(data / 'out' / 'sheet.jpg'), *arguments])


def test_the_reference_is_written_into_the_card_and_nothing_else_changes(data):
    before = (MODELS / 'palette_cityscapes19' / 'card.yaml').read_text()
    after = (data / 'model' / 'card.yaml').read_text()
    assert replaced(after, 'reference', None) == before
    found = load_reference(load_card(data / 'model'))
    assert found.layout[0, SKY] > 0.9 and found.layout[-1, ROAD] > 0.4
    roads = sorted(np.mean(street(seed)[0] == ROAD) for seed in range(10))
    assert found.drivable == pytest.approx((roads[4] + roads[5]) / 2, abs=0.01)


def test_the_figures_come_as_json_the_sheet_as_a_picture(data, capsys):
    out = data / 'figures.json'
    assert run(data, '--json', str(out), '--details', str(data / 'details.json'), '--every', '5',
               '--corruptions', 'covered', 'upside_down') == 0
    figures = json.loads(out.read_text())
    assert list(figures['by_corruption']) == ['covered_black', 'covered_white', 'upside_down']
    assert figures['frames'] == 6 and figures['false_alarm_rate'] == 0
    assert figures['by_corruption']['covered_black']['alarmed'] == 1
    assert figures['by_corruption']['upside_down']['iou'] > 0.9, 'the truth is turned, too'
    assert cv2.imread(str(data / 'out' / 'sheet.jpg')).shape[1] == 5 * 320
    rows = json.loads((data / 'details.json').read_text())
    assert {row['state'] for row in rows if row['kind'] == 'covered_white'} == {'blind'}
    said = capsys.readouterr().out
    assert 'silent_rate' in said and 'one by one: 0 of 4 bad ones' in said


def test_the_same_seed_gives_the_same_figures(data):
    for name in ('one', 'two'):
        assert run(data, '--json', str(data / name), '--every', '5', '--corruptions', 'rain',
                   'noise') == 0
    assert (data / 'one').read_text() == (data / 'two').read_text()


def test_alarms_on_recordings_that_are_good_are_counted(data, capsys):
    assert run(data, '--every', '5', '--corruptions', 'dark_0.4', '--clean',
               str(data / 'images')) == 0
    assert 'images: 0 of 2 frames not ok (0.000)' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, said', [
    (['--every', '0'], 'at least 1'), (['--seed', '-1'], 'at least 0'),
    (['--corruptions', 'sleet'], "'sleet' is unknown; allowed: dark_0.4"),
    (['--json', 'nowhere/x.json'], 'there is no folder'),
    (['--card', '--every', '2'], 'leave --corruptions and --every out')])
def test_what_stress_refuses(data, arguments, said, capsys):
    assert run(data, *arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize('arguments, said', [
    (['--at-most', '3'], 'too few to learn from'), (['--at-most', '0'], 'at least 1'),
    (['--leave-out', 'sleet'], "'sleet' is unknown")])
def test_what_reference_refuses(data, arguments, said, capsys):
    card = (data / 'model' / 'card.yaml').read_text()
    assert reference.main(['--model', str(data / 'model'), '--images', str(data / 'images'),
                           *arguments]) == 2
    assert said in capsys.readouterr().err
    assert (data / 'model' / 'card.yaml').read_text() == card


# The fit


def sample(kind, iou, confidence, road_below=True, picture='0'):
    bands = np.zeros((BANDS, 256), np.int64)
    bands[:3, SKY if road_below else ROAD] = bands[3:, ROAD if road_below else SKY] = 100
    figures = {'flat': 0.0, 'blind_width': 0.0, 'row_likeness': 0.7, 'row_break': 0.2,
               'torn_across': 0.2, 'brightness': 100.0, 'drivable': 0.5,
               'drivable_afloat': 0.0, 'edges': 1.0, 'borders': 0.1,
               'drivable_confidence': confidence}
    return Sample(picture, kind, iou, Evidence(figures, bands, np.zeros((2, 2), np.uint8)))


def test_the_fit_tells_what_it_was_shown_apart():
    rng = np.random.default_rng(0)
    samples = [sample(CLEAN, 1.0, 0.97 + 0.02 * rng.random(), True, str(n)) for n in range(30)]
    samples += [sample('fog', 0.3, 0.7 + 0.1 * rng.random(), True, str(n)) for n in range(30)]
    samples += [sample('turned', 0.0, 0.96 + 0.02 * rng.random(), False, str(n))
                for n in range(30)]
    raw = fit_reference(samples, 19)
    card = load_card(MODELS / 'palette_cityscapes19')
    card.raw['reference'] = {'pictures': '', 'classes': 'cityscapes19', **raw}
    found = load_reference(card)
    states = [weigh(entry.evidence, found).state for entry in samples]
    assert states == [OK] * 30 + [DOUBTFUL] * 60


def test_a_picture_is_held_out_with_all_that_is_made_of_it():
    samples = [sample(kind, iou, confidence, True, str(n)) for n in range(30)
               for kind, iou, confidence in ((CLEAN, 1.0, 0.99 - n / 1000), ('fog', 0.3, 0.8))]
    samples[-2] = sample(CLEAN, 1.0, 0.8, True, '29')  # a good mask like the bad ones
    doubts = held_out(samples, 19)
    assert len(doubts) == 30 and doubts[-1] > 0 and max(doubts[:-1]) < 0


@pytest.mark.parametrize('doubts, point', [
    ([-5.0] * 98 + [2.0, -0.5], -0.5), ([-5.0] * 100, -np.log(3)), ([-5.0] * 99, 0.0),
    ([-5.0] * 99 + [3.0], -np.log(3)), ([-5.0] * 98 + [3.0, 3.0], 0.0),
    ([-5.0] * 198 + [1.0, 2.0], -np.log(3)), ([], 0.0)])
def test_one_of_a_hundred_clean_pictures_may_be_doubtful(doubts, point):
    assert operating_point(np.array(doubts)) == pytest.approx(point)


def test_a_fit_without_bad_masks_is_refused():
    samples = [sample(kind, 1.0, 0.98, True, str(n)) for n in range(30)
               for kind in (CLEAN, 'fog')]
    with pytest.raises(ConfigError, match='30 spoilt pictures, 0 bad masks and 60 good'):
        fit_reference(samples, 19)
