#!/usr/bin/env bash
# Container images for tests, without any hub: built from Debian packages once, kept in
# ${XDG_CACHE_HOME:-~/.cache}/slipway/test-images, served by docker-registry.
#
#   scripts/test-images.sh NAME...          builds what is missing, prints the directory of the registry's files
#   scripts/test-images.sh --serve NAME...  the same, then serves them: prints `127.0.0.1:PORT`, ends with its stdin
#   scripts/test-images.sh --list           the names
#
# `tiny`, `many`, `deep`, `noshell` need no rights; the others are made as root, or with sudo.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for program in docker-registry /usr/bin/python3 dpkg-deb; do
    command -v "$program" >/dev/null || {
        echo "test-images: \`$program\` is missing; scripts/setup.sh test installs it" >&2
        exit 2
    }
done
exec /usr/bin/python3 "$here/test_images.py" "$@"
