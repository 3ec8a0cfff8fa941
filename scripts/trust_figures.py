"""
Measure how the node tells of a camera that fails: "How soon it is told" in docs/trust.md.

    python scripts/trust_figures.py [--hz 10] [--model NAME]

The node runs as its user starts it, with all timings as they are by default. A camera sends the
shipped drive over DDS; then its lens is covered, or its picture is frozen, noise, night, or
nothing comes at all, until the node has told and a little longer; then the drive goes on. Seconds
are from sending the first bad (good) frame to receiving the state that tells (clears).
"""

import argparse
import itertools
from pathlib import Path
import sys
import tempfile
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np

from seg_node.scoring.corruptions import CORRUPTIONS
from seg_node.scoring.drive import Drive

sys.path.insert(0, str(Path(__file__).parents[1] / 'test'))
from harness import Client, image_cdr, NodeProcess, values  # noqa: E402

OK, ERROR = b'\0', b'\2'
GOOD_S, BAD_S = 5.0, 4.0


def night(picture: np.ndarray) -> np.ndarray:
    """Return the picture with a twelfth of its light under the noise of amplification."""
    rng = np.random.default_rng(int(picture[0, 0, 0]))
    return np.clip(picture * 0.08 + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8)


def noise(picture: np.ndarray) -> np.ndarray:
    """Return the picture under strong noise."""
    return CORRUPTIONS['noise_80'].apply(picture, str(picture[0, 0]), 0)


#: What becomes of the picture; None: none is sent.
FAULTS = {'lens covered': lambda picture: picture * 0, 'frozen': lambda picture: picture,
          'noise': noise, 'night': night, 'unplugged': None}


class Camera:
    """Sends the drive, and keeps what the node tells."""

    def __init__(self, client: Client, hz: float) -> None:
        self.client, self.period_s = client, 1 / hz
        self.states = client.listen('/seg_node/front/state', DiagnosticArray)
        self.drivable = client.listen('/seg_node/front/drivable')
        self.whole = client.listen('/diagnostics', DiagnosticArray)
        self.pictures = list(Drive().images(range(0, 150, 2)))
        self.frames = itertools.count(1)
        self.told: list[tuple[float, bytes, str, bool]] = []

    def run(self, seconds: float, spoil, still: bool = False) -> None:
        """Send frames at their rate; ``spoil`` None: none."""
        end = due = time.monotonic()
        end += seconds
        while (now := time.monotonic()) < end:
            if now >= due and spoil is not None:
                number = next(self.frames)
                shown = 0 if still else number % len(self.pictures)
                cdr = image_cdr(spoil(self.pictures[shown]), time.time_ns())
                self.client.send('/front/image_raw', cdr)
                due += self.period_s
            self.client.spin_until(lambda: False, 0.005)
            self._take()

    def _take(self) -> None:
        now = time.monotonic()
        for message in self.states:
            status = message.status[0]
            said = values(status)
            self.told.append((now, status.level, said['state'], said['withheld'] == 'true'))
        self.states.clear()
        for message in self.whole:
            for status in message.status:
                if status.name.endswith(': front') and 'no image' in status.message:
                    self.told.append((now, status.level, 'no image', False))
        self.whole.clear()


def first(told, since_s, level_is):
    """Return the first that was told since a moment whose level is as asked for."""
    return next((entry for entry in told if entry[0] >= since_s and level_is(entry[1])), None)


def measure(camera: Camera, fault: str) -> str:
    """Return one row of the table."""
    spoil = FAULTS[fault]
    camera.run(GOOD_S, lambda picture: picture)
    camera.told.clear()
    camera.drivable.clear()
    began = time.monotonic()
    camera.run(BAD_S, spoil, still=fault == 'frozen')
    published = [bool(np.any(message.data)) for message in camera.drivable[-10:]]
    bad = list(camera.told)
    camera.told.clear()
    ended = time.monotonic()
    camera.run(GOOD_S, lambda picture: picture)
    told = first(bad, began, lambda level: level != OK)
    withheld = next((entry for entry in bad if entry[3]), None)
    states = ', then '.join(dict.fromkeys(entry[2] for entry in bad if entry[1] != OK))
    cleared = first(camera.told, ended, lambda level: level == OK)
    if told is None:
        return f'| {fault} | ok | never | - | as the network has it |'
    if spoil is None:
        what = 'nothing'
    elif withheld is None:
        what = 'as the network has it (`on_doubtful: publish`)'
    else:
        what = f'nothing drivable from {withheld[0] - began:.1f} s on'
        if any(published):
            what += f', but in {sum(published)} of the last {len(published)} frames'
    clear = '-' if cleared is None else f'{cleared[0] - ended:.1f}'
    return f'| {fault} | {states} | {told[0] - began:.1f} | {clear} | {what} |'


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--hz', type=float, default=10.0)
    parser.add_argument('--model', default='deeplabv3plus_lite0_camvid')
    options = parser.parse_args()
    client = Client('trust_figures')
    # The two that the harness sets otherwise are given as they are by default.
    with tempfile.TemporaryDirectory() as folder, NodeProcess(
            Path(folder), cameras='[front]', model=options.model,
            frozen_after_s=1.0, on_blind='withhold_drivable') as node:
        node.wait_for_log('camera front')
        camera = Camera(client, options.hz)
        client.handshake('/front/image_raw', ['/seg_node/front/drivable', '/seg_node/front/state'],
                         image_cdr(camera.pictures[0], time.time_ns()))
        camera.run(GOOD_S, lambda picture: picture)
        print('| what | state | told after s | cleared after s | published |')
        print('|---|---|---|---|---|')
        for fault in FAULTS:
            print(measure(camera, fault), flush=True)
    client.close()


if __name__ == '__main__':
    main()
