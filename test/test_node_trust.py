"""What the real node tells of a camera that is covered, noisy, frozen, or in the dark."""

import time

from diagnostic_msgs.msg import DiagnosticArray
from harness import image_cdr, NodeProcess, values
import numpy as np
import pytest

from seg_node.scoring.corruptions import CORRUPTIONS
from seg_node.scoring.drive import Drive

OK, WARN, ERROR = (bytes([level]) for level in range(3))
WAIT_S = 60.0  # for one frame of the whole model, on a busy machine


class Lens:
    """Sends pictures of the shipped drive as a camera does, and waits for what is told of each."""

    def __init__(self, client):
        self.client, self.stamp_ns = client, 0
        self.states = client.listen('/seg_node/lens/state', DiagnosticArray)
        self.masks = client.listen('/seg_node/lens/mask')
        self.areas = client.listen('/seg_node/lens/drivable')
        self.pictures = list(Drive().images(range(0, 60, 5)))

    def see(self, spoil=lambda picture: picture, still=False):
        """Send the next picture; return its status, mask and drivable area."""
        self.stamp_ns += 10**8
        number = 0 if still else self.stamp_ns // 10**8 % len(self.pictures)
        cdr = image_cdr(spoil(self.pictures[number]), self.stamp_ns)
        for found in (self.states, self.masks, self.areas):
            found.clear()
        self.client.send('/lens/image_raw', cdr)
        # By the stamp: at first one topic may be heard before another is.
        assert self.client.spin_until(lambda: all(map(self.answer, (
            self.states, self.masks, self.areas))), WAIT_S), 'no answer'
        return self.answer(self.states).status[0], *(np.asarray(self.answer(found).data)
                                                     for found in (self.masks, self.areas))

    def answer(self, found):
        """Return what has come for the picture sent last, None = nothing yet."""
        def stamp_ns(message):
            stamp = message.header
            return (stamp.stamp_ns if hasattr(stamp, 'stamp_ns')
                    else stamp.stamp.sec * 10**9 + stamp.stamp.nanosec)
        return next((message for message in found if stamp_ns(message) == self.stamp_ns), None)

    def until(self, level, spoil=lambda picture: picture, still=False):
        """Send pictures until the state has a level; return the frames and seconds it took."""
        start = time.monotonic()
        for count in range(1, 30):
            status, *_ = self.see(spoil, still)
            if status.level == level:
                return count, time.monotonic() - start, status
        raise AssertionError(f'not {level} after {count} frames: {status.message}')


@pytest.mark.slow
def test_the_life_of_a_camera(client, tmp_path, record_property):
    with NodeProcess(tmp_path, cameras='[lens]', backend='onnxruntime', threads=1,
                     image_timeout_s=1.0, frozen_after_s=0.5, on_blind='withhold_drivable',
                     alarm_after_s=0.1, clear_after_s=0.2) as node:
        node.wait_for_log('camera lens')
        lens = Lens(client)
        # Until all three topics are heard; what is sent before that may have no answer.
        client.handshake('/lens/image_raw', ['/seg_node/lens/mask', '/seg_node/lens/drivable',
                                             '/seg_node/lens/state'],
                         image_cdr(lens.pictures[0], 1))
        lens.until(OK)
        status, mask, area = lens.see()
        assert status.level == OK and values(status)['frame_state'] == 'ok', status.message
        assert area.any() and (mask != 255).all()

        status, mask, area = lens.see(lambda picture: picture * 0)
        assert status.level == OK and values(status)['withheld'] == 'true', 'one frame: no alarm'
        assert (mask == 255).all() and not area.any(), 'but withheld at once'
        told = {'covered': lens.until(ERROR, lambda picture: picture * 0)}
        told['clear'] = lens.until(OK)

        noise = CORRUPTIONS['noise_80']
        told['noise'] = lens.until(WARN, lambda picture: noise.apply(picture, '', 0))
        lens.until(OK)

        told['frozen'] = lens.until(ERROR, still=True)
        assert 'not changed' in told['frozen'][2].message
        lens.until(OK)

        assert client.diagnostics('lens', until=lambda status: status.level in (ERROR, b'\x03')
                                  and 'no image' in status.message)
    for what, (frames, seconds, _) in told.items():
        record_property(what, f'{frames} frames, {seconds:.2f} s')
        assert what == 'frozen' or frames <= 3, what
