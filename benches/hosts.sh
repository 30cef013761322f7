# shellcheck shell=bash
# One store and other hosts, each a network of its own: what a second host's first run moves over the wire,
# by the counters of its veth, and how ten hosts start one image at once. All of them share this machine's
# processors, as no real ones do.

peers=(mmdebstrap ca-certificates skopeo docker-registry rsync iproute2 curl nginx)
suite=(wire ten tls)
rounds=${BENCH_ROUNDS:-5}
deb=bookworm
at=10.98.0.1

# What a start is: programs, and a service that gives a page.
programs='ls / >/dev/null; python3 --version >/dev/null; perl --version >/dev/null; echo up'
service='python3 -c "
import http.server, threading, urllib.request
s = http.server.ThreadingHTTPServer((\"127.0.0.1\", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=s.serve_forever, daemon=True).start()
page = urllib.request.urlopen(\"http://127.0.0.1:%d/\" % s.server_port).read()
assert b\"etc/\" in page
print(\"up\")"'

prepare() {
  pocker=$top/target/release/pocker
  [ -z "${BENCH_POCKER:-}" ] || pocker=$BENCH_POCKER
  export POCKER_STORE=$bench/store POCKER_SOCKET_DIR=$bench/s POCKER_BROWSE=$bench/browse
  nets=() servers=() hub=pkb$$
  ip netns add $hub && nets+=($hub) && ip -n $hub link set lo up && ip -n $hub link add br0 type bridge &&
    ip -n $hub addr add $at/16 dev br0 && ip -n $hub link set br0 up || die "cannot make a network" "it takes root, and iproute2"
  say "making a Debian root"
  SOURCE_DATE_EPOCH=1700000000 mmdebstrap --variant=minbase --include=ca-certificates,python3,less "$deb" "$bench/root.tar" >>"$bench/log" 2>&1 ||
    die "mmdebstrap failed" "its output is in $bench/log"
  mkdir "$bench/tree"
  tar -C "$bench/tree" --exclude='./dev/*' -xf "$bench/root.tar"
  "$pocker" import "$bench/root.tar" base >>"$bench/log" 2>&1 || die "import failed" "its output is in $bench/log"
  image=$(find "$bench/tree" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')
  say "  $image bytes in its files"
  # What skopeo and rsync copy it from.
  printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: "%s:5917"}\nlog: {level: error}\n' "$bench" $at >"$bench/registry.yml"
  printf '[tree]\npath = %s/tree\nuid = 0\ngid = 0\nuse chroot = no\n' "$bench" >"$bench/rsyncd.conf"
  # Not by in_net: the processes that are ended have to be these themselves, and no shell around them.
  nsenter --net="/run/netns/$hub" docker-registry serve "$bench/registry.yml" >>"$bench/log" 2>&1 &
  servers+=($!)
  nsenter --net="/run/netns/$hub" rsync --daemon --no-detach --port=5918 --config="$bench/rsyncd.conf" >>"$bench/log" 2>&1 &
  servers+=($!)
  for _ in $(seq 100); do in_net $hub curl -s "http://$at:5917/v2/" >/dev/null && break; sleep 0.1; done
  in_net $hub "$pocker" push --plain-http base $at:5917/team/base:v1 >>"$bench/log" 2>&1 || die "push failed" "its output is in $bench/log"
  "$pocker" serve init-tls $at --dir "$bench/tls" >>"$bench/log" 2>&1
  (umask 077; "$pocker" token create --role run --expires 1d --name bench >"$bench/token" 2>>"$bench/log")
  "$pocker" serve --stop >>"$bench/log" 2>&1
  in_net $hub "$pocker" serve --listen $at --allow 10.98.0.0/16 --tls-cert "$bench/tls/server.pem" --tls-key "$bench/tls/server.key" 2>"$bench/serve.log" &
  servers+=($!)
  for _ in $(seq 100); do grep -q 'serving store=' "$bench/serve.log" && return; sleep 0.1; done
  die "the server does not serve" "its log is $bench/serve.log"
}

in_net() { local net=$1; shift; nsenter --net="/run/netns/$net" "$@"; }

unmount() { grep -o " $bench/[^ ]*" /proc/self/mounts | sort -r | xargs -r umount -l 2>/dev/null; }

clean() {
  "$pocker" serve --stop >>"$bench/log" 2>&1
  unmount
  for pid in "${servers[@]}"; do kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; done
  for net in "${nets[@]}"; do ip netns del "$net"; done
}

# A host that was never here before: its network, and nothing mounted. Its name in $host.
joined=0
join() {
  joined=$((joined + 1))
  host=$hub-$joined
  ip netns add "$host" && nets+=("$host") && ip -n "$host" link set lo up &&
    ip link add "h$joined" netns $hub type veth peer name eth0 netns "$host" &&
    ip -n $hub link set "h$joined" master br0 up &&
    ip -n "$host" addr add "10.98.1.$joined/16" dev eth0 && ip -n "$host" link set eth0 up
}

# afar HOST COMMAND…: pocker as that host has it.
afar() {
  local host=$1
  shift
  POCKER_STORE=$bench/at/$host/store POCKER_SOCKET_DIR=$bench/at/$host/s POCKER_REMOTE=pocker://$at \
    POCKER_REMOTE_CA=$bench/tls/ca.pem POCKER_TOKEN_FILE=$bench/token in_net "$host" "$pocker" "$@"
}

# Bytes that a host has received and sent.
moved() { in_net "$1" awk '/eth0:/ { sub(/.*eth0:/, ""); print $1 + $9 }' /proc/net/dev; }

# In percent of the image, what HOST COMMAND… moves.
share() {
  local host=$1 before
  shift
  before=$(moved "$host")
  "$@" >>"$bench/log" 2>&1 || { say "failed: $*"; return 1; }
  awk -v moved="$(($(moved "$host") - before))" -v image="$image" 'BEGIN { printf "%.3g", 100 * moved / image }'
}

wire() {
  local ours second services skopeo rsync
  join && ours=$(share "$host" afar "$host" run base -- sh -c "$programs")
  second=$(share "$host" afar "$host" run base -- sh -c "$programs")
  join && services=$(share "$host" afar "$host" run base -- sh -c "$service")
  join && skopeo=$(share "$host" in_net "$host" skopeo copy --src-tls-verify=false "docker://$at:5917/team/base:v1" "dir:$bench/copied")
  join && rsync=$(share "$host" in_net "$host" rsync -aHX --numeric-ids "rsync://$at:5918/tree/" "$bench/rsynced/")
  row "a host's first run: ls, python3, perl, moved" "%" "$ours" "< 10" "skopeo copy, gzip" "$skopeo" "rsync" "$rsync"
  row "a host's first run: python3 serves a page" "%" "$services" "< 10" "skopeo copy, gzip" "$skopeo" "rsync" "$rsync"
  row "the same host's second run" "%" "$second" ""
}

# Microseconds until HOST's run says that it is up, to FILE.
until_up() {
  local host=$1 file=$2 began=$3 line
  { read -r line && [ "$line" = up ] && echo $((${EPOCHREALTIME/./} - began)) >"$file"; cat >/dev/null; } < \
    <(afar "$host" run base -- sh -c "$programs" 2>>"$bench/log")
}

# The same in a plain chroot of this machine's disk, for what the machine itself makes of ten at once.
local_up() {
  local file=$2 began=$3 line
  { read -r line && [ "$line" = up ] && echo $((${EPOCHREALTIME/./} - began)) >"$file"; cat >/dev/null; } < \
    <(chroot "$bench/tree" sh -c "$programs" 2>>"$bench/log")
}

# WHOSE N: so many new hosts at once; the time of the last of them.
at_once() {
  local n all=() began pids=()
  rm -rf "$bench/up"
  mkdir "$bench/up"
  for ((n = 0; n < $2; n++)); do join && all+=("$host"); done
  began=${EPOCHREALTIME/./}
  for host in "${all[@]}"; do
    "$1" "$host" "$bench/up/$host" "$began" &
    pids+=($!)
  done
  wait "${pids[@]}"
  [ "$(cat "$bench"/up/* | wc -l)" = "$2" ] && sort -n "$bench"/up/* | tail -n 1
}

ten() {
  local round who n key value
  # What the server and the disk have read once is in memory, for all of them alike.
  mkdir -p "$bench/tree/dev" && [ -c "$bench/tree/dev/null" ] || mknod -m 666 "$bench/tree/dev/null" c 1 3
  for who in until_up local_up; do at_once $who 1 >/dev/null; done
  declare -A times=()
  for ((round = 0; round < rounds; round++)); do
    say "  ten at once: $((round + 1))/$rounds"
    for who in until_up local_up; do
      for n in 1 10; do
        at_once $who $n >"$bench/value" || { row "ten hosts at once" x "" "< 3"; return; }
        times[$who$n]+="$(cat "$bench/value") "
      done
    done
    unmount
  done
  for key in "${!times[@]}"; do times[$key]=$(tr ' ' '\n' <<<"${times[$key]% }" | median); done
  by() { awk -v a="${times[${1}10]}" -v b="${times[${1}1]}" 'BEGIN { printf "%.3g", a / b }'; }
  row "one host alone: up after" ms "$(scaled "${times[until_up1]}" 1000)" "" "chroot, own disk" "$(scaled "${times[local_up1]}" 1000)"
  row "ten hosts at once: the last is up after" ms "$(scaled "${times[until_up10]}" 1000)" "" "chroot, own disk" "$(scaled "${times[local_up10]}" 1000)"
  row "the same, by the one alone ($(nproc) processors)" x "$(by until_up)" "< 3" "chroot, own disk" "$(by local_up)"
}

# Megabytes a second of FILE, read by COMMAND… from the first byte to the last.
rate() {
  local bytes began=${EPOCHREALTIME/./}
  bytes=$("$@" 2>>"$bench/log" | wc -c)
  [ "$bytes" = $((big << 20)) ] || { say "failed: $bytes bytes of $*"; return 1; }
  awk -v bytes="$bytes" -v us=$((${EPOCHREALTIME/./} - began)) 'BEGIN { printf "%.4g\n", bytes / us }'
}

# One large file over one connection, in clear text and over TLS 1.3: by a mount of a host that has nothing of it (READs
# of 1 MiB by its FUSE helper), and by HTTP from nginx to curl over the same veth. The server's file is in memory.
tls() {
  local round how dir
  big=${BENCH_BIG:-512}
  declare -A rates=()
  mkdir "$bench/big"
  head -c "${big}M" /dev/urandom >"$bench/big/file"
  tar -C "$bench/big" -cf "$bench/big.tar" .
  "$pocker" import "$bench/big.tar" big >>"$bench/log" 2>&1 || die "import failed" "its output is in $bench/log"
  cat >"$bench/nginx.conf" <<END
worker_processes 1;
pid $bench/nginx.pid;
error_log $bench/log;
user root;
events {}
http {
  access_log off;
  sendfile on;
  ssl_protocols TLSv1.3;
  ssl_certificate $bench/tls/server.pem;
  ssl_certificate_key $bench/tls/server.key;
  server { listen $at:5919; listen $at:5920 ssl; root $bench/big; }
}
END
  nsenter --net="/run/netns/$hub" nginx -c "$bench/nginx.conf" -g 'daemon off;' >>"$bench/log" 2>&1 &
  servers+=($!)
  for _ in $(seq 100); do in_net $hub curl -s -o /dev/null -r 0-0 "http://$at:5919/file" && break; sleep 0.1; done
  for ((round = 0; round < rounds; round++)); do
    say "  TLS: $((round + 1))/$rounds"
    for how in off require; do
      join && dir=$bench/read/$host && mkdir -p "$dir"
      POCKER_MOUNT_HELPER=fuse POCKER_RPC_TLS=$how afar "$host" mount big "$dir" >>"$bench/log" 2>&1 ||
        { row "read over TLS" x "" ""; return; }
      rates[ours-$how]+="$(rate dd if="$dir/file" bs=1M status=none) "
      unmount
    done
    rates[nginx-off]+="$(rate in_net "$host" curl -s "http://$at:5919/file") "
    rates[nginx-require]+="$(rate in_net "$host" curl -s --cacert "$bench/tls/ca.pem" "https://$at:5920/file") "
  done
  for how in "${!rates[@]}"; do rates[$how]=$(tr ' ' '\n' <<<"${rates[$how]% }" | median); done
  over() { awk -v a="${rates[$1-require]}" -v b="${rates[$1-off]}" 'BEGIN { printf "%.3g", a / b }'; }
  row "a file of $big MiB read through a mount, clear text" "MB/s" "${rates[ours-off]}" "" "nginx, curl" "${rates[nginx-off]}"
  row "the same over TLS 1.3" "MB/s" "${rates[ours-require]}" "" "nginx, curl" "${rates[nginx-require]}"
  row "the same, by clear text" x "$(over ours)" "" "nginx, curl" "$(over nginx)"
}
