# shellcheck shell=bash
# A host directory grafted (FUSE, as a run has it), served by a process of its own (`--graft-below`, `--user`), beside one
# that the server serves itself and beside the directory.

peers=(perl-base tar findutils coreutils)
suite=(new walk cold again large gone)
declare -A at=()

prepare() {
  cargo build --locked --release --example place >&2 || exit 1
  pocker=$top/target/release/pocker place=$top/target/release/examples/place
  printf 'graft_below = ["%s"]\nuser = "nobody"\n' "$bench" >"$bench/apart.conf"
  mkdir "$bench/disk" "$bench/root"
  tar -C "$bench/root" -cf "$bench/root.tar" .
  printf 'FROM root.tar sha256:%s\nRUN true\n' "$(sha256sum "$bench/root.tar" | cut -d' ' -f1)" >"$bench/Pockerfile"
  # What the exports live as long as.
  sleep infinity &
  export PLACE_OWNER=$!
  at[disk]=$bench/disk
  graft apart "$bench/apart.conf"
  graft one
}

# Mounts a directory of its own through a server of its own.
graft() {
  local store=$bench/store.$1
  mkdir -p "$bench/host.$1" "$bench/mnt.$1" "$bench/s.$1"
  (
    export POCKER_STORE=$store POCKER_SOCKET_DIR=$bench/s.$1 POCKER_BROWSE=$bench/chroot.$1 POCKER_MOUNT_HELPER=fuse
    [ -z "${2-}" ] || export POCKER_CONFIG=$2
    cd "$bench" && "$pocker" create base >>"$bench/log" 2>&1 &&
      "$place" graft base "$bench/host.$1" "$bench/mnt.$1" >>"$bench/log" 2>&1
  )
  mountpoint -q "$bench/mnt.$1" || die "the graft is not mounted" "$bench/log has why"
  at[$1]=$bench/mnt.$1
}

clean() {
  local which
  for which in apart one; do
    umount -l "$bench/mnt.$which" 2>/dev/null
    POCKER_STORE=$bench/store.$which POCKER_SOCKET_DIR=$bench/s.$which "$pocker" serve --stop >>"$bench/log" 2>&1
  done
  kill "$PLACE_OWNER" 2>/dev/null
  grep -o " $bench/[^ ]*" /proc/self/mounts | sort -r | xargs -r umount -l 2>/dev/null
}

# The three in turn: three LABEL UNIT BY COMMAND…, where COMMAND is given the directory.
three() {
  local label=$1 unit=$2 by=$3
  shift 3
  work=("$@")
  apart_() { timed "${work[@]}" "${at[apart]}"; }
  one_() { timed "${work[@]}" "${at[one]}"; }
  disk_() { timed "${work[@]}" "${at[disk]}"; }
  race "$label" apart_ one_ disk_
  local shown=()
  for who in apart_ one_ disk_; do
    shown+=("$([ -z "${took[$who]}" ] || scaled "${took[$who]}" "$by")")
  done
  row "$label" "$unit" "${shown[0]}" "none is set" same-process "${shown[1]}" directory "${shown[2]}"
}

# 2000 files of 1 to 8 KiB in 20 directories, which were not there.
fill() {
  rm -rf "$1/many" &&
    perl -e 'srand 1; mkdir $ARGV[0]; for $d (0..19) { mkdir "$ARGV[0]/$d"; for $f (0..99) { open F, ">", "$ARGV[0]/$d/$f" or die; print F pack("N", rand 2**32) x (256 + int rand 1792); close F or die } }' "$1/many"
}
# What the client knows of it is a second old at most.
forget() { sleep 1.2; }
listed() { find "$1/many" -printf '%s %T@\n'; }
packed() { tar -C "$1" -cf - many | cat >/dev/null; }
blob() { dd if=/dev/zero of="$1/blob" bs=1M count=256 conv=fsync; }
unblob() { dd if="$1/blob" of=/dev/null bs=1M; }
removed() { rm -rf "$1/many" && fill "$1" && rm -rf "$1/many"; }

new() { three "2000 small files made" ms 1000 fill; }
walk() { fill_all; forget; three "find over them, with attributes" ms 1000 listed; }
cold() { fill_all; forget; three "tar of them" ms 1000 packed; }
again() { fill_all; packed "${at[apart]}"; three "tar of them once more" ms 1000 packed; }
large() { three "256 MiB written and on disk" ms 1000 blob; three "256 MiB read" ms 1000 unblob; }
gone() { three "2000 small files made and removed" ms 1000 removed; }

fill_all() {
  local which
  for which in "${at[@]}"; do [ -e "$which/many" ] || fill "$which"; done
}
