"""The intactfs command: what each of its commands does and how each of them fails."""
import json
import os
import re
import subprocess
from datetime import datetime, timezone

import pytest

from lib import xxh
from lib.mount import BIN
from lib.procs import NOBODY

COMMANDS = ["mount", "unmount", "status", "trees", "log", "show", "diff", "restore"]


def intactfs(*args, code=0, cwd="/", **kwargs):
    done = subprocess.run([BIN, *args], capture_output=True, cwd=cwd, timeout=60, stdin=subprocess.DEVNULL,
                          encoding="utf-8", errors="surrogateescape", **kwargs)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    if code:
        assert done.stderr and not done.stdout, "an error is said on stderr"
        return done.stderr
    assert not done.stderr
    return done.stdout


@pytest.fixture
def f(mount):
    mount.sh("echo one > f; echo two > f; echo three > f")
    mount.settled("f")
    return mount.path / "f"


# Help and usage


def test_version_and_help():
    assert re.fullmatch(r"intactfs \d+\.\d+\.\d+\n", intactfs("--version"))
    for command in COMMANDS:
        assert command in intactfs("--help")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command):
    said = intactfs(command, "--help")
    assert said.startswith(f"usage: intactfs {command}")
    assert intactfs("help", command) == said
    assert re.fullmatch(r"intactfs \d+\.\d+\.\d+\n", intactfs(command, "--version"))


def test_wrong_usage():
    for args in ([], ["nonsense"], ["--nonsense"], ["log"], ["log", "a", "b"], ["log", "--nonsense", "a"],
                 ["show", "a"], ["show", "a", "--version", "x"], ["show", "a", "--version", "0"],
                 ["show", "a", "--version", "-1"], ["show", "a", "--version", "1", "--version", "2"],
                 ["restore", "a"], ["restore", "--version", "1"], ["diff"],
                 ["diff", "a", "--version", "1", "--version", "2", "--version", "3"],
                 ["unmount"], ["unmount", "a", "b"], ["trees"], ["status", "a", "b"], ["status", "-x"]):
        intactfs(*args, code=2)


def test_what_cannot_be_printed_is_an_error(f):
    with open("/dev/full", "w") as full:
        done = subprocess.run([BIN, "log", f], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr


# Not on a mount, not there


@pytest.mark.parametrize("command", [["log"], ["show", "--version", "1"], ["diff"], ["restore", "--version", "1"],
                                     ["trees"], ["status"], ["unmount"]])
def test_outside_a_mount(place, command):
    (place / "f").write_text("x")
    said = intactfs(*command, place / "f", code=1)
    assert str(place / "f") in said
    intactfs(*command, place / "missing", code=1)


@pytest.mark.parametrize("command", [["log"], ["show", "--version", "1"], ["diff"], ["restore", "--version", "1"]])
def test_what_never_was(mount, command):
    said = intactfs(*command, mount.path / "never", code=1)
    assert "never" in said
    intactfs(*command, mount.path / "no" / "such", code=1)
    intactfs(*command, "", code=1)


# status and trees


def test_status(mount, f):
    said = intactfs("status", mount.root)
    assert mount.path.name in said and str(mount.volume) in said
    status = json.loads(intactfs("status", "--json", mount.root))
    assert status["volume"] == str(mount.volume) and status["mountpoint"] == str(mount.root)
    assert status["pid"] == mount.daemon.pid
    assert status["readonly"] is False
    assert status["format"] == 1
    assert status["options"]["turn_wait_ms"] == 2000
    (tree,) = status["trees"]
    assert (tree["name"], tree["uid"], tree["mode"]) == (mount.path.name, os.getuid(), "0700")
    assert (tree["files"], tree["versions"], tree["bytes"]) == (1, 3, len("one\ntwo\nthree\n"))
    assert tree["saves"] == [] and tree["turns"] == []
    assert intactfs("status", "--json", cwd=mount.path)


def test_status_of_a_save_under_way(mount, f):
    with open(f, "w") as save:
        save.write("12345")
        save.flush()
        (saving,) = mount.tree()["saves"]
        assert (saving["path"], saving["state"], saving["size"]) == ("f", "staged", 5)
        assert saving["by"]["pid"] == os.getpid()
        assert saving["by"]["user"] == mount.who.pw_name
        assert "f" in intactfs("status", mount.root)
    mount.settled("f")


@pytest.mark.mount("turn_wait=0.25")
def test_status_shows_the_options(mount):
    assert mount.status()["options"]["turn_wait_ms"] == 250


def test_status_of_no_mount():
    intactfs("status", "/nonexistent", code=1)


def test_trees(mount):
    os.mkdir(mount.root / "team")
    os.chmod(mount.root / "team", 0o755)
    said = intactfs("trees", mount.root)
    assert "team" in said and mount.path.name in said
    trees = {t["name"]: t for t in json.loads(intactfs("trees", "--json", mount.root))}
    assert set(trees) == {"team", mount.path.name}
    assert trees["team"]["mode"] == "0755"
    assert set(trees["team"]) >= {"name", "uid", "user", "mode", "created"}


# log


def test_log_json(mount):
    began = datetime.now(timezone.utc)
    mount.sh("umask 027; echo one > f; exec sh -c 'echo two > f'")
    mount.settled("f")
    log = json.loads(intactfs("log", "--json", mount.path / "f"))
    assert [e["version"] for e in log] == [2, 1]
    top, first = log
    assert top["seq"] > first["seq"] and top["id"] != first["id"]
    assert re.fullmatch(r"[0-9a-f-]{36}", top["id"])
    for entry in log:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", entry["time"])
        at = datetime.strptime(entry["time"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
        assert began <= at <= datetime.now(timezone.utc)
    assert top["time"] >= first["time"]
    assert top["kind"] == first["kind"] == "save"
    assert (top["path"], top["size"], top["hash"]) == ("f", 4, xxh.of_bytes(b"two\n"))
    assert (top["uid"], top["user"], top["program"]) == (os.getuid(), mount.who.pw_name, "sh")
    assert top["host"] == os.uname().nodename
    assert (top["owner"], top["group"], top["mode"]) == (os.getuid(), os.getgid(), "0640")
    assert set(top["basis"]) == {"kind", "version", "hash"}
    assert top["verdict"] in ("next", "blind")
    assert top["origin"] is None


def test_log_tells_the_basis(mount, f):
    """An edit in place is based on the version it began with; a program that saw none is blind."""
    mount.sh("""python3 -c 'open("f", "r+").write("four")'""")
    mount.settled("f")
    assert mount.log("f")[1]["basis"] == {"kind": "none", "version": None, "hash": None}
    assert mount.log("f")[1]["verdict"] == "blind"
    entry = mount.log("f")[0]
    assert entry["basis"] == {"kind": "own", "version": 3, "hash": xxh.of_bytes(b"three\n")}
    assert entry["verdict"] == "next"


def test_log_as_text(mount, f):
    lines = intactfs("log", f).splitlines()
    assert len(lines) >= 3
    assert any(re.search(r"\b3\b.*\bsh\b", line) for line in lines)
    assert "f" in intactfs("log", mount.path)
    assert intactfs("log", "f", cwd=mount.path).splitlines() == lines


def test_log_is_what_the_mount_answers(mount, f):
    assert json.loads(intactfs("log", "--json", f)) == json.load(open(f"{f}@@/.log"))
    assert json.loads(intactfs("log", "--json", mount.path)) == json.load(open(f"{mount.path}@@/.log"))


def test_log_of_a_directory(mount):
    mount.sh("""mkdir d; cd d; echo x > a; mkdir sub; mv a b; ln b c; ln -s b l
        rm c; rmdir sub; chmod 600 b; echo y > ../z""")
    mount.settled("d/b")
    log = mount.log("d")
    kinds = [e["kind"] for e in log]
    assert {"mkdir", "rename", "link", "symlink", "unlink", "rmdir"} <= set(kinds)
    assert [e["seq"] for e in log] == sorted((e["seq"] for e in log), reverse=True)
    assert not any(e["path"] == "z" for e in log)
    assert all(e["path"].startswith("d") for e in log)
    whole = mount.log("")
    assert [e["seq"] for e in whole] == list(range(len(whole), 0, -1))
    assert any(e["path"] == "z" for e in whole)


def test_log_of_a_deleted_file(mount, f):
    f.unlink()
    assert [e["version"] for e in mount.log("f") if e["version"]] == [3, 2, 1]
    assert intactfs("log", f)


def test_log_of_strange_names(mount):
    mount.sh("printf x > \"$(printf 'caf\\351')\"; printf y > 'two\nlines'; printf z > '-dash'; printf q > 'q\"\\'")
    (mount.path / "-dash").read_text()
    path = os.path.join(os.fsencode(mount.path), b"caf\xe9")
    (entry,) = json.loads(intactfs("log", "--json", path))
    assert entry["path"] == "caf\ufffd"
    assert bytes.fromhex(entry["path_hex"]) == b"caf\xe9"
    assert json.loads(intactfs("log", "--json", mount.path / "two\nlines"))[0]["path"] == "two\nlines"
    assert json.loads(intactfs("log", "--json", mount.path / 'q"\\'))[0]["path"] == 'q"\\'
    assert json.loads(intactfs("log", "--json", "--", "-dash", cwd=mount.path))[0]["size"] == 1
    assert "\n" not in intactfs("log", mount.path / "two\nlines").splitlines()[0]


@pytest.mark.mount("allow_other")
def test_the_command_has_the_callers_rights(mount):
    mount.path.chmod(0o755)
    mount.sh("umask 022; echo one > f; echo two > f; echo three > f; chmod 600 f")
    mount.settled("f")
    f = mount.path / "f"
    as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    for args in (["log"], ["show", "--version", "1"], ["diff"], ["restore", "--version", "1"]):
        assert "ermission" in intactfs(*args, f, code=1, **as_nobody)
    f.chmod(0o644)
    assert intactfs("log", f, **as_nobody)
    assert intactfs("show", f, "--version", "1", **as_nobody) == "one\n"
    intactfs("restore", f, "--version", "1", code=1, **as_nobody)
    assert f.read_text() == "three\n"


# show


def test_show(mount, f):
    assert intactfs("show", f, "--version", "1") == "one\n"
    assert intactfs("show", "--version=3", f) == "three\n"
    assert intactfs("show", f, "--version", "4", code=1)
    f.unlink()
    assert intactfs("show", f, "--version", "2") == "two\n"


def test_show_of_bytes(mount):
    data = os.urandom(300_000)
    (mount.path / "f").write_bytes(data)
    mount.settled("f")
    assert subprocess.run([BIN, "show", mount.path / "f", "--version", "1"], capture_output=True).stdout == data


def test_show_of_a_directory(mount):
    mount.sh("mkdir d")
    intactfs("show", mount.path / "d", "--version", "1", code=1)
    intactfs("show", mount.path, "--version", "1", code=1)


# diff


def test_diff(mount, f):
    assert re.search(r"^-two\n\+three\n", intactfs("diff", f), re.M)
    assert re.search(r"^-one\n\+three\n", intactfs("diff", f, "--version", "1"), re.M)
    assert re.search(r"^-one\n\+two\n", intactfs("diff", f, "--version", "1", "--version", "2"), re.M)
    assert intactfs("diff", f, "--version", "3") == ""
    intactfs("diff", f, "--version", "9", code=1)
    intactfs("diff", f, "--version", "1", "--version", "9", code=1)
    f.unlink()
    assert re.search(r"^-one\n\+two\n", intactfs("diff", f, "--version", "1", "--version", "2"), re.M)
    intactfs("diff", f, code=1)


def test_diff_of_a_first_version(mount):
    mount.sh("echo x > f")
    mount.settled("f")
    intactfs("diff", mount.path / "f", code=1)


# restore


def test_restore(mount, f):
    intactfs("restore", f, "--version", "1")
    assert f.read_text() == "one\n"
    assert mount.versions("f") == {1: b"one\n", 2: b"two\n", 3: b"three\n", 4: b"one\n"}
    top = mount.log("f")[0]
    assert (top["version"], top["kind"]) == (4, "restore")
    assert mount.sh("cat f") == "one\n"
    intactfs("restore", f, "--version", "9", code=1)
    intactfs("restore", f, "--version", "3")
    assert f.read_text() == "three\n"


def test_restore_of_a_deleted_file(mount, f):
    f.chmod(0o640)
    f.unlink()
    intactfs("restore", f, "--version", "2")
    assert f.read_text() == "two\n"
    assert mount.versions("f") == {1: b"one\n", 2: b"two\n", 3: b"three\n", 4: b"two\n"}
    assert os.listdir(mount.path) == ["f"]
    mount.sh("echo five > f")
    assert mount.versions("f")[5] == b"five\n"


def test_restore_of_a_file_in_a_deleted_directory_needs_the_directory(mount):
    mount.sh("mkdir d; echo x > d/f; rm -r d")
    intactfs("restore", mount.path / "d" / "f", "--version", "1", code=1)
    mount.sh("mkdir d")
    intactfs("restore", mount.path / "d" / "f", "--version", "1")
    assert (mount.path / "d" / "f").read_text() == "x\n"


def test_restore_where_something_else_is_now(mount, f):
    f.unlink()
    f.mkdir()
    intactfs("restore", f, "--version", "1", code=1)
    assert f.is_dir()


def test_restore_is_seen_whole(mount):
    f = mount.path / "f"
    f.write_bytes(b"a" * 100_000)
    f.write_bytes(b"b" * 200_000)
    mount.settled("f")
    with open(f, "rb") as reader:
        intactfs("restore", f, "--version", "1")
        assert reader.read() == b"b" * 200_000
    assert f.read_bytes() == b"a" * 100_000
    assert f.stat().st_size == 100_000


def test_restore_by_the_attribute(mount, f):
    os.setxattr(f, "user.intactfs.restore", b"1")
    assert f.read_text() == "one\n"
    f.unlink()
    os.setxattr(mount.path, "user.intactfs.restore", b"2/f")
    assert f.read_text() == "two\n"
    for value in (b"9/f", b"1/never"):
        with pytest.raises(OSError) as e:
            os.setxattr(mount.path, "user.intactfs.restore", value)
        assert e.value.strerror == os.strerror(61)


def test_restore_on_a_read_only_mount(mount, f):
    mount.remount("ro")
    assert intactfs("show", f, "--version", "1") == "one\n"
    intactfs("restore", f, "--version", "1", code=1)


# The attributes


def test_attributes(mount, f):
    get = lambda p, name: os.getxattr(p, f"user.intactfs.{name}").decode()
    assert get(f, "version") == "3"
    assert get(f, "hash") == xxh.of_bytes(b"three\n")
    assert get(f, "mount") == get(mount.root, "mount") == str(mount.root)
    assert get(f, "tree") == get(mount.path, "tree") == mount.path.name
    assert os.listxattr(f) == []
    for p, name in ((mount.root, "tree"), (mount.path, "version"), (f, "nonsense")):
        with pytest.raises(OSError):
            get(p, name)
    mount.sh("cp -a f g; rsync -aX f h")
    assert get(mount.path / "g", "version") == "1"
    for name in ("version", "hash", "mount", "tree", "nonsense"):
        with pytest.raises(OSError):
            os.setxattr(f, f"user.intactfs.{name}", b"1")


# unmount


def test_unmount_errors(mount, place):
    intactfs("unmount", place, code=1)
    intactfs("unmount", mount.path, code=1)
    intactfs("unmount", place / "missing", code=1)
    assert intactfs("unmount", mount.root) == ""
    mount.ended()
    intactfs("unmount", mount.root, code=1)


def test_unmount_returns_when_the_volume_is_closed(mount):
    for i in range(3):
        mount.sh(f"echo {i} > f")
        intactfs("unmount", mount.root)
        assert mount.daemon.wait(1) == 0
        mount.ended()
        mount.start()
        assert mount.sh("cat f") == f"{i}\n"
