# Every target sets up what it needs, on a machine that has only make and Python 3.11 to 3.13. `make help` lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
BIN := .venv/bin
# The project's commands get ARGS as they stand: make demo ARGS="--crm sqlite:///crm.db"
ARGS ?=

.PHONY: help
help: ## Show this list
	@echo 'make TARGET [ARGS="…"] [PYTHON=/path/to/python3.12]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Examples: make demo ARGS="--crm sqlite:///crm.db --as-of 2025-06-30"    make test ARGS="-k features -x"'

.PHONY: setup
setup: ## Make or refresh .venv from requirements.lock (the others do this themselves; up to date, it does nothing)
	@python=$$(PYTHON='$(PYTHON)' tools/find-python) && "$$python" -m tools.setup_env

.PHONY: demo
demo: setup ## Run the whole line once: CRM to features, model, predictions and drift report
	@$(BIN)/mlops demo $(ARGS)

.PHONY: up
up: setup ## Start Dagster (3001), MLflow (5000), the churn service (8000) and metrics (9101); Ctrl-C stops all
	@$(BIN)/mlops up $(ARGS)

.PHONY: secrets
secrets: ## Make docker-compose's secrets, once (ARGS="--user ana": a login for the team; --domain: a certificate)
	@python=$$(PYTHON='$(PYTHON)' tools/find-python) && "$$python" -m tools.make_secrets $(ARGS)

.PHONY: train
train: setup ## Train, evaluate and promote a churn model
	@$(BIN)/mlops train $(ARGS)

.PHONY: tune
tune: setup ## Search hyperparameters (20 trials), then train with the best
	@$(BIN)/mlops tune $(ARGS)

.PHONY: test
test: setup ## Run the tests
	@# In the order of the folders: the long files stand in front, so that no worker is left with one at the end.
	@# More workers than two cores: many tests wait for a server or a process.
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: test-lake
test-lake: setup ## Run the lake's proofs whole: 200 kills, 100 lost answers, 4 writers x 50 commits, 510 histories
	@FULL_PROOFS=1 $(BIN)/python -m pytest -n 2 --dist load mlops_platform_tests/integration/test_lake_survives.py \
		mlops_platform_tests/properties/test_convergence.py mlops_platform_tests/integration/test_home_backup.py \
		mlops_platform_tests/integration/test_migrate.py $(ARGS)

.PHONY: test-engines
test-engines: setup ## Run features on Spark and Trino beside DuckDB's (FULL_PROOFS=1: 1,000 histories, 10M rows)
	@$(BIN)/python -m tools.setup_engines
	@ENGINE_PROOFS=1 .venv-engines/bin/python -m pytest -n 2 --dist loadfile mlops_platform_tests/engines $(ARGS)

.PHONY: test-features
test-features: setup ## Run the feature store's proofs whole: 1,000 histories, 90 feature_dates alone and in one run
	@FULL_PROOFS=1 $(BIN)/python -m pytest -n 2 --dist load mlops_platform_tests/properties/test_rolling.py \
		mlops_platform_tests/properties/test_features.py mlops_platform_tests/unit/feature_pipeline/test_pipeline.py $(ARGS)

.PHONY: test-promotion
test-promotion: setup ## Run the proof of promotion whole: 1,000 promotions and rollbacks with readers
	@FULL_PROOFS=1 $(BIN)/python -m pytest -n 2 --dist load mlops_platform_tests/unit/training_pipeline/test_stages.py $(ARGS)

.PHONY: test-serving
test-serving: setup ## Run the service's proofs whole: 1 million hostile requests, 200 swaps and 50 kills under load
	@FULL_PROOFS=1 $(BIN)/python -m pytest mlops_platform_tests/properties/test_hostile_requests.py \
		mlops_platform_tests/integration/test_service_hostile.py \
		mlops_platform_tests/integration/test_service_survives.py $(ARGS)

.PHONY: test-drift
test-drift: setup ## Run the drift proofs whole: 200 draws a rate, 200 hostile texts in Chromium
	@FULL_PROOFS=1 $(BIN)/python -m pytest mlops_platform_tests/unit/monitoring/test_drift.py \
		mlops_platform_tests/integration/test_hostile_drift.py \
		mlops_platform_tests/unit/monitoring/test_alerts_hostile.py $(ARGS)

.PHONY: test-server
test-server: setup ## Run the server profile on a real PostgreSQL and S3 (FULL_PROOFS=1: 20 restarts of each)
	@SERVER_PROOFS=1 $(BIN)/python -m pytest -n 3 --dist loadfile mlops_platform_tests/server $(ARGS)

.PHONY: test-airflow
test-airflow: setup ## Run the DAG pack on real Airflow, which gets .venv-airflow (FULL_PROOFS=1: both DAGs on both runners)
	@$(BIN)/python -m tools.airflow_env
	@AIRFLOW_PROOFS=1 $(BIN)/python -m pytest -n 2 --dist loadfile mlops_platform_tests/airflow $(ARGS)

.PHONY: test-images
test-images: setup ## Build the images of deploy/docker with buildah, as root, and run demo, service and DAGs in them
	@IMAGE_PROOFS=1 $(BIN)/python -m pytest mlops_platform_tests/images $(ARGS)

.PHONY: check
check: setup ## Run ruff, mypy and the architecture tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tools
	$(BIN)/python -m tools.make_docs --check
	$(BIN)/mlops airflow generate --check
	$(BIN)/python -m tools.make_dashboards --check
	$(BIN)/python -m tools.licences --check
	$(BIN)/python -m pytest mlops_platform_tests/architecture

.PHONY: docs
docs: setup ## Write docs/features.md, docs/tables.md and the features' SQL for Athena from the contracts
	@$(BIN)/python -m tools.make_docs

.PHONY: dashboards
dashboards: setup ## Write deploy/grafana/dashboards from tools/dashboards.py
	@$(BIN)/python -m tools.make_dashboards

.PHONY: bench
bench: setup ## Measure what the demo spends where
	@$(BIN)/python -m mlops_platform_tests.benchmarks.demo_cost $(ARGS)

.PHONY: bench-lake
bench-lake: setup ## Measure publish, ingestion and memory of the lake against plain baselines
	@$(BIN)/python -m mlops_platform_tests.benchmarks.lake $(ARGS)

.PHONY: bench-features
bench-features: setup ## Measure features, backfill and point-in-time reads against plain baselines
	@$(BIN)/python -m mlops_platform_tests.benchmarks.features $(ARGS)

.PHONY: bench-engines
bench-engines: setup ## Measure one feature_date of 1M and 10M rows on DuckDB, Trino and Spark over one bucket
	@$(BIN)/python -m tools.setup_engines
	@.venv-engines/bin/python -m mlops_platform_tests.benchmarks.engines $(ARGS)

.PHONY: bench-monitoring
bench-monitoring: setup ## Measure a batch of 10M rows against a bare loop, and drift decisions and reports
	@$(BIN)/python -m mlops_platform_tests.benchmarks.monitoring $(ARGS)

.PHONY: bench-training
bench-training: setup ## Measure held-out quality and the time of a training against a bare fit
	@$(BIN)/python -m mlops_platform_tests.benchmarks.training $(ARGS)

.PHONY: bench-serving
bench-serving: setup ## Measure the service's requests/s and CPU beside an echo, FastAPI and MLflow's own server
	@$(BIN)/python -m mlops_platform_tests.benchmarks.serving $(ARGS)

.PHONY: lock
lock: ## Compile both locks from pyproject.toml and show what changed (ARGS=--upgrade for newer versions)
	@python=$$(PYTHON='$(PYTHON)' tools/find-python) && "$$python" -m tools.make_lock $(ARGS)

.PHONY: lock-airflow
lock-airflow: setup ## Compile Airflow's lock from deploy/airflow/requirements.in (ARGS=--upgrade for newer versions)
	@$(BIN)/python -m tools.airflow_env lock $(ARGS)

.PHONY: licences
licences: setup ## Write docs/licences.md from the locks and what is installed
	@$(BIN)/python -m tools.licences

.PHONY: audit
audit: setup ## Ask PyPI for known vulnerabilities of everything the locks pin; needs pypi.org itself, no mirror
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements.lock $(ARGS)
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements.engines.lock $(ARGS)
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes -r deploy/airflow/requirements.lock $(ARGS)

.PHONY: clean
clean: ## Remove .venv, caches and builds; the platform's home .mlops stays
	rm -rf .venv .venv-engines .venv-airflow .maven .compose .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: clean-home
clean-home: ## Remove .mlops: every table, model and run of the embedded home
	rm -rf .mlops
