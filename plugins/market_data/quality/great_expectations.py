"""Run Great Expectations for the checkpoint: suites over small tables in, broken expectations out.

The library is imported when the first validator is created, so only the process that checks pays for it: without the packages that no
expectation of the suites needs, which are half of the time.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from market_data.core.errors import QualityError
from market_data.core.garbage import spare_what_is_loaded

EXAMPLES = 20
"""Unexpected values that are kept per expectation."""

DEFERRED = ("scipy.stats", "altair")
"""Packages that Great Expectations imports for expectations and charts that no suite here has. They are loaded if something uses them."""


@dataclass(frozen=True, slots=True)
class BrokenExpectation:
    """An expectation that its table does not meet.

    :param rule: the expectation's name, from its ``meta``.
    :param places: positions of the unexpected rows in the table.
    :param observed: some of the unexpected values.
    """

    rule: str
    severity: str
    kwargs: dict[str, Any]
    places: NDArray[np.int64]
    observed: list[Any]


def library() -> Any:
    """Return the package ``great_expectations``, imported without `DEFERRED`.

    The first call takes all objects that the process has by then out of garbage collection. The library alone makes 350,000, and the
    validations make enough new ones to have all searched several times: a fifth of the CPU time of a small check.
    """
    if "great_expectations" in sys.modules:
        import great_expectations  # waits for another thread that is still importing it
    else:
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        # At INFO it logs every function that it registers; the checkpoint's own table reports the verdicts.
        logging.getLogger("great_expectations").setLevel(logging.WARNING)
        for name in DEFERRED:
            _defer(name)
        collects = gc.isenabled()
        gc.disable()  # none of the objects that an import makes is garbage
        try:
            import great_expectations

            spare_what_is_loaded()
        finally:
            if collects:
                gc.enable()
    return great_expectations


class _Deferred(ModuleType):
    """In place of a module until one of its attributes is used; then that is loaded."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def _defer(name: str) -> None:
    """Register a stand-in for a module that is not loaded yet."""
    parent, _, own = name.rpartition(".")
    if name in sys.modules:
        return
    sys.modules[name] = module = _Deferred(name)
    if parent:
        setattr(import_module(parent), own, module)


class Validator:
    """An ephemeral Great Expectations context: no files, no Data Docs, no progress bars, no telemetry."""

    def __init__(self, run_name: str) -> None:
        self._gx = gx = library()
        self._run_name = run_name
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = {"globally": False, "metric_calculations": False}
        for site in list(self._context.get_site_names()):
            self._context.delete_data_docs_site(site)
        asset = self._context.data_sources.add_pandas("lake").add_dataframe_asset("checked")
        self._batch = asset.add_batch_definition_whole_dataframe("run")
        self.validations: list[dict[str, Any]] = []

    def checkpoint(self, suite: Any) -> Any:
        """Return a checkpoint of ``suite``, which can validate any number of tables."""
        gx, context = self._gx, self._context
        definition = gx.ValidationDefinition(name=suite.name, data=self._batch, suite=context.suites.add(suite))
        definition = context.validation_definitions.add(definition)
        result_format = {"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}
        return context.checkpoints.add(
            gx.Checkpoint(name=suite.name, validation_definitions=[definition], actions=[], result_format=result_format)
        )

    def run(self, checkpoint: Any, table: pa.Table) -> list[BrokenExpectation]:
        """Validate ``table`` and return the expectations that it breaks, in the order of the suite.

        :param table: one row per partition, named by its column ``partition``.
        :raises QualityError: if an expectation could not be evaluated, or one about the table as a whole is broken; names it.
        """
        frame = {"dataframe": table.to_pandas(date_as_object=False)}
        # A run identifier per table: validations of one suite with one identifier would replace each other.
        run = self._gx.RunIdentifier(run_name=self._run_name)
        report = checkpoint.run(batch_parameters=frame, run_id=run)
        (validation,) = report.run_results.values()
        self.validations.append(plain(validation.to_json_dict()))
        if validation.success:
            return []
        # A checkpoint keeps several copies of its results as JSON, so the positions of the unexpected rows are computed outside it.
        # They need no index columns, which would take an order of magnitude longer.
        suite = checkpoint.validation_definitions[0].suite
        result_format = {"result_format": "COMPLETE", "return_unexpected_index_query": False, "partial_unexpected_count": EXAMPLES}
        found = self._batch.get_batch(batch_parameters=frame).validate(suite, result_format=result_format)
        results = {result.expectation_config.meta["rule"]: result for result in found.results}
        broken = [_broken(expectation.meta["rule"], results[expectation.meta["rule"]]) for expectation in suite.expectations]
        return [one for one in broken if one is not None]

    def write_docs(self, folder: Path) -> None:
        """Write the Data Docs of all validations so far to ``folder``: ``index.html`` and the linked pages."""
        backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)}
        site = {
            "class_name": "SiteBuilder",
            "store_backend": backend,
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        }
        self._context.add_data_docs_site("docs", {**site, "show_how_to_buttons": False})
        self._context.build_data_docs(site_names=["docs"])


def docs_files(folder: Path) -> dict[str, Path]:
    """Return the files of ``Validator.write_docs``: path below ``folder``, with slashes -> file.

    Empty without a folder.

    The pages link to each other by these paths, so they have to stay side by side.
    """
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _broken(rule: str, result: Any) -> BrokenExpectation | None:
    error = _exception(result.exception_info)
    if error:
        raise QualityError(f"rule {rule} could not be evaluated: {error}")
    if result.success:
        return None
    found, config = result.result, result.expectation_config
    if "unexpected_index_list" not in found:
        raise QualityError(f"rule {rule} is broken: {plain(found.get('details') or found.get('observed_value'))}")
    return BrokenExpectation(
        rule=rule,
        severity=str(config.severity.value),
        kwargs=plain({key: value for key, value in config.kwargs.items() if key != "batch_id"}),
        places=np.asarray(found["unexpected_index_list"], dtype=np.int64),
        observed=plain(found["partial_unexpected_list"]),
    )


def _exception(info: Mapping[str, Any] | None) -> str | None:
    """Return the first line of the exception, or None.

    ``info`` describes it directly, or under the id of each metric that failed.
    """
    for entry in [info, *info.values()] if info else []:
        if isinstance(entry, Mapping) and entry.get("raised_exception"):
            return str(entry.get("exception_message") or "unknown exception").strip().splitlines()[0]
    return None


def plain(value: Any) -> Any:
    """Return ``value`` as JSON can hold it: NaN and infinity as null, keys and other types as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
