"""
Random operations, done in a mount and in a plain directory by the same processes, with the same results.

    twins.py KIND SEED COUNT WORKERS MOUNT PLAIN

KIND     names     calls on the names of one tree
         live      reads, writes, mappings, truncations and holes of one live file, which all have open at once
         settled   saves of one file by whoever's turn it is; the others read, and keep what they opened
         alone     names, with all processes at it at the same time, each on names of its own

Every process makes up the same sequence of operations from the seed. Each operation belongs to one process; when it is
done, a token goes to whom the next one belongs to (alone: nobody waits). An operation is done in PLAIN, then in
MOUNT; the first difference ends all with 1, and says what had been done. What an operation may do never depends on what
came out of the ones before, so the sequence of a seed is always the same.

Ends with 0 when nothing differed.
"""
import errno
import fcntl
import hashlib
import mmap
import os
import random
import re
import shutil
import signal
import stat
import sys
import traceback

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import libc  # noqa: E402

# Root may do anything, so there are users whom the modes and the sticky bits stop.
USERS = [0, 0, 1, 2]
SLOTS = 4
FILE_LIMIT = 300_000
PAGE = mmap.PAGESIZE


def content(rng, limit=20_000):
    """Bytes that tell where they come from."""
    piece = b"%08x" % rng.getrandbits(32)
    return (piece * (limit // 8 + 1))[: rng.choice([0, 1, 10, 100, 4095, 4096, 4097, 10_000, rng.randrange(limit)])]


def digest(data):
    return len(data), hashlib.blake2b(data, digest_size=8).hexdigest()


class Side:
    """One of the two places, as one process sees it: its root, and what the process holds open in it."""

    def __init__(self, root, plain):
        self.root, self.plain = root, plain
        self.fds = {}
        self.maps = {}
        self.kept = {}

    def at(self, path):
        """A path as a system call takes it; (slot, path) begins at a directory that is held."""
        if isinstance(path, tuple):
            return f"/proc/self/fd/{self.fd(path[0])}/{path[1]}"
        return f"{self.root}/{path}"

    def fd(self, slot):
        if slot not in self.fds:
            raise OSError(errno.EBADF, "nothing in this slot")
        return self.fds[slot]

    def hold(self, slot, path, flags, mode=0o644):
        fd = os.open(self.at(path), flags, mode)
        self.drop(slot)
        self.fds[slot] = fd

    def drop(self, slot):
        self.kept.pop(slot, None)
        if slot in self.fds:
            os.close(self.fds.pop(slot))

    def restart(self):
        """As if the process had ended: everything that it held goes."""
        for number in list(self.maps):
            self.unmap(number)
        for slot in list(self.fds):
            self.drop(slot)

    # Names

    def mkdir(self, path, mode):
        os.mkdir(self.at(path), mode)

    def rmdir(self, path):
        os.rmdir(self.at(path))

    def unlink(self, path):
        os.unlink(self.at(path))

    def rename(self, source, target, flags):
        libc.rename(self.at(source), self.at(target), flags)

    def link(self, source, target, follow):
        # src_dir_fd makes Python call linkat, which alone can follow.
        os.link(self.at(source), self.at(target), src_dir_fd=0, follow_symlinks=follow)

    def symlink(self, target, path):
        os.symlink(target, self.at(path))

    def readlink(self, path):
        return os.readlink(self.at(path))

    def mknod(self, path, mode):
        os.mknod(self.at(path), mode, os.makedev(1, 3))

    def chmod(self, path, mode):
        os.chmod(self.at(path), mode)

    def chown(self, path, uid, gid, follow):
        os.chown(self.at(path), uid, gid, follow_symlinks=follow)

    def utime(self, path, ns, follow):
        os.utime(self.at(path), ns=ns, follow_symlinks=follow)

    def stat(self, path, follow):
        return facts(os.stat(self.at(path), follow_symlinks=follow))

    def samefile(self, a, b):
        a, b = os.lstat(self.at(a)), os.lstat(self.at(b))
        return (a.st_ino, a.st_dev) == (b.st_ino, b.st_dev)

    def listdir(self, path):
        with os.scandir(self.at(path)) as entries:
            return sorted((e.name, e.is_symlink(), e.is_dir(follow_symlinks=False),
                           e.is_file(follow_symlinks=False)) for e in entries)

    def access(self, path, mode):
        return os.access(self.at(path), mode, effective_ids=True)

    def setxattr(self, path, name, value, flags, follow):
        os.setxattr(self.at(path), name, value, flags, follow_symlinks=follow)

    def getxattr(self, path, name):
        return os.getxattr(self.at(path), name)

    def removexattr(self, path, name):
        os.removexattr(self.at(path), name)

    def listxattr(self, path):
        return sorted(os.listxattr(self.at(path)))

    def truncate(self, path, size):
        os.truncate(self.at(path), size)

    def save(self, path, flags, data, mode):
        fd = os.open(self.at(path), flags | os.O_NONBLOCK, mode)
        try:
            return os.write(fd, data)
        finally:
            os.close(fd)

    def replace(self, path, temporary, data):
        fd = os.open(self.at(temporary), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o640)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        os.rename(self.at(temporary), self.at(path))

    def read(self, path):
        fd = os.open(self.at(path), os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return os.read(fd, 10)
            return digest(read_all(fd))
        finally:
            os.close(fd)

    def hold_reader(self, slot, path):
        self.hold(slot, path, os.O_RDONLY | os.O_NONBLOCK)
        s = os.fstat(self.fds[slot])
        if stat.S_ISREG(s.st_mode):
            self.kept[slot] = digest(read_all(self.fds[slot]))
        return self.kept.get(slot)

    def held_same(self, slot):
        """
        A reader of a settled file keeps what it opened, whatever is saved, and sees what is appended. (A plain
        directory does not promise that.)
        """
        fd = self.fd(slot)
        if slot not in self.kept or self.plain:
            return self.kept.get(slot)
        return digest(read_all(fd)[: self.kept[slot][0]])

    def orphan(self, slot, path):
        """A file without a name that is written and read."""
        self.hold(slot, path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.unlink(self.at(path))

    def give_name(self, slot, path):
        os.link(f"/proc/self/fd/{self.fd(slot)}", self.at(path), src_dir_fd=0, follow_symlinks=True)
        self.drop(slot)

    def held_write(self, slot, offset, data):
        done = os.pwrite(self.fd(slot), data, offset)
        s = os.fstat(self.fd(slot))
        return done, s.st_size, s.st_nlink, digest(os.pread(self.fd(slot), FILE_LIMIT * 2, 0))

    def held_stat(self, slot):
        return os.fstat(self.fd(slot)).st_nlink > 0

    # The content of one file

    def open(self, slot, path, flags):
        self.hold(slot, path, flags, 0o644)

    def pread(self, slot, offset, size):
        return digest(os.pread(self.fd(slot), size, offset))

    def pwrite(self, slot, offset, data):
        return os.pwritev(self.fd(slot), [data[: len(data) // 3], data[len(data) // 3 :]], offset)

    def write(self, slot, data):
        return os.write(self.fd(slot), data)

    def readv(self, slot, sizes):
        buffers = [bytearray(n) for n in sizes]
        return os.readv(self.fd(slot), buffers), digest(b"".join(buffers))

    def seek(self, slot, offset, whence):
        return os.lseek(self.fd(slot), offset, whence)

    def holes(self, slot):
        """Where data is said to be is the filesystem's business, but there is none in a hole."""
        fd, position = self.fd(slot), 0
        here = os.lseek(fd, 0, os.SEEK_CUR)
        size = os.fstat(fd).st_size
        while position < size:
            try:
                data = os.lseek(fd, position, os.SEEK_DATA)
            except OSError as e:
                if e.errno != errno.ENXIO:
                    raise
                data = size
            hole = os.pread(fd, data - position, position)
            if hole.strip(b"\0"):
                return f"data in a hole at {position}"
            if data >= size:
                break
            position = os.lseek(fd, data, os.SEEK_HOLE)
        os.lseek(fd, here, os.SEEK_SET)
        return size

    def ftruncate(self, slot, size):
        os.ftruncate(self.fd(slot), size)

    def fallocate(self, slot, mode, offset, size):
        libc.fallocate(self.fd(slot), mode, offset, size)

    def posix_fallocate(self, slot, offset, size):
        os.posix_fallocate(self.fd(slot), offset, size)

    def fsync(self, slot, data):
        (os.fdatasync if data else os.fsync)(self.fd(slot))

    def copy(self, source, target, at, to, size):
        return os.copy_file_range(self.fd(source), self.fd(target), size, at, to)

    def sendfile(self, target, source, at, size):
        return os.sendfile(self.fd(target), self.fd(source), at, size)

    def size(self, slot):
        return os.fstat(self.fd(slot)).st_size

    def flags(self, slot, append):
        flags = fcntl.fcntl(self.fd(slot), fcntl.F_GETFL) & ~os.O_APPEND
        fcntl.fcntl(self.fd(slot), fcntl.F_SETFL, flags | (os.O_APPEND if append else 0))

    def map(self, slot, number, page, pages, shared, writable):
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        length = min(pages * PAGE, os.fstat(self.fd(slot)).st_size - page * PAGE)
        if length <= 0:
            return None
        new = mmap.mmap(self.fd(slot), length, mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE, access,
                        offset=page * PAGE)
        self.unmap(number)
        self.maps[number] = (new, page, shared, writable, os.dup(self.fd(slot)))
        return length

    def unmap(self, number):
        if number in self.maps:
            self.maps[number][0].close()
            os.close(self.maps.pop(number)[4])

    def within(self, number, offset, size):
        """The mapping, and how much of it may be touched from offset: behind the file's last page there is SIGBUS."""
        mapping, page, shared, writable, fd = self.maps[number]
        end = -(-os.fstat(fd).st_size // PAGE) * PAGE - page * PAGE
        offset %= len(mapping)
        return mapping, offset, max(0, min(size, end - offset, len(mapping) - offset)), shared, writable

    def load(self, number, offset, size):
        if number not in self.maps:
            return None
        mapping, offset, size, shared, writable = self.within(number, offset, size)
        # A private mapping that was written to has pages of its own; which ones it shares still is unspecified.
        return digest(mapping[offset : offset + size]) if shared or not writable else None

    def store(self, number, offset, data, sync):
        if number not in self.maps:
            return None
        mapping, offset, size, shared, writable = self.within(number, offset, len(data))
        if not writable:
            return None
        size = max(0, min(size, os.fstat(self.maps[number][4]).st_size - self.maps[number][1] * PAGE - offset))
        mapping[offset : offset + size] = data[:size]
        if sync:
            mapping.flush()
        return size

    def whole(self, path):
        fd = os.open(self.at(path), os.O_RDONLY)
        try:
            data = read_all(fd)
            return digest(data), os.fstat(fd).st_size, os.stat(self.at(path)).st_size
        finally:
            os.close(fd)


def read_all(fd):
    """All of a file from its start; the position stays. It is read behind its size, too."""
    data, offset = b"", 0
    while chunk := os.pread(fd, 1 << 20, offset):
        data += chunk
        offset += len(chunk)
    return data


def facts(s):
    directory = stat.S_ISDIR(s.st_mode)
    return (oct(s.st_mode), s.st_uid, s.st_gid, s.st_nlink, None if directory else s.st_size, s.st_rdev)


# Which operations there are. Each is a function of the random generator that returns (name, arguments …).

def a_path(rng, names="abcdef"):
    """Mostly a and b are directories, and the others are not."""
    parts = [rng.choice("ab") for _ in range(rng.choice([0, 0, 1, 1, 2]))] + [rng.choice(names)]
    if rng.random() < 0.06:
        parts.insert(rng.randrange(len(parts) + 1), rng.choice([".", ".."]))
    path = "/".join(["top", *parts])
    odd = rng.random()
    if odd < 0.02:
        path += "/"
    elif odd < 0.025:
        path += "/" + "n" * rng.choice([255, 256])
    elif odd < 0.03:
        path = "top"
    return (rng.randrange(SLOTS), path[4:]) if rng.random() < 0.08 else path


def a_directory(rng):
    return a_path(rng, "aabbf")


def a_file(rng):
    return a_path(rng, "ccddeeffb")


def a_mode(rng):
    return rng.choice([0o755, 0o777, 0o700, 0o1777, 0o2775, 0o644, 0o600, 0o555, 0o4755, rng.randrange(0o10000)])


def some(rng):
    return rng.random() < 0.5


def an_age(rng):
    return (rng.randrange(1 << 31) * 10**9 + rng.randrange(10**9), rng.randrange(1 << 31) * 10**9 + 1)


NAME_OPERATIONS = [
    (8, lambda r: ("mkdir", a_directory(r), a_mode(r))),
    (4, lambda r: ("rmdir", a_directory(r))),
    (5, lambda r: ("unlink", a_file(r))),
    (6, lambda r: ("rename", a_file(r), a_file(r), r.choice([0, 0, 0, libc.RENAME_NOREPLACE, libc.RENAME_EXCHANGE]))),
    (4, lambda r: ("rename", a_path(r), a_path(r), r.choice([0, 0, libc.RENAME_NOREPLACE, libc.RENAME_EXCHANGE]))),
    (5, lambda r: ("link", a_file(r), a_file(r), some(r))),
    (4, lambda r: ("symlink", r.choice(["a", "b/c", "../a", ".", "..", "none", "loop", "x" * 4095, "/nonexistent/none"]), a_file(r))),
    (2, lambda r: ("readlink", a_file(r))),
    (2, lambda r: ("mknod", a_file(r), r.choice([stat.S_IFIFO, stat.S_IFCHR, stat.S_IFREG, stat.S_IFSOCK]) | 0o644)),
    (5, lambda r: ("chmod", a_path(r), a_mode(r))),
    (3, lambda r: ("chown", a_path(r), *r.choice([(-1, 0), (-1, 1), (0, -1), (1, 1), (2, -1), (2, 1)]), some(r))),
    (3, lambda r: ("utime", a_path(r), an_age(r), some(r))),
    (6, lambda r: ("stat", a_path(r), some(r))),
    (2, lambda r: ("samefile", a_path(r), a_path(r))),
    (4, lambda r: ("listdir", a_directory(r))),
    (2, lambda r: ("access", a_path(r), r.randrange(8))),
    (2, lambda r: ("setxattr", a_path(r), r.choice(["user.a", "user.b", "trusted.c", "nonsense"]),
                   r.choice([b"", b"x", b"y" * 300]), r.randrange(3), some(r))),
    (1, lambda r: ("getxattr", a_path(r), r.choice(["user.a", "user.b", "trusted.c"]))),
    (1, lambda r: ("removexattr", a_path(r), r.choice(["user.a", "user.b"]))),
    (1, lambda r: ("listxattr", a_path(r))),
    (3, lambda r: ("truncate", a_file(r), r.choice([0, 1, 5000, r.randrange(30_000)]))),
    (8, lambda r: ("save", a_file(r), os.O_WRONLY | os.O_CREAT | r.choice([os.O_TRUNC, os.O_TRUNC, os.O_EXCL, 0]),
                   content(r), r.choice([0o644, 0o600, 0o666]))),
    (3, lambda r: ("save", a_file(r), os.O_WRONLY | os.O_APPEND | r.choice([os.O_CREAT, 0]), content(r, 500), 0o644)),
    (3, lambda r: ("save", a_file(r), os.O_RDWR | r.choice([0, os.O_NOFOLLOW]), content(r, 3000), 0o644)),
    (4, lambda r: ("replace", a_file(r), a_file(r), content(r))),
    (8, lambda r: ("read", a_file(r))),
    (3, lambda r: ("hold_reader", r.randrange(SLOTS), a_file(r))),
    (2, lambda r: ("hold", r.randrange(SLOTS), a_path(r), r.choice([os.O_DIRECTORY, os.O_PATH | os.O_DIRECTORY]))),
    (3, lambda r: ("held_same", r.randrange(SLOTS))),
    (1, lambda r: ("held_stat", r.randrange(SLOTS))),
    (1, lambda r: ("orphan", r.randrange(SLOTS, 2 * SLOTS), a_file(r))),
    (1, lambda r: ("give_name", r.randrange(SLOTS, 2 * SLOTS), a_file(r))),
    (3, lambda r: ("held_write", r.randrange(SLOTS, 2 * SLOTS), r.randrange(10_000), content(r, 2000))),
    (1, lambda r: ("drop", r.randrange(2 * SLOTS))),
]

THE_FILE = "file.db"


def a_place(rng):
    return rng.choice([0, 1, 4095, 4096, 4097, 65_536, rng.randrange(FILE_LIMIT), rng.randrange(FILE_LIMIT)])


def a_size(rng):
    return rng.choice([0, 1, 100, 4096, 8192, rng.randrange(40_000)])


def a_slot(rng):
    return rng.randrange(SLOTS)


CONTENT_OPERATIONS = [
    (8, lambda r: ("pread", a_slot(r), a_place(r), a_size(r))),
    (8, lambda r: ("pwrite", a_slot(r), a_place(r), content(r))),
    (6, lambda r: ("write", a_slot(r), content(r, 6000))),
    (3, lambda r: ("readv", a_slot(r), [r.randrange(5000) for _ in range(3)])),
    (3, lambda r: ("seek", a_slot(r), r.choice([a_place(r), -a_size(r)]), r.choice([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END]))),
    (2, lambda r: ("holes", a_slot(r))),
    (3, lambda r: ("ftruncate", a_slot(r), a_place(r))),
    (3, lambda r: ("fallocate", a_slot(r), r.choice([0, libc.FALLOC_KEEP_SIZE, 3, 3, libc.FALLOC_ZERO_RANGE, 17]),
                   a_place(r), a_size(r))),
    (1, lambda r: ("posix_fallocate", a_slot(r), a_place(r), a_size(r))),
    (1, lambda r: ("fsync", a_slot(r), some(r))),
    (2, lambda r: ("copy", a_slot(r), a_slot(r), a_place(r), a_place(r), a_size(r))),
    (1, lambda r: ("sendfile", a_slot(r), a_slot(r), a_place(r), a_size(r))),
    (4, lambda r: ("size", a_slot(r))),
    (3, lambda r: ("map", a_slot(r), r.randrange(3), r.randrange(20), r.randrange(1, 30), r.random() < 0.8, some(r))),
    (8, lambda r: ("load", r.randrange(3), r.randrange(100_000), r.randrange(20_000))),
    (6, lambda r: ("store", r.randrange(3), r.randrange(100_000), content(r), some(r))),
    (1, lambda r: ("unmap", r.randrange(3))),
]

LIVE_OPERATIONS = CONTENT_OPERATIONS + [
    (7, lambda r: ("open", a_slot(r), THE_FILE, r.choice([os.O_RDONLY, os.O_RDWR, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_APPEND,
                                                          os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_TRUNC | os.O_CREAT]))),
    (3, lambda r: ("drop", a_slot(r))),
    (1, lambda r: ("flags", a_slot(r), some(r))),
    (2, lambda r: ("truncate", THE_FILE, a_place(r))),
    (4, lambda r: ("whole", THE_FILE)),
    (0.5, lambda r: ("restart",)),
]


def pick(rng, operations):
    return rng.choices([make for _, make in operations], [weight for weight, _ in operations])[0](rng)


def sequence(kind, seed, count, workers):
    """(who, operation) count times."""
    rng = random.Random(seed)
    if kind == "settled":
        yield from saves_in_turn(rng, count, workers)
        return
    for _ in range(count):
        yield rng.randrange(workers), pick(rng, LIVE_OPERATIONS if kind == "live" else NAME_OPERATIONS)


def saves_in_turn(rng, count, workers):
    """One saver at a time; while it is at it, the others see what was there before."""
    made = 0
    yield 0, ("save", "file", os.O_WRONLY | os.O_CREAT | os.O_EXCL, b"first", 0o644)
    while made < count:
        saver = rng.randrange(workers)
        yield saver, ("begin", "file")
        way = rng.choice([os.O_RDWR, os.O_RDWR, os.O_RDWR | os.O_TRUNC])
        yield saver, ("open", 0, "file", way)
        for _ in range(rng.randrange(1, 25)):
            other = rng.randrange(workers)
            if other == saver:
                name, *arguments = pick(rng, CONTENT_OPERATIONS)
                if name not in ("load", "store", "unmap"):
                    arguments[0] = 0
                if name in ("copy", "sendfile"):
                    arguments[1] = 0
                yield saver, (name, *arguments)
            else:
                yield other, rng.choice([("before", "file"), ("hold_reader", rng.randrange(1, SLOTS), "before"),
                                         ("held_same", rng.randrange(1, SLOTS))])
            made += 1
        yield saver, ("pwrite", 0, a_place(rng), b"last")
        for number in range(3):
            yield saver, ("unmap", number)
        yield saver, ("drop", 0)
        for _ in range(3):
            other = rng.randrange(workers)
            yield other, rng.choice([("whole", "file"), ("truncate", "file", a_place(rng) + 1), ("stat", "file", True),
                                     ("save", "file", os.O_WRONLY | os.O_APPEND, content(rng, 600), 0o644),
                                     ("replace", "file", "temporary", content(rng) + b"x"),
                                     ("hold_reader", rng.randrange(1, SLOTS), "file"),
                                     ("held_same", rng.randrange(1, SLOTS))])
            made += 1


class Worker:
    def __init__(self, number, kind, mount, plain):
        self.number, self.kind = number, kind
        self.sides = [Side(plain, True), Side(mount, False)]
        self.user = 0
        if kind in ("names", "alone"):
            self.user = USERS[number % len(USERS)]
            os.umask([0o022, 0o002, 0o077, 0][number % 4])
        if self.user:
            os.setgroups([])
            os.setresgid(self.user, self.user, self.user)
            os.setresuid(self.user, self.user, self.user)
            libc.keep_proc_readable()

    def outcome(self, side, name, arguments):
        try:
            if name == "begin":
                # What the others are to see while the save is under way.
                if side.plain:
                    shutil.copyfile(side.at("file"), side.at("before"))
                return None
            if name == "restart":
                return side.restart()
            if name == "before":
                return side.whole("before" if side.plain else arguments[0])
            if name == "hold_reader" and arguments[1] == "before" and not side.plain:
                return side.hold_reader(arguments[0], "file")
            return getattr(side, name)(*arguments)
        except OSError as e:
            return errno.errorcode[e.errno]

    def perform(self, name, arguments):
        """The outcomes in the plain directory and in the mount, with the times that changed."""
        watched = [a for a in arguments[:2] if isinstance(a, str) and self.kind == "names"]
        watched += [os.path.dirname(a.rstrip("/")) + "/." for a in watched if "/" in a.rstrip("/")]
        # What a rename puts in a name's place may have, or not, times of the same tick as what was there.
        watched = watched[len(watched) // 2 :] if name in ("rename", "replace") else watched
        # The filesystem to compare with leaves the times when the value was the same.
        watched = [] if name == "setxattr" else watched
        results = []
        for side in self.sides:
            before = [times(side, path) for path in watched]
            result = self.outcome(side, name, arguments)
            changed = ["".join(what for what, a, b in zip("mc", old, new) if a != b) if old and new else None
                       for old, new in zip(before, [times(side, path) for path in watched])]
            results.append((result, changed))
        return results


def times(side, path):
    try:
        s = os.lstat(side.at(path))
    except OSError:
        return None
    # The kernel does not tell a FUSE filesystem that somebody wrote into a pipe.
    return None if stat.S_ISFIFO(s.st_mode) else (s.st_mtime_ns, s.st_ctime_ns)


def own(operation, number):
    """The operation on names that only this process uses, and cannot leave."""
    def within(value):
        if isinstance(value, tuple):
            return tuple(map(within, value))
        if not isinstance(value, str):
            return value
        return re.sub("^top", f"top{number}", value.replace("..", "."))

    return within(tuple(operation))


def work(number, kind, seed, count, workers, roots, tokens, done):
    """What one process does; True when nothing differed."""
    worker = Worker(number, kind, *roots)
    alone = kind == "alone"
    steps = sequence(kind, f"{seed} {number}" if alone else seed, count, 1 if alone else workers)
    following = next(steps)
    while following:
        (who, operation), following = following, next(steps, None)
        if alone:
            operation = own(operation, number)
        elif who == number:
            os.read(tokens[number][0], 1)
        else:
            continue
        plain, mount = worker.perform(operation[0], operation[1:])
        os.write(done, f"{number} {shortened(operation)}: {shortened(plain)}\n".encode())
        if plain != mount:
            os.write(done, f"in the mount {shortened(mount)}\n".encode())
            return False
        if following and not alone:
            os.write(tokens[following[0]][1], b"x")
    return True


def shortened(values):
    if not isinstance(values, (tuple, list)):
        values = [values]
    return " ".join(v if len(v) < 60 else f"{v[:40]}… ({len(v)})" for v in map(str, values))


def main(kind, seed, count, workers, mount, plain):
    count, workers = int(count), int(workers)
    done = os.open(f"{plain}.done", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for root in (mount, plain):
        for number in range(workers) if kind == "alone" else [""]:
            os.mkdir(f"{root}/top{number}")
            os.chmod(f"{root}/top{number}", 0o1777)
    tokens = [os.pipe() for _ in range(workers)]
    os.write(tokens[next(sequence(kind, seed, 1, workers))[0]][1], b"x")
    processes = set()
    for number in range(workers):
        pid = os.fork()
        if not pid:
            good = False
            try:
                good = work(number, kind, seed, count, workers, (mount, plain), tokens, done)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(not good)
        processes.add(pid)
    while processes:
        pid, status = os.wait()
        processes.discard(pid)
        if status:
            for other in processes:
                os.kill(other, signal.SIGKILL)
            with open(f"{plain}.done", errors="replace") as f:
                sys.exit(f"{''.join(f.readlines()[-120:])}{kind} {seed}: process {pid} ended with {status}")
    os.unlink(f"{plain}.done")


if __name__ == "__main__":
    main(*sys.argv[1:])
