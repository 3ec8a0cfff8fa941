"""What is said about a camera's stream, and how soon, on a clock that the tests turn."""

from dataclasses import dataclass, field
import random
import re

import pytest
from test_health_small import stream

from seg_node.errors import FrameError
from seg_node.geometry import Size
from seg_node.health import rules
from seg_node.health.facts import (
    InfoFacts,
    Publishers,
    SharedMemory,
    SurroundingFacts,
)
from seg_node.health.judge import Judge
from seg_node.health.losses import Losses
from seg_node.health.report import Level, Limits
from seg_node.health.stream import CameraHealth
from seg_node.health.window import Window

LIMITS = Limits(image_timeout_s=3.0, max_age_s=1.0, min_rate_hz=0.0)
LOOK_S = 0.1
SIZE = Size(120, 160)
BAD = FrameError('encoding', "encoding 'x' is unknown: use bgr8")
NOBODY = Publishers(0, (), 'sensor_msgs/msg/Image', True)


@dataclass
class Image:
    """One image of a camera, and what becomes of it."""

    stamp_ns: int
    age_ms: float | None = 5.0
    number: int | None = None
    fate: str = 'segmented'  # or refused, dropped, missing (never came)
    size: Size = SIZE


@dataclass
class Camera:
    """A camera of a given rate, its health, and what was said at each look."""

    rate_hz: float
    limits: Limits = LIMITS
    said: list = field(default_factory=list)  # (time, verdict)

    def __post_init__(self):
        self.now = 1000.0
        self.begin = self.now
        self.count = 0
        self.health = CameraHealth('/front/image_raw', 'front', lambda: self.now)
        self._next_look = self.now

    def run(self, seconds, change=lambda image, index: None):
        """Let images come for a while; ``change`` edits each; return when it began."""
        begin = self.now
        for index in range(round(seconds * self.rate_hz)):
            self.look_until(begin + index / self.rate_hz)
            self.count += 1
            image = Image(round(self.now * 1e9), number=self.count)
            change(image, index)
            self.send(image)
        self.look_until(begin + seconds)
        return begin

    def send(self, image):
        if image.fate == 'missing':
            return
        self.health.on_received(image.stamp_ns, image.age_ms, b'p', image.number)
        if image.fate == 'segmented':
            self.health.on_segmented(image.size, 30.0, 25.0, {'network': 20.0, 'decode': 1.0})
        elif image.fate == 'refused':
            self.health.on_refused(BAD)
        elif image.fate == 'dropped':
            self.health.on_dropped()

    def look_until(self, moment):
        while self._next_look < moment:
            self.now = self._next_look
            self.said.append((self.now, self.health.judge(self.limits, lambda: NOBODY)))
            self._next_look += LOOK_S
        self.now = moment

    def verdict(self):
        return self.health.judge(self.limits, lambda: NOBODY)

    def times(self, name):
        """Return when a rule held at the looks."""
        return [moment for moment, verdict in self.said if name in verdict.names]


def fate(word):
    def change(image, index):
        image.fate = word
    return change


def nine_of_ten(image, index):
    image.fate = 'segmented' if index % 10 == 9 else 'refused'


def stamp(value):
    def change(image, index):
        image.stamp_ns = value
    return change


def twice(image, index):
    if index % 2:
        image.stamp_ns = twice.last
    twice.last = image.stamp_ns


def age(value):
    def change(image, index):
        image.age_ms = value
    return change


def in_the_future(image, index):
    image.age_ms, image.stamp_ns = -5000.0, image.stamp_ns + 5 * 10**9


def other_size(image, index):
    image.size = Size(240, 320)


def hang(image, index):
    image.fate = 'waiting' if index == 0 else 'dropped'


def overload(image, index):
    image.fate = 'segmented' if index % 50 == 0 else 'dropped'


class Losing:
    """Lets through one image of several."""

    def __init__(self, keep):
        self.keep = keep

    def __call__(self, image, index):
        image.fate = 'segmented' if index % self.keep == 0 else 'missing'


twice.last = 0
FAULTS = {
    'silence': (fate('missing'), {'late', 'silent'}),
    'refused': (fate('refused'), {'refused_mostly'}),
    'nine of ten refused': (nine_of_ten, {'refused_mostly'}),
    'hang': (hang, {'mask_late', 'no_mask'}),
    'zero': (stamp(0), {'stamps_zero'}),
    'frozen': (stamp(5), {'stamps_frozen', 'stamps_repeated'}),
    'twice': (twice, {'stamps_repeated'}),
    'old': (age(2000.0), {'old'}),
    'replayed': (age(4_213_000.0), {'replayed'}),
    'future': (in_the_future, {'future'}),
}


@pytest.mark.parametrize('rate_hz', [1, 2, 5, 10, 30, 60])
@pytest.mark.parametrize('change, names', FAULTS.values(), ids=FAULTS)
def test_a_fault_shows_and_clears_within_a_second_or_three_periods(rate_hz, change, names):
    camera = Camera(rate_hz)
    due_s = max(1.0, 3 / rate_hz)
    fault = camera.run(10 * due_s)
    assert all(verdict.level == Level.OK for _, verdict in camera.said), camera.said[-1]
    end = fault + 10 * due_s
    camera.run(4 * due_s, change)
    found = sorted(moment for name in names for moment in camera.times(name))
    assert found, camera.said[-1]
    assert found[0] - end <= due_s
    # It stays as long as the fault.
    wrong = [verdict for moment, verdict in camera.said
             if found[0] <= moment < end + 4 * due_s - 1e-6 and verdict.level == Level.OK]
    assert not wrong
    mended = camera.run(4 * due_s)
    late = [(moment - mended, verdict) for moment, verdict in camera.said
            if moment > mended + due_s and verdict.level != Level.OK]
    assert not late


@pytest.mark.parametrize('rate_hz', [10, 30, 60])
@pytest.mark.parametrize('change, name', [(overload, 'overload'), (Losing(2), 'lost'),
                                          (Losing(5), 'lost')], ids=['98 %', 'half', '4 of 5'])
def test_overload_and_losses_show_and_clear_within_a_second(rate_hz, change, name):
    camera = Camera(rate_hz)
    fault = camera.run(10) + 10
    assert not camera.verdict().names
    camera.run(6, change)
    assert camera.times(name)[0] - fault <= 1.0
    mended = camera.run(4)
    assert not [moment for moment in camera.times(name) if moment > mended + 1.0]


def test_a_camera_at_three_times_the_rate_is_by_design():
    camera = Camera(30)
    camera.run(10, lambda image, index: setattr(image, 'fate',
                                                'dropped' if index % 3 else 'segmented'))
    assert {verdict.level for _, verdict in camera.said} == {Level.OK}
    assert camera.verdict().texts == ('segmenting 10.0 Hz of 30.0 Hz, the newest images',)


def test_overload_names_the_rate_that_fits():
    camera = Camera(30)
    camera.run(10, lambda image, index: setattr(image, 'fate',
                                                'dropped' if index % 6 else 'segmented'))
    text, = camera.verdict().texts
    assert re.fullmatch(
        r'8\d% of the images dropped, the network gives 5\.0 Hz of 30\.0 Hz: set the camera to '
        '5.0 Hz, or take a smaller model, a faster device or fewer cameras', text), text


PERIODS_S = (0.2, 0.9, 3.0, 11.0)


@pytest.mark.parametrize('good_s', PERIODS_S)
@pytest.mark.parametrize('bad_s', PERIODS_S)
def test_what_comes_and_goes_does_not_flicker(good_s, bad_s):
    camera = Camera(10)
    for _ in range(round(120 / (good_s + bad_s))):
        camera.run(bad_s, fate('refused'))
        camera.run(good_s)
    for name in ('refused', 'refused_mostly'):
        held = [name in verdict.names for _, verdict in camera.said]
        begins = [index for index in range(len(held)) if held[index] and not held[index - 1]]
        minutes = [sum(minute * 600 <= index < (minute + 1) * 600 for index in begins)
                   for minute in range(2)]
        assert minutes[0] <= 12 and minutes[1] <= 8, minutes


def test_the_worst_case_of_flicker_is_bounded():
    """A rule that holds again at the first look after it cleared, for one look each."""
    rule = rules.Rule('x', Level.WARN, '', lambda wanted: wanted, 'x', '')
    judge, begins, held = Judge([rule]), [], False
    for look in range(6000):
        was, held = held, bool(judge(not held, look * LOOK_S).names)
        if held and not was:
            begins.append(look * LOOK_S)
    per_minute = [sum(60 * minute <= moment < 60 * (minute + 1) for moment in begins)
                  for minute in range(10)]
    assert per_minute[0] <= 12 and max(per_minute[1:]) <= 8, per_minute


def test_what_comes_and_goes_is_said_to():
    camera = Camera(10)
    for _ in range(4):
        camera.run(0.2, fate('refused'))
        camera.run(1.2)
    assert camera.verdict().texts[0].endswith(' (comes and goes)')
    assert camera.verdict().texts[0].count('comes') == 1
    camera.health.restart()
    assert not camera.verdict().names, 'not held over a new activation'
    for _ in range(4):
        camera.run(0.2, fate('refused'))
        camera.run(1.2)
    assert camera.verdict().names
    camera.run(60)
    assert not camera.verdict().names
    camera.run(0.5, fate('refused'))  # after a long peace it clears as fast as ever
    camera.run(1.0)
    assert not camera.verdict().names


def test_waits_then_complains_about_a_camera_that_never_comes():
    camera = Camera(10)
    assert camera.verdict().texts == ('waiting for the first image on /front/image_raw',)
    camera.look_until(camera.begin + 3.2)
    verdict = camera.verdict()
    assert verdict.level == Level.ERROR and verdict.names == ('never', 'nobody')
    assert verdict.texts == (
        'no image on /front/image_raw for 3.2 s; nobody publishes it: is the camera driver '
        'running, and is front.image_topic right?',)


@pytest.mark.parametrize('publishers, words', [
    (NOBODY, 'nobody publishes it'),
    (Publishers(0, (), 'sensor_msgs/msg/Image', True, sibling='/front/image_raw/compressed'),
     '/front/image_raw/compressed is published: set front.transport to compressed'),
    (Publishers(0, (), 'sensor_msgs/msg/CompressedImage', True, sibling='/front/image_raw'),
     '/front/image_raw is published: set front.transport to raw'),
    (Publishers(0, (), 'sensor_msgs/msg/Image', True, elsewhere='/car/front/image_raw'),
     'images are published on /car/front/image_raw: set front.image_topic (or the namespace)'),
    (Publishers(1, ('std_msgs/msg/String',), 'sensor_msgs/msg/Image', True),
     'its type is std_msgs/msg/String, not sensor_msgs/msg/Image: set front.image_topic'),
    (Publishers(1, ('sensor_msgs/msg/CompressedImage',), 'sensor_msgs/msg/Image', True),
     'not sensor_msgs/msg/Image: set front.transport'),
    (Publishers(1, (), 'sensor_msgs/msg/Image', False), 'incompatible QoS'),
    (Publishers(1, (), 'sensor_msgs/msg/Image', True), 'has stopped')])
def test_a_silent_camera_is_explained(publishers, words):
    camera = Camera(10)
    camera.run(1)
    camera.look_until(camera.now + 4)
    verdict = camera.health.judge(LIMITS, lambda: publishers)
    assert verdict.level == Level.STALE and words in verdict.texts[0]


def test_images_that_are_all_lost_explain_the_silence():
    camera = Camera(10)
    camera.health.on_lost(40)
    camera.look_until(camera.now + 4)
    verdict = camera.health.judge(LIMITS, lambda: Publishers(1, (), 'x', True))
    assert 'since then 40 images were lost on the way' in verdict.texts[0]
    assert camera.health.values()['lost'] == '40'
    camera.send(Image(1, number=50))
    assert camera.health.values()['lost'] == '40', 'counted once'


def test_publishers_are_asked_for_without_the_lock_and_only_in_silence():
    camera, asked = Camera(10), []

    def publishers():
        asked.append(camera.health._lock.acquire(blocking=False))
        camera.health._lock.release()
        return NOBODY
    camera.run(1)
    camera.health.judge(LIMITS, publishers)
    assert not asked
    camera.look_until(camera.now + 4)
    camera.health.judge(LIMITS, publishers)
    assert asked == [True]


def test_the_most_frequent_refusal_is_named_with_its_mend():
    camera = Camera(10)
    camera.run(2)
    for reason, count in (('encoding', 4), ('truncated', 2)):
        for index in range(count):
            camera.health.on_malformed(FrameError(reason, f'{reason} {index}: the mend'))
    verdict = camera.verdict()
    assert verdict.level == Level.WARN
    assert verdict.texts[0] == ('6 of 13 images refused, for encoding: encoding 3: the mend')
    camera.health.on_malformed(BAD)
    assert camera.verdict().level == Level.ERROR
    values = camera.health.values()
    assert (values['received'], values['refused']) == ('27', '7')
    assert (values['refused_encoding'], values['refused_truncated']) == ('5', '2')
    assert values['last_refusal'] == str(BAD)


def test_one_refusal_is_a_warning_and_two_of_three_an_error():
    camera = Camera(1)
    camera.run(5)
    camera.run(1, fate('refused'))
    assert camera.verdict().level == Level.WARN
    camera.run(1, fate('refused'))
    assert camera.verdict().level == Level.ERROR


def test_images_but_never_a_mask():
    camera = Camera(10)
    camera.run(0.9, hang)
    assert camera.verdict().level == Level.OK
    camera.run(0.3, hang)
    assert camera.verdict().names == ('mask_late',)
    camera.run(3, hang)
    verdict = camera.verdict()
    assert verdict.names == ('no_mask',) and verdict.level == Level.ERROR
    assert 'there has been no mask for 4.2 s' in verdict.texts[0]


def test_a_model_that_is_slow_by_nature_is_not_late():
    camera = Camera(10)
    camera.run(60, lambda image, index: setattr(image, 'fate',
                                                'segmented' if index % 20 == 0 else 'dropped'))
    assert not [moment for moment in camera.times('mask_late') + camera.times('no_mask')
                if moment > camera.begin + 10]


def test_jumping_stamps():
    camera = Camera(10)
    camera.run(5)
    camera.run(0.5, lambda image, index: (age(3005.0)(image, index),
                                          stamp(image.stamp_ns - 3 * 10**9)(image, index)))
    assert 'old' in camera.verdict().names
    assert camera.verdict().texts[0] == (
        'the stamps jumped back by 2.900 s: a bag that starts over, a clock that was set, or two '
        'publishers on one topic')
    camera.run(0.5)
    assert 'stamps_forward' in camera.verdict().names
    camera.run(1.0)
    assert not camera.verdict().names
    values = camera.health.values()
    assert (values['stamps_back'], values['stamps_forward']) == ('1', '1')
    assert (values['stamps_zero'], values['stamps_repeated']) == ('0', '0')


def test_a_pause_of_the_camera_and_a_bag_played_fast_are_no_jumps():
    camera = Camera(10)
    camera.run(2)
    camera.look_until(camera.now + 8)
    camera.run(1)
    # Ten times as fast, by a simulated clock that keeps up; then that clock jumps with the bag.
    start = camera.now

    def fast(image, index):
        image.stamp_ns = round((start + 10 * (camera.now - start)) * 1e9) + (index > 20) * 10**12
    camera.run(5, fast)
    assert camera.health.stamp_faults.total() == 0


def test_a_stamp_that_runs_ahead_by_no_clock_is_a_jump():
    camera = Camera(10)
    camera.run(1, age(None))
    camera.run(0.2, lambda image, index: (age(None)(image, index),
                                          setattr(image, 'stamp_ns', image.stamp_ns + 2 * 10**9)))
    assert camera.health.stamp_faults['forward'] == 1


def test_zero_stamps_have_no_age():
    camera = Camera(10)
    camera.run(2, lambda image, index: (stamp(0)(image, index), age(1.7e12)(image, index)))
    assert camera.verdict().names == ('stamps_zero',)
    assert 'input_age_ms_p50' not in camera.health.values()


def test_low_rate():
    camera = Camera(10, Limits(3.0, 1.0, min_rate_hz=12.0))
    camera.run(2)
    assert camera.verdict().texts == (
        'segmented at 10.0 Hz, below min_rate_hz 12: take a smaller model, a faster device or '
        'fewer cameras',)
    camera.limits = Limits(3.0, 1.0, min_rate_hz=8.0)
    assert not camera.verdict().names
    camera.run(1.5, fate('dropped'))  # a stalled network has rate 0, not none
    assert 'slow' in camera.verdict().names
    assert camera.health.values()['output_rate_hz'] == '0.0'


def test_rates():
    camera = Camera(8)
    assert camera.health.values()['input_rate_hz'] == ''
    camera.run(0.125)
    assert camera.health.values()['output_rate_hz'] == ''  # one image has no rate
    camera.run(10, lambda image, index: setattr(image, 'fate',
                                               'dropped' if index % 2 else 'segmented'))
    values = camera.health.values()
    assert (values['input_rate_hz'], values['output_rate_hz']) == ('8.0', '4.0')


def test_percentiles_are_of_the_last_seconds():
    camera = Camera(10)
    rng = random.Random(1)
    for latency_ms in (1000, *rng.sample(range(1, 101), 100)):
        camera.now += 0.04
        camera.health.on_received(round(camera.now * 1e9), latency_ms / 10)
        camera.health.on_segmented(SIZE, latency_ms, latency_ms / 2, {'network': latency_ms})
    camera.now += 1.0
    camera.health.on_received(round(camera.now * 1e9), 5.05)
    values = camera.health.values()
    latency = [float(values[f'latency_ms_p{percent}']) for percent in (50, 95, 99)]
    assert latency == pytest.approx([50.5, 95.05, 99.01], abs=10.5)
    for _ in range(20):
        camera.now += 0.3
        camera.health.on_segmented(SIZE, 7.0, 6.0, {'network': 5.0})
    values = camera.health.values()
    assert {values[f'latency_ms_p{percent}'] for percent in (50, 95, 99)} == {'7.0'}
    assert values['processing_ms_p50'] == '6.0' and values['stage_network_ms'] == '5.00'


def test_the_three_percentiles_are_those_of_numpy():
    camera = Camera(10)
    for latency_ms in range(1, 101):
        camera.health.on_segmented(SIZE, float(latency_ms), 0.0, {})
    values = camera.health.values()
    assert [values[f'latency_ms_p{percent}'] for percent in (50, 95, 99)] == [
        '50.5', '95.0', '99.0']


def test_camera_info_of_another_size():
    camera = Camera(10)
    camera.run(1)
    info = InfoFacts(size=Size(240, 320))
    verdict = camera.health.judge(LIMITS, info=info)
    assert verdict.names == ('info_size',)
    assert verdict.texts[0].startswith('camera_info is for 320x240 but the images are 160x120')
    camera.run(0.1, other_size)
    assert not camera.health.judge(LIMITS, info=info).names


def test_camera_info_that_somebody_waits_for():
    camera = Camera(10)
    camera.run(4)
    def names(**known):
        return camera.health.judge(LIMITS, info=InfoFacts('/front/camera_info', **known)).names
    assert names(wanted=False) == () and names(wanted=True) == ('info_missing',)
    assert names(wanted=True, size=SIZE) == ()
    assert names(wanted=True, problem='K is zero: calibrate') == ('info_problem',)
    assert names(ground_problem='no mount') == ('ground_problem',)
    assert names(lacking='no confidence: ...') == ('lacking',)
    assert names(needed='nvblox', wanted=True) == ('info_needed',)
    assert names(needed='nvblox', size=SIZE) == ()
    text = camera.health.judge(LIMITS, info=InfoFacts('/a', wanted=True, elsewhere='/b')).texts[0]
    assert '/b is published: set front.camera_info_topic' in text
    camera.health.restart()
    camera.run(2)
    assert names(wanted=True) == (), 'it is waited for'


def test_restart_keeps_the_counts_and_forgets_the_rest():
    camera = Camera(10)
    camera.run(5, lambda image, index: (nine_of_ten(image, index), stamp(7)(image, index)))
    camera.health.on_dropped()
    before = camera.health.values()
    assert camera.verdict().names == ('refused_mostly', 'stamps_frozen')
    camera.health.restart()
    assert camera.verdict().texts == ('waiting for the first image on /front/image_raw',)
    assert camera.verdict().level == Level.OK
    after = camera.health.values()
    for key in ('received', 'segmented', 'dropped', 'refused', 'refused_encoding', 'lost',
                'stamps_repeated'):
        assert after[key] == before[key] and after[key] != '', key
    assert after['output_rate_hz'] == '' and after['last_refusal'] == ''
    assert 'latency_ms_p50' not in after
    camera.count += 30  # what came while it was inactive is not lost
    camera.run(0.1)
    assert not camera.verdict().names, 'the refusals from before are forgotten'
    camera.run(1)
    assert not camera.verdict().names
    assert camera.health.lost == 0


def test_losses_are_counted_for_each_publisher():
    losses = Losses()
    def lost(*messages):
        return [losses.on_message(publisher, number) for publisher, number in messages]
    assert lost((b'a', 7), (b'b', 1), (b'a', 8), (b'b', 2), (b'a', 11), (b'b', 3)) == [
        0, 0, 0, 0, 2, 0]
    assert lost((b'c', 40), (b'c', 41)) == [0, 0], 'a publisher that started again'
    assert lost((b'a', 5), (b'a', 6)) == [0, 0], 'numbers that went back'
    assert lost((b'd', None), (b'd', None)) == [0, 0]


def test_what_the_middleware_reports_counts_until_a_number_tells():
    losses = Losses()
    losses.on_reported(3)
    assert losses.reported == 3
    assert losses.on_message(b'a', 9) == 3
    losses.on_reported(2)
    assert losses.on_message(b'a', 12) == 2 and losses.reported == 0
    losses.on_reported(1)
    assert losses.on_message(b'a', None) == 1


def test_many_publishers_take_no_memory():
    losses = Losses()
    for index in range(1000):
        losses.on_message(bytes([index % 256, index // 256]), 1)
    assert len(losses._last) <= 16


def test_a_window_keeps_seconds_and_at_least_three():
    now = 0.0
    window: Window[int] = Window(lambda: now)
    for index in range(100):
        now = index / 10
        window.add(index)
    view = window.copy()
    assert view.last(1.0) == list(range(89, 100))
    assert len(view) <= 52
    now = 1000.0
    assert window.copy().last(1.0) == [97, 98, 99]
    assert window.copy().age_s == pytest.approx(990.1)
    assert window.copy().rate_hz(5.0) == 0.0


def test_a_flood_takes_bounded_memory():
    camera = Camera(10)
    for _ in range(7000):
        camera.now += 0.001
        camera.send(Image(round(camera.now * 1e9)))
    assert len(camera.health._arrivals.copy()) <= 5002


@pytest.mark.parametrize('state, names', [('ok', ()), ('doubtful', ('doubtful',)),
                                          ('blind', ('blind',))])
def test_what_is_thought_of_pictures_and_masks_is_said_while_they_come(state, names):
    camera = Camera(10)
    camera.health.on_judged(state, 'the lens is covered',
                            lambda: {'state': state, 'doubt': '1.5'})
    camera.run(2)
    verdict = camera.verdict()
    assert verdict.names == names
    assert not names or 'the lens is covered' in verdict.texts[0]
    assert camera.health.values()['doubt'] == '1.5'
    camera.health.restart()
    assert 'doubt' not in camera.health.values()


MB = 1 << 20


@pytest.mark.parametrize('facts, names', [
    (SurroundingFacts(), ()),
    (SurroundingFacts(namesakes=2, name='/seg_node'), ('namesake',)),
    (SurroundingFacts(simulated=True), ('no_clock',)),
    (SurroundingFacts(simulated=True, clock_s=9.0, clock_still_s=0.9), ()),
    (SurroundingFacts(simulated=True, clock_s=9.0, clock_still_s=1.1), ('clock_still',)),
    (SurroundingFacts(clock_s=9.0, clock_still_s=1.1), ()),
    (SurroundingFacts(memory=SharedMemory(256 * MB, 200 * MB, 32 * MB, True)), ()),
    (SurroundingFacts(memory=SharedMemory(256 * MB, 200 * MB, 32 * MB)), ()),
    (SurroundingFacts(memory=SharedMemory(256 * MB, 31 * MB, 32 * MB, True)), ('memory_full',)),
    (SurroundingFacts(memory=SharedMemory(64 * MB, 31 * MB, 32 * MB, True)), ('memory_small',)),
    (SurroundingFacts(memory=SharedMemory(64 * MB, 31 * MB, 32 * MB, False)),
     ('memory_closed',)),
    (SurroundingFacts(gpu_unused='not TensorRT: there is no engine'), ('gpu_unused',))])
def test_the_node_and_what_is_around_it(facts, names):
    assert Judge(rules.SURROUNDINGS)(facts, 0.0).names == names


def test_every_rule_can_be_said():
    """Each text is a format of what it is given; nothing is left in braces."""
    facts = stream(output_rate_hz=1.0, input_rate_hz=2.0, mask_age_s=3.0,
                   stamps=dict.fromkeys(('zero', 'repeated'), 1))
    node = SurroundingFacts(memory=SharedMemory(1, 1, 1))
    given = [(rule, facts) for rule in rules.CAMERA] + [
        (rule, node) for rule in rules.SURROUNDINGS] + [
        (rule, (facts, Publishers(1, ('a',), 'b', True))) for rule in rules.CAUSES]
    for rule, asked in given:
        assert not re.search('[{}]', rule.text(asked)), rule.name
        assert rule.level == Level.OK or rule.condition, rule.name
    names = [rule.name for rule, _ in given]
    assert len(set(names)) == len(names)
    assert {rule.name for rule in rules.CAMERA if not rule.mend} == {
        *rules.SILENT, 'ground_problem', 'lacking', 'blind', 'doubtful'}
    assert rules.CAUSES[-1].when((facts, NOBODY)), 'there is always a cause'
