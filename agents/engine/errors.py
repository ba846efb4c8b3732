"""The named errors that stop a partition. Each says what happened and what to do."""


class Stopped(Exception):
    """Ends this partition's work for this assignment; the others go on. `name` is for metrics."""

    name = "stopped"


class Fenced(Stopped):
    """Another worker took the partition over: final for this assignment, never a tug of war."""

    name = "fenced"


class StateLost(Stopped):
    """The state topic is empty, yet this processor has worked on the partition before."""

    name = "state_lost"


class RecordsGone(Stopped):
    """Records were deleted from the input before they had been read."""

    name = "records_gone"


class UnknownVersion(Stopped):
    """A topic that only we write holds something that this version can't read."""

    name = "unknown_version"


class Refused(Stopped):
    """The broker refuses for good what we send (size, authorisation)."""

    name = "refused"


class PartitionAdded(Stopped):
    """The input topic has a partition that the others haven't: there is no state to fold into."""

    name = "partition_added"
