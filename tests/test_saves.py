"""Whole: who reads a file sees one whole version of it, never a part of a save."""
import errno
import mmap
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lib import libc, xxh
from lib.procs import wait_until

STRESS = Path(__file__).parent / "lib" / "stress.py"


def others(m, path):
    """What another program sees in the file."""
    return m.sh('cat "$1"', path)


def stress(m, ways, readers, seconds):
    f = m.path / "f"
    f.write_bytes(b"%010d %08x\n" % (20, 0))
    jobs = [m.popen([sys.executable, STRESS, way, f, str(seconds), f"w{i}"], stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT) for i, way in enumerate(ways + ["read"] * readers)]
    for job in jobs:
        said = job.communicate(timeout=seconds + 60)[0]
        assert job.returncode == 0, said
        assert int(said) > 0
    return f


@pytest.mark.parametrize("way", ["trunc", "rename", "inplace"])
def test_stress_one_way(mount, soak, way):
    stress(mount, [way] * 4, 4, soak)


def test_stress_all_ways(mount, soak):
    stress(mount, ["trunc", "trunc", "rename", "inplace"], 4, soak)


def test_a_reader_keeps_its_version_while_five_saves_pass(mount):
    f = mount.path / "f"
    old = b"old " * 5000
    f.write_bytes(old)
    with open(f, "rb") as reader, mmap.mmap(reader.fileno(), 0, prot=mmap.PROT_READ) as mapping:
        assert reader.read(100) == old[:100]
        for i in range(5):
            mount.sh(f"echo {i} > f")
            assert os.pread(reader.fileno(), 1 << 20, 0) == old
            assert os.fstat(reader.fileno()).st_size == len(old)
            assert mapping[:] == old
            assert os.lseek(reader.fileno(), 0, os.SEEK_END) == len(old)
            assert f.read_bytes() == b"%d\n" % i
    assert len(mount.versions("f")) == 6


@pytest.mark.parametrize("command, times", [
    ("echo $i > f", 1000), ("/bin/echo $i > f", 300), ("{ echo $i; } > f", 300), ("(echo $i) > f", 300),
    ("echo $i | cat > f", 300), ("echo $i | tee f > /dev/null", 300)])
def test_a_save_is_seen_by_the_next_command(mount, command, times):
    mount.sh("""i=0
        while [ $i -lt %d ]; do
            %s
            seen=$(cat f)
            [ "$seen" = $i ] || { echo "$i: cat saw '$seen'"; exit 1; }
            i=$((i + 1))
        done""" % (times, command))


def test_the_size_of_a_save_is_seen_by_the_next_command(mount):
    mount.sh("""i=0 text=
        while [ $i -lt 300 ]; do
            printf '%s' "$text" > f
            size=$(stat -c %s f)
            [ "$size" = $i ] || { echo "$i: stat saw $size"; exit 1; }
            text=x$text i=$((i + 1))
        done""")


def test_a_save_is_seen_by_the_same_process(mount):
    f = mount.path / "f"
    for i in range(1000):
        f.write_text(f"{i}" * (1 + i % 50))
        assert f.stat().st_size == len(f"{i}" * (1 + i % 50))
        assert f.read_text() == f"{i}" * (1 + i % 50)


def test_a_large_save_that_is_being_published_is_waited_for(mount):
    """Comparing it with the version before takes a while; by the same thread, by another process."""
    for i in range(4):
        data = b"%d" % (i // 2) * (256 << 20)
        with open(mount.path / "f", "wb") as f:
            f.write(data)
            f.truncate(len(data))
        if i % 2:
            with open(mount.path / "f", "rb") as f:
                assert f.read() == data
        else:
            assert mount.sh("head -c 1 f; tail -c 1 f; wc -c < f").split() == [f"{i // 2}" * 2 + f"{len(data)}"]
    assert len(mount.versions("f")) == 2


def test_a_truncation_is_seen_by_the_next_command(mount):
    mount.sh("""i=0
        while [ $i -lt 300 ]; do
            echo x > f; : > f
            [ -s f ] && { echo "$i: not empty"; exit 1; }
            i=$((i + 1))
        done""")


SHELL_SAVES = {
    "group": "{ echo a$1; /bin/echo b$1; echo c$1; } > f",
    "subshell": "(echo a$1; /bin/echo b$1; echo c$1) > f",
    "exec": "exec > f; echo a$1; { echo b$1; } 2>&1; echo c$1",
    "exec with children": "exec > f; echo a$1; (/bin/echo b$1) 2>&1; sh -c 'echo c'$1",
    "exec with a pipeline": "exec > f; { echo a$1; echo b$1; } | cat; echo c$1",
    "dup": "exec 3> f; echo a$1 >&3; exec 4>&3; echo b$1 >&4; exec 4>&-; echo c$1 >&3; exec 3>&-",
    "bash": "exec bash -c 'exec > f; echo a$1; { echo b$1; } 2>&1; echo c$1' bash $1",
    "background child": "{ echo a$1; /bin/echo b$1 & wait; echo c$1; } > f",
}


@pytest.mark.parametrize("save", SHELL_SAVES.values(), ids=SHELL_SAVES)
def test_no_reader_sees_half_of_what_a_shell_saves(mount, save):
    f = mount.path / "f"
    f.write_text("a0\nb0\nc0\n")
    done = threading.Event()
    torn = []

    def read():
        while not done.is_set():
            text = f.read_text()
            match = re.fullmatch(r"a(\d+)\nb(\d+)\nc(\d+)\n", text)
            if not match or len(set(match.groups())) > 1:
                torn.append(text)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        mount.sh('i=1; while [ $i -le 150 ]; do sh -c "$1" sh $i; i=$((i + 1)); done', save)
    finally:
        done.set()
        reader.join()
    assert not torn, f"{len(torn)} halves, such as {torn[0]!r}"
    versions = mount.versions("f")
    assert list(versions) and max(versions) == 151
    assert all(text == b"a%d\nb%d\nc%d\n" % (i, i, i) for i, text in ((n - 1, versions[n]) for n in versions))


@pytest.mark.parametrize("command", [
    "{ echo out; echo err >&2; } > f 2> f",
    "sh -c 'echo out; echo err >&2' > f 2> f",
    "sh -c 'echo out; echo error >&2' > f 2>> f",
    "{ echo long out; sh -c 'echo child > /dev/stdout'; } > f",
    "{ echo out; sh -c 'echo child >> /dev/stdout'; echo end; } > f",
    "{ { echo inner; } > f; } > f",
    "{ echo a; echo b; } > f; cat f f > g; cat g > f",
    "exec 3<> f; echo new >&3; cat <&3",
    "dd if=/dev/zero of=f bs=1 count=3 seek=2 conv=notrunc 2> /dev/null",
    "dd if=/dev/zero of=f bs=10 count=1 seek=5 2> /dev/null",
    "sort -r f -o f", "tac f | cat > g && mv g f", "truncate -s 3 f", "truncate -s 100 f", "truncate -s 0 f",
    "fallocate -l 50 f", "printf x | tee -a f", "cp f g; cat g > f", "sed -n 1p f > g; cat g >> f",
])
def test_a_shell_gets_what_a_plain_directory_gives(mount, plain, command):
    results = []
    for where in (plain, mount.path):
        (where / "f").write_text("first line\nsecond line\n")
        done = mount.run(command, cwd=where)
        results.append((done.returncode, done.stdout, (where / "f").read_bytes()))
    assert results[1] == results[0]


def test_the_same_thread_opening_twice_is_one_save(mount):
    f = mount.path / "f"
    f.write_text("old\n")
    mount.sh("{ echo out; echo err >&2; } > f 2> f")
    assert mount.versions("f") == {1: b"old\n", 2: b"err\n"}


def test_a_file_object_handed_to_a_child_is_one_save(mount):
    f = mount.path / "f"
    f.write_text("old")
    with open(f, "w") as save:
        save.write("parent\n")
        save.flush()
        assert others(mount, "f") == "old"
        child = mount.popen("echo child; read line; echo $line", stdin=subprocess.PIPE, stdout=save)
        wait_until(lambda: os.fstat(save.fileno()).st_size == len("parent\nchild\n"), "the child to write")
        assert others(mount, "f") == "old"
        child.communicate("more\n")
        assert others(mount, "f") == "old"
        save.write("end\n")
    assert others(mount, "f") == "parent\nchild\nmore\nend\n"
    assert len(mount.versions("f")) == 2


def test_a_save_that_a_child_finishes(mount):
    """The parent's close is not the end; the child's is."""
    f = mount.path / "f"
    f.write_text("old")
    save = open(f, "w")
    save.write("parent\n")
    save.flush()
    child = mount.popen("read line; echo $line", stdin=subprocess.PIPE, stdout=save)
    save.close()
    child.communicate("child\n")
    assert others(mount, "f") == "parent\nchild\n"
    assert mount.versions("f") == {1: b"old", 2: b"parent\nchild\n"}


def test_what_a_long_lived_child_holds_is_published_without_it(mount):
    """Closed by its saver, then 2 s without a write: others see it, though a child still has the descriptor."""
    f = mount.path / "f"
    f.write_text("old")
    save = open(f, "w")
    save.write("parent\n")
    save.flush()
    child = mount.popen("read line; echo $line", stdin=subprocess.PIPE, stdout=save)
    save.close()
    wait_until(lambda: f.read_text() == "parent\n", "the save to be published")
    child.communicate("child\n")
    wait_until(lambda: f.read_text() == "parent\nchild\n", "the child's part to be published")


def test_fork_in_mid_save(mount):
    f = mount.path / "f"
    f.write_text("old")
    save = os.open(f, os.O_WRONLY | os.O_TRUNC)
    os.write(save, b"first\n")
    for _ in range(5):
        pid = os.fork()
        if not pid:
            os.close(save)
            os._exit(0)
        os.waitpid(pid, 0)
        assert others(mount, "f") == "old"
    os.write(save, b"second\n")
    assert others(mount, "f") == "old"
    os.close(save)
    assert others(mount, "f") == "first\nsecond\n"
    assert len(mount.versions("f")) == 2


def test_a_forked_child_writes_to_its_parents_save(mount):
    f = mount.path / "f"
    f.write_text("old")
    save = os.open(f, os.O_WRONLY | os.O_TRUNC)
    pid = os.fork()
    if not pid:
        os.write(save, b"child\n")
        os._exit(0)
    os.waitpid(pid, 0)
    os.write(save, b"parent\n")
    os.close(save)
    assert others(mount, "f") == "child\nparent\n"


def test_an_unchanged_save_makes_no_version_but_sets_the_times(mount):
    f = mount.path / "f"
    f.write_text("same\n")
    mount.settled("f")
    os.utime(f, (1, 1))
    mount.sh("echo same > f")
    mount.settled("f")
    assert mount.version("f") == 1
    assert f.stat().st_mtime > 1
    assert mount.versions("f") == {1: b"same\n"}


def test_truncate(mount):
    f = mount.path / "f"
    f.write_text("0123456789")
    os.truncate(f, 4)
    assert others(mount, "f") == "0123"
    os.truncate(f, 6)
    assert f.read_bytes() == b"0123\0\0"
    os.truncate(f, 0)
    assert f.stat().st_size == 0
    assert mount.versions("f") == {1: b"0123456789", 2: b"0123", 3: b"0123\0\0", 4: b""}


def test_truncate_spares_a_reader(mount):
    f = mount.path / "f"
    f.write_text("0123456789")
    with open(f, "rb") as reader:
        mount.sh("truncate -s 4 f")
        assert os.fstat(reader.fileno()).st_size == 10
        assert reader.read() == b"0123456789"


def test_ftruncate_is_part_of_the_save(mount):
    f = mount.path / "f"
    f.write_text("0123456789")
    with open(f, "rb+") as save:
        save.truncate(4)
        assert others(mount, "f") == "0123456789"
        assert os.fstat(save.fileno()).st_size == 4
    assert others(mount, "f") == "0123"


def test_an_edit_in_place_is_whole(mount):
    f = mount.path / "f"
    f.write_text("0123456789" * 1000)
    with open(f, "rb+") as save:
        save.seek(5000)
        save.write(b"XX")
        save.flush()
        save.seek(0)
        assert save.read() == b"0123456789" * 500 + b"XX" + b"23456789" + b"0123456789" * 499
        assert others(mount, "f") == "0123456789" * 1000
        save.seek(0, os.SEEK_END)
        save.write(b"end")
        assert others(mount, "f") == "0123456789" * 1000
    assert others(mount, "f") == "0123456789" * 500 + "XX" + "23456789" + "0123456789" * 499 + "end"
    assert len(mount.versions("f")) == 2


def test_opening_for_writing_without_writing_changes_nothing(mount):
    f = mount.path / "f"
    f.write_text("text")
    before = f.stat()
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND):
        fd = os.open(f, flags)
        os.write(fd, b"")
        os.close(fd)
    mount.settled("f")
    assert mount.versions("f") == {1: b"text"}
    assert f.stat().st_mtime_ns == before.st_mtime_ns


def test_a_saver_reads_its_own_bytes_and_others_the_old_version(mount):
    f = mount.path / "f"
    f.write_text("old")
    fd = os.open(f, os.O_RDWR | os.O_TRUNC)
    os.write(fd, b"new bytes")
    assert os.pread(fd, 100, 0) == b"new bytes"
    assert os.fstat(fd).st_size == 9
    assert f.stat().st_size == 9, "the saver's own stat of the name"
    assert others(mount, "f") == "old"
    assert mount.sh("stat -c %s f") == "3\n"
    os.close(fd)
    assert others(mount, "f") == "new bytes"


def test_a_new_name_exists_at_once_and_is_empty_to_others(mount):
    fd = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    os.write(fd, b"bytes")
    assert mount.sh("ls; stat -c '%s %a' f; cat f") == "f\n0 640\n"
    done = mount.run("set -C; echo x > f")
    assert done.returncode != 0, "O_EXCL of an existing name"
    os.close(fd)
    assert others(mount, "f") == "bytes"
    assert mount.versions("f") == {1: b"bytes"}


def test_the_inode_number_changes_with_the_content(mount):
    f = mount.path / "f"
    seen = set()
    for i in range(5):
        mount.sh(f"echo {i} > f")
        f.read_text()
        seen.add(f.stat().st_ino)
    assert len(seen) == 5
    before = f.stat().st_ino
    os.chmod(f, 0o600)
    assert f.stat().st_ino == before


def test_reading_through_proc_self_fd(mount):
    f = mount.path / "f"
    f.write_text("old")
    with open(f) as reader:
        mount.sh("echo new > f")
        again = os.open(f"/proc/self/fd/{reader.fileno()}", os.O_RDONLY)
        assert os.read(again, 100) == b"old"
        os.close(again)
    with open(f) as reader:
        again = os.open(f"/proc/self/fd/{reader.fileno()}", os.O_RDONLY)
        assert os.read(again, 100) == b"new\n"
        os.close(again)


def test_saving_through_proc_self_fd(mount):
    f = mount.path / "f"
    f.write_text("old")
    with open(f) as reader:
        save = os.open(f"/proc/self/fd/{reader.fileno()}", os.O_WRONLY | os.O_TRUNC)
        os.write(save, b"new")
        os.close(save)
    assert others(mount, "f") == "new"


def test_a_child_saves_through_dev_stdout(mount):
    (mount.path / "f").write_text("old\n")
    mount.sh("sh -c 'echo child > /dev/stdout' > f")
    assert mount.versions("f") == {1: b"old\n", 2: b"child\n"}


def test_a_hundred_rapid_saves_by_threads_of_one_process(mount):
    f = mount.path / "f"
    f.write_text("start")
    errors = []

    def save(thread):
        try:
            for i in range(10):
                f.write_text(f"{thread} {i}\n" * 500)
        except OSError as e:
            errors.append(e)

    threads = [threading.Thread(target=save, args=(t,)) for t in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    versions = mount.versions("f")
    assert sorted(versions) == list(range(1, 102))
    assert sorted(versions.values()) == sorted(
        [b"start"] + [b"%d %d\n" % (t, i) * 500 for t in range(10) for i in range(10)])
    assert f.read_bytes() == versions[101]


def test_a_thousand_versions(mount):
    f = mount.path / "f"
    for i in range(1, 1001):
        f.write_text(f"version {i}\n")
    mount.settled("f")
    assert mount.version("f") == 1000
    assert sorted(map(int, os.listdir(f"{f}@@"))) == list(range(1, 1001))
    assert all(Path(f"{f}@@/{i}").read_text() == f"version {i}\n" for i in range(1, 1001))
    log = mount.log("f")
    assert [entry["version"] for entry in log] == list(range(1000, 0, -1))


def test_a_file_of_2_gib(mount):
    size = (2 << 30) + 5
    with open(mount.path / "f", "wb") as f:
        f.write(b"begin")
        f.seek(size - 3)
        f.write(b"end")
    mount.settled("f", 100)
    status = (mount.path / "f").stat()
    assert status.st_size == size
    assert status.st_blocks * 512 < 1 << 20, "a sparse file"
    assert mount.sh("head -c 5 f; tail -c 3 f") == "beginend"
    zeros = bytes(1 << 20)
    first, last = bytearray(zeros), bytearray(zeros[:5])
    first[:5], last[-3:] = b"begin", b"end"
    chunks = [bytes(first), *[zeros] * (2047), bytes(last)]
    assert os.getxattr(mount.path / "f", "user.intactfs.hash").decode() == xxh.of_chunks(chunks)


def test_empty_files(mount):
    mount.sh(": > empty; touch touched; : > empty")
    assert mount.sh("stat -c %s empty touched; cat empty touched") == "0\n0\n"
    (mount.path / "f").write_text("text")
    mount.sh(": > f")
    assert mount.versions("f") == {1: b"text", 2: b""}
    mount.remount()
    assert mount.sh("stat -c %s empty touched f") == "0\n0\n0\n"


def test_a_save_of_no_bytes(mount):
    f = mount.path / "f"
    f.write_text("text")
    fd = os.open(f, os.O_WRONLY | os.O_TRUNC)
    assert os.write(fd, b"") == 0
    os.close(fd)
    assert others(mount, "f") == ""
    assert mount.versions("f") == {1: b"text", 2: b""}


def test_a_save_of_a_file_with_content_stays_staged_however_long(mount):
    f = mount.path / "f"
    f.write_text("old")
    with open(f, "w") as save:
        save.write("new")
        save.flush()
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert others(mount, "f") == "old"
            time.sleep(0.1)
        assert [s["state"] for s in mount.saves("f")] == ["staged"]
    assert others(mount, "f") == "new"


def test_a_shared_mapping_saves(mount):
    f = mount.path / "f"
    f.write_bytes(b"a" * 10000)
    with open(f, "rb+") as save:
        with mmap.mmap(save.fileno(), 0) as mapping:
            mapping[5000:5003] = b"XYZ"
            mapping.flush()
    wait_until(lambda: f.read_bytes() == b"a" * 5000 + b"XYZ" + b"a" * 4997, "the mapping's save")
    assert len(mount.versions("f")) == 2


def test_a_mapping_that_outlives_its_descriptor(mount):
    f = mount.path / "f"
    f.write_bytes(b"a" * 10000)
    save = os.open(f, os.O_RDWR)
    mapping = mmap.mmap(save, 0)
    os.close(save)
    mapping[0:3] = b"XYZ"
    mapping.close()
    wait_until(lambda: f.read_bytes() == b"XYZ" + b"a" * 9997, "the mapping's save")


def test_fsync_publishes_nothing_by_itself_but_closing_does(mount):
    f = mount.path / "f"
    f.write_text("old")
    with open(f, "w") as save:
        save.write("new")
        save.flush()
        os.fsync(save.fileno())
        save.write(" and more")
    assert others(mount, "f") == "new and more"
    assert len(mount.versions("f")) == 2


def test_saves_through_hard_links_reach_all_names(mount):
    a, b = mount.path / "a", mount.path / "b"
    a.write_text("one")
    os.link(a, b)
    mount.sh("cat a b; echo two > b")
    assert mount.sh("cat a b") == "two\ntwo\n"
    assert a.stat().st_nlink == 2 and a.stat().st_ino == b.stat().st_ino
    mount.sh("echo three > a")
    assert mount.sh("cat b a") == "three\nthree\n"
    assert mount.versions("a")[3] == mount.versions("b")[max(mount.versions("b"))] == b"three\n"


def test_chmod_during_a_save(mount):
    f = mount.path / "f"
    f.write_text("old")
    f.chmod(0o644)
    with open(f, "w") as save:
        save.write("new")
        mount.sh("chmod 600 f")
        assert mount.sh("stat -c %a f") == "600\n"
    mount.settled("f")
    assert others(mount, "f") == "new"
    assert mount.sh("stat -c %a f") == "600\n"


def test_a_link_by_others_during_a_save_shows_no_half(mount):
    mount.sh("echo old > f")
    mount.settled("f")
    job = mount.popen("exec 3> f; echo half >&3; echo go; read line; echo more >&3", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert job.stdout.readline() == "go\n"
    assert mount.sh("ln f g; cat f g") == "old\nold\n"
    job.communicate("\n", timeout=20)
    assert mount.sh("cat f g") == "half\nmore\n" * 2


def test_unlink_during_a_save(mount):
    f = mount.path / "f"
    f.write_text("old")
    with open(f, "w") as save:
        save.write("new")
        save.flush()
        mount.sh("rm f")
        assert os.listdir(mount.path) == []
        assert os.fstat(save.fileno()).st_size == 3
    assert os.listdir(mount.path) == []


def test_rename_during_a_save(mount):
    f = mount.path / "f"
    f.write_text("old")
    with open(f, "w") as save:
        save.write("new")
        save.flush()
        mount.sh("mv f g")
        save.write(" and more")
    assert mount.sh("ls; cat g") == "g\nnew and more"


def test_a_new_file_renamed_before_it_is_closed(mount):
    """Its bytes go to the new name: a rename publishes."""
    (mount.path / "f").write_text("old")
    with open(mount.path / "tmp", "w") as save:
        save.write("new")
        save.flush()
        os.rename(mount.path / "tmp", mount.path / "f")
        assert others(mount, "f") == "new"
    assert others(mount, "f") == "new"
    assert mount.versions("f") == {1: b"old", 2: b"new"}


def test_a_directory_watch_sees_saves(mount):
    watch = libc.Watch(mount.path, libc.IN_CLOSE_WRITE | libc.IN_MODIFY | libc.IN_MOVED_TO)
    (mount.path / "f").write_text("old")
    assert b"f" in {name for _, name in watch.events()}
    mount.sh("echo new > f")
    assert b"f" in {name for _, name in watch.events()}
    watch.close()


def test_tail_F_follows_saves(mount):
    (mount.path / "f").write_text("one\n")
    tail = mount.popen(["tail", "-n", "+1", "-s", "0.1", "-F", "f"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert tail.stdout.readline() == "one\n"
    mount.sh("echo two > f")
    assert tail.stdout.readline() == "two\n"
    mount.sh("sed -i s/two/three/ f")
    assert tail.stdout.readline() == "three\n"


def test_a_running_program_is_busy_and_can_be_replaced(mount):
    mount.sh("cp /bin/sleep prog")
    prog = mount.popen(["./prog", "1000"])
    with pytest.raises(OSError) as e:
        os.open(mount.path / "prog", os.O_WRONLY)
    assert e.value.errno == errno.ETXTBSY
    mount.sh("cp /bin/true new; mv new prog; ./prog")
    prog.send_signal(signal.SIGTERM)
    prog.wait()


@pytest.mark.parametrize("how", ["written", "not written", "appended", "only read"])
def test_an_exec_that_closes_the_file(mount, how):
    """The kernel tells of the close in the middle of the exec, and whoever reads /proc/PID/stat then waits for its end."""
    mount.sh("echo old > f")
    flags = {"appended": "os.O_WRONLY | os.O_APPEND", "only read": "os.O_RDONLY"}.get(how, "os.O_WRONLY | os.O_TRUNC")
    write = "os.write(fd, b'new')" if how in ("written", "appended") else ""
    looks = [mount.popen("while [ ! -e stop ]; do cat f > /dev/null; done") for _ in range(2)]
    for _ in range(10):
        job = mount.popen([sys.executable, "-c", f"""
import os
fd = os.open("f", {flags})
{write}
os.execv("/bin/true", ["true"])"""])
        assert job.wait(20) == 0
    mount.sh(": > stop")
    assert [look.wait(20) for look in looks] == [0, 0]
    mount.settled("f")
    expected = {"written": "new", "not written": "", "appended": "old\n" + 10 * "new", "only read": "old\n"}[how]
    assert mount.sh("cat f") == expected
