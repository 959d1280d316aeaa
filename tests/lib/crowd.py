"""
Programs that are released together.

Each says "ready" on a line of its stdout and reads its stdin to the end: that is their start. They all have the same pipe as
stdin, so that one close releases them all. Programs in Python are in lib/updaters.py; those in other languages are here.
"""
import os
import select
import subprocess
import sys
from pathlib import Path

UPDATERS = Path(__file__).with_name("updaters.py")


def updater(what, gate, path, name):
    """The command of a program of lib/updaters.py. -I -S: 20 of them start in half the time."""
    return [sys.executable, "-I", "-S", str(UPDATERS), what, gate, str(path), str(name)]


# They add a key to an object that is indented by 2, without a newline at its end. Arguments: the gate, the file, the name.
_WAIT = 'gate() { [ "$1" != "$2" ] || { echo ready; read -r line; }; }\n'
_MEMBER = r"""\n  "NAME": {\n    "by": "NAME",\n    "list": [\n      1,\n      2,\n""" \
          r"""      {\n        "three": 3\n      }\n    ]\n  }"""
_SED = f"1s/$/{_MEMBER},/".replace("NAME", """'"$3"'""")
ADD_KEY = {
    "python": [],
    "node": ["node", "-e", """
        const fs = require("fs"), [gate, path, name] = process.argv.slice(1);
        const wait = (place) => { if (place == gate) { console.log("ready"); fs.readFileSync(0); } };
        wait("start");
        const d = JSON.parse(fs.readFileSync(path, "utf8"));
        wait("save");
        d[name] = {by: name, list: [1, 2, {three: 3}]};
        fs.writeFileSync(path, JSON.stringify(d, null, 2));"""],
    "perl": ["perl", "-e", r"""
        my ($gate, $path, $name) = @ARGV; $| = 1;
        sub wait_at { if ($_[0] eq $gate) { print "ready\n"; <STDIN>; } }
        wait_at("start");
        open(my $in, "<", $path) or die $!; my $text = do { local $/; <$in> }; close $in;
        wait_at("save");
        $text =~ s/\n\}$/,""" + _MEMBER.replace("NAME", "$name") + r"""\n}/ or die;
        open(my $out, ">", $path) or die $!; print $out $text; close $out or die "close: $!";"""],
    # sed has read all of so small a file when it runs the command of its first line.
    "sed": ["/bin/sh", "-c", _WAIT + """
        gate start "$1"; exec 3>&1
        [ "$1" != save ] || pause='1e echo ready >&3; read -r line'
        exec sed -i -e "$pause" -e '""" + _SED + """' "$2" """, "sh"],
    "shell": ["/bin/sh", "-c", _WAIT + """
        gate start "$1"
        text=$(sed -e '""" + _SED + """' "$2")
        gate save "$1"
        printf %s "$text" > "$2" """, "sh"],
}


def add_key(program, gate, path, name):
    if program == "python":
        return updater("indented json", gate, path, name)
    return [*ADD_KEY[program], gate, str(path), str(name)]


# They increment a number, print what they saved, and notice no error of saving it.
COUNT = {
    "python": lambda path: updater("count", "save", path, "-"),
    "shell": lambda path: ["/bin/sh", "-c", """
        read -r n < "$1"; echo ready; read -r line
        echo $((n + 1)) > "$1"; echo $((n + 1))""", "sh", str(path)],
    "shell and cat": lambda path: ["/bin/sh", "-c", """
        n=$(cat "$1"); echo ready; read -r line
        echo $((n + 1)) > "$1"; echo $((n + 1))""", "sh", str(path)],
    "perl": lambda path: ["perl", "-e", r"""
        $| = 1; open(F, "<", $ARGV[0]); my $n = <F>; close F;
        print "ready\n"; <STDIN>;
        open(F, ">", $ARGV[0]) or die $!; print F $n + 1, "\n"; close F; print $n + 1, "\n";""", str(path)],
}


class Ended:
    def __init__(self, process):
        self.pid = process.pid
        self.out, self.err = process.communicate(timeout=100)
        self.code = process.returncode


class Crowd:
    """start: as Mount.popen."""

    def __init__(self, start, commands):
        read_end, self.write_end = os.pipe()
        self.processes = [start(command, stdin=read_end, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                          for command in commands]
        os.close(read_end)

    def race(self):
        """Releases them; what became of them, in their order."""
        for process in self.processes:
            line = process.stdout.readline()
            assert line == "ready\n", line + process.communicate(timeout=10)[1]
        os.close(self.write_end)
        return [Ended(process) for process in self.processes]


def race(start, commands):
    return Crowd(start, commands).race()


def one_by_one(start, commands):
    return [ended for command in commands for ended in race(start, [command])]


def check_no_error(ended):
    wrong = [f"{e.code}: {e.err}" for e in ended if e.code or e.err]
    assert not wrong, f"{len(wrong)} of {len(ended)} saw an error: {wrong[0]}"


class Pause:
    """
    `pause`, a command for programs that are to wait in the middle: it returns when the test says go(). One at a time waits.
    """

    def __init__(self, mount):
        folder = mount.place / "pause"
        folder.mkdir()
        ready, go, command = folder / "ready", folder / "go", folder / "pause"
        os.mkfifo(ready)
        os.mkfifo(go)
        command.write_text(f'#!/bin/sh\necho ready > "{ready}"\nread -r line < "{go}"\n')
        command.chmod(0o755)
        mount.env["PATH"] = f"{folder}:{mount.env['PATH']}"
        # Opened for both, they are never at their end, and opening them waits for nobody.
        self.ready, self.start = os.open(ready, os.O_RDWR), os.open(go, os.O_RDWR)

    def reached(self, process, timeout=30):
        poll = select.poll()
        poll.register(self.ready, select.POLLIN)
        pidfd = os.pidfd_open(process.pid)
        poll.register(pidfd, select.POLLIN)
        events = dict(poll.poll(timeout * 1000))
        os.close(pidfd)
        assert self.ready in events, f"it did not come to its pause: {process.poll()}"
        os.read(self.ready, 6)

    def go(self):
        os.write(self.start, b"\n")

    def close(self):
        os.close(self.ready)
        os.close(self.start)
