"""A user's tree has one order: its mutations are serialized, and recorded."""
import os
import subprocess
import sys

import pytest

from lib.procs import wait_until


def test_twenty_processes_make_directories_at_once(mount):
    for turn in range(10):
        jobs = [mount.popen(["mkdir", f"r{turn}.{i}"]) for i in range(20)]
        assert [job.wait(60) for job in jobs] == [0] * 20
        assert len([n for n in os.listdir(mount.path) if n.startswith(f"r{turn}.")]) == 20
    assert mount.path.stat().st_nlink == 202
    log = mount.log("")
    assert [e["seq"] for e in log] == list(range(len(log), 0, -1))
    assert sum(e["kind"] == "mkdir" for e in log) >= 200
    assert len({e["id"] for e in log}) == len(log)


def test_one_of_many_makes_a_name(mount):
    for turn in range(10):
        jobs = [mount.popen(["mkdir", f"same{turn}"], stderr=subprocess.DEVNULL) for _ in range(10)]
        assert sorted(job.wait(60) for job in jobs) == [0] + [1] * 9


MUTATE = """
import os, random, sys
rng = random.Random(sys.argv[1])
for i in range(150):
    a, b = (rng.choice("abcdefgh") for _ in range(2))
    try:
        rng.choice([lambda: os.mkdir(a), lambda: os.rmdir(a), lambda: os.rename(a, b), lambda: os.link(a, b),
                    lambda: os.unlink(a), lambda: os.symlink(a, b), lambda: open(a, "w").write(f"{sys.argv[1]} {i}"),
                    lambda: open(a, "a").write("more"), lambda: os.chmod(a, 0o640), lambda: os.truncate(a, 2),
                    lambda: os.rename(a, f"d/{b}"), lambda: os.rename(f"d/{a}", b), lambda: os.utime(a),
                    lambda: os.setxattr(a, "user.x", b"y"), lambda: os.mkdir(f"d/{a}")])()
    except OSError as e:
        if e.errno not in (1, 2, 17, 20, 21, 22, 39, 40, 95, 18, 16):
            raise
"""


def test_mutations_of_many_processes(mount):
    """Whatever they do at once, the journal stays consistent (the checks after every test) and numbered 1 … n."""
    mount.sh("mkdir d")
    jobs = [mount.popen([sys.executable, "-c", MUTATE, str(i)], stderr=subprocess.PIPE) for i in range(8)]
    for job in jobs:
        said = job.communicate(timeout=120)[1]
        assert job.returncode == 0, said
    before = mount.sh("ls -AlRi --time-style=full-iso")
    log = mount.log("")
    assert [e["seq"] for e in log] == list(range(len(log), 0, -1))
    mount.remount()
    assert mount.sh("ls -AlRi --time-style=full-iso") == before


def test_sequence_numbers_of_two_trees_are_their_own(mount):
    os.mkdir(mount.root / "other")
    for name in ("a", "b", "c"):
        (mount.root / "other" / name).write_text(name)
        (mount.path / name).write_text(name)
    for tree in (mount.root / "other", mount.path):
        log = mount.log(tree)
        assert [e["seq"] for e in log] == list(range(len(log), 0, -1))


def test_renames_back_and_forth_lose_no_file(mount):
    mount.sh("mkdir x y; for i in 1 2 3 4; do echo $i > x/$i; done")
    script = "for n in $(seq 100); do mv x/$1 y/$1 && mv y/$1 x/$1 || exit 1; done"
    jobs = [mount.popen(script, str(i)) for i in range(1, 5)]
    assert [job.wait(60) for job in jobs] == [0] * 4
    assert mount.sh("cat x/*; ls y") == "1\n2\n3\n4\n"


LOAD = """
import os, sys, time
name = sys.argv[1] * 200
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    for i in range(40):
        os.symlink("x" * 3000, f"{name}{i}")
    for i in range(40):
        os.unlink(f"{name}{i}")
"""


def test_the_log_of_a_busy_journal_stays_small(mount, soak):
    """Without a pause in which a checkpoint could catch up, it once grew to the size of the disk."""
    log = mount.volume / "trees" / mount.who.pw_name / "journal.db-wal"
    jobs = [mount.popen([sys.executable, "-c", LOAD, name, str(3 * soak)], stderr=subprocess.PIPE) for name in "abcd"]
    largest = 0

    def over():
        nonlocal largest
        largest = max(largest, log.stat().st_size)
        return all(job.poll() is not None for job in jobs)

    wait_until(over, "the load to end", 200)
    assert [job.returncode for job in jobs] == [0] * 4, jobs[0].communicate()
    operations = len(mount.log(""))
    assert largest < 80 << 20, f"{largest >> 20} MiB after {operations} operations"


@pytest.mark.mount("turn_wait=100")
def test_counting_under_a_lock_of_its_own_loses_nothing(mount):
    """Programs that coordinate by mkdir get what they rely on."""
    mount.sh("""echo 0 > n
        for p in 1 2 3 4; do
            (for i in $(seq 25); do
                until mkdir lock 2> /dev/null; do :; done
                echo $(($(cat n) + 1)) > n
                rmdir lock
            done) &
        done
        wait""")
    assert (mount.path / "n").read_text() == "100\n"


def test_a_long_log_is_checkpointed_while_mounted(mount):
    journal = mount.volume / "trees" / mount.path.name / "journal.db"
    before = journal.stat().st_size
    for i in range(900):
        (mount.path / "f").write_text(str(i))
    wait_until(lambda: journal.stat().st_size > before, "the journal to take over what its log holds")
    assert (mount.path / "f").read_text() == "899"
