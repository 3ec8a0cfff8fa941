"""Ground outputs of the real node over DDS, read as their consumers read them."""

from geometry_msgs.msg import PolygonStamped
from harness import Client, image_cdr, LATCHED, MODELS, NodeProcess, RELIABLE, values
from nav_msgs.msg import OccupancyGrid
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, LaserScan, PointCloud2
from test_free_space import CAMERA, FOOT, GRID, on_road, PAVEMENT, ROAD, SKY, world

from seg_node.geometry import Size
from seg_node.model.taxonomy import load_taxonomy

STREET = load_taxonomy('cityscapes19')
NAMES = {ROAD: 'road', PAVEMENT: 'sidewalk', SKY: 'sky'}
SIZE = Size(CAMERA.height, CAMERA.width)
STAMP_NS = 1_700_000_000_123_456_789
TOPIC = '/camera/image_raw'


@pytest.fixture(scope='module')
def labels():
    return world(size=SIZE)


@pytest.fixture(scope='module')
def painted(labels):
    """The world in the colours of the palette model, BGR."""
    palette = np.zeros((256, 3), np.uint8)
    for here, name in NAMES.items():
        palette[here] = STREET.classes[STREET.id_of(name, 'test')].colour[::-1]
    return palette[labels]


@pytest.fixture(scope='module')
def answers(tmp_path_factory, painted):
    """What the node says about one frame, by topic; all have been received once."""
    folder = tmp_path_factory.mktemp('ground')
    with NodeProcess(folder, model=MODELS / 'palette_cityscapes19', backend='onnxruntime',
                     camera__calibration='demo_camera', grid_aside_m=GRID.aside_m):
        client = Client('ground_reader')
        topics = {'drivable_grid': (OccupancyGrid, LATCHED), 'scan': (LaserScan, RELIABLE),
                  'free_space': (PolygonStamped, RELIABLE),
                  'ground_points': (PointCloud2, RELIABLE), 'camera_info': (CameraInfo, RELIABLE)}
        for name, (kind, qos) in topics.items():
            client.listen(f'/seg_node/camera/{name}', kind, qos)
        found = {}
        for attempt in range(60):
            client.send(TOPIC, image_cdr(painted, STAMP_NS + attempt, 'camera_optical_frame'))
            client.spin_until(lambda: all(client.messages[f'/seg_node/camera/{name}']
                                          for name in topics), 1.0)
            found = {name: client.messages[f'/seg_node/camera/{name}'] for name in topics}
            if all(found.values()):
                break
        assert all(found.values()), {name: len(got) for name, got in found.items()}
        late = Client('static_layer')
        again = late.listen('/seg_node/camera/drivable_grid', OccupancyGrid, LATCHED)
        assert late.spin_until(lambda: bool(again), 10), 'a late static layer gets no grid'
        status = client.diagnostics('camera')
        late.close()
        client.close()
    return {name: got[-1] for name, got in found.items()} | {'status': status}


def stamp_of(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def test_stamps_and_frames(answers):
    for name in ('drivable_grid', 'scan', 'free_space', 'ground_points'):
        assert 0 <= stamp_of(answers[name]) - STAMP_NS < 60, name
    assert {answers[name].header.frame_id for name in ('drivable_grid', 'free_space',
                                                       'ground_points')} == {'base_link'}
    assert answers['scan'].header.frame_id == 'camera_ground'


def test_the_grid_as_a_static_layer_reads_it(answers):
    """Row-major from the origin's corner, x fastest; 0, 100 and -1 and nothing else."""
    grid = answers['drivable_grid']
    cells = np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)
    assert set(np.unique(cells)) == {-1, 0, 100}
    assert grid.info.resolution == pytest.approx(0.1) and grid.info.origin.orientation.w == 1
    x = grid.info.origin.position.x + (np.arange(grid.info.width) + 0.5) * grid.info.resolution
    y = grid.info.origin.position.y + (np.arange(grid.info.height) + 0.5) * grid.info.resolution
    road = on_road(*np.meshgrid(x, y))
    assert (cells == 0).sum() > 4000 and (road[cells == 0]).mean() > 0.999
    assert (cells[:, x < 2] != 0).all()  # below the camera nothing is seen


def test_the_scan_as_an_obstacle_layer_reads_it(answers):
    scan = answers['scan']
    ranges = np.array(scan.ranges)
    angles = scan.angle_min + scan.angle_increment * np.arange(len(ranges))
    assert angles[-1] == pytest.approx(scan.angle_max, abs=1e-4)
    told = np.isfinite(ranges)
    assert told.sum() > 300 and (ranges[told] >= scan.range_min).all()
    assert (ranges[told] <= scan.range_max).all()
    # A hit lies at the edge of the road: just before it is road, just behind it is none.
    before, behind = [on_road(FOOT[0] + (ranges + step)[told] * np.cos(angles[told]),
                              FOOT[1] + (ranges + step)[told] * np.sin(angles[told]))
                      for step in (-0.4, 0.4)]
    near = ranges[told] < 12
    assert before[near].mean() > 0.95 and behind[near].mean() < 0.05


def test_the_cloud_as_a_semantic_layer_reads_it(answers, labels):
    """Organised as the mask; x, y, z float32 at 0, 4, 8; NaN where there is no ground."""
    cloud = answers['ground_points']
    assert (cloud.height, cloud.width) == SIZE and cloud.row_step == cloud.width * 12
    assert [(field.name, field.offset, field.datatype) for field in cloud.fields] == [
        ('x', 0, 7), ('y', 4, 7), ('z', 8, 7)]
    points = np.frombuffer(bytes(cloud.data), '<f4').reshape(*SIZE, 3)
    told = np.isfinite(points).all(axis=-1)
    assert told.mean() > 0.2 and not told[labels == SKY].any()
    road = on_road(*points[told][:, :2].T)
    assert (road == (labels[told] == ROAD)).mean() > 0.99


def test_the_outline_goes_from_left_to_right(answers):
    points = np.array([(point.x, point.y) for point in answers['free_space'].polygon.points])
    turned = np.diff(np.arctan2(points[:, 1] - FOOT[1], points[:, 0] - FOOT[0]))
    assert len(points) > 100 and (turned < 1e-3).all()


def test_the_camera_info_is_the_files_where_no_topic_tells_one(answers):
    info = answers['camera_info']
    assert (info.height, info.width) == SIZE
    np.testing.assert_allclose(info.k, CAMERA.K.ravel())
    np.testing.assert_allclose(list(info.d), CAMERA.D)


def test_all_is_well(answers):
    assert 'ground' not in answers['status'].message, answers['status'].message
    assert values(answers['status'])['topic'] == TOPIC


def test_without_a_mount_the_masks_go_on_and_the_reason_is_told(tmp_path, painted):
    path = tmp_path / 'no_mount.yaml'
    path.write_text(CAMERA.to_yaml().partition('mount:')[0])
    with NodeProcess(tmp_path, model=MODELS / 'palette_cityscapes19', backend='onnxruntime',
                     camera__calibration=path, diagnostics_period_s=0.2):
        client = Client('reader')
        grids = client.listen('/seg_node/camera/drivable_grid', OccupancyGrid, LATCHED)
        client.listen('/seg_node/camera/mask')
        client.handshake(TOPIC, ['/seg_node/camera/mask'], image_cdr(painted, 1))
        client.exchange(TOPIC, image_cdr(painted, 2), '/seg_node/camera/mask', 2)
        status = client.diagnostics('camera', until=lambda one: 'mount' in one.message)
        client.close()
    assert 'no ground outputs: mount of camera' in status.message and not grids

