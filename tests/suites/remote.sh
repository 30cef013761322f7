#!/bin/sh
# One of two hosts, in a guest: tests/suites/remote.sh NUMBER SERVER
set -eu
me=guest$1 number=$1
hostname "$me"
export POCKER_REMOTE=pocker://$2 POCKER_REMOTE_CA=/etc/pocker/ca.pem POCKER_MOUNT_HELPER=linux-kernel
mkdir -p /var/pocker /said
fail() { echo "FAILED: $me: $*"; dmesg | tail -n 15; exit 1; }
trap 'status=$?; [ $status = 0 ] || echo "$me ended with $status"' EXIT
modprobe nfsv3

# patiently WHAT COMMAND…
patiently() {
  what=$1 tries=0
  shift
  until "$@"; do
    tries=$((tries + 1))
    [ $tries -lt 120 ] || fail "it never came to be: $what"
    sleep 1
  done
}
knows() { pocker ls | grep -q "^$1 "; }
says() { pocker volume create "$1"; }

if [ "$number" = 1 ]; then
  mkdir -p /w/root/bin /w/root/etc /w/root/tmp /w/root/d /w/root/said
  cp /bin/busybox /w/root/bin/
  for name in sh cat echo grep sleep tail wc; do ln -s busybox /w/root/bin/$name; done
  cp /etc/passwd /etc/group /w/root/etc/
  tar -C /w/root -cf /w/root.tar .
  cat >/w/Pockerfile <<END
FROM root.tar sha256:$(sha256sum /w/root.tar | cut -d' ' -f1)
EXEC grep -q ' / nfs ' /proc/mounts && echo built on a guest >/etc/built
RUN cat /etc/built
END
  cd /w
  pocker volume create data
  pocker create --no-browse box || fail "create"
  [ "$(pocker run box)" = "built on a guest" ] || fail "run"
  pocker run --name writer -d /said:/said -v data:/d box -- sh -c '
    i=0; while :; do i=$((i+1)); echo $i >>/d/log && echo $i >>/said/done; done' &
  # What it was told, on the console, where it outlives this machine.
  shown=0
  while sleep 0.2; do
    done=$(tail -n 1 /said/done 2>/dev/null) || continue
    [ "${done:-0}" -gt "$shown" ] || continue
    shown=$done
    echo "acknowledged $shown"
    [ -e /told ] || [ "$shown" -lt 50 ] || { says written; : >/told; }
  done
fi

patiently "the other builds" knows box
[ "$(pocker run box)" = "built on a guest" ] || fail "run"
# A run of its own, which has to go on whatever becomes of the other.
pocker run --name own -d /said:/said box -- sh -c '
  grep " / nfs " /proc/mounts >/said/mounts
  n=0; while [ ! -e /said/stop ]; do n=$((n+1)); echo $n >>/own || exit 7; tail -n 1 /own >/said/own; sleep 0.1; done
  [ "$(wc -l </own)" = $n ] && echo whole' >/said/end &
own=$!
patiently "its own run is up" test -s /said/own
grep -q "addr=$2" /said/mounts || fail "not over the kernel's client: $(cat /said/mounts)"
# The volume has one writer, who is named; who reads may.
taken() { pocker volume ls | grep '^data ' | grep -q guest1; }
patiently "the other writes to the volume" taken
if pocker run -v data:/d box -- true 2>/said/err; then fail "two write to the volume"; fi
grep -q 'volume data is in use by .*guest1' /said/err || fail "refused, but: $(cat /said/err)"
patiently "who reads may, beside it" pocker run -v data:/d:ro box -- grep -qx 1 /d/log
says refused
# Until the other is gone, and its lease is over.
takes() { pocker run -v data:/d box -- sh -c 'echo from guest2 >>/d/log' 2>/said/err; }
patiently "the volume is free" takes
[ "$(pocker run -v data:/d:ro box -- tail -n 1 /d/log)" = "from guest2" ] || fail "the volume"
before=$(cat /said/own)
goes_on() { now=$(cat /said/own) && [ "${now:-0}" -gt "$before" ]; }
patiently "its own run goes on" goes_on
: >/said/stop
wait $own || fail "its own run ended with $?"
[ "$(cat /said/end)" = whole ] || fail "its own run said: $(cat /said/end)"
echo "all of it held"
