"""Saves that are not closed: by those who go on writing, and by those who are killed in the middle."""
import os
import signal
import subprocess
import sys
import time

import pytest

from lib.procs import wait_until

# Longer than a closing is kept back for those who never wrote.
BEYOND = 2.7


def never(mount, path, text, seconds=BEYOND):
    """Readers do not see text in the time in which a closing would be published."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert (mount.path / path).read_text() != text
        time.sleep(0.05)


def writing(mount, code):
    """A program that has written (it says so) and waits for a line."""
    job = mount.popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert job.stdout.readline() == "written\n"
    return job


@pytest.fixture
def f(mount):
    mount.sh("echo old > f")
    mount.settled("f")
    return mount.path / "f"


SAID = "echo written; read line"


@pytest.mark.parametrize("code", [
    f"exec 3> f; echo a >&3; {SAID}; echo b >&3; exec 3>&-",
    f"exec 3<> f; echo a >&3; {SAID}; echo b >&3",
    f"{{ echo a; {{ {SAID}; }} >&4; echo b; }} 4>&1 > f",
    f"( exec 4>&1 > f; /bin/echo a; {{ {SAID}; }} >&4; /bin/echo b )",
    [sys.executable, "-c", "import os; f = open('f', 'w'); f.write('a\\n'); f.flush(); os.close(os.dup(f.fileno()));"
                           "print('written', flush=True); input(); f.write('b\\n')"],
    [sys.executable, "-c", """
import os
fd = os.open("f", os.O_WRONLY | os.O_TRUNC)
if not os.fork():
    os.write(fd, b"a\\n")
    os.close(os.dup(fd))
    print("written", flush=True)
    input()
    os.write(fd, b"b\\n")
    os._exit(0)
os.write(fd, b"")
os.close(fd)
os.wait()"""],
], ids=["shell", "read and write", "group", "children", "python", "child that writes on"])
def test_who_still_writes_is_not_published(mount, f, code):
    if isinstance(code, list):
        code[-1] = code[-1].replace("\\\\n", "\\n")
    job = writing(mount, code)
    never(mount, "f", "a\n")
    job.stdin.write("on\n")
    job.stdin.close()
    assert job.wait(20) == 0
    mount.settled("f")
    assert f.read_text() == "a\nb\n"
    assert [e["version"] for e in mount.log("f")] == [2, 1]


def test_who_only_inherited_it_keeps_nobody_waiting(mount, f):
    job = mount.popen("exec 3> f; echo new >&3; sleep 100 & exec 3>&-; echo $!; wait", stdout=subprocess.PIPE)
    sleeper = int(job.stdout.readline())
    wait_until(lambda: f.read_text() == "new\n", "what was closed to be published")
    os.kill(sleeper, signal.SIGKILL)
    job.wait(20)


KILLED = {
    "SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGSEGV": signal.SIGSEGV}
PART = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.SIG_DFL)
threads = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(int(sys.argv[2]))]
[t.start() for t in threads]
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.write(fd, b"part")
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("threads", [0, 8])
@pytest.mark.parametrize("signum", KILLED.values(), ids=KILLED)
def test_a_killed_program_leaves_the_version_before(mount, f, signum, threads):
    job = writing(mount, [sys.executable, "-c", PART, "f", str(threads)])
    job.send_signal(signum)
    assert job.wait(20) == -signum
    mount.settled("f")
    assert f.read_text() == "old\n"
    log = mount.log("f")
    assert [(e["version"], e["kind"], e["verdict"]) for e in log[:1]] == [(2, "interrupted", "aside")]
    assert mount.sh("cat f@@/2; intactfs restore f --version 2 > /dev/null; cat f") == "partpart"
    mount.remount()
    assert f.read_text() == "part"


def test_ctrl_c_in_the_middle_of_a_pipeline(mount, f):
    job = mount.popen("exec 3>&1; (echo part; echo written >&3; exec sleep 100) | cat > f", stdout=subprocess.PIPE)
    assert job.stdout.readline() == "written\n"
    wait_until(lambda: mount.saves("f"), "the save to begin")
    wait_until(lambda: mount.saves("f")[0]["size"] == 5, "the save to be written")
    os.killpg(job.pid, signal.SIGINT)
    job.wait(20)
    mount.settled("f")
    assert f.read_text() == "old\n"


def test_a_program_that_is_killed_before_it_writes(mount, f):
    job = writing(mount, [sys.executable, "-c", PART.replace('os.write(fd, b"part")', ""), "f", "0"])
    job.kill()
    job.wait(20)
    mount.settled("f")
    assert f.read_text() == "old\n" and len(mount.log("f")) == 1


def test_what_was_written_of_a_new_file_is_kept(mount):
    """There is no version before: as on any filesystem, so that a download can go on."""
    job = writing(mount, [sys.executable, "-c", PART, "new", "0"])
    job.kill()
    job.wait(20)
    mount.settled("new")
    assert mount.sh("cat new") == "part"
    assert [(e["kind"], e["verdict"]) for e in mount.log("new")] == [("interrupted", "next")]


@pytest.mark.parametrize("end", ["", "os._exit(1)", "sys.exit(3)", "signal.signal(2, lambda *_: os._exit(0)); os.kill(os.getpid(), 2)",
                                 "os.close(fd); os.kill(os.getpid(), 9)", "os.execv('/bin/true', ['true'])"])
def test_other_ends_are_closes(mount, f, end):
    code = PART.replace("sys.stdin.read()", end)
    job = writing(mount, [sys.executable, "-c", code, "f", "0"])
    job.wait(20)
    mount.settled("f")
    assert f.read_text() == "part"
    assert mount.log("f")[0]["verdict"] == "blind"


def test_who_goes_on_after_a_child_was_killed_decides(mount, f):
    job = mount.popen("""exec 3> f; (echo part >&3; kill -9 $(sh -c 'echo $PPID')); echo rest >&3; exec 3>&-""")
    job.wait(20)
    mount.settled("f")
    assert f.read_text() == "part\nrest\n"
