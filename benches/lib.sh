# Shared by the benchmarks: timing, medians, rows.
# shellcheck shell=bash disable=SC2034

rounds=${BENCH_ROUNDS:-7}
json=
failed=0

# Microseconds that "$@" takes; its output goes to the log. A command that fails ends the row.
timed() {
  local began=$EPOCHREALTIME
  "$@" >>"$bench/log" 2>&1 || { say "failed: $*"; tail -n 5 "$bench/log" >&2; return 1; }
  local ended=$EPOCHREALTIME
  echo $((${ended/./} - ${began/./}))
}

# The median of the numbers on stdin.
median() {
  sort -n | awk '{ v[NR] = $1 } END { if (NR == 0) exit 1; print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# Runs each of the functions named after "--" in turn, round after round, so that what the
# machine does meanwhile meets all alike; sets took[function] to the median in microseconds.
declare -A took
race() {
  local label=$1 round who value
  shift
  for who in "$@"; do : >"$bench/$who"; done
  for ((round = 0; round < rounds; round++)); do
    for who in "$@"; do
      say "  $label: $who $((round + 1))/$rounds"
      value=$("$who") || { took[$who]=; continue; }
      echo "$value" >>"$bench/$who"
    done
  done
  for who in "$@"; do
    if [ "$(wc -l <"$bench/$who")" = "$rounds" ]; then
      took[$who]=$(median <"$bench/$who")
    else
      took[$who]=
    fi
  done
}

scaled() { awk -v v="$1" -v by="$2" 'BEGIN { printf "%.4g", v / by }'; }

# row WHAT UNIT OURS GOAL [PEER VALUE]…: one line, with ours/peer; an empty value is a failure.
row() {
  local what=$1 unit=$2 ours=$3 goal=$4 line peer value ratio members
  shift 4
  line=$(printf '%-46s %10s %-8s to reach %-14s' "$what" "${ours:-FAILED}" "$unit" "$goal")
  members="\"what\":\"$what\",\"unit\":\"$unit\",\"ours\":${ours:-null},\"goal\":\"$goal\",\"peers\":{"
  [ -n "$ours" ] || failed=1
  while [ $# -gt 0 ]; do
    peer=$1 value=$2
    shift 2
    if [ -z "$value" ]; then
      failed=1
      line+="  $peer FAILED"
      members+="\"$peer\":null,"
      continue
    fi
    ratio=$(awk -v a="${ours:-0}" -v b="$value" 'BEGIN { printf "%.3g", b ? a / b : 0 }')
    line+="  $peer $value (ours/peer $ratio)"
    members+="\"$peer\":{\"value\":$value,\"ratio\":$ratio},"
  done
  say "$line"
  rows+=("$line")
  members="${members%,}}"
  [ -z "$json" ] || printf '{%s}\n' "$members"
}
