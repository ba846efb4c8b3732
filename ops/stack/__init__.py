"""Starts, finds, repairs and stops a real Kafka, PostgreSQL and Valkey on this machine."""

from ops.stack.processes import StackError
from ops.stack.stack import Endpoints, PartStatus, Stack

__all__ = ["Endpoints", "PartStatus", "Stack", "StackError"]
