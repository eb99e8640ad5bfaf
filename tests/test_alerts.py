"""Alerts: a real server that fails in every way, a secret that shows nowhere, processes that tell a thing once."""

import base64
import json
import logging
import multiprocessing
import os
import resource
import signal
import socket
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import CANARY, files_holding
from pydantic import ValidationError

from datacloak_nb.config import ConfigError, load_config
from datacloak_nb.monitoring.alerts import (
    SECRET, Alert, AlertError, CoolDown, FileChannel, LogChannel, WebhookChannel, open_channels, read_alerts,
    read_secret, send, verify_signature)

PLAIN = "whsec_" + base64.b64encode(b"a secret of this test, 32 bytes.").decode()
KEY, OTHER = read_secret({SECRET: PLAIN}), read_secret({SECRET: "whsec_" + base64.b64encode(bytes(32)).decode()})
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def alert(hours=0, **more):
    made = dict(kind="drift", severity="warning", model_version="1.2.0", summary="It drifts.", figures=dict(psi=.3))
    return Alert(**made | dict(time=NOON + timedelta(hours=hours)) | more)


# A server that follows a script


class Scripted(BaseHTTPRequestHandler):
    "Answers as the server's script says, and keeps what came."

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((time.monotonic(), dict(self.headers), body))
        step = self.server.script[min(len(self.server.got), len(self.server.script)) - 1]
        getattr(self, f"do_{step}", lambda: self.answer(step))()

    def answer(self, status):
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_hang(self):
        self.server.done.wait(20)

    def do_close(self):
        self.connection.shutdown(socket.SHUT_RDWR)

    def do_drip(self):
        "A byte of an endless header from time to time: no single read ever times out."
        self.wfile.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
        while not self.server.done.wait(.1):
            self.wfile.write(b"x")

    def do_flood(self):
        "An endless body."
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
        while not self.server.done.is_set():
            self.wfile.write(b"x" * 65536)

    def do_GET(self):
        self.server.got.append("a redirect was followed")
        self.answer(200)

    def log_message(self, *args):
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(*script, **headers):
        server = Quiet(("127.0.0.1", 0), Scripted)
        server.script, server.headers, server.got, server.done = script, headers, [], threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}/alerts"
        threading.Thread(target=server.serve_forever, args=(.05,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.done.set()
        server.shutdown()
        server.server_close()


def post(url, limit=3., **more):
    "What became of an alert, and the seconds that it took."
    begun = time.monotonic()
    [delivery] = send(alert(**more), [WebhookChannel(url, KEY, limit)])
    return delivery, time.monotonic() - begun


@pytest.mark.parametrize("script, attempts, detail", [
    ([200], 1, ""),
    ([204], 1, ""),
    ([500, 204], 2, ""),
    ([429, 503, 204], 3, ""),
    (["close", 204], 2, ""),
    (["hang", 204], 2, ""),
    (["flood"], 1, ""),
    ([400], 1, "127.0.0.1 answered 400"),
    ([401], 1, "127.0.0.1 answered 401"),
    ([302], 1, "127.0.0.1 answered 302: redirects are refused"),
    ([308], 1, "127.0.0.1 answered 308: redirects are refused"),
    ([500, 410], 2, "127.0.0.1 answered 410"),
])
def test_an_answer_says_whether_to_try_again(serve, script, attempts, detail):
    server = serve(*script, location="/elsewhere")
    delivery, took = post(server.url)
    assert (delivery.outcome, delivery.detail) == ("failed" if detail else "sent", detail)
    assert len(server.got) == attempts and took < 4.5


@pytest.mark.parametrize("step, detail", [
    ("hang", ("did not answer in time", "took longer than 2 s")),
    ("drip", ("did not answer in time", "took longer than 2 s")),
    ("close", ("cannot be reached: RemoteProtocolError", "cannot be reached: ReadError", "took longer than 2 s")),
    (503, ("answered 503", "took longer than 2 s"))])
def test_the_limit_holds_for_all_attempts_together(serve, step, detail):
    server = serve(step)
    delivery, took = post(server.url, limit=2.)
    assert delivery.outcome == "failed" and delivery.detail.removeprefix("127.0.0.1 ") in detail
    assert len(server.got) >= 2 and took < 3.5


def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        delivery, took = post(f"http://127.0.0.1:{taken.getsockname()[1]}/", limit=2.)
    assert delivery.detail.removeprefix("127.0.0.1 ") in ("cannot be reached: ConnectError", "took longer than 2 s")
    assert took < 3.5


def test_who_asks_to_wait_is_waited_for(serve):
    server = serve(429, 204, **{"retry-after": "2"})
    assert post(server.url, limit=10.)[0].outcome == "sent"
    first, second = (o[0] for o in server.got)
    assert second - first >= 2


def test_who_asks_to_wait_for_longer_than_there_is_time_is_given_up_at_once(serve):
    server = serve(429, 204, **{"retry-after": "3600"})
    delivery, took = post(server.url)
    assert (delivery.detail, len(server.got)) == ("127.0.0.1 answered 429", 1) and took < 1


def test_waiting_grows(serve):
    server = serve(503)
    post(server.url, limit=5.)
    times = [o[0] for o in server.got]
    waits = [b - a for a, b in zip(times, times[1:])]
    assert len(waits) >= 2 and all(.5 <= o for o in waits) and waits[-1] > waits[0]


def test_a_running_event_loop_is_no_hindrance(serve):
    import asyncio

    server = serve(204)

    async def inside():
        return post(server.url)[0].outcome

    assert asyncio.run(inside()) == "sent"


# Signatures


def test_every_attempt_is_signed_under_one_id(serve):
    server = serve(500, 204)
    post(server.url, time=datetime.now(UTC))
    ids = set()
    for _, headers, body in server.got:
        verify_signature(headers, body, KEY)
        ids.add({k.lower(): v for k, v in headers.items()}["webhook-id"])
        told = json.loads(body)
        assert told["type"] == "datacloak.drift" and told["data"]["figures"] == {"psi": .3}
    assert len(ids) == 1 and len(server.got) == 2


@pytest.mark.parametrize("change", [
    lambda h, b: (h, b.replace(b"0.3", b"0.1"), KEY),
    lambda h, b: (h, b, OTHER),
    lambda h, b: (h | {"webhook-id": "msg_another"}, b, KEY),
    lambda h, b: (h | {"webhook-timestamp": str(int(h["webhook-timestamp"]) + 1)}, b, KEY),
    lambda h, b: (h | {"webhook-timestamp": "soon"}, b, KEY),
    lambda h, b: (h | {"webhook-signature": h["webhook-signature"].replace("v1,", "v2,")}, b, KEY),
    lambda h, b: (h | {"webhook-signature": "v1," + "A" * 43 + "="}, b, KEY),
    lambda h, b: (h | {"webhook-signature": "é"}, b, KEY),
    lambda h, b: ({k: v for k, v in h.items() if k != "webhook-signature"}, b, KEY),
], ids=["body", "secret", "id", "time", "no time", "scheme", "signature", "broken", "missing"])
def test_a_receiver_refuses_what_was_changed(serve, change):
    server = serve(204)
    post(server.url)
    _, headers, body = server.got[0]
    headers = {k.lower(): v for k, v in headers.items()}
    verify_signature(headers, body, KEY)
    with pytest.raises(AlertError, match="does not hold"):
        verify_signature(*change(headers, body))


def test_the_secret_shows_nowhere(serve, caplog, capfd, tmp_path, monkeypatch):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(SECRET, PLAIN)
    wanted = dict(channels=["log", "file", "webhook"], webhook_url=serve(500, 400).url)
    channels, cool_down = open_channels(load_config(monitoring__alerts=wanted).monitoring.alerts, tmp_path)
    said = [repr(channels), repr(send(alert(), channels, cool_down))]
    try:
        channels[-1](alert())
    except AlertError as e:
        said += traceback.TracebackException.from_exception(e, capture_locals=True).format()
    said += [caplog.text, *capfd.readouterr()]
    text = "".join(said)
    assert PLAIN not in text and PLAIN.removeprefix("whsec_") not in text and "32 bytes." not in text
    assert files_holding(tmp_path, PLAIN) == [] and "answered 400" in text


def test_a_url_in_clear_or_with_a_password_is_refused_without_showing_it():
    for url in ("http://alerts.example/", "https://me:hunter2@alerts.example/", "", "https://[hunter2", "file:///hunter2"):
        with pytest.raises(AlertError) as said:
            WebhookChannel(url, KEY)
        with pytest.raises(ConfigError) as told:
            load_config(monitoring=dict(alerts=dict(channels=["webhook"], webhook_url=url)))
        assert "webhook_url" in str(said.value) and "hunter2" not in f"{said.value} {told.value}"


# Cells


def test_no_cell_gets_into_an_alert_or_a_refusal(tmp_path):
    for wrong in (dict(figures={"psi": CANARY}), dict(summary=f"two\n{CANARY}"), dict(kind=f"{CANARY}!"),
                  dict(figures={f"<{CANARY}>": 1}), dict(severity=CANARY), dict(cells=[CANARY])):
        with pytest.raises(ValidationError) as said:
            alert(**wrong)
        assert "input_value" not in str(said.value)

    class Faulty:
        name = "faulty"

        def __call__(self, alert):
            float(CANARY)

    sent = send(alert(), [Faulty(), FileChannel(tmp_path / "alerts.jsonl")])
    assert [(o.outcome, o.detail) for o in sent] == [("failed", "ValueError"), ("sent", "")]
    assert files_holding(tmp_path) == []


# Channels together


def test_one_channel_that_fails_stops_no_other_and_is_tried_again(serve, tmp_path, caplog):
    server = serve(400, 204)
    channels = [WebhookChannel(server.url, KEY), LogChannel(), FileChannel(tmp_path / "alerts.jsonl")]
    cool_down = CoolDown(tmp_path / "cool_down")
    outcomes = [[o.outcome for o in send(alert(i), channels, cool_down)] for i in range(3)]
    assert outcomes == [["failed", "sent", "sent"], ["sent", "held back", "held back"], ["held back"] * 3]
    assert [o.message for o in caplog.records if o.name == "datacloak.alerts"] == ["drift of model 1.2.0: It drifts."]
    assert read_alerts(tmp_path / "alerts.jsonl") == [alert()]


def test_the_cool_down_is_of_a_kind_and_a_version(tmp_path):
    def outcome(**more):
        return send(alert(**more), [FileChannel(tmp_path / "a")], CoolDown(tmp_path / "c", hours=24))[0].outcome

    assert outcome() == "sent" and outcome(hours=23) == "held back"
    assert outcome(kind="accuracy") == outcome(model_version="1.3.0") == "sent"
    assert outcome(hours=23, severity="critical") == "sent"
    assert outcome(hours=46, severity="warning") == "held back" and outcome(hours=47) == "sent"


def test_what_cannot_be_remembered_is_told_all_the_same(tmp_path):
    (tmp_path / "c").mkdir()
    cool_down, channels = CoolDown(tmp_path / "c"), [FileChannel(tmp_path / "a")]
    cool_down.place(alert(), "file").write_bytes(b'{"kind": "dr')
    assert send(alert(), channels, cool_down)[0].outcome == "sent"
    assert send(alert(-9000), channels, cool_down)[0].outcome == "sent"
    cool_down.place(alert(), "file").unlink()
    cool_down.place(alert(), "file").mkdir()
    delivery = send(alert(), channels, cool_down)[0]
    assert delivery.outcome == "sent" and "cannot be kept" in delivery.detail


# Processes


def _send(folder, start):
    start.wait()
    send(alert(time=datetime.now(UTC)), [FileChannel(folder / "alerts.jsonl")], CoolDown(folder / "c"))


def _append(folder, start):
    start.wait()
    for i in range(50):
        FileChannel(folder / "alerts.jsonl")(alert(i, model_version=str(os.getpid())))


def together(target, folder, n):
    start = multiprocessing.get_context("fork").Barrier(n)
    made = [multiprocessing.get_context("fork").Process(target=target, args=(folder, start)) for _ in range(n)]
    for o in made:
        o.start()
    for o in made:
        o.join(30)
    assert [o.exitcode for o in made] == [0] * n


def test_processes_that_find_the_same_at_once_tell_it_once(tmp_path):
    for i in range(5):
        together(_send, tmp_path / str(i), 4)
        assert len(read_alerts(tmp_path / str(i) / "alerts.jsonl")) == 1


def test_processes_that_write_at_once_lose_no_line(tmp_path):
    together(_append, tmp_path, 4)
    assert len({o.id for o in read_alerts(tmp_path / "alerts.jsonl")}) == 200


def test_who_is_killed_while_sending_has_not_sent(serve, tmp_path):
    server, cool_down = serve("hang", 204), CoolDown(tmp_path)
    channels = [WebhookChannel(server.url, KEY, 30.)]
    process = multiprocessing.get_context("fork").Process(target=send, args=(alert(), channels, cool_down))
    process.start()
    while not server.got:
        time.sleep(.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert send(alert(), channels, cool_down)[0].outcome == "sent"
    assert send(alert(), channels, cool_down)[0].outcome == "held back"


def _on_a_full_disk(path, limit):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    [delivery] = send(alert(), [FileChannel(path)])
    os._exit(delivery.outcome == "failed" and "cannot be written" in delivery.detail)


def test_a_full_disk_leaves_whole_lines(tmp_path):
    path = tmp_path / "alerts.jsonl"
    FileChannel(path)(alert())
    before = path.read_bytes()
    process = multiprocessing.get_context("fork").Process(target=_on_a_full_disk, args=(path, len(before) + 20))
    process.start()
    process.join(20)
    assert process.exitcode == 1 and path.read_bytes() == before
