"""Corners of the interface: large and sparse files, limits, names with dots and slashes, links in circles, set-id bits."""
import errno
import itertools
import mmap
import os
import resource
import stat
import subprocess
import sys

import pytest

from lib import libc
from lib.calls import opened, outcome
from lib.procs import NOBODY, as_user

GiB = 1 << 30
FAR = 5 * GiB + 12345


def differences(seen):
    """seen: what was found on a plain directory and on the mount, by what was tried."""
    plain, ours = seen
    return "\n".join(f"{k}: {ours[k]}, not {plain[k]}" for k in plain if ours[k] != plain[k])


# Large and sparse files


def extents(fd):
    """The data of a file of which little is data, with where it is."""
    found, at = [], 0
    while True:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            assert e.errno == errno.ENXIO
            return found
        end = os.lseek(fd, at, os.SEEK_HOLE)
        found.append((at, end, os.pread(fd, end - at, at).strip(b"\0")))
        at = end


@pytest.mark.parametrize("name", ["save", "live.db", "image.img"])
def test_beyond_4_gib(mount, plain, name):
    seen = []
    for base in (plain, mount.path):
        path = base / name
        with open(path, "w+b", buffering=0) as f:
            fd = f.fileno()
            facts = [os.pwrite(fd, b"begin", 0), os.pwrite(fd, b"end", FAR), os.pwrite(fd, b"over", 2**32 - 2)]
            facts += [os.fstat(fd).st_size, os.pread(fd, 100, FAR), os.pread(fd, 4, 2**32 - 2), extents(fd)]
            facts += [os.lseek(fd, 0, os.SEEK_END), os.lseek(fd, 10**9, os.SEEK_DATA)]
            offset = FAR // mmap.PAGESIZE * mmap.PAGESIZE
            with mmap.mmap(fd, FAR + 3 - offset, offset=offset) as mapping:
                facts.append(mapping[FAR - offset : FAR - offset + 3])
                mapping[FAR - offset : FAR - offset + 1] = b"E"
        with open(path, "rb", buffering=0) as f:
            facts += [extents(f.fileno()), os.fstat(f.fileno()).st_size, os.stat(path).st_blocks < 100]
        os.truncate(path, 2**32 + 1)
        facts += [os.stat(path).st_size, os.stat(path).st_blocks < 100]
        with open(path, "r+b", buffering=0) as f:
            facts += [extents(f.fileno()), os.pwrite(f.fileno(), b"x", 2**32)]
            os.ftruncate(f.fileno(), 3 * GiB)
            os.ftruncate(f.fileno(), FAR)
            facts += [extents(f.fileno()), os.pread(f.fileno(), 5, FAR - 3)]
        facts += [os.stat(path).st_size]
        seen.append(dict(enumerate(facts)))
    assert not differences(seen)


def test_versions_and_copies_of_sparse_files_are_sparse(mount):
    f = mount.path / "f"
    # Not farther: at the end of the test all contents are hashed, with their zeros.
    one, two = GiB // 4 - 3, GiB // 2 - 3
    for data, at in ((b"one", one), (b"two", two)):
        with open(f, "wb") as file:
            os.pwrite(file.fileno(), data, at)
    mount.sh("cp --sparse=always f copy; cp f@@/1 old; rm f")
    assert [mount.sh("tail -c 3 $1", name) for name in ("copy", "old", "f@@/1", "f@@/2")] == ["two", "one", "one", "two"]
    assert [(mount.path / name).stat().st_size for name in ("copy", "old", "f@@/1")] == [two + 3, one + 3, one + 3]
    with open(mount.path / "f@@" / "1", "rb") as old:
        assert os.lseek(old.fileno(), 0, os.SEEK_DATA) > one - 2**20
    assert int(mount.sh("du -s --block-size=1 $1", mount.volume).split()[0]) < 16 << 20


@pytest.mark.mount("copy_limit=8192")
def test_a_save_of_a_part_of_a_sparse_file_copies_no_holes(mount):
    f = mount.path / "f"
    with open(f, "wb") as file:
        os.pwrite(file.fileno(), b"one", FAR)
    mount.settled("f")
    with open(f, "r+b", buffering=0) as save:
        save.write(b"begin")
        assert save.read(3) == bytes(3) and os.fstat(save.fileno()).st_size == FAR + 3
        assert mount.sh("head -c 5 f | tr '\\0' 0") == "00000", "it is a save, not live"
    assert mount.sh("head -c 5 f; tail -c 3 f; tail -c 3 f@@/1") == "beginoneone"
    assert f.stat().st_blocks < 100
    assert int(mount.sh("du -s --block-size=1 $1", mount.volume).split()[0]) < 16 << 20


def test_as_far_as_a_file_can_reach(mount, plain):
    """At 1 TiB, and at the limits of the backing filesystem. (It is cut before it is closed: hashing a TiB takes 100 s.)"""
    seen = []
    for base in (plain, mount.path):
        (base / "f").write_text("old")
        with open(base / "f", "r+b", buffering=0) as f:
            fd = f.fileno()
            found = {"1 TiB": [os.pwrite(fd, b"far", 2**40), os.fstat(fd).st_size, os.fstat(fd).st_blocks < 100, extents(fd)]}
            for bits, off in itertools.product((40, 41, 43, 44, 45, 62, 63), (-1, 0)):
                at = 2**bits + off
                if at == 2**63:
                    continue
                found[f"truncate to 2^{bits}{off}"] = outcome(lambda: os.ftruncate(fd, at))
                if bits < 44:
                    found[f"write at 2^{bits}{off}"] = outcome(lambda: os.pwrite(fd, b"xy", at))
                if bits > 60:
                    found[f"allocate to 2^{bits}{off}"] = outcome(lambda: libc.fallocate(fd, libc.FALLOC_KEEP_SIZE, at, 1))
            os.ftruncate(fd, 3)
        found["left"] = (base / "f").read_bytes()
        seen.append(found)
    assert not differences(seen)


def test_a_write_beyond_what_the_backing_filesystem_can_fails_the_save(mount, plain):
    if opened(plain / "f", os.O_WRONLY | os.O_CREAT, lambda fd: outcome(lambda: os.pwrite(fd, b"x", 2**50))) != "EFBIG":
        pytest.skip("the backing filesystem has files of 2^50 bytes")
    f = mount.path / "f"
    f.write_text("old")
    fd = os.open(f, os.O_WRONLY | os.O_TRUNC)
    assert [outcome(lambda: os.write(fd, b"new")), outcome(lambda: os.pwrite(fd, b"x", 2**50))] == [3, "EFBIG"]
    assert outcome(lambda: os.close(fd)) == "EFBIG"
    assert mount.sh("cat f") == "old"


LIMITED = """
import errno, os, resource, signal, sys
signals = []
signal.signal(signal.SIGXFSZ, lambda *_: signals.append(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
def tried(call):
    try:
        return call()
    except OSError as e:
        return errno.errorcode[e.errno]
found = []
for flags in (os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_RDWR, os.O_RDWR | os.O_APPEND):
    fd = os.open(sys.argv[1], flags, 0o644)
    found += [tried(lambda: os.write(fd, b"x" * 990)), tried(lambda: os.write(fd, b"y" * 20)), tried(lambda: os.write(fd, b"z")),
              tried(lambda: os.pwrite(fd, b"z", 5000)), tried(lambda: os.ftruncate(fd, 1001)), tried(lambda: os.ftruncate(fd, 1000)),
              tried(lambda: os.posix_fallocate(fd, 0, 2000)), os.fstat(fd).st_size]
    os.close(fd)
found += [tried(lambda: os.truncate(sys.argv[1], 2000)), tried(lambda: os.truncate(sys.argv[1], 999)), len(signals)]
print(found)
"""


@pytest.mark.parametrize("name", ["f", "f.log"])
def test_the_limit_of_a_process(mount, plain, name):
    """RLIMIT_FSIZE: EFBIG, and the signal."""
    seen = [subprocess.run([sys.executable, "-c", LIMITED, base / name], stdout=subprocess.PIPE, check=True).stdout
            for base in (plain, mount.path)]
    assert seen[0] == seen[1]
    assert (mount.path / name).read_bytes() == (plain / name).read_bytes()


def test_the_daemons_own_limit_kills_nobody(mounts):
    """Who mounts in a shell with `ulimit -f` gets errors for what is too large, and a mount that goes on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    mount = mounts(start=False)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, hard))
    try:
        mount.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (mount.path / "f").write_text("old")
    with pytest.raises(OSError) as e, open(mount.path / "f", "wb") as f:
        f.write(bytes(9 << 20))
    assert e.value.errno == errno.EFBIG
    assert (mount.path / "f").read_text() == "old"
    mount.sh("echo new > f; cat f")
    assert mount.versions("f") == {1: b"old", 2: b"new\n"}


# Names


def furnish(root):
    os.makedirs(root / "dir" / "sub")
    (root / "dir" / "f").write_text("in dir")
    (root / "empty").mkdir()
    (root / "file").write_text("file")
    os.symlink("file", root / "link")
    os.symlink("dir", root / "dirlink")
    os.symlink("nowhere", root / "dangling")
    os.symlink("loop", root / "loop")
    os.symlink("b", root / "a")
    os.symlink("a", root / "b")
    os.symlink("file/", root / "slashed")
    os.symlink("dir/.", root / "dotted")
    os.symlink("empty/..", root / "up")


def listing(root):
    return sorted((os.path.relpath(os.path.join(at, n), root), oct(os.lstat(os.path.join(at, n)).st_mode))
                  for at, dirs, files in os.walk(root) for n in dirs + files)


CALLS = {
    "stat": lambda p: oct(os.stat(p).st_mode), "lstat": lambda p: oct(os.lstat(p).st_mode), "readlink": os.readlink,
    "open": lambda p: opened(p, os.O_RDONLY),
    "write": lambda p: opened(p, os.O_WRONLY),
    "create": lambda p: opened(p, os.O_WRONLY | os.O_CREAT),
    "trunc": lambda p: opened(p, os.O_WRONLY | os.O_TRUNC),
    "excl": lambda p: opened(p, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    "nofollow": lambda p: opened(p, os.O_RDONLY | os.O_NOFOLLOW),
    "path nofollow": lambda p: opened(p, os.O_PATH | os.O_NOFOLLOW),
    "directory": lambda p: opened(p, os.O_RDONLY | os.O_DIRECTORY),
    "create nofollow": lambda p: opened(p, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW),
    "append": lambda p: opened(p, os.O_WRONLY | os.O_APPEND | os.O_CREAT),
    "mkdir": os.mkdir,
    "rmdir": os.rmdir,
    "unlink": os.unlink,
    "symlink": lambda p: os.symlink("target", p), "mkfifo": os.mkfifo, "mknod": lambda p: os.mknod(p, stat.S_IFREG | 0o600),
    "link to": lambda p: os.link(f"{ROOTS[0]}/file", p),
    "link from": lambda p: os.link(p, f"{ROOTS[0]}/new", follow_symlinks=False),
    "link followed": lambda p: os.link(p, f"{ROOTS[0]}/new", src_dir_fd=0),
    "rename to": lambda p: os.rename(f"{ROOTS[0]}/file", p),
    "rename dir to": lambda p: os.rename(f"{ROOTS[0]}/empty", p), "rename from": lambda p: os.rename(p, f"{ROOTS[0]}/new"),
    "rename from to slash": lambda p: os.rename(p, f"{ROOTS[0]}/new/"),
    "exchange": lambda p: libc.exchange(p, f"{ROOTS[0]}/file"),
    "truncate": lambda p: os.truncate(p, 2), "chmod": lambda p: os.chmod(p, 0o700), "lchown": lambda p: os.lchown(p, 0, 0),
    "chown": lambda p: os.chown(p, 0, 0),
    "utime": lambda p: os.utime(p),
    "lutime": lambda p: os.utime(p, follow_symlinks=False),
    "listdir": lambda p: sorted(os.listdir(p)),
    "chdir": lambda p: (os.chdir(p), os.chdir("/"))[:0],
    "statvfs": lambda p: bool(os.statvfs(p)),
    "setxattr": lambda p: os.setxattr(p, "user.x", b"y"),
    "lsetxattr": lambda p: os.setxattr(p, "user.x", b"y", follow_symlinks=False),
    "access": lambda p: os.access(p, os.R_OK),
}
ROOTS = [None]
SPELLINGS = [
    "file/", "file/.", "file/..", "file//", "dir/", "dir//", "dir/.", "dir/./", "dir/..", "dir/../", "dir/../dir",
    "dir/sub/..", "dir/sub/../f", "link/", "link/.", "dirlink/", "dirlink/.", "dirlink/..", "dirlink/f",
    "dirlink/f/", "dangling/", "dangling/x", "dangling/..", "new/", "new/.", "new/..", "new//", ".", "..", "./",
    "../", ".//.", "empty/", "empty/.", "empty/new/", "loop", "loop/", "loop/x", "a", "a/", "slashed", "dotted",
    "up", "up/file", "./file", "dir//f", "n" * 256, "dir/" + "n" * 256, "n" * 256 + "/", "ü" * 128]


@pytest.mark.parametrize("part", range(4))
def test_spellings_of_paths(mount, plain, part):
    seen = []
    for base in (plain, mount.path):
        found, fresh, number = {}, None, 0
        for what, spelling in itertools.islice(itertools.product(CALLS, SPELLINGS), part, None, 4):
            if not fresh:
                number += 1
                root = ROOTS[0] = base / str(number) / "root"
                furnish(root)
                fresh = listing(root.parent)
            result = outcome(lambda: CALLS[what](f"{root}/{spelling}"))
            left = listing(root.parent)
            found[what, spelling] = result, sorted(set(left) ^ set(fresh))
            if left != fresh:
                fresh = None
        seen.append(found)
    assert not differences(seen)


def test_long_paths_and_chains_of_links(mount, plain):
    seen = []
    for base in (plain, mount.path):
        root = base / "r"
        furnish(root)
        os.chdir(root)
        try:
            for i in range(45):
                os.symlink("file" if i == 0 else f"chain{i - 1}", f"chain{i}")
                os.symlink("dir" if i == 0 else f"dirs{i - 1}", f"dirs{i}")
            found = {f"chain of {i}": outcome(lambda: os.stat(f"chain{i}").st_size) for i in range(36, 45)}
            found |= {f"dirs {i}": outcome(lambda: os.stat(f"dirs{i}/f").st_size) for i in range(36, 45)}
            # For a save the kernel walks the path twice, and counts the links of both walks.
            found |= {f"open chain {i}": outcome(lambda: opened(f"chain{i}", os.O_WRONLY | os.O_TRUNC)) for i in (19, 40, 41)}
            if base is mount.path:
                mount.settled("r/file")
                assert outcome(lambda: opened("chain20", os.O_WRONLY)) == "ELOOP"
            found |= {f"read chain {i}": outcome(lambda: opened(f"chain{i}", os.O_RDONLY)) for i in (38, 39, 40, 41)}
            found |= {f"dirs twice {i}": outcome(lambda: os.stat(f"dirs{i}/../dirs{i}/f").st_size) for i in (18, 19, 20, 21)}
            for length in (4090, 4095, 4096, 5000):
                path = ("./" * 4000)[: length - 4 - length % 2] + "/" * (length % 2) + "file"
                for what in ("stat", "open", "trunc", "create", "mkdir", "unlink", "rename from", "readlink", "chmod", "truncate"):
                    ROOTS[0] = root
                    found[what, length] = outcome(lambda: CALLS[what](path))
                    if not os.path.lexists("file"):
                        with open("file", "w") as f:
                            f.write("file")
            for length in (1, 255, 4094, 4095, 4096):
                found["symlink", length] = outcome(lambda: os.symlink("x" * length, f"s{length}"))
                found["readlink", length] = outcome(lambda: len(os.readlink(f"s{length}")))
                found["lstat", length] = outcome(lambda: os.lstat(f"s{length}").st_size)
            found["deep link"] = outcome(lambda: os.symlink("./" * 2045 + "file", "deep"))
            found["deep link followed"] = outcome(lambda: os.stat("deep").st_size)
        finally:
            os.chdir("/")
        seen.append(found)
    assert not differences(seen)


def test_nothing_crosses_trees(mount):
    """Two trees are two filesystems: whatever is renamed or linked, and whatever is there."""
    os.mkdir(mount.root / "other")
    other = mount.root / "other"
    for root in (mount.path, other):
        furnish(root)
    for name, target in itertools.product(["file", "dir", "link", "dirlink", "dir/f"],
                                          ["new", "file", "empty", "dir", "dirlink/new"]):
        for flags in (0, 1, 2):
            if flags == 1 and target not in ("new", "dirlink/new") or flags == 2 and "new" in target:
                continue
            # The kernel takes them for one filesystem, and looks at the kinds first.
            fits = flags or target.endswith("new") or (name == "dir") == (target in ("dir", "empty"))
            expected = "EXDEV" if fits else "ENOTDIR" if name == "dir" else "EISDIR"
            assert outcome(lambda: libc.rename(mount.path / name, other / target, flags)) == expected, (name, target, flags)
        if "new" in target and name != "dir":
            assert outcome(lambda: os.link(mount.path / name, other / target, follow_symlinks=False)) == "EXDEV"
    assert outcome(lambda: os.rename(mount.path / "missing", other / "new")) == "ENOENT"
    assert listing(mount.path) == listing(other)
    mount.sh("mv dir ../other/moved; mv file ../other/file; cat ../other/moved/f")
    assert sorted(os.listdir(other / "moved")) == ["f", "sub"] and not (mount.path / "dir").exists()


# Set-id and sticky bits


@pytest.mark.mount("allow_other")
def test_set_id_bits(mount, plain):
    """What is made in a set-gid directory, and what changes by root and by their owner leave of the bits. (Of a file that its
    group may not execute it has no meaning, and is not compared.)"""
    mount.path.chmod(0o755)
    seen = []
    for base in (plain, mount.path):
        root = base / "r"
        root.mkdir()
        os.chown(root, NOBODY, NOBODY)

        def mode(path):
            s = os.lstat(path)
            return oct(s.st_mode), s.st_uid, s.st_gid

        found = {}
        for group, bits in itertools.product((60, NOBODY, 0), (0o2777, 0o777, 0o3777, 0o7777)):
            d = root / f"d{group}{bits:o}"
            d.mkdir()
            os.chown(d, 0, group)
            d.chmod(bits)

            def make():
                for name, call in {"file": lambda p: opened(p, os.O_CREAT | os.O_WRONLY | os.O_APPEND), "dir": os.mkdir, "fifo": os.mkfifo,
                                   "link": lambda p: os.symlink("x", p),
                                   "node": lambda p: os.mknod(p, stat.S_IFREG | 0o2771),
                                   "open": lambda p: os.close(os.open(p, os.O_CREAT | os.O_WRONLY, 0o6777)),
                                   "setgid dir": lambda p: os.mkdir(p, 0o2770)}.items():
                    call(d / f"{os.geteuid()} {name}")

            make()
            as_user(NOBODY, make)
            found |= {("made", group, oct(bits), name): mode(d / name) for name in sorted(os.listdir(d))}
            moved = root / f"m{group}{bits:o}"
            moved.mkdir()
            os.rename(moved, d / "moved")
            found["moved", group, oct(bits)] = mode(d / "moved")
        changes = {
            "chmod 6755": lambda p: os.chmod(p, 0o6755),
            "chmod 2755": lambda p: os.chmod(p, 0o2755),
            "chmod 1755": lambda p: os.chmod(p, 0o1755),
            "chmod 2644": lambda p: os.chmod(p, 0o2644),
            "chown -1": lambda p: os.chown(p, -1, -1),
            "chown own": lambda p: os.chown(p, NOBODY, -1),
            "chgrp own": lambda p: os.chown(p, -1, NOBODY),
            "chgrp other": lambda p: os.chown(p, -1, 60),
            "chown other": lambda p: os.chown(p, 5, -1),
            "write": lambda p: p.write_text("new") and None,
            "truncate": lambda p: os.truncate(p, 1),
            "link": lambda p: os.link(p, f"{p}.link"),
            "utime": lambda p: os.utime(p), "rename": lambda p: (os.rename(p, f"{p}2"), os.rename(f"{p}2", p)) and None,
            "setxattr": lambda p: os.setxattr(p, "user.x", b"y"), "write nothing": lambda p: opened(p, os.O_WRONLY),
            "append": lambda p: opened(p, os.O_WRONLY | os.O_APPEND), "allocate": allocated, "copy": copied,
        }
        for (what, call), bits, group, uid in itertools.product(
                changes.items(), (0o6755, 0o2755, 0o4711, 0o1755), (60, NOBODY), (0, NOBODY)):
            for kind in ("file", "dir"):
                if kind == "dir" and what in ("write", "truncate", "write nothing", "append", "link", "allocate", "copy"):
                    continue
                path = root / f"{what.replace(' ', '')}{bits:o}{group}{uid}{kind}"
                path.mkdir() if kind == "dir" else path.write_text("text")
                os.chown(path, NOBODY, group)
                path.chmod(bits)
                if base is mount.path:
                    mount.settled(path.relative_to(mount.path))
                result = outcome(lambda: as_user(uid, lambda: call(path)))
                if base is mount.path:
                    mount.settled(path.relative_to(mount.path))
                found[what, oct(bits), group, uid, kind] = result, mode(path)
        seen.append(found)
    assert not differences(seen)


def allocated(path):
    fd = os.open(path, os.O_WRONLY)
    os.posix_fallocate(fd, 0, 10_000)
    os.close(fd)


def copied(path):
    with open(path, "rb+", buffering=0) as f:
        os.copy_file_range(f.fileno(), f.fileno(), 2, 0, 2)
