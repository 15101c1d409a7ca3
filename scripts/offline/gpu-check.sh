#!/bin/sh
# Checks and measures polypaca on this machine's GPU; builds it first where that was not done. Flags: ./gpu-check.sh --help
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
[ -x "$here/bin/polypaca" ] || "$here/install.sh"
exec "$here/bin/polypaca" gpu-check "$@"
