"""Tokens: who is let in, with which role, and what is kept of them."""

import fcntl
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlops_assets.errors import DeclarationError
from mlops_assets.serving import auth, command
from mlops_assets.serving.auth import FILE, Token, Tokens, create, read, revoke
from mlops_assets.serving.options import ServeOptions
from mlops_assets.serving.refusals import Refusal
from mlops_assets.serving.server import refuse_open_doors
from mlops_assets.settings import Settings

PREDICT = "/models/m/predict"


def refused(tokens: Tokens, header: str | None, path: str = PREDICT) -> int:
    with pytest.raises(Refusal) as found:
        tokens.admit(header, path)
    return found.value.status


def test_without_tokens_nobody_is_asked(tmp_path: Path) -> None:
    assert Tokens(tmp_path).admit(None, PREDICT) == ""


def test_a_token_is_let_in_under_its_name(tmp_path: Path) -> None:
    secret = create(tmp_path, "shop", "predict")
    assert Tokens(tmp_path).admit(f"Bearer {secret}", PREDICT) == "shop"


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Basic {}", "{}", "Bearer é"]
)
def test_anybody_else_is_not(tmp_path: Path, header: str | None) -> None:
    secret = create(tmp_path, "shop", "predict")
    assert refused(Tokens(tmp_path), header and header.format(secret)) == 401


def test_a_role_may_do_what_lower_roles_may_and_no_more(tmp_path: Path) -> None:
    low, high = create(tmp_path, "a", "predict"), create(tmp_path, "b", "admin")
    tokens = Tokens(tmp_path)
    assert refused(tokens, f"Bearer {low}", "/metrics") == 403
    assert tokens.admit(f"Bearer {high}", "/metrics") == "b"


def test_health_needs_no_token(tmp_path: Path) -> None:
    create(tmp_path, "a", "predict")
    assert Tokens(tmp_path).admit(None, "/v2/health/ready") == ""


def test_the_token_itself_is_kept_nowhere(tmp_path: Path) -> None:
    secret = create(tmp_path, "a", "predict")
    assert secret not in (tmp_path / FILE).read_text()
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_a_revoked_token_is_refused_from_the_next_look_on(tmp_path: Path) -> None:
    secret = create(tmp_path, "a", "predict")
    create(tmp_path, "b", "predict")
    tokens = Tokens(tmp_path)
    revoke(tmp_path, "a")
    tokens.refresh()
    assert refused(tokens, f"Bearer {secret}") == 401


def test_a_file_that_cannot_be_read_lets_nobody_in(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    (tmp_path / FILE).write_text("[{]")
    tokens.refresh()
    assert refused(tokens, None) == 401


def test_who_revokes_the_last_token_lets_nobody_in(tmp_path: Path) -> None:
    secret = create(tmp_path, "a", "predict")
    tokens = Tokens(tmp_path)
    revoke(tmp_path, "a")
    tokens.refresh()
    assert refused(tokens, f"Bearer {secret}") == refused(tokens, None) == 401
    (tmp_path / FILE).unlink()
    tokens.refresh()
    assert tokens.admit(None, PREDICT) == ""


def test_while_tokens_are_changed_nobody_else_changes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[Path] = []

    def held(path: Path) -> list[Token]:
        with (tmp_path / f"{FILE}.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        changes.append(path)
        return read(path)

    monkeypatch.setattr(auth, "read", held)
    create(tmp_path, "a", "predict")
    create(tmp_path, "b", "predict")
    revoke(tmp_path, "a")
    assert changes == [tmp_path / FILE] * 3
    assert [one.name for one in read(tmp_path / FILE)] == ["b"]


def test_the_commands_say_what_it_means_that_there_are_no_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))

    def said(*words: str) -> str:
        return CliRunner().invoke(command.token, words).output

    assert "everybody on this machine may ask" in said("list")
    with pytest.raises(DeclarationError, match="there are none"):
        revoke(tmp_path, "a")
    said("create", "a")
    assert said("list").startswith("a  ")
    assert "nobody may ask" in said("revoke", "a")
    assert "nobody may ask" in said("list")


def test_an_open_server_whose_tokens_are_gone_lets_nobody_in(tmp_path: Path) -> None:
    assert refused(Tokens(tmp_path, required=True), None) == 401


def test_a_name_is_given_once(tmp_path: Path) -> None:
    create(tmp_path, "a", "predict")
    with pytest.raises(DeclarationError, match="already"):
        create(tmp_path, "a", "admin")


@pytest.mark.parametrize(("name", "role"), [("a b", "predict"), ("a", "king"), ("", "admin")])
def test_a_strange_name_or_role_is_refused(tmp_path: Path, name: str, role: str) -> None:
    with pytest.raises(DeclarationError):
        create(tmp_path, name, role)
    assert read(tmp_path / FILE) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "shop.example.com"])  # noqa: S104
def test_without_tokens_only_this_machine_can_ask(tmp_path: Path, host: str) -> None:
    settings, options = Settings(home=tmp_path), ServeOptions(host=host)
    with pytest.raises(DeclarationError, match="everybody could ask"):
        refuse_open_doors(settings, options)
    create(tmp_path, "a", "predict")
    refuse_open_doors(settings, options)
