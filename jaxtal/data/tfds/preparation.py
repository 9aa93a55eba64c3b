"""Preparation of data sets with TensorFlow Datasets."""

import contextlib
import io
from pathlib import Path
from typing import Any

from jaxtal.data.reading import NOTHING_STATED, ReadingOptions
from jaxtal.errors import DataError, warn
from jaxtal.extras import required


def prepare(
    builder_name: str,
    data_dir: Path,
    manual_dir: Path | None = None,
    *,
    skip_damaged: bool = False,
    options: ReadingOptions = NOTHING_STATED,
) -> Path:
    """Prepare a data set, unless its folder exists.

    Args:
        builder_name: <builder> or <builder>/<config>.
        data_dir: TFDS's data folder.
        manual_dir: folder with the files to read; None for generated videos.
        skip_damaged: skip videos whose features cannot be used, with a warning.
        options: statements of the user about the data set.

    Returns:
        The prepared folder.

    Raises:
        DataError: the builder does not exist, files are missing or malformed, or the folder cannot
            be written.
    """
    with required("tfds", "preparing a data set"):
        import importlib_resources  # noqa: F401, imported by TFDS's builders
        import tensorflow_datasets as tfds

    builder = _builder(builder_name, data_dir, options, skip_damaged)
    folder = Path(builder.data_dir)
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS is None and manual_dir is not None:
        raise DataError(f"manual_dir={manual_dir}: {builder_name} reads no files; omit it")
    if folder.exists():
        warn(f"{folder} exists and is kept; remove it to prepare {builder_name} again")
        return folder
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS is not None:
        _check_manual_dir(manual_dir, builder.MANUAL_DOWNLOAD_INSTRUCTIONS)
    for partial in sorted(folder.parent.glob(f"incomplete.*_{folder.name}")):
        warn(f"{partial} is from an unfinished run; remove it unless that run is in progress")
    settings = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints "Unknown size" four times
            builder.download_and_prepare(download_config=settings)
    except (OSError, RuntimeError) as error:  # array_record raises RuntimeError on a full disk
        raise DataError(f"{folder}: cannot be written ({error})") from None
    return folder


def _builder(name: str, data_dir: Path, options: ReadingOptions, skip_damaged: bool):
    """Return the builder with this name; DataError if it does not exist."""
    from jaxtal.data.tfds.builders import BUILDERS, JaxtalVideos, named

    base, _, config = name.partition("/")
    builders = {builder.name: builder for builder in BUILDERS}
    if base not in builders:
        raise DataError(f"builder={name:.80}: wanted one of {', '.join(builders)}")
    builder = builders[base]
    known = [*builder.builder_configs]
    chosen: Any = config or None
    if builder is JaxtalVideos:
        chosen = named(config)
    elif config not in (known or [""]):
        wanted = " or ".join(f"{base}/{one}" for one in known) or base
        raise DataError(f"builder={name:.80}: wanted {wanted}")
    return builder(data_dir=data_dir, config=chosen, reading=options, skip_damaged=skip_damaged)


def _check_manual_dir(manual_dir: Path | None, instructions: str) -> None:
    """Raise DataError unless the folder exists."""
    if manual_dir is None:
        raise DataError(f"manual_dir=... is missing. {instructions}")
    if not manual_dir.is_dir():
        raise DataError(f"manual_dir=... is {manual_dir}, which is not a folder. {instructions}")
