"""Signatures by Standard Webhooks, held against the project's own library and its published example."""

import base64
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from bridge.server.events.standard_webhooks import WebhookSigner

# Source: the tests of the specification's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(64))).decode()
BODY = '{"from":"+4930","name":"Zoë"}'.encode()


def test_published_example_has_the_published_signature():
    headers = WebhookSigner([SECRET]).headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_library_of_the_specification_accepts_a_signed_request_and_no_other():
    headers = WebhookSigner([SECRET]).headers("CA1", int(time.time()), BODY)
    assert Webhook(SECRET).verify(BODY, headers) == {"from": "+4930", "name": "Zoë"}
    for changed in ({**headers, "webhook-id": "CA2"}, {**headers, "webhook-signature": "v1,AAAA"}):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(BODY, changed)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER_SECRET).verify(BODY, headers)


def test_during_a_rotation_receivers_with_either_secret_accept_the_request():
    headers = WebhookSigner([OTHER_SECRET, SECRET]).headers("CA1", int(time.time()), BODY)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OTHER_SECRET):
        Webhook(secret).verify(BODY, headers)
