"""How labelled data sets lie on disk: endings of names, and what the ids in their files mean."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..model.taxonomy import UNLABELLED

LANES = 'lanes'
# id in *_labelIds.png of each of the 19 classes, in their order
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


@dataclass(frozen=True)
class Layout:
    """
    How a data set lies on disk.

    :ivar about: a few words for the command line.
    :ivar taxonomy: the class table its ids are for; None = any table.
    :ivar ids: id in the file of each class of the table, in order, or several where they are one
        class; None = the class ids.
    :ivar void: ids in the file that are no class and count nowhere.
    :ivar image_ending: how the names of images end, without suffix.
    :ivar label_endings: how the names of labels may end, without suffix.
    """

    name: str
    about: str
    taxonomy: str | None = None
    ids: tuple[int | tuple[int, ...], ...] | None = None
    void: frozenset[int] = frozenset({UNLABELLED})
    image_ending: str = ''
    label_endings: tuple[str, ...] = ('',)


# Mapillary Vistas 1.2 (66 ids) in those classes: road with its markings, crosswalks, manholes and
# potholes; sidewalk with curbs and pedestrian areas; all three kinds of riders.
_MAPILLARY_IDS = (
    (7, 8, 13, 14, 23, 24, 36, 41, 43), (2, 9, 11, 15), (17,), (6,), (3,), (45, 47), (48,), (50,),
    (30,), (29,), (27,), (19,), (20, 21, 22), (55,), (61,), (54,), (58,), (57,), (52,))
_CITYSCAPES_VOID = frozenset(range(34)) - set(_CITYSCAPES_IDS)

_ALL = (
    Layout('pairs', 'NAME.* and NAME.png, ids of any class table, 255 void'),
    Layout('camvid', 'NAME.* and NAME.png, ids 0 to 10, 11 void', 'camvid11',
           void=frozenset({11})),
    Layout('cityscapes', '*_leftImg8bit and *_gtFine_labelIds.png; where there are none, '
           '*_labelTrainIds.png', 'cityscapes19', _CITYSCAPES_IDS,
           _CITYSCAPES_VOID, '_leftImg8bit',
           ('_gtFine_labelIds', '_gtCoarse_labelIds')),
    Layout('cityscapes-trainids', '*_leftImg8bit and *_gtFine_labelTrainIds.png, 255 void',
           'cityscapes19', image_ending='_leftImg8bit',
           label_endings=('_gtFine_labelTrainIds', '_gtCoarse_labelTrainIds')),
    Layout('acdc', 'ACDC, Dark Zurich: *_rgb_anon and *_gt_labelIds; where there are none, '
           '*_gt_labelTrainIds', 'cityscapes19', _CITYSCAPES_IDS, _CITYSCAPES_VOID, '_rgb_anon',
           ('_gt_labelIds',)),
    Layout('acdc-trainids', '*_rgb_anon and *_gt_labelTrainIds, 255 void', 'cityscapes19',
           image_ending='_rgb_anon', label_endings=('_gt_labelTrainIds',)),
    Layout('kitti', "image_2 and semantic, one name, Cityscapes' label ids", 'cityscapes19',
           _CITYSCAPES_IDS, _CITYSCAPES_VOID | {UNLABELLED}),
    Layout('bdd100k', 'NAME.jpg and NAME_train_id.png or NAME.png, Cityscapes train ids, 255 void',
           'cityscapes19', label_endings=('_train_id', '')),
    Layout('mapillary', 'Vistas 1.2: images and labels (ids 0 to 65), in the classes of '
           'Cityscapes', 'cityscapes19', _MAPILLARY_IDS,
           frozenset(range(66)) - {one for ids in _MAPILLARY_IDS for one in ids}),
    Layout(LANES, 'NAME.* and NAME.png, 0 none, all else a lane mark (the masks of BDD100K as '
           'YOLOP has them)', None, (0, tuple(range(1, 256))), frozenset()),
    Layout('voc', 'JPEGImages and SegmentationClass, palette PNG, 255 void', 'voc21'),
    Layout('ade20k', 'images and annotations, 0 void, ids 1 to 150', 'ade20k150',
           tuple(range(1, 151)), frozenset({0})),
)
LAYOUTS: Mapping[str, Layout] = {layout.name: layout for layout in _ALL}
