import json

import boto3
import pytest

from sandbox.s3 import S3Server
from sandbox.stack.environment import LocalError, Ports
from sandbox.stack.report import read

KEY, REPORT = "logs/ingest/date=2013-01-02/run-1.json", {"rows_loaded": 4}
ACCESS = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}


@pytest.fixture(scope="module")
def server():
    server = S3Server()
    client = boto3.client("s3", endpoint_url=server.endpoint, **ACCESS)
    client.create_bucket(Bucket="market-data")
    client.put_object(Bucket="market-data", Key=KEY, Body=json.dumps(REPORT))
    client.put_object(Bucket="market-data", Key=f"prefix/{KEY}", Body=json.dumps(REPORT))
    yield server
    server.stop()


@pytest.mark.parametrize("lake", ["", "s3://market-data", "s3://market-data/prefix"])
@pytest.mark.parametrize("is_local", [True, False])
def test_a_report_is_read_from_s3(server, lake, is_local):
    connection = {"conn_type": "aws", "login": "a", "password": "b"}
    connection["extra"] = {"endpoint_url": server.endpoint, "region_name": "us-east-1"}
    environ = {"MARKET_DATA_LAKE": lake} | ({} if is_local else {"AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection)})
    ports = Ports(s3=int(server.endpoint.rpartition(":")[2])) if is_local else Ports(s3=1)
    assert read(KEY, environ, ports) == REPORT
    with pytest.raises(LocalError, match="run report absent in s3://market-data.* cannot be read"):
        read("absent", environ, ports)


def test_a_report_is_read_from_a_folder(tmp_path):
    file = tmp_path / "a lake" / KEY
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(REPORT))
    assert read(KEY, {"MARKET_DATA_LAKE": f"file://{tmp_path}/a%20lake"}, Ports()) == REPORT
