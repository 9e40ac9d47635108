#!/bin/sh
# Behaves as the public image's entrypoint does.
set -eu

case "${1:-}" in
  -* | *.conf) set -- redis-server "$@" ;;
esac

# The public image is compiled with protected mode off.
if [ "$1" = redis-server ]; then
  case " $* " in
    *" --sentinel "* | *" --protected-mode "* | *" --version "* | *" -v "* | *" --help "* | *" -h "* | *" --test-memory "* | *" --check-system "*) ;;
    *) set -- "$@" --protected-mode no ;;
  esac
fi

if [ "$(id -u)" = 0 ]; then
  case "$1" in
    redis-server | redis-sentinel)
      find . \! -user redis -exec chown redis:redis '{}' +
      exec setpriv --reuid=redis --regid=redis --clear-groups -- "$@"
      ;;
  esac
fi
exec "$@"
