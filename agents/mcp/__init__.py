"""What a tenant remembers, as tools of the Model Context Protocol (`soma mcp`).

A client of the HTTP API, and nothing else: each tool is one request of one of its routes, so that
no rule is here a second time (tokens, tenants, limits, policy, idempotency, errors: all are the
API's), and that an agent's process needs neither Kafka nor PostgreSQL, nor a copy of all memories.
The schemas of tools are the routes' models. An error is the API's problem document.
"""
