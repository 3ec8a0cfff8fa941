"""The calibration: files read strictly, pixel-centre scaling, lens models there and back."""

import numpy as np
import pytest
import yaml

from seg_node.errors import ConfigError
from seg_node.ground.calibration import load_calibration


def document(**changes):
    """Return a valid calibration document with some keys changed (None = left out)."""
    valid = yaml.safe_load(load_calibration('demo_camera').to_yaml())
    valid.update(changes)
    return {key: value for key, value in valid.items() if value is not None}


def matrix(rows, cols, data):
    return {'rows': rows, 'cols': cols, 'data': data}


def written(tmp_path, content):
    path = tmp_path / 'camera.yaml'
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def grid(camera, step=7):
    x, y = np.meshgrid(np.arange(0, camera.width, step), np.arange(0, camera.height, step))
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(float)


def test_the_demo_camera_is_what_it_claims():
    camera = load_calibration('demo_camera')
    assert (camera.width, camera.height, camera.distortion_model) == (960, 540, 'plumb_bob')
    left, right = camera.normalize(np.array([[0, 270], [959, 270]]))
    assert 65 < np.degrees(np.arctan(right[0]) - np.arctan(left[0])) < 75
    # Barrel distortion: the corner lies nearer to the middle than without it.
    corner = camera.project(np.array([[0.7, 0.4, 1.0]]))[0]
    straight = (camera.K @ [0.7, 0.4, 1.0])[:2]
    assert np.linalg.norm(straight - camera.K[:2, 2]) - np.linalg.norm(
        corner - camera.K[:2, 2]) > 20


def test_a_written_calibration_reads_back_the_same(tmp_path):
    camera = load_calibration('demo_camera')
    again = load_calibration(written(tmp_path, camera.to_yaml()))
    for key in ('K', 'D', 'R', 'P'):
        np.testing.assert_array_equal(getattr(camera, key), getattr(again, key))
    assert (camera.name, camera.width, camera.height) == (again.name, again.width, again.height)
    np.testing.assert_array_equal(camera.optical_from_base(), again.optical_from_base())
    assert again.mount.frame_id == 'camera_optical_frame'
    assert again.to_yaml() == camera.to_yaml()


MODELS = {
    'plumb_bob': [-0.21, 0.052, 0.0004, -0.0003, -0.004],
    'rational_polynomial': [-0.3, 0.1, 0.0004, -0.0003, 0.01, -0.08, 0.02, 0.003],
    'equidistant': [-0.02, 0.004, -0.001, 0.0002],
}


@pytest.mark.parametrize('model', MODELS)
def test_rays_of_pixels_project_back_onto_them(tmp_path, model):
    coefficients = MODELS[model]
    camera = load_calibration(written(tmp_path, document(
        distortion_model=model,
        distortion_coefficients=matrix(1, len(coefficients), coefficients))))
    pixels = grid(camera)
    rays = camera.normalize(pixels)
    back = camera.project(np.column_stack([rays, np.ones(len(rays))]))
    assert np.abs(back - pixels).max() < 1e-3


def test_scaling_keeps_pixel_centres():
    camera = load_calibration('demo_camera')
    half, triple = camera.scaled(480, 270), camera.scaled(2880, 1620)
    points = np.column_stack([camera.normalize(grid(camera)), np.ones(len(grid(camera)))])
    full = camera.project(points)
    np.testing.assert_allclose(half.project(points), (full + 0.5) / 2 - 0.5, atol=1e-6)
    np.testing.assert_allclose(triple.project(points), (full + 0.5) * 3 - 0.5, atol=1e-6)
    assert half.K[0, 2] == pytest.approx((481.5 + 0.5) / 2 - 0.5)
    assert (half.width, half.height) == (480, 270)
    # The rectified image scales by the same rule.
    assert half.P[0, 2] == pytest.approx((camera.P[0, 2] + 0.5) / 2 - 0.5)


def test_the_axes_scale_on_their_own():
    camera = load_calibration('demo_camera')
    wide = camera.scaled(1920, 540)
    assert wide.K[0, 0] == pytest.approx(2 * camera.K[0, 0])
    assert wide.K[1, 1] == camera.K[1, 1]


def test_cropping_shifts_the_centre_only():
    camera = load_calibration('demo_camera')
    window = camera.cropped(120, 10, 720, 500)
    points = np.array([[0.1, 0.05, 1.0]])
    np.testing.assert_allclose(window.project(points), camera.project(points) - [120, 10])


def test_the_mount_turns_body_axes_into_optical_ones(tmp_path):
    mount = {'frame_id': 'camera_optical_frame', 'base_frame': 'base_link',
             'translation': [1.0, 0.2, 1.5], 'rotation_rpy': [0.0, 0.0, 0.0]}
    level = load_calibration(written(tmp_path, document(mount=mount))).optical_from_base()
    ahead_left_up = np.array([11.0, 0.7, 1.8, 1.0])
    np.testing.assert_allclose((level @ ahead_left_up)[:3], [-0.5, -0.3, 10.0], atol=1e-12)
    # Pitch is about the y axis to the left: positive looks down, so the horizon rises.
    mount['rotation_rpy'] = [0.0, 0.1, 0.0]
    down = load_calibration(written(tmp_path, document(mount=mount))).optical_from_base()
    horizon = down[:3, :3] @ [1.0, 0.0, 0.0]
    assert horizon[1] == pytest.approx(-np.sin(0.1))
    # Yaw turns to the left, so what was ahead moves to the right.
    mount['rotation_rpy'] = [0.0, 0.0, 0.1]
    left = load_calibration(written(tmp_path, document(mount=mount))).optical_from_base()
    assert (left[:3, :3] @ [1.0, 0.0, 0.0])[0] == pytest.approx(np.sin(0.1))


def test_a_plain_camera_info_file_has_no_mount(tmp_path):
    camera = load_calibration(written(tmp_path, document(mount=None)))
    assert camera.mount is None
    with pytest.raises(ConfigError, match='mount.*missing.*Add a `mount:` block'):
        camera.optical_from_base()


MOUNT = {'frame_id': 'f', 'base_frame': 'b', 'translation': [0, 0, 1], 'rotation_rpy': [0, 0, 0]}
IDENTITY = [1.0, 0, 0, 0, 1, 0, 0, 0, 1]
REFUSED = {
    'unknown model': ({'distortion_model': 'plum_bob'}, 'distortion_model.*plum_bob.*plumb_bob'),
    'width as text': ({'image_width': '960'}, "image_width is '960'.*whole numbers"),
    'zero height': ({'image_height': 0}, 'image_height is 0.*1 to 32767'),
    'width as boolean': ({'image_width': True}, 'image_width is True'),
    'no name': ({'camera_name': ' '}, 'camera_name.*non-empty text'),
    'missing matrix': ({'camera_matrix': None}, 'camera_matrix is missing'),
    'unknown key': ({'image_widht': 3}, "image_widht is no key.*'image_width'"),
    'matrix as list': ({'camera_matrix': IDENTITY}, 'camera_matrix.*rows, cols and data'),
    'too few numbers': ({'camera_matrix': matrix(3, 3, [1.0] * 8)},
                        r'camera_matrix\.data.*list of 9'),
    'not a number': ({'camera_matrix': matrix(3, 3, [*IDENTITY[:8], float('nan')])},
                     r'camera_matrix\.data.*finite'),
    'rows': ({'camera_matrix': matrix(9, 1, IDENTITY)}, r'camera_matrix\.rows is 9; allowed: 3'),
    'negative focal length': ({'camera_matrix': matrix(3, 3, [-1.0, 0, 5, 0, 1, 5, 0, 0, 1])},
                              'fx, fy above 0'),
    'centre outside': ({'camera_matrix': matrix(3, 3, [700.0, 0, 1400, 0, 700, 270, 0, 0, 1])},
                       'inside the 960x540 image'),
    'coefficients of another model': ({'distortion_model': 'rational_polynomial'},
                                      r'coefficients\.cols is 5; allowed: 8 or 12 or 14'),
    'scaled rotation': ({'rectification_matrix': matrix(3, 3, [2.0, 0, 0, 0, 1, 0, 0, 0, 1])},
                        'rectification_matrix.*rotation'),
    'projection': ({'projection_matrix': matrix(3, 4, [1.0] * 12)}, 'projection_matrix'),
    'mount without frame': ({'mount': {**MOUNT, 'frame_id': ''}}, r'mount\.frame_id'),
    'mount in degrees': ({'mount': {**MOUNT, 'rotation_rpy': [0, 0, 90]}},
                         r'mount\.rotation_rpy.*radians'),
    'mount too short': ({'mount': {**MOUNT, 'translation': [0, 1]}}, 'translation.*list of 3'),
    'mount with a spare key': ({'mount': {**MOUNT, 'roll': 0}}, r'mount\.roll is no key'),
    'mount as text': ({'mount': 'front'}, 'mount is .front.*a mapping'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_wrong_files_are_refused_by_name_and_key(tmp_path, case):
    changes, message = REFUSED[case]
    path = written(tmp_path, document(**changes))
    with pytest.raises(ConfigError, match=message) as refusal:
        load_calibration(path)
    assert str(path) in str(refusal.value)


def test_unknown_names_and_unreadable_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="'demo_kamera' is not known; allowed: .*demo_camera"):
        load_calibration('demo_kamera')
    with pytest.raises(ConfigError, match='cannot be read'):
        load_calibration(tmp_path / 'none.yaml')
    with pytest.raises(ConfigError, match='must hold a mapping'):
        load_calibration(written(tmp_path, '- 1\n- 2\n'))


def test_impossible_sizes_and_windows_are_refused():
    camera = load_calibration('demo_camera')
    with pytest.raises(ConfigError, match='height 0'):
        camera.scaled(960, 0)
    with pytest.raises(ConfigError, match='does not lie within the 960x540'):
        camera.cropped(300, 0, 720, 540)
