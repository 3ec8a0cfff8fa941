"""The picture of a run."""

from pathlib import Path

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot  # noqa: E402


def draw(history: list[dict], path: Path) -> None:
    """Draw loss, mIoU and Road IoU over the epochs as a PNG."""
    figure, left = pyplot.subplots(figsize=(8, 4.5))
    left.plot([entry['epoch'] for entry in history], [entry['loss'] for entry in history],
              color='tab:grey', label='training loss')
    left.set(xlabel='epoch', ylabel='loss')
    right = left.twinx()
    measured = [entry for entry in history if 'miou' in entry]
    epochs = [entry['epoch'] for entry in measured]
    right.plot(epochs, [entry['miou'] for entry in measured], 'o-', label='val mIoU')
    right.plot(epochs, [entry['iou'].get('Road') for entry in measured], '.--',
               label='val IoU of Road')
    right.set(ylabel='IoU')
    figure.legend(loc='lower right', bbox_to_anchor=(0.88, 0.15))
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
