"""The S3 server of the local stack and the tests: moto's, optionally with its objects in a folder."""

from sandbox.s3.server import S3Server, application

__all__ = ["S3Server", "application"]
