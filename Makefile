# `make help` lists the targets. Every target works from a fresh clone: it installs first what is missing.
.DEFAULT_GOAL := help
.PHONY: help install run up down query migrate calendars test bench chaos fuzz lint docs pictures sbom audit
MAKEFLAGS += --no-print-directory
PYTHON_ENV := .venv/bin/python
export DAG CONF SQL ARGS PYTHON CAMPAIGNS SEED STACK TARGET

help: ## List the targets
	@echo "Market data from provider APIs into a lake and a warehouse, on Apache Airflow."
	@echo
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; \
	done
	@echo
	@echo "  make run DAG=mock_ohlcv_1d"
	@echo "  make run CONF='{\"symbols\": [\"AAPL\"], \"start_date\": \"2012-01-03\", \"end_date\": \"2012-01-31\"}'"
	@echo "  AIRFLOW_PORT=9080 make up        S3_PORT, SAMPLE_API_PORT, SAMPLE_GATEWAY_PORT and AIRFLOW_CONN_* likewise"
	@echo "  MARKET_DATA_LAKE=file:///data/lake make up        a folder instead of the S3 server"

install: ## Install everything into .venv, as requirements.lock says
	@sh sandbox/stack/install.sh

run: install ## Start the local stack and make one run, with a live progress bar (DAG=, CONF=)
	@$(PYTHON_ENV) -m sandbox.stack run

up: install ## Start the local stack: Airflow, an S3 server, sample provider servers, a watchdog over them
	@$(PYTHON_ENV) -m sandbox.stack up

down: ## End every process of the local stack; the lake and the warehouse stay in .local
	@if [ -x $(PYTHON_ENV) ]; then $(PYTHON_ENV) -m sandbox.stack down; else echo "Nothing is installed, so nothing is running."; fi

query: install ## Query the warehouse with `market-data query`: SQL="select ...", ARGS=--csv
	@$(PYTHON_ENV) -m sandbox.stack query

migrate: install ## Create missing tables and views of the warehouse with `market-data migrate`
	@$(PYTHON_ENV) -m sandbox.stack migrate

calendars: install ## Write the session files of the exchanges again, from exchange_calendars and tools/calendar_corrections.csv
	@$(PYTHON_ENV) tools/make_calendars.py

test: install ## Run the tests; the slow ones and those that need a browser are left to .ci/run
	@$(PYTHON_ENV) -m pytest -m "not slow and not browser" -n auto --dist loadfile

bench: install ## Measure fetch beside other stacks, load, check, publish ...; ARGS=fetch runs one, ARGS=--write updates the docs
	@PYTHONPATH=plugins:. $(PYTHON_ENV) -m benchmarks $$ARGS

chaos: install ## Run campaigns of runs under faults, killed processes among them: CAMPAIGNS=20, SEED=1; STACK=1: on a real stack
	@$(PYTHON_ENV) -m tests.chaos --campaigns $${CAMPAIGNS:-20} --seed $${SEED:-1} $${STACK:+--stack} $$ARGS

fuzz: install ## Fuzz the parsers of foreign bytes, guided by coverage: SECONDS=60 for each target; TARGET="polygon range" one only
	@$(PYTHON_ENV) -m tests.fuzz --seconds $(or $(SECONDS),60) "$$TARGET"

docs: install ## Build the documentation as a site in .local/site; ARGS=serve shows it at http://127.0.0.1:8000
	@NO_MKDOCS_2_WARNING=1 $(PYTHON_ENV) -m mkdocs $${ARGS:-build}

pictures: install ## Take the pictures of the documentation: real runs, a browser, 5 minutes
	@MARKET_DATA_PICTURES=docs/pictures $(PYTHON_ENV) -m pytest -m browser --timeout 1800 tests/e2e/test_page_jobs.py

sbom: .local/audit/installed ## Write the software bill of materials of the image (CycloneDX) into .local/sbom.json
	@.local/audit/bin/python tools/sbom.py .local/sbom.json

audit: .local/audit/installed ## Look for known vulnerabilities of every locked package; fails where advisories cannot be had
	@for lock in requirements-image.lock requirements.lock requirements-audit.lock benchmarks/requirements.lock \
		tests/clients/requirements.lock tests/fuzz/requirements.lock; do \
		.local/audit/bin/python -m pip_audit --strict --disable-pip --require-hashes --requirement $$lock || exit 1; \
	done

.local/audit/installed: requirements-audit.lock | install
	@UV=$$(command -v uv || echo .local/uv/bin/uv) && $$UV venv --quiet --clear --python $(PYTHON_ENV) .local/audit && \
		$$UV pip sync --quiet --python .local/audit/bin/python requirements-audit.lock && touch $@

lint: install ## Check style, spelling, wording, format and types
	@$(PYTHON_ENV) -m ruff check .
	@$(PYTHON_ENV) -m ruff format --check .
	@$(PYTHON_ENV) -m mypy
	@git ls-files -z | xargs -0 $(PYTHON_ENV) -m codespell_lib
	@$(PYTHON_ENV) tools/check_style.py
