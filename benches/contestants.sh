# shellcheck shell=bash disable=SC2034
# The servers of benches/nfs.sh: start_NAME sets port, mount_port, export_of and pid of it.

declare -A port mount_port export_of pid

# A network of their own: ganesha wants a portmapper, which the host may have or not.
network() {
  unshare -n sleep infinity &
  holder=$!
  until [ "$(readlink /proc/$holder/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
  inside ip link set lo up
}

inside() { nsenter --net="/proc/$holder/ns/net" -- "$@"; }
# For the background: so that $! is the program itself.
become() { exec nsenter --net="/proc/$holder/ns/net" -- "$@"; }
alive() { kill -0 "${pid[$1]}" 2>/dev/null && echo yes; }

# listening PORT: waits, 20 s at most, until something listens there.
listening() {
  local i
  for ((i = 0; i < 200; i++)); do
    inside bash -c "exec 3<>/dev/tcp/127.0.0.1/$1" 2>/dev/null && return
    sleep 0.1
  done
  say "nothing listens on port $1"
  return 1
}

stop_all() {
  local who
  for who in "${!pid[@]}"; do
    kill "${pid[$who]}" 2>/dev/null
    wait "${pid[$who]}" 2>/dev/null
  done
  if [ -n "${ours:-}" ]; then kill "$ours" 2>/dev/null; wait "$ours" 2>/dev/null; ours=; fi
  pid=()
  if [ -n "${portmapper:-}" ]; then kill "$portmapper" 2>/dev/null; portmapper=; fi
  grep -o " $bench_memory/[^ ]*" /proc/self/mounts | sort -r | xargs -r umount -l 2>/dev/null
  rm -rf "$bench_memory/store" "$bench_memory/s"
  [ "${FUNCNAME[1]:-}" != clean ] || kill "$holder" 2>/dev/null
}

# One server has both, the sealed tree and a build tree on top of it.
serve() {
  [ -z "${ours:-}" ] || return 0
  export POCKER_STORE=$bench_memory/store POCKER_SOCKET_DIR=$bench_memory/s POCKER_BROWSE=$bench_memory/browse
  mkdir -p "$POCKER_SOCKET_DIR" "$POCKER_BROWSE"
  serve_store || return 1
  printf 'FROM %s sha256:%s\nRUN true\n' "$bench_memory/root.tar" "$(sha256sum "$bench_memory/root.tar" | cut -d' ' -f1)" >"$bench/nfs.pockerfile"
  "$pocker" create --no-browse -f "$bench/nfs.pockerfile" box "$bench" >>"$bench/log" 2>&1
}

serve_store() {
  become taskset -c $server_core "$pocker" serve --listen 127.0.0.1:20490 >>"$bench/log" 2>&1 &
  ours=$!
  listening 20490
}

# The same store under a server that has seen nothing of it yet.
serve_anew() {
  kill "$ours"
  wait "$ours"
  serve_store
}

control() { curl -sS --fail-with-body --unix-socket "$POCKER_SOCKET_DIR/control.sock" -H 'content-type: application/json' "$@"; }

start_sealed() {
  serve || return 1
  port[sealed]=20490 export_of[sealed]=/chroot/box/run pid[sealed]=$ours
}

start_build() {
  local snapshot
  serve || return 1
  snapshot=$(control http://x/v1/pockers/box | grep -o '"snapshot":"[0-9a-f]*"' | tail -n 1 | cut -d'"' -f4)
  export_of[build]=$(control http://x/v1/trees -d "{\"base\":\"$snapshot\",\"purpose\":\"build\",\"label\":\"bench\",\"pid\":$$}" |
    sed -n 's/.*"path":"\([^"]*\)".*/\1/p')
  [ -n "${export_of[build]}" ] || return 1
  port[build]=20490 pid[build]=$ours
}

start_ganesha() {
  mkdir -p "$bench_memory/ganesha"
  cat >"$bench/ganesha.conf" <<END
NFS_CORE_PARAM { Protocols = 3; NFS_Port = 20501; MNT_Port = 20502; Enable_NLM = false; Enable_RQUOTA = false; mount_path_pseudo = false; }
EXPORT { Export_Id = 1; Path = $bench_memory/t; Pseudo = /t; Access_Type = RW; Squash = None; SecType = sys; Protocols = 3; Transports = TCP; FSAL { Name = VFS; } }
END
  # Its own /run and /var/lib/nfs: the portmapper and ganesha leave files there.
  become unshare -m sh -c 'mount -t tmpfs none /run && mkdir /run/ganesha && mount -t tmpfs none /var/lib/nfs && mkdir /var/lib/nfs/ganesha || exit
    rpcbind -w -f & echo $! >"$1/rpcbind.pid"; until rpcinfo -T tcp 127.0.0.1 100000 4 >/dev/null 2>&1; do sleep 0.1; done
    echo $$ >"$1/ganesha.pid"
    exec taskset -c "$2" ganesha.nfsd -F -L "$1/ganesha.log" -f "$1/ganesha.conf" -N NIV_EVENT -p /run/ganesha.pid' sh "$bench" $server_core >>"$bench/log" 2>&1 &
  listening 20501 && listening 20502 || return 1
  pid[ganesha]=$(cat "$bench/ganesha.pid") portmapper=$(cat "$bench/rpcbind.pid")
  port[ganesha]=20501 mount_port[ganesha]=20502 export_of[ganesha]=$bench_memory/t
}

# What the crates' own servers do, filled with the same tree: benches/peers.
start_crate() {
  become taskset -c $server_core "target/peers/release/peer-$1" "$2" "$bench_memory/t" >>"$bench/log" 2>&1 &
  pid[$1]=$! port[$1]=$2 export_of[$1]=/
  listening "$2"
}

start_nfsserve() { start_crate nfsserve 20503; }
start_nfs3_server() { start_crate nfs3_server 20504; }

# Answers READs from memory: what any server could do at most.
start_memory() {
  become taskset -c $server_core "$loader" serve-memory --port 20505 >>"$bench/log" 2>&1 &
  pid[memory]=$! port[memory]=20505 export_of[memory]=/
  listening 20505
}
