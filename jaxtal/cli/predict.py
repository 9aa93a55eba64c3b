r"""Detect actions in unlabeled videos from their features, with a trained model.

    jaxtal predict --workdir runs/co2net_demo --features FOLDER --output detections.json
    jaxtal predict --exported model.jaxtal --features VIDEO.npy --output detections.json \
        --plots figures

--features is one of: a .npy file (T, 2D) of one video, RGB columns before flow; a folder of such
files, named after their videos; a folder with rgb/VIDEO.npy and flow/VIDEO.npy, (T, D) each; a data
set in one of the known layouts (detected, or given by --layout): all its videos.
Files may also be .npz, .pt, .pth, .pkl, .pickle, .h5, .hdf5 or .csv; one .h5 may have all videos.
Features are read batch by batch, so the folder may exceed the memory.
Exit codes: 0 success, 2 user error (see the last line of stderr).
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtal.cli import checkpoint, flags, reading, runtime
from jaxtal.cli.command import Command

if TYPE_CHECKING:
    from jaxtal.inference.model import Model


def add_flags(parser: flags.Parser) -> None:
    """Define the command's flags."""
    parser.add_flag("workdir", "Work directory of the run with the model.")
    parser.add_flag("exported", "File written by jaxtal export, instead of --workdir.")
    add_members(parser)
    parser.add_flag(
        "features", "Feature file, such as VIDEO.npy, folder of such files, or data set."
    )
    reading.add_flags(parser)
    parser.add_flag(
        "output", "JSON file in ActivityNet form, times in seconds.", default="detections.json"
    )
    parser.add_flag("plots", "Folder for one figure per video; without it none is drawn.")
    parser.add_flag(
        "plot_videos", "Largest number of videos to plot.", type=flags.integer(0), default=20
    )
    flags.add_compilation_cache(parser)


def add_members(parser: flags.Parser) -> None:
    """Define the flags that select a model of a population."""
    parser.add_flag(
        "member",
        "Member of a population, counted from 0; not needed for a run with a single model.",
        type=flags.integer(),
    )
    parser.add_flag(
        "ensemble",
        "Average the outputs of all members of a population.",
        type=flags.boolean,
        default=False,
    )
    checkpoint.add_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Write the detections in all videos of --features."""
    runtime.quiet_absl("fatal")  # Orbax logs errors that are reported below
    features = Path(flags.required(args, "features"))
    output = Path(flags.required(args, "output"))
    flags.check_outputs(args, ["output"], [features, Path(args.exported or features)])
    runtime.enable_compilation_cache(args.compilation_cache_dir)
    from jaxtal.inference.batch_predict import predict
    from jaxtal.visualization import console

    predict(
        _load(args),
        features,
        output,
        reading.options(args),
        plots=Path(args.plots) if args.plots else None,
        plot_videos=args.plot_videos,
        skip_damaged=args.skip_damaged,
        progress=console.progress_bar,
    )
    return 0


def _load(args: argparse.Namespace) -> "Model":
    """Return the model that the flags name."""
    if bool(args.workdir) == bool(args.exported):
        raise flags.UsageError(
            "give either --workdir, of a run, or --exported, a file of jaxtal export"
        )
    if args.workdir:
        from jaxtal.inference import restore

        return restore.load_work_directory(
            Path(args.workdir), args.member, args.ensemble, args.checkpoint
        )
    if args.member is not None or args.ensemble or args.checkpoint != "last":
        raise flags.UsageError(
            "--member, --ensemble and --checkpoint are for --workdir; an exported file holds one "
            "model"
        )
    from jaxtal.inference import exported  # imports neither flax nor the methods

    return exported.load_exported(Path(args.exported))


COMMAND = Command("predict", __doc__, add_flags, run)
