r"""Take over checkpoints of the published PyTorch programs, and give them ours, without PyTorch.

    python -m jaxtal.convert_checkpoint --method co2net --torch best.pkl --workdir runs/published \
        --config configs/co2net_thumos.py --config.data.dir=FOLDER --classes FOLDER
    python -m jaxtal.convert_checkpoint --method co2net --workdir runs/mine --to_torch mine.pkl

The first writes a checkpoint of step 0, which `jaxtal.main --mode=eval` evaluates and `jaxtal.main`
trains on from (with Adam's moments zero: PyTorch's state dicts have none). --config and --classes
are optional; with both the work directory says all that predictions need. Of D2-Net's networks
configs/d2net_anet12.py is the one for ActivityNet 1.2, of CO2-Net's configs/co2net_anet12.py:
shapes do not tell everything. The second writes what the published program's load_state_dict takes.
Exit codes: 0 done, 2 something that you can mend (the last line says what).
"""

import re
import shlex
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from jaxtal import command_line
from jaxtal.errors import JaxtalError

_METHOD = flags.DEFINE_string("method", None, "co2net or d2net.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The work directory to write, or to read.")
_TORCH = flags.DEFINE_string("torch", None, "PyTorch's file, to be made a work directory.")
_TO_TORCH = flags.DEFINE_string(
    "to_torch", None, "PyTorch's file to write, from the work directory's latest checkpoint."
)
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "With --torch, optional: the config file of the runs in the work directory."
)
_CLASSES = flags.DEFINE_string(
    "classes",
    None,
    "With --torch, optional: class names in the order of the outputs; a text file with a name a "
    "line, classlist.npy, a JSON file in ActivityNet form, or a folder in any layout that has "
    "annotations.",
)
_MEMBER = flags.DEFINE_integer("member", None, "With --to_torch: which member of a population.")


def _from_torch(method: str, workdir: Path) -> None:
    # Imported here, so that --help and bad flags answer at once.
    from jaxtal.checkpoint_conversion import convert

    classes = convert.read_classes(Path(_CLASSES.value)) if _CLASSES.value else ()
    config, source = _CONFIG.value, Path(command_line.required(_TORCH))
    (features, count, _), parameters = convert.from_torch(method, source, workdir, config, classes)
    print(
        f"{method}, {count} classes, {features} features a modality, {parameters:,} parameters: "
        f"{source} is step 0 in {workdir}"
    )
    print(f"to evaluate it: {_evaluation(method, workdir)}")


def _evaluation(method: str, workdir: Path) -> str:
    """The command, with the config's overrides."""
    options = ["--config", f"configs/{method}_thumos.py", "--config.data.dir", "FOLDER"]
    if _CONFIG.value is not None:
        holder = flags.FLAGS["config"]
        changed = config_flags.get_override_values(holder)
        options = ["--config", config_flags.get_config_filename(holder)]
        options += [part for name, value in changed.items() for part in (f"--config.{name}", value)]
    options += ["--workdir", str(workdir), "--mode", "eval"]
    pairs = zip(options[::2], options[1::2], strict=True)
    words = [f"{name}={value}" for name, value in pairs]
    return shlex.join(["python", "-m", "jaxtal.main", *words])


def _to_torch(method: str, workdir: Path) -> None:
    from jaxtal.checkpoint_conversion import convert

    command_line.check_outputs([_TO_TORCH], [])
    members = convert.to_torch(
        method, workdir, Path(command_line.required(_TO_TORCH)), _MEMBER.value
    )
    chosen = f", member {_MEMBER.value or 0} of {members}" if members > 1 else ""
    hint = " (--member chooses another)" if chosen and _MEMBER.value is None else ""
    print(
        f"{method} from {workdir}{chosen}{hint} is in {_TO_TORCH.value}; the published program "
        "reads it with load_state_dict(torch.load(FILE))"
    )


def _check_flags() -> None:
    """Raise JaxtalError unless the flags ask for one direction and no flag is of the other."""
    if bool(_TORCH.value) == bool(_TO_TORCH.value):
        raise JaxtalError("wanted either --torch, a file to read, or --to_torch, a file to write")
    wrong = (_MEMBER,) if _TORCH.value else (_CLASSES, _CONFIG)
    for flag in wrong:
        if flag.value is not None:
            other = _TO_TORCH if _TORCH.value else _TORCH
            raise JaxtalError(f"--{flag.name} only acts with --{other.name}; leave it out")


def _run(_: list[str]) -> int:
    logging.set_verbosity(logging.ERROR)  # orbax tells a page for every checkpoint
    try:
        _check_flags()
        method, workdir = command_line.required(_METHOD), Path(command_line.required(_WORKDIR))
        (_from_torch if _TORCH.value else _to_torch)(method, workdir)
    except JaxtalError as error:
        return command_line.fail(str(error))
    return 0


def _parse(argv: list[str]) -> list[str]:
    """--config is optional here."""
    given = any(re.match(r"--?(no)?config\b|--?flagfile\b", argument) for argument in argv)
    return (command_line.parse if given else command_line.parse_plain)(argv)


if __name__ == "__main__":
    app.run(_run, flags_parser=_parse)
