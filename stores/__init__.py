"""The only modules that speak to stores. They know nothing of agents."""
