# shellcheck shell=bash
# Sealed trees through the FUSE helper, beside the same files on the disk that the store is on.
# Cold: the page cache dropped, the server started anew and the tree mounted anew (neither timed).
# Warm: the same again, untimed once.

peers=(perl-base tar grep findutils)
suite=(walk archive search large again)

prepare() {
  export POCKER_STORE=$bench/store POCKER_SOCKET_DIR=$bench/s POCKER_BROWSE=$bench/chroot POCKER_MOUNT_HELPER=fuse
  pocker=$top/target/release/pocker
  disk=$bench/disk sealed=$bench/sealed
  [ "$(stat -f -c %T "$bench")" = ext2/ext3 ] || say "note: $bench is on $(stat -f -c %T "$bench"), not on ext4"
  mkdir -p "$sealed" "$bench/second"
  many "$disk/root"
  tar -C "$disk/root" -cf "$bench/many.tar" .
  "$pocker" import "$bench/many.tar" many >>"$bench/log" 2>&1 || die "import failed" "its output is in $bench/log"
  mkdir -p "$disk/large"
  head -c $((512 << 20)) /dev/urandom >"$disk/large/blob"
  tar -C "$disk/large" -cf "$bench/large.tar" .
  "$pocker" import "$bench/large.tar" large >>"$bench/log" 2>&1 || die "import failed" "its output is in $bench/log"
  rm "$bench/many.tar" "$bench/large.tar"
  sync
  : >"$bench/shown"
}

# 10 000 files of 1 to 8 KiB in 100 directories.
many() {
  mkdir -p "$1"
  perl -e 'srand 1; for $d (0..99) { mkdir "$ARGV[0]/$d"; for $f (0..99) { open F, ">", "$ARGV[0]/$d/$f" or die; print F pack("N", rand 2**32) x (256 + int rand 1792); close F } }' "$1"
}

clean() {
  "$pocker" serve --stop >>"$bench/log" 2>&1
  grep -o " $bench/[^ ]*" /proc/self/mounts | sort -r | xargs -r umount -l 2>/dev/null
}

# Mounts the tree named $1, if another one is mounted. Which one is in a file: rows are
# timed in subshells.
show() {
  [ "$(cat "$bench/shown")" != "$1" ] || return 0
  hide
  "$pocker" mount "$1" "$sealed" >>"$bench/log" 2>&1 || die "mount failed" "its output is in $bench/log"
  echo "$1" >"$bench/shown"
}

hide() {
  [ ! -s "$bench/shown" ] || "$pocker" umount "$sealed" >>"$bench/log" 2>&1
  : >"$bench/shown"
}

# Nothing of the store, the trees or the disk is in memory.
chill() {
  hide
  "$pocker" serve --stop >>"$bench/log" 2>&1
  sync
  echo 3 >/proc/sys/vm/drop_caches
  [ "$1" = disk ] || show "$1"
}

use_find() { find "$1" >/dev/null; }
# Through a pipe: tar knows /dev/null and reads nothing for it.
use_tar() { tar -C "$1" -c . | cat >/dev/null; }
use_grep() { ! grep -rqF "a line that no file has" "$1"; }
use_large() { cat "$1/blob" | cat >/dev/null; }

# both LABEL HOW TREE DISK-DIRECTORY: cold and warm, here and there, in turn.
both() {
  local label=$1 how=$2 tree=$3 dir=$4
  cold_here() { chill "$tree"; timed "$how" "$sealed"; }
  cold_disk() { chill disk; timed "$how" "$dir"; }
  warm_here() { show "$tree"; "$how" "$sealed"; timed "$how" "$sealed"; }
  warm_disk() { "$how" "$dir"; timed "$how" "$dir"; }
  race "$label, cold" cold_here cold_disk
  race "$label, warm" warm_here warm_disk
  row "$label, cold" ms "$(ms cold_here)" "<= 2 x" "on the disk" "$(ms cold_disk)"
  row "$label, warm" ms "$(ms warm_here)" "<= 1.2 x" "on the disk" "$(ms warm_disk)"
}

ms() { [ -z "${took[$1]}" ] || scaled "${took[$1]}" 1000; }

walk() { both "find, 10 000 files" use_find many "$disk/root"; }
archive() { both "tar c, 10 000 files" use_tar many "$disk/root"; }
search() { both "grep -r, 10 000 files" use_grep many "$disk/root"; }
large() { both "cat, one file of 512 MiB" use_large large "$disk/large"; }

# A second mount of a tree that is in use: what the first one read is not read again.
again() {
  again_first() { chill many; timed use_tar "$sealed"; }
  again_second() {
    chill many
    use_tar "$sealed"
    "$pocker" mount many "$bench/second" >>"$bench/log" 2>&1 || return 1
    timed use_tar "$bench/second"
    "$pocker" umount "$bench/second" >>"$bench/log" 2>&1
  }
  race "tar c of a second mount" again_second again_first
  row "tar c of a second mount" ms "$(ms again_second)" "< the first" "the first" "$(ms again_first)"
}
