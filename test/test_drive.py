"""The drive that ships: what is in it, that it can be made again, that damage is refused."""

import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml

from seg_node.errors import ConfigError
from seg_node.geometry import Size
from seg_node.image.decode import decode
from seg_node.image.wire import parse_compressed_image, parse_image
from seg_node.playback.open_source import open_source
from seg_node.playback.replay_options import ReplayOptions
from seg_node.playback.sources import FrameOptions, Span
from seg_node.playback.topics import choose_topics
from seg_node.scoring.drive import BODY, CAMERA, Drive, LABELS, MANIFEST, resized, VIDEO
from street import camvid
from street.__main__ import command, main, parser, settings

SMALL = ('--width', '96', '--height', '64', '--seconds', '0.5', '--seed', '5')


@pytest.fixture(scope='module')
def drive():
    """Return the shipped drive."""
    return Drive()


@pytest.fixture(scope='module')
def manifest(drive):
    return yaml.safe_load((drive.path / MANIFEST).read_text())


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """Return the folder of a small drive, made by the command line."""
    folder = tmp_path_factory.mktemp('made') / 'small'
    assert main([str(folder), *SMALL]) == 0
    return folder


def test_the_shipped_drive_is_what_its_manifest_says(drive, manifest):
    assert (len(drive), drive.rate_hz, drive.taxonomy) == (150, 10.0, 'camvid11')
    assert drive.calibration.resolution == '960x540' and drive.calibration.mount is not None
    assert manifest['frames'] == 150 and manifest['licence'] == 'Apache-2.0'
    assert sum(path.stat().st_size for path in drive.path.iterdir()) < 15e6
    frames = list(drive.frames(range(0, 150, 25)))
    assert all(frame.image.shape == (540, 960, 3) and frame.labels.shape == (540, 960)
               for frame in frames)
    ids = np.unique(np.stack([frame.labels for frame in frames]))
    assert set(ids) == set(range(camvid.COUNT))
    assert [frame.index for frame in frames] == list(range(0, 150, 25))


def test_the_shipped_drive_brakes_bends_dives_and_leans(drive):
    """What features measure from it later has to be in it: more than a straight steady drive."""
    bodies = drive.bodies
    assert [body.time_s for body in bodies] == pytest.approx(np.arange(150) / 10)
    acceleration = np.array([body.acceleration_mps2 for body in bodies])
    pitch = np.degrees([body.pitch_rad for body in bodies])
    begins = [int(((wanted[1:]) & ~wanted[:-1]).sum())
              for wanted in (acceleration < -2, acceleration > 1)]
    assert min(begins) >= 2
    assert pitch[acceleration < -2].mean() > 0.8 and pitch[acceleration > 1].mean() < -0.4
    # As a spring does, it overshoots: it never stands still at what the force alone would give.
    assert pitch.max() > 1.2 * np.median(pitch[acceleration < -2])
    assert np.abs(np.diff(pitch)).max() < 1.0
    sideways = np.array([body.speed_mps * body.yaw_rate_radps for body in bodies])
    roll = np.degrees([body.roll_rad for body in bodies])
    assert np.abs(sideways).max() > 1.2 and np.abs(roll).max() > 0.4
    assert np.corrcoef(sideways, roll)[0, 1] > 0.7
    # The poses are those of a car: it moves where it points, as fast as it says.
    for one, other in zip(bodies[::7], bodies[1::7], strict=False):
        step = (other.pose() - one.pose())[:2, 3] / 0.1
        assert np.linalg.norm(step) == pytest.approx((one.speed_mps + other.speed_mps) / 2,
                                                     rel=0.02)
        assert step @ one.pose()[:2, 0] / np.linalg.norm(step) > 0.999


def test_the_renderer_still_makes_the_shipped_drive(drive, manifest):
    """A few frames anew, by the command of the manifest."""
    words = shlex.split(manifest['command'])
    assert words[:4] == ['python', '-m', 'street', 'drive']
    again = settings(parser().parse_args(words[3:])).drive()
    assert len(again) == len(drive)
    for index in (23, 24):
        [shipped] = drive.frames(range(index, index + 1))
        made = again.frame(index)
        # Other builds of NumPy and OpenCV may round the odd vertex to the next pixel.
        assert (made.labels != shipped.labels).sum() <= 20
        np.testing.assert_allclose(made.body.pose(), shipped.body.pose(), atol=2e-6)
        error = np.abs(made.image.astype(int) - shipped.image).mean()
        assert error < 4.5
    # The frame before is no such picture, so this test can tell.
    assert np.abs(again.frame(23).image.astype(int) - shipped.image).mean() > 1.5 * error


def test_a_rendered_drive_is_read_back(small):
    drive = Drive(small)
    again = settings(parser().parse_args(shlex.split(
        yaml.safe_load((small / MANIFEST).read_text())['command'])[3:])).drive()
    assert len(drive) == len(again) == 5 and drive.calibration.resolution == '96x64'
    np.testing.assert_allclose(drive.calibration.K, again.calibration.K)
    for frame in drive.frames(range(1, 5, 3)):
        made = again.frame(frame.index)
        np.testing.assert_array_equal(frame.labels, made.labels)
        np.testing.assert_array_equal(drive.labels(frame.index), made.labels)
        assert np.abs(made.image.astype(int) - frame.image).mean() < 8


@pytest.mark.slow
def test_processes_render_the_same(small, tmp_path, monkeypatch):
    """The program as its user runs it; many frames are shared out to all cores."""
    program = 'import street.rendering as r, street.__main__ as m; r._FEW = 2; m.main()'
    done = subprocess.run([sys.executable, '-c', f'{program} if __name__ == "__main__" else 0',
                           str(tmp_path / 'small'), *SMALL], capture_output=True, text=True,
                          timeout=240, check=False)
    assert done.returncode == 0 and '5 frames in' in done.stdout, done.stderr
    for name in (BODY, CAMERA, LABELS, MANIFEST):
        assert (tmp_path / 'small' / name).read_bytes() == (small / name).read_bytes(), name


def test_nothing_is_overwritten_by_accident(small, tmp_path, capsys):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'thesis.txt').write_text('years of work')
    assert main([str(small), *SMALL]) == 1
    assert '--overwrite' in capsys.readouterr().err
    assert main([str(tmp_path / 'full'), '--overwrite', *SMALL]) == 1
    assert 'thesis.txt' in capsys.readouterr().err and len(Drive(small)) == 5
    assert main([str(tmp_path / 'no'), '--seconds', '-1']) == 1
    assert 'duration_s -1.0' in capsys.readouterr().err
    assert command(['/a/b/drive', '--overwrite', '--seed', '2'],
                   tmp_path.parent / '/a/b/drive') == 'python -m street drive --seed 2'


@pytest.mark.parametrize('transport', ['raw', 'compressed'])
def test_a_drive_as_a_bag(small, tmp_path, transport):
    assert main([str(tmp_path / 'bag'), *SMALL, '--bag', '--transport', transport]) == 0
    topic = '/camera/image_raw' + ('' if transport == 'raw' else '/compressed')
    with open_source(tmp_path / 'bag') as bag:
        assert {one.name: one.count for one in bag.topics} == {
            topic: 5, '/camera/camera_info': 5, '/camera/labels': 5}
        records = [record for record in bag.records([topic])]
    parse = parse_image if transport == 'raw' else parse_compressed_image
    for record, image in zip(records, Drive(small).images(range(5)), strict=True):
        assert np.abs(decode(parse(record.data)).astype(int) - image).mean() < 8


@pytest.mark.parametrize('transport', ['raw', 'compressed'])
def test_the_drive_as_messages(small, transport):
    with open_source(small, FrameOptions(transport=transport)) as source:
        names = [topic.name for topic in source.topics]
        records = list(source.records(names, Span(200_000_000), epoch_ns=10**9))
        assert {topic.count for topic in source.topics} == {5}
    assert [record.time_ns for record in records] == [
        10**9 + index * 10**8 for index in range(3) for _ in range(3)]
    parse = parse_image if transport == 'raw' else parse_compressed_image
    drive, images = Drive(small), [record for record in records if 'image_raw' in record.topic]
    for index, (record, image) in enumerate(zip(images, drive.images(range(2, 5)), strict=True)):
        found = decode(parse(record.data)).astype(int)
        assert np.abs(found - image).mean() < (0.001 if transport == 'raw' else 4)
        truth = parse_image(records[3 * index + 2].data)
        assert truth.encoding == 'mono8' and truth.header.stamp_ns == record.time_ns
        np.testing.assert_array_equal(truth.data.reshape(64, 96), drive.labels(index + 2))


def test_pictures_at_another_size(small):
    drive = Drive(small)
    for size in (Size(32, 48), Size(100, 150)):
        one, other = resized(drive, range(0, 5, 4), size)
        assert one.shape == other.shape == (*size, 3) and (one != other).any()


@pytest.mark.parametrize('name', [MANIFEST, VIDEO, LABELS, CAMERA, BODY])
def test_a_missing_file_is_named(small, tmp_path, name):
    shutil.copytree(small, tmp_path / 'copy')
    (tmp_path / 'copy' / name).unlink()
    with pytest.raises(ConfigError, match=name):
        Drive(tmp_path / 'copy')


@pytest.mark.parametrize('name', [MANIFEST, VIDEO, LABELS, CAMERA, BODY])
@pytest.mark.parametrize('harm', ['empty', 'cut', 'noise'])
def test_a_damaged_file_is_named(small, tmp_path, name, harm):
    shutil.copytree(small, tmp_path / 'copy')
    data = (small / name).read_bytes()
    bad = {'empty': b'', 'cut': data[:len(data) // 2],
           'noise': np.random.default_rng(0).bytes(len(data))}[harm]
    (tmp_path / 'copy' / name).write_bytes(bad)
    with pytest.raises(ConfigError, match=name):
        drive = Drive(tmp_path / 'copy')
        assert drive.calibration.width == 96
        list(drive)


def test_the_truth_is_sent_only_when_it_is_asked_for(small):
    with open_source(small) as source:
        for asked, sent in (((), {'camera/image_raw', 'camera/camera_info'}),
                            (('/camera/labels',), {'camera/labels'})):
            chosen, _ = choose_topics(source, ReplayOptions(topics=asked))
            assert {topic.name for topic in chosen} == sent
        [record, *_] = source.records(['camera/labels'], epoch_ns=5)
    assert record.time_ns == 5
