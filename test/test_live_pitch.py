"""Pitch from the picture: measured where it is known, and told with its uncertainty."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from seg_node.ground.calibration import load_calibration
from seg_node.ground.live_pitch import LivePitch, MOST_DEVIATION, USUAL_SIGMA

CAMERA = load_calibration('demo_camera')
PERIOD_NS = 100_000_000


def street(pitch_rad, yaw_rad=0.0, ahead_m=0.0):
    """Draw kerbs, markings and eaves of a straight street as the pitched camera sees them."""
    picture = np.full((CAMERA.height, CAMERA.width, 3), 110, np.uint8)
    mount = replace(CAMERA.mount, rotation_rpy=CAMERA.mount.rotation_rpy
                    + (0.0, pitch_rad, -yaw_rad))
    transform = mount.optical_from_base()
    rng = np.random.default_rng(4)

    def line(x, y, z, colour, width):
        points = np.column_stack([x, np.full_like(x, y), np.full_like(x, z), np.ones_like(x)])
        optical = (points @ transform.T)[:, :3]
        # Far aside the polynomial of the lens would fold the line back into the picture.
        aside = np.hypot(optical[:, 0], optical[:, 1]) / np.maximum(optical[:, 2], 1e-6)
        optical = optical[(optical[:, 2] > 1.0) & (aside < 0.85)]
        if len(optical) < 2:
            return
        pixels = np.rint(CAMERA.project(optical) * 16).astype(int)
        cv2.polylines(picture, [pixels], False, colour, width, cv2.LINE_AA, 4)

    for y, z in ((-4, 0), (4, 0), (-1.6, 0), (-7, 0), (7, 0), (-9, 6), (9, 7), (-9, 3), (9, 2.5)):
        line(np.geomspace(3, 120, 60), y, z, (225, 225, 225), 2)
    for start in np.arange(-ahead_m % 9, 60, 9.0):
        line(np.linspace(start + 3, start + 6, 8), 1.6, 0, (240, 240, 240), 3)
    for x in np.arange(6 - ahead_m % 7, 60, 7.0):  # poles, which point elsewhere
        for y in (-8, 8):
            points = np.array([[x, y, 0, 1], [x, y, 5, 1.0]]) @ transform.T
            if points[:, 2].min() > 1 and (np.abs(points[:, 0]) / points[:, 2]).max() < 0.7:
                ends = np.rint(CAMERA.project(points[:, :3])).astype(int)
                cv2.line(picture, tuple(map(int, ends[0])), tuple(map(int, ends[1])),
                         (40, 40, 40), 3, cv2.LINE_AA)
    noise = rng.normal(0, 4, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def follow(pitches_deg, yaw_rad=0.0):
    live = LivePitch(CAMERA, CAMERA.mount)
    return [live.update(street(np.radians(pitch), yaw_rad, 1.1 * index), (index + 1) * PERIOD_NS)
            for index, pitch in enumerate(pitches_deg)]


def test_a_braking_car():
    """Level, a second of braking by 1.5 degrees, level again, nose up by 1."""
    truth = np.array([0.0] * 5 + [0.7, 1.4] + [1.5] * 7 + [0.8, 0.1] + [0.0] * 5 + [-0.5]
                     + [-1.0] * 6)
    found = follow(truth)
    errors = np.degrees([pitch.deviation for pitch in found]) - truth
    assert np.abs(errors).max() < 0.4 and np.percentile(np.abs(errors), 75) < 0.2
    # Its own uncertainty is honest: the error is within two sigmas nearly always.
    sigmas = np.degrees([pitch.sigma for pitch in found])
    assert (np.abs(errors) < 2 * sigmas).mean() > 0.9 and sigmas[-1] < np.degrees(USUAL_SIGMA)


def test_a_road_that_leads_aside_is_no_pitch():
    errors = np.degrees([pitch.deviation for pitch in follow([0.8] * 8, np.radians(4))]) - 0.8
    assert abs(errors[-1]) < 0.3


def test_a_picture_without_lines_tells_nothing():
    live = LivePitch(CAMERA, CAMERA.mount)
    blank = np.full((540, 960, 3), 90, np.uint8)
    found = [live.update(blank, (index + 1) * PERIOD_NS) for index in range(6)]
    assert abs(found[-1].deviation) < 1e-3 and found[-1].sigma >= found[0].sigma > 0.01


def test_a_gap_starts_afresh_and_noise_stays_in_bounds():
    live = LivePitch(CAMERA, CAMERA.mount)
    for index in range(4):
        live.update(street(np.radians(1.5)), (index + 1) * PERIOD_NS)
    assert live.update(street(np.radians(1.5)), 5 * PERIOD_NS).deviation > np.radians(0.9)
    after = live.update(np.full((540, 960, 3), 90, np.uint8), 10**12)
    assert after.deviation == 0.0 and after.sigma == pytest.approx(USUAL_SIGMA)
    again = live.update(street(0.0), 10**12)  # a repeated stamp tells no motion
    assert abs(again.deviation) < np.radians(0.5)
    rng = np.random.default_rng(0)
    for index in range(20):
        pitch = live.update(rng.integers(0, 255, (540, 960, 3), np.uint8),
                            10**12 + (index + 1) * PERIOD_NS)
        assert abs(pitch.deviation) <= MOST_DEVIATION and np.isfinite(pitch.sigma)
