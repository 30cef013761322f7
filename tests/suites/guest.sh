#!/usr/bin/env bash
# One of two guests: tests/suites/guest.sh ROLE SERVER TREE GRAFT
#
# Both mount the exports TREE and GRAFT, and do this together. They wait for each other by files.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
role=$1 server=$2
other=$((3 - role))
names=/usr/bin/python3\ $here/work/names.py
append=/usr/bin/python3\ $here/work/append.py
failed() { echo "FAILED: guest $role, $kind: $*"; exit 1; }
trap 'echo "guest $role ended with $?"' ERR

# Both are here. A name that is absent is asked for again each time (lookupcache=pos).
step=0
meet() {
  local deadline=$((SECONDS + 600))
  step=$((step + 1))
  : >"$dir/meet/$step.$role"
  until [ -e "$dir/meet/$step.$other" ]; do
    [ $SECONDS -lt $deadline ] || failed "the other guest did not come to step $step ($1)"
    sleep 0.02
  done
}

work() {
  local n won
  mkdir -p "$dir/meet" "$dir/files$role" "$dir/won$role" "$dir/race"
  meet "begin"

  # Close-to-open: what is closed before a meeting is there after it.
  for n in 1 2; do
    for ((f = 0; f < 12; f++)); do head -c $((f * 997 + n)) /dev/urandom >"$dir/files$role/$f"; done
    (cd "$dir/files$role" && sha256sum ? ??) >"$dir/sums$role"
    meet "files are written"
    (cd "$dir/files$other" && sha256sum --quiet -c "$dir/sums$other") || failed "turn $n: the other's files"
    meet "files are read"
  done

  # Both append at once, each to its own file; then in turns to one.
  mark=$([ $role = 1 ] && echo A || echo B)
  $append "$dir/own$role" "$mark" 100
  meet "appended"
  $append --check "$dir/own1" A && $append --check "$dir/own2" B || failed "a torn file"
  [ "$(stat -c %s "$dir/own1" "$dir/own2" | sort -u)" = 6400 ] || failed "an append was lost"
  for n in 1 2 3 4 5 6; do
    [ $((n % 2)) != $((role % 2)) ] || echo "$n by guest $role" >>"$dir/turns"
    meet "turn $n"
  done
  [ "$(awk '{ printf "%s%s ", $1, $4 }' "$dir/turns")" = "11 22 31 42 51 62 " ] || failed "in turns: $(cat "$dir/turns")"

  # A race for names: each is moved by one of the two, and none is lost.
  [ $role = 2 ] || for ((n = 0; n < 30; n++)); do echo "$n" >"$dir/race/$n"; done
  meet "names to race for"
  won=0
  for ((n = 0; n < 30; n++)); do
    if mv -T "$dir/race/$n" "$dir/won$role/$n" 2>/dev/null; then won=$((won + 1)); fi
  done
  meet "raced"
  [ "$(ls "$dir/won$role" | wc -l)" = $won ] || failed "won $won names, and there are $(ls "$dir/won$role" | wc -l)"
  [ "$(ls "$dir/won1" "$dir/won2" | grep -c '^[0-9]')" = 30 ] && [ "$(ls -A "$dir/race" | wc -l)" = 0 ] || failed "a name was lost or doubled"
  [ "$(ls "$dir/won1" "$dir/won2" | grep '^[0-9]' | sort -u | wc -l)" = 30 ] || failed "a name is in both"
  # A race to make them: O_EXCL tells one that it did.
  won=0
  for ((n = 0; n < 30; n++)); do
    if (set -C; : >"$dir/race/$n") 2>/dev/null; then won=$((won + 1)); fi
  done
  echo $won >"$dir/made$role"
  meet "made"
  [ $(($(cat "$dir/made1") + $(cat "$dir/made2"))) = 30 ] || failed "of 30 names $(cat "$dir/made1") and $(cat "$dir/made2") were made"
  echo "figure $kind: guest $role made $won of 30 names in the race"

  # One removes a directory's names while the other reads it.
  if [ $role = 1 ]; then
    $names make "$dir/many" 400
    meet "a large directory"
    find "$dir/many" -name 'name*' -delete
    : >"$dir/stop"
  else
    meet "a large directory"
    $names read "$dir/many" "$dir/stop" || failed "the reader"
  fi
  meet "end"
}

modprobe -a nfsv3 || exit 1
for kind in tree graft; do
  [ $kind = tree ] && export=$3 || export=$4
  dir=/mnt/$kind step=0
  mkdir -p "$dir"
  mount -i -t nfs -o "vers=3,proto=tcp,addr=$server,port=2049,mountaddr=$server,mountproto=tcp,mountport=2049,mountvers=3,nolock,noacl,hard,actimeo=1,lookupcache=pos" \
    "$server:$export" "$dir" || { kind=$kind failed "mount"; }
  work
  echo "$kind: all of it held"
done
