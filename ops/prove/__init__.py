"""Proof that nothing is lost, doubled, out of order or wrong, by three programs.

The driver (`python -m ops.prove.driver`) feeds observations and strikes; the workers are the system
under test; the verifier (`python -m ops.prove.verify`) reads the topics and folds by itself. The
verifier shares no code with the workers: only the schemas in `avro/` and the text of the laws.
"""
