"""flock(2) and fcntl(2) locks: they exclude, end with their owner, and who has one sees what was written under the one before."""
import errno
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys

import pytest

from lib.procs import NOBODY, as_user, wait_until


OFD_GETLK, OFD_SETLK, OFD_SETLKW = 36, 37, 38


def ofd(fd, kind, start=0, length=0, wait=False):
    """An open file description lock, which Python has no function for."""
    fcntl.fcntl(fd, OFD_SETLKW if wait else OFD_SETLK, struct.pack("hhlll", kind, os.SEEK_SET, start, length, 0))


def getlk(fd, kind, start=0, length=0):
    """(type, start, length, pid) of what is in the way, or None."""
    answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0))
    kind, _, start, length, pid = struct.unpack("hhqqi4x", answer)
    return None if kind == fcntl.F_UNLCK else (kind, start, length, pid)


HELPER = """
import errno, fcntl, os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_locks import ofd, getlk
def interrupt(*_):
    raise InterruptedError(errno.EINTR, "")
for line in sys.stdin:
    try:
        result = eval(line)
        print(repr(result), flush=True)
    except OSError as e:
        print(repr(errno.errorcode[e.errno]), flush=True)
"""


class Program:
    """A process of its own that does what it is told, a Python expression at a time."""

    def __init__(self, mount):
        self.job = mount.popen([sys.executable, "-c", HELPER, os.path.dirname(__file__)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def begin(self, expression):
        self.job.stdin.write(expression + "\n")
        self.job.stdin.flush()

    def result(self):
        return eval(self.job.stdout.readline())

    def __call__(self, expression):
        self.begin(expression)
        return self.result()

    def open(self, path, flags="os.O_RDWR"):
        return self(f"os.open({path!r}, {flags}, 0o644)")

    def blocked(self):
        """It waits for a lock, and nothing else."""
        with open(f"/proc/{self.job.pid}/stack", encoding="ascii") as f:
            return "fuse_setlk" in f.read()

    def end(self, signum=None):
        if signum:
            self.job.send_signal(signum)
        else:
            self.job.stdin.close()
        self.job.wait(20)


@pytest.fixture
def program(mount):
    made = []

    def make():
        made.append(Program(mount))
        return made[-1]

    yield make
    for p in made:
        p.job.kill()
        p.job.wait()
        p.job.stdin.close()
        p.job.stdout.close()


EX, SH, UN, NB = "fcntl.LOCK_EX", "fcntl.LOCK_SH", "fcntl.LOCK_UN", "fcntl.LOCK_NB"
WAYS = ["os.O_RDONLY", "os.O_RDWR", "os.O_WRONLY", "os.O_RDWR | os.O_APPEND", "os.O_RDWR | os.O_TRUNC",
        "os.O_RDWR | os.O_CREAT"]


@pytest.mark.parametrize("content", ["", "text\n"], ids=["empty", "with text"])
@pytest.mark.parametrize("second", WAYS)
@pytest.mark.parametrize("first", WAYS)
def test_flock_excludes_whatever_the_opens(mount, program, first, second, content):
    (mount.path / "f").write_text(content)
    mount.settled("f")
    a, b = program(), program()
    x = a.open("f", first)
    assert a(f"fcntl.flock({x}, {EX})") is None
    y = b.open("f", second)
    assert b(f"fcntl.flock({y}, {EX} | {NB})") == "EAGAIN"
    assert b(f"fcntl.flock({y}, {SH} | {NB})") == "EAGAIN"
    b.begin(f"fcntl.flock({y}, {EX})")
    wait_until(b.blocked, "it to wait")
    assert a(f"fcntl.flock({x}, {UN})") is None
    assert b.result() is None
    assert a(f"fcntl.flock({x}, {SH} | {NB})") == "EAGAIN"
    assert b(f"os.close({y})") is None
    assert a(f"fcntl.flock({x}, {EX} | {NB})") is None


@pytest.mark.parametrize("second", [w for w in WAYS if "RDONLY" not in w])
@pytest.mark.parametrize("first", [w for w in WAYS if "RDONLY" not in w])
@pytest.mark.parametrize("kind, content", [("posix", "text\n"), ("ofd", "")])
def test_fcntl_excludes_whatever_the_opens(mount, program, kind, first, second, content):
    (mount.path / "f").write_text(content)
    mount.settled("f")
    a, b = program(), program()
    x, y = a.open("f", first), b.open("f", second)

    def lock(fd, what):
        if kind == "posix":
            return f"fcntl.lockf({fd}, {what}, 10, 5)"
        name = {"fcntl.LOCK_EX": "fcntl.F_WRLCK", "fcntl.LOCK_UN": "fcntl.F_UNLCK"}[what.split(" ")[0]]
        return f"ofd({fd}, {name}, 5, 10, {NB not in what})"

    assert a(lock(x, EX)) is None
    assert b(lock(y, f"{EX} | {NB}")) == "EAGAIN"
    assert b(f"fcntl.lockf({y}, {EX} | {NB}, 5, 0)") is None, "the bytes before are free"
    found = b(f"getlk({y}, fcntl.F_WRLCK, 0, 100)")
    assert found[:3] == (fcntl.F_WRLCK, 5, 10)
    assert kind == "ofd" or found[3] == a.job.pid
    b.begin(lock(y, EX))
    wait_until(b.blocked, "it to wait")
    assert a(lock(x, UN)) is None
    assert b.result() is None


def test_shared_locks_share(mount, program):
    mount.sh("echo text > f")
    mount.settled("f")
    readers = [program() for _ in range(4)]
    for p in readers:
        fd = p.open("f", "os.O_RDONLY")
        assert p(f"fcntl.flock({fd}, {SH} | {NB})") is None
        assert p(f"fcntl.lockf({fd}, {SH} | {NB})") is None
    writer = program()
    fd = writer.open("f")
    assert writer(f"fcntl.flock({fd}, {EX} | {NB})") == "EAGAIN"
    assert writer(f"fcntl.lockf({fd}, {EX} | {NB})") == "EAGAIN"
    for p in readers[1:]:
        p.end()
    assert writer(f"fcntl.lockf({fd}, {EX} | {NB})") == "EAGAIN"
    readers[0].end()
    assert writer(f"fcntl.flock({fd}, {EX})") is None
    assert writer(f"fcntl.lockf({fd}, {EX})") is None


def test_flock_and_fcntl_do_not_see_each_other(mount, program):
    mount.sh("echo text > f")
    a, b = program(), program()
    x, y = a.open("f"), b.open("f")
    assert a(f"fcntl.flock({x}, {EX})") is None
    assert b(f"fcntl.lockf({y}, {EX} | {NB})") is None


def test_ranges_split_and_join(mount, program):
    """The ranges as POSIX has them: a lock replaces what its owner had there, in parts too."""
    mount.sh("echo text > f")
    mount.settled("f")
    a, b = program(), program()
    x, y = a.open("f"), b.open("f")

    def held():
        ranges, at = [], 0
        while True:
            found = b(f"getlk({y}, fcntl.F_WRLCK, {at}, 0)")
            if found is None:
                return ranges
            ranges.append(found[:3])
            if found[2] == 0:
                return ranges
            at = found[1] + found[2]

    rd, wr = fcntl.F_RDLCK, fcntl.F_WRLCK
    for what, expected in [
            (f"{EX}, 100, 0", [(wr, 0, 100)]),
            (f"{UN}, 10, 40", [(wr, 0, 40), (wr, 50, 50)]),
            (f"{SH}, 20, 30", [(wr, 0, 30), (rd, 30, 10), (rd, 40, 10), (wr, 50, 50)]),
            (f"{SH}, 20, 30", None),
            (f"{EX}, 30, 20", [(wr, 0, 100)]),
            (f"{EX}, 0, 200", [(wr, 0, 100), (wr, 200, 0)]),
            (f"{EX}, 100, 100", [(wr, 0, 0)]),
            (f"{UN}, 0, 1000", [(wr, 0, 1000)]),
            (f"{UN}", [])]:
        assert a(f"fcntl.lockf({x}, {what})") is None
        found = held()
        if expected is None:
            continue
        merged = []
        for kind, start, length in expected:
            if merged and merged[-1][0] == kind and merged[-1][1] + merged[-1][2] == start:
                merged[-1] = (kind, merged[-1][1], merged[-1][2] + length)
            else:
                merged.append((kind, start, length))
        assert sorted(found, key=lambda r: r[1]) == merged, what


@pytest.mark.parametrize("how", ["close", "exit", "kill", "another descriptor's close", "exec", "unlock"])
def test_posix_locks_end_with_their_owner(mount, program, how):
    mount.sh("echo text > f")
    mount.settled("f")
    a, b = program(), program()
    x, y = a.open("f"), b.open("f")
    assert a(f"fcntl.lockf({x}, {EX})") is None
    b.begin(f"fcntl.lockf({y}, {EX})")
    wait_until(b.blocked, "it to wait")
    if how == "close":
        a(f"os.close({x})")
    elif how == "another descriptor's close":
        a("os.close(os.open('f', os.O_RDONLY))")
    elif how == "exec":
        a.begin("os.execv('/bin/cat', ['cat'])")
    elif how == "unlock":
        a(f"fcntl.lockf({x}, {UN})")
    else:
        a.end(signal.SIGKILL if how == "kill" else None)
    assert b.result() is None


def test_a_child_has_its_parents_flock_but_not_its_posix_locks(mount, program):
    mount.sh("echo text > f")
    a, b = program(), program()
    x, y = a.open("f"), b.open("f")
    assert a(f"fcntl.flock({x}, {EX})") is None
    assert a(f"fcntl.lockf({x}, {EX})") is None
    child = a("os.fork() or (os.setsid(), __import__('signal').pause())")
    assert a(f"os.close({x})") is None
    assert b(f"fcntl.lockf({y}, {EX} | {NB})") is None
    assert b(f"fcntl.flock({y}, {EX} | {NB})") == "EAGAIN"
    os.kill(child, signal.SIGKILL)
    assert b(f"fcntl.flock({y}, {EX})") is None


def test_a_lock_just_let_go_is_free_at_once(mount):
    """RELEASE comes after close has returned: who does not want to wait has to be told right all the same."""
    mount.sh("echo text > f", timeout=60)
    mount.sh("""for i in $(seq 100); do flock -n f true || exit 1; done
                for i in $(seq 100); do flock -n new true || exit 1; done
                exec 9< f
                for i in $(seq 100); do flock -n 9 || exit 1; flock -u 9; flock -n f true || exit 1; done""")
    mount.sh(f"""{sys.executable} - <<'END'
import fcntl, os
for i in range(300):
    fd = os.open("f", [os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND][i % 3])
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
END""")


def test_a_deadlock_is_refused(mount, program):
    mount.sh("echo text > f; echo text > g")
    a, b, c = program(), program(), program()
    fds = {p: (p.open("f"), p.open("g")) for p in (a, b, c)}
    assert a(f"fcntl.lockf({fds[a][0]}, {EX}, 1, 0)") is None
    assert b(f"fcntl.lockf({fds[b][1]}, {EX}, 1, 0)") is None
    assert c(f"fcntl.lockf({fds[c][0]}, {EX}, 1, 1)") is None
    a.begin(f"fcntl.lockf({fds[a][1]}, {EX}, 1, 0)")
    wait_until(a.blocked, "it to wait")
    c.begin(f"fcntl.lockf({fds[c][0]}, {EX}, 1, 0)")
    wait_until(c.blocked, "it to wait")
    assert b(f"fcntl.lockf({fds[b][0]}, {EX}, 1, 1)") == "EDEADLOCK"
    assert b(f"fcntl.lockf({fds[b][0]}, {EX}, 1, 0)") == "EDEADLOCK"
    b.end()
    assert a.result() is None
    a.end()
    assert c.result() is None


@pytest.mark.parametrize("call", ["flock", "lockf"])
def test_a_signal_ends_the_wait(mount, program, call):
    """Only one that the program handles, or that ends it; SIGCHLD and a stop do not. Who has gone gets no lock."""
    mount.sh("echo text > f")
    a, b, c = program(), program(), program()
    x, y, z = a.open("f"), b.open("f"), c.open("f")
    lock = f"fcntl.{call}(%d, {EX})"
    assert a(lock % x) is None
    b("bool(signal.signal(signal.SIGUSR1, interrupt))")
    for p, fd in ((b, y), (c, z)):
        p.begin(lock % fd)
        wait_until(p.blocked, "it to wait")
    for quiet in (signal.SIGCHLD, signal.SIGSTOP, signal.SIGCONT, signal.SIGWINCH):
        b.job.send_signal(quiet)
    wait_until(b.blocked, "it to wait on")
    b.job.send_signal(signal.SIGUSR1)
    assert b.result() == "EINTR"
    c.end(signal.SIGKILL)
    d = program()
    w = d.open("f")
    assert d(f"fcntl.{call}({w}, {EX} | {NB})") == "EAGAIN"
    a(f"fcntl.{call}({x}, {UN})")
    assert d(f"fcntl.{call}({w}, {EX} | {NB})") is None
    assert b(f"fcntl.{call}({y}, {EX} | {NB})") == "EAGAIN"


ADD = """
import fcntl, json, os, sys
way, path, key, rounds = sys.argv[1:]

def change(f, i):
    f.seek(0)
    data = json.load(f)
    data[key] = i
    assert all(isinstance(v, int) for v in data.values())
    return data

def rewrite(f, data, truncate_first=False):
    f.seek(0)
    if truncate_first:
        f.truncate()
    json.dump(data, f)
    f.truncate()
    f.flush()

def save(path, data):
    with open(path, "w") as f:
        json.dump(data, f)

kept = open(path, "r+") if way == "kept open" else None
for i in range(int(rounds)):
    if way == "in place":
        with open(path, "r+") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            rewrite(f, change(f, i), truncate_first=True)
    elif way == "in place, fcntl":
        with open(path, "r+") as f:
            fcntl.lockf(f, fcntl.LOCK_EX)
            rewrite(f, change(f, i))
    elif way == "unlocked before the close":
        with open(path, "r+") as f:
            fcntl.lockf(f, fcntl.LOCK_EX)
            rewrite(f, change(f, i))
            fcntl.lockf(f, fcntl.LOCK_UN)
    elif way == "kept open":
        fcntl.flock(kept, fcntl.LOCK_EX)
        rewrite(kept, change(kept, i))
        fcntl.flock(kept, fcntl.LOCK_UN)
    elif way in ("lock on a reader, saved anew", "lock in place, saved anew"):
        with open(path, "r" if "reader" in way else "r+") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            save(path, change(f, i))
    else:
        with open(path + ".lock", "a") as lock:
            (fcntl.lockf if "rename" in way else fcntl.flock)(lock, fcntl.LOCK_EX)
            with open(path) as f:
                data = change(f, i)
            if "rename" in way:
                save(path + "." + key, data)
                os.rename(path + "." + key, path)
            else:
                save(path, data)
"""
COUNT = """
import fcntl, os, sys
way, path, rounds = sys.argv[1:]
for i in range(int(rounds)):
    if way == "lock file":
        lock = os.open(path + ".lock", os.O_WRONLY | os.O_CREAT, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX)
        number = int(open(path).read())
        with open(path, "w") as f:
            f.write(str(number + 1))
        os.close(lock)
    else:
        fd = os.open(path, os.O_RDWR)
        (fcntl.flock if way == "flock" else fcntl.lockf)(fd, fcntl.LOCK_EX)
        number = int(os.read(fd, 100))
        os.pwrite(fd, str(number + 1).encode(), 0)
        os.close(fd)
"""


@pytest.mark.parametrize("way", [
    "in place", "in place, fcntl", "unlocked before the close", "kept open", "lock on a reader, saved anew", "lock file",
    "lock file and rename", "lock in place, saved anew"])
def test_who_reads_changes_and_writes_under_a_lock_loses_nothing(mount, soak, way):
    (mount.path / "f").write_text("{}")
    mount.settled("f")
    rounds = 20 * soak
    jobs = [mount.popen([sys.executable, "-c", ADD, way, "f", f"key{i}", str(rounds)]) for i in range(4)]
    for job in jobs:
        assert job.wait(200) == 0
    mount.settled("f")
    assert json.loads((mount.path / "f").read_text()) == {f"key{i}": rounds - 1 for i in range(4)}


@pytest.mark.parametrize("way", ["flock", "fcntl", "lock file"])
def test_two_programs_that_count_a_thousand_times(mount, way):
    (mount.path / "f").write_text("1000")
    mount.settled("f")
    jobs = [mount.popen([sys.executable, "-c", COUNT, way, "f", "1000"]) for _ in range(2)]
    for job in jobs:
        assert job.wait(100) == 0
    mount.settled("f")
    assert (mount.path / "f").read_text() == "3000"


def test_shell_scripts_with_flock(mount):
    """The lock protocols of flock(1)'s manual page."""
    script = """
for i in $(seq 50); do
    flock counter sh -c 'read n < counter; echo $((n + 1)) > counter'
    ( flock 9; read n < other; echo $((n + 1)) > other ) 9> lock
    ( flock 9; read n < third; echo $((n + 1)) > third ) 9>> lock2
done"""
    mount.sh("echo 0 > counter; echo 0 > other; echo 0 > third")
    jobs = [mount.popen(script) for _ in range(4)]
    for job in jobs:
        assert job.wait(100) == 0
    assert mount.sh("cat counter other third") == "200\n" * 3


def test_a_pid_file_is_shown_while_it_is_locked(mount):
    """It is never closed: what it says has to be seen all the same, on a new file and over an old content."""
    for _ in range(2):
        job = mount.popen("exec 9<> pid; flock -n 9 || exit 1; : > /dev/null; echo $$ >&9; read line",
                          stdin=subprocess.PIPE)
        wait_until(lambda: mount.sh("cat pid 2> /dev/null || true").split()[:1] == [str(job.pid)], "the pid")
        assert mount.run("flock -n pid true").returncode == 1
        job.communicate("\n", timeout=20)
        job = mount.popen("exec 9> pid; flock -n 9 || exit 1; echo $$ >&9; read line", stdin=subprocess.PIPE)
        wait_until(lambda: mount.sh("cat pid").split() == [str(job.pid)], "the pid", 10)
        assert mount.run("flock -n pid true").returncode == 1
        job.communicate("\n", timeout=20)
        assert mount.sh("cat pid").split() == [str(job.pid)]


def test_what_is_written_under_locks_is_in_the_history(mount):
    mount.sh("printf 0 > f")
    mount.settled("f")
    with open(mount.path / "f", "r+b", buffering=0) as f:
        for i in range(1, 5):
            fcntl.flock(f, fcntl.LOCK_EX)
            os.pwrite(f.fileno(), b"%d" % i, 0)
            fcntl.flock(f, fcntl.LOCK_UN)
    mount.settled("f")
    assert mount.versions("f") == {i + 1: b"%d" % i for i in range(5)}
    assert [e["verdict"] for e in mount.log("f")] == ["next"] * 5


def test_a_readers_lock_unprotects_nobody(mount, program):
    """Who has the file open for reading keeps its version while others save, locked by readers or not."""
    mount.sh("echo old > f")
    mount.settled("f")
    a, b = program(), program()
    x, y = a.open("f", "os.O_RDONLY"), b.open("f", "os.O_RDONLY")
    assert a(f"fcntl.flock({x}, {SH})") is None
    job = mount.popen("exec 9> f; echo new >&9; read line", stdin=subprocess.PIPE)
    wait_until(lambda: mount.saves("f"), "the save to begin")
    assert b(f"os.read({y}, 10)") == b"old\n" and mount.sh("cat f") == "old\n"
    job.communicate("\n", timeout=20)
    assert b(f"os.pread({y}, 10, 0)") == a(f"os.pread({x}, 10, 0)") == b"old\n"
    assert mount.sh("cat f") == "new\n"


def test_old_versions_can_be_locked_for_reading(mount, program):
    mount.sh("echo one > f; echo two > f; cat f")
    mount.settled("f")
    a = program()
    x = a.open("f@@/1", "os.O_RDONLY")
    assert a(f"fcntl.flock({x}, {SH})") is None and a(f"fcntl.lockf({x}, {SH})") is None
    assert a(f"fcntl.flock({x}, {EX})") == "ENOLCK"
    assert a(f"getlk({x}, fcntl.F_WRLCK)") is None


def test_locks_at_the_end_of_the_mount(mount, program):
    mount.sh("echo text > f")
    a, b = program(), program()
    x, y = a.open("f"), b.open("f")
    a(f"fcntl.flock({x}, {EX})")
    b.begin(f"fcntl.flock({y}, {EX})")
    wait_until(b.blocked, "it to wait")
    a(f"os.pwrite({x}, b'more', 0)")
    mount.daemon.send_signal(signal.SIGTERM)
    b.end(signal.SIGKILL)
    a.end()
    mount.ended()
    mount.start()
    assert mount.sh("cat f") == "more\n"


def test_an_upgrade_that_fails_loses_the_lock(mount, program):
    """As flock(2) has it: else two who share it, and want it alone, would wait for each other for ever."""
    mount.sh("echo text > f")
    mount.settled("f")
    a, b = program(), program()
    x, y = a.open("f", "os.O_RDONLY"), b.open("f", "os.O_RDONLY")
    assert a(f"fcntl.flock({x}, {SH})") is None and b(f"fcntl.flock({y}, {SH})") is None
    assert a(f"fcntl.flock({x}, {EX} | {NB})") == "EAGAIN"
    assert b(f"fcntl.flock({y}, {EX} | {NB})") is None
    assert a(f"fcntl.flock({x}, {SH} | {NB})") == "EAGAIN"


HELD_BY_A_CHILD = """
import fcntl, os, sys
lock = os.open("f", os.O_RDONLY)
fcntl.flock(lock, fcntl.LOCK_EX)
save = os.open("f", os.O_WRONLY | os.O_TRUNC)
os.write(save, b"mine")
ours, childs = os.pipe()
if not os.fork():
    os.close(lock)
    os.close(childs)
    os.read(ours, 1)
    os._exit(0)
os.close(save)
if sys.argv[1] == "unlock":
    fcntl.flock(lock, fcntl.LOCK_UN)
else:
    os.close(lock)
print("unlocked", flush=True)
sys.stdin.readline()
print(open("f").read(), flush=True)
"""


@pytest.mark.parametrize("how", ["unlock", "close"])
def test_what_was_closed_under_a_lock_is_there_for_the_next(mount, how):
    """Be it that its release has not come yet: here a child keeps it back. And then it is not in the way of what comes next."""
    mount.sh("echo old > f")
    mount.settled("f")
    with open(mount.path / "f", encoding="ascii") as reader:
        job = mount.popen([sys.executable, "-c", HELD_BY_A_CHILD, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert job.stdout.readline() == "unlocked\n"
        fcntl.flock(reader, fcntl.LOCK_EX)
        assert reader.read() == "mine"
        mount.sh("printf other > f")
        fcntl.flock(reader, fcntl.LOCK_UN)
    job.stdin.write("go on\n")
    job.stdin.flush()
    assert job.stdout.readline() == "other\n", "it reads what is there, not what it saved before"
    job.communicate(timeout=20)
    mount.settled("f")
    assert mount.sh("cat f") == "other"


def test_status_shows_who_has_which_lock_and_who_waits(mount, program):
    mount.sh("echo text > f; echo text > g")
    mount.settled("f")
    mount.settled("g")
    assert mount.tree()["locks"] == []
    a, b, c = program(), program(), program()
    x, y, z = a.open("f"), b.open("f"), c.open("f", "os.O_RDONLY")
    a(f"fcntl.lockf({x}, {EX}, 5, 10)")
    a(f"fcntl.lockf({x}, {SH}, 0, 100)")
    b.begin(f"fcntl.lockf({y}, {EX})")
    wait_until(b.blocked, "it to wait")
    c(f"fcntl.flock({z}, {SH})")
    a(f"fcntl.flock({a.open('g')}, {EX})")

    def told(locks):
        assert all(lock["by"]["program"].startswith("python") and lock["by"]["user"] == "root" and lock["by"]["since"]
                   for lock in locks)
        return [(lock["kind"], lock["type"], lock["start"], lock["end"], lock["by"]["pid"]) for lock in locks]

    f, g = sorted(mount.tree()["locks"], key=lambda file: file["path"])
    assert (f["path"], g["path"]) == ("f", "g")
    assert sorted(told(f["held"])) == sorted([("fcntl", "write", 10, 14, a.job.pid), ("fcntl", "read", 100, None, a.job.pid),
                                              ("flock", "read", 0, None, c.job.pid)])
    assert told(f["waiting"]) == [("fcntl", "write", 0, None, b.job.pid)]
    assert (told(g["held"]), g["waiting"]) == ([("flock", "write", 0, None, a.job.pid)], [])

    said = [line.split() for line in mount.cli("status", ".").stdout.split("lock of")[1].splitlines()[1:]]
    of_f = [line for line in said if f"{mount.who.pw_name}/g" not in line]
    assert [line[0] for line in of_f].count(f"{mount.who.pw_name}/f") == 1
    assert sorted(re.sub(r"^.*?(held|waiting)", r"\1", " ".join(line))[:40].split(" python")[0] for line in said) == [
        "held by fcntl read 100-", "held by fcntl write 10-14", "held by flock read", "held by flock write", "waiting fcntl write"]
    assert all(f"({mount.who.pw_name})," in line for line in said)

    a(f"fcntl.lockf({x}, {UN})")
    assert b.result() is None
    for p in (a, b, c):
        p.end()
    wait_until(lambda: mount.tree()["locks"] == [], "the locks to end")


def test_status_of_a_lock_that_was_inherited(mount):
    """flock(1), which asked for it, is gone: the one who opened the file is shown. When that is gone, too, nobody's program is."""
    mount.sh("echo text > f")
    job = mount.popen("exec 9< f; flock 9; sleep 1000 & echo $!; read line", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    job.stdout.readline()

    def holder():
        ((lock,),) = [file["held"] for file in mount.tree()["locks"]]
        assert (lock["kind"], lock["type"], lock["by"]["user"]) == ("flock", "write", "root")
        return lock["by"]["program"], lock["by"]["pid"]

    assert holder() == ("sh", job.pid)
    job.stdin.write("\n")
    job.stdin.flush()
    job.wait(20)
    program, pid = holder()
    assert program == "" and pid != job.pid
    assert f"flock write  ? {pid} (root)," in mount.cli("status", ".").stdout


@pytest.mark.mount("allow_other")
def test_status_of_locks_is_for_those_who_take_part(mount, program):
    mount.sh("chmod 755 .; echo text > f; echo text > g; chmod 644 f g")
    for name in "fg":
        fd = (p := program()).open(name)
        assert p(f"fcntl.flock({fd}, {SH})") is None

    def seen():
        with open(mount.root / ".intactfs" / "status", "rb") as f:
            status = json.load(f)
        return [file["path"] for tree in status["trees"] for file in tree["locks"]]

    def lock_and_look():
        with open(mount.path / "g", encoding="ascii") as f:
            fcntl.flock(f, fcntl.LOCK_SH)
            return seen()

    assert sorted(seen()) == ["f", "g"]
    assert as_user(NOBODY, seen) == []
    assert as_user(NOBODY, lock_and_look) == ["g"]


def test_what_was_written_under_a_lock_is_there_for_the_next(mount, program):
    """Though the file is not closed yet: as `exec 9> f; flock 9` has it, which emptied the file before it had the lock."""
    mount.sh("echo old > f")
    mount.settled("f")
    a = program()
    save = a.open("f", "os.O_WRONLY | os.O_TRUNC")
    assert a(f"fcntl.flock({save}, {EX})") is None
    for text, shown in (("new", "new"), (" more", "new more")):
        assert a(f"os.write({save}, b'{text}')") == len(text)
        assert a(f"fcntl.flock({save}, {UN})") is None
        with open(mount.path / "f", encoding="ascii") as reader:
            fcntl.flock(reader, fcntl.LOCK_SH)
            assert reader.read() == shown
        assert a(f"fcntl.flock({save}, {EX})") is None
