# shellcheck shell=bash
# NFS calls: this server beside other NFSv3 servers, under the same load by the same client
# over TCP loopback. Server and client have a core each; every back end is on tmpfs.

peers=(nfs-ganesha nfs-ganesha-vfs rpcbind iproute2 util-linux perl curl)
suite=(calls growth memory)
rounds=${BENCH_ROUNDS:-3}
# Of each load, in each round.
load_seconds=${BENCH_SECONDS:-0.4} growth_seconds=${BENCH_GROWTH_SECONDS:-1}
server_core=0 client_core=1
. benches/contestants.sh

ops=(null getattr lookup access readdir readdirplus read4k read1m create remove rename setattr write4k write1m)
# Connections and calls under way on each: what the goals are for, one at a time as real
# clients mostly ask, deeper, and many clients.
loads=("1 1" "1 16" "1 32" "8 16")
halt_poll=/sys/module/haltpoll/parameters/guest_halt_poll_ns

prepare() {
  [ "$(nproc)" -ge 2 ] || die "the bench wants a core for the server and one for the client" "this machine has $(nproc)"
  cargo build --locked --release -p pocker-load >&2 || exit 1
  cargo build --locked --release --manifest-path benches/peers/Cargo.toml --target-dir target/peers >&2 || exit 1
  bench_memory=$(mktemp -d /dev/shm/pocker-bench.XXXXXX)
  pocker=$top/target/release/pocker loader=$top/target/release/pocker-load
  polling=
  # In a virtual machine a wake-up from idle costs tens of microseconds, which would be all that
  # one sees; polling a little before it is idle takes that away, for every contestant alike.
  if [ -w "$halt_poll" ] && [ "${BENCH_HALT_POLL:-yes}" = yes ]; then
    polling=$(cat "$halt_poll")
    echo 200000 >"$halt_poll"
  fi
  network
  nodes 10000 "$bench_memory/t"
  tar -C "$bench_memory/t" -cf "$bench_memory/root.tar" .
}

clean() {
  [ -z "$polling" ] || echo "$polling" >"$halt_poll"
  stop_all
  rm -rf --one-file-system "$bench_memory"
}

# A tree of $1 nodes at $2: 100 in a directory, a path of ten names, a file of 64 MiB and a
# directory of 2000, or of half of them.
nodes() {
  mkdir -p "$2"
  perl -e '
    my ($n, $to) = @ARGV; chdir $to or die;
    my $deep = "deep"; mkdir $deep; for (1..8) { $deep .= "/d$_"; mkdir $deep }
    open F, ">", "$deep/leaf" or die; print F "x"; close F;
    my $list = $n < 4000 ? $n / 2 : 2000;
    mkdir "list"; for (1..$list) { open F, ">", "list/entry-$_-with-a-name" or die; close F }
    open F, ">", "big" or die; srand 1; for (1..64) { print F pack("N", rand 2**32) x (1 << 18) } close F;
    my $made = $list + 12;
    for (my $d = 0; $made < $n; $d++) {
      my $up = sprintf "up%d", $d / 100; mkdir $up; my $dir = "$up/m$d"; mkdir $dir; $made++;
      for (my $f = 0; $f < 99 && $made < $n; $f++, $made++) { open F, ">", "$dir/f$f" or die; print F "$d $f\n"; close F }
    }' "$1" "$2" || die "the tree of $1 nodes could not be made" "at $2"
}

# Puts one load on one contestant: load CONTESTANT OP CONNECTIONS DEPTH [MORE…]; one JSON line.
load() {
  local who=$1 op=$2 connections=$3 depth=$4 path=
  shift 4
  case $op in
    lookup) path=deep/d1/d2/d3/d4/d5/d6/d7/d8/leaf ;;
    read4k | read1m) path=big ;;
    readdir | readdirplus) path=list ;;
  esac
  inside taskset -c $client_core timeout 60 "$loader" "$op" --label "$who" --port "${port[$who]}" \
    --mount-port "${mount_port[$who]:-${port[$who]}}" --export "${export_of[$who]}" --path "$path" --pid "${pid[$who]}" \
    --connections "$connections" --depth "$depth" --seconds "$load_seconds" \
    --count $((20000 / connections)) "$@" 2>>"$bench/log"
}

reads() { case $1 in create | remove | rename | setattr | write4k | write1m) return 1 ;; esac; }

calls() {
  local who op shape round line all=(sealed build ganesha nfsserve nfs3_server memory)
  for who in "${all[@]}"; do start_"$who" || { say "FAILED: $who did not start; $bench/log has why"; tail -n 5 "$bench/log" >&2; failed=1; return; }; done
  : >"$bench/lines"
  for op in "${ops[@]}"; do
    for shape in "${loads[@]}"; do
      say "  $op, $shape (connections, depth)"
      for ((round = 0; round < rounds; round++)); do
        for who in "${all[@]}"; do
          [ "$who" != memory ] || [ "$op" = read1m ] || continue
          [ "$who" != sealed ] || reads "$op" || continue
          # Its files are of one size in memory; what it does not do, it refuses.
          # shellcheck disable=SC2086
          if line=$(load "$who" "$op" $shape); then
            echo "$line" >>"$bench/lines"
          else
            say "FAILED: $who, $op: $(tail -n 1 "$bench/log")"
            echo "{\"label\":\"$who\",\"op\":\"$op\",\"connections\":${shape% *},\"depth\":${shape#* },\"per_second\":0,\"calls\":1,\"errors\":1}" >>"$bench/lines"
            [[ $who = ganesha || $who = nfs* ]] && [ -n "$(alive "$who")" ] || failed=1
          fi
        done
      done
    done
  done
  stop_all
  [ -z "$json" ] || cat "$bench/lines"
  local table
  table=$("$loader" table <"$bench/lines") || failed=1
  say "$table"
  rows+=("c: connections; d: calls under way on each; !: some calls were answered with an error; us: server's processor time a call${polling:+; idle cores poll 200 us (guest_halt_poll_ns)}" "$table")
}

# What a call costs the server as trees grow from 10^3 to 10^6 nodes, sealed and as build trees
# on top of them: its processor time, for calls on all nodes, directories, names or files in no order.
growth() {
  local n op who round line more
  local sizes=(1000 10000 100000 1000000) calls=(getattr access lookup readdirplus read4k create remove)
  declare -A cost
  for n in "${sizes[@]}"; do
    fresh_tree "$n" && start_sealed && start_build || { failed=1; stop_all; return; }
    for who in sealed build; do
      for op in "${calls[@]}"; do
        [ "$who" = build ] || reads "$op" || continue
        say "  $op of $n nodes ($who)"
        for ((round = 0; round < rounds; round++)); do
          line=$(load_nodes "$who" "$op" "$n") || continue
          echo "${line%\}},\"nodes\":$n}"
        done >"$bench/growth"
        [ -z "$json" ] || cat "$bench/growth"
        cost[$who,$op,$n]=$(cost_of "$op" <"$bench/growth" | median | awk '{ printf "%.3g", $1 }')
      done
    done
    stop_all
  done
  for who in sealed build; do
    for op in "${calls[@]}"; do
      [ "$who" = build ] || reads "$op" || continue
      more=()
      for n in "${sizes[@]:0:3}"; do more+=("$n nodes" "${cost[$who,$op,$n]}"); done
      row "$op, 1000000 nodes ($who)" "us" "${cost[$who,$op,1000000]}" "<= 1.5 x" "${more[@]}"
    done
  done
}

# A load on all nodes of a tree, in no order.
load_nodes() {
  local who=$1 op=$2 n=$3
  shift 3
  inside taskset -c $client_core timeout 120 "$loader" "$op" --label "$who" --port "${port[$who]}" --export "${export_of[$who]}" \
    --pid "${pid[$who]}" --depth 16 --seconds "$growth_seconds" --nodes "$n" "$@" 2>>"$bench/log"
}

# The server's microseconds a call; for READDIRPLUS an entry, for CREATE a file.
cost_of() {
  case $1 in
    readdirplus) sed -n 's/.*"unit_us":\([0-9.e+-]*\).*/\1/p' ;;
    *) sed -n 's/.*"server_us":\([0-9.e+-]*\).*/\1/p' ;;
  esac
}

# A new archive of a tree of $1 nodes.
fresh_tree() {
  rm -rf "$bench_memory/t"
  nodes "$1" "$bench_memory/t"
  tar -C "$bench_memory/t" -cf "$bench_memory/root.tar" .
  rm -rf "$bench_memory/t"
}

# What the server of a tree of a million nodes has in memory: before anything was looked at,
# after every node was, by GETATTR and by LOOKUP; and after a million files were made.
memory() {
  local n=${BENCH_MEMORY_NODES:-1000000} who small idle after op
  idle_server 1000 build && small=$(resident build) || { failed=1; stop_all; return; }
  stop_all
  for who in sealed build; do
    idle_server $n "$who" && idle=$(resident "$who") || { failed=1; stop_all; return; }
    row "memory for a node of $n not looked at ($who)" bytes "$(((idle - small) * 1024 / n))" "0"
    for op in getattr lookup; do
      load_nodes "$who" $op $n --in-order --seconds 4 >/dev/null
      after=$(resident "$who")
      row "memory for a node of $n after $op of each ($who)" bytes "$(((after - idle) * 1024 / n))" "< 200"
    done
    stop_all
  done
  idle_server 1000 build && idle=$(resident build) || { failed=1; stop_all; return; }
  # It makes the files, and looks at them.
  load_nodes build setattr 1 --count $n --seconds 0 >/dev/null
  after=$(resident build)
  row "memory for a file of $n made and listed (build)" bytes "$(((after - idle) * 1024 / n))" "< 200"
  load_nodes build getattr $n --in-order --seconds 4 >/dev/null
  after=$(resident build)
  row "memory for the same after getattr of each (build)" bytes "$(((after - idle) * 1024 / n))" "< 200"
  stop_all
}

# A server that has answered no more than a few calls of a tree of $1 nodes, of the kind $2.
idle_server() {
  fresh_tree "$1" && serve && serve_anew && "start_$2" && load "$2" getattr 1 16 --nodes 100 >/dev/null
}

resident() { awk '/^VmRSS/ { print $2 }' "/proc/${pid[$1]}/status"; }
