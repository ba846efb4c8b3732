"""A client of Soma Stream: `Client` and `AsyncClient`; `soma_client.kafka` publishes to Kafka."""

from soma_client.answers import (
    Accepted,
    Committed,
    Event,
    Found,
    Given,
    InForce,
    Memory,
    Neighbour,
    Remembered,
    Sleep,
    SleepAsked,
    State,
    StateRow,
    Stats,
    Step,
    Vectors,
)
from soma_client.client import AsyncClient, Client
from soma_client.errors import (
    ApiError,
    BadAnswer,
    BadRequest,
    Broken,
    CantSend,
    Conflict,
    DeadlineExceeded,
    NotAllowed,
    NotReached,
    NotThere,
    SomaError,
    TooMany,
    Unavailable,
    Wrong,
)
from soma_client.memories import Filters, MemoryFields, NewMemory
from soma_client.mind import NewEvent, Reward
from soma_client.rho import Matrix

__all__ = [
    "Accepted", "ApiError", "AsyncClient", "BadAnswer", "BadRequest", "Broken", "CantSend",
    "Client", "Committed", "Conflict", "DeadlineExceeded", "Event", "Filters", "Found", "Given",
    "InForce", "Matrix", "Memory", "MemoryFields", "Neighbour", "NewEvent", "NewMemory",
    "NotAllowed", "NotReached", "NotThere", "Remembered", "Reward", "Sleep", "SleepAsked",
    "SomaError", "State", "StateRow", "Stats", "Step", "TooMany", "Unavailable", "Vectors", "Wrong",
]  # fmt: skip
