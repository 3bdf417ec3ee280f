"""Every shipped config is read, alone and in combination; a misspelt key fails there and then, and is named."""

import itertools
from pathlib import Path

import pytest
import yaml

from data_tools.errors import UserError
from genrm_lightning.__main__ import main
from genrm_lightning.cli import SUBCOMMANDS, GenRMCLI, parse
from genrm_lightning.commands import compare_settings, star_settings
from genrm_lightning.compare.methods import check
from genrm_lightning.compare.place import places
from genrm_lightning.star.fitting import check_config
from genrm_lightning.star.stage import Artifact
from tests.tiny_star import star_config, write_yaml

CONFIGS = Path(__file__).parents[1] / "configs"
OBJECTIVES, DATA, TRAINERS, STAR, COMPARE = (
    sorted((CONFIGS / kind).glob("*.yaml")) for kind in ("objective", "data", "trainer", "star", "compare")
)
OVER = sorted((CONFIGS / "star").glob("*/*.yaml"))  # each a second --config after the one its folder is named like


def name(path):
    return path.stem


def merged(*files):
    """The files as --config after --config would give them: they set different keys."""
    found = {}
    for file in files:
        content = yaml.safe_load(file.read_text())
        assert not found.keys() & content.keys()
        found |= content
    return found


def test_each_kind_is_there():
    kinds = (OBJECTIVES, DATA, TRAINERS, STAR, OVER, COMPARE)
    assert all(kinds)
    known = {path for kind in kinds for path in kind}
    assert set(CONFIGS.rglob("*.yaml")) == known, "a config that no test reads"


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name)
def test_objective_x_data_x_trainer(objective):
    for data, trainer in itertools.product(DATA, TRAINERS):
        config = parse("fit", merged(objective, data, trainer), f"{data.stem} x {trainer.stem}")["fit"]
        written = yaml.safe_load(objective.read_text())["model"]["init_args"]
        assert config.model.init_args.optimizer.learning_rate == written["optimizer"]["learning_rate"]
        assert config.data.class_path == yaml.safe_load(data.read_text())["data"]["class_path"]
        assert config.trainer.precision == yaml.safe_load(trainer.read_text())["trainer"]["precision"]


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_the_same_config_serves_every_subcommand(subcommand):
    parse(subcommand, merged(OBJECTIVES[0], DATA[0], TRAINERS[0]), "all")


@pytest.mark.parametrize("file", STAR, ids=name)
def test_star(file):
    settings = star_settings(["--config", str(file)])
    check_config(settings)
    assert settings.iterations <= settings.parts
    assert settings.filters == yaml.safe_load(file.read_text()).get("filters", [])


@pytest.mark.parametrize("file", OVER, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_star_with_another_variant(file):
    """One more --config: another variant in a run folder of its own, all else as it was."""
    base = ["--config", str(file.parent.with_suffix(".yaml"))]
    before, settings = star_settings(base), star_settings([*base, "--config", str(file)])
    check_config(settings)
    written = yaml.safe_load(file.read_text())
    for part in ("data", "sampling", "evaluation", "warm_start", "filters", "judge_prompt", "iterations", "parts"):
        assert getattr(settings, part) == getattr(before, part)
    assert settings.run == written["run"] != before.run and settings.variant == written.get("variant", before.variant)
    fit, common = settings.fit, before.fit
    if "fit" not in written:
        assert (fit["data"], fit["trainer"]) == (common["data"], common["trainer"])
    arguments = fit["model"]["init_args"]
    for name, value in written.get("objective", {}).items():
        found = arguments[name]
        assert found == value or (found.items() >= value.items() and name in ("backbone", "optimizer"))
    shared = {"backbone", "optimizer", *written.get("objective", before.objective)}
    assert arguments.keys() == shared, "nothing of another variant's objective is left"


@pytest.mark.parametrize("file", COMPARE, ids=name)
def test_compare(file):
    settings = compare_settings(["--config", str(file)])
    assert list(settings.methods) == list(yaml.safe_load(file.read_text())["methods"])
    for place in places(settings, Artifact(Path("unread"), "")):
        check(place)


def test_the_embedded_comparison_has_the_recipe_of_the_embedded_run():
    star = star_settings(["--config", str(CONFIGS / "star/embedded.yaml")])
    compared = compare_settings(["--config", str(CONFIGS / "compare/embedded.yaml")])
    ours = compared.star_settings("star-dpo")
    shared = "data sampling evaluation filters ranking per_prompt uncoupled fit warm_start iterations parts start seed"
    for part in (*shared.split(), "backbone", "dtype", "judge_prompt"):
        assert getattr(ours, part) == getattr(star, part), part


def test_flags_win_over_configs_and_later_configs_over_earlier_ones(tmp_path):
    one = write_yaml(tmp_path / "one.yaml", {"trainer": {"max_epochs": 3, "max_steps": 5}})
    two = write_yaml(tmp_path / "two.yaml", {"trainer": {"max_epochs": 4}})
    seen = []

    class Stop(Exception):
        pass

    def stop(self):
        seen.append(self.config["fit"])
        raise Stop

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(GenRMCLI, "before_instantiate_classes", stop)
        main(["fit", "--config", str(one), "--config", str(two), "--trainer.max_steps", "6"])
    assert (seen[0].trainer.max_epochs, seen[0].trainer.max_steps) == (4, 6)
    # Ours, where nobody says anything.
    assert seen[0].trainer.gradient_clip_val == 1.0 and seen[0].trainer.use_distributed_sampler is False


def fails(capsys, *argv):
    """Runs a command that should fail; its one line."""
    assert main([str(argument) for argument in argv]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and said.out == "", said
    return said.err


def deep(config, path, value):
    """The config with ``value`` at ``a.b.c``."""
    at = config
    *way, last = path.split(".")
    for step in way:
        at = at.setdefault(step, {})
    at[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("model.init_args.label_smothing", 0.1, "label_smothing"),
        ("model.init_args.backbone.nam", "x", "nam"),
        ("model.init_args.optimizer.learning_rat", 1, "learning_rat"),
        ("model.class_path", "genrm_lightning.objectives.GenRMM", "GenRMM"),
        ("model.init_args.backbone.dtype", "float31", "dtype"),
        ("data.init_args.rowz", 3, "rowz"),
        ("data.class_path", "genrm_lightning.data.Nothing", "Nothing"),
        ("trainer.max_epoch", 1, "max_epoch"),
        ("trainer.strategy", "dpp", "dpp"),
        ("trainer.accelerator", "gpus", "gpus"),
        ("traner.max_epochs", 1, "traner"),
        ("seed_evrything", 1, "seed_evrything"),
    ],
)
def test_a_misspelt_key_of_a_fit(tmp_path, capsys, path, value, named):
    config = {
        "model": {"class_path": "genrm_lightning.objectives.GenRM"},
        "data": {"class_path": "genrm_lightning.data.EmbeddedPairs"},
        "trainer": {"default_root_dir": str(tmp_path / "out")},
    }
    file = write_yaml(tmp_path / "fit.yaml", deep(config, path, value))
    assert named in fails(capsys, "fit", "--config", file)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("iteratons", 1, "iteratons"),
        ("variant", "star-ppo", "variant"),
        ("iterations", "many", "iterations"),
        ("data.embedded.row", 1, "row"),
        ("sampling.n_samplez", 1, "n_samplez"),
        ("evaluation.temprature", 1, "temprature"),
        ("fit.traner.max_epochs", 1, "traner"),
        ("fit.trainer.max_epoch", 1, "max_epoch"),
        ("fit.trainer.strategy", "fsdpp", "trainer.strategy: 'fsdpp' is unknown"),
        ("objective.bta", 1, "bta"),
        ("bootstrap", {"fil": "x"}, "fil"),
        ("fit.model.init_args.bta", 1, "bta"),
        ("fit.model.init_args.backbone.lor", None, "lor"),
        ("fit.data.init_args.batch", 1, "batch"),
        ("fit.trainer", 3, "trainer"),
        ("warm_start", {"pairs": 2, "fit": {"trainer": {"max_epoch": 1}}}, "warm_start.fit"),
        ("warm_start", {"pair": 2}, "pair"),
        ("warm_start", {"pairs": 0}, "warm_start.pairs: 0 is not above 0"),
        ("fit.model.init_args.optimizer.warmup", 2, "section: optimizer.warmup: 2"),
        ("filters", ["min_word"], "min_word"),
        ("judge_prompt", "mt_bunch", "mt_bunch"),
    ],
)
def test_a_misspelt_key_of_a_star_run(tmp_path, capsys, path, value, named):
    config = deep(star_config(tmp_path / "run", tmp_path / "unread"), path, value)
    assert named in fails(capsys, "star", "--config", write_yaml(tmp_path / "star.yaml", config))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "argv",
    [
        ["fit", "--trainer.max_epochz", "3"],
        ["fit", "--trainer.max_epoch", "3"],  # no abbreviations: they hide spelling mistakes
        ["star", "--iteratons", "3"],
        ["star", "--iteration", "3"],
        ["evaluate", "--judgee", "x"],
        ["sample", "--sampling.top", "1"],
        ["bake"],
        ["fit", "--config", "nowhere.yaml"],
        ["star", "--config", "nowhere.yaml"],
    ],
)
def test_a_misspelt_command_line(capsys, argv):
    assert argv[-2 if len(argv) > 2 and argv[1] != "--config" else -1].lstrip("-") in fails(capsys, *argv)


@pytest.mark.parametrize(
    "command", [[], ["fit"], ["star"], ["compare"], ["sample"], ["score"], ["evaluate"], ["faithfulness"], ["export"]]
)
def test_help(capsys, command):
    assert main([*command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "usage: python -m genrm_lightning" in said or command == ["fit"]
    assert len(said) > 400


def test_a_flag_is_what_it_would_be_in_a_file():
    base = ["--config", str(CONFIGS / "star/embedded.yaml")]
    assert star_settings([*base, "--objective.beta", "0.1"]).fit == star_settings(base).fit
    with pytest.raises(UserError, match="uncoupled: keep trains on right samples"):
        star_settings([*base, "--objective.nll_weight", "0", "--objective.choice_weight=0"])


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        (star_settings, "--fit.trainer.max_epochs"),
        (star_settings, "--objective.optimizer.learning_rate=1"),
        (star_settings, "--warm_start.fit.trainer.max_epochs"),
        (compare_settings, "--star.sampling.n_samples"),
    ],
)
def test_a_flag_replaces_no_mapping_in_silence(settings, flag):
    with pytest.raises(UserError, match="would replace the whole of .*write it into the config file"):
        settings(["--config", str(CONFIGS / f"{settings.__name__.split('_')[0]}/embedded.yaml"), flag, "2"])
