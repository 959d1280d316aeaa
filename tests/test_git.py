"""git, alone and by many at once: nothing is lost, and what is not changed is not shown as changed."""
import subprocess


COMMIT = """
for i in $(seq $2); do
    for dir in "$1" shared; do
        mkdir -p $dir && echo $1 $i > $dir/$1-$i && echo $i >> $dir/$1
        # Another git in this work tree has the index: then it says so, and leaves everything as it was.
        until git add $dir/$1-$i $dir/$1 2> err.$1 && git commit -qm "$1 $i $dir" -- $dir/$1-$i $dir/$1 2> err.$1; do
            grep -Eq "index.lock.: File exists|cannot lock ref|Unable to write new index" err.$1 || { cat err.$1 >&2; exit 1; }
            sleep 0.0$(($$ % 5 + 1))
        done
    done
done
"""


def all_succeed(jobs, timeout=100):
    for job in jobs:
        said = job.communicate(timeout=timeout)[1]
        assert job.returncode == 0, said


def test_four_commit_to_one_work_tree(mount):
    rounds = 6
    mount.sh("git init -q -b main repo && cd repo && printf 'err.*\\n' > .gitignore && git add . && git commit -qm first")
    repo = mount.path / "repo"
    jobs = [mount.popen(COMMIT, f"w{i}", str(rounds), cwd=repo, stderr=subprocess.PIPE) for i in range(4)]
    while any(job.poll() is None for job in jobs):
        # Not gc: that removes empty directories of objects, while another git makes a file there, which fails on any filesystem.
        mount.sh("git repack -aq && git pack-refs --all", cwd=repo)
    all_succeed(jobs)
    mount.sh("git gc -q", cwd=repo)
    said = mount.sh("git log --format=%s", cwd=repo).split("\n")[:-1]
    assert sorted(said) == sorted(["first"] + [f"w{i} {n + 1} {d}" for i in range(4) for n in range(rounds)
                                               for d in (f"w{i}", "shared")])
    assert mount.sh("git fsck --strict --no-dangling 2>&1; git status --porcelain", cwd=repo) == ""
    mount.remount()
    assert mount.sh("git fsck --strict --no-dangling 2>&1; git status --porcelain", cwd=repo) == ""
    assert mount.sh("git ls-files | wc -l", cwd=repo) == f"{1 + 4 * 2 * (rounds + 1)}\n"


def test_worktrees_of_one_repository(mount):
    rounds = 8
    mount.sh("""git init -q -b main repo && cd repo && seq 2000 > numbers && git add . && git commit -qm first
        for i in 0 1 2 3; do git worktree add -q -b b$i ../w$i; done""")
    jobs = [mount.popen(f"""for n in $(seq {rounds}); do
                sed -i "$((n * 200 + {i} * 20))s/$/ {i}/" numbers && git commit -qam "{i} $n" && git tag t{i}.$n || exit 1
                [ -z "$(git status --porcelain)" ] || {{ git status >&2; exit 1; }}
            done""", cwd=mount.path / f"w{i}", stderr=subprocess.PIPE) for i in range(4)]
    while any(job.poll() is None for job in jobs):
        mount.sh("git repack -aq", cwd=mount.path / "repo")
    all_succeed(jobs)
    mount.sh("git gc -q", cwd=mount.path / "repo")
    mount.sh("for i in 0 1 2 3; do git merge -q -m merged b$i || exit 1; done", cwd=mount.path / "repo")
    mount.remount()
    assert mount.sh("""cd repo && git fsck --strict --no-dangling 2>&1; git status --porcelain; git worktree list | wc -l
        git tag | wc -l; grep -c ' ' numbers; git rev-list --count main""").split() == ["5", "32", "32", str(1 + 32 + 3)]
    mount.sh("cd repo && for i in 0 1 2 3; do git worktree remove ../w$i; done; git worktree prune; git fsck --strict")


def test_clones_and_pushes_of_many(mount, place):
    """A repository that all push to, through file:// as well as by its path; whoever comes too late fetches and tries again."""
    rounds = 4
    mount.sh("""git init -q -b main --bare hub && git clone -q hub first 2> /dev/null && cd first
        for i in $(seq 100); do seq $i > f$i; done; git add . && git commit -qm first && git push -q origin HEAD""")
    script = f"""git clone -q $1 $2 && cd $2 && for n in $(seq {rounds}); do
            echo $2 $n >> of-$2 && git add . && git commit -qm "$2 $n" || exit 1
            until git push -q origin HEAD 2> ../$2.err; do
                grep -Eq "rejected|cannot lock|failed to update" ../$2.err || {{ cat ../$2.err >&2; exit 1; }}
                git pull -q --rebase || exit 1
            done
        done"""
    hubs = [mount.path / "hub", f"file://{mount.path}/hub"] * 2
    all_succeed([mount.popen(script, hub, f"c{i}", stderr=subprocess.PIPE) for i, hub in enumerate(hubs)])
    mount.sh('git clone -q "file://$1/hub" "$2"', mount.path, place / "outside")
    for where in (mount.path / "hub", place / "outside"):
        assert mount.sh("git fsck --strict --no-dangling 2>&1; git rev-list --count HEAD", cwd=where) == f"{1 + 4 * rounds}\n"
    mount.sh('git clone -q "$1" back && diff -r --exclude=.git back "$1"', place / "outside")


def test_back_and_forth_leaves_nothing_changed(mount):
    """The index knows files by size, times and inode number: what git has just written is not to look changed."""
    mount.sh("""git init -q -b main repo && cd repo
        mkdir d && for i in $(seq 60); do seq $i > d/f$i; done && ln -s f1 d/link && git add . && git commit -qm first
        git checkout -qb other && for i in $(seq 1 2 60); do echo other >> d/f$i; done
        git rm -q d/f2 && git mv d/f4 d/g4 && chmod +x d/f6 && echo new > n && git add . && git commit -qm other""")
    clean = """[ -z "$(git status --porcelain)" ] || { git status; exit 1; }
        git diff-files --quiet || { echo looks changed; git diff-files; exit 1; }"""
    mount.sh(f"""cd repo && for i in 1 2 3 4 5; do
            git checkout -q main; {clean}
            git checkout -q other; {clean}
        done
        git checkout -q main && for i in 1 2 3 4; do
            seq $i 20 > d/f8; rm d/f10; echo untracked > u$i
            git stash -qu; {clean}
            git stash pop -q && [ "$(git status --porcelain | wc -l)" = 3 ] && git checkout -q . && rm u$i; {clean}
        done
        for i in 20 30 40; do echo main >> d/f$i && git commit -qam $i; done
        git rebase -q main other; {clean}
        git rebase -q --onto main~2 main other; {clean}
        git checkout -q main && git merge -q -m merged other && git reset -q --hard HEAD~1; {clean}
        git cherry-pick other > /dev/null && git revert --no-edit HEAD > /dev/null; {clean}
        git bisect start -q HEAD HEAD~4 > /dev/null && git bisect run sh -c '! grep -q main d/f30' > /dev/null && git bisect reset -q; {clean}""")
    mount.remount()
    assert mount.sh("cd repo && git diff-files && git status --porcelain && git fsck --strict --no-dangling 2>&1") == ""


def test_a_patch_series(mount):
    mount.sh("""git init -q -b main repo && cd repo && seq 100 > f && git add . && git commit -qm first
        for i in 10 30 50; do sed -i "$i"s/$/x/ f && git commit -qam "line $i"; done
        git format-patch -q -3 -o ../patches && git checkout -qb again HEAD~3 && git am -q ../patches/*
        git diff --exit-code main again && git archive main | tar -x -C .. && cmp f ../f
        git bundle create -q ../all.bundle --all && git clone -q ../all.bundle ../b 2> /dev/null && git -C ../b log --oneline origin/main > /dev/null""")


def test_the_untracked_cache(mount):
    """git's own test of the times of directories: it takes some seconds of waiting."""
    assert mount.sh("git init -q -b main repo && cd repo && git update-index --test-untracked-cache 2>&1").endswith(" OK\n")
    mount.sh("""cd repo && git config core.untrackedCache true && mkdir d && echo x > d/a && git add . && git commit -qm first
        git status --porcelain && for i in 1 2 3; do
            echo new > d/u$i; [ "$(git status --porcelain)" = "?? d/u$i" ] || exit 1
            mv d/u$i d/v; [ "$(git status --porcelain)" = "?? d/v" ] || exit 1
            rm d/v; [ -z "$(git status --porcelain)" ] || exit 1
        done""")
