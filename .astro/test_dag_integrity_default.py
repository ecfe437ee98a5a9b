"""What `astro dev parse` runs in the image: every file of dags/ imports."""

from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

PROJECT = Path(__file__).resolve().parents[1]
SKIPPED = {
    line.strip()
    for line in (PROJECT / ".astro" / "dag_integrity_exceptions.txt").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.startswith("#")
}
FILES = sorted(path for path in (PROJECT / "dags").glob("*.py") if str(path.relative_to(PROJECT)) not in SKIPPED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_imports(path):
    found = DagBag(dag_folder=path)
    assert found.import_errors == {}
    assert found.dags
