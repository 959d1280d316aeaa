"""What one process changes, the next look of another one shows, whatever the kernel and the other one have of it."""
import io
import json
import mmap
import os
import subprocess
import sys

from lib import libc
from lib.calls import opened
from lib.procs import wait_until

OBSERVE = r"""
import json, os, stat, sys

def attributes(s, all=True):
    # A reader of a settled file keeps its version, with its size and times.
    found = {"mode": oct(s.st_mode), "uid": s.st_uid, "gid": s.st_gid, "links": s.st_nlink}
    if stat.S_ISDIR(s.st_mode):
        found["links"] = s.st_nlink if s.st_nlink == 0 else s.st_nlink - 1
    elif all:
        found["size"] = s.st_size
    if all:
        found["times"] = [s.st_mtime_ns, s.st_ctime_ns]
    return found

def tried(call):
    try:
        return call()
    except OSError as e:
        return e.strerror

def content(path):
    if stat.S_ISFIFO(os.stat(path).st_mode):
        return None
    with open(path, "rb") as f:
        return f.read().decode()

held = {}

def hold(root):
    for fd in held.values():
        os.close(fd)
    held.clear()
    for name in ("d", "d/f", "d/x.log", "d/h", "d/s"):
        held[name] = os.open(f"{root}/{name}", os.O_RDONLY)

def xattrs(path):
    return sorted((n, os.getxattr(path, n, follow_symlinks=False).decode())
                  for n in os.listxattr(path, follow_symlinks=False))

def look(root):
    seen = {}
    for name in sys.argv[1].split():
        path = f"{root}/{name}"
        seen[name] = {"stat": tried(lambda: attributes(os.lstat(path))), "open": tried(lambda: content(path)),
                      "followed": tried(lambda: oct(os.stat(path).st_mode)), "readlink": tried(lambda: os.readlink(path)),
                      "listing": tried(lambda: sorted((e.name, e.is_dir(), e.is_symlink()) for e in os.scandir(path))),
                      "xattrs": tried(lambda: xattrs(path)), "access": os.access(path, os.X_OK)}
    for name, fd in held.items():
        live, is_dir = name == "d/x.log", stat.S_ISDIR(os.fstat(fd).st_mode)
        seen[name + " held"] = {"stat": attributes(os.fstat(fd), live or is_dir)}
        if is_dir:
            seen[name + " held"]["listing"] = tried(lambda: sorted(os.listdir(fd)))
            seen[name + " held"]["below"] = tried(lambda: oct(os.stat("f", dir_fd=fd).st_mode))
        elif live:
            seen[name + " held"]["content"] = os.pread(fd, 1000, 0).decode()
    return seen

def size(root):
    return os.stat(f"{root}/d/f").st_size

for line in sys.stdin:
    what, root = line.split()
    print(json.dumps({"hold": hold, "look": look, "size": size}[what](root)), flush=True)
"""

NAMES = "d d/f d/g d/h d/l d/s d/n d/m d/x.log d/s/n e e/f e/n"


def furnish(root):
    """d/h is a link to d/g; d/x.log is live."""
    for name in ("d", "d/s", "e"):
        (root / name).mkdir(parents=True)
    for name in ("d/f", "d/g", "d/x.log", "e/f"):
        (root / name).write_text(f"text of {name}")
    os.link(root / "d/g", root / "d/h")
    os.symlink("f", root / "d/l")
    os.setxattr(root / "d/f", "user.a", b"b")
    for number, name in enumerate(("d/f", "d/g", "d/l", "d/x.log", "e/f", "d", "d/s", "e")):
        os.utime(root / name, (0, number), follow_symlinks=False)


def mapped(path):
    def change(fd):
        with mmap.mmap(fd, 0) as mapping:
            mapping[0:3] = b"MAP"

    opened(path, os.O_RDWR, change)


def sparing(path):
    """A write through a file that stays open."""
    file = open(path, "ab", buffering=0)
    file.write(b" more")
    return file


CHANGES = {
    "save": lambda r: (r / "d/f").write_text("new"), "save of the other name": lambda r: (r / "d/h").write_text("new"),
    "save of one of two": lambda r: (r / "d/g").write_text("new"),
    "edit": lambda r: opened(r / "d/f", os.O_RDWR, lambda fd: os.write(fd, b"NEW")),
    "append": lambda r: opened(r / "d/f", os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b" more")),
    "append to one of two": lambda r: opened(r / "d/h", os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b" more")),
    "append and go on": lambda r: sparing(r / "d/f"), "log and go on": lambda r: sparing(r / "d/x.log"),
    "log": lambda r: opened(r / "d/x.log", os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b" more")),
    "log written anew": lambda r: (r / "d/x.log").write_text("new"),
    "log edited": lambda r: opened(r / "d/x.log", os.O_WRONLY, lambda fd: os.write(fd, b"NEW")),
    "log cut": lambda r: os.truncate(r / "d/x.log", 2),
    "log mapped": lambda r: mapped(r / "d/x.log"),
    "mapped": lambda r: mapped(r / "d/f"),
    "truncate": lambda r: os.truncate(r / "d/f", 2),
    "truncate of one of two": lambda r: os.truncate(r / "d/h", 2),
    "longer": lambda r: os.truncate(r / "d/f", 20),
    "emptied": lambda r: opened(r / "d/f", os.O_WRONLY | os.O_TRUNC, lambda fd: None),
    "save and chmod": lambda r: opened(r / "d/f", os.O_WRONLY | os.O_TRUNC, lambda fd: os.write(fd, b"new") and os.fchmod(fd, 0o755)),
    "chmod": lambda r: os.chmod(r / "d/f", 0o755),
    "chmod of one of two": lambda r: os.chmod(r / "d/g", 0o755),
    "chmod of a directory": lambda r: os.chmod(r / "d", 0o700),
    "chmod of a log": lambda r: os.chmod(r / "d/x.log", 0o711),
    "save, then chmod": lambda r: ((r / "d/f").write_text("new"), os.chmod(r / "d/f", 0o755)),
    "save, then chown": lambda r: ((r / "d/f").write_text("new"), os.chown(r / "d/f", 5, 6)),
    "save, then utime": lambda r: ((r / "d/f").write_text("new"), os.utime(r / "d/f", (1, 2))),
    "save, then setxattr": lambda r: ((r / "d/f").write_text("new"), os.setxattr(r / "d/f", "user.x", b"y")),
    "save, then removexattr": lambda r: ((r / "d/f").write_text("new"), os.removexattr(r / "d/f", "user.a")),
    "save, then exchange": lambda r: ((r / "d/f").write_text("new"), libc.exchange(r / "d/f", r / "d/g")),
    "save, then chmod twice": lambda r: ((r / "d/f").write_text("new"), os.chmod(r / "d/f", 0o600),
                                         (r / "d/f").write_text("newer"), os.chmod(r / "d/f", 0o640)),
    "save, then link": lambda r: ((r / "d/f").write_text("new"), os.link(r / "d/f", r / "d/n")),
    "save, then unlink": lambda r: ((r / "d/f").write_text("new"), os.unlink(r / "d/f")),
    "save, then rename": lambda r: ((r / "d/f").write_text("new"), os.rename(r / "d/f", r / "e/n")),
    "save, then rename over": lambda r: ((r / "d/f").write_text("new"), os.rename(r / "e/f", r / "d/f")),
    "save of one of two, then unlink": lambda r: ((r / "d/h").write_text("new"), os.unlink(r / "d/g")),
    "chown": lambda r: os.chown(r / "d/f", 5, 6),
    "chown of a link": lambda r: os.lchown(r / "d/l", 5, 6),
    "utime": lambda r: os.utime(r / "d/f", (1, 2)),
    "utime of a log": lambda r: os.utime(r / "d/x.log", (1, 2)),
    "setxattr": lambda r: os.setxattr(r / "d/f", "user.x", b"y"),
    "setxattr of another value": lambda r: os.setxattr(r / "d/f", "user.a", b"y"),
    "removexattr": lambda r: os.removexattr(r / "d/f", "user.a"),
    "setxattr of one of two": lambda r: os.setxattr(r / "d/g", "user.x", b"y"),
    "setxattr of a directory": lambda r: os.setxattr(r / "d", "user.x", b"y"),
    "create": lambda r: (r / "d/n").write_text("new"),
    "create and go on": lambda r: open(r / "d/n", "w", encoding="utf-8"),
    "mkdir": lambda r: os.mkdir(r / "d/n"),
    "create below": lambda r: (r / "d/s/n").write_text("new"),
    "mkdir below": lambda r: os.mkdir(r / "d/s/n"),
    "symlink": lambda r: os.symlink("g", r / "d/n"),
    "mkfifo": lambda r: os.mkfifo(r / "e/n"), "link": lambda r: os.link(r / "d/f", r / "d/n"),
    "link elsewhere": lambda r: os.link(r / "d/f", r / "e/n"), "another link": lambda r: os.link(r / "d/h", r / "d/n"),
    "symlink replaced": lambda r: (os.symlink("g", r / "d/n"), os.rename(r / "d/n", r / "d/l")),
    "symlink made anew": lambda r: (os.unlink(r / "d/l"), os.symlink("s", r / "d/l")),
    "unlink": lambda r: os.unlink(r / "d/f"),
    "unlink of one of two": lambda r: os.unlink(r / "d/g"),
    "rmdir": lambda r: os.rmdir(r / "d/s"),
    "unlink of a log": lambda r: os.unlink(r / "d/x.log"),
    "made anew": lambda r: (os.unlink(r / "d/f"), (r / "d/f").write_text("new")),
    "made another kind": lambda r: (os.unlink(r / "d/f"), os.mkdir(r / "d/f")),
    "directory made anew": lambda r: (os.rmdir(r / "d/s"), os.mkdir(r / "d/s")),
    "rename": lambda r: os.rename(r / "d/f", r / "d/n"),
    "rename over": lambda r: os.rename(r / "d/f", r / "e/f"),
    "rename of one of two": lambda r: os.rename(r / "d/g", r / "d/n"),
    "rename over one of two": lambda r: os.rename(r / "d/f", r / "d/g"),
    "rename of one of two over": lambda r: os.rename(r / "d/g", r / "d/f"),
    "rename over a log": lambda r: os.rename(r / "d/f", r / "d/x.log"),
    "rename of a log": lambda r: os.rename(r / "d/x.log", r / "d/n"),
    "rename of a directory": lambda r: os.rename(r / "d/s", r / "e/n"),
    "rename of the directory": lambda r: os.rename(r / "d", r / "e/n"),
    "directory over another": lambda r: os.rename(r / "d/s", r / "d/n"),
    "exchange": lambda r: libc.exchange(r / "d/f", r / "d/g"),
    "exchange of directories": lambda r: libc.exchange(r / "d", r / "e"),
    "exchange of kinds": lambda r: libc.exchange(r / "d/f", r / "d/s"),
    "save by rename": lambda r: ((r / "d/n").write_text("new"), os.rename(r / "d/n", r / "d/f")),
    "save by link": lambda r: (os.rename(r / "d/f", r / "d/n"), (r / "d/f").write_text("new"), os.unlink(r / "d/n")),
    "fallocate": lambda r: opened(r / "d/f", os.O_WRONLY, lambda fd: os.posix_fallocate(fd, 0, 100)),
    "copied": lambda r: opened(r / "e/f", os.O_RDONLY,
        lambda a: opened(r / "d/f", os.O_WRONLY | os.O_TRUNC, lambda b: os.copy_file_range(a, b, 100))),
    "log copied": lambda r: opened(r / "e/f", os.O_RDONLY,
        lambda a: opened(r / "d/x.log", os.O_WRONLY, lambda b: os.copy_file_range(a, b, 100))),
    "nothing": lambda r: None,
}


def by_descriptor(path, change, old):
    """change() of the path that /proc has of a descriptor; old: others save the file between. Each changes the size."""

    def changes(fd):
        if old:
            look = 'echo between > "$1"; for i in 1 2 3; do cat "$1"; stat "$1"; done'
            subprocess.run(["/bin/sh", "-c", look, "sh", path], stdout=subprocess.DEVNULL, check=True)
        change(f"/proc/self/fd/{fd}")

    opened(path, os.O_RDONLY, changes)


for old in (False, True):
    for what, change in {
            "save": lambda p: opened(p, os.O_WRONLY | os.O_TRUNC, lambda fd: os.write(fd, b"new")),
            "truncate": lambda p: os.truncate(p, 2),
            "edit": lambda p: opened(p, os.O_RDWR, lambda fd: os.write(fd, b"NEW" * 7)),
            "append": lambda p: opened(p, os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b" more"))}.items():
        CHANGES[f"{what} by {'an old' if old else 'a'} descriptor"] = (
            lambda r, change=change, old=old: by_descriptor(r / "d/f", change, old))


class Observer:
    def __init__(self, mount):
        self.process = mount.popen([sys.executable, "-c", OBSERVE, NAMES], cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def asked(self, what, root):
        self.process.stdin.write(f"{what} {root}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def told_apart(before, after):
    """What was seen after, with which ones of the times have changed in place of the times."""
    for name, seen in after.items():
        now, then = seen["stat"], before[name]["stat"]
        if isinstance(now, dict) and "times" in now:
            now["times"] = [a != b for a, b in zip(now["times"], then["times"])] if "times" in then else [True, True]
    return after


def differs(plain, ours):
    """Whether ours is not what is seen on a plain directory; whose coarse clock may give two objects the same ctime."""
    if isinstance(plain.get("stat"), dict) and isinstance(ours.get("stat"), dict) and "times" in plain["stat"]:
        plain["stat"]["times"][1] |= ours["stat"].get("times", [None, False])[1]
    return plain != ours


def compare(observer, what, roots):
    """What the observer sees of a change, on a plain directory and on the mount, where that is not the same."""
    seen = []
    for root in roots:
        furnish(root)
        observer.asked("hold", root)
        before = observer.asked("look", root)
        going_on = CHANGES[what](root)
        if "descriptor" in what and root is roots[1]:
            # Without a walk of the path the kernel knows the name for a moment more; an open of it would end that at once.
            wait_until(lambda: observer.asked("size", root) == seen[0]["d/f"]["stat"]["size"], what)
        seen.append(told_apart(before, observer.asked("look", root)))
        if isinstance(going_on, io.IOBase):
            going_on.close()
    return {(what, k): f"{seen[1][k]}, not {v}" for k, v in seen[0].items() if differs(v, seen[1][k])}


def test_the_next_look_of_another_process_shows_every_change(mount, plain):
    observer, different = Observer(mount), {}
    for what in CHANGES:
        different |= compare(observer, what, [base / what.replace(" ", "_") for base in (plain, mount.path)])
    assert not different, "\n".join(f"{k}: {v}" for k, v in different.items())


def test_a_name_right_after_the_file_got_another_one(mount):
    """The kernel knew the first name for long. It is told of the other one by a thread, which may be late: the machine is kept busy."""
    hogs = [mount.popen("while :; do :; done") for _ in range(4)]
    stale = []
    for i in range(300):
        first, second = mount.path / f"first{i}", mount.path / f"second{i}"
        first.write_text("one")
        for _ in range(3):
            first.stat()
        os.link(first, second)
        with open(second, "r+") as f:
            f.write("longer text")
        if first.stat().st_size != 11 or first.read_text() != "longer text":
            stale.append(i)
    for hog in hogs:
        hog.kill()
        hog.wait()
    assert not stale


def test_a_save_of_what_was_renamed_over_shows_by_the_name(mount):
    """The kernel knows the name of what took the file's place, which was not being saved."""
    f = mount.path / "f"
    f.write_text("old")
    mount.settled("f")
    fd = os.open(f, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"what was saved")
    mount.sh("echo g > g; mv g f; cat f; stat f")
    mount.settled("g")
    assert f.stat().st_size == 2
    os.close(fd)
    wait_until(lambda: f.stat().st_size == 14, "the save to be shown")
    assert f.read_text() == "what was saved"
