#!/usr/bin/env bash
# Run on a TPU slice on GKE through xpk: launch/gke.sh COMMAND OPTIONS [-- ARGUMENTS]
#
#   create   create a cluster with one slice: --type=v5litepod-16 [--spot]
#   image    build launch/Dockerfile and push it: --image=REPOSITORY/jaxtal:TAG
#   mount    mount shared storage in all pods at --mount=/mnt/jaxtal: --bucket=BUCKET or
#            --filestore=INSTANCE [--volume=share]
#   run      run jaxtal.main on all hosts; Kubernetes restarts it after exit code 75 and a lost
#            process:
#            --type=TYPE --image=IMAGE [--workload=jaxtal] [--max-restarts=10] -- ARGUMENTS
#   stop     delete the workload; its processes receive SIGTERM and save a checkpoint
#   fetch    copy a folder of the bucket: --bucket=BUCKET --from=FOLDER --to=FOLDER
#   delete   delete the cluster
#
# All commands need --name (of the cluster), --zone and --project; --dry-run only prints the
# commands.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/common.sh
source "$HERE/common.sh"

OPTION+=([name]='' [zone]='' [project]='' [type]='' [spot]=no [image]='' [workload]=jaxtal)
OPTION+=([bucket]='' [filestore]='' [volume]=share [mount]=/mnt/jaxtal [max-restarts]=10)
OPTION+=([from]='' [to]='')

# xpk COMMAND ARGUMENTS...: run the tool xpk for this cluster.
xpk() {
    execute xpk "$@" "--cluster=${OPTION[name]}" "--zone=${OPTION[zone]}" \
        "--project=${OPTION[project]}"
}

# check_gke: run check_tpu; xpk has no v5e slices of fewer than 8 chips.
check_gke() {
    want type
    [[ ! ${OPTION[type]} =~ ^v5litepod-[14]$ ]] ||
        die "xpk has no ${OPTION[type]}; the smallest is v5litepod-8, or use launch/tpu_vm.sh"
    check_tpu "${OPTION[type]}" 4
}

create() {
    check_gke
    local capacity=--on-demand
    [[ ${OPTION[spot]} == yes ]] && capacity=--spot
    xpk cluster create "--tpu-type=${OPTION[type]}" --num-slices=1 "$capacity" \
        --enable-gcsfuse-csi-driver --enable-gcpfilestore-csi-driver
}

image() {
    want image
    execute docker build --platform=linux/amd64 --build-arg=EXTRA=tpu \
        "--file=$HERE/Dockerfile" "--tag=${OPTION[image]}" "$(dirname "$HERE")"
    execute docker push "${OPTION[image]}"
}

mount() {
    local common=("--mount-point=${OPTION[mount]}" --readonly=false --auto-mount=true)
    if [[ ${OPTION[bucket]} ]]; then
        # User 1000 of the image writes the files.
        xpk storage attach jaxtal --type=gcsfuse "--bucket=${OPTION[bucket]}" --size=1000 \
            "${common[@]}" --mount-options=implicit-dirs,uid=1000,gid=1000
    else
        want filestore
        xpk storage attach jaxtal --type=gcpfilestore "--instance=${OPTION[filestore]}" \
            "--vol=${OPTION[volume]}" "${common[@]}"
    fi
}

run() {
    want image
    want_number max-restarts
    want_run
    check_gke
    # exec: xpk's shell sends SIGTERM to its child, which must be Python itself.
    xpk workload create "--workload=${OPTION[workload]}" "--tpu-type=${OPTION[type]}" \
        "--docker-image=${OPTION[image]}" "--max-restarts=${OPTION[max-restarts]}" \
        --restart-on-exit-codes=75 --termination-grace-period-seconds=60 \
        "--command=exec $(quote python -m jaxtal.main "${ARGUMENTS[@]}" --distributed \
            "--expect_devices=$CHIPS")"
}

stop() {
    xpk workload delete "--workload=${OPTION[workload]}"
}

fetch() {
    want bucket from to
    execute gcloud storage rsync --recursive "gs://${OPTION[bucket]}/${OPTION[from]}" \
        "${OPTION[to]}" "--project=${OPTION[project]}"
}

delete() {
    xpk cluster delete
}

[[ $# -gt 0 && $1 != --help && $1 != -h ]] || { usage && exit 0; }
[[ $1 =~ ^(create|image|mount|run|stop|fetch|delete)$ ]] ||
    die "unknown command '$1'; wanted create, image, mount, run, stop, fetch or delete"
parse "${@:2}"
want name zone project
"$1"
