"""Appends: each write lands whole at the end, whoever else appends."""
import fcntl
import os
import signal
import subprocess
import sys
from collections import Counter

from lib.procs import wait_until


def one_by_one(m, *commands):
    """Each one after the last has settled: appends that overlap are one version."""
    for command in commands:
        m.sh(command)
        m.settled("f")


def test_lines_of_many_shells(mount):
    mount.sh("""p=0
        while [ $p -lt 8 ]; do
            (i=0; while [ $i -lt 100 ]; do echo "writer $p line $i of the log" >> f || exit 1; i=$((i + 1)); done) &
            p=$((p + 1))
        done
        wait""")
    lines = (mount.path / "f").read_text().splitlines()
    assert Counter(lines) == Counter(f"writer {p} line {i} of the log" for p in range(8) for i in range(100))
    for p in range(8):
        own = [line for line in lines if line.startswith(f"writer {p} ")]
        assert own == [f"writer {p} line {i} of the log" for i in range(100)], "in the order they were written"


def test_long_lines_through_descriptors_that_stay_open(mount):
    script = """
import os, sys
fd = os.open("f", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
for i in range(50):
    line = (sys.argv[1] * 60000 + "\\n").encode()
    assert os.write(fd, line) == len(line)
"""
    jobs = [mount.popen([sys.executable, "-c", script, letter]) for letter in "abcd"]
    assert [job.wait(60) for job in jobs] == [0] * 4
    lines = (mount.path / "f").read_text().splitlines()
    assert Counter(lines) == Counter({letter * 60000: 50 for letter in "abcd"})


def test_an_append_is_a_version(mount):
    one_by_one(mount, "echo one > f", "echo two >> f", "{ echo three; echo four; } >> f")
    assert mount.versions("f") == {1: b"one\n", 2: b"one\ntwo\n", 3: b"one\ntwo\nthree\nfour\n"}
    assert [e["kind"] for e in mount.log("f")][:2] == ["append", "append"]


def test_append_then_save_then_append(mount):
    one_by_one(mount, "echo one >> f", "echo two > f", "echo three >> f", "sed -i s/two/2/ f", "echo four >> f")
    assert (mount.path / "f").read_text() == "2\nthree\nfour\n"
    assert mount.versions("f") == {1: b"one\n", 2: b"two\n", 3: b"two\nthree\n", 4: b"2\nthree\n",
                                   5: b"2\nthree\nfour\n"}


def test_others_see_an_append_at_once(mount):
    f = mount.path / "f"
    f.write_text("one\n")
    with open(f, "a") as log, open(f) as reader:
        for i in range(20):
            log.write(f"{i}\n")
            log.flush()
            assert mount.sh("tail -n 1 f; stat -c %s f").split() == [str(i), str(f.stat().st_size)]
        assert reader.read().splitlines()[0] == "one"
        log.write("last\n")
        log.flush()
        assert mount.sh("tail -n 1 f") == "last\n"
    assert len(mount.versions("f")) == 2


def test_two_descriptors_append_in_turns(mount):
    f = mount.path / "f"
    a = os.open(f, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    b = os.open(f, os.O_WRONLY | os.O_APPEND)
    for i in range(50):
        os.write((a, b)[i % 2], b"%d\n" % i)
    os.close(a)
    os.write(b, b"end\n")
    os.close(b)
    assert f.read_text() == "".join(f"{i}\n" for i in range(50)) + "end\n"


def test_append_and_read_back(mount):
    f = mount.path / "f"
    f.write_text("one\n")
    fd = os.open(f, os.O_RDWR | os.O_APPEND)
    os.write(fd, b"two\n")
    assert os.pread(fd, 100, 0) == b"one\ntwo\n"
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"three\n")
    assert os.pread(fd, 100, 0) == b"one\ntwo\nthree\n"
    os.close(fd)
    assert mount.sh("cat f") == "one\ntwo\nthree\n"


def test_tail_follows_an_appended_file(mount):
    mount.sh("echo one > f")
    tail = mount.popen(["tail", "-n", "+1", "-s", "0.1", "-f", "f"], stdout=subprocess.PIPE)
    assert tail.stdout.readline() == "one\n"
    for i in range(5):
        mount.sh(f"echo {i} >> f")
        assert tail.stdout.readline() == f"{i}\n"


def test_a_log_that_is_being_written_becomes_visible(mount):
    """`make > log & tail -f log`: a new file still open after 2 s is a stream."""
    make = mount.popen("while read line; do echo $line; done > log", stdin=subprocess.PIPE)
    wait_until(lambda: (mount.path / "log").exists(), "the log to exist")
    tail = mount.popen(["tail", "-n", "+1", "-s", "0.1", "-f", "log"], stdout=subprocess.PIPE)
    for i in range(5):
        make.stdin.write(f"line {i}\n")
        make.stdin.flush()
        assert tail.stdout.readline() == f"line {i}\n"
    make.stdin.close()
    assert make.wait(30) == 0
    assert (mount.path / "log").read_text() == "".join(f"line {i}\n" for i in range(5))
    mount.settled("log")
    assert "stream" in {e["kind"] for e in mount.log("log")}
    assert mount.versions("log")[mount.version("log")] == (mount.path / "log").read_bytes()


def test_a_stream_is_live_in_status(mount):
    make = mount.popen("echo one; read line", stdin=subprocess.PIPE, stdout=open(mount.path / "log", "w"))
    wait_until(lambda: [s["state"] for s in mount.saves("log")] == ["live"], "the stream to be live")
    assert mount.sh("cat log") == "one\n"
    make.communicate("x\n")
    mount.settled("log")


def test_a_save_by_rename_while_somebody_appends(mount):
    mount.sh("echo one > f")
    with open(mount.path / "f", "a") as log:
        log.write("two\n")
        log.flush()
        mount.sh("echo new > g; mv g f; cat f")
        log.write("three\n")
        log.flush()
        assert mount.sh("cat f") == "new\n"
    assert mount.sh("cat f") == "new\n"


def test_appending_to_a_file_whose_save_is_open(mount):
    """The save is published on top, or the append goes after it: no line is lost."""
    f = mount.path / "f"
    f.write_text("start\n")
    with open(f, "w") as save:
        save.write("saved\n")
        save.flush()
        mount.sh("echo appended >> f", timeout=60)
    mount.settled("f")
    everything = b"".join(mount.versions("f").values())
    assert b"appended\n" in everything and b"saved\n" in everything


def test_an_append_killed_in_the_middle_keeps_its_lines(mount):
    job = mount.popen("i=0; while :; do echo $i >> f; i=$((i + 1)); done")
    wait_until(lambda: (mount.path / "f").exists() and (mount.path / "f").stat().st_size > 500, "some lines")
    job.send_signal(signal.SIGKILL)
    job.wait()
    lines = (mount.path / "f").read_text().splitlines()
    assert lines == [str(i) for i in range(len(lines))]


def test_an_empty_version_that_was_appended_to(mount):
    """A version of no bytes has an object, too."""
    mount.sh(": > f; cat f")
    mount.settled("f")
    mount.sh(": >> f")
    mount.settled("f")
    assert mount.sh("cat f; echo text >> f; cat f") == "text\n"
    g = os.open(mount.path / "g", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(g, b"text")
    os.ftruncate(g, 0)
    os.close(g)
    mount.settled("g")
    assert mount.sh("cat g; cp g h; cat g@@/2 g@@/1") == "text"


def test_append_mode_is_what_fcntl_last_set(mount, plain):
    for root in (mount.path, plain):
        (root / "x.db").write_bytes(b"0123456789")
        fd = os.open(root / "x.db", os.O_RDWR | os.O_APPEND)
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        os.pwrite(fd, b"end", 2)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_APPEND)
        os.pwrite(fd, b"MID", 2)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
        os.write(fd, b"last")
        os.close(fd)
        assert (root / "x.db").read_bytes() == b"01MID56789endlast", root


def test_a_save_right_after_an_append_is_staged(mount):
    """The append's release may still be on its way, and so may its settling: it is no reason to write in place."""
    path = mount.path / "f"
    path.write_bytes(b"x" * 300_000)
    for _ in range(150):
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
        with open(path, "r+b") as f:
            f.write(b"half")
            f.flush()
            assert mount.tree()["saves"][0]["state"] == "staged"
            assert path.stat().st_size == 300_000
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
        with open(path, "rb") as f:
            os.truncate(path, 299_999)
            assert len(f.read()) == 300_000
        os.truncate(path, 300_000)
