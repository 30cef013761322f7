# shellcheck shell=bash
# Archives and images, out and in, each beside a tool that does the same work in the same run.

peers=(buildah umoci docker-registry mmdebstrap ca-certificates tar curl)
suite=(archive layout registry)
rounds=${BENCH_ROUNDS:-5}
deb=bookworm
port=5917

prepare() {
  export POCKER_STORE=$bench/store POCKER_SOCKET_DIR=$bench/s POCKER_BROWSE=$bench/chroot
  export STORAGE_DRIVER=overlay
  pocker=$top/target/release/pocker
  box=(--root "$bench/ct" --runroot "$bench/rr")
  say "making a Debian root"
  mmdebstrap --variant=minbase --include=ca-certificates,python3,less,perl "$deb" "$bench/root.tar" >>"$bench/log" 2>&1 ||
    die "mmdebstrap failed" "its output is in $bench/log"
  mkdir -p "$bench/root"
  tar -C "$bench/root" -xf "$bench/root.tar"
  tar -C "$bench/root" --format=posix -cf "$bench/root.tar" .
  mb=$(awk -v b="$(stat -c %s "$bench/root.tar")" 'BEGIN { printf "%.1f", b / 1e6 }')
  say "  $mb MB"
  "$pocker" import "$bench/root.tar" base >>"$bench/log" 2>&1 || die "import failed" "its output is in $bench/log"
  "$pocker" export base --format oci -o "$bench/layout/" >>"$bench/log" 2>&1 || die "export failed" "its output is in $bench/log"
}

clean() {
  [ -z "${registry:-}" ] || kill "$registry" 2>/dev/null
  "$pocker" serve --stop >>"$bench/log" 2>&1
  buildah "${box[@]}" rmi -fa >/dev/null 2>&1
  grep -o " $bench/[^ ]*" /proc/self/mounts | sort -r | xargs -r umount -l 2>/dev/null
}

# Megabytes of the plain archive a second.
speed() { [ -z "${took[$1]}" ] || awk -v mb="$mb" -v us="${took[$1]}" 'BEGIN { printf "%.4g", mb / us * 1e6 }'; }
ms() { [ -z "${took[$1]}" ] || scaled "${took[$1]}" 1000; }

# Into a store that has nothing, whose server is up. Nothing is removed for it, here or for the peers: ext4 is slow to make
# inodes for a minute after many were freed. A round is a shell of its own: the other store is the next one's.
into_new() {
  POCKER_STORE=$(mktemp -d "$bench/new.XXXXXX")
  POCKER_SOCKET_DIR=$(mktemp -d "$bench/s.XXXXXX")
  "$pocker" ls >>"$bench/log" 2>&1
  sync
  timed "$pocker" "$@"
  local status=$?
  "$pocker" serve --stop >>"$bench/log" 2>&1
  return $status
}

archive() {
  out_pocker() { rm -f "$bench/out.tar"; sync; timed "$pocker" export base -o "$bench/out.tar"; }
  out_tar() { rm -f "$bench/out.tar"; sync; timed sh -c 'tar -C "$1" --format=posix -cf "$2" . && sync "$2"' sh "$bench/root" "$bench/out.tar"; }
  pipe_pocker() { timed sh -c '"$1" export base | cat >/dev/null' sh "$pocker"; }
  pipe_tar() { timed sh -c 'tar -C "$1" --format=posix -c . | cat >/dev/null' sh "$bench/root"; }
  race "export tar" out_pocker out_tar pipe_pocker pipe_tar
  row "export tar, into a pipe" MB/s "$(speed pipe_pocker)" ">= 500" tar "$(speed pipe_tar)"
  row "export tar, to a file on disk" MB/s "$(speed out_pocker)" ">= 500" tar "$(speed out_tar)"
  in_pocker() { into_new import "$bench/root.tar" x; }
  in_tar() { sync; timed sh -c 'tar -C "$1" -xf "$2" && sync -f "$1"' sh "$(mktemp -d "$bench/x.XXXXXX")" "$bench/root.tar"; }
  race "import tar" in_pocker in_tar
  row "import tar" MB/s "$(speed in_pocker)" ">= 300" "tar -x, synced" "$(speed in_tar)"
}

layout() {
  in_pocker() { into_new import "$bench/layout" x; }
  in_umoci() { sync; timed umoci unpack --image "$bench/layout:latest" "$(mktemp -d "$bench/b.XXXXXX")/bundle"; }
  race "import layout" in_pocker in_umoci
  row "import an OCI layout (gzip)" MB/s "$(speed in_pocker)" "-" "umoci unpack" "$(speed in_umoci)"
  dir_pocker() { sync; timed "$pocker" export base --format dir -o "$(mktemp -d "$bench/x.XXXXXX")"; }
  dir_umoci() { in_umoci; }
  race "export dir" dir_pocker dir_umoci
  row "export a directory" MB/s "$(speed dir_pocker)" "-" "umoci unpack" "$(speed dir_umoci)"
  # By a short path: buildah makes a name of it, and takes no capitals there.
  (cd "$bench" && buildah "${box[@]}" pull -q oci:layout:latest) >"$bench/id" 2>>"$bench/log"
  oci_pocker() { rm -rf "$bench/out"; timed "$pocker" export base --format oci -o "$bench/out/"; }
  oci_buildah() { rm -rf "$bench/out"; timed buildah "${box[@]}" push -q "$(cat "$bench/id")" "oci:$bench/out:x"; }
  race "export OCI" oci_pocker oci_buildah
  row "export an OCI layout (gzip)" MB/s "$(speed oci_pocker)" "-" "buildah push oci:" "$(speed oci_buildah)"
}

registry() {
  local image=127.0.0.1:$port/team/base:v1
  printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: "127.0.0.1:%s"}\nlog: {level: error}\n' "$bench" "$port" >"$bench/registry.yml"
  docker-registry serve "$bench/registry.yml" >>"$bench/log" 2>&1 &
  registry=$!
  for _ in $(seq 100); do curl -s "http://127.0.0.1:$port/v2/" >/dev/null && break; sleep 0.1; done
  "$pocker" push base "$image" >>"$bench/log" 2>&1
  pull_pocker() { into_new pull "$image" x; }
  pull_buildah() { buildah "${box[@]}" rmi -fa >>"$bench/log" 2>&1; sync; timed buildah "${box[@]}" pull -q --tls-verify=false "$image"; }
  race pull pull_pocker pull_buildah
  row "pull from a registry of this host" ms "$(ms pull_pocker)" "<= buildah" "buildah pull" "$(ms pull_buildah)"
  push_pocker() { rm -rf "$bench/registry"; timed "$pocker" push base "$image"; }
  push_buildah() { rm -rf "$bench/registry"; timed buildah "${box[@]}" push -q --tls-verify=false "$(cat "$bench/pushed")" "docker://$image"; }
  buildah "${box[@]}" pull -q --tls-verify=false "$image" >"$bench/pushed" 2>>"$bench/log"
  race push push_pocker push_buildah
  row "push to a registry of this host" ms "$(ms push_pocker)" "-" "buildah push" "$(ms push_buildah)"
}
