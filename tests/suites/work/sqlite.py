"""SQLite as programs use it: sqlite.py CASE FILE JOURNAL

work    the same statements each time
killed  a writer is killed in mid-transaction, with pages of it in the file
two     two processes count in one row, each waiting for the other
served  the server of the mount (POCKER) is killed under a writer: what was committed is there
"""
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time

case, path, journal = sys.argv[1:4]
long = bool(os.environ.get("WORK_LONG"))
slow = os.environ.get("WORK_PLACE", "").startswith("kernel-")
scale = 10 if long and not slow else 1


def connect():
    db = sqlite3.connect(path, timeout=120, isolation_level=None)
    got = db.execute(f"pragma journal_mode={journal}").fetchone()[0]
    if got != journal:
        sys.exit(f"journal_mode is {got} where {journal} was asked for")
    return db


def check(db):
    said = db.execute("pragma integrity_check").fetchall()
    if said != [("ok",)]:
        sys.exit(f"integrity_check says {said}")


def text(n):
    return hashlib.sha256(str(n).encode()).hexdigest() * (n % 40)


def work():
    db = connect()
    db.execute("create table t (id integer primary key, k text, v blob)")
    db.execute("create index i on t (k)")
    for turn in range(8 * scale):
        db.execute("begin")
        for n in range(turn * 50, turn * 50 + 50):
            db.execute("insert into t values (?, ?, ?)", (n, text(n)[:20], text(n)))
        db.execute("update t set v = v || 'x' where id % 7 = ?", (turn % 7,))
        db.execute("delete from t where id % 11 = ?", (turn % 11,))
        db.execute("rollback" if turn % 5 == 4 else "commit")
    db.execute("vacuum")
    check(db)
    db.close()


def killed():
    db = connect()
    db.execute("create table t (id integer primary key, v text)")
    db.execute("insert into t values (1, 'committed')")
    db.close()
    child = subprocess.Popen([sys.executable, __file__, "torn", path, journal], stdout=subprocess.PIPE)
    if child.stdout.readline() != b"in the middle\n":
        sys.exit("the writer did not come to its middle")
    child.send_signal(signal.SIGKILL)
    child.wait()
    left = path + ("-wal" if journal == "wal" else "-journal")
    if os.path.getsize(left) == 0:
        sys.exit(f"{left} is empty: nothing was under way")
    db = connect()
    check(db)
    rows = db.execute("select count(*), min(v), max(v) from t").fetchone()
    if rows != (1, "committed", "committed"):
        sys.exit(f"after the kill there is {rows}")
    db.execute("insert into t values (2, 'after')")
    check(db)


def torn():
    db = connect()
    # So few pages in memory that the transaction spills into the file.
    db.execute("pragma cache_size = 10")
    db.execute("begin immediate")
    for n in range(2, 400):
        db.execute("insert into t values (?, ?)", (n, text(n)))
    db.execute("update t set v = 'changed' where id = 1")
    print("in the middle", flush=True)
    time.sleep(600)


def two():
    db = connect()
    db.execute("create table c (n integer)")
    db.execute("insert into c values (0)")
    turns = 60 * scale if not slow else 15
    count = [sys.executable, __file__, "count", path, journal, str(turns)]
    children = [subprocess.Popen(count) for _ in range(2)]
    if any([child.wait() != 0 for child in children]):
        sys.exit("a writer failed")
    n = db.execute("select n from c").fetchone()[0]
    if n != 2 * turns:
        sys.exit(f"two writers counted {n} where each counted {turns}")
    check(db)


def count():
    db = connect()
    for _ in range(int(sys.argv[4])):
        db.execute("begin immediate")
        n = db.execute("select n from c").fetchone()[0]
        db.execute("update c set n = ?", (n + 1,))
        db.execute("commit")


def server(*words):
    done = subprocess.run([os.environ["POCKER"], *words], capture_output=True, text=True, timeout=120)
    if done.returncode:
        print(f"pocker {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def served():
    db = connect()
    db.execute("create table t (n integer)")
    db.close()
    writer = subprocess.Popen([sys.executable, __file__, "commit", path, journal], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    seen = 0
    for kill in range(2):
        until = seen + 10
        while seen < until:
            seen = int(writer.stdout.readline())
        said = server("doctor", "--json")
        pid = int("".join(c for c in said.split("pid ")[1][:12].split()[0] if c.isdigit()))
        os.kill(pid, signal.SIGKILL)
        # The next command starts it again, on the same store.
        if "base" not in server("ls"):
            sys.exit("the server did not come back")
    until = seen + 10
    while seen < until:
        seen = int(writer.stdout.readline())
    writer.stdin.close()
    seen = [seen, *map(int, writer.stdout.read().split())][-1]
    if writer.wait() != 0:
        sys.exit("the writer failed when the server was killed")
    db = connect()
    check(db)
    rows = db.execute("select count(*), count(distinct n), max(n) from t").fetchone()
    if rows != (seen, seen, seen):
        sys.exit(f"{seen} were committed, and there is {rows}")


def commit():
    import select

    db = connect()
    n = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        n += 1
        db.execute("insert into t values (?)", (n,))
        print(n, flush=True)


try:
    globals()[case]()
except sqlite3.Error as error:
    sys.exit(f"{case}, {journal}: {error} ({getattr(error, 'sqlite_errorname', 'no name')})")
