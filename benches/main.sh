# shellcheck shell=bash
# The figures of the main job, each beside a peer that does the same work in the same run.

peers=(bubblewrap buildah podman runc crun ostree systemd-container btrfs-progs rsync mmdebstrap curl ca-certificates netavark)
deb=bookworm
# ingest first: ext4 is slow to make inodes for a minute after many were freed.
suite=(ingest cached clone run seal memory variants pkg)

# A Debian root, a server of our own, the peers' stores, and a tree of 10 000 files.
prepare() {
  export POCKER_STORE=$bench/store POCKER_SOCKET_DIR=$bench/s POCKER_BROWSE=$bench/chroot
  pocker=$top/target/release/pocker
  box=(--root "$bench/ct" --runroot "$bench/rr")
  oci=(--runtime runc --ulimit nofile=1024:1024 --ulimit nproc=1024:1024)
  export STORAGE_DRIVER=overlay BUILDAH_LAYERS=true
  say "making a Debian root"
  mmdebstrap --variant=minbase --include=ca-certificates,python3,less "$deb" "$bench/root.tar" >>"$bench/log" 2>&1 ||
    die "mmdebstrap failed" "its output is in $bench/log"
  mkdir -p "$bench/root" "$bench/context"
  tar -C "$bench/root" -xf "$bench/root.tar"
  # ostree takes no device nodes: the archive that both ingest has none.
  tar -C "$bench/root" --exclude='./dev/*' -cf "$bench/plain.tar" .
  pin=$(sha256sum "$bench/root.tar" | cut -d' ' -f1)
  podman "${box[@]}" import -q "$bench/root.tar" base >>"$bench/log" 2>&1
  printf 'FROM %s sha256:%s\nRUN true\n' "$bench/root.tar" "$pin" >"$bench/base.pockerfile"
  "$pocker" create -f "$bench/base.pockerfile" base >>"$bench/log" 2>&1 || die "create failed" "its output is in $bench/log"
  many "$bench/many"
  tar -C "$bench/many" -cf "$bench/many.tar" .
  "$pocker" import "$bench/many.tar" many >>"$bench/log" 2>&1 || die "import failed" "its output is in $bench/log"
}

# 10 000 files of 1 to 8 KiB in 100 directories.
many() {
  mkdir -p "$1"
  perl -e 'srand 1; for $d (0..99) { mkdir "$ARGV[0]/$d"; for $f (0..99) { open F, ">", "$ARGV[0]/$d/$f" or die; print F pack("N", rand 2**32) x (256 + int rand 1792); close F } }' "$1"
}

clean() {
  "$pocker" serve --stop >>"$bench/log" 2>&1
  mountpoint -q "$bench/btrfs" 2>/dev/null && umount "$bench/btrfs"
  podman "${box[@]}" rm -fa >/dev/null 2>&1
  buildah "${box[@]}" rm -a >/dev/null 2>&1
  podman "${box[@]}" rmi -fa >/dev/null 2>&1
  grep -o " $bench/[^ ]*" /proc/self/mounts | sort -r | xargs -r umount -l 2>/dev/null
}

api() { curl -sS --fail-with-body --unix-socket "$POCKER_SOCKET_DIR/control.sock" -H 'content-type: application/json' "$@"; }
field() { sed -n "s/.*\"$1\":\"\\{0,1\\}\\([^,\"}]*\\).*/\\1/p"; }
snapshot_of() { api "http://x/v1/pockers/$1" | grep -o '"snapshot":"[0-9a-f]*"' | tail -n 1 | cut -d'"' -f4; }

cached() {
  printf 'FROM base\nEXEC echo one >/one\nEXEC echo two >/two\nRUN true\n' >"$bench/cached.pockerfile"
  printf 'FROM base\nRUN echo one >/one\nRUN echo two >/two\nCMD true\n' >"$bench/cached.dockerfile"
  cached_pocker() { timed "$pocker" create -f "$bench/cached.pockerfile" cached "$bench/context"; }
  cached_buildah() { timed buildah "${box[@]}" build -q --isolation chroot --pull-never --layers -f "$bench/cached.dockerfile" -t cached "$bench/context"; }
  cached_pocker >/dev/null
  cached_buildah >/dev/null
  race cached cached_pocker cached_buildah
  row "create, all steps cached" ms "$(ms cached_pocker)" "< 20" "buildah" "$(ms cached_buildah)"
}

ms() { [ -z "${took[$1]}" ] || scaled "${took[$1]}" 1000; }

clone() {
  truncate -s 1G "$bench/btrfs.img"
  mkdir -p "$bench/btrfs"
  mkfs.btrfs -q "$bench/btrfs.img" && mount -o loop "$bench/btrfs.img" "$bench/btrfs" &&
    btrfs -q subvolume create "$bench/btrfs/many" && cp -a "$bench/many/." "$bench/btrfs/many" && sync
  snapshot=$(snapshot_of many)
  n=0
  clone_command() { timed "$pocker" mount --rw --print many; }
  # From the request sent to the reply's first byte, less nothing: the socket is in it.
  clone_server() {
    api -o /dev/null -w '%{time_starttransfer} %{time_pretransfer}\n' "http://x/v1/trees" \
      -d "{\"base\":\"$snapshot\",\"purpose\":\"build\",\"label\":\"bench\",\"pid\":$$}" |
      awk '{ print ($1 - $2) * 1e6 }'
  }
  clone_cp() { rm -rf "$bench/copy"; timed cp -al "$bench/many" "$bench/copy"; }
  clone_btrfs() { n=$(ls "$bench/btrfs" | wc -l); timed btrfs -q subvolume snapshot "$bench/btrfs/many" "$bench/btrfs/$n"; }
  race clone clone_command clone_server clone_cp clone_btrfs
  row "clone 10 000 files, by the command" ms "$(ms clone_command)" "< 5" "cp -al" "$(ms clone_cp)" "btrfs snapshot" "$(ms clone_btrfs)"
  row "clone 10 000 files, in the server" ms "$(ms clone_server)" "< 0.5" "cp -al" "$(ms clone_cp)" "btrfs snapshot" "$(ms clone_btrfs)"
}

run() {
  container=$(buildah "${box[@]}" from --pull-never --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 base 2>>"$bench/log")
  run_pocker() { timed "$pocker" run base -- true; }
  run_buildah() { timed buildah "${box[@]}" run --network host --runtime runc "$container" -- true; }
  run_podman() { timed podman "${box[@]}" --cgroup-manager cgroupfs --runtime runc run --rm --network host "${oci[@]:2}" base true; }
  # Its own /run, as it looks for a system bus there.
  run_nspawn() { timed unshare -m sh -c 'mount -t tmpfs none /run && exec systemd-nspawn -q --register=no --keep-unit -D "$0" true' "$bench/root"; }
  # The isolation alone, over a directory that is there already: a sandbox, and the bare minimum.
  run_bwrap() { timed bwrap --unshare-pid --unshare-ipc --unshare-uts --unshare-cgroup-try --bind "$bench/root" / --proc /proc --dev /dev --tmpfs /tmp true; }
  run_chroot() { timed unshare -mpfuiC chroot "$bench/root" true; }
  run_plain() { timed "$pocker" run --unsafe-plain base -- true; }
  race run run_pocker run_plain run_buildah run_podman run_nspawn run_bwrap run_chroot
  row "run -- true, mounts included" ms "$(ms run_pocker)" "< 50" "buildah" "$(ms run_buildah)" "podman" "$(ms run_podman)" "nspawn" "$(ms run_nspawn)"
  row "run -- true, and isolation alone" ms "$(ms run_pocker)" "< 60" "bubblewrap" "$(ms run_bwrap)" "unshare + chroot" "$(ms run_chroot)" "run --unsafe-plain" "$(ms run_plain)"
}

# The same apt command in each: its index is there already and its packages are in its
# cache, so that no mirror is timed.
apt='apt-get -o Dpkg::Options::=--force-unsafe-io install -y --no-install-recommends nginx >/dev/null'
export_apt() { printf 'DEBIAN_FRONTEND=noninteractive %s' "$apt"; }

pkg() {
  printf 'FROM base\nEXEC apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y -d --no-install-recommends nginx\nRUN true\n' >"$bench/ready.pockerfile"
  printf 'FROM ready\nEXEC %s\nRUN true\n' "$(export_apt)" >"$bench/pkg.pockerfile"
  "$pocker" create -f "$bench/ready.pockerfile" ready "$bench/context" >>"$bench/log" 2>&1
  rm -rf "$bench/ready"
  mkdir -p "$bench/ready"
  "$pocker" export ready | tar -C "$bench/ready" -xf - --exclude='./dev/*'
  tar -C "$bench/ready" -cf - . | podman "${box[@]}" import -q - ready >>"$bench/log" 2>&1
  printf 'FROM ready\nRUN %s\n' "$(export_apt)" >"$bench/pkg.dockerfile"
  pkg_pocker() { timed "$pocker" create --no-cache -f "$bench/pkg.pockerfile" pkg "$bench/context"; }
  pkg_chroot() {
    rm -rf "$bench/plain"
    cp -a "$bench/ready" "$bench/plain"
    sync
    timed unshare -mpf --mount-proc="$bench/plain/proc" sh -c 'mount --rbind /dev "$0/dev" && exec chroot "$0" sh -c "$1"' "$bench/plain" "$(export_apt)"
  }
  pkg_buildah() { timed buildah "${box[@]}" build -q --isolation chroot --pull-never --no-cache -f "$bench/pkg.dockerfile" -t pkg "$bench/context"; }
  race pkg pkg_pocker pkg_chroot pkg_buildah
  row "apt installs nginx" s "$(sec pkg_pocker)" "1.5 x chroot" "chroot" "$(sec pkg_chroot)" "buildah" "$(sec pkg_buildah)"
}

sec() { [ -z "${took[$1]}" ] || scaled "${took[$1]}" 1000000; }

ingest() {
  local bytes files
  bytes=$(stat -c %s "$bench/plain.tar")
  files=$(tar -tf "$bench/plain.tar" | wc -l)
  printf 'FROM scratch\nRUN true\n' >"$bench/empty.pockerfile"
  # A store that has nothing of it, each time; its server is up before the clock runs.
  ingest_pocker() (
    fresh=$(mktemp -d "$bench/fresh.XXXX")
    export POCKER_STORE=$fresh/store POCKER_SOCKET_DIR=$fresh/s
    "$pocker" create --no-browse -f "$bench/empty.pockerfile" empty "$bench/context" >>"$bench/log" 2>&1
    sync
    timed "$pocker" import "$bench/plain.tar" base
    status=$?
    "$pocker" serve --stop >>"$bench/log" 2>&1
    exit $status
  )
  ingest_ostree() {
    local repo
    repo=$(mktemp -d "$bench/repo.XXXX")
    ostree --repo="$repo" init --mode=bare
    sync
    timed ostree --repo="$repo" commit -b base --tree=tar="$bench/plain.tar" --tar-autocreate-parents
  }
  ingest_disk() {
    local raw
    raw=$(mktemp "$bench/raw.XXXX")
    sync
    timed dd if="$bench/plain.tar" of="$raw" bs=1M conv=fsync status=none
  }
  race ingest ingest_pocker ingest_ostree ingest_disk
  rate() { [ -z "${took[$1]}" ] || awk -v n="$2" -v t="${took[$1]}" 'BEGIN { printf "%.4g", n / t }'; }
  kilo() { awk -v n="$files" 'BEGIN { print n * 1e6 }'; }
  row "ingest of a Debian root, fsync included" MB/s "$(rate ingest_pocker "$bytes")" ">= 300, 0.8 x dd" "ostree" "$(rate ingest_ostree "$bytes")" "dd fsync" "$(rate ingest_disk "$bytes")"
  row "ingest of a Debian root, files" files/s "$(rate ingest_pocker "$(kilo)")" ">= 20000" "ostree" "$(rate ingest_ostree "$(kilo)")"
}

# Five variants of one root: each has ten files of its own and touches a fifth of the files
# that are there, as an upgrade or a chown does. The root is all of the first one.
variants() {
  local n
  mkdir -p "$bench/five"
  ostree --repo="$bench/five/repo" init --mode=bare
  box5=(--root "$bench/five/ct" --runroot "$bench/five/rr")
  (
    export POCKER_STORE=$bench/five/store POCKER_SOCKET_DIR=$bench/five/s
    "$pocker" import "$bench/plain.tar" base
    podman "${box5[@]}" import -q "$bench/plain.tar" base
    ostree --repo="$bench/five/repo" commit -b base --tree=tar="$bench/plain.tar" --tar-autocreate-parents
    for n in 0 1 2 3 4; do
      change="find /usr /var -xdev -type f | LC_ALL=C sort | awk 'NR % 5 == $n' | xargs -d '\\n' touch -d 2001-01-01 && mkdir /own && for i in 1 2 3 4 5 6 7 8 9 10; do echo $n \$i >/own/\$i; done"
      printf 'FROM base\nEXEC %s\nRUN true\n' "$change" >"$bench/five/pockerfile"
      "$pocker" create --no-browse -f "$bench/five/pockerfile" "v$n" "$bench/context"
      "$pocker" export "v$n" -o "$bench/five/tar"
      tar --delete --wildcards -f "$bench/five/tar" './dev/*' 2>/dev/null
      ostree --repo="$bench/five/repo" commit -b "v$n" --tree=tar="$bench/five/tar" --tar-autocreate-parents
      printf 'FROM base\nRUN %s\n' "$change" >"$bench/five/dockerfile"
      buildah "${box5[@]}" build -q --isolation chroot --pull-never --layers -f "$bench/five/dockerfile" -t "v$n" "$bench/context"
    done
    "$pocker" serve --stop
  ) >>"$bench/log" 2>&1
  sync
  mib() { [ -d "$1" ] && du -s --block-size=1K "$1" | awk '{ printf "%.4g", $1 / 1024 }'; }
  local size goal
  size=$(stat -c %s "$bench/plain.tar")
  # 204 MiB is for a root of 217 MB; the mirror's packages grow and shrink.
  goal=$(awk -v s="$size" 'BEGIN { printf "%.4g", 204 * s / 217e6 }')
  row "five variants of a $((size / 1000000)) MB root on disk" MiB "$(mib "$bench/five/store")" "<= $goal" "ostree" "$(mib "$bench/five/repo")" "buildah overlay" "$(mib "$bench/five/ct")"
  podman "${box5[@]}" rmi -fa >>"$bench/log" 2>&1
}

seal() {
  local count=0
  snapshot=$(snapshot_of many)
  seal_pocker() {
    local made id export key
    made=$(api "http://x/v1/trees" -d "{\"base\":\"$snapshot\",\"purpose\":\"build\",\"label\":\"bench\",\"pid\":$$}")
    id=$(field id <<<"$made") export=$(field path <<<"$made")
    key=$(printf 'seal %s %s' "$id" "$RANDOM$EPOCHREALTIME" | sha256sum | cut -d' ' -f1)
    # What a build does between: ten files are changed over a mount. Here as an archive that is
    # laid over the tree, so that the mount's own time is not in it.
    rm -rf "$bench/ten" && mkdir -p "$bench/ten"
    for i in 1 2 3 4 5 6 7 8 9 10; do mkdir -p "$bench/ten/$i" && echo "$key $i" >"$bench/ten/$i/7"; done
    tar -C "$bench/ten" -cf "$bench/ten.tar" .
    api -T "$bench/ten.tar" -o /dev/null "http://x/v1/trees/$id/archive?dest=2f" >>"$bench/log" 2>&1 || return 1
    api -o /dev/null -w '%{time_starttransfer} %{time_pretransfer}\n' "http://x/v1/trees/$id/seal" \
      -d "{\"key\":\"$key\",\"claim\":null,\"parent\":null,\"instruction\":\"EXEC bench\",\"upstream\":null,\"source_date_epoch\":null}" |
      awk '{ print ($1 - $2) * 1e6 }'
  }
  seal_rsync() {
    [ -d "$bench/synced" ] || cp -a "$bench/many" "$bench/synced"
    rm -rf "$bench/next"
    for i in 1 2 3 4 5 6 7 8 9 10; do echo "$EPOCHREALTIME $i" >"$bench/synced/$i/7"; done
    sync
    timed sh -c 'rsync -a --link-dest="$1" "$2/" "$3/" && sync -f "$3"' sh "$bench/many" "$bench/synced" "$bench/next"
  }
  race seal seal_pocker seal_rsync
  row "seal, 10 files of 10 000 changed, fsync included" ms "$(ms seal_pocker)" "< 20" "rsync --link-dest" "$(ms seal_rsync)"
}

memory() {
  local i pid rss
  "$pocker" serve --stop >>"$bench/log" 2>&1
  for i in 1 2 3 4 5 6 7 8 9 10; do
    mkdir -p "$bench/m$i"
    "$pocker" mount --rw many "$bench/m$i" >>"$bench/log" 2>&1 || { row "server memory" MB "" "< 100"; return; }
    find "$bench/m$i" -type f -exec cat {} + >/dev/null
  done
  pid=$(api http://x/v1/status | field pid)
  rss=$(awk '/^VmRSS/ { printf "%.4g", $2 / 1000 }' "/proc/$pid/status")
  for i in 1 2 3 4 5 6 7 8 9 10; do "$pocker" umount "$bench/m$i" >>"$bench/log" 2>&1; done
  row "server memory, 10 trees of 10 000 files read" MB "$rss" "< 100"
}
