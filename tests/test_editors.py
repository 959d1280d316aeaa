"""Two people edit one file, each in an editor that knows nothing of the other."""
import os
import subprocess

import pytest

from lib.crowd import Pause
from lib.screen import Screen, Vim
from lib.stale import conflicts, counters, published, resolve, shown, siblings

TEXT = "one\n\ntwo\n\nthree\n"
COPIES = ["auto", "yes", "no"]


@pytest.fixture
def f(mount):
    path = mount.path / "f.txt"
    path.write_text(TEXT)
    published(mount)
    return path


@pytest.fixture
def pause(mount):
    made = Pause(mount)
    yield made
    made.close()


def merged(mount, f, text):
    published(mount, f.name)
    assert f.read_text() == text
    assert conflicts(mount) == [] and siblings(mount, f.name) == {}
    assert counters(mount)["refused"] == 0


def refused(mount, f, text, others):
    """The file is as the first one saved it; what the second one saved is kept, and nothing else is."""
    published(mount, f.name)
    assert f.read_text() == text
    assert [resolve(mount, "show", c) for c in conflicts(mount, f.name)] == [others]
    assert list(siblings(mount, f.name).values()) in ([others], [])
    assert counters(mount)["merged"] == 0


@pytest.fixture
def vims(mount, f, request):
    """Two of them that have opened the file."""
    made = [Vim(mount, name, f.name, f"backupcopy={request.param}") for name in "ab"]
    for vim in made:
        vim.opened("three")
    yield made
    for vim in made:
        vim.quit()
    # After an error vim leaves its backups (f.txt~, f.txtz~, …).
    left = {name for name in os.listdir(mount.path) if not name.endswith("~")} - set(siblings(mount, f.name))
    assert left == {"f.txt"}, "no swap file is left, nor what it tried out"


@pytest.mark.parametrize("vims", COPIES, indirect=True)
def test_two_vims_edit_different_paragraphs(mount, f, vims):
    a, b = vims
    a.ex("1s/one/ONE/")
    b.ex("5s/three/THREE/")
    assert a.write() == Vim.WROTE
    assert b.write() == Vim.WROTE
    merged(mount, f, "ONE\n\ntwo\n\nTHREE\n")


@pytest.mark.parametrize("vims", COPIES, indirect=True)
def test_two_vims_save_again_and_again(mount, f, vims):
    """Neither reads the file again, so that each save is merged with all that the other has saved since."""
    a, b = vims
    for i in range(3):
        a.ex(f"1s/.*/a{i}/")
        assert a.write() == Vim.WROTE
        b.ex(f"5s/.*/b{i}/")
        assert b.write() == Vim.WROTE
        merged(mount, f, f"a{i}\n\ntwo\n\nb{i}\n")
    assert counters(mount)["merged"] == 5, "all but the first"


@pytest.mark.parametrize("vims", COPIES, indirect=True)
def test_two_vims_edit_the_same_line(mount, f, vims):
    """The second `:w` shows an error. vim puts back what was there; that is no reason to forget what was refused."""
    a, b = vims
    a.ex("1s/one/ONE/")
    b.ex("1s/one/eins/")
    assert a.write() == Vim.WROTE
    assert b.write() == Vim.FAILED
    refused(mount, f, "ONE\n\ntwo\n\nthree\n", "eins\n\ntwo\n\nthree\n")

    # It is as if it had not tried: the same again.
    assert b.write() == Vim.FAILED
    published(mount, f.name)
    assert f.read_text() == "ONE\n\ntwo\n\nthree\n"

    # Who reads the file again can save it, and has nothing to resolve.
    b.keys("Enter")
    b.ex("e!")
    b.opened("ONE")
    b.ex("1s/ONE/ONE and eins/")
    assert b.write() == Vim.WROTE
    published(mount, f.name)
    assert f.read_text() == "ONE and eins\n\ntwo\n\nthree\n"
    assert conflicts(mount) == [] and siblings(mount, f.name) == {}


class Nano(Screen):
    FAILED, WROTE = "Error writing|busy", r"Wrote \d+ lines"

    def __init__(self, mount, name, path):
        super().__init__(mount, name, f"nano --ignorercfiles {path}")
        self.shows("three")

    def write(self):
        """^O, and the answer y when nano asks whether to go on."""
        self.keys("C-o")
        self.shows("File Name to Write")
        self.keys("Enter")
        seen = self.shows("continue saving", self.WROTE, self.FAILED)
        if seen == "continue saving":
            self.keys("y")
            seen = self.shows(self.FAILED, self.WROTE)
        return seen

    def quit(self, modified=False):
        self.keys("C-x")
        if modified:
            self.shows("Save modified buffer")
            self.keys("n")
        self.ended()


@pytest.fixture
def nanos(mount, f):
    made = [Nano(mount, name, f.name) for name in "ab"]
    made[0].type("A")
    made[0].shows("Aone")
    return made


def test_two_nanos_edit_different_paragraphs(mount, f, nanos):
    a, b = nanos
    b.keys("M-/")
    b.type("B")
    assert a.write() == Nano.WROTE
    a.quit()
    assert b.write() == Nano.WROTE
    b.quit()
    merged(mount, f, "Aone\n\ntwo\n\nthree\nB\n")


def test_two_nanos_edit_the_same_line(mount, f, nanos):
    a, b = nanos
    b.type("B")
    assert a.write() == Nano.WROTE
    a.quit()
    assert b.write() == Nano.FAILED
    b.quit(modified=True)
    refused(mount, f, "Aone\n\ntwo\n\nthree\n", "Bone\n\ntwo\n\nthree\n")


# The first line runs `pause` when sed has read the file.
SED = "exec sed -i -e '1e pause' -e '%s' f.txt"
PERL = r"exec perl -pi -e 'BEGIN { $/ = undef } system(\"pause\"); %s' f.txt".replace('\\"', '"')
GAWK = "exec gawk -i inplace -v RS='^$' -v ORS= '{ system(\"pause\"); %s; print }' f.txt"
FILTERS = {
    "sed -i": (SED, "s/three/THREE/", "s/one/eins/"),
    "sed -i.bak": (SED.replace("-i", "-i.bak"), "s/three/THREE/", "s/one/eins/"),
    "perl -pi": (PERL, "s/three/THREE/", "s/one/eins/"),
    "gawk -i inplace": (GAWK, 'sub("three", "THREE")', 'sub("one", "eins")'),
}


def filters(mount, pause, f, command):
    """One filter has read the file; another edits it; the first one goes on. What it says to stderr, its exit code."""
    first = mount.popen(command, stderr=subprocess.PIPE)
    pause.reached(first)
    mount.popen("exec sed -i -e 's/one/ONE/' f.txt").wait(30)
    published(mount, f.name)
    assert f.read_text() == "ONE\n\ntwo\n\nthree\n"
    pause.go()
    said = first.communicate(timeout=30)[1]
    published(mount, f.name)
    return said, first.returncode


@pytest.mark.parametrize("command, edit, _", FILTERS.values(), ids=FILTERS)
def test_two_filters_edit_different_paragraphs(mount, f, pause, command, edit, _):
    assert filters(mount, pause, f, command % edit) == ("", 0)
    merged(mount, f, "ONE\n\ntwo\n\nTHREE\n")
    assert shown(mount, "f.txt")[0]["verdict"] == "merged"


@pytest.mark.parametrize("name", FILTERS)
def test_two_filters_edit_the_same_line(mount, f, pause, name):
    command, _, edit = FILTERS[name]
    said, code = filters(mount, pause, f, command % edit)
    assert code != 0 and "busy" in said
    if name == "sed -i.bak" and not f.exists():
        # It had renamed the file away before it was refused, and leaves it there.
        os.rename(f"{f}.bak", f)
    refused(mount, f, "ONE\n\ntwo\n\nthree\n", "eins\n\ntwo\n\nthree\n")
