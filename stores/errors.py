"""What stores say when they don't do what they were asked: one family for all of them.

No client is imported here: the command line names these errors before it needs one.
"""


class StoreError(Exception):
    """A store doesn't do what it was asked; the text says why, with no address and no password."""


class StoreDown(StoreError):
    """It doesn't answer, not in time, or refuses for now; trying again later is right."""


class NotMigrated(StoreDown):
    """The schema lacks migrations of this version."""


class Locked(StoreDown):
    """Another open transaction holds what this needs: nothing was done, the database is well."""


class StatementError(StoreDown):
    """The server refuses a statement of ours: a defect, but waiting loses nothing."""
