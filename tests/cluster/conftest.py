"""The S3 server that the engine's tests use, for jobs on a local cluster."""

from tests.engine.conftest import s3_server

__all__ = ["s3_server"]
