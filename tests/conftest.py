"""
Every test has its own volume and its own mount, and leaves neither a mount nor a process behind.

Whatever a test starts is our child, even when its parent is gone (a subreaper adopts orphans), so ending our
children ends all of it. After each test the volumes it used are checked (lib/checkable.py).
"""
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from lib import libc, procs
from lib.mount import BIN, Mount, mounts_below


BASE = f"{tempfile.gettempdir()}/intactfs-test-{os.getpid()}"


def pytest_addoption(parser):
    parser.addoption("--soak", type=int, nargs="?", const=60, default=3, metavar="SECONDS",
                     help="how long each stress test runs (3 when not given, 60 without a number)")
    parser.addoption("--keep", action="store_true", help="keep the volumes of the tests, and say where")


def pytest_configure(config):
    if os.geteuid():
        pytest.exit("the tests make other users, devices and mounts: run them as root", 2)
    libc.become_subreaper()


def pytest_report_header(config):
    return f"intactfs: {BIN}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for mount in getattr(item, "intactfs_mounts", []):
            report.sections.append((f"the daemon of {mount.root}", mount.daemon_log()))


@pytest.fixture(scope="session", autouse=True)
def nothing_left():
    yield
    assert not mounts_below(f"{BASE}."), "mounts left behind"
    assert not procs.children(), "processes left behind"



@pytest.fixture
def soak(request):
    """Seconds that a stress test runs."""
    return request.config.getoption("--soak")


@pytest.fixture
def place(request):
    """A directory that other users may enter, too; on a real filesystem."""
    path = Path(tempfile.mkdtemp(prefix=f"{Path(BASE).name}."))
    path.chmod(0o755)
    yield path
    procs.end_children()
    for mounted in reversed(mounts_below(path)):
        subprocess.run(["umount", "-l", mounted], check=True)
    if request.config.getoption("--keep"):
        print(f"kept: {path}")
    else:
        subprocess.run(["rm", "-rf", path], check=True)


@pytest.fixture
def mounts(request, place):
    """mounts(*options, …): makes a Mount and starts it; start=False only makes it."""
    made = request.node.intactfs_mounts = []

    def make(*options, start=True, **kwargs):
        mount = Mount(kwargs.pop("place", place), *options, **kwargs)
        made.append(mount)
        return mount.start() if start else mount

    yield make
    stuck = procs.end_children(but=[m.daemon.pid for m in made if m.daemon])
    wrong = [f"processes that would not end: {stuck}"] if stuck else []
    for mount in reversed(made):
        try:
            mount.clean_up()
        except AssertionError as e:
            wrong.append(str(e))
    for volume in {str(m.volume): m for m in made}.values():
        try:
            volume.check()
        except AssertionError as e:
            wrong.append(str(e))
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def mount(request, mounts):
    """A mounted volume; @pytest.mark.mount("turn_wait=60", …) gives its options."""
    marker = request.node.get_closest_marker("mount")
    return mounts(*(marker.args if marker else ()))


@pytest.fixture
def small(mounts, place):
    """A mount whose volume is on a small filesystem of its own."""
    backing = place / "backing"
    backing.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "small", backing], check=True)
    mount = mounts(start=False, volume=backing / "volume")
    mount.backing = backing
    mount.start()
    return mount


@pytest.fixture
def plain(place):
    """A directory on the backing filesystem, to compare with."""
    path = place / "plain"
    path.mkdir()
    return path
