r"""Train and evaluate: python -m jaxtal.main --config configs/co2net_demo.py

The config file says everything about a run; any field of it can be overridden:

    python -m jaxtal.main --config configs/co2net_thumos.py --config.seed=1 \
        --config.data.dir=FOLDER --config.data.name=MyDataSet --config.train.steps=2000

The work directory receives config.json, metrics.jsonl, result.json, detections.json (of a
population in members/), checkpoints/ and plots/. The same command continues an interrupted run.
Compiled programs are kept in the user's cache folder. Exit codes: 0 done, 2 something that you can
mend (the last line says what), 75 interrupted (the same command goes on): the run was told to stop
by SIGTERM, or another process of its job was lost; see launch/README.md.
"""

import logging as std_logging
import re
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from jaxtal import command_line
from jaxtal.command_line import keep_compiled
from jaxtal.errors import JaxtalError
from jaxtal.parallel import multihost, preemption

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The config file, a Python file with get_config(); see configs/."
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder for everything that the run writes; default: runs/<config name>, for FILE:TEXT "
    "runs/<config name>_TEXT.",
)
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval"],
    "eval: only evaluate the work directory's latest checkpoint.",
)
_COMPILED = flags.DEFINE_string(
    "compiled",
    None,
    "Folder for compiled programs, so that the next run need not compile them again; default: "
    "jaxtal/ in the user's cache folder, or JAX_COMPILATION_CACHE_DIR; '' keeps none.",
)


_DISTRIBUTED = flags.DEFINE_boolean(
    "distributed",
    False,
    "This is one of the processes of a job that share the work; see launch/README.md.",
)
_EXPECT_DEVICES = flags.DEFINE_integer(
    "expect_devices",
    None,
    "Start on so many devices only, all processes' together: a host that is missing is noticed.",
    lower_bound=1,
)


def default_workdir(config_file: str) -> Path:
    """Where a run goes that names no --workdir: two presets of one file must not meet."""
    filename, _, text = config_file.partition(":")
    preset = re.sub(r"\W+", "_", text).strip("_")
    return Path("runs") / "_".join([Path(filename).stem, *filter(None, [preset])])


def _run(_: list[str]) -> int:
    if _DISTRIBUTED.value:
        return multihost.run_supervised(_train)
    preemption.install_sigterm_handler()
    return _train()


def _train() -> int:
    # Imported here, so that --help and bad flags answer at once.
    from jaxtal.train.trainer import train_and_evaluate

    # Orbax tells a page for every checkpoint, and ten of what it then raises, which is told below.
    logging.set_verbosity(logging.FATAL)
    std_logging.getLogger("asyncio").setLevel(std_logging.CRITICAL)
    keep_compiled(_COMPILED.value)
    config_file = config_flags.get_config_filename(flags.FLAGS["config"])
    workdir = Path(_WORKDIR.value or default_workdir(config_file))
    try:
        if _DISTRIBUTED.value:
            multihost.initialize_distributed()
        multihost.expect_devices(_EXPECT_DEVICES.value)
        train_and_evaluate(_CONFIG.value, workdir, _MODE.value)
    except JaxtalError as error:
        return command_line.fail(str(error))
    except preemption.Interrupted as how:
        print(f"{how}; the same command goes on", file=sys.stderr)
        return preemption.INTERRUPTED
    return 0


if __name__ == "__main__":
    app.run(_run, flags_parser=command_line.parse)
