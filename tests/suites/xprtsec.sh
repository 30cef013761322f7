#!/bin/sh
# Linux's own client with TLS by tlshd, in a guest: tests/suites/xprtsec.sh PORT SEALED VOLUME
set -u
port=$1 sealed=$2 volume=$3
d=/debian m=/debian/mnt
fail() { echo "FAILED: $*"; dmesg | tail -n 20; tail -n 30 /run/tlshd; exit 1; }
inside() { chroot $d "$@"; }

echo "kernel $(uname -r)"
modprobe -a nfsv3 tls gcm ghash-generic || fail "no module"
for dir in dev proc sys run; do mount --bind /$dir $d/$dir || fail "bind $dir"; done
printf '127.0.0.1 localhost\n10.20.0.1 store.test wrong.test\n' >$d/etc/hosts
mkdir -p $d/etc/pocker
cp /etc/pocker/* $d/etc/pocker/
cat >$d/etc/tlshd.conf <<'END'
[debug]
loglevel=1
[authenticate.client]
x509.truststore=/etc/pocker/ca.pem
x509.certificate=/etc/pocker/host.pem
x509.private_key=/etc/pocker/host.key
END
inside /usr/sbin/tlshd -s >/run/tlshd 2>&1 &
tries=0
until grep -q 'PSK SHA384' /run/tlshd; do
  tries=$((tries + 1))
  [ $tries -lt 60 ] || fail "tlshd does not start"
  sleep 1
done

# mounted XPRTSEC EXPORT [HOST [hard]]
mounted() {
  kind=soft,timeo=100,retrans=1
  [ -z "${4:-}" ] || kind=hard
  inside /usr/bin/mount -t nfs -o "vers=3,proto=tcp,port=$port,mountproto=tcp,mountport=$port,nolock,noacl,$kind,retry=0,nosuid,nodev,xprtsec=$1" \
    "${3:-store.test}:$2" /mnt >/run/said 2>&1
}
# What the server's host is told.
tell() { mounted none "/chroot/$1" && umount $m || fail "cannot tell $1: $(cat /run/said)"; }
anew() { sync; umount $m || fail "umount"; }
# until_refused XPRTSEC WHY: a minute at the most.
until_refused() {
  tries=0
  while mounted "$1" "$sealed"; do
    anew
    tries=$((tries + 1))
    [ $tries -lt 120 ] || fail "$2"
    sleep 0.5
  done
}

for how in none tls mtls; do
  mounted $how "$sealed" || fail "$how: $(cat /run/said)"
  grep " $m nfs " /proc/mounts | grep -q "xprtsec=$how" || [ $how = none ] || fail "$how: $(grep " $m " /proc/mounts)"
  [ "$(md5sum <$m/secret-$how)" = "$(yes "read-with-$how-by-whom" | head -n 20000 | md5sum)" ] || fail "$how: what was read"
  anew
  mounted $how "$volume" || fail "$how: $(cat /run/said)"
  yes "written-with-$how-by-whom" | head -n 20000 >$m/own-$how || fail "$how: what was written"
  anew
  mounted $how "$volume" || fail "$how: $(cat /run/said)"
  [ "$(md5sum <$m/own-$how)" = "$(yes "written-with-$how-by-whom" | head -n 20000 | md5sum)" ] || fail "$how: what was read again"
  anew
  echo "held with $how"
done
# One that is not who it says.
if mounted tls "$sealed" wrong.test; then fail "mounted from a name that its certificate has not"; fi

mounted mtls "$volume" store.test hard || fail "hard: $(cat /run/said)"
i=0
while [ $i -lt 400 ]; do
  i=$((i + 1))
  echo $i >>$m/log && echo $i >>/run/done || fail "append $i"
  [ $i != 50 ] || (inside /usr/bin/mount -t nfs -o "vers=3,proto=tcp,port=$port,mountproto=tcp,mountport=$port,nolock,noacl,retry=0,xprtsec=none" store.test:/chroot/is-killed /tmp && umount /debian/tmp) ||
    fail "cannot tell kill"
done
anew
mounted mtls "$volume" || fail "after it: $(cat /run/said)"
cmp $m/log /run/done || fail "$(wc -l <$m/log) of $(wc -l </run/done) writes are there"
anew
echo "held while the server was killed"

tell is-revoked
until_refused mtls "its certificate is revoked, and it is let in"
echo "revoked: $(cat /run/said)"
mounted tls "$sealed" || fail "without a certificate: $(cat /run/said)"
anew

tell is-required
until_refused none "require lets in who has no TLS"
if mounted tls "$sealed"; then echo "require: mounted"; else echo "require: $(cat /run/said)"; fi
echo "all of it held"
