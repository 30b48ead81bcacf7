#!/bin/sh
# PostgreSQL's image runs this once, when its volume is new: a role for each service, and a database that it alone may
# enter. Names and passwords are those of the services' own addresses. Run it again by hand after removing a secret:
#   docker-compose exec postgres sh /docker-entrypoint-initdb.d/databases.sh
set -eu

SECRETS=${SECRETS:-/run/secrets}

for file in mlops_catalog_url mlops_dagster_storage_url mlflow_backend_store_uri airflow_database_url; do
    # scheme://role:password@host:port/database
    url=$(cat "$SECRETS/$file")
    login=${url#*://}
    login=${login%%@*}
    ROLE=${login%%:*} PASSWORD=${login#*:} DATABASE=${url##*/}
    export ROLE PASSWORD DATABASE
    # Through the environment: arguments are there for every process to read. Nor does the log get the password.
    psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 -U "${POSTGRES_USER:-postgres}" -d postgres <<'SQL'
\getenv role ROLE
\getenv password PASSWORD
\getenv database DATABASE
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SELECT format('CREATE ROLE %I LOGIN', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
SELECT format('ALTER ROLE %I PASSWORD %L', :'role', :'password') \gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'role')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', :'database') \gexec
SQL
done
