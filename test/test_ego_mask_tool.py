"""The vehicle found in a recording: what stays while the street goes by."""

import cv2
import numpy as np
import pytest

from seg_node.errors import ConfigError
from seg_node.image.wire import build_image, Header
from seg_node.playback.bag_writer import BagWriter
from seg_node.playback.ego_proposal import MIN_FRAMES, Stillness
from seg_node.playback.sources import IMAGE
from seg_node.tools import ego_mask

SIZE = 270, 480
HORIZON = 130


@pytest.fixture(scope='module')
def street():
    """Return frames of a textured plane that is driven over, with lines along it and a sky."""
    rng = np.random.default_rng(0)
    plane = cv2.GaussianBlur(rng.normal(110, 60, (4000, 400)).astype(np.float32), (0, 0), 2)
    plane[:, 150:156] = 220  # a solid line stays where it is, too
    plane[:, 250:256] = np.where(np.arange(4000) % 300 < 150, 220, 110)[:, None]
    sky = np.linspace(230, 200, HORIZON)[:, None].repeat(SIZE[1], axis=1)
    rows, columns = np.mgrid[HORIZON + 1:SIZE[0], :SIZE[1]].astype(np.float32)
    depth = 9000 / (rows - HORIZON)
    frames = []
    for step in range(30):
        ground = cv2.remap(plane, 200 + (columns - 240) * depth / 260,
                           (4000 - depth - 90 * step) % 3999, cv2.INTER_LINEAR,
                           borderMode=cv2.BORDER_REFLECT)
        grey = np.vstack([sky, np.full((1, SIZE[1]), 120), ground])
        grey += rng.normal(0, 1.5, SIZE)
        frames.append(np.clip(grey, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2))
    return frames


def bonnet(left=0.0, right=1.0):
    """Return the outline of a bonnet, bool."""
    x = (np.arange(SIZE[1]) + 0.5) / SIZE[1]
    top = 222 + 80 * (x - 0.45) ** 2
    held = (x >= left) & (x < right)
    return (np.arange(SIZE[0])[:, None] > top) & held


def painted(frames, where, colour=(90, 40, 30), mirrored=0.15):
    """Return frames with a body painted over them that mirrors some of the street."""
    body = np.array(colour) * (1 - mirrored)
    return [np.where(where[..., None], (body + mirrored * frame[::-1]), frame).astype(np.uint8)
            for frame in frames]


def propose(frames):
    stillness = Stillness()
    for frame in frames:
        stillness.add(frame)
    return stillness.propose()


def iou(mask, truth):
    return (mask & truth).sum() / (mask | truth).sum()


@pytest.mark.parametrize('colour, mirrored', [
    ((90, 40, 30), 0.15), ((210, 210, 205), 0.1), ((20, 20, 20), 0.35), ((40, 30, 190), 0.1)])
def test_a_bonnet_is_found(street, colour, mirrored):
    where = bonnet()
    found = propose(painted(street, where, colour, mirrored))
    assert found is not None and found.span > 0.95 and found.clarity > 0.4
    assert iou(found.mask > 0, where) > 0.95
    assert set(np.unique(found.mask)) == {0, 255} and found.mask.shape == SIZE


def test_a_part_of_one_is_found_where_it_is(street):
    where = bonnet(right=0.6)
    found = propose(painted(street, where))
    assert found is not None and 0.5 < found.span < 0.7
    assert iou(found.mask > 0, where) > 0.9


def test_the_street_alone_is_no_vehicle(street):
    """Also not its solid line, which stays where it is, nor its far end."""
    assert propose(street) is None


def test_a_wire_in_the_windscreen_is_no_vehicle(street):
    frames = [frame.copy() for frame in street]
    for frame in frames:
        frame[230, 20:460] -= 20
    assert propose(frames) is None


def test_a_car_that_stands_proves_nothing(street):
    rng = np.random.default_rng(1)
    noisy = [np.clip(street[0] + rng.normal(0, 2, street[0].shape), 0, 255).astype(np.uint8)
             for _ in range(40)]
    with pytest.raises(ConfigError, match='1 frames in which the picture moves; at least 10'):
        propose(noisy)
    with pytest.raises(ConfigError, match=f'^{MIN_FRAMES - 1} frames'):
        propose(street[:MIN_FRAMES - 1])


def test_standing_at_a_light_changes_nothing(street):
    """Half a minute of standing must not outweigh the drive."""
    frames = painted(street, bonnet())
    found = propose([*frames[:15], *[frames[15]] * 200, *frames[15:]])
    np.testing.assert_array_equal(found.mask, propose(frames).mask)


def test_one_camera_has_one_size(street):
    with pytest.raises(ConfigError, match='480x270 and 240x270'):
        propose([street[0], street[1][:, ::2]])


@pytest.fixture(scope='module')
def recording(street, tmp_path_factory):
    folder = tmp_path_factory.mktemp('drive')
    for index, frame in enumerate(painted(street, bonnet())):
        cv2.imwrite(str(folder / f'{index}.png'), cv2.resize(frame, (960, 540)))
    return folder


def test_the_tool_writes_mask_and_picture(recording, tmp_path, capsys):
    out = tmp_path / 'front.png'
    assert ego_mask.main([str(recording), '--out', str(out)]) == 0
    mask = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    truth = cv2.resize(bonnet().astype(np.uint8), (960, 540)) > 0
    assert iou(mask > 0, truth) > 0.95
    view = cv2.imread(str(tmp_path / 'front_view.jpg'))[-540:]
    frame = cv2.imread(str(recording / '15.png')).astype(int)
    changed = np.abs(view - frame).max(axis=2) > 25  # JPEG
    assert changed[500:].all() and not changed[100:400].any()
    assert f'ego_mask to {out}' in capsys.readouterr().out
    assert ego_mask.main([str(recording), '--out', str(out), '--show', str(out),
                          '--view', str(tmp_path / 'again.png')]) == 0
    assert (tmp_path / 'again.png').exists()


def test_nothing_found_writes_nothing(street, tmp_path, capsys):
    for index, frame in enumerate(street):
        cv2.imwrite(str(tmp_path / f'{index}.png'), frame)
    out = tmp_path / 'mask' / 'front.png'
    out.parent.mkdir()
    assert ego_mask.main([str(tmp_path), '--out', str(out)]) == 1
    assert 'no mask was written' in capsys.readouterr().out
    assert not list(out.parent.iterdir())


def test_of_two_cameras_one_must_be_chosen(street, tmp_path, capsys):
    bag = tmp_path / 'bag'
    with BagWriter(bag) as writer:
        for topic in ('/front/image_raw', '/rear/image_raw'):
            writer.add_topic(topic, IMAGE)
        for index, frame in enumerate(painted(street, bonnet())):
            header = Header(index, 0, 'cam')
            for topic, image in (('/front/image_raw', frame), ('/rear/image_raw', street[index])):
                writer.write(topic, index * 10 ** 9, build_image(header, *SIZE, 'bgr8', image))
    out = ['--out', str(tmp_path / 'mask.png')]
    assert ego_mask.main([str(bag), *out]) == 2
    assert '/front/image_raw, /rear/image_raw' in capsys.readouterr().err
    assert ego_mask.main([str(bag), *out, '--topic', '/side']) == 2
    assert 'no such image topic' in capsys.readouterr().err
    assert ego_mask.main([str(bag), *out, '--topic', '/rear/image_raw']) == 1
    assert ego_mask.main([str(bag), *out, '--topic', '/front/image_raw']) == 0


@pytest.mark.parametrize('out, message', [
    ('mask.jpg', 'allowed is .png'), ('nowhere/mask.png', 'there is no folder')])
def test_outputs_are_checked_first(recording, tmp_path, capsys, out, message):
    assert ego_mask.main([str(recording), '--out', str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err


def test_a_recording_that_cannot_be_decoded_says_why(tmp_path, capsys):
    bag = tmp_path / 'bag'
    with BagWriter(bag) as writer:
        writer.add_topic('/cam', IMAGE)
        image = build_image(Header(0, 0, ''), 4, 4, '8UC7', np.zeros(112, np.uint8), step=28)
        writer.write('/cam', 0, image)
    assert ego_mask.main([str(bag), '--out', str(tmp_path / 'mask.png')]) == 2
    error = capsys.readouterr().err
    assert '0 frames' in error and '8UC7' in error
