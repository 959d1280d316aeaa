"""
Refused saves: what lies beside their files, what `intactfs conflicts` says and does, what recovery makes of stale saves.
"""
import errno
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from lib.procs import NOBODY, as_user, wait_until

pytestmark = pytest.mark.mount("allow_other")

SAVER = """
import os, sys
path, text = sys.argv[1], sys.argv[2]
open(path).read()
print("read", flush=True)
for line in sys.stdin:
    word, _, rest = line.rstrip("\\n").partition(" ")
    try:
        if word == "save":
            fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
            os.write(fd, (rest or text).replace("\\\\n", "\\n").encode())
            os.close(fd)
        elif word == "read":
            open(path).read()
        elif word == "open":
            fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        elif word == "write":
            os.write(fd, rest.encode())
        elif word == "dup":
            other = os.dup(fd)
            os.close(other)
        elif word == "sync":
            os.fsync(fd)
        elif word == "close":
            os.close(fd)
        elif word == "keep":
            child = os.fork()
            if not child:
                os.read(0, 1) or os.pause()
        elif word == "rename":
            with open(path + ".new", "w") as f:
                f.write(rest or text)
            os.rename(path + ".new", path)
        print("done", flush=True)
    except OSError as e:
        print(e.errno, flush=True)
"""


class Saver:
    """A program that has read a file, and does what it is told: each tell() is its "done", or an errno."""

    def __init__(self, mount, path, text="mine\n", user=None):
        identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        self.child = subprocess.Popen([sys.executable, "-c", SAVER, path, text], cwd=mount.path, env=mount.env,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
                                      start_new_session=True, **identity)
        assert self.child.stdout.readline() == "read\n"
        self.pid = self.child.pid

    def tell(self, what):
        self.child.stdin.write(f"{what}\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline().strip()
        return answer if answer == "done" else int(answer)

    def end(self):
        self.child.stdin.close()
        self.child.wait(20)


def conflicts(mount, *args, **kwargs):
    done = mount.cli("conflicts", "--json", *args, **kwargs)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def siblings(mount, folder="."):
    return sorted(n for n in os.listdir(mount.path / folder) if "(conflict, " in n)


def refused(mount, name="a.txt", text="mine\n", user=None):
    """A save of the file that is refused at its close; the saver, which goes on."""
    path = mount.path / name
    if not path.exists():
        path.write_text("one\n")
        mount.settled(name)
    saver = Saver(mount, name, text, user)
    path.write_text(f"theirs {os.urandom(4).hex()}\n")
    mount.settled(name)
    assert saver.tell("save") == errno.EBUSY
    mount.settled(name)
    return saver


# Beside the file

def test_a_refused_save_is_beside_its_file(mount):
    (mount.path / "a.txt").write_text("one\n")
    os.chmod(mount.path / "a.txt", 0o640)
    os.chown(mount.path / "a.txt", NOBODY, NOBODY)
    saver = Saver(mount, "a.txt")
    (mount.path / "a.txt").write_text("theirs\n")
    mount.settled("a.txt")
    assert saver.tell("open") == "done" and saver.tell("write mine") == "done"
    assert siblings(mount) == []
    assert saver.tell("close") == errno.EBUSY
    (name,) = siblings(mount)
    host = os.uname().nodename
    assert re.fullmatch(rf"a \(conflict, root, {host}, \d{{4}}-\d\d-\d\d \d\d-\d\d-\d\d\)\.txt", name)
    assert (mount.path / name).read_text() == "mine"
    status = (mount.path / name).stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, NOBODY, NOBODY)
    assert (mount.path / "a.txt").read_text() == "theirs\n"
    (conflict,) = conflicts(mount)
    assert conflict["sibling"] == name


def test_a_further_refusal_of_the_same_save_replaces_what_is_beside(mount):
    (mount.path / "a.txt").write_text("one\n")
    mount.settled("a.txt")
    saver = Saver(mount, "a.txt")
    (mount.path / "a.txt").write_text("theirs\n")
    mount.settled("a.txt")
    saver.tell("open")
    saver.tell("write mine")
    assert saver.tell("dup") == errno.EBUSY
    (name,) = siblings(mount)
    assert (mount.path / name).read_text() == "mine"
    saver.tell("write , and more")
    assert saver.tell("close") == errno.EBUSY
    assert siblings(mount) == [name]
    assert (mount.path / name).read_text() == "mine, and more"
    assert len(conflicts(mount)) == 1


def test_what_somebody_made_of_a_sibling_is_kept(mount):
    (mount.path / "a.txt").write_text("one\n")
    mount.settled("a.txt")
    saver = Saver(mount, "a.txt")
    (mount.path / "a.txt").write_text("theirs\n")
    mount.settled("a.txt")
    saver.tell("open")
    saver.tell("write mine")
    assert saver.tell("dup") == errno.EBUSY
    (first,) = siblings(mount)
    (mount.path / first).write_text("edited")
    mount.settled(first)
    saver.tell("write , and more")
    assert saver.tell("close") == errno.EBUSY
    assert {(mount.path / n).read_text() for n in siblings(mount)} == {"edited", "mine, and more"}


def test_names_are_cut_and_made_unique(mount):
    name = "ä" * 120 + ".json"
    savers = [refused(mount, name, user=None) for _ in range(3)]
    found = siblings(mount)
    assert len(found) == 3 and len(savers) == 3
    for sibling in found:
        assert len(os.fsencode(sibling)) <= 255 and sibling.endswith(").json")
        sibling.encode("utf-8", "strict")
    refused(mount, ".profile")
    assert any(n.startswith(".profile (conflict") for n in siblings(mount))


def test_no_sibling_where_the_saver_can_make_no_files(mount):
    mount.path.chmod(0o755)
    (mount.path / "a.txt").write_text("one\n")
    (mount.path / "a.txt").chmod(0o666)
    refused(mount, user=NOBODY)
    assert siblings(mount) == []
    (conflict,) = conflicts(mount)
    assert conflict["sibling"] is None and conflict["user"] == "nobody"


def test_no_sibling_when_the_setting_is_off(mount):
    assert mount.cli("setting", "set", ".", "siblings", "off").returncode == 0
    refused(mount)
    assert siblings(mount) == [] and len(conflicts(mount)) == 1


def test_a_refused_rename_leaves_its_own_file(mount):
    (mount.path / "a.txt").write_text("one\n")
    mount.settled("a.txt")
    saver = Saver(mount, "a.txt")
    (mount.path / "a.txt").write_text("theirs\n")
    mount.settled("a.txt")
    assert saver.tell("rename") == errno.EBUSY
    assert siblings(mount) == [] and (mount.path / "a.txt.new").read_text() == "mine\n"
    (conflict,) = conflicts(mount)
    assert conflict["sibling"] is None


@pytest.mark.parametrize("how", ["save", "rename"])
def test_the_program_that_saves_after_all_clears_its_conflict(mount, how):
    saver = refused(mount)
    (name,) = siblings(mount)
    assert len(conflicts(mount)) == 1
    saver.tell("read")
    assert saver.tell(f"{how} better") == "done"
    mount.settled("a.txt")
    assert (mount.path / "a.txt").read_text() == "better"
    wait_until(lambda: conflicts(mount) == [], "the conflict to be cleared")
    assert siblings(mount) == [] and not (mount.path / name).exists()


def test_to_put_back_what_others_saved_clears_nothing(mount):
    saver = refused(mount)
    saver.tell("read")
    assert saver.tell("save " + (mount.path / "a.txt").read_text().rstrip("\n") + "\\n") == "done"
    mount.settled("a.txt")
    assert len(conflicts(mount)) == 1


def test_another_program_clears_nothing(mount):
    refused(mount)
    mount.sh("cat a.txt >/dev/null; echo other > a.txt")
    mount.settled("a.txt")
    assert len(conflicts(mount)) == 1 and len(siblings(mount)) == 1


# Names that were taken away

TAKE_AWAY = """
import os, sys
open("a.txt").read()
print("read", flush=True)
sys.stdin.readline()
os.{0}
fd = os.open("a.txt", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
os.write(fd, b"mine\\n")
try:
    os.close(fd)
    print("done")
except OSError as e:
    print(e.errno)
"""


@pytest.mark.parametrize("how", ['rename("a.txt", "a.txt~")', 'unlink("a.txt")'])
def test_a_name_that_was_taken_away_gets_back_what_it_had(mount, how):
    (mount.path / "a.txt").write_text("one\n")
    (mount.path / "a.txt").chmod(0o600)
    os.chown(mount.path / "a.txt", 1, 1)
    mount.settled("a.txt")
    child = mount.popen([sys.executable, "-c", TAKE_AWAY.format(how)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == "read\n"
    (mount.path / "a.txt").write_text("theirs\n")
    mount.settled("a.txt")
    answer, _ = child.communicate("\n", timeout=20)
    assert answer == f"{errno.EBUSY}\n"
    wait_until(lambda: (mount.path / "a.txt").read_text(), "the content")
    assert (mount.path / "a.txt").read_text() == "theirs\n"
    status = (mount.path / "a.txt").stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o600, 1, 1)
    (name,) = siblings(mount)
    assert (mount.path / name).read_text() == "mine\n"
    # What has the content by another name is a file of its own.
    if "rename" in how:
        with open(mount.path / "a.txt", "a") as f:
            f.write("new\n")
        with open(mount.path / "a.txt~", "a") as f:
            f.write("old\n")
        assert (mount.path / "a.txt").read_text() == "theirs\nnew\n"
        assert (mount.path / "a.txt~").read_text() == "theirs\nold\n"


@pytest.mark.skipif(not shutil.which("vim"), reason="no vim")
@pytest.mark.parametrize("copy", ["no", "yes", "auto"])
@pytest.mark.parametrize("policy", ["merge", "refuse"])
def test_vim_whose_save_is_refused_leaves_the_file_as_others_saved_it(mount, copy, policy):
    assert mount.cli("policy", "set", ".", "*", policy).returncode == 0
    (mount.path / "a.txt").write_text("count 1\n")
    mount.settled("a.txt")
    opened, go, said = (mount.place / name for name in ("opened", "go", "said"))
    child = mount.popen(f"""vim -u NONE --not-a-term -es -c 'set backupskip= backupcopy={copy} writebackup noswapfile' \
        -c 'call system("touch {opened}; while ! test -e {go}; do sleep 0.02; done")' -c 's/1/3/' \
        -c 'silent! write!' -c 'call writefile([v:errmsg], "{said}")' -c 'qa!' a.txt""", stdin=subprocess.DEVNULL)
    before = (mount.path / "a.txt").stat()
    wait_until(opened.exists, "vim")
    (mount.path / "a.txt").write_text("count 2\n")
    mount.settled("a.txt")
    # It would ask whether to write what was changed.
    os.utime(mount.path / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    go.write_text("")
    child.wait(30)
    mount.settled("a.txt")
    wait_until(lambda: (mount.path / "a.txt").read_text(), "the content")
    assert (mount.path / "a.txt").read_text() == "count 2\n"
    assert "E" in said.read_text(), "vim did not notice"
    assert any(c["path"] == "a.txt" and c["program"] == "vim" for c in conflicts(mount))


# The command

def test_the_list(mount):
    mount.sh("mkdir -p d/e && echo one > d/e/a.txt")
    saver = refused(mount, "d/e/a.txt")
    (conflict,) = conflicts(mount)
    assert conflict["path"] == "d/e/a.txt" and conflict["user"] == "root" and conflict["uid"] == 0
    assert conflict["pid"] == saver.pid and conflict["host"] == os.uname().nodename
    assert conflict["program"] == os.path.basename(sys.executable)
    assert conflict["size"] == 5 and conflict["basis"] == 1 and conflict["head"] == 2
    assert conflict["sibling"] == siblings(mount, "d/e")[0] and conflict["reason"] and conflict["time"]
    assert conflict["tree"] == mount.path.name
    for place in ([], ["."], ["d"], ["d/e"], ["d/e/a.txt"], [mount.root]):
        assert conflicts(mount, *place) == [conflict], place
    assert conflicts(mount, cwd=mount.path / "d") == [conflict]
    assert conflicts(mount, ".", cwd=mount.path / "d/e") == [conflict]
    mount.sh("mkdir f && echo > d/e/a.tx")
    assert conflicts(mount, "f") == conflicts(mount, "d/e/a.tx") == []
    assert conflict in conflicts(mount, cwd=mount.place)
    words = mount.cli("conflicts").stdout
    assert words.split("\n")[0].split() == ["id", "time", "who", "host", "program", "size", "file", "why"]
    assert f"{mount.path.name}/d/e/a.txt" in words
    mount.sh("rm d/e/a.txt")
    assert conflicts(mount, "d/e/a.txt") == conflicts(mount) == [conflict]
    assert mount.cli("conflicts", mount.place).returncode == 1


def test_a_path_that_is_no_text(mount):
    name = os.fsdecode(b"a\xff.txt")
    refused(mount, name)
    (conflict,) = conflicts(mount, name)
    assert bytes.fromhex(conflict["path_hex"]) == b"a\xff.txt"
    assert bytes.fromhex(conflict["sibling_hex"]).startswith(b"a\xff (conflict, ")


def test_show(mount):
    refused(mount, text="näh\0\n".replace("\0", ""))
    (conflict,) = conflicts(mount)
    done = mount.cli("conflicts", "show", str(conflict["id"]))
    assert (done.returncode, done.stdout) == (0, "näh\n")
    done = mount.cli("conflicts", "show", str(conflict["id"]), mount.path, cwd=mount.place)
    assert (done.returncode, done.stdout) == (0, "näh\n")


def test_take(mount):
    refused(mount)
    theirs = (mount.path / "a.txt").read_text()
    (conflict,) = conflicts(mount)
    assert mount.cli("conflicts", "take", str(conflict["id"])).returncode == 0
    assert (mount.path / "a.txt").read_text() == "mine\n"
    assert conflicts(mount) == [] and siblings(mount) == []
    assert mount.versions("a.txt") == {1: b"one\n", 2: theirs.encode(), 3: b"mine\n"}
    entry = mount.log("a.txt")[0]
    assert (entry["kind"], entry["verdict"], entry["basis"]["version"]) == ("take", "next", 2)
    for what in ("take", "drop", "show"):
        done = mount.cli("conflicts", what, str(conflict["id"]))
        assert done.returncode == 1 and "resolved already: it was taken" in done.stderr


def test_take_of_a_file_that_is_gone(mount):
    mount.sh("mkdir d")
    refused(mount, "d/a.txt")
    (conflict,) = conflicts(mount)
    mount.sh("rm -r d")
    done = mount.cli("conflicts", "take", str(conflict["id"]))
    assert done.returncode == 1 and "directory" in done.stderr
    mount.sh("mkdir d")
    assert mount.cli("conflicts", "take", str(conflict["id"])).returncode == 0
    assert (mount.path / "d/a.txt").read_text() == "mine\n"


def test_drop(mount):
    refused(mount)
    theirs = (mount.path / "a.txt").read_text()
    (conflict,) = conflicts(mount)
    assert mount.cli("conflicts", "drop", str(conflict["id"])).returncode == 0
    assert conflicts(mount) == [] and siblings(mount) == []
    assert (mount.path / "a.txt").read_text() == theirs
    done = mount.cli("conflicts", "take", str(conflict["id"]))
    assert done.returncode == 1 and "it was dropped" in done.stderr
    assert any(entry["kind"] == "drop" and entry["path"] == "a.txt" for entry in mount.log("."))


def test_a_sibling_that_was_edited_or_renamed_stays(mount):
    refused(mount)
    (name,) = siblings(mount)
    (mount.path / name).write_text("merged by hand\n")
    mount.settled(name)
    mount.cli("conflicts", "drop", str(conflicts(mount)[0]["id"]))
    assert (mount.path / name).read_text() == "merged by hand\n"
    (mount.path / name).unlink()
    refused(mount)
    (name,) = siblings(mount)
    (mount.path / name).rename(mount.path / "mine.txt")
    mount.cli("conflicts", "drop", str(conflicts(mount)[0]["id"]))
    assert (mount.path / "mine.txt").read_text() == "mine\n"


def test_resolved_by_the_program_is_said(mount):
    saver = refused(mount)
    (conflict,) = conflicts(mount)
    saver.tell("read")
    saver.tell("save")
    wait_until(lambda: not conflicts(mount), "the conflict to be cleared")
    done = mount.cli("conflicts", "show", str(conflict["id"]))
    assert done.returncode == 1 and "its program saved the file after all" in done.stderr


def test_wrong_ids(mount):
    for what in ("show", "take", "drop"):
        done = mount.cli("conflicts", what, "17")
        assert done.returncode == 1 and "there is no conflict 17" in done.stderr
        for no_id in ("x", "0", "-1", "1x"):
            assert mount.cli("conflicts", what, "--", no_id).returncode == 2
        assert mount.cli("conflicts", what).returncode == 2
    assert mount.cli("conflicts", "guess", "17").returncode == 2


def test_what_is_refused_once_more_after_it_was_dropped_is_open_again(mount):
    (mount.path / "a.txt").write_text("one\n")
    mount.settled("a.txt")
    saver = Saver(mount, "a.txt")
    (mount.path / "a.txt").write_text("theirs\n")
    mount.settled("a.txt")
    saver.tell("open")
    saver.tell("write mine")
    assert saver.tell("dup") == errno.EBUSY
    (conflict,) = conflicts(mount)
    assert mount.cli("conflicts", "drop", str(conflict["id"])).returncode == 0
    assert siblings(mount) == []
    saver.tell("write , and more")
    assert saver.tell("close") == errno.EBUSY
    (again,) = conflicts(mount)
    assert again["size"] == 14 and len(siblings(mount)) == 1
    assert mount.cli("conflicts", "drop", str(again["id"])).returncode == 0
    assert mount.tree()["stale"]["conflicts"] == 0


# Rights

OTHER = 1


def command(mount, *args, user=NOBODY):
    """The command as somebody else; what it says, without a look at what is not theirs."""
    return as_user(user, lambda: mount.cli("conflicts", *args, cwd="/"))


@pytest.fixture
def theirs(mount):
    """A conflict of user NOBODY about a file that everybody may read, and only root and group 7 write."""
    mount.path.chmod(0o755)
    mount.sh("mkdir d && echo one > d/a.txt && chmod 666 d/a.txt")
    mount.settled("d/a.txt")
    refused(mount, "d/a.txt", user=NOBODY).end()
    (conflict,) = conflicts(mount)
    return str(conflict["id"])


def test_who_may_read_the_file_sees_it(mount, theirs):
    listed = lambda user: len(json.loads(command(mount, "--json", mount.path, user=user).stdout))
    assert listed(NOBODY) == listed(OTHER) == 1
    assert command(mount, "show", theirs, mount.path, user=OTHER).stdout == "mine\n"
    mount.sh("chmod 600 d/a.txt")
    assert listed(OTHER) == 0
    done = command(mount, "show", theirs, mount.path, user=OTHER)
    assert done.returncode == 1 and "permission denied" in done.stderr and not done.stdout
    mount.sh("chmod 666 d/a.txt; chmod 700 d")
    assert listed(OTHER) == 0
    done = command(mount, "show", theirs, mount.path, user=OTHER)
    assert done.returncode == 1 and "there is no conflict" in done.stderr and not done.stdout
    mount.sh("chmod 711 d")
    assert listed(OTHER) == 0
    assert command(mount, "show", theirs, mount.path, user=OTHER).stdout == "mine\n"


@pytest.mark.parametrize("then", ["chmod 600 d/a.txt", "chmod 700 d"])
def test_what_was_private_then_is_not_shown_when_it_is_opened(mount, then):
    mount.path.chmod(0o755)
    mount.sh(f"mkdir d && echo one > d/a.txt && {then}")
    refused(mount, "d/a.txt")
    mount.sh("chmod 666 d/a.txt; chmod 755 d")
    (conflict,) = conflicts(mount)
    assert json.loads(command(mount, "--json", mount.path, user=OTHER).stdout) == []
    done = command(mount, "show", str(conflict["id"]), mount.path, user=OTHER)
    assert done.returncode == 1 and not done.stdout
    done = command(mount, "take", str(conflict["id"]), mount.path, user=OTHER)
    assert done.returncode == 1
    assert len(conflicts(mount)) == 1


def test_to_take_it_takes_the_right_to_write(mount, theirs):
    mount.sh("chmod 644 d/a.txt")
    before = (mount.path / "d/a.txt").read_text()
    done = command(mount, "take", theirs, mount.path)
    assert done.returncode == 1 and "permission denied" in done.stderr
    assert (mount.path / "d/a.txt").read_text() == before and len(conflicts(mount)) == 1
    mount.sh("chmod 666 d/a.txt")
    assert command(mount, "take", theirs, mount.path, user=OTHER).returncode == 0
    assert (mount.path / "d/a.txt").read_text() == "mine\n"


def test_to_drop_it_one_has_to_be_somebody(mount, theirs):
    done = command(mount, "drop", theirs, mount.path, user=OTHER)
    assert done.returncode == 1 and "permission denied" in done.stderr and len(conflicts(mount)) == 1
    mount.sh("chmod 444 d/a.txt")
    assert command(mount, "drop", theirs, mount.path).returncode == 0
    assert conflicts(mount) == []


def test_the_owner_of_the_file_may_drop_it(mount, theirs):
    os.chown(mount.path / "d/a.txt", OTHER, OTHER)
    assert command(mount, "drop", theirs, mount.path, user=OTHER).returncode == 0


def test_the_virtual_file_takes_nothing_else(mount, theirs):
    path = f"{mount.path}@@/.conflict-{theirs}"
    assert os.getxattr(path, "user.intactfs.conflict") == b"open"
    for name, value, wrong in [("user.intactfs.conflict", b"keep", errno.EINVAL), ("user.other", b"x", errno.EROFS),
                               ("user.intactfs.restore", b"1", errno.EROFS)]:
        with pytest.raises(OSError) as e:
            os.setxattr(path, name, value)
        assert e.value.errno == wrong
    with pytest.raises(OSError):
        open(path, "r+b")
    assert not any("conflict" in name for name in os.listdir(f"{mount.path}@@"))


# What is told

def test_status_counts(mount):
    stale = lambda: mount.tree()["stale"]
    assert stale() == {"merged": 0, "refused": 0, "blind_over": 0, "conflicts": 0}
    assert "stale" not in mount.cli("status", mount.root).stdout
    refused(mount).end()
    assert stale() == {"merged": 0, "refused": 1, "blind_over": 0, "conflicts": 1}
    assert mount.popen("echo blind > a.txt").wait(20) == 0
    mount.settled("a.txt")
    assert stale() == {"merged": 0, "refused": 1, "blind_over": 1, "conflicts": 1}
    assert re.search(r"\b1 refused\b.*\b1 open conflict\b", mount.cli("status", mount.root).stdout)
    mount.cli("conflicts", "drop", str(conflicts(mount)[0]["id"]))
    (mount.path / "b.txt").write_text("1\n2\n3\n4\n5\n")
    mount.settled("b.txt")
    saver = Saver(mount, "b.txt", "one")
    mount.sh("sed -i s/5/five/ b.txt")
    assert saver.tell("save one") == errno.EBUSY
    assert stale()["refused"] == 2 and stale()["conflicts"] == 1
    saver.end()
    mount.remount()
    assert stale() == {"merged": 0, "refused": 0, "blind_over": 0, "conflicts": 1}


# Recovery

HOLDER = """
import os, sys, time
path, text = sys.argv[1:]
open(path).read()
print("read", flush=True)
sys.stdin.readline()
fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
os.write(fd, text.encode())
ready, tell = os.pipe()
if not os.fork():
    # Who has written to it is waited for: what was closed is not published.
    os.pwrite(fd, text.encode(), 0)
    os.write(tell, b"x")
    os.closerange(0, 3)
    time.sleep(600)
os.read(ready, 1)
try:
    os.close(fd)
    print("done", flush=True)
except OSError as e:
    print(e.errno, flush=True)
"""


def killed_after_close(mount, name, text, others, closes="done"):
    """Others save the file; a program that knew it before closes a save that its child still has; the daemon dies, and is back."""
    holder = mount.popen([sys.executable, "-c", HOLDER, name, text], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
    assert holder.stdout.readline() == "read\n"
    mount.sh(others)
    mount.settled(name)
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == f"{closes}\n"
    if closes == "done":
        assert [s["state"] for s in mount.saves(name)] == ["closing"]
    mount.kill()
    mount.start()


@pytest.mark.mount("allow_other", "turn_wait=0.1")
def test_a_stale_save_that_a_crash_interrupts_is_merged(mount):
    lines = [f"line {i}\n" for i in range(20)]
    (mount.path / "a.txt").write_text("".join(lines))
    mount.settled("a.txt")

    killed_after_close(mount, "a.txt", "".join(["mine\n"] + lines[1:]),
                       "sed 's/line 19/others/' a.txt > $TMPDIR/copy; cat $TMPDIR/copy > a.txt")
    text = (mount.path / "a.txt").read_text()
    assert text == "".join(["mine\n"] + lines[1:19] + ["others\n"])
    assert conflicts(mount) == []
    assert mount.log("a.txt")[0]["verdict"] == "merged"


@pytest.mark.mount("allow_other", "turn_wait=0.1")
def test_a_crash_leaves_the_conflict_of_a_save_that_was_open_still(mount):
    (mount.path / "a.txt").write_text("one\n")
    mount.settled("a.txt")

    killed_after_close(mount, "a.txt", "mine\n", "cat a.txt > /dev/null; echo others > a.txt", closes=errno.EBUSY)
    assert (mount.path / "a.txt").read_text() == "others\n"
    (conflict,) = conflicts(mount)
    assert conflict["path"] == "a.txt" and conflict["user"] == "root" and conflict["basis"] == 1
    assert mount.cli("conflicts", "show", str(conflict["id"])).stdout == "mine\n"
    assert mount.cli("conflicts", "take", str(conflict["id"])).returncode == 0
    assert (mount.path / "a.txt").read_text() == "mine\n"


@pytest.mark.mount("allow_other", "turn_wait=0.1")
def test_a_save_that_a_crash_interrupts_follows_what_it_was_made_from(mount):
    (mount.path / "a.txt").write_text("one\n")
    mount.settled("a.txt")
    killed_after_close(mount, "a.txt", "mine\n", ":")
    assert (mount.path / "a.txt").read_text() == "mine\n"
    assert conflicts(mount) == []
    assert mount.log("a.txt")[0]["verdict"] == "next"
