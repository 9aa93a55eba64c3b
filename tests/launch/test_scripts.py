"""The shell scripts: dry runs, rejections, and runs with stand-ins for gcloud, xpk and srun."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import ROOT

LAUNCH = ROOT / "launch"
_NOT_LISTED = ("README.md", "__init__.py", "__pycache__", "Dockerfile.dockerignore")
PLACE = ["--name=pod", "--zone=us-west4-a", "--project=mine"]
WHERE = "--zone=us-west4-a --project=mine"
MAIN = ["--", "--config=configs/co2net_thumos.py", "--workdir=/mnt/jaxtal/runs/it's 1"]
QUOTED_MAIN = "--config=configs/co2net_thumos.py '--workdir=/mnt/jaxtal/runs/it'\\''s 1'"
V5E = "--type=v5litepod-16"
SSH = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod", "--worker=all"]


def script(name: str, *arguments: str, **variables: str) -> tuple[int, list[str], str]:
    """Return exit code, lines of standard output, standard error."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    done = subprocess.run(
        ["bash", str(LAUNCH / name), *arguments],
        cwd=ROOT,
        env={**outside, "TMPDIR": "/tmp", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def dry(name: str, *arguments: str, **variables: str) -> list[str]:
    """Return the output of a dry run, in an environment without any of the tools."""
    code, lines, error = script(name, *arguments, **variables)
    assert (code, error) == (0, "")
    return lines


def refusal(name: str, *arguments: str, **variables: str) -> str:
    """Return the single error line of a rejected command."""
    code, _, error = script(name, *arguments, **variables)
    assert code == 2
    assert error.count("\n") == 1
    return error


def test_shellcheck_has_no_finding():
    beside = Path(sys.executable).with_name("shellcheck")
    program = shutil.which("shellcheck") or (str(beside) if beside.exists() else None)
    if program is None:
        pytest.skip("no shellcheck")
    scripts = sorted(map(str, LAUNCH.glob("*.sh")))
    assert len(scripts) == 4
    done = subprocess.run(
        [program, "-x", *scripts], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", ["tpu_vm.sh", "gke.sh", "slurm.sh"])
def test_help_describes_every_option(name):
    text = "\n".join(dry(name, "--help"))
    options = re.findall(r"\[([a-z-]+)\]=", (LAUNCH / name).read_text())
    assert len(options) > 3
    assert all(f"--{option}" in text for option in options)
    assert "#" not in text


def test_tpu_create():
    assert dry("tpu_vm.sh", "create", *PLACE, V5E, "--spot", "--dry-run") == [
        "topology: v5litepod-16 = 16 chips on 4 hosts",
        "gcloud compute tpus tpu-vm create pod --accelerator-type=v5litepod-16 "
        f"--version=v2-alpha-tpuv5-lite --spot {WHERE}",
    ]


def test_tpu_setup_copies_the_checkout_and_mounts():
    pack, copy, install = dry("tpu_vm.sh", "setup", *PLACE, "--nfs=10.0.0.2:/share", "--dry-run")
    assert pack.startswith(f"tar -czf /tmp/jaxtal.tar.gz --exclude=__pycache__ -C {ROOT} jaxtal ")
    for path in pack.partition(str(ROOT))[2].split():
        assert (ROOT / path).exists(), path
    assert copy == (
        "gcloud compute tpus tpu-vm scp /tmp/jaxtal.tar.gz pod:jaxtal.tar.gz --worker=all " + WHERE
    )
    words = shlex.split(install)
    assert words[:7] == SSH
    assert "uv pip install --python jaxtal-venv/bin/python './jaxtal[tpu]'" in words[7]
    assert words[7].endswith(
        "sudo mount -t nfs 10.0.0.2:/share /mnt/jaxtal && sudo chmod 1777 /mnt/jaxtal; }; }"
    )


def test_tpu_setup_of_a_repository_with_a_bucket():
    source = ["--source", "https://example.org/jaxtal.git", "--bucket=my-data", "--mount=/mnt/x"]
    (install,) = dry("tpu_vm.sh", "setup", *PLACE, *source, "--dry-run")
    command = shlex.split(install)[7]
    assert "git clone --depth=1 https://example.org/jaxtal.git jaxtal &&" in command
    assert command.endswith("gcsfuse --implicit-dirs my-data /mnt/x; }; }")
    assert subprocess.run(["bash", "-n", "-c", command[len("--command=") :]], check=True)


def test_tpu_run():
    topology, command, restarts = dry("tpu_vm.sh", "run", *PLACE, V5E, "--dry-run", *MAIN)
    assert topology == "topology: v5litepod-16 = 16 chips on 4 hosts"
    words = shlex.split(command)
    assert words[:7] == SSH
    assert (
        f" ../jaxtal-venv/bin/python -m jaxtal.main {QUOTED_MAIN} --distributed "
        "--expect_devices=16; code=$?; "
    ) in words[7]
    assert restarts == "restarts: at most 10, on exit code 75 or 255"


def test_tpu_stop_fetch_and_delete():
    (stop,) = dry("tpu_vm.sh", "stop", *PLACE, "--dry-run")
    assert "kill -TERM" in stop
    assert dry("tpu_vm.sh", "fetch", *PLACE, "--from=/mnt/a", "--to=b", "--dry-run") == [
        f"gcloud compute tpus tpu-vm scp --recurse --worker=0 pod:/mnt/a b {WHERE}"
    ]
    assert dry("tpu_vm.sh", "delete", *PLACE, "--dry-run") == [
        f"gcloud compute tpus tpu-vm delete pod {WHERE}"
    ]


@pytest.mark.parametrize(
    ("kind", "chips", "hosts", "hosts_on_gke"),
    [
        ("v4-8", 4, 1, 1),
        ("v4-64", 32, 8, 8),
        ("v5p-16", 8, 2, 2),
        ("v5litepod-8", 8, 1, 2),
        ("v5litepod-256", 256, 64, 64),
        ("v6e-1", 1, 1, 1),
        ("v6e-8", 8, 1, 2),
        ("v6e-64", 64, 16, 16),
    ],
)
def test_chips_and_hosts(kind, chips, hosts, hosts_on_gke):
    for name, number in [("tpu_vm.sh", hosts), ("gke.sh", hosts_on_gke)]:
        first = dry(name, "create", *PLACE, f"--type={kind}", "--dry-run")[0]
        assert first == f"topology: {kind} = {chips} chips on {number} hosts"


def test_gke_create_image_mount():
    on = "--cluster=pod " + WHERE
    storage = "--mount-point=/mnt/jaxtal --readonly=false --auto-mount=true"
    assert dry("gke.sh", "create", *PLACE, V5E, "--dry-run")[1] == (
        "xpk cluster create --tpu-type=v5litepod-16 --num-slices=1 --on-demand "
        f"--enable-gcsfuse-csi-driver --enable-gcpfilestore-csi-driver {on}"
    )
    assert dry("gke.sh", "image", *PLACE, "--image=r/jaxtal:1", "--dry-run") == [
        "docker build --platform=linux/amd64 --build-arg=EXTRA=tpu "
        f"--file={LAUNCH}/Dockerfile --tag=r/jaxtal:1 {ROOT}",
        "docker push r/jaxtal:1",
    ]
    assert dry("gke.sh", "mount", *PLACE, "--bucket=b", "--dry-run") == [
        f"xpk storage attach jaxtal --type=gcsfuse --bucket=b --size=1000 {storage} "
        f"--mount-options=implicit-dirs,uid=1000,gid=1000 {on}"
    ]
    assert dry("gke.sh", "mount", *PLACE, "--filestore=f", "--dry-run") == [
        f"xpk storage attach jaxtal --type=gcpfilestore --instance=f --vol=share {storage} {on}"
    ]


def test_gke_run_fetch_stop_delete():
    on = "--cluster=pod " + WHERE
    given = [*PLACE, V5E, "--image=r/jaxtal:1", "--max-restarts=3", "--dry-run", *MAIN]
    command = shlex.split(dry("gke.sh", "run", *given)[1])
    assert command == [
        *["xpk", "workload", "create", "--workload=jaxtal", "--tpu-type=v5litepod-16"],
        *["--docker-image=r/jaxtal:1", "--max-restarts=3", "--restart-on-exit-codes=75"],
        "--termination-grace-period-seconds=60",
        f"--command=exec python -m jaxtal.main {QUOTED_MAIN} --distributed --expect_devices=16",
        *on.split(),
    ]
    assert dry("gke.sh", "fetch", *PLACE, "--bucket=b", "--from=a", "--to=c", "--dry-run") == [
        "gcloud storage rsync --recursive gs://b/a c --project=mine"
    ]
    assert dry("gke.sh", "stop", *PLACE, "--dry-run") == [
        f"xpk workload delete --workload=jaxtal {on}"
    ]
    assert dry("gke.sh", "delete", *PLACE, "--dry-run") == [f"xpk cluster delete {on}"]


def test_slurm_dry_run():
    lines = dry("slurm.sh", "--nodes=2", "--gpus-per-node=4", "--python=py", "--dry-run", *MAIN)
    assert lines == [
        "topology: 2 nodes x 4 tasks x 1 GPU = 8 devices",
        "sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 launch/slurm.sh --max-restarts=10 "
        f"-- {QUOTED_MAIN}",
        f"srun --kill-on-bad-exit=1 bash {LAUNCH}/slurm.sh --task py -m jaxtal.main {QUOTED_MAIN} "
        "--distributed --expect_devices=8",
    ]


def test_slurm_requests_the_signal_before_the_options_end():
    head = (LAUNCH / "slurm.sh").read_text().partition("\nset -")[0].splitlines()
    directives = [line for line in head if line.startswith("#SBATCH ")]
    assert all(line.startswith("#") for line in head)  # sbatch stops at the first command
    for option in ("--signal=TERM@60", "--requeue", "--open-mode=append"):
        assert f"#SBATCH {option}" in directives


MESH = ["--config.mesh.member=8", "--config.mesh.data", "4"]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("tpu_vm.sh", ["run", *PLACE, V5E, *MAIN, *MESH], "8 x config.mesh.data 4 = 32 devices, b"),
        ("gke.sh", ["run", *PLACE, V5E, "--image=i", *MAIN, *MESH], "but there are 16; set one of"),
        ("slurm.sh", ["--nodes=2", "--dry-run", *MAIN, *MESH], "but there are 2; set one of them"),
        ("tpu_vm.sh", ["create", *PLACE, "--type=v9-8"], "unknown TPU type 'v9-8'; known: v4-N"),
        ("tpu_vm.sh", ["create", *PLACE, "--type=v3-8"], "unknown TPU type 'v3-8'"),
        ("tpu_vm.sh", ["create", *PLACE, "--type=v4-12"], "unknown TPU type 'v4-12'"),
        ("tpu_vm.sh", ["create", *PLACE, "--type=v6e-24"], "unknown TPU type 'v6e-24'"),
        ("gke.sh", ["create", *PLACE, "--type=v5p-x8"], "unknown TPU type 'v5p-x8'"),
        ("gke.sh", ["create", *PLACE, "--type=v5litepod-4"], "xpk has no v5litepod-4"),
        ("tpu_vm.sh", ["destroy", *PLACE], "unknown command 'destroy'; wanted create"),
        ("tpu_vm.sh", ["create", *PLACE, "--size=3"], "unknown option --size"),
        ("tpu_vm.sh", ["create", *PLACE, "x"], "unexpected argument 'x'"),
        ("tpu_vm.sh", ["create", *PLACE, "--type"], "--type needs a value"),
        ("tpu_vm.sh", ["delete", "--name=pod"], "--zone is missing"),
        ("tpu_vm.sh", ["run", *PLACE, V5E, "--", "--config=c"], "no --workdir after --"),
        ("gke.sh", ["run", *PLACE, V5E, "--image=i", "--", "--workdir=w"], "no --config after --"),
        ("tpu_vm.sh", ["run", *PLACE, V5E, "--max-restarts=x", *MAIN], "'x'; wanted a number"),
        (
            "tpu_vm.sh",
            ["setup", *PLACE, "--nfs=a:/b", "--bucket=c"],
            "--nfs and --bucket: give one",
        ),
        ("slurm.sh", MAIN, "not in a Slurm job; submit with sbatch"),
    ],
)
def test_refusals(name, arguments, message):
    assert message in refusal(name, *arguments)


@pytest.mark.parametrize("mesh", [["--config.mesh.member=8", "--config.mesh.data=-1"], MESH[:1]])
def test_a_mesh_of_the_remaining_devices_is_checked_by_main(mesh):
    assert dry("tpu_vm.sh", "run", *PLACE, V5E, "--dry-run", *MAIN, *mesh)


def test_a_missing_tool_is_reported(tmp_path):
    for tool in ("bash", "dirname", "sed"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    error = refusal("tpu_vm.sh", "delete", *PLACE, PATH=str(tmp_path))
    assert error == "error: gcloud is not installed; --dry-run shows what would run\n"


def tool(folder: Path, name: str, body: str) -> None:
    """Write an executable stand-in that logs its arguments to the file `calls`."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/usr/bin/env bash\necho "{name.split("/")[-1]} $*" >>"$CALLS"\n{body}\n')
    path.chmod(0o755)


GCLOUD = """
for word in "$@"; do
    [[ $word == --command=* ]] && cd "$HOME" && exec bash -c "${word#--command=}"
done
exit 1"""
NEXT_CODE = """
code=$(head -n 1 "$CODES"); sed -i 1d "$CODES"
[[ $code == kill ]] && kill -9 $$
exit "$code\""""


@pytest.fixture
def worker(tmp_path):
    """Make a worker's home; each start of the program exits with the next code of a file."""
    (tmp_path / "home/jaxtal").mkdir(parents=True)
    tool(tmp_path, "bin/gcloud", GCLOUD)
    tool(tmp_path, "home/jaxtal-venv/bin/python", NEXT_CODE)
    return {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "CALLS": str(tmp_path / "calls"),
        "CODES": str(tmp_path / "codes"),
        "JAXTAL_RESTART_SECONDS": "0",
    }


@pytest.mark.skipif(shutil.which("flock") is None, reason="workers have flock")
@pytest.mark.parametrize(
    ("codes", "code", "starts"),
    [
        ("0", 0, 1),
        ("2", 2, 1),
        ("75 0", 0, 2),
        ("kill 75 2", 2, 3),  # a lost process
        ("255 0", 0, 2),
        ("75 75 75 75", 75, 3),
    ],
)
def test_tpu_run_starts_again_when_interrupted(worker, codes, code, starts):
    Path(worker["CODES"]).write_text(codes.replace(" ", "\n") + "\n")
    given = [*PLACE, V5E, "--max-restarts=2", *MAIN]
    got, out, error = script("tpu_vm.sh", "run", *given, **worker)
    calls = Path(worker["CALLS"]).read_text().splitlines()
    programs = [call for call in calls if call.startswith("python ")]
    assert (got, len(programs)) == (code, starts)
    assert len(calls) == 2 * starts
    assert set(programs) == {
        f"python -m jaxtal.main {' '.join(MAIN[1:])} --distributed --expect_devices=16"
    }
    assert error.count(", restart ") == starts - 1
    assert out == ["topology: v5litepod-16 = 16 chips on 4 hosts"]
    assert ("after 2 restarts; the same command resumes" in error) == (codes == "75 75 75 75")


@pytest.mark.skipif(shutil.which("flock") is None, reason="workers have flock")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_tpu_run_stops_the_workers(worker, tmp_path, number):
    wait = 'trap "echo saved; exit 75" TERM; echo ready; for i in {1..400}; do sleep 0.05; done'
    tool(tmp_path, "home/jaxtal-venv/bin/python", wait)
    process = subprocess.Popen(
        # Background processes ignore SIGINT, and bash would do so, too.
        [
            "env",
            "--default-signal=INT",
            "bash",
            str(LAUNCH / "tpu_vm.sh"),
            "run",
            *PLACE,
            V5E,
            *MAIN,
        ],
        env={**os.environ, **worker},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert [process.stdout.readline() for _ in range(2)][1] == "ready\n"
        os.killpg(process.pid, number)  # as a terminal does
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out) == (75, "saved\n")


@pytest.mark.skipif(shutil.which("flock") is None, reason="workers have flock")
def test_a_worker_with_an_active_run_is_not_used(worker, tmp_path):
    Path(worker["CODES"]).write_text("0\n")
    tool(tmp_path, "bin/flock", "exit 3")  # as after the timeout
    code, _, error = script("tpu_vm.sh", "run", *PLACE, V5E, *MAIN, **worker)
    assert (code, error) == (2, "error: another run is active on this worker; stop it\n")


def test_stop_without_a_run_signals_nobody(worker):
    assert script("tpu_vm.sh", "stop", *PLACE, **worker)[0] == 0


def test_gke_runs_the_tool_of_that_name(worker, tmp_path):
    tool(tmp_path, "bin/xpk", "exit 4")
    assert script("gke.sh", "stop", *PLACE, **worker)[0] == 4
    calls = Path(worker["CALLS"]).read_text()
    assert calls == f"xpk workload delete --workload=jaxtal --cluster=pod {WHERE}\n"


JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_GPUS_PER_NODE": "a100:4",
    "SLURM_SUBMIT_DIR": str(ROOT),
    "JAXTAL_GRACE_SECONDS": "0",
}


@pytest.fixture
def cluster(tmp_path):
    """Make a node where srun runs one task, which exits with the next code of a file."""
    tool(tmp_path, "bin/srun", 'shift; exec "$@"')
    tool(tmp_path, "bin/scontrol", "")
    tool(tmp_path, "bin/program", NEXT_CODE)
    return {
        **JOB,
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "CODES": str(tmp_path / "codes"),
    }


@pytest.mark.parametrize(
    ("ended", "restarts", "code", "requeued"),
    [
        ("0", "0", 0, False),
        ("2", "0", 2, False),
        ("1", "0", 1, False),
        ("75", "0", 75, True),
        ("kill", "3", 75, True),
        ("75", "10", 75, False),
    ],
)
def test_slurm_requeues_an_interrupted_job(cluster, ended, restarts, code, requeued):
    Path(cluster["CODES"]).write_text(ended + "\n")
    cluster["SLURM_RESTART_COUNT"] = restarts
    got, out, _ = script("slurm.sh", "--python=program", *MAIN, **cluster)
    calls = Path(cluster["CALLS"]).read_text().splitlines()
    assert got == code
    assert out == ["topology: 2 nodes x 4 tasks x 1 GPU = 8 devices"]
    assert calls[1] == (
        f"program -m jaxtal.main {' '.join(MAIN[1:])} --distributed --expect_devices=8"
    )
    assert calls[2:] == ["scontrol requeue 7"] * requeued


def test_slurm_runs_a_copy_of_the_script(cluster, tmp_path):
    Path(cluster["CODES"]).write_text("0\n")
    copy = shutil.copy(LAUNCH / "slurm.sh", tmp_path / "slurm_script")
    done = subprocess.run(
        ["bash", copy, "--python=program", *MAIN],
        env={**os.environ, **cluster},
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert done.stdout.startswith(b"topology: 2 nodes")
    del cluster["SLURM_SUBMIT_DIR"]
    lost = subprocess.run(
        ["bash", copy, *MAIN], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert (lost.returncode, lost.stderr.count("\n")) == (2, 1)
    assert "submit from the root of the checkout" in lost.stderr


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"SLURM_NTASKS_PER_NODE": "1"}, "1 tasks on a node of 4 GPUs; give sbatch --ntasks-per-"),
        ({"SLURM_NTASKS": "5"}, "SLURM_NTASKS is 5, but 2 nodes x 4 tasks = 8"),
    ],
)
def test_slurm_rejects_another_topology(changed, message):
    assert message in refusal("slurm.sh", *MAIN, **{**JOB, **changed})


def test_codes_that_a_restart_does_not_fix_are_a_slurm_task_s_highest(cluster):
    codes = {"2": 102, "1": 101, "75": 75, "kill": 75, "134": 75, "0": 0}
    for ended, code in codes.items():
        Path(cluster["CODES"]).write_text(ended + "\n")
        assert script("slurm.sh", "--task", "program", **cluster)[0] == code


def test_a_slurm_task_outlives_sigterm_until_its_program_ended(cluster, tmp_path):
    tool(tmp_path, "bin/program", "sleep 0.6; exit 75")
    process = subprocess.Popen(
        ["bash", str(LAUNCH / "slurm.sh"), "--task", "program"], env={**os.environ, **cluster}
    )
    time.sleep(0.2)
    process.terminate()  # the task's shell only
    assert process.wait(timeout=20) == 75


def dockerfile() -> str:
    return (LAUNCH / "Dockerfile").read_text()


def test_the_image_copies_what_there_is_and_is_let_in():
    ignored = (LAUNCH / "Dockerfile.dockerignore").read_text().split()
    lines = re.findall(r"^COPY (.*) \S+$", dockerfile(), re.MULTILINE)
    paths = " ".join(lines).split()
    assert len(paths) == 5
    for path in paths:
        assert (ROOT / path).exists(), path
        assert f"!{path}" in ignored
    assert ignored[0] == "*"


def test_the_image_starts_the_entry_point_as_no_root():
    command = json.loads(re.search(r"^ENTRYPOINT (.*)", dockerfile(), re.MULTILINE)[1])
    assert command[:2] == ["python", "-m"]
    assert find_spec(command[2])
    assert "ARG RUN_AS=jaxtal" in dockerfile()
    assert dockerfile().index("USER ${RUN_AS}") > dockerfile().index("RUN pip install")


def test_the_image_s_extras_and_python_are_the_project_s():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"tpu", "cuda"} <= set(project["optional-dependencies"])
    version = re.search(r"^FROM python:3\.(\d+)-slim$", dockerfile(), re.MULTILINE)[1]
    assert int(version) >= int(project["requires-python"].rpartition(".")[2])


README = (LAUNCH / "README.md").read_text()
GUIDE = (ROOT / "docs" / "guides" / "devices.md").read_text()
COMMANDS = re.findall(
    r"^(launch/(?:tpu_vm|gke)\.sh \w+ .*)", GUIDE.replace("\\\n", " "), re.MULTILINE
)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_guide_are_accepted(command):
    command = command.replace("$POD", " ".join(PLACE)).replace("$TYPE", "v6e-8")
    program, name, *rest = shlex.split(re.sub(r"\$\w+", "v", command))
    assert dry(Path(program).name, name, "--dry-run", *rest)


def test_the_guide_shows_every_step():
    for name in ("tpu_vm.sh", "gke.sh"):
        steps = re.search(r"\^\((create\S+)\)\$", (LAUNCH / name).read_text())[1].split("|")
        shown = {c.split()[1] for c in COMMANDS if name in c}
        assert shown == set(steps)


def test_paths_of_the_guide_exist():
    for path in re.findall(r"`((?:launch|configs|benchmarks|docs|tests)/[\w./]+)`", GUIDE):
        assert (ROOT / path).exists(), path


def test_the_readme_lists_every_launcher():
    assert set(re.findall(r"^\| `([\w.]+)`", README, re.MULTILINE)) == {
        path.name for path in LAUNCH.iterdir() if path.name not in _NOT_LISTED
    }
