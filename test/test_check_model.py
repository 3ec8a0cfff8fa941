"""The tool that looks at a model of one's own: what it reads, tells and refuses."""

from dataclasses import replace
from pathlib import Path
import re

import cv2
import numpy as np
import pytest

from seg_node.devices.checked import test_pictures as shipped_pictures
from seg_node.model.card import load_card
from seg_node.scoring.plausibility import contradictions, one_sided, strange_values
from seg_node.tools import check_model

MODEL = str(Path(__file__).parent / 'models' / 'palette_cityscapes19')


def checked(capsys, *arguments):
    """Return how the tool ends, and what it prints."""
    code = check_model.main([MODEL, *map(str, arguments)])
    return code, *capsys.readouterr()


@pytest.fixture
def street(tmp_path):
    """Return a picture file of a kind that is neither JPEG nor PNG."""
    path = tmp_path / 'street.bmp'
    assert cv2.imwrite(str(path), shipped_pictures()[0])
    return path


def test_a_picture_that_is_not_believed_is_told_and_says_nothing_of_the_next(street, tmp_path,
                                                                             capsys):
    black = tmp_path / 'black.png'
    assert cv2.imwrite(str(black), np.zeros((90, 160, 3), np.uint8))
    out = tmp_path / 'seen.jpg'
    code, told, _ = checked(capsys, black, street, '--out', out)
    of_black, of_street = (next(line for line in told.splitlines() if line.startswith(str(path)))
                           for path in (black, street))
    assert 'unlabelled 100%' in of_black and 'judged blind, so its mask is withheld: ' in of_black
    assert 'building' in of_street and 'judged' not in of_street
    assert code == 1 and 'WARNING: with scale: 0.0039' in told  # one of its colours, not photos
    assert cv2.imread(str(out)).shape[1] >= 2 * 480


def test_the_case_of_a_mean_on_another_scale(data_dir, tmp_path, capsys):
    """ImageNet's mean and std of 0..1 beside scale 1: the node can run that, and sees nothing."""
    pictures = sorted((data_dir / 'data/camvid/val/images').glob('*.jpg'))[::50]
    code = check_model.main([str(data_dir / 'cases/models/scale_mix'), *map(str, pictures),
                             '--out', str(tmp_path / 'seen.jpg')])
    told = capsys.readouterr().out
    assert code == 1 and 'but scale is 1: the network gets values from -2.118 to 1136' in told
    assert 'WARNING: ' in told and 'Set scale: 0.0039' in told


def test_no_more_pictures_than_fit_on_the_sheet(street, tmp_path, capsys):
    _, told, _ = checked(capsys, *[street] * 13, '--out', tmp_path / 'seen.jpg')
    assert 'the first 12 of 13 pictures are taken' in told
    assert told.count('ms a frame') == 12


def test_probabilities_called_logits(street, tmp_path, capsys):
    """Their labels are right and their confidence is not."""
    model = Path(MODEL).with_name('palette_softmax')
    card = (model / 'card.yaml').read_text()
    card = card.replace('kind: probabilities', 'kind: logits').replace(
        'file: model.onnx', f'file: {model}/model.onnx')
    (tmp_path / 'card.yaml').write_text(card)
    code = check_model.main([str(tmp_path), str(street), '--out', str(tmp_path / 'seen.jpg')])
    assert code == 1 and 'sum is 1 in each pixel' in capsys.readouterr().out


SQUARE = np.linspace(0.1, 0.9, 64, dtype=np.float32).reshape(1, 8, 8)


@pytest.mark.parametrize('card, values, words', [
    ({'kind': 'logits'}, np.concatenate([SQUARE, 1 - SQUARE]), 'Set kind: probabilities'),
    ({'kind': 'logits'}, np.concatenate([SQUARE, SQUARE]), ''),
    ({'kind': 'probabilities'}, np.concatenate([SQUARE, 1 - SQUARE]), ''),
    ({'kind': 'sigmoid', 'activation': 'raw'}, SQUARE, 'Set activation: applied'),
    ({'kind': 'sigmoid', 'activation': 'raw'}, 9 * SQUARE - 4, ''),
    ({'kind': 'sigmoid', 'activation': 'applied'}, SQUARE, ''),
    ({'kind': 'labels'}, SQUARE[:, :4], 'is 4 x 8 for an input of 64 x 64 .*axes exchanged')])
def test_what_an_output_cannot_mean(card, values, words):
    spec = replace(load_card(MODEL).main_output, **card)
    found = strange_values(spec, values, (64, 64))
    assert len(found) == bool(words) and re.search(words, ' '.join(found))


@pytest.mark.parametrize('shares, drivable, words', [
    ({'road': 0.5, 'sky': 0.5}, [255, 0], ''), ({'sky': 1.0}, [255, 0], 'every pixel .* is sky'),
    ({'road': 0.5, 'sky': 0.5}, [0, 0], 'no class is drivable'),
    ({'road': 0.5, 'sky': 0.5}, [255, 255], 'every class is drivable')])
def test_masks_that_help_nobody(shares, drivable, words):
    found = one_sided(shares, np.array(drivable))
    assert len(found) == bool(words) and re.search(words, ' '.join(found))


def test_an_input_of_which_nothing_is_left():
    spec = replace(load_card(MODEL).input, scale=1e-9, mean=(0, 0, 0), std=(1, 1, 1))
    assert 'all pictures look the same' in contradictions(spec)[0]


@pytest.mark.parametrize('name, words', [
    ('seen.what', 'Name a .jpg or .png'), ('none/seen.jpg', 'in a folder that is there'),
    ('seen.jpg', 'is not an image that can be read')])
def test_refused_before_anything_runs(name, words, tmp_path, capsys):
    broken = tmp_path / 'broken.jpg'
    broken.write_bytes(b'no image')
    code, told, refused = checked(capsys, broken, '--out', tmp_path / name)
    assert code == 2 and not told and refused.count('\n') == 1
    assert words in refused and 'check_model: ' in refused
