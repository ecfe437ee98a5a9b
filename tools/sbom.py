"""Write the bill of materials of the image (CycloneDX): packages with their hashes and licences.

``make sbom`` runs it with the packages of ``requirements-audit.lock``. The packages are those of ``requirements-image.lock``, and the
script of others that the pages ship; what the base image brings is in the base image's own bill. Licences are those of the packages in
``.venv``.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
STATIC = PROJECT / "plugins/market_data/airflow/web/static"
VERSION = re.compile(r'__version__ = "([\d.]+)"')
BANNER = re.compile(r"TradingView Lightweight Charts\S* v([\d.]+)")
Document = dict[str, Any]


def bill() -> Document:
    """Return the bill of materials.

    :raises RuntimeError: if a locked package has no hash, or the version of a script cannot be read.
    """
    document = _run("requirements", PROJECT / "requirements-image.lock")
    licences = {_plain(one["name"]): one.get("licenses") for one in _run("environment", PROJECT / ".venv/bin/python")["components"]}
    for component in document["components"]:
        component.pop("description")  # the line of the lock, once more
        component["bom-ref"] = component["purl"]
        if found := licences.get(_plain(component["name"])):
            component["licenses"] = found
        if not any(reference.get("hashes") for reference in component["externalReferences"]):
            raise RuntimeError(f"{component['name']} has no hash in requirements-image.lock; write the lock again with .ci/lock")
    document["components"].append(_chart_library())
    root = document["metadata"]["component"]
    root["version"] = _found(VERSION, PROJECT / "plugins/market_data/__init__.py")
    references = sorted(component["bom-ref"] for component in document["components"])
    document["dependencies"] = [{"ref": root["bom-ref"], "dependsOn": references}, *({"ref": one} for one in references)]
    return document


def _chart_library() -> Document:
    """Return the component of the one script that others wrote and the package ships."""
    file = STATIC / "lightweight-charts.standalone.production.js"
    version = _found(BANNER, file)
    purl = f"pkg:npm/lightweight-charts@{version}"
    return {
        "type": "library",
        "name": "lightweight-charts",
        "version": version,
        "bom-ref": purl,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(file.read_bytes()).hexdigest()}],
        "licenses": [{"license": {"id": "Apache-2.0", "acknowledgement": "declared"}}],
    }


def _run(kind: str, source: Path) -> Document:
    command = [sys.executable, "-m", "cyclonedx_py", kind, str(source), "--pyproject", str(PROJECT / "pyproject.toml")]
    done = subprocess.run(  # noqa: S603  our own arguments
        [*command, "--spec-version", "1.6", "--output-format", "JSON"], check=True, stdout=subprocess.PIPE, text=True
    )
    found: Document = json.loads(done.stdout)
    return found


def _found(pattern: re.Pattern[str], file: Path) -> str:
    """:raises RuntimeError: if the version of a file cannot be read."""
    found = pattern.search(file.read_text()[:1000])
    if found is None:
        raise RuntimeError(f"{file.name} does not say its version in its first lines")
    return found[1]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(path: Path) -> None:
    """Write the bill to ``path``.

    :raises SystemExit: if it is not valid CycloneDX.
    """
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = json.dumps(bill(), indent=2) + "\n"
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SystemExit(f"the bill of materials is not valid: {problem}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    sys.stdout.write(f"{path}: {len(json.loads(text)['components'])} components\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
