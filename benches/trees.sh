# shellcheck shell=bash
# Looking into trees, and what they take on disk, each beside a peer that does the same work in the same run.

. benches/main.sh
peers=(casync curl mmdebstrap ostree rsync)
suite=(differ changed cold)

prepare() {
  export POCKER_STORE=$bench/store POCKER_SOCKET_DIR=$bench/s POCKER_BROWSE=$bench/chroot
  pocker=$top/target/release/pocker
  mkdir -p "$bench/context"
  many "$bench/many"
  cp -a "$bench/many" "$bench/other"
  for i in 1 2 3 4 5 6 7 8 9 10; do echo "another $i" >"$bench/other/$i/7"; done
  tar -C "$bench/many" -cf "$bench/many.tar" .
  tar -C "$bench/other" -cf "$bench/other.tar" .
  "$pocker" import "$bench/many.tar" many >>"$bench/log" 2>&1 && "$pocker" import "$bench/other.tar" other >>"$bench/log" 2>&1 ||
    die "import failed" "its output is in $bench/log"
}

clean() {
  "$pocker" serve --stop >>"$bench/log" 2>&1
  grep -o " $bench/[^ ]*" /proc/self/mounts | sort -r | xargs -r umount -l 2>/dev/null
}

# Microseconds from a request sent to its reply's last byte.
asked() {
  api -o "$bench/answer" -w '%{time_total} %{time_pretransfer}\n' "http://x$1" | awk '{ print ($1 - $2) * 1e6 }'
}

told() {
  [ "$(grep -o "$1" "$bench/answer" | wc -l)" = 10 ] || die "the diff told something else" "its answer is in $bench/answer"
}

differ() {
  local old new
  old=$(snapshot_of many) new=$(snapshot_of other)
  ostree --repo="$bench/diffs" init --mode=bare
  ostree --repo="$bench/diffs" commit -b many --tree=dir="$bench/many" >>"$bench/log" 2>&1
  ostree --repo="$bench/diffs" commit -b other --tree=dir="$bench/other" >>"$bench/log" 2>&1
  differ_server() { asked "/v1/diff/$old/$new?skip=0"; }
  differ_command() { timed "$pocker" diff many other; }
  differ_ostree() { timed ostree --repo="$bench/diffs" diff many other; }
  differ_diff() { timed sh -c 'diff -rq "$0" "$1"; [ $? = 1 ]' "$bench/many" "$bench/other"; }
  race differ differ_server differ_command differ_ostree differ_diff
  differ_server >/dev/null && told '"kind":"file"'
  row "diff, 10 files of 10 000, in the server" ms "$(ms differ_server)" "< 5" "ostree diff" "$(ms differ_ostree)" "diff -rq" "$(ms differ_diff)"
  row "diff, 10 files of 10 000, by the command" ms "$(ms differ_command)" "" "ostree diff" "$(ms differ_ostree)" "diff -rq" "$(ms differ_diff)"
}

# A work tree in which ten files were changed, beside a copy of which all is looked at.
changed() {
  local made id
  made=$(api "http://x/v1/trees" -d "{\"base\":\"$(snapshot_of many)\",\"purpose\":\"build\",\"label\":\"bench\",\"pid\":$$}")
  id=$(field id <<<"$made")
  mkdir -p "$bench/ten"
  for i in 1 2 3 4 5 6 7 8 9 10; do mkdir -p "$bench/ten/$i" && cp "$bench/other/$i/7" "$bench/ten/$i/7"; done
  tar -C "$bench/ten" -cf "$bench/ten.tar" .
  api -T "$bench/ten.tar" -o /dev/null "http://x/v1/trees/$id/archive?dest=2f" >>"$bench/log" 2>&1
  changed_server() { asked "/v1/look/w$id/diff"; }
  changed_rsync() { timed rsync -rn --delete -i "$bench/other/" "$bench/many/"; }
  race changed changed_server changed_rsync
  changed_server >/dev/null && told '"kind":"file"'
  row "what a running tree changed, 10 files of 10 000" ms "$(ms changed_server)" "< 5" "rsync -n" "$(ms changed_rsync)"
}

# Five variants of one root, as in the main suite's row, and then cold. Each variant has other times on a fifth of the files: ostree
# keeps no times, and casync, which does, has them in the stream that it cuts into chunks. So it is there both with them and without.
cold() {
  local n size
  local timeless=(--without=all --with={32bit-uids,permissions,symlinks,device-nodes,fifos,xattrs})
  say "making a Debian root"
  mmdebstrap --variant=minbase --include=ca-certificates,python3,less "$deb" "$bench/root.tar" >>"$bench/log" 2>&1 ||
    die "mmdebstrap failed" "its output is in $bench/log"
  mkdir -p "$bench/root" "$bench/five"
  tar -C "$bench/root" -xf "$bench/root.tar" --exclude='./dev/*'
  tar -C "$bench/root" -cf "$bench/plain.tar" .
  ostree --repo="$bench/five/repo" init --mode=bare
  (
    export POCKER_STORE=$bench/five/store POCKER_SOCKET_DIR=$bench/five/s
    "$pocker" import "$bench/plain.tar" base
    ostree --repo="$bench/five/repo" commit -b base --tree=tar="$bench/plain.tar" --tar-autocreate-parents
    casync make --store="$bench/five/castr" "$bench/five/base.caidx" "$bench/root"
    casync make "${timeless[@]}" --store="$bench/five/cast0" "$bench/five/base0.caidx" "$bench/root"
    for n in 0 1 2 3 4; do
      change="find /usr /var -xdev -type f | LC_ALL=C sort | awk 'NR % 5 == $n' | xargs -d '\\n' touch -d 2001-01-01 && mkdir /own && for i in 1 2 3 4 5 6 7 8 9 10; do echo $n \$i >/own/\$i; done"
      printf 'FROM base\nEXEC %s\nRUN true\n' "$change" >"$bench/five/pockerfile"
      "$pocker" create --no-browse -f "$bench/five/pockerfile" "v$n" "$bench/context"
      rm -rf "$bench/five/tree" && mkdir "$bench/five/tree"
      "$pocker" cp -a "v$n:/." "$bench/five/tree"
      tar -C "$bench/five/tree" -cf "$bench/five/tar" .
      ostree --repo="$bench/five/repo" commit -b "v$n" --tree=tar="$bench/five/tar" --tar-autocreate-parents
      casync make --store="$bench/five/castr" "$bench/five/v$n.caidx" "$bench/five/tree"
      casync make "${timeless[@]}" --store="$bench/five/cast0" "$bench/five/v${n}0.caidx" "$bench/five/tree"
    done
    sleep 2
    "$pocker" serve --stop
  ) >>"$bench/log" 2>&1
  sync
  mib() { [ -d "$1" ] && du -s --block-size=1K "$1" | awk '{ printf "%.4g", $1 / 1024 }'; }
  size=$(stat -c %s "$bench/plain.tar")
  goal() { awk -v s="$size" -v g="$1" 'BEGIN { printf "%.4g", g * s / 217e6 }'; }
  row "five variants of a $((size / 1000000)) MB root on disk" MiB "$(mib "$bench/five/store")" "<= $(goal 204)" "ostree" "$(mib "$bench/five/repo")" "casync" "$(mib "$bench/five/castr")" "casync, no times" "$(mib "$bench/five/cast0")"
  (
    export POCKER_STORE=$bench/five/store POCKER_SOCKET_DIR=$bench/five/s
    "$pocker" gc --compress cold --cold-after 0s && "$pocker" du && "$pocker" fsck && "$pocker" serve --stop
  ) >>"$bench/log" 2>&1 || { failed=1; say "gc --compress cold failed"; }
  sync
  row "the same, compressed as cold" MiB "$(mib "$bench/five/store")" "<= $(goal 120)" "ostree" "$(mib "$bench/five/repo")" "casync" "$(mib "$bench/five/castr")" "casync, no times" "$(mib "$bench/five/cast0")"
}
