"""Replaces ``--config NAME`` and ``--ckpt_path RUN`` by file paths before the arguments are parsed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import OmegaConf

from wand.callbacks import ComparisonTable, SpeechLogger, WindowCurriculum
from wand.cli import FLAG
from wand.data.datamodule import SpeechDataModule
from wand.model.adapters import find_backbone
from wand.moved import MOVED_CONFIGS
from wand.registry import known_backbones
from wand.runs.checkpoints import RUNS, find_checkpoint, run_folder, select_setting
from wand.runs.old_names import current_class, parse_config, read_config, read_config_bytes
from wand.runs.settings import GROUPED
from wand.runs.trust import check_config, search_current_folder
from wand.training.module import WandModule

# A setting of any type is data, also where it looks like a class.
set_parsing_settings(instantiate_subclass_spec_in_any=False)

# The sections of a config, and the classes that they configure.
SECTIONS: dict[str, Any] = {
    "name": str,
    "recogniser": str,
    "language": str,
    "seed_everything": int,
    "ckpt_path": str,
    "weights_only": bool,
    "model": WandModule,
    "data": SpeechDataModule,
    "trainer": Trainer,
    "curriculum": WindowCurriculum,
    "speech": SpeechLogger,
    "table": ComparisonTable,
    "checkpoint": ModelCheckpoint,
    "last_checkpoint": ModelCheckpoint,
}
# A class path somewhere in a typed value.
CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def shipped_configs() -> dict[str, Path]:
    """Configs that come with wand, by name: ``quickstart``, ``ablations/kl-only``."""
    folder = Path(str(files("wand") / "configs"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in sorted(folder.glob("**/*.yaml"))}


def find_config(name: str) -> str:
    """The path of a config: `name` itself if it is a file, else the config of that name that comes with wand.

    A config is also found by its name in an older version.

    Raises:
        ValueError: If there is neither; the message lists the configs that come with wand.
    """
    if Path(name).is_file():
        return name
    shipped = shipped_configs()
    current = MOVED_CONFIGS.get(name, name)
    if current in shipped:
        return str(shipped[current])
    raise ValueError(f"there is no config {name!r}: give a YAML file, or one of {', '.join(shipped)}")


def settle_arguments(
    arguments: list[str], without: Sequence[str] = (), goes_on: Path | None = None
) -> tuple[list[str], Path | None]:
    """Replace names by file paths in the arguments, and find the checkpoint.

    With ``--ckpt_path`` and no ``--config``, the config of the checkpoint's run is added, as text. It is checked here,
    because the parser imports the classes that it names. A config with names of an older version is replaced by the
    text of its translation. The parser takes a text like a file.

    Args:
        arguments: The arguments.
        without: Settings to leave out of configs. The config of a run has those of ``wand fit``, which not every
            command knows.
        goes_on: The run folder that takes the place of ``--ckpt_path``.

    Returns:
        The new arguments, and the checkpoint file (None without ``--ckpt_path``).

    Raises:
        ValueError: If a file or checkpoint is missing, an option has its name from an older version, or the config of
            the run names code that it may not start (`wand.runs.trust`).
    """
    settled: list[str] = []
    chosen: str | Path | None = goes_on
    has_config = names_class = False
    waiting = iter(arguments)
    for argument in waiting:
        if argument == FLAG:  # acts in `wand.cli.main`, and is no setting of a run
            continue
        option, equals, value = argument.partition("=")
        _refuse_old_option(option)
        if option in ("--config", "-c", "--ckpt_path"):
            if not equals:
                value = next(waiting, "")
            if option == "--ckpt_path":
                chosen = goes_on or value  # as with every option, the last one counts
            else:
                has_config = True
                settled += ["--config", _in_current_names(find_config(value), without)]
        else:
            names_class = names_class or CLASS_PATH.search(value or option) is not None
            settled.append(current_class(option) + equals + current_class(value))
    checkpoint = None if chosen is None else find_checkpoint(chosen).absolute()
    if checkpoint is not None and not has_config:
        folder = run_folder(checkpoint)
        config = None if folder is None else folder / "config.yaml"
        if config is None or not config.is_file():
            raise ValueError(f"{checkpoint} is not in a run folder with a config.yaml: give --config as well")
        settled = ["--config", _config_of_run(config, without), *settled]
    if checkpoint is not None:
        settled += ["--ckpt_path", str(checkpoint)]
    if has_config or names_class:  # only what the user typed may be imported from the current folder
        search_current_folder()
    return settled, checkpoint


def section_of_config(name: str, section: str) -> Any:
    """A section of a config that the user names, as plain values. It may start what it names.

    Raises:
        ValueError: If there is no such config, or it has no such section.
    """
    file = find_config(name)
    values = select_setting(read_config(file)[0], section, file)
    if values is None:
        raise ValueError(f"the config {name} has no section {section!r}")
    search_current_folder()
    return values


def build_section(section: str, values: Any) -> Any:
    """What the commands of the trainer build from a section of a config, such as a `SpeechDataModule` from ``data``.

    Args:
        section: One of `SECTIONS` that is a class.
        values: Its settings, as plain values.

    Raises:
        ValueError: If a setting is unknown or cannot be used.
    """
    for name in known_backbones():
        find_backbone(name)  # after the import, an adapter can be named without its module
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SECTIONS[section], section)
    try:
        return parser.instantiate_classes(parser.parse_object({section: values}))[section]
    except ArgumentError as error:
        raise ValueError(str(error)) from error


def _config_of_run(file: Path, without: Sequence[str]) -> str:
    """The text of a run's config that may start what it names, without the settings to leave out."""
    content = read_config_bytes(file)
    config, translated = parse_config(content, file)
    check_config(OmegaConf.to_container(config), content, file, SECTIONS)
    left_out = [config.pop(name) for name in without if name in config]
    return OmegaConf.to_yaml(config) if translated or left_out else content.decode("utf-8-sig")


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


def check_run_name(name: str) -> None:
    """Refuse a name whose folder is not inside the folder of runs. It may have parts, as in ``voices/first``.

    Raises:
        ValueError: If the name is empty or absolute, or a part of it is empty, ``.`` or ``..``.
    """
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"--name {name!r} is no folder inside {RUNS}/: give a name such as `voice` or `voices/first`")


def new_run_folder(name: str, runs: Path = RUNS) -> Path:
    """Make ``runs/<name>``, or ``runs/<name>-2`` ... so that no run overwrites another."""
    folder = first = (runs / name).absolute()
    number = 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = first.with_name(f"{first.name}-{number}")
        else:
            return folder
