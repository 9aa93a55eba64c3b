"""The launcher of several processes on one machine, with a stand-in for jaxtal.main."""

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

spec = importlib.util.spec_from_file_location("local", ROOT / "launch" / "local.py")
local = importlib.util.module_from_spec(spec)
spec.loader.exec_module(local)

# Executes its first argument; k is the number of the process.
STAND_IN = """
import os, signal, sys, time
k = int(os.environ["JAX_PROCESS_ID"])
def report(text, file=sys.stdout): os.write(file.fileno(), f"{text}\\n".encode())
mark = os.path.join(os.environ["PYTHONPATH"], "mark")
def after_the_mark():
    while not os.path.exists(mark): time.sleep(0.01)
    time.sleep(0.5)
def on_term(action): signal.signal(signal.SIGTERM, lambda *_: action())
exec(sys.argv[1])
"""
DRIVER = """
import runpy, sys
names = runpy.run_path("launch/local.py", run_name="local")
constants = dict(word.split("=") for word in sys.argv.pop(1).split())
names["main"].__globals__.update({name: float(value) for name, value in constants.items()})
sys.exit(names["main"](module="stand_in"))
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts the launcher on a one-line program, with other constants."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    started = []

    def start(code: str, processes: int = 2, constants: str = "") -> subprocess.Popen:
        options = ["--processes", str(processes), "--", code]
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, constants, *options],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error."""
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def is_running(pid: int) -> bool:
    """Return whether a process runs; a container may never reap a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def lines_of(process: subprocess.Popen, number: int) -> list[str]:
    """Read this number of lines of standard output."""
    return sorted(process.stdout.readline().strip() for _ in range(number))


def test_environment_replaces_the_number_of_devices_and_keeps_other_flags(monkeypatch):
    monkeypatch.setenv(
        "XLA_FLAGS", "--xla_a=1 --xla_force_host_platform_device_count=8 --xla_dump_to=/tmp/x y"
    )
    options = local.parse(["--processes=3", "--devices=4", "--", "--config=c"])
    assert local.environment(options, 2, 1234) == {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_a=1 --xla_dump_to=/tmp/x y --xla_force_host_platform_device_count=4",
        "JAX_COORDINATOR_ADDRESS": "127.0.0.1:1234",
        "JAX_NUM_PROCESSES": "3",
        "JAX_PROCESS_ID": "2",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
    }


def test_dry_run_prints_what_a_shell_can_run_and_starts_nothing(monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    arguments = ["--config", "c.py", "--config.data.name=two words"]
    given = ["--processes=2", "--devices=4", "--port=1234", "--dry-run", "--", *arguments]
    assert local.main(given) == 0
    topology, *commands = capsys.readouterr().out.splitlines()
    assert topology == "topology: 2 processes x 4 devices = 8 devices"
    for index, command in enumerate(commands):
        words = shlex.split(command)
        variables = [
            f"{k}={v}" for k, v in local.environment(local.parse(given), index, 1234).items()
        ]
        assert words[: len(variables)] == variables
        assert words[len(variables) :] == [
            *[sys.executable, "-m", "jaxtal.main", *arguments],
            *["--distributed", "--expect_devices=8"],
        ]
    assert len(commands) == 2


def test_processes_get_their_variables_and_the_same_port(start):
    show = "report(' '.join([*sys.argv[2:], os.environ['JAX_COORDINATOR_ADDRESS']]))"
    code, out, err = finish(start(show, processes=3))
    first, *others = sorted(out.splitlines(), key=lambda line: line.startswith("["))
    assert (code, err) == (0, "")
    assert first.startswith("--distributed --expect_devices=3 127.0.0.1:")
    assert sorted(others) == [f"[process 1] {first}", f"[process 2] {first}"]


def test_output_of_the_first_process_is_unchanged(start):
    write = "os.write(1, b'a\\n b'); os.write(2, b'c\\n\\nd')"
    assert finish(start(f"if k == 0: {write}")) == (0, "a\n b", "c\n\nd")


def test_lines_of_other_processes_are_prefixed(start):
    write = "os.write(1, b'a\\n b'); os.write(2, b'c\\n\\nd')"
    code, out, err = finish(start(f"if k == 1: {write}"))
    assert code == 0
    assert out == "[process 1] a\n[process 1]  b\n"
    assert err == "[process 1] c\n[process 1] \n[process 1] d\n"


@pytest.mark.parametrize(
    ("program", "code", "ending"),
    [
        ("sys.exit(2 * k)", 2, "process 1 ended with exit code 2"),
        ("sys.exit(75 * (1 - k))", 75, "process 0 ended with exit code 75"),
        ("k and os._exit(134)", 75, "process 1 ended with exit code 134"),
        ("k and os.abort()", 75, "process 1 was killed by signal 6 (SIGABRT)"),
        ("k and os.kill(os.getpid(), 9)", 75, "process 1 was killed by signal 9 (SIGKILL)"),
        (
            "open(mark, 'w') if k else after_the_mark(); sys.exit(3 - k)",
            2,
            "process 1 ended with exit code 2",
        ),
    ],
)
def test_exit_code_and_message_are_of_the_process_that_failed_first(start, program, code, ending):
    resumes = "; the same command resumes from the last checkpoint"
    and_then = resumes if code == 75 else ", see above"
    assert finish(start(program)) == (code, "", f"{ending}{and_then}\n")


@pytest.mark.parametrize(
    ("symptom", "cause", "code", "ending"),
    [
        ("sys.exit(75)", "sys.exit(2)", 2, "process 0 ended with exit code 2"),
        ("os.abort()", "sys.exit(1)", 1, "process 0 ended with exit code 1"),
        ("os._exit(134)", "sys.exit(2)", 2, "process 0 ended with exit code 2"),
        ("sys.exit(75)", "os.abort()", 75, "process 1 ended with exit code 75"),
        ("sys.exit(1)", "sys.exit(2)", 1, "process 1 ended with exit code 1"),
        ("os.kill(os.getpid(), 9)", "sys.exit(2)", 75, "process 1 was killed by signal 9"),
    ],
)
def test_an_error_counts_before_the_exit_of_a_process_that_lost_the_other(
    start, symptom, cause, code, ending
):
    program = f"if k: open(mark, 'w'); {symptom}\nafter_the_mark(); {cause}"
    got, out, err = finish(start(program))
    assert (got, out) == (code, "")
    assert err.startswith(ending)


def test_an_error_while_saving_counts_after_a_signal(start):
    program = (
        "on_term(lambda: (k or after_the_mark(), k and open(mark, 'w'), sys.exit(75 if k else 2)))"
    )
    process = start(f"{program}; report('ready'); time.sleep(20)")
    lines_of(process, 2)
    process.terminate()
    code, _, err = finish(process)
    assert code == 2
    assert "process 0 ended with exit code 2 after the launcher received a signal, see above" in err


def test_others_have_time_to_report_the_failure(start):
    die = "if k: open(mark, 'w'); os.kill(os.getpid(), 9)"
    notice = f"{die}\nafter_the_mark(); report('lost', sys.stderr); sys.exit(75)"
    code, _, err = finish(start(notice))
    assert code == 75
    assert err.startswith("lost\nprocess 1 was killed")


def test_a_process_that_hangs_after_another_is_lost_gets_sigterm_then_sigkill(start):
    program = (
        "on_term(lambda: report('term')); k and sys.exit(2); [time.sleep(9) for _ in range(9)]"
    )
    begin = time.monotonic()
    code, out, err = finish(start(program, constants="GRACE_SECONDS=1 LOST_SECONDS=0.5"))
    assert (code, out) == (2, "term\n")
    assert err.startswith("process 1 ended with exit code 2, see above")
    assert 1.5 <= time.monotonic() - begin < 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_forwarded_as_sigterm(start, number):
    program = "on_term(lambda: (report('saved'), sys.exit(75))); report('ready'); time.sleep(20)"
    process = start(program)
    assert lines_of(process, 2) == ["[process 1] ready", "ready"]
    process.send_signal(number)
    code, out, err = finish(process)
    assert code == 75
    assert sorted(out.splitlines()) == ["[process 1] saved", "saved"]
    assert "ended with exit code 75 after the launcher received a signal; the same" in err


def test_nohup_protects_from_sighup(start):
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited by the launcher
    try:
        process = start("report('ready'); after_the_mark()")
    finally:
        signal.signal(signal.SIGHUP, ignored)
    lines_of(process, 2)
    process.send_signal(signal.SIGHUP)
    start("open(mark, 'w')", processes=1).wait()
    assert finish(process) == (0, "", "")


def test_the_exit_code_needs_no_reader_of_the_output(start):
    process = start("k and report('line'); k and report('line', sys.stderr); sys.exit(2 * k)")
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=30) == 2


def test_a_process_that_ignores_sigterm_is_killed(start):
    program = "on_term(lambda: report('term')); report('ready'); [time.sleep(9) for _ in range(9)]"
    process = start(program, constants="STOP_SECONDS=0.5")
    lines_of(process, 2)
    process.terminate()
    code, out, err = finish(process)
    assert code == 75
    assert sorted(out.splitlines()) == ["[process 1] term", "term"]
    assert "was killed by signal 9 (SIGKILL) after the launcher received a signal" in err


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_processes_die_with_a_launcher_that_is_killed(start):
    process = start("report(os.getpid()); time.sleep(60)")
    pids = [int(line.split()[-1]) for line in lines_of(process, 2)]
    assert all(map(is_running, pids))
    process.kill()
    deadline = time.monotonic() + 10
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


@pytest.mark.parametrize("wrong", [["--processes=0"], ["--processes=2", "--devices=x"]])
def test_wrong_numbers_are_rejected(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        local.main([*wrong, "--", "--config=c"])
    assert stop.value.code == 2
    assert "wanted an integer of at least 1" in capsys.readouterr().err
