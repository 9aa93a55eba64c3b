#!/usr/bin/env bash
# Run a job on NVIDIA GPUs under Slurm. Submit it from the root of the checkout, on a file system
# that all nodes share:
#
#   sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 launch/slurm.sh -- ARGUMENTS
#   launch/slurm.sh --nodes=2 --gpus-per-node=4 --dry-run -- ARGUMENTS
#
# ARGUMENTS are those of jaxtal.main. Use one task per GPU: JAX assigns a Slurm task the device with
# the task's number on the node. Do not use --gpus-per-task, which hides the other GPUs and changes
# the numbers. Options: --python=PROGRAM (default: .venv/bin/python if it exists, else python);
# --max-restarts=10, the number of times that the job is requeued; for dry runs --nodes=1 and
# --gpus-per-node=1. Options of sbatch (--time, --partition, --account) come before the script.
#SBATCH --job-name=jaxtal
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[[ -f $HERE/common.sh ]] || HERE=${SLURM_SUBMIT_DIR:-.}/launch # sbatch runs a copy
[[ -f $HERE/common.sh ]] || {
    echo "error: $HERE/common.sh is not there; submit from the root of the checkout" >&2
    exit 2
}
# shellcheck source=launch/common.sh
source "$HERE/common.sh"

OPTION+=([nodes]=1 [gpus-per-node]=1 [max-restarts]=10 [python]=python)
[[ -x .venv/bin/python ]] && OPTION[python]=.venv/bin/python

# task COMMAND...: run one process of the job. srun ends the others as soon as one task fails and
# returns the highest of their exit codes. Therefore a failed task waits, so that the others can
# report the failure, and codes that a restart cannot fix are mapped above 75.
task() {
    local code=0
    trap : TERM # Slurm also sends it to the program, which saves a checkpoint
    "$@" || code=$?
    ((code == 0)) && exit 0
    sleep "${JAXTAL_GRACE_SECONDS:-15}"
    ((code == 75 || code >= 128)) && exit 75
    exit $((code < 27 ? 100 + code : 127))
}

# check_job: print the topology, check it, set DEVICES.
check_job() {
    local nodes=${SLURM_JOB_NUM_NODES:-${OPTION[nodes]}} gpus tasks
    gpus=${SLURM_GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-${OPTION[gpus-per-node]}}}
    gpus=${gpus##*:} # a100:4 -> 4
    tasks=${SLURM_NTASKS_PER_NODE:-$gpus}
    DEVICES=$((nodes * tasks))
    printf 'topology: %d nodes x %d tasks x 1 GPU = %d devices\n' "$nodes" "$tasks" "$DEVICES"
    ((tasks == gpus)) || die "$tasks tasks on a node of $gpus GPUs; give sbatch" \
        "--ntasks-per-node=$gpus --gpus-per-node=$gpus, one task per GPU"
    ((${SLURM_NTASKS:-$DEVICES} == DEVICES)) || die "SLURM_NTASKS is $SLURM_NTASKS, but $nodes" \
        "nodes x $tasks tasks = $DEVICES; submit without --ntasks"
    check_mesh "$DEVICES" "${ARGUMENTS[@]}"
}

# requeue: put this job back into the queue, at most max-restarts times.
requeue() {
    if ((${SLURM_RESTART_COUNT:-0} >= OPTION[max-restarts])); then
        echo "interrupted again after $SLURM_RESTART_COUNT restarts; the same command resumes the run" >&2
        exit 75
    fi
    echo "interrupted, restart $((${SLURM_RESTART_COUNT:-0} + 1)) of ${OPTION[max-restarts]}" >&2
    scontrol requeue "$SLURM_JOB_ID"
    exit 75
}

if [[ ${1-} == --task ]]; then
    task "${@:2}"
fi
parse "$@"
want_number nodes gpus-per-node max-restarts
want_run
check_job
PROGRAM=("${OPTION[python]}" -m jaxtal.main "${ARGUMENTS[@]}" --distributed
    "--expect_devices=$DEVICES")
if [[ ${OPTION[dry-run]} == yes ]]; then
    execute sbatch "--nodes=${OPTION[nodes]}" \
        "--ntasks-per-node=${OPTION[gpus-per-node]}" "--gpus-per-node=${OPTION[gpus-per-node]}" \
        launch/slurm.sh "--max-restarts=${OPTION[max-restarts]}" -- "${ARGUMENTS[@]}"
elif [[ -z ${SLURM_JOB_ID-} ]]; then
    die "not in a Slurm job; submit with sbatch launch/slurm.sh -- ARGUMENTS, or give --dry-run"
fi
CODE=0
execute srun --kill-on-bad-exit=1 bash "$HERE/slurm.sh" --task "${PROGRAM[@]}" || CODE=$?
((CODE == 75 || CODE >= 128)) && requeue
((CODE > 100)) && CODE=$((CODE - 100))
exit "$CODE"
