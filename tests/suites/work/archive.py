"""An archive of made-up files to standard output: archive.py COUNT SEED

Directories, files of 0 to 16 KiB and some of a megabyte, symlinks, hard links, FIFOs, names that
are awkward, every kind of mode, owners, and times with nanoseconds.
"""
import io
import random
import sys
import tarfile

count, seed = int(sys.argv[1]), int(sys.argv[2])
print(f"seed {seed}", file=sys.stderr)
rng = random.Random(seed)
noise = rng.randbytes(1 << 20)
out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT)
odd = ["with space", "tab\tinside", "ünïcödé", "-dash", "new\nline", "x" * 200, "quote'\"", "back\\slash"]


def entry(name, kind, mode):
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, mode
    info.uid, info.gid = rng.choice([(0, 0), (1, 1), (1000, 1000), (65534, 65534), (3_000_000_000, 7)])
    # A directory's time in the future would stay there when its names change: clients see changes
    # by it, so the server's goes only forward.
    when = rng.randrange(1, 1_700_000_000 if kind == tarfile.DIRTYPE else 2**31 - 1)
    # As tarfile itself would write it: a float has no room for nanoseconds.
    info.mtime = when
    info.pax_headers = {"mtime": f"{when}.{rng.randrange(10**9):09}"}
    return info


dirs, files = ["d"], []
out.addfile(entry("d", tarfile.DIRTYPE, 0o755))
for n in range(count):
    if n % 50 == 0:
        parent = rng.choice(dirs[-20:])
        if parent.count("/") > 8:
            parent = "d"
        name = f"{parent}/{rng.choice(odd)}{n}" if rng.random() < 0.2 else f"{parent}/d{n}"
        dirs.append(name)
        out.addfile(entry(name, tarfile.DIRTYPE, rng.choice([0o755, 0o700, 0o1777, 0o2775])))
    name = f"{dirs[-1]}/{rng.choice(odd)}-{n}" if rng.random() < 0.05 else f"{dirs[-1]}/f{n}"
    kind = rng.random()
    if kind < 0.05:
        info = entry(name, tarfile.SYMTYPE, 0o777)
        info.linkname = rng.choice(files[-100:] or ["nowhere"]) * rng.choice([1, 1, 1, 4])
        info.linkname = info.linkname[:1000]
        out.addfile(info)
    elif kind < 0.08 and files:
        info = entry(name, tarfile.LNKTYPE, 0o644)
        info.linkname = rng.choice(files[-200:])
        out.addfile(info)
    elif kind < 0.085:
        out.addfile(entry(name, tarfile.FIFOTYPE, 0o640))
    else:
        info = entry(name, tarfile.REGTYPE, rng.choice([0o644, 0o600, 0o755, 0o4755, 0o444, 0o000]))
        size = rng.choice([0, rng.randrange(200), rng.randrange(4096), rng.randrange(16384)])
        if rng.random() < 0.0005:
            size = 1 << 20
        at = rng.randrange(len(noise) - size + 1)
        info.size = size
        out.addfile(info, io.BytesIO(noise[at : at + size]))
        files.append(name)
out.close()
