r"""Prepare a data set once as a TFDS data set, which is read at random, video by video.

    python -m jaxtal.prepare --builder jaxtal_thumos14 --manual_dir FOLDER --data_dir DIR
    python -m jaxtal.main --config configs/co2net_thumos.py --config.data.layout=tfds \
        --config.data.dir=DIR --config.data.name=jaxtal_thumos14

Builders: jaxtal_thumos14, jaxtal_activitynet/1.2 and /1.3, jaxtal_videos/NAME for any other data
set, all of which read what lies in --manual_dir, in any layout that python -m jaxtal.datasets
lists; and jaxtal_untrimmed/demo and /thumos14, which generate videos. TensorFlow is not needed.
The data set appears whole or not at all. Exit codes: 0 done, 2 something that you can mend (the
last line says what).
"""

import contextlib
import io
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from jaxtal import command_line, data_flags
from jaxtal.errors import JaxtalError, warn

_BUILDER = flags.DEFINE_string("builder", None, "<name> or <name>/<config>; see above.")
_MANUAL_DIR = flags.DEFINE_string(
    "manual_dir", None, "The folder with annotations and features, in any layout."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The TFDS data folder to write to.")
flags.adopt_module_key_flags(data_flags)


def prepare(
    builder_name: str, data_dir: Path, manual_dir: Path | None = None, **reading: Any
) -> Path:
    """Prepare a data set, unless it is already.

    Args:
        builder_name: <builder> or <builder>/<config>.
        data_dir: TFDS's data folder.
        manual_dir: the folder that is read; None for generated videos.
        reading: fields of `builders.BuilderOptions`.

    Returns:
        The prepared folder.

    Raises:
        JaxtalError: something is missing or wrong, or cannot be written.
    """
    import tensorflow_datasets as tfds

    builder = _builder(builder_name, data_dir, reading)
    folder = Path(builder.data_dir)
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS is None and manual_dir is not None:
        raise JaxtalError(f"--manual_dir={manual_dir}: {builder_name} reads no files; leave it out")
    if folder.exists():
        warn(f"{folder} is there already and stays; remove it to prepare {builder_name} again")
        return folder
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS is not None:
        _check_manual_dir(manual_dir, builder.MANUAL_DOWNLOAD_INSTRUCTIONS)
    for left in sorted(folder.parent.glob(f"incomplete.*_{folder.name}")):
        warn(f"{left} is of a run that was stopped; remove it unless that run still goes on")
    options = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS says "Unknown size" four times
            builder.download_and_prepare(download_config=options)
    except (OSError, RuntimeError) as error:  # array_record raises the second on a full disk
        raise JaxtalError(f"{folder}: cannot be written ({error})") from None
    return folder


def _builder(name: str, data_dir: Path, reading: dict[str, Any]):
    """The builder that `name` means; UserError if there is none."""
    from jaxtal.data.tfds.builders import BUILDERS, BuilderOptions, JaxtalVideos, named

    base, _, config = name.partition("/")
    builders = {builder.name: builder for builder in BUILDERS}
    if base not in builders:
        raise JaxtalError(f"--builder={name:.80}: it is one of {', '.join(builders)}")
    builder = builders[base]
    known = [*builder.builder_configs]
    chosen: Any = config or None
    if builder is JaxtalVideos:
        chosen = named(config)
    elif config not in (known or [""]):
        wanted = " or ".join(f"{base}/{one}" for one in known) or base
        raise JaxtalError(f"--builder={name:.80}: wanted {wanted}")
    options = BuilderOptions(**reading)
    return builder(data_dir=data_dir, config=chosen, reading=options)


def _check_manual_dir(manual_dir: Path | None, instructions: str) -> None:
    if manual_dir is None or not manual_dir.is_dir():
        found = "missing" if manual_dir is None else f"{manual_dir}, which is no folder"
        raise JaxtalError(f"--manual_dir is {found}. {instructions}")


def _say(folder: Path, name: str, data_dir: Path) -> None:
    """Where the data set is and how to train from it."""
    from jaxtal.data.tfds import reader

    source = reader.read(folder)
    counts = f"{len(source.dataset.train)} training and {len(source.dataset.test)} test videos"
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    configs = {"jaxtal_activitynet": "co2net_anet12", "jaxtal_untrimmed": "co2net_demo"}
    config = configs.get(name.partition("/")[0], "co2net_thumos")
    print(f"{source.dataset.name}: {counts}, {size:.0f} MB, are in {folder}; train with")
    print(
        f"python -m jaxtal.main --config configs/{config}.py --config.data.layout=tfds "
        f"--config.data.dir={data_dir} --config.data.name={name}"
    )


def _run(_: list[str]) -> int:
    logging.set_verbosity(logging.ERROR)  # TFDS warns of every configuration that is not its own
    try:
        name = command_line.required(_BUILDER)
        data_dir = Path(command_line.required(_DATA_DIR))
        folder = prepare(
            name,
            data_dir,
            Path(_MANUAL_DIR.value) if _MANUAL_DIR.value else None,
            skip_damaged=data_flags.SKIP_DAMAGED.value,
            **data_flags.reading(),
        )
        _say(folder, name, data_dir)
    except JaxtalError as error:
        return command_line.fail(str(error))
    return 0


if __name__ == "__main__":
    app.run(_run, flags_parser=command_line.parse_plain)
