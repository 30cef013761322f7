#!/usr/bin/env bash
# tar: a made-up archive in, out again, and away.
. "$(dirname "$0")/lib.sh"
count=1000
case ${WORK_PLACE:-} in kernel-*) count=300 ;; fuse-tree) count=10000 ;; esac
[ -z "${WORK_LONG:-}" ] || { count=100000; case $WORK_PLACE in kernel-*) count=5000 ;; esac; }

"$python" "$here/archive.py" $count 1813 >"$WORK_LOCAL/in.tar"
mkdir "$WORK_DIR/tree" "$WORK_LOCAL/tree"
began=$(date +%s.%N)
into() { tar -C "$1" --warning=no-timestamp --delay-directory-restore -xpf "$WORK_LOCAL/in.tar"; }
into "$WORK_DIR/tree"
echo "figure tar: $count files in, $(since "$began")"
into "$WORK_LOCAL/tree"
same "the archive" "$WORK_DIR/tree" "$WORK_LOCAL/tree" times
out() { tar -C "$1" --format=gnu --sort=name -cf "$2" d; }
began=$(date +%s.%N)
out "$WORK_DIR/tree" "$WORK_LOCAL/mount.tar"
echo "figure tar: $count files out, $(since "$began")"
out "$WORK_LOCAL/tree" "$WORK_LOCAL/local.tar"
cmp "$WORK_LOCAL/mount.tar" "$WORK_LOCAL/local.tar"
# An archive on the mount itself, read back.
cp "$WORK_LOCAL/mount.tar" "$WORK_DIR/copy.tar"
tar -C "$WORK_DIR/tree" --warning=no-timestamp -df "$WORK_DIR/copy.tar"
began=$(date +%s.%N)
rm -rf "$WORK_DIR/tree"
echo "figure tar: $count files away, $(since "$began")"
[ "$(ls -A "$WORK_DIR")" = copy.tar ] || failed "left after rm: $(ls -A "$WORK_DIR")"
