"""A history for git fast-import on standard output: history.py COMMITS SEED"""
import random
import sys

commits, seed = int(sys.argv[1]), int(sys.argv[2])
print(f"seed {seed}", file=sys.stderr)
rng = random.Random(seed)
out = sys.stdout.buffer
tips, files = {}, {"main": [], "side": [], "other": []}


def data(text):
    out.write(b"data %d\n%s\n" % (len(text), text))


for n in range(1, commits + 1):
    branch = "main" if n <= 10 or rng.random() < 0.6 else rng.choice(["side", "other"])
    out.write(b"commit refs/heads/%s\nmark :%d\n" % (branch.encode(), n))
    out.write(b"committer A Committer <committer@example.org> %d +0000\n" % (1_600_000_000 + n * 60))
    data(b"commit %d" % n)
    if branch not in tips and "main" in tips:
        out.write(b"from :%d\n" % tips["main"])
        files[branch] = list(files["main"])
    elif branch in tips and branch != "main" and rng.random() < 0.1 and tips["main"] > tips[branch]:
        out.write(b"from :%d\nmerge :%d\n" % (tips[branch], tips["main"]))
    tips[branch] = n
    mine = files[branch]
    for _ in range(rng.randrange(1, 6)):
        if mine and rng.random() < 0.6:
            name = rng.choice(mine)
        else:
            name = f"src/m{rng.randrange(30)}/f{rng.randrange(1000)}.txt"
            mine.append(name)
        mode = rng.choice([b"100644", b"100644", b"100644", b"100755", b"120000"])
        out.write(b"M %s inline %s\n" % (mode, name.encode()))
        if mode == b"120000":
            data(b"f%d.txt" % rng.randrange(1000))
        else:
            lines = (b"%d %d\n" % (k, rng.randrange(1 << 30)) for k in range(rng.randrange(1, 200)))
            data(b"".join(lines))
    if len(mine) > 20 and rng.random() < 0.2:
        name = mine.pop(rng.randrange(len(mine)))
        if name not in mine:
            out.write(b"D %s\n" % name.encode())
    out.write(b"\n")
for name in tips:
    out.write(b"reset refs/heads/%s\nfrom :%d\n\n" % (name.encode(), tips[name]))
out.write(b"done\n")
