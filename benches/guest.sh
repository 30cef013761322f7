# shellcheck shell=bash
# In the guest: kernel nfsd beside this server, under the same load by the same program, each
# through its own TCP listener, both over a file system in memory and over the same disk (QEMU's
# writeback: what the guest flushes is flushed here, whoever asks).
# Emulated (TCG): no figure here means anything but beside the others of its row.

peers=(rpcbind e2fsprogs busybox-static kmod cpio qemu-system-x86)
suite=(calls)
# What a durable volume is to be, of kernel nfsd's calls a second on an export that is sync.
durable_goal=1
rounds=${BENCH_ROUNDS:-3}

prepare() {
  cargo build --locked --release -p pocker-load >&2 || exit 1
  pocker=$top/target/release/pocker
  # The guest's root has busybox; what the kernel's server wants beside itself is a portmapper.
  local add=$bench/add program
  mkdir -p "$add"/{etc,usr/bin,usr/sbin}
  cp "$top/target/release/pocker-load" "$(command -v rpcbind)" "$(command -v curl)" "$add/usr/bin/"
  cp /etc/netconfig "$add/etc/"
  printf 'root:x:0:0:root:/root:/bin/sh\n_rpc:x:100:65534::/run/rpcbind:/bin/false\nnobody:x:65534:65534::/:/bin/false\n' >"$add/etc/passwd"
  printf 'tcp 6 TCP\nudp 17 UDP\n' >"$add/etc/protocols"
  printf 'sunrpc 111/tcp portmapper\nsunrpc 111/udp portmapper\n' >"$add/etc/services"
  for program in "$add"/usr/bin/*; do
    ldd "$program" | grep -oE '/[^ ]+'
  done | sort -u | while read -r lib; do
    mkdir -p "$add$(dirname "$lib")"
    cp -L "$lib" "$add$lib"
  done
}

clean() { :; }

calls() {
  local lines op depth
  { echo "rounds=$rounds"; cat benches/guest/in; } >"$bench/in"
  say "  the guest runs; this takes some minutes"
  tests/vm/run --add "$bench/add" --written-disk 2048 --patience "${BENCH_PATIENCE:-1500}" "$pocker" "$bench/in" >"$bench/said" 2>>"$bench/log" || {
    say "FAILED: the guest's script"
    grep -a -A 20 FAILED "$bench/said" >&2
    tail -n 5 "$bench/log" >&2
    failed=1
    return
  }
  lines=$(grep '^{' "$bench/said")
  [ -z "$json" ] || printf '%s\n' "$lines"
  while read -r op depth; do
    compare "$op" "$depth" ours-volume knfsd-disk ">= $durable_goal x"
    syncs "$op" "$depth"
  done < <(pairs ours-volume)
  while read -r op depth; do
    compare "$op" "$depth" ours-disk knfsd-disk ""
  done < <(pairs ours-disk)
  while read -r op depth; do
    compare "$op" "$depth" ours-memory knfsd-memory ""
  done < <(pairs ours-memory)
}

# OP DEPTH of each load that the label had.
pairs() { grep "\"label\":\"$1\"" <<<"$lines" | sed -n 's/.*"depth":\([0-9]*\).*"op":"\([a-z0-9]*\)".*/\2 \1/p' | awk '!seen[$0]++'; }

these() { grep "\"label\":\"$1\"" <<<"$lines" | grep "\"op\":\"$2\"" | grep "\"depth\":$3,"; }

# rate LABEL OP DEPTH: the median of calls (files, entries) a second, or of MB. With errors it is no rate.
rate() {
  these "$@" | grep -q '"errors":0,' || return 0
  ! these "$@" | grep -qv '"errors":0,' || return 0
  scaled "$(these "$@" | sed -n 's/.*"per_second":\([0-9.e+-]*\).*/\1/p' | median)" "$(case $2 in create*) echo 1 ;; *4k | *1m) echo 1e6 ;; *) echo 1 ;; esac)"
}

compare() {
  local op=$1 depth=$2 ours=$3 theirs=$4 goal=$5 unit
  case $op in create*) unit=files/s ;; *4k | *1m) unit=MB/s ;; readdirplus) unit=names/s ;; *) unit=1/s ;; esac
  row "$op, $depth under way, $ours" "$unit" "$(rate "$ours" "$op" "$depth")" "$goal" \
    "$theirs" "$(rate "$theirs" "$op" "$depth")"
}

# Of what is made durable: calls that waited for the disk a fdatasync (pocker serve --stats),
# and calls a flush of the disk beside the kernel's. All rounds together.
syncs() {
  local op=$1 depth=$2
  case $op in create* | remove | rename | setattr | stable4k) ;; *) return ;; esac
  row "$op, $depth under way: calls a fdatasync" "" "$(per ours-volume "$op" "$depth" 3 "4 5")" ""
  row "$op, $depth under way: calls a flush" "" "$(per ours-volume "$op" "$depth" 1 2)" "" \
    knfsd-disk "$(per knfsd-disk "$op" "$depth" 1 2)"
}

# per LABEL OP DEPTH OF BY: one of a load's counts by the sum of others: 1 its calls, 2 the disk's
# flushes, 3 calls that waited for the disk, 4 and 5 fdatasyncs of the journal and of files.
per() {
  these "$1" "$2" "$3" | sed -n 's/.*"calls":\([0-9]*\).*"counted":\[\([^]]*\)\].*/\1,\2/p' |
    awk -F, -v of="$4" -v by="$5" '{ all += $of; for (n = split(by, at, " "); n; n--) parts += $at[n] }
      END { if (NR) printf "%.3g", parts ? all / parts : 0 }'
}
