# shellcheck shell=bash
# In the guest: kernel nfsd beside this server, under the same load by the same program, each
# through its own TCP listener, both over a file system in memory and over the same disk.
# Emulated (TCG): no figure here means anything but beside the others of its row.

peers=(rpcbind e2fsprogs busybox-static kmod cpio qemu-system-x86)
suite=(calls)
# What ours is to be, of kernel nfsd's calls a second.
durable_goal=1

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
  local lines op depth who line value other
  say "  the guest runs; this takes some minutes"
  tests/vm/run --add "$bench/add" --disk 2048 --patience "${BENCH_PATIENCE:-1500}" "$pocker" benches/guest/in >"$bench/said" 2>>"$bench/log" || {
    say "FAILED: the guest's script"
    grep -a -A 12 FAILED "$bench/said" >&2
    failed=1
    return
  }
  lines=$(grep '^{' "$bench/said")
  [ -z "$json" ] || printf '%s\n' "$lines"
  # label op depth -> the median of calls a second, and calls a flush of the disk.
  while read -r op depth; do
    compare "$op" "$depth" ours-memory knfsd-memory ">= 1 x"
  done < <(pairs ours-memory)
  while read -r op depth; do
    compare "$op" "$depth" ours-disk knfsd-disk ""
  done < <(pairs ours-disk)
  while read -r op depth; do
    compare "$op" "$depth" ours-volume knfsd-disk ">= $durable_goal x"
  done < <(pairs ours-volume)
}

pairs() { grep "\"label\":\"$1\"" <<<"$lines" | sed -n 's/.*"depth":\([0-9]*\).*"op":"\([a-z0-9]*\)".*/\2 \1/p' | awk '!seen[$0]++'; }

# number LABEL OP DEPTH MEMBER
number() {
  grep "\"label\":\"$1\"" <<<"$lines" | grep "\"op\":\"$2\"" | grep "\"depth\":$3," | sed -n "s/.*\"$4\":\([0-9.e+-]*\).*/\1/p" | median
}

compare() {
  local op=$1 depth=$2 ours=$3 theirs=$4 goal=$5 flushes
  row "$op, $depth under way, $ours" "1/s" "$(number "$ours" "$op" "$depth" per_second)" "$goal" \
    "$theirs" "$(number "$theirs" "$op" "$depth" per_second)"
  for flushes in "$ours" "$theirs"; do
    case $op-$flushes in
      create-*-disk | create-*-volume)
        row "$op, $depth under way: calls a flush of the disk" "" "$(number "$flushes" "$op" "$depth" calls_a_flush)" "" ;;
    esac
  done
}
