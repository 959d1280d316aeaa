"""Which calls change which times of which objects; those that fail change none."""
import fcntl
import os
import stat

from lib import libc
from lib.calls import opened, outcome

NAMES = ["d", "d/f", "d/g", "d/h", "d/l", "d/s", "d/p", "d/full", "d/full/x", "e", "e/f", "e/s", "d/x.log"]


def furnish(root):
    """d/h is a link to d/f."""
    for name in ("d", "d/s", "d/full", "e", "e/s"):
        (root / name).mkdir(parents=True)
    for name in ("d/f", "d/g", "d/full/x", "e/f", "d/x.log"):
        (root / name).write_text("some text")
    os.link(root / "d/f", root / "d/h")
    os.symlink("f", root / "d/l")
    os.mkfifo(root / "d/p")
    os.setxattr(root / "d/g", "user.a", b"b")
    for name in NAMES:
        os.utime(root / name, ns=(10**18 + 5, 10**18 + 6), follow_symlinks=False)


def times(root):
    return {name: os.lstat(root / name) for name in NAMES if os.path.lexists(root / name)}


def by_fd(name, flags, call):
    return lambda r: opened(r / name, flags, call)


W, RW, CREAT, TRUNC, APPEND = os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_APPEND
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


def utimensat(path, atime, mtime):
    """Each is a time of 0 s and so many nanoseconds, or one of UTIME_*."""
    libc.utimensat(path, (0, atime), (0, mtime))


SUCCEED = {
    "link": lambda r: os.link(r / "d/f", r / "e/new"), "unlink": lambda r: os.unlink(r / "d/g"),
    "unlink of one of two": lambda r: os.unlink(r / "d/h"), "mkdir": lambda r: os.mkdir(r / "d/new"),
    "rmdir": lambda r: os.rmdir(r / "d/s"), "symlink": lambda r: os.symlink("x", r / "d/new"),
    "mkfifo": lambda r: os.mkfifo(r / "d/new"), "mknod": lambda r: os.mknod(r / "d/new", stat.S_IFREG | 0o600),
    "mkdir in a directory": lambda r: os.mkdir(r / "d/s/new"),
    "rename": lambda r: os.rename(r / "d/f", r / "d/new"), "rename away": lambda r: os.rename(r / "d/f", r / "e/new"),
    "rename over": lambda r: os.rename(r / "d/f", r / "d/g"),
    "rename over elsewhere": lambda r: os.rename(r / "d/f", r / "e/f"),
    "rename of one of two over": lambda r: os.rename(r / "d/g", r / "d/h"),
    "rename to itself": lambda r: os.rename(r / "d/f", r / "d/f"),
    "rename to its link": lambda r: os.rename(r / "d/f", r / "d/h"),
    "rename of a directory": lambda r: os.rename(r / "d/s", r / "e/new"),
    "rename of a link": lambda r: os.rename(r / "d/l", r / "e/l"),
    "rename of a directory over": lambda r: os.rename(r / "d/s", r / "e/s"),
    "exchange": lambda r: libc.exchange(r / "d/f", r / "d/g"),
    "exchange elsewhere": lambda r: libc.exchange(r / "d/f", r / "e/f"),
    "exchange of kinds": lambda r: libc.exchange(r / "d/full", r / "e/f"),
    "open": lambda r: opened(r / "d/g", RW), "open to create": lambda r: opened(r / "d/new", W | CREAT),
    "open to create what is there": lambda r: opened(r / "d/g", W | CREAT),
    "open to append": lambda r: opened(r / "d/g", W | APPEND),
    "open to truncate": lambda r: opened(r / "d/g", W | TRUNC),
    "open to create or truncate": lambda r: opened(r / "d/g", W | CREAT | TRUNC),
    "truncate": lambda r: os.truncate(r / "d/g", 3), "truncate to more": lambda r: os.truncate(r / "d/g", 30),
    "truncate to 0": lambda r: os.truncate(r / "d/g", 0), "truncate to the same": lambda r: os.truncate(r / "d/g", 9),
    "ftruncate": by_fd("d/g", RW, lambda fd: os.ftruncate(fd, 3)),
    "ftruncate to the same": by_fd("d/g", RW, lambda fd: os.ftruncate(fd, 9)),
    "write": by_fd("d/g", W, lambda fd: os.write(fd, b"new")),
    "write of nothing": by_fd("d/g", W, lambda fd: os.write(fd, b"")),
    "write of the same": by_fd("d/g", W, lambda fd: os.write(fd, b"some text")),
    "append": by_fd("d/g", W | APPEND, lambda fd: os.write(fd, b"new")),
    "write of one of two": by_fd("d/f", W, lambda fd: os.write(fd, b"new")),
    "fallocate": by_fd("d/g", W, lambda fd: libc.fallocate(fd, 0, 0, 10_000)),
    "fallocate without size": by_fd("d/g", W, lambda fd: libc.fallocate(fd, libc.FALLOC_KEEP_SIZE, 0, 10_000)),
    "punch": by_fd("d/g", W, lambda fd: libc.fallocate(fd, libc.FALLOC_KEEP_SIZE | libc.FALLOC_PUNCH_HOLE, 0, 5)),
    "chmod": lambda r: os.chmod(r / "d/g", 0o600), "chmod to the same": lambda r: os.chmod(r / "d/g", 0o644),
    "chmod of a directory": lambda r: os.chmod(r / "d", 0o700),
    "fchmod": by_fd("d/g", os.O_RDONLY, lambda fd: os.fchmod(fd, 0o600)),
    "chown": lambda r: os.chown(r / "d/g", 5, 6), "chown to the same": lambda r: os.chown(r / "d/g", 0, 0),
    "chown of nothing": lambda r: os.chown(r / "d/g", -1, -1), "lchown": lambda r: os.lchown(r / "d/l", 5, 6),
    "chown of nothing of a directory": lambda r: os.chown(r / "d/s", -1, -1),
    "utime": lambda r: os.utime(r / "d/g", (1, 2)), "utime now": lambda r: os.utime(r / "d/g"),
    "utime of a link": lambda r: os.utime(r / "d/l", (1, 2), follow_symlinks=False),
    "utime of a directory": lambda r: os.utime(r / "d"),
    "utime of one": lambda r: utimensat(r / "d/g", 7, UTIME_OMIT),
    "utime of the other": lambda r: utimensat(r / "d/g", UTIME_OMIT, 7),
    "utime now of one": lambda r: utimensat(r / "d/g", UTIME_NOW, UTIME_OMIT),
    "utime now of the other": lambda r: utimensat(r / "d/g", UTIME_OMIT, UTIME_NOW),
    "utime of none": lambda r: utimensat(r / "d/g", UTIME_OMIT, UTIME_OMIT),
    "utime mixed": lambda r: utimensat(r / "d/g", UTIME_NOW, 7),
    "futimens": by_fd("d/g", W, lambda fd: os.utime(fd, (1, 2))),
    "write and futimens": by_fd("d/g", W, lambda fd: os.write(fd, b"new") and os.utime(fd, (1, 2))),
    "futimens and write": by_fd("d/g", W, lambda fd: os.utime(fd, (1, 2)) or os.write(fd, b"new")),
    "setxattr": lambda r: os.setxattr(r / "d/g", "user.x", b"y"),
    "removexattr": lambda r: os.removexattr(r / "d/g", "user.a"), "getxattr": lambda r: os.getxattr(r / "d/g", "user.a"),
    "setxattr of a directory": lambda r: os.setxattr(r / "d", "user.x", b"y"),
    "listxattr": lambda r: os.listxattr(r / "d/g"),
    "stat": lambda r: os.stat(r / "d/g"),
    "access": lambda r: os.access(r / "d/g", os.W_OK),
    "fsync": by_fd("d/g", W, os.fsync),
    "flock": by_fd("d/g", RW, lambda fd: fcntl.flock(fd, fcntl.LOCK_EX)),
    "lockf": by_fd("d/g", RW, lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX)),
    "chdir": lambda r: os.chdir(r / "d") or os.chdir("/"),
    "log append": by_fd("d/x.log", W | APPEND, lambda fd: os.write(fd, b"new")),
    "log truncate": lambda r: os.truncate(r / "d/x.log", 3),
    "log truncate to the same": lambda r: os.truncate(r / "d/x.log", 9), "log open": lambda r: opened(r / "d/x.log", RW),
    "log open to truncate": lambda r: opened(r / "d/x.log", W | TRUNC),
    "log write of nothing": by_fd("d/x.log", W, lambda fd: os.write(fd, b"")),
    "log ftruncate to the same": by_fd("d/x.log", W, lambda fd: os.ftruncate(fd, 9)),
    "log write": by_fd("d/x.log", W, lambda fd: os.write(fd, b"new")), "log chmod": lambda r: os.chmod(r / "d/x.log", 0o600),
    "log fallocate": by_fd("d/x.log", W, lambda fd: libc.fallocate(fd, libc.FALLOC_KEEP_SIZE, 0, 10_000)),
}

FAIL = {
    "link to what is there": lambda r: os.link(r / "d/f", r / "d/g"),
    "link of a directory": lambda r: os.link(r / "d/s", r / "d/new"),
    "link of nothing": lambda r: os.link(r / "d/new", r / "d/new2"), "unlink of nothing": lambda r: os.unlink(r / "d/new"),
    "unlink of a directory": lambda r: os.unlink(r / "d/s"), "rmdir of a file": lambda r: os.rmdir(r / "d/f"),
    "rmdir of a full one": lambda r: os.rmdir(r / "d/full"), "rmdir of nothing": lambda r: os.rmdir(r / "d/new"),
    "mkdir of what is there": lambda r: os.mkdir(r / "d/s"), "symlink over": lambda r: os.symlink("x", r / "d/f"),
    "mkfifo over": lambda r: os.mkfifo(r / "d/f"), "mknod over": lambda r: os.mknod(r / "d/l", stat.S_IFREG | 0o600),
    "rename of nothing": lambda r: os.rename(r / "d/new", r / "d/g"),
    "rename over a full one": lambda r: os.rename(r / "d/s", r / "d/full"),
    "rename of a file over a directory": lambda r: os.rename(r / "d/f", r / "d/s"),
    "rename of a directory over a file": lambda r: os.rename(r / "d/s", r / "d/f"),
    "rename into itself": lambda r: os.rename(r / "d", r / "d/s/new"),
    "rename without replacing": lambda r: libc.rename(r / "d/f", r / "d/g", libc.RENAME_NOREPLACE),
    "exchange with nothing": lambda r: libc.exchange(r / "d/f", r / "d/new"),
    "exclusive": lambda r: opened(r / "d/g", W | CREAT | os.O_EXCL),
    "a directory for writing": lambda r: opened(r / "d/s", W), "create a directory": lambda r: opened(r / "d/s", W | CREAT),
    "truncate of a directory": lambda r: os.truncate(r / "d/s", 1), "truncate below 0": lambda r: os.truncate(r / "d/g", -1),
    "ftruncate of a reader": by_fd("d/g", os.O_RDONLY, lambda fd: os.ftruncate(fd, 1)),
    "write of a reader": by_fd("d/g", os.O_RDONLY, lambda fd: os.write(fd, b"x")),
    "write too far": by_fd("d/g", W, lambda fd: os.pwrite(fd, b"x", 2**63 - 1)),
    "removexattr of none": lambda r: os.removexattr(r / "d/g", "user.none"),
    "setxattr to create": lambda r: os.setxattr(r / "d/g", "user.a", b"x", os.XATTR_CREATE),
    "setxattr to replace": lambda r: os.setxattr(r / "d/g", "user.none", b"x", os.XATTR_REPLACE),
    "a name too long": lambda r: os.mkdir(r / "d" / ("n" * 256)), "below a file": lambda r: os.mkdir(r / "d/f/x"),
    "fallocate of nothing": by_fd("d/g", W, lambda fd: libc.fallocate(fd, 0, 0, 0)),
    "fallocate too far": by_fd("d/g", W, lambda fd: libc.fallocate(fd, 0, 2**62, 2**62)),
    "readlink of a file": lambda r: os.readlink(r / "d/g"),
}


def changed(mount, base, what, call):
    """Which times of what was there, and is there afterwards, under any name, are others than before."""
    root = base / what.replace(" ", "_")
    root.mkdir()
    furnish(root)
    if base is mount.path:
        for name in NAMES:
            mount.settled(f"{root.name}/{name}")
    before = times(root)
    result = outcome(lambda: call(root))
    found = set()
    for name in NAMES + ["d/new", "e/new", "e/l"]:
        if not os.path.lexists(root / name):
            continue
        if base is mount.path:
            mount.settled(f"{root.name}/{name}")
        after = os.lstat(root / name)
        old = before.get(name)
        # By what it is, as a name may be another object's by now.
        same = old and old.st_mode == after.st_mode
        for field in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns"):
            if not old or getattr(old, field) != getattr(after, field):
                value = getattr(after, field)
                kind = "now" if value > 10**18 + 1000 else value
                found.add((name, field[3:8], kind if same else "now" if kind == "now" else "kept"))
    return result, sorted(found, key=str)


def differences(mount, plain, calls):
    seen = {what: (changed(mount, plain, what, call), changed(mount, mount.path, what, call)) for what, call in calls.items()}
    return {what: f"{ours}, not {theirs}" for what, (theirs, ours) in seen.items() if theirs != ours}, seen


def test_what_changes_times(mount, plain):
    different, _ = differences(mount, plain, SUCCEED)
    assert not different, "\n".join(f"{k}: {v}" for k, v in different.items())


def test_what_fails_changes_none(mount, plain):
    different, seen = differences(mount, plain, FAIL)
    assert not different, "\n".join(f"{k}: {v}" for k, v in different.items())
    assert {what: ours for what, (_, ours) in seen.items() if ours[1]} == {}


def test_reading_changes_no_times(mount):
    """Access times are those that were set."""
    furnish(mount.path)
    for name in NAMES:
        mount.settled(name)
    before = {name: s[7:] for name, s in times(mount.path).items()}
    mount.sh("cat d/f d/x.log e/f; ls -laR; readlink d/l; ls d/f@@; cat d/f@@/1; grep -r text .")
    assert {name: s[7:] for name, s in times(mount.path).items()} == before
