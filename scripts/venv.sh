# Sourced by quickstart.sh and test.sh: makes .venv once, installs the package with the extras in $1, enters it.
# PYTHON=python3.12 picks an interpreter; IF_FACTORY_VENV another folder.
# IF_FACTORY_READY=1 uses the environment as it is.
[ -z "${IF_FACTORY_READY:-}" ] || return 0
PYTHON="${PYTHON:-python3}"
VENV="${IF_FACTORY_VENV:-.venv}"

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "if_factory needs Python 3.11 or newer; $PYTHON is $("$PYTHON" --version). Set PYTHON=python3.x." >&2
  exit 2
}
if [ ! -x "$VENV/bin/python" ]; then
  "$PYTHON" -m venv "$VENV"
fi
# The stamp holds what was installed, so a second call installs nothing and a changed pyproject installs again.
wanted="$1 $(cksum < pyproject.toml)"
if [ "$(cat "$VENV/.installed" 2>/dev/null)" != "$wanted" ]; then
  echo "installing if-factory[$1] into $VENV (a few minutes: it brings PyTorch)"
  "$VENV/bin/python" -m pip install --quiet --editable ".[$1]"
  echo "$wanted" > "$VENV/.installed"
fi
export PATH="$PWD/$VENV/bin:$PATH"
[ "${VENV#/}" = "$VENV" ] || export PATH="$VENV/bin:$PATH"
