"""Stale saves, as a test sees them: policies, conflicts, siblings, what was counted."""
import json
import os
import re
import socket
from pathlib import Path

from lib.procs import wait_until

# A writer that has waited for so long goes ahead without its turn; a loaded machine is not to be the reason.
PATIENT = "turn_wait=20"


def rounds(soak, short=3):
    """How often a race is repeated: 10 times in a full run (--soak)."""
    return range(short if soak < 10 else 10)


def set_policy(mount, pattern, policy):
    done = mount.cli("policy", "set", mount.path, pattern, policy)
    assert done.returncode == 0, f"policy set {pattern} {policy}: {done.stderr}"


def set_setting(mount, name, value):
    done = mount.cli("setting", "set", mount.path, name, value)
    assert done.returncode == 0, f"setting set {name} {value}: {done.stderr}"


def counters(mount):
    """What status counts since the mount: merged, refused, blind_over; and the conflicts that are open."""
    stale = mount.tree()["stale"]
    assert set(stale) >= {"merged", "refused", "blind_over", "conflicts"}
    return {name: stale[name] for name in ("merged", "refused", "blind_over", "conflicts")}


def conflicts(mount, *paths):
    """What `intactfs conflicts --json` lists, of the tree or of one path in it."""
    done = mount.cli("conflicts", "--json", *[mount.path / path for path in paths])
    assert done.returncode == 0, f"conflicts: {done.stderr}"
    found = json.loads(done.stdout)
    for conflict in found:
        assert set(conflict) >= {"id", "path", "time", "user", "host", "program", "pid", "reason", "size", "sibling"}
    return found


def resolve(mount, verb, conflict):
    """`intactfs conflicts show|take|drop ID`: what it prints."""
    return mount.sh('intactfs conflicts "$1" "$2"', verb, str(conflict["id"]))


def siblings(mount, path):
    """The names beside a file that say that they are its refused saves, and what they hold."""
    name = Path(path)
    host, user = re.escape(socket.gethostname()), re.escape(mount.who.pw_name)
    pattern = re.compile(rf"{re.escape(name.stem)} \(conflict, {user}, {host}, [^/]+\){re.escape(name.suffix)}")
    folder = mount.path / name.parent
    return {found: (folder / found).read_text() for found in os.listdir(folder) if pattern.fullmatch(found)}


def shown(mount, path):
    """The versions that readers saw, newest first, as the log has them; those of the names it was renamed from left out."""
    return [v for v in mount.log(path) if v["version"] and v["path"] == str(path) and v["verdict"] != "aside"]


def published(mount, *paths, timeout=20):
    """Waits until nothing is being saved under these paths; without a path, nothing in the whole tree."""
    def under_way():
        saves = mount.tree()["saves"]
        return [s for s in saves if s["path"] in paths or s["state"] == "closing"] if paths else saves
    wait_until(lambda: not under_way(), f"the saves of {paths or 'the tree'} to be published", timeout)


def check_refused(mount, path, refused, with_siblings=True):
    """
    The refused saves of a path are kept: each is listed, with what it held and who it was, and is to be read beside the file.
    refused: their contents, by pid.
    """
    found = {c["pid"]: c for c in conflicts(mount, path)}
    assert set(found) == set(refused), "those that were refused are listed, and no others"
    for pid, text in refused.items():
        conflict = found[pid]
        assert resolve(mount, "show", conflict) == text
        assert conflict["path"] == str(path)
        assert conflict["size"] == len(text.encode())
        assert (conflict["user"], conflict["host"]) == (mount.who.pw_name, socket.gethostname())
        assert conflict["reason"]
    beside = siblings(mount, path)
    named = {c["sibling"]: refused[pid] for pid, c in found.items() if c["sibling"] is not None}
    assert beside == named, "the siblings that are listed are there, and hold what was refused"
    if with_siblings:
        assert len(beside) == len(refused), "each one has a sibling of its own"


class undisturbed:
    """with undisturbed(mount): what happens inside is neither refused nor merged."""

    def __init__(self, mount):
        self.mount = mount

    def __enter__(self):
        self.before = counters(self.mount)

    def __exit__(self, kind, *_):
        if kind is None:
            published(self.mount)
            now = counters(self.mount)
            for what in ("merged", "refused", "conflicts"):
                assert now[what] == self.before[what], f"{what}: {now[what] - self.before[what]}"
