"""The HTTP API: a process of its own without state, as many of them as one likes.

Events that are accepted here are written to the outbox, never to Kafka itself; what is asked of the
house (jobs of replay, sleep) is. The OpenAPI document is the contract; every error is a problem
document (RFC 9457).
"""
