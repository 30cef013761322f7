# What the works share. Each tests/suites/work/NAME.sh does something that people do, in WORK_DIR
# (a mount of the server under test) and in WORK_LOCAL (a directory of a local file system) alike,
# and holds one against the other. WORK_ONE and WORK_TWO are two mounts of one export by clients
# that know nothing of each other. WORK_LONG is set for the long form. WORK_FILES holds what
# tests/suites/run made ready.
# shellcheck shell=bash

set -euo pipefail
export LC_ALL=C.UTF-8 HOME="${HOME:-/root}"
python=/usr/bin/python3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

failed() {
  echo "FAILED: $*"
  exit 1
}

# Seconds since the work began, for its figures.
since() { awk -v a="$1" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f s", b - a }'; }

# forget DIR: what the kernel has of its files' bytes goes. A client keeps what it wrote, and would
# compare that, whatever the server made of it.
forget() {
  find "$1" -xdev -type f -print0 | "$python" -c '
import os, sys
for name in sys.stdin.buffer.read().split(b"\0")[:-1]:
    fd = os.open(name, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
'
}

# listing DIR [times]: all that stat(2) says of a tree which is the same on every file system
# (a directory's size is its file system's own affair), which names are one file, and a digest of
# each file's bytes. With `times`, also when each was modified.
listing() {
  local dir=$1 times=
  [ "${2:-}" != times ] || times=' %T@'
  (
    cd "$dir"
    find . -mindepth 1 \( -type d -printf "%p %y %m %U %G %n$times\n" \) -o -printf "%p %y %m %U %G %n %s %l$times\n" | sort
    find . -type f -links +1 -printf '%i %p\n' | sort -k1,1 -k2 |
      awk '{ name = substr($0, length($1) + 2); if ($1 != last) { first = name; last = $1 } print name " is one with " first }' | sort
    forget .
    find . -type f -print0 | sort -z | xargs -0r sha256sum
  )
}

# same WHAT A B [times]: fails unless two trees are alike.
same() {
  listing "$2" "${4:-}" >"$WORK_LOCAL/.a"
  listing "$3" "${4:-}" >"$WORK_LOCAL/.b"
  diff "$WORK_LOCAL/.a" "$WORK_LOCAL/.b" | head -n 40 || true
  cmp -s "$WORK_LOCAL/.a" "$WORK_LOCAL/.b" || failed "$1: $2 is not as $3"
  echo "same: $1, $(wc -l <"$WORK_LOCAL/.a") lines"
}

# at_one_path DIR COMMAND…: runs it in DIR, which it sees under the same name wherever that is.
at_one_path() {
  local dir=$1
  shift
  mkdir -p "$WORK_LOCAL/.here"
  unshare -m bash -c 'mount --bind "$1" "$2" && cd "$2" && shift 2 && exec "$@"' bash "$dir" "$WORK_LOCAL/.here" "$@"
}

# until_it WHAT COMMAND…: polls until the command holds.
until_it() {
  local what=$1 deadline=$((SECONDS + 120))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || failed "$what: not within 120 s"
    sleep 0.05
  done
}
