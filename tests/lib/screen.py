"""Programs with a screen, under tmux: keys go in, and the test waits for what is to be seen."""
import re
import subprocess

from lib.procs import wait_until


class Screen:
    """A program in a terminal of its own. The tmux server is the test's, and ends with its last program or with the test."""

    def __init__(self, mount, name, command, cwd=None):
        mount.env.update(TMUX_TMPDIR=str(mount.place), TERM="screen-256color")
        self.mount, self.name = mount, name
        self._tmux("new-session", "-d", "-s", name, "-x", "110", "-y", "30", command, cwd=cwd)

    def _tmux(self, *args, cwd=None, check=True):
        return subprocess.run(["tmux", "-L", "screens", "-f", "/dev/null", *args], env=self.mount.env,
                              cwd=cwd or self.mount.path, encoding="utf-8", capture_output=True, check=check)

    def text(self):
        return self._tmux("capture-pane", "-p", "-t", self.name).stdout

    def keys(self, *keys):
        """Names of keys, as in tmux(1), or text without one."""
        self._tmux("send-keys", "-t", self.name, *keys)

    def type(self, text):
        self._tmux("send-keys", "-t", self.name, "-l", text)

    def shows(self, *patterns, timeout=20):
        """Waits for one of the patterns; the first of them that is on the screen."""
        found = []

        def look():
            text = self.text()
            found[:] = [pattern for pattern in patterns if re.search(pattern, text)]
            return found
        try:
            wait_until(look, f"{' or '.join(patterns)} on the screen", timeout)
        except AssertionError as e:
            raise AssertionError(f"{e}:\n{self.text()}") from None
        return found[0]

    def ended(self):
        wait_until(lambda: self._tmux("has-session", "-t", self.name, check=False).returncode, f"{self.name} to end")


class Vim(Screen):
    """vim with its usual settings, but for backupskip, which exempts /tmp, where the tests are."""

    ASKS, WROTE, FAILED = r"write to it \(y/n\)", r'"[^"]+" \d+L, \d+B written', r"E\d+:"

    def __init__(self, mount, name, path, *settings):
        super().__init__(mount, name, f"vim -u DEFAULTS -c 'set backupskip= {' '.join(settings)}' {path}")

    def opened(self, pattern):
        """Waits for it, going on where vim finds another's swap file."""
        if self.shows(r"\(E\)dit anyway", pattern) != pattern:
            self.keys("e")
            self.shows(pattern)

    def ex(self, command):
        self.keys("Escape")
        self.type(f":{command}")
        self.keys("Enter")

    def write(self):
        """`:w`, and the answer y when vim asks whether to go on: WROTE or FAILED. Clears the screen's last line before."""
        self.ex("echo 'next'")
        self.shows(r"(?m)^next")
        self.ex("w")
        seen = self.shows(self.ASKS, self.WROTE, self.FAILED)
        if seen == self.ASKS:
            self.keys("y")
            seen = self.shows(self.FAILED, self.WROTE)
        return seen

    def quit(self):
        self.keys("Enter")
        self.ex("qa!")
        self.ended()
