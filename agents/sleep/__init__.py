"""Who sleeps how deep: `law.py` is the state machine, `agent.py` the processor over it."""
