"""The evaluation agrees with the official scripts and with plain definitions, or refuses."""

import importlib.util
import json
from pathlib import Path
import sys

import cv2
import numpy as np
import pytest
import yaml

from seg_node.devices import backend as backends
from seg_node.devices.host import HostSegmenter
from seg_node.frame import Frame, StageClock
from seg_node.image.wire import Header, ImageMessage
from seg_node.model.card import load_card
from seg_node.model.taxonomy import load_taxonomy
from seg_node.pipeline import Pipeline
from seg_node.products import NAMES
from seg_node.scoring import dense_crf
from seg_node.tools import evaluate

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / 'test' / 'models'
CITYSCAPES = load_taxonomy('cityscapes19')
SHAPE = (120, 160)  # here the palette models are exact


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def painted(labels, table=CITYSCAPES):
    """Return the picture in which the palette model of the table sees these labels."""
    return table.palette_bgr()[labels]


def patches(rng, low, high):
    """Return a map of random 8x8 patches of ids from low up to, but not, high."""
    small = rng.integers(low, high, (SHAPE[0] // 8, SHAPE[1] // 8), np.uint8)
    return small.repeat(8, 0).repeat(8, 1)


def mostly(rng, ids, others, share=0.8):
    return np.where(rng.random(ids.shape) < share, ids, others).astype(np.uint8)


@pytest.fixture
def measure(tmp_path, capsys):
    """Return a function that runs the tool on root/images and root/labels; gives the JSON."""
    def run(root, model, *options):
        path = tmp_path / 'report.json'
        path.unlink(missing_ok=True)
        code = evaluate.main(['--model', str(model), '--images', str(root / 'images'),
                              '--labels', str(root / 'labels'), '--json', str(path), *options])
        assert code == 0, capsys.readouterr().err
        return json.loads(path.read_text())
    return run


@pytest.fixture
def refuse(tmp_path, capsys):
    """Return a function that runs the tool, which must refuse; gives the message."""
    def run(root, model, *options):
        path = tmp_path / 'report.json'
        code = evaluate.main(['--model', str(model), '--images', str(root / 'images'),
                              '--labels', str(root / 'labels'), '--json', str(path), *options])
        assert code == 2 and not path.exists()
        return capsys.readouterr().err
    return run


def palette_model(folder, table, monkeypatch):
    """Write the palette model of another class table; return its folder."""
    pytest.importorskip('onnx')
    spec = importlib.util.spec_from_file_location('make_palette_models',
                                                  MODELS / 'make_palette_models.py')
    maker = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, maker)
    spec.loader.exec_module(maker)
    monkeypatch.setattr(maker, 'TABLE', table)
    maker.write(folder, [maker.Variant('palette', 'logits at stride 1')])
    return folder / 'palette'


# ---- Cityscapes, against the official scripts


class CityscapesTree:
    """A small made-up Cityscapes tree, by label ids and by train ids, and what is predicted."""

    def __init__(self, root, seed=0, table=CITYSCAPES, predicted_below=None):
        self.root, self.predicted, self.truths = root, [], []
        rng = np.random.default_rng(seed)
        for name in ('aachen/aachen_000000_000019', 'aachen/aachen_000001_000019',
                     'bonn/bonn_000000_000019'):
            # 16 to 18 (train, motorcycle, bicycle) are never there, 15 (bus) is only predicted,
            # 14 (truck) is never predicted
            train_ids = patches(rng, 0, 15)
            if predicted_below is None:
                predicted = mostly(rng, np.where(train_ids == 14, 15, train_ids),
                                   patches(rng, 0, 14))
            else:
                predicted = patches(rng, 0, predicted_below)
            ids = np.array([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27],
                           np.uint8)[train_ids]
            void = rng.random(SHAPE) < 0.2
            ids[void] = rng.choice([0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30],
                                   void.sum())
            train_ids[void] = 255
            self.predicted.append(predicted)
            write(root / 'images' / f'{name}_leftImg8bit.png', painted(predicted, table))
            self.truths.append(write(root / 'labels' / f'{name}_gtFine_labelIds.png', ids))
            write(root / 'train' / 'labels' / f'{name}_gtFine_labelTrainIds.png', train_ids)
            write(root / 'labels' / f'{name}_gtFine_color.png', np.zeros((*SHAPE, 3), np.uint8))
            write(root / 'labels' / f'{name}_gtFine_instanceIds.png', ids.astype(np.uint16))
        (root / 'train' / 'images').symlink_to(root / 'images')

    def official(self, label_ids):
        """Run cityscapesScripts; ``label_ids`` gives the label id of each predicted class."""
        script = pytest.importorskip(
            'cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling')
        files = [write(self.root / 'predicted' / f'{index}.png', label_ids[labels])
                 for index, labels in enumerate(self.predicted)]
        script.args.evalInstLevelScore = script.args.JSONOutput = False
        script.args.quiet = True
        result = script.evaluateImgLists([str(file) for file in files],
                                         [str(file) for file in self.truths], script.args)
        scores = {name: value for name, value in result['classScores'].items()
                  if not np.isnan(value)}
        return result['averageScoreClasses'], scores


LABEL_IDS = np.zeros(256, np.uint8)  # 0 is "unlabeled"
LABEL_IDS[:19] = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


@pytest.mark.parametrize('tree, layout', [('.', 'cityscapes'), ('train', 'cityscapes-trainids')])
def test_cityscapes_equals_the_official_script(tmp_path, measure, tree, layout):
    city = CityscapesTree(tmp_path / 'city')
    miou, iou = city.official(LABEL_IDS)
    report = measure(tmp_path / 'city' / tree, MODELS / 'palette_cityscapes19',
                     '--taxonomy', 'cityscapes')
    assert report['layout'] == layout
    assert report['miou'] == pytest.approx(miou, abs=1e-9)
    assert report['iou'] == pytest.approx(iou, abs=1e-9)
    assert iou['bus'] == iou['truck'] == 0 and 'train' not in iou  # the cases are there
    assert report['absent'] == ['bus', 'train', 'motorcycle', 'bicycle']
    assert report['frames'] == 3 and report['void_pixels'] > 0


def test_unlabelled_predictions_count_as_in_the_official_script(tmp_path, measure, monkeypatch):
    """A model of other classes leaves pixels without any class: misses, not void."""
    table = load_taxonomy('voc21')
    city = CityscapesTree(tmp_path / 'city', table=table, predicted_below=21)
    remap = yaml.safe_load((ROOT / 'models/classes/remaps/voc21_to_cityscapes19.yaml').read_text())
    label_ids = np.zeros(256, np.uint8)
    for name, counterpart in remap['classes'].items():
        label_ids[table.names.index(name)] = LABEL_IDS[CITYSCAPES.names.index(counterpart)]
    miou, iou = city.official(label_ids)
    report = measure(tmp_path / 'city', palette_model(tmp_path / 'm', table, monkeypatch),
                     '--layout', 'cityscapes')
    assert report['miou'] == pytest.approx(miou, abs=1e-9)
    assert report['iou'] == pytest.approx(iou, abs=1e-9)
    assert sum(row[-1] for row in report['confusion']['pixels']) > 0
    assert 'road' in report['not_in_model'] and 'car' not in report['not_in_model']


# ---- Other data sets, against a plain definition


def plain(truths, predictions, names, void=255):
    """Return mIoU, IoU by class and pixel accuracy of label maps by set arithmetic."""
    truth, predicted = (np.concatenate([part.reshape(-1) for part in parts]).astype(int)
                        for parts in (truths, predictions))
    predicted = predicted[truth != void]
    truth = truth[truth != void]
    iou = {}
    for index, name in enumerate(names):
        here = set(np.flatnonzero(truth == index))
        there = set(np.flatnonzero(predicted == index))
        if here | there:
            iou[name] = len(here & there) / len(here | there)
    accuracy = sum(map(int.__eq__, truth.tolist(), predicted.tolist())) / len(truth)
    return sum(iou.values()) / len(iou), iou, accuracy


def check(report, expected):
    miou, iou, accuracy = expected
    assert report['miou'] == pytest.approx(miou, abs=1e-9)
    assert report['iou'] == pytest.approx(iou, abs=1e-9)
    assert report['pixel_accuracy'] == pytest.approx(accuracy, abs=1e-9)


def test_voc_equals_the_definition(tmp_path, measure, monkeypatch):
    pil = pytest.importorskip('PIL.Image')
    table, rng = load_taxonomy('voc21'), np.random.default_rng(1)
    truths, predictions = [], []
    for name in ('2007_000033', '2007_000042'):
        truth = patches(rng, 0, 20)
        predicted = mostly(rng, truth, patches(rng, 0, 21))
        truth[::8] = truth[:, ::8] = 255  # the border around objects
        write(tmp_path / 'images' / f'{name}.png', painted(predicted, table))
        picture = pil.fromarray(truth, 'P')
        palette = table.palette_bgr()[:, ::-1].copy()
        palette[255] = 224, 224, 192
        picture.putpalette(palette.tobytes())
        (tmp_path / 'labels').mkdir(exist_ok=True)
        picture.save(tmp_path / 'labels' / f'{name}.png')
        truths.append(truth)
        predictions.append(predicted)
    report = measure(tmp_path, palette_model(tmp_path / 'm', table, monkeypatch))
    assert report['layout'] == 'voc'
    check(report, plain(truths, predictions, table.names))
    assert report['drivable_iou'] is None  # no class of VOC is drivable


def test_ade20k_equals_the_definition(tmp_path, measure, monkeypatch):
    table, rng = load_taxonomy('ade20k150'), np.random.default_rng(2)
    colours = [entry.colour for entry in table.classes]
    first = np.uint8([colours.index(colour) for colour in colours])  # some classes look alike
    truths, predictions = [], []
    for name in ('ADE_val_00000001', 'ADE_val_00000002'):
        truth = patches(rng, 0, 151)  # 0 is void
        predicted = first[mostly(rng, np.maximum(truth, 1) - 1, patches(rng, 0, 150))]
        write(tmp_path / 'images' / 'validation' / f'{name}.png', painted(predicted, table))
        write(tmp_path / 'labels' / 'validation' / f'{name}.png', truth)
        truths.append(np.where(truth == 0, 255, truth.astype(int) - 1))
        predictions.append(predicted)
    report = measure(tmp_path, palette_model(tmp_path / 'm', table, monkeypatch),
                     '--taxonomy', 'ade20k')
    check(report, plain(truths, predictions, table.names))


@pytest.fixture
def camvid(tmp_path):
    """Write CamVid labels and pictures that the Cityscapes model sees; return both and root."""
    root, rng = tmp_path / 'camvid', np.random.default_rng(3)
    remap = yaml.safe_load(
        (ROOT / 'models/classes/remaps/cityscapes19_to_camvid11.yaml').read_text())['classes']
    names = load_taxonomy('camvid11').names
    lut = np.uint8([names.index(remap[name]) for name in CITYSCAPES.names])
    truths, predictions = [], []
    for name in 'abc':
        predicted = patches(rng, 0, 19)
        truth = mostly(rng, lut[predicted], patches(rng, 0, 11), 0.7 + 0.1 * len(truths))
        truth[:16, :32] = 11
        write(root / 'images' / f'{name}.png', painted(predicted))
        write(root / 'labels' / f'{name}.png', truth)
        truths.append(np.where(truth == 11, 255, truth))
        predictions.append(predicted)
    return root, truths, predictions, lut


PALETTE = MODELS / 'palette_cityscapes19'


def test_a_cityscapes_model_on_camvid(camvid, measure):
    root, truths, predictions, lut = camvid
    table = load_taxonomy('camvid11')
    report = measure(root, PALETTE, '--taxonomy', 'camvid')
    check(report, plain(truths, [lut[part] for part in predictions], table.names))
    assert report['not_in_model'] == [] and report['scored_in'] == 'camvid11'
    road = table.names.index('Road')
    known = np.stack(truths) != 255
    here, there = np.stack(truths) == road, np.stack(predictions) == 0
    assert report['drivable_iou'] == pytest.approx(
        (here & there & known).sum() / ((here | there) & known).sum(), abs=1e-12)


def test_scored_in_the_classes_of_the_model(camvid, measure):
    """CamVid labels brought to Cityscapes: classes that CamVid cannot name have no IoU."""
    root, truths, predictions, _ = camvid
    remap = yaml.safe_load(
        (ROOT / 'models/classes/remaps/camvid11_to_cityscapes19.yaml').read_text())['classes']
    lut = np.full(256, 255, np.uint8)
    for index, name in enumerate(load_taxonomy('camvid11').names):
        lut[index] = CITYSCAPES.names.index(remap[name])
    report = measure(root, PALETTE, '--layout', 'camvid', '--classes', 'cityscapes19')
    _, iou, accuracy = plain([lut[part] for part in truths], predictions, CITYSCAPES.names)
    for name in report['not_in_labels']:
        assert iou.pop(name) == 0
    assert {'truck', 'bus', 'terrain'} <= set(report['not_in_labels'])
    check(report, (sum(iou.values()) / len(iou), iou, accuracy))


def test_the_drivable_area_alone(camvid, measure):
    root, truths, predictions, _ = camvid
    road = load_taxonomy('camvid11').names.index('Road')
    expected = plain([np.where(part == 255, 255, part == road) for part in truths],
                     [part == 0 for part in predictions], ('not drivable', 'drivable'))
    for model in (PALETTE, MODELS / 'palette_binary'):  # the latter knows nothing else
        report = measure(root, model, '--layout', 'camvid', '--classes', 'drivable')
        check(report, expected)
        assert report['drivable_iou'] == report['iou']['drivable']


def test_each_head_is_scored_as_what_it_is(camvid, measure):
    """The drivable head of this model takes terrain too, which its class table does not."""
    root, truths, predictions, _ = camvid
    known, here = np.stack(truths) != 255, np.stack(truths) == 3

    def iou(ids):
        there = np.isin(np.stack(predictions), ids)
        return pytest.approx((here & there & known).sum() / ((here | there) & known).sum(),
                             abs=1e-12)
    by_classes, by_head = iou([0]), iou([0, CITYSCAPES.names.index('terrain')])
    two = MODELS / 'palette_two_heads'
    report = measure(root, two, '--layout', 'camvid')
    # mIoU and "drivable IoU" are of one mask; that of the other head is told apart.
    assert report['drivable_iou'] == report['iou']['Road'] == by_classes
    assert report['drivable_head_iou'] == by_head and report['head'] == 'labels'
    for options in (['--head', 'drivable'], ['--classes', 'drivable']):
        report = measure(root, two, '--layout', 'camvid', *options)
        assert report['drivable_iou'] == report['iou']['drivable'] == by_head
        assert report['drivable_head_iou'] is None and report['head'] == 'drivable'
        assert report['ece'] is None  # the confidence is that of the other head


def test_a_head_that_the_model_has_not_is_refused(camvid, refuse):
    error = refuse(camvid[0], MODELS / 'palette_two_heads', '--head', 'lanes')
    assert 'has the heads labels, drivable' in error


def test_ids_that_are_shifted_are_named(tmp_path, measure, capsys):
    """ADE20K's labels count from 1, Cityscapes' train ids are no label ids."""
    rng = np.random.default_rng(3)
    ids = patches(rng, 0, 19)
    write(tmp_path / 'images' / 'a_leftImg8bit.png', painted(ids))
    write(tmp_path / 'labels' / 'a_gtFine_labelIds.png', ids)  # train ids under a false name
    report = measure(tmp_path, PALETTE, '--layout', 'cityscapes')
    assert 'taken as class ids' in report['suspicion'] and report['pixel_accuracy'] < 0.1
    assert 'WARNING: the ids of the labels look shifted' in capsys.readouterr().err
    pairs = tmp_path / 'pairs'
    write(pairs / 'images' / 'a.png', painted(patches(rng, 0, 18)))
    seen = patches(np.random.default_rng(4), 0, 18)
    write(pairs / 'images' / 'a.png', painted(seen))
    write(pairs / 'labels' / 'a.png', seen + 1)
    report = measure(pairs, PALETTE, '--layout', 'pairs', '--taxonomy', 'cityscapes19')
    assert 'one less than' in report['suspicion'] or 'one more than' in report['suspicion']
    write(pairs / 'labels' / 'a.png', seen)
    assert not measure(pairs, PALETTE, '--layout', 'pairs',
                       '--taxonomy', 'cityscapes19')['suspicion']


@pytest.mark.parametrize(('layout', 'images', 'labels'), [
    ('kitti', 'image_2', 'semantic'), ('acdc', 'rgb_anon', 'gt')])
def test_the_cases(data_dir, tmp_path, layout, images, labels):
    root = data_dir / 'cases' / 'datasets' / layout
    path = tmp_path / 'report.json'
    assert evaluate.main(['--model', str(data_dir / 'cases' / 'models' / 'city19'), '--images',
                          str(root / images), '--labels', str(root / labels), '--layout', layout,
                          '--json', str(path)]) == 0
    report = json.loads(path.read_text())
    assert report['miou'] == 1.0 and not report['suspicion']


def test_figures_without_meaning_are_none(tmp_path, measure):
    sky = CITYSCAPES.names.index('sky')
    write(tmp_path / 'images' / 'a.png', painted(np.full(SHAPE, sky, np.uint8)))
    write(tmp_path / 'labels' / 'a.png', np.zeros(SHAPE, np.uint8))
    report = measure(tmp_path, PALETTE, '--taxonomy', 'camvid')
    assert report['drivable_iou'] is None  # not 1: no road was seen and none was there
    assert report['iou'] == {'Sky': 1.0} and len(report['absent']) == 10


def test_ignored_ids_leave_the_measure(camvid, measure):
    root, truths, predictions, lut = camvid
    names = load_taxonomy('camvid11').names
    report = measure(root, PALETTE, '--layout', 'camvid', '--ignore', '0', '--ignore', '5')
    for part in truths:
        part[np.isin(part, (0, 5))] = 255
    _, iou, accuracy = plain(truths, [lut[part] for part in predictions], names)
    assert iou.pop('Sky') == iou.pop('Tree') == 0
    check(report, (sum(iou.values()) / len(iou), iou, accuracy))
    assert report['ignore'] == [0, 5] and report['not_in_labels'] == ['Sky', 'Tree']


def test_a_remap_of_ones_own(camvid, measure, refuse, tmp_path):
    root, truths, predictions, _ = camvid
    path = tmp_path / 'mine.yaml'
    path.write_text('source: cityscapes19\ntarget: camvid11\nclasses: {road: Road}\n')
    report = measure(root, PALETTE, '--layout', 'camvid', '--remap', str(path))
    ours = [np.where(part == 0, 3, 99) for part in predictions]
    check(report, plain(truths, ours, load_taxonomy('camvid11').names))
    assert len(report['not_in_model']) == 10
    (tmp_path / 'report.json').unlink()
    assert 'no meaning' in refuse(root, PALETTE, '--layout', 'camvid', '--remap', str(path),
                                  '--classes', 'cityscapes19')


def test_calibration_error_is_of_the_published_confidence(camvid, measure):
    root, truths, _, lut = camvid
    card = load_card(MODELS / 'palette_stride8')
    backend = backends.load('onnxruntime', card, providers=['CPUExecutionProvider'], threads=0)
    pipeline = Pipeline(HostSegmenter(card, backend), CITYSCAPES)
    bins = [[] for _ in range(15)]
    for name, truth in zip('abc', truths, strict=True):
        image = cv2.imread(str(root / 'images' / f'{name}.png'))
        message = ImageMessage(Header(0, 0, ''), *SHAPE, 'bgr8', False, 480, image.reshape(-1))
        [products] = pipeline.process([Frame('', message)], [NAMES], StageClock())
        for sure, mask, label in zip(*(part.reshape(-1).tolist() for part in (
                products.images['confidence'], lut[products.images['mask']], truth)), strict=True):
            if label != 255:
                bins[max(0, -(-sure // 17) - 1)].append((sure / 255, mask == label))
    assert sum(map(bool, bins)) > 8  # confidences of all kinds
    total = sum(map(len, bins))
    expected = sum(abs(sum(right for _, right in part) - sum(sure for sure, _ in part))
                   for part in bins) / total
    report = measure(root, card.directory, '--layout', 'camvid')
    assert report['ece'] == pytest.approx(expected, abs=1e-9)
    # A model that gives just class ids has no confidence.
    assert measure(root, MODELS / 'palette_labels', '--layout', 'camvid')['ece'] is None


# ---- The report


def test_the_same_twice(camvid, measure):
    reports = [measure(camvid[0], PALETTE, '--layout', 'camvid') for _ in range(2)]
    assert all(report.pop('ms_per_frame') > 0 for report in reports)
    assert json.dumps(reports[0]) == json.dumps(reports[1])
    assert list(reports[0])[:6] == ['miou', 'iou', 'pixel_accuracy', 'drivable_iou', 'ece',
                                    'drivable_by_confidence']
    assert str(camvid[0].parent) not in json.dumps(reports[0])
    assert reports[0]['images'] == 'camvid/images'
    counts = np.array(reports[0]['confusion']['pixels'])
    assert counts.shape == (11, 12) and counts.sum() == reports[0]['pixels']


def test_the_sheet_shows_the_worst_frames(camvid, measure, tmp_path):
    path = tmp_path / 'sheet.png'
    measure(camvid[0], PALETTE, '--layout', 'camvid', '--sheet', str(path), '--worst', '2')
    sheet = cv2.imread(str(path))
    bar, height = 28, 480  # a panel is 640 wide
    assert sheet.shape == (bar + 2 * (bar + height) + bar, 4 * 640, 3)  # title, rows, legend
    # "a" is the worst: its picture comes first, and void is black in its errors.
    image = cv2.resize(cv2.imread(str(camvid[0] / 'images' / 'a.png')), (640, height),
                       interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(sheet[2 * bar:2 * bar + height, :640], image)
    errors = sheet[2 * bar:2 * bar + height, 1920:]
    assert not errors[:60, :120].any()
    wrong = (errors == (40, 40, 230)).all(axis=2).mean()
    truth, predicted = camvid[1][0], camvid[3][camvid[2][0]]
    assert wrong == pytest.approx(((truth != predicted) & (truth != 255)).mean(), abs=0.01)


def test_several_processes_find_the_same(camvid, measure, refuse, tmp_path):
    """Not only the figures: the worst frames, too, in their order."""
    reports, sheets = [], []
    for workers in ('1', '2'):
        reports.append(measure(camvid[0], PALETTE, '--layout', 'camvid', '--workers', workers,
                               '--threads', '1', '--sheet', str(tmp_path / 'sheet.png')))
        sheets.append((tmp_path / 'sheet.png').read_bytes())
    for report, workers in zip(reports, (1, 2), strict=True):
        assert report.pop('ms_per_frame') > 0 and report.pop('workers') == workers
    assert reports[0] == reports[1] and sheets[0] == sheets[1]
    (tmp_path / 'report.json').unlink()
    write(camvid[0] / 'labels' / 'c.png', np.full(SHAPE, 30, np.uint8))  # of the second process
    assert 'c.png: 19200 pixels have ids outside' in refuse(camvid[0], PALETTE, '--layout',
                                                            'camvid', '--workers', '2')


# ---- Lane marks


def test_lane_marks_against_the_definition(tmp_path, measure, refuse):
    """Masks of 0 and 255, as YOLOP's: 255 is a mark there, and not void."""
    card = yaml.safe_load((MODELS / 'palette_two_heads' / 'card.yaml').read_text())
    lanes = [{'id': 0, 'name': 'none', 'colour': [0, 0, 0]},
             {'id': 1, 'name': 'white', 'colour': [255, 255, 255]}]
    card['outputs'][1] |= {'role': 'lane_marks', 'classes': [
        entry | {'drivable': False, 'dynamic': False} for entry in lanes]}
    folder = tmp_path / 'lanes'
    folder.mkdir()
    (folder / 'model.onnx').symlink_to(MODELS / 'palette_two_heads' / 'model.onnx')
    (folder / 'card.yaml').write_text(yaml.safe_dump(card))
    rng, root = np.random.default_rng(6), tmp_path / 'data'
    both = either = 0
    for name in 'ab':
        seen = patches(rng, 0, 19)
        marked = np.isin(seen, (0, CITYSCAPES.names.index('terrain')))  # what that head takes
        truth = marked ^ (rng.random(SHAPE) < 0.1)
        write(root / 'images' / f'{name}.png', painted(seen))
        write(root / 'labels' / f'{name}.png', np.where(truth, 255, 0).astype(np.uint8))
        both, either = both + (truth & marked).sum(), either + (truth | marked).sum()
    report = measure(root, folder, '--layout', 'lanes', '--head', 'lane_marks')
    assert report['lane_iou'] == report['iou']['lane mark'] == pytest.approx(both / either,
                                                                             abs=1e-12)
    assert report['void_pixels'] == 0 and report['drivable_iou'] is None
    (tmp_path / 'report.json').unlink()
    assert 'which classes of cityscapes19 are lane marks is not known' in refuse(
        root, folder, '--layout', 'lanes')


# ---- DeepLab's CRF


def test_a_crf_that_changes_nothing_changes_nothing(camvid, measure, monkeypatch):
    """What goes into it and comes out is read as the node reads it."""
    monkeypatch.setattr(dense_crf, 'require', lambda: None)
    monkeypatch.setattr(dense_crf, 'refined', lambda image, probabilities: probabilities)
    for model in (PALETTE, MODELS / 'palette_softmax'):
        plainly = measure(camvid[0], model, '--layout', 'camvid')
        by_crf = measure(camvid[0], model, '--layout', 'camvid', '--crf')
        assert by_crf['crf'] and by_crf['backend'].endswith('then a dense CRF')
        for key in ('miou', 'iou', 'confusion', 'drivable_iou'):
            assert by_crf[key] == plainly[key]
        assert by_crf['ece'] == pytest.approx(plainly['ece'], abs=0.003)  # of the winner's own


def test_the_crf_mends_what_the_picture_knows_better():
    pytest.importorskip('pydensecrf', reason='needs requirements/crf.txt')
    rng = np.random.default_rng(0)
    truth = np.zeros((40, 60), int)
    truth[:, 30:] = 1
    image = np.where(truth[..., None] == 1, (200, 40, 40), (30, 160, 90)).astype(np.uint8)
    spoilt = np.where(rng.random(truth.shape) < 0.15, 1 - truth, truth)
    given = np.where(np.arange(2)[:, None, None] == spoilt, 0.7, 0.3)
    found = dense_crf.refined(image, given)
    assert found.shape == given.shape and np.abs(found.sum(axis=0) - 1).max() < 1e-4
    assert (given.argmax(axis=0) == truth).mean() < 0.9
    assert (found.argmax(axis=0) == truth).mean() > 0.999


def test_what_people_read(camvid, measure, capsys):
    report = measure(camvid[0], PALETTE, '--layout', 'camvid')
    text = capsys.readouterr().out
    assert f'mIoU               {report["miou"]:.4f}' in text and 'Road' in text
    assert 'palette_cityscapes19 on camvid/images, 3 frames' in text


def test_the_shipped_default_on_recorded_data(data_dir, tmp_path, measure):
    split = tmp_path / 'split.txt'
    split.write_text('0016E5_07959\n0016E5_08081\n0016E5_08159\n')
    folder = data_dir / 'data' / 'camvid' / 'val'
    root = tmp_path / 'val'
    root.mkdir()
    for name in ('images', 'labels'):
        (root / name).symlink_to(folder / name)
    report = measure(root, 'deeplabv3plus_lite0_camvid', '--split', str(split))
    assert report['frames'] == 3 and report['layout'] == 'camvid'
    assert report['iou']['Road'] > 0.7 and report['drivable_iou'] == report['iou']['Road']


# ---- What is refused


def test_a_label_of_another_size(camvid, refuse):
    root = camvid[0]
    write(root / 'labels' / 'b.png', np.zeros((60, 80), np.uint8))
    text = refuse(root, PALETTE, '--layout', 'camvid')
    assert f'{root / "images" / "b.png"} is 160x120' in text
    assert f'{root / "labels" / "b.png"} is 80x60' in text and 'scale' in text


def test_names_that_do_not_pair_up(camvid, refuse):
    (camvid[0] / 'labels' / 'c.png').rename(camvid[0] / 'labels' / 'd.png')
    text = refuse(camvid[0], PALETTE, '--layout', 'camvid')
    assert 'have no label, the first: c' in text and 'have no image, the first: d' in text


def test_labels_outside_the_taxonomy(camvid, refuse):
    path = write(camvid[0] / 'labels' / 'c.png', np.full(SHAPE, 30, np.uint8))
    text = refuse(camvid[0], PALETTE, '--layout', 'camvid')
    assert f'{path}: 19200 pixels have ids outside the classes: 30' in text and '--ignore' in text
    # CamVid's void read by a layout that does not know it
    text = refuse(camvid[0], PALETTE, '--layout', 'pairs', '--taxonomy', 'camvid')
    assert 'a.png' in text and 'outside the classes: 11.' in text


def test_unreadable_pictures(camvid, refuse):
    for name in ('labels', 'images'):
        path = camvid[0] / name / 'c.png'
        data = path.read_bytes()
        path.write_bytes(data[:-40])
        text = refuse(camvid[0], PALETTE, '--layout', 'camvid')
        assert str(path) in text and 'ends inside a chunk' in text and 'mend' in text.lower()
        path.write_bytes(data)


def test_an_empty_folder(tmp_path, refuse):
    for name in ('images', 'labels'):
        (tmp_path / name).mkdir()
    text = refuse(tmp_path, PALETTE, '--taxonomy', 'camvid')
    assert f'--images {tmp_path / "images"} holds nothing for the layout camvid' in text


def test_a_model_of_other_classes_without_remap(tmp_path, refuse):
    write(tmp_path / 'images' / 'a.png', np.zeros((*SHAPE, 3), np.uint8))
    write(tmp_path / 'labels' / 'a.png', np.zeros(SHAPE, np.uint8))
    text = refuse(tmp_path, PALETTE, '--taxonomy', 'voc')
    assert 'no remap from the classes cityscapes19 to voc21' in text
    assert '--classes' in text and '--remap FILE' in text
    assert 'drivable' in refuse(tmp_path, PALETTE, '--taxonomy', 'voc', '--classes', 'drivable')


def test_nothing_but_void(camvid, refuse):
    for name in 'abc':
        write(camvid[0] / 'labels' / f'{name}.png', np.full(SHAPE, 11, np.uint8))
    text = refuse(camvid[0], PALETTE, '--layout', 'camvid')
    assert 'void' in text and str(camvid[0] / 'labels' / 'a.png') in text


@pytest.mark.parametrize('options, reason', [
    (['--taxonomy', 'camvd11'], "Did you mean 'camvid11'?"),
    (['--layout', 'kitty'], 'allowed: pairs, camvid'),
    (['--layout', 'camvid', '--taxonomy', 'voc'], 'camvid11, not voc21'),
    (['--layout', 'camvid', '--sheet', 'sheet.gif'], '.png and .jpg'),
    (['--layout', 'camvid', '--sheet', 'none/sheet.png'], 'there is no folder none'),
    (['--layout', 'camvid', '--worst', '0'], 'at least 1'),
    (['--layout', 'camvid', '--backend', 'magic'], "backend 'magic' is unknown"),
    (['--layout', 'camvid', '--workers', '0'], '--workers 0: allowed are 1 to 64'),
    (['--layout', 'camvid', '--workers', '2', '--sequence', '10'], 'follow one another'),
    (['--layout', 'camvid', '--crf', '--backend', 'auto'], 'Choose onnxruntime or openvino'),
    (['--layout', 'camvid', '--crf', '--head', 'drivable'], 'scored is the head drivable'),
])
def test_options_that_make_no_sense(camvid, refuse, options, reason):
    assert reason in refuse(camvid[0], PALETTE, *options)


def test_a_crf_without_its_library_or_scores(camvid, refuse, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pydensecrf.densecrf', None)
    assert 'pip install -r requirements/crf.txt' in refuse(camvid[0], PALETTE, '--layout',
                                                           'camvid', '--crf')
    monkeypatch.setattr(dense_crf, 'require', lambda: None)
    assert 'the CRF needs logits, probabilities, scores' in refuse(
        camvid[0], MODELS / 'palette_labels', '--layout', 'camvid', '--crf')
