"""Who decides what is drivable: the user's names, else the model's own head, else its classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seg_node.devices.host import HostSegmenter
from seg_node.errors import ConfigError
from seg_node.frame import Frame, StageClock
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import load_card
from seg_node.model.policy import DrivablePolicy
from seg_node.model.taxonomy import ClassTable, SegClass
from seg_node.pipeline import Pipeline
from seg_node.products import make
from seg_node.tuning import Tuned, Tuning

MODELS = Path(__file__).parent / 'models'


@pytest.fixture
def one_head():
    return load_card(MODELS / 'palette_cityscapes19')


@pytest.fixture
def two_heads():
    return load_card(MODELS / 'palette_two_heads')


def ids(policy):
    """Return the ids that a policy calls drivable, by the only two values of its table."""
    assert policy.lut.shape == (256,) and policy.lut.dtype == np.uint8
    assert set(policy.lut) <= {0, 255}
    return np.flatnonzero(policy.lut).tolist()


def test_a_head_of_the_model_decides(two_heads):
    policy = DrivablePolicy(two_heads)
    assert (policy.output.name, ids(policy)) == ('drivable', [1])
    assert not policy.has_classes, 'drivable or not is no more than the mask says'


def test_names_overrule_the_head(two_heads):
    policy = DrivablePolicy(two_heads, ['sidewalk', 'road'])
    assert (policy.output.name, ids(policy)) == ('logits', [0, 1])


def test_without_a_head_the_class_table_decides(one_head):
    policy = DrivablePolicy(one_head)
    assert (policy.output, ids(policy)) == (one_head.main_output, [0])


def test_names_overrule_the_class_table_as_a_whole(one_head):
    policy = DrivablePolicy(one_head, ['terrain'])
    assert (policy.output, ids(policy)) == (one_head.main_output, [9])


def test_a_model_with_a_drivable_head_only():
    card = load_card(MODELS / 'palette_binary')
    policy = DrivablePolicy(card)
    assert policy.output == card.main_output and ids(policy) == [1]


@pytest.mark.parametrize('card', ['one_head', 'two_heads'])
def test_no_names_at_all_make_nothing_drivable(card, request):
    """An empty list is somebody's word, not the lack of one."""
    assert ids(DrivablePolicy(request.getfixturevalue(card), [])) == []


def test_names_are_classes_of_the_labels(two_heads):
    with pytest.raises(ConfigError, match="'road or terrain'"):
        DrivablePolicy(two_heads, ['road or terrain'])  # a class of the head


def test_unlabelled_is_never_drivable(one_head):
    every = [item.name for item in one_head.main_output.classes.classes]
    policy = DrivablePolicy(one_head, every)
    assert ids(policy) == list(range(19)) and policy.lut[255] == 0


def test_a_table_in_which_nothing_is_drivable(one_head):
    table = one_head.main_output.classes
    none = replace(table, classes=tuple(replace(item, drivable=False) for item in table.classes))
    card = replace(one_head, outputs=(replace(one_head.main_output, classes=none),))
    assert ids(DrivablePolicy(card)) == []


class Constant:
    """A backend whose outputs are given."""

    description = device = 'test'
    max_batch = None

    def __init__(self, *outputs):
        self.outputs = outputs

    def prepare(self, shape):
        pass

    def run(self, tensor):
        return list(self.outputs)

    def close(self):
        pass


def test_a_head_of_several_classes_is_an_output_of_its_own(two_heads):
    """Direct and alternative, as BDD100K has them; one pixel is withheld, one unsure."""
    table = ClassTable('lanes', tuple(
        SegClass(index, name, (0, 0, 0), index > 0, False)
        for index, name in enumerate(('background', 'direct', 'alternative'))))
    logits, head = two_heads.outputs
    card = replace(two_heads, outputs=(logits, replace(
        head, kind='probabilities', classes=table, activation=None)))
    ids = np.random.default_rng(1).integers(0, 3, (120, 160))
    scores = np.moveaxis(np.eye(3, dtype=np.float32)[ids], 2, 0)[None]
    segmenter = HostSegmenter(card, Constant(np.zeros((1, 19, 120, 160), np.float32), scores))
    assert DrivablePolicy(card).has_classes and not DrivablePolicy(card, ['road']).has_classes
    pipeline = Pipeline(segmenter, card.main_output.classes)
    pipeline.retune(Tuned.check(card, Tuning()))
    image = np.zeros((120, 160, 3), np.uint8)
    message = ImageMessage(Header(1, 0, ''), 120, 160, 'bgr8', False, 480, image.reshape(-1))
    [products] = pipeline.process([Frame('a', message)], [('drivable_class', 'drivable')],
                                  StageClock())
    np.testing.assert_array_equal(products.images['drivable_class'], ids)
    np.testing.assert_array_equal(products.images['drivable'], (ids > 0) * np.uint8(255))
    products.segmentation.labels[5] = 255
    products.segmentation.drivable[6] = 0
    made = make(products.frame, products.segmentation, pipeline.tables, ['drivable_class'])
    assert (made.images['drivable_class'][5] == 255).all()
    np.testing.assert_array_equal(made.images['drivable_class'][6],
                                  np.where(ids[6] > 0, 255, ids[6]))
    pipeline = Pipeline(segmenter, card.main_output.classes)
    pipeline.retune(Tuned.check(card, Tuning(drivable=('road',))))
    [products] = pipeline.process([Frame('a', message)], [('drivable_class',)], StageClock())
    assert not products.images, 'the head does not decide any more'
