"""Ordinary programs do their ordinary work."""
import json
import os
import subprocess

import pytest

from lib.mount import ROOT
from lib.tree import attributes, holes


@pytest.fixture
def source(place):
    """A directory with everything in it that a copy might lose."""
    root = place / "source"
    subprocess.run(["/bin/bash", "-ec", r"""
        mkdir -p "$1/dir/sub" "$1/deep/a/b/c/d/e/f" "$1/closed" && cd "$1"
        echo text > text; : > empty; seq 100000 > dir/numbers; head -c 300000 /dev/urandom > dir/sub/random
        ln -s text link; ln -s nowhere dir/dangling; ln -s dir dirlink; ln text dir/hard; ln text deep/a/b/c/hard
        ln -P link deep/a/linktoo; ln -s "$(printf 'long%.0s' {1..1000})" long
        mkfifo fifo; mknod device c 1 3; mknod block b 7 250; ln fifo dir/fifo; ln device dir/device
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
        printf x > "$(printf 'latin \351')"; printf x > 'new
line'; printf x > -dash; printf x > 'sp ace'; printf x > "$(printf 'n%.0s' {1..255})"
        truncate -s 5M sparse
        for at in 1 3 4; do printf data | dd of=islands bs=1M seek=$at conv=notrunc status=none; done; truncate -s 8M islands
        echo secret > closed/secret; chmod 0 closed/secret; chmod 700 closed
        chmod 600 text; chmod 2775 dir; chmod 1777 dir/sub; chown 5:60 empty; chown -h 5 link; chown -R 65534:100 deep
        chmod 4755 dir/numbers; chmod 6511 deep/a
        setfattr -n user.color -v blue text; setfattr -n user.bytes -v 0x00ff0a00 dir; setfattr -n user.empty dir/numbers
        setfattr -n user.long -v "$(printf 'long%.0s' {1..500})" deep/a/b
        setfattr -n trusted.kept -v t dir/sub/random; setfattr -h -n trusted.link -v t link
        setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 dir/sub/random
        find . -exec touch -hd '2005-05-05 05:05:05.5' {} +
        touch -d '2001-02-03 04:05:06.123456789' text dir/numbers; touch -hd '1999-01-01' link
        touch -d '1969-12-31 23:59:58.999999999 UTC' empty; touch -d '2039-01-01 00:00:00.000000001' sparse
        touch -ad '1998-07-06 05:04:03.000000002' dir/sub/random islands
        touch -d '2010-01-01 00:00:00.5' deep/a/b dir/sub dir .
        """, "sh", root], check=True)
    return root


def same_copy(copy, source):
    assert attributes(copy) == attributes(source)
    for name in ("sparse", "islands"):
        assert holes(copy / name) == holes(source / name), name


def test_cp_a(mount, source, place):
    mount.sh('cp -a "$1" copy', source)
    copied = attributes(mount.path / "copy", atimes=True)
    mount.sh('cp -a copy copy2 && cp -a copy2 "$1"', place / "back")
    for copy in (mount.path / "copy", mount.path / "copy2", place / "back"):
        same_copy(copy, source)
    mount.remount()
    for copy in ("copy", "copy2"):
        same_copy(mount.path / copy, source)
        assert attributes(mount.path / copy, atimes=True) == copied, "reading does not change the access times"


def test_rsync(mount, source, place):
    mount.sh('rsync -aHXS --devices --specials "$1/" copy && rsync -aHXS copy/ "$2"', source, place / "back")
    same_copy(mount.path / "copy", source)
    same_copy(place / "back", source)
    assert mount.sh('rsync -aHXin --delete "$1/" copy', source) == ""
    assert mount.sh('rsync -aHXic "$1/" copy && rsync -aHXic copy/ "$1"', source) == ""
    same_copy(mount.path / "copy", source)


def test_rsync_changes_files_in_place(mount, source):
    mount.sh('rsync -aHX "$1/" copy', source)
    mount.sh("""sed -i '500s/$/ changed/' "$1/dir/numbers"; seq 10 >> "$1/dir/sub/random"; echo t > "$1/text"
        rsync -aHX --inplace --no-whole-file "$1/" copy; [ -z "$(rsync -aHXic "$1/" copy)" ]
        seq 20 > "$1/dir/sub/random"; rsync -aHX --inplace "$1/" copy; [ -z "$(rsync -aHXic "$1/" copy)" ]
        seq 30 >> "$1/dir/sub/random"; rsync -aHX --append "$1/" copy; [ -z "$(rsync -aHXic "$1/" copy)" ]
        rm "$1/dir/numbers"; rsync -aHX --delete --backup --suffix=.old "$1/" copy; [ -e copy/dir/numbers.old ]
        rsync -aHX --delete --delay-updates --modify-window=-1 "$1/" copy
        [ -z "$(rsync -aHXicn --delete --modify-window=-1 "$1/" copy)" ]""", source)
    assert len(mount.versions("copy/dir/sub/random")) == 4
    assert attributes(mount.path / "copy") == attributes(source)


def test_tar(mount, source, place):
    tar = "tar --xattrs --xattrs-include='*'"
    subprocess.run(["rm", source / "socket", source / "dir/fifo", source / "dir/device"], check=True)
    subprocess.run(["touch", "-d", "2010-01-01", source], check=True)
    mount.sh(f'{tar} -C "$1" --format=posix -cSf a.tar . && mkdir copy && {tar} -C copy -xpf a.tar', source)
    same_copy(mount.path / "copy", source)
    mount.sh(f'{tar} -C copy --format=posix -cSf - . | (mkdir "$1" && {tar} -C "$1" -xpf -)', place / "back")
    same_copy(place / "back", source)
    assert mount.sh("tar -C copy --compare -f a.tar") == ""
    mount.sh(f"""{tar} -C copy -g snapshot -czf full.tgz . && echo new > copy/new && echo more >> copy/text && rm copy/empty
        {tar} -C copy -g snapshot -czvf next.tgz . > listed""")
    assert mount.sh("grep -v '/$' listed | sort") == "./deep/a/b/c/hard\n./dir/hard\n./new\n./sparse\n./text\n", "one has a time to come"
    mount.sh(f"mkdir again && cd again && {tar} -g /dev/null -xpzf ../full.tgz && {tar} -g /dev/null -xpzf ../next.tgz")
    assert attributes(mount.path / "again") == attributes(mount.path / "copy")


def test_access_lists_are_refused_and_the_rest_is_copied(mount, plain):
    mount.sh("echo text > f && chmod 640 f && mkdir d")
    for what in ("-m u:nobody:rw f", "-m u:nobody:rwx d", "-d -m u:nobody:rwx d"):
        done = mount.run(f"setfacl {what}")
        assert done.returncode == 1 and "Operation not supported" in done.stderr
    assert mount.sh("stat -c %a f d; getfacl -cE f d") == "640\n755\n" + \
        "user::rw-\ngroup::r--\nother::---\n\nuser::rwx\ngroup::r-x\nother::r-x\n\n"
    mount.sh("setfacl -b f d && setfacl -k d && setfacl -m u::rw,g::rw,o::r f && [ $(stat -c %a f) = 664 ]")

    mount.sh("echo listed > g && chmod 640 g && touch -d 2005-05-05 g && setfacl -m u:nobody:r g", cwd=plain)
    for number, copy in enumerate(['cp -a "$1/g" $2', 'rsync -aA "$1/g" $2', 'tar --acls -C "$1" -cf - g | tar --acls -xf - && mv g $2']):
        done = mount.run(copy, plain, f"g{number}")
        assert "Operation not supported" in done.stderr or "Cannot set POSIX ACLs" in done.stderr
        assert mount.sh(f"cat g{number}; stat -c '%a %Y' g{number}") == mount.sh("cat g; stat -c '%a %Y' g", cwd=plain)
    assert mount.run('cp -a . "$1" && rsync -aA ./ "$1" && tar --acls -cf - . > "$1.tar"', plain).stderr == ""


def test_zip(mount, source, place):
    mount.sh("""cd "$1" && zip -qry "$2/a.zip" dir deep text sparse && cd "$2" && mkdir copy && cd copy && unzip -qK ../a.zip
        for f in dir deep text sparse; do diff -r --no-dereference $f "$1/$f"; done && unzip -tq ../a.zip
        echo more >> text && zip -qu ../a.zip text && zip -qd ../a.zip sparse && unzip -p ../a.zip text | cmp - text""", source, mount.path)
    stat = "stat -c '%a %Y' dir/numbers dir/sub/random"
    assert mount.sh(stat, cwd=mount.path / "copy") == mount.sh(stat, cwd=source)


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
