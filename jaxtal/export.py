r"""A trained model as one file: python -m jaxtal.export --workdir DIR --output model.jaxtal

    python -m jaxtal.predict --exported model.jaxtal --features FOLDER --output detections.json

The file holds the network of the work directory's latest checkpoint, for CPUs, GPUs and TPUs, with
its parameters, the class names, the time grid and how to localize. Whoever predicts with it needs
no config, no work directory and none of the model's code; `jaxtal/inference/exported.py` says what it is.
Exit codes: 0 done, 2 something that you can mend (the last line says what).
"""

from pathlib import Path

from absl import app, flags, logging

from jaxtal import command_line
from jaxtal.errors import JaxtalError

_WORKDIR = flags.DEFINE_string("workdir", None, "The work directory of the run.")
_OUTPUT = flags.DEFINE_string("output", "model.jaxtal", "The file to write.")
_MEMBER = flags.DEFINE_integer("member", None, "Which member of a population, counted from 0.")
_ENSEMBLE = flags.DEFINE_boolean("ensemble", False, "All members of a population, averaged.")


def export(workdir: Path, output: Path, member: int | None = None, ensemble: bool = False) -> None:
    """Write the model of a work directory to one file; see `restore.load_work_directory`, `exported.export_model`."""
    # Imported here, so that --help and bad flags answer at once.
    from jaxtal.inference import exported, restore
    from jaxtal.visualization import console

    header = exported.export_model(output, restore.load_work_directory(workdir, member, ensemble))
    console.say(
        f"{header['method']}, {len(header['classes'])} classes, {header['feature_width']} features "
        f"a snippet, for {', '.join(header['platforms'])}: {output}, "
        f"{output.stat().st_size / 2**20:.1f} MiB; python -m jaxtal.predict --exported {output} "
        "predicts with it"
    )


def _run(_: list[str]) -> int:
    logging.set_verbosity(logging.WARNING)  # orbax tells a page for every checkpoint
    try:
        command_line.check_outputs([_OUTPUT], [])
        workdir = Path(command_line.required(_WORKDIR))
        export(workdir, Path(command_line.required(_OUTPUT)), _MEMBER.value, _ENSEMBLE.value)
    except JaxtalError as error:
        return command_line.fail(str(error))
    return 0


if __name__ == "__main__":
    app.run(_run, flags_parser=command_line.parse_plain)
