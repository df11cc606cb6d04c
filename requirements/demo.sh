#!/usr/bin/env bash
# Run the demo. Where the stack is not installed yet, masks are cut meanwhile.
#   requirements/demo.sh onedl|openmmlab FOLDER WORKERS
set -euo pipefail
stack=$1
venv=$2
workers=$3
here=$(cd "$(dirname "$0")" && pwd)
say() { printf '\033[1m[demo] %s\033[0m\n' "$*"; }
demo=("$venv/bin/python" -m cuts3d_mm demo demo_out --workers "$workers")
end_started() {
    for started in ${cutting:-} ${installer:+-$installer}; do
        kill -- "$started" 2>/dev/null || true
    done
    wait
}

if ! bash "$here/install.sh" "$stack" "$venv" check; then
    bash "$here/install.sh" "$stack" "$venv" cutting
    trap end_started EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    log=$venv/install.log
    # A group of its own, which can be ended with all that it has started.
    setsid nice bash "$here/install.sh" "$stack" "$venv" >"$log" 2>&1 &
    installer=$!
    say "cutting the first masks; what training needs is being installed, see $log"
    # In the background, since a shell takes signals only while it waits.
    "${demo[@]}" --seeds 0 &
    cutting=$!
    wait "$cutting"
    cutting=
    say 'demo_out/index.html shows them; training follows as soon as the installation has ended'
    wait "$installer" || { tail -20 "$log"; exit 1; }
    installer=
    trap - EXIT HUP INT TERM
fi
"${demo[@]}"
