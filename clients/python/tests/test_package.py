"""The installed package's metadata, and that its tables are the contract's."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from fakes import CONTRACT, error

from token_broker import InvalidRequest, TokenBrokerError, Unavailable, _cache, _errors, _source, _transports
from token_broker.testing import FakeBroker

REPOSITORY = Path(__file__).parents[3]


def setting(name: str) -> str:
    found = re.search(rf'^{name} = "(.*)"$', (REPOSITORY / "Cargo.toml").read_text(), re.M)
    assert found is not None
    return found[1]


def test_the_package_names_its_project() -> None:
    said = metadata.metadata("token-broker")
    assert said["Project-URL"] == f"Repository, {setting('repository')}"
    assert (said["Version"], said["License-Expression"]) == (setting("version"), setting("license"))
    assert said["Summary"] and said["Keywords"] and said["Requires-Python"] == ">=3.9"
    assert "# token-broker for Python" in said["Description"]
    assert said.get_all("License-File") == ["LICENSE-APACHE", "LICENSE-MIT"]
    classifiers = said.get_all("Classifier") or []
    assert "Typing :: Typed" in classifiers and not any(name.startswith("Private ::") for name in classifiers)


def test_the_codes_are_the_contracts() -> None:
    for row in CONTRACT["errors"]:
        is_unavailable = isinstance(TokenBrokerError.of(row["code"], "d"), Unavailable)
        assert is_unavailable == row["retry"], row["code"]
    codes = {row["code"] for row in CONTRACT["errors"]} | set(CONTRACT["client_errors"])
    assert _errors._CLASSES.keys() <= codes
    assert codes - _errors._CLASSES.keys() == {"internal", "misconfigured", "token_expires_too_soon"}
    # The other tests read errors of these fields.
    assert error("internal", "d", 12).keys() == set(CONTRACT["error_fields"])


def test_the_limits_are_the_contracts() -> None:
    assert CONTRACT["default_min_ttl_seconds"] == _cache._DEFAULT_MIN_TTL
    assert CONTRACT["longest_lifetime_seconds"] == _source._MAX_LIFETIME
    pattern = next(name["pattern"] for name in CONTRACT["names"] if name["of"] == "account")
    assert pattern == f"^{_source._ACCOUNT.pattern}$"


def test_the_agent_is_asked_as_the_contract_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN_BROKER_PORT", raising=False)
    (agent,) = CONTRACT["agent"]
    assert _transports._port_of_environment() == str(agent["port"])
    assert f'"{agent["guard_headers"][0]}"' in Path(_transports.__file__).read_text().lower()


def test_an_invalid_account_is_told_the_contracts_rule() -> None:
    rule = next(name["rule"] for name in CONTRACT["names"] if name["of"] == "account")
    with pytest.raises(InvalidRequest, match=re.escape(f"`account` must be {rule}")):
        _source._check("No", None)


def test_the_fields_are_the_contracts() -> None:
    sent = {*_transports._fields("default", 60, 7), "client"}
    assert sent == {field["name"] for field in CONTRACT["fields"] if field["parameter"]}
    broker = FakeBroker()
    broker.extra = {"instance_url": "https://x.example"}
    answer = broker.fetch("default", None, None)
    assert list(answer) == [name for name in CONTRACT["answer_fields"] if name != "expires_at"]
    assert answer["served_from"] in CONTRACT["served_from"]
    # The parser needs these names: without one of them, there is no token.
    for name in ("access_token", "expires_in", "generation"):
        assert name in CONTRACT["answer_fields"]
        assert _source._parse({**answer, name: None}, "default", 0.0) is None
    token = _source._parse(answer, "default", 0.0)
    assert token is not None and token.extra == broker.extra
    others: list[object] = [None, [], "text"]
    for other in others:
        token = _source._parse({**answer, "extra": other}, "default", 0.0)
        assert token is not None and token.extra == {}
