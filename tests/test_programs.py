"""Ordinary programs do their ordinary work."""
import json
import os
import subprocess

import pytest

from lib.mount import ROOT


def attributes(root, times=True):
    """All that a copy has to keep, by path."""
    found = {}
    links = {}
    for folder, dirs, files in os.walk(os.fsencode(root)):
        for name in [b"."] + files + [d for d in dirs if os.path.islink(os.path.join(folder, d))]:
            path = os.path.join(folder, name)
            s = os.lstat(path)
            link = os.path.islink(path)
            content = os.readlink(path) if link else open(path, "rb").read() if os.path.isfile(path) else None
            key = os.path.relpath(path, os.fsencode(root))
            found[key] = (oct(s.st_mode), s.st_uid, s.st_gid, s.st_rdev, s.st_mtime_ns if times else 0, content,
                          0 if os.path.isdir(path) else s.st_nlink, links.setdefault((s.st_dev, s.st_ino), key),
                          {n: os.getxattr(path, n, follow_symlinks=False)
                           for n in os.listxattr(path, follow_symlinks=False)})
    return found


@pytest.fixture
def source(place):
    """A directory with everything in it that a copy might lose."""
    root = place / "source"
    subprocess.run(["/bin/sh", "-ec", r"""
        mkdir -p "$1/dir/sub" && cd "$1"
        echo text > text; : > empty; seq 100000 > dir/numbers; head -c 300000 /dev/urandom > dir/sub/random
        ln -s text link; ln -s nowhere dir/dangling; ln -s dir dirlink; ln text dir/hard
        mkfifo fifo; mknod device c 1 3
        printf x > "$(printf 'latin \351')"; printf x > 'new
line'; printf x > -dash; printf x > 'sp ace'
        truncate -s 5M sparse
        chmod 600 text; chmod 4755 dir/numbers; chmod 2775 dir; chmod 1777 dir/sub; chown 5:60 empty; chown -h 5 link
        setfattr -n user.color -v blue text
        find . -exec touch -hd '2005-05-05 05:05:05.5' {} +
        touch -d '2001-02-03 04:05:06.123456789' text dir/numbers; touch -hd '1999-01-01' link
        touch -d '2010-01-01 00:00:00.5' dir/sub dir
        """, "sh", root], check=True)
    return root


def test_cp_a(mount, source):
    mount.sh('cp -a "$1" copy && cp -a copy copy2', source)
    assert attributes(mount.path / "copy") == attributes(source)
    assert attributes(mount.path / "copy2") == attributes(source)
    mount.remount()
    assert attributes(mount.path / "copy") == attributes(source)


def test_rsync(mount, source, place):
    mount.sh('rsync -aHXS "$1/" copy && rsync -aHXS copy/ "$2"', source, place / "back")
    assert attributes(mount.path / "copy") == attributes(source)
    assert attributes(place / "back") == attributes(source)
    assert mount.sh('rsync -aHXin --delete "$1/" copy', source) == ""
    mount.sh('rsync -aHX -c "$1/" copy', source)


def test_tar(mount, source, place):
    mount.sh('tar -C "$1" --xattrs -cSf a.tar . && mkdir copy && tar -C copy --xattrs -xpf a.tar', source)
    assert attributes(mount.path / "copy") == attributes(source)
    mount.sh('tar -C copy --xattrs -cf - . | (mkdir "$1" && tar -C "$1" --xattrs -xpf -)', place / "back")
    assert attributes(place / "back") == attributes(source)
    mount.sh("tar -C copy --compare -f a.tar")


def test_git(mount, place):
    mount.sh("""git init -q -b main repo && cd repo
        for i in $(seq 1 50); do mkdir -p d$i; seq $i 200 > d$i/f; done
        git add . && git commit -qm first
        for i in $(seq 1 50); do echo more >> d$i/f; done
        git commit -qam second && git tag one && git gc -q && git fsck --strict
        git checkout -q HEAD~1 && git checkout -q main && git mv d1 moved && git commit -qm moved
        git stash list && git rebase -q HEAD~1 && git log --oneline | wc -l""")
    mount.sh("""git clone -q repo clone && cd clone && git fsck --strict
        echo x >> d2/f && git commit -qam x && git push -q origin HEAD:x""")
    mount.sh('git clone -q "$1" "$2"', mount.path / "repo", place / "outside")
    mount.sh('git clone -q "$1" again && cd again && git status --porcelain | wc -l', place / "outside")
    mount.remount()
    assert mount.sh("cd repo && git fsck --strict && git status --porcelain && git rev-list --count x") == "4\n"
    assert mount.sh("diff -r --exclude=.git clone again; cd clone && git status --porcelain").count("diff") <= 1


def test_make(mount):
    (mount.path / "Makefile").write_text("prog: a.o b.o\n\tcc -o $@ $^\n%.o: %.c\n\tcc -c -o $@ $<\n")
    (mount.path / "a.c").write_text('int b(void); int main(void) { return b(); }\n')
    (mount.path / "b.c").write_text("int b(void) { return 7; }\n")
    mount.sh("make -j4")
    assert mount.run("./prog").returncode == 7
    assert "up to date" in mount.sh("make")
    mount.sh("sed -i s/7/8/ b.c")
    assert "-o b.o" in mount.sh("make")
    assert mount.run("./prog").returncode == 8
    assert "up to date" in mount.sh("make")


def test_editors_and_filters(mount):
    mount.sh("""seq 1000 > f
        sed -i 's/^5$/five/' f && perl -pi -e 's/^6$/six/' f && sed -i.orig 's/^7$/seven/' f
        vim -u NONE -es -c 'set backupskip=' -c '8s/8/eight/' -c wq f
        split -l 100 f part. && cat part.* | cmp - f
        gzip -k f && gunzip -c f.gz | cmp - f
        sort -n f -o sorted && wc -l < sorted && diff f.orig f > d; patch -s f.orig d && cmp f f.orig""")
    assert mount.sh("sed -n 4,9p f") == "4\nfive\nsix\nseven\neight\n9\n"


def test_json_of_python(mount):
    mount.sh("""python3 -c '
import json
for i in range(100):
    json.dump({"count": i, "list": list(range(i))}, open("f.json", "w"))
    assert json.load(open("f.json"))["count"] == i
'""")
    assert json.loads((mount.path / "f.json").read_text())["count"] == 99
    assert len(mount.versions("f.json")) == 100


def test_pipelines(mount):
    mount.sh("""seq 100000 | tee a | sort -r | tee b | sort -n > c
        cmp a c && [ "$(tac b | sort -n | md5sum)" = "$(md5sum < a)" ]
        find . -type f | xargs cat | wc -l > total && grep -c . a b c > counts
        xargs -n1 -P4 sh -c 'cp a copy.$0; cmp a copy.$0' < /dev/null; seq 8 | xargs -P4 -I% cp a copy.%
        for i in 1 2 3 4 5 6 7 8; do cmp a copy.$i || exit 1; done""")
    assert mount.sh("cat total").strip() == "300000"


def test_du_and_df(mount):
    mount.sh("dd if=/dev/urandom of=f bs=1M count=3 2> /dev/null")
    assert 3 << 20 <= int(mount.sh("du -B1 f").split()[0]) <= 4 << 20
    mount.sh("df . && df -i . && stat -f .")


def test_a_virtual_environment_like_tree(mount):
    """Many small files, made, read back and removed."""
    mount.sh("""for d in $(seq 10); do mkdir -p t/$d; for f in $(seq 50); do echo $d $f > t/$d/$f; done; done
        [ "$(find t -type f | wc -l)" = 500 ] && grep -rh . t | sort -n | wc -l
        cp -r t u && diff -r t u && rm -r t u""")
    assert os.listdir(mount.path) == []


def test_the_benchmark_runs(mount, plain):
    done = mount.run('"$1/tools/bench" . "$2" 0.1', ROOT, plain)
    assert done.returncode == 0 and "read large" in done.stdout, done.stderr
    assert mount.sh("ls") == "" and os.listdir(plain) == []
