"""
Merging, on thousands of generated triples (basis, staged, head), by a driver that is called with each.

Lines are compared with `git merge-file`, JSON with a model that is slow and simple. Each case has a seed of its own, which a
failure prints: MERGE_SEED=SEED repeats the run. --soak lengthens it.
"""
import json
import os
import random
import re
import struct
import subprocess
import time
from collections import Counter

import pytest

from lib.mount import BIN

MERGED, OVERLAP, BINARY, TOO_LARGE, TOO_SLOW = range(5)
SEED = int(os.environ.get("MERGE_SEED", time.time_ns() & 0xffffffff))


class Driver:
    def __init__(self):
        self.process = subprocess.Popen([BIN.parent / "tests/unit/merge_driver", "20000"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __call__(self, *contents):
        """(MERGED, content) or (outcome, reason)"""
        try:
            self.process.stdin.write(b"".join(struct.pack("=I", len(c)) + c for c in contents))
            self.process.stdin.flush()
            result, size = struct.unpack("=iI", self.process.stdout.read(8))
        except (BrokenPipeError, struct.error):
            pytest.fail(f"the driver ended: {contents}\n{self.process.stderr.read().decode()}")
        data = self.process.stdout.read(size)
        assert result >= 0, f"error {result} of {contents}"
        return result, data if result == MERGED else data.decode()

    def end(self):
        _, err = self.process.communicate()
        assert self.process.returncode == 0, err.decode()


@pytest.fixture
def merge():
    driver = Driver()
    yield driver
    driver.end()


def cases(soak, name, least=300):
    """A random generator for each case, until the time is over."""
    end = time.monotonic() + soak
    number = 0
    while number < least or time.monotonic() < end:
        r = random.Random(f"{SEED} {name} {number}")
        r.name = f"MERGE_SEED={SEED}, {name} {number}"
        yield r
        number += 1
    print(f"MERGE_SEED={SEED}: {number} cases")


# Lines

WORDS = ["a", "b", "c", "", "x = 1", "count: 9", "n -3", "ä", "}", "  y", "alpha", "beta", "gamma", "0", "1.5 EUR"]


def some_line(r):
    return r.choice(WORDS) if r.random() < 0.4 else f"{r.choice(WORDS)} {r.randrange(10**6):x}"


def changed_number(line, r):
    return re.sub(r"\d+", lambda m: str(int(m[0]) + r.choice([1, 1, 10])), line, 1)


def edited_lines(lines, r, edits):
    lines = list(lines)
    for _ in range(edits):
        at = r.randrange(len(lines) + 1)
        what = r.choice(["add", "append", "remove", "change", "number", "double", "move"])
        if what == "append":
            lines += [some_line(r) for _ in range(r.choice([1, 1, 2]))]
        elif what == "add":
            lines.insert(at, some_line(r))
        elif at < len(lines):
            if what == "remove":
                del lines[at:at + r.choice([1, 1, 2])]
            elif what == "change":
                lines[at] = some_line(r)
            elif what == "number":
                lines[at] = changed_number(lines[at], r)
            elif what == "double":
                lines.insert(at, lines[at])
            else:
                lines.insert(r.randrange(len(lines)), lines.pop(at))
    return lines


def text_triple(r):
    basis = [some_line(r) for _ in range(r.choice([0, 1, 2, 5, 10, 20, 40]))]
    staged = edited_lines(basis, r, r.randrange(1, 4))
    head = edited_lines(basis, r, r.randrange(1, 4))
    if r.random() < 0.3:
        common = edited_lines(basis, r, r.randrange(1, 3))
        staged, head = (edited_lines(common, r, r.randrange(2)) for _ in range(2))
    ends = r.choice([["\n"], ["\r\n"], ["\n", "\n", "\r\n"]])
    style = {line: r.choice(ends) for line in basis + staged + head}
    texts = ["".join(line + style[line] for line in lines) for lines in (basis, staged, head)]
    if r.random() < 0.3:
        texts = [t[:-len(t) + len(t.rstrip("\r\n"))] if t.strip() and r.random() < 0.6 else t for t in texts]
    if r.random() < 0.1:
        texts = ["\ufeff" + t for t in texts]
    code = "latin-1" if r.random() < 0.1 and "\ufeff" not in texts[0] else "utf-8"
    return [t.encode(code) for t in texts]


def lines_of(text):
    return re.findall(rb"[^\n]*\n|[^\n]+$", text)


def closed(triple, *texts):
    """Texts with a line end each, as the merge of the triple sees them."""
    basis, staged, head = triple
    first = next((re.search(rb"\r?\n", t)[0] for t in (basis, head, staged) if b"\n" in t), b"\n")
    return [t + first if t and not t.endswith(b"\n") else t for t in texts]


def git(place, basis, staged, head):
    """What git makes of it; None: a conflict."""
    for name, text in zip("bsh", (basis, staged, head)):
        (place / name).write_bytes(text)
    done = subprocess.run(["git", "merge-file", "-p", "--quiet", place / "s", place / "b", place / "h"], stdout=subprocess.PIPE)
    return done.stdout if done.returncode == 0 else None


def is_allowed_at_end(place, texts, result):
    """Whether it is the merge without some last lines of both sides, and then those."""
    basis, staged, head = (lines_of(t) for t in texts)
    result = lines_of(result)
    for of_staged in range(1, len(staged) + 1):
        for of_head in range(1, len(head) + 1):
            tail = head[-of_head:] + staged[-of_staged:]
            if result[-len(tail):] != tail:
                continue
            cut = git(place, texts[0], b"".join(staged[:-of_staged]), b"".join(head[:-of_head]))
            if cut is not None and lines_of(cut) == result[:-len(tail)]:
                return True
    return False


def check_counts(texts, result):
    """No line is dropped or invented (seen of those that are not repeated)."""
    counts = [Counter(lines_of(t)) for t in (*texts, result)]
    for line in set().union(*counts):
        b, s, h, r = (c[line] for c in counts)
        assert r <= s + h, line
        if b == 0:
            assert max(s, h) <= r, line
        elif b == s == h == 1:
            assert r >= 1, line


def same_but_for_the_end(a, b):
    return a.rstrip(b"\r\n") == b.rstrip(b"\r\n")


def is_json(text):
    return strict(text) is not None


def check_text(merge, place, triple, seen):
    result, data = merge(*triple)
    basis, staged, head = triple
    if staged == basis or head == basis:
        assert (result, data) == (MERGED, head if staged == basis else staged)
        return
    texts = closed(triple, *triple)
    by_git = git(place, *texts)
    seen[result if result == MERGED else re.sub(r"\d+", "N", data)] += 1
    if result == MERGED:
        whole = closed(triple, data)[0]
        check_counts(texts, whole)
        if by_git is None or not same_but_for_the_end(by_git, data):
            assert is_allowed_at_end(place, texts, whole), f"git: {by_git}, and here: {data}"
        open_ends = {bool(t) and not t.endswith(b"\n") for t in triple}
        if len(open_ends) == 1 and data and all(triple):
            assert (not data.endswith(b"\n")) in open_ends
        return
    assert result == OVERLAP, data
    if re.match(r"both changed lines? \d", data):
        assert by_git is None, f"{data}, but git: {by_git}"
    elif "number" in data:
        both = Counter(lines_of(texts[1])) & Counter(lines_of(texts[2]))
        numbers = re.compile(rb"[-+]?\d+([.,]\d+)*")
        assert {numbers.sub(b"", x) for x in both} & {numbers.sub(b"", x) for x in lines_of(texts[0])}, data
    elif "no JSON" in data:
        assert is_json(staged) and is_json(head)
    elif "end," in data:
        assert lines_of(texts[1])[-1:] == lines_of(texts[2])[-1:]
    elif "moved" in data:
        assert Counter(lines_of(texts[0])) & Counter(lines_of(texts[1])) & Counter(lines_of(texts[2]))
    else:
        assert data in ("the merge could not be verified", "both changed the value")


def test_texts_merge_as_with_git(merge, soak, tmp_path):
    seen = Counter()
    for r in cases(soak, "text"):
        triple = text_triple(r)
        if all(map(is_json, triple)):
            continue
        try:
            check_text(merge, tmp_path, triple, seen)
        except AssertionError:
            print(r.name, *triple, sep="\n")
            raise
    print(seen)
    total = sum(seen.values())
    assert seen[MERGED] > total / 4
    assert seen["the merge could not be verified"] <= total / 200 + 1


# JSON

class Number(str):
    """A number as it is written."""


class Invalid(Exception):
    pass


def unique(pairs):
    if len({k for k, _ in pairs}) < len(pairs):
        raise Invalid
    return dict(pairs)


def constant(_):
    raise Invalid


def strict(text):
    """The value, wrapped, so that None is not null; None where it is not strict JSON."""
    try:
        text = text.decode("utf-8").removeprefix("\ufeff")
        return (json.loads(text, object_pairs_hook=unique, parse_int=Number, parse_float=Number, parse_constant=constant),)
    except (ValueError, Invalid, RecursionError):
        return None


def same(a, b):
    if type(a) != type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def canonical(value):
    """A text that equal values have in common."""
    if isinstance(value, dict):
        return "{%s}" % ",".join(sorted(f"{json.dumps(k)}:{canonical(v)}" for k, v in value.items()))
    if isinstance(value, list):
        return "[%s]" % ",".join(map(canonical, value))
    return str(value) if isinstance(value, Number) else json.dumps(value)


NOTHING = object()


class Overlap(Exception):
    pass


class Unknown(Exception):
    """The model does not say."""


def agrees(b, x):
    """Whether two equal changes may count once."""
    if b is not NOTHING and same(b, x):
        return True
    if isinstance(x, Number) or isinstance(b, Number):
        return False
    if isinstance(x, list):
        return not x or (isinstance(b, list) and len(b) == len(x) and all(map(agrees, b, x)))
    if isinstance(x, dict):
        old = b if isinstance(b, dict) else {}
        return all(agrees(old.get(k, NOTHING), v) for k, v in x.items())
    return True


def added_only(b, x):
    """What x added in each gap of b; None when it did anything else, or when that is not certain."""
    texts = [canonical(e) for e in b]
    gaps, at = [[] for _ in range(len(b) + 1)], 0
    if len(set(texts)) < len(b):
        return None
    for e in x:
        if at < len(b) and same(e, b[at]):
            at += 1
        elif any(same(e, old) for old in b):
            return None
        else:
            gaps[at].append(e)
    return gaps if at == len(b) else None


def by_position(b, x):
    return len(b) == len(x) and any(not same(o, n) and not (isinstance(o, (dict, list)) and isinstance(n, (dict, list)))
                                    for o, n in zip(b, x))


def may_be_list(b, s, h, r):
    """Whether elements are there as often as the changes of the sides can make them: equal ones count once or twice."""
    counts = [Counter(map(canonical, x)) for x in (b, s, h, r)]
    for e in set().union(*counts):
        b_count, s_count, h_count, r_count = (c[e] for c in counts)
        changes = [s_count - b_count, h_count - b_count]
        possible = [sum(changes)]
        if changes[0] * changes[1] > 0:
            possible.append(max(changes, key=abs))
        if not min(possible) <= r_count - b_count <= max(possible):
            return False
    return True


def model_list(b, s, h):
    if by_position(b, s) and by_position(b, h):
        result = []
        for old, x, y in zip(b, s, h):
            if not same(old, x) and not same(old, y) and not (same(x, y) and agrees(old, x)):
                raise Overlap
            result.append(y if same(old, x) else x)
        if not may_be_list(b, s, h, result):
            raise Overlap
        return result
    staged, head = added_only(b, s), added_only(b, h)
    if staged is None or head is None:
        raise Unknown
    result = head[0] + staged[0]
    for i, old in enumerate(b):
        result += [old] + head[i + 1] + staged[i + 1]
    return result


def model(b, s, h):
    """The merged value; NOTHING where there is none."""
    if b is s is NOTHING or (b is not NOTHING and s is not NOTHING and same(b, s)):
        return h
    if b is h is NOTHING or (b is not NOTHING and h is not NOTHING and same(b, h)):
        return s
    if s is NOTHING and h is NOTHING:
        return NOTHING
    if s is NOTHING or h is NOTHING:
        raise Overlap
    if isinstance(s, dict) and isinstance(h, dict) and (b is NOTHING or isinstance(b, dict)):
        old = {} if b is NOTHING else b
        result, unknown = {}, False
        for k in {**h, **s}:
            try:
                value = model(old.get(k, NOTHING), s.get(k, NOTHING), h.get(k, NOTHING))
            except Unknown:
                unknown = True
                continue
            if value is not NOTHING:
                result[k] = value
        if unknown:
            raise Unknown
        return result
    if isinstance(b, list) and isinstance(s, list) and isinstance(h, list):
        return model_list(b, s, h)
    if same(s, h) and agrees(b, s):
        return s
    raise Overlap


def check_lists(b, s, h, r):
    """What is known of arrays also where the model does not know their merge."""
    if all(isinstance(x, dict) for x in (s, h, r)):
        for k in r:
            check_lists(b.get(k) if isinstance(b, dict) else None, s.get(k), h.get(k), r[k])
    elif all(isinstance(x, list) for x in (b, s, h, r)) and not same(b, s) and not same(b, h):
        assert may_be_list(b, s, h, r)


KEYS = ["a", "b", "c", "d", "name", "é", "\U0001f600", "", "a b", "\ud800", 'q"\\']
SCALARS = [None, True, False, "x", "y", "é", "\udc00", "line\nend", "\U0001f600", "", "1",
           *map(Number, ["0", "-0", "1", "2", "1.0", "1e5", "1E400", "-1.50", "123456789012345678901234567890"])]


def some_value(r, depth=0):
    kind = r.random()
    if depth > 3 or kind < 0.45:
        return r.choice(SCALARS)
    if kind < 0.7:
        return [some_value(r, depth + 1) for _ in range(r.choice([0, 1, 2, 3, 5]))]
    return {k: some_value(r, depth + 1) for k in r.sample(KEYS, r.choice([0, 1, 2, 3, 5]))}


def edit_value(value, r):
    """The value with one change somewhere."""
    if isinstance(value, dict):
        keys = list(value)
        what = r.random()
        if keys and what < 0.6:
            key = r.choice(keys)
            return {**value, key: edit_value(value[key], r)}
        if keys and what < 0.7:
            gone = r.choice(keys)
            return {k: v for k, v in value.items() if k != gone}
        if what < 0.75:
            return dict(r.sample(list(value.items()), len(value)))
        items = list(value.items())
        items.insert(r.choice([len(items), r.randrange(len(items) + 1)]), (r.choice(KEYS + [f"k{r.randrange(1000)}"]), some_value(r, 2)))
        return dict(items)
    if isinstance(value, list):
        value, what, at = list(value), r.random(), r.randrange(len(value) + 1)
        if what < 0.4 or not value:
            value.insert(r.choice([len(value), len(value), 0, at]), r.choice([f"new {r.randrange(1000)}", some_value(r, 2)]))
        elif what < 0.6:
            del value[at % len(value)]
        elif what < 0.65:
            value.append(value.pop(0))
        else:
            value[at % len(value)] = edit_value(value[at % len(value)], r)
        return value
    if isinstance(value, Number) and r.random() < 0.5:
        return Number("7")
    return some_value(r, 2)


class Style:
    def __init__(self, r):
        self.indent = r.choice([None, None, "  ", "    ", "\t"])
        self.end = r.choice(["\n", "\n", "\n", "\r\n"])
        self.comma, self.colon = (",", r.choice([":", ": "])) if self.indent else r.choice([(", ", ": "), (", ", ": "), (",", ":")])
        self.ascii = r.random() < 0.5
        self.before, self.after = r.choice(["", "", "", "\ufeff", "\n"]), r.choice(["", "\n", "\r\n"])

    def string(self, s):
        text = json.dumps(s, ensure_ascii=self.ascii)
        return re.sub("[\ud800-\udfff]", lambda m: f"\\u{ord(m[0]):04x}", text)

    def value(self, v, depth=0):
        if isinstance(v, Number):
            return str(v)
        if isinstance(v, str):
            return self.string(v)
        if not isinstance(v, (dict, list)):
            return json.dumps(v)
        marks = "{}" if isinstance(v, dict) else "[]"
        items = [f"{self.string(k)}{self.colon}{self.value(x, depth + 1)}" for k, x in v.items()] if isinstance(v, dict) \
            else [self.value(x, depth + 1) for x in v]
        if not items or not self.indent:
            return marks[0] + self.comma.join(items) + marks[1]
        line = self.end + self.indent * depth
        return marks[0] + line + self.indent + f",{line}{self.indent}".join(items) + line + marks[1]

    def text(self, v):
        return (self.before + self.value(v) + self.after).encode()


def json_triple(r):
    basis = some_value(r) if r.random() < 0.1 else {k: some_value(r, 1) for k in r.sample(KEYS, r.randrange(6))}
    if r.random() < 0.1:
        basis = [some_value(r, 1) for _ in range(r.randrange(6))]
    staged, head = basis, basis
    if r.random() < 0.3:
        staged = head = edit_value(basis, r)
    for _ in range(r.randrange(1, 4)):
        staged = edit_value(staged, r)
    for _ in range(r.randrange(1, 4)):
        head = edit_value(head, r)
    return basis, staged, head


TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[-+.eE\d]*|true|false|null')


def check_json(values, texts, merged, one_style):
    basis, staged, head = values
    outcome, data = merged
    try:
        expected, known = model(*values), True
    except Unknown:
        expected, known = None, False
    except Overlap:
        assert outcome == OVERLAP, f"merged: {data}"
        return
    if outcome != MERGED:
        assert outcome == OVERLAP and not known, f"{data}, expected {expected}"
        return
    result = strict(data)
    assert result, f"no JSON: {data}"
    assert not known or same(result[0], expected), f"{result[0]}, expected {expected}"
    check_lists(*values, result[0])
    written = set().union(*(TOKEN.findall(t.decode()) for t in texts))
    assert written.issuperset(TOKEN.findall(data.decode())), "written anew"
    if isinstance(result[0], dict) and isinstance(head, dict):
        sides = [head, staged] if same(basis, staged) or same(basis, head) else [head]
        orders = [[k for k in x if k in result[0]] for x in sides if isinstance(x, dict)]
        assert any(order == [k for k in result[0] if k in order] for order in orders)
    if one_style and b"," in texts[0]:
        assert data == one_style.text(result[0]), f"written {data}"


def test_json_merges_as_its_model(merge, soak):
    seen = Counter()
    for r in cases(soak, "json", 2000):
        values = json_triple(r)
        styles = [Style(r)] * 3
        if r.random() < 0.3:
            styles = [Style(r), Style(r), Style(r)]
        texts = [style.text(v) for style, v in zip(styles, values)]
        if texts[0] in texts[1:]:
            continue
        merged = merge(*texts)
        seen[merged[0] if merged[0] == MERGED else re.sub('".*"|[0-9]+', "…", merged[1])] += 1
        try:
            check_json(values, texts, merged, styles[0] if styles[0] is styles[1] else None)
        except AssertionError:
            print(r.name, *texts, sep="\n")
            raise
    print(seen)
    assert seen[MERGED] > sum(seen.values()) / 3
    assert seen["the merge could not be verified"] <= sum(seen.values()) / 200 + 1


def test_damaged_json(merge, soak):
    """What is no JSON, or just about, crashes nothing, and two JSONs do not become none."""
    pieces = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\xff", b"\xed\xa0\x80", b"\\u", b"\\ud800", b"\n", b"1", b"-", b"e",
              b"\xef\xbb\xbf", b"", b"", b" ", b"\0", b'"a":1,']
    for r in cases(soak, "damage", 2000):
        values, style = json_triple(r), Style(r)
        texts = [style.text(v) for v in values]
        for i in range(3):
            if r.random() < 0.6:
                at = r.randrange(len(texts[i]) + 1)
                texts[i] = texts[i][:at] + r.choice(pieces) + texts[i][at + r.randrange(3):]
        outcome, data = merge(*texts)
        if outcome == MERGED and is_json(texts[1]) and is_json(texts[2]):
            assert is_json(data), f"{texts}: {data}"
        if outcome == MERGED and all(map(is_json, texts)) and texts[0] not in texts[1:]:
            check_json([strict(t)[0] for t in texts], texts, (outcome, data), None)


def test_deep_json(merge):
    for depth, structured in ((500, True), (513, False), (100000, False)):
        texts = [b'{"a":' * depth + x + b"}" * depth for x in (b"1", b'1,"s":2', b'1,"h":3')]
        assert merge(*texts)[0] == (MERGED if structured else OVERLAP)
        lists = [b'{"l":' + b"[" * depth + x + b"]" * depth + y + b"}" for x, y in ((b"1", b""), (b"1,2", b""), (b"1", b',"h":3'))]
        outcome, data = merge(*lists)
        assert outcome == (MERGED if structured else OVERLAP)


def test_huge_json(merge):
    numbers = list(range(150000))
    outcome, data = merge(*(json.dumps(x).encode() for x in (numbers, numbers + [1], [-1] + numbers + [1])))
    assert outcome == MERGED and json.loads(data) == [-1] + numbers + [1, 1]
    table = {f"key {i}": i for i in range(100000)}
    outcome, data = merge(*(json.dumps(x, indent=1).encode() for x in (table, {**table, "s": 1}, {**table, "h": 1, "key 7": 0})))
    assert outcome == MERGED and json.loads(data) == {**table, "s": 1, "h": 1, "key 7": 0}


def test_huge_texts(merge):
    lines = [b"line %d\n" % i for i in range(150000)]
    staged, head = list(lines), list(lines)
    staged[10] = b"staged\n"
    head[-10:-10] = [b"head\n"]
    both = list(staged)
    both[-10:-10] = [b"head\n"]
    assert merge(*map(b"".join, (lines, staged, head))) == (MERGED, b"".join(both))
    assert merge(*(x * (8 << 20) + b"\n" for x in (b"a", b"b", b"c")))[0] == TOO_LARGE
