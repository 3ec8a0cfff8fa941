"""What is painted over labelled pictures: the own vehicle; night, snow, rain, fog, low sun."""

import cv2
import numpy as np
import pytest

from street.bonnet import draw_bonnet
from street.conditions import changed, CONDITIONS


@pytest.mark.parametrize('name', CONDITIONS)
def test_conditions_are_drawn_for_any_labels(name):
    """Without road, without sky, all of one class, all void: a picture of the same kind comes."""
    image = np.full((60, 80, 3), 120, np.uint8)
    image[:30] = 200
    street = np.full((60, 80), 1, np.uint8)
    street[:20], street[34:] = 0, 3
    for labels in (street, *(np.full((60, 80), one, np.uint8) for one in (0, 3, 5, 255))):
        seen = changed(image, labels, name, np.random.default_rng(4))
        assert seen.shape == image.shape and seen.dtype == np.uint8
        assert np.abs(seen.astype(int) - image).mean() > 0.2
    again = [changed(image, street, name, np.random.default_rng(7)) for _ in range(2)]
    assert (again[0] == again[1]).all()


def test_night_lights_the_road_ahead_more_than_the_sky_and_fog_the_far_less_than_the_near():
    """What is far is told by the row below the horizon, and by the foot of what stands there."""
    image = np.full((120, 160, 3), 128, np.uint8)
    labels = np.full((120, 160), 3, np.uint8)
    labels[:50] = 0
    labels[20:80, 60:100] = 1
    for seed in range(8):
        dark = changed(image, labels, 'night', np.random.default_rng(seed)).mean(axis=2)
        assert np.median(dark[60:100, 70:90]) >= np.median(dark[:15])
        grey = changed(image, labels, 'fog', np.random.default_rng(seed)).astype(int)
        change = np.abs(grey - 128).mean(axis=2)
        assert change[118, :40].mean() < change[54, :40].mean()
        # The middle of the house is as far as its foot, not as what is seen beside it.
        assert change[52, 80] < change[52, 10] + 1


@pytest.mark.parametrize('seed', range(12))
def test_a_bonnet_stands_in_front_of_the_bottom_and_leaves_the_rest_alone(seed):
    """One piece a column, from its outline down; above it labels, and pixels but for the blur."""
    rng = np.random.default_rng(seed)
    image = rng.integers(60, 200, (120, 160, 3), np.uint8)
    labels = np.full((120, 160), 3, np.uint8)
    before = image.copy()
    seen, ids = draw_bonnet(rng).painted(image, labels, 8)
    own = ids == 8
    assert (image == before).all() and (labels == 3).all(), 'its input was changed'
    assert set(np.unique(ids)) <= {3, 8} and own.mean() < 0.5
    assert (np.diff(own.astype(int), axis=0) >= 0).all(), 'something is below the vehicle'
    far = ~cv2.dilate(own.astype(np.uint8), np.ones((7, 7))).astype(bool)
    assert (seen[far] == before[far]).all()
    if own.any():
        inside = cv2.erode(own.astype(np.uint8), np.ones((7, 7))).astype(bool)
        assert not inside.any() or (seen[inside] != before[inside]).any(axis=1).mean() > 0.9


def test_bonnets_differ_and_one_is_drawn_the_same_again():
    image, labels = np.full((90, 120, 3), 90, np.uint8), np.full((90, 120), 3, np.uint8)
    drawn = [draw_bonnet(np.random.default_rng(seed)).painted(image, labels) for seed in range(20)]
    again = draw_bonnet(np.random.default_rng(7)).painted(image, labels)
    assert (again[0] == drawn[7][0]).all()
    shares = [(ids != 3).mean() for _, ids in drawn]
    assert 0.02 < np.mean(shares) < 0.3 and np.std(shares) > 0.02
    brightness = [seen[ids != 3].mean() for seen, ids in drawn if (ids != 3).any()]
    assert min(brightness) < 60 and max(brightness) > 120
