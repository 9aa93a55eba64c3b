r"""Detections in videos that nobody annotated, from a trained model and features.

    python -m jaxtal.predict --workdir runs/co2net_demo --features FOLDER --output detections.json
    python -m jaxtal.predict --exported model.jaxtal --features VIDEO.npy --output detections.json \
        --plots pictures

Features are a .npy file (T, 2D) of one video, RGB columns before flow; a folder of such files, the
video's name being the file's; a folder with rgb/ and flow/, (T, D) each; or a data set in one of
the known layouts (recognized, or given by --layout), of which all videos are predicted, training
and test. They are read batch by batch, so that a folder may be as large as it likes.
Exit codes: 0 done, 2 something that you can mend (the last line says what).
"""

from pathlib import Path

from absl import app, flags, logging

from jaxtal import command_line, data_flags
from jaxtal.errors import JaxtalError

flags.adopt_module_key_flags(data_flags)
_WORKDIR = flags.DEFINE_string("workdir", None, "The work directory of a run, the model.")
_EXPORTED = flags.DEFINE_string("exported", None, "Instead: a file that jaxtal.export wrote.")
_MEMBER = flags.DEFINE_integer("member", None, "Which member of a population, counted from 0.")
_ENSEMBLE = flags.DEFINE_boolean("ensemble", False, "All members of a population, averaged.")
_FEATURES = flags.DEFINE_string("features", None, "A .npy file, a folder, or a data set.")
_OUTPUT = flags.DEFINE_string("output", "detections.json", "JSON file in ActivityNet form.")
_PLOTS = flags.DEFINE_string("plots", None, "Folder for a picture of each video.")
_PLOT_VIDEOS = flags.DEFINE_integer("plot_videos", 20, "How many videos are drawn at most.", 0)
_COMPILED = flags.DEFINE_string(
    "compiled",
    None,
    "Folder for compiled programs; default: jaxtal/ in the user's cache folder, or "
    "JAX_COMPILATION_CACHE_DIR; '' keeps none.",
)


def _load():
    """The predictor that the flags name."""
    if bool(_WORKDIR.value) == bool(_EXPORTED.value):
        raise JaxtalError("give either --workdir, of a run, or --exported, a file of jaxtal.export")
    if _WORKDIR.value:
        from jaxtal.inference import restore

        return restore.load_work_directory(Path(_WORKDIR.value), _MEMBER.value, _ENSEMBLE.value)
    if _MEMBER.value is not None or _ENSEMBLE.value:
        raise JaxtalError(
            "--member and --ensemble are for --workdir; an exported file holds one model"
        )
    from jaxtal.inference import exported  # and neither flax nor the methods' modules

    return exported.load_exported(Path(command_line.required(_EXPORTED)))


def _run(_: list[str]) -> int:
    logging.set_verbosity(logging.WARNING)  # orbax tells a page for every checkpoint
    try:
        features = Path(command_line.required(_FEATURES))
        output = Path(command_line.required(_OUTPUT))
        command_line.check_outputs([_OUTPUT], [features, Path(_EXPORTED.value or features)])
        command_line.keep_compiled(_COMPILED.value)
        plots = Path(_PLOTS.value) if _PLOTS.value else None
        reading = data_flags.reading()
        times = reading["fps"], reading["stride"], reading["window"]
        shown = plots, _PLOT_VIDEOS.value
        skip = data_flags.SKIP_DAMAGED.value
        from jaxtal.inference.batch_predict import predict

        predict(_load(), features, output, times, *shown, skip, reading["layout"], reading["name"])
    except JaxtalError as error:
        return command_line.fail(str(error))
    return 0


if __name__ == "__main__":
    app.run(_run, flags_parser=command_line.parse_plain)
