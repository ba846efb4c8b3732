"""Stream processors, one folder each, and the engine, doors and commands around them."""
