# shellcheck shell=bash
# The care of the store: collecting garbage, checking, opening after a kill; each beside a peer
# that does the same work in the same run, where there is one.

peers=(ostree mmdebstrap ca-certificates iproute2 perl-base curl coreutils)
suite=(collect beside hash image reopen)
rounds=${BENCH_ROUNDS:-3}
deb=bookworm
server_core=0-1 ours=
. benches/contestants.sh

prepare() {
  cargo build --locked --release -p pocker-load >&2 || exit 1
  pocker=$top/target/release/pocker loader=$top/target/release/pocker-load
  bench_memory=$bench
  network
  say "making a Debian root, and 100 000 files"
  mmdebstrap --variant=minbase --include=ca-certificates,python3,less "$deb" "$bench/root.tar" >>"$bench/log" 2>&1 ||
    die "mmdebstrap failed" "its output is in $bench/log"
  # 99 000 files of some 200 bytes in 1000 directories: 100 000 objects.
  mkdir "$bench/many"
  perl -e 'srand 1; chdir $ARGV[0] or die; for $d (0..999) { mkdir $d; for $f (0..98) { open F, ">", "$d/$f" or die; print F pack("N", rand 2**32) x (25 + rand 50), "$d $f\n" } }' "$bench/many"
  tar -C "$bench/many" -cf "$bench/many.tar" .
}

clean() {
  stop_all
  "$pocker" serve --stop >>"$bench/log" 2>&1
  kill "$holder" 2>/dev/null
  grep -o " $bench/[^ ]*" /proc/self/mounts | sort -r | xargs -r umount -l 2>/dev/null
}

# A store of the name $1, empty the first time, with a server of its own.
in_store() {
  stop_all
  export POCKER_STORE=$bench/store.$1 POCKER_SOCKET_DIR=$bench/s POCKER_BROWSE=$bench/browse
  mkdir -p "$POCKER_SOCKET_DIR" "$POCKER_BROWSE"
  serve_store || die "the server does not start" "$bench/log has why"
}

ms() { [ -z "${took[$1]}" ] || scaled "${took[$1]}" 1000; }

collect() {
  local repo=$bench/ostree.many
  in_store many
  "$pocker" import "$bench/many.tar" kept >>"$bench/log" 2>&1
  ostree --repo="$repo" init --mode=bare >>"$bench/log" 2>&1
  collect_pocker() {
    # Other files than those that stay: a byte more each.
    perl -e 'chdir $ARGV[0] or die; for $d (0..999) { for $f (0..98) { open F, ">>", "$d/$f" or die; print F "x" } }' "$bench/many"
    tar -C "$bench/many" -cf "$bench/trash.tar" .
    "$pocker" import "$bench/trash.tar" trash >>"$bench/log" 2>&1 && "$pocker" rm trash >>"$bench/log" 2>&1 || return 1
    timed "$pocker" gc
  }
  collect_ostree() {
    ostree --repo="$repo" commit -b trash --tree=tar="$bench/trash.tar" --tar-autocreate-parents >>"$bench/log" 2>&1 || return 1
    ostree --repo="$repo" refs --delete trash >>"$bench/log" 2>&1
    timed ostree --repo="$repo" prune --refs-only
  }
  mark_pocker() { timed "$pocker" gc; }
  race "gc" collect_pocker collect_ostree mark_pocker
  row "gc: 100 000 objects of 200 000 go" ms "$(ms collect_pocker)" "< 2000" "ostree prune" "$(ms collect_ostree)"
  row "gc: none of 100 000 goes" ms "$(ms mark_pocker)" "< 2000"
}

# GETATTR with 16 calls under way, alone and while garbage is collected again and again.
beside() {
  local line collecting value how
  in_store many
  "$pocker" create --help >/dev/null
  "$pocker" import "$bench/many.tar" kept >>"$bench/log" 2>&1
  for how in alone beside; do : >"$bench/$how"; done
  for ((round = 0; round < rounds; round++)); do
    for how in alone beside; do
      say "  GETATTR $how $((round + 1))/$rounds"
      collecting=
      if [ $how = beside ]; then
        (while :; do "$pocker" gc >/dev/null 2>>"$bench/log" || exit; done) &
        collecting=$!
      fi
      line=$(inside timeout 60 "$loader" getattr --port 20490 --export /chroot/kept/run --pid "$ours" --nodes 10000 --depth 16 --seconds 3 2>>"$bench/log")
      [ -z "$collecting" ] || { kill $collecting; wait $collecting; } 2>/dev/null
      sed -n 's/.*"per_second":\([0-9.e+]*\).*/\1/p' <<<"$line" >>"$bench/$how"
    done
  done
  value=
  [ "$(wc -l <"$bench/beside")" != "$rounds" ] || value=$(median <"$bench/beside" | awk '{ printf "%.0f", $1 }')
  row "GETATTR beside gc" calls/s "$value" ">= 0.9 x" "alone" "$(median <"$bench/alone" | awk '{ printf "%.0f", $1 }')"
}

hash() {
  local bytes=$((1 << 30))
  in_store large
  mkdir -p "$bench/large"
  for n in 1 2 3 4 5 6 7 8; do head -c $((bytes / 8)) /dev/urandom >"$bench/large/$n"; done
  tar -C "$bench/large" -cf - . | "$pocker" import - large >>"$bench/log" 2>&1
  hash_pocker() { timed "$pocker" fsck; }
  # As many processes as there are processors, as the check has threads.
  hash_sum() { timed sh -c 'printf "%s\n" "$1"/* | xargs -P "$(nproc)" -n 1 sha256sum' sh "$bench/large"; }
  hash_sum >/dev/null
  race "hashing" hash_pocker hash_sum
  rate() { [ -z "${took[$1]}" ] || awk -v b=$bytes -v us="${took[$1]}" -v n="$(nproc)" 'BEGIN { printf "%.3g", b / us / 1000 / n }'; }
  row "fsck of 1 GiB in 8 files, by processor" GB/s "$(rate hash_pocker)" ">= 1" "sha256sum" "$(rate hash_sum)"
  rm -rf "$bench/large" "$bench/store.large"
}

image() {
  local repo=$bench/ostree.root
  in_store root
  "$pocker" import "$bench/root.tar" root >>"$bench/log" 2>&1
  ostree --repo="$repo" init --mode=bare >>"$bench/log" 2>&1
  # It takes no device nodes.
  tar --delete -f "$bench/root.tar" ./dev >>"$bench/log" 2>&1
  ostree --repo="$repo" commit -b root --tree=tar="$bench/root.tar" --tar-autocreate-parents >>"$bench/log" 2>&1
  image_pocker() { timed "$pocker" fsck; }
  image_ostree() { timed ostree --repo="$repo" fsck --quiet; }
  race "fsck of a Debian root" image_pocker image_ostree
  row "fsck of a Debian root" ms "$(ms image_pocker)" "< 1000" "ostree fsck" "$(ms image_ostree)"
}

# A server killed with 100 000 rows of changes of one tree, until another one answers for it.
reopen() {
  local snapshot export_path
  in_store root
  "$pocker" import "$bench/root.tar" root >>"$bench/log" 2>&1
  snapshot=$(control http://x/v1/pockers/root | grep -o '"snapshot":"[0-9a-f]*"' | tail -n 1 | cut -d'"' -f4)
  export_path=$(control http://x/v1/trees -d "{\"base\":\"$snapshot\",\"purpose\":\"build\",\"label\":\"bench\",\"pid\":$$}" |
    sed -n 's/.*"path":"\([^"]*\)".*/\1/p')
  call() { inside timeout 60 "$loader" "$1" --port 20490 --export "$export_path" --pid "$ours" --seconds 0 --nodes 10 "${@:2}" >>"$bench/log" 2>&1; }
  # 50 000 files: a row for each, and one for its name.
  call setattr --count 50000 || { say "the files could not be made"; failed=1; return; }
  again() {
    become taskset -c $server_core "$pocker" serve --listen 127.0.0.1:20490 >>"$bench/log" 2>&1 &
    ours=$!
    echo $ours >"$bench/ours"
    until call getattr; do sleep 0.01; done
  }
  reopen_pocker() {
    ours=$(cat "$bench/ours")
    # Right after a change, so that the journal has rows that the database has not.
    call setattr --count 2000
    kill -9 "$ours"
    while kill -0 "$ours" 2>/dev/null; do sleep 0.01; done
    timed again
  }
  echo "$ours" >"$bench/ours"
  race "reopen" reopen_pocker
  ours=$(cat "$bench/ours")
  row "answered for 100 000 changes after kill -9" ms "$(ms reopen_pocker)" "< 1000"
}
