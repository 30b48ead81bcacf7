"""`make secrets`: what it makes, once."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.make_secrets import EMPTY, UIS, contents, make

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")


def held(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_every_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make(folder)
    first = held(folder)
    assert first.keys() == {*contents(), "proxy_certificate", "proxy_key", "proxy_domain"}
    assert {name for name, text in first.items() if not text} == {*EMPTY, "proxy_users"}
    (folder / "mlops_api_token").unlink()
    make(folder)
    second = held(folder)
    assert {name for name in first if first[name] != second[name]} == {"mlops_api_token"}


def test_nobody_but_the_owner_gets_in(tmp_path: Path) -> None:
    make(tmp_path / "secrets")
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    # Containers run as other users than the owner, and each is given its own files only.
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()} == {0o644}


def test_no_secret_is_made_twice() -> None:
    found = [text for _ in range(2) for name, text in contents().items() if text]
    assert len(set(found)) == len(found)
    assert len(json.loads(contents()["airflow_passwords"])["admin"]) >= 32


def test_store_and_clients_have_the_same_key() -> None:
    found = contents()
    options = dict(line.removeprefix("-Ds3proxy.").split("=") for line in found["s3_options"].split())
    clients = dict(line.split(" = ") for line in found["aws_credentials"].splitlines()[1:])
    assert (options["identity"], options["credential"]) == (
        clients["aws_access_key_id"],
        clients["aws_secret_access_key"],
    )


def test_half_a_pair_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "s3_options").unlink()
    with pytest.raises(SystemExit, match="belong together"):
        make(tmp_path)


def test_a_login_is_kept_as_a_hash_and_can_be_renewed(tmp_path: Path) -> None:
    said = make(tmp_path, user="ana")[-1]
    password = said.split("password ")[1].partition(",")[0]
    make(tmp_path, user="bob")
    lines = (tmp_path / "proxy_users").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["ana", "bob"]
    assert password not in "".join(held(tmp_path).values())
    _, _, salt, _ = lines[0].split("$")
    command = ["openssl", "passwd", "-6", "-salt", salt, "-stdin"]
    again = subprocess.run(command, input=password, capture_output=True, text=True, check=True).stdout.strip()
    assert lines[0] == f"ana:{again}"
    make(tmp_path, user="ana")
    renewed = (tmp_path / "proxy_users").read_text().splitlines()
    assert lines[1] in renewed
    assert lines[0] not in renewed


def test_a_certificate_is_for_every_page_of_the_domain(tmp_path: Path) -> None:
    make(tmp_path)
    before = held(tmp_path)
    make(tmp_path, domain="ml.example")
    after = held(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {
        "proxy_certificate",
        "proxy_key",
        "proxy_domain",
    }
    assert after["proxy_domain"] == "default ml.example;\n"
    command = ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", str(tmp_path / "proxy_certificate")]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(f"DNS:{ui}.ml.example" in names for ui in UIS)


@pytest.mark.parametrize("wrong", ["a:b", "", "a\nb"])
def test_what_can_be_no_login_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(SystemExit, match="can't be a login"):
        make(tmp_path, user=wrong)


@pytest.mark.parametrize("wrong", ["", "a b", "x;y", "-a", "https://a"])
def test_what_is_no_domain_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(SystemExit, match="is no domain"):
        make(tmp_path, domain=wrong)
