"""
Train a model by a recipe.

The same command given again continues from the last checkpoint of the run folder.
"""

import argparse
from dataclasses import asdict
import json
from pathlib import Path
import time

import torch
from torch import nn, Tensor
from tqdm import tqdm

from seg_node.model.taxonomy import load_taxonomy

from . import run_state
from .augment import Augmentation, VOID
from .curves import draw
from .data import batches, EpochSamples, Pairs
from .losses import class_weights, distillation, SegmentationLoss
from .models import build
from .recipe import read_recipe, Recipe
from .teacher import Teacher
from .validate import validate
from .warm_start import load_onnx

PROJECT = Path(__file__).resolve().parents[1]
# Learning rate of a model's fast parameters, as a share of the recipe's.
_FAST = 8.0


class Run:
    """One training run in one folder: last.pt, best.pt, log.json, curve.png."""

    def __init__(self, recipe: Recipe, folder: Path, train: list[Pairs], val: Pairs | None,
                 device: torch.device, *, bf16: bool, workers: int,
                 teacher: str = '') -> None:
        """
        Make the model, or take up the run that lies in the folder.

        :param train: the labelled set first, then the extra ones.
        :param teacher: folder of the model to distil from; '' = none.
        """
        self._recipe, self._folder, self._train, self._val = recipe, folder, train, val
        self._device, self._bf16, self._workers = device, bf16, workers
        self._classes = load_taxonomy(recipe.taxonomy)
        run_state.seed_all(recipe.seed)
        folder.mkdir(parents=True, exist_ok=True)
        resumed = (folder / 'last.pt').exists()
        self._vehicle = (self._classes.id_of('Car', f'bonnet of recipe {recipe.model}')
                         if recipe.bonnet else VOID)
        self._model = build(recipe.model, len(self._classes),
                            pretrained=not (resumed or recipe.warm_start))
        if recipe.warm_start and not resumed:
            load_onnx(self._model, PROJECT / recipe.warm_start, self._calibration_images())
        self._teacher = None
        if recipe.teach and not teacher:
            raise ValueError('the recipe says what is to be taught (teach), but no teacher is '
                             'given. Name its model folder by --teacher.')
        if teacher:
            self._teacher = Teacher(teacher, recipe.taxonomy, self._model,
                                    cuda=device.type == 'cuda', threads=torch.get_num_threads(),
                                    teach=recipe.teach, classes=self._classes.names)
        self._model.to(device, memory_format=torch.channels_last)
        self._average = run_state.Average(self._model, recipe.average)
        self._optimiser = self._make_optimiser()
        self._loss = SegmentationLoss(
            class_weights(train[0].frequencies(len(self._classes)),
                          recipe.weight_power).to(device),
            auxiliary=recipe.auxiliary, lovasz_weight=recipe.lovasz)
        self._history: list[dict] = []
        self._step = 0
        if resumed:
            self._resume()

    def train(self) -> None:
        """Train the epochs that are left."""
        for epoch in range(len(self._history) + 1, self._recipe.epochs + 1):
            start = time.monotonic()
            loss = self._epoch(epoch)
            entry = {'epoch': epoch, 'loss': loss, 'seconds': time.monotonic() - start}
            last = epoch == self._recipe.epochs
            if self._val and (last or epoch % self._recipe.validate_every == 0):
                matrix = validate(self._average.model, self._val, self._classes, self._device)
                entry |= {'miou': matrix.miou(), 'iou': matrix.iou()}
            self._history.append(entry)
            self._keep(entry)
            print(json.dumps({key: round(value, 4) if isinstance(value, float) else value
                              for key, value in entry.items()}), flush=True)

    def _epoch(self, number: int) -> float:
        loader = self._loader(number)
        self._model.train()
        self._hold_still()
        total = 0.0
        bar = tqdm(loader, f'epoch {number}/{self._recipe.epochs}', mininterval=10)
        for images, labels in bar:
            self._set_rate(self._step / (len(loader) * self._recipe.epochs))
            images = images.to(self._device, memory_format=torch.channels_last)
            loss = self._losses(images, labels.to(self._device))
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self._model.parameters(), 5.0)
            self._optimiser.step()
            self._step += 1
            self._average.update(self._model, self._step)
            total += loss.item()
            bar.set_postfix(loss=f'{loss.item():.3f}', refresh=False)
        return total / len(loader)

    def _losses(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            outputs = self._model(images)
        loss = self._loss(outputs, labels)
        if self._teacher is not None:
            loss = loss + self._recipe.teacher_weight * distillation(
                outputs[0], self._teacher(images), self._teacher.groups)
        return loss

    def _loader(self, epoch: int) -> torch.utils.data.DataLoader:
        recipe = self._recipe
        rare = tuple(entry.id for entry in self._classes.classes if entry.name in recipe.rare)
        augmentation = Augmentation(
            recipe.crop, recipe.rows, rare, recipe.paste, recipe.focus, recipe.bonnet,
            self._vehicle, recipe.weather, recipe.light, recipe.recolour,
            recipe.band)
        first, *extra = self._train
        sources = [(first, len(first))]
        sources += [(pairs, round(len(first) * recipe.extra_share)) for pairs in extra]
        samples = EpochSamples(sources, augmentation, recipe.seed, epoch, self._model.mean,
                               self._model.std)
        return batches(samples, recipe.batch, self._workers)

    def _calibration_images(self) -> list[Tensor]:
        return [images for images, _ in self._loader(0)][:8]

    def _make_optimiser(self) -> torch.optim.Optimizer:
        """Group the parameters by the pace the model asks for; norms and biases don't decay."""
        recipe = self._recipe
        paces = {id(p): recipe.backbone_rate
                 for p in getattr(self._model, 'slow_parameters', list)()}
        paces |= {id(p): _FAST for p in getattr(self._model, 'fast_parameters', list)()}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in self._model.parameters():
            rate = paces.get(id(parameter), 1.0)
            decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
        return torch.optim.AdamW(
            [{'params': members, 'weight_decay': decay, 'share': rate}
             for (rate, decay), members in groups.items()], lr=recipe.learning_rate)

    def _set_rate(self, done: float) -> None:
        recipe = self._recipe
        rate = recipe.learning_rate * (1 - done) ** recipe.poly
        rate *= min(1.0, (self._step + 1) / recipe.warm_up)
        for group in self._optimiser.param_groups:
            group['lr'] = rate * group['share']

    def _hold_still(self) -> None:
        """Freeze what the recipe wants frozen; training mode has just been set."""
        backbone = getattr(self._model, 'backbone', None)
        if backbone is None:
            return
        if self._recipe.frozen_norm:
            self._model.hold_norms()
        backbone.freeze(self._recipe.frozen_blocks)

    def _keep(self, entry: dict) -> None:
        best = max((past['miou'] for past in self._history if 'miou' in past), default=0.0)
        if entry.get('miou', -1.0) >= best:
            run_state.save(self._folder / 'best.pt', {
                'recipe': asdict(self._recipe), 'average': self._average.model.state_dict()})
        run_state.save(self._folder / 'last.pt', {
            'recipe': asdict(self._recipe), 'model': self._model.state_dict(),
            'average': self._average.model.state_dict(),
            'optimiser': self._optimiser.state_dict(), 'step': self._step,
            'history': self._history})
        log = {'recipe': asdict(self._recipe), 'history': self._history}
        (self._folder / 'log.json').write_text(json.dumps(log, indent=1), encoding='utf-8')
        draw(self._history, self._folder / 'curve.png')

    def _resume(self) -> None:
        state = run_state.load(self._folder / 'last.pt')
        # A value that recipes have had only since is what it is by default.
        if {**asdict(Recipe('', 0)), **state['recipe']} != asdict(self._recipe):
            raise SystemExit(f'{self._folder} holds a run of another recipe: choose another '
                             'folder, or give the recipe it was started with')
        self._model.load_state_dict(state['model'])
        self._average.model.load_state_dict(state['average'])
        self._optimiser.load_state_dict(state['optimiser'])
        self._step, self._history = state['step'], state['history']
        print(f'continuing after epoch {len(self._history)}', flush=True)


def load_model(path: Path) -> nn.Module:
    """Return the averaged model of a best.pt or last.pt, in evaluation mode."""
    state = torch.load(path, map_location='cpu', weights_only=False)
    recipe = state['recipe']
    model = build(recipe['model'], len(load_taxonomy(recipe['taxonomy'])), pretrained=False)
    model.load_state_dict(state['average'])
    return model.eval()


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('recipe', type=Path, help='a file like training/recipes/deeplab.yaml')
    parser.add_argument('--data', type=Path, required=True,
                        help='folder with train/ and val/, each with images/ and labels/')
    parser.add_argument('--extra', type=Path, nargs='*', default=[],
                        help='more folders with images/ and labels/, mixed in')
    parser.add_argument('--with-val', action='store_true',
                        help='train on val too and measure nothing: for weights to ship')
    parser.add_argument('--teacher', default='', help='folder of the model to distil from')
    parser.add_argument('--run', type=Path, required=True, help='folder of this run')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, default=0, help='0 = all cores')
    parser.add_argument('--bf16', action=argparse.BooleanOptionalAction, default=None,
                        help='autocast to bfloat16; by default where the device computes it')
    parser.add_argument('--workers', type=int, default=1, help='processes that augment')
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    recipe, device = read_recipe(arguments.recipe), torch.device(arguments.device)
    classes = len(load_taxonomy(recipe.taxonomy))
    train = Pairs(arguments.data / 'train', classes)
    val = Pairs(arguments.data / 'val', classes)
    if arguments.with_val:
        train.images += val.images
        train.labels += val.labels
    bf16 = device.type == 'cuda' if arguments.bf16 is None else arguments.bf16
    run = Run(recipe, arguments.run, [train, *(Pairs(path, classes) for path in arguments.extra)],
              None if arguments.with_val else val, device, bf16=bf16,
              workers=arguments.workers, teacher=arguments.teacher)
    run.train()


if __name__ == '__main__':
    main()
