"""
Checkpoints with random weights, as their libraries save them: what docs/models.md measures with.

    python -m importing.random_checkpoints FAMILY OUT --pictures drive.mp4

Random networks say nearly one class everywhere, which would prove little. So their batch norms
settle on real pictures, and the last layer reads its features whitened, each class as a random
mixture of the strongest ones: each wins where its own mixture does. The queries of Mask2Former get
their masks in that way, and a class each.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
import sys
from typing import Any

import cv2
import numpy as np
import torch

from seg_node.model.taxonomy import load_taxonomy

from . import verify
from .clone import input_of

_FEATURES = 8  # principal components that a class is a mixture of
_QUERIES = 40
_PICTURES = 4
_SEEDS = 8  # tried until all classes occur
_SURE = 6.0  # logits of a query's own class, and of its mask
_ROUNDS = 4  # the queries depend on the masks of earlier layers
CITYSCAPES = load_taxonomy('cityscapes19').names


def main(args: Sequence[str] | None = None) -> int:
    """Write a checkpoint, and tell how many classes occur."""
    parser = argparse.ArgumentParser(prog='random_checkpoints', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('family', choices=sorted(FAMILIES))
    parser.add_argument('out', type=Path, help='weights file; of Hugging Face and smp a folder')
    parser.add_argument('--pictures', type=Path, nargs='+', required=True)
    parser.add_argument('--size', type=int, nargs=2, default=(256, 448),
                        metavar=('HEIGHT', 'WIDTH'), help='to which the pictures are resized')
    parser.add_argument('--clone', type=Path, help="of the authors' repository, whose code is run")
    options = parser.parse_args(args)
    if options.clone:
        sys.path.insert(0, str(options.clone.resolve()))
    images = _images(options.pictures, options.size, input_of(options.family))
    for seed in range(_SEEDS):
        torch.manual_seed(seed)
        with torch.no_grad():
            scores = FAMILIES[options.family](images, options.out)
        seen, count = len(scores.argmax(1).unique()), scores.shape[1]
        print(f'{options.out}: {seen} of {count} classes occur')
        if seen == count:
            return 0
    print(f'random_checkpoints: no seed below {_SEEDS} shows all classes on these pictures: give '
          'others, or a larger --size.', file=sys.stderr)
    return 1


def _images(places: Sequence[Path], size: Sequence[int], rule: dict[str, Any]) -> torch.Tensor:
    """Return pictures as the network gets them, (N, 3, height, width)."""
    rgb = np.stack([cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)[..., ::-1]
                    for image in verify.pictures(places, _PICTURES)])
    values = (rgb * rule['scale'] - np.array(rule['mean'])) / np.array(rule['std'])
    return torch.from_numpy(values.transpose(0, 3, 1, 2).astype(np.float32))


def _settle(network: Any, images: torch.Tensor) -> None:
    """Set the statistics of the batch norms to those of the pictures."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # the mean of what it sees
    network.train()
    network(images)
    network.eval()


def _what_goes_into(layer: Any, run: Callable[[], Any]) -> torch.Tensor:
    """Return the last input of a layer during a run."""
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    run()
    hook.remove()
    return seen[-1]


def _spread(layer: Any, features: torch.Tensor, strongest: int = _FEATURES) -> None:
    """
    Let a convolution give random mixtures, of length one, of its whitened features.

    :param features: what goes into it, (N, C, h, w); a larger kernel reads their mean.
    """
    rows = features.transpose(0, 1).flatten(1)
    mean = rows.mean(1, keepdim=True)
    axes, variances, _ = torch.linalg.svd((rows - mean) @ (rows - mean).T / rows.shape[1])
    whiten = (axes[:, :strongest] / variances[:strongest].sqrt()).T
    mixed = torch.nn.functional.normalize(torch.randn(layer.out_channels, len(whiten)), dim=1)
    weight = mixed @ whiten
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    layer.weight.copy_((weight / taps)[..., None, None].expand_as(layer.weight))
    bias = -(weight @ mean)[:, 0]
    if layer.bias is None:
        layer.bias = torch.nn.Parameter(bias)
    layer.bias.copy_(bias)


def _segformer(images: torch.Tensor, out: Path) -> torch.Tensor:
    import transformers
    network = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(
        depths=[1, 1, 1, 1], **_labels()))
    _shake(network)
    _settle(network, images)
    last = network.decode_head.classifier
    _spread(last, _what_goes_into(last, lambda: network(images)))
    network.save_pretrained(out)
    height, width = images.shape[2:]
    transformers.SegformerImageProcessor(size={'height': height, 'width': width},
                                         do_reduce_labels=False).save_pretrained(out)
    return network(images).logits


def _mask2former(images: torch.Tensor, out: Path) -> torch.Tensor:
    import transformers
    swin = transformers.SwinConfig(
        embed_dim=24, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=7,
        out_features=['stage1', 'stage2', 'stage3', 'stage4'])
    network = transformers.Mask2FormerForUniversalSegmentation(transformers.Mask2FormerConfig(
        backbone_config=swin, feature_size=64, mask_feature_size=64, hidden_dim=64,
        encoder_feedforward_dim=128, encoder_layers=1, decoder_layers=2, num_attention_heads=4,
        dim_feedforward=128, num_queries=_QUERIES, **_labels())).eval()
    _shake(network)
    pixels = network.model.pixel_level_module.decoder.mask_projection
    _spread(pixels, _what_goes_into(pixels, lambda: network(images)), 24)
    embed = [layer for layer in network.model.transformer_module.decoder.mask_predictor.modules()
             if isinstance(layer, torch.nn.Linear)][-1]
    masks = torch.nn.functional.normalize(torch.randn(_QUERIES, embed.out_features), dim=1)
    for _ in range(_ROUNDS):
        _fit(embed, _what_goes_into(embed, lambda: network(images)).mean(0), masks * _SURE)
    own = torch.eye(len(CITYSCAPES) + 1)[torch.arange(_QUERIES) % len(CITYSCAPES)] * _SURE
    _fit(network.class_predictor,
         _what_goes_into(network.class_predictor, lambda: network(images)).mean(0), own)
    network.save_pretrained(out)
    height, width = images.shape[2:]
    transformers.Mask2FormerImageProcessor(
        size={'height': height, 'width': width}, size_divisor=32,
        ignore_index=255).save_pretrained(out)
    found = network(images)
    return torch.einsum('bqc,bqhw->bchw', found.class_queries_logits.softmax(-1)[..., :-1],
                        found.masks_queries_logits.sigmoid())


def _fit(layer: Any, given: torch.Tensor, wanted: torch.Tensor) -> None:
    """Let a linear layer give, of its inputs (N, C), what is wanted, (N, D)."""
    one = torch.cat([given, torch.ones(len(given), 1)], 1)
    solved = torch.linalg.lstsq(one, wanted, driver='gelsd').solution
    layer.weight.copy_(solved[:-1].T)
    layer.bias.copy_(solved[-1])


def _shake(network: Any) -> None:
    """Start a transformer with weights that let something through; its own are nearly 0."""
    for name, value in network.named_parameters():
        if value.ndim > 1 and 'sampling_offsets' not in name:
            torch.nn.init.xavier_normal_(value)


def _labels() -> dict[str, Any]:
    return {'num_labels': len(CITYSCAPES), 'id2label': dict(enumerate(CITYSCAPES)),
            'label2id': {name: n for n, name in enumerate(CITYSCAPES)}}


def _weights(network: Any, last: Any, images: torch.Tensor, out: Path) -> torch.Tensor:
    """Spread a network whose last layer is a convolution, and write its weights."""
    def run() -> Any:
        found = network(images)
        found = found['out'] if isinstance(found, dict) else found
        return found[0] if isinstance(found, (tuple, list)) else found
    _settle(network, images)
    _spread(last, _what_goes_into(last, run))
    torch.save(network.state_dict(), out)
    return run()


def _torchvision(name: str, images: torch.Tensor, out: Path) -> torch.Tensor:
    import torchvision
    network = torchvision.models.get_model(name, weights=None, weights_backbone=None,
                                           num_classes=21)
    return _weights(network, network.classifier[-1], images, out)


def _smp(name: str, encoder: str, images: torch.Tensor, out: Path) -> torch.Tensor:
    import segmentation_models_pytorch as smp
    network = smp.create_model(name, encoder_name=encoder, encoder_weights=None, classes=11)
    scores = _weights(network, network.segmentation_head[0], images, out.with_suffix('.pth'))
    network.save_pretrained(str(out))
    return scores


def _bisenetv1(images: torch.Tensor, out: Path) -> torch.Tensor:
    from lib.models import bisenetv1
    bisenetv1.Resnet18.init_weight = lambda self: None  # would download
    network = bisenetv1.BiSeNetV1(len(CITYSCAPES))
    return _weights(network, network.conv_out.conv_out, images, out)


def _pidnet(images: torch.Tensor, out: Path) -> torch.Tensor:
    from models.pidnet import get_pred_model
    network = get_pred_model('pidnet_s', len(CITYSCAPES))
    return _weights(network, network.final_layer.conv2, images, out)


FAMILIES: dict[str, Callable[[torch.Tensor, Path], torch.Tensor]] = {
    'segformer': _segformer, 'mask2former': _mask2former,
    'fcn': lambda *given: _torchvision('fcn_resnet50', *given),
    'deeplabv3': lambda *given: _torchvision('deeplabv3_mobilenet_v3_large', *given),
    'unet': lambda *given: _smp('Unet', 'resnet18', *given),
    'deeplabv3plus': lambda *given: _smp('DeepLabV3Plus', 'mobilenet_v2', *given),
    'bisenetv1': _bisenetv1, 'pidnet': _pidnet}


if __name__ == '__main__':
    sys.exit(main())
