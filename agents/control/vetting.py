"""Whether a policy may come into force: compiled and tried out in a child, in bounded time.

The limits of compiling and deciding are of CPU time, so that a busy machine refuses nothing that it
can do in WITHIN_S; a fold anew on a slower one may decide otherwise. What was decided stands in the
log: nobody behind control tries it out again. Other tenants' settings of that partition wait
meanwhile, so all of it has WITHIN_S by the clock. (A good one's child takes .1 s of CPU.)
"""

from functools import lru_cache

from agents.policy import bundle

WITHIN_S = 5.0


def vetted(text: str, within_s: float = WITHIN_S) -> str:
    """The one form of a bundle's text that may come into force; empty for none. ValueError says
    why it may not.
    """
    if not text:
        return ""
    found = bundle.read(text).text
    if len(found.encode()) > bundle.BYTES_MAX:
        raise ValueError(f"a policy has {bundle.BYTES_MAX // bundle.KIB} KiB at most")
    try:
        refusal = _refusal(found, within_s)
    except TimeoutError as error:
        raise ValueError(
            f"too_slow: the policy: {error}: say it again when the machine is less busy"
        ) from None
    if refusal:
        raise ValueError(f"the policy can't be used: {refusal}")
    return found


@lru_cache(64)
def _refusal(text: str, within_s: float) -> str:
    """Why a bundle can't be used; empty: it can. TimeoutError where that isn't known."""
    from agents.policy import policies, rego  # regopy: where there is a policy

    try:
        policies.try_out(bundle.read(text).modules, within_s)
    except rego.PolicyError as error:
        return str(error)
    return ""
