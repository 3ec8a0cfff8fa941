"""Calibration from photos: a camera that is known is found again; a bad set is refused."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from seg_node.errors import ConfigError
from seg_node.ground.calibration import load_calibration
from seg_node.ground.chessboard import Board, calibrate, Photos
from seg_node.tools import calibrate as tool, check_mount

CAMERA = load_calibration('demo_camera').scaled(640, 360)
BOARD = Board(9, 6, square_m=0.03)


@cache
def rays_of_pixels():
    grid = np.stack(np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height)), axis=-1)
    rays = CAMERA.normalize(grid.reshape(-1, 2).astype(float))
    return np.column_stack([rays, np.ones(len(rays))])


def photo(turn, place):
    """Return what the camera sees of the board, turned (radians) and at a place (metres)."""
    side = 24  # pixels of a square in the board's own picture
    rows, columns = BOARD.rows + 1, BOARD.columns + 1
    flat = np.full(((rows + 2) * side, (columns + 2) * side), 255, np.uint8)
    y, x = np.mgrid[:rows * side, :columns * side] // side
    flat[side:-side, side:-side] = np.where((x + y) % 2, 255, 20)
    rays = rays_of_pixels()
    rotation = cv2.Rodrigues(np.array(turn, float))[0]
    # Where each pixel's ray meets the board's plane, in the board's own metres.
    normal, origin = rotation[:, 2], np.array(place, float)
    points = rays * ((normal @ origin) / (rays @ normal))[:, None]
    local = (points - origin) @ rotation
    at = (local[:, :2] / BOARD.square_m + 2) * side - 0.5
    at = at.astype(np.float32).reshape(CAMERA.height, CAMERA.width, 2)
    grey = cv2.remap(flat, at[..., 0], at[..., 1], cv2.INTER_AREA, borderValue=130)
    return cv2.cvtColor(cv2.GaussianBlur(grey, (3, 3), 0.6), cv2.COLOR_GRAY2BGR)


@pytest.fixture(scope='module')
def shots():
    rng = np.random.default_rng(3)
    found = []
    for column in (-1, 0, 1):
        for row in (-1, 0, 1):
            for depth in (0.46, 0.62):
                place = np.array([column * 0.3 * depth, row * 0.15 * depth, depth])
                turn = rng.uniform(-0.55, 0.55, 3) * (1, 1, 0.4)
                corner = cv2.Rodrigues(turn)[0] @ (-0.12, -0.075, 0)
                found.append(photo(turn, place + corner))
    return found


def looked_at(images):
    photos = Photos(BOARD)
    for index, image in enumerate(images):
        photos.add(f'{index}.png', image)
    return photos


def test_a_known_camera_is_found_again(shots):
    photos = looked_at(shots)
    result = calibrate(photos)
    assert len(photos.views) >= 14 and result.rms_px < 0.3 and result.covered > 0.6
    np.testing.assert_allclose(result.calibration.K[[0, 1], [0, 1]], CAMERA.K[[0, 1], [0, 1]],
                               rtol=0.01)
    assert np.abs(result.calibration.K[:2, 2] - CAMERA.K[:2, 2]).max() < 4
    grid = np.stack(np.meshgrid(np.linspace(20, 620, 9), np.linspace(20, 340, 7)),
                    axis=-1).reshape(-1, 2)
    truth, found = CAMERA.normalize(grid), result.calibration.normalize(grid)
    assert np.abs(truth - found).max() < 0.01


def test_what_is_left_out_is_named_with_the_reason(shots):
    photos = looked_at([*shots, np.zeros((360, 640, 3), np.uint8), shots[0][:180]])
    assert ('18.png', 'no board was found') in [
        (name, reason.partition(':')[0]) for name, reason in photos.rejected]
    assert any(name == '19.png' and '640x180' in reason for name, reason in photos.rejected)
    small = looked_at([shots[0][:40, :50], shots[0][:1, :1]])
    assert all('too small to find' in reason for _, reason in small.rejected)


def test_a_photo_of_another_board_is_left_out(shots):
    photos = looked_at(shots)
    photos.views[2].corners[:] += np.random.default_rng(0).normal(
        0, 6, photos.views[2].corners.shape).astype(np.float32)
    name = photos.views[2].name
    calibrate(photos)
    assert any(left == name and 'px off' in reason for left, reason in photos.rejected)


def test_too_few_photos(shots):
    with pytest.raises(ConfigError, match='found in 4 photos; 8 or more'):
        calibrate(looked_at(shots[:4]))


def test_boards_that_are_never_tilted_do_not_tell_the_focal_length():
    images = [photo((0.001 * n, 0, 0), (-0.12 + 0.02 * n, -0.075, 0.5)) for n in range(9)]
    with pytest.raises(ConfigError, match='focal length|cover'):
        calibrate(looked_at(images))


def test_of_a_recording_a_damaged_message_is_left_out_with_the_reason(tmp_path):
    pytest.importorskip('rosbags', reason='needs rosbags')
    from recordings import IMAGE, records, write_bag
    images = [one for one in records(3) if one.topic == IMAGE]
    images[1] = replace(images[1], data=images[1].data[:40])
    photos = tool.photos_of(write_bag(tmp_path / 'bag', images), Board(9, 6), 60)
    reasons = dict(photos.rejected)
    assert list(reasons) == [f'{IMAGE} {index}' for index in range(3)]
    assert len(set(reasons.values())) == 2 and 'board' not in reasons[f'{IMAGE} 1']


def test_the_tool_writes_what_the_node_reads(shots, tmp_path, capsys):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for index, image in enumerate(shots):
        cv2.imwrite(str(folder / f'{index}.png'), image)
    (folder / 'broken.png').write_bytes(b'\x89PNG\r\n\x1a\nnothing')
    out = tmp_path / 'front.yaml'
    assert tool.main([str(folder), '--out', str(out), '--name', 'front']) == 0
    said = capsys.readouterr().out
    assert 'photos used, RMS' in said and 'broken.png: left out' in said
    camera = load_calibration(out)
    assert camera.name == 'front' and camera.K[0, 0] == pytest.approx(CAMERA.K[0, 0], rel=0.01)
    assert cv2.imread(str(out.with_suffix('.png'))).shape[1] == 640


@pytest.mark.parametrize('arguments, told', [
    (['nowhere'], 'does not exist'), (['.', '--board', '9'], '--board'),
    (['.', '--square', '0'], 'a square of 0.0 m'), (['.', '--square', 'nan'], 'a square of nan m'),
    (['.', '--marker', '0.05'], 'cannot be in a square of 0.03 m'),
    (['.', '--marker', '-1'], 'a marker of -1.0 m'),
])
def test_the_tool_refuses(arguments, told, capsys):
    assert tool.main(arguments) == 1
    assert told in capsys.readouterr().err


def test_real_photos(data_dir, tmp_path, capsys):
    folder = data_dir / 'data' / 'calibration' / 'udacity'
    if not folder.is_dir():
        pytest.skip('SEG_NODE_DATA has no data/calibration/udacity')
    out = tmp_path / 'udacity.yaml'
    assert tool.main([str(folder), '--out', str(out)]) == 0
    camera = load_calibration(out)
    assert '17 of 20 photos used' in capsys.readouterr().out
    assert camera.K[0, 0] == pytest.approx(1156, rel=0.01)


def test_the_mount_is_drawn_where_it_is(tmp_path, capsys):
    camera = load_calibration('demo_camera')
    frame = np.zeros((540, 960, 3), np.uint8)
    path = tmp_path / 'frame.png'
    cv2.imwrite(str(path), frame)
    out = tmp_path / 'mount.png'
    assert check_mount.main([str(path), '--calibration', 'demo_camera', '--out', str(out)]) == 0
    top = cv2.imread(str(out))
    shift = top.shape[0] - 0  # the caption stands above the frame
    assert shift > 540
    drawn = check_mount.draw(frame, camera, camera.mount, 'text')
    height = drawn.shape[0] - 540
    # The point 10 m ahead of the base frame, on the vehicle's own axis.
    optical = camera.optical_from_base() @ [10.0, 0.0, 0.0, 1.0]
    x, y = np.rint(camera.project(optical[None, :3])[0]).astype(int)
    assert drawn[height + y - 1:height + y + 2, x - 1:x + 2].max() > 150
    nose_up = replace(camera.mount, rotation_rpy=camera.mount.rotation_rpy - [0, 0.1, 0])
    other = check_mount.draw(frame, camera, nose_up, 'text')
    assert other[height + y - 1:height + y + 2, x + 30:x + 33].max() < 150


@pytest.mark.parametrize('size, calibration, told', [
    ((270, 480), 'demo_camera', '480x270, the calibration is for 960x540'),
    ((540, 960), 'nobody', 'not known'),
])
def test_check_mount_refuses(tmp_path, capsys, size, calibration, told):
    path = tmp_path / 'frame.png'
    cv2.imwrite(str(path), np.zeros((*size, 3), np.uint8))
    assert check_mount.main([str(path), '--calibration', calibration,
                             '--out', str(tmp_path / 'mount.png')]) == 1
    assert told in capsys.readouterr().err
