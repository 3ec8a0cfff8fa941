"""Archives: what is labelled equals the node's, survives what happens, and is found again."""

import os
from pathlib import Path
import re
import resource
import shutil
import time

from archives import bag, digests, folder_of_pictures, label_here, order, rows, scene, video
import cv2
from harness import NodeProcess
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import IMAGE, PERIOD_NS, START_NS, write_bag

from seg_node.archive import find as finding
from seg_node.archive.expression import parse
from seg_node.archive.labeller import BEFORE_NS, Labeller
from seg_node.archive.output import Lock, Output
from seg_node.archive.pieces import Piece
from seg_node.archive.recordings import find_recordings, Recording
from seg_node.archive.rows import columns_table, schema
from seg_node.archive.run import Outcome, sift
from seg_node.archive.worker import Worker
from seg_node.errors import ConfigError
from seg_node.frame import Frame, StageClock
from seg_node.image import wire
from seg_node.model.taxonomy import load_taxonomy
from seg_node.playback.bags import open_bag
from seg_node.playback.camera_runs import camera_runs
from seg_node.playback.open_source import open_source
from seg_node.playback.sources import Record
from seg_node.tools import archive, evaluate

ROOT = Path(__file__).resolve().parents[1]
MODELS = Path(__file__).parent / 'models'
TABLE = load_taxonomy('cityscapes19')


def frozen(index, *size):
    """A camera that stands still from its third second to its fifth, and is covered later."""
    if 60 <= index < 75:
        return np.zeros((*size, 3), np.uint8)
    return scene(min(index, 30) if index < 50 else index, *size)


@pytest.fixture(scope='module')
def made():
    return order(MODELS)


@pytest.fixture(scope='module')
def archive_of(tmp_path_factory, made):
    """Return recordings of all kinds, and their labels."""
    folder = tmp_path_factory.mktemp('archive')
    held = folder / 'held'
    held.mkdir()
    bag(held / 'still', 90, pictures=frozen)
    bag(held / 'short', 5, 40)
    video(held / 'trip.avi', 25)
    folder_of_pictures(held / 'pictures' / 'a', 12)
    (held / 'notes.txt').write_text('no recording')
    label_here(made, [held], folder / 'out')
    return held, folder / 'out'


def straight(made, path):
    """Yield stamp, mask and standing of each frame, by the node's pipeline without any archive."""
    loaded = made.spec().open()
    try:
        with open_source(path) as source:
            [run] = camera_runs(source)
            for record in source.records([run.source_topic], epoch_ns=0):
                frame = Frame(run.name, wire.parse_image(record.data), record.time_ns)
                [products] = loaded.pipeline.process([frame], [['mask']], StageClock())
                yield frame.header.stamp_ns, products.images['mask'], products.standing
    finally:
        loaded.pipeline.segmenter.close()


def masks(out, name):
    """Return the masks of a recording by stamp."""
    [folder] = (out / 'recordings').glob(f'*{name}-*')
    with open_bag(folder) as source:
        [topic] = [topic.name for topic in source.topics if topic.is_image]
        messages = [wire.parse_compressed_image(record.data) for record in source.records([topic])]
    assert re.fullmatch(r'/seg_node/\w+/mask/compressed', topic)
    return [(message.header.stamp_ns, cv2.imdecode(message.data, cv2.IMREAD_UNCHANGED))
            for message in messages]


@pytest.mark.parametrize('name', ['still', 'short', 'trip.avi', 'pictures/a'])
def test_masks_and_states_are_those_of_the_pipeline_whatever_the_pieces(made, archive_of, name):
    held, out = archive_of
    found = masks(out, name.replace('/', '_'))
    table = [row for row in rows(out) if row['source'] == str(held / name)]
    wanted = list(straight(made, held / name))
    assert len(found) == len(table) == len(wanted)
    for (stamp, mask), row, (stamp_ns, image, standing) in zip(found, table, wanted, strict=True):
        assert stamp == stamp_ns == row['stamp_ns']
        assert np.array_equal(mask, image)
        assert (row['state'], row['withheld']) == (str(standing.state), standing.withheld)
        assert row['share_unlabelled'] == pytest.approx((image == 255).mean(), abs=1e-6)
        assert row['share_road'] == pytest.approx((image == 0).mean(), abs=1e-6)
    if name == 'still':  # what lasts over the seam between two pieces
        states = {row['state'] for row in table}
        assert states >= {'ok', 'blind'} and BEFORE_NS == 3_000_000_000


def test_labels_are_those_of_the_node(archive_of, client, tmp_path, made):
    held, out = archive_of
    node = NodeProcess(tmp_path, model=str(MODELS / 'palette_cityscapes19'), threads=1,
                       backend='onnxruntime', on_blind='withhold_drivable', frozen_after_s=1.0)
    with node, open_source(held / 'short') as source:
        client.listen('/seg_node/camera/mask')
        client.handshake('/camera/image_raw', ['/seg_node/camera/mask'],
                         wire.build_image(wire.Header(1, 0, ''), 48, 64, 'bgr8', scene(3)))
        for (stamp, mask), record in zip(masks(out, 'short'), source.records([IMAGE]),
                                         strict=True):
            got = client.exchange('/camera/image_raw', record.data, '/seg_node/camera/mask', stamp)
            assert np.array_equal(got.data.reshape(mask.shape), mask)


def test_what_is_interrupted_goes_on_to_the_same_and_then_nothing_is_done(
        archive_of, made, tmp_path):
    held, out = archive_of
    again = tmp_path / 'out'
    label_here(made, [held], again, stop_after=6)
    (again / 'making' / 'half').mkdir(parents=True)  # what a kill leaves
    assert len(list((again / 'pieces').rglob('told.json'))) >= 1
    assert not (again / 'recordings').exists() or len(list((again / 'recordings').iterdir())) < 4
    label_here(made, [held], again)
    assert digests(again) == digests(out)
    recordings, _, _ = find_recordings([str(held)])
    outcome = Outcome()
    assert sift(Output(out), recordings, outcome, again=False) == []
    assert outcome.frames == 90 + 5 + 25 + 12 and not outcome.broken


def test_of_two_that_made_the_same_piece_the_first_counts(made, tmp_path):
    recording = Recording(str(bag(tmp_path / 'a', 5)))
    output, workers = Output(tmp_path / 'out'), [Worker(made, tmp_path / 'out') for _ in '12']
    for worker in workers:
        worker.open()
        frames, core_s = worker.label(Piece(recording, 'print')).value
        assert frames.total() == 5 and 0 < core_s < 60
    before = digests(output.path)
    summaries = [worker.finish(recording, 1, 'print').value for worker in workers]
    assert summaries[0] == summaries[1] and summaries[0].frames == {IMAGE: 5}
    assert before.keys() and not list((output.path / 'making').iterdir())
    assert len(rows(output.path)) == 5


def test_one_output_has_one_run_and_one_maker(archive_of, made, tmp_path):
    _, out = archive_of
    output = Output(out)
    with Lock(output), pytest.raises(ConfigError, match='another run .process .* labels into'):
        Lock(output)
    with pytest.raises(ConfigError, match=r'threads 1, not 2.*take another --out'):
        output.adopt({**output.made_by, 'threads': 2})
    with pytest.raises(ConfigError, match='is no folder'):
        Output(out / 'manifest.json')


def test_what_is_cut_off_is_kept_and_named_and_labelled_anew_when_it_is_whole(made, tmp_path):
    [whole] = bag(tmp_path / 'a', 40, size=(240, 320)).glob('*.mcap')
    path, out = tmp_path / 'half.mcap', tmp_path / 'out'
    path.write_bytes(whole.read_bytes()[:whole.stat().st_size * 2 // 3])
    recordings = [Recording(str(path))]
    label_here(made, [path], out)
    kept = len(rows(out))
    outcome = Outcome()
    assert sift(Output(out), recordings, outcome, again=False) == [] and 0 < kept < 40
    assert 'files_cut_off 1' in outcome.broken[str(path)] and outcome.frames == kept

    label_here(made, [path], out)  # once more: nothing to do
    shutil.copy(whole, path)
    assert sift(Output(out), recordings, Outcome(), again=False) == recordings
    label_here(made, [path], out)
    assert len(rows(out)) == 40

    path.write_bytes(path.read_bytes() + b'0')  # whole, and another now
    outcome = Outcome()
    assert sift(Output(out), recordings, outcome, again=True) == []
    assert 'has changed since it was labelled: remove' in outcome.broken[str(path)]
    path.unlink()
    outcome = Outcome()
    assert sift(Output(out), recordings, outcome, again=True) == [] and not outcome.broken
    assert 'cannot be read any more' in outcome.remarks[str(path)][0]


def test_a_full_disk_ends_the_run_and_leaves_nothing_half_done(made, tmp_path):
    recording = Recording(str(bag(tmp_path / 'a', 40, size=(240, 320))))
    worker = Worker(made, tmp_path / 'out')
    worker.open()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        answer = worker.label(Piece(recording, 'print'))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert 'cannot be written' in answer.fatal and 'File too large' in answer.fatal
    assert not list((tmp_path / 'out' / 'making').iterdir())
    assert not (tmp_path / 'out' / 'pieces').exists()


def test_what_is_no_recording_is_named(made, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'half.mp4').write_bytes(b'\0\0\0\x20ftypisom' + bytes(40))
    (tmp_path / 'none.mcap').touch()
    (tmp_path / 'notes.txt').touch()
    found, broken, remarks = find_recordings([
        str(tmp_path), str(tmp_path / 'empty'), str(tmp_path / 'gone'), f'{tmp_path}/*.mcap',
        'nosuch://bucket/a'])
    assert [Path(one.uri).name for one in found] == ['half.mp4', 'none.mcap']
    assert 'holds no recording' in broken[str(tmp_path / 'empty')]
    assert 'does not exist' in broken[str(tmp_path / 'gone')] and 'nosuch' in ''.join(broken)
    assert remarks == ['1 files .txt are no recordings and are left out']
    worker = Worker(made, tmp_path / 'out')
    assert [('cannot be opened' in worker.look(one).refused) for one in found] == [True, True]


def test_a_name_that_is_no_text_stops_nothing(tmp_path):
    for name in (b'a\xe9.mp4', 'b é.mp4'.encode()):
        (Path(os.fsdecode(os.fsencode(tmp_path) + b'/' + name))).touch()
    found, broken, _ = find_recordings([str(tmp_path)])
    assert [Path(one.uri).name for one in found] == ['b é.mp4']
    [(name, reason)] = broken.items()
    assert name == ascii(f'{tmp_path}/a\udce9.mp4') and 'no UTF-8' in reason and name.isascii()


def test_what_the_node_would_refuse_is_a_row_without_a_mask(made, tmp_path):
    depth = wire.build_image(wire.Header(1, 0, ''), 4, 4, '16UC1', np.zeros(32, np.uint8), step=8)
    path = write_bag(tmp_path / 'b', [Record(IMAGE, START_NS + index * PERIOD_NS, data) for
                                      index, data in enumerate([depth, b'\0\1\0\0junk'])])
    label_here(made, [path], tmp_path / 'out')
    found = [(row['state'], row['stamp_ns'], row['drivable'], row['reason'][:14])
             for row in rows(tmp_path / 'out')]
    assert found == [('refused', 10**9, None, "encoding '16UC"),
                     ('refused', None, None, 'not a valid im')]
    outcome = Outcome()
    sift(Output(tmp_path / 'out'), [Recording(str(path))], outcome, again=False)
    assert outcome.refused == {'encoding': 1, 'malformed': 1} and not outcome.broken


def test_frames_that_are_announced_but_not_there_are_told(made, tmp_path):
    path = bag(tmp_path / 'short', 3)
    metadata = path / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('message_count: 3', 'message_count: 5'))
    label_here(made, [path], tmp_path / 'out')
    summary = Output(tmp_path / 'out').finished(Recording(str(path)))
    assert summary.remarks == [f'announces 5 frames on {IMAGE}, but holds 3']
    assert summary.frames == {IMAGE: 3} and not summary.broken


def test_recordings_elsewhere_are_fetched(archive_of, made, tmp_path):
    held, out = archive_of
    shutil.make_archive(str(tmp_path / 'packed'), 'zip', held, 'short')
    source = f'zip://*::{tmp_path / "packed.zip"}'
    [recording], broken, _ = find_recordings([source])
    assert not broken and recording.uri.endswith(f'short::{tmp_path / "packed.zip"}')
    label_here(made, [source], tmp_path / 'out')
    for (_, there), (_, here) in zip(masks(tmp_path / 'out', 'short'), masks(out, 'short'),
                                     strict=True):
        assert np.array_equal(there, here)


def test_distances_are_told_where_there_is_a_mount(made, tmp_path):
    labeller = Labeller(made)
    piece = Piece(Recording(str(ROOT / 'drive')), '', 0, 0, 400_000_000)
    told = labeller.label(piece, tmp_path, lambda frames: None)
    labeller.close()
    found = pq.read_table(tmp_path / 'frames.parquet').to_pylist()
    assert told.frames.total() == len(found) == 4 and not told.remarks
    assert all(0 < row['free_ahead_m'] < 25 for row in found)
    with open_bag(tmp_path / 'masks') as source:
        names = {topic.name.rpartition('/')[2]: topic.count for topic in source.topics}
    assert names.pop('label_info', 0) + names.pop('label_info_json', 0) == 1
    assert names == {'compressed': 4, 'camera_info': 4}


# find

@pytest.mark.parametrize('expression, count', [
    ('', 132), ("state == 'blind'", None), ("state != 'ok' and drivable < 0.1", None),
    ("state in ['ok']", None), ("not state == 'ok'", None), ('0.1 < drivable <= 0.9', None),
    ('drivable + share_sky > 0.5', None), ("contains(source, 'TRIP')", 25),
    ("time > '2023-01-01'", 95), ('nearest_m is None', 132), ('nearest_m is not None', 0),
    ('-seconds < -8', 9), ('abs(seconds - 8) < 0.05 or seconds == 0', 5), ('True', 132)])
def test_expressions_mean_what_they_say(archive_of, expression, count):
    table = finding.open_table(archive_of[1])
    found = finding.find(table, expression)
    if count is None:  # what Python itself makes of the rows
        count = sum(bool(eval(expression, {}, row)) for row in rows(archive_of[1]))
        assert 0 < count < 132
    assert found.count == found.rows.num_rows == count


@pytest.mark.parametrize('expression, said', [
    ('nope < 1', "there is no column 'nope'; there are source, camera"),
    ('drivable', 'no question of yes and no'), ('drivable <', 'cannot be read'),
    ('state < 3', 'does not fit the columns'), ("__import__('os').system('x')", 'not allowed'),
    ('[1]', 'not allowed'), ("time > 'soon'", 'is no time'), ("state is 'ok'", 'only None'),
    ("state in 'ok'", 'a list'), ('contains(state, 1)', 'wants a text'),
    ('not ' * 200 + 'True', 'nested'), ('state in [drivable]', 'not allowed')])
def test_expressions_that_mean_nothing_are_refused(expression, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse(expression, schema(TABLE))


def test_a_million_rows_are_searched_in_less_than_two_seconds(tmp_path):
    columns, random = schema(TABLE), np.random.default_rng(0)
    count = 100_000
    parts = {name: (pa.array(random.random(count), kind) if pa.types.is_floating(kind)
                    else pa.nulls(count, kind))
             for name, kind in zip(columns.names, columns.types, strict=True)}
    for name, word in (('state', 'doubtful'), ('source', '/drive'), ('camera', 'front')):
        parts[name] = pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [word])
    for part in range(10):
        folder = tmp_path / 'recordings' / f'part{part}'
        folder.mkdir(parents=True)
        if part:
            shutil.copy(tmp_path / 'recordings' / 'part0' / 'frames.parquet', folder)
        else:
            pq.write_table(pa.table(parts, columns), folder / 'frames.parquet')
    start = time.process_time()  # of all threads
    found = finding.find(finding.open_table(tmp_path), "drivable < 0.1 and state != 'ok'",
                         limit=20, columns=finding.SHOWN)
    spent_s = time.process_time() - start
    assert found.rows.num_rows == 20 and abs(found.count - 100_000) < 2000
    assert spent_s < 2, spent_s


def test_what_is_found_is_shown_and_goes_into_evaluate(archive_of, tmp_path, capsys):
    out, model = archive_of[1], str(MODELS / 'palette_cityscapes19')
    code = archive.main(['find', str(out), 'drivable > 0.2', '--apart', '0.5', '--limit', '0',
                         '--sort', 'seconds', '--reverse', '--sheet',
                         str(tmp_path / 'sheet.png'), '--frames', str(tmp_path / 'set'),
                         '--table', str(tmp_path / 'rows.csv'), '--model', model])
    said = capsys.readouterr().out
    assert code == 0, said
    count = int(re.search(r'(\d+) frames fit', said).group(1))
    assert f'{count} pictures with labels' in said and count > 10
    assert len((tmp_path / 'rows.csv').read_text().splitlines()) == count + 1
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    assert sheet.shape[1] == 4 * 640 and sheet.std() > 20
    assert evaluate.main(['--model', model, '--images', str(tmp_path / 'set' / 'images'),
                          '--labels', str(tmp_path / 'set' / 'labels'), '--layout', 'pairs',
                          '--taxonomy', 'cityscapes', '--threads', '1']) == 0
    assert re.search(r'mIoU\D+1\.0', capsys.readouterr().out)


def test_times_between_microseconds_are_shown():
    """As every recorder writes them; Python's own times have no more than microseconds."""
    rows = pa.table({'time': pa.array([1_700_000_000_123_456_789], pa.timestamp('ns', 'UTC'))})
    assert finding.as_text(rows, ['time']).splitlines()[1] == '2023-11-14 22:13:20.123456+00:00'


@pytest.mark.parametrize('arguments, said', [
    (['--sort', 'nope'], "no column 'nope'"), (['--limit', '-1'], '--limit -1'),
    (['--table', 'a.xls'], '.csv or .parquet'), (['--model', 'bisenetv2_camvid', '--sheet',
                                                  'a.png'], 'was made by palette_cityscapes19')])
def test_find_refuses(archive_of, capsys, arguments, said):
    assert archive.main(['find', str(archive_of[1]), *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--workers', '--threads'])
def test_label_refuses_crews_of_nobody(tmp_path, capsys, option):
    with pytest.raises(SystemExit):
        archive.main(['label', str(tmp_path), '--out', str(tmp_path / 'out'), option, '0'])
    assert f'{option}: 0 must be a whole number from 1 on' in capsys.readouterr().err


def test_find_needs_an_output(tmp_path, capsys):
    assert archive.main(['find', str(tmp_path)]) == 2
    assert 'holds no finished recording' in capsys.readouterr().err


def test_the_columns_are_documented():
    text = (ROOT / 'docs' / 'archive.md').read_text()
    shown = re.search(r'<!-- columns -->\n(.*?)<!-- end', text, re.S).group(1)
    assert shown.strip() == columns_table()
