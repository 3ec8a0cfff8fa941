"""Reading labelled data sets: what their ids mean, what pairs up, and what is refused."""

from pathlib import Path
import re

import cv2
import numpy as np
import pytest

from seg_node.errors import ConfigError
from seg_node.model.taxonomy import load_taxonomy
from seg_node.scoring.datasets import open_dataset
from seg_node.scoring.label_image import read_ids
from seg_node.scoring.layouts import LAYOUTS

CITY = 'aachen/aachen_000001_000019'
# Where the image and the label of one frame lie in each layout.
PLACES = {
    'pairs': ('a.jpg', 'a.png'),
    'camvid': ('0016E5_07959.png', '0016E5_07959.png'),
    'cityscapes': (f'{CITY}_leftImg8bit.png', f'{CITY}_gtFine_labelIds.png'),
    'cityscapes-trainids': (f'{CITY}_leftImg8bit.png', f'{CITY}_gtFine_labelTrainIds.png'),
    'voc': ('2007_000033.jpg', '2007_000033.png'),
    'acdc': ('fog/GP1_frame_000001_rgb_anon.png', 'fog/GP1_frame_000001_gt_labelIds.png'),
    'acdc-trainids': ('GP1_frame_1_rgb_anon.png', 'GP1_frame_1_gt_labelTrainIds.png'),
    'kitti': ('000000_10.png', '000000_10.png'),
    'bdd100k': ('val/7d06fefd.jpg', 'val/7d06fefd_train_id.png'),
    'mapillary': ('a_b.jpg', 'a_b.png'),
    'ade20k': ('validation/ADE_val_00000001.jpg', 'validation/ADE_val_00000001.png'),
}


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def write_frame(root, layout, label, places=None):
    """Write one pair and return the two folders."""
    image, truth = places or PLACES[layout]
    write(root / 'images' / image, np.full((*label.shape, 3), 90, np.uint8))
    write(root / 'labels' / truth, label)
    return root / 'images', root / 'labels'


def opened(root, layout='camvid', **given):
    return open_dataset(root / 'images', root / 'labels', layout, **given)


def refusal(root, layout='camvid', **given):
    with pytest.raises(ConfigError) as caught:
        opened(root, layout, **given)
    return str(caught.value)


@pytest.fixture
def camvid(tmp_path):
    """Write three CamVid frames; return their root."""
    for name in 'abc':
        write_frame(tmp_path, 'camvid', np.full((4, 6), 3, np.uint8),
                    (f'{name}.png', f'{name}.png'))
    return tmp_path


@pytest.mark.parametrize('layout, in_file, classes', [
    ('camvid', [0, 10, 11], [0, 10, 255]),
    ('cityscapes', [0, 6, 7, 9, 11, 16, 23, 29, 33], [255, 255, 0, 255, 2, 255, 10, 255, 18]),
    ('cityscapes-trainids', [0, 18, 255], [0, 18, 255]),
    ('voc', [0, 20, 255], [0, 20, 255]),
    ('acdc', [0, 6, 7, 9, 33], [255, 255, 0, 255, 18]),
    ('acdc-trainids', [0, 18, 255], [0, 18, 255]),
    ('kitti', [0, 6, 7, 9, 11, 33, 255], [255, 255, 0, 255, 2, 18, 255]),
    ('bdd100k', [0, 18, 255], [0, 18, 255]),
    ('mapillary', [13, 24, 41, 15, 2, 55, 20, 22, 27, 64, 65], [0, 0, 0, 1, 1, 13, 12, 12, 10,
                                                              255, 255]),
    ('ade20k', [0, 1, 150], [255, 0, 149]),
])
def test_what_ids_mean(tmp_path, layout, in_file, classes):
    write_frame(tmp_path, layout, np.uint8([in_file]))
    dataset = opened(tmp_path, layout)
    [pair] = dataset.pairs
    assert dataset.truth(pair).tolist() == [classes]
    assert dataset.truth(pair).dtype == np.uint8
    assert dataset.frame(pair).bgr.shape == (1, len(in_file), 3)
    assert dataset.ids == set(load_taxonomy(LAYOUTS[layout].taxonomy).ids)


def test_cityscapes_ids_are_the_official_ones(tmp_path):
    official = pytest.importorskip('cityscapesscripts.helpers.labels').labels
    known = [label for label in official if label.id >= 0]
    write_frame(tmp_path, 'cityscapes', np.uint8([[label.id for label in known]]))
    dataset = opened(tmp_path, 'cityscapes')
    assert dataset.truth(dataset.pairs[0])[0].tolist() == [
        255 if label.ignoreInEval else label.trainId for label in known]


def test_pairs_take_any_class_table(tmp_path):
    write_frame(tmp_path, 'pairs', np.uint8([[0, 15, 255]]))
    table = load_taxonomy('autoware16')
    dataset = opened(tmp_path, 'pairs', table=table)
    assert dataset.table is table
    assert dataset.truth(dataset.pairs[0]).tolist() == [[0, 15, 255]]
    assert 'give --taxonomy' in refusal(tmp_path, 'pairs')


def test_train_ids_are_found_where_they_are_all_there_is(tmp_path):
    write_frame(tmp_path, 'cityscapes-trainids', np.uint8([[18]]))
    assert opened(tmp_path, 'cityscapes').layout.name == 'cityscapes-trainids'
    write_frame(tmp_path, 'cityscapes', np.uint8([[33]]))  # now both: the official ones count
    assert opened(tmp_path, 'cityscapes').layout.name == 'cityscapes'
    for layout in ('cityscapes', 'cityscapes-trainids'):
        dataset = opened(tmp_path, layout)
        assert dataset.truth(dataset.pairs[0]).tolist() == [[18]]


def test_subfolders_keep_equal_names_apart(tmp_path):
    for folder, value in (('one', 1), ('two', 2)):
        write_frame(tmp_path, 'camvid', np.full((2, 2), value, np.uint8),
                    (f'{folder}/0001.png', f'{folder}/0001.png'))
    for place in ('images/.DS_Store', 'labels/._0001.png', 'images/.cache.png', 'images/list.txt'):
        (tmp_path / place).write_bytes(b'not a picture')
    dataset = opened(tmp_path)
    assert [pair.name for pair in dataset.pairs] == ['one/0001', 'two/0001']
    assert [int(dataset.truth(pair)[0, 0]) for pair in dataset.pairs] == [1, 2]


def test_ignored_ids_are_void(camvid):
    label = np.uint8([[3, 4, 11, 200]])
    write(camvid / 'labels' / 'a.png', label)
    dataset = opened(camvid, ignore=[4, 200])
    assert dataset.truth(dataset.pairs[0]).tolist() == [[3, 255, 255, 255]]
    assert dataset.ids == set(range(11)) - {4}
    assert '--ignore 256' in refusal(camvid, ignore=[256])


def test_ids_outside_are_refused_with_file_and_mend(camvid):
    write(camvid / 'labels' / 'b.png', np.uint8([[3, 12, 12, 13, 255]]))
    dataset = opened(camvid)
    dataset.truth(dataset.pairs[0])
    with pytest.raises(ConfigError, match=re.escape(f'{camvid / "labels" / "b.png"}: 4 pixels '
                       'have ids outside the classes: 12-13, 255.')) as caught:
        dataset.truth(dataset.pairs[1])
    for part in ('camvid11', '0-10, void: 11', '--layout', '--taxonomy', '--ignore'):
        assert part in str(caught.value)
    write(camvid / 'labels' / 'b.png', np.uint16([[3, 24001]]))
    with pytest.raises(ConfigError, match='outside the classes: 24001'):
        dataset.truth(dataset.pairs[1])


def test_a_label_without_image_and_the_other_way_round(camvid):
    (camvid / 'images' / 'a.png').unlink()
    (camvid / 'labels' / 'c.png').unlink()
    text = refusal(camvid)
    assert f'1 of 3 pairs have no image, the first: a below {camvid / "images"}' in text
    assert f'1 of 3 pairs have no label, the first: c below {camvid / "labels"}' in text
    assert '--split' in text


def test_a_split_names_the_pairs(camvid):
    (camvid / 'images' / 'a.png').unlink()
    split = camvid / 'val.txt'
    split.write_text('c\nb\r\n\n')
    assert [pair.name for pair in opened(camvid, split=split).pairs] == ['c', 'b']
    for text, reason in (('a\nb', '1 of 2 pairs have no image, the first: a'), ('\n', 'no pair'),
                         ('b\nb', 'names b twice')):
        split.write_text(text)
        assert reason in refusal(camvid, split=split)
    for text in ('\ufeffc.png\r\nb.png', 'images/c.png labels/c.png\nimages/b.png,labels/b.png',
                 'x/y/c.jpg\tlabels/c.png\n\n./b\n', 'labels/c.png\nb'):
        split.write_text(text, encoding='utf-8')
        assert [pair.name for pair in opened(camvid, split=split).pairs] == ['c', 'b'], text
    assert 'none.txt cannot be read' in refusal(camvid, split=camvid / 'none.txt')


def test_empty_and_missing_folders(camvid, tmp_path):
    for name, option in (('images', '--images'), ('labels', '--labels')):
        folder = camvid / name
        full = folder.rename(camvid / 'full')
        assert f'{option} {folder} is no folder' in refusal(camvid)
        folder.mkdir()
        text = refusal(camvid)
        assert f'{option} {folder} holds nothing' in text and 'no file at all' in text
        (folder / 'readme.txt').touch()
        assert 'Found: 1 x .txt' in refusal(camvid)
        (folder / 'readme.txt').unlink()
        folder.rmdir()
        full.rename(folder)
    text = refusal(camvid, 'cityscapes')
    assert '*_leftImg8bit' in text and '3 x .png' in text
    with pytest.raises(ConfigError, match='are both'):
        open_dataset(camvid / 'images', camvid / 'images', 'camvid')


def test_two_images_of_one_name(camvid):
    write(camvid / 'images' / 'b.jpg', np.zeros((4, 6, 3), np.uint8))
    text = refusal(camvid)
    assert 'b.jpg' in text and 'b.png' in text and 'same name' in text


def test_a_layout_has_its_own_classes(camvid):
    text = refusal(camvid, table=load_taxonomy('cityscapes19'))
    assert 'camvid11, not cityscapes19' in text and '--layout' in text
    assert "layout 'kitty' is unknown; allowed: pairs, camvid" in refusal(camvid, 'kitty')


def test_images_of_other_formats(camvid):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    (camvid / 'images' / 'a.png').unlink()
    path = write(camvid / 'images' / 'a.bmp', pixels)
    dataset = opened(camvid)
    np.testing.assert_array_equal(dataset.frame(dataset.pairs[0]).bgr, pixels)
    for content in (b'', b'BM not an image'):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=re.escape(str(path))):
            dataset.frame(dataset.pairs[0])
    path.unlink()
    with pytest.raises(ConfigError, match=re.escape(f'{path} cannot be read')):
        dataset.frame(dataset.pairs[0])


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_palette_labels_give_their_ids(tmp_path, bits):
    pil = pytest.importorskip('PIL.Image')
    rng = np.random.default_rng(bits)
    ids = rng.integers(0, 2 ** bits, (7, 13), np.uint8)
    picture = pil.fromarray(ids, 'P')
    # Colours that stand twice: only the indices tell these classes apart.
    picture.putpalette(rng.integers(0, 3, 3 * 2 ** bits, np.uint8).tobytes())
    path = Path(tmp_path / 'label.png')
    picture.save(path, bits=bits, transparency=0, dpi=(72, 72))
    assert path.read_bytes()[24:26] == bytes([bits, 3])
    np.testing.assert_array_equal(read_ids(path), ids)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_grey_labels_give_their_values(tmp_path, dtype):
    ids = np.arange(256, dtype=dtype).reshape(8, 32)
    np.testing.assert_array_equal(read_ids(write(tmp_path / 'label.png', ids)), ids)


def test_grey_labels_of_few_bits(tmp_path):
    ids = np.random.default_rng(0).integers(0, 2, (5, 11), np.uint8)
    path = tmp_path / 'label.png'
    assert cv2.imwrite(str(path), ids * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])
    assert path.read_bytes()[24] == 1
    np.testing.assert_array_equal(read_ids(path), ids)


def test_unreadable_labels_are_refused_by_name(tmp_path):
    path = tmp_path / 'label.png'
    whole = write(path, np.random.default_rng(0).integers(0, 99, (40, 40), np.uint8)).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    _, jpeg = cv2.imencode('.jpg', np.zeros((4, 4), np.uint8))
    _, colour = cv2.imencode('.png', np.zeros((4, 4, 3), np.uint8))
    for content, reason in ((b'', 'empty'), (whole[:-30], 'ends inside|has no end'),
                            (bytes(flipped), 'checksum'), (jpeg.tobytes(), 'must be PNG'),
                            (b'<html>', 'no PNG'), (colour.tobytes(), 'colour picture')):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=reason) as caught:
            read_ids(path)
        assert str(path) in str(caught.value)
    path.unlink()
    with pytest.raises(ConfigError, match='label.png cannot be read: No such file'):
        read_ids(path)
