"""What rewards and regret teach: `law.py` is the law, `agent.py` the processor over it."""
