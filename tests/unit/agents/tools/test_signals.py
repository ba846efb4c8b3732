"""What ends a command, and what may not break it off."""

import os
import signal
import subprocess
import sys

import pytest

from agents.tools.signals import ENDING, as_ctrl_c, audible, deaf, handled, unbroken

each = pytest.mark.parametrize("number", ENDING, ids=lambda one: one.name)


@each
def test_each_acts_as_ctrl_c_and_only_within_the_block(number: signal.Signals) -> None:
    before = [signal.getsignal(one) for one in ENDING]
    with pytest.raises(KeyboardInterrupt), as_ctrl_c():
        os.kill(os.getpid(), number)
        signal.sigtimedwait([], 1.0)  # a moment for it to arrive
    assert [signal.getsignal(one) for one in ENDING] == before


@each
def test_what_is_ignored_stays_so(number: signal.Signals) -> None:
    with handled(signal.SIG_IGN, number):
        assert number not in audible()
        with as_ctrl_c():
            assert signal.getsignal(number) is signal.SIG_IGN


@each
def test_putting_away_is_never_broken_off(number: signal.Signals) -> None:
    with as_ctrl_c():
        with deaf():
            os.kill(os.getpid(), number)
        assert number in audible()


@each
def test_what_must_be_whole_is_interrupted_at_its_end(number: signal.Signals) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), as_ctrl_c(), unbroken():
        os.kill(os.getpid(), number)
        done.append("whole")
    assert done == ["whole"]


@each
def test_every_command_hears_them(number: signal.Signals) -> None:
    """At the one place where all of them begin."""
    code = (
        "import click, time\n"
        "from agents import cli\n"
        "@click.command()\n"
        "def slow():\n"
        "    try:\n"
        "        print('begun', flush=True)\n"
        "        time.sleep(30)\n"
        "    except KeyboardInterrupt:\n"
        "        print('put away')\n"
        "        raise\n"
        "cli.LazyGroup.get_command = lambda *_: slow\n"
        "cli.main(['doctor'])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == "begun\n"
        one.send_signal(number)
        told, complaint = one.communicate(timeout=20)
    assert (told, complaint.strip(), one.returncode) == ("put away\n", "Aborted!", 128 + number)
