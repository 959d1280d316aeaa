"""Faults: a full or read-only volume, an end in the middle of things, a crash of the daemon."""
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib import procs
from lib.mount import BIN
from lib.procs import wait_until


@pytest.fixture
def ext4(place):
    """A filesystem of its own; (the directory, its device)."""
    image, backing = place / "image", place / "backing"
    backing.mkdir()
    with open(image, "wb") as f:
        f.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop,errors=remount-ro", image, backing], capture_output=True).returncode:
        pytest.skip("a filesystem of its own cannot be mounted here (no loop devices), so that none can become read-only")
    device = subprocess.run(["findmnt", "-no", "SOURCE", backing], capture_output=True, text=True, check=True).stdout
    return backing, Path(device.strip())


def test_a_volume_that_becomes_read_only(mounts, ext4):
    """As ext4 does after an error. Everybody is told so, reading goes on, and the next mount finds what was fsync'ed."""
    backing, device = ext4
    m = mounts(volume=backing / "volume")
    m.sh("mkdir d; echo old > f; echo old > g; sync f g d; sync -f .")
    m.settled("f")
    with open(m.path / "f") as reader:
        Path(f"/sys/fs/ext4/{device.name}/trigger_fs_error").write_text("test")
        changes = ["echo new > f", "echo more >> g", "echo x > new", "mkdir e", "rm f", "mv f h", "chmod 600 f", "touch f",
                   "rmdir d", "ln f h", "truncate -s 0 f", "setfattr -n user.a -v b f"]
        for change in changes * 2:
            done = m.run(change)
            assert done.returncode != 0 and "Read-only file system" in done.stderr, f"{change}: {done.stderr}"
        assert reader.read() == "old\n"
        assert m.sh("cat f g; ls") == "old\nold\nd\nf\ng\n"
    m.unmount()
    subprocess.run(["umount", backing], check=True)
    subprocess.run(["e2fsck", "-fy", m.place / "image"], capture_output=True, check=False)
    subprocess.run(["mount", "-o", "loop", m.place / "image", backing], check=True)
    m.start()
    assert m.sh("cat f g; ls; echo new > f; cat f") == "old\nold\nd\nf\ng\nnew\n"


def test_a_tree_whose_making_was_cut_off(mount):
    """The file of its journal is there, but nothing in it: it is made again, as there is nothing that could be lost."""
    mount.sh("mkdir ../team")
    mount.unmount()
    journal = mount.volume / "trees" / "team" / "journal.db"
    subprocess.run(["sqlite3", journal, "PRAGMA writable_schema = 1; DELETE FROM sqlite_schema; PRAGMA writable_schema = 0;"
                    "VACUUM; PRAGMA journal_mode = WAL"], check=True, capture_output=True)
    mount.start()
    assert mount.sh("ls ..; echo x > ../team/f; cat ../team/f").split() == [mount.path.name, "team", "x"]


def test_a_volume_on_a_read_only_filesystem(small):
    small.sh("mkdir d; echo one > f; echo two > f; cat f")
    small.settled("f")
    small.unmount()
    subprocess.run(["mount", "-o", "remount,ro", small.backing], check=True)
    try:
        done = subprocess.run([BIN, "mount", small.volume, small.root], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and str(small.volume) in done.stderr, "refused without -o ro"
        small.remount("ro")
        assert small.sh("cat f f@@/1; ls") == "two\none\nd\nf\n"
        with pytest.raises(OSError) as e:
            (small.path / "f").write_text("x")
        assert e.value.errno == errno.EROFS
        small.unmount()
    finally:
        small.options = ()
        subprocess.run(["mount", "-o", "remount,rw", small.backing], check=True)
    small.start()
    small.sh("echo three > f; cat f")


def test_on_a_loop_mounted_ext4(mounts, ext4):
    m = mounts(volume=ext4[0])
    m.sh("echo one > f; echo two > f; cat f")
    with pytest.raises(OSError) as e:
        (m.path / "big").write_bytes(bytes(range(1, 256)) * (400 << 10))
    assert e.value.errno == errno.ENOSPC
    m.sh("rm -f big; cat f; echo three > f; cat f")


PENDING = """
import os, sys
fds = [os.open(f"f{i}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) for i in range(50)]
for i, fd in enumerate(fds):
    os.write(fd, f"new {i}\\n".encode())
for fd in fds[:25]:
    os.close(fd)
print("closed", flush=True)
sys.stdin.read(1)
"""


@pytest.mark.parametrize("old", [True, False], ids=["of files", "of new files"])
def test_an_end_in_the_middle_of_fifty_saves(mount, old):
    """What is closed is all there. What is not closed is whole: old or new."""
    if old:
        mount.sh("for i in $(seq 0 49); do echo old $i > f$i; done")
    program = mount.popen([sys.executable, "-c", PENDING], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdout.readline() == "closed\n"
    mount.terminate()
    program.kill()
    program.wait()
    mount.check()
    mount.start()
    for i in range(25):
        assert (mount.path / f"f{i}").read_text() == f"new {i}\n"
    for i in range(25, 50):
        before = {f"old {i}\n"} if old else {""}
        f = mount.path / f"f{i}"
        assert not f.exists() and not old or f.read_text() in before | {f"new {i}\n"}


def test_a_clean_end_while_fifty_saves_are_closed_but_held(mount):
    """Children hold them open, so that nothing is published yet when the daemon is asked to end."""
    held = PENDING.replace("fds[:25]", "fds").replace("    os.close(fd)", "    os.close(os.dup(fd))")
    mount.sh("for i in $(seq 0 49); do echo old $i > f$i; done")
    program = mount.popen([sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdout.readline() == "closed\n"
    assert [s["state"] for s in mount.tree()["saves"]] == ["closing"] * 50
    mount.daemon.send_signal(signal.SIGTERM)
    mount.ended()
    program.kill()
    program.wait()
    mount.start()
    assert mount.sh("cat $(seq -f f%g 0 49)") == "".join(f"new {i}\n" for i in range(50))


def test_a_clean_end_while_many_save(mount):
    """Each save whose close returned is there, whatever the moment of the end."""
    script = """
import sys
n = 0
try:
    while True:
        with open(sys.argv[1], "w") as f:
            f.write(str(n + 1))
        n += 1
        if n == 20:
            print("going", flush=True)
except OSError:
    print(n)
"""
    writers = [mount.popen([sys.executable, "-c", script, mount.path / f"f{i}"], cwd="/", stdout=subprocess.PIPE)
               for i in range(6)]
    for writer in writers:
        assert writer.stdout.readline() == "going\n"
    mount.terminate()
    saved = [int(writer.communicate(timeout=30)[0]) for writer in writers]
    mount.start()
    for i, n in enumerate(saved):
        assert int((mount.path / f"f{i}").read_text()) in (n, n + 1)


def test_a_killed_daemon_loses_no_closed_save(mount):
    mount.sh("echo old > f; echo old > g")
    with open(mount.path / "g", "w") as g:
        g.write("never closed")
        g.flush()
        mount.sh("echo new > f; echo fresh > h; mkdir d; mv h d/h; echo a >> log; echo b >> log; rm -f gone")
        mount.kill()
        try:
            g.close()
        except OSError:
            pass
    mount.start()
    assert mount.sh("cat f d/h log") == "new\nfresh\na\nb\n"
    assert mount.sh("cat g") == "old\n"
    assert mount.versions("f") == {1: b"old\n", 2: b"new\n"}
    assert sorted(os.listdir(mount.path)) == ["d", "f", "g", "log"]


def test_a_killed_daemon_publishes_what_was_closing(mount):
    """Closed by its saver while a child still has it: staged for others, safe from a crash."""
    f = mount.path / "f"
    f.write_text("old")
    save = open(f, "w")
    save.write("new")
    save.flush()
    child = mount.popen("sleep 1000", stdout=save)
    save.close()
    assert {s["state"] for s in mount.saves("f")} <= {"closing"}
    mount.kill()
    child.kill()
    child.wait()
    mount.start()
    assert f.read_text() == "new"


def test_a_killed_daemon_keeps_what_was_fsynced(mount):
    f = mount.path / "f"
    f.write_text("old")
    save = os.open(f, os.O_WRONLY | os.O_TRUNC)
    os.write(save, b"new")
    os.fsync(save)
    mount.kill()
    with pytest.raises(OSError):
        os.close(save)
    mount.start()
    assert f.read_text() == "new"


def test_a_killed_daemon_keeps_the_bytes_of_live_files(mount):
    mount.sh("echo one > log")
    log = os.open(mount.path / "log", os.O_WRONLY | os.O_APPEND)
    for i in range(100):
        os.write(log, b"%d\n" % i)
    mount.kill()
    try:
        os.close(log)
    except OSError:
        pass
    mount.start()
    assert (mount.path / "log").read_text() == "one\n" + "".join(f"{i}\n" for i in range(100))


def test_killed_again_and_again(mount, soak):
    """Closed saves of several programs survive every kill, at any moment."""
    script = """
import sys
n = int(sys.argv[2])
try:
    while True:
        with open(sys.argv[1], "w") as f:
            f.write(str(n + 1))
        n += 1
        if n % 10 == 0:
            print(n, flush=True)
except OSError:
    print("end", n)
"""
    saved = [0] * 4
    for _ in range(max(3, soak // 2)):
        writers = [mount.popen([sys.executable, "-c", script, mount.path / f"f{i}", str(saved[i])], cwd="/",
                               stdout=subprocess.PIPE) for i in range(4)]
        for writer in writers:
            writer.stdout.readline()
        mount.kill()
        saved = [int(writer.communicate(timeout=30)[0].split()[-1]) for writer in writers]
        mount.start()
        for i, n in enumerate(saved):
            found = int((mount.path / f"f{i}").read_text() or 0)
            assert found in (n, n + 1), f"{found} after {n} was closed"
            saved[i] = found


def test_what_watched_a_killed_daemon_leaves_the_next_mount_alone(mount):
    """The kernel gives the number of a connection to the next one at once, and a watcher may be late."""
    def find_watchers():
        return [pid for pid in procs.children(of=mount.daemon.pid)
                if Path(f"/proc/{pid}/comm").read_text() == "intactfs-watch\n"]

    # It gives itself its name a moment after it was made.
    watchers = procs.wait_until(find_watchers, "the watcher")
    assert len(watchers) == 1
    os.kill(watchers[0], signal.SIGSTOP)
    late = os.pidfd_open(watchers[0])
    mount.kill()
    mount.start()
    os.kill(watchers[0], signal.SIGCONT)
    assert procs.ends(late, 30)
    os.close(late)
    assert mount.sh("echo new > f; cat f") == "new\n"


def test_a_program_that_is_killed_while_saving_harms_nobody(mount):
    f = mount.path / "f"
    f.write_text("old\n")
    writer = mount.popen([sys.executable, "-c", """
import os
fd = os.open("f", os.O_RDWR)
os.write(fd, b"X")
print("open", flush=True)
os.read(0, 1)
"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout.readline() == "open\n"
    writer.kill()
    writer.wait()
    mount.settled("f")
    assert mount.sh("cat f") in ("old\n", "Xld\n")
    mount.sh("echo new > f; cat f")


def test_requests_after_a_kill_fail_and_do_not_hang(mount):
    mount.sh("echo x > f")
    mount.daemon.send_signal(signal.SIGKILL)
    wait_until(lambda: mount.daemon.poll() is not None, "the daemon to die")
    done = subprocess.run(["cat", mount.path / "f"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "not connected" in done.stderr
    done = mount.run("exec intactfs status \"$1\"", mount.root, cwd="/", timeout=20)
    assert done.returncode == 1 and done.stderr
    mount.kill()
    mount.start()
    assert mount.sh("cat f") == "x\n"


def objects(m):
    return {int(path.name) for path in m.volume.glob("trees/*/objects/*/*")}


@pytest.mark.parametrize("how", ["unlink", "rename over", "nothing more"])
def test_a_killed_daemon_leaves_no_object_that_nobody_names(mount, how):
    """What versions named of a live file was moved to a copy, and then its name went. Nobody keeps what is in a log of SQLite's."""
    mount.sh("echo one > f-wal; echo two > g")
    mount.settled("f-wal")
    log = os.open(mount.path / "f-wal", os.O_RDWR | os.O_APPEND)
    os.write(log, b"three")
    os.ftruncate(log, 2)
    if how == "unlink":
        os.unlink(mount.path / "f-wal")
    elif how == "rename over":
        os.rename(mount.path / "g", mount.path / "f-wal")
    os.write(log, b"four")
    mount.kill()
    with pytest.raises(OSError):
        os.write(log, b"five")
    mount.start()
    assert len(objects(mount)) == (3 if how == "nothing more" else 2)
    if how == "nothing more":
        assert mount.sh("cat f-wal") == "onfour"


def test_an_unlinked_live_file_lasts_as_long_as_its_descriptors(mount):
    mount.sh("echo one > f-wal; : > g-wal; cat g-wal")
    mount.settled("f-wal")
    before = objects(mount)
    log = os.open(mount.path / "f-wal", os.O_RDWR | os.O_APPEND)
    os.ftruncate(log, 0)
    os.write(log, b"two")
    other = os.open(mount.path / "g-wal", os.O_RDWR | os.O_APPEND)
    os.write(other, b"other")
    for name in "fg":
        os.unlink(mount.path / f"{name}-wal")
    # The maintenance comes each second: that of a file that is closed shows that it has been there.
    os.close(os.open(mount.path / "h-wal", os.O_RDWR | os.O_APPEND | os.O_CREAT))
    gone = os.open(mount.path / "h-wal", os.O_RDWR | os.O_APPEND)
    os.write(gone, b"x")
    os.close(gone)
    mount.settled("h-wal")
    gone = os.open(mount.path / "h-wal", os.O_RDWR | os.O_APPEND)
    os.ftruncate(gone, 0)
    os.unlink(mount.path / "h-wal")
    with_h = objects(mount)
    os.close(gone)
    wait_until(lambda: objects(mount) < with_h, "the object of h to be removed")
    os.write(log, b" three")
    with open(f"/proc/self/fd/{log}") as again:
        assert again.read() == "two three"
    os.close(log)
    os.close(other)
    wait_until(lambda: len(objects(mount)) == len(before) + 1, "what nobody names to be removed")
    assert mount.sh("cat f-wal@@/1 h-wal@@/1") == "one\nx"


BUSY = """
import os, random, sys
rng = random.Random(sys.argv[1])

def append_and(what, name):
    with open(name, "a") as f:
        f.write("more")
        f.flush()
        what(name)
        f.write("last")

def overwrite(name):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"TEXT")
    os.ftruncate(fd, 2)
    os.close(fd)

print("begun", flush=True)
try:
    while True:
        a, b = (rng.choice("abcd") for _ in range(2))
        try:
            rng.choice([lambda: open(a, "w").write("text"), lambda: os.rename(a, b), lambda: os.link(a, b),
                        lambda: os.unlink(a), lambda: os.truncate(a, 1), lambda: open(a, "a").write("more"),
                        lambda: append_and(os.unlink, a), lambda: append_and(overwrite, a)])()
        except (FileNotFoundError, FileExistsError):
            pass
except OSError:
    print("over", flush=True)
"""


def test_a_killed_daemon_lets_everybody_go(mount, soak):
    """The kernel may be in the middle of being told of a name: programs must get their error all the same."""
    for turn in range(soak or 4):
        jobs = [mount.popen([sys.executable, "-c", BUSY, f"{turn}.{i}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                for i in range(6)]
        for job in jobs:
            assert job.stdout.readline() == "begun\n"
        seq = mount.log("")[0]["seq"]
        wait_until(lambda: mount.log("")[0]["seq"] > seq + 50, "the programs to be busy")
        mount.kill()
        for job in jobs:
            said = job.communicate(timeout=20)
            assert said == ("over\n", ""), said
        mount.remount()


SAVE_ON_AND_ON = """
import os, sys, threading, time
end = time.monotonic() + float(sys.argv[2])
wrong = []

def save(path):
    try:
        content = b""
        while time.monotonic() < end:
            for flags in (os.O_TRUNC, 0, os.O_APPEND):
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
                data = b"%d %d\\n" % (time.monotonic_ns(), flags)
                content = content + data if flags == os.O_APPEND else data + content[len(data):] * (not flags)
                os.write(fd, data)
                os.close(fd)
            with open(path, "rb") as f:
                found = f.read()
            if found != content:
                wrong.append(f"{found} is not {content}")
    except OSError as e:
        wrong.append(f"{path}: {e}")

threads = [threading.Thread(target=save, args=[f"{sys.argv[1]}.{i}"]) for i in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit("\\n".join(wrong) or 0)
"""


def test_a_daemon_that_stands_still_for_a_while(mount):
    """As on a disk that stalls. Whoever was on the way to a save comes late, and saves all the same: no ESTALE, nothing empty."""
    jobs = [mount.popen([sys.executable, "-c", SAVE_ON_AND_ON, f"f{i}", "10"], stderr=subprocess.PIPE) for i in range(3)]
    for _ in range(4):
        time.sleep(0.2)
        mount.daemon.send_signal(signal.SIGSTOP)
        time.sleep(2.2)
        mount.daemon.send_signal(signal.SIGCONT)
    for job in jobs:
        said = job.communicate(timeout=60)[1]
        assert job.returncode == 0, said
