"""What can be done with a descriptor: passed on, opened anew by /proc, O_PATH, and directories that are gone."""
import itertools
import os
import socket
import stat
import subprocess
import sys

import pytest

from lib import libc
from lib.calls import outcome
from lib.procs import wait_until


def reopened(fd, flags):
    return os.open(f"/proc/self/fd/{fd}", flags)


def written(fd, data):
    os.write(fd, data)
    os.close(fd)


# Passed over a socket

RECEIVE = """
import array, os, socket, sys
with socket.socket(fileno=int(sys.argv[1])) as s:
    if sys.argv[2:]:
        assert sys.stdin.readline()
    data, ancillary, _, _ = s.recvmsg(1, socket.CMSG_SPACE(4))
    fd = array.array("i", ancillary[0][2])[0]
print("got", flush=True)
for line in sys.stdin:
    what = line.split()
    if what[0] == "read":
        print(os.pread(fd, 100, 0).decode(), flush=True)
    elif what[0] == "write":
        print(os.write(fd, what[1].encode()), flush=True)
    else:
        os.close(fd)
        print("closed", flush=True)
"""


class Receiver:
    """A process that is given a descriptor by another one, which ends then."""

    def __init__(self, mount, sender, path, later=""):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.process = mount.popen([sys.executable, "-c", RECEIVE, str(theirs.fileno()), *later.split()],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[theirs.fileno()])
            code = f"""
import array, os, socket, sys
s = socket.socket(fileno={ours.fileno()})
{sender}
s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])"""
            subprocess.run([sys.executable, "-c", code, path], pass_fds=[ours.fileno()], check=True, timeout=60)
        if not later:
            self.got()

    def got(self):
        assert self.process.stdout.readline() == "got\n"

    def asked(self, what):
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")


def test_a_reader_that_is_passed_on_keeps_its_version(mount):
    f = mount.path / "f"
    f.write_text("old")
    receiver = Receiver(mount, "fd = os.open(sys.argv[1], os.O_RDONLY)", f)
    mount.sh("echo new > f; cat f; rm f")
    assert receiver.asked("read") == "old"


@pytest.mark.parametrize("name", ["f", "f.log"])
@pytest.mark.parametrize("flags", ["os.O_RDWR | os.O_TRUNC", "os.O_RDWR"])
def test_a_save_that_is_passed_on_is_published_by_the_last_close(mount, name, flags):
    f = mount.path / name
    f.write_text("old text")
    mount.settled(name)
    receiver = Receiver(mount, f"fd = os.open(sys.argv[1], {flags}); os.write(fd, b'new')", f)
    assert receiver.asked("write er") == "2"
    rest = "" if "TRUNC" in flags else "ext"
    assert receiver.asked("read") == f"newer{rest}"
    assert mount.sh("cat $1", name) == ("old text" if name == "f" else f"newer{rest}")
    assert receiver.asked("close") == "closed"
    assert mount.sh("cat $1", name) == f"newer{rest}"
    assert mount.versions(name) == {1: b"old text", 2: f"newer{rest}".encode()}


def test_a_descriptor_on_its_way_keeps_its_save(mount):
    """Nobody has it for a while: what was written then is shown, as when a child has it, and what is written later follows."""
    f = mount.path / "f"
    f.write_text("old")
    mount.settled("f")
    receiver = Receiver(mount, "fd = os.open(sys.argv[1], os.O_RDWR | os.O_TRUNC); os.write(fd, b'new')", f, later="later")
    wait_until(lambda: mount.sh("cat f") == "new", "the save without a holder to be shown")
    receiver.process.stdin.write("go\n")
    receiver.process.stdin.flush()
    receiver.got()
    assert receiver.asked("write er") == "2"
    assert mount.sh("cat f") == "new"
    assert receiver.asked("read") == "newer"
    assert receiver.asked("close") == "closed"
    assert mount.sh("cat f") == "newer"
    assert mount.versions("f") == {1: b"old", 2: b"new", 3: b"newer"}


# Opened anew


def test_reading_again_by_the_descriptor_gives_its_version(mount):
    mount.sh("echo old > f; cat f")
    script = 'exec 3< f; echo new > f; cat /dev/fd/3; cat < /proc/self/fd/3; cat f; wc -c < /dev/fd/3; rm f; cat /dev/fd/3'
    assert mount.sh(script) == "old\nold\nnew\n4\nold\n"
    mount.sh("echo old > f; cat f")
    assert mount.sh('exec 3< f; echo newer > g; mv g f; cat /dev/fd/3 f') == "old\nnewer\n"


@pytest.mark.parametrize("again", ["O_WRONLY", "O_RDWR", "O_WRONLY | O_TRUNC", "O_WRONLY | O_APPEND"])
def test_a_save_that_is_opened_again_by_its_descriptor_is_the_same_save(mount, again):
    f = mount.path / "f"
    f.write_text("old")
    mount.settled("f")
    fd = os.open(f, os.O_RDWR | os.O_TRUNC)
    os.write(fd, b"one")
    second = reopened(fd, eval(again, vars(os)))
    if "APPEND" not in again and "TRUNC" not in again:
        os.lseek(second, 0, os.SEEK_END)
    os.write(second, b"two")
    expected = b"two" if "TRUNC" in again else b"onetwo"
    assert os.pread(fd, 100, 0) == expected
    assert mount.sh("cat f") == "old"
    os.close(fd)
    os.close(second)
    assert mount.sh("cat f").encode() == expected
    assert mount.versions("f") == {1: b"old", 2: expected}


SUPERSEDED = {"saved": "echo newer text > f", "edited": "printf X | dd of=f conv=notrunc status=none", "cut": "truncate -s 2 f",
              "saved twice": "echo a > f; cat f; echo newer text > f", "not at all": ":", "appended to": "echo more >> f"}


@pytest.mark.parametrize("how", SUPERSEDED)
@pytest.mark.parametrize("path_only", [0, os.O_PATH], ids=["O_RDONLY", "O_PATH"])
def test_saving_by_the_descriptor_of_an_old_version(mount, plain, how, path_only):
    """It is a save of the file, as by its name: whole, with a version, and readers keep theirs."""
    f = mount.path / "f"
    f.write_text("old text\n")
    mount.settled("f")
    with open(f, "rb") as reader:
        fd = os.open(f, os.O_RDONLY | path_only)
        mount.sh(SUPERSEDED[how])
        mount.settled("f")
        between, last = f.read_bytes(), mount.version("f")
        save = reopened(fd, os.O_WRONLY | os.O_TRUNC)
        os.write(save, b"saved ")
        os.write(save, b"anew")
        assert mount.sh("cat f").encode() == between
        os.close(save)
        assert mount.sh("cat f") == "saved anew"
        assert mount.versions("f")[last + 1] == b"saved anew"
        assert mount.log("f")[0]["version"] == last + 1
        assert reader.read() == b"old text\n" or how == "appended to"
        assert os.fstat(reader.fileno()).st_size == 9 or how == "appended to"
        written(reopened(fd, os.O_WRONLY | os.O_TRUNC), b"and again")
        assert mount.sh("cat f") == "and again"
        os.close(fd)


@pytest.mark.parametrize("how", SUPERSEDED)
@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_APPEND])
def test_writing_by_the_descriptor_of_an_old_version(mount, plain, how, flags):
    """What the program finds and leaves is as on a plain directory, where the descriptor is the file's."""
    seen = []
    for base in (plain, mount.path):
        f = base / "f"
        f.write_text("old text\n")
        fd = os.open(f, os.O_RDONLY)
        mount.sh(SUPERSEDED[how], cwd=base)
        mount.settled("f")
        again = reopened(fd, flags)
        facts = [os.fstat(again).st_size if not flags & os.O_APPEND else 0]
        if flags & os.O_RDWR:
            facts.append(os.pread(again, 100, 0))
        os.pwrite(again, b"NEW", 1)
        if not flags & os.O_APPEND:
            facts.append(os.lseek(again, 0, os.SEEK_END))
            facts.append(os.write(again, b"end"))
            os.ftruncate(again, facts[2] + 2)
            facts.append(os.fstat(again).st_size)
        os.close(again)
        os.close(fd)
        facts.append(mount.sh("cat f", cwd=base))
        seen.append(facts)
    assert seen[0] == seen[1]


def test_a_shell_writes_to_what_it_reads(mount, plain):
    script = """echo one > f; exec 3< f; echo two > f; echo three > /dev/fd/3; cat f; echo four | tee /proc/self/fd/3; cat f
        cp f g; echo five > g; cp g /dev/fd/3; cat f; dd if=g of=/dev/fd/3 conv=notrunc,nocreat status=none; cat f
        echo six >> /dev/fd/3; cat f; truncate -s 3 /dev/fd/3; cat f; : > /dev/fd/3; wc -c < f"""
    assert mount.sh(script) == mount.sh(script, cwd=plain)


@pytest.mark.parametrize("name", ["f", "f.log"])
def test_files_without_a_name_are_opened_anew(mount, plain, name):
    seen = []
    for base in (plain, mount.path):
        f = base / name
        f.write_text("text")
        reader = os.open(f, os.O_RDONLY)
        writer = os.open(f, os.O_RDWR)
        f.unlink()
        again = [reopened(fd, flags) for fd in (reader, writer) for flags in (os.O_RDONLY, os.O_RDWR)]
        f.write_text("another")
        facts = [os.pread(fd, 10, 0) for fd in again]
        os.pwrite(again[3], b"more", 4)
        facts += [os.pread(writer, 10, 0), os.fstat(again[3]).st_size, os.fstat(again[3]).st_nlink]
        os.ftruncate(again[3], 2)
        facts += [os.pread(writer, 10, 0)]
        facts += [outcome(lambda: os.link(f"/proc/self/fd/{reader}", base / "back", src_dir_fd=0, follow_symlinks=True))]
        written(reopened(again[3], os.O_WRONLY | os.O_TRUNC), b"anew")
        facts += [os.pread(again[3], 10, 0), f.read_bytes(), sorted(os.listdir(base))]
        for fd in (reader, writer, *again):
            os.close(fd)
        facts += [f.read_bytes()]
        seen.append(facts)
    mount.settled(name)
    assert seen[0] == seen[1]


def test_a_nameless_file_is_refused_in_the_way_that_programs_know(mount):
    """Python, glibc and others make a named one then."""
    assert outcome(lambda: os.open(mount.path, os.O_TMPFILE | os.O_RDWR)) == "ENOTSUP"
    mount.sh("""python3 -c 'import tempfile
with tempfile.TemporaryFile(dir=".") as f:
    f.write(b"text"); f.seek(0); assert f.read() == b"text"'""")
    assert os.listdir(mount.path) == []


def test_a_link_by_the_descriptor(mount):
    """Of a file that is being saved, of an old version, and of a live file: the file gets a name."""
    f = mount.path / "f"
    f.write_text("old")
    mount.settled("f")

    def link(fd, name):
        os.link(f"/proc/self/fd/{fd}", mount.path / name, src_dir_fd=0, follow_symlinks=True)

    reader = os.open(f, os.O_RDONLY)
    mount.sh("echo new > f")
    link(reader, "a")
    assert mount.sh("cat f a") == "new\nnew\n"
    save = os.open(f, os.O_WRONLY | os.O_TRUNC)
    os.write(save, b"saved")
    link(save, "b")
    assert mount.sh("cat f b") == "savedsaved"
    os.write(save, b" more")
    os.close(save)
    assert mount.sh("cat f a b") == "saved more" * 3
    log = os.open(f, os.O_WRONLY | os.O_APPEND)
    os.write(log, b"!")
    link(log, "c")
    assert mount.sh("cat c; stat -c %h f") == "saved more!4\n"
    os.close(log)
    os.close(reader)


# O_PATH


def test_what_a_path_descriptor_can_do(mount, plain):
    seen = []
    for base in (plain, mount.path):
        (base / "d").mkdir()
        (base / "d" / "f").write_text("text")
        os.symlink("f", base / "d" / "l")
        d, f, l = (os.open(base / p, os.O_PATH | os.O_NOFOLLOW) for p in ("d", "d/f", "d/l"))
        proc = f"/proc/self/fd/{f}"

        def entered():
            os.fchdir(d)
            try:
                return os.listdir("."), os.path.basename(os.getcwd())
            finally:
                os.chdir("/")

        calls = [
            lambda: os.fstat(f).st_size, lambda: stat.S_IFMT(os.fstat(l).st_mode), lambda: os.readlink("", dir_fd=l),
            lambda: os.read(f, 1), lambda: os.pread(f, 1, 0), lambda: os.write(f, b"x"), lambda: os.ftruncate(f, 0),
            lambda: os.fsync(f), lambda: os.fchmod(f, 0o600), lambda: os.fchown(f, 1, 1), lambda: os.utime(f, (1, 1)),
            lambda: os.listxattr(f), lambda: os.lseek(f, 0, os.SEEK_END), lambda: os.listdir(d), lambda: os.listdir(f),
            entered, lambda: os.fchdir(f), lambda: os.close(os.open("f", os.O_RDONLY, dir_fd=d)),
            lambda: os.close(os.open("g", os.O_RDWR | os.O_CREAT, 0o644, dir_fd=d)), lambda: os.mkdir("s", dir_fd=d),
            lambda: os.close(os.open("x", os.O_RDONLY, dir_fd=f)), lambda: sorted(os.listdir(base / "d")),
            lambda: os.chmod(proc, 0o640), lambda: oct(os.fstat(f).st_mode), lambda: os.utime(proc, (1, 2)),
            lambda: os.fstat(f).st_mtime, lambda: os.setxattr(proc, "user.x", b"y"), lambda: os.getxattr(proc, "user.x"),
            lambda: os.truncate(proc, 2), lambda: (base / "d" / "f").read_text(),
            lambda: libc.link_fd(f, base / "linked"), lambda: (base / "linked").read_text(),
            lambda: libc.link_fd(d, base / "linked2"), lambda: os.fstat(f).st_nlink,
            lambda: os.unlink(base / "d" / "f"), lambda: os.unlink(base / "linked"), lambda: os.fstat(f).st_nlink,
            lambda: libc.link_fd(f, base / "linked3"), lambda: os.close(reopened(f, os.O_RDWR)),
            lambda: os.rename(base / "d", base / "e"), entered, lambda: os.mkdir("t", dir_fd=d),
        ]
        facts = [outcome(call) for call in calls]
        for fd in (d, f, l):
            os.close(fd)
        seen.append(facts)
    assert seen[0] == seen[1]


def test_a_path_descriptor_of_what_is_saved_by_others(mount):
    """It is the version's that it was opened on as long as somebody reads that; else it is the file's."""
    f = mount.path / "f"
    f.write_text("old")
    mount.settled("f")
    fd = os.open(f, os.O_PATH)
    reader = os.open(f, os.O_RDONLY)
    mount.sh("echo newer > f; chmod 600 f; touch mark")
    again = reopened(fd, os.O_RDONLY)
    assert (os.fstat(fd).st_size, oct(os.fstat(fd).st_mode), os.read(again, 100)) == (3, "0o100600", b"old")
    os.close(again)
    os.close(reader)
    wait_until(lambda: os.fstat(fd).st_size == 6, "the reader's release")
    again = reopened(fd, os.O_RDONLY)
    assert os.read(again, 100) == b"newer\n"
    os.close(again)
    os.chmod(f"/proc/self/fd/{fd}", 0o640)
    assert oct(f.stat().st_mode) == "0o100640"
    os.truncate(f"/proc/self/fd/{fd}", 4)
    assert mount.sh("cat f; cat $1", f"/proc/{os.getpid()}/fd/{fd}") == "newenewe"
    os.close(fd)


# A file that is mounted somewhere else


@pytest.fixture
def bound(mount, place):
    """Two names for a file: in the mount, and where it is bound to."""
    f, g = mount.path / "f", place / "g"
    f.write_text("one")
    mount.settled("f")
    g.touch()
    subprocess.run(["mount", "--bind", f, g], check=True)
    yield f, g
    subprocess.run(["umount", g], check=True)


WAYS = {">": "echo $1 > $2", ">>": "echo $1 >> $2", "cp": "echo $1 > ../tmp; cp ../tmp $2", "truncate": "truncate -s $1 $2",
        "in place": "echo $1 | dd of=$2 conv=notrunc status=none",
        "python": "python3 -c 'import sys; open(sys.argv[2], \"w\").write(sys.argv[1])' $1 $2",
        "tee": "echo $1 | tee $2", "locked": "flock $2 -c \"echo $1 > $2\""}


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_is_bound_is_the_same_from_both_sides(mount, plain, bound, way):
    """As a container has it: what is saved on one side is read on the other at once, and on its own."""
    f, g = bound
    copy = plain / "copy"
    copy.write_text("one")
    looks = [lambda p: mount.sh("cat $1; stat -c %s $1", p), lambda p: (p.read_bytes(), p.stat().st_size),
             lambda p: mount.sh("tail -c 5 $1", p)]
    for i, (target, look) in enumerate(itertools.product((g, f, f, g, g, f, g), looks), 3):
        for path in (target, copy):
            mount.sh(WAYS[way], str(i), path, cwd=plain)
        assert look(g) == look(f) == look(copy), f"after {i} to {target.name}"


def test_readers_of_a_bound_file_read_whole_versions(mount, bound):
    f, g = bound
    texts = [bytes([65 + i]) * 300_000 for i in range(6)]
    f.write_bytes(texts[0])
    readers = []
    for text in texts[1:]:
        with open(g, "rb", buffering=0) as reader:
            readers.append((reader.read(1000), os.dup(reader.fileno())))
        f.write_bytes(text)
        assert g.read_bytes() == text
    for start, fd in readers:
        rest = start[:1] * 300_000
        assert os.pread(fd, 400_000, 0) == rest
        os.close(fd)


RESOLVE = {"NO_XDEV": 1, "NO_MAGICLINKS": 2, "NO_SYMLINKS": 4, "BENEATH": 8, "IN_ROOT": 16, "CACHED": 32}


def test_openat2(mount, plain):
    seen = []
    for base in (plain, mount.path):
        (base / "d" / "sub").mkdir(parents=True)
        (base / "d" / "f").write_text("text")
        (base / "f").write_text("outside")
        os.symlink("f", base / "d" / "l")
        os.symlink("../f", base / "d" / "up")
        os.symlink("/f", base / "d" / "absolute")
        d = os.open(base / "d", os.O_PATH)
        fd = os.open(base / "f", os.O_RDONLY)
        proc = f"/proc/self/fd/{fd}"

        def attempt(path, flags, resolve):
            opened = libc.openat2(d, path, flags, 0o600 if flags & os.O_CREAT else 0, resolve)
            try:
                return os.write(opened, b"text") if flags & os.O_WRONLY else os.read(opened, 100)
            finally:
                os.close(opened)

        facts = {}
        for name, resolve in RESOLVE.items():
            for path, flags in itertools.product(
                    ["f", "l", "up", "../f", "sub/../f", "sub/../../f", "new", proc, "sub/..", ".", "f/", "absolute", "/f"],
                    [os.O_RDONLY, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_CREAT]):
                if path in ("absolute", "/f") and name != "IN_ROOT":
                    continue
                # A walk by ".." may have to be tried again, and one in the caches may always be told so (openat2(2)).
                for _ in range(100):
                    result = outcome(lambda: attempt(path, flags, resolve))
                    if result != "EAGAIN":
                        break
                facts[name, "proc" if path is proc else path, flags] = result if name != "CACHED" else None
        seen.append(facts)
        os.close(d)
        os.close(fd)
    assert {k: (v, seen[1][k]) for k, v in seen[0].items() if v != seen[1][k]} == {}
    assert seen[1]["BENEATH", "up", os.O_RDONLY] == "EXDEV" and seen[1]["IN_ROOT", "up", os.O_RDONLY] == b"text"


# Directories that are gone


def test_in_a_directory_that_was_removed(mount, plain, monkeypatch):
    seen = []
    for base in (plain, mount.path):
        (base / "up" / "d").mkdir(parents=True)
        (base / "file").write_text("text")
        inside = os.open(base / "up" / "d", os.O_RDONLY)
        monkeypatch.chdir(base / "up" / "d")
        os.rmdir(base / "up" / "d")
        calls = {
            "getcwd": os.getcwd, "list": lambda: os.listdir("."), "list by descriptor": lambda: os.listdir(inside),
            "stat": lambda: stat.S_IFMT(os.stat(".").st_mode), "links": lambda: os.stat(".").st_nlink,
            "open": lambda: os.close(os.open(".", os.O_RDONLY)), "create": lambda: os.open("x", os.O_CREAT | os.O_WRONLY),
            "create excl": lambda: os.open("x", os.O_CREAT | os.O_EXCL | os.O_RDWR), "missing": lambda: os.stat("x"),
            "append": lambda: os.open("x", os.O_CREAT | os.O_WRONLY | os.O_APPEND),
            "mkdir": lambda: os.mkdir("x"), "symlink": lambda: os.symlink("t", "x"), "mkfifo": lambda: os.mkfifo("x"),
            "link": lambda: os.link(base / "file", "x"), "rename in": lambda: os.rename(base / "file", "x"),
            "rename out": lambda: os.rename("x", base / "x"), "exchange": lambda: libc.exchange("x", base / "file"),
            "rmdir dot": lambda: os.rmdir("."), "rmdir dot dot": lambda: os.rmdir(".."), "rmdir": lambda: os.rmdir("x"),
            "unlink": lambda: os.unlink("x"), "up": lambda: sorted(os.listdir("..")), "up and down": lambda: os.stat("../d"),
            "stat up": lambda: os.path.samestat(os.stat(".."), os.stat(base / "up")),
            "chmod": lambda: os.chmod(".", 0o700),
            "utime": lambda: os.utime(".", (1, 1)),
            "chown": lambda: os.chown(".", 1, 1),
            "mtime": lambda: os.stat(".").st_mtime, "fsync": lambda: os.fsync(inside),
            "history": lambda: os.listdir("x@@"), "statvfs": lambda: bool(os.statvfs(".")),
            "made again": lambda: os.mkdir(base / "up" / "d"), "list again": lambda: os.listdir("."),
            "create again": lambda: os.open("x", os.O_CREAT | os.O_WRONLY), "cwd again": os.getcwd,
            "xattr": lambda: os.getxattr(".", "user.x"), "xattrs": lambda: os.listxattr("."),
        }
        seen.append({what: outcome(call) for what, call in calls.items()})
        os.chdir("/")
        os.close(inside)
    assert {k: (v, seen[1][k]) for k, v in seen[0].items() if v != seen[1][k]} == {}


def test_in_a_directory_that_is_moved(mount, plain, monkeypatch):
    seen = []
    for base in (plain, mount.path):
        (base / "a" / "b" / "c").mkdir(parents=True)
        (base / "z").mkdir()
        monkeypatch.chdir(base / "a" / "b" / "c")
        facts = []
        os.rename(base / "a" / "b", base / "z" / "y")
        facts += [os.path.relpath(os.getcwd(), base), sorted(os.listdir("..")), sorted(os.listdir("../.."))]
        with open("f", "w") as f:
            f.write("text")
        facts += [(base / "z" / "y" / "c" / "f").read_text(), outcome(lambda: os.rename("..", "../../q")),
                  outcome(lambda: os.rename(base / "z", "x")), outcome(lambda: os.rename(".", "../q"))]
        os.chdir("/")
        seen.append(facts)
    assert seen[0] == seen[1]
