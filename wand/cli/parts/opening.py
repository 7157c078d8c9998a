"""Opens models and data for the commands that read a model's attention."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentError, ArgumentParser

from wand.cli.configs import build_section, section_of_config
from wand.codecs import Codec
from wand.data.datamodule import SpeechDataModule
from wand.data.shards import ShardedExamples
from wand.model.backbone import Backbone
from wand.runs.checkpoints import find_checkpoint, is_export, run_folder, setting_of_run
from wand.speech.synthesizer import Synthesizer


def folder_of_model(path: str, remedy: str) -> Path:
    """The folder of an export or of a run.

    Args:
        path: Folder of an export, or a path of a run (see `find_checkpoint`).
        remedy: What to do if the model has no folder of its own, for errors.

    Raises:
        ValueError: If there is no such model, or it has no folder of its own.
    """
    if is_export(path):
        return Path(path)
    folder = run_folder(checkpoint := find_checkpoint(path))
    if folder is None:
        raise ValueError(f"{checkpoint} is in no run folder: {remedy}")
    return folder


def folder_of_results(path: str, name: str, out: Path | None) -> Path:
    """The folder that a command writes its results to.

    Args:
        path: The model, as for `folder_of_model`.
        name: Name of the results, and of their folder in that of the model.
        out: The folder that the user has given; None for that in the folder of the model.

    Raises:
        ValueError: If nothing was given and the model has no folder of its own.
    """
    return folder_of_model(path, "give --out, the folder for the results") / name if out is None else out


def open_data(path: str, config: str | None) -> SpeechDataModule:
    """The data of a config, or else of a run.

    Args:
        path: The run or the export.
        config: Config whose data are read; None for those of the run.

    Raises:
        ValueError: If neither names data.
    """
    if config is not None:
        values = section_of_config(config, "data")
    else:
        values = None if is_export(path) else setting_of_run(path, "data", SpeechDataModule)
        if values is None:
            raise ValueError(f"{path} names no data: give --config with the config whose data to read")
    data: SpeechDataModule = build_section("data", values)
    return data


def open_codec(config: str) -> Codec:
    """The codec that a config names (``data.codec``). The rest of the config is not read.

    Raises:
        ValueError: If it names none, or the codec cannot be built.
    """
    values = section_of_config(config, "data.codec")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--codec", type=Codec)
    try:
        codec: Codec = parser.instantiate_classes(parser.parse_object({"codec": values})).codec
    except ArgumentError as error:
        raise ValueError(f"the config {config}: data.codec cannot be built: {error}") from error
    return codec


def open_pretrained(config: str | None) -> tuple[Synthesizer, SpeechDataModule]:
    """The pretrained model of a config, and its data.

    Raises:
        ValueError: If there is no config, or it names no pretrained weights.
    """
    if config is None:
        raise ValueError("no model: give --ckpt_path RUN, or --config NAME for its pretrained model")
    data = build_section("data", section_of_config(config, "data"))
    module = build_section("model", section_of_config(config, "model"))
    backbone: Backbone = module.backbone
    if backbone.pretrained is None:
        raise ValueError(f"the config {config} names no pretrained weights: give --ckpt_path RUN")
    backbone.load_pretrained()
    backbone.codec = data.codec
    return Synthesizer(backbone.eval(), module.final_window, backbone.find_codec()), data


def examples_of(data: SpeechDataModule, speaker: Backbone, split: str) -> ShardedExamples:
    """The utterances of a split, which are made if they are missing.

    Args:
        data: The data.
        speaker: The model whose data they are.
        split: ``validation`` or ``test``.

    Raises:
        ValueError: If it is empty.
    """
    cache = data.prepare_for(speaker)
    examples = ShardedExamples(cache.files(split), cache.fingerprint)
    if not len(examples):
        raise ValueError(f"the {split} split in {cache.folder} is empty: give --config with other data")
    return examples
