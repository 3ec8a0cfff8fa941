"""The synthetic drive: exact labels through the lens, the same frames for the same seed."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from seg_node.errors import ConfigError
from seg_node.ground.calibration import load_calibration
from street import camvid, drive as drive_module, order, SyntheticDrive
from street.canvas import Canvas
from street.foliage import Tree, tree_kind
from street.light import Light
from street.order import Outlines, paint_order
from street.person import parked_bicycle
from street.sensor import Sensor
from street.style import draw_style
from street.view import Pose, View

DURATION_S = 2.0
# A street with little parked at the kerbs, so that their edge can be seen.
SEED = 6
MOTORWAYS = (3, 5)


@pytest.fixture(scope='module')
def drive():
    """Return a drive at the camera's own size, without noise."""
    return SyntheticDrive(duration_s=DURATION_S, seed=SEED, sensor_noise=False)


@pytest.fixture(scope='module')
def small():
    """Return the same drive at a third of the size, with noise."""
    return SyntheticDrive(320, 180, duration_s=DURATION_S, seed=SEED)


@pytest.fixture(scope='module')
def frames(drive):
    """Return some of its frames by index."""
    return {index: drive.frame(index) for index in (0, 1, 9, 19)}


def optical_from_world(drive, frame):
    return drive.calibration.optical_from_base() @ np.linalg.inv(frame.body.pose())


def seen(drive, frame, points):
    """Return the optical-axes coordinates of world points (n, 3)."""
    transform = optical_from_world(drive, frame)
    return points @ transform[:3, :3].T + transform[:3, 3]


def boundary(labels, one, other):
    """Return the points (x, y) halfway between neighbours of which one is each class."""
    points = []
    for axis, shift in ((0, (0, 0.5)), (1, (0.5, 0))):
        a, b = (labels[1:], labels[:-1]) if axis == 0 else (labels[:, 1:], labels[:, :-1])
        y, x = np.nonzero(((a == one) & (b == other)) | ((a == other) & (b == one)))
        points.append(np.column_stack([x + shift[0], y + shift[1]]))
    return np.concatenate(points)


def test_frames_are_what_they_claim(drive, frames):
    assert len(drive) == 20 and drive.taxonomy == 'camvid11' and drive.rate_hz == 10.0
    for index, frame in frames.items():
        assert frame.index == index and frame.body.time_s == pytest.approx(index / 10)
        assert frame.image.shape == (540, 960, 3) and frame.image.dtype == np.uint8
        assert frame.labels.shape == (540, 960) and frame.labels.dtype == np.uint8
        turn = frame.body.pose()[:3, :3]
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)


def test_every_class_is_there_and_nothing_else(frames):
    ids = set(np.unique(np.stack([frame.labels for frame in frames.values()])).tolist())
    assert ids == set(range(camvid.COUNT))


def test_the_kerb_lies_where_the_lens_projects_it(drive, frames):
    """Known world points, projected with distortion, lie on the edge of Road within a pixel."""
    camera, distances, straight = drive.calibration, [], []
    ideal = replace(camera, D=np.zeros(5))
    for frame in frames.values():
        edge = boundary(frame.labels, camvid.ROAD, camvid.PAVEMENT)
        for side in (1, -1):
            points = drive.road_edge(side, np.arange(4.0, 60.0, 0.4))
            points = seen(drive, frame, points[~np.isnan(points[:, 0])])
            points = points[points[:, 2] > 1]
            pixels = camera.project(points)
            for (x, y), other in zip(pixels, ideal.project(points), strict=True):
                if not (9 < x < 950 and 9 < y < 530):
                    continue
                around = frame.labels[int(y) - 6:int(y) + 7, int(x) - 6:int(x) + 7]
                # Something that stands in front hides the kerb.
                if np.isin(around, (camvid.ROAD, camvid.PAVEMENT)).all():
                    distances.append(np.hypot(*(edge - (x, y)).T).min())
                    straight.append(np.hypot(*(edge - other).T).min())
    assert len(distances) > 40
    assert max(distances) < 1.0
    assert np.median(distances) < 0.5
    # Without the distortion the same points miss, so this test can tell.
    assert np.max(straight) > 3


def test_sky_ends_and_ground_begins_at_the_horizon(drive, frames):
    y, x = np.mgrid[0:540, 0:960]
    rays = drive.calibration.normalize(np.stack([x, y], axis=-1).reshape(-1, 2))
    rays = np.column_stack([rays, np.ones(len(rays))])
    for frame in frames.values():
        up = (rays @ optical_from_world(drive, frame)[:3, :3])[:, 2].reshape(540, 960)
        assert up[np.isin(frame.labels, (camvid.ROAD, camvid.PAVEMENT))].max() < 0
        assert up[frame.labels == camvid.SKY].min() > -0.004


@pytest.mark.parametrize('pair', [(camvid.SKY, camvid.BUILDING), (camvid.ROAD, camvid.CAR)])
def test_edges_of_image_and_labels_coincide(frames, pair):
    """Along a class boundary the image changes most exactly there, not some pixels beside it."""
    strength = np.zeros(9)
    for frame in frames.values():
        grey = cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY).astype(float)
        step = np.abs(np.diff(grey, axis=0))
        a, b = frame.labels[:-1], frame.labels[1:]
        y, x = np.nonzero((np.minimum(a, b) == min(pair)) & (np.maximum(a, b) == max(pair)))
        inside = (y > 8) & (y < 530)
        for offset in range(-4, 5):
            strength[offset + 4] += step[y[inside] + offset, x[inside]].sum()
    assert strength.argmax() == 4
    assert strength[4] > 2.5 * strength[[0, 1, 7, 8]].mean()


def test_the_road_stays_where_it_is_while_the_car_moves(drive, frames):
    """Road pixels of a frame, carried over by the poses, are the same road in the next one."""
    first, second = frames[0], frames[1]
    y, x = np.nonzero(first.labels == camvid.ROAD)
    near = y > 380
    pixels = np.column_stack([x, y])[near]
    rays = np.column_stack([drive.calibration.normalize(pixels), np.ones(near.sum())])
    world_from_optical = np.linalg.inv(optical_from_world(drive, first))
    rays, eye = rays @ world_from_optical[:3, :3].T, world_from_optical[:3, 3]
    ground = eye + rays * (-eye[2] / rays[:, 2:])
    moved = drive.calibration.project(seen(drive, second, ground)).astype(np.float32)
    inside = ((moved > 0) & (moved < (959, 539))).all(axis=1)
    u, v = np.rint(moved[inside]).astype(int).T
    assert (second.labels[v, u] == camvid.ROAD).mean() > 0.97
    before = first.image[pixels[inside, 1], pixels[inside, 0]].mean(axis=1)
    after = second.image[v, u].mean(axis=1)
    unmoved = second.image[pixels[inside, 1], pixels[inside, 0]].mean(axis=1)
    assert np.corrcoef(before, after)[0, 1] > 0.6
    assert np.corrcoef(before, after)[0, 1] > np.corrcoef(before, unmoved)[0, 1] + 0.1


def test_base_link_drives_along_its_x_axis(drive):
    for index in range(0, 19, 6):
        pose, after = (drive.body(index / 10 + more).pose() for more in (0, 0.02))
        velocity = (after[:3, 3] - pose[:3, 3]) / 0.02
        assert 3 < np.linalg.norm(velocity) < 15
        assert velocity[:2] @ pose[:2, 0] / np.linalg.norm(velocity[:2]) > 0.999
        assert abs(pose[2, 3]) < 0.05 and pose[2, 2] > 0.999


def test_size_does_not_change_what_is_seen(drive, small, frames):
    """The middle of every third pixel is a pixel's middle at a third of the size."""
    for index in (0, 19):
        one, other = frames[index].labels[1::3, 1::3], small.frame(index).labels
        assert (one == other).mean() > 0.98
    noisy, clean = small.frame(0).image, cv2.resize(frames[0].image, (320, 180),
                                                    interpolation=cv2.INTER_AREA)
    assert np.abs(noisy.astype(float) - clean).mean() < 12


def outlines(*boxes):
    """Return things on the ground from (x0, y0, x1, y1, height, solid) each."""
    corners = [[(x0, y0), (x1, y0), (x1, y1), (x0, y1)] for x0, y0, x1, y1, _, _ in boxes]
    height, solid = np.array([box[4:] for box in boxes], float).T
    return Outlines(np.array(corners, float), np.zeros(len(boxes)), height, solid)


def test_what_hides_something_is_drawn_after_it():
    eye, ahead = np.array([0.0, 0.0, 1.4]), np.array([1.0, 0.0])
    # A long wall beside the street reaches nearer than the post that stands in front of it.
    wall, post, far = (2, 3, 30, 4, 2, 0), (20, 2.5, 20.2, 2.7, 6, 0), (40, -5, 50, 5, 9, 0)
    assert paint_order(outlines(wall, post, far), eye, ahead) == [2, 0, 1]
    assert paint_order(outlines(post, far, wall), eye, ahead) == [1, 2, 0]
    # Party walls touch; seen from the left, the nearer house is the right one's cover.
    near, behind = (10, 2, 20, 9, 8, 0), (20, 2, 30, 9, 8, 0)
    assert paint_order(outlines(near, behind), eye, ahead) == [1, 0]


def test_only_what_is_wholly_hidden_is_left_out():
    eye, ahead = np.array([0.0, 0.0, 1.4]), np.array([1.0, 0.0])
    house = (20, -10, 30, 10, 9, 6)
    low, tall, aside = (40, -5, 45, 5, 6, 0), (40, -5, 45, 5, 14, 0), (40, 15, 45, 25, 6, 0)
    assert paint_order(outlines(house, low), eye, ahead) == [0]
    assert paint_order(outlines(house, tall), eye, ahead) == [1, 0]
    assert paint_order(outlines(house, aside), eye, ahead) == [1, 0]
    see_through = (20, -10, 30, 10, 9, 0)
    assert paint_order(outlines(see_through, low), eye, ahead) == [1, 0]


def test_leaving_out_what_is_hidden_changes_nothing(drive, frames, monkeypatch):
    monkeypatch.setattr(order, '_hidden', lambda things, *_: np.zeros(len(things.height), bool))
    for index in (9, 19):
        whole = drive.frame(index)
        assert (whole.labels != frames[index].labels).mean() < 1e-4
        assert (whole.image != frames[index].image).any(axis=2).mean() < 2e-4


def test_noise_is_in_the_image_only_when_wanted():
    style = draw_style(np.random.default_rng(0))
    grey = np.full((90, 160, 3), 120, np.uint8)
    clean = Sensor(np.random.default_rng(1), style, 160, 90, noise=False).expose(grey, 1.0, 3)
    sensor = Sensor(np.random.default_rng(1), style, 160, 90)
    difference = sensor.expose(grey, 1.0, 3).astype(float) - clean
    assert 0.4 * style.noise < difference.std() < 2 * style.noise
    assert abs(difference.mean()) < 0.3
    # Each frame has its own noise, and always the same.
    assert (sensor.expose(grey, 1.0, 4) != sensor.expose(grey, 1.0, 3)).any()
    np.testing.assert_array_equal(sensor.expose(grey, 1.0, 3), sensor.expose(grey, 1.0, 3))
    # The corners are darker, and more light makes a brighter photograph.
    assert clean[45, 80].mean() - clean[0, 0].mean() > 10
    brighter = Sensor(np.random.default_rng(1), style, 160, 90, noise=False).expose(grey, 1.2, 3)
    assert (brighter > clean).all()


def test_a_fisheye_camera_keeps_the_labels_exact():
    demo = load_calibration('demo_camera')
    fisheye = replace(demo, distortion_model='equidistant',
                      D=np.array([-0.02, 0.004, -0.001, 0.0])).scaled(480, 270)
    drive = SyntheticDrive(480, 270, duration_s=DURATION_S, seed=SEED, calibration=fisheye)
    frame = drive.frame(9)
    edge = boundary(frame.labels, camvid.ROAD, camvid.PAVEMENT)
    points = np.concatenate([drive.road_edge(side, np.arange(9.0, 50, 0.3)) for side in (1, -1)])
    points = seen(drive, frame, points[~np.isnan(points[:, 0])])
    points = points[points[:, 2] > 1]
    pixels = drive.calibration.project(points)
    distances = [np.hypot(*(edge - pixel).T).min() for pixel in pixels
                 if 9 < pixel[0] < 470 and 9 < pixel[1] < 260 and np.isin(
                     frame.labels[int(pixel[1]) - 4:int(pixel[1]) + 5,
                                  int(pixel[0]) - 4:int(pixel[0]) + 5],
                     (camvid.ROAD, camvid.PAVEMENT)).all()]
    assert len(distances) > 10 and max(distances) < 1.0


def test_the_same_seed_gives_the_same_frames_in_any_order(small):
    # Drives share a street while one lives; here it has to be made anew.
    drive_module._streets.clear()
    again = SyntheticDrive(320, 180, duration_s=DURATION_S, seed=SEED)
    assert again._scene is not small._scene
    for index in (7, 0, 19):
        one, other = small.frame(index), again.frame(index)
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.body == other.body


def test_another_seed_gives_another_street(small):
    other = SyntheticDrive(320, 180, duration_s=DURATION_S, seed=SEED + 1).frame(0)
    assert (other.labels != small.frame(0).labels).mean() > 0.1


@pytest.fixture(scope='module')
def motorway():
    """Return drives on two motorways: one with walls along both edges, one with hills."""
    return [SyntheticDrive(480, 270, 2.0, DURATION_S, seed, district='motorway',
                           sensor_noise=False) for seed in MOTORWAYS]


def test_a_motorway_has_walls_rails_and_vehicles_but_nobody_on_foot(motorway):
    ids = set(np.unique(np.stack([frame.labels for drive in motorway for frame in drive])))
    assert ids >= {camvid.SKY, camvid.BUILDING, camvid.ROAD, camvid.TREE, camvid.FENCE,
                   camvid.CAR, camvid.SIGN}
    assert not ids & {camvid.PEDESTRIAN, camvid.BICYCLIST}


def test_a_concrete_wall_stands_at_the_edge_of_the_motorway(motorway):
    """Its foot, projected, parts Road from Building: no kerb and no gap between them."""
    drive, distances = motorway[0], []
    for frame in drive:
        edge = boundary(frame.labels, camvid.ROAD, camvid.BUILDING)
        for side in (1, -1):
            foot = drive.road_edge(side, np.arange(5.0, 120.0, 0.5))
            inward = drive.road_edge(side, np.arange(5.0, 120.0, 0.5) + 0.01) - foot
            foot[:, :2] += 0.1 * side * np.column_stack([inward[:, 1], -inward[:, 0]]) / 0.01
            points = seen(drive, frame, foot)
            for x, y in drive.calibration.project(points[points[:, 2] > 1]):
                if not (9 < x < 470 and 9 < y < 260):
                    continue
                around = frame.labels[int(y) - 3:int(y) + 4, int(x) - 3:int(x) + 4]
                if set(np.unique(around)) == {camvid.ROAD, camvid.BUILDING}:
                    distances.append(np.hypot(*(edge - (x, y)).T).min())
    assert len(distances) > 40
    assert max(distances) < 1.1 and np.median(distances) < 0.5


def test_hills_are_labelled_and_not_only_painted(motorway):
    """Labels above the horizon hold nothing in between Sky and Tree, which they are mixed from."""
    style = motorway[1]._scene.style
    assert style.hills_deg > 1
    hills = motorway[1]._scene._sky._panorama[..., 3]
    assert set(np.unique(hills)) == {camvid.SKY, camvid.TREE}
    canvas = Canvas(View(motorway[1].calibration, 1.0),
                    motorway[1]._camera(motorway[1].body(0.0).pose()), style.light)
    motorway[1]._scene._sky.draw(canvas, 150)
    assert set(np.unique(canvas.pixels[:150, :, 3])) == {camvid.SKY, camvid.TREE}


def test_the_road_is_as_rough_at_the_end_of_a_long_drive():
    drive = SyntheticDrive(480, 270, 1.0, 40.0, SEED, sensor_noise=False)
    ratios = []
    for index in (0, 39):
        frame = drive.frame(index)
        grey = cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY).astype(float)[229:265]
        road = (frame.labels[229:265] == camvid.ROAD)[:-1, :-1]
        down, across = np.diff(grey, axis=0)[:, :-1][road], np.diff(grey, axis=1)[:-1][road]
        ratios.append(np.median(np.abs(down)) / np.median(np.abs(across)))
    assert ratios[1] == pytest.approx(ratios[0], rel=0.2)


@pytest.mark.parametrize('arguments, message', [
    ({'width': 10}, 'width 10 .*64 to 4096'),
    ({'height': 9999}, 'height 9999'),
    ({'rate_hz': 0.0}, 'rate_hz 0.0'),
    ({'duration_s': -1.0}, 'duration_s -1.0'),
    ({'seed': -1}, 'seed -1'),
    ({'district': 'village'}, "district 'village' .*residential.*motorway"),
])
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        SyntheticDrive(**arguments)


def test_cameras_that_cannot_be_rendered_are_refused():
    demo = load_calibration('demo_camera')
    with pytest.raises(ConfigError, match='mount'):
        SyntheticDrive(calibration=replace(demo, mount=None))
    wide = replace(demo, distortion_model='equidistant', D=np.zeros(4),
                   K=np.diag([250.0, 250.0, 1.0]) + [[0, 0, 480], [0, 0, 270], [0, 0, 0]])
    with pytest.raises(ConfigError, match='sees more than'):
        SyntheticDrive(calibration=wide)


def test_frames_that_do_not_exist_are_refused(small):
    for index in (-1, len(small)):
        with pytest.raises(IndexError, match='frames 0 to 19'):
            small.frame(index)


@pytest.fixture
def canvas():
    """Return an empty canvas, all Building, that looks along the world's x axis from 1 m up."""
    ahead = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
    light = Light(np.array([0.0, 0.0, 1.0]), np.ones(3), np.ones(3), np.full(3, 200.0), 0.0)
    canvas = Canvas(View(load_calibration('demo_camera'), 1.0),
                    Pose(ahead, np.array([0.0, 0.0, 1.0])), light)
    canvas.pixels[:] = (9, 9, 9, camvid.BUILDING)
    return canvas


def holes(mask):
    """Return how many pixels outside a mask are enclosed by it."""
    around = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(around, None, (0, 0), 2)
    return int((around == 0).sum())


def test_a_bicycle_is_labelled_without_holes_and_seen_with_them(canvas):
    mesh = parked_bicycle(np.random.default_rng(0)).placed(np.pi / 2, np.array([6.0, 0.0, 0.0]))
    canvas.fill(canvas.prepare([(mesh, 1.0)])[0])
    labelled = canvas.pixels[..., 3] == camvid.BICYCLIST
    drawn = (canvas.pixels[..., :3] != 9).any(axis=2)
    assert not (drawn & ~labelled).any() and holes(drawn) > 1500
    assert (labelled & ~drawn).sum() > 1500  # the wheels' and the frame's insides
    wheel = canvas.view.project(canvas.pose.to_camera(np.array([[6.0, 0.52, 0.34]])))[0]
    column, row = np.rint(wheel).astype(int)
    assert labelled[row, column] and tuple(canvas.pixels[row + 8, column + 8, :3]) == (9, 9, 9)


def test_a_hole_outside_the_canvas_or_at_its_edge_is_cut(canvas):
    for y in (-60.0, 3.4, 60.0):
        mesh = parked_bicycle(np.random.default_rng(0)).placed(np.pi / 2, np.array([6.0, y, 0]))
        canvas.fill(canvas.prepare([(mesh, 1.0)])[0])
    assert (canvas.pixels[..., 3] == camvid.BICYCLIST).any()
    assert not (canvas.pixels[:, :canvas.view.size[1] // 4 * 3, 3][:, 700:] == 10).any()


@pytest.mark.parametrize('kind', range(6))
def test_a_tree_is_labelled_without_the_sky_between_its_leaves(canvas, kind):
    Tree(tree_kind(kind), np.array([14.0, 0.0, 0.0]), 6.0, 1.0).paint(canvas)
    labelled = canvas.pixels[..., 3] == camvid.TREE
    drawn = (canvas.pixels[..., :3] != 9).any(axis=2)
    assert holes(labelled) < 0.4 * holes(drawn)  # wide ones stay
    assert not (drawn & ~labelled).any()
    # No more than the gaps: the outline stays where the leaves are.
    reach = cv2.dilate(drawn.astype(np.uint8), np.ones((27, 27)))
    assert not (labelled & (reach == 0)).any()
    assert labelled.sum() < 1.35 * drawn.sum()
