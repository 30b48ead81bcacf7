"""Makes the secrets that docker-compose.yml mounts: random ones, once, in `deploy/secrets`; and the team's logins.

A file that is there stays: remove one to have it made anew. Does not belong here: what reads them.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.setup_env import ROOT

FOLDER = ROOT / "deploy" / "secrets"
# The pages of docker-compose.yml's proxy, each under a name of its own on the team's port.
UIS = ("dagster", "mlflow", "grafana", "prometheus", "alertmanager", "metrics", "churn", "airflow")
CERTIFICATE_DAYS = 825
# Settings that a person fills in; empty counts as unset.
EMPTY = ("mlops_crm_url", "mlops_smtp_url", "mlops_slack_webhook_url")


def contents() -> dict[str, str]:
    """A fresh content for each secret, by the name of its file."""
    key, secret = f"mlops{secrets.token_hex(8)}", secrets.token_hex(32)
    return {
        "postgres_password": secrets.token_hex(32),
        # What deploy/postgres/databases.sh makes the roles and databases from.
        "mlops_catalog_url": _database("postgresql", "mlops"),
        "mlops_dagster_storage_url": _database("postgresql", "dagster"),
        "mlflow_backend_store_uri": _database("postgresql", "mlflow"),
        "airflow_database_url": _database("postgresql+psycopg2", "airflow"),
        # One key, as the store and as its clients read it.
        "s3_options": f"-Ds3proxy.identity={key}\n-Ds3proxy.credential={secret}\n",
        "aws_credentials": f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n",
        "mlops_api_token": secrets.token_hex(32),
        "mlops_hmac_key": secrets.token_hex(32),
        "grafana_admin_password": secrets.token_hex(32),
        "airflow_fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "airflow_secret_key": secrets.token_hex(32),
        "airflow_jwt_secret": secrets.token_hex(64),
        "airflow_passwords": json.dumps({"admin": secrets.token_urlsafe(24)}),
        "proxy_users": "",
        **dict.fromkeys(EMPTY, ""),
    }


def make(folder: Path, *, domain: str | None = None, user: str | None = None) -> list[str]:
    """Makes what is missing in the folder, and what is asked for.

    Args:
        folder: Folder of the secrets.
        domain: The pages are dagster.DOMAIN and so on on the team's port: a new certificate for them, signed by itself.
        user: Somebody who may log in there, with a new password.

    Returns:
        Lines for the person, the new password among them: it is stored as a hash only.
    """
    # The containers run as other users than the owner of these files, who alone gets into their folder.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    # The file of addresses that belongs to the one key is made with it.
    fresh = contents()
    if (folder / "s3_options").exists() != (folder / "aws_credentials").exists():
        raise SystemExit(f"{folder}: s3_options and aws_credentials belong together. Next: remove the one that is left")
    made = [name for name, text in fresh.items() if not (folder / name).exists() and _write(folder / name, text)]
    said = [f"{folder}: {len(made)} new, {len(fresh) - len(made)} left as they were"]
    if domain is not None or not (folder / "proxy_certificate").exists():
        said.append(_certificate(folder, "localhost" if domain is None else domain))
    if user is not None:
        said.append(_login(folder, user))
    return said


def _database(scheme: str, name: str) -> str:
    """Address of a database, whose owner has its name."""
    return f"{scheme}://{name}:{secrets.token_hex(32)}@postgres:5432/{name}"


def _write(path: Path, text: str) -> bool:
    """Writes a file in one step."""
    draft = path.with_name(f".{path.name}.tmp")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.chmod(0o644)
    draft.replace(path)
    return True


def _openssl(*arguments: str, given: str = "") -> str:
    if shutil.which("openssl") is None:
        raise SystemExit("there is no openssl here, which makes the certificate and the hashes of passwords")
    command = ("openssl", *arguments)
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout


def _certificate(folder: Path, domain: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", domain):
        raise SystemExit(f"{domain!r} is no domain; an example is mlops.example.com")
    names = ",".join(f"DNS:{ui}.{domain}" for ui in UIS)
    with tempfile.TemporaryDirectory(dir=folder) as drafts:
        key, certificate = Path(drafts) / "key", Path(drafts) / "certificate"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256"),
            *("-days", str(CERTIFICATE_DAYS), "-subj", f"/CN=*.{domain}"[:68], "-addext", f"subjectAltName={names}"),
            *("-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth"),
            *("-keyout", str(key), "-out", str(certificate)),
        )
        _write(folder / "proxy_key", key.read_text())
        _write(folder / "proxy_certificate", certificate.read_text())
    # A line of the proxy's configuration.
    _write(folder / "proxy_domain", f"default {domain};\n")
    return f"a certificate for {UIS[0]}.{domain} and the others; your own may replace proxy_certificate and proxy_key"


def _login(folder: Path, user: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._@-]{1,64}", user):
        raise SystemExit(f"{user!r} can't be a login: letters, digits and . _ @ - only")
    path, password = folder / "proxy_users", secrets.token_urlsafe(24)
    others = [line for line in path.read_text().splitlines() if line.partition(":")[0] != user]
    digest = _openssl("passwd", "-6", "-stdin", given=password).strip()
    _write(path, "".join(f"{line}\n" for line in [*others, f"{user}:{digest}"]))
    return f"{user} logs in with the password {password}, which is shown this once"


def main(given: list[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="make secrets", description=__doc__)
    parser.add_argument("--domain", help="The pages' domain on the team's port, such as mlops.example.com.")
    parser.add_argument("--user", help="Somebody who may log in there; asked for again, they get a new password.")
    arguments = parser.parse_args(given)
    for line in make(FOLDER, domain=arguments.domain, user=arguments.user):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
