"""
Small programs, as people write them, each of which reads a file and saves it changed.

updaters.py WHAT GATE FILE NAME

NAME is what this one adds, or the number of the paragraph or chunk that it changes. GATE is where it waits for the others:
"start", before it reads the file, or "save", between reading and saving (see lib/crowd.py).
"""
import errno
import json
import os
import random
import sys
import time

CHUNK = 300_000


def value(name):
    """What a program adds to a JSON object under its name."""
    return {"by": name, "list": [1, 2, {"three": 3}]}


def start_json(indent):
    return json.dumps({"title": "shared", "count": 12, "list": [1, "two"], "nested": {"deep": {"x": 1.5}}}, indent=indent)


def paragraph(i, changed=False):
    new = f"changed by {i}\nlonger than before\n" if changed else ""
    return f"Paragraph {i}\nthe first line of {i}\n{new}the last line of {i}\n\n"


def chunk(i):
    return bytes([200 + i, 0, i]) * (CHUNK // 3)


# The ways to save

def dump(d, path, indent):
    json.dump(d, open(path, "w"), indent=indent)


def dump_and_rename(d, path, indent):
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w") as f:
        json.dump(d, f, indent=indent)
    os.replace(temporary, path)


def write(text, path):
    open(path, "w").write(text)


def write_and_rename(text, path):
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w") as f:
        f.write(text)
    os.replace(temporary, path)


def write_and_look(text, path):
    """Says which call was refused, and how."""
    try:
        call, fd = "close", os.open(path, os.O_WRONLY | os.O_TRUNC)
    except OSError as e:
        return f"open: {errno.errorcode[e.errno]}"
    try:
        os.write(fd, text.encode())
    finally:
        try:
            os.close(fd)
        except OSError as e:
            return f"{call}: {errno.errorcode[e.errno]}"
    return "saved"


def rename_and_look(text, path):
    temporary = f"{path}.{os.getpid()}"
    told = "no file"
    try:
        with open(temporary, "w") as f:
            f.write(text)
        os.rename(temporary, path)
        return "saved"
    except OSError as e:
        told = f"rename: {errno.errorcode[e.errno]}"
        os.unlink(temporary)
    return told


# What they change

def add_key(save, indent):
    def run(path, name, gate):
        gate("start")
        d = json.load(open(path))
        gate("save")
        d[name] = value(name)
        save(d, path, indent)
    return run


def change_paragraph(save):
    def run(path, name, gate):
        gate("start")
        text = open(path).read()
        gate("save")
        save(text.replace(paragraph(int(name)), paragraph(int(name), True)), path)
    return run


def add_line(save):
    def run(path, name, gate):
        gate("start")
        text = open(path).read()
        gate("save")
        save(text + f"line of {name}\n", path)
    return run


def count(path, _, gate):
    """Notices no error: the file object is closed when nobody looks."""
    gate("start")
    n = int(open(path).read())
    gate("save")
    open(path, "w").write(f"{n + 1}\n")
    print(n + 1)


def count_once(save):
    def run(path, _, gate):
        gate("start")
        n = int(open(path).read())
        gate("save")
        print(n + 1, save(f"{n + 1}\n", path), sep=", ")
    return run


def count_and_retry(save):
    def run(path, name, gate):
        rng = random.Random(name)
        refused = {}
        gate("start")
        while True:
            n = int(open(path).read())
            gate("save")
            told = save(f"{n + 1}\n", path)
            if told == "saved":
                break
            assert told.endswith(": EBUSY"), told
            refused[told] = refused.get(told, 0) + 1
            time.sleep(rng.uniform(0, 0.002 * 2 ** min(sum(refused.values()), 5)))
        print(json.dumps(refused))
    return run


def write_chunk(path, name, gate):
    gate("start")
    with open(path, "r+b") as f:
        f.seek(int(name) * CHUNK)
        f.write(chunk(int(name)))


UPDATERS = {
    "json": add_key(dump, None), "json renamed": add_key(dump_and_rename, None),
    "indented json": add_key(dump, 2), "indented json renamed": add_key(dump_and_rename, 2),
    "paragraphs": change_paragraph(write), "paragraphs renamed": change_paragraph(write_and_rename),
    "lines": add_line(write), "lines renamed": add_line(write_and_rename),
    "count": count, "count once": count_once(write_and_look), "count once renamed": count_once(rename_and_look),
    "count and retry": count_and_retry(write_and_look), "count and retry renamed": count_and_retry(rename_and_look),
    "chunk": write_chunk,
}


def main(what, gate, path, name):
    def wait_at(place):
        nonlocal gate
        if place == gate:
            gate = None
            print("ready", flush=True)
            sys.stdin.read()
    UPDATERS[what](path, name, wait_at)


if __name__ == "__main__":
    main(*sys.argv[1:])
