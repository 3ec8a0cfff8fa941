"""From checkpoints to checked cards: small random networks of each library, and refusals."""

import json
from pathlib import Path

import pytest

from seg_node.model.card import load_card
from seg_node.model.taxonomy import load_taxonomy

torch = pytest.importorskip('torch', reason='needs requirements/import.txt')
pytest.importorskip('onnxscript', reason='needs requirements/import.txt')

import_model = pytest.importorskip('importing.import_model')
huggingface = pytest.importorskip('importing.huggingface')

TOLD = ['--weights-licence', 'unknown', '--data-licence', 'unknown', '--most', '2',
        '--no-runtimes']
NAMES = load_taxonomy('cityscapes19').names


def imported(source, out, *options):
    assert import_model.main([str(source), str(out), *TOLD, *options]) == 0
    return load_card(out)


def refusal(capsys, source, out, *options):
    assert import_model.main([str(source), str(out), *TOLD, *options]) == 2
    assert not out.exists()
    return capsys.readouterr().err


@pytest.fixture(scope='module')
def segformer(tmp_path_factory):
    """Write a Hugging Face folder with a tiny random SegFormer; return it."""
    transformers = pytest.importorskip('transformers', reason='needs requirements/import.txt')
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('hub') / 'segformer'
    network = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(
        num_labels=19, id2label=dict(enumerate(NAMES)), depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=32))
    network.save_pretrained(folder)
    transformers.SegformerImageProcessor(size={'height': 64, 'width': 96}).save_pretrained(folder)
    return folder


def test_a_hugging_face_folder(segformer, tmp_path):
    card = imported(segformer, tmp_path / 'out')
    assert card.main_output.classes.name == 'cityscapes19'  # bound by the names
    assert (card.input.size, card.input.interpolation) == ((64, 96), 'antialias')
    assert 'SegformerImageProcessor' in card.description and '% of its labels' in card.description
    assert card.licences['code'] == 'Apache-2.0'
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['card.yaml',
                                                                          'model.onnx']


def test_a_weights_file_with_the_name_of_its_network(tmp_path):
    smp = pytest.importorskip('segmentation_models_pytorch', reason='see requirements/import.txt')
    torch.manual_seed(0)
    network = smp.create_model('unet', encoder_name='mobilenet_v2', encoder_weights=None,
                               encoder_depth=3, decoder_channels=(16, 8, 8), classes=3)
    network.save_pretrained(tmp_path / 'smp')
    card = imported(tmp_path / 'smp', tmp_path / 'out', '--short-side', '64', '--classes',
                    'road,car,background')
    flags = {entry.name: (entry.drivable, entry.dynamic)
             for entry in card.main_output.classes.classes}
    assert flags == {'road': (True, False), 'car': (False, True), 'background': (False, False)}


def test_what_is_missing_is_asked_for(segformer, tmp_path, capsys):
    out = tmp_path / 'out'
    assert import_model.main([str(segformer), str(out)]) == 2
    assert 'the licence of the weights is not known: give --weights-licence' in \
        capsys.readouterr().err
    weights = tmp_path / 'w.pth'
    torch.save({'a': torch.zeros(1)}, weights)
    assert 'which network its weights are for' in refusal(capsys, weights, out)
    clone = tmp_path / 'clone'
    clone.mkdir()
    text = refusal(capsys, weights, out, '--clone', str(clone), '--network', 'pidnet_s')
    assert f'{clone} is code that will run' in text and '--run-code' in text
    assert 'is there already' in refusal_of_existing(capsys, segformer, tmp_path)


def refusal_of_existing(capsys, source, out):
    assert import_model.main([str(source), str(out), *TOLD]) == 2
    return capsys.readouterr().err


def test_what_cannot_be_imported_is_refused(segformer, tmp_path, capsys):
    def edited(name, **changes):
        folder = tmp_path / f'{len(list(tmp_path.iterdir()))}'
        folder.mkdir()
        for file in segformer.iterdir():
            (folder / file.name).symlink_to(file)
        (folder / name).unlink()
        if changes:
            document = json.loads((segformer / name).read_text()) | changes
            (folder / name).write_text(json.dumps(document))
        return folder
    out = tmp_path / 'out'
    for folder, words in (
            (edited('config.json', model_type='bert'), "model_type is 'bert', which is not known"),
            (edited('preprocessor_config.json'), 'has no preprocessor_config.json'),
            (edited('preprocessor_config.json', resample=3), 'resample is 3'),
            (edited('config.json', id2label={str(n): f'LABEL_{n}' for n in range(19)}),
             'does not name the 19 classes'),
            (edited('model.safetensors'), 'cannot be loaded by transformers')):
        assert words in refusal(capsys, folder, out)
    harmful = tmp_path / 'harmful.pth'
    torch.save({'model': Path('/')}, harmful)  # to read it would call pathlib
    text = refusal(capsys, harmful, out, '--torchvision', 'fcn_resnet50')
    assert 'holds more than tensors' in text


def test_no_card_where_the_labels_are_others(segformer, tmp_path, capsys, monkeypatch):
    """A processor that does more than the card says shows in the labels."""
    real = huggingface._input
    monkeypatch.setattr(huggingface, '_input', lambda *given: real(*given) | {
        'mean': [0, 0, 0], 'std': [1, 1, 1]})
    text = refusal(capsys, segformer, tmp_path / 'out')
    assert 'of the labels on 2 pictures are those of' in text and 'No card was written' in text


def test_random_checkpoints_show_all_classes_and_import(tmp_path, capsys):
    """What docs/models.md measures with; queries and their masks are scores of all classes."""
    pytest.importorskip('transformers', reason='needs requirements/import.txt')
    from importing import random_checkpoints
    from seg_node.paths import shared
    source = tmp_path / 'source'
    assert random_checkpoints.main(['mask2former', str(source), '--size', '128', '224',
                                    '--pictures', str(shared('models', 'check'))]) == 0
    assert '19 of 19 classes occur' in capsys.readouterr().out
    card = imported(source, tmp_path / 'out')
    assert (card.main_output.kind, card.input.size) == ('scores', (128, 224))
