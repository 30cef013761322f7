"""Records of 64 bytes: append.py FILE MARK COUNT appends, append.py --check FILE MARKS reads."""
import os
import sys


def record(mark, n):
    return f"{mark}{n:07} ".ljust(63, mark).encode() + b"\n"


if sys.argv[1] == "--check":
    path, marks = sys.argv[2:4]
    data = open(path, "rb").read()
    if len(data) % 64:
        sys.exit(f"{len(data)} bytes are no whole number of records")
    for at in range(0, len(data), 64):
        part = data[at : at + 64]
        mark, n = chr(part[0]), part[1:8]
        if mark not in marks or not n.isdigit() or part != record(mark, int(n)):
            sys.exit(f"at {at}: {part!r}")
        if len(marks) == 1 and int(n) != at // 64:
            sys.exit(f"at {at}: record {int(n)}")
else:
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for n in range(int(sys.argv[3])):
        if os.write(fd, record(sys.argv[2], n)) != 64:
            sys.exit("a short write")
    os.close(fd)
