"""A large directory: names.py make DIR COUNT, names.py read DIR STOP, names.py read-until-gone DIR STOP

make    COUNT names of which every hundredth is to stay
read    reads the directory again and again until STOP exists: no name twice in a pass, each
        that stays in every pass
"""
import errno
import os
import sys

case, path = sys.argv[1:3]
if case == "make":
    count = int(sys.argv[3])
    os.mkdir(path)
    for n in range(count):
        name = f"stay{n}" if n % 100 == 0 else f"name{n}"
        os.close(os.open(f"{path}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    sys.exit(0)

until_gone, stop = case == "read-until-gone", sys.argv[3]
passes, stays, last = 0, None, False
while not last:
    # One more pass after the end, so that there is always a last one that nothing disturbs.
    last = os.path.exists(stop)
    try:
        names = [entry.name for entry in os.scandir(path)]
    except OSError as e:
        # RFC 1813 3.3.16: a directory that is gone is NFS3ERR_STALE to who had it open.
        if until_gone and e.errno in (errno.ENOENT, errno.ESTALE):
            break
        raise
    seen = set(names)
    if len(seen) != len(names):
        twice = sorted(n for n in seen if names.count(n) > 1)[:10]
        sys.exit(f"pass {passes}: {len(names) - len(seen)} names twice, {twice}")
    here = {name for name in names if name.startswith("stay")}
    if stays is None:
        stays = here
    if not until_gone and here != stays:
        sys.exit(f"pass {passes}: of the names that stay {len(stays - here)} are missing: {sorted(stays - here)[:10]}")
    passes += 1
if not until_gone and (not stays or any(n.startswith("name") for n in names)):
    sys.exit(f"the last pass saw {len(names)} names, {len(stays or ())} of which stay")
print(f"figure remove-while-read: {passes} passes")
