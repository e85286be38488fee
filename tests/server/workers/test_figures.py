"""Several workers' metrics as one process's."""

from prometheus_client.parser import text_string_to_metric_families

from bridge.metrics import GAUGE_RULES, Metrics, Traffic, text_of
from bridge.server.workers.figures import counted, merged


def worker(live: int, refused: int, seconds: float, *, is_draining: bool = False) -> Metrics:
    metrics = Metrics()
    metrics.watch_traffic(lambda: Traffic(from_caller=10 * live))
    metrics.calls_live.set(live)
    metrics.draining.set(is_draining)
    for _ in range(refused):
        metrics.refused("full")
    metrics.webhook_s.observe(seconds)
    metrics.requests.labels(f"/{live}", "200").inc()
    metrics.gc_pauses.longest_s = seconds
    return metrics


def samples(families) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text_of(families).decode())
        for sample in family.samples
    }


def test_text_of_one_workers_families_is_its_own_text():
    metrics = worker(3, 2, 0.2)
    assert lines(text_of(metrics.families())) == lines(metrics.text())


def lines(text: bytes) -> list[bytes]:
    """Without the figures of the process, which change between two looks at them."""
    return [b"" if line.startswith(b"process_") else line for line in text.splitlines()]


def test_counters_and_histograms_add_up_and_gauges_follow_their_rules():
    parts = [worker(3, 2, 0.2).families(), worker(5, 1, 4.0, is_draining=True).families()]
    found = samples(merged(parts))
    assert found["bridge_calls_live[]"] == 8
    assert found["bridge_calls_refused_total[('reason', 'full')]"] == 3
    assert found["bridge_frames_total[('direction', 'from_caller')]"] == 80
    assert found["bridge_webhook_seconds_count[]"] == 2
    assert found["bridge_webhook_seconds_sum[]"] == 4.2
    assert found["bridge_webhook_seconds_bucket[('le', '0.25')]"] == 1
    # One of them still takes calls.
    assert found["bridge_draining[]"] == 0
    assert found["bridge_gc_pause_longest_seconds[]"] == 4.0
    assert {found[f"bridge_http_requests_total[('path', '/{n}'), ('status', '200')]"] for n in (3, 5)} == {1}


def test_what_a_dead_worker_counted_stays_and_its_gauges_go():
    past = counted(worker(3, 2, 0.2).families())
    found = samples(merged([worker(5, 1, 4.0).families(), past]))
    assert found["bridge_calls_live[]"] == 5
    assert found["bridge_calls_refused_total[('reason', 'full')]"] == 3
    assert found["bridge_frames_total[('direction', 'from_caller')]"] == 80


def test_families_and_rules_of_another_version_are_kept():
    newer = [
        {
            "name": "bridge_new",
            "type": "gauge",
            "help": "h",
            "rule": "median",
            "samples": [["bridge_new", {}, 2]],
        }
    ]
    assert samples(merged([newer, newer, worker(1, 0, 0.1).families()]))["bridge_new[]"] == 4


def test_each_rule_is_of_a_gauge_that_exists():
    gauges = {family["name"] for family in Metrics().families() if family["type"] == "gauge"}
    assert set(GAUGE_RULES) <= gauges
