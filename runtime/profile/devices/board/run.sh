#!/bin/sh
# Runs the worker in its folder and removes the folder, however that ends.
# sh run.sh FOLDER PYTHON SECONDS-OF-SILENCE WORD MODULE
EDGEDF_FOLDER=$1
python=$2
export EDGEDF_FOLDER
# What runs there reads our packages first, then the user's, and leaves nothing outside the folder.
# ONNX Runtime, unless it is told not to, notes an identity in the home folder and sends reports.
ORT_DISABLE_TELEMETRY=1
PYTHONUSERBASE=${PYTHONUSERBASE:-$HOME/.local}
HOME=$1/tmp
PYTHONPATH=$1/package:$1/site
PYTHONPYCACHEPREFIX=$1/tmp
TMPDIR=$1/tmp
XDG_CACHE_HOME=$1/tmp
export ORT_DISABLE_TELEMETRY HOME PYTHONUSERBASE PYTHONPATH PYTHONPYCACHEPREFIX TMPDIR XDG_CACHE_HOME
clean() {
	trap '' HUP INT TERM PIPE
	"$python" "$1/board/clean.py" "$1" 2>/dev/null
	rm -rf -- "$1"
}
trap 'clean "$EDGEDF_FOLDER"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM
cd "$1" || exit 1
printf '\n%s\n' "$4"
# In the background and waited for, as a trap does not run while a command in the foreground does.
exec 3<&0
"$python" "$1/board/keep.py" "$1" "$3" "$python" -m "$5" request.json <&3 &
wait $!
