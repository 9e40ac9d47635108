#!/bin/sh
# Behaves as the entrypoint of the public images of Redis and Valkey does.
set -eu

case "${1:-}" in
  -* | *.conf) set -- redis-server "$@" ;;
esac

# The public images are compiled with protected mode off.
case "$1" in
  redis-server | valkey-server)
    case " $* " in
      *" --sentinel "* | *" --protected-mode "* | *" --version "* | *" -v "* | *" --help "* | *" -h "* | *" --test-memory "* | *" --check-system "*) ;;
      *) set -- "$@" --protected-mode no ;;
    esac
    ;;
esac

if [ "$(id -u)" = 0 ]; then
  case "$1" in
    redis-* | valkey-*)
      find . \! -uid 999 -exec chown 999:999 '{}' +
      exec setpriv --reuid=999 --regid=999 --clear-groups -- "$@"
      ;;
  esac
fi
exec "$@"
