#!/usr/bin/env bash
# apt in a Debian root: packages installed in a version that is made older, then upgraded to the
# real one, with dpkg's own checks.
. "$(dirname "$0")/lib.sh"
[ -d "${WORK_FILES:-}/apt" ] || failed "tests/suites/run made no packages ready"
count=12
[ -z "${WORK_LONG:-}" ] || { count=50; case $WORK_PLACE in kernel-*) count=12 ;; esac; }
mapfile -t packages < <(head -n $count "$WORK_FILES/apt/packages")
[ ${#packages[@]} = $count ] || failed "there are ${#packages[@]} packages of $count"

# A root with nothing of this host in it but its devices, and no network.
inside() {
  local root=$1
  shift
  unshare -m -n bash -euo pipefail -c '
    root=$1 files=$2; shift 2
    mount --bind /dev "$root/dev"; mount -t proc proc "$root/proc"; mkdir -p "$root/srv/repo"; mount --bind "$files" "$root/srv/repo"
    exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C HOME=/root "$@"' \
    bash "$root" "$WORK_FILES/apt" "$@"
}

use() {
  local root=$1/root
  mkdir "$root"
  tar -C "$root" -xpf "$WORK_FILES/apt/root.tar"
  rm -f "$root"/etc/apt/sources.list.d/*
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
  for repo in old new; do
    echo "deb [trusted=yes] file:/srv/repo/$repo ./" >"$root/etc/apt/sources.list"
    inside "$root" apt-get -qq -o Acquire::Languages=none update
    case $repo in
      old) inside "$root" apt-get -qq -y --no-install-recommends install "${packages[@]}" ;;
      new) inside "$root" apt-get -qq -y -o Dpkg::Options::=--force-confdef upgrade ;;
    esac
    inside "$root" dpkg --audit
    inside "$root" dpkg --verify
    inside "$root" dpkg-query -W
    inside "$root" find /usr/share/doc -name 'older' | sort
  done
  inside "$root" apt-get -qq -y purge "${packages[0]}"
  inside "$root" apt-get -qq check
  # What holds inode numbers, times of the day and the like.
  rm -rf "$root"/var/log/* "$root"/var/cache/{apt,ldconfig,debconf,man}/* "$root"/var/lib/apt/{lists,extended_states}* "$root"/var/lib/{dpkg,debconf}/*-old \
    "$root"/var/lib/systemd/deb-systemd-helper-enabled "$root/srv/repo" "$root"/tmp/*
}
began=$(date +%s.%N)
# By a shell of its own: errexit does not reach into what || follows.
export -f use inside
used() { bash -euo pipefail -c 'packages=("${@:2}"); use "$1"' bash "$1" "${packages[@]}"; }
used "$WORK_DIR" >"$WORK_LOCAL/said.mount" 2>&1 || { tail -n 40 "$WORK_LOCAL/said.mount"; failed "apt on the mount"; }
echo "figure apt: $count packages installed and upgraded, $(since "$began")"
began=$(date +%s.%N)
used "$WORK_LOCAL" >"$WORK_LOCAL/said.local" 2>&1 || { tail -n 40 "$WORK_LOCAL/said.local"; failed "apt on the local file system"; }
echo "figure apt: the same on the local file system, $(since "$began")"
# apt's own progress tells times and speeds; dpkg's checks say nothing where all is well. mandb
# names files by its process.
plain() { grep -vE '^(Fetched|Get:|Preconfiguring|\(Reading| *$)' "$1" | sed -E 's#(/var/cache/man/.*/)[0-9]+:#\1PID:#'; }
diff <(plain "$WORK_LOCAL/said.mount") <(plain "$WORK_LOCAL/said.local") || failed "apt and dpkg said something else on the mount"
[ "$(grep -cE '^Setting up .*~older' "$WORK_LOCAL/said.mount")" -ge $count ] || failed "fewer than $count packages were installed"
[ "$(grep -cE '^Unpacking .* over ' "$WORK_LOCAL/said.mount")" -ge $count ] || failed "fewer than $count packages were upgraded"
same "the root" "$WORK_DIR/root" "$WORK_LOCAL/root"
# What the archives brought has the archives' times.
cd "$WORK_DIR/root" && find usr -type f ! -newermt '2026-01-01' -printf '%p %T@\n' | sort >"$WORK_LOCAL/times.mount"
cd "$WORK_LOCAL/root" && find usr -type f ! -newermt '2026-01-01' -printf '%p %T@\n' | sort >"$WORK_LOCAL/times.local"
[ -s "$WORK_LOCAL/times.local" ] && cmp "$WORK_LOCAL/times.mount" "$WORK_LOCAL/times.local" || failed "times"
