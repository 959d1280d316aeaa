"""Package managers and builds do the same work as in a plain directory, and leave the same files."""
import base64
import csv
import hashlib
import json
import os
import shutil
import subprocess
import zipfile

import pytest

from lib.tree import attributes


def both(mount, plain, command, *args, **kwargs):
    """What a command says in the tree, and in the directory that it is compared with."""
    return mount.sh(command, *args, **kwargs), mount.sh(command, *args, cwd=plain, **kwargs)


def same_files(mount, plain):
    """The trees are equal but for times."""
    ours, theirs = attributes(mount.path, times=False), attributes(plain, times=False)
    del ours[b"."], theirs[b"."]
    assert sorted(ours) == sorted(theirs)
    different = {path: (ours[path], theirs[path]) for path in ours if ours[path] != theirs[path]}
    assert not different, str(different)[:2000]


# npm

PACKAGES = {
    "base": {"main": "lib/index.js"},
    "middle": {"dependencies": {"base": "^1.0.0"}},
    "@team/scoped": {"dependencies": {"base": "1.x", "middle": ">=1"}},
    "tool": {"bin": {"tool": "bin/tool.js", "tool-too": "bin/tool.js"},
             "dependencies": {"middle": "^1.0.0", "@team/scoped": "*"}},
    "bundle": {"dependencies": {"inner": "^2.0.0"}, "bundleDependencies": ["inner"]},
}


def make_packages(folder):
    for name, more in PACKAGES.items():
        short = name.rpartition("/")[2]
        package = folder / "packages" / short
        (package / "lib").mkdir(parents=True)
        described = {"name": name, "version": "1.0.0", "description": name, "license": "MIT", "main": "lib/index.js", **more}
        (package / "package.json").write_text(json.dumps(described, indent=2))
        (package / "README.md").write_text(f"# {name}\n")
        needs = "".join(f"require('{n}')," for n in more.get("dependencies", {}))
        (package / "lib" / "index.js").write_text(f"module.exports = ['{name}', {needs}].flat(9);\n")
        for i in range(40):
            (package / "lib" / f"part{i}.js").write_text(f"exports.part = {i};\n" * i)
    tool = folder / "packages" / "tool" / "bin"
    tool.mkdir()
    (tool / "tool.js").write_text("#!/usr/bin/env node\nconsole.log(require('..').join(' '));\n")
    inner = folder / "packages" / "bundle" / "node_modules" / "inner"
    inner.mkdir(parents=True)
    (inner / "package.json").write_text('{"name": "inner", "version": "2.0.0", "main": "index.js"}')
    (inner / "index.js").write_text("module.exports = 'inner';\n")
    (folder / "linked").mkdir()
    (folder / "linked" / "package.json").write_text('{"name": "linked", "version": "1.0.0", "bin": "run.js"}')
    (folder / "linked" / "run.js").write_text("#!/usr/bin/env node\nconsole.log('linked');\n")


@pytest.fixture
def npm(mount):
    """Nothing is asked of a registry."""
    for name, value in {"offline": "true", "audit": "false", "fund": "false", "update_notifier": "false",
                        "loglevel": "error", "cache": f"{mount.place}/npm"}.items():
        mount.env[f"npm_config_{name}"] = value


@pytest.mark.usefixtures("npm")
def test_npm(mount, plain):
    for folder in (mount.path, plain):
        make_packages(folder)
        (folder / "app").mkdir()
        dependencies = {name: f"file:../{name.lstrip('@').replace('/', '-')}-1.0.0.tgz" for name in PACKAGES}
        (folder / "app" / "package.json").write_text(json.dumps({
            "name": "app", "version": "1.0.0", "private": True, "dependencies": {**dependencies, "linked": "file:../linked"},
            "scripts": {"start": "tool && linked", "postinstall": "tool > installed.txt"}}))
    both(mount, plain, "npm pack --silent ./packages/*")
    both(mount, plain, "cd app && npm install")
    same_files(mount, plain)
    lock = json.loads((mount.path / "app" / "package-lock.json").read_text())
    assert set(lock["packages"]) >= {f"node_modules/{name}" for name in PACKAGES}
    assert lock["packages"]["node_modules/tool"]["integrity"].startswith("sha512-")
    assert os.readlink(mount.path / "app/node_modules/.bin/tool") == "../tool/bin/tool.js"

    said = mount.sh("cd app && ./node_modules/.bin/tool && npm run -s start && npx --no-install tool-too")
    assert said == "{0}{0}linked\n{0}".format("tool middle base @team/scoped base middle base\n")
    assert (mount.path / "app" / "installed.txt").read_text() in said

    both(mount, plain, "cd app && npm ci && npm ls")
    same_files(mount, plain)
    both(mount, plain, "cd app && npm uninstall bundle && npm install ../bundle-1.0.0.tgz && rm -r node_modules/base && npm install")
    same_files(mount, plain)
    mount.remount()
    assert mount.sh("cd app && npm run -s start").endswith("linked\n")
    same_files(mount, plain)


THREADS = """
const fs = require('fs').promises, assert = require('assert');
async function worker(w, rounds) {
  const f = `f${w}.json`, read = () => fs.readFile(f, 'utf8');
  for (let i = 0; i < rounds; i++) {
    const text = JSON.stringify({w, i, pad: 'x'.repeat(i * 370 % 9000)});
    await fs.writeFile(f, text);
    assert.equal(await read(), text);
    assert.equal((await fs.stat(f)).size, text.length);
    await fs.writeFile(f + '.tmp', text + '!');
    await fs.rename(f + '.tmp', f);
    assert.equal(await read(), text + '!');
    await fs.appendFile(f, 'more');
    assert.equal(await read(), text + '!more');
    const file = await fs.open(f, 'r+');
    await file.truncate(5); await file.write('yy', 1); await file.close();
    assert.equal(await read(), text[0] + 'yy' + text.slice(3, 5));
    await fs.copyFile(f, f + '.copy');
    assert.equal(await fs.readFile(f + '.copy', 'utf8'), await read());
    await fs.mkdir(`d${w}/a/b`, {recursive: true});
    await fs.writeFile(`d${w}/a/b/c`, text);
    await fs.rm(`d${w}`, {recursive: true});
  }
}
Promise.all([...Array(6).keys()].map(w => worker(w, 15))).catch(e => { console.error(e); process.exit(1); });
"""


def test_a_program_whose_threads_share_the_work(mount):
    """node opens, writes and closes a file in whatever thread is free."""
    (mount.path / "threads.js").write_text(THREADS)
    mount.sh("node threads.js")
    assert sorted(os.listdir(mount.path)) == sorted(["threads.js"] + [f"f{w}.json{end}" for w in range(6) for end in ("", ".copy")])


# Python

PYTHON = "/usr/bin/python3"


def make_wheel(folder, name="parcel", parts=40):
    """A package by hand, so that nothing needs to be fetched to build it."""
    (folder / "wheels").mkdir()
    files = {f"{name}/__init__.py": f"from . import {', '.join(f'part{i}' for i in range(parts))}\n",
             f"{name}/__main__.py": "from .main import run\nrun()\n",
             f"{name}/main.py": f"import {name}\ndef run():\n    print(sum({name}.__dict__[f'part{{i}}'].VALUE for i in range({parts})))\n",
             f"{name}/data/text.txt": "text\n"}
    files |= {f"{name}/part{i}.py": f"VALUE = {i}\nTABLE = {list(range(100 * i))}\n" for i in range(parts)}
    info = f"{name}-1.0.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{name} = {name}.main:run\n"
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / "wheels" / f"{name}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def recorded(site):
    """How many files of installed packages there are; each is what was recorded of it when it was installed."""
    count = 0
    for record in site.glob("*.dist-info/RECORD"):
        for path, said, size in csv.reader(record.read_text().splitlines()):
            if said:
                data = (site / path).read_bytes()
                assert len(data) == int(size), path
                assert said == "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("="), path
                count += 1
    return count


def test_a_virtual_environment(mount):
    make_wheel(mount.path)
    mount.env.pop("PYTHONDONTWRITEBYTECODE", None)
    pip = "env/bin/python -m pip --disable-pip-version-check --no-cache-dir"
    mount.sh(f"{PYTHON} -m venv env && {pip} install --no-index -q wheels/*.whl && {pip} check")
    (site,) = mount.path.glob("env/lib/python*/site-packages")
    assert recorded(site) > 300
    assert mount.sh("env/bin/parcel && env/bin/python -m parcel") == "780\n" * 2
    mount.sh("rm -r env/lib/python*/site-packages/parcel/__pycache__"
             " && env/bin/python -m compileall -q -j 2 env/lib/python*/site-packages/parcel")
    compiled = "stat -c '%n %i %Y' env/lib/python*/site-packages/parcel/__pycache__/*"
    before = mount.sh(compiled)
    assert before.count("\n") == 43
    assert mount.sh("env/bin/parcel") == "780\n"
    assert mount.sh(compiled) == before, "compiled again"
    mount.remount()
    assert mount.sh("env/bin/parcel") == "780\n"
    assert mount.sh(compiled) == before, "compiled again"
    assert recorded(site) > 300
    mount.sh(f"{pip} install --no-index -q --force-reinstall wheels/*.whl && {pip} uninstall -q -y parcel")
    assert not (site / "parcel").exists() and mount.run("env/bin/parcel").returncode == 127


def test_many_processes_import_what_is_not_compiled_yet(mount):
    make_wheel(mount.path)
    mount.env.pop("PYTHONDONTWRITEBYTECODE", None)
    mount.sh("python3 -m zipfile -e wheels/*.whl .")
    for _ in range(3):
        shutil.rmtree(mount.path / "parcel" / "__pycache__", ignore_errors=True)
        jobs = [mount.popen([PYTHON, "-m", "parcel"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)]
        for job in jobs:
            assert job.communicate(timeout=60) == ("780\n", "")
        # -v tells of each file whether what is compiled matches its source.
        said = mount.run(f"{PYTHON} -B -v -m parcel").stderr
        assert said.count(f" matches {mount.path}/parcel/") == 43, said
        assert not [n for n in os.listdir(mount.path / "parcel" / "__pycache__") if not n.endswith(".pyc")]


# A C project

MAKEFILE = """
sources := $(wildcard src/*.c)
objects := $(sources:src/%.c=build/%.o)
all: build/prog build/stripped
build/prog: build/main.o build/libparts.a
	$(CC) -o $@ build/main.o -Lbuild -lparts
build/stripped: build/prog
	cp $< $@ && strip $@
build/libparts.a: $(filter-out build/main.o,$(objects))
	$(AR) rcs $@ $?
build/%.o: src/%.c | build
	$(CC) -MMD -MP -c -o $@ $<
build:
	mkdir $@
check: all
	./build/prog > build/said && diff build/said expected && ./build/stripped | diff - expected
clean:
	rm -r build
.PHONY: all check clean
-include $(objects:.o=.d)
"""
PARTS = 24


def make_project(folder):
    (folder / "Makefile").write_text(MAKEFILE)
    source = folder / "src"
    source.mkdir()
    for group in range(4):
        (source / f"group{group}.h").write_text(f'#include "all.h"\n#define GROUP{group} {group}\n')
    (source / "all.h").write_text("#pragma once\n#define STEP 1\n")
    for i in range(PARTS):
        (source / f"part{i}.c").write_text(
            f'#include "group{i % 4}.h"\nint part{i}(void);\nint part{i}(void) {{ return STEP * (GROUP{i % 4} + {i}); }}\n')
    (source / "main.c").write_text(
        "#include <stdio.h>\n" + "".join(f"int part{i}(void);\n" for i in range(PARTS))
        + 'int main(void) { printf("%d\\n", ' + " + ".join(f"part{i}()" for i in range(PARTS)) + "); return 0; }\n")
    (folder / "expected").write_text(f"{sum(i % 4 + i for i in range(PARTS))}\n")


def test_make_builds_exactly_what_it_must(mount, plain):
    def build(what, change="true"):
        """The commands that make says it runs, after a change."""
        command = f"{change} && make -j2 {what} 2>&1"
        ours, theirs = both(mount, plain, command)
        assert sorted(ours.splitlines()) == sorted(theirs.splitlines()), command
        return ours

    def compiled(said):
        return sorted(line.split()[-1] for line in said.splitlines() if " -MMD " in line)

    for folder in (mount.path, plain):
        make_project(folder)
    everything = compiled(build("all"))
    assert len(everything) == PARTS + 1
    assert "Nothing to be done" in build("all")
    build("check")
    group = sorted(f"src/part{i}.c" for i in range(1, PARTS, 4))
    for change, expected in [
            ("touch src/group1.h", group),
            ("sed -i s/1$/5/ src/group1.h && expr $(cat expected) + 24 > e && mv e expected", group),
            ("echo '/* */' >> src/group1.h", group),
            ("printf '%s\\n%s\\n' '#include \"all.h\"' '#define GROUP1 5' > src/group1.h", group),
            ("cp -p src/part3.c kept && echo '#error' >> src/part3.c && cp -p kept src/part3.c", []),
            ("printf '/* new */' | cat - src/part3.c > t && mv t src/part3.c", ["src/part3.c"]),
            ("rm build/part4.o build/part5.o", ["src/part4.c", "src/part5.c"]),
            ("touch src/all.h", [path for path in everything if "main" not in path])]:
        said = build("all", change)
        assert compiled(said) == expected, change
        assert not expected or "rcs build/libparts.a" in said and "strip build/stripped" in said
        assert "Nothing to be done" in build("all"), change
        build("check")
    mount.remount()
    assert "Nothing to be done" in build("all")
    build("clean")
    assert not (mount.path / "build").exists()
    assert compiled(build("all check")) == everything
    same_files(mount, plain)
