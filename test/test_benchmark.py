"""The benchmark measures what it says, and its baseline agrees with the pipeline."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_node.devices import backend as backends
from seg_node.errors import SegNodeError
from seg_node.geometry import fit, Size
from seg_node.model.card import load_card
from seg_node.model.taxonomy import load_taxonomy
from seg_node.tools import benchmark
from seg_node.tools.baselines import BASELINES
from seg_node.tools.machine import keep_figures

PALETTE = Path(__file__).parent / 'models' / 'palette_cityscapes19'


@pytest.fixture
def picture(tmp_path):
    """Write a picture of class colours; return its path."""
    labels = np.random.default_rng(0).integers(0, 19, (15, 20), np.uint8)
    image = load_taxonomy('cityscapes19').palette_bgr()[labels.repeat(8, 0).repeat(8, 1)]
    cv2.imwrite(str(tmp_path / 'picture.png'), image)
    return tmp_path / 'picture.png'


def test_report(tmp_path, picture, capsys):
    code = benchmark.main(['--model', str(PALETTE), '--image', str(picture), '--width', '160',
                           '--height', '120', '-n', '5', '--json', str(tmp_path / 'r.json')])
    assert code == 0
    kept = json.loads((tmp_path / 'r.json').read_text())
    assert {'cpu', 'cores', 'gpu', 'power', 'load', 'versions'} <= set(kept['machine'])
    [report] = kept['in_process']
    for key in ('network_core_ms', 'frame_core_ms', 'glue_core_ms', 'usual_core_ms',
                'tutorial_core_ms', 'careful_glue_core_ms',
                'network_wall_ms', 'frame_wall_ms'):
        low, high = report['spread'][key]
        assert low <= report[key] <= high, key
    assert all(equal > 0.99 for equal in report['labels_equal'].values()), report['labels_equal']
    assert set(report['labels_equal']) == {'usual', 'tutorial', 'careful'}
    assert report['n'] == 5 and report['labels_equal_reference'] == 1.0
    assert {'decode', 'preprocess', 'network', 'labels', 'products',
            'messages'} == set(report['stages_ms'])
    assert 'labels equal to the reference: 100.0000%' in capsys.readouterr().out


@pytest.mark.parametrize('name', BASELINES)
def test_who_publishes_a_mask_alone_gets_the_same_one(picture, name):
    card = load_card(PALETTE)
    image = cv2.imread(str(picture))
    geometry = fit(card.input, Size(*image.shape[:2]))
    baseline = BASELINES[name](card, backends.load(backends.ONNX_RUNTIME, card, threads=1))
    labels, _, _ = baseline(image, geometry)
    assert len(np.unique(labels)) == 19
    np.testing.assert_array_equal(baseline.labels_of(image, geometry), labels)


def test_unreadable_picture(tmp_path, capsys):
    assert benchmark.main(['--image', str(tmp_path / 'none.png')]) == 2
    assert 'none.png' in capsys.readouterr().err


@pytest.mark.parametrize('file, said', [('figures.json', 'does not hold the figures'),
                                        ('nowhere/figures.json', 'there is no folder')])
def test_where_the_figures_go_is_looked_at_before_anything_is_measured(tmp_path, capsys, file,
                                                                       said):
    (tmp_path / 'figures.json').write_text('[]')
    assert benchmark.main(['--model', 'none_such', '--json', str(tmp_path / file)]) == 2
    assert said in capsys.readouterr().err


def test_figures_of_two_programs_share_a_file_and_those_of_two_machines_do_not(tmp_path):
    path = tmp_path / 'machine.json'
    keep_figures(path, in_process=[1])
    keep_figures(path, over_dds={'rows': []})
    keep_figures(path, in_process=[2])
    kept = json.loads(path.read_text())
    assert kept['in_process'] == [2] and kept['over_dds'] == {'rows': []}
    path.write_text(json.dumps({**kept, 'machine': {'cpu': 'another'}}))
    with pytest.raises(SegNodeError, match='another'):
        keep_figures(path, in_process=[3])
    path.write_text('[]')
    with pytest.raises(SegNodeError, match='does not hold'):
        keep_figures(path, in_process=[3])
    assert path.read_text() == '[]'
