"""Questions of people about this project, and what a passage must say to answer one of them.

Written by hand before anything was searched: half in words of their own, half with a name or an
error as it is typed. A passage answers if it has one of the texts, as they stand.
"""

from typing import NamedTuple


class Query(NamedTuple):
    """A question; texts of which a passage that answers it has at least one."""

    text: str
    answers: tuple[str, ...]


QUERIES = (
    Query("how do I bring the database schema up to date", ("soma migrate up", "soma migrate` ")),
    Query("what happens to a record that nobody can read", ("<topic>.dlq", "becomes a dead")),
    Query("send dead letters back after repairing them", ("soma dlq redrive",)),
    Query("undo a bad setting automatically", ("soma canary start",)),
    Query("try a different algorithm on yesterday's data without writing anything", ("what-if",)),
    Query("which offsets does a projection start from after a crash",
          ("position moves in the transaction of its rows",
           "Where to read is the store's position")),
    Query("put a customer to sleep when the remote service fails",
          ("lets a tenant sleep while its circuit is open",)),
    Query("why did this leader win", ("soma explain",)),
    Query("memory that nobody uses any more is thrown away", ("prune.order", "Orders to prune")),
    Query("density matrix is not positive semidefinite", ("PSD", "positive semi-definite")),
    Query("two workers think they own the same partition", ("fenced",)),
    Query("keep the events while postgres is down", ("local journal",)),
    Query("make vectors of texts without downloading a model", ("hashed character n-grams",
                                                               "hashed n-grams")),
    Query("ranking by reciprocal rank", ("reciprocal rank",)),
    Query("forgetting with a half-life", ("half-life", "half_life_s")),
    Query("limit how many requests a tenant may send per second", ("rate_per_s", "RATE_PER_S")),
    Query("records arrive in the wrong partition", ("Misrouted", "misrouted")),
    Query("restore everything from a backup", ("RESTORE.md", "soma projection rebuild frames")),
    Query("write my own processor in plain python", ("soma new NAME", "soma new ")),
    Query("who changed this value and when", ("soma config history", "config history")),
    Query("state_lost", ("state_lost",)),
    Query("records_gone accept loss", ("records_gone",)),
    Query("SOMA_REPLAY_RATE", ("SOMA_REPLAY_RATE",)),
    Query("soma_outbox_add", ("soma_outbox_add",)),
    Query("UnknownVersion newer worker wrote it", ("unknown_version",)),
    Query("law_failed partition stops", ("law_failed",)),
    Query("cog.predictor.calibration", ("cog.predictor.calibration",)),
    Query("AdaHedge softmax fixed_share", ("fixed_share", "AdaHedge")),
    Query("bocpd hmm glr change points", ("bocpd",)),
    Query("SOMA_OPA_FAIL_OPEN", ("SOMA_OPA_FAIL_OPEN",)),
)  # fmt: skip
