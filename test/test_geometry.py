"""The one mapping between camera, network and mask pixels."""

import cv2
import numpy as np
import pytest

from seg_node.errors import ConfigError, FrameError
from seg_node.geometry import (
    Axis,
    camera_for,
    fit,
    fit_frame,
    MAX_ASPECT,
    MAX_INPUT_RATIO,
    Size,
)
from seg_node.model.card import InputSpec
from seg_node.preprocess import Preprocessor


def spec(**given):
    values = {'size': None, 'short_side': None, 'multiple': 32, 'resize': 'letterbox'} | given
    return InputSpec('image', 'NCHW', 'rgb', 'float32', (0, 0, 0), (1, 1, 1), **values)


@pytest.mark.parametrize('camera, resize, network, content, top, left', [
    ((720, 1280), 'letterbox', (384, 640), (360, 640), 12, 0),
    ((540, 960), 'letterbox', (384, 640), (360, 640), 12, 0),
    ((360, 480), 'letterbox', (384, 480), (360, 480), 12, 0),
    ((360, 480), 'stretch', (352, 480), (352, 480), 0, 0),
    ((1280, 720), 'letterbox', (640, 384), (640, 360), 0, 12),
])
def test_dynamic_size(camera, resize, network, content, top, left):
    geometry = fit(spec(short_side=360, resize=resize), Size(*camera))
    assert (geometry.network, geometry.content) == (network, content)
    assert (geometry.top, geometry.left) == (top, left)
    assert geometry.output == camera


# As other libraries size their pictures. torchvision's Resize(520) cuts the longer side off,
# BiSeNet's authors round up to 32, Mask2Former has a shortest edge, a longest, and pads to 32.
TORCHVISION = {'short_side': 520, 'multiple': 1, 'rounding': 'down', 'resize': 'stretch'}
MASK2FORMER = {'short_side': 800, 'longest_side': 1333, 'rounding': 'down', 'pad': 'right_bottom'}


@pytest.mark.parametrize(('camera', 'given', 'network', 'content'), [
    ((360, 480), TORCHVISION, (520, 693), (520, 693)),
    ((480, 360), TORCHVISION, (693, 520), (693, 520)),
    ((400, 400), TORCHVISION, (520, 520), (520, 520)),
    ((720, 1280), {'short_side': 720, 'rounding': 'up', 'resize': 'stretch'},
     (736, 1280), (736, 1280)),
    ((360, 487), {'short_side': 520, 'multiple': 1, 'rounding': 'up', 'resize': 'stretch'},
     (520, 704), (520, 704)),  # 520 x 487 / 360 is 703.4
    ((360, 480), {'short_side': 480, 'multiple': 1, 'rounding': 'up', 'resize': 'stretch'},
     (480, 640), (480, 640)),  # a whole number stays
    ((720, 1280), {'short_side': 720, 'resize': 'stretch'}, (704, 1280), (704, 1280)),
    ((720, 1280), {'short_side': 31, 'rounding': 'down', 'resize': 'stretch'}, (32, 32), (32, 32)),
    ((720, 1280), {'short_side': 70, 'rounding': 'down', 'resize': 'stretch'}, (64, 96), (64, 96)),
    ((720, 1280), MASK2FORMER, (768, 1344), (750, 1333)),
    ((1280, 720), MASK2FORMER, (1344, 768), (1333, 750)),
    ((600, 800), MASK2FORMER, (800, 1088), (800, 1066)),
    ((600, 1000), MASK2FORMER, (800, 1344), (800, 1333)),  # just within
    # One row is left of it, however long it is.
    ((1, 8), {'short_side': 4, 'longest_side': 4, 'rounding': 'down', 'multiple': 4}, (4, 8),
     (1, 8)),
    ((1, 40), {'short_side': 9, 'longest_side': 9, 'rounding': 'down', 'multiple': 4}, (4, 40),
     (1, 40)),
])
def test_sizes_by_the_rules_of_other_libraries(camera, given, network, content):
    geometry = fit(spec(**given), Size(*camera))
    assert (geometry.network, geometry.content) == (network, content)
    if 'pad' in given or given.get('resize') == 'stretch':
        assert (geometry.top, geometry.left) == (0, 0)
    lines = Preprocessor(spec(pad_value=7, **given)).tensor(
        [np.full((*camera, 3), 200, np.uint8)], [geometry])[0]
    inside = lines[:, geometry.top:geometry.top + content[0],
                   geometry.left:geometry.left + content[1]]
    assert (inside == 200).all() and (lines == 7).sum() == lines.size - inside.size


def test_fixed_size_letterbox_and_stretch():
    letterbox = fit(spec(size=(512, 896)), Size(480, 640))
    assert letterbox.content == (512, 683) and letterbox.left == 106 and letterbox.top == 0
    stretch = fit(spec(size=(512, 896), resize='stretch'), Size(480, 640))
    assert stretch.content == stretch.network == (512, 896)


@pytest.mark.parametrize('camera', [(97, 131), (480, 640), (721, 1283)])
def test_agrees_with_opencv_resize(camera):
    """At stride 1 without border, sampling the network grid is cv2.resize by INTER_LINEAR."""
    geometry = fit(spec(size=(96, 160), resize='stretch'), Size(*camera))
    ramp = np.random.default_rng(0).random((96, 160)).astype(np.float32)
    rows, columns = geometry.rows(96), geometry.columns(160)
    below = np.minimum(rows.low + 1, 95)
    right = np.minimum(columns.low + 1, 159)
    fy, fx = rows.fraction[:, None], columns.fraction
    upper = ramp[rows.low][:, columns.low] * (1 - fx) + ramp[rows.low][:, right] * fx
    lower = ramp[below][:, columns.low] * (1 - fx) + ramp[below][:, right] * fx
    expected = cv2.resize(ramp, camera[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(upper * (1 - fy) + lower * fy, expected, atol=2e-5)


def test_align_corners_maps_corner_to_corner():
    geometry = fit(spec(size=(65, 65), resize='stretch'), Size(65, 65))
    axis = geometry.rows(9, align_corners=True)
    position = axis.low + axis.fraction
    np.testing.assert_allclose(position, np.arange(65) / 8)


def test_letterbox_round_trip():
    """A camera pixel's centre comes back from the network grid to where it was."""
    geometry = fit(spec(size=(512, 512)), Size(720, 1280))
    axis = geometry.rows(512)
    back = (axis.low + axis.fraction - geometry.top + .5) * 720 / geometry.content.height - .5
    np.testing.assert_allclose(back, np.arange(720), atol=1e-9)


def test_starts_cover_every_output_pixel_once():
    axis = fit(spec(size=(96, 160)), Size(301, 411)).columns(20)
    assert axis.starts[0] == 0 and axis.starts[-1] == 411
    for cell, (start, end) in enumerate(zip(axis.starts, axis.starts[1:], strict=False)):
        assert (axis.low[start:end] == cell).all()
    assert (axis.fraction >= 0).all() and (axis.fraction < 1).all()


FIXED, DYNAMIC = {'size': (512, 896)}, {'short_side': 360}


@pytest.mark.parametrize('resize', ['letterbox', 'stretch'])
@pytest.mark.parametrize(('camera', 'rule', 'words'), [
    ((1, 16384), DYNAMIC, '16384x1, 16384 times as long'), ((16384, 1), DYNAMIC, '1x16384'),
    ((64, 1024), DYNAMIC, '16 times'), ((64, 1024), FIXED, '16 times'),
    ((100, 801), FIXED, 'allowed is 8 times'),
    ((360, 2880), DYNAMIC, '4 times the pixels of 640x3'),
    ((2880, 360), DYNAMIC, '4 times the pixels of 640x3'),
    ((100, 926), FIXED, 'the image is 926x100, 9.3 times as long as it is short'),
])
def test_a_frame_that_would_cost_too_much_is_refused(camera, rule, words, resize):
    with pytest.raises(FrameError, match=words) as refusal:
        fit_frame(spec(**rule, resize=resize), Size(*camera))
    assert refusal.value.reason == 'size'


@pytest.mark.parametrize(('camera', 'rule'), [
    ((1080, 1920), DYNAMIC), ((1920, 1080), DYNAMIC), ((1080, 3840), DYNAMIC),
    ((600, 3600), DYNAMIC), ((3600, 600), FIXED), ((100, 800), FIXED), ((1, 1), DYNAMIC),
    ((4096, 4096), DYNAMIC)])
def test_what_cameras_deliver_is_fitted(camera, rule):
    """Widescreen, upright, panoramas of 6:1, and strips as far as a fixed network takes them."""
    assert fit_frame(spec(**rule), Size(*camera)) == fit(spec(**rule), Size(*camera))


@pytest.mark.parametrize('multiple', [1, 32, 512])
@pytest.mark.parametrize('resize', ['letterbox', 'stretch'])
def test_no_frame_costs_more_than_the_bound(resize, multiple):
    """Over all shapes; and the rule is met exactly: what costs less is never refused."""
    rule = spec(short_side=360, resize=resize, multiple=multiple)
    limit = MAX_INPUT_RATIO * fit(rule, Size(1080, 1920)).network.pixels
    refused = 0
    for width in range(100, 2000, 7):
        for camera in (Size(100, width), Size(width, 100)):
            cost = fit(rule, camera).network.pixels
            try:
                assert fit_frame(rule, camera).network.pixels == cost <= limit
            except FrameError:
                refused += 1
                assert cost > limit or width > MAX_ASPECT * 100
    assert refused > 300


# Exact figures, one rule at a time: a small mistake in any of them moves masks by a pixel.

@pytest.mark.parametrize(('short_side', 'multiple', 'camera', 'network'), [
    (360, 32, (360, 480), (352, 480)),    # 11.25 and 15 times 32
    (368, 32, (368, 368), (384, 384)),    # 11.5: halves go to the even one, 12
    (336, 32, (336, 336), (320, 320)),    # 10.5: 10
    (17, 32, (17, 40), (32, 32)),         # 0.53 -> 1, 1.25 -> 1
    (15, 32, (15, 15), (32, 32)),         # 0.47 would be 0: never less than one
    (8, 64, (8, 1000), (64, 1024)),       # 0.125 -> 1, 15.6 -> 16
    (100, 1, (200, 301), (100, 150)),     # 150.5: even
])
def test_stretch_rounds_to_the_multiple_but_never_to_nothing(short_side, multiple, camera,
                                                            network):
    found = fit(spec(short_side=short_side, multiple=multiple, resize='stretch'), Size(*camera))
    assert found.network == found.content == network
    assert (found.top, found.left) == (0, 0)


@pytest.mark.parametrize(('short_side', 'multiple', 'camera', 'network', 'content'), [
    (360, 32, (720, 1280), (384, 640), (360, 640)),
    (384, 32, (384, 384), (384, 384), (384, 384)),   # a multiple already: nothing is added
    (385, 32, (385, 385), (416, 416), (385, 385)),
    (8, 16, (1, 7000), (16, 56000), (8, 56000)),
    (64, 32, (7000, 1), (448000, 64), (448000, 64)),
])
def test_letterbox_rounds_up_and_fills(short_side, multiple, camera, network, content):
    found = fit(spec(short_side=short_side, multiple=multiple), Size(*camera))
    assert (found.network, found.content) == (network, content)
    assert found.top == (network[0] - content[0]) // 2
    assert found.left == (network[1] - content[1]) // 2


@pytest.mark.parametrize(('size', 'camera', 'content', 'top', 'left'), [
    ((100, 200), (50, 50), (100, 100), 0, 50),
    ((100, 200), (50, 200), (50, 200), 25, 0),
    ((101, 200), (50, 200), (50, 200), 25, 0),       # an odd border: the larger half below
    ((100, 203), (100, 100), (100, 100), 0, 51),
    ((32, 48), (1, 40000), (1, 48), 15, 0),          # never thinner than a pixel
    ((32, 48), (40000, 1), (32, 1), 0, 23),
])
def test_a_fixed_letterbox_keeps_the_shape_in_the_middle(size, camera, content, top, left):
    found = fit(spec(size=size), Size(*camera))
    assert found.network == size and found.content == content
    assert (found.top, found.left) == (top, left)


def test_a_size_is_height_and_width_and_prints_as_people_say_it():
    assert (str(Size(720, 1280)), Size(720, 1280).pixels) == ('1280x720', 921600)


def test_the_mask_has_the_camera_s_size_or_the_one_asked_for():
    assert fit(spec(size=(96, 160)), Size(30, 40)).output == (30, 40)
    assert fit(spec(size=(96, 160)), Size(30, 40), Size(7, 9)).output == (7, 9)


@pytest.mark.parametrize(('output', 'camera', 'pixels'), [
    (4, 4, [0, 1, 2, 3]), (2, 4, [1, 3]), (4, 2, [0, 0, 1, 1]), (3, 5, [0, 2, 4]), (1, 9, [4]),
    (5, 3, [0, 0, 1, 2, 2])])
def test_output_pixels_lie_where_their_centres_fall(output, camera, pixels):
    square = fit(spec(size=(96, 96)), Size(camera, camera), Size(output, output))
    rows, columns = square.output_pixels()
    assert rows.tolist() == columns.tolist() == pixels
    mixed = fit(spec(size=(96, 96)), Size(camera, 11), Size(output, 1))
    assert mixed.output_pixels()[0].tolist() == pixels and mixed.output_pixels()[1].tolist() == [5]


def positions(axis):
    return (axis.low + axis.fraction).tolist()


def test_where_the_logits_are_sampled_worked_out_by_hand():
    """Camera 8x6 in a network input of 8x12: 3 columns of border on either side, stride 4."""
    geometry = fit(spec(size=(8, 12)), Size(8, 6))
    assert (geometry.content, geometry.left) == ((8, 6), 3)
    # The centre of row 2 is 2.5, in cells of 4 rows 0.625, whose centre is 0.5: 0.125.
    assert positions(geometry.rows(2)) == [0, 0, .125, .375, .625, .875, 1, 1]
    # Column 0 has its centre at 3.5: 0.875 cells, 0.375 beyond the first one's centre.
    assert positions(geometry.columns(3)) == [.375, .625, .875, 1.125, 1.375, 1.625]
    # With corners aligned 2 cells are 11 columns apart.
    aligned = geometry.columns(3, align_corners=True)
    assert positions(aligned) == pytest.approx([(3 + x) * 2 / 11 for x in range(6)])
    assert aligned.low.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_single_cell_is_sampled_everywhere():
    geometry = fit(spec(size=(1, 1), resize='stretch'), Size(5, 7))
    for corners in (False, True):
        assert positions(geometry.rows(1, corners)) == [0] * 5
        assert geometry.columns(1, corners).starts.tolist() == [0, 7]


def test_two_rows_with_corners_aligned():
    geometry = fit(spec(size=(2, 2)), Size(2, 2))
    assert positions(geometry.rows(3, align_corners=True)) == [0, 2]


def test_starts_name_the_first_pixel_of_each_cell():
    geometry = fit(spec(size=(8, 12)), Size(8, 6))
    assert geometry.rows(2).starts.tolist() == [0, 6, 8]
    assert geometry.columns(3).starts.tolist() == [0, 3, 6, 6]
    assert {array.dtype for array in (geometry.rows(2).starts, geometry.rows(2).low)} == {
        np.dtype(np.int32)}


def test_nearest_takes_the_closer_cell_and_halves_go_up():
    axis = Axis(np.array([0, 0, 0, 1]), np.array([0, .49, .5, .75]), np.array([0, 3, 4]))
    assert axis.nearest.tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(('rule', 'network'), [
    (dict(size=(96, 160)), (96, 160)),
    (dict(short_side=360), (384, 640)), (dict(short_side=360), (640, 384)),
    (dict(short_side=360), (384, 384)), (dict(short_side=320, resize='stretch'), (320, 320)),
    (dict(short_side=320, resize='stretch'), (320, 1024)),
])
def test_a_camera_for_a_network_size_reaches_it(rule, network):
    camera = camera_for(spec(**rule), Size(*network))
    assert fit(spec(**rule), camera).network == network


@pytest.mark.parametrize(('rule', 'network', 'words'), [
    (dict(size=(96, 160)), (160, 96), r'at 160x96 \(height x width\): .* fixed at 96x160'),
    (dict(short_side=360), (384, 650), 'the card has short_side 360 and multiple 32'),
    (dict(short_side=360), (352, 640), 'short_side 360'),
    (dict(short_side=360), (640, 352), 'short_side 360'),
])
def test_a_network_size_that_no_camera_reaches_is_refused(rule, network, words):
    with pytest.raises(ConfigError, match=words):
        camera_for(spec(**rule), Size(*network))


def test_the_bound_is_counted_from_a_camera_of_1920x1080():
    """With a multiple of 1 and its own size kept, the bound is exactly four times its pixels."""
    rule = spec(short_side=1080, multiple=1)
    assert fit_frame(rule, Size(1080, 4 * 1920)).network.pixels == MAX_INPUT_RATIO * 1080 * 1920
    with pytest.raises(FrameError, match='7681x1080; allowed are 4 times the pixels of 1920x1080'):
        fit_frame(rule, Size(1080, 4 * 1920 + 1))
