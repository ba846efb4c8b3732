"""Stream processors, one folder each, and the engine, doors and commands around them."""

# regopy first: version 1.5 loses 1.5 kB a query where NumPy's libraries were loaded before its own.
import regopy  # noqa: F401

import topics  # noqa: F401 (says where compiled kernels are kept, before the first one is made)
