# Shared by the scripts here: packages and a Rust toolchain, installed where missing.
# shellcheck shell=bash disable=SC2034

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $1"
  [ $# -lt 2 ] || say "hint: $2"
  exit 1
}

need_root() {
  [ "$(id -u)" = 0 ] || die "this mounts file systems and changes root directories, which takes root" "run it as root"
}

apt_updated=
# Installs those of the named Debian packages that are missing.
need_packages() {
  local missing=() package try
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null 2>&1 ||
    die "these are missing and this is no Debian: ${missing[*]}" "install them with this system's package manager"
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  for try in 1 2 3; do
    if [ -z "$apt_updated" ]; then
      apt-get update -qq >&2 || { sleep $((try * 2)); continue; }
      apt_updated=yes
    fi
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 && return 0
    apt_updated=
  done
  die "apt-get could not install ${missing[*]}"
}

# True where version $1 is at least $2.
at_least() {
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# Nothing where there is none.
cargo_version() { { cargo --version 2>/dev/null || true; } | cut -d' ' -f2; }

# A cargo that is new enough for Cargo.toml's rust-version, on PATH.
need_cargo() {
  local want have
  [ ! -d "$HOME/.cargo/bin" ] || PATH=$HOME/.cargo/bin:$PATH
  want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -n 1)
  have=$(cargo_version)
  if [ -z "$have" ] || ! at_least "$have" "$want"; then
    say "cargo is ${have:-missing}, at least $want is wanted: installing Debian's"
    need_packages rustc-web cargo-web
    hash -r
    # Debian's own, before an older one that is on PATH.
    PATH=/usr/bin:$PATH
    have=$(cargo_version)
    [ -n "$have" ] && at_least "$have" "$want" ||
      die "cargo $want or newer is needed, and this system's packages have ${have:-none}" "install Rust from your system or https://rustup.rs"
  fi
  # What compiles the C in the dependencies (SQLite).
  command -v cc >/dev/null 2>&1 || need_packages gcc libc6-dev
  export PATH
}

# A cargo command that comes in a package of its own: need_cargo_command NAME PACKAGE
need_cargo_command() {
  cargo "$1" --version >/dev/null 2>&1 || need_packages "$2"
  cargo "$1" --version >/dev/null 2>&1 ||
    die "cargo $1 is missing, also after $2 was installed" "rustup component add ${1/fmt/rustfmt}"
}

now() { date +%s.%N; }
seconds() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", b - a }'; }
