#!/usr/bin/env bash
# One client removes the names of a large directory while another reads it: each pass of the
# reader sees no name twice, sees all that stay, and ends.
. "$(dirname "$0")/lib.sh"
count=2000
case ${WORK_PLACE:-} in kernel-*) count=500 ;; fuse-tree) count=10000 ;; esac
[ -z "${WORK_LONG:-}" ] || count=100000
case ${WORK_PLACE:-} in kernel-*) [ -z "${WORK_LONG:-}" ] || count=10000 ;; esac

began=$(date +%s.%N)
"$python" "$here/names.py" make "$WORK_ONE/many" $count
echo "figure remove-while-read: $count names made, $(since "$began")"
[ "$(ls -fA "$WORK_TWO/many" | wc -l)" = $count ] || failed "the second client counts $(ls -fA "$WORK_TWO/many" | wc -l)"
# Those that stay are found among all those that go.
"$python" "$here/names.py" read "$WORK_TWO/many" "$WORK_LOCAL/stop" & reader=$!
began=$(date +%s.%N)
find "$WORK_ONE/many" -name 'name*' -delete
echo "figure remove-while-read: removed by the other client, $(since "$began")"
touch "$WORK_LOCAL/stop"
wait $reader || failed "the reader"
[ "$(ls -A "$WORK_TWO/many" | wc -l)" = $((count / 100)) ] || failed "$(ls -A "$WORK_TWO/many" | wc -l) names stayed"

# rm -rf of all of it: the reader's directory itself goes, which it may hear of.
rm "$WORK_LOCAL/stop"
"$python" "$here/names.py" make "$WORK_ONE/many/again" $((count / 4))
"$python" "$here/names.py" read-until-gone "$WORK_TWO/many/again" "$WORK_LOCAL/stop" & reader=$!
rm -rf "$WORK_ONE/many"
touch "$WORK_LOCAL/stop"
wait $reader || failed "the reader of what rm -rf removed"
gone() { [ ! -e "$WORK_TWO/many" ]; }
until_it "the second client sees it gone" gone
