"""A full disk: what fails says so and leaves what was there; what takes no space goes on; nothing that was closed is lost."""
import errno
import fcntl
import os
import subprocess
import sys

import pytest

from lib.procs import wait_until


def fill(m):
    """Takes all the space that is left on the backing filesystem; frees it when called again."""
    path = m.backing / "filler"
    with open(path, "wb", buffering=0) as f:
        size = 1 << 20
        while size >= 512:
            try:
                f.write(b"\xff" * size)
            except OSError as e:
                assert e.errno == errno.ENOSPC
                size //= 2


def use_up(m):
    """Takes what the journal has for itself, too: the space that it has in its log."""
    m.sh("d=$(mktemp -d usedXXX) || exit 0; i=0; while mkdir $d/$i 2> /dev/null; do i=$((i + 1)); done")


def test_a_full_volume(small):
    f = small.path / "f"
    f.write_text("old\n" * 1000)
    small.settled("f")
    fill(small)
    with pytest.raises(OSError) as e:
        f.write_bytes(b"x" * (4 << 20))
    assert e.value.errno == errno.ENOSPC
    assert f.read_text() == "old\n" * 1000, "the old version stays"
    done = small.run("dd if=/dev/zero of=g bs=1M count=3")
    assert done.returncode != 0 and "No space left" in done.stderr
    assert small.sh("cat f | md5sum; ls f") == small.sh("yes old | head -n 1000 | md5sum; echo f")
    (small.backing / "filler").unlink()
    small.sh("rm -f g")
    f.write_text("new\n")
    assert small.sh("cat f; mkdir d; echo x > d/x; cat d/x") == "new\nx\n"
    small.settled("f")
    small.remount()
    assert small.sh("cat f") == "new\n"
    assert small.versions("f")[1] == b"old\n" * 1000


def test_a_save_that_failed_gives_its_space_back(small):
    small.sh("echo old > f")
    small.settled("f")
    for name in ("new", "f"):
        done = small.run('dd if=/dev/zero of="$1" bs=1M count=100', name)
        assert done.returncode != 0 and "No space left" in done.stderr
        wait_until(lambda: small.saves(name) == [], "the failed save to be dropped", 10)
        wait_until(lambda: os.statvfs(small.path).f_bavail * os.statvfs(small.path).f_frsize > 16 << 20,
                   "its space to be free again", 10)
    assert small.sh("cat f; rm -f new; echo new > f; cat f") == "old\nnew\n"


def test_appending_to_a_full_volume(small):
    small.sh("echo one > f; echo two >> f")
    fill(small)
    with pytest.raises(OSError) as e:
        with open(small.path / "f", "ab", buffering=0) as f:
            for _ in range(100):
                f.write(b"x" * 100_000)
    assert e.value.errno == errno.ENOSPC
    assert small.sh("head -n 2 f") == "one\ntwo\n"
    (small.backing / "filler").unlink()
    small.sh("echo three >> f; tail -n 1 f | grep three")


SAVES = """
import os, sys
way, name = sys.argv[1:]
for i in range(1, 10000):
    data = b"%06d" % i * 33333
    try:
        fd = os.open(name + ".new" if way == "rename" else name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            done = 0
            while done < len(data):
                done += os.write(fd, data[done:])
            if way == "fsync":
                os.fsync(fd)
        finally:
            os.close(fd)
        if way == "rename":
            os.rename(name + ".new", name)
    except OSError as e:
        assert e.errno == 28, e
        print(i - 1)
        break
"""


def saved(i):
    return b"%06d" % i * 33333


def grow(m):
    (m.backing / "filler").unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,size=64m", m.backing], check=True)


@pytest.mark.parametrize("end", ["unmount", "kill"])
@pytest.mark.parametrize("way", ["truncate", "fsync", "rename"])
def test_every_save_that_was_closed_is_kept(small, way, end):
    """Saves until the disk is full: the last that was closed is what everybody reads, also after mounts on the full disk."""
    job = small.popen([sys.executable, "-c", SAVES, way, "f"], stdout=subprocess.PIPE)
    last = int(job.communicate(timeout=100)[0])
    assert job.returncode == 0 and last > 50
    f = small.path / "f"
    assert f.read_bytes() == saved(last)
    fill(small)
    for _ in range(2):
        small.unmount() if end == "unmount" else small.kill()
        small.start()
        assert f.read_bytes() == saved(last)
    use_up(small)
    assert small.run("echo x > f").returncode != 0
    assert f.read_bytes() == saved(last)
    grow(small)
    small.sh("echo more > f; cat f | grep more; echo new > g")
    small.settled("f")
    versions = small.versions("f")
    assert sorted(v for v in versions.values() if v != b"more\n") == [saved(i) for i in range(1, last + 1)]


def test_the_version_before_stays_whole_after_each_failed_save(small):
    small.sh("seq 1000 > f; cp f kept")
    small.settled("f")
    fill(small)
    for way in ("yes > f", "seq 2000 > f", "sed -i s/1/22/ f", "dd if=/dev/urandom of=f bs=1M conv=notrunc",
                "cat f f f f > g && mv g f", "python3 -c 'open(\"f\", \"r+\").write(\"x\" * 100000)'"):
        assert small.run(way).returncode != 0, way
        wait_until(lambda: not small.saves("f"), "the save to end")
        assert small.sh("cmp f kept; ls f@@") == "1\n"


@pytest.mark.parametrize("way", [
    "cp big f", "cp --reflink=auto big f", "fallocate -l 100M f", "cat big > f", "dd if=big of=f bs=64k",
    """python3 -c 'import os; f = os.open("f", os.O_WRONLY | os.O_TRUNC); os.posix_fallocate(f, 0, 100 << 20)'""",
    """python3 -c 'import os; f = os.open("f", os.O_RDWR); a = os.open("big", os.O_RDONLY)
while os.copy_file_range(a, f, 1 << 20): pass'"""])
def test_a_copy_that_fails_leaves_the_version_before(small, way):
    small.sh("seq 1000 > f; cp f kept; head -c 9000000 /dev/urandom > big")
    small.settled("f")
    used = os.statvfs(small.path)
    filler = small.backing / "filler"
    with open(filler, "wb") as f:
        os.posix_fallocate(f.fileno(), 0, used.f_bavail * used.f_frsize - (5 << 20))
    assert small.run(way).returncode != 0
    wait_until(lambda: not small.saves("f"), "the save to end")
    assert small.sh("cmp f kept; ls f@@") == "1\n"
    filler.unlink()
    small.sh("cp big f; cmp big f")


def test_what_takes_no_space_goes_on(small):
    small.sh("mkdir d; for i in $(seq 200); do echo $i > f$i; echo $i > d/f$i; done; ln f1 link")
    fill(small)
    use_up(small)
    assert small.run("mkdir e").returncode != 0
    small.sh("rm -r d; rm f2* link; rmdir used*/*; mv f1 g; mv -n f3 f4 || true; chmod 600 f5; touch -d 2020-01-01 f6;"
             "chown 1000 f7; mv f8 f9; truncate -s 0 f10 || true")
    small.sh("rm f[3-9]*")
    here = small.sh("ls; cat g")
    small.kill()
    small.start()
    assert small.sh("ls; cat g") == here
    small.unmount()
    small.start()
    assert small.sh("ls; cat g") == here
    use_up(small)
    assert small.run("echo x > new").returncode != 0
    grow(small)
    small.sh("mkdir e; echo x > new; cat d@@/f1@@/1")


def test_the_reserve_is_filled_up_again(small):
    reserve = small.volume / "reserve"
    whole = reserve.stat().st_size
    assert whole == (24 << 20) // 16 and reserve.stat().st_blocks * 512 >= whole
    small.sh("for i in $(seq 300); do echo $i > f$i; done")
    fill(small)
    small.sh("rm f*")
    assert reserve.stat().st_size < whole
    assert small.run("echo x > new").returncode != 0
    grow(small)
    small.sh("echo x > new")
    assert reserve.stat().st_size == whole
    assert "the volume is full" in small.daemon_log() and "has room again" in small.daemon_log()


def test_what_was_closed_before_a_crash_is_there_on_a_full_disk(small):
    program = """
import os
for i in range(20):
    fd = os.open(f"f{i}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, b"new\\n")
    os.close(os.dup(fd))
print("closed", flush=True)
input()
"""
    small.sh("for i in $(seq 0 9); do echo old > f$i; done")
    job = small.popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert job.stdout.readline() == "closed\n"
    fill(small)
    small.kill()
    job.kill()
    job.wait()
    for _ in range(2):
        small.start()
        assert small.sh("cat f?") == "new\n" * 10
        small.kill()
    grow(small)
    small.start()
    assert small.sh("cat f?") == "new\n" * 10


def test_existing_files_can_be_opened_and_locked(small):
    """Who tidies up takes a lock first; nothing is written by that."""
    small.sh("for f in f lockf x.log x.db; do echo text > $f; cat $f; done; : > empty; cat empty")
    small.settled("empty")
    fill(small)
    use_up(small)
    small.sh("rm -f x; (flock 9; rm -f old) 9>> lockf; exec 8<> f; flock 8; exec 8>&-")
    for flags in (os.O_RDWR, os.O_WRONLY, os.O_WRONLY | os.O_APPEND):
        for name in ("f", "lockf", "x.log", "x.db", "empty"):
            fd = os.open(small.path / name, flags)
            fcntl.flock(fd, fcntl.LOCK_EX)
            with pytest.raises(OSError) as e:
                os.write(fd, b"x" * 100_000)
            assert e.value.errno == errno.ENOSPC
            os.close(fd)
    assert small.sh("cat f lockf x.log x.db empty") == "text\n" * 4
