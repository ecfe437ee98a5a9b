"""What `make run` starts on one machine: Airflow, an S3 server, a sample provider API.

Everything lives in `.local/` and listens on 127.0.0.1.
"""
