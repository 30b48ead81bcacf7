"""Alerts by e-mail over TLS: from the start and by STARTTLS, and no password to a server whose certificate is nobody's.

Does not belong here: what a message says, servers without TLS.
"""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mlops_platform.monitoring import AlertManager
from mlops_platform.monitoring.alerts import Delivery
from mlops_platform.settings import load_settings
from mlops_platform_tests.unit.monitoring.receivers import RECEIVER, mailbox

PASSWORD = "hunter2mail"  # noqa: S105 - of a server of the test's own


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1 that its own key signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize("starts_tls", [False, True])
@pytest.mark.parametrize("is_trusted", [True, False])
def test_only_a_trusted_server_gets_the_password(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, starts_tls: bool, is_trusted: bool
) -> None:
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with mailbox(context, starts_tls=starts_tls) as mail:
        scheme = "smtp" if starts_tls else "smtps"
        settings = load_settings(
            home=tmp_path / "home",
            smtp_url=f"{scheme}://alerts:{PASSWORD}@127.0.0.1:{mail.port}",
            alert_email_to=RECEIVER,
        )
        told = AlertManager(["email"], settings=settings).send_alert("drift", "It drifted")["email"]
        if is_trusted:
            assert told == Delivery("sent")
            assert (mail.logins, len(mail.messages)) == ([PASSWORD.encode()], 1)
        else:
            assert told.status == "failed"
            assert "CERTIFICATE_VERIFY_FAILED" in told.reason
            assert (mail.logins, mail.messages) == ([], [])
