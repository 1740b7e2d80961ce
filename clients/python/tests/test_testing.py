"""`token_broker.testing`, and its section of the README."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from token_broker import Agent, HttpApi, Lambda, TokenBrokerError, TokenSource, Transport
from token_broker.testing import FakeBroker


def test_of_the_readme_passes(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    section = readme.split("## Testing your code\n")[1].split("\n## ")[0]
    conftest, tests = re.findall(r"```python\n(.*?)```", section, re.S)
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_users.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0 and "3 passed" in run.stdout, run.stdout


class TestFakeBroker:
    @pytest.mark.parametrize("transport", [Agent(port=1), Lambda("f"), HttpApi("https://api.example.com")])
    def test_answers_sources_that_it_does_not_know(self, fake_broker: FakeBroker, transport: Transport) -> None:
        source = TokenSource(transport)
        assert source.get("emea").account == "emea"
        assert fake_broker.requests == [{"account": "emea"}]

    def test_keeps_accounts_apart(self) -> None:
        broker = FakeBroker()
        source = broker.source()
        broker.revoke("emea")
        assert [source.get().generation, source.get("emea").generation] == [1, 1]
        assert broker.accepts(source.get().authorization)
        assert not broker.accepts(source.get("emea").authorization)
        assert source.report(1, "emea").generation == 2
        assert broker.accepts(source.get("emea").authorization)

    def test_does_not_replace_a_token_that_is_alive(self) -> None:
        broker = FakeBroker()
        source = broker.source()
        assert source.report(source.get().generation).generation == 1

    def test_accepts_only_its_own_tokens(self) -> None:
        broker = FakeBroker()
        assert not broker.accepts("Bearer fake-token-default-1"), "it was not handed out"
        token = broker.source().get()
        assert broker.accepts(token.authorization)
        assert not broker.accepts(None) and not broker.accepts(token.access_token)

    def test_answers_without_extra_unless_the_test_sets_it(self) -> None:
        broker = FakeBroker()
        assert "extra" not in broker.fetch("default", None, None)
        broker.extra = {"instance_url": "https://x.example"}
        assert broker.source().get().extra == broker.extra

    def test_lets_time_pass(self) -> None:
        broker = FakeBroker()
        source = broker.source()
        for seconds, calls in [(0, 1), (450, 1), (450, 2)]:
            broker.advance(seconds)
            source.get()
            assert len(broker.requests) == calls

    def test_recovers(self) -> None:
        broker = FakeBroker(expires_in=60)
        source = broker.source()
        broker.fail("broker_unavailable")
        with pytest.raises(TokenBrokerError, match="broker_unavailable"):
            source.get()
        broker.recover()
        broker.advance(1)
        token = source.get()
        assert token.expires_at - broker.now == 60


def test_the_fixture_forgets_the_tokens_of_other_tests(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["token_broker.testing"]')
    pytester.makepyfile(
        """
        from token_broker import TokenSource

        SOURCE = TokenSource()

        def test_one(fake_broker):
            SOURCE.get()
            fake_broker.revoke()
            assert SOURCE.report(1).generation == 2

        def test_two(fake_broker):
            assert SOURCE.get().generation == 1
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)
