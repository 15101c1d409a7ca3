#!/bin/sh
# Builds polypaca on this machine and puts its launcher in place. Nothing comes from the network: this folder holds a Node runtime,
# all packages and the sources; the machine brings its compilers.
#   ./install.sh            builds; the launcher is bin/polypaca in this folder
#   ./install.sh FOLDER     also links it into FOLDER, e.g. ~/.local/bin
#   ./install.sh --cpu ...  the CPU back end alone, also where nvcc is there
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
say() { printf 'polypaca: %s\n' "$*"; }
has() { command -v "$1" >/dev/null 2>&1; }

cpu_only=no
if [ "${1-}" = --cpu ]; then cpu_only=yes; shift; fi

# What the build asks for as "node" is the runtime in here.
PATH="$here/node/bin:$PATH"
for folder in "${CUDA_HOME-}/bin" /usr/local/cuda/bin; do
  has nvcc || [ ! -x "$folder/nvcc" ] || PATH="$PATH:$folder"
done
export PATH

has "${CXX:-g++}" || { say "no C++ compiler: install g++ 11 or newer, or name one in CXX" >&2; exit 1; }
if ! has cmake; then
  say "no CMake here: building the CPU back end with ${CXX:-g++} alone. The CUDA back end needs CMake 3.18 or newer and nvcc."
  build=direct
elif [ $cpu_only = yes ]; then
  say "building the CPU back end"
  build=cmake; export POLYPACA_CUDA=OFF
elif ! has nvcc; then
  say "no nvcc here (looked in PATH, CUDA_HOME and /usr/local/cuda): building the CPU back end only"
  build=cmake; export POLYPACA_CUDA=OFF
else
  say "building the CPU and the CUDA back end with $(command -v nvcc)"
  build=cmake; export POLYPACA_CUDA=ON
fi
if ! node "$here/scripts/build-native.mjs" "$build"; then
  say "the build ended with an error, see above. ./install.sh --cpu builds the CPU back end alone." >&2
  exit 1
fi

mkdir -p "$here/bin"
cat >"$here/bin/polypaca.new" <<'LAUNCHER'
#!/bin/sh
here=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd -P)
exec "$here/node/bin/node" "$here/dist/cli/main.js" "$@"
LAUNCHER
chmod +x "$here/bin/polypaca.new"
mv "$here/bin/polypaca.new" "$here/bin/polypaca"
"$here/bin/polypaca" doctor
if [ $# -gt 0 ]; then
  mkdir -p "$1"
  ln -sf "$here/bin/polypaca" "$1/polypaca"
  say "installed: $1/polypaca"
else
  say "installed: $here/bin/polypaca"
fi
