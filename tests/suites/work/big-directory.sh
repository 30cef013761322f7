#!/usr/bin/env bash
# A directory of 65 536 names: made, listed, looked up, renamed in, emptied.
. "$(dirname "$0")/lib.sh"
count=2048
case ${WORK_PLACE:-} in kernel-*) count=512 ;; fuse-tree) count=16384 ;; esac
[ -z "${WORK_LONG:-}" ] || { count=65536; case $WORK_PLACE in kernel-*) count=8192 ;; esac; }
began=$(date +%s.%N)
for at in "$WORK_DIR" "$WORK_LOCAL"; do "$python" "$here/names.py" make "$at/big" $count; done
echo "figure big-directory: $count names made here and there, $(since "$began")"
began=$(date +%s.%N)
[ "$(ls -fA "$WORK_DIR/big" | sort -u | wc -l)" = $count ] || failed "it lists $(ls -fA "$WORK_DIR/big" | wc -l) names"
echo "figure big-directory: $count names listed, $(since "$began")"
began=$(date +%s.%N)
(cd "$WORK_DIR" && find big -printf '%p %y %m %U %G %s\n' | grep -v '^big d' | sort) >"$WORK_LOCAL/mount"
(cd "$WORK_LOCAL" && find big -printf '%p %y %m %U %G %s\n' | grep -v '^big d' | sort) >"$WORK_LOCAL/local"
cmp "$WORK_LOCAL/mount" "$WORK_LOCAL/local" || failed "find(1) sees something else on the mount"
echo "figure big-directory: $count names with their attributes, $(since "$began")"
for name in name1 name$((count - 1)) stay0; do [ -f "$WORK_DIR/big/$name" ] || failed "no $name"; done
for name in name0 name$count stay1; do [ ! -e "$WORK_DIR/big/$name" ] || failed "there is $name"; done
mv "$WORK_DIR/big/name1" "$WORK_DIR/big/renamed"
[ "$(ls -fA "$WORK_DIR/big" | grep -c '^name1$\|^renamed$')" = 1 ] || failed "a name after a rename"
if rmdir "$WORK_DIR/big" 2>/dev/null; then failed "rmdir took a directory that is not empty"; fi
began=$(date +%s.%N)
rm -r "$WORK_DIR/big"
echo "figure big-directory: $count names removed, $(since "$began")"
[ ! -e "$WORK_DIR/big" ] || failed "it is still there"
