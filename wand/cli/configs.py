"""Replaces ``--config NAME`` and ``--ckpt_path RUN`` by file paths before the arguments are parsed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from wand.runs.checkpoints import RUNS, find_checkpoint, run_folder
from wand.runs.old_names import current_class, read_config
from wand.runs.settings import GROUPED


def shipped_configs() -> dict[str, Path]:
    """Configs that come with wand, by name."""
    folder = Path(str(files("wand") / "configs"))
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def find_config(name: str) -> str:
    """The path of a config: `name` itself if it is a file, else the config of that name that comes with wand.

    Raises:
        ValueError: If there is neither; the message lists the configs that come with wand.
    """
    if Path(name).is_file():
        return name
    shipped = shipped_configs()
    if name in shipped:
        return str(shipped[name])
    raise ValueError(f"there is no config {name!r}: give a YAML file, or one of {', '.join(shipped)}")


def settle_arguments(arguments: list[str], without: Sequence[str] = ()) -> tuple[list[str], Path | None]:
    """Replace names by file paths in the arguments, and find the checkpoint.

    With ``--ckpt_path`` and no ``--config``, the config of the checkpoint's run is added. A config with names of an
    older version is replaced by the text of its translation, which the parser takes like a file.

    Args:
        arguments: The arguments.
        without: Settings to leave out of configs. The config of a run has those of ``wand fit``, which not every
            command knows.

    Returns:
        The new arguments, and the checkpoint file (None without ``--ckpt_path``).

    Raises:
        ValueError: If a file or checkpoint is missing, or an option has its name from an older version.
    """
    settled: list[str] = []
    checkpoint: Path | None = None
    has_config = False
    waiting = iter(arguments)
    for argument in waiting:
        option, equals, value = argument.partition("=")
        _refuse_old_option(option)
        if option in ("--config", "-c", "--ckpt_path"):
            if not equals:
                value = next(waiting, "")
            if option == "--ckpt_path":
                checkpoint = find_checkpoint(value).absolute()
                settled += [option, str(checkpoint)]
            else:
                has_config = True
                settled += ["--config", _in_current_names(find_config(value), without)]
        else:
            settled.append(current_class(option) + equals + current_class(value))
    if checkpoint is not None and not has_config:
        folder = run_folder(checkpoint)
        config = None if folder is None else folder / "config.yaml"
        if config is None or not config.is_file():
            raise ValueError(f"{checkpoint} is not in a run folder with a config.yaml: give --config as well")
        settled = ["--config", _in_current_names(str(config), without), *settled]
    return settled, checkpoint


def _in_current_names(file: str, without: Sequence[str]) -> str:
    """Return the file's name, or the text that is meant, if that differs (old names, settings to leave out)."""
    config, translated = read_config(file)
    left_out = [config.pop(name) for name in without if name in config]
    return OmegaConf.to_yaml(config) if translated or left_out else file


def _refuse_old_option(option: str) -> None:
    """Refuse an option of the first version and give its new name."""
    name = option.removeprefix("--model.")
    if name != option and name in GROUPED:
        raise ValueError(f"the command line: model.{name} is now model.{GROUPED[name]}.{name}")


def new_run_folder(name: str, runs: Path = RUNS) -> Path:
    """``runs/<name>``, or ``runs/<name>-2`` ... so that no run overwrites another. Only rank 0 makes and writes it."""
    folder = (runs / name).absolute()
    if getattr(rank_zero_only, "rank", 0) != 0:
        return folder
    number = 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = folder.with_name(f"{name}-{number}")
        else:
            return folder
