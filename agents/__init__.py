"""Stream processors, one folder each, and the engine, HTTP API and commands around them."""
