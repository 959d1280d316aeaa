"""Processes: who our children are, ending them, waiting for things, acting as somebody else."""
import os
import pickle
import select
import signal
import time

NOBODY = 65534


def wait_until(condition, what="a condition", timeout=20):
    """Polls, for what has no event to wait for; returns the first true result."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.005)


def children(of=None):
    """The pids whose parent is this process, orphans of its children among them (see libc.become_subreaper); or another's."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as f:
                    ppid = int(f.read().rpartition(b")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if ppid == (of or os.getpid()):
                found.append(int(name))
    return found


def end_children(but=(), timeout=10):
    """Kills and reaps all our descendants but some children; returns the pids that would not go."""
    deadline = time.monotonic() + timeout
    while True:
        ours = [pid for pid in children() if pid not in but]
        for pid in ours:
            os.kill(pid, signal.SIGKILL)
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
        if not ours or time.monotonic() > deadline:
            return ours
        time.sleep(0.005)


def ends(pidfd, timeout):
    """True when the process ends in time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def as_user(uid, call):
    """call() in a child that is uid (and the group of the same number, and no other); its result, or its exception."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            result = (True, call())
        except BaseException as e:
            result = (False, e)
        with open(write_end, "wb") as f:
            pickle.dump(result, f)
        os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as f:
        good, result = pickle.load(f)
    os.waitpid(pid, 0)
    if not good:
        raise result
    return result
