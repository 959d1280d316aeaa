"""Mappings of files: of what a reader has open, of what is being saved, and of live files."""
import ctypes
import faulthandler
import mmap
import os
import signal
import subprocess
import sys
import traceback

import pytest

from lib.procs import wait_until

PAGE = mmap.PAGESIZE
SETTLED_AND_LIVE = pytest.mark.parametrize("name", ["settled", "live.db"])


def touches(path, flags, steps):
    """
    A child maps 4 pages of a file, shared, and does steps, a list of ("read", offset), ("write", offset),
    ("ftruncate", size) or ("run", shell command); returns the bytes that it read, as far as it came, and the signal that
    ended it.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            faulthandler.disable()
            libc = ctypes.CDLL(None, use_errno=True)
            libc.mmap.restype = ctypes.c_void_p
            libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
            fd = os.open(path, flags)
            protection = mmap.PROT_READ | (mmap.PROT_WRITE if flags & os.O_RDWR else 0)
            base = libc.mmap(None, 4 * PAGE, protection, mmap.MAP_SHARED, fd, 0)
            for step, argument in steps:
                if step == "read":
                    os.write(write_end, ctypes.string_at(base + argument, 1))
                elif step == "write":
                    ctypes.memmove(base + argument, b"W", 1)
                elif step == "ftruncate":
                    os.ftruncate(fd, argument)
                else:
                    subprocess.run(["/bin/sh", "-c", argument], cwd=os.path.dirname(path), check=True)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(write_end)
    with open(read_end, "rb") as f:
        seen = f.read()
    return seen, -os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


CORNERS = {
    "the rest of the last page": [("read", 5), ("read", PAGE - 1)],
    "what is written beyond the end": [("write", 100), ("read", 100)],
    "the page after the last": [("read", 5), ("read", PAGE)],
    "a write to the page after the last": [("write", 5), ("write", PAGE), ("read", 0)],
    "after it grew": [("ftruncate", 3 * PAGE), ("write", 2 * PAGE), ("read", 2 * PAGE), ("read", 3 * PAGE)],
    "after it was cut": [("ftruncate", 3 * PAGE), ("write", 2 * PAGE), ("ftruncate", PAGE), ("read", 5), ("read", 2 * PAGE)],
    "cut and grown again": [("ftruncate", 2 * PAGE), ("write", PAGE + 5), ("write", 50), ("ftruncate", 40),
                            ("ftruncate", 2 * PAGE), ("read", 50), ("read", PAGE + 5), ("read", 5)],
}


@SETTLED_AND_LIVE
@pytest.mark.parametrize("corner", CORNERS)
def test_the_end_of_a_file(mount, plain, name, corner):
    results = []
    for base in (plain, mount.path):
        (base / name).write_bytes(b"x" * 10)
        result = touches(base / name, os.O_RDWR, CORNERS[corner])
        if base is mount.path:
            mount.settled(name)
        left = (base / name).read_bytes()
        # Of a save whose program was killed, readers keep the version before.
        if result[1] and name == "settled":
            left = b"x" * 10
            assert base is plain or (base / name).read_bytes() == left
        results.append((*result, left))
    assert results[0] == results[1]


def test_a_live_file_that_others_cut(mount, plain):
    """What is beyond its new end is no more; what came back since is zeros."""
    steps = [("read", 2 * PAGE), ("run", f"truncate -s {PAGE} f.db"), ("read", 5), ("run", f"truncate -s {4 * PAGE} f.db"),
             ("read", 2 * PAGE), ("write", 3 * PAGE), ("run", f"truncate -s {PAGE} f.db"), ("read", 7), ("read", 3 * PAGE)]
    results = []
    for base in (plain, mount.path):
        (base / "f.db").write_bytes(b"x" * 4 * PAGE)
        results.append((*touches(base / "f.db", os.O_RDWR, steps), (base / "f.db").read_bytes()))
    assert results[0] == results[1] == (b"xx\0x", signal.SIGBUS, b"x" * PAGE)


SAVES = {"written anew": "echo new > f", "cut": "truncate -s 3 f", "edited": "printf new | dd of=f conv=notrunc status=none",
         "renamed over": "echo new > g; mv g f", "appended to": "echo new >> f", "removed": "rm f",
         "locked and edited": "flock f -c 'printf new | dd of=f conv=notrunc status=none'"}


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("kind", [mmap.MAP_SHARED, mmap.MAP_PRIVATE], ids=["shared", "private"])
def test_a_readers_mapping_keeps_its_version(mount, save, kind):
    """Also of the pages that it did not look at before; and after its descriptor is closed, and the caches are dropped."""
    content = os.urandom(40 * PAGE)
    (mount.path / "f").write_bytes(content)
    mount.settled("f")
    with open(mount.path / "f", "rb") as f:
        mapping = mmap.mmap(f.fileno(), 0, kind, mmap.PROT_READ)
    assert mapping[:5] == content[:5]
    mount.sh(SAVES[save])
    mount.settled("f") if save != "removed" else None
    assert mapping[:] == content
    mapping.madvise(mmap.MADV_DONTNEED)
    assert mapping[:] == content
    mapping.close()


@SETTLED_AND_LIVE
def test_what_is_written_to_a_private_mapping_is_nobody_elses(mount, name):
    path = mount.path / name
    path.write_bytes(b"x" * 2 * PAGE)
    mount.settled(name)
    for flags in (os.O_RDONLY, os.O_RDWR):
        fd = os.open(path, flags)
        with mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapping:
            os.close(fd)
            mapping[0:3] = b"own"
            assert mapping[:4] == b"ownx"
            assert path.read_bytes() == b"x" * 2 * PAGE
            mapping.flush()
        assert path.read_bytes() == b"x" * 2 * PAGE
    mount.settled(name)
    assert len(mount.versions(name)) == 1


@SETTLED_AND_LIVE
def test_a_readers_mapping_is_not_written_to(mount, name):
    (mount.path / name).write_bytes(b"x" * PAGE)
    with open(mount.path / name, "rb") as f, pytest.raises(PermissionError):
        mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


@SETTLED_AND_LIVE
def test_a_mapping_of_a_file_that_is_removed(mount, name):
    path = mount.path / name
    path.write_bytes(b"x" * 3 * PAGE)
    mount.settled(name)
    with open(path, "r+b", buffering=0) as f:
        mapping = mmap.mmap(f.fileno(), 0)
        mapping[0:1] = b"a"
        path.unlink()
        mapping[PAGE : PAGE + 1] = b"b"
        mapping.flush()
        assert os.pread(f.fileno(), 1, PAGE) == b"b"
        path.write_bytes(b"another")
    mapping[2 * PAGE : 2 * PAGE + 1] = b"c"
    mapping.madvise(mmap.MADV_DONTNEED)
    assert (mapping[0:1], mapping[PAGE : PAGE + 1], mapping[2 * PAGE : 2 * PAGE + 2]) == (b"a", b"b", b"cx")
    mapping.close()
    mount.settled(name)
    assert path.read_bytes() == b"another"


@pytest.mark.parametrize("name", ["new", "old", "live.db"])
def test_a_mapping_and_a_descriptor_are_one(mount, name):
    """What is written by one is read by the other: in a save, in a live file, and while the one becomes the other."""
    path = mount.path / name
    if name != "new":
        path.write_bytes(bytes(2 * PAGE))
        mount.settled(name)
    with open(path, "r+b" if name != "new" else "w+b", buffering=0) as f:
        f.truncate(2 * PAGE)
        mapping = mmap.mmap(f.fileno(), 0)
        for i in range(1, 60):
            mapping[i] = i
            assert os.pread(f.fileno(), 1, i) == bytes([i])
            os.pwrite(f.fileno(), bytes([i]), PAGE + i)
            assert mapping[PAGE + i] == i
            if name == "new" and i == 30:
                wait_until(lambda: mount.sh("stat -c %s new") == f"{2 * PAGE}\n", "it to go live")
            if name == "live.db":
                mapping.flush()
                assert mount.sh("od -An -tu1 -j $2 -N 1 $1", name, str(i)).strip() == str(i)
    mapping[60] = 60
    mapping.close()
    mount.settled(name)
    assert path.read_bytes()[:62] == bytes([*range(61), 0])
    assert path.read_bytes()[PAGE : PAGE + 61] == bytes([*range(60), 0])


def test_what_is_written_through_a_mapping_survives_the_daemon_after_msync(mount):
    """As far as it says so itself: fsync and msync make it safe, and the close of the mapping makes it a version."""
    (mount.path / "f").write_bytes(b"x" * 2 * PAGE)
    mount.settled("f")
    with open(mount.path / "f", "r+b") as f:
        mapping = mmap.mmap(f.fileno(), 0)
    mapping[0:3] = b"new"
    mapping.flush()
    mount.kill()
    mapping.close()
    mount.start()
    assert (mount.path / "f").read_bytes() == b"new" + b"x" * (2 * PAGE - 3)


@SETTLED_AND_LIVE
def test_a_child_writes_through_its_parents_mapping(mount, name):
    """The save is over when nobody has the mapping any more."""
    path = mount.path / name
    path.write_bytes(b"x" * PAGE)
    mount.settled(name)
    child = mount.popen([sys.executable, "-c", f"""
import mmap, os, sys
f = open({name!r}, "r+b")
m = mmap.mmap(f.fileno(), 0)
f.close()
if os.fork():
    m[0:1] = b"p"
    os._exit(0)
print("ready", flush=True)
sys.stdin.readline()
m[1:2] = b"c"
print("done", flush=True)
sys.stdin.readline()
"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == "ready\n"
    assert child.wait(20) == 0
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "done\n"
    assert path.read_bytes()[:3] == (b"xxx" if name == "settled" else b"pcx")
    child.stdin.close()
    wait_until(lambda: path.read_bytes()[:3] == b"pcx", "the child to end")
    mount.settled(name)
    assert mount.versions(name)[2][:3] == b"pcx"
