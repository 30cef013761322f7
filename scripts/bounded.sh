# Shared by the scripts here: a command that may take so long and no longer.
# shellcheck shell=bash

running=

# bounded SECONDS COMMAND…: the command's status; 124, and what was seen of it, where it did not
# end by then. It reads nothing, and is a process group of its own so that all of it can be ended.
bounded() {
  local most=$1 timer status
  shift
  set -m
  "$@" </dev/null &
  running=$!
  set +m
  sleep "$most" &
  timer=$!
  wait -n "$running" "$timer"
  if kill -0 "$timer" 2>/dev/null; then
    kill "$timer"
    wait "$timer" 2>/dev/null
    wait "$running"
    status=$?
  else
    what_hangs "$most" "$@"
    end_running
    wait "$running" 2>/dev/null
    status=124
  fi
  running=
  return $status
}

end_running() {
  [ -n "$running" ] || return 0
  kill -TERM -- "-$running" 2>/dev/null
  sleep 2
  kill -KILL -- "-$running" 2>/dev/null
}

# Where every process of ours stands, for whoever looks for the reason.
what_hangs() {
  local most=$1 task name
  shift
  echo "error: after $most s this had not ended: $*"
  ps -eo pid,ppid,pgid,stat,etimes,wchan:20,args --forest | grep -v '\[.*\]$' | cut -c 1-200
  for task in /proc/[0-9]*/task/[0-9]*; do
    name=$(readlink "${task%/task/*}/exe") || continue
    case $name in */pocker | */debug/* | */release/*) ;; *) continue ;; esac
    printf -- '-- %s %s: %s\n' "$task" "$(cat "$task/comm" 2>/dev/null)" "$(cat "$task/syscall" 2>/dev/null)"
    head -n 6 "$task/stack" 2>/dev/null
  done
  grep -E 'fuse|nfs' /proc/self/mounts
  return 0
}
