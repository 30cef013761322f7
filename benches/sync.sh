# shellcheck shell=bash
# What `pocker sync` sends of a Debian root to which one package was added, by the bytes of the files that
# changed; and what peers send of the same two trees.

peers=(mmdebstrap ca-certificates rsync casync)
suite=(change whole)
rounds=${BENCH_ROUNDS:-3}
deb=bookworm

prepare() {
  pocker=$top/target/release/pocker
  [ -z "${BENCH_POCKER:-}" ] || pocker=$BENCH_POCKER
  export POCKER_STORE=$bench/store POCKER_SOCKET_DIR=$bench/s POCKER_BROWSE=$bench/browse
  say "making a Debian root, and one with a package more"
  SOURCE_DATE_EPOCH=1700000000 mmdebstrap --variant=minbase "$deb" "$bench/root1.tar" >>"$bench/log" 2>&1 &&
    SOURCE_DATE_EPOCH=1700000000 mmdebstrap --variant=minbase --include=less "$deb" "$bench/root2.tar" >>"$bench/log" 2>&1 ||
    die "mmdebstrap failed" "its output is in $bench/log"
  for n in 1 2; do
    mkdir "$bench/tree$n"
    # What an archive of files cannot hold, and rsync would not send.
    tar -C "$bench/tree$n" --exclude='./dev/*' -xf "$bench/root$n.tar"
    (cd "$bench/tree$n" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | cut -c1-64) >"$bench/sums$n"
    (cd "$bench/tree$n" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 stat -c %s) >"$bench/sizes$n"
  done
  # Each content once, as all three of them have it.
  changed=$(paste -d' ' "$bench/sums2" "$bench/sizes2" | LC_ALL=C sort -u |
    awk 'NR == FNR { old[$1] = 1; next } !($1 in old) { sum += $2 } END { print sum }' "$bench/sums1" -)
  say "  $changed bytes changed"
}

clean() { "$pocker" serve --stop >>"$bench/log" 2>&1; }

# Bytes of all files in these folders, as they are.
all_of() { find "$@" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }'; }
by_changed() { [ -z "$1" ] || awk -v sent="$1" -v changed="$changed" 'BEGIN { printf "%.4g", sent / changed }'; }

put() { tar -C "$bench/tree$1" -cf - . | "$pocker" import --force - box >>"$bench/log" 2>&1; }
to_folder() { "$pocker" sync local "file://$bench/folder" box; }

change() {
  local before ours peer_rsync peer_casync
  put 1 && to_folder >>"$bench/log" && before=$(all_of "$bench/folder")
  put 2 && to_folder >>"$bench/log" && ours=$(($(all_of "$bench/folder") - before))
  cp -a "$bench/tree1" "$bench/copy"
  peer_rsync=$(rsync -aHX --numeric-ids --delete --no-whole-file --stats "$bench/tree2/" "$bench/copy/" 2>>"$bench/log" |
    awk '/^Total bytes sent:/ { gsub(",", "", $4); print $4 }')
  casync make --store="$bench/chunks" "$bench/1.caidx" "$bench/tree1" >>"$bench/log" 2>&1
  before=$(all_of "$bench/chunks")
  casync make --store="$bench/chunks" "$bench/2.caidx" "$bench/tree2" >>"$bench/log" 2>&1
  peer_casync=$(($(all_of "$bench/chunks" "$bench/2.caidx") - before))
  # casync's chunks are compressed, and this layout's packs are not.
  row "one package more: sent, by what changed" x "$(by_changed "$ours")" "< 1.1" \
    rsync "$(by_changed "$peer_rsync")" "casync, compressed" "$(by_changed "$peer_casync")"
  rm -rf "$bench/copy" "$bench/chunks"
}

# The whole root, to where nothing is.
whole() {
  put 2
  whole_pocker() { rm -rf "$bench/folder"; timed to_folder; }
  whole_rsync() { rm -rf "$bench/copy"; timed rsync -aHX --numeric-ids "$bench/tree2/" "$bench/copy/"; }
  whole_casync() { rm -rf "$bench/chunks"; timed casync make --store="$bench/chunks" "$bench/1.caidx" "$bench/tree2"; }
  race "a whole root" whole_pocker whole_rsync whole_casync
  row "a whole root to a folder" ms "$(scaled "${took[whole_pocker]:-0}" 1000)" "" \
    rsync "$(scaled "${took[whole_rsync]:-0}" 1000)" casync "$(scaled "${took[whole_casync]:-0}" 1000)"
}
