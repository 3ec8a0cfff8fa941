"""A clone of comma10k becomes a data set to train on; what it has not is told by name."""

from pathlib import Path
import sys

import cv2
import numpy as np
import pytest

from seg_node.errors import ConfigError
from seg_node.model.taxonomy import load_taxonomy

comma10k = pytest.importorskip('training.comma10k')

TABLE = load_taxonomy('comma10k5')
# As its README has them, RGB; the last is who sits inside.
COLOURS = {'Road': 0x402020, 'LaneMark': 0xff0000, 'Undrivable': 0x808060, 'Movable': 0x00ff66,
           'MyCar': 0xcc00ff, 'passenger': 0x00ccff}
IDS = [0, 1, 2, 3, 4, 4]


def painted(ids):
    bgr = np.array([list(colour.to_bytes(3, 'little')) for colour in COLOURS.values()], np.uint8)
    return bgr[ids]


def add(clone, name, ids, folder='', image=None):
    for part in ('imgs', 'masks'):
        (clone / (part + folder)).mkdir(parents=True, exist_ok=True)
    shown = np.full((*ids.shape, 3), 90, np.uint8) if image is None else image
    cv2.imwrite(str(clone / f'imgs{folder}' / name), shown)
    cv2.imwrite(str(clone / f'masks{folder}' / name), painted(ids))


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['comma10k', *map(str, arguments)])
    comma10k.main()


def test_a_clone_is_made_into_train_and_val(tmp_path, monkeypatch):
    ids = np.repeat(np.arange(6), 20)[None].repeat(60, axis=0)
    for name, folder in (('0000_a9.png', ''), ('0001_b.png', ''), ('0001_b.png', '2')):
        add(tmp_path / 'clone', name, ids, folder)
    run(monkeypatch, tmp_path / 'clone', tmp_path / 'out', '--height', 30)
    written = sorted(str(path.relative_to(tmp_path / 'out')) for path in
                     (tmp_path / 'out').rglob('*.*'))
    assert written == ['train/images/imgs2_0001_b.jpg', 'train/images/imgs_0001_b.jpg',
                       'train/labels/imgs2_0001_b.png', 'train/labels/imgs_0001_b.png',
                       'val/images/imgs_0000_a9.jpg', 'val/labels/imgs_0000_a9.png']
    label = cv2.imread(str(tmp_path / 'out/val/labels/imgs_0000_a9.png'), -1)
    np.testing.assert_array_equal(label, np.repeat(IDS, 10)[None].repeat(30, axis=0))
    assert cv2.imread(str(tmp_path / 'out/val/images/imgs_0000_a9.jpg')).shape == (30, 60, 3)
    assert TABLE.drivable_lut()[label[0, ::10]].tolist() == [255, 255, 0, 0, 0, 0]


def test_strays_are_void_and_too_many_refused():
    mask = painted(np.zeros((50, 40), int))
    mask[0, :39] = (1, 2, 3)
    assert (comma10k.ids_of(mask, TABLE) == 255).sum() == 39
    mask[1, :2] = (1, 2, 3)
    with pytest.raises(ConfigError, match='2% of it has colours of no class, most #030201.*'
                       'Road #402020, LaneMark #ff0000'):
        comma10k.ids_of(mask, TABLE)


@pytest.mark.parametrize('fault, words', [
    ('empty', 'has no imgs/'), ('mask', 'has no mask'), ('size', 'its image 41x50'),
    ('colour', 'colours of no class'), ('val', 'got no pair for val')])
def test_what_is_wrong_with_a_clone_is_one_line(tmp_path, monkeypatch, fault, words):
    clone, ids = tmp_path / 'clone', np.zeros((50, 40), int)
    if fault != 'empty':
        image = np.zeros((50, 41, 3), np.uint8) if fault == 'size' else None
        add(clone, '1.png', ids, image=image)
    if fault == 'mask':
        (clone / 'masks/1.png').unlink()
    if fault == 'colour':
        cv2.imwrite(str(clone / 'masks/1.png'), np.full((50, 40, 3), 7, np.uint8))
    with pytest.raises(SystemExit, match=words):
        run(monkeypatch, clone, tmp_path / 'out')


def test_its_recipe_speaks_of_its_classes():
    recipes = pytest.importorskip('training.recipe')
    recipe = recipes.read_recipe(
        Path(comma10k.__file__).parent / 'recipes/deeplab_comma10k.yaml')
    assert recipe.taxonomy == TABLE.name and set(recipe.rare) <= set(TABLE.names)
