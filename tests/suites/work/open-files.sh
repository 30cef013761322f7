#!/usr/bin/env bash
# Files that are renamed over, removed, truncated, mapped and locked while they are open.
. "$(dirname "$0")/lib.sh"
for case in rename-over remove rename-over-mapped directory shared-map truncated-map fcntl-locks flock-locks; do
  mkdir "$WORK_DIR/$case" "$WORK_LOCAL/$case"
  "$python" "$here/open-files.py" $case "$WORK_DIR/$case" "$WORK_DIR" || failed "$case"
  # What the case says of itself it says of every file system.
  "$python" "$here/open-files.py" $case "$WORK_LOCAL/$case" "$WORK_LOCAL" || failed "$case, on a local file system"
  same "$case" "$WORK_DIR/$case" "$WORK_LOCAL/$case"
done
"$python" "$here/open-files.py" two-clients "$WORK_ONE" "$WORK_TWO" || failed "two clients"
