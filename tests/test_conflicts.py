"""Refused, not lost: how a program is told, and how people find, take or drop what was refused."""
import os
import re
import subprocess
from datetime import datetime

import pytest

from lib.actor import Actor
from lib.procs import NOBODY
from lib.stale import check_refused, conflicts, counters, published, resolve, set_policy, set_setting, shown, siblings

TEXT, THEIRS, MINE = "one\n\ntwo\n", "ONE\n\ntwo\n", "eins\n\ntwo\n"


@pytest.fixture
def f(mount):
    path = mount.path / "notes.txt"
    path.write_text(TEXT)
    published(mount)
    return path


@pytest.fixture
def a(mount, f):
    """Who has read it before somebody else saved it."""
    actor = Actor(mount)
    actor.read(f.name)
    somebody = Actor(mount)
    somebody.read(f.name)
    assert somebody.save(f.name, THEIRS) == "saved"
    somebody.end()
    return actor


@pytest.fixture
def refused(mount, f, a):
    """A refused save of his: its conflict."""
    assert a.save(f.name, MINE) == "close: EBUSY"
    found = conflicts(mount)
    assert len(found) == 1
    return found[0]


# How a program is told

def test_refused_at_close(mount, f, a):
    assert a.save(f.name, MINE) == "close: EBUSY"
    assert f.read_text() == THEIRS
    check_refused(mount, f.name, {a.pid: MINE})
    assert shown(mount, f.name)[0]["version"] == 2


def test_refused_at_fsync_and_once_only(mount, f, a):
    a.open(f.name, "w")
    a.write(f.name, MINE)
    assert a.fsync(f.name) == "fsync: EBUSY"
    assert a.fsync(f.name) == "fsync: EBUSY"
    assert a.finish(f.name) in ("close: EBUSY", "saved")
    assert f.read_text() == THEIRS
    check_refused(mount, f.name, {a.pid: MINE}, with_siblings=False)
    assert counters(mount)["refused"] == 1


def test_refused_at_each_close_and_once_only(mount, f, a):
    """Of a descriptor and its duplicate: the file is not a conflict twice."""
    a.open(f.name, "w")
    a.write(f.name, MINE)
    assert a.close_twice(f.name)[0] == "close: EBUSY"
    published(mount)
    assert f.read_text() == THEIRS
    check_refused(mount, f.name, {a.pid: MINE})
    assert counters(mount)["refused"] == 1


def test_refused_at_rename_and_again(mount, f, a):
    assert a.save_by_rename(f.name, MINE, "tmp") == "rename: EBUSY"
    assert a.rename("tmp", f.name) == "rename: EBUSY"
    assert f.read_text() == THEIRS
    a.unlink("tmp")
    check_refused(mount, f.name, {a.pid: MINE}, with_siblings=False)


def test_what_was_written_in_place_is_refused_as_a_whole(mount, f, a):
    """A save that began from the new head, by a program that has read the old one."""
    a.open(f.name, "r+")
    a.write(f.name, MINE)
    a.truncate(f.name, len(MINE))
    assert a.finish(f.name) == "close: EBUSY"
    assert f.read_text() == THEIRS
    check_refused(mount, f.name, {a.pid: MINE})


def test_a_save_that_was_begun_before_the_others(mounts, place):
    """The turn was his, but not for ever: the other one went ahead, and his own save is then stale."""
    mount = mounts("turn_wait=1")
    f = mount.path / "f"
    f.write_text(TEXT)
    published(mount)
    a, b = Actor(mount), Actor(mount)
    a.read("f")
    a.open("f", "w")
    a.write("f", MINE)
    b.read("f")
    assert b.save("f", THEIRS) == "saved"
    assert a.finish("f") == "close: EBUSY"
    assert f.read_text() == THEIRS
    check_refused(mount, "f", {a.pid: MINE})


@pytest.mark.parametrize("command, code", [
    ("echo eins > notes.txt; echo $?", 0), ("printf eins | tee notes.txt", 1), ("printf eins | dd of=notes.txt status=none", 1),
    ("echo eins > tmp; mv tmp notes.txt", 1), ("echo eins > tmp; cp tmp notes.txt", 1)])
def test_what_shells_make_of_it(mount, f, command, code):
    """Many notice nothing. Who does says that the file is busy, and nobody says that it is stale."""
    shell = mount.popen(f"cat notes.txt > /dev/null; echo read; read -r line; {command}",
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert shell.stdout.readline() == "read\n"
    somebody = Actor(mount)
    somebody.read(f.name)
    assert somebody.save(f.name, THEIRS) == "saved"
    _, said = shell.communicate("\n", timeout=30)
    assert shell.returncode == code
    assert "tale" not in said and ("busy" in said) == bool(code)
    published(mount)
    assert f.read_text() == THEIRS
    assert [resolve(mount, "show", c).strip() for c in conflicts(mount)] == ["eins"]


# How it is listed

def test_what_is_listed(mount, f, a, refused):
    assert refused["path"] == f.name
    assert refused["pid"] == a.pid
    assert refused["program"].startswith("python")
    assert refused["size"] == len(MINE)
    assert abs(datetime.fromisoformat(refused["time"].replace("Z", "+00:00")).timestamp() - os.stat(f).st_mtime) < 100
    check_refused(mount, f.name, {a.pid: MINE})


def test_it_is_listed_for_people(mount, f, refused):
    done = mount.cli("conflicts")
    assert done.returncode == 0
    line = next(line for line in done.stdout.splitlines() if f.name in line)
    assert str(refused["id"]) in line.split() and mount.who.pw_name in line


def test_it_is_listed_of_the_path_that_is_asked_for(mount, f, refused):
    mount.sh("mkdir d; echo x > other")
    assert conflicts(mount, f.name) == conflicts(mount, ".") == [refused]
    assert conflicts(mount, "other") == conflicts(mount, "d") == []


def test_nothing_is_listed_where_nothing_was_refused(mount, f):
    assert conflicts(mount) == []
    assert counters(mount)["conflicts"] == counters(mount)["refused"] == 0


def test_status_counts_it(mount, f, a, refused):
    before = counters(mount)
    assert (before["refused"], before["conflicts"]) == (1, 1)
    resolve(mount, "drop", refused)
    after = counters(mount)
    assert (after["refused"], after["conflicts"]) == (1, 0)


def test_the_sibling_is_named_after_the_file(mount, f, refused):
    host, user = os.uname().nodename, mount.who.pw_name
    assert re.fullmatch(rf"notes \(conflict, {user}, {re.escape(host)}, [^()/]+\)\.txt", refused["sibling"])
    assert siblings(mount, f.name) == {refused["sibling"]: MINE}
    assert set(os.listdir(mount.path)) == {f.name, refused["sibling"]}
    assert mount.sh('cat "$1"', refused["sibling"]) == MINE


@pytest.mark.parametrize("name", ["plain", ".hidden", "a.tar.gz", "d/below.txt", "ä ö", "x" * 250, "x" * 251 + ".txt"])
def test_any_name_can_have_a_sibling(mount, name):
    """A long one is shortened; the extension stays, so that it opens with the same program."""
    (mount.path / "d").mkdir()
    f = mount.path / name
    f.write_text(TEXT)
    published(mount)
    a, b = Actor(mount), Actor(mount)
    a.read(name)
    b.read(name)
    assert b.save(name, THEIRS) == "saved"
    assert a.save(name, MINE) == "close: EBUSY"
    conflict, = conflicts(mount)
    assert conflict["path"] == name
    sibling = f.with_name(conflict["sibling"])
    assert sibling.read_text() == MINE and "(conflict, " in sibling.name
    if name not in ("plain", ".hidden", "x" * 250):
        assert sibling.suffix == f.suffix
    resolve(mount, "drop", conflict)
    assert not sibling.exists()


def test_two_refused_in_one_second_have_two_siblings(mount, f, a):
    others = [Actor(mount) for _ in range(3)]
    for actor in others:
        assert "two" in actor.read(f.name)
    somebody = Actor(mount)
    somebody.read(f.name)
    assert somebody.save(f.name, TEXT) == "saved"
    for i, actor in enumerate(others):
        assert actor.save(f.name, f"{i}\n\ntwo\n") == "close: EBUSY"
    check_refused(mount, f.name, {actor.pid: f"{i}\n\ntwo\n" for i, actor in enumerate(others)})


def test_siblings_can_be_switched_off(mount, f, a):
    set_setting(mount, "siblings", "off")
    assert a.save(f.name, MINE) == "close: EBUSY"
    assert os.listdir(mount.path) == [f.name]
    check_refused(mount, f.name, {a.pid: MINE}, with_siblings=False)
    assert conflicts(mount)[0]["sibling"] is None


@pytest.mark.parametrize("how", ["unlink", "rename"])
def test_a_file_that_its_program_removed_before_it_was_refused_is_not_left_empty(mount, f, a, how):
    """It is gone, as the program wanted, or as the others saved it; nobody saved an empty one."""
    assert a.save_after(how, f.name, MINE) == "close: EBUSY"
    assert not f.exists() or f.read_text() == THEIRS
    assert [resolve(mount, "show", c) for c in conflicts(mount)] == [MINE]
    assert THEIRS.encode() in mount.versions(f.name).values()


# How it is resolved

def test_take(mount, f, a, refused):
    resolve(mount, "take", refused)
    assert f.read_text() == MINE
    assert shown(mount, f.name)[0]["version"] == max(mount.versions(f.name))
    assert THEIRS.encode() in mount.versions(f.name).values()
    assert conflicts(mount) == [] and os.listdir(mount.path) == [f.name]


def test_drop(mount, f, a, refused):
    resolve(mount, "drop", refused)
    assert f.read_text() == THEIRS
    assert conflicts(mount) == [] and os.listdir(mount.path) == [f.name]


def test_show_changes_nothing(mount, f, refused):
    assert resolve(mount, "show", refused) == MINE
    assert conflicts(mount) == [refused]


@pytest.mark.parametrize("verb", ["show", "take", "drop"])
def test_what_is_not_there(mount, f, refused, verb):
    for wrong in ("nothing", "0", "999999", ""):
        done = mount.cli("conflicts", verb, wrong)
        assert done.returncode in (1, 2) and done.stderr
    resolve(mount, "drop", refused)
    done = mount.cli("conflicts", verb, str(refused["id"]))
    assert done.returncode == 1 and done.stderr
    assert f.read_text() == THEIRS


def test_each_is_resolved_by_itself(mount, f, a):
    b = Actor(mount)
    b.read(f.name)
    somebody = Actor(mount)
    somebody.read(f.name)
    assert somebody.save(f.name, "uno\n\ntwo\n") == "saved"
    assert a.save(f.name, MINE) == "close: EBUSY"
    assert b.save(f.name, "un\n\ntwo\n") == "close: EBUSY"
    found = {c["pid"]: c for c in conflicts(mount)}
    resolve(mount, "take", found[b.pid])
    assert f.read_text() == "un\n\ntwo\n"
    check_refused(mount, f.name, {a.pid: MINE})
    resolve(mount, "drop", found[a.pid])
    assert conflicts(mount) == [] and os.listdir(mount.path) == [f.name]


@pytest.mark.parametrize("how", ["save", "save_by_rename"])
def test_it_is_cleared_when_its_program_succeeds(mount, f, a, refused, how):
    assert a.read(f.name) == THEIRS
    args = ["tmp"] if how == "save_by_rename" else []
    assert getattr(a, how)(f.name, MINE, *args) == "saved"
    assert f.read_text() == MINE
    assert conflicts(mount) == [] and os.listdir(mount.path) == [f.name]
    assert counters(mount)["refused"] == 1


def test_it_is_not_cleared_when_another_program_succeeds(mount, f, a, refused):
    b = Actor(mount)
    b.read(f.name)
    assert b.save(f.name, "uno\n\ntwo\n") == "saved"
    check_refused(mount, f.name, {a.pid: MINE})


def test_it_is_not_cleared_when_its_program_saves_another_file(mount, f, a, refused):
    assert a.save("other", "other\n") == "saved"
    check_refused(mount, f.name, {a.pid: MINE})


def test_it_is_not_cleared_when_its_program_puts_back_what_was_there(mount, f, a, refused):
    """As vim does after an error, from the copy that it made just before: it is no save of its own."""
    a.copy(f.name, "backup")
    a.copy("backup", f.name)
    published(mount)
    assert f.read_text() == THEIRS
    check_refused(mount, f.name, {a.pid: MINE})


def test_it_outlives_its_program_and_the_mount(mount, f, a, refused):
    a.end()
    mount.remount()
    assert conflicts(mount) == [refused]
    assert counters(mount)["conflicts"] == 1
    check_refused(mount, f.name, {refused["pid"]: MINE})
    resolve(mount, "take", refused)
    assert f.read_text() == MINE
    assert conflicts(mount) == [] and os.listdir(mount.path) == [f.name]


def test_it_outlives_a_crash(mount, f, a, refused):
    """From the moment at which close has returned."""
    a.end()
    mount.kill()
    mount.start()
    assert f.read_text() == THEIRS
    check_refused(mount, f.name, {refused["pid"]: MINE})


def test_it_outlives_the_file(mount, f, a, refused):
    f.unlink()
    found, = conflicts(mount)
    assert resolve(mount, "show", found) == MINE
    resolve(mount, "take", found)
    assert f.read_text() == MINE
    assert conflicts(mount) == [] and os.listdir(mount.path) == [f.name]


def test_it_goes_along_with_the_file(mount, f, a, refused):
    mount.sh("mkdir d; mv notes.txt d/other.txt")
    found, = conflicts(mount)
    assert found["id"] == refused["id"]
    resolve(mount, "take", found)
    taken = [path for path in (f, mount.path / "d/other.txt") if path.exists() and path.read_text() == MINE]
    assert len(taken) == 1
    assert conflicts(mount) == []


@pytest.mark.mount("allow_other")
def test_it_is_private(mount, f, refused):
    """Who may not read the file reads neither what was refused of it nor that it was. (A sibling is a file of its own, with the mode that
    the file had when it was made.)"""
    for verb in ("show", "take", "drop"):
        assert mount.cli("conflicts", verb, str(refused["id"]), user=NOBODY, cwd=mount.root).returncode != 0
    mount.path.chmod(0o755)
    f.chmod(0o600)
    done = mount.cli("conflicts", "--json", user=NOBODY)
    assert MINE not in done.stdout and f.name not in done.stdout
    for verb in ("show", "take", "drop"):
        assert mount.cli("conflicts", verb, str(refused["id"]), user=NOBODY).returncode != 0
    f.chmod(0o644)
    for verb in ("take", "drop"):
        assert mount.cli("conflicts", verb, str(refused["id"]), user=NOBODY).returncode != 0, "he may read, and no more"
    assert [c["id"] for c in conflicts(mount)] == [refused["id"]]


def test_refuse_at_open_leaves_nothing(mount, f, a):
    """Nothing was written, so there is nothing to keep."""
    set_policy(mount, "*.txt", "refuse")
    assert a.save(f.name, MINE) == "open: EBUSY"
    assert conflicts(mount) == [] and os.listdir(mount.path) == [f.name]
    assert f.read_text() == THEIRS
