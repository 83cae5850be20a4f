"""Certificates for TLS in `tls/` beside this file, for the scripts of both languages: a CA, a server's for localhost, a client's."""

import datetime
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

FOLDER = pathlib.Path(__file__).parent / "tls"


def write(name, extensions, issuer=None):
    """A certificate for a day and its key: signed by the issuer (its certificate and key), or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    (FOLDER / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (FOLDER / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (FOLDER / f"{name}.key").chmod(0o600)
    return certificate, key


FOLDER.mkdir()
ca = write("ca", [x509.BasicConstraints(ca=True, path_length=None)])
write("server", [x509.SubjectAlternativeName([x509.DNSName("localhost")])], ca)
write("client", [x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH])], ca)
