"""Random operations: a mount does what a plain directory does (lib/twins.py)."""
import os
import random
import subprocess
import sys

import pytest

from lib import twins
from lib.tree import attributes

# In a full run, --soak 60, there are 100,000 operations of each kind (settled: half as many saves).
PER_SECOND = {"names": 1700, "alone": 425, "live": 1700, "settled": 800}
WORKERS = {"names": 8, "alone": 4, "live": 6, "settled": 5}


@pytest.mark.parametrize("kind", list(PER_SECOND))
@pytest.mark.mount("dev", "allow_other")
@pytest.mark.timeout(1200)
def test_random_operations(mount, plain, soak, kind):
    for base in (mount.path, plain):
        base.chmod(0o755)
    for seed in [1, random.SystemRandom().randrange(10**9)]:
        print(f"{kind}: seed {seed}")
        roots = [base / str(seed) for base in (mount.path, plain)]
        for root in roots:
            root.mkdir()
        with mount.popen([sys.executable, twins.__file__, kind, str(seed), str(PER_SECOND[kind] * soak // 2),
                          str(WORKERS[kind]), *map(str, roots)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            said, _ = process.communicate()
        assert process.returncode == 0, said[-8000:]
        print(said)
    for folder, _, files in os.walk(plain):
        for name in files:
            if name == "before":
                os.unlink(os.path.join(folder, name))
    expected = attributes(plain, times=False)
    assert attributes(mount.path, times=False) == expected
    mount.remount()
    assert attributes(mount.path, times=False) == expected
