"""Free space in metres, against a world whose ground is known exactly."""

from dataclasses import replace

import numpy as np
import pytest

from seg_node.errors import ConfigError
from seg_node.geometry import Size
from seg_node.ground.calibration import load_calibration
from seg_node.ground.cloud import GroundCloud
from seg_node.ground.free_space import FREE, FreeSpace, GridSpec, OCCUPIED, UNKNOWN
from seg_node.ground.rays import make_rays
from seg_node.model.taxonomy import load_taxonomy

CAMERA = load_calibration('demo_camera')
CLASSES = load_taxonomy('camvid11')
SKY, ROAD, PAVEMENT, CAR = 0, 3, 4, 8
SIZE = Size(270, 480)
GRID = GridSpec(cell_m=0.1, ahead_m=20.0, aside_m=6.0)
FOOT = CAMERA.mount.translation[:2]


def on_road(x, y):
    """A bend of 60 m radius to the left, 6 m wide: whether a point lies on it."""
    return np.abs(np.hypot(x, y - 60.0) - 60.0) < 3.0


def tilted(degrees, axis=1):
    """Return the mount with another roll, pitch or yaw."""
    turn = np.zeros(3)
    turn[axis] = np.radians(degrees)
    return replace(CAMERA.mount, rotation_rpy=CAMERA.mount.rotation_rpy + turn)


def world(mount=CAMERA.mount, size=SIZE, car_at=None, rectified=False):
    """
    Return the true labels as the camera sees them from a mount, by casting each pixel's ray.

    :param car_at: (x, y) of a wall, 2 m wide and 1.2 m high, that stands across the road.
    """
    view = CAMERA.scaled(size.width, size.height)
    pixels = np.stack(np.meshgrid(np.arange(size.width), np.arange(size.height)), axis=-1)
    cast = view.rectified_rays if rectified else view.normalize
    rays = cast(pixels.reshape(-1, 2).astype(float))
    directions = np.column_stack([rays, np.ones(len(rays))]) @ mount.optical_from_base()[:3, :3]
    origin = mount.translation
    with np.errstate(divide='ignore', invalid='ignore'):
        far = np.where(directions[:, 2] < 0, -origin[2] / directions[:, 2], np.inf)
        x, y = origin[0] + directions[:, 0] * far, origin[1] + directions[:, 1] * far
    labels = np.where(on_road(np.nan_to_num(x, posinf=1e9), np.nan_to_num(y, posinf=1e9)), ROAD,
                      PAVEMENT)
    labels[~np.isfinite(far)] = SKY
    if car_at is not None:
        depth = (car_at[0] - origin[0]) / directions[:, 0]
        aside, up = origin[1] + depth * directions[:, 1], origin[2] + depth * directions[:, 2]
        hit = (depth > 0) & (depth < far) & (abs(aside - car_at[1]) < 1) & (up > 0) & (up < 1.2)
        labels[hit] = CAR
    return labels.reshape(size).astype(np.uint8)


def space(mount=CAMERA.mount, size=SIZE, sigma_deg=0.0, rectified=False, range_m=20.0, **options):
    rays = make_rays(CAMERA, mount, size, rectified=rectified,
                     pitch_sigma_rad=np.radians(sigma_deg), max_range_m=range_m)
    return FreeSpace(rays, GRID, CLASSES.ground_lut(), **options)


def seen_by(maker, labels):
    return maker.see(labels, CLASSES.drivable_lut()[labels])


def cells():
    """Return x and y of the middle of each cell."""
    rows, columns = GRID.shape
    return np.meshgrid((np.arange(columns) + 0.5) * GRID.cell_m,
                       (np.arange(rows) + 0.5) * GRID.cell_m - GRID.aside_m)


def visible(mount=CAMERA.mount):
    """Return which cells lie in the camera's picture, by projecting them."""
    x, y = cells()
    points = np.stack([x.ravel(), y.ravel(), np.zeros(x.size), np.ones(x.size)])
    optical = (mount.optical_from_base() @ points)[:3].T
    ahead = (optical[:, 2] > 0.3) & (np.hypot(*optical[:, :2].T) / optical[:, 2] < 0.9)
    pixels = CAMERA.project(np.where(ahead[:, None], optical, [0, 0, 1.0]))
    inside = ((pixels > 2) & (pixels < (CAMERA.width - 3, CAMERA.height - 3))).all(axis=1)
    return (ahead & inside).reshape(x.shape) & (np.hypot(x - FOOT[0], y - FOOT[1]) < 19.5)


def test_the_grid_is_the_world():
    maker = space(mark_boundary=False)
    grid = maker.occupancy(seen_by(maker, world()))
    x, y = cells()
    known = visible()
    free = grid == FREE
    assert set(np.unique(grid)) == {FREE, UNKNOWN} and grid.dtype == np.int8
    assert not free[~known & (np.hypot(x - FOOT[0], y) > 20.1)].any()
    assert (free == on_road(x, y))[known].mean() > 0.985
    # What is wrong lies at the edge of the road.
    wrong = known & (free != on_road(x, y))
    edge = np.abs(np.abs(np.hypot(x, y - 60.0) - 60.0) - 3.0)
    assert edge[wrong].max() < 0.35


@pytest.mark.parametrize('degrees', [-1.0, 1.0])
def test_an_unknown_pitch_makes_no_false_freedom(degrees):
    """The car has pitched by a degree and nobody knows."""
    labels = world(tilted(degrees))
    careless, careful = space(mark_boundary=False), space(sigma_deg=1.0, mark_boundary=False)
    x, y = cells()
    false = [(maker.occupancy(seen_by(maker, labels)) == FREE) & ~on_road(x, y)
             for maker in (careless, careful)]
    free = careful.occupancy(seen_by(careful, labels)) == FREE
    assert false[1].sum() <= 0.001 * free.sum()
    truly = visible() & on_road(x, y) & (np.hypot(x - FOOT[0], y) < 15)
    assert (free & truly).sum() > 0.6 * truly.sum()
    if degrees == 1.0:  # the nose is down: all seems farther off, and so wider, than it is
        assert false[0].sum() > 0.02 * free.sum()


def test_an_obstacle_hides_what_lies_behind_it():
    maker = space()
    grid = maker.occupancy(seen_by(maker, world(car_at=(11.35, 0.5))))
    x, y = cells()
    behind = (np.abs(y - 0.5) < 0.8) & (x > 12.0) & (x < 17.0)
    assert (grid[behind] != FREE).all()
    front = (np.abs(y - 0.5) < 0.8) & (x > 6.0) & (x < 10.5)
    assert (grid[front] == FREE).all()
    face = (np.abs(y - 0.5) < 0.8) & (np.abs(x - 11.35) < 0.3)
    assert (grid[face] == OCCUPIED).sum() >= 14
    beyond = (np.abs(y - 0.5) < 0.8) & (x > 12.0)
    assert (grid[beyond] == UNKNOWN).all()


def test_ranges_are_those_to_the_edge_of_the_road():
    maker = space()
    seen = seen_by(maker, world(size=SIZE))
    ranges = np.linspace(0.5, 25, 4901)
    truth = []
    for bearing in maker.rays.bearings:
        x, y = FOOT[0] + ranges * np.cos(bearing), FOOT[1] + ranges * np.sin(bearing)
        off = np.flatnonzero(~on_road(x, y))
        truth.append(ranges[off[0]] if off.size else np.inf)
    truth = np.array(truth)
    near = (truth > 5) & (truth < 12) & np.isfinite(seen.boundary_m)
    error = np.abs(seen.boundary_m[near] - truth[near])
    assert near.sum() > 100 and np.median(error) < 0.1 and np.percentile(error, 95) < 0.3
    ahead = truth > 20.5
    assert ahead.sum() > 3 and np.isinf(seen.boundary_m[ahead]).all()


def test_unknown_pixels_are_neither_free_nor_a_boundary():
    labels = world()
    labels[-60:] = 255  # the bonnet
    maker = space(sigma_deg=0.5)
    seen = seen_by(maker, labels)
    full = seen_by(maker, world())
    assert 0 < seen.free.sum() < full.free.sum() and not (seen.free & ~full.free).any()
    middle = np.abs(maker.rays.bearings) < 0.05
    np.testing.assert_array_equal(seen.boundary_m[middle], full.boundary_m[middle])
    labels[:] = 255  # blind
    seen = seen_by(maker, labels)
    assert not seen.free.any() and np.isnan(seen.boundary_m).all()
    assert (maker.occupancy(seen) == UNKNOWN).all() and len(maker.outline(seen)) == 0


def test_a_hole_of_unknown_in_the_road_ends_what_is_told():
    labels = world()
    rays = space().rays
    at = np.searchsorted(-rays.depressions, -np.radians(10.0))
    row = rays.pixels[at, len(rays.bearings) // 2] // SIZE.width
    labels[row - 3:row + 4] = 255
    maker = space()
    seen = seen_by(maker, labels)
    middle = np.abs(rays.bearings) < 0.05
    assert np.isnan(seen.boundary_m[middle]).all()  # neither free to the limit nor a hit


def test_one_wrong_row_is_no_obstacle():
    labels = world()
    maker = space()
    rays = maker.rays
    at = rays.pixels[:rays.reach, len(rays.bearings) // 2]
    labels[at[len(at) // 2] // SIZE.width] = CAR
    assert np.isinf(seen_by(maker, labels).boundary_m[len(rays.bearings) // 2]) == np.isinf(
        seen_by(maker, world()).boundary_m[len(rays.bearings) // 2])


def test_only_what_connects_to_the_car():
    labels = world()
    labels[int(SIZE.height * 0.72):int(SIZE.height * 0.75)] = PAVEMENT  # a strip across
    alone = space(mark_boundary=False)
    joined = space(mark_boundary=False, connected=True)
    free = [maker.occupancy(seen_by(maker, labels)) == FREE for maker in (alone, joined)]
    x, _ = cells()
    assert free[0][x > 12].any() and not free[1][x > 12].any()
    near = x < 4.0
    np.testing.assert_array_equal(free[0][near], free[1][near])


def test_rectified_masks_tell_the_same():
    raw, straight = space(), space(rectified=True)
    one = raw.occupancy(seen_by(raw, world()))
    other = straight.occupancy(seen_by(straight, world(rectified=True)))
    both = visible()
    assert (one == other)[both].mean() > 0.97


def test_points_lie_on_the_ground_where_their_pixels_look():
    labels = world()
    cloud = GroundCloud(CAMERA, CAMERA.mount, SIZE, rectified=False,
                        ground_lut=CLASSES.ground_lut(), limit_m=20.0)
    points = cloud.points(labels)
    assert points.shape == (*SIZE, 3) and points.dtype == np.float32
    row, column = np.nonzero(np.isfinite(points[..., 0]))
    assert (labels[row, column] != SKY).all() and len(row) > 20000
    at = points[row, column].astype(float)
    assert (at[:, 2] == 0).all() and np.hypot(*(at[:, :2] - FOOT).T).max() < 20.01
    optical = (CAMERA.optical_from_base() @ np.column_stack([at, np.ones(len(at))]).T)[:3].T
    pixels = CAMERA.scaled(SIZE.width, SIZE.height).project(optical)
    assert np.abs(pixels - np.stack([column, row], axis=1)).max() < 0.05
    labels[100:, 200:300] = 255
    labels[200:, 300:400] = CAR
    spoilt = cloud.points(labels)
    assert np.isnan(spoilt[100:, 200:300]).all() and np.isnan(spoilt[200:, 300:400]).all()


@pytest.mark.parametrize('mount, told', [
    (replace(CAMERA.mount, translation=np.array([1.0, 0.0, 0.0])), 'above the ground'),
    (replace(CAMERA.mount, translation=np.array([1.0, 0.0, -1.4])), '-1.40 m'),
    (tilted(-60.0), 'above the horizon'),
])
def test_a_camera_that_sees_no_ground_is_refused(mount, told):
    with pytest.raises(ConfigError, match=told):
        space(mount)


def test_a_rolled_and_turned_camera_is_no_other_world():
    mount = replace(CAMERA.mount, rotation_rpy=np.array([0.1, 0.06, -0.2]))
    maker = space(mount, mark_boundary=False)
    grid = maker.occupancy(seen_by(maker, world(mount)))
    x, y = cells()
    known = visible(mount)
    assert ((grid == FREE) == on_road(x, y))[known].mean() > 0.985


def test_the_range_ends_where_pitch_and_pixels_make_it_worthless():
    assert space(range_m=200.0).rays.limit_m < 30.0  # a row of pixels covers 0.75 m there
    assert space(sigma_deg=3.0).rays.limit_m == pytest.approx(0.5 * 1.42 / np.radians(3.0))
    assert space(range_m=9.0).rays.limit_m == 9.0


@pytest.mark.parametrize('degrees', [-1.5, 1.5])
def test_a_known_pitch_is_made_up_for(degrees):
    """With the deviation told, the grid of a pitched car is that of one that stands level."""
    x, y = cells()
    rays = make_rays(CAMERA, CAMERA.mount, SIZE, rectified=False, pitch_sigma_rad=np.radians(0.2),
                     max_range_m=20.0, margin_rad=np.radians(4))
    maker = FreeSpace(rays, GRID, CLASSES.ground_lut(), mark_boundary=False)
    labels = world(tilted(degrees))
    told, untold = [maker.occupancy(maker.see(labels, CLASSES.drivable_lut()[labels], deviation))
                    for deviation in (np.radians(degrees), 0.0)]
    known = visible() & visible(tilted(degrees))
    right = [((grid == FREE) == on_road(x, y))[known].mean() for grid in (told, untold)]
    assert right[0] > 0.95 and right[0] > right[1] + 0.02
    assert not ((told == FREE) & ~on_road(x, y)).sum() > 0.002 * (told == FREE).sum()


def test_less_uncertainty_means_more_freedom_and_never_less_than_was_asked():
    rays = make_rays(CAMERA, CAMERA.mount, SIZE, rectified=False, pitch_sigma_rad=np.radians(0.7),
                     max_range_m=20.0)
    maker = FreeSpace(rays, GRID, CLASSES.ground_lut())
    labels = world()
    free = [maker.see(labels, CLASSES.drivable_lut()[labels], sigma=sigma).free.sum()
            for sigma in (0.0, np.radians(0.3), np.radians(0.7), np.radians(5.0), None)]
    assert free[0] > free[1] > free[2] == free[3] == free[4]
