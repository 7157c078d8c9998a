"""Settings of a training, in YAML and on the command line, against a plain merge of dictionaries."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.fuzz.harness import Case, Group
from tests.fuzz.values import INF, NAN
from wand.cli.training import WandCLI, main

WRONG_NUMBERS: list[Any] = [NAN, INF, -1, "abc", [1], {"a": 1}]
WRONG_COUNTS: list[Any] = [0, 1.5, 10**30, *WRONG_NUMBERS]
WRONG_LISTS: list[Any] = [5, "abc", {"a": 1}, [[1]]]

Choose = Callable[[random.Random], Any]
# What may be set, and what may not.
SETTINGS: dict[str, tuple[Choose, list[Any]]] = {
    "data.batch_size": (lambda r: r.randint(1, 500), WRONG_COUNTS),
    "data.columns_per_batch": (lambda r: r.choice([None, 1, 9000]), WRONG_COUNTS),
    "data.seed": (lambda r: r.randrange(2**40), [1.5, NAN, "abc", [1], 2**70]),
    "data.workers": (lambda r: r.randint(0, 4), [-1, 1.5, NAN, "abc", [1]]),
    "data.max_seconds": (lambda r: r.choice([0.5, 10, 30.5, INF]), [0, NAN, -1, "abc", [1]]),
    "data.source.init_args.hours": (lambda r: r.uniform(0.01, 3), [0, 1001, *WRONG_NUMBERS]),
    "data.source.init_args.test_sentences": (lambda r: r.randint(1, 99), WRONG_COUNTS[:2] + WRONG_NUMBERS),
    "model.window": (lambda r: r.choice([None, r.randint(4, 128)]), [0, 2.5, 3, -8, NAN, INF, "wide", [8], [0] * 6]),
    "model.gradient_checkpointing": (lambda r: r.random() < 0.5, [2, "maybe", 0.5, NAN, [True]]),
    "model.loss.ce_weight": (lambda r: r.uniform(0.1, 2), WRONG_NUMBERS),
    "model.loss.kd_weight": (lambda r: r.uniform(0.1, 2), WRONG_NUMBERS),
    "model.loss.skew": (lambda r: r.uniform(0, 0.9), [1, *WRONG_NUMBERS]),
    "model.loss.temperature": (lambda r: r.uniform(0.1, 9), [0, *WRONG_NUMBERS]),
    "model.loss.codebook_weights": (
        lambda r: r.choice([None, [1, 1, 0.5, 2]]),
        [[1], [-1] * 4, [NAN] * 4, "abc", [0] * 4],
    ),
    "model.loss.divergence": (
        lambda r: r.choice(["skew_kl", "forward_kl", "jsd"]),
        ["kl", "", "os.system", "no.such", 5],
    ),
    "model.optimizer.learning_rate": (lambda r: r.choice([1e-5, 0.1]), [0, *WRONG_NUMBERS]),
    "model.optimizer.weight_decay": (lambda r: r.uniform(0, 1), WRONG_NUMBERS),
    "model.optimizer.warmup": (lambda r: r.uniform(0, 0.9), [1, *WRONG_NUMBERS]),
    "curriculum.schedule.start": (lambda r: r.randint(128, 999), WRONG_COUNTS[:2] + WRONG_NUMBERS),
    "curriculum.schedule.tau_start": (lambda r: r.uniform(0.1, 9), [0, 99, *WRONG_NUMBERS]),
    "curriculum.schedule.hard_from": (lambda r: r.uniform(1, 20), [NAN, "abc", [1]]),
    "curriculum.schedule.final_share": (lambda r: r.uniform(0, 0.9), [1, *WRONG_NUMBERS]),
    "curriculum.accept_change": (lambda r: r.random() < 0.5, [2, "maybe", [1]]),
    "speech.sentences": (lambda r: r.randint(0, 30), [-1, 1.5, NAN, "abc", [1]]),
    "speech.rows": (lambda r: r.randint(1, 30), WRONG_COUNTS[:2] + WRONG_NUMBERS),
    "table.rows": (lambda r: r.randint(1, 30), WRONG_COUNTS[:2] + WRONG_NUMBERS),
    "table.seconds": (lambda r: [r.randint(1, 9)], [[0], [NAN], [-1], *WRONG_LISTS]),
    "table.columns": (lambda r: [r.randint(1, 9), 200], [[0], [1.5], *WRONG_LISTS]),
    "table.full.seeds": (lambda r: r.randint(1, 3), WRONG_COUNTS[:2] + WRONG_NUMBERS),
    "table.full.windows": (lambda r: [r.randint(4, 9)], [[0], [-1], [NAN], *WRONG_LISTS]),
    "trainer.max_epochs": (lambda r: r.randint(1, 9), [1.5, NAN, INF, "abc", [1], -5]),
    "trainer.max_steps": (lambda r: r.randint(1, 99), [1.5, NAN, INF, "abc", [1], -5]),
    "trainer.accumulate_grad_batches": (lambda r: r.randint(1, 9), WRONG_COUNTS[:2] + WRONG_NUMBERS),
    "trainer.gradient_clip_val": (lambda r: r.uniform(0.1, 2), ["abc", [1], {"a": 1}, NAN]),
    "trainer.precision": (lambda r: r.choice(["32-true", "bf16-mixed"]), ["33", 7, "bf17", [1], NAN]),
    "trainer.accelerator": (lambda r: "cpu", ["nope", 5, [1]]),
    "trainer.devices": (lambda r: "auto", [0, -3, "x", 1.5, [1.5]]),
    "trainer.val_check_interval": (lambda r: r.choice([0.5, 1.0]), [-0.5, 1.5, NAN, "abc"]),
    "trainer.log_every_n_steps": (lambda r: r.randint(1, 9), [1.5, "abc", [1]]),
    "last_checkpoint.every_n_train_steps": (lambda r: r.randint(1, 99), [-1, 1.5, NAN, "abc"]),
    "seed_everything": (lambda r: r.randrange(2**31), [-1, 2**40, "abc", 1.5, [1]]),
}
NO_CONFIGS = [
    b"",
    b"a",
    b"- a",
    b"[1, 2",
    b"a: [",
    b"\xff\xfe\x00",
    b"a: &a [*a]",
    b"model: 5",
    b"data: []",
    b"trainer: x",
    b"modle:\n  window: 8",
    b"model:\n  windwo: 8",
    b"!!python/object/apply:os.system ['true']",
    b"data:\n  source: nothing",
    b"data:\n  source:\n    class_path: no.such.Thing",
    b"name: ${nowhere}",
    b"model:\n  backbone:\n    class_path: os.system",
    b"\t- a",
    b"a: b: c",
    b"name: *nobody",
]


class ConfigGroup(Group):
    """Settings of all sections, right and wrong."""

    name = "config"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.base = folder / "base.yaml"
        shipped = Path(__file__).parents[2] / "wand" / "configs" / "quickstart.yaml"
        self.base.write_text(shipped.read_text())

    def valid(self, random: random.Random) -> Case:
        files: list[dict[str, Any]] = [{} for _ in range(random.randint(0, 2))]
        typed: dict[str, Any] = {}
        for name in random.sample(sorted(SETTINGS), random.randint(1, 6)):
            for place in random.sample([*files, typed], random.randint(1, len(files) + 1)):
                place[name] = SETTINGS[name][0](random)
        right = {name: value for place in (*files, typed) for name, value in place.items()}
        arguments = ["--config", str(self.base)]
        for number, settings in enumerate(files):
            if settings:
                path = Path(f"{number}.yaml")
                path.write_text(yaml.safe_dump(_nested(settings)))
                arguments += ["--config", str(path)]
        arguments += _typed(random, typed)

        def check(cli: Any) -> None:
            for name, value in right.items():
                found: Any = cli.config
                for part in name.split("."):
                    found = found[part]
                found = list(found) if isinstance(found, tuple) else found
                assert found == value, f"{name} is {found!r}, not {value!r}"

        return Case(f"{arguments[2:]}", lambda: build(arguments), check)

    def invalid(self, random: random.Random) -> Case:
        arguments = ["--config", str(self.base)]
        if random.random() < 0.15:
            content = random.choice(NO_CONFIGS)
            Path("own.yaml").write_bytes(content)
            own = ["--config", random.choice(["own.yaml", "own.yaml", "nowhere.yaml"])]
            return Case(f"{own} {content!r}", lambda: build([*arguments, *own]), names=("",))
        name = random.choice(sorted(SETTINGS))
        value = random.choice(SETTINGS[name][1])
        if random.random() < 0.1:
            name, value = name + random.choice(["x", ".x"]), 1
        if random.random() < 0.5:
            arguments += _typed(random, {name: value})
        else:
            Path("own.yaml").write_text(yaml.safe_dump(_nested({name: value})))
            arguments += ["--config", "own.yaml"]
        return Case(
            f"{name} = {value!r}: {arguments[2:]}",
            lambda: build(arguments),
            names=("" if name == "seed_everything" else name.rsplit(".", 1)[-1],),
        )


def build(arguments: list[str]) -> WandCLI:
    """Everything that a training needs, as `wand fit` makes it. Errors are as the command prints them."""
    try:
        return main("prepare", arguments)
    except SystemExit as error:
        raise AssertionError(f"left with {error.code}") from error
    except ValueError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _nested(settings: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        *sections, last = name.split(".")
        inside = nested
        for section in sections:
            inside = inside.setdefault(section, {})
            if not isinstance(inside, dict):
                return nested
        inside[last] = value
    return nested


def _typed(random: random.Random, settings: dict[str, Any]) -> list[str]:
    typed = []
    for name, value in settings.items():
        text = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")
        typed += [f"--{name}={text}"] if random.random() < 0.5 else [f"--{name}", text]
    return typed
