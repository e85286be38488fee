"""
Signs requests to the user's webhooks by Standard Webhooks, so that their receiver can tell them from a stranger's.

Source: standardwebhooks.com, the specification's symmetric signatures.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence

SECRET_PREFIX = "whsec_"  # noqa: S105  # what every secret begins with


class WebhookSigner:
    """
    Makes the headers of signed requests.

    Args:
        secrets: Each is ``whsec_`` and base64. During a rotation there are several, and one signature by each.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [base64.b64decode(secret.removeprefix(SECRET_PREFIX)) for secret in secrets]

    def headers(self, message_id: str, sent_at_s: int, body: bytes) -> dict[str, str]:
        """
        The headers of a request with this body.

        Args:
            message_id: The same for each request about the same thing, by which a receiver recognizes a repetition.
            sent_at_s: The Unix time.
        """
        signed = f"{message_id}.{sent_at_s}.".encode() + body
        digests = [hmac.digest(key, signed, "sha256") for key in self._keys]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(sent_at_s),
            "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
        }
