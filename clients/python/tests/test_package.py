"""What the installed package says of itself, and that its tables are the contract's."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

from token_broker import TokenBrokerError, Unavailable, _cache, _errors, _source

REPOSITORY = Path(__file__).parents[3]
CONTRACT = json.loads((REPOSITORY / "crates/contract/contract.json").read_text())


def setting(name: str) -> str:
    found = re.search(rf'^{name} = "(.*)"$', (REPOSITORY / "Cargo.toml").read_text(), re.M)
    assert found is not None
    return found[1]


def test_the_package_says_whose_it_is() -> None:
    said = metadata.metadata("token-broker")
    assert said["Project-URL"] == f"Repository, {setting('repository')}"
    assert (said["Version"], said["License-Expression"]) == (setting("version"), setting("license"))
    assert said["Summary"] and said["Keywords"] and said["Requires-Python"] == ">=3.9"
    assert "# token-broker for Python" in said["Description"]
    classifiers = said.get_all("Classifier") or []
    assert "Typing :: Typed" in classifiers and not any(name.startswith("Private ::") for name in classifiers)


def test_the_codes_are_the_contracts() -> None:
    for error in CONTRACT["errors"]:
        is_unavailable = isinstance(TokenBrokerError.of(error["code"], "d"), Unavailable)
        assert is_unavailable == error["retry"], error["code"]
    codes = {error["code"] for error in CONTRACT["errors"]} | set(CONTRACT["client_errors"])
    assert _errors._CLASSES.keys() <= codes
    assert codes - _errors._CLASSES.keys() == {"internal", "misconfigured", "token_expires_too_soon"}


def test_the_limits_are_the_contracts() -> None:
    assert CONTRACT["default_min_ttl_seconds"] == _cache._DEFAULT_MIN_TTL
    assert CONTRACT["longest_lifetime_seconds"] == _source._MAX_LIFETIME
    pattern = next(name["pattern"] for name in CONTRACT["names"] if name["of"] == "account")
    assert pattern == f"^{_source._ACCOUNT.pattern}$"
