"""A volume and its mount, as a test sees them."""
import json
import os
import pwd
import select
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

from lib import checkable
from lib.procs import ends, wait_until

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("INTACTFS_BIN", ROOT / "build" / "intactfs")).absolute()

# A daemon that hangs is killed after this, so that nobody waits for it for ever.
LIFE_SECONDS = 220


def mounts_below(prefix):
    """The mount points whose path begins with prefix, in the order they were mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        points = [line.split()[4] for line in f]
    return [point for point in points if point.startswith(str(prefix))]


def mounted(path):
    return str(path) in mounts_below(path)


class Mount:
    """
    root     the mount point             path     the user's tree in it
    volume   the backing directory       daemon   the Popen of `intactfs mount -f`
    """

    def __init__(self, place, *options, volume=None, root=None, user=None):
        self.place, self.options, self.user = place, options, user
        self.volume = volume or place / "volume"
        self.root = root or place / "mnt"
        self.root.mkdir(exist_ok=True)
        self.who = pwd.getpwuid(os.geteuid() if user is None else user)
        if user is not None:
            os.chown(place, user, self.who.pw_gid)
            os.chown(self.root, user, self.who.pw_gid)
        self.path = self.root / self.who.pw_name
        self.log_path = place / "daemon.log"
        self.daemon = self.pidfd = self.watchdog = None
        self.killed = False
        self.env = dict(os.environ, HOME=str(place), TMPDIR=str(place), LC_ALL="C.UTF-8",
                        PATH=f"{BIN.parent}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
                        GIT_CONFIG_NOSYSTEM="1", GIT_AUTHOR_NAME="t", GIT_AUTHOR_EMAIL="t@example.org",
                        GIT_COMMITTER_NAME="t", GIT_COMMITTER_EMAIL="t@example.org")

    # The daemon

    def start(self):
        command = [BIN, "mount", "-f"]
        if self.options:
            command += ["-o", ",".join(self.options)]
        identity = {} if self.user is None else {
            "user": self.user, "group": self.who.pw_gid, "extra_groups": []}
        with open(self.log_path, "ab") as log:
            self.daemon = subprocess.Popen([*command, self.volume, self.root], stdin=subprocess.DEVNULL,
                                           stdout=log, stderr=log, start_new_session=True, cwd="/", **identity)
        self.pidfd = os.pidfd_open(self.daemon.pid)
        self.killed = False
        self.watchdog = threading.Timer(LIFE_SECONDS, self.daemon.kill)
        self.watchdog.daemon = True
        self.watchdog.start()
        self._wait_mounted()
        return self

    def _wait_mounted(self):
        with open("/proc/self/mountinfo", "rb") as mounts:
            poll = select.poll()
            poll.register(mounts, select.POLLPRI)
            poll.register(self.pidfd, select.POLLIN)
            while not mounted(self.root):
                events = poll.poll(60_000)
                assert events, "the daemon neither mounts nor ends"
                assert (self.pidfd, select.POLLIN) not in events, f"the daemon ended:\n{self.daemon_log()}"
        os.statvfs(self.root if self.user is None else self.place)

    def daemon_log(self):
        return self.log_path.read_text(errors="replace")[-8000:] if self.log_path.exists() else ""

    def unmount(self):
        """As `fusermount3 -u` does; returns when the daemon has ended, which it has to do with 0."""
        wait_until(self._fusermount, "fusermount3 -u to succeed", 5)
        self.ended()

    def _fusermount(self, option="-u"):
        return not subprocess.run(["fusermount3", option, self.root], capture_output=True).returncode

    def ended(self):
        """Waits for the daemon, which ends with 0."""
        assert ends(self.pidfd, 30), "the daemon does not end"
        status = self.daemon.wait()
        self._forget()
        assert status == 0, f"the daemon ended with {status}:\n{self.daemon_log()}"

    def _forget(self):
        os.close(self.pidfd)
        self.watchdog.cancel()
        self.daemon = self.pidfd = None

    def terminate(self, signum=signal.SIGTERM):
        self.daemon.send_signal(signum)
        self.ended()

    def kill(self):
        """SIGKILL to the daemon, as if it had crashed."""
        self.daemon.kill()
        assert ends(self.pidfd, 30)
        self.daemon.wait()
        self._forget()
        self.killed = True
        assert self._fusermount("-uz")

    def remount(self, *options):
        if self.daemon:
            self.unmount()
        self.options = options or self.options
        return self.start()

    def clean_up(self):
        """Leaves nothing behind, whatever the state; then says what was wrong. Our other processes have been ended."""
        if mounted(self.root) and not self._fusermount():
            self._fusermount("-uz")
            if self.daemon:
                self.daemon.terminate()
        if self.daemon:
            try:
                self.ended()
            finally:
                if self.daemon:
                    self.daemon.kill()
                    self.daemon.wait()
                    self._forget()

    def check(self):
        """What must be checkable, of the volume; a crashed daemon's after its recovery."""
        if self.killed:
            self.start()
            self.unmount()
        if (self.volume / "trees").is_dir():
            checkable.check(self.volume)

    # What users do

    def run(self, command, *args, cwd=None, user=None, **kwargs):
        """A shell command in the tree (args are its $1, $2, …); its CompletedProcess, as bytes were text."""
        kwargs.setdefault("timeout", 120)
        where, identity = cwd or self.path, {}
        if user is not None:
            # The directory may be closed to us: so it is entered as that user.
            identity = {"user": user, "group": user, "extra_groups": []}
            command, where = f"cd {shlex.quote(str(where))} && {{ {command}\n}}", "/"
        return subprocess.run(["/bin/sh", "-c", command, "sh", *map(os.fspath, args)], cwd=where, env=self.env,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              encoding="utf-8", errors="surrogateescape", **identity, **kwargs)

    def sh(self, command, *args, **kwargs):
        """run() that has to succeed and say nothing to stderr that would not be in the message; its stdout."""
        done = self.run(command, *args, **kwargs)
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def popen(self, command, *args, cwd=None, **kwargs):
        """A command that goes on; a str is for the shell, a list is a program and its arguments."""
        if isinstance(command, str):
            command = ["/bin/sh", "-c", command, "sh", *map(os.fspath, args)]
        return subprocess.Popen(command, cwd=cwd or self.path, env=self.env, start_new_session=True,
                                encoding="utf-8", errors="surrogateescape", **kwargs)

    def cli(self, *args, **kwargs):
        """The intactfs command; its CompletedProcess."""
        return self.run('exec "$0" "$@"'.replace("$0", str(BIN)), *args, **kwargs)

    def status(self):
        return json.loads((self.root / ".intactfs" / "status").read_bytes())

    def tree(self, name=None):
        name = name or self.path.name
        return next(t for t in self.status()["trees"] if t["name"] == name)

    def saves(self, path):
        """The saves of a path (relative to the tree) that are under way."""
        return [s for s in self.tree()["saves"] if s["path"] == str(path)]

    def turn(self, path):
        return next((t for t in self.tree()["turns"] if t["path"] == str(path)),
                    {"path": str(path), "holder": None, "waiting": []})

    def waiting(self, path, count):
        """Waits until count savers wait for the turn of path."""
        wait_until(lambda: len(self.turn(path)["waiting"]) == count, f"{count} waiting for {path}")

    def settled(self, path, seconds=20):
        """Waits until no save of path is under way: RELEASE, which publishes, comes after close has returned."""
        wait_until(lambda: not self.saves(path), f"saves of {path} to be published", seconds)

    def log(self, path):
        """What `intactfs log --json` says."""
        done = self.cli("log", "--json", self.path / path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def versions(self, path, settled=True):
        """The contents of all versions of a lineage, by number."""
        if settled:
            self.settled(path)
        history = Path(f"{self.path / path}@@")
        return {int(n): (history / n).read_bytes() for n in os.listdir(history)}

    def version(self, path):
        return int(os.getxattr(self.path / path, "user.intactfs.version"))
