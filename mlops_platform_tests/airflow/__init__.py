"""The DAG pack on real Airflow, in an environment of its own: `make test-airflow`."""
