"""What training makes of rendered pictures: colours by lot, cameras by lot."""

import numpy as np
import pytest

pytest.importorskip('tqdm', reason='needs requirements/train.txt')
augment = pytest.importorskip('training.augment')
render = pytest.importorskip('training.render')


def test_each_thing_gets_a_colour_of_its_own_and_what_has_no_class_keeps_its():
    labels = np.full((60, 120), 3, np.uint8)
    labels[10:30, 10:40], labels[10:30, 70:100] = 8, 8
    labels[40:, :60], labels[40:, 60:] = 255, augment.NOT + 3
    image = np.full((*labels.shape, 3), 100, np.uint8)
    change = augment.Augmentation((60, 120), rows=(60, 60), recolour=1, light=0, turn_deg=0)
    found, same = change(np.random.default_rng(2), image, labels, image, labels)
    if not np.array_equal(same, labels):  # mirrored
        found = found[:, ::-1]
    left, right, road = (found[place].reshape(-1, 3) for place in (
        np.s_[14:26, 14:36], np.s_[14:26, 74:96], np.s_[32:36, 10:110]))
    for region in (left, right, road):
        assert np.ptp(region, axis=0).max() == 0
    colours = np.array([left[0], right[0], road[0], [100, 100, 100]], int)
    apart = np.abs(colours[:, None] - colours).max(axis=2)
    assert apart[~np.eye(4, dtype=bool)].min() > 3
    assert np.all(found[44:] == 100)


def test_cameras_by_lot_differ_see_the_road_and_are_the_same_again():
    cameras = [render.any_camera(seed) for seed in range(40)]
    heights = [camera.mount.translation[2] for camera in cameras]
    assert 1.1 <= min(heights) < 1.4 and 1.9 < max(heights) <= 2.35
    focal = [camera.K[0, 0] / 731 for camera in cameras]
    assert 0.6 <= min(focal) < 0.75 and 1.1 < max(focal) <= 1.25
    for camera in cameras:
        # What lies 20 m ahead on the ground is in the picture, and its ray leads back to it.
        point = (camera.optical_from_base() @ [21.35, 0, 0, 1])[:3]
        pixel = camera.project(point[None])
        assert 0 < pixel[0, 0] < camera.width and 0 < pixel[0, 1] < camera.height
        np.testing.assert_allclose(camera.normalize(pixel)[0, :2], point[:2] / point[2], atol=1e-4)
        # The corners have rays, too: the lens does not fold.
        corners = [[0, 0], [camera.width - 1, 0], [0, camera.height - 1]]
        assert np.isfinite(camera.normalize(np.array(corners, float))).all()
    np.testing.assert_array_equal(render.any_camera(7).K, cameras[7].K)
