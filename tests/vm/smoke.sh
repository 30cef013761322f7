#!/bin/sh
# In the guest: a pocker built, run and mounted through Linux's own NFS client.
set -eu
fail() { echo "FAILED: $*"; [ ! -f /run/pocker/serve.log ] || tail -n 30 /run/pocker/serve.log; dmesg | tail -n 15; exit 1; }
step() { echo "== $*"; }
trap 'status=$?; [ $status = 0 ] || { echo "FAILED with $status"; tail -n 30 /run/pocker/serve.log 2>/dev/null; dmesg | tail -n 15; }' EXIT

step "the kernel has an NFS client"
modprobe nfsv3
grep -qw nfs /proc/filesystems || fail "no nfs in /proc/filesystems"
export POCKER_MOUNT_HELPER=linux-kernel
mkdir -p /var/pocker /srv/g

step "doctor"
pocker doctor | grep -E '^ok +mount: linux-kernel' || fail "doctor does not say linux-kernel"

step "create, over the kernel's client"
mkdir -p /w/root/bin /w/root/etc /w/root/tmp /w/root/var
cp -a /bin/busybox /w/root/bin/
for name in sh cat ls echo mkdir rm mv ln chmod stat grep sleep test touch find wc; do ln -s busybox /w/root/bin/$name; done
cp /etc/passwd /etc/group /w/root/etc/
tar -C /w/root -cf /w/root.tar .
cat >/w/Pockerfile <<END
FROM root.tar sha256:$(sha256sum /w/root.tar | cut -d' ' -f1)
EXEC grep ' / nfs ' /proc/mounts && echo built >/etc/built && mkdir /many && i=0 && while [ \$i -lt 300 ]; do echo \$i >/many/\$i; i=\$((i+1)); done
RUN cat /etc/built
END
cd /w
pocker create box
[ "$(pocker run box)" = built ] || fail "run did not say built"

step "files, over the kernel's client"
pocker run box -- /bin/sh -c '
  set -e
  grep " / nfs " /proc/mounts >/dev/null
  [ "$(ls /many | wc -l)" = 300 ]
  echo one >/var/a; ln /var/a /var/b; mv /var/b /var/c; chmod 640 /var/c
  [ "$(stat -c "%h %a" /var/a)" = "2 640" ]
  echo two >>/var/c; [ "$(cat /var/a)" = "one
two" ]
  exec 3<>/var/open; echo x >&3; rm /var/open; echo y >&3; exec 3>&-
  rm -r /many; [ ! -e /many ]' || fail "files"

step "a graft"
echo from-host >/srv/g/in
[ "$(pocker -d /srv/g:/mnt/g box -- /bin/sh -c 'cat /mnt/g/in; echo from-run >/mnt/g/out')" = from-host ] || fail "graft read"
[ "$(cat /srv/g/out)" = from-run ] || fail "graft written"

step "the server is killed under a run"
rm -f /srv/g/*
pocker -d /srv/g:/mnt/g box -- /bin/sh -c '
  echo kept >/var/mine; echo up >/mnt/g/up
  while [ ! -e /mnt/g/go ]; do sleep 1; done
  cat /var/mine >/mnt/g/said; echo more >>/var/mine; cat /var/mine >>/mnt/g/said' &
run=$!
i=0; while [ ! -e /srv/g/up ]; do i=$((i+1)); [ $i -lt 60 ] || fail "the run did not come up"; sleep 1; done
server=$(pocker doctor --json | grep -o 'pid [0-9]*' | cut -d' ' -f2)
kill -9 "$server"
touch /srv/g/go
# Whoever holds the mount brings the server back: here `pocker run` itself.
wait "$run" || fail "the run failed"
[ "$(cat /srv/g/said)" = "kept
kept
more" ] || fail "the run said: $(cat /srv/g/said)"

step "a run in the background, over the kernel's client"
rm -f /srv/g/*
mounts() { grep -c ' nfs ' /proc/mounts; }
mounted=$(mounts)
[ "$(pocker run --detach --name bg -d /srv/g:/mnt/g box -- /bin/sh -c '
  trap "echo bye; exit 7" TERM
  echo up; n=0
  while :; do n=$((n+1)); echo $n >/var/beat; cat /var/beat >/mnt/g/beat; sleep 1; done')" = bg ] || fail "run --detach"
[ "$(pocker exec bg grep -c ' nfs ' /proc/mounts)" = 2 ] || fail "exec: not both the tree and the graft"
pocker exec bg /bin/sh -c 'echo mine >/var/mine; echo out >/mnt/g/out' || fail "exec"
[ "$(cat /srv/g/out)" = out ] || fail "exec: nothing came to the graft"
[ "$(pocker logs bg)" = up ] || fail "logs: $(pocker logs bg)"
pid_of_server() { pocker doctor --json | grep -o 'pid [0-9]*' | cut -d' ' -f2; }
server=$(pid_of_server)
kill -9 "$server"
# The run's supervisor brings it back.
i=0; while new=$(pid_of_server); [ -z "$new" ] || [ "$new" = "$server" ]; do i=$((i+1)); [ $i -lt 60 ] || fail "no server came"; sleep 1; done
beat=$(cat /srv/g/beat)
i=0; while [ "$(cat /srv/g/beat)" = "$beat" ]; do i=$((i+1)); [ $i -lt 60 ] || fail "the run does not go on"; sleep 1; done
[ "$(pocker exec bg cat /var/mine)" = mine ] || fail "its tree is another"
pocker exec bg /bin/sh -c 'cat /var/mine >/mnt/g/after' && [ "$(cat /srv/g/after)" = mine ] || fail "its graft"
pocker restart -t 20 bg || fail "restart"
[ "$(pocker exec bg /bin/sh -c '[ -e /var/mine ] || echo clean')" = clean ] || fail "restart kept the tree"
pocker stop -t 20 bg || fail "stop"
[ "$(pocker wait bg || true)" = 7 ] || fail "it did not end by its own handler"
[ "$(pocker logs bg)" = "up
bye
up
bye" ] || fail "logs: $(pocker logs bg)"
# Nothing of it is mounted anywhere, and the server has let go of it.
[ "$(mounts)" = "$mounted" ] || fail "left mounted: $(cat /proc/mounts)"
if grep -l ' /mnt/g nfs ' /proc/[0-9]*/mounts 2>/dev/null; then fail "the graft is left mounted"; fi
pocker ls box --json | tr -d ' \n' | grep -q '"running":\[\]' || fail "the server still has it: $(pocker ls box --json)"
pocker prune bg

step "what the kernel mounts by can be connected to from nowhere else"
# In the server's own network it is there…
busybox nsenter --net=/run/pocker/netns busybox nc -w 2 127.0.0.1 2049 </dev/null || fail "no listener in the private network"
# …and neither on the host nor in a run, for root and from a reserved port.
probe='busybox nc -w 2 -p 900 127.0.0.1 2049 </dev/null || busybox nc -w 2 ::1 2049 </dev/null || busybox grep -i ":0801 " /proc/net/tcp /proc/net/tcp6'
if sh -c "$probe" 2>/dev/null; then fail "the host reaches it"; fi
pocker run box -- /bin/sh -c "busybox() { /bin/busybox \"\$@\"; }; if $probe 2>/dev/null; then exit 9; fi" || fail "a run reaches it"
# A run sees the secret of its own mounts, and of no others.
[ "$(pocker run box -- /bin/sh -c 'grep -c " nfs " /proc/mounts')" = 1 ] || fail "mounts of others are seen"

step "a run is confined over the kernel's client too"
pocker run box -- /bin/sh -c '
  grep -q " / nfs [^ ]*nosuid,nodev" /proc/mounts || grep -q " / nfs .*nodev" /proc/mounts || exit 1
  grep -q "Seccomp:.2" /proc/self/status || exit 2
  /bin/busybox mknod /disk b 254 0 2>/dev/null && exit 3
  /bin/busybox mount -t tmpfs none /tmp 2>/dev/null && exit 4
  exit 0' || fail "not confined"

step "any step can be mounted"
mkdir -p /mnt/x
pocker mount box@run /mnt/x
grep -q ' /mnt/x nfs ' /proc/mounts || fail "not mounted by nfs"
[ "$(cat /mnt/x/etc/built)" = built ] || fail "mounted tree"
if echo no >/mnt/x/etc/built 2>/dev/null; then fail "a sealed tree was written"; fi
pocker umount /mnt/x

step "a store on NFS is refused, and nothing is written there"
pocker store backup /w/backup
pocker mount --rw box /mnt/x
grep -q ' /mnt/x nfs ' /proc/mounts || fail "not mounted by nfs"
mkdir /mnt/x/empty
find /mnt/x -exec stat -c '%n %s %Z' {} + | sort >/w/before
refused() {
  store=$1; shift
  status=0
  pocker --store "$store" --socket-dir /w/s "$@" >/w/said 2>&1 || status=$?
  [ $status = 1 ] || fail "$*: status $status: $(cat /w/said)"
  grep -qx ".*: store $store is on NFS, where neither its lock nor its database is safe" /w/said &&
    grep -qx "hint: put the store on a local disk; other hosts mount from its server" /w/said || fail "$*: $(cat /w/said)"
}
for store in /mnt/x/empty /mnt/x/not/there; do
  refused $store serve
  refused $store store restore /w/backup
done
find /mnt/x -exec stat -c '%n %s %Z' {} + | sort >/w/after
cmp /w/before /w/after || fail "written there: $(diff /w/before /w/after)"
pocker umount /mnt/x

step "limits, by control groups of version 2"
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup
for c in memory pids cpu; do
  pocker doctor | grep -E "^ok +limits: $c .*version 2" || fail "doctor does not say version 2 of $c"
done
said=/w/said
status=0
pocker run --memory 16M box -- /bin/sh -c 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done' 2>$said || status=$?
[ $status = 137 ] && grep -q 'box had no memory left' $said || fail "a hog: $status, $(cat $said)"
# A real bomb: it goes off against its limit, and the server answers others meanwhile.
pocker run --pids 24 box -- /bin/sh -c 'b() { b | b & }; b; exec sleep 100' >$said 2>&1 &
run=$!
i=0; while ! dmesg | grep -q "fork rejected by pids controller in /pocker/pocker-$run"; do i=$((i+1)); [ $i -lt 60 ] || fail "the bomb met no limit"; sleep 1; done
pocker run box -- /bin/cat /etc/built >/dev/null || fail "another run beside the bomb"
[ "$(cat /sys/fs/cgroup/pocker/pocker-$run/pids.max)" = 25 ] || fail "the bomb has no limit"
kill $run; wait "$run" || true
pocker run --cpus 0.5 box -- /bin/sh -c 'cat /etc/built' || fail "a run with half a processor"
[ -z "$(find /sys/fs/cgroup/pocker -mindepth 1 -type d)" ] || fail "groups are left: $(find /sys/fs/cgroup/pocker)"

step "a supervisor is killed: its groups go with the next command"
pocker run --memory 64M box -- /bin/sleep 600 &
run=$!
i=0; while ! grep -q . /sys/fs/cgroup/pocker/pocker-$run/cgroup.procs 2>/dev/null; do i=$((i+1)); [ $i -lt 60 ] || fail "no group"; sleep 1; done
kill -9 $run; wait $run || true
pocker ls >/dev/null
[ ! -e /sys/fs/cgroup/pocker/pocker-$run ] || fail "a stale group is left"

step "a quota, over the kernel's client"
pocker run --disk 2M box -- /bin/sh -c '
  busybox df -k / | grep -q " 2048 " || exit 7
  if busybox dd if=/dev/zero of=/var/f bs=64k count=64 conv=fsync 2>/tmp/err; then exit 8; fi
  grep -qi quota /tmp/err || { cat /tmp/err; exit 9; }
  rm /var/f && busybox dd if=/dev/zero of=/var/f bs=64k count=16 conv=fsync 2>/dev/null' || fail "quota: $?"

step "everything stops"
pocker serve --stop
if grep ' nfs ' /proc/mounts; then fail "left mounted"; fi
echo "all of it held"
