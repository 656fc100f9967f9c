"""What is typed reaches the program, or comes back as the command that does."""

import shlex
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from svp_lightning.__main__ import _record, configured, refuse_unquoted, run
from svp_lightning.errors import SettingsError
from svp_lightning.runtime.settings import as_typed, assignment, config_folder

AWKWARD = [
    *("/data/Größe", "~/x", "a,b=c", "/my/Run (1)", "/a[1]", "/a{b}", "/it's", 'say "x"', "a#b"),
    *("C:\\data\\Größe\\", "a;b", "a`b`", "what!?", "a$b ü", "a&b", "日本", "", "x\\'y", "* ?"),
]
RESOLVED = [
    *(
        "${oc.env:HOME}",
        "/a${b}",
        "\\${b}",
        "\\\\${b}\\",
        "${",
        "$${b",
        "'${b}\\'",
        "${b}${c}",
        "b\\\n",
    ),
]
"""What Hydra reads and OmegaConf would resolve."""


def parsed(argument: str) -> object:
    return OmegaConf.create([OverridesParser.create().parse_override(argument).value()])[0]


@pytest.mark.parametrize("value", AWKWARD + RESOLVED)
def test_the_suggested_command_gives_the_same_value(value: str) -> None:
    (argument,) = shlex.split(as_typed("data.root", value))
    assert parsed(argument) == value


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])) | st.text("\\${}'a:\n"))
def test_any_value_comes_through(value: str) -> None:
    (argument,) = shlex.split(as_typed("data.root", value))
    assert parsed(argument) == value
    refuse_unquoted([argument])


def test_many_backslashes_are_doubled_at_once() -> None:
    assert assignment("x", 100_000 * "\\" + "x") == f"x='{100_000 * chr(92)}x'"


@pytest.mark.parametrize("value", RESOLVED)
def test_nothing_is_resolved_twice(value: str, tmp_path: Path) -> None:
    """Neither in the name of a run's folder nor in the settings that are kept with the results."""
    outputs = tmp_path / value
    given = {"predict.blank": value, "paths.outputs": str(outputs), "data.root": str(tmp_path)}
    words = ["data=folder", *(assignment(*pair) for pair in given.items())]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose("config", overrides=["task=verify", *words])
    with pytest.raises(SystemExit):  # there is no trail
        run(cfg)
    assert Path(cfg.paths.run).is_relative_to(outputs)
    cfg.task = "predict"
    _record(cfg, tmp_path, None)
    kept = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert kept["predict"]["blank"] == value
    assert Path(kept["paths"]["run"]).is_relative_to(outputs)


@pytest.mark.parametrize("value", AWKWARD[:6] + AWKWARD[7:10] + ["/a,b", "/a${b},c"])
def test_what_hydra_cannot_read_is_refused_with_the_command(value: str) -> None:
    if value in ("/a[1]", "/a{b}"):
        value += " (1)"
    with pytest.raises(SettingsError) as caught:
        refuse_unquoted(["task=ingest", f"data.root={value}"])
    assert as_typed("data.root", value) in str(caught.value)
    assert "hydra" not in str(caught.value).lower()
    assert len(str(caught.value).splitlines()) == 1


def test_what_a_shell_took_apart_is_to_be_quoted_whole() -> None:
    cut = shlex.split("task=predict data.volume_ml={run1: 0.5, run2: 0.4}")
    with pytest.raises(SettingsError, match=r'"data\.volume_ml=\{…\}"'):
        refuse_unquoted(cut)
    expanded = ["data=folder", "data.root=x", "data.prevalence=a:1", "data.prevalence=b:2"]
    with pytest.raises(SettingsError, match=r'data\.prevalence: .* "data\.prevalence=\{…\}"'):
        configured(*expanded)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "seed=1,2"],
        ["+experiment=paper_grid", "--cfg", "job"],
        ["data.root=/a b", "data.prevalence={protein:10,oil:1}", "~logger", "++x.y=[1,2]"],
        ["--config-dir=/ö", "data.root='/data/Größe'", 'data.root="a,b"', "trainer.devices=1"],
    ],
)
def test_what_hydra_reads_is_left_to_it(arguments: list[str]) -> None:
    refuse_unquoted(arguments)
