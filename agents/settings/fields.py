"""How a setting of the deployment is declared: a field of a model, with all that is said of it."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from agents import addresses

Host = Annotated[str, Field(max_length=addresses.HOST_MAX)]
# One of http or https, or none at all.
HttpUrl = Annotated[str, Field(pattern=r"^(https?://[^\s?#]+)?$"), AfterValidator(addresses.url)]


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
