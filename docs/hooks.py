"""What MkDocs generates: the configuration reference, the API pages and the experiments' pages."""

import ast
import json
import re
import subprocess
from functools import reduce
from itertools import pairwise
from operator import getitem
from pathlib import Path
from typing import Any, get_args

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
OPTIONS_OF = {
    "pretraining": "pretraining=simulated",
    "augmentation.filter": "augmentation=diffusion_filtered",
    "generator.diffusion.noise_levels": (
        "generator.diffusion.noise_levels={mean: -1.0, std: 1.4, uniform_share: 0.25}"
    ),
}
"""Settings that are null by default -> the option that shows what may be in their place."""
SAME_AS = {"pretraining.simulation": "simulation"}
"""Settings that are listed elsewhere -> where."""
DATA_SOURCES = ("simulated", "folder", "flowcam", "mfi", "collage")
BOUNDS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
    "multipleOf": "multiple of",
}
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
        values = _composed(f"data={source}")
        model = _data_model(source)
        parts.append(f"## data={source}\n\n{_table(model, values['data'], 'data')}")
    for name, field in Config.model_fields.items():
        models = _models(field)
        if models and name not in ("data", "scale"):
            option = [OPTIONS_OF[name]] if name in OPTIONS_OF else []
            table = _table(models[0], _composed(*option)[name], name)
            parts.append("\n\n".join([f"## {name}", *(f"`{one}`:" for one in option), table]))
    return "\n\n".join(parts)


def _expanded(nav: Any, pages: dict[str, list[str]]) -> Any:
    if isinstance(nav, list):
        return [_expanded(item, pages) for item in nav]
    if isinstance(nav, dict):
        return {title: _expanded(item, pages) for title, item in nav.items()}
    return pages.get(nav, nav)


def _hand_written(folder: Path) -> list[str]:
    pages = sorted(folder.glob("*.md"), key=lambda page: (page.name != "index.md", page.name))
    return [str(page.relative_to(ROOT / "docs")) for page in pages]


def _tracked(folder: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", folder], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def _linked(match: re.Match[str]) -> str:
    path = match.group(1).lstrip(".")
    shown = path.rsplit(".", 1)[-1]
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'


def _composed(*overrides: str) -> dict[str, Any]:
    """The defaults, interpolations kept as they are written."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=list(overrides))
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
    for choice in _models(Config.model_fields["data"]):
        if choice.model_json_schema()["properties"]["source"]["const"] == source:
            return choice
    raise KeyError(source)


def _models(field: FieldInfo) -> list[type[BaseModel]]:
    """The settings classes among the types that a field takes."""
    kinds = (field.annotation, *get_args(field.annotation))
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _table(model: type[BaseModel], values: dict[str, Any], prefix: str) -> str:
    about = (model.__doc__ or "").strip().split("\n\n")[0]
    head = "| setting | default | values | meaning |\n|---|---|---|---|\n"
    return f"{_plain(about)}\n\n{head}" + "\n".join(_rows(model, values, prefix))


def _rows(model: type[BaseModel], values: dict[str, Any], prefix: str) -> list[str]:
    meanings, kinds = _meanings(model), model.model_json_schema()["properties"]
    rows: list[str] = []
    for name, field in model.model_fields.items():
        key, value, meaning = f"{prefix}.{name}", values[name], meanings.get(name, "")
        inner = _models(field)
        if inner and value is None:
            option = OPTIONS_OF[key]
            meaning += f" The values below are those of `{option}`."
            value = reduce(getitem, key.split("."), _composed(option))
            rows.append(f"| `{key}` | `null` | mapping or null | {meaning} |")
        if key in SAME_AS:
            rows.append(f"| `{key}` | as `{SAME_AS[key]}` | mapping | {meaning} |")
        elif inner:
            rows += _rows(inner[0], value, key)
        else:
            rows.append(f"| `{key}` | {_default(value)} | {_kind(kinds[name])} | {meaning} |")
    return rows


def _default(value: Any) -> str:
    """As ``conf`` has it; what depends on the scale is a link to the table of scales."""
    text = f"`{_yaml(value)}`"
    if text == "`???`":
        return "must be given"
    return f"[{text}](#scale)" if text.startswith("`${scale.") else text


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _kind(schema: dict[str, Any]) -> str:
    """A JSON schema in words: ``integer ≥ 1 or null``."""
    if "anyOf" in schema or "oneOf" in schema:
        choices = schema.get("anyOf") or schema["oneOf"]
        return " or ".join(_kind(choice) for choice in choices)
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{_yaml(v)}`" for v in schema.get("enum", [schema.get("const")]))
    kind = {"path": "path"}.get(schema.get("format", ""), schema.get("type", "anything"))
    if kind == "array":
        parts = schema.get("prefixItems") or [schema.get("items", {})]
        return "list of " + " and ".join(dict.fromkeys(_kind(part) for part in parts))
    if kind == "object":
        return f"mapping to {_kind(schema.get('additionalProperties') or {})}"
    bounds = [f"{sign} {schema[name]:g}" for name, sign in BOUNDS.items() if name in schema]
    return " ".join([kind, ", ".join(bounds)]).strip()


def _plain(text: str) -> str:
    """A docstring as one line of Markdown that fits into a table."""
    return ROLE.sub(r"`\1`", " ".join(text.split())).replace("``", "`").replace("|", "\\|")


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Name of a field -> what its own docstring or that of the class says of it."""
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
    sections = griffe.Docstring(model.__doc__ or "").parse("google", warnings=False)
    listed = [section.value for section in sections if section.kind.value == "attributes"]
    found = {entry.name: _plain(entry.description) for entries in listed for entry in entries}
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            found[ast.unparse(field.target)] = _plain(ast.literal_eval(text.value))
    return found
