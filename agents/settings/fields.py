"""How a setting of the deployment is declared: a field of a model, with all that is said of it."""

import os
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic.fields import FieldInfo

from agents import addresses
from agents.kit.setting import number_in_words, one_of

Host = Annotated[str, Field(max_length=addresses.HOST_MAX)]
# One of http or https, or none at all.
HttpUrl = Annotated[str, Field(pattern=r"^(https?://[^\s?#]+)?$"), AfterValidator(addresses.url)]


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError:  # no HOME, and no account with this user's number
        raise ValueError(
            f"{path} can't be found: there is neither HOME nor an account of user {os.getuid()}; "
            "give a whole path"
        ) from None


WholePath = Annotated[Path, AfterValidator(_expanded)]  # with ~ for the home


class Group(BaseModel):
    """Settings that belong together: SOMA_<GROUP>__<NAME>."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


def setting(
    default: object, about: str, low: float | None = None, high: float | None = None, *,
    above: bool = False, pattern: str | None = None, values: str = "", shown: bool = True,
) -> Any:  # fmt: skip
    """A field. A number lies in [low, high] (`above`: low itself is too low); a text matches
    `pattern`. `values` says in words what a text can be. A default may be a function.
    """
    said: dict[str, Any] = {"default_factory" if callable(default) else "default": default}
    return Field(
        **said, description=about, ge=None if above else low, gt=low if above else None, le=high,
        pattern=pattern, json_schema_extra={"values": values}, repr=shown,
    )  # fmt: skip


def values_of(field: FieldInfo) -> str:
    """What a field can be, in words."""
    said: Any = field.json_schema_extra
    if said["values"]:
        return str(said["values"])
    kind: Any = field.annotation
    if NoneType in get_args(kind):
        kind = next(one for one in get_args(kind) if one is not NoneType)
    if get_origin(kind) is Literal:
        return one_of(get_args(kind))
    if kind in (int, float):
        limits: dict[str, float] = {}
        for one in field.metadata:
            limits |= {
                name: getattr(one, name) for name in ("ge", "gt", "le") if hasattr(one, name)
            }
        low = limits.get("ge", limits.get("gt"))
        return number_in_words(kind is int, low, limits.get("le"), above="gt" in limits)
    names = {bool: "true or false", Path: "a path", SecretStr: "a secret", str: "a text"}
    return names.get(kind, "a path")
