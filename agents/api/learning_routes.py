"""POST /reward/{frame_id}, POST /teach/feedback: what a frame was worth, by the outbox.

The learner judges: a reward for no frame, or given twice, is taken here and a dead letter there.
"""

import json
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, Field

from agents.api.bodies import StrictRequest, StrictRoute
from agents.api.body_models import BodyModel, Time, at_most, short_of
from agents.api.callers import tenant_of
from agents.api.dependencies import (
    IdempotencyKey,
    ResourcesDep,
    TenantHeader,
    WriterCaller,
    trace_of,
)
from agents.api.events import EventOut
from agents.api.memories import Number, Plain, bring, micros
from agents.api.permission import MayI
from agents.api.problems import documented
from stores.outbox import Event

REWARDS, FEEDBACK = "cog.reward.events", "cog.teach.feedback"
FRAME_ID = r"^[0-9a-f]{8}-[0-9]{1,9}-[0-9]{1,18}$"
COMPONENTS_MAX = 64
TEXT_MAX = 1024  # bytes, as the processor has it
WORST, BEST = 1, 5
ACTOR_MAX = 128

router = APIRouter(route_class=StrictRoute, tags=["learning"])
Comment = Annotated[str, Field(max_length=TEXT_MAX, pattern=Plain), short_of(TEXT_MAX)]
FrameId = Annotated[str, Field(pattern=FRAME_ID, description="of the frame that was followed")]


class RewardIn(BodyModel):
    """What following a frame was worth."""

    r_task: Number = 0.0
    r_user: Number = Field(0.0, description="-1 to 1")
    r_latency: Number = Field(0.0, description="what waiting cost")
    r_safety: Number = 0.0
    r_cost: Number = 0.0
    total: Number | None = Field(
        None, description="Default: r_task + r_user + r_safety - r_latency - r_cost."
    )
    components: Annotated[dict[str, Number], at_most(COMPONENTS_MAX)] = Field(
        {}, max_length=COMPONENTS_MAX, description="Anything else, by name; not in the total."
    )
    ts: Time | None = Field(None, description="When it was given; default: now.")


class FeedbackIn(BodyModel):
    """What a user thinks of a frame."""

    frame_id: FrameId
    rating: Annotated[float, Field(ge=WORST, le=BEST, allow_inf_nan=False)]
    comment: Comment = ""
    ts: Time | None = Field(None, description="When it was given; default: now.")


class Given(BaseModel):
    """It is on the disk, and will be in its topic once."""

    tenant: str
    frame_id: str
    topic: str
    event: EventOut
    journaled: bool = Field(description="kept here until PostgreSQL is back")


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": Given, "description": "It was there already: the first answer."},
    202: {"description": "Accepted: on the disk, on its way."},
    **documented(400, 408, 409, 413, 415),
}


class Giving:
    """A record to be brought into the outbox."""

    def __init__(
        self, request: StrictRequest, response: Response, resources: ResourcesDep,
        caller: WriterCaller, may: MayI, idempotency_key: IdempotencyKey,
        tenant: TenantHeader = None,
    ) -> None:  # fmt: skip
        self.caller, self._may = caller, may
        self._request, self._response, self._resources = request, response, resources
        self._key, self._tenant = idempotency_key or uuid.uuid4().hex, tenant

    async def do(self, action: str, topic: str, record: dict[str, Any]) -> Given:
        """Bring it there."""
        whose = self.caller.must_cover(tenant_of(self._tenant))
        self._resources.take(whose)
        await self._may.ask(action, whose)
        stamped = "ts" if record["ts"] is None else None
        whole = record | {"tenant": whose, "ts": micros(record["ts"])}
        text = json.dumps(whole, ensure_ascii=False)
        trace = trace_of(self._request) or None
        event = Event(topic, whose, text, self._key, None, trace, stamped)
        out, journaled = await bring(self._resources, self._response, event)
        return Given(
            tenant=whose, frame_id=record["frame_id"], topic=topic, event=out, journaled=journaled
        )


ToGive = Annotated[Giving, Depends()]


@router.post(
    "/reward/{frame_id}", status_code=202, response_model=Given, responses=RESPONSES,
    summary="Reward a frame",
)  # fmt: skip
async def reward(
    giving: ToGive,
    frame_id: Annotated[str, Path(pattern=FRAME_ID, description="of the frame")],
    body: RewardIn,
) -> Given:
    """A frame has one reward. The learner says on cog.reward.events.dlq what it refuses."""
    return await giving.do("reward", REWARDS, body.model_dump() | {"frame_id": frame_id})


@router.post(
    "/teach/feedback", status_code=202, response_model=Given, responses=RESPONSES,
    summary="Say what a user thinks of a frame",
)  # fmt: skip
async def feedback(giving: ToGive, body: FeedbackIn) -> Given:
    """A frame has one feedback beside its reward: 1 (bad) counts as -1, 5 (good) as 1."""
    actor = giving.caller.subject[:ACTOR_MAX]
    return await giving.do("feedback", FEEDBACK, body.model_dump() | {"actor": actor})
