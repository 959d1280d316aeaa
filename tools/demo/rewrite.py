"""
Two shells and a Python program save one JSON file, while two readers check every read.

rewrite.py DIRECTORY SECONDS prints "SAVES READS TORN". Nobody here takes a lock or renames a file.
"""
import json
import subprocess
import sys
import time
from multiprocessing import Pool
from pathlib import Path

WRITER = Path(__file__).with_name("writer.sh")


def whole(text):
    """One save, from its first line to its last: by one writer, in one go, with nothing missing."""
    try:
        *rows, end = json.loads(text)
        save = end.removesuffix(" end")
    except (ValueError, AttributeError):
        return False
    return save != end and rows == [f"{save} {i}" for i in range(1, len(rows) + 1)]


def write(path, name, deadline):
    saves = 0
    while time.time() < deadline:
        saves += 1
        rows = [f"{name} {saves} {i}" for i in range(1, 401 + saves % 7 * 100)]
        with open(path, "w", encoding="utf-8") as f:
            json.dump([*rows, f"{name} {saves} end"], f, indent=0)
    return saves


def write_in_shell(path, name, deadline):
    done = subprocess.run(["sh", WRITER, path, name, str(int(deadline))],
                          stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


def read(path, deadline):
    reads = torn = 0
    while time.time() < deadline:
        reads += 1
        torn += not whole(path.read_text(encoding="utf-8", errors="replace"))
    return reads, torn


def main(directory, seconds):
    path = Path(directory, "shared.json")
    write(path, "first", time.time() + 0.001)
    deadline = int(time.time()) + 1 + float(seconds)
    with Pool(5) as pool:
        writers = [pool.apply_async(write_in_shell, (path, f"shell {i}", deadline)) for i in (1, 2)]
        writers.append(pool.apply_async(write, (path, "python", deadline)))
        readers = [pool.apply_async(read, (path, deadline)) for _ in range(2)]
        saves = sum(writer.get() for writer in writers)
        reads, torn = map(sum, zip(*(reader.get() for reader in readers)))
    print(saves, reads, torn)


main(*sys.argv[1:])
