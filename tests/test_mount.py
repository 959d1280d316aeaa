"""Volumes and mounts: making, refusing, ending, coming back; trees and who may enter them."""
import contextlib
import errno
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
from pathlib import Path

import pytest

from lib.mount import BIN, mounted
from lib.procs import NOBODY, as_user, ends, wait_until

FOREIGNER = 5  # games


def mount_command(*args, user=None, **kwargs):
    """`intactfs mount …` that comes to an end; its CompletedProcess."""
    identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    return subprocess.run([BIN, "mount", *args], capture_output=True, text=True, timeout=60, cwd="/",
                          stdin=subprocess.DEVNULL, **identity, **kwargs)


def refused(m, *words, volume=None, options=(), user=None):
    """The mount is refused with 1, says words, and nothing is mounted."""
    for flags in ([], ["-f"]):
        done = mount_command(*flags, *options, volume or m.volume, m.root, user=user)
        assert done.returncode == 1, done
        assert not mounted(m.root)
        for word in words:
            assert re.search(word, done.stderr), f"no '{word}' in: {done.stderr}"
    return done.stderr


def fails(codes, call, *args, **kwargs):
    codes = codes if isinstance(codes, tuple) else (codes,)
    with pytest.raises(OSError) as e:
        call(*args, **kwargs)
    assert e.value.errno in codes, e.value


@pytest.fixture
def idle(mounts):
    """A Mount that is not mounted."""
    return mounts(start=False)


# Making volumes


def test_a_missing_volume_is_made(mount):
    assert {"intactfs.db", "trees"} <= set(os.listdir(mount.volume))
    assert {"journal.db", "objects", "stage"} <= set(os.listdir(mount.volume / "trees" / mount.path.name))
    assert mount.volume.stat().st_mode & 0o077 == 0, "nobody else looks into a volume"
    assert os.listdir(mount.root) == [mount.path.name]
    assert os.listdir(mount.path) == []


def test_an_empty_directory_becomes_a_volume(idle):
    idle.volume.mkdir()
    idle.start()
    idle.sh("echo x > f; cat f")


def test_two_volumes_at_once(mounts, place):
    (place / "second").mkdir()
    a, b = mounts(), mounts(place=place / "second")
    a.sh("echo a > f")
    b.sh("echo b > f")
    assert (a.path / "f").read_text() == "a\n"
    assert a.status()["uuid"] != b.status()["uuid"]


# Refusing


def test_refuses_a_directory_that_is_something_else(idle):
    idle.volume.mkdir()
    (idle.volume / "file").write_text("mine")
    refused(idle, str(idle.volume), "empty")
    assert os.listdir(idle.volume) == ["file"]


def test_refuses_a_file(idle):
    idle.volume.write_text("mine")
    refused(idle, str(idle.volume), "directory")
    assert idle.volume.read_text() == "mine"


def test_refuses_where_the_parent_is_missing(idle):
    refused(idle, "no/such", volume=idle.place / "no" / "such")


def test_refuses_a_newer_format(mount):
    mount.sh("echo x > f")
    mount.unmount()
    db = sqlite3.connect(mount.volume / "intactfs.db")
    with db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    refused(mount, "99", "newer")
    with db:
        db.execute("UPDATE meta SET value = '1' WHERE key = 'format'")
    db.close()
    mount.start()
    assert mount.sh("cat f") == "x\n"


def test_refuses_a_newer_journal(mount):
    mount.unmount()
    db = sqlite3.connect(mount.volume / "trees" / mount.path.name / "journal.db")
    known = db.execute("SELECT format FROM tree").fetchone()[0]
    with db:
        db.execute("UPDATE tree SET format = 99")
    refused(mount, "99", "newer", "journal.db")
    with db:
        db.execute("UPDATE tree SET format = ?", [known])
    db.close()


FORMAT_1 = """
    DROP TABLE access; DROP TABLE gone; DROP TABLE garbage;
    ALTER TABLE version DROP COLUMN access; ALTER TABLE operation DROP COLUMN access;
    ALTER TABLE entry DROP COLUMN last; UPDATE tree SET format = 1;
"""


def test_migrates_an_older_journal(mount):
    mount.sh("echo one > f; echo two > f; mkdir d; echo three > d/g; rm d/g")
    mount.unmount()
    journal = mount.volume / "trees" / mount.who.pw_name / "journal.db"
    with contextlib.closing(sqlite3.connect(journal)) as db:
        db.executescript(FORMAT_1)
    mount.start()
    assert mount.sh("cat f f@@/1 d/g@@/1; echo four > f; cat f") == "two\none\nthree\nfour\n"
    mount.unmount()
    with contextlib.closing(sqlite3.connect(journal)) as db:
        assert db.execute("SELECT format FROM tree").fetchone()[0] > 1


def test_refuses_a_volume_that_is_busy(mount, place):
    other = place / "other"
    other.mkdir()
    done = mount_command(mount.volume, other)
    assert done.returncode == 1
    assert str(mount.daemon.pid) in done.stderr and str(mount.root) in done.stderr
    assert not mounted(other)
    mount.sh("echo x > f; cat f")


def test_refuses_a_volume_that_is_not_writable(idle):
    idle.volume.mkdir()
    os.chown(idle.root, NOBODY, NOBODY)
    refused(idle, str(idle.volume), user=NOBODY)


@pytest.mark.parametrize("volume", ["dir", "new", "dir/new"])
def test_refuses_a_volume_in_a_mount(mount, place, volume):
    mount.sh("mkdir dir")
    other = place / "other"
    other.mkdir()
    done = mount_command(mount.path / volume, other)
    assert done.returncode == 1 and str(mount.root) in done.stderr and "outside" in done.stderr
    assert os.listdir(mount.path) == ["dir"] and os.listdir(mount.path / "dir") == []


@pytest.mark.parametrize("volume, point", [("v", "v/m"), ("m/v", "m"), ("m", "m"), ("m/new", "m"), ("v", "v")])
def test_refuses_a_volume_and_a_mount_point_within_one_another(place, volume, point):
    (place / point).mkdir(parents=True)
    done = mount_command(place / volume, place / point)
    assert done.returncode == 1 and "within one another" in done.stderr
    assert not mounted(place / point)


@pytest.mark.parametrize("damage", ["junk", "header", "cut", "middle", "empty"])
def test_refuses_a_damaged_journal(mount, damage):
    mount.sh("for i in $(seq 300); do echo $i > f$i; done")
    mount.unmount()
    journal = mount.volume / "trees" / mount.path.name / "journal.db"
    sound = journal.read_bytes()
    half = len(sound) // 2
    damaged = {"junk": os.urandom(len(sound)), "header": b"\0" * 100 + sound[100:], "cut": sound[: half + 17],
               "middle": sound[:4096] + os.urandom(len(sound) - 4096), "empty": b""}[damage]
    journal.write_bytes(damaged)
    refused(mount, "journal.db", "damaged|cannot be read|not a journal")
    assert journal.read_bytes() == damaged, "nothing is repaired by guess"
    journal.write_bytes(sound)
    mount.start()
    assert len(os.listdir(mount.path)) == 300


def test_damage_in_a_large_journal_stops_all_changes(mount):
    """It is too large to be checked before the mount; what is found later is said, and nothing is written any more."""
    mount.sh("for i in $(seq 300); do echo $i > f$i; done")
    mount.unmount()
    journal = mount.volume / "trees" / mount.path.name / "journal.db"
    subprocess.run(["sqlite3", journal, "CREATE TABLE pad (x); WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
                    " WHERE i < 400) INSERT INTO pad SELECT randomblob(100000) FROM n; PRAGMA wal_checkpoint(TRUNCATE)"],
                   check=True, capture_output=True)
    mount.start()
    mount.sh("echo one > f1; cat f1")
    mount.unmount()
    size = journal.stat().st_size
    assert size > 33 << 20
    with open(journal, "r+b") as f:
        f.seek(size // 2)
        f.write(b"\xa5" * (1 << 20))
    mount.start()
    wait_until(lambda: "no more changes" in mount.daemon_log(), "the damage to be found", 20)
    assert "damaged" in mount.daemon_log() and "no more changes are taken" in mount.daemon_log()
    done = mount.run("echo two > f2")
    assert "Structure needs cleaning" in done.stderr
    assert mount.sh("cat f1") == "one\n"
    mount.unmount()
    subprocess.run(["rm", "-rf", mount.volume], check=True)


def test_refuses_a_damaged_volume_database(mount):
    mount.unmount()
    db = mount.volume / "intactfs.db"
    sound = db.read_bytes()
    db.write_bytes(os.urandom(len(sound)))
    refused(mount, "intactfs.db")
    db.write_bytes(sound)


def test_refuses_a_missing_journal(mount):
    mount.sh("echo x > f")
    mount.unmount()
    journal = mount.volume / "trees" / mount.path.name / "journal.db"
    journal.rename(mount.place / "journal.db")
    refused(mount, "journal.db")
    (mount.place / "journal.db").rename(journal)


def test_refuses_a_mount_point_that_is_missing_or_a_file(idle):
    idle.root.rmdir()
    refused(idle, str(idle.root))
    idle.root.write_text("file")
    refused(idle, str(idle.root))
    idle.root.unlink()
    idle.root.mkdir()


@pytest.mark.parametrize("args", [[], ["x"], ["a", "b", "c"], ["-o"], ["--nonsense", "a", "b"],
                                  ["-o", "nonsense", "/a", "/b"], ["-o", "turn_wait=x", "/a", "/b"]])
def test_wrong_usage(args):
    done = mount_command(*args)
    assert done.returncode == 2
    assert "usage" in done.stderr


# Being a daemon, and ending


def test_returns_when_the_mount_answers(idle):
    done = mount_command(idle.volume, idle.root)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""
    assert mounted(idle.root)
    assert os.listdir(idle.root) == [idle.path.name]
    idle.sh("echo x > f; cat f")
    pid = idle.status()["pid"]
    assert os.getsid(pid) != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    pidfd = os.pidfd_open(pid)
    subprocess.run([BIN, "unmount", idle.root], check=True)
    assert ends(pidfd, 30)
    os.close(pidfd)


ENDINGS = {
    "SIGTERM": lambda m: m.daemon.send_signal(signal.SIGTERM),
    "SIGINT": lambda m: m.daemon.send_signal(signal.SIGINT),
    "intactfs unmount": lambda m: subprocess.run([BIN, "unmount", m.root], check=True),
    "fusermount3 -u": lambda m: subprocess.run(["fusermount3", "-u", m.root], check=True),
    "umount": lambda m: subprocess.run(["umount", m.root], check=True),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_ends_cleanly(mount, end):
    mount.sh("for i in $(seq 50); do echo $i > f$i; done; mkdir d; echo x >> f1; rm f2; mv f3 d")
    before = mount.sh("ls -lRi --time-style=full-iso; cat f1 d/f3")
    end(mount)
    mount.ended()
    assert not mounted(mount.root)
    wal = mount.volume / "trees" / mount.path.name / "journal.db-wal"
    assert not wal.exists() or wal.stat().st_size == 0, "the journal is closed"
    mount.check()
    mount.start()
    assert mount.sh("ls -lRi --time-style=full-iso; cat f1 d/f3") == before


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_in_the_background_ends_on_a_signal(idle, signum):
    assert mount_command(idle.volume, idle.root).returncode == 0
    idle.sh("echo x > f")
    pid = idle.status()["pid"]
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signum)
    assert ends(pidfd, 30)
    os.close(pidfd)
    assert not mounted(idle.root)
    idle.start()
    assert idle.sh("cat f") == "x\n"


def test_a_signal_ends_a_mount_that_is_in_use(mount):
    """SIGTERM does not wait for programs: what is closed is published, the mount is gone."""
    (mount.path / "f").write_text("closed")
    with open(mount.path / "g", "w") as g:
        g.write("open")
        g.flush()
        mount.daemon.send_signal(signal.SIGTERM)
        assert ends(mount.pidfd, 30)
        wait_until(lambda: not mounted(mount.root), "the mount to go")
        try:
            g.close()
        except OSError:
            pass
    mount.ended()
    mount.start()
    assert mount.sh("cat f") == "closed"


def test_mounting_again_at_once(mount):
    """The next daemon waits for the one that is closing."""
    for i in range(5):
        mount.sh(f"echo {i} > f")
        last, pidfd = mount.daemon, mount.pidfd
        mount.watchdog.cancel()
        subprocess.run(["fusermount3", "-u", mount.root], check=True)
        mount.start()
        assert mount.sh("cat f") == f"{i}\n"
        assert ends(pidfd, 30) and last.wait() == 0
        os.close(pidfd)


def test_unmount_says_when_it_is_busy(mount):
    with open(mount.path / "f", "w"):
        done = subprocess.run([BIN, "unmount", mount.root], capture_output=True, text=True)
        assert done.returncode == 1
        assert str(mount.root) in done.stderr
    mount.sh("echo x > f; cat f")


def test_a_remount_sees_everything(mount):
    mount.sh(r"""mkdir -p d/e/f; echo text > d/text; ln d/text d/e/hard; ln -s ../d link; mkfifo fifo; mknod dev c 1 3
        printf x > "$(printf 'latin \351')"; printf x > 'new
line'; chmod 751 d; chmod 4755 d/text; chown 5:60 link -h; touch -d '2001-02-03 04:05:06.123456789' d/e
        python3 -c 'import os; os.setxattr("d", "user.a", b"\0\xff"); os.setxattr("d/text", "trusted.b", b"")'
        echo more >> d/text; for i in 1 2 3; do echo $i > versions; done; rm -r d/e/f; mv d/text moved""")
    mount.settled("versions")
    look = r"""find . -printf '%p %y %m %U %G %n %s %i %T+ %C+ %l\n' | sort; cat moved d/e/hard versions*
        python3 -c 'import os; print([(n, os.getxattr(p, n)) for p in ("d", "moved") for n in sorted(os.listxattr(p))])'
        ls versions@@"""
    before = mount.sh(look)
    log = mount.log("versions")
    for _ in range(2):
        mount.remount()
        assert mount.sh(look) == before
        assert mount.log("versions") == log


def test_a_volume_can_be_moved(mount, mounts):
    mount.sh("echo x > f")
    mount.unmount()
    mount.volume = mount.volume.rename(mount.place / "elsewhere")
    mount.start()
    assert mount.sh("cat f") == "x\n"


# Read-only


def test_read_only(mount):
    mount.sh("mkdir d; echo one > f; echo two > f; ln -s f l; touch $TMPDIR/x")
    mount.unmount()
    files = lambda: {p: p.read_bytes() for p in mount.volume.rglob("*") if p.is_file() and p.name != "lock"
                     and not p.name.endswith(("-wal", "-shm"))}
    before = files()
    mount.remount("ro")
    assert mount.sh("cat f l; ls d; cat f@@/1") == "two\ntwo\none\n"
    assert mount.status()["readonly"] is True
    f = mount.path / "f"
    for call in (lambda: f.write_text("x"), lambda: os.unlink(f), lambda: os.mkdir(mount.path / "e"),
                 lambda: os.chmod(f, 0o600), lambda: os.utime(f), lambda: os.truncate(f, 0),
                 lambda: os.rename(f, mount.path / "g"), lambda: os.link(f, mount.path / "g"),
                 lambda: os.setxattr(f, "user.x", b""), lambda: os.mkdir(mount.root / "tree")):
        fails(errno.EROFS, call)
    mount.unmount()
    assert files() == before, "nothing is written to the volume"


def test_many_read_only_mounts(mount, mounts, place):
    mount.sh("echo x > f")
    mount.remount("ro")
    (place / "second").mkdir()
    second = mounts("ro", place=place / "second", volume=mount.volume)
    assert second.sh("cat f") == mount.sh("cat f") == "x\n"


def test_a_read_only_mount_of_nothing_is_refused(idle):
    refused(idle, str(idle.volume), options=["-o", "ro"])
    assert not idle.volume.exists()


# Trees


def trees(m):
    return sorted(os.listdir(m.root))


def test_making_and_removing_trees(mount):
    me = mount.path.name
    os.mkdir(mount.root / "bob")
    assert trees(mount) == sorted(["bob", me])
    assert (mount.root / "bob").stat().st_mode & 0o7777 == 0o700
    mount.sh("echo x > ../bob/f; cat ../bob/f")
    fails(errno.ENOTEMPTY, os.rmdir, mount.root / "bob")
    mount.remount()
    assert trees(mount) == sorted(["bob", me])
    mount.sh("cat ../bob/f; rm ../bob/f; rmdir ../bob")
    assert trees(mount) == [me]
    mount.remount()
    assert trees(mount) == [me]
    os.mkdir(mount.root / "bob")
    assert os.listdir(mount.root / "bob") == []
    fails(errno.EEXIST, os.mkdir, mount.root / "bob")


def test_the_users_tree_stays_removed(mount):
    """It is there after the first mount, not after every mount."""
    os.mkdir(mount.root / "other")
    os.rmdir(mount.path)
    mount.remount()
    assert trees(mount) == ["other"]


def test_the_listing_of_the_root_goes_on_while_trees_go(mount):
    names = [f"tree{i:03}" for i in range(260)]
    mount.sh('cd .. && mkdir "$@"', *names)
    seen = []
    with os.scandir(mount.root) as entries:
        for entry in entries:
            seen.append(entry.name)
            if entry.name != mount.path.name:
                os.rmdir(mount.root / entry.name)
    assert sorted(seen) == sorted([*names, mount.path.name])
    assert trees(mount) == [mount.path.name]


def test_removed_trees_cost_nothing(mount):
    def descriptors():
        return len(os.listdir(f"/proc/{mount.daemon.pid}/fd"))

    before = descriptors()
    for i in range(30):
        mount.sh("mkdir ../team; echo $1 > ../team/f; cat ../team/f; rm ../team/f; rmdir ../team", str(i))
    wait_until(lambda: descriptors() <= before + 2, "the removed trees to be closed", 20)
    mount.sh("mkdir ../team; echo x > ../team/f; cat ../team/f")


def test_a_file_that_is_open_in_a_removed_tree(mount):
    mount.sh("mkdir ../team; echo text > ../team/f")
    with open(mount.root / "team" / "f", "r+") as f:
        mount.sh("rm ../team/f; rmdir ../team; mkdir ../team; echo other > ../team/f")
        assert f.read() == "text\n"
        f.write("more\n")
    assert mount.sh("cat ../team/f") == "other\n"
    mount.remount()
    assert mount.sh("cat ../team/f") == "other\n"


def test_nothing_but_trees_is_made_in_the_root(mount):
    root, f = mount.root, mount.path / "f"
    f.write_text("x")
    no = (errno.EPERM, errno.EACCES, errno.EXDEV)
    fails(no, lambda: (root / "f").write_text("x"))
    fails(no, os.symlink, "x", root / "l")
    fails(no, os.mkfifo, root / "p")
    fails(no, os.link, f, root / "l")
    fails(no, os.rename, f, root / "f")
    mount.sh("mkdir d")
    fails(no, os.rename, mount.path / "d", root / "d")
    assert trees(mount) == [mount.path.name]
    fails(errno.ENOENT, os.stat, root / "none")
    fails((errno.EISDIR, errno.EPERM), os.unlink, mount.path)
    with pytest.raises(OSError):
        os.mkdir(root / ".intactfs")


def test_trees_are_filesystems_to_each_other(mount):
    os.mkdir(mount.root / "bob")
    mount.sh("echo x > f; mkdir d; echo y > d/g")
    fails(errno.EXDEV, os.rename, mount.path / "f", mount.root / "bob" / "f")
    fails(errno.EXDEV, os.rename, mount.path / "d", mount.root / "bob" / "d")
    fails(errno.EXDEV, os.link, mount.path / "f", mount.root / "bob" / "f")
    mount.sh("mv f d ../bob; cat ../bob/f ../bob/d/g; ls")
    assert os.listdir(mount.path) == []


def test_the_control_directory_is_not_listed(mount):
    assert mount.sh("ls -A ..") == f"{mount.path.name}\n"
    assert sorted(mount.status())
    fails((errno.EROFS, errno.EACCES, errno.EPERM), lambda: (mount.root / ".intactfs" / "x").write_text("x"))
    fails((errno.EROFS, errno.EACCES, errno.EPERM), lambda: (mount.root / ".intactfs" / "status").write_text("x"))


@pytest.mark.mount("allow_other")
def test_a_tree_is_its_owners_alone(mount):
    mount.sh("echo secret > f; echo more > f; mkdir d")
    mount.settled("f")
    tree = mount.path
    look = [lambda: os.listdir(tree), lambda: (tree / "f").read_text(), lambda: os.stat(tree / "f"),
            lambda: Path(f"{tree}/f@@/1").read_text(), lambda: Path(f"{tree}@@/.log").read_text(),
            lambda: Path(f"{tree}/f@@/.log").read_text(), lambda: os.listdir(f"{tree}/f@@"),
            lambda: (tree / "new").write_text("x"), lambda: os.getxattr(tree / "f", "user.intactfs.version"),
            lambda: os.rmdir(tree / "d"), lambda: os.chmod(tree, 0o777), lambda: os.rename(tree, mount.root / "x")]
    for call in look:
        with pytest.raises(OSError) as e:
            as_user(NOBODY, call)
        assert e.value.errno in (errno.EACCES, errno.EPERM, errno.EXDEV)
    status = as_user(NOBODY, mount.tree)
    assert set(status) == {"name", "uid", "user", "mode"}
    assert set(mount.tree()) > {"name", "uid", "user", "mode", "seq", "saves"}
    tree.chmod(0o755)
    assert as_user(NOBODY, lambda: (tree / "f").read_text()) == "more\n"
    assert "seq" in as_user(NOBODY, mount.tree)
    with pytest.raises(PermissionError):
        as_user(NOBODY, lambda: (tree / "new").write_text("x"))


@pytest.mark.mount("allow_other")
def test_a_tree_for_somebody_else(mount):
    tree = mount.root / "games"
    tree.mkdir()
    os.chown(tree, FOREIGNER, FOREIGNER)
    as_user(FOREIGNER, lambda: (tree / "f").write_text("mine"))
    assert (tree / "f").stat().st_uid == FOREIGNER
    with pytest.raises(PermissionError):
        as_user(NOBODY, lambda: os.listdir(tree))
    with pytest.raises(OSError) as e:
        as_user(NOBODY, lambda: os.mkdir(mount.root / "nobody"))
    assert e.value.errno in (errno.EACCES, errno.EPERM)
    with pytest.raises(OSError) as e:
        as_user(NOBODY, lambda: os.rmdir(mount.root / "games"))
    assert e.value.errno in (errno.EACCES, errno.EPERM, errno.ENOTEMPTY)
    entry = mount.log(tree)[0]
    assert (entry["uid"], entry["user"]) == (FOREIGNER, "games")


@pytest.mark.mount("allow_other")
def test_a_new_tree_belongs_to_the_user_of_its_name(mount):
    (mount.root / "games").mkdir()
    (mount.root / "not-a-user").mkdir()
    assert (mount.root / "games").stat().st_uid == FOREIGNER
    assert (mount.root / "not-a-user").stat().st_uid == 0


def test_without_allow_other_nobody_else_gets_in(mount):
    mount.path.chmod(0o777)
    with pytest.raises(PermissionError):
        as_user(NOBODY, lambda: os.listdir(mount.root))


# As others call it


@pytest.mark.parametrize("unmount", [["umount"], [BIN, "unmount"]], ids=["umount", "intactfs unmount"])
@pytest.mark.parametrize("options, expected", [
    ("rw,noauto,allow_other,turn_wait=7,nofail,x-systemd.automount,_netdev", {"turn_wait_ms": 7000}),
    ("defaults,nodev,nosuid,noatime", {}),
    ("ro", {}),
])
def test_from_fstab(idle, options, expected, unmount):
    """As mount(8) calls mount.fuse3 for `VOLUME MOUNTPOINT fuse.intactfs OPTIONS`; it insists on a PATH of its own."""
    bin_dir = idle.place / "bin"
    bin_dir.mkdir()
    (bin_dir / "intactfs").symlink_to(BIN)
    idle.start().unmount()
    done = subprocess.run(["mount.fuse3", idle.volume, idle.root, "-t", "fuse.intactfs", "-o", options],
                          env=dict(os.environ, PATH=f"{bin_dir}:{os.environ['PATH']}:/usr/sbin:/sbin"),
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert mounted(idle.root)
    status = idle.status()
    assert status["options"].items() >= expected.items()
    assert status["readonly"] is (options == "ro")
    if "allow_other" in options:
        idle.path.chmod(0o755)
        assert as_user(NOBODY, lambda: os.listdir(idle.path)) == []
    if options != "ro":
        idle.sh("echo x > f; cat f")
    pidfd = os.pidfd_open(status["pid"])
    subprocess.run([*unmount, idle.root], check=True)
    assert ends(pidfd, 30)
    os.close(pidfd)


def test_the_daemon_in_the_background_logs_to_syslog(idle):
    if os.path.exists("/dev/log"):
        pytest.skip("/dev/log is the syslog daemon's of this machine: what it is told cannot be listened to")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind("/dev/log")
        try:
            log.settimeout(20)
            assert mount_command(idle.volume, idle.root).returncode == 0
            said = ""
            while f"{idle.volume} is mounted on {idle.root}" not in said:
                said = log.recv(4096).decode()
        finally:
            subprocess.run([BIN, "unmount", idle.root], check=True)
            os.unlink("/dev/log")
    assert "intactfs[" in said


def test_max_read(mounts):
    m = mounts("max_read=16384")
    m.sh("head -c 1000000 /dev/zero | tr '\\0' x > f; md5sum f; head -c 1000000 /dev/zero | tr '\\0' x | cmp - f")
    assert mount_command("-o", "max_read=lots", m.place / "v", m.place).returncode == 2


def test_findmnt_names_it(mount):
    said = subprocess.run(["findmnt", "-no", "FSTYPE,SOURCE", mount.root], capture_output=True, text=True).stdout
    assert said.split() == ["fuse.intactfs", str(mount.volume)]


@pytest.fixture
def ordinary(mounts, place):
    device = None
    if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        device = place / "fuse"
        os.mknod(device, 0o600 | stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
        device.chmod(0o666)
        if subprocess.run(["mount", "--bind", device, "/dev/fuse"], capture_output=True).returncode:
            pytest.skip("/dev/fuse is closed to ordinary users, and this container forbids the bind mount that opens it")
    yield mounts(user=NOBODY)
    if device:
        subprocess.run(["umount", "-l", "/dev/fuse"], check=True)


def test_an_ordinary_user_mounts(ordinary):
    user = {"user": NOBODY}
    assert as_user(NOBODY, lambda: os.listdir(ordinary.root)) == ["nobody"]
    assert ordinary.sh("echo one > f; echo two > f; cat f; sed -i s/two/three/ f; cat f f@@/1", **user) == \
        "two\nthree\none\n"
    assert as_user(NOBODY, lambda: os.stat(ordinary.path / "f").st_uid) == NOBODY
    assert '"version"' in ordinary.sh("intactfs log --json f", **user)
    with pytest.raises(PermissionError):
        os.listdir(ordinary.root)
    ordinary.sh("mkdir ../team; rmdir ../team", **user)
    assert ordinary.volume.stat().st_uid == NOBODY
    ordinary.sh('cd / && intactfs unmount "$1"', ordinary.root, **user)
    ordinary.ended()
    ordinary.start()
    assert ordinary.sh("cat f", **user) == "three\n"
