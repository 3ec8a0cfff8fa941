"""Newest wins, nobody starves, closing wakes the taker."""

from queue import Queue
from threading import Thread
import time

import pytest

from seg_node.running.mailbox import Mailbox

LIMIT_S = 20.0


@pytest.fixture
def take_in_thread():
    """Return what starts a taker in a thread of its own; its answer comes through a queue."""
    def start(mailbox, limit=None):
        answers = Queue()
        # A daemon: a taker that nothing wakes must fail its test, not hang all of them.
        thread = Thread(target=lambda: answers.put(mailbox.take(limit)), daemon=True)
        thread.start()
        return answers
    return start


@pytest.fixture
def now(take_in_thread):
    """Return what takes, failing when it would wait."""
    return lambda mailbox, limit=None: take_in_thread(mailbox, limit).get(timeout=LIMIT_S)


def test_newest_wins_and_the_replaced_one_comes_back(now):
    mailbox = Mailbox(['a'])
    assert mailbox.put('a', 1) is None
    assert mailbox.put('a', 2) == 1
    assert now(mailbox) == [2]
    assert mailbox.put('a', 3) is None


def test_cameras_do_not_replace_each_other(now):
    mailbox = Mailbox('ab')
    assert mailbox.put('a', 1) is None and mailbox.put('b', 2) is None
    assert now(mailbox) == [1, 2]


def test_takes_one_of_each_ready_camera_up_to_the_limit(now):
    mailbox = Mailbox('abc')
    for name in 'abc':
        mailbox.put(name, name)
    assert now(mailbox, 2) == ['a', 'b']
    mailbox.put('a', 'a2')
    assert now(mailbox, 2) == ['c', 'a2']


def test_the_longest_unserved_camera_goes_first(now):
    mailbox = Mailbox('ab')
    served = []
    for turn in range(10):
        mailbox.put('a', f'a{turn}')
        mailbox.put('b', f'b{turn}')
        served += now(mailbox, 1)
    assert [item[0] for item in served] == ['a', 'b'] * 5


def test_a_camera_that_was_served_in_a_batch_waits_its_turn(now):
    mailbox = Mailbox('abc')
    for name in 'cba':
        mailbox.put(name, name)
    assert now(mailbox, 1) == ['a']
    for name in 'abc':
        mailbox.put(name, name)
    assert now(mailbox) == ['b', 'c', 'a']


@pytest.mark.parametrize('falsy', [0, '', False])
def test_an_item_may_be_anything_but_none(falsy, now):
    mailbox = Mailbox(['a'])
    mailbox.put('a', falsy)
    assert now(mailbox) == [falsy]
    mailbox.put('a', falsy)
    assert mailbox.drain() == [falsy]


def test_take_waits_for_an_item(take_in_thread):
    mailbox = Mailbox(['a'])
    answers = take_in_thread(mailbox)
    time.sleep(0.05)
    assert answers.empty()
    mailbox.put('a', 7)
    assert answers.get(timeout=LIMIT_S) == [7]


def test_close_wakes_every_taker_and_leaves_the_rest_to_drain(take_in_thread, now):
    mailbox = Mailbox('ab')
    takers = [take_in_thread(mailbox) for _ in range(2)]
    time.sleep(0.05)
    mailbox.close()
    assert [answers.get(timeout=LIMIT_S) for answers in takers] == [[], []]
    mailbox.put('b', 1)
    assert now(mailbox) == []
    assert mailbox.drain() == [1] and mailbox.drain() == []


def test_what_waits_at_the_close_is_not_taken_but_drained(now):
    mailbox = Mailbox('abc')
    mailbox.put('c', 3)
    mailbox.put('a', 1)
    mailbox.close()
    assert now(mailbox) == []
    assert mailbox.drain() == [1, 3]


def test_a_taker_may_wait_for_a_while_only():
    mailbox = Mailbox('ab')
    start = time.monotonic()
    assert mailbox.take(timeout_s=0.0) == [] == mailbox.take(timeout_s=0.05)
    assert time.monotonic() - start >= 0.05
    mailbox.put('a', 1)
    assert mailbox.take(timeout_s=0.0) == [1]
