"""Who decides what is drivable: the user's names, else the model's own head, else its classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seg_node.errors import ConfigError
from seg_node.model.card import load_card
from seg_node.model.policy import DrivablePolicy

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
