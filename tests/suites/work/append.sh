#!/usr/bin/env bash
# Two clients that append. NFSv3 has no append: a client writes where it believes the end to be
# (RFC 1813 3.3.7), so what must hold is
#   - each client's own file is complete, seen from both;
#   - a file that one client at a time appends to, opened after the other's close, is complete;
#   - of a file that both append to at once records may be lost, but each that is there is whole.
. "$(dirname "$0")/lib.sh"
lines=500 turns=20
case ${WORK_PLACE:-} in kernel-*) lines=100 turns=10 ;; esac
[ -z "${WORK_LONG:-}" ] || { lines=$((lines * 20)) turns=$((turns * 5)); }

# append FILE MARK: each line is a write of its own, 64 bytes long.
append() { "$python" "$here/append.py" "$1" "$2" $lines; }
whole() {
  [ "$(stat -c %s "$1")" = $((lines * 64)) ] || failed "$1 has $(stat -c %s "$1") bytes of $((lines * 64))"
  "$python" "$here/append.py" --check "$1" "$2" || failed "$1 is torn"
}

mkdir "$WORK_ONE/append"
append "$WORK_ONE/append/own-one" A & one=$!
append "$WORK_TWO/append/own-two" B & two=$!
wait $one || failed "the first client's append"
wait $two || failed "the second client's append"
for at in "$WORK_ONE" "$WORK_TWO"; do
  whole "$at/append/own-one" A
  whole "$at/append/own-two" B
done

for ((n = 0; n < turns; n++)); do
  echo "one $n" >>"$WORK_ONE/append/turns"
  echo "two $n" >>"$WORK_TWO/append/turns"
done
for ((n = 0; n < turns; n++)); do printf 'one %s\ntwo %s\n' $n $n; done >"$WORK_LOCAL/turns"
for at in "$WORK_ONE" "$WORK_TWO"; do
  diff "$at/append/turns" "$WORK_LOCAL/turns" || failed "taking turns: $at/append/turns is not complete"
done

: >"$WORK_ONE/append/both"
append "$WORK_ONE/append/both" A & one=$!
append "$WORK_TWO/append/both" B & two=$!
wait $one || failed "the first client's append"
wait $two || failed "the second client's append"
for at in "$WORK_ONE" "$WORK_TWO"; do
  "$python" "$here/append.py" --check "$at/append/both" AB || failed "$at/append/both is torn"
done
kept=$(($(stat -c %s "$WORK_ONE/append/both") / 64))
[ $kept -ge $lines ] && [ $kept -le $((2 * lines)) ] || failed "$kept records where each client wrote $lines"
cmp "$WORK_ONE/append/both" "$WORK_TWO/append/both"
echo "figure append: $kept of $((2 * lines)) records of two clients at once are there"
