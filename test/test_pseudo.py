"""Labels that a model makes for itself: the mean over sizes, void where it is unsure."""

from pathlib import Path
import sys

import cv2
import numpy as np
import pytest

from seg_node.model.taxonomy import load_taxonomy, UNLABELLED

pseudo = pytest.importorskip('training.pseudo')

NOT = pytest.importorskip('training.augment').NOT
MODEL = Path(__file__).parent / 'models' / 'palette_cityscapes19'


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['pseudo', *map(str, arguments)])
    pseudo.main()


@pytest.fixture
def street(tmp_path):
    """Return a folder with one picture in class colours, and its labels (120, 200)."""
    labels = np.random.default_rng(4).choice(np.uint8([0, 7, 8, 10, 13]), (3, 5))  # far apart
    labels = labels.repeat(40, axis=0).repeat(40, axis=1)
    (tmp_path / 'street').mkdir()
    colours = load_taxonomy('cityscapes19').palette_bgr()[labels]
    cv2.imwrite(str(tmp_path / 'street' / 'a.png'), colours)
    return tmp_path / 'street', labels


def test_what_all_sizes_agree_on_is_labelled_and_the_rest_void(tmp_path, street, monkeypatch):
    folder, labels = street
    run(monkeypatch, MODEL, folder, tmp_path / 'out', '--rows', 60, 120, 240, '--height', 120,
        '--least', 0.55)
    assert cv2.imread(str(tmp_path / 'out/images/a.jpg')).shape == (120, 200, 3)
    found = cv2.imread(str(tmp_path / 'out/labels/a.png'), -1)
    assert found.shape == labels.shape and found.dtype == np.uint8
    sure = found != UNLABELLED
    np.testing.assert_array_equal(found[sure], labels[sure])
    # Inside the blocks this model's 0.6 is enough; along their borders small sizes mix classes.
    inside = np.zeros((3, 40, 5, 40), bool)
    inside[:, 6:-6, :, 6:-6] = True
    assert sure[inside.reshape(labels.shape)].all()
    assert 0.02 < (~sure).mean() < 0.5


@pytest.mark.parametrize('model', ['palette_fixed', 'palette_nhwc_uint8'])
def test_a_model_of_other_classes_says_what_is_road_and_what_is_not(tmp_path, street, monkeypatch,
                                                                    model):
    folder, labels = street
    run(monkeypatch, MODEL.parent / model, folder, tmp_path / 'out', '--height', 120, '--least',
        0.55, '--teach', 'Road=road,wall')
    found = cv2.imread(str(tmp_path / 'out/labels/a.png'), -1)
    inside = np.zeros((3, 40, 5, 40), bool)
    inside[:, 6:-6, :, 6:-6] = True
    inside = inside.reshape(labels.shape)
    names = load_taxonomy('cityscapes19').names
    road = np.isin(labels, [names.index('road'), names.index('wall')])
    number = load_taxonomy('camvid11').names.index('Road')
    assert road[inside].any() and not road[inside].all()
    np.testing.assert_array_equal(found[inside], np.where(road, number, NOT + number)[inside])
    assert set(np.unique(found)) <= {number, NOT + number, UNLABELLED}


@pytest.mark.parametrize('text, said', [('Street=road', "'Street' is not a class of camvid11"),
                                        ('Road=asphalt', "'asphalt' is not a class of cityscapes"),
                                        ('Road', "'' is not a class of cityscapes19")])
def test_a_class_that_cannot_be_taught_is_named(tmp_path, street, monkeypatch, text, said):
    with pytest.raises(SystemExit, match=said):
        run(monkeypatch, MODEL, street[0], tmp_path / 'out', '--teach', text)


def test_bad_input_is_refused(tmp_path, street, monkeypatch):
    folder, _ = street
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SystemExit, match='empty has no .jpg or .png'):
        run(monkeypatch, MODEL, tmp_path / 'empty', tmp_path / 'out')
    with pytest.raises(SystemExit, match='palette_fixed must be .* dynamic size'):
        run(monkeypatch, MODEL.parent / 'palette_fixed', folder, tmp_path / 'out')
    (folder / 'b.png').write_bytes(b'no image')
    with pytest.raises(SystemExit, match=r'b\.png \(8 bytes\) is not an image'):
        run(monkeypatch, MODEL, folder, tmp_path / 'out', '--rows', 120, '--height', 120)
