"""The base of every typed settings object; the ``conf/`` tree mirrors their fields.

Fields have no default: every value is in ``conf/``.

Each component keeps its own settings next to its code, free of heavy imports, so that the
command line can check a configuration without importing torch.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from svp_lightning.errors import ArtifactError, SettingsError

SEE_ALL = "Run with --cfg job to see every setting and its value."
FileT = TypeVar("FileT", bound=BaseModel)
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""torch takes no larger ones."""
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
"""A file that a stored one names, in the same folder."""


def _one_folder(name: str) -> str:
    if not re.fullmatch(r"[^\s./\\\x00-\x1f][^/\\\x00-\x1f]*", name):
        raise ValueError("give the name of one folder, without a slash or a dot at its beginning")
    return name


FolderName = Annotated[str, AfterValidator(_one_folder)]
"""A folder below a given one; blanks and letters of any language are allowed."""


def as_path(given: Any) -> Any:
    """A folder may be called 2024; a quoted ``~`` is the user's own folder."""
    if given == "":  # as of a shell variable that is not set; it would be the current folder
        raise ValueError("is empty; give a folder")
    return os.path.expanduser(str(given)) if isinstance(given, str | int | Path) else given


GivenPath = Annotated[Path, BeforeValidator(as_path)]
"""Where something of the user's is."""


INCLUDED = ("base", "use", "simulation", "microscopes")
"""Files of ``conf`` that others include, and that are not to be chosen."""


def config_folder() -> Path:
    """The ``conf`` tree: inside the package when installed, next to it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parent / "conf"


def config_options() -> dict[str, list[str]]:
    """Group of ``conf``, such as ``data/instrument`` -> what may be chosen, by the alphabet."""
    folder, groups = config_folder(), dict[str, list[str]]()
    for file in sorted(folder.glob("*/**/*.yaml"), key=lambda file: (file.parent, file.stem)):
        if file.stem not in INCLUDED:
            group = file.parent.relative_to(folder).as_posix()
            groups.setdefault(group, []).append(file.stem)
    return groups


def runtime(**constraints: Any) -> Any:
    """A field that changes how a stage runs but not what it makes.

    Such fields stay out of :meth:`Settings.identity`, so changing one never rebuilds an
    artifact. Arguments are constraints of :func:`pydantic.Field`.
    """
    return Field(json_schema_extra={"runtime": True}, **constraints)


def literal(value: str) -> str:
    """``value`` for OmegaConf, which else replaces ``${oc.env:HOME}`` by what it names."""
    return re.sub(r"(?<!\\)(\\*)\$\{", r"\1\1\\${", value)


def assignment(key: str, value: str) -> str:
    """``key='value'`` as an argument of the command line, so that any value comes through."""
    # Hydra: a quote is escaped, and so are backslashes before a quote.
    doubled = re.sub(r"(?<!\\)(\\+)(?='|\Z)", lambda match: 2 * match[1], literal(value))
    escaped = doubled.replace("'", "\\'")
    return f"{key}='{escaped}'"


def as_typed(key: str, value: str) -> str:
    """``key=value`` quoted for a shell and for Hydra, so that any value comes through as it is."""
    argument = assignment(key, value)
    return shlex.quote(argument) if set('"$`\\!') & set(argument) else f'"{argument}"'


def first_problem(error: ValidationError) -> str:
    """``"counts.test: Field required"``: the first thing wrong with a stored file, and where."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"


def read_stored(
    path: Path, model: type[FileT], wanted: int | str, remedy: str, key: str = "schema"
) -> FileT:
    """A stored file as its model, if its ``key`` is what is ``wanted``.

    Raises:
        ArtifactError: it is missing, no JSON, of another schema, or incomplete.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}).", remedy) from error
    found = values.get(key) if isinstance(values, dict) else None
    if found != wanted:
        raise ArtifactError(f"{path} has {key} {found}, expected {wanted}.", remedy)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ArtifactError(f"{path}: {first_problem(error)}.", remedy) from error


def _names(where: Sequence[str | int], values: Any) -> Iterator[str]:
    """The names that lead to a setting; the kind of data that pydantic puts among them is none."""
    for part in map(str, where):
        if isinstance(values, Mapping) and part not in values and part == values.get("source"):
            continue
        values = values.get(part) if isinstance(values, Mapping) else None
        yield part


class Settings(BaseModel):
    """Immutable, checked settings; unknown names and impossible values are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        coerce_numbers_to_str=True,  # study=2026 is a name
    )

    @classmethod
    def parse(cls, values: dict[str, Any], where: str) -> Self:
        """Check ``values`` (plain containers) and build the settings.

        ``where`` is the node's name in the config tree, for messages (``"generator"``).

        Raises:
            SettingsError: naming the setting, the value given and what is allowed.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(part for part in (where, *_names(first["loc"], values)) if part)
            given = "" if first["type"] == "missing" else f", got {first['input']!r}"
            if first["type"] == "extra_forbidden":
                raise SettingsError(f"There is no setting {name}.", SEE_ALL) from error
            remedy = SEE_ALL
            if first["type"] == "dict_type" and isinstance(first["input"], str):
                remedy = f'A shell takes braces apart: quote all of it, "{name}={{…}}".'
            raise SettingsError(
                f"{name}: {first['msg'].removeprefix('Value error, ')}{given}.", remedy
            ) from error

    def identity(self) -> dict[str, Any]:
        """The fields that decide what a stage makes, as plain JSON values."""
        skip = {
            name
            for name, field in type(self).model_fields.items()
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("runtime")
        }
        values = self.model_dump(mode="json", exclude=skip)
        given = {name: getattr(self, name) for name in values}
        return values | {k: v.identity() for k, v in given.items() if isinstance(v, Settings)}
