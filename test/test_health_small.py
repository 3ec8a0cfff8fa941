"""Every rule on both sides of its limit, and what it is asked about: figure by figure."""

import pytest

from seg_node.errors import FrameError
from seg_node.geometry import Size
from seg_node.health import rules
from seg_node.health.facts import (
    InfoFacts,
    Publishers,
    SharedMemory,
    StreamFacts,
    SurroundingFacts,
)
from seg_node.health.judge import Judge, Verdict
from seg_node.health.losses import Losses
from seg_node.health.report import Level, Limits
from seg_node.health.stamps import Stamp, Stamps
from seg_node.health.stream import CameraHealth
from seg_node.health.window import median, Usual, Window

LIMITS = Limits(image_timeout_s=3.0, max_age_s=1.0, min_rate_hz=2.0)
SIZE, OTHER = Size(120, 160), Size(240, 320)
GOOD = {'arrived': True, 'interval_s': 0.1, 'silent_s': 0.05}  # images come
LATE = {**GOOD, 'silent_s': 0.75}
BAD, NO_INFO = FrameError('encoding', 'x is unknown'), InfoFacts()


#: Before anything has come.
NOTHING = {
    'arrived': False, 'silent_s': 0.0, 'interval_s': 0.0, 'images': 0, 'age_s': 0.0, 'stamps': {},
    'jump_s': 0.0, 'lost': 0, 'lost_share': 0.0, 'reported_lost': 0, 'decided': 0, 'refused': 0,
    'reason': '', 'refusal': '', 'dropped_share': 0.0, 'mask_age_s': None, 'mask_due_s': 3.0,
    'input_rate_hz': None, 'output_rate_hz': None, 'image_size': None, 'active_s': 0.0,
    'state': '', 'state_reason': ''}


def stream(limits=LIMITS, info=NO_INFO, **known):
    return StreamFacts('/t', 'cam', limits, info=info, **{**NOTHING, **known})


def info(**known):
    return {**GOOD, 'info': InfoFacts(**known), 'active_s': 9.0}


@pytest.mark.parametrize('known, names', [
    ({}, ()), (GOOD, ()), ({'silent_s': 3.0}, ()), ({'silent_s': 3.1}, ('never',)),
    ({'arrived': True, 'silent_s': 3.0}, ()), ({'arrived': True, 'silent_s': 3.1}, ('silent',)),
    ({**GOOD, 'silent_s': 0.7}, ()), (LATE, ('late',)),
    ({**GOOD, 'silent_s': 3.0}, ('late',)), ({**GOOD, 'silent_s': 3.1}, ('silent',)),
    ({**GOOD, 'interval_s': 0.5, 'silent_s': 1.5}, ()),
    ({**GOOD, 'interval_s': 0.5, 'silent_s': 1.6}, ('late',)),
    ({**GOOD, 'refused': 1, 'decided': 1}, ('refused',)),
    ({**GOOD, 'refused': 1, 'decided': 2}, ('refused',)),
    ({**GOOD, 'refused': 2, 'decided': 4}, ('refused_mostly',)),
    ({**GOOD, 'refused': 2, 'decided': 5}, ('refused',)),
    ({**GOOD, 'refused': 9, 'decided': 9}, ('refused_mostly',)),
    ({**GOOD, 'mask_age_s': 1.0, 'mask_due_s': 1.0}, ()),
    ({**GOOD, 'mask_age_s': 1.1, 'mask_due_s': 1.0}, ('mask_late',)),
    ({**GOOD, 'mask_age_s': 3.0, 'mask_due_s': 1.0}, ('mask_late',)),
    ({**GOOD, 'mask_age_s': 3.1, 'mask_due_s': 1.0}, ('no_mask',)),
    ({**GOOD, 'mask_age_s': 3.1, 'mask_due_s': 3.2}, ()),
    ({**GOOD, 'mask_age_s': 3.1, 'mask_due_s': 1.0, 'refused': 1, 'decided': 9}, ('refused',)),
    ({**LATE, 'mask_age_s': 3.1, 'mask_due_s': 1.0}, ('late',)),
    ({**GOOD, 'images': 3, 'stamps': {'repeated': 3}}, ('stamps_frozen',)),
    ({**GOOD, 'images': 2, 'stamps': {'repeated': 2}}, ('stamps_repeated',)),
    ({**GOOD, 'images': 5, 'stamps': {'repeated': 4}}, ('stamps_repeated',)),
    ({**GOOD, 'images': 5, 'stamps': {'repeated': 1}}, ('stamps_repeated',)),
    ({**GOOD, 'images': 5, 'stamps': {'zero': 0, 'repeated': 0, 'back': 0, 'forward': 0}}, ()),
    *(({**GOOD, 'images': 5, 'stamps': {fault: 1}}, (f'stamps_{fault}',))
      for fault in ('zero', 'back', 'forward')),
    ({**GOOD, 'state': 'blind'}, ('blind',)), ({**LATE, 'state': 'blind'}, ('late',)),
    ({**GOOD, 'state': 'doubtful'}, ('doubtful',)), ({**LATE, 'state': 'doubtful'}, ('late',)),
    ({**GOOD, 'state': 'ok'}, ()), ({'state': 'blind'}, ()),
    ({**GOOD, 'dropped_share': 0.8, 'output_rate_hz': 5.0, 'input_rate_hz': 30.0}, ()),
    ({**GOOD, 'dropped_share': 0.81, 'output_rate_hz': 5.0, 'input_rate_hz': 30.0},
     ('overload',)),
    ({**LATE, 'dropped_share': 0.81, 'output_rate_hz': 5.0, 'input_rate_hz': 30.0}, ('late',)),
    ({**GOOD, 'dropped_share': 0.81}, ()),
    ({**GOOD, 'dropped_share': 0.81, 'output_rate_hz': 0.0, 'input_rate_hz': 30.0}, ('slow',)),
    ({**GOOD, 'output_rate_hz': 2.0}, ()), ({**GOOD, 'output_rate_hz': 1.9}, ('slow',)),
    ({**GOOD, 'lost': 1, 'lost_share': 0.05}, ('lost',)),
    ({**GOOD, 'lost': 1, 'lost_share': 0.04}, ()), ({**GOOD, 'lost_share': 0.9}, ()),
    ({**GOOD, 'age_s': 1.0}, ()), ({**GOOD, 'age_s': 1.1}, ('old',)),
    ({**GOOD, 'age_s': 60.0}, ('old',)), ({**GOOD, 'age_s': 60.1}, ('replayed',)),
    ({**GOOD, 'age_s': 90.0, 'limits': Limits(3.0, 90.0, 0.0)}, ()),
    ({**GOOD, 'age_s': 90.1, 'limits': Limits(3.0, 90.0, 0.0)}, ('replayed',)),
    ({**GOOD, 'age_s': -1.0}, ()), ({**GOOD, 'age_s': -1.1}, ('future',)),
    ({**info(size=SIZE), 'image_size': SIZE}, ()), (info(size=SIZE), ()),
    ({**GOOD, 'image_size': SIZE}, ()),
    ({**info(size=SIZE), 'image_size': OTHER}, ('info_size',)),
    (info(wanted=True), ('info_missing',)), (info(wanted=True, size=SIZE), ()),
    ({**info(wanted=True), 'active_s': 3.0}, ()),
    ({**info(wanted=True), 'active_s': 3.1}, ('info_missing',)),
    ({**info(wanted=True), 'silent_s': 0.75}, ('late',)),
    (info(wanted=True, problem='no lens'), ('info_problem',)),
    (info(ground_problem='no mount'), ('ground_problem',)),
    (info(lacking='no such output'), ('lacking',)),
    (info(needed='nav2'), ('info_needed',)),
    (info(needed='nav2', wanted=True), ('info_needed',)),
    (info(needed='nav2', size=SIZE), ()), (info(needed='nav2', problem='x'), ('info_problem',)),
    ({**info(needed='nav2'), 'active_s': 3.0}, ()),
])
def test_each_rule_of_a_camera_at_its_limit(known, names):
    assert Judge(rules.CAMERA)(stream(**known), 0.0).names == names


MB = 1 << 20
WITH = {'simulated': True, 'clock_s': 5.0}


def memory(*figures):
    return {'memory': SharedMemory(*figures)}


@pytest.mark.parametrize('known, names', [
    ({}, ()), ({'namesakes': 2}, ('namesake',)), (WITH, ()),
    ({'simulated': True}, ('no_clock',)), ({'simulated': True, 'clock_still_s': 9}, ('no_clock',)),
    ({**WITH, 'clock_still_s': 1.0}, ()), ({**WITH, 'clock_still_s': 1.1}, ('clock_still',)),
    ({'clock_s': 5.0, 'clock_still_s': 9}, ()),
    (memory(64 * MB, 64 * MB, 32 * MB, True), ('memory_small',)),
    (memory(64 * MB + 1, 32 * MB, 32 * MB, True), ()),
    (memory(64 * MB + 1, 32 * MB - 1, 32 * MB, True), ('memory_full',)),
    (memory(64 * MB + 1, 32 * MB - 1, 32 * MB), ('memory_full',)),
    (memory(64 * MB, 1, 32 * MB, False), ('memory_closed',)),
    (memory(90 * MB, 1, 32 * MB, False), ('memory_closed',)),
    ({'gpu_unused': 'no engine'}, ('gpu_unused',)),
])
def test_each_rule_of_the_surroundings_at_its_limit(known, names):
    assert Judge(rules.SURROUNDINGS)(SurroundingFacts(**known), 0.0).names == names


def test_megabytes():
    assert SharedMemory(5 * MB, 4 * MB - 1, 2 * MB).megabytes == (5, 3, 2)


IMAGE = 'sensor_msgs/msg/Image'


def publishers(count=1, types=(), compatible=True, **more):
    return Publishers(count, types, IMAGE, compatible, **more)


@pytest.mark.parametrize('known, found, name', [
    ({}, publishers(0), 'nobody'), ({}, publishers(0, sibling='/t/compressed'), 'sibling'),
    ({}, publishers(0, elsewhere='/other'), 'elsewhere'),
    ({}, publishers(0, sibling='/s', elsewhere='/other'), 'sibling'),
    ({}, publishers(sibling='/s', elsewhere='/other'), 'nothing'),
    ({}, publishers(types=('sensor_msgs/msg/CompressedImage',)), 'type'),
    ({}, publishers(types=('std_msgs/msg/String',)), 'no_images'),
    ({}, publishers(compatible=False), 'qos'), ({}, publishers(), 'nothing'),
    ({'reported_lost': 1}, publishers(), 'all_lost'),
    ({'arrived': True}, publishers(), 'stopped')])
def test_each_cause_of_silence(known, found, name):
    both = stream(**known), found
    assert next(rule.name for rule in rules.CAUSES if rule.when(both)) == name


def test_what_a_sibling_is_and_what_to_do_without_camera_info():
    assert publishers(sibling='/t/compressed').transport == 'compressed'
    assert publishers(sibling='/t').transport == 'raw'
    assert stream(info=InfoFacts(elsewhere='/x')).info_mend.startswith('/x is published: set cam.')
    assert stream().info_mend.startswith('nobody publishes any')


def test_levels_are_those_of_the_message():
    assert [int(level) for level in (Level.OK, Level.WARN, Level.ERROR, Level.STALE)] == [
        0, 1, 2, 3]


def test_worst_first_and_the_cause_behind_the_worst():
    verdict = Judge(rules.CAMERA)(stream(**LATE, age_s=5.0, refused=2, decided=2, reason='size',
                                         refusal='too large'), 0.0)
    assert verdict.level == Level.ERROR and verdict.names == ('refused_mostly', 'late', 'old')
    assert verdict.texts[0] == '2 of 2 images refused, mostly for size: too large'
    told = Verdict(Level.STALE, ('a', 'b'), ('one', 'two')).because('c', 'three')
    assert told == Verdict(Level.STALE, ('a', 'b', 'c'), ('one; three', 'two'))
    report = told.report({'key': 'value'})
    assert (report.level, report.message, report.values, report.findings) == (
        Level.STALE, 'one; three; two', {'key': 'value'}, ('a', 'b', 'c'))


def held_s(judge, now):
    """Let a rule hold once; return for how long it is said after that, and when it ended."""
    assert judge(True, now).names
    end = now
    while judge(False, end := end + 0.25).names:
        pass
    return end - now, end


def only(level=Level.WARN, message='x'):
    return rules.Rule('x', level, '', lambda holds: holds, message, '')


def test_what_comes_again_is_held_for_longer_each_time():
    judge, now, held = Judge([only()]), 0.0, []
    for _ in range(8):
        seconds, now = held_s(judge, now + 1.0)
        held.append(seconds)
    assert held == [0.25, 0.25, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    seconds, ended = held_s(judge, now + 19.75)
    assert seconds == 8.0, 'it is remembered for less than 20 s'
    assert held_s(judge, ended + 20.0)[0] == 0.25, 'and no longer'


def test_one_that_is_held_says_so_once():
    judge = Judge([only()])
    for now in (0, 1, 2, 3):
        judge(True, now), judge(False, now + 0.5)
    assert judge(False, 3.6).texts == judge(False, 3.7).texts == ('x (comes and goes)',)
    assert judge(True, 3.8).texts == ('x',)


class Camera:
    """A camera's health on a clock that is set by hand."""

    def __init__(self, limits=LIMITS):
        self.now, self.limits = 100.0, limits
        self.health = CameraHealth('/t', 'cam', lambda: self.now)

    def at(self, now):
        self.now = 100.0 + now
        return self.health

    def image(self, now, age_ms=50.0, number=None):
        self.at(now).on_received(round((now + 100) * 1e9), age_ms, b'p', number)

    def mask(self, now, processing_ms=25.0, latency_ms=30.0, **stages):
        self.at(now).on_segmented(SIZE, latency_ms, processing_ms, stages)

    def facts(self, now):
        self.now = 100.0 + now
        return {name: value for name, value in
                vars(self.health._facts(self.limits, InfoFacts())).items()
                if name not in ('topic', 'name', 'limits', 'info')}


def same(found, **known):
    assert found == {name: pytest.approx(value) if isinstance(value, float) else value
                     for name, value in {**NOTHING, **known}.items()}


def test_what_is_known_of_a_stream_as_it_begins():
    camera = Camera()
    same(camera.facts(2.0), silent_s=2.0, active_s=2.0)
    camera.image(2.0)
    one = {'arrived': True, 'images': 1, 'age_s': 0.05}
    same(camera.facts(2.25), **one, silent_s=0.25, mask_age_s=0.25, active_s=2.25)
    camera.image(2.5, age_ms=150.0)
    two = {**one, 'images': 2, 'age_s': 0.15, 'interval_s': 0.5, 'input_rate_hz': 2.0}
    same(camera.facts(2.5), **two, mask_age_s=0.5, mask_due_s=1.5, active_s=2.5)
    camera.mask(2.75)
    same(camera.facts(3.0), **two, silent_s=0.5, decided=1, mask_age_s=0.25, mask_due_s=1.5,
         image_size=SIZE, active_s=3.0)
    assert camera.facts(5.5)['images'] == 2  # 3.0 s after the last, the limit
    same(camera.facts(5.6), **{**two, 'images': 0, 'age_s': 0.0, 'input_rate_hz': 0.0},
         silent_s=3.1, mask_age_s=2.85, mask_due_s=1.5, image_size=SIZE, active_s=5.6)


def test_when_a_mask_is_due():
    camera = Camera()
    for n in range(20):
        camera.image(n / 10)
    assert camera.facts(2.0)['mask_due_s'] == 1.0  # the first one has a second
    camera.mask(2.0), camera.mask(2.1)
    assert camera.facts(2.2)['mask_due_s'] == pytest.approx(0.7)
    camera.mask(3.1), camera.mask(4.1)
    assert camera.facts(4.2)['mask_due_s'] == pytest.approx(3.0)  # three times their interval
    slow = Camera()
    for n in range(20):
        slow.image(n / 10)
    slow.mask(2.0, processing_ms=500.0)
    assert slow.facts(2.0)['mask_due_s'] == pytest.approx(1.5)  # or of what one takes


def test_losses_drops_and_refusals_in_figures():
    camera = Camera()
    for n, number in enumerate((1, 2, 5, 6)):
        camera.image(n / 10, number=number)
    camera.health.on_dropped(), camera.health.on_dropped(), camera.health.on_refused(BAD)
    facts = camera.facts(0.3)
    assert (facts['lost'], facts['lost_share'], facts['dropped_share']) == (2, 2 / 6, 0.5)
    assert (facts['decided'], facts['refused'], facts['reason'], facts['refusal']) == (
        1, 1, 'encoding', 'x is unknown')
    camera.health.on_lost(4)
    facts = camera.facts(0.3)
    assert (facts['lost'], facts['lost_share'], facts['reported_lost']) == (6, 0.6, 4)
    for _ in range(9):
        camera.health.on_dropped()
    assert camera.facts(0.3)['dropped_share'] == 1.0
    assert camera.facts(3.3)['lost'] == 6 and camera.facts(3.4)['lost'] == 0
    for n in range(4, 9):
        camera.image(n, number=n + 3)
    assert camera.facts(8.0)['lost'] == 0 and camera.facts(8.0)['lost_share'] == 0.0
    assert camera.facts(8.0)['dropped_share'] == 0.0 and camera.facts(8.0)['images'] == 3


def test_stamps_and_their_jumps_are_told_as_long_as_they_are_recent():
    camera = Camera()
    for now, stamp_s in ((0.0, 50.0), (0.1, 45.0), (0.2, 45.0), (0.3, 0.0), (0.4, 48.0)):
        camera.at(now).on_received(round(stamp_s * 1e9), None)
    facts = camera.facts(0.4)
    assert facts['stamps'] == {'back': 1, 'repeated': 1, 'zero': 1, 'forward': 1}
    assert facts['jump_s'] == 5.0 and facts['age_s'] == 0.0
    for n in range(10, 20):
        camera.image(n / 10)
    assert camera.facts(1.9)['jump_s'] == 0.0


def test_the_most_frequent_refusal_is_the_one_told():
    camera = Camera()
    camera.image(0.0), camera.image(0.1)
    for reason in ('size', 'encoding', 'encoding'):
        camera.health.on_refused(FrameError(reason, f'{reason}!'))
    facts = camera.facts(0.1)
    assert (facts['refused'], facts['reason'], facts['refusal']) == (3, 'encoding', 'encoding!')


def test_every_figure_of_the_diagnostics():
    camera = Camera()
    empty = camera.health.values()
    assert empty == {
        'topic': '/t', 'received': '0', 'segmented': '0', 'dropped': '0', 'refused': '0',
        'lost': '0', 'stamps_zero': '0', 'stamps_repeated': '0', 'stamps_back': '0',
        'stamps_forward': '0', 'last_refusal': '', 'input_rate_hz': '', 'output_rate_hz': '',
        'mask_age_ms': ''}
    for n, number in enumerate((1, 2, 4)):
        camera.image(n / 2, age_ms=10.0 * n, number=number)
    camera.mask(1.0, network=20.0, decode=1.0), camera.mask(1.2, 35.0, None, network=22.0)
    camera.health.on_dropped(), camera.health.on_malformed(BAD)
    camera.health.on_judged('ok', '', lambda: {'doubt': '0.1'})
    camera.at(1.45)
    assert camera.health.values() == {
        **empty, 'received': '4', 'segmented': '2', 'dropped': '1', 'refused': '1', 'lost': '1',
        'refused_encoding': '1', 'last_refusal': 'x is unknown', 'doubt': '0.1',
        'input_rate_hz': '2.5', 'output_rate_hz': '5.0', 'mask_age_ms': '250',
        'input_age_ms_p50': '10.0', 'input_age_ms_p95': '19.0', 'input_age_ms_p99': '19.8',
        'latency_ms_p50': '30.0', 'latency_ms_p95': '30.0', 'latency_ms_p99': '30.0',
        'processing_ms_p50': '30.0', 'processing_ms_p95': '34.5', 'processing_ms_p99': '34.9',
        'stage_network_ms': '21.00', 'stage_decode_ms': '0.50'}


def test_the_cause_is_that_of_the_worst_finding_only():
    camera = Camera()
    camera.image(0.0), camera.image(0.1)
    camera.at(0.9)
    asked = []

    def ask():
        asked.append(1)
        return Publishers(0, (), 'a', True)
    assert camera.health.judge(LIMITS, ask).names == ('late',) and not asked
    assert not camera.health.arriving
    camera.at(3.2)
    info = InfoFacts(problem='no lens')
    assert camera.health.judge(LIMITS, ask, info).names == (
        'silent', 'info_problem', 'nobody')
    assert camera.health.judge(LIMITS, None, info).names == ('silent', 'info_problem')
    camera.image(3.3)
    assert camera.health.judge(Limits(9.0, 1.0, 0.0)).texts == ('segmenting',)
    assert camera.health.arriving


@pytest.mark.parametrize('dropped, given, text', [
    (0, 2, 'segmenting'), (1, 2, 'segmenting 2.0 Hz of 4.0 Hz, the newest images'),
    (1, 4, 'segmenting'), (1, 0, 'segmenting')])
def test_what_is_fine_is_told_with_its_rate(dropped, given, text):
    camera = Camera(Limits(3.0, 1.0, 0.0))
    for n in range(5):
        camera.image(n / 4)
        if given and n % (4 // given) == 0:
            camera.mask(n / 4)
    for _ in range(dropped):
        camera.health.on_dropped()
    assert camera.health.judge(camera.limits).texts == (text,)


def window(*moments):
    """Return a window with an item at each moment, and what sets its clock."""
    now = [0.0]
    found = Window(lambda: now[0])
    for moment in moments:
        now[0] = moment
        found.add(moment)

    def view(moment):
        now[0] = moment
        return found.copy()
    return view


def test_the_last_seconds_include_their_beginning():
    view = window(0.0, 1.0, 2.0, 3.0, 4.0)
    assert view(4.0).last(3.0) == [1.0, 2.0, 3.0, 4.0] and view(4.0).start(3.0) == 1.0
    assert view(4.0).last(0.5) == [2.0, 3.0, 4.0] and view(4.0).start(0.5) == 2.0
    assert view(4.0).since(3.0) == 2 and view(4.0).since(3.5) == 1 and view(4.0).since(0.0) == 5
    assert len(view(4.0)) == 5 and view(4.5).age_s == 0.5
    assert len(window(0.0, 1.0, 2.0, 3.0, 5.0)(5.0)) == 5, 'those of 5 s ago are kept'
    assert len(window(0.0, 1.0, 2.0, 3.0, 5.1)(5.1)) == 4
    assert len(window(0.0, 1.0, 9.0)(9.0)) == 3, 'and the last three'


def test_the_usual_is_taken_anew_of_few_items_and_twice_a_second():
    asked = []
    usual = Usual(lambda view: asked.append(view.now) or view.now)
    few, many = window(*[0.1 * n for n in range(29)]), window(*[0.1 * n for n in range(30)])
    assert [usual(few(now)) for now in (2.9, 2.91)] == [2.9, 2.91]
    asked.clear()
    assert [usual(many(now)) for now in (3.0, 3.4, 3.42, 3.9)] == [2.91, 2.91, 3.42, 3.42]
    assert asked == [3.42]


def test_the_ends_of_a_window():
    assert window()(7.0).ends(5.0) is None
    view = window(0.0, 1.0, 2.0, 3.0, 4.0)(6.5)
    assert view.ends(5.0) == (view.last(5.0)[0], view.last(5.0)[-1], 3)


def test_nothing_and_one_item_have_no_rhythm():
    none, one = window()(7.0), window(1.0)(7.0)
    assert none.age_s is None and none.start(5.0) == 7.0 and none.last(5.0) == []
    for view in (none, one):
        assert view.rate_hz(5.0) is None and view.interval_s(5.0) is None


def test_rate_and_interval_and_when_they_have_stalled():
    view = window(0.0, 0.5, 1.0, 2.0)
    assert view(2.0).interval_s(5.0) == 0.5 and view(2.0).rate_hz(5.0) == 1.5
    assert view(2.0 + 3 * 2 / 3).rate_hz(5.0) == 1.5 and view(4.1).rate_hz(5.0) == 0.0
    fast = window(0.0, 0.01, 0.02)
    assert fast(0.72).rate_hz(5.0) == pytest.approx(100.0) and fast(0.73).rate_hz(5.0) == 0.0
    assert window(1.0, 1.0)(1.0).rate_hz(5.0) == pytest.approx(1e6)  # not a division by zero
    assert median([3.0, 1.0, 2.0]) == 2.0 and median([2.0, 1.0]) == 2.0 and median([]) is None


def test_stamps_at_their_limits():
    stamps = Stamps()
    assert stamps.check(5 * 10**9, 10.0, 0.0) == Stamp()
    assert stamps.check(0, 10.5, 0.0) == Stamp('zero')
    assert stamps.check(6 * 10**9, 11.0, 0.0) == Stamp(), 'a zero says nothing about the next'
    assert stamps.check(6 * 10**9, 11.1, 0.0) == Stamp('repeated')
    assert stamps.check(6 * 10**9 - 1, 11.2, 0.0) == Stamp('back', 1e-9)
    assert stamps.check(8 * 10**9 - 1, 12.2, 0.0) == Stamp(), 'a second ahead is no jump'
    assert stamps.check(10 * 10**9, 12.7, -1500.0) == Stamp('forward', pytest.approx(1.5))
    assert stamps.check(15 * 10**9, 12.7, -2400.0) == Stamp(), 'by the clock it was 0.9 s'
    assert stamps.check(18 * 10**9, 12.7, None) == Stamp('forward', 3.0)
    assert stamps.check(21 * 10**9, 12.7, 0.0) == Stamp('forward', 3.0), 'one clock tells'


def test_losses_at_their_limits():
    losses = Losses()
    names = [bytes([index]) for index in range(16)]
    for name in names:
        losses.on_message(name, 1)
    assert losses.on_message(names[0], 3) == 1, 'sixteen publishers are remembered'
    assert losses.on_message(b'another', 1) == 0
    assert losses.on_message(names[1], 9) == 0, 'of more the longest silent one is not'
    assert losses.on_message(names[0], 5) == 1 and losses.on_message(names[0], 6) == 0
