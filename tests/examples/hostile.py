"""What a dependency that turned bad tries, once it runs. Each attempt is told by name.

WITNESS is a file of the host, DECOY a process of the host, SOCKETS the server's directory.
"""

import ctypes
import json
import os
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
WITNESS = os.environ["WITNESS"]
DECOY = int(os.environ["DECOY"])
SOCKETS = os.environ["SOCKETS"]

# x86_64 and the numbers that all newer calls share.
CALLS = {"add_key": 248, "perf_event_open": 298, "bpf": 321, "finit_module": 313, "kexec_load": 246,
         "io_uring_setup": 425, "userfaultfd": 323, "open_by_handle_at": 304, "open_tree": 428}
if os.uname().machine == "aarch64":
    CALLS.update({"add_key": 217, "perf_event_open": 241, "bpf": 280, "finit_module": 273, "kexec_load": 104,
                  "userfaultfd": 282, "open_by_handle_at": 265})

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
PTRACE_ATTACH, PTRACE_DETACH = 16, 17


def checked(value):
    if value == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return value


def call(name, *args):
    return checked(libc.syscall(CALLS[name], *args))


def in_child(attempt):
    """Some attempts change the process that makes them."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            attempt()
            os.write(write, b"done")
        except BaseException as error:
            os.write(write, repr(error).encode()[:200])
        os._exit(0)
    os.close(write)
    said = os.read(read, 200)
    os.close(read)
    os.waitpid(pid, 0)
    if said != b"done":
        raise OSError(said.decode() or "it was killed")


def read(path):
    with open(path, "rb") as file:
        file.read(1)


def leave_by_chroot():
    inner = "/tmp/inner"
    os.makedirs(inner, exist_ok=True)
    root = os.open("/", os.O_RDONLY)
    os.chroot(inner)
    os.fchdir(root)
    for _ in range(100):
        os.chdir("..")
    os.chroot(".")
    read(WITNESS)


def through_processes():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for way in ("root", "cwd"):
            try:
                return read(f"/proc/{pid}/{way}{WITNESS}")
            except OSError:
                pass
    raise OSError("no process leads there")


def inherited():
    for fd in os.listdir("/proc/self/fd"):
        if int(fd) > 2:
            try:
                return os.close(os.open("../../.." + WITNESS, os.O_RDONLY, dir_fd=int(fd)))
            except OSError:
                pass
    raise OSError("no descriptor leads there")


def attach():
    checked(libc.ptrace(PTRACE_ATTACH, DECOY, 0, 0))
    os.waitpid(DECOY, 0)
    checked(libc.ptrace(PTRACE_DETACH, DECOY, 0, 0))


def event():
    # PERF_TYPE_SOFTWARE, its CPU clock, of the whole system.
    attr = ctypes.create_string_buffer(struct.pack("=IIQ", 1, 112, 0), 112)
    call("perf_event_open", attr, -1, 0, -1, 0)


def node():
    os.mknod("/tmp/memory", 0o20600, os.makedev(1, 1))
    os.unlink("/tmp/memory")


def mount():
    checked(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None))
    checked(libc.umount(b"/mnt"))


def connect(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)


def nfs():
    for port in (111, 2049):
        try:
            return socket.create_connection(("127.0.0.1", port), 2).close()
        except OSError:
            pass
    raise OSError("nothing listens")


def namespace(path):
    checked(libc.setns(os.open(path, os.O_RDONLY), 0))


def write(path, text="x"):
    with open(path, "w") as file:
        file.write(text)


# Those that do no harm where they succeed.
HARMLESS = {
    "read a file of the host": lambda: read(WITNESS),
    "leave by a second chroot": lambda: in_child(leave_by_chroot),
    "another process's root": through_processes,
    "descriptors left open": inherited,
    "ptrace a process of the host": attach,
    "signal a process of the host": lambda: os.kill(DECOY, 0),
    "make a device": node,
    "mount": lambda: in_child(lambda: (checked(libc.unshare(CLONE_NEWNS)), mount())),
    "a user namespace": lambda: in_child(lambda: checked(libc.unshare(CLONE_NEWUSER))),
    "a network namespace": lambda: in_child(lambda: checked(libc.unshare(CLONE_NEWNET))),
    "pid 1's mounts": lambda: in_child(lambda: namespace("/proc/1/ns/mnt")),
    "a raw packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "the kernel's keys": lambda: call("add_key", b"user", b"pk", b"x", 1, -1),
    "watch the system's events": event,
    "a BPF map": lambda: call("bpf", 0, ctypes.create_string_buffer(struct.pack("=IIII", 2, 4, 4, 1), 72), 72),
    "detached mounts": lambda: call("open_tree", -100, b"/", 1),
    "become root": lambda: in_child(lambda: os.setuid(0)),
    "the server's control socket": lambda: connect(f"{SOCKETS}/control.sock"),
    "the server's NFS socket": lambda: connect(f"{SOCKETS}/nfs.sock"),
}

# These change something, where they are let.
HARMFUL = {
    "NFS on the network": nfs,
    "io_uring": lambda: call("io_uring_setup", 4, ctypes.create_string_buffer(120)),
    "userfaultfd": lambda: call("userfaultfd", 0),
    "load a module": lambda: call("finit_module", os.open("/dev/null", os.O_RDONLY), b"", 0),
    "another kernel": lambda: call("kexec_load", 0, 0, None, 0),
    "files by handle": lambda: call("open_by_handle_at", -100, ctypes.create_string_buffer(136), 0),
    "the host's name": lambda: checked(libc.sethostname(b"taken", 5)),
    "the core pattern": lambda: write("/proc/sys/kernel/core_pattern", "|/tmp/x"),
    "the system request key": lambda: write("/proc/sysrq-trigger", "h"),
    "the kernel's memory": lambda: read("/proc/kcore"),
    "its own program": lambda: write("/srv/app/app.py"),
    "its dependencies": lambda: write("/srv/app/venv/lib/python3.11/site-packages/flask/app.py"),
    "the list of users": lambda: write("/etc/passwd"),
    "the last user's mistakes": lambda: read("/etc/shadow"),
}


def attempts(those):
    outcome = {}
    for name, attempt in those.items():
        try:
            attempt()
            outcome[name] = "succeeded"
        except Exception as error:
            outcome[name] = f"refused: {error}"
    return outcome


if __name__ == "__main__":
    print(json.dumps(attempts(HARMLESS)))
else:
    # As a module that the application imports: it tries all of it at once.
    FOUND = attempts(HARMLESS | HARMFUL)
