"""The S3 server of the local stack and of the tests: moto's, with its objects kept in a folder where one is given."""

from sandbox.s3.server import S3Server, application

__all__ = ["S3Server", "application"]
