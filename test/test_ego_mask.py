"""The vehicle in its own picture: masks read strictly, and applied to every product."""

import itertools
import json
import zlib

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
import yaml

from seg_node.ego_mask import load_ego_mask
from seg_node.errors import ConfigError, FrameError
from seg_node.frame import Frame, Segmentation, StageClock
from seg_node.geometry import fit, Size
from seg_node.ground.calibration import load_calibration
from seg_node.ground.calibration_file import read_ego_mask
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import InputSpec
from seg_node.model.taxonomy import load_taxonomy
from seg_node.pipeline import Pipeline
from seg_node.products import NAMES
from seg_node.ros import settings as node_settings

SPEC = InputSpec('image', 'NCHW', 'rgb', 'float32', (0, 0, 0), (1, 1, 1), size=(32, 48))
CAMERA = Size(40, 60)
TABLE = load_taxonomy('cityscapes19')
BONNET = '[[[10, 30], [50, 30], [59, 39], [0, 39]]]'


def png(path, mask, *, file='ego.png'):
    cv2.imwrite(str(path / file), mask)
    return path / file


def bonnet(size=CAMERA):
    """Return a mask with a slanted upper edge and a mirror at the top."""
    mask = np.zeros(size, np.uint8)
    for x in range(size.width):
        mask[size.height - 4 - x // 8:, x] = 255
    mask[:3, :5] = 255
    return mask


def segmentation(output=None, seed=0):
    geometry = fit(SPEC, CAMERA, output)
    planes = np.random.default_rng(seed).integers(0, 19, (4, *geometry.output), np.uint8)
    planes[2] = np.where(planes[2] < 10, 255, 0)
    return Segmentation(geometry, *planes[:3], entropy=planes[3])


@pytest.mark.parametrize('output', [None, Size(13, 21), Size(95, 131), Size(40, 30)])
def test_masked_pixels_are_unknown_and_all_others_untouched(tmp_path, output):
    result, before = segmentation(output), segmentation(output)
    load_ego_mask(str(png(tmp_path, bonnet()))).apply(result)
    rows, columns = result.geometry.output_pixels()
    vehicle = bonnet()[rows][:, columns] > 0
    assert 0.05 < vehicle.mean() < 0.5
    for name, inside in (('labels', 255), ('confidence', 0), ('drivable', 0), ('entropy', 255)):
        got, was = getattr(result, name), getattr(before, name)
        np.testing.assert_array_equal(got, np.where(vehicle, inside, was), name)


def test_what_was_not_asked_for_is_not_needed(tmp_path):
    result = segmentation()
    bare = Segmentation(result.geometry, result.labels)
    load_ego_mask(str(png(tmp_path, bonnet()))).apply(bare)
    np.testing.assert_array_equal(bare.labels == 255, bonnet() > 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 40)), min_size=3, max_size=6),
                min_size=1, max_size=3))
def test_polygons_cover_what_lies_inside_them(clouds):
    """Against OpenCV's point-in-polygon test, for pixels more than one off every outline."""
    hulls = [cv2.convexHull(np.array(points, np.float32))[:, 0] for points in clouds]
    hulls = [hull for hull in hulls if len(hull) > 2 and cv2.contourArea(hull) >= 1]
    if not hulls:
        return
    mask = load_ego_mask(json.dumps([hull.tolist() for hull in hulls])).pixels(CAMERA)
    for y, x in itertools.product(range(0, 40, 3), range(0, 60, 3)):
        inside = max(cv2.pointPolygonTest(hull, (x, y), True) for hull in hulls)
        if abs(inside) > 1:
            assert mask[y, x] == (255 if inside > 0 else 0), (x, y)


def test_a_polygon_reaches_the_last_row_and_column():
    for right, below in ((60, 40), (59, 39)):
        mask = load_ego_mask(f'[[[30, 20], [{right}, 20], [{right}, {below}], [30, {below}]]]')
        expected = np.zeros(CAMERA, np.uint8)
        expected[20:, 30:] = 255
        np.testing.assert_array_equal(mask.pixels(CAMERA), expected)


def test_overlapping_polygons_add_up():
    square = [[10, 10], [30, 10], [30, 30], [10, 30]]
    once = load_ego_mask([square]).pixels(CAMERA)
    np.testing.assert_array_equal(load_ego_mask([square, square]).pixels(CAMERA), once)


@pytest.mark.parametrize('convert', [
    lambda mask: cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR),
    lambda mask: cv2.cvtColor(mask, cv2.COLOR_GRAY2BGRA)])
def test_a_mask_saved_as_colour_is_read_as_well(tmp_path, convert):
    image = convert(bonnet())
    if image.shape[2] == 4:
        image[..., 3] = 255
    mask = load_ego_mask(str(png(tmp_path, image)))
    np.testing.assert_array_equal(mask.pixels(CAMERA), bonnet())


def test_a_picture_of_one_bit_is_read_as_well(tmp_path):
    cv2.imwrite(str(tmp_path / 'ego.png'), bonnet(), [cv2.IMWRITE_PNG_BILEVEL, 1])
    np.testing.assert_array_equal(load_ego_mask(str(tmp_path / 'ego.png')).pixels(CAMERA),
                                  bonnet())


def grey(value):
    mask = bonnet()
    mask[5, 5] = value
    return mask


PICTURES = {
    'empty': (np.zeros(CAMERA, np.uint8), 'is empty'),
    'all': (np.full(CAMERA, 255, np.uint8), 'covers the whole image'),
    'grey': (grey(7), r'has the values \[7\]'),
    'one': (bonnet() // 255, r'has the values \[1\]'),
    'colours': (np.dstack([bonnet(), bonnet(), bonnet() * 0]), 'has colours'),
    'transparent': (np.dstack([bonnet()] * 4), 'has transparent pixels'),
    'deep': (bonnet().astype(np.uint16) * 257, 'has values of 16 bit'),
}


@pytest.mark.parametrize('name', PICTURES)
def test_a_picture_that_is_no_mask_is_refused(tmp_path, name):
    image, message = PICTURES[name]
    with pytest.raises(ConfigError, match=message) as caught:
        load_ego_mask(str(png(tmp_path, image)), where='parameter front.ego_mask')
    assert 'parameter front.ego_mask' in str(caught.value) and 'ego_mask REC' in str(caught.value)


def test_a_file_that_is_no_whole_png_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='No such file'):
        load_ego_mask(str(tmp_path / 'none.png'))
    with pytest.raises(ConfigError, match='is no PNG'):
        load_ego_mask(str(png(tmp_path, bonnet(), file='ego.jpg')))
    whole = png(tmp_path, bonnet()).read_bytes()
    for data, message in ((whole[:-20], 'truncated|has no end|ends inside'), (b'', 'is no PNG'),
                          (whole.replace(b'IDAT', b'IDAX'), 'checksum')):
        (tmp_path / 'bad.png').write_bytes(data)
        with pytest.raises(ConfigError, match=message):
            load_ego_mask(str(tmp_path / 'bad.png'))
    head = bytearray(whole)
    head[16:24] = (60000).to_bytes(4, 'big') * 2
    head[29:33] = zlib.crc32(head[12:29]).to_bytes(4, 'big')
    (tmp_path / 'bad.png').write_bytes(head)
    with pytest.raises(ConfigError, match='60000 x 60000'):
        load_ego_mask(str(tmp_path / 'bad.png'))


@pytest.mark.parametrize('value, message', [
    ('[[[0, 0], [1, 1]', 'cannot be read as a list'),
    ('[]', 'Leave it out'),
    ('[[]]', 'polygon 0'),
    ('[[[0, 0], [5, 5]]]', 'at least 3 points'),
    ('[[0, 0], [5, 5], [9, 0]]', 'Is a pair of brackets missing'),
    ('[[[0, 0], [5, 5], [9, .nan]]]', 'finite'),
    ('[[[0, 0], [5, 5], [9, "7"]]]', 'finite'),
    ('[[[0, 0], [5, 5], [true, false]]]', 'finite'),
    ('[[[0, 0], [5, 5], [9, 9]]]', 'no area'),
    ('[[[0, 0], [5, -7], [9, 9]]]', 'no image has'),
    ('[[[0, 0], [5, 1.0e+300], [9, 9]]]', 'no image has'),
    ({'polygon': 1}, 'allowed: a list of polygons'),
    (7, 'allowed: a list of polygons'),
])
def test_polygons_that_are_none_are_refused(value, message):
    with pytest.raises(ConfigError, match=message):
        load_ego_mask(value, where='parameter front.ego_mask')


@pytest.mark.parametrize('value, message', [
    ('[[[0, 30], [61, 30], [61, 39]]]', r'x 0 .. 61 .* leaves the 60x40 image'),
    ('[[[0, 30], [60, 30], [60, 41]]]', r'y 30 .. 41, which leaves'),
    ('[[[-0.5, -0.5], [60, -0.5], [60, 40], [-0.5, 40]]]', 'covers the whole image'),
])
def test_polygons_that_do_not_fit_the_image_refuse_the_frame(value, message):
    with pytest.raises(FrameError, match=message) as caught:
        load_ego_mask(value).apply(segmentation())
    assert caught.value.reason == 'ego-mask'


def test_a_mask_of_another_size_refuses_the_frame(tmp_path):
    mask = load_ego_mask(str(png(tmp_path, bonnet(Size(20, 30)))))
    result, before = segmentation(), segmentation()
    with pytest.raises(FrameError, match='is for 30x20 images, but they are 60x40') as caught:
        mask.apply(result)
    assert caught.value.reason == 'ego-mask'
    np.testing.assert_array_equal(result.labels, before.labels)


# --- the calibration file ---

def calibration(tmp_path, ego):
    document = yaml.safe_load(load_calibration('demo_camera').to_yaml())
    if ego is not None:
        document['ego_mask'] = ego
    path = tmp_path / 'front.yaml'
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_calibration_file_names_the_mask(tmp_path):
    size = Size(540, 960)
    png(tmp_path, bonnet(size))
    by_picture = calibration(tmp_path, 'ego.png')  # beside the file
    np.testing.assert_array_equal(read_ego_mask(by_picture).pixels(size), bonnet(size))
    assert load_calibration(by_picture).width == 960  # who only wants the lens reads it, too
    polygon = [[[0, 540], [0, 500], [480, 440], [960, 500], [960, 540]]]
    by_polygons = read_ego_mask(calibration(tmp_path, polygon))
    np.testing.assert_array_equal(by_polygons.pixels(size), load_ego_mask(polygon).pixels(size))
    assert read_ego_mask(calibration(tmp_path, None)) is None


@pytest.mark.parametrize('ego, message', [
    ('ego.png', 'front.yaml: ego_mask .*is for 60x40 images, but they are 960x540'),
    ([[[0, 500], [961, 500], [900, 540]]], 'front.yaml: ego_mask: polygon 0 .*leaves the 960x540'),
    (5, 'front.yaml: ego_mask is 5'),
    (None, None)])
def test_a_calibration_file_is_checked_against_its_own_size(tmp_path, ego, message):
    png(tmp_path, bonnet())
    path = calibration(tmp_path, ego)
    if message is None:
        assert read_ego_mask(path) is None
        return
    with pytest.raises(ConfigError, match=message):
        read_ego_mask(path)


def test_a_camera_has_the_mask_of_its_calibration_unless_it_has_its_own(tmp_path):
    size, own = Size(540, 960), str(png(tmp_path, bonnet(), file='own.png'))
    png(tmp_path, bonnet(size))
    path = str(calibration(tmp_path, 'ego.png'))
    np.testing.assert_array_equal(node_settings._ego_mask('', path, 'front').pixels(size),
                                  bonnet(size))
    assert node_settings._ego_mask(own, path, 'front').size == CAMERA
    assert node_settings._ego_mask(path, '', 'front').size == size
    assert node_settings._ego_mask('', '', 'front') is None
    assert node_settings._ego_mask('', 'demo_camera', 'front') is None
    with pytest.raises(ConfigError, match='front.ego_mask is .* without the key ego_mask'):
        node_settings._ego_mask(str(calibration(tmp_path, None)), '', 'front')


# --- the pipeline ---

class Constant:
    """A segmenter that knows its answer."""

    description = device = 'test'
    preferred_batch = 1
    sample = CAMERA

    def segment(self, frames, demand, clock):
        return [FrameError('encoding', 'refused') if frame.message.encoding == 'no'
                else segmentation(demand.output) for frame in frames]

    def retune(self, policy):
        pass

    def close(self):
        pass


def frame(camera, encoding='bgr8'):
    message = ImageMessage(Header(1, 2, 'cam'), *CAMERA, encoding, False, 180,
                           np.zeros(40 * 180, np.uint8))
    return Frame(camera, message)


@pytest.mark.parametrize('taxonomy', ['cityscapes19', 'autoware16'])
@pytest.mark.parametrize('output', [None, Size(13, 21)])
def test_every_product_has_the_vehicle_taken_out(tmp_path, taxonomy, output):
    mask = load_ego_mask(str(png(tmp_path, bonnet())))
    published = load_taxonomy(taxonomy)
    plain = Pipeline(Constant(), TABLE, published, output)
    pipeline = Pipeline(Constant(), TABLE, published, output, {'front': mask})
    clock = StageClock()
    front, rear = pipeline.process([frame('front'), frame('rear')], [NAMES] * 2, clock)
    [reference] = plain.process([frame('front')], [NAMES], StageClock())
    rows, columns = front.geometry.output_pixels()
    vehicle = bonnet()[rows][:, columns] > 0
    for name, inside in (('mask', 255), ('confidence', 0), ('drivable', 0), ('dynamic_mask', 0)):
        np.testing.assert_array_equal(
            front.images[name], np.where(vehicle, inside, reference.images[name]), name)
        np.testing.assert_array_equal(rear.images[name], reference.images[name], name)
    assert not front.images['color_mask'][vehicle].any()
    assert clock.ms['ego_mask'] > 0


def test_a_mask_that_does_not_fit_refuses_its_own_camera_alone(tmp_path):
    masks = {'front': load_ego_mask(str(png(tmp_path, bonnet(Size(20, 30)))))}
    pipeline = Pipeline(Constant(), TABLE, ego_masks=masks)
    results = pipeline.process([frame('front'), frame('rear'), frame('front', 'no')],
                               [NAMES] * 3, StageClock())
    assert isinstance(results[0], FrameError) and results[0].reason == 'ego-mask'
    assert 'mask' in results[1].images
    assert isinstance(results[2], FrameError) and results[2].reason == 'encoding'
