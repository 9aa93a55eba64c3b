r"""One HTML page about finished runs, to look at and to hand on; it needs no network.

    python -m jaxtal.report --workdir runs/co2net_demo --workdir runs/d2net_demo \
        --output report.html

Tables of results, curves of training, AP by class, errors, and every test video with ground truth,
detections, attention and T-CAM on one time axis. The latter are there for runs with
--config.evaluation.save_activations=True (with --mode=eval also afterwards).
Exit codes: 0 done, 2 something that you can mend (the last line says what).
"""

from pathlib import Path

from absl import app, flags

from jaxtal import command_line
from jaxtal.errors import JaxtalError, warn

_WORKDIRS = flags.DEFINE_multi_string(
    "workdir", None, "The work directory of a finished run; may be repeated."
)
_OUTPUT = flags.DEFINE_string("output", "report.html", "HTML file.")
_VIDEOS = flags.DEFINE_integer(
    "videos", 500, "How many test videos of each data set the page has, at most.", lower_bound=1
)


def report(folders: list[Path], output: Path, videos: int) -> None:
    """Write the page of the runs in some work directories."""
    # Imported here, so that --help and bad flags answer at once.
    from jaxtal.reporting import html, runs
    from jaxtal.visualization import console

    found = runs.read(folders)
    size = html.write(output, found, videos)
    for line in (line for run in found for line in run.missing):
        warn(line)
    count = f"{len(found)} run{'s' * (len(found) > 1)}"
    console.say(f"{output}: {count}, {size / 1e6:.1f} MB; open it in a browser")


def _run(_: list[str]) -> int:
    try:
        folders = [*map(Path, command_line.required(_WORKDIRS))]
        command_line.required(_OUTPUT)
        command_line.check_outputs([_OUTPUT], [])
        report(folders, Path(_OUTPUT.value), _VIDEOS.value)
    except JaxtalError as error:
        return command_line.fail(str(error))
    return 0


if __name__ == "__main__":
    app.run(_run, flags_parser=command_line.parse_plain)
