"""
Writers and readers of one file, whose contents check themselves.

stress.py WAY FILE SECONDS NAME     save FILE again and again; WAY is trunc, rename or inplace
stress.py read FILE SECONDS NAME    read it again and again; a torn content, a wrong size or an error ends with 1

Both print how often they did it.
"""
import os
import random
import sys
import time
import zlib


def make(name, number, rng):
    body = (f"{name} {number} ".encode() * 7000)[: rng.choice([0, 10, 5000, 40_000, 100_000])]
    head = b"%010d %08x\n" % (20 + len(body), zlib.crc32(body))
    return head + body


def check(data, size):
    assert len(data) == size, f"read {len(data)} bytes of a file of {size}"
    assert len(data) >= 20 and int(data[:10]) == len(data), f"torn: {len(data)} bytes, {data[:30]!r}"
    assert int(data[11:19], 16) == zlib.crc32(data[20:]), f"torn: {data[:30]!r}"


def write_all(fd, data, rng):
    pieces = rng.randint(1, 4)
    step = len(data) // pieces + 1
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        assert os.write(fd, piece) == len(piece)


def save(way, path, data, rng):
    if way == "trunc":
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    elif way == "inplace":
        fd = os.open(path, os.O_RDWR)
    else:
        temporary = f"{path}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    write_all(fd, data, rng)
    if way == "inplace":
        os.ftruncate(fd, len(data))
    os.close(fd)
    if way == "rename":
        os.rename(temporary, path)


def read(path):
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    data = b""
    while chunk := os.read(fd, 65536):
        data += chunk
    check(data, size)
    assert os.fstat(fd).st_size == size
    assert os.lseek(fd, 0, os.SEEK_END) == size
    os.close(fd)


def main(way, path, seconds, name):
    rng = random.Random(name)
    count = 0
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end or not count:
        if way == "read":
            read(path)
        else:
            save(way, path, make(name, count, rng), rng)
        count += 1
    print(count)


if __name__ == "__main__":
    main(*sys.argv[1:])
