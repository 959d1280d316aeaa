"""What a directory holds."""
import os


def attributes(root, times=True, atimes=False):
    """All that a copy has to keep, by path."""
    found = {}
    links = {}
    for folder, dirs, files in os.walk(os.fsencode(root)):
        dirs.sort()
        for name in [b"."] + sorted(files + [d for d in dirs if os.path.islink(os.path.join(folder, d))]):
            path = os.path.join(folder, name)
            s = os.lstat(path)
            link = os.path.islink(path)
            content = os.readlink(path) if link else open(path, "rb").read() if os.path.isfile(path) else None
            key = os.path.relpath(path, os.fsencode(root))
            found[key] = (oct(s.st_mode), s.st_uid, s.st_gid, s.st_rdev, s.st_mtime_ns if times else 0,
                          s.st_atime_ns if atimes else 0, content,
                          0 if os.path.isdir(path) else s.st_nlink, links.setdefault((s.st_dev, s.st_ino), key),
                          {n: os.getxattr(path, n, follow_symlinks=False)
                           for n in os.listxattr(path, follow_symlinks=False)})
    return found


def holes(path):
    """The (offset, length) of the data between them, in whole blocks of 4 KiB."""
    with open(path, "rb") as f:
        ranges, end = [], 0
        size = os.fstat(f.fileno()).st_size
        while end < size:
            try:
                start = os.lseek(f.fileno(), end, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(f.fileno(), start, os.SEEK_HOLE)
            ranges.append((start, end - start))
    return ranges
