#!/usr/bin/env bash
# Run on a Cloud TPU slice: launch/tpu_vm.sh COMMAND OPTIONS [-- ARGUMENTS]
#
#   create   create the slice: --type=v5litepod-16 [--spot] [--version=RUNTIME]
#   setup    install on all workers and mount shared storage: [--source=FILE.tar.gz or a git URL;
#            default: this checkout] [--nfs=ADDRESS:/SHARE or --bucket=BUCKET] [--mount=/mnt/jaxtal]
#   run      run jaxtal.main on all workers; restart it after exit code 75 and a lost connection:
#            --type=TYPE [--max-restarts=10] -- ARGUMENTS OF jaxtal.main
#   stop     send SIGTERM to the processes of a run, which save a checkpoint
#   fetch    copy a folder from worker 0: --from=FOLDER --to=FOLDER
#   delete   delete the slice
#
# All commands need --name, --zone and --project; --dry-run only prints the commands. The exit code
# of run is that of jaxtal.main; Ctrl-C and SIGTERM stop the run on the workers.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/common.sh
source "$HERE/common.sh"

OPTION+=([name]='' [zone]='' [project]='' [type]='' [version]='' [spot]=no [source]='')
OPTION+=([nfs]='' [bucket]='' [mount]=/mnt/jaxtal [max-restarts]=10 [from]='' [to]='')
STOPPED=no

# tpu COMMAND ARGUMENTS...: run gcloud for this slice.
tpu() {
    execute gcloud compute tpus tpu-vm "$@" \
        "--zone=${OPTION[zone]}" "--project=${OPTION[project]}"
}

# on_workers REMOTE: run a shell command on all workers at once.
on_workers() {
    tpu ssh "${OPTION[name]}" --worker=all "--command=$1"
}

create() {
    want type
    check_tpu "${OPTION[type]}" 8
    local runtime=${OPTION[version]} spot=()
    case ${OPTION[type]} in
        v4-*) runtime=${runtime:-tpu-ubuntu2204-base} ;;
        v5p-*) runtime=${runtime:-v2-alpha-tpuv5} ;;
        v5litepod-*) runtime=${runtime:-v2-alpha-tpuv5-lite} ;;
        v6e-*) runtime=${runtime:-v2-alpha-tpuv6e} ;;
    esac
    [[ ${OPTION[spot]} == yes ]] && spot=(--spot)
    tpu create "${OPTION[name]}" "--accelerator-type=${OPTION[type]}" "--version=$runtime" \
        "${spot[@]}"
}

# mounting: print the remote command that mounts the shared storage, if any.
mounting() {
    local at
    at=$(quote "${OPTION[mount]}")
    [[ ${OPTION[nfs]}${OPTION[bucket]} ]] || return 0
    printf ' && sudo mkdir -p %s && { mountpoint -q %s || ' "$at" "$at"
    if [[ ${OPTION[nfs]} ]]; then
        printf '{ sudo apt-get update && '
        printf 'sudo apt-get -o DPkg::Lock::Timeout=300 install -y nfs-common && '
        printf 'sudo mount -t nfs %s %s && sudo chmod 1777 %s; }; }' \
            "$(quote "${OPTION[nfs]}")" "$at" "$at"
    else
        # shellcheck disable=SC2016 # the worker expands it
        printf '{ sudo chown "$(id -u)" %s && gcsfuse --implicit-dirs %s %s; }; }' \
            "$at" "$(quote "${OPTION[bucket]}")" "$at"
    fi
}

setup() {
    local source=${OPTION[source]} get=': ' archive
    [[ -z ${OPTION[nfs]} || -z ${OPTION[bucket]} ]] || die "--nfs and --bucket: give one"
    if [[ $source == *://* || $source == git@* ]]; then
        get="git clone --depth=1 $(quote "$source") jaxtal"
    else
        archive=${source:-${TMPDIR:-/tmp}/jaxtal.tar.gz}
        [[ $source ]] || execute tar -czf "$archive" --exclude=__pycache__ -C "$(dirname "$HERE")" \
            jaxtal configs benchmarks launch pyproject.toml README.md LICENSE
        tpu scp "$archive" "${OPTION[name]}:jaxtal.tar.gz" --worker=all
        get='mkdir jaxtal && tar -xzf jaxtal.tar.gz -C jaxtal'
    fi
    # The workers' own Python may be older than 3.11, so uv installs one.
    on_workers "rm -rf jaxtal && $get && python3 -m pip install --user --upgrade uv \
&& python3 -m uv venv --allow-existing --python 3.12 jaxtal-venv \
&& python3 -m uv pip install --python jaxtal-venv/bin/python './jaxtal[tpu]'$(mounting)"
}

# remote: print the command of a run on a worker. The lock prevents two runs on one TPU; a run whose
# connection was lost ends within minutes. A death by a signal counts as an interruption.
remote() {
    local program
    program=$(quote ../jaxtal-venv/bin/python -m jaxtal.main "${ARGUMENTS[@]}" \
        --distributed "--expect_devices=$CHIPS")
    # shellcheck disable=SC2016 # the worker expands it
    printf '%s' 'cd jaxtal && flock -w 180 -E 3 ../jaxtal.lock ' \
        'bash -c '\''echo $$ >../jaxtal.pid; exec "$@"'\'' run ' "$program" '; code=$?; ' \
        '[ $code -ne 3 ] || { code=2; echo "error: another run is active on this worker; stop it" >&2; }; ' \
        '[ $code -lt 128 ] || code=75; exit $code'
}

stop() {
    # shellcheck disable=SC2016 # the worker expands it
    on_workers 'flock -n jaxtal.lock true || kill -TERM "$(cat jaxtal.pid)"'
}

# attempt REMOTE: run once on all workers; a signal to this script stops the run.
attempt() {
    local job
    set -m # a separate process group: a terminal's Ctrl-C reaches this script only
    on_workers "$1" </dev/null &
    job=$!
    set +m
    trap 'STOPPED=yes; stop || true' INT TERM
    while kill -0 "$job" 2>/dev/null; do
        wait "$job" || true # a signal interrupts it
    done
    trap - INT TERM
    wait "$job"
}

run() {
    want type
    want_number max-restarts
    want_run
    check_tpu "${OPTION[type]}" 8
    local restarts=0 code command
    command=$(remote)
    if [[ ${OPTION[dry-run]} == yes ]]; then
        on_workers "$command"
        printf 'restarts: at most %s, on exit code 75 or 255\n' "${OPTION[max-restarts]}"
        return
    fi
    while true; do
        code=0
        attempt "$command" || code=$?
        [[ $code =~ ^(75|255)$ && $STOPPED == no ]] || return "$code"
        if ((restarts >= OPTION[max-restarts])); then
            printf 'interrupted again after %d restarts; the same command resumes the run\n' \
                "$restarts" >&2
            return 75
        fi
        restarts=$((restarts + 1))
        printf 'interrupted (exit code %d), restart %d of %d\n' \
            "$code" "$restarts" "${OPTION[max-restarts]}" >&2
        sleep "${JAXTAL_RESTART_SECONDS:-10}"
    done
}

fetch() {
    want from to
    tpu scp --recurse --worker=0 "${OPTION[name]}:${OPTION[from]}" "${OPTION[to]}"
}

delete() {
    tpu delete "${OPTION[name]}"
}

[[ $# -gt 0 && $1 != --help && $1 != -h ]] || { usage && exit 0; }
[[ $1 =~ ^(create|setup|run|stop|fetch|delete)$ ]] ||
    die "unknown command '$1'; wanted create, setup, run, stop, fetch or delete"
parse "${@:2}"
want name zone project
"$1"
