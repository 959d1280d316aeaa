"""
A program that does one step after the other, as a test tells it: for what has to happen in a certain order.

    a, b = Actor(mount), Actor(mount)
    a.read("f"); b.read("f"); b.save("f", "b\n"); a.save("f", "a\n") == "close: EBUSY"

Each actor is a process in a session of its own, so that it inherits nothing from the test or from another actor.
A step that saves answers "saved", or which call failed and how; any other step that fails raises an OSError here.
"""
import errno
import json
import mmap
import os
import subprocess
import sys
import threading

if __name__ != "__main__":
    from lib.procs import wait_until


class Steps:
    """What the process does: each method is a step. Paths are relative to the tree."""

    def __init__(self):
        self.fds = {}

    def read(self, path):
        with open(path, encoding="utf-8") as f:
            return f.read()

    def read_in_thread(self, path):
        found = []
        thread = threading.Thread(target=lambda: found.append(self.read(path)))
        thread.start()
        thread.join()
        return found[0]

    def read_mapped(self, path):
        with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as mapping:
            return mapping[:].decode()

    def save(self, path, text):
        return self._calls([("open", lambda: self.open(path, "w")), ("write", lambda: self.write(path, text)),
                            ("close", lambda: self.close(path))])

    def save_in_thread(self, path, text):
        found = []
        thread = threading.Thread(target=lambda: found.append(self.save(path, text)))
        thread.start()
        thread.join()
        return found[0]

    def save_in_fork(self, path, text):
        """A child saves, by fork alone."""
        read_end, write_end = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(write_end, self.save(path, text).encode())
            os._exit(0)
        os.close(write_end)
        with open(read_end, encoding="utf-8") as f:
            told = f.read()
        os.waitpid(pid, 0)
        return told

    def save_by_rename(self, path, text, temporary):
        told = self.save(temporary, text)
        return told if told != "saved" else self.rename(temporary, path)

    def rename(self, source, target):
        return self._calls([("rename", lambda: os.rename(source, target))])

    def save_after(self, what, path, text):
        """Replaces the file by another of its name: the old one is unlinked, or renamed away and then unlinked."""
        if what == "unlink":
            os.unlink(path)
            return self.save(path, text)
        os.rename(path, path + "~")
        told = self.save(path, text)
        os.unlink(path + "~")
        return told

    def unlink(self, path):
        os.unlink(path)

    def copy(self, path, to):
        with open(path, "rb") as f, open(to, "wb") as g:
            g.write(f.read())

    def open(self, path, mode):
        flags = {"r": os.O_RDONLY, "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "r+": os.O_RDWR, "a": os.O_WRONLY | os.O_APPEND}
        self.fds[path] = os.open(path, flags[mode], 0o644)

    def write(self, path, text):
        data = text.encode()
        assert os.write(self.fds[path], data) == len(data)

    def contents(self, path):
        return os.pread(self.fds[path], 1 << 20, 0).decode()

    def truncate(self, path, size):
        os.ftruncate(self.fds[path], size)

    def fsync(self, path):
        return self._calls([("fsync", lambda: os.fsync(self.fds[path]))])

    def close(self, path):
        fd = self.fds.pop(path)
        os.close(fd)

    def finish(self, path):
        """close() whose failure is an answer."""
        return self._calls([("close", lambda: self.close(path))])

    def close_twice(self, path):
        """Closes a duplicate first."""
        again = os.dup(self.fds[path])
        first = self._calls([("close", lambda: os.close(again))])
        return [first, self.finish(path)]

    def run(self, command):
        """A child; exit code, stdout, stderr."""
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, encoding="utf-8", check=False)
        return [done.returncode, done.stdout, done.stderr]

    def setxattr(self, path, name, value):
        os.setxattr(path, name, value.encode())

    def getxattr(self, path, name):
        return os.getxattr(path, name).decode()

    @staticmethod
    def _calls(calls):
        for name, call in calls:
            try:
                call()
            except OSError as e:
                return f"{name}: {errno.errorcode[e.errno]}"
        return "saved"


def main():
    steps = Steps()
    for line in sys.stdin:
        name, args, kwargs = json.loads(line)
        try:
            reply = {"value": getattr(steps, name)(*args, **kwargs)}
        except OSError as e:
            reply = {"errno": e.errno, "text": str(e)}
        print(json.dumps({**reply, "open": len(steps.fds)}), flush=True)


class Actor:
    """The test's end of it. a.STEP(…) does a step of Steps and returns what it answered."""

    def __init__(self, mount, **kwargs):
        self.mount = mount
        self.process = mount.popen([sys.executable, "-S", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   **kwargs)
        self.pid = self.process.pid

    def __getattr__(self, name):
        if not hasattr(Steps, name):
            raise AttributeError(name)

        def step(*args, **kwargs):
            self.tell(name, *args, **kwargs)
            return self.answer()
        return step

    def tell(self, name, *args, **kwargs):
        """Begins a step that may have to wait; answer() is its end."""
        self.process.stdin.write(json.dumps([name, args, kwargs]) + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        assert line, f"an actor ended: {self.process.wait(10)}"
        reply = json.loads(line)
        if "errno" in reply:
            raise OSError(reply["errno"], reply["text"])
        if not reply["open"]:
            wait_until(lambda: not self._under_way(), "what was closed to be published")
        return reply["value"]

    def _under_way(self):
        return [s for s in self.mount.tree()["saves"] if s["state"] == "closing" or s["by"]["pid"] == self.pid]

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(30) == 0


if __name__ == "__main__":
    main()
