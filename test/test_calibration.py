"""The calibration: files read strictly, pixel-centre scaling, lens models there and back."""

from dataclasses import replace
import importlib.util
import sys
from types import SimpleNamespace

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
import yaml

from seg_node.errors import ConfigError
from seg_node.ground.calibration import load_calibration, Mount, mount_of_transform
from seg_node.ground.known import contradiction, KnownCamera
from seg_node.image.wire import Header
from seg_node.ros.mount_tf import MountFromTf


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


FIELD_MODELS = {**MODELS, 'plumb_bob 4': [-0.21, 0.052, 0.0004, -0.0003],
                'rational_polynomial 12': [*MODELS['rational_polynomial'], 0.001, -0.002, 0.0005,
                                           0.0003],
                'rational_polynomial 14': [*MODELS['rational_polynomial'], 0.001, -0.002, 0.0005,
                                           0.0003, 0.01, -0.02],
                'fisheye': MODELS['equidistant']}


@pytest.mark.parametrize('name', FIELD_MODELS)
def test_every_model_of_the_field_is_opencvs(tmp_path, name):
    coefficients = FIELD_MODELS[name]
    model = name.split()[0]
    camera = load_calibration(written(tmp_path, document(
        distortion_model=model,
        distortion_coefficients=matrix(1, len(coefficients), coefficients))))
    rng = np.random.default_rng(5)
    points = np.column_stack([rng.uniform(-0.6, 0.6, (2000, 2)), np.ones(2000)])
    points *= rng.uniform(0.5, 40, (2000, 1))
    zero, k, d = np.zeros(3), camera.K, np.array(coefficients)
    if model in ('equidistant', 'fisheye'):
        wanted = cv2.fisheye.projectPoints(points.reshape(-1, 1, 3), zero, zero, k, d)[0]
    else:
        wanted = cv2.projectPoints(points, zero, zero, k, d)[0]
    found = camera.project(points)
    assert np.abs(found - wanted.reshape(-1, 2)).max() < 1e-6
    rays = camera.normalize(found)
    assert np.abs(rays - points[:, :2] / points[:, 2:]).max() < 1e-6


@settings(max_examples=50, deadline=None)
@given(focal=st.floats(200, 3000), ratio=st.floats(0.8, 1.25), k1=st.floats(-0.35, 0.3),
       k2=st.floats(-0.1, 0.1), tangential=st.floats(-0.002, 0.002), seed=st.integers(0, 2**31))
def test_there_and_back_for_random_cameras(focal, ratio, k1, k2, tangential, seed):
    """2000 points each; a ray that is found projects back, and what is not found is NaN."""
    camera = replace(load_calibration('demo_camera'),
                     K=np.array([[focal, 0, 480.2], [0, focal * ratio, 271.7], [0, 0, 1.0]]),
                     D=np.array([k1, k2, tangential, -tangential, 0.0]))
    pixels = np.random.default_rng(seed).uniform((0, 0), (959, 539), (2000, 2))
    rays = camera.normalize(pixels)
    told = np.isfinite(rays).all(axis=1)
    back = camera.project(np.column_stack([rays[told], np.ones(told.sum())]))
    if told.any():
        assert np.abs(back - pixels[told]).max() < 1e-4
    # A mild lens has a ray for every pixel.
    if np.hypot(480, 270) / focal < 0.8 and abs(k1) < 0.2 and abs(k2) < 0.05:
        assert told.all()


@settings(max_examples=100, deadline=None)
@given(binning=st.tuples(st.integers(0, 4), st.integers(0, 4)),
       roi=st.tuples(st.integers(0, 400), st.integers(0, 200), st.integers(100, 500),
                     st.integers(100, 300)))
def test_region_and_binning_as_image_geometry_has_them(binning, roi):
    """PinholeCameraModel: cut the region out, then divide by the binning, centres as they are."""
    camera = load_calibration('demo_camera')
    view = camera.windowed(binning, roi)
    by_x, by_y = max(1, binning[0]), max(1, binning[1])
    assert (view.width, view.height) == (roi[2] // by_x, roi[3] // by_y)
    for wanted, found in ((camera.K, view.K), (camera.P, view.P)):
        assert found[0, 0] == pytest.approx(wanted[0, 0] / by_x)
        assert found[1, 1] == pytest.approx(wanted[1, 1] / by_y)
        assert found[0, 2] == pytest.approx((wanted[0, 2] - roi[0]) / by_x)
        assert found[1, 2] == pytest.approx((wanted[1, 2] - roi[1]) / by_y)


def test_a_region_outside_the_sensor_is_refused():
    with pytest.raises(ConfigError, match='does not lie within'):
        load_calibration('demo_camera').windowed((1, 1), (900, 0, 200, 100))
    with pytest.raises(ConfigError, match='binning 200x1 leaves nothing'):
        load_calibration('demo_camera').windowed((200, 1), (0, 0, 100, 100))


def test_an_uncalibrated_camera_is_told_the_mend(tmp_path):
    empty = document(distortion_model='', distortion_coefficients=matrix(1, 0, []))
    with pytest.raises(ConfigError, match='never calibrated: calibrate it'):
        load_calibration(written(tmp_path, empty))


def test_what_file_and_topic_say_differently_is_told():
    file = load_calibration('demo_camera')
    assert contradiction(file, replace(file, K=file.K * 1.001)) == ''
    other = file.K.copy()
    other[0, 0] = 900.0
    assert 'fx (731.0 and 900.0)' in contradiction(file, replace(file, K=other))
    assert '960x540 and 480x270' in contradiction(file, file.scaled(480, 270))
    assert 'plumb_bob and equidistant' in contradiction(
        file, replace(file, distortion_model='equidistant', D=np.zeros(4)))


def test_the_topic_wins_and_the_mount_stays_the_files():
    file = load_calibration('demo_camera')
    known = KnownCamera(file, rectify=True)
    first = known.rectification
    known.tell(replace(file, K=file.K * [[1.5], [1.5], [1.0]], mount=None))
    assert known.calibration.K[0, 0] == pytest.approx(1.5 * file.K[0, 0])
    assert known.calibration.mount is file.mount and 'fx' in known.contradiction
    assert known.rectification is not first
    known.forget()
    assert known.calibration is file and known.contradiction == ''


@settings(max_examples=60, deadline=None)
@given(rpy=st.tuples(st.floats(-3, 3), st.floats(-1.5, 1.5), st.floats(-3, 3)),
       place=st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 5)))
def test_a_transform_is_the_mount_it_describes(rpy, place):
    mount = Mount('optical', 'base_link', np.array(place), np.array(rpy))
    turn = mount.optical_from_base()[:3, :3].T  # optical -> base
    vector = cv2.Rodrigues(turn)[0].ravel()
    angle = np.linalg.norm(vector)
    axis = vector / angle if angle > 1e-9 else np.array([1.0, 0, 0])
    found = mount_of_transform('optical', 'base_link', place,
                               (*(axis * np.sin(angle / 2)), np.cos(angle / 2)))
    np.testing.assert_allclose(found.optical_from_base(), mount.optical_from_base(), atol=1e-6)
    assert found.is_close(mount, 1e-6, 1e-4)
    other = replace(mount, rotation_rpy=mount.rotation_rpy + (0.0, 0.0, 0.01))
    assert not found.is_close(other, 1e-6, 0.005) and found.is_close(other, 1e-6, 0.02)
    assert not found.is_close(replace(mount, translation=mount.translation + 0.01), 0.005, 1)


@pytest.mark.parametrize('place, turn, told', [
    ((0, 0, 1), (0, 0, 0, 0.5), 'length 0.5000; it must be 1'),
    ((0, 0, 1), (0, 0, 0, 0), 'length 0.0000'),
    ((0, float('nan'), 1), (0, 0, 0, 1), 'must be finite'),
    ((0, 0, 1), (0, float('inf'), 0, 1), 'must be finite'),
])
def test_what_is_no_transform_is_refused(place, turn, told):
    with pytest.raises(ConfigError, match=told):
        mount_of_transform('optical', 'base_link', place, turn)


class Tf2:
    """Stands in for tf2_ros, which has no wheel: what the node calls, and nothing else."""

    class TransformException(Exception):
        """Base of what a look-up raises."""

    class Buffer:
        """Knows one transform, from its stamp on."""

        known = {}

        def __init__(self, cache_time):
            self.cache_s = cache_time.nanoseconds / 1e9

        def lookup_transform(self, target, source, time):
            if (target, source) not in self.known or time.nanoseconds < 100:
                raise Tf2.TransformException(f'"{source}" does not\nexist')
            place, turn = self.known[target, source]
            xyz = SimpleNamespace(**dict(zip('xyz', place, strict=True)))
            xyzw = SimpleNamespace(**dict(zip('xyzw', turn, strict=True)))
            return SimpleNamespace(transform=SimpleNamespace(translation=xyz, rotation=xyzw))

    class TransformListener:
        """Listens to nothing."""

        def __init__(self, buffer, node, spin_thread):
            assert not spin_thread


def test_the_mount_by_tf(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_ros', Tf2)
    mounts = MountFromTf(None, 'base_link')
    now = Header(0, 500, 'front_optical')
    with pytest.raises(ConfigError, match="from 'front_optical' to 'base_link'.*exist"):
        mounts.at(now)
    turn = (-0.5, 0.5, -0.5, 0.5)
    Tf2.Buffer.known['base_link', 'front_optical'] = (1.0, 0.0, 1.4), turn
    mount = mounts.at(now)
    np.testing.assert_allclose(mount.rotation_rpy, 0, atol=1e-9)
    assert mount.translation.tolist() == [1.0, 0.0, 1.4] and mount.frame_id == 'front_optical'
    Tf2.Buffer.known['base_link', 'front_optical'] = (1.001, 0.0, 1.4), turn
    assert mounts.at(now) is mount  # it trembles: no new tables for that
    Tf2.Buffer.known['base_link', 'front_optical'] = (1.1, 0.0, 1.4), turn
    assert mounts.at(now) is not mount
    with pytest.raises(ConfigError, match='at 0.000 s'):
        mounts.at(Header(0, 50, 'front_optical'))


def test_tf_that_is_not_installed_is_said():
    if importlib.util.find_spec('tf2_ros'):
        pytest.skip('tf2_ros is installed here')
    with pytest.raises(ConfigError, match='tf2_ros is not installed.*mount_from_tf to false'):
        MountFromTf(None, 'base_link')
