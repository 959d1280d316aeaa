"""History: FILE@@ is a directory of the file's versions."""
import errno
import json
import os
from pathlib import Path

import pytest

from lib import xxh
from lib.procs import NOBODY, as_user


@pytest.fixture
def f(mount):
    """Three versions: one, two, three."""
    mount.sh("echo one > f; echo two > f; echo three > f")
    mount.settled("f")
    return mount.path / "f"


def fails(code, call, *args, **kwargs):
    with pytest.raises(OSError) as e:
        call(*args, **kwargs)
    assert errno.errorcode[e.value.errno] == errno.errorcode[code]


def test_listing_and_reading(mount, f):
    assert mount.sh("ls f@@") == "1\n2\n3\n"
    assert mount.sh("cat f@@/1 f@@/3 f@@/2") == "one\nthree\ntwo\n"
    assert mount.sh("wc -c < f@@/3; stat -c %s f@@/3") == "6\n6\n"
    fails(errno.ENOENT, os.stat, f"{f}@@/4")
    fails(errno.ENOENT, os.stat, f"{f}@@/0")
    fails(errno.ENOENT, os.stat, f"{f}@@/01")
    fails(errno.ENOENT, os.stat, f"{f}@@/x")
    fails(errno.ENOENT, os.stat, f"{f}@@/99999999999999999999")


def test_it_is_not_listed(mount, f):
    assert mount.sh("ls -A") == "f\n"
    assert mount.sh("find . -name '*@@*'") == ""
    assert mount.sh("cat f@@/1; ls -A") == "one\nf\n"


def test_diff_and_copying_back(mount, f):
    assert mount.run("diff f@@/1 f").stdout == "1c1\n< one\n---\n> three\n"
    mount.sh("cp f@@/1 f")
    assert f.read_text() == "one\n"
    assert mount.versions("f") == {1: b"one\n", 2: b"two\n", 3: b"three\n", 4: b"one\n"}
    mount.sh("cp -r f@@ all && cat all/2")


def test_it_is_read_only(mount, f):
    history = f"{f}@@"
    fails(errno.EROFS, os.open, f"{history}/1", os.O_WRONLY)
    fails(errno.EROFS, os.open, f"{history}/1", os.O_WRONLY | os.O_TRUNC)
    fails(errno.EROFS, os.open, f"{history}/9", os.O_WRONLY | os.O_CREAT)
    fails(errno.EROFS, os.unlink, f"{history}/1")
    fails(errno.EROFS, os.truncate, f"{history}/1", 0)
    fails(errno.EROFS, os.chmod, f"{history}/1", 0o777)
    fails(errno.EROFS, os.chown, f"{history}/1", 1, 1)
    fails(errno.EROFS, os.utime, f"{history}/1")
    fails(errno.EROFS, os.mkdir, f"{history}/d")
    fails(errno.EROFS, os.symlink, "x", f"{history}/l")
    fails(errno.EROFS, os.rename, f"{history}/1", f"{history}/5")
    fails(errno.EROFS, os.setxattr, f"{history}/1", "user.x", b"x")
    for call in (lambda: os.rmdir(history), lambda: os.link(f"{history}/1", f.parent / "l"),
                 lambda: os.rename(f"{history}/1", f.parent / "l"), lambda: os.rename(f, f"{history}/1")):
        with pytest.raises(OSError) as e:
            call()
        assert e.value.errno in (errno.EROFS, errno.EXDEV, errno.EPERM)
    assert mount.versions("f") == {1: b"one\n", 2: b"two\n", 3: b"three\n"}


def test_old_versions_have_the_attributes_of_then(mount):
    f = mount.path / "f"
    f.write_text("one")
    mount.settled("f")
    f.chmod(0o600)
    os.utime(f, ns=(10**18, 10**18 + 5))
    mount.sh("printf two > f")
    mount.settled("f")
    f.chmod(0o640)
    then = os.stat(f"{f}@@/1")
    assert then.st_size == 3
    assert then.st_mode & 0o7777 in (0o644, 0o600)
    assert os.stat(f"{f}@@/2").st_mode & 0o7777 in (0o600, 0o640)


def test_a_deleted_file_answers(mount, f):
    f.unlink()
    assert mount.sh("ls -A; ls f@@; cat f@@/2") == "1\n2\n3\ntwo\n"
    mount.remount()
    assert mount.sh("ls -A; ls f@@; cat f@@/2") == "1\n2\n3\ntwo\n"
    mount.sh("mkdir f; ls f@@; rmdir f; cat f@@/3")


def test_files_of_a_deleted_directory(mount):
    mount.sh("mkdir -p d/e; echo one > d/f; echo two > d/e/g; rm -r d")
    assert mount.sh("cat d@@/f@@/1 d@@/e@@/g@@/1") == "one\ntwo\n"
    assert mount.sh("intactfs show d/f --version 1; intactfs show d/e/g --version 1") == "one\ntwo\n"
    assert [e["path"] for e in mount.log("d/e/g")] == ["d/e/g"]
    assert {e["path"] for e in mount.log("d")} >= {"d/f", "d/e"}
    assert "mkdir -p" in mount.run("intactfs restore d/e/g --version 1").stderr
    mount.sh("mkdir -p d/e; ls d; intactfs restore d/e/g --version 1; cat d/e/g")
    assert mount.sh("cat d/f@@/1 d/e/g@@/2") == "one\ntwo\n"


def test_what_never_was_does_not_answer(mount):
    fails(errno.ENOENT, os.stat, mount.path / "never@@")
    fails(errno.ENOENT, os.stat, mount.path / "@@")
    fails(errno.ENOENT, os.listdir, mount.path / "never@@")
    mount.sh("echo never > never; cat never@@/1")


def test_a_real_name_that_ends_in_the_mark_wins(mount):
    """It has to be there before the file has a history: afterwards its name is taken."""
    mount.sh("echo real > f@@; mkdir g@@; echo x > g@@/1; echo one > f; echo one > g")
    assert mount.sh("ls -A; cat f@@ g@@/1") == "f\nf@@\ng\ng@@\nreal\nx\n"
    mount.sh("echo again > f@@; cat f@@; cat f@@@@/1; mv f@@ elsewhere; rm -r g@@")
    assert mount.sh("ls -A; cat f@@/1 g@@/1") == "elsewhere\nf\ng\none\none\n"


def test_a_name_of_255_bytes_with_and_without_a_history(mount):
    name = "n" * 255
    mount.sh('echo x > "$1" && cat "$1"', name)
    assert mount.log(name)[0]["version"] == 1
    name = "n" * 253
    mount.sh('echo x > "$1" && cat "$1@@/1"', name)


def test_names_that_are_not_utf8(mount):
    name = b"caf\xe9"
    path = os.path.join(os.fsencode(mount.path), name)
    with open(path, "wb") as f:
        f.write(b"x")
    mount.sh('cat "$1@@/1"', os.fsdecode(name))
    assert os.listdir(path + b"@@") == [b"1"]


def test_a_reader_of_an_old_version_keeps_it(mount, f):
    with open(f"{f}@@/1") as reader:
        mount.sh("echo four > f; rm f")
        assert reader.read() == "one\n"


def test_the_log_beside_the_versions(mount, f):
    log = json.loads(Path(f"{f}@@/.log").read_text())
    assert [e["version"] for e in log] == [3, 2, 1]
    assert ".log" not in os.listdir(f"{f}@@")
    operations = json.loads(Path(f"{mount.path}@@/.log").read_text())
    assert [e["seq"] for e in operations] == list(range(len(operations), 0, -1))


@pytest.mark.mount("allow_other")
def test_rights_of_then_and_of_now(mount):
    mount.path.chmod(0o755)
    f = mount.path / "f"
    read = lambda n: as_user(NOBODY, lambda: Path(f"{f}@@/{n}").read_text())
    f.write_text("public 1")
    f.chmod(0o644)
    mount.sh("printf 'public 2' > f")
    mount.settled("f")
    assert read(2) == "public 2"
    f.chmod(0o600)
    mount.sh("printf 'private 3' > f")
    mount.settled("f")
    for n in (1, 2, 3):
        with pytest.raises(PermissionError):
            read(n)
    f.chmod(0o644)
    assert read(2) == "public 2"
    with pytest.raises(PermissionError):
        read(3)
    mount.sh("printf 'public 4' > f")
    mount.settled("f")
    assert read(4) == "public 4"
    assert Path(f"{f}@@/3").read_text() == "private 3"


@pytest.mark.mount("allow_other")
def test_the_history_of_a_closed_directory_is_closed(mount):
    mount.path.chmod(0o755)
    mount.sh("mkdir -m 700 d; echo secret > d/f; echo more > d/f; rm d/f; echo x > d/g")
    mount.settled("d/g")
    for path in ("d/f@@/1", "d/g@@/1", "d/f@@/.log", "d@@/.log", "d/g@@"):
        with pytest.raises(PermissionError):
            as_user(NOBODY, lambda: os.listdir(mount.path / path) if path.endswith("@@")
                    else (mount.path / path).read_bytes())


def denied(call):
    with pytest.raises((PermissionError, FileNotFoundError)):
        as_user(NOBODY, call)


@pytest.fixture
def shared(request, mounts):
    """A mount whose tree everybody may write to."""
    mount = mounts("allow_other")
    mount.path.chmod(0o777)
    return mount


def nothing_of(mount, secret, *paths):
    """Nobody else gets a word of the secret, a name in a closed directory, or a hash of it from any log."""
    digest = xxh.of_bytes(secret)
    for log in (f"{mount.path}@@/.log", *(f"{mount.path / path}@@/.log" for path in paths)):
        try:
            text = as_user(NOBODY, lambda: Path(log).read_text())
        except (PermissionError, FileNotFoundError):
            continue
        assert digest not in text and "hidden" not in text, log
    for path in paths:
        for n in range(1, 9):
            denied(lambda: Path(f"{mount.path / path}@@/{n}").read_bytes())
            with pytest.raises(OSError):
                as_user(NOBODY, lambda: os.setxattr(mount.path, "user.intactfs.restore", f"{n}/{path}".encode()))


def test_a_closed_directory_made_anew_by_somebody_else_stays_closed(shared):
    shared.sh("umask 022; mkdir -m 700 d; echo secret > d/hidden; rm -r d")
    nothing_of(shared, b"secret\n", "d/hidden", "d@@/hidden")
    denied(lambda: os.stat(shared.path / "d@@/hidden@@/1"))
    as_user(NOBODY, lambda: os.mkdir(shared.path / "d"))
    nothing_of(shared, b"secret\n", "d/hidden")
    assert as_user(NOBODY, lambda: os.listdir(shared.path / "d@@")) == []
    as_user(NOBODY, lambda: (shared.path / "d/hidden").write_text("other"))
    shared.settled("d/hidden")
    assert as_user(NOBODY, lambda: os.listdir(shared.path / "d/hidden@@")) == ["2"]
    assert shared.sh("ls d/hidden@@; cat d/hidden@@/1") == "1\n2\nsecret\n"


def test_a_directory_that_is_opened_keeps_its_past_closed(shared):
    shared.sh("umask 022; mkdir -m 700 d; mkdir d/e; echo secret > d/e/hidden; rm d/e/hidden; echo public > d/e/f")
    shared.settled("d/e/f")
    (shared.path / "d").chmod(0o755)
    nothing_of(shared, b"secret\n", "d/e/hidden")
    denied(lambda: os.stat(shared.path / "d/e/f@@/1"))
    assert as_user(NOBODY, lambda: (shared.path / "d/e/f").read_text()) == "public\n"
    shared.sh("echo more > d/e/f")
    shared.settled("d/e/f")
    assert as_user(NOBODY, lambda: os.listdir(shared.path / "d/e/f@@")) == ["2"]
    assert as_user(NOBODY, lambda: (shared.path / "d/e/f@@/2").read_text()) == "more\n"
    assert shared.sh("cat d/e/f@@/1 d/e/hidden@@/1") == "public\nsecret\n"


def test_the_last_mode_of_a_deleted_file_counts(shared):
    shared.sh("umask 022; echo secret > f; chmod 600 f")
    shared.settled("f")
    nothing_of(shared, b"secret\n", "f")
    (shared.path / "f").unlink()
    nothing_of(shared, b"secret\n", "f")
    shared.remount()
    nothing_of(shared, b"secret\n", "f")
    as_user(NOBODY, lambda: (shared.path / "f").write_text("other"))
    shared.settled("f")
    denied(lambda: (shared.path / "f@@/1").read_bytes())
    assert as_user(NOBODY, lambda: (shared.path / "f@@/2").read_text()) == "other"
    assert xxh.of_bytes(b"secret\n") not in as_user(NOBODY, lambda: Path(f"{shared.path}@@/.log").read_text())


def test_the_log_of_an_open_tree_names_nothing_of_its_closed_directories(shared):
    shared.sh("""umask 022; mkdir -m 700 closed; echo secret > closed/hidden; mkdir closed/hidden.d; echo x > open
        ln closed/hidden closed/hidden.link; mv closed/hidden.link closed/hidden.moved; echo secret > closed/hidden
        chmod 640 closed/hidden; mkdir -m 711 reach; echo secret > reach/hidden; setfattr -n user.x -v y closed/hidden""")
    shared.settled("closed/hidden")
    nothing_of(shared, b"secret\n", "closed")
    names = {e["path"] for e in json.loads(as_user(NOBODY, lambda: Path(f"{shared.path}@@/.log").read_text()))}
    assert names == {"", "closed", "open", "reach"}
    assert {e["path"] for e in shared.log("")} >= {"closed/hidden", "closed/hidden.moved", "reach/hidden"}
    assert as_user(NOBODY, lambda: (shared.path / "reach/hidden@@/1").read_text()) == "secret\n"


def test_where_a_file_came_from_is_told_to_those_who_may_know(shared):
    shared.sh("umask 022; mkdir -m 700 closed; echo secret > closed/hidden; echo more > closed/hidden; mv closed/hidden f")
    log = lambda path: json.loads(Path(f"{shared.path / path}@@/.log").read_text())
    assert [(e["path"], e["version"]) for e in log("f")] == [("f", 1), ("closed/hidden", 2), ("closed/hidden", 1)]
    assert log("f")[0]["origin"]["path"] == "closed/hidden"
    assert [(e["path"], e["origin"]) for e in as_user(NOBODY, lambda: log("f"))] == [("f", None)]
    assert as_user(NOBODY, lambda: (shared.path / "f@@/1").read_text()) == "more\n"


def test_a_group_of_then(shared):
    """The rights of a directory's group count, too."""
    d = shared.path / "d"
    d.mkdir()
    os.chown(d, -1, NOBODY)
    d.chmod(0o750)
    (d / "f").write_text("one")
    shared.settled("d/f")
    d.chmod(0o700)
    (d / "f").write_text("two")
    shared.settled("d/f")
    d.chmod(0o755)
    assert as_user(NOBODY, lambda: (d / "f@@/1").read_text()) == "one"
    denied(lambda: (d / "f@@/2").read_text())
    assert as_user(NOBODY, lambda: (d / "f").read_text()) == "two"


def test_holes_of_old_versions(mount):
    """The object of a version may have grown since: what came later is no part of it."""
    mount.sh("printf text > f; head -c 1000000 /dev/zero | tr '\\0' x >> f")
    mount.settled("f")
    with open(mount.path / "f@@" / "1", "rb") as f:
        assert os.lseek(f.fileno(), 0, os.SEEK_DATA) == 0
        assert os.lseek(f.fileno(), 0, os.SEEK_HOLE) == os.lseek(f.fileno(), 3, os.SEEK_HOLE) == 4
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            with pytest.raises(OSError) as e:
                os.lseek(f.fileno(), 4, whence)
            assert e.value.errno == errno.ENXIO
    assert (mount.path / "f@@" / "2").stat().st_blocks * 512 >= 1000000
    assert mount.sh("cp --sparse=always f@@/1 g; cat g; tar cSf - f@@/1 | tar xOf -") == "texttext"
