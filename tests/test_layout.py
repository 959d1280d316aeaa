"""The shape of the source: who may include what, and how long things get."""
import re

import pytest

from lib.mount import ROOT

MAY_INCLUDE = {
    "journal": {"journal"},
    "meta": {"journal", "meta"},
    "fs": {"journal", "meta", "fs"},
    "tools": {"journal", "meta", "fs", "tools"},
}
SOURCES = sorted(p.relative_to(ROOT) for folder in MAY_INCLUDE for p in (ROOT / folder).rglob("*.[ch]"))


def includes(path):
    return re.findall(r'^\s*#\s*include\s+([<"])([^>"]+)', (ROOT / path).read_text(), re.M)


def test_there_are_sources():
    assert SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_includes_downward_and_from_the_root(path):
    for mark, name in includes(path):
        if mark == '"':
            assert (ROOT / name).is_file(), f"{name} is not a path from the root"
            assert name.split("/")[0] in MAY_INCLUDE[path.parts[0]], f"{path} includes upward: {name}"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_engines_and_fuse_stay_where_they_belong(path):
    for _, name in includes(path):
        if name == "sqlite3.h":
            assert str(path) == "journal/sqlite.c"
        if name.startswith("git2"):
            assert str(path) == "meta/lines.c"
        if name.startswith("fuse"):
            assert path.parts[0] == "fs"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_lengths(path):
    """Signs to look again, with some air above them."""
    text = (ROOT / path).read_text()
    assert text.count("\n") <= 750
    if path.suffix == ".h":
        assert len(re.findall(r"^(?!static|typedef|#)\w[^={}]*\)[^={}]*;", text, re.M)) <= 30
    for body in re.finditer(r"^(\w[^\n;]*\)|\t[^\n;]*\))\n\{\n(.*?)^\}", text, re.M | re.S):
        assert body[2].count("\n") <= 100, body[1]
