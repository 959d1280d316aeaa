"""Policies and settings of trees: which rule is for a file, who may change them, and when they take effect."""
import errno
import json
import os
import subprocess
import sys

import pytest

from lib.mount import BIN
from lib.procs import NOBODY, as_user

POLICIES = ["merge", "turn", "turn-thread", "refuse", "overwrite", "live"]
POLICY, RULE, SETTING = "user.intactfs.policy", "user.intactfs.rule", "user.intactfs.setting"


def change(tree, word, rest, attribute=POLICY):
    os.setxattr(tree, attribute, os.fsencode(word) + b" " + os.fsencode(rest))


def policy(path):
    return os.getxattr(path, POLICY).decode()


def rule(path):
    return os.fsdecode(os.getxattr(path, RULE))


def make(mount, path):
    full = os.path.join(os.fsencode(mount.path), os.fsencode(path))
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "ab"):
        pass
    return full


def intactfs(*args, code=0, **kwargs):
    done = subprocess.run([BIN, *args], capture_output=True, cwd="/", timeout=60, stdin=subprocess.DEVNULL,
                          encoding="utf-8", errors="surrogateescape", **kwargs)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stderr if code else done.stdout


def seen(mount, name):
    """What others see."""
    return mount.sh('cat -- "$1"', name)


def regime(mount, name):
    """How the next save of a file is made: staged or live."""
    with open(mount.path / name, "r+b" if (mount.path / name).exists() else "wb", buffering=0) as f:
        f.write(b"x")
        state = mount.saves(name)[0]["state"]
        assert seen(mount, name).startswith("x") == (state == "live")
    mount.settled(name)
    (mount.path / name).write_bytes(b"-")
    mount.settled(name)
    return state


# Which rule is for a file


MATCHING = [
    ("*.json", "a.json", True),
    ("*.json", "d/e/a.json", True),
    ("*.json", ".json", True),
    ("*.json", "a.json5", False),
    ("notes.md", "notes.md", True),
    ("notes.md", "Notes.md", False),
    ("?.c", "d/x.c", True),
    ("[ab].c", "b.c", True),
    ("[!ab].c", "b.c", False),
    ("\\*", "*", True),
    ("\\*", "x", False),
    ("**", "d/e/f", True),
    ("docs", "docs/a", False),
    ("docs/**", "docs/a", True),
    ("docs/**", "docs/d/e/a", True),
    ("docs/**", "docs", False),
    ("docs/**", "x/docs/a", False),
    ("docs/*", "docs/a", True),
    ("docs/*", "docs/d/a", False),
    ("docs/*.md", "docs/a.md", True),
    ("*/a", "d/a", True),
    ("*/a", "a", False),
    ("/a", "a", True),
    ("/a", "d/a", False),
    ("/docs/a", "docs/a", True),
    ("**/a", "a", True),
    ("**/a", "d/e/a", True),
    ("**/a", "d/e/b", False),
    ("d/**/a", "d/a", True),
    ("d/**/a", "d/e/f/a", True),
    ("d/**/a", "e/d/a", False),
    ("d/**/x/**/a", "d/x/y/x/z/a", True),
    ("d/**/x/a", "d/x/b/x/a", True),
    ("d/**/x/a", "d/x/a/b", False),
    ("**/d/**", "a/d/b", True),
    ("**/d/**", "a/d", False),
    ("d/[a/b]", "d/a", False),
    ("d/a**b", "d/aXb", True),
    (b"\xff*", b"d/\xff\xfe", True),
    (b"\xff*", b"d/\xfe\xff", False),
    (b"d\n/*", b"d\n/\x01", True),
    (b"d\xff/?", b"d\xff/\x80", True),
    ("ä?", "äu", True),
    (" a  b ", " a  b ", True),
]


def test_patterns(mount):
    for pattern, path, is_for in MATCHING:
        full = make(mount, path)
        change(mount.path, "refuse", pattern)
        found = policy(full), rule(full)
        change(mount.path, "unset", pattern)
        expected = ("refuse", "set " + os.fsdecode(pattern)) if is_for else ("merge", "mount")
        assert (pattern, path, found) == (pattern, path, expected)
        assert (policy(full), rule(full)) == ("merge", "mount")
        mount.sh("rm -rf -- * .[!.]*")


BUILT_IN = {
    "live": ["a.db", "a.db3", "a.sqlite", "a.sqlite3", "a.mdb", "a.img", "a.qcow2", "a.vdi", "a.vmdk", "a.log",
             "a-wal", "a-shm", "a-journal", ".a.swp"],
    "refuse": ["package-lock.json", "Cargo.lock", "poetry.lock", "composer.lock", "yarn.lock", "pnpm-lock.yaml"],
    "overwrite": ["a.o", "a.a", "a.so", "a.pyc", "a.class"],
    "merge": ["a", "index.lock", "HEAD.lock", "package.json", "a.log.txt", "my-package-lock.json", "a.out"],
}


def test_built_in_rules(mount):
    for expected, names in BUILT_IN.items():
        for name in names:
            assert (name, policy(make(mount, f"d/{name}"))) == (name, expected)


def test_the_rule_set_last_decides(mount):
    f, db = make(mount, "d/f.json"), make(mount, "d/x.db")
    for pattern, word in [("*.json", "turn"), ("d/**", "overwrite"), ("f.*", "refuse")]:
        change(mount.path, word, pattern)
        assert policy(f) == word
    assert policy(db) == "overwrite", "before the built-in one"
    change(mount.path, "turn-thread", "*.json")
    assert policy(f) == "turn-thread", "set again, it is the last one"
    for pattern, left in [("*.json", "refuse"), ("f.*", "overwrite"), ("d/**", "merge")]:
        change(mount.path, "unset", pattern)
        assert policy(f) == left
    assert policy(db) == "live"


def test_every_policy_can_be_set(mount):
    f = make(mount, "f")
    for word in POLICIES:
        change(mount.path, word, "f")
        assert policy(f) == word


def test_a_file_with_several_names_is_looked_at_by_all_of_them(mount):
    """Rule by rule: the order of the names means nothing."""
    names = [make(mount, name) for name in ["a.txt"]]
    for name in ["b.db", "d/c", "e/f.md"]:
        names.append(os.path.join(os.fsencode(mount.path), name.encode()))
        os.makedirs(os.path.dirname(names[-1]), exist_ok=True)
        os.link(names[0], names[-1])
    assert {policy(name) for name in names} == {"live"}
    change(mount.path, "turn", "*.txt")
    assert {policy(name) for name in names} == {"turn"}
    change(mount.path, "refuse", "d/*")
    assert {policy(name) for name in names} == {"refuse"}
    for name in names:
        mount.remount()
        assert policy(name) == "refuse", "also by the only name that was looked up"
    change(mount.path, "unset", "d/*")
    change(mount.path, "unset", "*.txt")
    for name in names:
        mount.remount()
        assert rule(name) == "built-in *.db"
    os.unlink(names[1])
    assert policy(names[0]) == "merge"


def test_many_names(mount):
    f = make(mount, "f")
    os.link(f, f + b".db")
    for i in range(20):
        os.link(f, f + b"%d" % i)
    assert policy(f) == policy(f + b"3") == "live"
    mount.remount()
    assert policy(f + b"7") == "live"


def test_a_path_is_the_one_that_the_file_has_now(mount):
    change(mount.path, "turn", "a/b/*")
    change(mount.path, "refuse", "c/**")
    f = make(mount, "a/b/f")
    assert policy(f) == "turn"
    with open(f, "rb") as held:
        os.rename(mount.path / "a", mount.path / "c")
        assert policy(mount.path / "c/b/f") == policy(f"/proc/self/fd/{held.fileno()}") == "refuse"
        os.rename(mount.path / "c/b/f", mount.path / "f")
        assert policy(mount.path / "f") == policy(f"/proc/self/fd/{held.fileno()}") == "merge"
        os.unlink(mount.path / "f")
        assert policy(f"/proc/self/fd/{held.fileno()}") == "merge"


# What takes effect, and when


def test_live_by_a_rule_and_not_by_one(mount):
    (mount.path / "f").write_bytes(b"-")
    (mount.path / "f.db").write_bytes(b"-")
    assert (regime(mount, "f"), regime(mount, "f.db"), regime(mount, "new")) == ("staged", "live", "staged")
    change(mount.path, "merge", "*.db")
    change(mount.path, "live", "f")
    change(mount.path, "live", "new2")
    assert (regime(mount, "f"), regime(mount, "f.db"), regime(mount, "new2")) == ("live", "staged", "live")
    change(mount.path, "unset", "*.db")
    change(mount.path, "unset", "f")
    assert (regime(mount, "f"), regime(mount, "f.db")) == ("staged", "live")


def test_it_takes_effect_at_the_next_open(mount):
    path = mount.path / "f"
    path.write_bytes(b"-")
    mount.settled("f")
    with open(path, "r+b", buffering=0) as f:
        f.write(b"1")
        change(mount.path, "live", "f")
        f.write(b"2")
        assert seen(mount, "f") == "-" and mount.saves("f")[0]["state"] == "staged"
    mount.settled("f")
    with open(path, "r+b", buffering=0) as f:
        f.write(b"3")
        assert seen(mount, "f") == "32"
        change(mount.path, "merge", "f")
        f.write(b"4")
        assert seen(mount, "f") == "34" and mount.saves("f")[0]["state"] == "live"
        with open(path, "r+b", buffering=0) as other:
            other.write(b"5")
            assert seen(mount, "f") == "54", "as long as it is live it is that for all"
    mount.settled("f")
    assert regime(mount, "f") == "staged"
    assert mount.versions("f")[2] == b"12"


def test_a_truncation_by_path_follows_the_rule(mount):
    path = mount.path / "f"
    path.write_bytes(b"four")
    mount.settled("f")
    change(mount.path, "live", "f")
    os.truncate(path, 2)
    mount.settled("f")
    assert [e["kind"] for e in mount.log("f")] == ["live", "save"]


COUNT = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for _ in range(20):
    db.execute("BEGIN IMMEDIATE")
    n = db.execute("SELECT n FROM counter").fetchone()[0]
    db.execute("UPDATE counter SET n = ?", [n + 1])
    db.execute("COMMIT")
"""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_rule_for_everything_breaks_no_database(mount, mode):
    """What is beside it, its content and its locks keep it live."""
    change(mount.path, "merge", "*")
    mount.sh(f"""{sys.executable} -c '
import sqlite3
db = sqlite3.connect("c.db")
db.execute("PRAGMA journal_mode = {mode}")
db.executescript("CREATE TABLE counter (n INTEGER); INSERT INTO counter VALUES (0)")
'""")
    jobs = [mount.popen([sys.executable, "-c", COUNT, "c.db"], stderr=subprocess.PIPE) for _ in range(3)]
    for job in jobs:
        said = job.communicate(timeout=100)[1]
        assert job.returncode == 0, said
    count = mount.sh(f"""{sys.executable} -c '
import sqlite3
print(sqlite3.connect("c.db").execute("SELECT n FROM counter").fetchone()[0])
'""")
    assert count == "60\n" and policy(mount.path / "c.db") == "merge"


def test_what_is_beside_a_database_is_live_whatever_is_said(mount):
    for name in ["x-wal", "x-shm", "x-journal", ".x.swp"]:
        change(mount.path, "refuse", name)
        assert rule(make(mount, name)).startswith("always ")
    assert regime(mount, "x-wal") == "live"


def test_rules_stay(mount):
    change(mount.path, "turn", "a*")
    change(mount.path, "refuse", "ab")
    change(mount.path, "siblings", "off", SETTING)
    make(mount, "ab")
    expected = mount.tree()["policies"]
    assert [r["pattern"] for r in expected] == ["ab", "a*"]
    mount.remount()
    assert mount.tree()["policies"] == expected and policy(mount.path / "ab") == "refuse"
    change(mount.path, "turn", "a*")
    mount.kill()
    mount.start()
    assert [r["pattern"] for r in mount.tree()["policies"]] == ["a*", "ab"] and policy(mount.path / "ab") == "turn"
    assert {s["name"]: s["value"] for s in mount.tree()["settings"]}["siblings"] is False


def test_trees_have_rules_of_their_own(mount):
    other = mount.root / "other"
    other.mkdir()
    for tree in [mount.path, other]:
        (tree / "f").touch()
    change(other, "turn", "f")
    change(other, "inherit_seconds", "1", SETTING)
    assert (policy(mount.path / "f"), policy(other / "f")) == ("merge", "turn")
    assert mount.tree()["policies"] == [] and len(mount.tree("other")["policies"]) == 1
    assert mount.tree()["settings"] != mount.tree("other")["settings"]


def test_changes_are_operations_of_the_tree(mount):
    seq = mount.tree()["seq"]
    change(mount.path, "turn", "f")
    change(mount.path, "inherit_seconds", "0", SETTING)
    with pytest.raises(OSError):
        change(mount.path, "unset", "g")
    assert mount.tree()["seq"] == seq + 2, "one that fails is none"
    newest = mount.log(".")[:2]
    assert [e["kind"] for e in newest] == ["setting", "policy"]
    assert all(e["path"] == "" and e["user"] == mount.who.pw_name and e["version"] is None for e in newest)


def test_changes_at_the_same_time(mount):
    """None is lost, and files are opened meanwhile."""
    (mount.path / "f.txt").write_bytes(b"-")
    jobs = [mount.popen(f"""for i in 1 2 3 4 5 6 7 8 9 10; do
                "{BIN}" policy set . "p{n}-$i" turn && "{BIN}" policy set . "d{n}/**" refuse || exit 1
                "{BIN}" policy unset . "d{n}/**" && echo $i > f.txt && cat f.txt || exit 1
            done""", stdout=subprocess.DEVNULL) for n in range(4)]
    assert [job.wait(timeout=100) for job in jobs] == [0] * 4
    left = [r["pattern"] for r in mount.tree()["policies"]]
    assert sorted(left) == sorted(f"p{n}-{i}" for n in range(4) for i in range(1, 11))
    mount.remount()
    assert [r["pattern"] for r in mount.tree()["policies"]] == left


# The default of the mount


@pytest.mark.parametrize("word", POLICIES)
def test_the_default_of_the_mount(mounts, word):
    # Under turn who reads what is being saved waits; after 2 s a new file is written in place.
    mount = mounts(f"policy={word}", "turn_wait=0.2")
    f, db = make(mount, "f"), make(mount, "x.o")
    assert (policy(f), rule(f), policy(db)) == (word, "mount", "overwrite")
    assert mount.status()["options"]["policy"] == word
    assert f"policy {word}" in intactfs("status", mount.root)
    assert regime(mount, "new") == ("live" if word == "live" else "staged")
    change(mount.path, "merge", "new*")
    assert regime(mount, "new2") == "staged"


def test_the_default_without_one_is_merge(mount):
    assert mount.status()["options"]["policy"] == "merge"


def test_policy_option(place):
    point, volume = place / "point", place / "volume"
    point.mkdir()
    for args in (["--policy", "nonsense"], ["-o", "policy=nonsense"], ["-o", "policy="], ["--policy", "turn,ro,nonsense"]):
        assert "nonsense" in intactfs("mount", *args, volume, point, code=2) or args[1] == "policy="
    said = intactfs("mount", "--policy", "nonsense", volume, point, code=2)
    assert all(word in said for word in POLICIES)
    assert not volume.exists()
    intactfs("mount", "--policy", "turn", volume, point)
    try:
        assert json.loads((point / ".intactfs/status").read_bytes())["options"]["policy"] == "turn"
    finally:
        intactfs("unmount", point)


# Who may


def test_for_the_owner_and_root_only(mounts):
    mount = mounts("allow_other")
    theirs = mount.root / "nobody"
    theirs.mkdir()
    assert theirs.stat().st_uid == NOBODY
    f = make(mount, "f")
    os.chmod(f, 0o644)
    mount.path.chmod(0o777)

    def refused(uid, tree):
        for attribute, word, rest in [(POLICY, "turn", "f"), (POLICY, "unset", "x"), (SETTING, "siblings", "off")]:
            assert as_user(uid, lambda: error_of(lambda: change(tree, word, rest, attribute))) == errno.EACCES

    change(mount.path, "refuse", "x")
    refused(NOBODY, mount.path)
    refused(12345, theirs)
    as_user(NOBODY, lambda: change(theirs, "turn", "f"))
    change(theirs, "refuse", "g")
    assert [r["pattern"] for r in mount.tree("nobody")["policies"]] == ["g", "f"]
    assert [r["pattern"] for r in mount.tree()["policies"]] == ["x"]
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    said = intactfs("policy", "set", mount.path, "f", "turn", code=1, **who)
    assert "permission denied" in said and mount.path.name in said and "owner" in said
    assert "permission denied" in intactfs("setting", "set", mount.path, "siblings", "off", code=1, **who)
    assert "x " in intactfs("policy", "list", mount.path, **who)
    assert as_user(NOBODY, lambda: policy(f)) == "merge"
    mount.path.chmod(0o700)
    assert "permission denied" in intactfs("policy", "list", mount.path, code=1, **who)
    told = as_user(NOBODY, lambda: {t["name"]: t.get("policies") for t in mount.status()["trees"]})
    assert told[mount.path.name] is None and len(told["nobody"]) == 2


def error_of(call):
    try:
        call()
    except OSError as e:
        return e.errno
    return 0


def test_a_read_only_mount_tells_them(mount):
    change(mount.path, "turn", "f")
    make(mount, "f")
    mount.remount("ro")
    assert policy(mount.path / "f") == "turn" and "turn" in intactfs("policy", "list", mount.path)
    assert "read-only" in intactfs("policy", "set", mount.path, "f", "merge", code=1)
    assert "read-only" in intactfs("setting", "set", mount.path, "siblings", "off", code=1)
    mount.remount("rw")


# The attributes


def test_attributes(mount):
    f = make(mount, "d/f")
    assert os.listxattr(f) == [] and os.listxattr(mount.path) == []
    for path in [mount.path, mount.path / "d", mount.root]:
        assert error_of(lambda: os.getxattr(path, POLICY)) == errno.ENODATA
        assert error_of(lambda: os.getxattr(path, RULE)) == errno.ENODATA
    for path in [f, mount.path / "d"]:
        assert error_of(lambda: change(path, "turn", "f")) == errno.EINVAL
        assert error_of(lambda: change(path, "siblings", "off", SETTING)) == errno.EINVAL
    for value in [b"", b" ", b"turn", b"turn ", b"turnf f", b" f", b"TURN f", b"turn a\0b", b"turn f/", b"turn a//b",
                  b"turn ./f", b"turn ../f", b"turn d/../f", b"turn //", b"turn /", b"turn " + b"x" * 256]:
        assert (value, error_of(lambda: os.setxattr(mount.path, POLICY, value))) == (value, errno.EINVAL)
    for value in [b"", b"siblings", b"siblings ", b"siblings 1", b"siblings ON", b"inherit_seconds -1",
                  b"inherit_seconds 86401", b"inherit_seconds 1x", b"inherit_seconds 99999999999999999999", b"x on",
                  b"unset x", b"unset", b"siblings off\0"]:
        assert (value, error_of(lambda: os.setxattr(mount.path, SETTING, value))) == (value, errno.EINVAL)
    assert error_of(lambda: change(mount.path, "unset", "f")) == errno.ENODATA
    assert mount.tree()["policies"] == []
    change(mount.path, "turn", "x" * 255)
    assert policy(make(mount, "x" * 255)) == "turn"


def test_there_are_at_most_a_thousand_rules(mount):
    for i in range(1000):
        change(mount.path, "turn", f"p{i}")
    assert error_of(lambda: change(mount.path, "turn", "one more")) == errno.E2BIG
    assert "as many rules" in intactfs("policy", "set", mount.path, "one more", "turn", code=1)
    change(mount.path, "merge", "p7")
    change(mount.path, "unset", "p8")
    change(mount.path, "turn", "one more")
    rules = mount.tree()["policies"]
    assert len(rules) == 1000 and [r["pattern"] for r in rules[:2]] == ["one more", "p7"]


# The command


def test_policy_command(mount):
    make(mount, "docs/a.md")
    make(mount, "b")
    tree = mount.path.name
    assert f"tree {tree}: turn" in intactfs("policy", "set", mount.path / "docs", "docs/*.md", "turn")
    assert "refuse" in intactfs("policy", "set", mount.path / "docs/a.md", "*.md", "refuse")
    lines = [line.split() for line in intactfs("policy", "list", mount.path).splitlines()]
    assert lines[0] == ["pattern", "policy", "from"] and lines[-1] == ["(all", "others)", "merge", "mount"]
    assert lines.index(["*-wal", "live", "always"]) < lines.index(["*.md", "refuse", "set"]) \
        < lines.index(["docs/*.md", "turn", "set"]) < lines.index(["*.db", "live", "built-in"])
    assert intactfs("policy", "list", mount.path / "docs/a.md") == f"{mount.path}/docs/a.md: refuse, by '*.md' (set)\n"
    assert intactfs("policy", "list", mount.path / "b") == f"{mount.path}/b: merge, the default of the mount\n"
    assert "*.md" in intactfs("policy", "unset", mount.path, "*.md")
    assert "'docs/*.md' (set)" in intactfs("policy", "list", mount.path / "docs/a.md")
    said = intactfs("policy", "unset", mount.path, "*.md", code=1)
    assert "no rule '*.md'" in said and tree in said and "policy list" in said
    assert "turn" in intactfs("policy", "set", mount.path, "--", "-x", "turn")
    assert [r["pattern"] for r in mount.tree()["policies"]] == ["-x", "docs/*.md"]


def test_policy_json(mount):
    f = make(mount, "f.db")
    change(mount.path, "turn", b"\xff*")
    change(mount.path, "refuse", "x")
    listed = json.loads(intactfs("policy", "list", "--json", mount.path))
    assert listed.keys() == {"default", "always", "policies", "built_in", "settings"}
    assert listed["default"] == "merge"
    assert listed["policies"] == mount.tree()["policies"] == [
        {"pattern": "x", "policy": "refuse", "from": "set"},
        {"pattern": "\ufffd*", "pattern_hex": "ff2a", "policy": "turn", "from": "set"}]
    assert {"pattern": "*.db", "policy": "live", "from": "built-in"} in listed["built_in"]
    assert {"pattern": "*-wal", "policy": "live", "from": "always"} in listed["always"]
    assert json.loads(intactfs("policy", "list", "--json", f)) == \
        {"policy": "live", "from": "built-in", "pattern": "*.db"}
    assert json.loads(intactfs("policy", "list", "--json", make(mount, b"\xffa"))) == \
        {"policy": "turn", "from": "set", "pattern": "\ufffd*", "pattern_hex": "ff2a"}
    assert json.loads(intactfs("policy", "list", "--json", make(mount, "f"))) == \
        {"policy": "merge", "from": "mount", "pattern": ""}


def test_setting_command(mount):
    def values():
        return {s["name"]: s["value"] for s in json.loads(intactfs("setting", "list", "--json", mount.path))}

    defaults = {"siblings": True, "inherit_seconds": 300}
    assert values() == defaults
    assert intactfs("setting", "set", mount.path, "siblings", "off") == f"tree {mount.path.name}: siblings off\n"
    intactfs("setting", "set", mount.path, "inherit_seconds", "5")
    assert values() == {"siblings": False, "inherit_seconds": 5}
    assert [line.split() for line in intactfs("setting", "list", mount.path).splitlines()] == [
        ["setting", "value", "default"], ["siblings", "off", "on"], ["inherit_seconds", "5", "300"]]
    assert "siblings on, the default" in intactfs("setting", "unset", mount.path, "siblings")
    intactfs("setting", "set", mount.path, "inherit_seconds", "300")
    assert values() == defaults
    mount.remount()
    assert values() == defaults


def test_status_shows_rules_that_were_set(mount):
    assert "policy of" not in intactfs("status", mount.root)
    change(mount.path, "turn", "a b\x07")
    shown = intactfs("status", mount.root)
    assert "policy of" in shown and "a b\\007" in shown and "*.db" not in shown
    assert json.loads(intactfs("status", "--json", mount.root))["trees"][0]["policies"] == [
        {"pattern": "a b\x07", "policy": "turn", "from": "set"}]


def test_wrong_usage(mount):
    tree = mount.path
    for args in (["policy"], ["policy", "set"], ["policy", "nonsense", tree], ["policy", "set", tree, "f"],
                 ["policy", "set", tree, "f", "turn", "x"], ["policy", "unset", tree], ["policy", "list", tree, "x"],
                 ["policy", "unset", "--json", tree, "f"], ["policy", "list", "--policy", "turn", tree],
                 ["setting", "set", tree, "siblings"], ["setting", "unset", tree], ["setting", "list"],
                 ["setting", "unset", tree, "nonsense"], ["setting", "set", tree, "nonsense", "1"]):
        assert "usage:" in intactfs(*args, code=2)
    said = intactfs("policy", "set", tree, "f", "merged", code=2)
    assert "'merged'" in said and all(word in said for word in POLICIES)
    for pattern, why in [("", "empty"), ("x" * 256, "255"), ("docs/", "DIRECTORY/**"),
                         ("./f", "relative"), ("a//b", "slashes")]:
        assert why in intactfs("policy", "set", tree, pattern, "turn", code=2)
    assert "on or off" in intactfs("setting", "set", tree, "siblings", "yes", code=2)
    assert "siblings" in intactfs("setting", "set", tree, "sibling", "on", code=2)
    assert "in no tree" in intactfs("policy", "list", mount.root, code=1)
    assert "not on an intactfs mount" in intactfs("policy", "set", "/", "f", "turn", code=1)
    assert "No such file" in intactfs("policy", "list", tree / "nothing", code=1)
    assert mount.tree()["policies"] == []
