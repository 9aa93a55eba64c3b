"""Faults are applied as described, and defects of a job are detected."""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxtal.training.checkpoints import Checkpoints
from tests.conftest import ROOT
from tests.stress.faults import __main__, events, report
from tests.stress.faults import jobs as fault_jobs
from tests.stress.faults import kinds as fault_kinds
from tests.stress.faults.events import Event, Faulted, Outcome, Reference
from tests.stress.faults.jobs import Job, Run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults are for Linux")

STEPS = 240
# A job without JAX: 240 steps of 2 ms, a checkpoint every 30. The second argument is its defect.
STAND_IN = """
import json, pathlib, signal, sys, time
from jaxtal.training import checkpoint_integrity as seals
work, defect = pathlib.Path(sys.argv[1]), sys.argv[2]
checkpoints, metrics = work / "checkpoints", work / "metrics.jsonl"
signals = []
signal.signal(signal.SIGTERM, lambda *_: defect == "deaf" or signals.append(0))
checkpoints.mkdir(parents=True, exist_ok=True)

def save(step):
    folder = checkpoints / "new"
    folder.mkdir(exist_ok=True)
    (folder / "data").write_bytes(bytes(step))
    seals.write_manifest(folder)
    folder.rename(checkpoints / str(step))

for step in seals.checkpoint_steps(checkpoints):
    if seals.find_damage(checkpoints / str(step)):
        (work / "damaged").mkdir(exist_ok=True)
        (checkpoints / str(step)).rename(work / "damaged" / str(step))
        if defect != "silent":
            print("warning: this checkpoint is damaged", file=sys.stderr)
start = seals.latest_complete_step(checkpoints) or 0
if defect == "forgetful":
    start = max(start - 30, 0)
lines = metrics.read_text().splitlines() if start else []
metrics.write_text("".join(line + "\\n" for line in lines if json.loads(line)["step"] <= start))
if start:
    print(f"resuming from step {start}", flush=True)
print("compiled 1 step", flush=True)
try:
    for step in range(start + 1, 241):
        time.sleep(0.002)
        with open(metrics, "a") as file:
            file.write(json.dumps({"step": step}) + "\\n")
        if signals or step % 30 == 0 and not (checkpoints / str(step)).exists():
            save(step)
        if signals:
            reported = step + (defect == "liar")
            print(f"stopped by SIGTERM; step {reported} is saved", file=sys.stderr)
            sys.exit(75)
except OSError as error:
    print(f"error: the disk is full ({error.strerror})", file=sys.stderr)
    sys.exit(1 if defect == "careless" else 2)
result = {"seconds": time.time(), "started_at": start if defect == "chance" else 0}
(work / "result.json").write_text(json.dumps(result))
"""


class InTheMiddle(Run):
    """Run whose random moment comes after some steps."""

    def __init__(self, words, limit=None):
        super().__init__(words, limit)
        self.workdir = Path(words[-2])

    def wait_until(self, moment):
        if moment != MOMENT:
            return super().wait_until(moment)
        end = time.monotonic() + 30
        first = fault_jobs.complete_step(self.workdir)
        while (fault_jobs.last_step(self.workdir) or 0) < first + 70 and time.monotonic() < end:
            time.sleep(0.005)
        return False


MOMENT = -1.0


class Drawn(np.random.Generator):
    """Random generator whose moments are fixed."""

    moment = MOMENT

    def uniform(self, *_):
        return self.moment


def stand_in(workdir: Path, defect: str) -> list[str]:
    """Return the command of the stand-in."""
    return [sys.executable, "-c", STAND_IN, str(workdir), defect]


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Reference:
    """Run the stand-in without faults."""
    workdir = tmp_path_factory.mktemp("reference")
    run = Run(stand_in(workdir, "none"))
    assert run.wait(60)
    return Reference(workdir, run.seconds)


@pytest.fixture
def faulted(monkeypatch, tmp_path, reference):
    """Return a function that makes a job of the stand-in with a defect."""
    monkeypatch.setattr(events, "Run", InTheMiddle)
    monkeypatch.setattr(
        events, "checkpoint_of", lambda folder: {"step": fault_jobs.complete_step(folder)}
    )
    monkeypatch.setitem(fault_jobs.TINY, "train.log_every", 5)

    def make(defect: str) -> Faulted:
        monkeypatch.setattr(events, "command", lambda _, workdir, __: stand_in(workdir, defect))
        job = Job(0, "co2net", 1, 1, 0, STEPS)
        made = Faulted(job, tmp_path / "job", tmp_path, reference, 0)
        made._rng = Drawn(np.random.PCG64(0))
        return made

    return make


def one(faulted: Faulted, kind: str) -> tuple[Event, list[str]]:
    """Apply one fault; return the event and the differences of the final results."""
    event = faulted._attempt(kind)
    return event, faulted.finish()


def test_kill(faulted):
    event, differing = one(faulted("none"), "kill job")
    assert (event.code, event.wrong, differing) == (-9, [], [])
    assert 70 <= event.step < STEPS
    assert event.complete == event.resumed == event.step // 30 * 30


def test_sigterm(faulted):
    event, differing = one(faulted("none"), "SIGTERM job")
    assert (event.code, event.wrong, differing) == (75, [], [])
    assert event.complete == event.resumed >= event.step
    assert event.message == f"stopped by SIGTERM; step {event.complete} is saved"


def test_truncate(faulted):
    job = faulted("none")
    event, differing = one(job, "truncate")
    assert (event.code, event.wrong, differing) == (-9, [], [])
    cut = int(event.message.split("/")[1])
    assert event.complete == event.resumed == cut - 30
    assert (job.workdir / "damaged" / str(cut)).is_dir()


def test_file_limit(faulted, monkeypatch):
    monkeypatch.setattr(events, "limit_of", lambda *_: 120)
    event, differing = one(faulted("none"), "file limit")
    assert (event.code, event.wrong, differing) == (2, [], [])
    assert event.message == "error: the disk is full (File too large)"
    assert event.resumed == event.complete == 0


def test_full_disk(faulted, monkeypatch, tmp_path):
    if not fault_kinds.can_mount(tmp_path):
        pytest.skip("cannot mount")
    monkeypatch.setattr(events, "room_of", lambda *_: 4 * 4096)
    event, differing = one(faulted("none"), "full disk")
    assert (event.code, event.wrong, differing) == (2, [], [])
    assert event.message == "error: the disk is full (No space left on device)"
    assert event.resumed == event.complete == 30


@pytest.mark.parametrize(
    ("defect", "kind", "wrong", "differing"),
    [
        ("deaf", "SIGTERM job", "exit code 0 instead of 75", []),
        ("liar", "SIGTERM job", "reports that step", []),
        ("forgetful", "kill job", "resumed from step 30 instead of 60", []),
        ("silent", "truncate", "no warning of the damaged checkpoint", []),
        ("careless", "file limit", "exit code 1 instead of 2", []),
        ("chance", "kill job", "", ["result.json"]),
    ],
)
def test_defects_are_detected(faulted, monkeypatch, defect, kind, wrong, differing):
    monkeypatch.setattr(events, "limit_of", lambda *_: 120)
    event, differs = one(faulted(defect), kind)
    assert wrong in "; ".join(event.wrong)
    assert bool(event.wrong) == bool(wrong)
    assert differs == differing


@pytest.mark.parametrize("kind", ["kill job", "truncate", "SIGTERM job", "file limit"])
def test_a_run_that_is_done_is_no_event_and_has_no_effect(faulted, monkeypatch, kind):
    monkeypatch.setattr(events, "limit_of", lambda *_: 10**6)
    job = faulted("none")
    job._rng.moment = 60.0
    assert job._attempt(kind) is None
    assert list(job.workdir.iterdir()) == []


def test_an_end_without_a_fault_is_wrong(faulted, monkeypatch):
    job = faulted("none")
    job._rng.moment = 60.0
    job._command = [sys.executable, "-c", "import sys; sys.exit('no')", str(job.workdir), ""]
    event = job._attempt("kill job")
    assert (event.code, event.message) == (1, "no")
    assert event.wrong == ["exit code 1 before the fault"]


def test_a_hung_run_is_killed(faulted, monkeypatch):
    monkeypatch.setattr(events, "HUNG_SECONDS", 0.1)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
    job = faulted("none")
    job._rng.moment = 0.5
    job._command = [sys.executable, "-c", f"{deaf}; time.sleep(60)", str(job.workdir), ""]
    event = job._attempt("SIGTERM job")
    assert (event.code, event.wrong) == (None, ["hung"])
    assert event.took < 30


def test_a_run_is_all_of_its_processes():
    """Orphans and processes of other groups are included."""
    child = "import time; print(1, flush=True); time.sleep(60)"
    parent = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}], "
        "process_group=0)"
    )
    run = Run([sys.executable, "-c", parent])
    end = time.monotonic() + 30
    while not (run.code == 0 and run.out) and time.monotonic() < end:
        time.sleep(0.02)
    assert len(run.pids()) == 1
    assert not run.wait(0.1)
    run.kill()
    assert run.wait(10)
    assert (run.pids(), run.code, run.out) == ([], 0, ["1"])


def test_handlers_of_sigterm_are_detected():
    on = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(3)); "
    wait = "print(1, flush=True); time.sleep(60)"
    for code, expected in ((f"import time; {wait}", (False, -15)), (on + wait, (True, 3))):
        run = Run([sys.executable, "-c", code])
        end = time.monotonic() + 30
        while not run.out and time.monotonic() < end:
            time.sleep(0.02)
        handled = fault_jobs.handles_sigterm(run.pid)
        run.send(15)
        assert run.wait(30)
        assert (handled, run.code) == expected


def test_jobs_are_of_all_kinds():
    jobs = fault_jobs.jobs_of(20, 3)
    assert {(job.method, job.processes) for job in jobs} == {
        (method, processes) for method in fault_jobs.METHODS for processes in (1, 2)
    }
    assert {job.population for job in jobs if job.processes == 1} == {1, 2}
    assert {job.population for job in jobs if job.processes == 2} == {2}
    assert [job.seed for job in jobs] == list(range(300, 320))
    assert all(job.steps % fault_jobs.CHECKPOINTS == 0 for job in jobs)


def test_shares():
    assert __main__.shares(8, 3) == [3, 3, 2]


@pytest.mark.parametrize("processes", [1, 2])
def test_classes_of_faults_are_equally_frequent(processes):
    kinds = fault_kinds.kinds_of(40, processes, (), np.random.default_rng(0))
    classes = fault_kinds.FAULTS[processes]
    assert set(kinds) == {kind for names in classes for kind in names}
    assert [sum(kind in names for kind in kinds) for names in classes] == [10] * 4
    assert kinds == fault_kinds.kinds_of(40, processes, (), np.random.default_rng(0))
    assert "full disk" not in fault_kinds.kinds_of(
        40, processes, ("full disk",), np.random.default_rng(0)
    )


def test_command(tmp_path):
    single, pair = fault_jobs.jobs_of(2, 0)
    assert fault_jobs.command(single, tmp_path, tmp_path)[1:3] == ["-m", "jaxtal.main"]
    words = fault_jobs.command(pair, tmp_path / "work", tmp_path, steps=7)
    assert words[1:4] == ["launch/local.py", "--processes=2", "--"]
    assert {
        "--config.population=2", "--config.train.steps=7", f"--workdir={tmp_path / 'work'}",
    } < set(words)  # fmt: skip


def test_resumed_step():
    lines = ["Synthetic: 12 videos", "resuming from step 30", "compiled 2"]
    assert fault_jobs.resumed_step(lines) == 30
    assert fault_jobs.resumed_step(["Synthetic: 12 videos", "compiled 20 steps per dispatch"]) == 0
    assert fault_jobs.resumed_step(["Synthetic: 12 videos"]) is None


def test_the_message_is_the_cause_without_folders():
    lines = [
        "Traceback", "error: /tmp/a.b/work: the disk is full; see a/b/c",
        "[process 1] error: another process was lost", "process 0 ended with exit code 2", "",
    ]  # fmt: skip
    assert fault_jobs.message_of(lines) == "error: work: the disk is full; see a/b/c"
    assert fault_jobs.message_of(["one", " two ", ""]) == "two"
    assert fault_jobs.message_of([]) == ""


LOST = ["[process 1] error: another process of this job was lost (Gloo)"]
DISK = [
    "error: w: the disk is full (File too large); the checkpoint of step 50 is good; free space"
]


@pytest.mark.parametrize(
    ("kind", "code", "fields", "lines", "wrong"),
    [
        ("kill job", -9, {}, [], []),
        ("kill job", -9, {"took": 11}, [], ["ended after 11 s, wanted 10"]),
        ("kill job", None, {}, [], ["hung"]),
        ("kill job", -9, {"complete": 0}, [], ["the checkpoint of step 50 is lost"]),
        ("truncate", -9, {"complete": 0}, [], []),
        ("kill child", 75, {}, LOST, []),
        ("kill child", 75, {}, [], ["the other process did not notice"]),
        ("kill child", 75, {"trained": False}, [], []),
        ("kill process", 134, {}, LOST, ["exit code 134 instead of 75"]),
        ("SIGTERM job", 75, {}, ["stopped by SIGTERM; step 50 is saved"], []),
        ("SIGTERM job", 75, {}, ["step 60 is saved"], ["reports that step 60 is saved"]),
        ("SIGTERM job", 75, {"step": 75}, [], ["step 75 was done but is not saved"]),
        ("SIGTERM job", 75, {"step": 75, "trained": False}, [], []),
        ("SIGTERM job", 0, {}, [], ["exit code 0 instead of 75"]),
        ("SIGTERM job", 0, {"near_end": True}, [], []),
        ("SIGTERM job", -15, {}, [], ["exit code -15 instead of 75"]),
        ("SIGTERM job", -15, {"handled": False}, [], []),
        ("SIGTERM process", 75, {"took": 59}, [], []),
        ("full disk", 2, {"took": None}, DISK, []),
        ("full disk", 2, {"complete": 100}, DISK, ["reports that step 50 is good"]),
        ("file limit", 2, {}, [*DISK, *LOST, "process 0 ended with exit code 2; again"], []),
        ("file limit", 2, {}, [*DISK, "Traceback"], ["the last line is not an error: Traceback"]),
        ("file limit", 2, {}, ["error: what"], ["does not report the full disk"]),
    ],
)
def test_judge(kind, code, fields, lines, wrong):
    known = {"step": 50, "took": 1.0, "complete": 50}
    event = Event(0, kind, 1, code=code, message="", **{k: fields.get(k, known[k]) for k in known})
    about = {"near_end": False, "handled": True, "trained": True}
    about |= {name: value for name, value in fields.items() if name in about}
    assert events.judge(event, 50, **about, lines=lines) == wrong


def finished(folder, value: float = 1.5, seconds: float = 3, **progress):
    """Make the work directory of a finished run with one array."""
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps({"map": 0.5, "seconds": seconds}))
    (folder / "detections.json").write_text("[]")
    (folder / "metrics.jsonl").write_text('{"step": 3}\n')
    state = {"step": np.int32(3), "params": {"kernel": np.array([[value, np.nan]], np.float32)}}
    with Checkpoints(folder / "checkpoints", writes=True) as checkpoints:
        evaluation = [{"step": 3}]
        checkpoints.save(state, 3, {"evaluation": evaluation, "best": 0.25, **progress})
    return folder


def test_differences(tmp_path):
    one = finished(tmp_path / "one")
    assert events.differences(one, finished(tmp_path / "same", seconds=4)) == []
    value = np.nextafter(np.float32(1.5), np.float32(2))
    other = finished(tmp_path / "other", value, best=0.75)
    kernel = "checkpoint: ['params']['kernel']"
    assert events.differences(other, one) == [kernel, "checkpoint: progress.best"]
    (other / "metrics.jsonl").write_text("")
    (other / "result.json").write_text('{"map": 0.25, "seconds": 3}')
    (other / "members").mkdir()
    (other / "members" / "detections.json").write_text("[]")
    assert events.differences(other, one) == [
        "result.json", "members/detections.json", "metrics.jsonl",
        kernel, "checkpoint: progress.best",
    ]  # fmt: skip


def test_a_checkpoint_before_the_evaluation_of_its_step(tmp_path):
    whole = finished(tmp_path / "whole")
    early = finished(tmp_path / "early", evaluation=[{"step": 2}], best=0, diverged=[1])
    assert events.differences(early, whole) == ["checkpoint: progress.diverged"]
    assert "checkpoint: progress.best" in events.differences(whole, early)


JOBS = fault_jobs.jobs_of(2, 0)
OUTCOMES = [
    Outcome(JOBS[0], [Event(0, "kill job", 3.14, 40, -9, 0.51, "a | b", 30, 30)], 0, []),
    Outcome(
        JOBS[1],
        [
            Event(1, "kill job", 1, None, None, 120, "", 0, None, ["hung"]),
            Event(1, "full disk", 1, 20, 2, None, "error: full", 0, 0),
        ],
        1,
        ["result.json"],
    ),
]


def test_summary():
    assert report.summary(OUTCOMES) == [
        ["kill job", "2", "1", "1", "1", "120.0", "1"],
        ["full disk", "1", "1", "0", "0", "", "0"],
        ["all", "3", "2", "1", "1", "120.0", "1"],
    ]


def test_markdown_and_json():
    about = report.conditions(__main__.parse(["--seed=3", "--json=rows.json"]))
    text = report.markdown(OUTCOMES, about)
    assert "`python -m tests.stress.faults --jobs=20 --events=100 --seed=3 --at_once=2`" in text
    assert "1 of 2 jobs have results as without faults, bit by bit. 1 events missed" in text
    assert "- job 1, co2net: result.json\n" in text
    assert "| 0 | co2net | 1 | kill job | 3.1 | 40 | -9 | 0.5 | 30 | 30 | a \\| b |  |" in text
    assert "| 1 | co2net | 2 | kill job | 1.0 |  | hung | 120.0 | 0 |  |  | hung |" in text
    content = json.loads(report.as_json(OUTCOMES, about))
    assert content["jobs"][1]["wrong"] == ["result.json"]
    assert content["jobs"][0]["events"] == [dataclasses.asdict(OUTCOMES[0].events[0])]


@pytest.mark.slow
def test_a_real_run(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    options = ["--jobs=1", "--events=4", f"--folder={temporary}", f"--json={tmp_path}/rows.json"]
    command = [sys.executable, "-m", "tests.stress.faults", *options]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = json.loads((tmp_path / "rows.json").read_text())["jobs"]
    assert [event["wrong"] for event in job["events"]] == [[]] * 4
    assert list(temporary.iterdir()) == []
