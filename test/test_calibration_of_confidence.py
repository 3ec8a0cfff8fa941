"""The temperature: fitted on known logits, written into the card, used by the pipeline."""

import json
from pathlib import Path
import shutil

import cv2
import numpy as np
import pytest

from seg_node import reference
from seg_node.errors import ConfigError
from seg_node.geometry import fit, Size
from seg_node.labels import upsample_argmax
from seg_node.model.card import InputSpec, load_card
from seg_node.model.taxonomy import load_taxonomy
from seg_node.scoring.metrics import ExpectedCalibrationError
from seg_node.scoring.reliability import reliability_diagram
from seg_node.scoring.temperature import LIMIT, TemperatureFit, TEMPERATURES
from seg_node.tools import evaluate
from seg_node.tools.fit_temperature import with_temperature

MODELS = Path(__file__).parent / 'models'
GRID, SIZE = (40, 60), Size(80, 120)
GEOMETRY = fit(InputSpec('x', 'NCHW', 'rgb', 'float32', (0, 0, 0), (1, 1, 1), size=SIZE), SIZE)
ROWS, COLUMNS = GEOMETRY.rows(GRID[0]), GEOMETRY.columns(GRID[1])


def honest(rng, temperature):
    """
    Return logits and a truth that is drawn by their softmax, so that 1 is the right temperature.

    The logits are then sharpened: that ``temperature`` undoes.
    """
    coarse = rng.normal(0, 2.5, (5, 6, 8)).astype(np.float32)
    logits = np.stack([cv2.resize(plane, GRID[::-1], interpolation=cv2.INTER_CUBIC)
                       for plane in coarse])
    chances = reference.upsample(reference.softmax(logits), ROWS, COLUMNS)
    draw = rng.random(SIZE)
    truth = (chances.cumsum(axis=0) < draw).sum(axis=0).clip(0, 4).astype(np.uint8)
    return logits * np.float32(temperature), truth


def counted(temperature, frames=24, seed=0):
    """Return a fit fed with honest frames that were sharpened."""
    rng, counts = np.random.default_rng(seed), TemperatureFit()
    for _ in range(frames):
        logits, truth = honest(rng, temperature)
        labels, _ = upsample_argmax(logits, ROWS, COLUMNS)
        counts.add(logits, ROWS, COLUMNS, labels, labels == truth, truth < 255)
    return counts


@pytest.mark.parametrize('temperature', [0.6, 1.0, 1.5, 2.5])
def test_it_undoes_what_sharpened_the_logits(temperature):
    fitted = counted(temperature).result(limit=0)
    assert fitted.temperature == fitted.best == pytest.approx(temperature, rel=0.08)
    assert fitted.after == fitted.least < 0.01
    if temperature != 1:
        assert fitted.before > 3 * fitted.after


def test_its_error_is_that_of_the_published_confidence():
    """Of all pixels, by the pipeline's own labelling, at the temperature that was found."""
    logits, truth = honest(np.random.default_rng(5), 1.5)
    labels, _ = upsample_argmax(logits, ROWS, COLUMNS)
    counts = TemperatureFit()
    counts.add(logits, ROWS, COLUMNS, labels, labels == truth, truth < 1)
    index = 140
    chances = reference.softmax(logits, float(TEMPERATURES[index]))
    _, sure = upsample_argmax(logits, ROWS, COLUMNS, chances)
    whole = ExpectedCalibrationError()
    whole.add(sure, labels == truth, truth < 1)
    found = counts._counts[index]
    # Fewer pixels are known than samples are taken, so all are counted; rounding may differ.
    assert found.pixels.sum() == whole.pixels.sum() == (truth < 1).sum()
    assert np.abs(np.cumsum(found.pixels) - np.cumsum(whole.pixels)).max() <= 3
    assert found.value() == pytest.approx(whole.value(), abs=1e-3)


def test_it_is_as_little_sure_as_the_limit_allows():
    counts = counted(1.0)
    found = [counts.result(limit=limit) for limit in (0, 0.02, 0.04)]
    assert 1 == pytest.approx(found[0].temperature, rel=0.05)
    assert found[0].temperature < found[1].temperature < found[2].temperature < 1.5
    for fitted, limit in zip(found[1:], (0.02, 0.04), strict=True):
        assert 0.9 * limit < fitted.after <= limit and fitted.best == found[0].temperature
    assert LIMIT == 0.011  # as the docs say


@pytest.mark.parametrize('frames, known', [(19, 255), (24, 1), (1, 255)])
def test_too_few_pixels_are_refused(frames, known):
    rng, counts = np.random.default_rng(0), TemperatureFit()
    for _ in range(frames):
        logits, truth = honest(rng, 1)
        counts.add(logits, ROWS, COLUMNS, truth, truth == truth,
                   (truth < known) & (np.arange(120) < known))
    with pytest.raises(ConfigError, match=f'of {frames} pictures are too few .*40000.* 20'):
        counts.result()


# --- the card ---

def card_with(tmp_path, text):
    folder = tmp_path / 'model'
    shutil.copytree(MODELS / 'palette_stride8', folder)
    card = folder / 'card.yaml'
    card.write_text(text(card.read_text()))
    return load_card(folder)


FLOW = '- {name: logits, role: labels, kind: logits, layout: NCHW, classes: cityscapes19}'
CARDS = {
    'flow': FLOW,
    'flow again': FLOW.replace('kind: logits', 'kind: logits, temperature: 2'),
    'block': ('  - name: logits\n    role: labels\n    kind: logits  # raw\n    layout: NCHW\n'
              '    classes: cityscapes19'),
    'first': ('- kind: logits\n  name: logits\n  role: labels\n  layout: NCHW\n'
              '  classes: cityscapes19'),
    'again': ('- kind: logits\n  name: logits\n  role: labels\n  layout: NCHW\n'
              '  temperature: 3.5  # old\n  classes: cityscapes19'),
    'another one': '- temperature: 3.5\n  ' + FLOW[3:-1].replace(', ', '\n  '),
}


@pytest.mark.parametrize('name', CARDS)
def test_the_card_gets_the_temperature_and_keeps_all_else(tmp_path, name):
    card = card_with(tmp_path, lambda text: text.replace(FLOW, CARDS[name]))
    before = card.path.read_text()
    changed = with_temperature(card, 1.234)
    card.path.write_text(changed)
    assert load_card(card.path).main_output.temperature == 1.234
    gone, new = (set(a.splitlines()) - set(b.splitlines())
                 for a, b in ((before, changed), (changed, before)))
    assert len(gone) <= 1 and len(new) == 1 and 'temperature: 1.234' in changed
    assert before.count('#') == changed.count('#') and 'description: kind: logits' not in changed


def test_a_word_elsewhere_is_not_taken_for_the_place(tmp_path):
    card = card_with(tmp_path, lambda text: text.replace(
        'for tests: logits', 'temperature: 7, kind: logits, for tests: logits'))
    card.path.write_text(with_temperature(card, 1.5))
    again = load_card(card.path)
    assert again.main_output.temperature == 1.5 and again.description == card.description


def test_a_card_in_which_the_place_is_not_found_is_left_alone(tmp_path):
    card = card_with(tmp_path, lambda text: text.replace('kind: logits', '"kind": "logits"'))
    with pytest.raises(ConfigError, match='Write temperature: 1.5 there yourself'):
        with_temperature(card, 1.5)


# --- the tool ---

TABLE = load_taxonomy('cityscapes19')


def street(root, count, seed, right=0.7, start=0):
    """Write pictures that the palette model reads, and a truth that agrees with a share of it."""
    rng = np.random.default_rng(seed)
    for folder in ('images', 'labels'):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for index in range(start, start + count):
        ids = rng.integers(0, 19, (15, 20), np.uint8).repeat(8, 0).repeat(8, 1)
        other = rng.integers(0, 19, (15, 20), np.uint8).repeat(8, 0).repeat(8, 1)
        agrees = rng.random((15, 20)).repeat(8, 0).repeat(8, 1) < right
        cv2.imwrite(str(root / 'images' / f'{index:03d}.png'), TABLE.palette_bgr()[ids])
        cv2.imwrite(str(root / 'labels' / f'{index:03d}.png'), np.where(agrees, ids, other))
    return root


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / 'model'
    shutil.copytree(MODELS / 'palette_cityscapes19', folder)
    return folder


def run(tmp_path, model, fit_on, scored, *more):
    return evaluate.main([
        '--model', str(model), '--images', str(scored / 'images'), '--labels',
        str(scored / 'labels'), '--layout', 'pairs', '--json', str(tmp_path / 'report.json'),
        '--calibrate',
        str(fit_on / 'images'), str(fit_on / 'labels'), *more])


def test_calibrate_writes_the_card_and_tells_before_and_after(tmp_path, model, capsys):
    """The palette model is sure of all it says, and right in seven of ten."""
    fit_on, scored = street(tmp_path / 'a', 24, 1), street(tmp_path / 'b', 3, 2)
    picture = tmp_path / 'reliability.png'
    assert run(tmp_path, model, fit_on, scored, '--reliability', str(picture)) == 0
    report = json.loads((tmp_path / 'report.json').read_text())
    temperature = load_card(model).main_output.temperature
    assert temperature == report['temperature'] == report['fitted']['temperature'] != 1
    assert report['ece'] < report['ece_before'] and report['fitted']['frames'] == 24
    assert report['fitted']['least'] <= report['fitted']['after']
    told = capsys.readouterr().out
    assert f'before {report["ece_before"]:.4f}, after {report["ece"]:.4f}' in told
    assert cv2.imread(str(picture)) is not None
    # The next evaluation is by the new card, with nothing said.
    assert evaluate.main(['--model', str(model), '--images', str(scored / 'images'), '--labels',
                          str(scored / 'labels'), '--layout', 'pairs', '--json',
                          str(tmp_path / 'again.json')]) == 0
    assert json.loads((tmp_path / 'again.json').read_text())['ece'] == report['ece']


def test_what_calibrate_refuses(tmp_path, model, capsys):
    few, scored = street(tmp_path / 'a', 3, 1), street(tmp_path / 'b', 3, 2)
    card = (model / 'card.yaml').read_text()
    cases = [
        (model, few, 'of 3 pictures are too few'),
        (model, scored, 'the same picture as'),
        (MODELS / 'palette_softmax', few, 'is probabilities; a temperature needs logits'),
        (MODELS / 'palette_labels', few, 'is labels; a temperature needs logits')]
    for folder, fit_on, message in cases:
        assert run(tmp_path, folder, fit_on, scored) == 2
        assert message in capsys.readouterr().err, message
    assert (model / 'card.yaml').read_text() == card and not (tmp_path / 'report.json').exists()


def test_a_limit_that_is_no_share_is_refused(tmp_path, model, capsys):
    fit_on, scored = street(tmp_path / 'a', 1, 1), street(tmp_path / 'b', 1, 2)
    for limit in ('-0.1', '0.6', 'nan'):
        assert run(tmp_path, model, fit_on, scored, f'--calibration-limit={limit}') == 2
        assert 'allowed are 0 to 0.5' in capsys.readouterr().err


def test_pictures_are_the_same_whatever_they_are_called(tmp_path, model, capsys):
    scored = street(tmp_path / 'b', 3, 2)
    fit_on = street(tmp_path / 'a', 2, 1)
    for folder in ('images', 'labels'):
        shutil.copy(scored / folder / '001.png', fit_on / folder / 'copy.png')
    assert run(tmp_path, model, fit_on, scored) == 2
    assert 'copy.png is fitted on, and the same picture as' in capsys.readouterr().err


def test_wrong_drivable_pixels_by_threshold(tmp_path, model):
    """Against plain counting: all are sure, three of ten truths are drawn anew."""
    scored = street(tmp_path / 'b', 3, 2)
    assert evaluate.main(['--model', str(model), '--images', str(scored / 'images'), '--labels',
                          str(scored / 'labels'), '--layout', 'pairs', '--json',
                          str(tmp_path / 'report.json')]) == 0
    rows = json.loads((tmp_path / 'report.json').read_text())['drivable_by_confidence']
    flags = TABLE.drivable_lut() > 0
    called = wrong = 0
    for path in (scored / 'images').glob('*.png'):
        image = cv2.imread(str(path))
        same = (image[:, :, None] == TABLE.palette_bgr()[:19]).all(axis=3)
        area = flags[same.argmax(axis=2)]
        truth = flags[cv2.imread(str(scored / 'labels' / path.name), cv2.IMREAD_UNCHANGED)]
        called, wrong = called + area.sum(), wrong + (area & ~truth).sum()
    assert rows[0] == {'threshold': 0.0, 'kept': 1.0, 'wrong': pytest.approx(wrong / called)}
    assert [row['threshold'] for row in rows] == sorted(row['threshold'] for row in rows)


# --- the picture ---

def test_the_diagram_shows_what_was_counted():
    """A bar as high as the share of right pixels, the rest up to the confidence in red."""
    count = ExpectedCalibrationError()
    count.pixels[[250, 120]] = 800, 200
    count.right[[250, 120]] = 400, 180
    image = reliability_diagram('x', [('before', count), ('after', count)])
    assert image.shape[2] == 3 and image.dtype == np.uint8
    left, right = np.split(image[28:], 2, axis=1)
    np.testing.assert_array_equal(left[:400], right[:400])
    floor, middle = 16 + 360, 64 + round(360 * 14.5 / 15)
    at = {share: tuple(image[28 + floor - round(360 * share), middle].tolist())
          for share in (0.1, 0.45, 0.55, 0.95)}
    assert at[0.1] == at[0.45] != at[0.55] == at[0.95] != (255, 255, 255)
    empty = tuple(image[28 + floor - 100, 64 + round(360 * 3.5 / 15)].tolist())
    assert empty == (255, 255, 255)
