#!/usr/bin/env bash
# A compile: make and gcc, from nothing and after changes; cargo too where it is there.
. "$(dirname "$0")/lib.sh"
parts=6
case ${WORK_PLACE:-} in fuse-tree) parts=30 ;; esac
[ -z "${WORK_LONG:-}" ] || { parts=60; case $WORK_PLACE in kernel-*) parts=20 ;; esac; }

project() {
  local dir=$1 n
  mkdir "$dir"
  cat >"$dir/Makefile" <<'END'
OBJECTS = $(patsubst %.c,%.o,$(wildcard part*.c))
CFLAGS = -O1 -g -Wall -Werror -MMD
# The time that ar would write is not the same twice.
ARFLAGS = rcD
program: main.o libparts.a
	$(CC) -o $@ main.o -L. -lparts
libparts.a: $(OBJECTS)
	rm -f $@
	$(AR) $(ARFLAGS) $@ $^
-include *.d
END
  echo 'int all(void);' >"$dir/all.h"
  printf '#include <stdio.h>\n#include "all.h"\nint main(void) { printf("%%d\\n", all()); return 0; }\n' >"$dir/main.c"
  for ((n = 0; n < parts; n++)); do
    printf 'struct shape%d { int a; char b[%d]; };\nint part%d(int x);\n' $n $((n + 1)) $n >"$dir/part$n.h"
    printf '#include <string.h>\n#include <stdlib.h>\n#include "part%d.h"\nint part%d(int x) { struct shape%d s; memset(&s, x, sizeof s); return s.a + abs(s.b[0]) + %d; }\n' $n $n $n $n >"$dir/part$n.c"
  done
  { for ((n = 0; n < parts; n++)); do echo "#include \"part$n.h\""; done
    echo '#include "all.h"'
    echo 'int all(void) { int sum = 0;'
    for ((n = 0; n < parts; n++)); do echo "sum += part$n($n);"; done
    echo 'return sum; }'; } >"$dir/partall.c"
}

# What make did, by its own account: its first word and what it made.
build() { make -C "$1" -j2 --no-print-directory program | awk '/-c -o/ { print "compiled", $NF } / -o program/ { print "linked" }' | sort; }

work() {
  local dir=$1
  project "$dir"
  build "$dir"
  make -q -C "$dir" program || failed "make would build again what it has just built"
  "$dir/program"
  # One header changed: what includes it is compiled again, and nothing else.
  sed -i 's/int part3(int x);/int part3(int x); extern int unused;/' "$dir/part3.h"
  build "$dir"
  # One part changed, replaced by rename as editors do.
  sed 's/+ 5;/+ 55;/' "$dir/part5.c" >"$dir/part5.c.new"
  mv "$dir/part5.c.new" "$dir/part5.c"
  build "$dir"
  make -q -C "$dir" program || failed "make would build again what it has just built"
  "$dir/program"
}
export -f work project build failed
export parts
began=$(date +%s.%N)
at_one_path "$WORK_DIR" bash -euo pipefail -c 'work project' >"$WORK_LOCAL/said.mount"
echo "figure compile: $parts parts with gcc, $(since "$began")"
at_one_path "$WORK_LOCAL" bash -euo pipefail -c 'work project' >"$WORK_LOCAL/said.local"
diff "$WORK_LOCAL/said.mount" "$WORK_LOCAL/said.local" || failed "make did something else on the mount"
[ "$(grep -c '^compiled' "$WORK_LOCAL/said.local")" = $((parts + 2 + 2 + 1)) ] || failed "make compiled $(grep -c ^compiled "$WORK_LOCAL/said.local") files"
same "what make and gcc made" "$WORK_DIR/project" "$WORK_LOCAL/project"

# cargo: hard links, mapped libraries, and flock(2) on its target directory.
if command -v cargo >/dev/null; then
  crate() {
    mkdir -p "$1/crate/src" "$1/crate/helper/src"
    printf '[package]\nname = "top"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nhelper = { path = "helper" }\n' >"$1/crate/Cargo.toml"
    printf '[package]\nname = "helper"\nversion = "0.1.0"\nedition = "2021"\n' >"$1/crate/helper/Cargo.toml"
    echo 'fn main() { println!("{}", helper::twice(21)); }' >"$1/crate/src/main.rs"
    echo 'pub fn twice(x: u32) -> u32 { x * 2 }' >"$1/crate/helper/src/lib.rs"
    local step
    for step in first second; do
      (cd "$1/crate" && CARGO_TARGET_DIR=target cargo build --quiet --offline && target/debug/top && sha256sum target/debug/top)
      sed -i 's/x \* 2/x * 2 + 1/' "$1/crate/helper/src/lib.rs"
    done
  }
  export -f crate
  at_one_path "$WORK_DIR" bash -euo pipefail -c 'crate .' >"$WORK_LOCAL/said.mount"
  at_one_path "$WORK_LOCAL" bash -euo pipefail -c 'crate .' >"$WORK_LOCAL/said.local"
  diff "$WORK_LOCAL/said.mount" "$WORK_LOCAL/said.local" || failed "cargo made something else on the mount"
  [ "$(grep -cE '^4[23]$' "$WORK_LOCAL/said.mount")" = 2 ] || failed "the crate said $(cat "$WORK_LOCAL/said.mount")"
fi
