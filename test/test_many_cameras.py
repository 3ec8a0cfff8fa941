"""Eight cameras at once: none is favoured, a dead one delays none, the memory stays."""

import time

from harness import Client, image_cdr, MODELS, NodeProcess
from test_node_outputs import painted

ALIVE = [f'c{index}' for index in range(8)]
HZ, SECONDS, LEAST, LONGEST_S = 10, 8, 50, 120


def test_eight_cameras_have_equal_shares_beside_a_dead_one(tmp_path):
    client = Client()
    _, image = painted(360, 640)
    masks = {name: client.listen(f'/seg_node/{name}/mask') for name in ALIVE}
    try:
        with NodeProcess(tmp_path, model=MODELS / 'palette_cityscapes19', backend='onnxruntime',
                         cameras=f'[{", ".join(ALIVE)}, dead]', max_age_s=3600.0) as node:
            for name in ALIVE:
                client.handshake(f'/{name}/image_raw', [f'/seg_node/{name}/mask'],
                                 image_cdr(image, 1))
            begin, turn, before = time.monotonic(), 0, 0.0

            def enough():
                return turn >= HZ * SECONDS and all(len(found) >= LEAST
                                                    for found in masks.values())
            while not enough() and time.monotonic() - begin < LONGEST_S:
                for name in ALIVE:
                    client.send(f'/{name}/image_raw', image_cdr(image, 10**9 + turn * 10**8))
                turn += 1
                if not before and all(len(found) >= LEAST // 2 for found in masks.values()):
                    before = node.memory_mb()
                client.spin_until(lambda: False, max(0.0, begin + turn / HZ - time.monotonic()))
            after = node.memory_mb()
        counts = {name: len(found) for name, found in masks.items()}
        mean = sum(counts.values()) / len(counts)
        assert mean >= LEAST, counts  # else nothing is shown of fairness
        assert all(abs(count - mean) <= 0.1 * mean for count in counts.values()), counts
        assert after - before < 4.0, f'{before:.0f} -> {after:.0f} MB'
        print(counts, f'{before:.1f} -> {after:.1f} MB')
    finally:
        client.close()
