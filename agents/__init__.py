"""Stream processors, one folder each, and the engine, doors and commands around them."""

import topics  # noqa: F401 (says where compiled kernels are kept, before the first one is made)
