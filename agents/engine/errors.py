"""The named errors that stop a partition. Each says what happened and what to do."""


class Stopped(Exception):
    """Ends this partition's work for this assignment; the others go on. `name` is for metrics."""

    name = "stopped"


class Fenced(Stopped):
    """Another worker took the partition over: final for this assignment, never a tug of war."""

    name = "fenced"


class Rebuilding(Stopped):
    """A replay job has fenced the partition to put a state made anew in its place."""

    name = "rebuilding"

    def __init__(self, job: str, hold_s: float) -> None:
        """`hold_s`: for how long it may take."""
        super().__init__(f"the replay job {job} puts a state made anew in its place")
        self.job, self.hold_s = job, hold_s


class StateLost(Stopped):
    """The state topic is empty, or another than it was, yet this processor has worked on the
    partition before.
    """

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


class LawFailed(Stopped):
    """A law raised at a record, or wrote what can't be: mend it and restart, or `soma skip`.

    A fold raises it with the row of the batch; -1 where it can't tell which one it was.
    """

    name = "law_failed"

    def __init__(self, row: int, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.row = row
        self.offset = -1  # of the record, or of one of those that may be it
        self.alone = False  # it is the record, and it was folded alone

    def locate(self, processor: str, place: str, offset: int, alone: bool) -> None:
        """Say whose law it is, and where."""
        self.offset, self.alone = offset, alone
        self.args = (
            f"{processor} at {place}/{offset}: {self.text}. Nothing is lost: the partition waits "
            "before this record. Mend the law and start again, or pass over the record: "
            f"soma skip {place}/{offset} --processor {processor} --reason …",
        )
