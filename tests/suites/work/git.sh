#!/usr/bin/env bash
# git: clone, branches, commits, gc and fsck of a repository with a history.
. "$(dirname "$0")/lib.sh"
commits=80
case ${WORK_PLACE:-} in kernel-*) commits=15 ;; fuse-tree) commits=300 ;; esac
[ -z "${WORK_LONG:-}" ] || { commits=1500; case $WORK_PLACE in kernel-*) commits=200 ;; esac; }
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=$WORK_LOCAL/.gitconfig
export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
cat >"$GIT_CONFIG_GLOBAL" <<'END'
[user]
name = A Committer
email = committer@example.org
[safe]
directory = *
[gc]
auto = 0
[pack]
threads = 1
[advice]
detachedHead = false
END
git init -q --bare "$WORK_LOCAL/origin"
"$python" "$here/history.py" "$commits" 1813 | git -C "$WORK_LOCAL/origin" fast-import --quiet
git -C "$WORK_LOCAL/origin" symbolic-ref HEAD refs/heads/main

# Prints what somebody would see; both places must show the same.
use() {
  local dir=$1
  umask 022
  git clone -q --no-local "$WORK_LOCAL/origin" "$dir/clone"
  cd "$dir/clone"
  for branch in side other main; do
    git checkout -q "$branch"
    git status --porcelain
    git ls-files -s | sha256sum
    (listing . | grep -v '^\./\.git\|  \./\.git') | sha256sum
  done
  git checkout -q -b merged main
  git merge -q -m merged -X ours side >/dev/null 2>&1 || { git add -A && git commit -q -m merged; }
  for n in 1 2 3 4 5; do
    echo "$n" >"new$n"
    git add "new$n"
    git mv "$(git ls-files | head -n 1)" "moved$n"
    git commit -q -m "commit $n"
  done
  git stash -q || true
  git tag -a -m tagged v1
  git worktree add -q ../tree v1
  git -C ../tree fsck --no-progress
  git worktree remove ../tree
  git gc -q --prune=now
  forget .git
  git fsck --full --strict --no-progress
  git count-objects -v | grep -v size
  git for-each-ref
  git cat-file --batch-all-objects --batch | sha256sum
  git repack -qadf --depth=20 --window=20
  forget .git
  git fsck --full --no-progress
  git status --porcelain
  git log --stat | sha256sum
}
(use "$WORK_DIR") >"$WORK_LOCAL/said.mount"
(use "$WORK_LOCAL") >"$WORK_LOCAL/said.local"
[ "$(wc -l <"$WORK_LOCAL/said.local")" -gt 10 ] || failed "git said too little"
diff "$WORK_LOCAL/said.mount" "$WORK_LOCAL/said.local" || failed "git said something else on the mount"
# The index holds inode numbers, the logs the time.
rm "$WORK_DIR/clone/.git/index" "$WORK_LOCAL/clone/.git/index"
same "the clone" "$WORK_DIR/clone" "$WORK_LOCAL/clone"
