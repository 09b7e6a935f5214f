"""Signals are heard where we look for them, and none is lost."""

import os
import signal
import threading

import pytest

from stemrack.rt.interrupt import interruptible


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_check(number):
    before = signal.getsignal(number)
    reached = []

    def work():
        with interruptible() as check:
            check()
            send(number)
            reached.append("after the signal")
            check()
            reached.append("after the check")

    with pytest.raises(SystemExit) as caught:
        work()
    assert caught.value.code == 128 + number
    assert reached == ["after the signal"]
    assert signal.getsignal(number) is before


def test_a_signal_that_no_check_saw_is_raised_at_the_end():
    with pytest.raises(SystemExit) as caught, interruptible():
        send(signal.SIGTERM)
    assert caught.value.code == 143


def test_a_second_signal_is_raised_at_once():
    reached = []

    def work():
        with interruptible():
            send(signal.SIGINT)
            reached.append("after the first")
            send(signal.SIGTERM)
            reached.append("after the second")

    with pytest.raises(SystemExit) as caught:
        work()
    assert caught.value.code == 130
    assert reached == ["after the first"]


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible() as check:
            send(signal.SIGINT)
            check()
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_error_goes_before_a_signal():
    def work():
        with interruptible():
            send(signal.SIGTERM)
            raise KeyError

    with pytest.raises(KeyError):
        work()


def test_other_threads_change_nothing():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with interruptible() as check:
            seen.append(signal.getsignal(signal.SIGINT))
            check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
