"""The namespace: whatever a plain directory does, a tree does, with the same results and the same errors."""
import errno
import itertools
import os
import random
import socket
import stat
import threading
import time

import pytest

from lib import libc
from lib.calls import opened, outcome
from lib.procs import NOBODY, as_user
from lib.tree import attributes


def furnish(root):
    """One thing of each kind, to try calls on."""
    os.makedirs(root / "full" / "sub")
    (root / "full" / "f").write_text("in full")
    (root / "empty").mkdir()
    (root / "file").write_text("file")
    (root / "other").write_text("other")
    os.link(root / "file", root / "hard")
    os.symlink("file", root / "link")
    os.symlink("full", root / "dirlink")
    os.symlink("nowhere", root / "dangling")
    os.symlink("loop", root / "loop")
    os.mkfifo(root / "fifo")
    os.mknod(root / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))


def same(mount, plain, calls):
    """Each call gives the same outcome on a tree as on a plain directory, and leaves the same things."""
    different = {}
    roots = fresh = None
    for number, (what, call) in enumerate(calls.items()):
        if not roots:
            roots = [base / str(number) for base in (plain, mount.path)]
            for root in roots:
                furnish(root)
            fresh = attributes(roots[0], times=False)
        seen = [(outcome(lambda: call(root)), attributes(root, times=False)) for root in roots]
        if seen[0][1] != fresh or seen[1][1] != fresh:
            roots = None
        if seen[0] != seen[1]:
            changed = {k: (seen[0][1].get(k), seen[1][1].get(k)) for k in seen[0][1].keys() | seen[1][1].keys()
                       if seen[0][1].get(k) != seen[1][1].get(k)}
            different[what] = f"{seen[1][0]}, not {seen[0][0]}; {changed or 'the same left'}"
    assert not different, "\n".join(f"{k}: {v}" for k, v in different.items())


KINDS = ["file", "hard", "link", "dirlink", "dangling", "fifo", "device", "empty", "full", "missing", "missing/x",
         "file/x", "full/f", "full/sub", "full/new", "empty/new", "loop", "loop/x"]


@pytest.mark.parametrize("flags", range(5), ids=["plain", "NOREPLACE", "EXCHANGE", "both", "WHITEOUT"])
def test_renames(mount, plain, flags):
    if flags == libc.RENAME_WHITEOUT:
        (mount.path / "f").write_text("x")
        assert outcome(lambda: libc.rename(mount.path / "f", mount.path / "g", flags)) == "EINVAL"
        return
    calls = {f"{a} to {b}": lambda r, a=a, b=b: libc.rename(r / a, r / b, flags)
             for a, b in itertools.product(KINDS, KINDS)}
    calls.update({
        "a directory into itself": lambda r: libc.rename(r / "full", r / "full" / "sub" / "x", flags),
        "a directory over its parent": lambda r: libc.rename(r / "full" / "sub", r / "full", flags),
        "with a slash": lambda r: libc.rename(f"{r}/file", f"{r}/new/", flags),
        "a directory with slashes": lambda r: libc.rename(f"{r}/full/", f"{r}/new/", flags),
        "dot": lambda r: libc.rename(f"{r}/full/.", f"{r}/new", flags),
        "dot dot": lambda r: libc.rename(f"{r}/full/..", f"{r}/new", flags),
        "a long name": lambda r: libc.rename(r / "file", r / ("n" * 256), flags),
        "to 255 bytes": lambda r: libc.rename(r / "file", r / ("n" * 255), flags),
    })
    same(mount, plain, calls)


def test_making_and_removing(mount, plain):
    make = {
        "mkdir": os.mkdir, "rmdir": os.rmdir, "unlink": os.unlink, "mkfifo": os.mkfifo,
        "symlink": lambda p: os.symlink("target", p), "readlink": os.readlink,
        "mknod": lambda p: os.mknod(p, stat.S_IFBLK | 0o640, os.makedev(7, 9)),
        "mknod of a file": lambda p: os.mknod(p, stat.S_IFREG | 0o640),
        "bind": lambda p: bind(p),
        "listdir": lambda p: sorted(os.listdir(p)),
        "link to": lambda p: os.link(p.parent / ".." / p.parent.name / "other", p),
        "link from": lambda p: os.link(p, p.with_name("linked"), follow_symlinks=False),
        "link followed": lambda p: os.link(p, p.with_name("linked"), src_dir_fd=0, follow_symlinks=True),
        "chmod": lambda p: os.chmod(p, 0o4751), "chown": lambda p: os.chown(p, 5, 60),
        "lchown": lambda p: os.lchown(p, 5, 60), "truncate": lambda p: os.truncate(p, 2),
        "utime": lambda p: os.utime(p, (1, 2)), "exists": lambda p: p.exists(),
        "access": lambda p: os.access(p, os.X_OK),
        "statvfs": lambda p: bool(os.statvfs(p)),
        "getxattr": lambda p: os.getxattr(p, "user.none"), "listxattr": lambda p: os.listxattr(p),
        "removexattr": lambda p: os.removexattr(p, "user.none"),
    }
    same(mount, plain, {f"{what} {kind}": lambda r, call=call, kind=kind: call(r / kind)
                        for what, call in make.items() for kind in KINDS if not kind == "fifo" or what != "truncate"})


def bind(path):
    with socket.socket(socket.AF_UNIX) as s:
        os.chdir(path.parent)
        try:
            s.bind(path.name)
        finally:
            os.chdir("/")


@pytest.mark.mount("dev")
def test_opens(mount, plain):
    modes = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR, "path": os.O_PATH}
    extras = {"": 0, "creat": os.O_CREAT, "excl": os.O_CREAT | os.O_EXCL, "trunc": os.O_TRUNC,
              "nofollow": os.O_NOFOLLOW, "directory": os.O_DIRECTORY, "append": os.O_APPEND,
              "creat trunc": os.O_CREAT | os.O_TRUNC, "excl nofollow": os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW,
              "directory nofollow": os.O_DIRECTORY | os.O_NOFOLLOW}
    same(mount, plain, {
        f"open {m} {e} {k}": lambda r, m=m, e=e, k=k: opened(f"{r}/{k}", modes[m] | extras[e] | os.O_NONBLOCK)
        for m in modes for e in extras for k in KINDS + ["file/", "full/", "new/"]})


def test_names(mount, plain):
    long = "n" * 255
    deep = "/".join(["d"] * 500)
    same(mount, plain, {
        "255 bytes": lambda r: (r / long).write_text("x"),
        "256 bytes": lambda r: (r / (long + "n")).write_text("x"),
        "255 bytes of UTF-8": lambda r: (r / ("ä" * 127)).mkdir(),
        "256 bytes of UTF-8": lambda r: (r / ("ä" * 128)).mkdir(),
        "a link to 4,095 bytes": lambda r: os.symlink("x" * 4095, r / "l"),
        "a link to 4,096 bytes": lambda r: os.symlink("x" * 4096, r / "l"),
        "a link to nothing": lambda r: os.symlink("", r / "l"),
        "500 levels": lambda r: os.makedirs(r / deep),
        "a path of 4,096 bytes": lambda r: os.stat(r / ("d/" * 2048)),
        "mkdir with a slash": lambda r: os.mkdir(f"{r}/new/"),
        "mkdir of dot": lambda r: os.mkdir(f"{r}/."),
        "rmdir of dot": lambda r: os.rmdir(f"{r}/empty/."),
        "rmdir of dot dot": lambda r: os.rmdir(f"{r}/full/sub/.."),
        "unlink with a slash": lambda r: os.unlink(f"{r}/file/"),
        "cycle of links": lambda r: os.stat(r / "loop"),
        "newlines and quotes": lambda r: [(r / n).write_text("x") for n in ("a\nb", "a\"b", "a'b", "a\\b", " ")][:0],
        "upper and lower case": lambda r: [(r / n).write_text(n) for n in ("Case", "case", "CASE")][:0],
    })


def test_names_of_any_bytes(mount):
    root = os.fsencode(mount.path)
    names = [bytes([b]) * 3 for b in range(1, 256) if b != ord("/") and b != ord(".")] + [b"..."]
    for name in names:
        with open(os.path.join(root, name), "wb") as f:
            f.write(name)
    assert sorted(os.listdir(root)) == sorted(names)
    mount.remount()
    assert sorted(os.listdir(root)) == sorted(names)
    for name in names:
        with open(os.path.join(root, name), "rb") as f:
            assert f.read() == name
        os.unlink(os.path.join(root, name))
    assert os.listdir(root) == []


def test_paths_as_deep_as_the_kernel_allows(mount):
    """Deeper than any one path can say."""
    def descend(make):
        here = os.open(mount.path, os.O_RDONLY)
        for _ in range(2100):
            if make:
                os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        return here

    bottom = descend(make=True)
    mount.sh("echo one > f; cat f; echo two > f; cat f; mkdir g; mv f g", cwd=f"/proc/self/fd/{bottom}",
             pass_fds=[bottom])
    os.close(bottom)
    mount.remount()
    bottom = descend(make=False)
    assert mount.sh("cat g/f", cwd=f"/proc/self/fd/{bottom}", pass_fds=[bottom]) == "two\n"
    os.close(bottom)
    mount.sh("rm -r d")


# Attributes


def test_modes_owners_and_umask(mount, plain):
    def by_umask(root):
        old = os.umask(0o027)
        try:
            opened(root / "f", os.O_CREAT | os.O_WRONLY, mode=0o7777)
            os.mkdir(root / "d", 0o7777)
            os.mkfifo(root / "p", 0o7777)
        finally:
            os.umask(old)

    def by_descriptor(root):
        for name in ("file", "full"):
            fd = os.open(root / name, os.O_RDONLY)
            os.fchmod(fd, 0o705)
            os.fchown(fd, 5, 60)
            os.utime(fd, ns=(1, 2))
            os.close(fd)
        return [os.stat(root / n).st_mtime_ns for n in ("file", "full")]

    same(mount, plain, {
        "umask": by_umask, "descriptors": by_descriptor,
        "chown clears suid": lambda r: (os.chmod(r / "file", 0o6755), os.chown(r / "file", 5, 5))[:0],
        "chown of nothing": lambda r: (os.chmod(r / "file", 0o6755), os.chown(r / "file", -1, -1))[:0],
        "chown of a directory keeps sgid": lambda r: (os.chmod(r / "full", 0o2755), os.chown(r / "full", 5, 5))[:0],
        "sgid directory": lambda r: (os.chown(r / "empty", 5, 60), os.chmod(r / "empty", 0o2777),
                                     os.mkdir(r / "empty" / "d"), (r / "empty" / "f").write_text("x"))[:0],
        "chmod of everything": lambda r: [os.chmod(r / k, 0o1234) for k in ("file", "full", "fifo", "device")][:0],
    })


@pytest.mark.mount("allow_other")
def test_suid_is_cleared_by_the_writes_of_others(mount):
    """A write, truncation or chown by somebody who is not root takes the bits away."""
    mount.path.chmod(0o777)
    f = mount.path / "f"
    changes = [lambda: f.write_text("new"), lambda: os.truncate(f, 1), lambda: os.chown(f, NOBODY, NOBODY)]

    def append():
        with open(f, "a") as file:
            file.write("more")

    for change in [*changes, append]:
        f.write_text("text")
        os.chown(f, NOBODY, NOBODY)
        f.chmod(0o6777)
        as_user(NOBODY, lambda: change() and None)
        mount.settled("f")
        assert oct(f.stat().st_mode & 0o6000) == "0o0"


@pytest.mark.mount("allow_other")
def test_setgid_without_group_execution_is_cleared_for_others_only(mount, plain):
    for root in (mount.path, plain):
        root.chmod(0o777)
        for group, left in ((NOBODY, 0o2000), (12, 0)):
            f = root / f"f{group}"
            f.write_text("text")
            os.chown(f, NOBODY, group)
            f.chmod(0o2766)
            as_user(NOBODY, lambda: f.write_text("new") and None)
            if root == mount.path:
                mount.settled(f.name)
            assert f.stat().st_mode & 0o7000 == left, (root, group)


@pytest.mark.mount("allow_other")
def test_permissions_as_on_a_plain_directory(mount, plain):
    """Somebody else, with things of every mode: the kernel decides, by the attributes in the journal."""
    mount.path.chmod(0o755)

    def attempts(root):
        yield "read", lambda p: bool(open(p).read())
        yield "write", lambda p: opened(p, os.O_WRONLY)
        yield "truncate", lambda p: os.truncate(p, 1)
        yield "chmod", lambda p: os.chmod(p, 0o777)
        yield "chown", lambda p: os.chown(p, NOBODY, NOBODY)
        yield "utime now", lambda p: os.utime(p)
        yield "utime", lambda p: os.utime(p, (1, 1))
        yield "setxattr", lambda p: os.setxattr(p, "user.x", b"x")
        yield "getxattr", lambda p: os.getxattr(p, "user.y")
        yield "trusted", lambda p: os.setxattr(p, "trusted.x", b"x")
        yield "access", lambda p: [os.access(p, m) for m in (os.R_OK, os.W_OK, os.X_OK)]
        yield "link", lambda p: os.link(p, p.parent / "linked")
        yield "rename", lambda p: os.rename(p, p.parent / "renamed")
        yield "unlink", lambda p: os.unlink(p)

    seen = []
    for base in (plain, mount.path):
        results = {}
        for mode, folder_mode in itertools.product((0o600, 0o640, 0o604, 0o622, 0o666, 0o444, 0o700),
                                                   (0o755, 0o777, 0o1777, 0o700, 0o711, 0o733)):
            for what, call in attempts(base):
                folder = base / f"{mode:o}.{folder_mode:o}.{what.replace(' ', '')}"
                folder.mkdir()
                (folder / "f").write_text("text")
                (folder / "f").chmod(mode)
                folder.chmod(folder_mode)
                results[folder.name] = folder / "f", call
        seen.append(as_user(NOBODY, lambda: {k: outcome(lambda: call(p)) for k, (p, call) in results.items()}))
    assert {k: (v, seen[1][k]) for k, v in seen[0].items() if v != seen[1][k]} == {}


@pytest.mark.mount("allow_other")
def test_sticky_directories(mount):
    mount.path.chmod(0o755)
    mount.sh("mkdir -m 1777 tmp; echo x > tmp/root; chmod 666 tmp/root")
    tmp = mount.path / "tmp"
    as_user(NOBODY, lambda: (tmp / "mine").write_text("x") and None)
    for call in (lambda: os.unlink(tmp / "root"), lambda: os.rename(tmp / "root", tmp / "x"),
                 lambda: os.rename(tmp / "mine", tmp / "root")):
        with pytest.raises(PermissionError):
            as_user(NOBODY, call)
    as_user(NOBODY, lambda: os.rename(tmp / "mine", tmp / "x"))
    as_user(NOBODY, lambda: os.unlink(tmp / "x"))


def test_times_have_nanoseconds(mount):
    f = mount.path / "f"
    f.write_text("x")
    mount.settled("f")
    for at, mt in ((1, 2), (10**18 + 123456789, 10**18 + 987654321), (0, 0), (-1, -10**9 - 1), (2**33 * 10**9 + 1, 7)):
        os.utime(f, ns=(at, mt))
        assert (f.stat().st_atime_ns, f.stat().st_mtime_ns) == (at, mt)
    os.symlink("f", mount.path / "l")
    os.utime(mount.path / "l", ns=(5, 6), follow_symlinks=False)
    os.utime(mount.path, ns=(7, 8))
    mount.remount()
    assert (f.stat().st_atime_ns, f.stat().st_mtime_ns) == (2**33 * 10**9 + 1, 7)
    assert os.lstat(mount.path / "l").st_mtime_ns == 6
    assert os.stat(mount.path).st_mtime_ns == 8


def test_a_save_keeps_the_times_that_were_set(mount):
    """cp -p and rsync write, set the times through the descriptor or the path, and close."""
    f = mount.path / "f"
    f.write_text("old")
    for by_path in (False, True):
        fd = os.open(f, os.O_WRONLY | os.O_TRUNC)
        os.write(fd, b"new%d" % by_path)
        os.utime(f if by_path else fd, ns=(3, 4))
        os.close(fd)
        mount.settled("f")
        assert f.stat().st_mtime_ns == 4
        assert mount.sh("stat -c %Y f") == "0\n"


def test_times_of_parents(mount):
    d, e = mount.path / "d", mount.path / "e"
    d.mkdir()
    e.mkdir()

    def changes(call, *parents):
        for parent in parents:
            os.utime(parent, (1, 1))
        before = {p: os.stat(p).st_ctime_ns for p in parents}
        call()
        for parent in parents:
            assert os.stat(parent).st_mtime > 1, f"mtime of {parent.name}"
            assert os.stat(parent).st_ctime_ns > before[parent], f"ctime of {parent.name}"

    f = d / "f"
    changes(lambda: f.write_text("x"), d)
    changes(lambda: os.link(f, d / "g"), d)
    changes(lambda: os.symlink("x", d / "l"), d)
    changes(lambda: os.mkfifo(d / "p"), d)
    changes(lambda: os.mkdir(d / "sub"), d)
    changes(lambda: os.rmdir(d / "sub"), d)
    changes(lambda: os.unlink(d / "p"), d)
    changes(lambda: os.rename(f, d / "h"), d)
    changes(lambda: os.rename(d / "h", e / "h"), d, e)
    mount.settled("d/g")
    os.utime(d, (1, 1))
    (d / "g").write_text("a save is no change of the directory")
    mount.settled("d/g")
    assert d.stat().st_mtime == 1


def test_ctime_and_mtime_of_files(mount):
    f = mount.path / "f"
    f.write_text("x")
    mount.settled("f")

    def changes(call, mtime):
        os.utime(f, (1, 1))
        before = f.stat()
        call()
        mount.settled("f")
        assert f.stat().st_ctime_ns > before.st_ctime_ns
        assert (f.stat().st_mtime > 1) is mtime

    changes(lambda: os.chmod(f, 0o600), False)
    changes(lambda: os.chown(f, 5, 5), False)
    changes(lambda: os.link(f, mount.path / "g"), False)
    changes(lambda: os.unlink(mount.path / "g"), False)
    changes(lambda: os.setxattr(f, "user.x", b"y"), False)
    changes(lambda: os.removexattr(f, "user.x"), False)
    changes(lambda: os.rename(f, mount.path / "h") or os.rename(mount.path / "h", f), False)
    changes(lambda: f.write_text("y"), True)
    changes(lambda: f.write_text("y"), True)
    changes(lambda: os.truncate(f, 5), True)
    changes(lambda: mount.sh("echo z >> f"), True)


def test_link_counts(mount):
    d = mount.path / "d"
    d.mkdir()
    nlink = lambda: d.stat().st_nlink
    assert nlink() == 2
    for i in range(5):
        (d / str(i)).mkdir()
    assert nlink() == 7
    os.rename(d / "0", mount.path / "0")
    assert (nlink(), mount.path.stat().st_nlink) == (6, 4)
    os.rename(mount.path / "0", d / "1")
    assert (nlink(), mount.path.stat().st_nlink) == (6, 3)
    (d / "f").write_text("x")
    libc.rename(d / "f", d / "1", libc.RENAME_EXCHANGE)
    assert nlink() == 6
    os.mkdir(mount.path / "x")
    (mount.path / "y").write_text("y")
    libc.rename(mount.path / "y", d / "2", libc.RENAME_EXCHANGE)
    assert (nlink(), mount.path.stat().st_nlink) == (5, 5)
    for i in range(50):
        os.link(d / "1", d / f"l{i}")
    assert (d / "1").stat().st_nlink == 51
    mount.remount()
    assert ((d / "1").stat().st_nlink, nlink(), mount.path.stat().st_nlink) == (51, 5, 5)


def test_inode_numbers_are_unique_in_the_volume(mount):
    os.mkdir(mount.root / "team")
    seen = set()
    for root in (mount.path, mount.root / "team"):
        for i in range(20):
            (root / f"d{i}").mkdir()
            (root / f"d{i}" / "f").write_text("x")
            seen |= {(root / f"d{i}").stat().st_ino, (root / f"d{i}" / "f").stat().st_ino}
    assert len(seen) == 80
    entries = {e.name: e.inode() for e in os.scandir(mount.path)}
    assert all((mount.path / name).stat().st_ino == ino for name, ino in entries.items())


# Unlinked but open


def test_unlinked_but_open_files(mount):
    f = mount.path / "f"
    f.write_text("text")
    with open(f, "rb+") as file:
        f.unlink()
        assert os.fstat(file.fileno()).st_nlink == 0
        assert file.read() == b"text"
        file.write(b" and more")
        file.flush()
        file.seek(0)
        assert file.read() == b"text and more"
        os.fchmod(file.fileno(), 0o600)
        os.ftruncate(file.fileno(), 2)
        assert os.fstat(file.fileno()).st_size == 2
        f.write_text("another")
        file.seek(0)
        assert file.read() == b"te"
    assert f.read_text() == "another"


def test_link_counts_of_what_was_saved_over(mount):
    """Whoever had the file open before it was saved sees that it is gone."""
    for how in ["echo b > f; rm f", "echo b > f; echo c > g; mv g f", "echo b > f; mv f k; rm k",
                "echo b > f; ln f h; rm f; rm h", "echo b > f; echo c > f; rm f", "rm f", "ln f h; echo b > f; rm f h"]:
        mount.sh("rm -f g h k; echo a > f")
        with open(mount.path / "f") as f:
            assert os.fstat(f.fileno()).st_nlink == 1, how
            mount.sh(how)
            assert os.fstat(f.fileno()).st_nlink == 0, how


def test_files_that_never_had_a_name(mount, plain):
    def nameless(root):
        fd = os.open(root, os.O_TMPFILE | os.O_RDWR, 0o600)
        os.write(fd, b"text")
        os.link(f"/proc/self/fd/{fd}", root / "named", src_dir_fd=0, follow_symlinks=True)
        os.close(fd)

    result = outcome(lambda: nameless(mount.path))
    assert result in (None, "ENOTSUP")
    if result is None:
        assert (mount.path / "named").read_text() == "text"


def test_unlinked_directories_and_special_files(mount):
    mount.sh("mkdir d; mkfifo p")
    d = os.open(mount.path / "d", os.O_RDONLY)
    p = os.open(mount.path / "p", os.O_RDWR)
    mount.sh("rmdir d; rm p")
    assert os.listdir(d) == []
    assert outcome(lambda: os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=d)) == "ENOENT"
    assert outcome(lambda: os.mkdir("x", dir_fd=d)) == "ENOENT"
    assert os.fstat(p).st_nlink == 0
    os.write(p, b"x")
    assert os.read(p, 1) == b"x"
    os.close(d)
    os.close(p)


# Special files


@pytest.mark.mount("dev")
def test_fifos_sockets_and_devices_work(mount):
    mount.sh("mkfifo p; (echo through > p) & cat p > out; wait; grep through out")
    mount.sh("mknod null c 1 3; echo x > null; cat null")
    os.chdir(mount.path)
    try:
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind("s")
            server.listen()
            client.connect("s")
            with server.accept()[0] as peer:
                client.send(b"hello")
                assert peer.recv(5) == b"hello"
    finally:
        os.chdir("/")
    mount.remount()
    kinds = {n: stat.S_IFMT((mount.path / n).lstat().st_mode) for n in ("p", "s", "null")}
    assert kinds == {"p": stat.S_IFIFO, "s": stat.S_IFSOCK, "null": stat.S_IFCHR}
    assert (mount.path / "null").stat().st_rdev == os.makedev(1, 3)


# Extended attributes


def test_extended_attributes(mount, plain):
    big = b"v" * 3000

    def named(root, name, target="file"):
        path = root / target
        os.setxattr(path, name, b"one")
        os.setxattr(path, name, b"two", os.XATTR_REPLACE)
        with pytest.raises(FileExistsError):
            os.setxattr(path, name, b"x", os.XATTR_CREATE)
        return [os.getxattr(path, name), name in os.listxattr(path)]

    def removed(root):
        os.setxattr(root / "file", "user.a", b"")
        os.removexattr(root / "file", "user.a")
        return sorted(os.listxattr(root / "file"))

    same(mount, plain, {
        **{f"{n} on {t}": lambda r, n=n, t=t: named(r, n, t) for n in ("user.a", "trusted.b", "security.c")
           for t in ("file", "full", "link")},
        "user on a fifo": lambda r: named(r, "user.a", "fifo"),
        "trusted on a fifo": lambda r: named(r, "trusted.a", "fifo"),
        "trusted on a link": lambda r: os.setxattr(r / "link", "trusted.a", b"x", follow_symlinks=False),
        "user on a link": lambda r: os.setxattr(r / "link", "user.a", b"x", follow_symlinks=False),
        "replace none": lambda r: os.setxattr(r / "file", "user.a", b"x", os.XATTR_REPLACE),
        "create": lambda r: os.setxattr(r / "file", "user.a", b"x", os.XATTR_CREATE),
        "empty value": lambda r: (os.setxattr(r / "file", "user.a", b""), os.getxattr(r / "file", "user.a"))[1],
        "big value": lambda r: (os.setxattr(r / "file", "user.a", big), os.getxattr(r / "file", "user.a"))[1],
        "too big a value": lambda r: os.setxattr(r / "file", "user.a", b"v" * 65537),
        "long name": lambda r: os.setxattr(r / "file", "user." + "n" * 250, b"x"),
        "too long a name": lambda r: os.setxattr(r / "file", "user." + "n" * 251, b"x"),
        "no namespace": lambda r: os.setxattr(r / "file", "nonsense", b"x"),
        "empty name": lambda r: os.setxattr(r / "file", "user.", b"x"),
        "removed": removed,
        "of hard links": lambda r: (os.setxattr(r / "file", "user.a", b"x"), os.getxattr(r / "hard", "user.a"))[1],
    })


def test_extended_attributes_stay(mount):
    f = mount.path / "f"
    f.write_text("one")
    os.setxattr(f, "user.a", b"\0\xff" * 1000)
    mount.sh("echo two > f; echo more >> f; mv f g")
    assert os.getxattr(mount.path / "g", "user.a") == b"\0\xff" * 1000
    mount.remount()
    assert os.getxattr(mount.path / "g", "user.a") == b"\0\xff" * 1000
    assert os.listxattr(mount.path / "g") == ["user.a"]


@pytest.mark.mount("allow_other")
def test_trusted_attributes_are_for_root(mount):
    mount.path.chmod(0o755)
    f = mount.path / "f"
    f.write_text("x")
    f.chmod(0o666)
    os.setxattr(f, "trusted.a", b"x")
    os.setxattr(f, "user.b", b"x")
    assert as_user(NOBODY, lambda: os.listxattr(f)) == ["user.b"]
    assert as_user(NOBODY, lambda: outcome(lambda: os.getxattr(f, "trusted.a"))) in ("ENODATA", "EPERM", "ENOTSUP")
    assert as_user(NOBODY, lambda: outcome(lambda: os.setxattr(f, "trusted.c", b"x"))) in ("EPERM", "ENOTSUP")


# Directories


def test_ten_thousand_entries_while_the_directory_changes(mount):
    """Whoever lists sees each name that is there all the time exactly once."""
    d = mount.path / "d"
    d.mkdir()
    for i in range(10_000):
        os.mknod(d / f"stay{i}", 0o600 | stat.S_IFREG)
    assert len(os.listdir(d)) == 10_000
    done = threading.Event()

    def change():
        rng = random.Random(1)
        here = set()
        while not done.is_set():
            name = rng.randrange(3000)
            try:
                if name not in here:
                    (d / f"come{name}").touch()
                    here.add(name)
                elif rng.random() < 0.5:
                    (d / f"come{name}").unlink()
                    here.discard(name)
                else:
                    other = rng.randrange(3000)
                    os.rename(d / f"come{name}", d / f"come{other}")
                    here.discard(name)
                    here.add(other)
            except FileNotFoundError:
                pass

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(5):
            names = os.listdir(d)
            stay = [n for n in names if n.startswith("stay")]
            assert len(stay) == len(set(stay)) == 10_000
    finally:
        done.set()
        thread.join()
    assert mount.sh("ls -fl d | grep -c stay") == "10000\n"
    mount.sh("rm -r d")


def test_removing_while_listing(mount):
    d = mount.path / "d"
    d.mkdir()
    for i in range(3000):
        os.symlink("x", d / str(i))
    for entry in os.scandir(d):
        os.unlink(entry.path)
    assert os.listdir(d) == []
    d.rmdir()


def test_telldir_and_seekdir(mount):
    d = mount.path / "d"
    d.mkdir()
    for i in range(500):
        os.symlink("x", d / str(i))
    stream = libc.Dir(d)
    seen = []
    while True:
        position = stream.tell()
        name = stream.read()
        if name is None:
            break
        seen.append((position, name))
    assert len(seen) == 502
    for index in (0, 1, 2, 100, 250, 501):
        stream.seek(seen[index][0])
        assert stream.rest() == [name for _, name in seen[index:]]
    for i in range(0, 500, 2):
        os.unlink(d / str(i))
    stream.seek(seen[100][0])
    left = set(os.listdir(os.fsencode(d)))
    assert set(stream.rest()) >= {name for _, name in seen[100:]} & left
    stream.rewind()
    assert len(stream.rest()) == 252
    stream.close()


def test_listings_know_the_kinds(mount):
    furnish(mount.path)
    kinds = {e.name: (e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False), e.is_symlink())
             for e in os.scandir(mount.path)}
    assert kinds["full"] == (True, False, False)
    assert kinds["file"] == (False, True, False)
    assert kinds["link"] == (False, False, True)
    assert kinds["fifo"] == (False, False, False)


def test_listings_during_a_save_show_what_others_have(mount):
    f = mount.path / "f"
    f.write_text("old!")
    with open(f, "w") as save:
        save.write("longer than before")
        save.flush()
        assert mount.sh("ls -l | awk 'NR > 1 { print $5, $9 }'") == "4 f\n"


# Space


def test_statvfs(mount):
    ours, backing = os.statvfs(mount.path), os.statvfs(mount.volume)
    assert (ours.f_blocks * ours.f_frsize, ours.f_frsize) == (backing.f_blocks * backing.f_frsize, backing.f_frsize)
    assert ours.f_namemax == 255
    assert 0 < ours.f_bavail * ours.f_frsize <= backing.f_blocks * backing.f_frsize


def test_fallocate_and_holes(mount, plain):
    def shape(fd):
        """Where data and holes are, in a file of a few MiB."""
        size = os.fstat(fd).st_size
        found, at = [], 0
        while at < size:
            try:
                data = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as e:
                assert e.errno == errno.ENXIO
                break
            at = os.lseek(fd, data, os.SEEK_HOLE)
            found.append((data, at))
        return found

    def sparse(root):
        fd = os.open(root / "sparse", os.O_RDWR | os.O_CREAT)
        os.pwrite(fd, b"x" * 65536, 1 << 20)
        os.ftruncate(fd, 3 << 20)
        result = shape(fd)
        os.close(fd)
        fd = os.open(root / "sparse", os.O_RDONLY)
        result += shape(fd)
        os.close(fd)
        return result + [os.stat(root / "sparse").st_blocks < 1000]

    def allocate(root, mode, offset, length):
        with open(root / "file", "rb+") as f:
            f.write(b"y" * 200_000)
            f.flush()
            libc.fallocate(f.fileno(), mode, offset, length)
            return [os.fstat(f.fileno()).st_size, os.pread(f.fileno(), 400_000, 0)]

    same(mount, plain, {
        "sparse": sparse,
        "grow": lambda r: allocate(r, 0, 100_000, 200_000),
        "keep size": lambda r: allocate(r, libc.FALLOC_KEEP_SIZE, 100_000, 200_000),
        "punch": lambda r: allocate(r, libc.FALLOC_PUNCH_HOLE | libc.FALLOC_KEEP_SIZE, 8192, 65536),
        "zero": lambda r: allocate(r, libc.FALLOC_ZERO_RANGE, 8192, 65536),
        "punch without keep": lambda r: allocate(r, libc.FALLOC_PUNCH_HOLE, 0, 1),
        "no length": lambda r: allocate(r, 0, 0, 0),
        "of a reader": lambda r: with_fd(r / "file", os.O_RDONLY, lambda fd: libc.fallocate(fd, 0, 0, 10)),
        "seek beyond": lambda r: with_fd(r / "file", os.O_RDONLY, lambda fd: os.lseek(fd, 100, os.SEEK_DATA)),
        "seek hole": lambda r: with_fd(r / "file", os.O_RDONLY, lambda fd: os.lseek(fd, 0, os.SEEK_HOLE)),
        "seek nonsense": lambda r: with_fd(r / "file", os.O_RDONLY, lambda fd: os.lseek(fd, -1, os.SEEK_SET)),
        "truncate below zero": lambda r: os.truncate(r / "file", -1),
        "truncate far": lambda r: os.truncate(r / "file", 10_000_000),
    })


def with_fd(path, flags, call):
    fd = os.open(path, flags)
    try:
        return call(fd)
    finally:
        os.close(fd)


def test_copy_file_range(mount):
    data = os.urandom(300_000)
    (mount.path / "a").write_bytes(data)
    with open(mount.path / "a", "rb") as a, open(mount.path / "b", "wb") as b:
        left = len(data)
        while left:
            copied = os.copy_file_range(a.fileno(), b.fileno(), left)
            assert copied > 0
            left -= copied
    assert (mount.path / "b").read_bytes() == data
    with open(mount.path / "a", "rb") as a, open(mount.path / "b", "r+b") as b:
        assert os.copy_file_range(a.fileno(), b.fileno(), 1000, 5000, 100) == 1000
        assert mount.sh("cmp a b && echo same") == "same\n", "a part of a save"
    assert (mount.path / "b").read_bytes() == data[:100] + data[5000:6000] + data[1100:]


def test_reads_and_writes_as_on_a_plain_directory(mount, plain):
    """Random calls on a descriptor, compared byte for byte."""
    rng = random.Random(42)
    files = [os.open(base / "f", os.O_RDWR | os.O_CREAT, 0o644) for base in (plain, mount.path)]
    for step in range(600):
        offset, length = rng.randrange(300_000), rng.randrange(1, 70_000)
        data = rng.randbytes(length)
        call = rng.choice([
            lambda fd: os.pwrite(fd, data, offset), lambda fd: os.pread(fd, length, offset),
            lambda fd: os.pread(fd, length, offset), lambda fd: os.ftruncate(fd, offset),
            lambda fd: os.fstat(fd).st_size, lambda fd: os.lseek(fd, 0, os.SEEK_END),
            lambda fd: os.pwritev(fd, [data[:100], data[100:]], offset), lambda fd: os.write(fd, data[:1000]),
            lambda fd: os.posix_fallocate(fd, offset, length), lambda fd: os.fsync(fd)])
        results = [outcome(lambda: call(fd)) for fd in files]
        assert results[0] == results[1], step
    for fd in files:
        os.close(fd)
    assert (plain / "f").read_bytes() == (mount.path / "f").read_bytes()


def test_direct_io(mount):
    mount.sh("dd if=/dev/zero bs=64k count=4 2> /dev/null | tr '\\0' x | dd of=f oflag=direct bs=64k iflag=fullblock")
    assert mount.sh("wc -c < f; dd if=f iflag=direct bs=4096 2> /dev/null | tr -d x | wc -c").split() == [str(4 << 16), "0"]
    mount.settled("f")
    assert mount.versions("f")[1] == b"x" * (4 << 16)


def test_synchronous_writes(mount):
    for flags in (os.O_SYNC, os.O_DSYNC):
        fd = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags, 0o644)
        os.write(fd, b"text")
        os.fsync(fd)
        os.fdatasync(fd)
        os.close(fd)
        assert (mount.path / "f").read_bytes() == b"text"
    d = os.open(mount.path, os.O_RDONLY)
    os.fsync(d)
    libc.syncfs(d)
    os.close(d)


CLOSES = {
    "write": 'f = open(p, "wb"); f.write(b"x" * 20000); f.close()',
    "overwrite": 'f = open("one", "wb"); f.write(b"%d" % i); f.close(); p = "one"',
    "append": 'f = open("two", "ab"); f.write(b"x" * 100); f.close(); p = "two"',
    "in place": 'f = open("two", "r+b" if i else "wb"); f.write(b"%d" % i); f.close(); p = "two"',
    "rename": 'f = open("tmp", "wb"); f.write(b"x" * 20000); f.close()',
}


@pytest.mark.parametrize("how", CLOSES)
def test_times_that_are_set_right_after_a_close_stay(mount, how):
    after = 'os.rename("tmp", p); ' if how == "rename" else ""
    q = '"tmp"' if how == "rename" else "p"
    mount.sh(f"""python3 - <<'END'
import os
wrong = 0
for i in range(150):
    p = "t%d" % i
    {CLOSES[how]}
    os.utime({q}, ns=(10**18, 10**18 + i))
    {after}wrong += os.stat(p).st_mtime_ns != 10**18 + i
assert not wrong, wrong
END""")
    mount.remount()
    path = {"write": "t7", "rename": "t7", "overwrite": "one"}.get(how, "two")
    assert (mount.path / path).stat().st_mtime_ns == 10**18 + (7 if path == "t7" else 149)


def test_rsync_keeps_the_times_of_all_files(mount, plain):
    for i in range(200):
        (plain / f"f{i}").write_bytes(b"x" * (i * 100))
        os.utime(plain / f"f{i}", ns=(10**18, 10**18 + i * 1000))
    mount.sh("rsync -a $1/ copy/; rsync -a --inplace $1/ copy2/; cp -a $1 copy3", plain)
    for copy in ("copy", "copy2", "copy3"):
        assert mount.sh("rsync -ani $1/ $2/", plain, copy) == ""


def test_no_time_changes_after_the_close(mount):
    """What a program finds by fstat before, or by stat after it closed the file, is what stays: git's index relies on it."""
    mount.sh("echo old > f; echo old > x.log; cat f x.log")
    mount.settled("f")
    for i in range(30):
        for path, flags in (("f", os.O_TRUNC), ("f", 0), ("x.log", os.O_APPEND), (f"new{i}", os.O_CREAT)):
            fd = os.open(mount.path / path, os.O_RDWR | flags, 0o644)
            os.write(fd, b"new %d\n" % i)
            before = os.fstat(fd)
            os.close(fd)
            after = os.stat(mount.path / path)
            mount.settled(path)
            later = os.stat(mount.path / path)
            for name in ("st_mtime_ns", "st_ctime_ns", "st_size"):
                assert getattr(before, name) == getattr(after, name) == getattr(later, name), (path, name)
    assert os.stat(mount.path / "f").st_ctime_ns > os.stat(mount.path / "new0").st_ctime_ns


def test_the_ctime_tells_of_a_content_that_comes_late(mount):
    """Who looks for what changed since a time must find what was written before it, and shown after it."""
    mount.sh("echo old > f")
    mount.settled("f")
    fd = os.open(mount.path / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"new")
    time.sleep(1.2)
    mount.sh("touch mark")
    os.close(fd)
    mount.settled("f")
    assert os.stat(mount.path / "f").st_ctime_ns > os.stat(mount.path / "mark").st_ctime_ns
