"""What scripts are made of: filters that edit in place, logs that are rotated, lock files, mailboxes."""
import os
import re
import signal
import subprocess
import sys

import pytest

from lib.procs import wait_until


EDITS = [
    "sed -i 's/^7$/seven/' f",
    "sed -i.orig -e 1d -e '$d' f && mv f.orig g",
    "perl -pi -e 's/^9/nine/' f",
    "perl -i.bak -ne 'print unless /3/' f && cmp -s f f.bak; rm f.bak",
    "sort -rn -o f f",
    "sort -u f -o f",
    "awk '{ print NR, $0 }' f > t && mv t f",
    "x=$(tac f) && printf '%s\\n' \"$x\" > f",
    "printf XXXX | dd of=f bs=1 seek=10 conv=notrunc status=none",
    "dd if=/dev/zero of=f bs=100 count=1 seek=1 conv=notrunc status=none",
    "dd if=f of=f bs=50 skip=2 count=1 conv=notrunc status=none",
    "truncate -s -10 f && truncate -s +5 f",
    "fallocate -l 200 f && fallocate -p -o 0 -l 16 f",
    "cp f g && sed -i 's/1/one/' g && diff -u --label f --label f f g > p; patch -s f p && cmp f g && patch -sR f p",
    "cp f g && sed -i 's/2/two/' g && diff -u --label f --label f f g > p; patch -sb f p && cmp f g && mv f.orig f",
    "ed -s f <<'E'\n2,4d\n$a\nlast\n.\nw\nE",
    "ex -s f <<'E'\n1i\nfirst\n.\nx\nE",
    "gzip f && gunzip f.gz",
    "python3 -c 'import fileinput\nfor line in fileinput.input(\"f\", inplace=True): print(line.strip() * 2)'",
    "python3 -c 'f = open(\"f\", \"r+\"); s = f.read(); f.seek(0); f.write(s.upper()[:60]); f.truncate()'",
    "cat >> f < f.more; cat f f > t; cat t > f",
    "{ echo top; cat f; } | tee t > /dev/null; cat t > f",
    "tee -a f < f.more > t",
    "exec 3<> f; read -r line <&3; printf '<%s>' \"$line\" >&3; exec 3>&-",
    "exec 3< f; rm f; cat <&3 > f; exec 3<&-",
    "ln f g; echo linked >> g; cat g > t; rm g; cat t > f",
    "install -m 640 f g && mv g f && chmod 600 f && cp --preserve=mode f g && stat -c %a g > f",
    "shred -n 1 -s 64 --random-source=/dev/zero f && tr -d '\\0' < f > t; mv t f",
    "split -n l/3 f part. && cat part.* > f",
    "csplit -s f 3 && cat xx01 xx00 > f",
    "head -c 40 f > t && tail -c +41 f > u && cat u t > f",
    "find . -name f -exec sed -i '$!d' {} + && find . -newer f.more -name 'p*' -delete",
    "echo f | cpio -o --quiet > a.cpio && rm f && cpio -i --quiet < a.cpio && rm a.cpio",
    "ar rc a.a f && ar r a.a f.more && rm f && ar x a.a f",
    "vim -u NONE -es -c 'g/1/m0' -c wq f",
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: re.split(r"[ ;\n]", edit)[0])
def test_edits(mount, plain, edit):
    """Each does the same as in a plain directory, three times in a row, and the history has what it did."""
    seen = []
    for where in (mount.path, plain):
        mount.sh("seq 40 > f; seq 41 60 > f.more", cwd=where)
        seen.append([])
        for _ in range(3):
            done = mount.run(edit, cwd=where)
            seen[-1].append((done.returncode, done.stdout, done.stderr,
                             {name: (where / name).read_bytes() for name in sorted(os.listdir(where))}))
    assert seen[0] == seen[1] and seen[0][0][0] == 0, seen[0][0]
    contents = [files["f"] for _, _, _, files in seen[0] if "f" in files]
    history = list(mount.versions("f").values())
    position = -1
    for content in contents:
        position = next((i for i in range(max(position, 0), len(history)) if history[i] == content), None)
        assert position is not None, content


# Logs

WRITER = """
import os, signal, sys, time
name, rounds = sys.argv[1], int(sys.argv[2])
out = None
def reopen(*_):
    global again
    again = True
again = True
signal.signal(signal.SIGHUP, reopen)
for i in range(rounds):
    if again:
        again = False
        if out:
            out.close()
        out = open("service.log", "a")
    out.write(f"{name} {i} {'x' * (i % 200)}\\n")
    out.flush()
    time.sleep(0.002)
"""


def lines_of(mount, pattern):
    return mount.sh(f"cat {pattern} | cut -d' ' -f 1,2").splitlines()


def test_a_log_is_renamed_and_reopened(mount):
    """As logrotate does it; tail -F, which follows the name, sees every line once."""
    mount.sh("touch service.log")
    # Outside: what is being saved in the mount is not shown at once.
    seen = mount.place / "seen"
    follower = mount.popen("exec tail -n +1 -s 0.02 -F service.log 2> /dev/null > $1", seen)
    rounds = 600
    jobs = [mount.popen([sys.executable, "-c", WRITER, f"w{i}", str(rounds)]) for i in range(3)]
    wait_until(lambda: len({line.split()[0] for line in lines_of(mount, "service.log")}) == 3, "all to write")

    def all_have_moved_on():
        """Else what is written to the one before would be lost, by gzip and by tail, on any filesystem."""
        ended = {f"w{i}" for i, job in enumerate(jobs) if job.poll() is not None}
        lines = lines_of(mount, "service.log")
        return ended | {line.split()[0] for line in lines} >= {"w0", "w1", "w2"} and set(lines[:1]) <= set(lines_of(mount, seen))

    number = 0
    while any(job.poll() is None for job in jobs):
        number += 1
        (mount.path / "service.log").rename(mount.path / f"service.log.{number}")
        (mount.path / "service.log").touch()
        for job in jobs:
            if job.poll() is None:
                job.send_signal(signal.SIGHUP)
        wait_until(all_have_moved_on, "all to have the new one")
        if number > 1:
            mount.sh(f"gzip service.log.{number - 1}")
    assert [job.returncode for job in jobs] == [0] * 3 and number > 2
    mount.sh("gzip -d service.log.*.gz")
    everything = sorted(f"w{i} {n}" for i in range(3) for n in range(rounds))
    assert sorted(lines_of(mount, "service.log*")) == everything
    wait_until(lambda: len(lines_of(mount, seen)) >= len(everything), "tail to have seen them")
    follower.terminate()
    assert sorted(lines_of(mount, seen)) == everything
    for i in range(3):
        mine = [line for line in lines_of(mount, "$(ls -v service.log.*) service.log") if line.startswith(f"w{i} ")]
        assert mine == [f"w{i} {n}" for n in range(rounds)], "in the order they were written"


def test_a_log_is_copied_and_truncated(mount):
    """logrotate's copytruncate: who appends goes on at the start, and the history has what was cut off."""
    job = mount.popen("exec >> app.log; while read -r line; do echo $line; done", stdin=subprocess.PIPE)
    for i in range(1, 4):
        for n in range(1, 4):
            job.stdin.write(f"{i}.{n}\n")
        job.stdin.flush()
        wait_until(lambda: (mount.path / "app.log").exists() and (mount.path / "app.log").read_text().endswith(f"{i}.3\n"))
        mount.sh(f"cp app.log app.log.{i} && : > app.log && [ ! -s app.log ]")
        assert mount.sh(f"cat app.log.{i}") == f"{i}.1\n{i}.2\n{i}.3\n"
    job.communicate("end\n", timeout=20)
    mount.settled("app.log")
    assert mount.sh("cat app.log") == "end\n"
    assert [v for v in mount.versions("app.log").values() if v.endswith(b".3\n")] == [
        b"%d.1\n%d.2\n%d.3\n" % (i, i, i) for i in range(1, 4)]


LOGGING = """
import logging, logging.handlers, sys
handler = logging.handlers.RotatingFileHandler("py.log", maxBytes=2000, backupCount=100)
logger = logging.getLogger()
logger.addHandler(handler)
for i in range(500):
    logger.warning("line %d", i)
"""


def test_a_program_rotates_its_own_log(mount):
    mount.sh(f"{sys.executable} - <<'END'\n{LOGGING}\nEND")
    said = mount.sh("cat $(ls -v py.log.* | tac) py.log").splitlines()
    assert said == [f"line {i}" for i in range(500)]


def test_who_reads_only_the_beginning(mount):
    """A reader that goes away early, or waits long, is in nobody's way."""
    mount.sh("seq 200000 > f; head -n 3 f; yes | head -c 100000 > y; less -F -X f < f | head -n 2 > l")
    assert mount.sh("cat l; wc -c < y; tail -n 1 f; tac f | head -n 1; tail -c +100 f | head -n 1 | wc -l") == \
        "1\n2\n100000\n200000\n200000\n1\n"
    pager = mount.popen("exec 3< f; read x <&3; echo read; read go; tail -c 7 <&3; sed -n '$p' f", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert pager.stdout.readline() == "read\n"
    mount.sh("echo new > f; mv f g; echo newer > f")
    assert pager.communicate("go\n", timeout=20)[0] == "200000\nnewer\n"


# Locks of shell scripts

LOCKS = {
    "noclobber": "until { set -C; : > lock; } 2> /dev/null; do sleep 0.002; done; set +C; %s; rm lock",
    "mkdir": "until mkdir lock 2> /dev/null; do sleep 0.002; done; %s; rmdir lock",
    "link": "echo $$ > my.$$; until ln my.$$ lock 2> /dev/null; do sleep 0.002; done; %s; rm lock",
    "symlink": "until ln -s $$ lock 2> /dev/null; do sleep 0.002; done; %s; rm lock",
    "rename": "until mv free taken.$$ 2> /dev/null; do sleep 0.002; done; %s; mv taken.$$ free",
    "flock": "exec 9>> lock; flock 9; %s; exec 9>&-",
    "flock on the file": "exec 9< counter; flock 9; %s; exec 9<&-",
}
SAVES = {"in place": "echo $((n + 1)) > counter", "mv": "echo $((n + 1)) > new.$$; mv new.$$ counter",
         "sed": "sed -i s/.*/$((n + 1))/ counter"}
ROUNDS = {("noclobber", "in place"): 250, ("noclobber", "mv"): 100}


@pytest.mark.parametrize("lock, save", [(lock, save) for lock in LOCKS for save in SAVES
                                        if lock != "flock on the file" or save == "in place"])
def test_read_modify_write_under_a_lock_of_the_shell(mount, lock, save):
    """What one has closed, the next who gets the lock reads."""
    rounds = ROUNDS.get((lock, save), 25)
    mount.sh("echo 0 > counter; : > free")
    script = f"for i in $(seq {rounds}); do {LOCKS[lock] % ('read n < counter; ' + SAVES[save])}; done"
    jobs = [mount.popen(["/bin/bash", "-c", script], stderr=subprocess.PIPE) for _ in range(4)]
    for job in jobs:
        assert job.communicate(timeout=100)[1] == "" and job.returncode == 0
    assert mount.sh("cat counter") == f"{4 * rounds}\n"


# Mailboxes, and files of many processes

DELIVER = """
import mailbox, sys, time
kind, path, name, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
for i in range(rounds):
    box = mailbox.mbox(path) if kind == "mbox" else mailbox.Maildir(path)
    while kind == "mbox":
        try:
            box.lock()
            break
        except mailbox.ExternalClashError:
            time.sleep(0.005)
    box.add(f"From: {name}\\nSubject: {i}\\n\\n{'text ' * i}\\n")
    box.flush()
    if kind == "mbox":
        box.unlock()
    box.close()
"""


@pytest.mark.parametrize("kind", ["mbox", "maildir"])
def test_four_deliver_to_one_mailbox(mount, kind):
    """mbox: an fcntl lock and a .lock file made with link; the box is appended to and written anew. maildir: rename."""
    import mailbox
    rounds = 20
    # Not left to the programs: who finds no mbox opens one with O_TRUNC, before it has a lock.
    (mailbox.mbox if kind == "mbox" else mailbox.Maildir)(mount.path / "box").close()
    jobs = [mount.popen([sys.executable, "-c", DELIVER, kind, "box", f"w{i}", str(rounds)], stderr=subprocess.PIPE) for i in range(4)]
    for job in jobs:
        said = job.communicate(timeout=100)[1]
        assert job.returncode == 0, said
    box = (mailbox.mbox if kind == "mbox" else mailbox.Maildir)(mount.path / "box", create=False)
    assert sorted((m["from"], int(m["subject"])) for m in box) == [(f"w{i}", n) for i in range(4) for n in range(rounds)]
    for key, message in list(box.items()):
        if int(message["subject"]) % 2:
            box.remove(key)
    box.flush()
    box.close()
    assert mount.sh("ls").split() == ["box"]
    box = (mailbox.mbox if kind == "mbox" else mailbox.Maildir)(mount.path / "box", create=False)
    assert len(box) == 4 * rounds // 2
    box.close()


STORE = """
import dbm, fcntl, importlib, sys
kind, path, name, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
kind = importlib.import_module("dbm." + kind)
for i in range(rounds):
    with open("lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with kind.open(path, "c") as db:
            db[f"{name}.{i}"] = "value" * i
            db["count"] = str(int(db.get("count", b"0")) + 1)
"""


@pytest.mark.parametrize("kind", ["dumb", "gnu", "ndbm"])
def test_a_dbm_file_under_a_lock(mount, kind):
    """Some of its files are mapped, some written at random places, some renamed."""
    import importlib
    module = importlib.import_module(f"dbm.{kind}")
    rounds = 25
    jobs = [mount.popen([sys.executable, "-c", STORE, kind, "store", f"w{i}", str(rounds)], stderr=subprocess.PIPE) for i in range(4)]
    for job in jobs:
        said = job.communicate(timeout=100)[1]
        assert job.returncode == 0, said
    mount.remount()
    with module.open(str(mount.path / "store")) as db:
        assert db["count"] == b"%d" % (4 * rounds)
        for i in range(4):
            for n in range(rounds):
                assert db[f"w{i}.{n}"] == b"value" * n
