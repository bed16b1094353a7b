"""Real servers and child processes for the tests: Apache Kafka, Redis, programs, a proxy.

Everything started here is ended here: by the context manager that started it, at interpreter exit, and by the kernel when
the owner is killed (see ``proc``). Servers listen on loopback only.
"""
