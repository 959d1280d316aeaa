"""Programs, scripts and libraries that run from the mount."""
import ctypes
import os
import signal
import subprocess

import pytest

from lib.calls import outcome

PROGRAM = "int main(void) { return %d; }"
LIBRARY = "int answer(void) { return %d; }"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """compiled(source, *options): the path of a program made from C, outside of any mount; each is made once."""
    folder, made = tmp_path_factory.mktemp("compiled"), {}

    def make(source, *options):
        key = (source, *options)
        if key not in made:
            made[key] = folder / str(len(made))
            subprocess.run(["gcc", "-x", "c", "-", "-o", made[key], *options], input=source.encode(), check=True)
        return made[key]

    return make


# Programs


def started(base, name="prog", **kwargs):
    """A copy of sleep that runs from base."""
    subprocess.run(["cp", "/bin/sleep", base / name], check=True)
    return subprocess.Popen([base / name, "1000"], **kwargs)


@pytest.mark.parametrize("how", ["O_WRONLY", "O_RDWR", "O_WRONLY | O_TRUNC", "O_WRONLY | O_APPEND", "O_RDONLY", "truncate",
                                 "ftruncate", "O_WRONLY | O_CREAT"])
def test_a_program_that_runs_is_not_written_to(mount, plain, how):
    def attempt(base):
        program = started(base)
        try:
            if how == "truncate":
                return outcome(lambda: os.truncate(base / "prog", 1))
            if how == "ftruncate":
                fd = os.open(base / "prog", os.O_RDONLY)
                return outcome(lambda: os.ftruncate(fd, 1)), os.close(fd)
            flags = eval(how, vars(os))
            return outcome(lambda: os.close(os.open(base / "prog", flags)))
        finally:
            program.terminate()
            program.wait()

    assert attempt(mount.path) == attempt(plain)
    assert mount.sh("cmp prog /bin/sleep; echo x > prog; cat prog") == "x\n", "it can be written to afterwards"


def test_who_empties_a_program_by_an_open_for_reading_saves_it(mount):
    """What only few ask for, and a plain directory refuses: it is a save as any other, which the running program outlives."""
    program = started(mount.path)
    os.close(os.open(mount.path / "prog", os.O_RDONLY | os.O_TRUNC))
    assert (mount.path / "prog").read_bytes() == b"" and program.poll() is None
    assert mount.sh("cmp prog@@/1 /bin/sleep && echo same") == "same\n"
    program.terminate()
    assert program.wait() == -signal.SIGTERM


def test_a_program_that_runs_goes_on_when_it_is_replaced(mount, compiled):
    mount.sh("cp $1 prog; cp $2 new", "/bin/cat", compiled(PROGRAM % 7))
    old = mount.popen(["./prog"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    old.stdin.write("one\n")
    old.stdin.flush()
    assert old.stdout.readline() == "one\n"
    mount.sh("mv new prog")
    assert mount.run("./prog").returncode == 7
    mount.sh("rm prog; cp $1 prog", compiled(PROGRAM % 8))
    assert mount.run("./prog").returncode == 8
    old.stdin.write("two\n")
    old.stdin.flush()
    assert old.stdout.readline() == "two\n"
    assert os.readlink(f"/proc/{old.pid}/exe").endswith("prog (deleted)")
    old.stdin.close()
    assert old.wait(20) == 0


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_WRONLY | os.O_TRUNC, os.O_RDWR, os.O_WRONLY | os.O_APPEND])
def test_who_writes_a_program_cannot_run_it(mount, plain, compiled, flags):
    """Not even when all of it is written; a child that has the descriptor, neither."""
    results = []
    for base in (plain, mount.path):
        subprocess.run(["cp", compiled(PROGRAM % 7), base / "prog"], check=True)
        fd = os.open(base / "prog", flags)
        if flags & os.O_TRUNC:
            os.write(fd, compiled(PROGRAM % 8).read_bytes())
        os.set_inheritable(fd, True)
        seen = [outcome(lambda: subprocess.run([base / "prog"], close_fds=False, check=False))]
        pid = os.fork()
        if not pid:
            os._exit({None: 0, "ETXTBSY": 26}.get(outcome(lambda: os.execv(base / "prog", ["prog"])), 99))
        seen.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os.close(fd)
        seen.append(subprocess.run([base / "prog"], check=False).returncode)
        results.append(seen)
    assert results[1] == results[0] == ["ETXTBSY", 26, 8 if flags & os.O_TRUNC else 7]


def test_others_run_the_program_as_it_was_before_the_save(mount, compiled):
    """On a plain directory they could not run it at all."""
    mount.sh("cp $1 prog", compiled(PROGRAM % 7))
    mount.settled("prog")
    saver = mount.popen('exec 3> prog; cat $1 >&3; echo written; read line; exec 3>&-; echo closed; read line',
                        compiled(PROGRAM % 8), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert saver.stdout.readline() == "written\n"
    assert mount.run("./prog").returncode == 7
    saver.stdin.write("\n")
    saver.stdin.flush()
    assert saver.stdout.readline() == "closed\n"
    assert mount.run("./prog").returncode == 8
    saver.communicate("\n", timeout=20)


SCRIPTS = {"sh": "#!/bin/sh\necho one $1", "env": "#!/usr/bin/env python3\nimport sys; print('one', sys.argv[1])",
           "an option": "#!/bin/sh -e\necho one $1", "a program of the mount": "#!./prog -\none two", "nothing": "#!\n",
           "missing": "#!/nonexistent\n", "itself": "#!./script\n", "a script": "#!./inner\n", "no line": "echo one $1",
           "a long line": "#!" + "/" * 250 + "bin/echo\n"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts(mount, plain, script):
    results = []
    for base in (plain, mount.path):
        subprocess.run(["cp", "/bin/echo", base / "prog"], check=True)
        for name, text in (("script", SCRIPTS[script]), ("inner", "#!/bin/echo\n")):
            (base / name).write_text(text)
            (base / name).chmod(0o755)
        done = subprocess.run(["/bin/sh", "-c", "./script two"], cwd=base, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False, timeout=20)
        results.append((done.returncode, done.stdout))
        (base / "script").chmod(0o644)
        assert outcome(lambda: os.execv(base / "script", ["script"])) == "EACCES"
    assert results[0] == results[1]


ROUNDS = {
    "cc": 'cc -o $1 v$2.o; ./$1 || [ $? = $2 ]',
    "cp": 'cp v$2 $1; ./$1 || [ $? = $2 ]',
    "cat": 'cat v$2 > $1; ./$1 || [ $? = $2 ]',
    "cp of what ran": 'cp $1.old $1; ./$1 || [ $? = 1 ]; cp v$2 $1; ./$1 || [ $? = $2 ]',
    "cp -f": 'cp -f v$2 $1; ./$1 || [ $? = $2 ]',
    "mv": 'cp v$2 $1.new; mv $1.new $1; ./$1 || [ $? = $2 ]',
    "install": 'install v$2 $1; ./$1 || [ $? = $2 ]',
    "script": '''printf '#!/bin/sh\\nexit %s' $2 > $1; ./$1 || [ $? = $2 ]''',
    "dd": 'dd if=v$2 of=$1 bs=4k conv=notrunc status=none; ./$1 || [ $? = $2 ]',
    "a new name": 'rm -f $1; cp v$2 $1; ./$1 || [ $? = $2 ]',
}


@pytest.mark.parametrize("how", ROUNDS)
def test_what_was_just_saved_runs_at_once(mount, compiled, how):
    """By several processes on names of their own: what runs is what was saved, and nothing is busy."""
    for i in (1, 2, 3):
        mount.sh("cp $1 v$3; cp $2 v$3.o", compiled(PROGRAM % i), compiled(PROGRAM % i, "-c"), str(i))
    rounds = 20 if how == "cc" else 100
    jobs = [mount.popen(f"""set -e; cp v1 $1; cp v1 $1.old
        once() {{ {ROUNDS[how]}; }}
        for i in $(seq {rounds}); do once $1 $((i % 3 + 1)) || {{ echo round $i: $?; exit 1; }}; done""", f"p{n}",
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for n in range(3)]
    said = [job.communicate(timeout=90)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 3, said


# Libraries


def loaded(path):
    """Its function. The loader takes paths that are not the same for the same library only when the inode is."""
    return ctypes.CDLL(str(path)).answer


def test_a_library_stays_when_it_is_replaced(mount, compiled):
    for i in (1, 2, 3):
        mount.sh("cp $1 lib$2.so", compiled(LIBRARY % i, "-shared", "-fPIC"), str(i))
    mount.sh("cp lib1.so lib.so")
    one = loaded(mount.path / "lib.so")
    assert one() == loaded(f"{mount.path}//lib.so")() == 1
    mount.sh("mv lib2.so lib.so")
    two = loaded(f"{mount.path}/./lib.so")
    assert (one(), two()) == (1, 2)
    mount.sh("rm lib.so; mv lib3.so lib.so")
    three = loaded(f"{mount.path}/.//lib.so")
    mount.sh("rm *.so")
    assert (one(), two(), three()) == (1, 2, 3)


def test_a_library_that_is_loaded_is_spared_by_saves(mount, compiled):
    """On a plain directory the program that has it loaded would crash."""
    fresh = "python3 -c 'import ctypes; print(ctypes.CDLL(\"./lib.so\").answer())'"
    mount.sh("cp $1 lib.so", compiled(LIBRARY % 1, "-shared", "-fPIC"))
    one = loaded(mount.path / "lib.so")
    for number, save in ((2, "cat $1 > lib.so"), (3, "cp $1 lib.so"), (4, "dd if=$1 of=lib.so conv=notrunc status=none")):
        mount.sh(save, compiled(LIBRARY % number, "-shared", "-fPIC"))
        assert mount.sh(fresh) == f"{number}\n"
        assert one() == 1
