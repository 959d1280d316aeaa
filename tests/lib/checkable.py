"""
What must be checkable: statements over a tree's journal that return no rows, and objects that are what
their versions say.

Run after every test, when the volume has been unmounted.
"""
import os
import sqlite3

from lib import xxh

SAVES = "('save', 'append', 'truncate', 'stream', 'restore')"

STATEMENTS = {
    "sequence numbers are 1 … n":
        "SELECT min(seq), max(seq), count(*) FROM operation"
        " HAVING count(*) > 0 AND (min(seq) <> 1 OR max(seq) <> count(*))",
    "operation ids are unique":
        "SELECT hex(id), count(*) FROM operation GROUP BY id HAVING count(*) > 1",
    "a lineage's version numbers have no gap":
        "SELECT lineage, min(number), max(number), count(*) FROM version GROUP BY lineage"
        " HAVING min(number) <> 1 OR max(number) <> count(*)",
    "a lineage knows how many versions it has":
        "SELECT e.id, e.name, e.versions, count(v.number) FROM entry e LEFT JOIN version v ON v.lineage = e.id"
        " GROUP BY e.id HAVING e.versions <> count(v.number)",
    "versions belong to a lineage":
        "SELECT v.lineage, v.number FROM version v LEFT JOIN entry e ON e.id = v.lineage WHERE e.id IS NULL",
    "versions grow with the sequence numbers":
        "SELECT a.lineage, a.number, a.seq, b.seq FROM version a"
        " JOIN version b ON b.lineage = a.lineage AND b.number = a.number + 1 WHERE b.seq <= a.seq",
    "versions come from operations":
        "SELECT v.lineage, v.number, v.seq FROM version v LEFT JOIN operation o ON o.seq = v.seq WHERE o.seq IS NULL",
    "a save that is neither blind nor merged descends from the version before it":
        "SELECT v.lineage, v.number, v.kind, v.basis_kind, v.basis_number FROM version v"
        " JOIN version p ON p.lineage = v.lineage AND p.number ="
        "  (SELECT max(number) FROM version WHERE lineage = v.lineage AND number < v.number AND verdict <> 'aside')"
        " JOIN content pc ON pc.id = p.content LEFT JOIN content bc ON bc.id = v.basis"
        " WHERE v.verdict = 'next' AND v.kind = 'save'"
        " AND (bc.id IS NULL OR bc.hash <> pc.hash OR bc.size <> pc.size)",
    "each save ended in exactly one outcome":
        "SELECT seq, kind, outcome FROM operation WHERE"
        f" (kind IN {SAVES} AND outcome IS NULL)"
        " OR outcome NOT IN ('version', 'unchanged', 'refused', 'dropped')",
    "an outcome 'version' made one, and no other outcome did":
        "SELECT o.seq, o.kind, o.outcome, count(v.seq) FROM operation o LEFT JOIN version v ON v.seq = o.seq"
        " WHERE o.outcome IS NOT NULL GROUP BY o.seq HAVING (o.outcome = 'version') <> (count(v.seq) > 0)",
    "a version's content is there, unless it was pruned":
        "SELECT v.lineage, v.number FROM version v LEFT JOIN content c ON c.id = v.content"
        " WHERE v.content IS NOT NULL AND c.id IS NULL",
    "a file's content is there":
        "SELECT n.id FROM node n LEFT JOIN content c ON c.id = n.content WHERE n.content IS NOT NULL AND c.id IS NULL",
    "names lead to nodes":
        "SELECT e.id, e.name FROM entry e LEFT JOIN node n ON n.id = e.node WHERE e.node IS NOT NULL AND n.id IS NULL",
    "link counts are the numbers of names":
        "SELECT n.id, n.mode, n.nlink, count(e.id) FROM node n LEFT JOIN entry e ON e.node = n.id"
        " WHERE n.mode & 61440 <> 16384 GROUP BY n.id HAVING n.nlink <> count(e.id)",
    "inode numbers are never shared":
        "SELECT ino, count(*) FROM node GROUP BY ino HAVING count(*) > 1",
    "attributes belong to nodes":
        "SELECT x.node, x.name FROM xattr x LEFT JOIN node n ON n.id = x.node WHERE n.id IS NULL",
    "nothing is left closing or live":
        "SELECT object FROM closing UNION ALL SELECT id FROM node WHERE live <> 0",
    "no garbage is left":
        "SELECT object FROM garbage",
    "the end was clean":
        "SELECT clean FROM tree WHERE clean <> 1",
}


def check_tree(tree):
    """What is wrong with a tree (its directory in the volume), as a list of sentences."""
    wrong = []
    journal = sqlite3.connect(f"file:{tree}/journal.db?mode=ro", uri=True)
    try:
        journal.text_factory = bytes
        for what, statement in STATEMENTS.items():
            rows = journal.execute(statement).fetchmany(5)
            if rows:
                wrong.append(f"{tree.name}: not so: {what}: {rows}")
        contents = journal.execute("SELECT object, size, hash FROM content").fetchall()
    finally:
        journal.close()
    for number, size, digest in contents:
        path = tree / "objects" / str(number // 4096) / str(number)
        try:
            found = xxh.of_file(path, size)
        except (FileNotFoundError, AssertionError) as e:
            wrong.append(f"{tree.name}: object {number} of {size} bytes: {e}")
            continue
        if found != digest.hex():
            wrong.append(f"{tree.name}: object {number} of {size} bytes: {found} is not {digest.hex()}")
    named = {str(number) for number, _, _ in contents}
    stored = {path.name for path in (tree / "objects").glob("*/*")}
    if stored - named:
        wrong.append(f"{tree.name}: objects that no version names: {sorted(stored - named)[:5]}")
    staged = os.listdir(tree / "stage")
    if staged:
        wrong.append(f"{tree.name}: left staged: {staged[:5]}")
    return wrong


def inodes(tree):
    journal = sqlite3.connect(f"file:{tree}/journal.db?mode=ro", uri=True)
    try:
        return [ino for (ino,) in journal.execute("SELECT ino FROM node")]
    finally:
        journal.close()


def check(volume):
    trees = sorted((volume / "trees").iterdir())
    wrong = [sentence for tree in trees for sentence in check_tree(tree)]
    numbers = [ino for tree in trees for ino in inodes(tree)]
    if len(numbers) != len(set(numbers)):
        wrong.append("inode numbers are shared between trees")
    assert not wrong, "\n".join(wrong)
