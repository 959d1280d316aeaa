"""In turn: saves of one path wait for each other, in the order they came."""
import os
import queue
import signal
import subprocess
import sys
import threading
import time

import pytest

from lib.procs import wait_until

LONG = "turn_wait=200"


class Holder:
    """A program that has a file open for a save until it is told to close it."""

    SCRIPT = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC)
os.write(fd, sys.argv[2].encode())
print("open", flush=True)
sys.stdin.read(1)
os.close(fd)
"""

    def __init__(self, mount, path, text, wait=True):
        self.mount, self.path = mount, path
        self.process = mount.popen([sys.executable, "-c", self.SCRIPT, path, text],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if wait:
            self.opened()

    def opened(self):
        assert self.process.stdout.readline() == "open\n"

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(60) == 0


@pytest.fixture
def f(mount):
    path = mount.path / "f"
    path.write_text("start\n")
    mount.settled("f")
    return path


@pytest.mark.mount(LONG)
def test_twenty_waiting_writers_save_in_the_order_they_came(mount, f):
    holder = Holder(mount, "f", "holder\n")
    writers = []
    for i in range(20):
        writers.append(mount.popen(f"echo {i} > f"))
        mount.waiting("f", i + 1)
    assert [w["pid"] for w in mount.turn("f")["waiting"]] == [w.pid for w in writers]
    assert mount.turn("f")["holder"]["pid"] == holder.process.pid
    assert f.read_text() == "start\n"
    holder.close()
    assert [w.wait(60) for w in writers] == [0] * 20
    assert mount.versions("f") == {1: b"start\n", 2: b"holder\n", **{i + 3: b"%d\n" % i for i in range(20)}}
    assert [e["pid"] for e in mount.log("f")][:20] == [w.pid for w in reversed(writers)]


@pytest.mark.mount(LONG)
def test_forty_waiting_writers_hold_no_worker(mount, f):
    holder = Holder(mount, "f", "holder\n")
    writers = [mount.popen(f"echo {i} > f") for i in range(40)]
    mount.waiting("f", 40)
    mount.sh("echo g > g; cat g; mkdir d; ls; cat f; rm g; rmdir d", timeout=30)
    holder.close()
    assert [w.wait(60) for w in writers] == [0] * 40
    assert len(mount.versions("f")) == 42


@pytest.mark.mount(LONG)
def test_ctrl_c_ends_a_waiting_writer(mount, f):
    holder = Holder(mount, "f", "holder\n")
    first = mount.popen("echo first > f")
    mount.waiting("f", 1)
    second = mount.popen("echo second > f")
    mount.waiting("f", 2)
    first.send_signal(signal.SIGINT)
    assert first.wait(30) == -signal.SIGINT
    mount.waiting("f", 1)
    holder.close()
    assert second.wait(30) == 0
    assert mount.versions("f") == {1: b"start\n", 2: b"holder\n", 3: b"second\n"}


@pytest.mark.mount(LONG)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_fatal_signal_ends_a_waiting_writer(mount, f, signum):
    holder = Holder(mount, "f", "holder\n")
    writer = mount.popen("echo writer > f")
    mount.waiting("f", 1)
    writer.send_signal(signum)
    assert writer.wait(30) == -signum
    mount.waiting("f", 0)
    holder.close()
    assert mount.versions("f") == {1: b"start\n", 2: b"holder\n"}


@pytest.mark.mount(LONG)
def test_a_handled_interrupt_gives_eintr(mount, f):
    """A program that wants to hear of SIGINT, and not to go on, gets EINTR from its open."""
    holder = Holder(mount, "f", "holder\n")
    writer = mount.popen([sys.executable, "-c", f"""
import os, signal, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from lib import libc
signal.signal(signal.SIGINT, lambda *_: None)
try:
    libc.open_once("f", os.O_WRONLY | os.O_TRUNC)
except InterruptedError:
    print("EINTR")
"""], stdout=subprocess.PIPE)
    mount.waiting("f", 1)
    writer.send_signal(signal.SIGINT)
    assert writer.communicate(timeout=30)[0] == "EINTR\n"
    holder.close()


@pytest.mark.mount(LONG)
def test_sigchld_does_not_end_a_waiting_writer(mount, f):
    holder = Holder(mount, "f", "holder\n")
    writer = mount.popen([sys.executable, "-c", f"""
import os, signal, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from lib import libc
count = 0
def handler(*_):
    global count
    count += 1
signal.signal(signal.SIGCHLD, handler)
fd = libc.open_once("f", os.O_WRONLY | os.O_TRUNC)
os.write(fd, b"writer\\n")
os.close(fd)
print("saved", count > 0)
"""], stdout=subprocess.PIPE)
    mount.waiting("f", 1)
    for _ in range(20):
        writer.send_signal(signal.SIGCHLD)
        mount.waiting("f", 1)
    holder.close()
    assert writer.communicate(timeout=30)[0] == "saved True\n"
    assert mount.versions("f") == {1: b"start\n", 2: b"holder\n", 3: b"writer\n"}


def test_a_writer_goes_ahead_after_the_turn_wait(mount, f):
    holder = Holder(mount, "f", "holder\n")
    began = time.monotonic()
    mount.sh("echo second > f")
    assert 1.5 < time.monotonic() - began < 20
    assert f.read_text() == "second\n"
    holder.close()
    assert mount.sh("cat f") == "holder\n"
    assert mount.versions("f") == {1: b"start\n", 2: b"second\n", 3: b"holder\n"}


def test_a_save_over_a_version_it_had_not_seen_is_marked(mount, f):
    """Until the basis rule refuses or merges, the later publish goes on top, and the history says so."""
    late = mount.popen([sys.executable, "-c", """
import sys
with open("f", "r+") as f:
    f.read()
    f.write("late\\n")
    f.flush()
    print("open", flush=True)
    sys.stdin.read(1)
"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert late.stdout.readline() == "open\n"
    mount.sh("echo early > f")
    late.communicate("x")
    assert late.returncode == 0
    mount.settled("f")
    top, below = mount.log("f")[:2]
    assert (top["verdict"], top["basis"]["kind"], top["basis"]["version"]) == ("over", "own", 1)
    assert below["version"] == 2
    assert f.read_text() == "start\nlate\n"


@pytest.mark.mount("turn_wait=4")
def test_a_stopped_saver_delays_the_others_only_once(mount, f):
    holder = Holder(mount, "f", "stopped\n")
    holder.process.send_signal(signal.SIGSTOP)
    times = []
    for text in ("first", "second", "third"):
        began = time.monotonic()
        mount.sh(f"echo {text} > f")
        times.append(time.monotonic() - began)
    assert times[0] > 3.5
    assert max(times[1:]) < 3.5, "they waited for it again"
    holder.process.send_signal(signal.SIGCONT)
    holder.close()
    versions = mount.versions("f")
    assert set(versions.values()) == {b"start\n", b"first\n", b"second\n", b"third\n", b"stopped\n"}


@pytest.mark.mount(LONG)
def test_two_threads_of_a_process_are_two_saves(mount, f):
    first = os.open(f, os.O_WRONLY | os.O_TRUNC)
    os.write(first, b"first\n")
    opened = queue.Queue()
    thread = threading.Thread(target=lambda: opened.put(os.open(f, os.O_WRONLY | os.O_TRUNC)))
    thread.start()
    mount.waiting("f", 1)
    assert opened.empty()
    os.write(first, b"more\n")
    os.close(first)
    second = opened.get(timeout=30)
    thread.join()
    assert os.fstat(second).st_size == 0
    os.write(second, b"second\n")
    assert mount.sh("cat f") == "first\nmore\n"
    os.close(second)
    assert mount.versions("f") == {1: b"start\n", 2: b"first\nmore\n", 3: b"second\n"}


@pytest.mark.mount(LONG)
def test_a_thread_does_not_wait_for_itself(mount, f):
    first = os.open(f, os.O_WRONLY | os.O_TRUNC)
    second = os.open(f, os.O_WRONLY)
    os.write(first, b"12345")
    os.write(second, b"ab")
    assert os.fstat(first).st_size == os.fstat(second).st_size == 5
    os.close(first)
    os.close(second)
    assert mount.sh("cat f") == "ab345"


@pytest.mark.mount(LONG)
def test_who_inherits_the_descriptor_joins_the_save(mount, f):
    mount.sh("{ echo parent; sh -c 'echo child >> f'; } > f", timeout=60)
    assert f.read_text() == "parent\nchild\n"
    assert len(mount.versions("f")) == 2


@pytest.mark.mount(LONG)
def test_different_files_do_not_wait_for_each_other(mount, f):
    holder = Holder(mount, "f", "holder\n")
    mount.sh("echo a > a; cat a; ln a b; echo b > b; mv b c; rm a c", timeout=30)
    holder.close()


@pytest.mark.mount(LONG)
def test_names_of_one_file_share_the_turn(mount, f):
    os.link(f, mount.path / "g")
    holder = Holder(mount, "f", "holder\n")
    writer = mount.popen("echo writer > g")
    wait_until(lambda: sum(len(t["waiting"]) for t in mount.tree()["turns"]) == 1, "the writer to wait")
    holder.close()
    assert writer.wait(30) == 0
    assert f.read_text() == "writer\n"


@pytest.mark.mount(LONG)
def test_a_killed_holder_gives_up_its_turn(mount, f):
    holder = Holder(mount, "f", "killed\n")
    writer = mount.popen("echo writer > f")
    mount.waiting("f", 1)
    holder.process.kill()
    assert writer.wait(30) == 0
    assert mount.sh("cat f") == "writer\n"


@pytest.mark.mount(LONG)
def test_a_waiter_sees_the_version_of_the_one_before(mount, f):
    """Open for update, not truncation: what it starts from is the head when its turn came, not when it asked."""
    holder = Holder(mount, "f", "holder\n")
    writer = mount.popen([sys.executable, "-c", """
with open("f", "r+") as f:
    text = f.read()
    f.write("writer after " + text)
"""])
    mount.waiting("f", 1)
    holder.close()
    assert writer.wait(30) == 0
    assert mount.sh("cat f") == "holder\nwriter after holder\n"


@pytest.mark.mount(LONG)
def test_status_tells_who_holds_and_who_waits(mount, f):
    holder = Holder(mount, "f", "holder\n")
    writer = mount.popen("echo writer > f")
    mount.waiting("f", 1)
    turn = mount.turn("f")
    assert turn["holder"]["pid"] == holder.process.pid
    assert turn["holder"]["program"].startswith("python")
    assert turn["waiting"][0]["program"] == "sh"
    assert {s["state"] for s in mount.saves("f")} == {"staged"}
    holder.close()
    assert writer.wait(30) == 0
    mount.settled("f")
    assert mount.turn("f") == {"path": "f", "holder": None, "waiting": []}


@pytest.mark.mount(LONG)
def test_readers_do_not_wait(mount, f):
    holder = Holder(mount, "f", "holder\n")
    assert mount.sh("cat f; stat -c %s f; cp f g; cat g", timeout=30) == "start\n6\nstart\n"
    holder.close()
