"""`sizemix dashboard`: what W&B's own client sends for a sweep, answered by a server in this process."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import wandb

from sizemix.cli import dashboard
from sizemix.comparison.comparing import compare

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # wandb-workspaces uses what pydantic calls deprecated
    from sizemix.report.dashboard import remarks

_PLACE = ("logger=wandb", "logger.mode=offline", "logger.additional.group=2026-11-21/10-00-00")
_VIEWER = {"id": "1", "username": "me", "entity": "me", "email": "", "admin": False, "flags": "{}",
           "teams": {"edges": []}}  # fmt: skip


class Service(ThreadingHTTPServer):
    """Answers as W&B's documentation and client say that it does, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked: list[dict] = []

    def answer(self, query: str, variables: dict) -> dict:
        if "upsertView" in query:
            project = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
            view = {"id": "Vm9vOjE=", "type": "runs", "name": variables["name"], "displayName": "shown",
                    "description": "", "spec": variables["spec"], "project": project,
                    "updatedAt": "2026-11-21T10:00:00"}  # fmt: skip
            return {"upsertView": {"view": view, "inserted": True}}
        if "ProjectInternalId" in query:
            return {"project": {"id": "p", "internalId": "cDE="}}
        if "upsertModel" in query:
            return {
                "upsertModel": {"model": {"name": "sizemix", "entityName": "me"}, "project": None, "inserted": True}
            }
        return {"viewer": _VIEWER, "models": {"edges": [], "pageInfo": {"endCursor": None, "hasNextPage": False}},
                "serverInfo": None}  # fmt: skip


class Answering(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = {}
        if self.path == "/graphql":  # wandb also reports on itself
            asked = json.loads(body)
            self.server.asked.append(asked)
            answer = {"data": self.server.answer(asked["query"], asked.get("variables") or {})}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def logged(fake_run):
    """Writes a sweep of two arms of two seeds, with further overrides by arm."""

    def sweep(fixed=(), mixed=(), *, place=_PLACE):
        for name, gain, more in (("fixed", 0.0, fixed), ("mixed", 0.2, mixed)):
            for seed in (0, 1):
                overrides = (*place, f"sizes={name}", *([f"logger.additional.job_type={name}"] if place else []), *more)
                folder = fake_run(f"sweep/{name}-{seed}", {16: 0.5 + gain, 28: 0.8}, *overrides, seed=seed)
        return folder.parent

    return sweep


def command(sweep, home, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    words = [sys.executable, "-m", "sizemix.cli.main", "dashboard", str(sweep)]
    environment = clean | {"HOME": str(home)} | environment
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def found(blocks, kind):
    return [block for block in blocks if block["type"] == kind]


def text_of(block):
    """All words in a block, whatever its nesting."""
    if isinstance(block, dict):
        return block.get("text", "") + "".join(text_of(child) for child in block.get("children", []))
    return ""


def test_it_saves_a_report_of_the_sweeps_group_by_job_type(logged, service, tmp_path):
    done = command(logged(), tmp_path, WANDB_BASE_URL=f"http://127.0.0.1:{service.server_port}", WANDB_API_KEY="0" * 40)
    assert done.returncode == 0, done.stderr
    assert f"Saved: http://127.0.0.1:{service.server_port}/me/sizemix/reports/Image-sizes-compared,-" in done.stdout
    assert "4 of 4 runs were logged offline" in done.stdout
    (sent,) = (asked["variables"] for asked in service.asked if "upsertView" in asked["query"])
    assert (sent["entityName"], sent["projectName"], sent["type"]) == ("me", "sizemix", "runs")
    assert sent["displayName"] == "Image sizes compared, 2026-11-21 10-00-00"
    blocks = json.loads(sent["spec"])["blocks"]
    assert "mixed against fixed: no interval can be given" in text_of(found(blocks, "list")[0])
    (grid,) = found(blocks, "panel-grid")
    (runset,) = grid["metadata"]["runSets"]
    assert '"2026-11-21/10-00-00"' in json.dumps(runset["filters"])
    assert [(key["section"], key["name"]) for key in runset["grouping"]] == [("run", "jobType")]
    panels = [panel["config"] for panel in grid["metadata"]["panelBankSectionConfig"]["panels"]]
    axes = {panel["metrics"][0]: panel["xAxis"] for panel in panels if "xAxis" in panel}
    assert axes == {"curve/top1": "curve/image_size", "val/top1@28": "images_seen", "train/loss": "images_seen"}
    assert "| mixed | 2 | 80.0 |" in json.dumps(blocks)


def test_without_login_it_is_one_sentence(logged, tmp_path, monkeypatch, capsys):
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert dashboard.main([str(logged())]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "",
        "sizemix: expected a login to Weights & Biases, got none; run `wandb login` once.\n",
    )


def test_without_the_library_it_says_what_to_install(logged, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    assert dashboard.main([str(logged())]) == 2
    assert "expected W&B's library for reports, got none; pip install 'sizemix[dashboard]'" in capsys.readouterr().err


def test_a_refusal_of_the_service_is_one_sentence(logged, monkeypatch, capsys):
    monkeypatch.setattr(dashboard, "_check_login", lambda: None)
    monkeypatch.setattr(wandb, "Api", refuse)
    assert dashboard.main([str(logged()), "--entity", "team"]) == 2
    assert (
        "expected W&B to take a report for sizemix, got AuthenticationError: wrong key; see" in capsys.readouterr().err
    )


def refuse(*arguments, **options):
    raise wandb.errors.AuthenticationError("wrong key.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"place": ()}, "expected runs that were logged to Weights & Biases, got none; train with logger=wandb"),
        ({"place": _PLACE[:2]}, "expected runs of a sweep, which stand in one group, got runs in none; train them"),
        ({"mixed": ["logger.additional.group=other"]}, "in one group, got 2026-11-21/10-00-00, other; give the folder"),
        ({"place": [*_PLACE[:2], 'logger.additional.group="o\'neil"']}, "expected a group without ', which W&B's"),
        ({"mixed": ["logger.additional.project=other"]}, "one project, got sizemix, other; name it by --project"),
    ],
)
def test_runs_that_do_not_stand_together_are_refused(logged, capsys, options, message):
    assert dashboard.main([str(logged(**options))]) == 2
    assert message in capsys.readouterr().err


def test_arms_that_share_a_job_type_are_named(logged):
    same = ["logger.additional.job_type=same"]
    (remark,) = [one for one in remarks(compare([logged(same, same)])) if "job type" in one]
    assert remark.startswith("The arms fixed and mixed share the job type same, so panels show them as one")
