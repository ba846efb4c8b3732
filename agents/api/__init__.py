"""The HTTP API: a process of its own without state, as many of them as one likes.

What is accepted here is written to the outbox, never to Kafka itself. The OpenAPI document is the
contract; every error is a problem document (RFC 9457).
"""
