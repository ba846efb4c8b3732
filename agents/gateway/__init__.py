"""The gateway: memory events to a remote memory service, by HTTP, in order per tenant.

A tenant whose calls fail waits in Kafka, not here, and delays nobody else. What the state topic
says is always true of the remote: of each tenant it has everything before the noted offset.
"""
