"""What MkDocs generates: the configuration reference, the API pages and the experiments' pages."""

import ast
import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import griffe
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from omegaconf import OmegaConf
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from svp_lightning.config import Config

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("svp_lightning", "hydra_plugins/svp_process_launcher")
DATA_SOURCES = ("simulated", "folder", "flowcam", "mfi", "collage")
ROLE = re.compile(r":(?:func|class|mod|meth|data|attr|exc):`[~!]?([^`]+)`")


def on_config(config: MkDocsConfig) -> None:
    """Replace the folders of the navigation by their pages."""
    pages = {"api/": sorted(api_pages()), "data/": _hand_written(ROOT / "docs" / "data")}
    config.nav = _expanded(config.nav, pages)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that are made from the code, and the experiments with their figures."""
    made = {"configuration.md": configuration_page(), **api_pages()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    for name in _tracked("experiments"):
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))


class RestRoles(griffe.Extension):
    """Docstrings name objects as ``:func:`package.name```; link those that have a page."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = ROLE.sub(_linked, obj.docstring.value)


def api_pages() -> dict[str, str]:
    """One page for each folder of code: name -> Markdown."""
    pages = {}
    for package in PACKAGES:
        folders = [ROOT / package, *(p for p in (ROOT / package).rglob("*") if p.is_dir())]
        for folder in folders:
            modules = sorted(p for p in folder.glob("*.py") if not p.name.startswith("_"))
            name = ".".join(folder.relative_to(ROOT).parts)
            if modules:
                text = "".join(f"::: {name}.{module.stem}\n\n" for module in modules)
                pages[f"api/{name}.md"] = f"# {name}\n\n{text}"
    return pages


def configuration_page() -> str:
    """Every setting: its default, its type and range, and what it does."""
    parts = [(ROOT / "docs" / "configuration_intro.md").read_text(encoding="utf-8"), _scales()]
    for source in DATA_SOURCES:
        values = _composed(source)
        model = _data_model(source)
        parts.append(f"## data={source}\n\n{_table(model, values['data'], 'data')}")
    for name, field in Config.model_fields.items():
        model = _model_of(field)
        if model is not None and name not in ("data", "scale"):
            parts.append(f"## {name}\n\n{_table(model, _composed()[name], name)}")
    return "\n\n".join(parts)


def _expanded(nav: Any, pages: dict[str, list[str]]) -> Any:
    if isinstance(nav, list):
        return [_expanded(item, pages) for item in nav]
    if isinstance(nav, dict):
        return {title: _expanded(item, pages) for title, item in nav.items()}
    return pages.get(nav, nav)


def _hand_written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(ROOT / "docs")) for path in folder.glob("*.md"))


def _tracked(folder: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", folder], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def _linked(match: re.Match[str]) -> str:
    path = match.group(1).lstrip(".")
    shown = path.rsplit(".", 1)[-1]
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'


def _composed(source: str = "simulated") -> dict[str, Any]:
    """The defaults, interpolations kept as they are written."""
    GlobalHydra.instance().clear()
    given = [] if source == "simulated" else ["data.root=GIVE_ME"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=[f"data={source}", *given])
    values = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}


def _scales() -> str:
    """The numbers that ``scale`` sets, one column for each."""
    names = ("tiny", "demo", "lab", "paper")
    loaded = [yaml.safe_load((ROOT / f"conf/scale/{name}.yaml").read_text()) for name in names]
    columns = [dict(_leaves(values)) for values in loaded]
    rows = [
        f"| `{key}` | " + " | ".join(f"`{_yaml(column[key])}`" for column in columns) + " |"
        for key in columns[0]
        if key != "name"
    ]
    head = f"| `scale.…` | {' | '.join(names)} |\n|---|{'---|' * len(names)}\n"
    return "## scale\n\n" + head + "\n".join(rows)


def _leaves(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _leaves(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value))
    return found


def _data_model(source: str) -> type[BaseModel]:
    for choice in Config.model_fields["data"].annotation.__args__:  # type: ignore[union-attr]
        if source in str(choice.model_fields["source"].annotation):
            return choice  # type: ignore[no-any-return]
    raise KeyError(source)


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _table(model: type[BaseModel], values: Any, prefix: str) -> str:
    head = "| setting | default | values | meaning |\n|---|---|---|---|\n"
    return _about(model) + head + "\n".join(_rows(model, values or {}, prefix))


def _about(model: type[BaseModel]) -> str:
    text = (model.__doc__ or "").strip().split("\n\n")[0]
    return ROLE.sub(r"`\1`", " ".join(text.split())) + "\n\n" if text else ""


def _rows(model: type[BaseModel], values: dict[str, Any], prefix: str) -> list[str]:
    meanings = _meanings(model)
    rows: list[str] = []
    for name, field in model.model_fields.items():
        inner = _model_of(field)
        if inner is not None:
            rows += _rows(inner, values.get(name) or {}, f"{prefix}.{name}")
            continue
        default = values.get(name, "null" if field.is_required() else field.default)
        cells = (f"`{prefix}.{name}`", f"`{_yaml(default)}`", _kind(field), meanings.get(name, ""))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _kind(field: FieldInfo) -> str:
    kind = str(field.annotation).replace("typing.", "").replace("pathlib._local.", "")
    kind = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", kind)
    kind = re.sub(r"(?:\w+\.)+(\w+)", r"\1", kind)
    kind = re.sub(r"Annotated\[(\w+), [^\]]*\]", r"\1", kind)
    kind = re.sub(r"Literal\[([^\]]*)\]", lambda m: m.group(1).replace(", ", " or "), kind)
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}
    bounds = [
        f"{sign} {getattr(entry, name)}"
        for entry in field.metadata
        for name, sign in signs.items()
        if getattr(entry, name, None) is not None
    ]
    return ", ".join([f"`{kind}`", *bounds])


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Name of a field -> the docstring that follows it in the source."""
    found: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if issubclass(parent, BaseModel) and parent.__module__.startswith("svp_lightning"):
            found |= _documented(parent)
    return found


def _documented(model: type[BaseModel]) -> dict[str, str]:
    source = (ROOT / (model.__module__.replace(".", "/") + ".py")).read_text(encoding="utf-8")
    body = next(
        node.body
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef) and node.name == model.__name__
    )
    found = {}
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            written = " ".join(ast.literal_eval(text.value).split())
            found[ast.unparse(field.target)] = ROLE.sub(r"`\1`", written).replace("``", "`")
    return found
