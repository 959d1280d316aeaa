"""The live regime: what is written in place, by all who have it open, as on any POSIX filesystem."""
import fcntl
import mmap
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

MiB = 1 << 20


COUNT = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=120, isolation_level=None)
for _ in range(int(sys.argv[2])):
    db.execute("BEGIN IMMEDIATE")
    n = db.execute("SELECT n FROM counter").fetchone()[0]
    db.execute("UPDATE counter SET n = ?", [n + 1])
    db.execute("INSERT INTO step VALUES (?)", [n])
    db.execute("COMMIT")
"""


@pytest.mark.parametrize("name", ["counter.db", "counter"])
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite_of_eight_processes(mount, soak, name, mode):
    """By its name, and by what it begins with."""
    path, rounds = mount.path / name, 10 * soak
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.executescript("CREATE TABLE counter (n INTEGER); INSERT INTO counter VALUES (0);"
                         "CREATE TABLE step (n INTEGER UNIQUE)")
    db.close()
    mount.settled(name)
    jobs = [mount.popen([sys.executable, "-c", COUNT, name, str(rounds)], stderr=subprocess.PIPE) for _ in range(8)]
    for job in jobs:
        said = job.communicate(timeout=200)[1]
        assert job.returncode == 0, said
    db = sqlite3.connect(path)
    assert db.execute("SELECT n FROM counter").fetchone()[0] == 8 * rounds
    assert db.execute("SELECT count(*), max(n) FROM step").fetchone() == (8 * rounds, 8 * rounds - 1)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()
    mount.remount()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


@pytest.mark.parametrize("name", ["a.db", "b.sqlite3", "c-wal", "d-shm", "e.mdb", "f.log", "g.qcow2"])
def test_what_is_live_by_its_name_is_seen_while_it_is_written(mount, name):
    path = mount.path / name
    with open(path, "wb", buffering=0) as writer, open(path, "rb", buffering=0) as reader:
        writer.write(b"one")
        assert reader.read() == b"one" and path.read_bytes() == b"one"
    with open(path, "r+b", buffering=0) as writer, open(path, "r+b", buffering=0) as other:
        writer.write(b"O")
        other.seek(2)
        other.write(b"E")
        assert path.read_bytes() == writer.seek(0) * b"" + b"OnE" == other.seek(0) * b"" + other.read()
        assert os.stat(path).st_ino == os.fstat(writer.fileno()).st_ino == os.fstat(other.fileno()).st_ino
    with open(path, "wb", buffering=0) as writer:
        assert path.read_bytes() == b""
        writer.write(b"new")
        assert path.read_bytes() == b"new"
    assert mount.versions(name) == {1: b"one", 2: b"OnE", 3: b"new"}
    assert [e["kind"] for e in mount.log(name)] == ["live", "live", "live"]


def test_the_version_before_is_kept_when_it_is_overwritten(mount):
    first = os.urandom(3 * MiB)
    (mount.path / "f.db").write_bytes(first)
    mount.settled("f.db")
    with open(mount.path / "f.db", "r+b") as f, open(mount.path / "f.db@@/1", "rb") as old:
        f.seek(1000)
        f.write(b"changed")
        f.flush()
        assert old.read() == first
        f.truncate(5)
        old.seek(0)
        assert old.read() == first
    assert mount.versions("f.db") == {1: first, 2: first[:5]}


@pytest.mark.mount("copy_limit=1")
def test_a_large_file_is_written_in_place(mount):
    """Not copied: its readers see what is written; written anew as a whole it is a save as any other."""
    path = mount.path / "large"
    path.write_bytes(b"a" * 2 * MiB)
    mount.settled("large")
    with open(path, "r+b", buffering=0) as writer:
        writer.write(b"b")
        assert path.read_bytes()[:2] == b"ba"
    mount.settled("large")
    assert os.listdir(f"{path}@@") == ["2"], "what is too large to be copied is pruned when it is overwritten"
    with open(path, "wb", buffering=0) as writer:
        writer.write(b"c" * 2 * MiB)
        assert mount.sh("head -c 2 large") == "ba"
    assert mount.versions("large") == {2: b"ba" + b"a" * (2 * MiB - 2), 3: b"c" * 2 * MiB}
    os.truncate(path, MiB + 5)
    with open(path, "ab") as writer:
        writer.write(b"d")
    assert set(mount.versions("large")) == {2, 4, 5}, "nobody could keep 3, which was cut in place"
    assert Path(f"{path}@@/4").read_bytes() == b"c" * (MiB + 5)
    os.truncate(path, 5)
    assert path.read_bytes() == b"c" * 5
    mount.remount()
    assert path.read_bytes() == b"c" * 5


def test_shared_mappings_are_shared(mount):
    """Of one file by several processes, writes through any of them are seen through all, and by read and stat."""
    path = mount.path / "shared.db"
    path.write_bytes(bytes(3 * mmap.PAGESIZE))
    child = mount.popen([sys.executable, "-c", """
import mmap, sys
f = open("shared.db", "r+b")
m = mmap.mmap(f.fileno(), 0)
f.close()
print("ready", flush=True)
for line in sys.stdin:
    i = int(line)
    assert m[i] == i
    m[i] = 100 + i
    print("done", flush=True)
"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == "ready\n"
    with open(path, "r+b", buffering=0) as f, mmap.mmap(f.fileno(), 0) as m:
        for i in (1, 7, mmap.PAGESIZE // 100):
            m[i] = i
            child.stdin.write(f"{i}\n")
            child.stdin.flush()
            assert child.stdout.readline() == "done\n"
            assert m[i] == 100 + i == path.read_bytes()[i]
        os.pwrite(f.fileno(), b"x", 5)
        assert m[5] == ord("x")
        f.truncate(mmap.PAGESIZE)
        assert path.stat().st_size == mmap.PAGESIZE
    child.stdin.close()
    assert child.wait(30) == 0
    mount.settled("shared.db")
    assert path.read_bytes()[1] == 101


def test_a_mapping_outlives_its_descriptor(mount):
    path = mount.path / "f.db"
    path.write_bytes(b"x" * 10)
    with open(path, "r+b") as f:
        m = mmap.mmap(f.fileno(), 0)
    m[0:2] = b"ab"
    assert path.read_bytes() == b"abxxxxxxxx"
    m.close()
    mount.settled("f.db")
    assert mount.versions("f.db")[2] == b"abxxxxxxxx"


def test_it_comes_back_after_a_crash(mount):
    fd = os.open(mount.path / "f.db", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"one")
    os.write(fd, b"two")
    mount.kill()
    with pytest.raises(OSError):
        os.close(fd)
    mount.start()
    assert mount.sh("cat f.db") == "onetwo"


def test_reading_the_history_does_not_hold_up_who_overwrites(mount, soak):
    """Readers of old versions that come and go, and writers that move versions out of their way."""
    mount.sh("echo v1 > f; echo v2 > f; head -c 8192 /dev/zero > x.db")
    mount.settled("x.db")
    readers = [mount.popen([sys.executable, "-c", """
import os, sys, time
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for name in ("f@@/1", "f", "x.db@@/1"):
        with open(name, "rb") as f:
            f.read()""", str(soak)]) for _ in range(3)]
    writes = 0
    while any(r.poll() is None for r in readers):
        mount.sh("""python3 -c 'f = open("x.db", "r+b"); f.write(b"hello"); f.close()'""", timeout=20)
        writes += 1
    assert [r.wait() for r in readers] == [0] * 3
    assert mount.sh("head -c 6 x.db; cat f@@/1") == "hello\0v1\n"


REPLACES = {
    "> F": "echo new > $1", "truncate -s 0": "truncate -s 0 $1", "truncate -s 2": "truncate -s 2 $1", "cp": "echo new > o; cp o $1",
    "rm": "rm $1", "mv": "echo new > o; mv o $1", "sed -i": "sed -i s/day/night/ $1", "dd": "echo new | dd of=$1 conv=notrunc status=none",
    "ln -f": "echo new > o; ln -f o $1", "python r+": """python3 -c 'import sys; open(sys.argv[1], "r+").write("new")' $1"""}


@pytest.mark.parametrize("how", REPLACES)
@pytest.mark.parametrize("name", ["app.log", "notes"])
def test_what_is_appended_by_a_program_that_goes_on_is_not_lost(mount, name, how):
    """Others cut it off, overwrite it or remove it while it is live: the history has what was there."""
    job = mount.popen('exec 3>> $1; echo day1 >&3; echo day2 >&3; echo go; read line; echo day3 >&3', name,
                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert job.stdout.readline() == "go\n"
    mount.sh(REPLACES[how], name)
    job.communicate("\n", timeout=20)
    mount.sh("sync -f .")
    mount.settled(name) if (mount.path / name).exists() else None
    assert b"day1\nday2\n" in mount.versions(name).values()


def test_a_database_that_is_overwritten_while_it_is_open(mount):
    db = sqlite3.connect(mount.path / "app.db")
    db.execute("CREATE TABLE t (x)")
    db.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(1000)])
    db.commit()
    mount.sh("echo junk > app.db")
    db.close()
    mount.settled("app.db")
    newest = max(v for v, content in mount.versions("app.db").items() if content.startswith(b"SQLite"))
    mount.sh("cp app.db@@/$1 old.db", str(newest))
    with sqlite3.connect(mount.path / "old.db") as old:
        assert old.execute("SELECT count(*) FROM t").fetchone() == (1000,)


def test_a_databases_journal_leaves_no_versions(mount):
    db = sqlite3.connect(mount.path / "app.db")
    db.execute("PRAGMA journal_mode = TRUNCATE")
    db.execute("CREATE TABLE t (x)")
    for i in range(20):
        db.execute("INSERT INTO t VALUES (?)", (i,))
        db.commit()
    db.close()
    mount.settled("app.db")
    assert len(mount.versions("app.db-journal")) <= 2 and len(mount.versions("app.db")) <= 2


SETS_TIMES = {
    "touch": "touch -d @77 $1", "touch now": "touch $1; touch -d @77 $1", "touch -r": "touch -d @77 r; touch -r r $1",
    "utime": "python3 -c 'import os, sys; os.utime(sys.argv[1], (77, 77))' $1",
    "while it is open": "(exec 9>> $1; touch -d @77 $1)",
    "after an append": "echo more >> $1; touch -d @77 $1",
    "between appends and the close": "(exec 9>> $1; echo more >&9; touch -d @77 $1)",
    "futimens": """python3 -c 'import os, sys
for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND):
    fd = os.open(sys.argv[1], flags); os.utime(fd, (77, 77)); os.close(fd)' $1""",
    "under a lock": """python3 -c 'import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(fd, 2); os.utime(fd, (77, 77)); os.close(fd)' $1""",
    "after a write under a lock": """python3 -c 'import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(fd, 2); os.write(fd, b"new"); os.utime(fd, (77, 77)); os.close(fd)' $1"""}


@pytest.mark.parametrize("how", SETS_TIMES)
@pytest.mark.parametrize("name", ["x.log", "x.db", "plain"])
def test_times_of_live_files_stay_as_they_were_set(mount, name, how):
    mount.sh("echo base > $1; cat $1; touch -d @5 $1", name)
    mount.settled(name)
    mount.sh(SETS_TIMES[how], name)
    assert (mount.path / name).stat().st_mtime == 77
    mount.settled(name)
    assert (mount.path / name).stat().st_mtime == 77
    mount.remount()
    assert (mount.path / name).stat().st_mtime == 77


def test_who_opens_a_live_file_and_writes_nothing_leaves_its_times(mount):
    mount.sh("echo base > x.log; echo base > f; touch -d @77 x.log f")
    for name, flags in (("x.log", os.O_RDWR), ("x.log", os.O_RDWR | os.O_APPEND), ("f", os.O_RDWR)):
        fd = os.open(mount.path / name, flags)
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert os.fstat(fd).st_mtime == 77
        os.close(fd)
        assert (mount.path / name).stat().st_mtime == 77


def test_make_knows_a_live_target_that_was_touched(mount):
    for target in ("out.log", "out.db"):
        mount.sh("""touch -d @1000 $1; echo 1 > in.c; printf '%s: in.c\\n\\ttouch %s; echo built\\n' $1 $1 > Makefile""", target)
        assert mount.sh("make -s") == "built\n"
        mount.settled(target)
        assert mount.sh("make -s") == "", "it is built already"


def test_a_name_that_goes_while_another_one_stays_has_a_history(mount):
    for name in ("he", "he.log"):
        mount.sh("exec 7>> $1; echo one >&7; ln $1 $1.2; echo two >&7; rm $1; exec 7>&-", name)
        assert b"one\ntwo\n" in mount.versions(name).values()
        assert mount.sh("cat $1.2", name) == "one\ntwo\n"


def test_times_that_were_set_survive_a_crash(mount):
    mount.sh("echo base > x.log; cat x.log")
    log = os.open(mount.path / "x.log", os.O_WRONLY | os.O_APPEND)
    mount.sh("touch -d @77 x.log")
    mount.kill()
    with pytest.raises(OSError):
        os.close(log)
    mount.start()
    assert (mount.path / "x.log").stat().st_mtime == 77 and len(mount.versions("x.log")) == 1


@pytest.mark.parametrize("name", ["f", "f.db"])
def test_what_a_mapping_holds_is_no_hole(mount, name):
    """Programs that copy holes ask where they are; pages of a mapping may not have been written yet."""
    fd = os.open(mount.path / name, os.O_RDWR | os.O_CREAT)
    os.truncate(fd, 1 << 20)
    with mmap.mmap(fd, 1 << 20) as m:
        m[300_000:300_003] = b"one"
        assert os.lseek(fd, 0, os.SEEK_DATA) <= 300_000
        m[600_000:600_003] = b"two"
        assert os.lseek(fd, 304_000, os.SEEK_DATA) <= 600_000
        m[302_000:500_000] = b"x" * 198_000
        assert os.lseek(fd, 300_000, os.SEEK_HOLE) >= 500_000
        mount.sh("cp --sparse=always $1 copy", f"/proc/{os.getpid()}/fd/{fd}")
        assert (mount.path / "copy").read_bytes() == m[:]
    os.close(fd)
