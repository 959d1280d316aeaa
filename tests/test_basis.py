"""The basis rule, case by case: which version a program last saw, and what becomes of a save that began from another."""
import errno
import os
import subprocess

import pytest

from lib.actor import Actor
from lib.crowd import check_no_error, race
from lib.stale import (PATIENT, check_refused, conflicts, counters, published, resolve, set_policy, set_setting, shown,
                       undisturbed)

TEXT = "one\n\ntwo\n\nthree\n"
# What the others save, what a stale program saves, and what both together are.
THEIRS, MINE, BOTH = "ONE\n\ntwo\n\nthree\n", "one\n\ntwo\n\nTHREE\n", "ONE\n\ntwo\n\nTHREE\n"
OVERLAP = "eins\n\ntwo\n\nthree\n"


@pytest.fixture
def f(mount):
    path = mount.path / "f"
    path.write_text(TEXT)
    published(mount)
    return path


@pytest.fixture
def others(mount, f):
    """others(text): somebody who reads what there is and saves a text; nobody else's parent or child."""
    somebody = Actor(mount)

    def save(text=THEIRS, path="f"):
        somebody.read(path)
        assert somebody.save(path, text) == "saved"
    return save


def verdicts(mount, path="f"):
    return [v["verdict"] for v in shown(mount, path)]


def merged(mount, f, text=BOTH):
    assert f.read_text() == text
    assert verdicts(mount)[0] == "merged"
    assert conflicts(mount) == []


# What counts as a look

@pytest.mark.parametrize("how", ["read", "read_in_thread", "read_mapped"])
def test_what_a_process_read_is_its_basis(mount, f, others, how):
    a = Actor(mount)
    getattr(a, how)("f")
    others()
    assert a.save("f", MINE) == "saved"
    merged(mount, f)


@pytest.mark.parametrize("how", ["save", "save_in_thread", "save_in_fork"])
def test_who_has_no_basis_of_its_own_has_its_parents(mount, f, others, how):
    a = Actor(mount)
    a.read("f")
    others()
    assert getattr(a, how)("f", MINE) == "saved"
    merged(mount, f)


def test_a_parent_reads_and_a_child_saves(mount, f, others):
    a = Actor(mount)
    a.read("f")
    others()
    assert a.run(f"printf '{MINE}' > f")[0] == 0
    published(mount)
    merged(mount, f)


@pytest.mark.parametrize("command", ["cat f", "(cat f)", "sh -c '(cat f); true'", "cat f | cat"])
def test_a_child_reads_and_exits_and_the_parent_saves(mount, f, others, command):
    a = Actor(mount)
    assert a.run(command)[1] == TEXT
    others()
    assert a.save("f", MINE) == "saved"
    merged(mount, f)


def test_what_a_child_saw_is_inherited_for_a_time(mount, f, others):
    """When that time is over, its parent has no basis, and its save is blind."""
    set_setting(mount, "inherit_seconds", "0")
    a = Actor(mount)
    assert a.run("cat f")[1] == TEXT
    others()
    assert a.save("f", MINE) == "saved"
    assert f.read_text() == MINE
    assert verdicts(mount)[0] == "blind"


def test_a_parent_has_not_seen_what_its_helper_saw(mount, f, others):
    """An editor that runs `git diff` after somebody else has saved: it knows no more than before of the file."""
    a = Actor(mount)
    a.read("f")
    others()
    assert a.run("cat f")[1] == THEIRS
    assert a.save("f", MINE) == "saved"
    merged(mount, f)


def test_a_parent_has_not_seen_what_its_helper_saw_and_is_refused(mount, f, others):
    a = Actor(mount)
    a.read("f")
    others()
    assert a.run("grep -c . f")[0] == 0
    assert a.save("f", OVERLAP) == "close: EBUSY"
    check_refused(mount, "f", {a.pid: OVERLAP})
    assert f.read_text() == THEIRS


def test_a_copy_is_not_a_look(mount, f, others):
    """As vim with backupcopy=yes does: it reads the file once more, to copy it, just before it saves."""
    a = Actor(mount)
    a.read("f")
    others()
    a.copy("f", "f~")
    assert a.save("f", MINE) == "saved"
    merged(mount, f)
    assert (mount.path / "f~").read_text() == THEIRS


def test_a_copy_does_not_undo_a_look(mount, f, others):
    """It has read what it then copies: vim, when it opened the file, and just before it saves."""
    a = Actor(mount)
    a.read("f")
    others()
    a.read("f")
    with undisturbed(mount):
        for text in (OVERLAP, "zwei\n", "drei\n"):
            a.copy("f", "f~")
            assert a.save("f", text) == "saved"
            assert verdicts(mount)[0] == "next"
    assert f.read_text() == "drei\n"


def test_a_copy_that_is_changed_was_a_look(mount, f, others):
    a = Actor(mount)
    a.read("f")
    others()
    with undisturbed(mount):
        text = a.read("f")
        assert a.save("g", text + "more\n") == "saved"
        assert a.save("f", OVERLAP) == "saved"
    assert f.read_text() == OVERLAP
    assert verdicts(mount)[0] == "next"


def test_who_reads_again_is_not_stale(mount, f, others):
    a = Actor(mount)
    a.read("f")
    others()
    a.read("f")
    with undisturbed(mount):
        assert a.save("f", OVERLAP) == "saved"
    assert f.read_text() == OVERLAP
    assert verdicts(mount) == ["next", "next", verdicts(mount)[-1]]


def test_a_reader_that_still_has_the_old_version_open(mount, f, others):
    """It opened it before the other's save, and reads from that descriptor afterwards: it has seen the old one."""
    a = Actor(mount)
    a.open("f", "r")
    others()
    assert a.contents("f") == TEXT
    a.close("f")
    assert a.save("f", MINE) == "saved"
    merged(mount, f)


def test_an_open_for_update_is_a_look_at_what_it_starts_from(mount, f, others):
    others()
    a = Actor(mount)
    with undisturbed(mount):
        a.open("f", "r+")
        assert a.contents("f") == THEIRS
        a.write("f", "eins")
        a.truncate("f", 4)
        assert a.finish("f") == "saved"
    assert f.read_text() == "eins"
    assert verdicts(mount)[0] == "next"


def test_other_names_of_a_file_share_its_basis(mount, f, others):
    os.link(f, mount.path / "g")
    a = Actor(mount)
    a.read("f")
    others(THEIRS, "g")
    assert a.save("f", MINE) == "saved"
    merged(mount, f)
    assert (mount.path / "g").read_text() == BOTH
    b = Actor(mount)
    b.read("g")
    others(THEIRS, "f")
    assert b.save("g", "ONE\n\ntwo\n\ndrei\n") == "close: EBUSY"
    assert f.read_text() == (mount.path / "g").read_text() == THEIRS


# Ways to save

@pytest.mark.parametrize("what", ["unlink", "rename"])
def test_what_replaces_the_file_is_a_save_of_it(mount, f, others, what):
    a = Actor(mount)
    a.read("f")
    others()
    assert a.save_after(what, "f", MINE) == "saved"
    merged(mount, f)


@pytest.mark.parametrize("temporary", ["f.tmp", "d/tmp"])
def test_a_rename_is_a_save_of_its_target(mount, f, others, temporary):
    (mount.path / "d").mkdir()
    a = Actor(mount)
    a.read("f")
    others()
    assert a.save_by_rename("f", MINE, temporary) == "saved"
    merged(mount, f)
    assert not (mount.path / temporary).exists()


def test_a_refused_rename_changes_nothing(mount, f, others):
    a = Actor(mount)
    a.read("f")
    others()
    assert a.save_by_rename("f", OVERLAP, "tmp") == "rename: EBUSY"
    assert f.read_text() == THEIRS
    assert (mount.path / "tmp").read_text() == OVERLAP
    a.unlink("tmp")
    check_refused(mount, "f", {a.pid: OVERLAP}, with_siblings=False)


@pytest.mark.parametrize("who", ["writer", "renamer"])
def test_a_rename_has_the_older_basis_of_its_writer_and_its_renamer(mount, f, others, who):
    writer, renamer = Actor(mount), Actor(mount)
    (writer if who == "writer" else renamer).read("f")
    if who == "renamer":
        others()
        writer.read("f")
    assert writer.save("tmp", MINE) == "saved"
    if who == "writer":
        others()
        renamer.read("f")
    assert renamer.rename("tmp", "f") == "saved"
    merged(mount, f)


def test_an_append_is_never_stale(mount, f, others):
    a = Actor(mount)
    a.read("f")
    others()
    with undisturbed(mount):
        a.open("f", "a")
        a.write("f", "four\n")
        assert a.finish("f") == "saved"
    assert f.read_text() == THEIRS + "four\n"


# Verdicts

def test_a_blind_save_goes_on_top_and_is_counted(mount, f):
    before = counters(mount)
    a = Actor(mount)
    assert a.save("f", "blind\n") == "saved"
    assert f.read_text() == "blind\n"
    assert verdicts(mount)[0] == "blind"
    assert mount.versions("f")[1] == TEXT.encode()
    assert {**before, "blind_over": before["blind_over"] + 1} == counters(mount)
    # What it saved is its basis from now on.
    assert a.save("f", "seen\n") == "saved"
    assert verdicts(mount)[0] == "next"
    assert counters(mount)["blind_over"] == before["blind_over"] + 1


def test_a_head_that_equals_the_basis_is_not_stale(mount, others):
    """What nothing could merge: the others changed it, and changed it back."""
    f = mount.path / "f"
    f.write_bytes(TEXT.encode() + b"\0")
    published(mount)
    a = Actor(mount)
    a.read("f")
    others(THEIRS)
    others(TEXT + "\0")
    with undisturbed(mount):
        assert a.save("f", "mine\0") == "saved"
    assert f.read_bytes() == b"mine\0"


def test_what_saves_nothing_new_is_no_save(mount, f, others):
    """A stale program that writes back what it read has changed nothing, so the other's change stays."""
    a = Actor(mount)
    a.read("f")
    others()
    assert a.save("f", TEXT) == "saved"
    assert f.read_text() == THEIRS
    assert conflicts(mount) == []


def test_binary_is_never_merged(mount, others):
    f = mount.path / "f"
    f.write_text("one\0" + TEXT)
    published(mount)
    a = Actor(mount)
    a.read("f")
    others("one\0" + THEIRS)
    assert a.save("f", "one\0" + MINE) == "close: EBUSY"
    assert f.read_text() == "one\0" + THEIRS
    check_refused(mount, "f", {a.pid: "one\0" + MINE})


# Basis, theirs, mine, and the merge; None where they overlap.
MERGES = {
    "a number, to the same": ("5\n", "6\n", "6\n", None),
    "a number in a line, to the same": ("count: 5 of 9\n", "count: 6 of 9\n", "count: 6 of 9\n", None),
    "a line, to the same": ("five\n", "six\n", "six\n", "six\n"),
    "a JSON number, to the same": ('{"n": 5}', '{"n": 6}', '{"n": 6}', None),
    "a JSON string, to the same": ('{"n": "five"}', '{"n": "six"}', '{"n": "six"}', '{"n": "six"}'),
    "a JSON string, to different ones": ('{"n": "five"}', '{"n": "six"}', '{"n": "seven"}', None),
    "different keys": ('{"a": 1, "b": 1}', '{"a": 2, "b": 1}', '{"a": 1, "b": 2}', '{"a": 2, "b": 2}'),
    "elements added": ('{"l": [1]}', '{"l": [1, 2]}', '{"l": [1, 3]}', '{"l": [1, 2, 3]}'),
    "equal elements added": ('["a"]', '["a", "b"]', '["a", "b"]', '["a", "b", "b"]'),
    "equal lines added": ("a\n", "a\nb\n", "a\nb\n", "a\nb\nb\n"),
    "a number written otherwise": ('{"a": 1.50, "b": 1}', '{"a": 1.50, "b": 2}', '{"a": 1.50, "b": 1, "c": 3}',
                                   '{"a": 1.50, "b": 2, "c": 3}'),
    "no newline at the end": ("a\n\nb\n\nc", "A\n\nb\n\nc", "a\n\nb\n\nC", "A\n\nb\n\nC"),
    "DOS line ends": ("a\r\n\r\nb\r\n\r\nc\r\n", "A\r\n\r\nb\r\n\r\nc\r\n", "a\r\n\r\nb\r\n\r\nC\r\n",
                      "A\r\n\r\nb\r\n\r\nC\r\n"),
    "deleted by one, changed by the other": ("a\nb\nc\n", "a\nc\n", "a\nB\nc\n", None),
}


@pytest.mark.parametrize("basis, theirs, mine, both", MERGES.values(), ids=MERGES)
def test_merging(mount, others, basis, theirs, mine, both):
    f = mount.path / "f"
    f.write_bytes(basis.encode())
    published(mount)
    a = Actor(mount)
    a.read("f")
    others(theirs)
    assert a.save("f", mine) == ("saved" if both else "close: EBUSY")
    assert f.read_bytes().decode() == (both or theirs)
    if both:
        assert conflicts(mount) == []
    else:
        assert [resolve(mount, "show", c) for c in conflicts(mount)] == [mine]


def test_who_was_merged_is_merged_right_again(mount):
    """Two programs keep their state in memory, never read again, and lose nothing of each other's."""
    f = mount.path / "f"
    f.write_text('{"a": 0, "b": 0, "c": 0}')
    published(mount)
    a, b = Actor(mount), Actor(mount)
    a.read("f")
    b.read("f")
    for i in range(1, 6):
        assert a.save("f", '{"a": %d, "b": 0, "c": 0}' % i) == "saved"
        assert b.save("f", '{"a": 0, "b": %d, "c": 0}' % i) == "saved"
        assert f.read_text() == '{"a": %d, "b": %d, "c": 0}' % (i, i)
    assert a.read("f") == '{"a": 5, "b": 5, "c": 0}'
    assert a.save("f", '{"a": 6, "b": 6, "c": 6}') == "saved"
    assert verdicts(mount)[0] == "next"
    found = counters(mount)
    assert (found["merged"], found["refused"]) == (9, 0)


# Policies

def test_overwrite(mount, f, others):
    set_policy(mount, "f", "overwrite")
    a = Actor(mount)
    a.read("f")
    others()
    with undisturbed(mount):
        assert a.save("f", OVERLAP) == "saved"
    assert f.read_text() == OVERLAP
    assert verdicts(mount)[:2] == ["over", "next"]
    assert set(mount.versions("f").values()) == {text.encode() for text in (TEXT, THEIRS, OVERLAP)}


@pytest.mark.parametrize("how", ["open", "rename"])
def test_refuse_at_once(mount, f, others, how):
    """Where it is known: what could be merged is refused, too."""
    set_policy(mount, "f", "refuse")
    a = Actor(mount)
    a.read("f")
    others()
    told = a.save("f", MINE) if how == "open" else a.save_by_rename("f", MINE, "tmp")
    assert told == f"{how}: EBUSY"
    assert f.read_text() == THEIRS
    a.read("f")
    assert a.save("f", MINE) == "saved"
    assert f.read_text() == MINE


def test_a_policy_takes_effect_at_the_next_open(mount, f, others):
    a = Actor(mount)
    a.read("f")
    others()
    set_policy(mount, "*", "refuse")
    assert os.getxattr(f, "user.intactfs.policy") == b"refuse"
    assert a.save("f", MINE) == "open: EBUSY"
    set_policy(mount, "*", "merge")
    assert os.getxattr(f, "user.intactfs.policy") == b"merge"
    assert a.save("f", MINE) == "saved"
    merged(mount, f)


def test_a_policy_is_kept(mount, f):
    set_policy(mount, "f", "refuse")
    mount.remount()
    a, b = Actor(mount), Actor(mount)
    a.read("f")
    b.read("f")
    assert b.save("f", THEIRS) == "saved"
    assert a.save("f", MINE) == "open: EBUSY"


# Under turn, reading takes the turn

@pytest.fixture
def turn(mount, f):
    set_policy(mount, "f", "turn")
    return f


@pytest.mark.mount("turn_wait=100")
@pytest.mark.parametrize("end", ["saves", "exits", "is killed", "rests"])
def test_a_reader_has_the_turn_until_it(mount, turn, end):
    a, b = Actor(mount), Actor(mount)
    a.read("f")
    assert mount.turn("f")["holder"]["pid"] == a.pid
    b.tell("read", "f")
    if end != "rests":
        mount.waiting("f", 1)
    if end == "saves":
        assert a.save("f", THEIRS) == "saved"
    elif end == "exits":
        a.end()
    elif end == "is killed":
        a.process.kill()
    assert b.answer() == (THEIRS if end == "saves" else TEXT)
    assert mount.turn("f")["holder"]["pid"] == b.pid


@pytest.mark.mount("turn_wait=100")
def test_readers_that_wait_for_each_other(mount, turn):
    """Each has the one file's turn, and reads the other. The younger goes ahead, and the basis rule protects both."""
    (mount.path / "g").write_text(TEXT)
    published(mount)
    set_policy(mount, "g", "turn")
    a, b = Actor(mount), Actor(mount)
    a.read("f")
    b.read("g")
    a.tell("read", "g")
    mount.waiting("g", 1)
    assert b.read("f") == TEXT
    told = b.save("f", "b\n"), b.save("g", "b\n")
    a.answer()
    told += a.save("f", "a\n"), a.save("g", "a\n")
    assert set(told) <= {"saved", "open: EBUSY", "close: EBUSY"}
    for i, path in enumerate("fg"):
        saved = [who for who, said in zip("ba", told[i::2]) if said == "saved"]
        assert (mount.path / path).read_text() == (saved[-1] + "\n" if saved else TEXT)
    kept = sorted((c["path"], resolve(mount, "show", c)) for c in conflicts(mount))
    assert kept == sorted((path, who + "\n") for i, path in enumerate("fg")
                          for who, said in zip("ba", told[i::2]) if said == "close: EBUSY")


def test_a_child_that_read_does_not_hold_the_turn_for_its_parent(mount, turn):
    """`n=$(cat f); echo $((n + 1)) > f`: what is too late is refused, and found."""
    turn.write_text("0\n")
    published(mount)
    script = 'echo ready; read -r line; n=$(cat f); echo $((n + 1)) > f; echo $((n + 1))'
    ended = race(mount.popen, [["/bin/sh", "-c", script]] * 10)
    check_no_error(ended)
    published(mount)
    refused = {c["pid"] for c in conflicts(mount, "f")}
    assert turn.read_text() == f"{10 - len(refused)}\n"
    check_refused(mount, "f", {e.pid: e.out for e in ended if e.pid in refused})


# For programs that want to know

def test_if_match(mount, f, others):
    a = Actor(mount)
    assert a.getxattr("f", "user.intactfs.version") == "1"
    a.setxattr("f", "user.intactfs.if_match", "1")
    assert a.save("f", MINE) == "saved"
    assert a.getxattr("f", "user.intactfs.version") == "2"
    # It was for one save.
    assert a.save("f", TEXT) == "saved"
    # Even what could be merged is refused.
    others()
    a.setxattr("f", "user.intactfs.if_match", "3")
    assert a.save("f", MINE) in ("open: EBUSY", "close: EBUSY")
    assert f.read_text() == THEIRS
    assert a.save("f", MINE) == "saved"
    assert f.read_text() == BOTH


def test_if_match_is_for_who_set_it(mount, f, others):
    a = Actor(mount)
    a.setxattr("f", "user.intactfs.if_match", "1")
    others()
    others(TEXT)
    assert a.save_by_rename("f", MINE, "tmp") == "rename: EBUSY"
    assert f.read_text() == TEXT


@pytest.mark.parametrize("value", ["", "x", "-1", "1x"])
def test_if_match_that_is_no_version(mount, f, value):
    with pytest.raises(OSError) as e:
        os.setxattr(f, "user.intactfs.if_match", value.encode())
    assert e.value.errno == errno.EINVAL


# intactfs hold

@pytest.mark.mount(PATIENT)
@pytest.mark.parametrize("what", ["a", "."])
def test_hold(mount, what):
    """Scripts of several steps and programs, of a file, or of several in a tree."""
    files = ["a"] if what == "a" else ["a", "b"]
    for name in files:
        (mount.path / name).write_text("0\n")
    script = "for x in " + " ".join(files) + "; do n=$(cat $x); echo $((n + 1)) > $x; done"
    held = f"""echo ready; read -r line
        i=0; while [ $i -lt 5 ]; do intactfs hold {what} -- sh -c '{script}' || exit 1; i=$((i + 1)); done"""
    with undisturbed(mount):
        check_no_error(race(mount.popen, [["/bin/sh", "-c", held]] * 5))
    for name in files:
        assert (mount.path / name).read_text() == "25\n"


def test_hold_ends_as_its_command_does(mount, f):
    assert mount.cli("hold", "f", "--", "sh", "-c", "cat f; exit 7").returncode == 7
    assert mount.cli("hold", "f", "--", "cat", "f").stdout == TEXT
    assert mount.cli("hold", "f", "--", "no-such-command").returncode not in (0, 1)
    assert mount.turn("f")["holder"] is None


@pytest.mark.mount("turn_wait=100")
def test_hold_makes_others_wait(mount, f):
    held = mount.popen("exec intactfs hold f -- sh -c 'echo held; read -r line; echo mine > f'",
                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert held.stdout.readline() == "held\n"
    a = Actor(mount)
    a.tell("save", "f", "theirs\n")
    mount.waiting("f", 1)
    held.communicate("\n", timeout=30)
    assert held.returncode == 0
    assert a.answer() == "saved"
    assert f.read_text() == "theirs\n"
    assert [text for _, text in sorted(mount.versions("f").items())] == [TEXT.encode(), b"mine\n", b"theirs\n"]
