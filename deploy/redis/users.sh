#!/usr/bin/env bash
# users.sh FOLDER [--waitaof]: deploy/redis/users.acl with the passwords of FOLDER, where caller, worker, coordinator and observer are
# files with one each. Prints what `redis-server --aclfile` takes, with hashes in place of the passwords. A file that is not there gets a
# new password. With --waitaof callers and workers may also use WAITAOF, for runs with durability fsync; Redis before 7.2 does not know it.
# Nobody can log in as `default`, which has all rights nevertheless: Redis replays its append-only file as this user, and drops each
# transaction that it may not execute.
set -euo pipefail
folder=${1:?usage: users.sh FOLDER [--waitaof], where the passwords are, or will be}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"

hash_of() {
  local file=$folder/$1
  if [ ! -s "$file" ]; then
    (umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$file")
  fi
  tr -d '\r\n' <"$file" | { sha256sum 2>/dev/null || shasum -a 256; } | cut -d ' ' -f 1
}

users=$(cat "$here/users.acl")
for name in caller worker coordinator observer; do
  placeholder=$(printf '#%s_PASSWORD' "$name" | tr '[:lower:]' '[:upper:]')
  users=${users/"$placeholder"/"#$(hash_of "$name")"}
done
if [ "${2:-}" = --waitaof ]; then users=${users//' +wait '/' +wait +waitaof '}; fi
printf '%s\n' "$users"
