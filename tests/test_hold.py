"""intactfs hold: a file, or a tree, for a script of several steps."""
import os
import signal
import subprocess

import pytest

from lib.actor import Actor
from lib.procs import wait_until
from lib.stale import published, set_policy

LONG = "turn_wait=200"
BOTH = pytest.mark.parametrize("what", ["f", "."])


@pytest.fixture
def f(mount):
    path = mount.path / "f"
    path.write_text("start\n")
    published(mount)
    return path


def hold(mount, what, script):
    """Runs in a session of its own; returns once the script runs, which goes on at the next line of its input."""
    held = mount.popen(f"exec intactfs hold {what} -- sh -c 'echo held; read -r line; {script}'",
                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert held.stdout.readline() == "held\n"
    return held


def end(held, code=0):
    held.communicate("\n", timeout=30)
    assert held.returncode == code


def turn(mount, what):
    return mount.turn("" if what == "." else what)


@BOTH
@pytest.mark.mount(LONG)
def test_others_save_when_it_has_ended(mount, f, what):
    held = hold(mount, what, "echo mine > f")
    assert turn(mount, what)["holder"]["pid"] == held.pid
    a, b = Actor(mount), Actor(mount)
    a.tell("save", "f", "a\n")
    wait_until(lambda: len(turn(mount, what)["waiting"]) == 1)
    assert b.read("f") == "start\n"
    end(held)
    assert a.answer() == "saved"
    assert list(mount.versions("f").values()) == [b"start\n", b"mine\n", b"a\n"]
    assert turn(mount, what)["holder"] is None


@BOTH
@pytest.mark.mount(LONG)
def test_under_turn_others_read_when_it_has_ended(mount, f, what):
    set_policy(mount, "f", "turn")
    held = hold(mount, what, "echo mine > f")
    a = Actor(mount)
    a.tell("read", "f")
    wait_until(lambda: len(turn(mount, what)["waiting"]) == 1)
    end(held)
    assert a.answer() == "mine\n"


@BOTH
@pytest.mark.mount(LONG)
def test_one_that_is_killed_holds_nothing(mount, f, what):
    held = hold(mount, what, "true")
    a = Actor(mount)
    a.tell("save", "f", "a\n")
    wait_until(lambda: len(turn(mount, what)["waiting"]) == 1)
    held.kill()
    assert a.answer() == "saved"
    held.communicate(timeout=30)


@pytest.mark.mount("turn_wait=0.2")
@BOTH
def test_others_wait_for_their_time_at_most(mount, f, what):
    held = hold(mount, what, "true")
    a = Actor(mount)
    assert a.save("f", "a\n") == "saved"
    assert turn(mount, what)["holder"]["pid"] == held.pid
    end(held)
    assert f.read_text() == "a\n"


@pytest.mark.mount(LONG)
def test_what_replaces_the_file_is_held(mount, f):
    held = hold(mount, "f", "echo 1 > tmp; mv tmp f; echo moved; read -r line; echo 2 >> f")
    a, b = Actor(mount), Actor(mount)
    a.tell("save", "f", "a\n")
    mount.waiting("f", 1)
    held.stdin.write("\n")
    held.stdin.flush()
    assert held.stdout.readline() == "moved\n"
    b.tell("save", "f", "b\n")
    mount.waiting("f", 2)
    assert f.read_text() == "1\n"
    end(held)
    assert a.answer() == b.answer() == "saved"
    assert b"1\n2\n" in mount.versions("f").values()


@pytest.mark.mount(LONG)
def test_holds_wait_for_each_other(mount, f):
    """First come, first served; the script of a holder has all of it without waiting, and may hold it once more."""
    first = hold(mount, "f", "intactfs hold f -- sh -c \"echo 1 >> f\"; echo 2 >> f")
    others = []
    for i in "ab":
        others.append(mount.popen(f"exec intactfs hold f -- sh -c 'echo {i} >> f'"))
        mount.waiting("f", len(others))
    end(first)
    assert [o.wait(30) for o in others] == [0, 0]
    published(mount)
    assert f.read_text() == "start\n1\n2\na\nb\n"


@pytest.mark.mount(LONG)
def test_holds_that_wait_for_each_other(mount, f):
    """Each script holds one file and wants the other: the last to come is told so."""
    (mount.path / "g").write_text("start\n")
    a = hold(mount, "f", "exec intactfs hold g -- true")
    b = hold(mount, "g", "exec intactfs hold f -- true 2>&1")
    a.stdin.write("\n")
    a.stdin.flush()
    mount.waiting("g", 1)
    said, _ = b.communicate("\n", timeout=30)
    assert b.returncode == 125 and "waits for what this program holds" in said
    end(a)


@pytest.mark.mount(LONG)
def test_a_wait_can_be_interrupted(mount, f):
    held = hold(mount, "f", "true")
    waiting = mount.popen("exec intactfs hold f -- true")
    mount.waiting("f", 1)
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(30) == -signal.SIGINT
    mount.waiting("f", 0)
    end(held)


def test_it_ends_as_its_command_does(mount, f):
    def code(*command):
        return mount.cli("hold", "f", "--", *command).returncode
    assert code("true") == 0
    assert code("sh", "-c", "exit 3") == 3
    assert code("sh", "-c", "kill -KILL $$") == 128 + 9
    assert code("/no/such/command") == 127
    assert code("/") == 126
    held = hold(mount, "f", "true")
    held.terminate()
    assert held.wait(30) == 128 + signal.SIGTERM


def test_what_cannot_be_held(mount, f, place):
    def said(*args):
        done = mount.cli("hold", *args)
        assert done.returncode in (2, 125)
        return done.stderr
    os.symlink("nowhere", mount.path / "link")
    assert "No such file" in said("none", "--", "true")
    assert "No such file" in said("link", "--", "true")
    assert "intactfs" in said(place, "--", "true")
    assert "usage" in said("f")
    with pytest.raises(OSError):
        os.setxattr(f, "user.intactfs.hold", b"x")
