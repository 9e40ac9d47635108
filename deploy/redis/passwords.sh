#!/usr/bin/env bash
# Runs in a container of deploy/compose.yaml, once: writes a password for each user into /passwords, readable by the group of those
# that log in with it, and the users for Redis. Passwords that are there stay.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd /passwords
"$here/users.sh" . >users.new
# The uid of Redis in the public images.
chown 999:999 users.new
chmod 0400 users.new
mv users.new users.acl
group=10001
for user in caller worker coordinator observer; do
  chown "0:$group" "$user"
  chmod 0440 "$user"
  group=$((group + 1))
done
