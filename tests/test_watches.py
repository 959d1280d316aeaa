"""Watches (inotify): of a directory as on any filesystem; of a file, what the kernel lets be known."""
import os
import subprocess

import pytest

from lib import libc
from lib.mount import ROOT

ALL = 0xFFF

# The watched one is f, or x.log, which is live, where a command names that.
SAVES = {
    "written anew": "echo new > f",
    "with the same content": "echo old > f",
    "copied over": "cp g f",
    "cut": "truncate -s 2 f",
    "emptied": ": > f", "edited": "printf X | dd of=f conv=notrunc status=none", "touched": "touch f",
    "touched by a descriptor": "python3 -c 'import os; os.utime(os.open(\"f\", os.O_RDONLY))'",
    "by python": "python3 -c 'open(\"f\", \"w\").write(\"new\")'", "locked": "flock f -c 'echo new > f'",
    "by a child": "(echo one; (echo two); echo three) > f", "never written": "exec 3>> g; exec 3<> f",
    "renamed over": "mv g f", "removed and made": "rm f; echo new > f", "moved away": "mv f h; echo new > f",
    "moved to another directory": "mv f sub/f",
    "exchanged": "python3 -c 'from lib import libc; libc.exchange(\"f\", \"g\")'",
    "read": "cat f",
    "chmod": "chmod 600 f",
    "chown": "chown 5 f",
    "xattr": "setfattr -n user.x -v 1 f",
    "linked": "ln f h; rm h",
    "appended to": "echo more >> f",
    "log": "echo more >> x.log",
    "log written anew": "echo more > x.log",
    "log cut": "truncate -s 2 x.log",
    "log edited": "printf X | dd of=x.log conv=notrunc status=none", "log renamed over": "mv g x.log",
    "something made": "echo 1 > h; mkdir d; mkfifo p; ln -s f l; ln f k; rm h p l k; rmdir d",
    "looked at": "ls -l; stat f; cat g",
    "nothing": "test -e missing; rm -f missing; mkdir sub 2> /dev/null || cat missing 2> /dev/null || true",
}
# What a watch of a file does not see: the saver has a file of its own (an inode), until it takes the place of the watched one.
UNSEEN = {"written anew", "with the same content", "copied over", "cut", "emptied", "edited", "touched", "by python", "locked",
          "by a child", "never written"}


def seen(mount, base, what, of_file):
    """The events of SAVES[what] in base, each as its names and the name that it is about."""
    where = base / what.replace(" ", "")
    (where / "sub").mkdir(parents=True)
    for name in ("f", "g", "x.log"):
        (where / name).write_text("newer\n" if name == "g" else "old\n")
        if base is mount.path:
            mount.settled(f"{where.name}/{name}")
    watch = libc.Watch(where / ("x.log" if "log" in what else "f") if of_file else where, ALL)
    mount.sh(f"export PYTHONPATH=$1; {SAVES[what]}", ROOT / "tests", cwd=where)
    events = [([event for bit, event in libc.EVENTS.items() if mask & bit], os.fsdecode(name))
              for mask, name in watch.pending()]
    watch.close()
    return events


def test_a_directory_watch_sees_what_it_sees_on_a_plain_directory(mount, plain):
    different = {what: (seen(mount, plain, what, False), seen(mount, mount.path, what, False)) for what in SAVES}
    assert {what: events for what, events in different.items() if events[0] != events[1]} == {}
    assert all(events[0] for what, events in different.items() if what != "nothing"), "each says something"


def test_a_file_watch_sees_all_but_saves_by_the_files_own_name(mount, plain):
    """These happen to a file of the saver's own (an inode), that takes the watched one's place; which goes without a word."""
    different = {what: (seen(mount, plain, what, True), seen(mount, mount.path, what, True)) for what in SAVES}
    assert {what for what, events in different.items() if events[0] != events[1]} == UNSEEN
    for what in UNSEEN - {"locked"}:
        assert different[what][1] == []


@pytest.mark.parametrize("save", ["echo $1 > f", "echo $1 > g; mv g f", "echo $1 | dd of=f status=none", "truncate -s $1 f"])
def test_who_is_told_of_a_save_reads_it(mount, save):
    """At once, though it is published after the close of which the watch tells."""
    (mount.path / "f").write_text("0")
    mount.settled("f")
    watch = libc.Watch(mount.path, libc.IN_CLOSE_WRITE | libc.IN_MOVED_TO)
    saver = mount.popen(f"once() {{ {save}; }}; for i in $(seq 100); do once $i; read go; done", stdin=subprocess.PIPE)
    for i in range(1, 101):
        while b"f" not in {name for _, name in watch.events()}:
            pass
        content = (mount.path / "f").read_bytes()
        assert (len(content) if "truncate" in save else int(content)) == i
        saver.stdin.write("\n")
        saver.stdin.flush()
    saver.communicate(timeout=20)
    watch.close()
