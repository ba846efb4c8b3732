"""Whether the deployment's policy lets a write be done: asked by every route that changes anything.

`SOMA_OPA_URL`'s `soma.policy.api` decides, after the token and the limits, before anything is
written. Without that setting nobody is asked.
"""

import logging
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from agents.api.callers import Caller
from agents.api.dependencies import Resources, ResourcesDep
from agents.api.problems import Problem
from agents.policy.access import DeniedError
from stores.opa import NoAnswerError

SEVERAL = "*"  # tenants: what is asked for isn't one tenant's
RETRY_S = {"Retry-After": "2"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Permission:
    """Asks for one request."""

    request: Request
    resources: Resources

    async def ask(
        self, action: str, *tenants: str, target_state: str | None = None,
        max_seconds: int | None = None,
    ) -> None:  # fmt: skip
        """Returns if the policy allows the action for each of the tenants (`*`: for several).

        `Problem` 403 with the policy's reason, 503 where it has no answer.
        """
        if (policy := self.resources.policy) is None:
            return
        for tenant in dict.fromkeys(tenants):
            document = {
                "method": self.request.method, "path": self.request.url.path, "tenant_id": tenant,
                "action": action, "target_state": target_state, "max_seconds": max_seconds,
            }  # fmt: skip
            try:
                await policy.ask(document)
            except DeniedError as error:
                self.resources.metrics.refused.labels("policy").inc()
                raise Problem(403, f"The policy denies it: {error}.") from None
            except NoAnswerError as error:
                self.resources.metrics.refused.labels("policy").inc()
                logger.warning("The policy of the API: %s", error)
                silent = "The policy gives no answer, and without one this isn't done."
                raise Problem(503, silent, RETRY_S) from None


async def permission_of(request: Request, resources: ResourcesDep) -> Permission:
    """To ask for this request."""
    return Permission(request, resources)


MayI = Annotated[Permission, Depends(permission_of)]


def scope_of(caller: Caller, tenant: str | None = None) -> str:
    """For whom a request acts that may name a tenant: that one; or whom the token covers."""
    if tenant is None and caller.tenants is not None and len(caller.tenants) == 1:
        return next(iter(caller.tenants))
    return tenant or SEVERAL
