#!/usr/bin/env bash
# sqlite3 with each kind of journal: the same statements, a writer killed in mid-transaction, two
# writers at once, and the server killed under one that commits.
. "$(dirname "$0")/lib.sh"
journals=(delete truncate persist wal)
# The guest is emulated: the two that differ most.
case ${WORK_PLACE:-} in kernel-*) [ -n "${WORK_LONG:-}" ] || journals=(delete wal) ;; esac
for journal in "${journals[@]}"; do
  "$python" "$here/sqlite.py" work "$WORK_DIR/$journal.db" $journal
  "$python" "$here/sqlite.py" work "$WORK_LOCAL/$journal.db" $journal
  sqlite3 "$WORK_DIR/$journal.db" .dump >"$WORK_LOCAL/mount.sql"
  sqlite3 "$WORK_LOCAL/$journal.db" .dump >"$WORK_LOCAL/local.sql"
  cmp "$WORK_LOCAL/mount.sql" "$WORK_LOCAL/local.sql" || failed "$journal: another dump"
  cmp "$WORK_DIR/$journal.db" "$WORK_LOCAL/$journal.db" || failed "$journal: another file"
  "$python" "$here/sqlite.py" killed "$WORK_DIR/killed-$journal.db" $journal
  "$python" "$here/sqlite.py" two "$WORK_DIR/two-$journal.db" $journal
  # A host directory keeps no record of calls that were done: of a server that is killed between a
  # REMOVE and its answer the next one says that the name is not there, and sqlite, which ends each
  # transaction of this journal by removing it, takes that for a failure. Trees keep one.
  case ${WORK_PLACE:-},$journal in *-graft,delete) continue ;; esac
  if [ -n "${POCKER:-}" ]; then "$python" "$here/sqlite.py" served "$WORK_DIR/served-$journal.db" $journal; fi
done
[ -n "${POCKER:-}" ] || failed "POCKER does not say which server to kill"
