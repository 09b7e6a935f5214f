"""Clients that move faders: what they count is what happened."""

import asyncio
from dataclasses import asdict

import pytest
from control_node import TOKENS, FakeNode, start_server

from stemrack.latency.control_load import LOAD_HEADS, LoadOptions, LoadReport, load, load_rows, loaded

OPTIONS = LoadOptions(n_clients=6, n_with_meters=2, meters_hz=20.0, moves_per_s=100.0, seconds=1.0)


def test_every_move_reaches_every_client():
    node = FakeNode()
    with start_server(node) as server:
        report = asyncio.run(load(server.http_url, TOKENS["operator"], OPTIONS))
    assert 10 <= report.n_sent <= 100
    assert (report.n_answered, report.n_errors, report.n_lost) == (report.n_sent, 0, 0)
    assert report.revisions == [node.board.revision]
    assert node.board.revision == len(node.mixers) == report.n_sent
    assert report.states_differ == 0
    assert 0.0 < report.reach_ms["p50"] <= report.reach_ms["max"]
    assert report.n_meter_frames > 4


def test_what_is_refused_is_counted():
    with start_server(FakeNode()) as server:
        report = asyncio.run(load(server.http_url, TOKENS["viewer"], OPTIONS))
    assert (report.n_answered, report.n_errors) == (0, report.n_sent)
    assert report.revisions == [0]


def test_a_process_of_clients_reports():
    reports = []
    with start_server(FakeNode()) as server, loaded(server.http_url, TOKENS["operator"], OPTIONS, reports):
        pass
    assert [r.n_answered for r in reports] == [reports[0].n_sent]
    assert min(reports[0].node_mib) > 10.0
    assert [len(row) for row in load_rows(reports)] == [len(LOAD_HEADS)]


def test_a_broken_run_leaves_no_process():
    reports = []
    with (
        pytest.raises(RuntimeError, match="engine"),
        start_server(FakeNode()) as server,
        loaded(server.http_url, TOKENS["operator"], OPTIONS, reports),
    ):
        raise RuntimeError("the engine is gone")
    assert reports == []


def test_a_report_without_moves_has_a_row():
    assert load_rows([LoadReport(**asdict(LoadReport()))])[0][-1] == "nan"
