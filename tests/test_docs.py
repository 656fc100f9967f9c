"""Commands of the README, the documentation and the experiments are real; the site builds."""

import ast
import importlib.util
import logging
import re
import shlex
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from markdown_it import MarkdownIt
from mkdocs.commands.build import build
from mkdocs.config import load_config

from svp_lightning.__main__ import _plain
from svp_lightning.config import parse_config
from svp_lightning.runtime.settings import config_folder

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("experiments/**/README.md")]
)
HYDRA_FLAGS = {"-m", "--multirun", "--help", "--cfg", "job"}
NOT_RUN = {
    "wandb login": "needs an account",
    "wandb sync": "needs an account",
    "ray start --head": "needs the extra `ray`",
    "pre-commit install": "changes the checkout",
    "pip download --no-deps": "fetches wheels for another machine",
    "pip wheel --no-deps": "fetches wheels for another machine",
    "pip install --no-index": "installs the wheels fetched for another machine",
    "source .venv/bin/activate": "activates the environment that `make install` makes",
    "python notebooks/execute.py": "takes a quarter of an hour; the tests run the notebooks",
}
"""Parts of commands that no test composes, with the reason."""


def commands(page: Path) -> Iterator[tuple[Path, str]]:
    """Folder and text of every command of a page's fenced blocks, variables replaced."""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type != "fence" or token.info:  # blocks with a language hold no commands
            continue
        folder, variables = ROOT, {}
        for line in _lines(token.content):
            if assigned := re.fullmatch(r'(\w+)="(.*)"', line, re.DOTALL):
                variables[assigned[1]] = " ".join(assigned[2].split())
                continue
            for name, value in variables.items():
                line = re.sub(rf"\${name}\b", value.replace("\\", r"\\"), line)
            for part in re.split(r" && |; ", line):
                if part.startswith("cd "):
                    folder = ROOT / part.removeprefix("cd ").strip()
                elif part.strip():
                    yield folder, part.strip()


def _lines(block: str) -> Iterator[str]:
    """Logical lines: without comments, continued over open quotes and backslashes."""
    held = ""
    for line in block.replace("\\\n", " ").splitlines():
        held += ("\n" if held else "") + re.sub(r"(^|\s+)#.*", "", line)
        if held.count('"') % 2 == 0:
            if held.strip():
                yield held.strip()
            held = ""


def every_command() -> dict[tuple[Path, str], str]:
    """(folder, command) -> the first page that has it."""
    found: dict[tuple[Path, str], str] = {}
    for page in PAGES:
        for folder_and_command in commands(page):
            found.setdefault(folder_and_command, str(page.relative_to(ROOT)))
    return found


def test_every_command_is_checked_or_listed_with_its_reason() -> None:
    found = every_command()
    assert len(found) > 50
    failures = []
    for (folder, command), page in found.items():
        try:
            check(folder, command)
        except Exception as error:
            failures.append(f"{page}: {command}\n    {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)


def test_what_a_shell_would_take_apart_is_quoted() -> None:
    """Braces and brackets of settings, in commands and in the text."""
    loose = [command for _, command in every_command() if taken_apart(command)]
    for page in PAGES:
        tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
        inline = [child for token in tokens for child in token.children or ()]
        typed = [one.content for one in inline if one.type == "code_inline"]
        loose += [text for text in typed if re.match(r"[\w.]+=", text) and taken_apart(text)]
    assert not loose


def taken_apart(command: str) -> bool:
    return bool(re.search(r"=[{\[]", re.sub(r"\"[^\"]*\"|'[^']*'", "", command)))


def check(folder: Path, command: str) -> None:
    if any(known in command for known in NOT_RUN):
        return
    words = shlex.split(command)
    while words and ("=" in words[0] or words[0] == "srun"):  # environment variables, launchers
        words = words[1:]
    if words[0] == "export":  # a variable of the commands that follow
        return
    if words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    elif words[:2] == ["pip", "install"]:
        _check_extra(words[-1])
    elif words[:3] == ["python", "-m", "svp_lightning"]:
        compose_as_the_program_does(words[3:])
    elif words[0] == "python":
        _check_script(folder / words[1], words[2:])
    else:
        raise AssertionError("neither checked nor in NOT_RUN; blocks of output begin with ```text")


def compose_as_the_program_does(arguments: list[str]) -> None:
    """Compose and check the first cell of what the arguments ask for."""
    assert {word for word in arguments if word.startswith("-")} <= HYDRA_FLAGS
    overrides = [word for word in arguments if word not in HYDRA_FLAGS]
    sweep = {"-m", "--multirun"} & set(arguments)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        if not sweep:
            parse_config(_plain(compose("config", overrides=overrides)))
            return
        fixed, swept = [], []
        for override in OverridesParser.create().parse_overrides(overrides):
            (swept if override.is_sweep_override() else fixed).append(override)
        cfg = compose(
            "config", overrides=[str(o.input_line) for o in fixed], return_hydra_config=True
        )
        if cfg.hydra.sweeper.params:
            given = {override.key_or_group for override in [*fixed, *swept]}
            params = [f"{k}={v}" for k, v in cfg.hydra.sweeper.params.items() if k not in given]
            swept += OverridesParser.create().parse_overrides(params)
        first = [f"{o.get_key_element()}={_first(o)}" for o in swept if o.is_sweep_override()]
        chosen = [str(override.input_line) for override in fixed]
        parse_config(_plain(compose("config", overrides=[*chosen, *first])))


def _first(override: Override) -> str:
    if override.is_interval_sweep():  # of a search
        return str(override.value().start)  # type: ignore[union-attr]
    return next(iter(override.sweep_string_iterator()))


def _check_extra(target: str) -> None:
    if target != ".":
        extra = target.removeprefix(".[").removesuffix("]")
        assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def _check_script(script: Path, arguments: list[str]) -> None:
    assert script.is_file(), f"{script.relative_to(ROOT)} does not exist"
    source = script.read_text(encoding="utf-8")
    for option in (word for word in arguments if word.startswith("--")):
        assert f'"{option}"' in source, f"{script.name} has no {option}"


def test_site_builds_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    caplog.set_level(logging.WARNING, logger="mkdocs")
    build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path / "site")))
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warnings == []
    configuration = (tmp_path / "site/configuration/index.html").read_text(encoding="utf-8")
    assert "augmentation.ratio" in configuration
    assert (tmp_path / "site/api/svp_lightning.data/index.html").is_file()


def test_links_of_the_readmes_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("experiments/**/README.md")]:
        targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        missing = [target for target in targets if not (page.parent / target).exists()]
        assert not missing, page


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_scripts_of_the_experiments_import_what_exists() -> None:
    for script in sorted([*ROOT.glob("experiments/*/*.py"), *ROOT.glob("notebooks/*.py")]):
        for name, attribute in _imports(script):
            found = importlib.util.find_spec(name)
            assert found is not None, f"{script.relative_to(ROOT)} imports {name}"
            source = Path(str(found.origin)).read_text(encoding="utf-8")
            is_module = importlib.util.find_spec(f"{name}.{attribute}") if _package(found) else None
            defined = re.search(rf"\b{attribute}\b", source)
            assert is_module or defined, f"{script.relative_to(ROOT)}: {name} has no {attribute}"


def _imports(script: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of everything that a script takes from the package."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("svp_lightning"):
            yield from ((str(node.module), alias.name) for alias in node.names)


def _package(spec: ModuleSpec) -> bool:
    return spec.submodule_search_locations is not None
