"""Newest wins, nobody starves, closing wakes the taker."""

from threading import Thread
import time

from seg_node.mailbox import Mailbox


def test_newest_wins_and_the_replaced_one_comes_back():
    mailbox = Mailbox(['a'])
    assert mailbox.put('a', 1) is None
    assert mailbox.put('a', 2) == 1
    assert mailbox.take() == [2]
    assert mailbox.put('a', 3) is None


def test_takes_one_of_each_ready_camera_up_to_the_limit():
    mailbox = Mailbox('abc')
    for name in 'abc':
        mailbox.put(name, name)
    assert mailbox.take(2) == ['a', 'b']
    mailbox.put('a', 'a2')
    assert mailbox.take(2) == ['c', 'a2']


def test_the_longest_unserved_camera_goes_first():
    mailbox = Mailbox('ab')
    served = []
    for turn in range(10):
        mailbox.put('a', f'a{turn}')
        mailbox.put('b', f'b{turn}')
        served += mailbox.take(1)
    assert [item[0] for item in served] == ['a', 'b'] * 5


def test_take_waits_for_an_item():
    mailbox = Mailbox(['a'])
    taken = []
    thread = Thread(target=lambda: taken.extend(mailbox.take()))
    thread.start()
    time.sleep(0.05)
    assert not taken
    mailbox.put('a', 7)
    thread.join(timeout=5)
    assert taken == [7]


def test_close_wakes_the_taker_and_leaves_the_rest_to_drain():
    mailbox = Mailbox(['a'])
    taken = []
    thread = Thread(target=lambda: taken.append(mailbox.take()))
    thread.start()
    mailbox.close()
    thread.join(timeout=5)
    assert taken == [[]]
    mailbox.put('a', 1)
    assert mailbox.take() == []
    assert mailbox.drain() == [1] and mailbox.drain() == []
