"""Files in use: open-files.py CASE DIR TOP, and open-files.py two-clients ONE TWO

Others are processes of their own, as they are in life. Each case leaves what a local file system
would have left.
"""
import fcntl
import mmap
import os
import signal
import subprocess
import sys
import time

case, here, top = sys.argv[1:4]
PAGE = mmap.PAGESIZE
old, new = b"old" * 50_000, b"new" * 40_000


def must(what, holds):
    if not holds:
        sys.exit(f"{case}: {what}")


def until(what, holds):
    deadline = time.monotonic() + 60
    while not holds():
        must(f"{what}: not within 60 s", time.monotonic() < deadline)
        time.sleep(0.02)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def other(code, *args):
    """Another process; its output."""
    head = "import fcntl, mmap, os, sys\n"
    done = subprocess.run([sys.executable, "-c", head + code, *args], capture_output=True, text=True, timeout=120)
    must(f"the other process: {done.stderr}", done.returncode == 0)
    return done.stdout.strip()


def reread(fd, size):
    """The bytes of an open file, those that nobody has in memory."""
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    data = b""
    while len(data) <= size:
        part = os.pread(fd, 1 << 16, len(data))
        if not part:
            break
        data += part
    return data


def clean():
    """Nothing that a client hides is left once files are closed."""
    def hidden():
        found = []
        for base, dirs, files in os.walk(top):
            found += [n for n in dirs + files if n.startswith((".nfs", ".fuse_hidden", ".pocker"))]
        return found
    until(f"hidden files are gone ({hidden()})", lambda: not hidden())


def rename_over():
    name, fresh = f"{here}/name", f"{here}/fresh"
    for turn in range(5):
        write(name, old)
        fds = [os.open(name, os.O_RDWR) for _ in range(3)]
        write(fresh, new)
        other("os.rename(sys.argv[1], sys.argv[2])", fresh, name)
        must("the name has the new content", read(name) == new)
        for fd in fds:
            must("who had it open keeps the old content", reread(fd, len(old)) == old)
        os.pwrite(fds[0], b"late", 10)
        must("a late write is seen by who has it open", os.pread(fds[1], 4, 10) == b"late")
        must("and by nobody else", read(name) == new)
        must("no name is left", os.fstat(fds[2]).st_size == len(old))
        for fd in fds:
            os.close(fd)
    # The Linux client removes what it hid behind the last close.
    until("one name", lambda: os.listdir(here) == ["name"])
    clean()


def remove():
    name = f"{here}/name"
    for turn in range(5):
        write(name, old)
        fd = os.open(name, os.O_RDWR)
        other("os.unlink(sys.argv[1])", name)
        must("it has no name", not os.path.exists(name))
        must("its content stays", reread(fd, len(old)) == old)
        os.pwrite(fd, b"more", len(old))
        os.ftruncate(fd, len(old) + 100)
        must("it can grow", reread(fd, len(old) + 100) == old + b"more" + bytes(96))
        # The name is free for another file.
        write(name, new)
        must("another file has the name", read(name) == new)
        must("which is not this one", os.pread(fd, 3, 0) == b"old")
        os.unlink(name)
        os.close(fd)
    until("no names", lambda: os.listdir(here) == [])
    clean()


def rename_over_mapped():
    name, fresh = f"{here}/name", f"{here}/fresh"
    write(name, old)
    fd = os.open(name, os.O_RDWR)
    mapped = mmap.mmap(fd, len(old), mmap.MAP_SHARED)
    os.close(fd)
    write(fresh, new)
    other("os.rename(sys.argv[1], sys.argv[2])", fresh, name)
    must("a mapping keeps the old content", mapped[:] == old)
    mapped[5:9] = b"late"
    mapped.flush()
    mapped.madvise(mmap.MADV_DONTNEED)
    must("and takes new", mapped[5:9] == b"late" and mapped[9:] == old[9:])
    must("the name has the new content", read(name) == new)
    mapped.close()
    clean()


def directory():
    # One that is somebody's working directory, renamed and then filled by its other name.
    os.mkdir(f"{here}/a")
    os.chdir(f"{here}/a")
    other("os.rename(sys.argv[1] + '/a', sys.argv[1] + '/b')", here)
    write("inside", b"inside")
    must("it is where it was renamed to", read(f"{here}/b/inside") == b"inside")
    must("the kernel says so too", os.getcwd() == f"{here}/b")
    fd = os.open(".", os.O_RDONLY)
    must("an open directory lists", os.listdir(fd) == ["inside"])
    os.chdir("/")
    other("os.unlink(sys.argv[1]); os.rmdir(os.path.dirname(sys.argv[1]))", f"{here}/b/inside")
    must("it is gone", os.listdir(here) == [])
    os.close(fd)


def shared_map():
    name = f"{here}/name"
    write(name, bytes(8 * PAGE + 100))
    fd = os.open(name, os.O_RDWR)
    mapped = mmap.mmap(fd, 8 * PAGE + 100, mmap.MAP_SHARED)
    watch = """
f = open(sys.argv[1], "r+b")
m = mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED)
while m[0:1] != b"!": pass
print(m[4096:4101].decode(), os.pread(f.fileno(), 5, 4096).decode(), m[-3:].decode())
m[8192:8197] = b"reply"
m[0:1] = b"?"
"""
    reader = subprocess.Popen([sys.executable, "-c", "import mmap, os, sys\n" + watch, name], stdout=subprocess.PIPE, text=True)
    mapped[4096:4101] = b"hello"
    mapped[-3:] = b"end"
    mapped[0:1] = b"!"
    until("the other process answers through the mapping", lambda: mapped[0:1] == b"?")
    must("it saw what was mapped", reader.communicate()[0].strip() == "hello hello end")
    must("its answer is in the file too", os.pread(fd, 5, 8192) == b"reply")
    os.pwrite(fd, b"written", 3 * PAGE)
    must("a write is in the mapping", mapped[3 * PAGE : 3 * PAGE + 7] == b"written")
    mapped.flush()
    mapped.close()
    must("all of it is in the file", (d := reread(fd, 9 * PAGE))[4096:4101] + d[8192:8197] + d[-3:] == b"helloreplyend")
    os.close(fd)
    # A private mapping changes nothing.
    fd = os.open(name, os.O_RDWR)
    private = mmap.mmap(fd, 100, mmap.MAP_PRIVATE)
    private[0:5] = b"mine!"
    private.close()
    must("a private change stays private", os.pread(fd, 1, 0) == b"?")
    os.close(fd)


def truncated_map():
    name = f"{here}/name"
    write(name, b"x" * (4 * PAGE))
    fd = os.open(name, os.O_RDWR)
    mapped = mmap.mmap(fd, 4 * PAGE, mmap.MAP_SHARED)
    must("mapped", mapped[3 * PAGE : 3 * PAGE + 1] == b"x")
    os.ftruncate(fd, PAGE + 10)
    must("what is left is there", mapped[PAGE : PAGE + 10] == b"x" * 10)
    must("zeros to the end of the page", mapped[PAGE + 10 : 2 * PAGE] == bytes(PAGE - 10))
    touch = """
f = open(sys.argv[1], "r+b")
size = os.fstat(f.fileno()).st_size
m = mmap.mmap(f.fileno(), size, mmap.MAP_SHARED)
os.ftruncate(f.fileno(), 0)
m[0]
"""
    # Past the end of the file there is nothing to touch (mmap(2): SIGBUS).
    copy = f"{here}/copy"
    write(copy, b"y" * PAGE)
    died = subprocess.run([sys.executable, "-c", "import mmap, os, sys\n" + touch, copy])
    must(f"touching what was cut off ends with {died.returncode}", died.returncode == -signal.SIGBUS)
    mapped[PAGE + 5 : PAGE + 10] = b"z" * 5
    os.ftruncate(fd, 3 * PAGE)
    must("what grows is zeros", mapped[2 * PAGE : 3 * PAGE] == bytes(PAGE))
    mapped.flush()
    mapped.close()
    data = reread(fd, 3 * PAGE)
    must("so it is in the file", data == b"x" * (PAGE + 5) + b"z" * 5 + bytes(2 * PAGE - 10))
    os.close(fd)


def locks(take):
    name = f"{here}/name"
    write(name, bytes(1000))
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl, os, sys, time\nf = open(sys.argv[1], 'r+b')\n{take}\nprint('held', flush=True)\ntime.sleep(600)", name],
        stdout=subprocess.PIPE, text=True)
    must("the holder holds", holder.stdout.readline() == "held\n")
    attempt = f"""
f = open(sys.argv[1], 'r+b')
try:
    {take}
    print('got it')
except BlockingIOError:
    print('refused')
"""
    must("who does not hold it is refused", other(attempt, name) == "refused")
    if "lockf" in take:
        free = attempt.replace("10, 100)", "10, 500)")
        must("another range is free", other(free, name) == "got it")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    until("a holder that died holds nothing", lambda: other(attempt, name) == "got it")


def two_clients():
    """HERE and TOP are two mounts of one export, by clients that know nothing of each other."""
    one, two = f"{here}/open", f"{top}/open"
    os.mkdir(one)
    for turn in range(10):
        # Close-to-open: what one has closed the other sees once it opens, whatever it kept.
        data = os.urandom(1000 + turn)
        write(f"{one}/shared", data)
        must(f"turn {turn}: the second client opens what the first closed", read(f"{two}/shared") == data)
        back = os.urandom(1500 - turn * 100)
        write(f"{two}/shared", back)
        must(f"turn {turn}: and the other way round", read(f"{one}/shared") == back)
        # The same length in the same moment must not hide a change.
        write(f"{two}/shared", back[::-1])
        must(f"turn {turn}: a change of the same length", read(f"{one}/shared") == back[::-1])
        # Replaced by rename.
        write(f"{two}/fresh", data)
        os.rename(f"{two}/fresh", f"{two}/shared")
        until(f"turn {turn}: a rename shows", lambda: read(f"{one}/shared") == data)
    # What a mapping wrote is the other's after msync and close.
    with open(f"{one}/shared", "r+b") as f:
        mapped = mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED)
        mapped[0:6] = b"mapped"
        mapped.flush()
        mapped.close()
    must("what was mapped", read(f"{two}/shared")[:6] == b"mapped")
    # Locks are local to a mount: NLM, which would carry them, is another protocol than NFSv3.
    with open(f"{one}/shared", "r+b") as a, open(f"{two}/shared", "r+b") as b:
        fcntl.flock(a, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # Made by one, removed by the other, made again.
    for turn in range(20):
        write(f"{one}/again", b"%d" % turn)
        until("a name shows", lambda: os.path.exists(f"{two}/again"))
        os.unlink(f"{two}/again")
        until("its absence shows", lambda: not os.path.exists(f"{one}/again"))
    # O_EXCL: of two clients that make one name, one is told that it made it. Each by a process of
    # its own: Linux's client makes the call's verifier of the clock's tick and the process's
    # number, and a server takes the same verifier for the same call (RFC 1813, section 3.3.8).
    for turn in range(20):
        won = 0
        for side in (one, two):
            make = os.fork()
            if make == 0:
                try:
                    os.close(os.open(f"{side}/lock{turn}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                    os._exit(0)
                except FileExistsError:
                    os._exit(17)
                finally:
                    os._exit(1)
            status = os.waitstatus_to_exitcode(os.waitpid(make, 0)[1])
            must(f"turn {turn}: an answer, not {status}", status in (0, 17))
            won += status == 0
        must(f"turn {turn}: {won} made it", won == 1)


if case == "fcntl-locks":
    locks("fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 100)")
elif case == "flock-locks":
    locks("fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)")
else:
    globals()[case.replace("-", "_")]()
