r"""Draw the timelines of several models in the same videos: .png, .pdf or .svg.

    jaxtal figure timelines runs/five_seeds:0 runs/other_run --output timelines.png
    jaxtal figure timelines runs/a runs/b:ensemble --videos video_1,video_2 --frames FOLDER \
        --names "baseline,with L_D" --output timelines.pdf

Each argument is a work directory, with :MEMBER for a member of a population and :ensemble for its
ensemble. Rows: frames of the video, ground truth, then a row per model with its detections (height
= score), attentions (lines) and T-CAM (dotted) of the annotated classes. Curves are read from
activations.npz; without it the network is run on the data of the run's config.
Exit codes: 0 success, 2 user error (see the last line of stderr).
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtal.cli import flags, runtime
from jaxtal.cli.command import Command

if TYPE_CHECKING:
    from jaxtal.data.dataset import Dataset


def add_flags(parser: flags.Parser) -> None:
    """Define the command's flags."""
    parser.add_flag("output", "File to write (.png, .pdf, .svg).", default="timelines.png")
    parser.add_flag("videos", "Names of test videos; default: two.", type=flags.names)
    parser.add_flag(
        "names", "Labels of the models in their order; default: the runs.", type=flags.names
    )
    parser.add_flag("frames", "Folder with pictures of the videos, FOLDER/VIDEO/*.jpg or *.png.")
    parser.add_flag(
        "least",
        "Share of a model's best score in a video below which detections are not drawn.",
        type=flags.number,
        default=0.1,
    )


def run(args: argparse.Namespace) -> int:
    """Write the figure."""
    runtime.quiet_absl("fatal")  # Orbax logs errors that are reported below
    output = Path(flags.required(args, "output"))
    if not 0 <= args.least <= 1:
        raise flags.UsageError(f"--least={args.least:g}: wanted a number from 0 to 1")
    flags.check_outputs(args, ["output"])
    from jaxtal.reporting import variants
    from jaxtal.visualization import console, plots, timelines

    chosen = [variants.parse(path) for path in args.paths]
    labels = args.names or variants.labels(chosen)
    if len(labels) != len(chosen):
        raise flags.UsageError(f"--names has {len(labels)} names; there are {len(chosen)} models")
    truth = variants.read_truth(chosen)
    indices = _pick(args.videos, truth)
    frames = {}
    if args.frames:
        names = {index: truth.test[index].name for index in indices}
        frames = timelines.find_frames(Path(args.frames), names)
    read = [
        variants.read(named, label, truth, indices)
        for named, label in zip(chosen, labels, strict=True)
    ]
    plots.save(timelines.draw(truth, indices, read, frames, args.least), output)
    counts = ((len(indices), "video"), (len(read), "model"))
    words = ", ".join(f"{count} {what}{'s' * (count > 1)}" for count, what in counts)
    console.print_message(f"{words}: {output}")
    return 0


def _pick(names: tuple[str, ...] | None, truth: "Dataset") -> list[int]:
    """Return the indices of the named test videos, or of two."""
    from jaxtal.visualization import plots

    known = {video.name: index for index, video in enumerate(truth.test)}
    if not names:
        return plots.pick_videos(truth, [*known.values()], 2).tolist()
    for name in names:
        if name not in known:
            raise flags.UsageError(f"--videos: no test video {name!r}{flags.near(name, [*known])}")
    return [known[name] for name in names]


TIMELINES = Command("figure timelines", __doc__, add_flags, run, paths=("RUN[:MEMBER]...",))
