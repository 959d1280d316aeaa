"""The system calls that Python does not offer, through ctypes."""
import ctypes
import os
import select
import struct

_libc = ctypes.CDLL(None, use_errno=True)

AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
SYS_OPENAT2 = 437
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 16
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE, IN_DELETE = 2, 8, 128, 256, 512
EVENTS = {1: "access", 2: "modify", 4: "attrib", 8: "close write", 16: "close", 32: "open", 64: "moved from", 128: "moved to",
          256: "create", 512: "delete", 1024: "delete self", 2048: "move self", 0x8000: "ignored"}


def _check(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def rename(source, target, flags=0):
    return _check(_libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags))


def exchange(a, b):
    return rename(a, b, RENAME_EXCHANGE)


def link_fd(fd, target):
    """linkat(2) with AT_EMPTY_PATH."""
    return _check(_libc.linkat(fd, b"", AT_FDCWD, os.fsencode(target), AT_EMPTY_PATH))


def utimensat(path, atime, mtime):
    """Pairs of seconds and nanoseconds, which may be UTIME_NOW or UTIME_OMIT."""
    return _check(_libc.utimensat(AT_FDCWD, os.fsencode(path), struct.pack("llll", *atime, *mtime), 0))


def openat2(dir_fd, path, flags, mode=0, resolve=0):
    how = struct.pack("QQQ", flags, mode, resolve)
    return _check(_libc.syscall(SYS_OPENAT2, dir_fd, os.fsencode(path), how, len(how)))


def open_once(path, flags, mode=0o666):
    """open(2) without the repetition after EINTR that os.open does."""
    return _check(_libc.open(os.fsencode(path), flags, mode))


def fallocate(fd, mode, offset, length):
    return _check(_libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))


def become_subreaper():
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def keep_proc_readable():
    """A process that changed its user may go on looking at its own /proc/self/fd."""
    _check(_libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))


def syncfs(fd):
    return _check(_libc.syncfs(fd))


class Watch:
    """An inotify watch. events() waits for events: their masks and the names that they carry."""

    def __init__(self, path, mask):
        self.fd = _check(_libc.inotify_init1(os.O_CLOEXEC))
        _check(_libc.inotify_add_watch(self.fd, os.fsencode(path), mask))

    def events(self):
        data = os.read(self.fd, 65536)
        while data:
            _, mask, _, length = struct.unpack_from("iIII", data)
            yield mask, data[16 : 16 + length].rstrip(b"\0")
            data = data[16 + length :]

    def pending(self):
        """The events of what has returned already."""
        found = []
        while select.select([self.fd], [], [], 0)[0]:
            found += self.events()
        return found

    def close(self):
        os.close(self.fd)


class Dir:
    """opendir, readdir, telldir and seekdir."""

    class _Entry(ctypes.Structure):
        _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_uint16),
                    ("type", ctypes.c_uint8), ("name", ctypes.c_char * 256)]

    def __init__(self, path):
        _libc.opendir.restype = ctypes.c_void_p
        _libc.readdir.restype = ctypes.POINTER(self._Entry)
        _libc.telldir.restype = ctypes.c_long
        self.stream = ctypes.c_void_p(_libc.opendir(os.fsencode(path)))
        assert self.stream.value

    def read(self):
        entry = _libc.readdir(self.stream)
        return entry.contents.name if entry else None

    def tell(self):
        return _libc.telldir(self.stream)

    def seek(self, position):
        _libc.seekdir(self.stream, ctypes.c_long(position))

    def rewind(self):
        _libc.rewinddir(self.stream)

    def rest(self):
        return list(iter(self.read, None))

    def close(self):
        _libc.closedir(self.stream)
