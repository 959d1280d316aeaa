"""Each way in which programs replace a file continues its history."""
import os
import subprocess

import pytest

from lib import libc
from lib.procs import wait_until


@pytest.fixture
def f(mount):
    path = mount.path / "f"
    path.write_text("one\n")
    mount.settled("f")
    return path


def continues(m, path="f", versions=None):
    """The lineage went from `one` to `two`, by one version."""
    assert (m.path / path).read_text() == "two\n"
    assert m.versions(path) == (versions or {1: b"one\n", 2: b"two\n"})
    assert m.version(path) == 2
    assert [e["version"] for e in m.log(path) if e["path"] == path] == [2, 1]


WAYS = {
    "redirection": "echo two > f",
    "rename over": "echo two > tmp; mv tmp f",
    "rename over by python":
        "python3 -c 'import os; open(\"tmp\", \"w\").write(\"two\\n\"); os.replace(\"tmp\", \"f\")'",
    "sed -i": "sed -i s/one/two/ f",
    "perl -i": "perl -pi -e s/one/two/ f",
    "cp": "echo two > /dev/shm/$$; cp /dev/shm/$$ f; rm /dev/shm/$$",
    "cp -a": "echo two > $TMPDIR/new; cp -a $TMPDIR/new f",
    "cp --remove-destination": "echo two > $TMPDIR/new; cp --remove-destination $TMPDIR/new f",
    "install": "echo two > $TMPDIR/new; install -m 600 $TMPDIR/new f",
    "rm and create by one process":
        "python3 -c 'import os; os.unlink(\"f\"); open(\"f\", \"w\").write(\"two\\n\")'",
    "rm and create by a shell and its child": "rm f; echo two > f",
    "tee": "echo two | tee f > /dev/null",
    "dd": "echo two | dd of=f 2> /dev/null",
    "sort -o": "echo two | sort -o f",
    "truncate and append": "python3 -c 'f = open(\"f\", \"r+\"); f.write(\"two\\n\")'",
    "rename away and create": "mv f f~; echo two > f",
    "rsync": "echo two > $TMPDIR/f; touch -d '1 hour' $TMPDIR/f; rsync -a $TMPDIR/f .",
    "rsync --inplace": "echo two > $TMPDIR/f; touch -d '1 hour' $TMPDIR/f; rsync -a --inplace $TMPDIR/f .",
    "tar": "mkdir $TMPDIR/t; echo two > $TMPDIR/t/f; tar -C $TMPDIR/t -c f | tar -x",
    "patch": "printf -- '--- f\\n+++ f\\n@@ -1 +1 @@\\n-one\\n+two\\n' | patch -s f",
    "ed": "printf 's/one/two/\\nw\\nq\\n' | ed -s f",
    "awk -i inplace": "gawk -i inplace '{ print \"two\" }' f",
    "ex": "vim -u NONE -es -c 's/one/two/' -c wq f",
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_replaced(mount, f, way):
    program = way.split()[0] if "|" not in way else way.split("|")[-1].split()[0]
    if mount.run('command -v "$1"', program).returncode:
        pytest.skip(f"no {program} here")
    mount.sh(way)
    continues(mount)


@pytest.mark.parametrize("settings", ["set backupcopy=auto", "set backupcopy=yes", "set backupcopy=no",
                                      "set backupcopy=yes backup", "set backupcopy=no backup",
                                      "set backupcopy=auto nowritebackup", "set noswapfile backupcopy=no",
                                      "set backupcopy=no writebackup nofsync"])
def test_vim(mount, f, settings):
    """With a backupskip that does not hide the file (its default does, below TMPDIR)."""
    mount.sh('vim -u DEFAULTS --not-a-term -es -c "set backupskip= writebackup" -c "$1" -c "%s/one/two/" -c wq f',
             settings)
    continues(mount)
    left = set(os.listdir(mount.path))
    assert left == ({"f", "f~"} if "backup" in settings.split() else {"f"})


def test_vim_saves_again_and_again(mount, f):
    mount.sh('vim -u DEFAULTS -es -c "set backupskip=" -c "%s/one/two/" -c w -c "%s/two/three/" -c w '
             '-c "%s/three/four/" -c wq f')
    assert mount.versions("f") == {1: b"one\n", 2: b"two\n", 3: b"three\n", 4: b"four\n"}


def test_nano_under_tmux(mount, f):
    tmux = ["tmux", "-L", "intactfs", "-f", "/dev/null"]
    mount.env.update(TMUX_TMPDIR=str(mount.place), TERM="screen")
    call = lambda *args: subprocess.run([*tmux, *args], env=mount.env, cwd=mount.path, text=True,
                                        capture_output=True, check=True).stdout
    call("new-session", "-d", "-x", "80", "-y", "24", "nano -R f 2>&1 || nano f")
    screen = lambda text: wait_until(lambda: text in call("capture-pane", "-p"), f"{text} on the screen")
    screen("one")
    call("send-keys", "C-k", "two", "C-o")
    screen("Write")
    call("send-keys", "Enter")
    screen("Wrote 1 line")
    call("send-keys", "C-x")
    wait_until(lambda: subprocess.run([*tmux, "has-session"], env=mount.env, capture_output=True).returncode,
               "nano to end")
    continues(mount)


def test_git_checkout(mount):
    mount.sh("""git init -q -b main .
        echo one > f; git add f; git commit -qm one
        git checkout -qb other; echo two > f; git commit -qam two
        git checkout -q main; cat f""")
    assert (mount.path / "f").read_text() == "one\n"
    mount.sh("git checkout -q other")
    mount.settled("f")
    assert (mount.path / "f").read_text() == "two\n"
    assert mount.versions("f") == {1: b"one\n", 2: b"two\n", 3: b"one\n", 4: b"two\n"}
    assert mount.sh("git status --porcelain") == ""


def test_exchange_carries_the_lineages_along(mount):
    mount.sh("echo a1 > a; echo a2 > a; echo b1 > b")
    mount.settled("b")
    libc.rename(mount.path / "a", mount.path / "b", libc.RENAME_EXCHANGE)
    assert mount.sh("cat a b") == "b1\na2\n"
    assert mount.versions("a") == {1: b"b1\n"}
    assert mount.versions("b") == {1: b"a1\n", 2: b"a2\n"}
    mount.sh("echo a3 > b; echo b2 > a; cat a b")
    assert mount.versions("a") == {1: b"b1\n", 2: b"b2\n"}
    assert mount.versions("b") == {1: b"a1\n", 2: b"a2\n", 3: b"a3\n"}


def test_exchange_of_directories_carries_the_lineages_along(mount):
    mount.sh("mkdir d e; echo d1 > d/f; echo d2 > d/f; echo e1 > e/f")
    mount.settled("e/f")
    libc.rename(mount.path / "d", mount.path / "e", libc.RENAME_EXCHANGE)
    assert mount.versions("e/f") == {1: b"d1\n", 2: b"d2\n"}
    assert mount.versions("d/f") == {1: b"e1\n"}


def test_mv_continues_the_targets_lineage(mount):
    mount.sh("echo a1 > a; echo a2 > a; echo b1 > b; mv a b; cat b")
    mount.settled("b")
    assert mount.versions("b") == {1: b"b1\n", 2: b"a2\n"}
    log = mount.log("b")
    assert (log[0]["version"], log[0]["kind"], log[0]["origin"]) == (2, "rename", {"path": "a", "version": 2})
    assert {(e["path"], e["version"]) for e in log} >= {("b", 2), ("b", 1), ("a", 2), ("a", 1)}, "log follows"
    assert mount.versions("a") == {1: b"a1\n", 2: b"a2\n"}, "the old name still answers"


def test_mv_to_a_new_name(mount):
    mount.sh("echo a1 > a; echo a2 > a; mv a b; echo b2 > b")
    mount.settled("b")
    versions = mount.versions("b")
    assert versions[max(versions)] == b"b2\n" and b"a2\n" in versions.values()
    assert {(e["path"], e["version"]) for e in mount.log("b")} >= {("a", 2), ("a", 1)}
    mount.sh("mv b a; cat a")
    versions = mount.versions("a")
    assert (versions[1], versions[2], versions[max(versions)]) == (b"a1\n", b"a2\n", b"b2\n")


def test_a_renamed_directory_takes_its_lineages_along(mount):
    mount.sh("mkdir d; echo one > d/f; echo two > d/f; mv d e; cat e/f")
    assert mount.versions("e/f") == {1: b"one\n", 2: b"two\n"}
    mount.sh("echo three > e/f")
    assert mount.versions("e/f") == {1: b"one\n", 2: b"two\n", 3: b"three\n"}
    mount.sh("mv e d; echo four > d/f")
    assert mount.versions("d/f")[4] == b"four\n"


def test_other_links_of_a_replaced_file_keep_the_old_content(mount, f):
    os.link(f, mount.path / "g")
    mount.sh("echo two > tmp; mv tmp f")
    assert mount.sh("cat f g") == "two\none\n"
    assert f.stat().st_nlink == 1 and (mount.path / "g").stat().st_nlink == 1
    continues(mount)


def test_a_deleted_file_that_comes_back_continues(mount, f):
    mount.sh("rm f")
    assert mount.versions("f") == {1: b"one\n"}
    mount.remount()
    mount.sh("echo two > f")
    continues(mount)


def test_replacing_keeps_readers(mount, f):
    with open(f) as reader:
        mount.sh("sed -i s/one/two/ f; rm f; echo three > f")
        assert reader.read() == "one\n"


def test_a_rename_of_the_same_bytes(mount, f):
    """It is a save of the target all the same, but makes at most one version of it."""
    mount.sh("echo one > tmp; mv tmp f")
    assert f.read_text() == "one\n"
    assert set(mount.versions("f").values()) == {b"one\n"}
    assert mount.version("f") <= 2
