"""What the diagnostics say about a camera, in each state it can be in."""

import time

import pytest

from seg_node.errors import FrameError
from seg_node.health import CameraHealth, Level, Limits

LIMITS = Limits(image_timeout_s=0.1, max_age_s=1.0, min_rate_hz=0.0)
def hint():
    return 'nobody publishes it'



@pytest.fixture
def health():
    return CameraHealth('/front/image_raw')


def frames(health, count=3, age_ms=5.0):
    for index in range(count):
        health.on_received(index + 1, age_ms)
        health.on_segmented(30.0, 25.0, {'network': 20.0 + index, 'decode': 1.0})


def test_waits_then_complains_about_a_camera_that_never_comes(health):
    assert health.report(LIMITS, hint).level == Level.OK
    time.sleep(0.12)
    report = health.report(LIMITS, hint)
    assert report.level == Level.ERROR
    assert report.message.startswith('no image on /front/image_raw for 0.1 s')
    assert hint() in report.message


def test_segmenting(health):
    frames(health)
    report = health.report(LIMITS, hint)
    assert (report.level, report.message) == (Level.OK, 'segmenting')
    values = report.values
    assert values['received'] == values['segmented'] == '3'
    assert values['stage_network_ms'] == '21.00' and values['stage_decode_ms'] == '1.00'
    assert values['latency_ms_p99'] == '30.0' and values['processing_ms_p50'] == '25.0'


def test_falls_stale(health):
    frames(health)
    time.sleep(0.12)
    assert health.report(LIMITS, hint).level == Level.STALE


def test_one_refusal_warns_and_ten_are_an_error(health):
    frames(health)
    for _ in range(9):
        health.on_refused(FrameError('encoding', 'no such encoding'), arrived=False)
    report = health.report(LIMITS, hint)
    assert report.level == Level.WARN and 'no such encoding' in report.message
    health.on_refused(FrameError('truncated', 'too short'), arrived=False)
    report = health.report(LIMITS, hint)
    assert report.level == Level.ERROR and 'last 10 images' in report.message
    assert report.values['refused'] == '10' and report.values['received'] == '13'
    assert report.values['refused_encoding'] == '9'
    assert report.values['last_refusal'] == 'too short'
    frames(health)
    assert health.report(LIMITS, hint).level == Level.OK


@pytest.mark.parametrize('age_ms, words', [
    (4_213_000, 'stamps are 4213.0 s old: replaying without use_sim_time?'),
    (2_000, 'a slow driver or network'), (-5_000, '5.0 s in the future')])
def test_ages(health, age_ms, words):
    frames(health, age_ms=age_ms)
    report = health.report(LIMITS, hint)
    assert report.level == Level.WARN and words in report.message


def test_low_rate(health):
    for _ in range(4):
        frames(health, 1)
        time.sleep(0.02)
    report = health.report(Limits(1.0, 1.0, min_rate_hz=500.0), hint)
    assert report.level == Level.WARN and 'below min_rate_hz 500' in report.message


def test_time_jumps_are_counted_and_harmless(health):
    for stamp_ns in (100, 200, 50, 60):
        health.on_received(stamp_ns, None)
        health.on_segmented(None, 1.0, {})
    report = health.report(LIMITS, hint)
    assert report.level == Level.OK and report.values['time_jumps'] == '1'


def test_restart_keeps_the_counts_and_forgets_the_times(health):
    frames(health)
    health.on_dropped()
    time.sleep(0.12)
    health.restart()
    report = health.report(LIMITS, hint)
    assert report.level == Level.OK and 'waiting for the first image' in report.message
    assert (report.values['segmented'], report.values['dropped']) == ('3', '1')
