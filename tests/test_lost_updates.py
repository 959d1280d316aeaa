"""
No lost update: programs that read a file and save it changed, all at once.

The programs know nothing of each other. What each of them changed is there at the end, or was refused, and is kept.
"""
import json
import os
import subprocess
import sys
from collections import Counter
from functools import partial

import pytest

from lib import crowd, updaters
from lib.crowd import ADD_KEY, COUNT, add_key, check_no_error, race, updater
from lib.stale import PATIENT, check_refused, conflicts, counters, published, rounds, set_policy, shown, siblings

MANY = 20
NAMES = [f"p{i}" for i in range(MANY)]
NUMBERS = range(MANY)

# What they start from, and who they are.
STARTS = {
    "json": updaters.start_json(None), "indented json": updaters.start_json(2),
    "paragraphs": "A title\n\n" + "".join(map(updaters.paragraph, NUMBERS)) + "The end.\n",
    "lines": "a title\n\nthe first line\n",
}
CONTENTS = [what + way for what in STARTS for way in ("", " renamed")]


def start_of(what):
    return STARTS[what.removesuffix(" renamed")]


def names_of(what):
    return NUMBERS if what.startswith("paragraphs") else NAMES


def check_json(text, indent):
    """All keys are there, the old ones first and in their order, written as before."""
    found, start = json.loads(text), json.loads(updaters.start_json(None))
    missing = set(NAMES) - set(found)
    assert not missing, f"{len(missing)} of {MANY} keys are lost: {sorted(missing)}"
    assert found == {**start, **{name: updaters.value(name) for name in NAMES}}
    assert text == json.dumps(found, indent=indent)


def check_update(what, text):
    """What all of them saved is in the text, and nothing else is."""
    what = what.removesuffix(" renamed")
    if what.endswith("json"):
        check_json(text, 2 if what.startswith("indented") else None)
        assert list(json.loads(text))[:4] == list(json.loads(updaters.start_json(None)))
    elif what == "paragraphs":
        lost = [i for i in NUMBERS if updaters.paragraph(i, True) not in text]
        assert not lost, f"{len(lost)} of {MANY} changes are lost: {lost}"
        assert text == "A title\n\n" + "".join(updaters.paragraph(i, True) for i in NUMBERS) + "The end.\n"
    else:
        lines = text.removeprefix(STARTS["lines"]).splitlines(keepends=True)
        lost = {f"line of {name}\n" for name in NAMES} - set(lines)
        assert not lost, f"{len(lost)} of {MANY} lines are lost: {sorted(lost)}"
        assert Counter(lines) == Counter(f"line of {name}\n" for name in NAMES)
        assert text.startswith(STARTS["lines"])


def gate(i):
    """In every third round all have read before the first one saves; in the others they are released before they read."""
    return ("save", "start", "start")[i % 3]


def plain_start(plain):
    return partial(subprocess.Popen, cwd=plain, encoding="utf-8")


# 1. Updates of one file, merged

@pytest.mark.parametrize("what", CONTENTS)
def test_the_programs_are_right_one_after_the_other(plain, what):
    """On a plain directory: what the tests below expect is what each of these programs does when it is alone."""
    f = plain / "f"
    f.write_text(start_of(what))
    check_no_error(crowd.one_by_one(plain_start(plain), [updater(what, "save", f, name) for name in names_of(what)]))
    check_update(what, f.read_text())


@pytest.mark.parametrize("what", CONTENTS)
def test_twenty_updates_at_once(mount, soak, what):
    """Released before they read, and, in some rounds, when all have read: then all but one are stale."""
    for i in rounds(soak):
        f = mount.path / f"f{i}"
        f.write_text(start_of(what))
        check_no_error(race(mount.popen, [updater(what, gate(i), f, name) for name in names_of(what)]))
        published(mount)
        check_update(what, f.read_text())
    found = counters(mount)
    assert found["refused"] == found["conflicts"] == 0
    assert found["merged"] >= MANY - 1, "in the rounds in which all had read before"
    assert sorted(os.listdir(mount.path)) == sorted(f"f{i}" for i in rounds(soak))


def mixed(where, f):
    return [add_key(list(ADD_KEY)[i % len(ADD_KEY)], where, f, name) for i, name in enumerate(NAMES)]


@pytest.mark.parametrize("where", ["start", "save"])
def test_the_mixed_programs_are_right_one_after_the_other(plain, where):
    f = plain / "f"
    f.write_text(updaters.start_json(2))
    check_no_error(crowd.one_by_one(plain_start(plain), mixed(where, f)))
    check_json(f.read_text(), 2)


def test_twenty_updates_of_mixed_programs(mount, soak):
    """Python, node, perl, `sed -i`, and a shell with $(sed …), on one indented JSON file."""
    for i in rounds(soak):
        f = mount.path / f"f{i}"
        f.write_text(updaters.start_json(2))
        check_no_error(race(mount.popen, mixed(gate(i), f)))
        published(mount)
        check_json(f.read_text(), 2)
    found = counters(mount)
    assert found["refused"] == found["conflicts"] == 0


def test_each_merged_save_is_a_version_that_holds_what_it_saved(mount):
    """The history tells who was merged, and nobody's version lacks what was there before."""
    f = mount.path / "f"
    f.write_text(updaters.start_json(None))
    ended = race(mount.popen, [updater("json", "save", f, name) for name in NAMES])
    check_no_error(ended)
    names = {e.pid: name for e, name in zip(ended, NAMES)}
    versions = mount.versions("f")
    log = {v["version"]: v for v in mount.log("f")}
    assert len(versions) == MANY + 1
    assert Counter(v["verdict"] for n, v in log.items() if n > 1) == {"next": 1, "merged": MANY - 1}
    before = set(json.loads(versions[1]))
    for n in range(2, MANY + 2):
        now = set(json.loads(versions[n]))
        assert now == before | {names[log[n]["pid"]]}
        assert log[n]["basis"]["version"] == 1
        before = now
    assert counters(mount)["merged"] == MANY - 1


# 2. Counters, in turn

@pytest.mark.parametrize("what", [what for what in updaters.UPDATERS if what.startswith("count")])
def test_the_counters_are_right_one_after_the_other(plain, what):
    f = plain / "f"
    f.write_text("0\n")
    ended = crowd.one_by_one(plain_start(plain), [updater(what, "save", f, name) for name in NAMES])
    ended += crowd.one_by_one(plain_start(plain), [command(f) for command in COUNT.values()])
    check_no_error(ended)
    assert f.read_text() == f"{MANY + len(COUNT)}\n"
    assert all("EBUSY" not in e.out for e in ended)


def counted(mount, name, number):
    published(mount)
    assert (mount.path / name).read_text() == f"{number}\n"
    found = counters(mount)
    assert found["refused"] == found["merged"] == found["conflicts"] == 0


@pytest.mark.mount(PATIENT)
def test_twenty_programs_count_in_turn(mount, soak):
    set_policy(mount, "*.count", "turn")
    for i in rounds(soak):
        f = mount.path / f"{i}.count"
        f.write_text("0\n")
        check_no_error(race(mount.popen, [updater("count", "start", f, name) for name in NAMES]))
        counted(mount, f.name, MANY)


THREADS = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
def count(path):
    together.wait()
    n = int(open(path).read())
    open(path, "w").write(f"{n + 1}\\n")
for path in sys.argv[2:]:
    together = threading.Barrier(int(sys.argv[1]))
    with ThreadPoolExecutor(int(sys.argv[1])) as pool:
        list(pool.map(count, [path] * int(sys.argv[1])))
"""


@pytest.mark.mount(PATIENT)
def test_twenty_threads_count_in_turn(mount, soak):
    set_policy(mount, "*.count", "turn-thread")
    for i in rounds(soak):
        (mount.path / f"{i}.count").write_text("0\n")
    mount.sh('python3 -c "$@"', THREADS, str(MANY), *[f"{i}.count" for i in rounds(soak)])
    for i in rounds(soak):
        counted(mount, f"{i}.count", MANY)


@pytest.mark.mount(PATIENT)
def test_shells_in_a_loop_count_in_turn(mount, soak):
    set_policy(mount, "*.count", "turn")
    loop = """echo ready; read -r line
        i=0; while [ $i -lt 25 ]; do
            read -r n < "$1"
            echo $((n + 1)) > "$1"
            i=$((i + 1))
        done"""
    for i in rounds(soak):
        f = mount.path / f"{i}.count"
        f.write_text("0\n")
        check_no_error(race(mount.popen, [["/bin/sh", "-c", loop, "sh", str(f)]] * 5))
        counted(mount, f.name, 5 * 25)


FORKS = """
import os, sys
pids = []
print("ready", flush=True)
sys.stdin.read()
with open(sys.argv[1]) as f:
    assert f.read() == "0\\n"
for _ in range(10):
    pid = os.fork()
    if not pid:
        for _ in range(5):
            n = int(open(sys.argv[1]).read())
            open(sys.argv[1], "w").write(f"{n + 1}\\n")
        os._exit(0)
    pids.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 10
"""


@pytest.mark.mount(PATIENT)
def test_forked_workers_count_in_turn(mount, soak):
    """They exclude each other, though their parent has read the file, too."""
    set_policy(mount, "*.count", "turn")
    for i in rounds(soak):
        f = mount.path / f"{i}.count"
        f.write_text("0\n")
        check_no_error(race(mount.popen, [[sys.executable, "-I", "-S", "-c", FORKS, str(f)]]))
        counted(mount, f.name, 10 * 5)


# 3. Counters, refused

def set_default_or(mount, policy):
    if policy != "merge":
        set_policy(mount, "*.count", policy)


@pytest.mark.parametrize("way", ["count and retry", "count and retry renamed"])
@pytest.mark.parametrize("policy", ["merge", "refuse"])
def test_twenty_programs_count_and_try_again(mount, soak, policy, way):
    set_default_or(mount, policy)
    retries = Counter()
    for i in rounds(soak):
        f = mount.path / f"{i}.count"
        f.write_text("0\n")
        ended = race(mount.popen, [updater(way, gate(i), f, name) for name in NAMES])
        check_no_error(ended)
        for e in ended:
            retries += json.loads(e.out)
        published(mount)
        assert f.read_text() == f"{MANY}\n"
        assert len(shown(mount, f.name)) == MANY + 1
        assert conflicts(mount) == [] and siblings(mount, f.name) == {}, "the saves that succeeded cleared them"
    print(f"{policy}, {way}: {dict(retries)}")
    assert set(retries) <= {"open: EBUSY", "close: EBUSY", "rename: EBUSY"}
    assert retries.total() >= MANY - 1, "in the rounds in which all had read before"
    found = counters(mount)
    assert found["merged"] == found["conflicts"] == 0
    if policy == "merge":
        assert retries["open: EBUSY"] == 0
        assert found["refused"] == retries.total()


@pytest.mark.parametrize("way", ["count once", "count once renamed"])
@pytest.mark.parametrize("policy", ["merge", "refuse"])
def test_twenty_programs_are_told_whether_they_counted(mount, soak, policy, way):
    """The number is that of the programs that were told of success; what the others saved is kept."""
    set_default_or(mount, policy)
    for i in rounds(soak):
        f = mount.path / f"{i}.count"
        f.write_text("0\n")
        ended = race(mount.popen, [updater(way, gate(i), f, name) for name in NAMES])
        check_no_error(ended)
        said = {e.pid: tuple(e.out.strip().split(", ")) for e in ended}
        saved = [int(number) for number, told in said.values() if told == "saved"]
        refused = {pid: f"{number}\n" for pid, (number, told) in said.items() if told in ("close: EBUSY", "rename: EBUSY")}
        at_open = [pid for pid, (_, told) in said.items() if told == "open: EBUSY"]
        assert len(saved) + len(refused) + len(at_open) == MANY, f"what they were told: {said}"
        assert not at_open or policy == "refuse"
        published(mount)
        assert f.read_text() == f"{len(saved)}\n"
        assert sorted(saved) == list(range(1, len(saved) + 1))
        if gate(i) == "save":
            assert len(saved) == 1
        # Only what is refused at close has to be found without the error.
        check_refused(mount, f.name, refused, with_siblings="renamed" not in way)
    assert counters(mount)["merged"] == 0
    assert counters(mount)["conflicts"] == len(conflicts(mount))


@pytest.mark.parametrize("policy", ["merge", "refuse"])
def test_programs_that_ignore_the_error_lose_nothing(mount, soak, policy):
    """All have read the same number. One save succeeds; what the others saved is beside the file, though they did not look."""
    set_default_or(mount, policy)
    for i in rounds(soak):
        f = mount.path / f"{i}.count"
        f.write_text("0\n")
        programs = [COUNT[list(COUNT)[n % len(COUNT)]](f) for n in NUMBERS]
        ended = race(mount.popen, programs)
        published(mount)
        assert f.read_text() == "1\n"
        said = {e.pid: e.out for e in ended if e.out}
        assert set(said.values()) == {"1\n"}
        saver = shown(mount, f.name)[0]["pid"]
        listed = {c["pid"] for c in conflicts(mount, f.name)}
        assert saver in {e.pid for e in ended}
        if policy == "merge":
            assert listed == {e.pid for e in ended} - {saver}
        else:
            # Who was refused at open has saved nothing, and knows.
            assert listed <= {e.pid for e in ended} - {saver}
            knew = {e.pid for e in ended if e.code or "usy" in e.err}
            assert {e.pid for e in ended} == {saver} | listed | knew
        check_refused(mount, f.name, {pid: "1\n" for pid in listed})


# 6. Parts of one file

def chunks(f, commands, start):
    with open(f, "wb") as start_of_it:
        start_of_it.write(b"." * (5 * updaters.CHUNK + 7))
    check_no_error(race(start, commands))


def check_chunks(data):
    lost = [i for i in range(5) if data[i * updaters.CHUNK : (i + 1) * updaters.CHUNK] != updaters.chunk(i)]
    assert not lost, f"chunks that are not there: {lost}"
    assert data[5 * updaters.CHUNK :] == b"." * 7


DD = """echo ready; read -r line
    exec dd if="$3" of="$1" bs=%d count=1 seek="$2" conv=notrunc status=none""" % updaters.CHUNK


@pytest.mark.mount(PATIENT)
@pytest.mark.parametrize("way", ["r+", "dd"])
def test_five_chunks_at_once(mount, soak, place, way):
    """Of a binary file, which nothing can merge: they have to take turns."""
    for i in range(5):
        (place / f"chunk{i}").write_bytes(updaters.chunk(i))
    for i in rounds(soak):
        f = mount.path / f"f{i}"
        commands = [updater("chunk", "start", f, n) if way == "r+" else
                    ["/bin/sh", "-c", DD, "sh", str(f), str(n), str(place / f"chunk{n}")] for n in range(5)]
        chunks(f, commands, mount.popen)
        published(mount)
        check_chunks(f.read_bytes())
    assert counters(mount)["refused"] == counters(mount)["conflicts"] == 0


APPENDERS = [
    ["/bin/sh", "-c", """echo ready; read -r line
        i=0; while [ $i -lt "$3" ]; do echo "line $i of $2" >> "$1" || exit 1; i=$((i + 1)); done""", "sh"],
    [sys.executable, "-I", "-S", "-c", """if 1:
        import sys
        print("ready", flush=True); sys.stdin.read()
        for i in range(int(sys.argv[3])):
            with open(sys.argv[1], "a") as f:
                f.write(f"line {i} of {sys.argv[2]}\\n")"""],
    ["node", "-e", """
        const fs = require("fs"), [path, name, count] = process.argv.slice(1);
        console.log("ready"); fs.readFileSync(0);
        for (let i = 0; i < count; i++) fs.appendFileSync(path, `line ${i} of ${name}\\n`);"""],
    ["perl", "-e", r"""my ($path, $name, $count) = @ARGV; $| = 1; print "ready\n"; <STDIN>;
        for my $i (0 .. $count - 1) {
            open(F, ">>", $path) or die; print F "line $i of $name\n"; close F or die "close: $!";
        }"""],
]


def test_eight_programs_append_at_once(mount, soak):
    count = 100 if soak < 10 else 1000
    f = mount.path / "f"
    f.write_text("the first line\n")
    check_no_error(race(mount.popen, [[*APPENDERS[i % 4], str(f), f"a{i}", str(count)] for i in range(8)]))
    published(mount)
    first, *lines = f.read_text().splitlines()
    assert first == "the first line"
    assert len(lines) == 8 * count
    for i in range(8):
        assert [line for line in lines if line.endswith(f" of a{i}")] == [f"line {n} of a{i}" for n in range(count)]
    assert counters(mount)["refused"] == counters(mount)["conflicts"] == counters(mount)["merged"] == 0
