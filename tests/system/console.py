"""Tests of the local stack's console.

    console.py PROMISE URL            one promise
    console.py picture URL docs/console.png [light|dark] [width]
"""

import http.client
import json
import os
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request

from chromium import Chromium

LIVE = 'document.getElementById("connection").className === "live"'


def callers(state, number=12):
    return f'document.querySelectorAll("#callers .{state}").length === {number}'


def text(identifier):
    return f'document.getElementById("{identifier}").innerText'


class Console(Chromium):
    def __init__(self, profile, url):
        super().__init__(profile)
        self.url = url
        self.resize(1100, 900)
        self.open(url)
        self.wait_for(LIVE)

    def click(self, identifier):
        self.evaluate(f'document.getElementById("{identifier}").click()')

    def state(self):
        with urllib.request.urlopen(self.url + "console.json") as response:
            return json.load(response)

    def switch(self, place, fault):
        identifier = f"fault-{place}"
        self.evaluate(f"""(() => {{
            const select = document.getElementById("{identifier}");
            select.value = "{fault}";
            select.dispatchEvent(new Event("change"));
        }})()""")
        self.wait_for(f'document.getElementById("{identifier}").className === "{"on" if fault else ""}"')

    def heal(self):
        """All callers get a token, lose it, and report that."""
        self.click("call")
        self.wait_for(callers("accepted"))
        self.click("revoke")
        self.wait_for('document.getElementById("log").innerText.includes("revoked all sessions")')
        self.click("call")
        self.wait_for(callers("healed"))


def one_report_heals_all_callers_with_one_login(console):
    console.click("call")
    console.wait_for(callers("accepted"))
    before = console.state()
    assert before["convirza"]["logins_arrived"] == 1, before["convirza"]
    console.heal()
    after = console.state()
    assert after["convirza"]["logins_arrived"] == 2, after["convirza"]
    generations = {caller["generation"] for caller in after["callers"]}
    assert generations == {after["status"]["accounts"][0]["generation"]}, generations
    assert generations.isdisjoint(caller["generation"] for caller in before["callers"])
    console.wait_for(f'{text("logins")}.includes("2 of 10")')
    console.wait_for(f'{text("account-default")}.includes("{generations.pop()}")')


def works_with_the_keyboard_alone(console):
    focused = "document.activeElement.id"
    stops = []
    for _ in range(9):
        console.press("Tab")
        stops.append(console.evaluate(focused))
    expected = ["call", "repeat", "revoke", "reset"]
    expected += [f"fault-{place}" for place in ("login", "refresh", "profile", "store", "secrets")]
    assert stops == expected, stops
    outline = console.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is visible"
    console.evaluate('document.getElementById("repeat").focus()')
    console.press(" ")
    console.wait_for('document.getElementById("repeat").checked')
    console.wait_for(callers("accepted"))
    console.press("Tab", "Enter")
    console.wait_for(f'{text("totals")}.includes(" 2 logins") && {callers("accepted")}')


def fits_a_phone_in_light_and_dark(console):
    console.heal()
    brightness = """(() => {
        const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
        return (red + green + blue) / 3;
    })()"""
    for scheme, is_right in (("light", lambda value: value > 200), ("dark", lambda value: value < 60)):
        console.color_scheme(scheme)
        assert is_right(console.evaluate(brightness)), scheme
    for width in (320, 390, 1100):
        console.resize(width, 844)
        assert console.evaluate("document.documentElement.scrollWidth") <= width, width
    assert console.evaluate('document.getElementById("fold").open'), "the events are shown where there is room"
    # Large enough for a finger.
    console.resize(390, 844)
    heights = console.evaluate('[...document.querySelectorAll("button:not([hidden]), select")].map(item => item.offsetHeight)')
    assert min(heights) >= 44, heights
    console.open(console.url)
    console.wait_for(LIVE)
    assert not console.evaluate('document.getElementById("fold").open'), "a phone folds the events"


def shows_no_token_and_no_password(console):
    console.heal()
    with urllib.request.urlopen(urllib.request.Request(console.url + "token", method="POST")) as response:
        token = json.load(response)["access_token"]
    shown = json.dumps(console.state()) + console.evaluate("document.documentElement.outerHTML")
    for secret in (token, "local-only", "Bearer", "access_token"):
        assert secret not in shown, secret
    assert len(shown) > 2000, "something is shown"


def notices_that_the_stack_is_gone(console):
    console.send("Network.enable")
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    console.send("Network.emulateNetworkConditions", offline=True, **offline)
    console.wait_for(f'{text("connection")}.startsWith("no connection")')
    console.send("Network.emulateNetworkConditions", offline=False, **offline)
    console.wait_for(LIVE)
    console.errors.clear()  # the browser's messages about the lost connection


def takes_no_command_from_another_site(console):
    """A form of another site can send text, but not JSON."""
    before = console.state()["events"]
    host = urllib.parse.urlsplit(console.url).netloc
    connection = http.client.HTTPConnection(host)
    connection.request("POST", "/console.json", '{"do":"revoke"}', {"content-type": "text/plain"})
    assert connection.getresponse().status == 415
    assert console.state()["events"] == before


def a_fault_is_switched_on_and_off(console):
    console.click("call")
    console.wait_for(callers("accepted"))
    console.switch("login", "rate_limited")  # with Retry-After: 60
    console.click("revoke")
    console.click("call")
    console.wait_for(callers("failed"))
    console.wait_for(f'{text("account-default")}.includes("upstream rate limited")')
    console.wait_for(f'{text("account-default")}.includes("dead")')
    console.resize(390, 844)
    fits = "(tile) => tile.scrollWidth <= tile.clientWidth"
    assert console.evaluate(f'[...document.querySelectorAll("#callers li, .card")].every({fits})'), "tiles overflow"
    console.wait_for(f'{text("log")}.includes("login answered 429 (fault: rate_limited)")')
    console.switch("login", "")
    assert all(place["planned"] is None for place in console.state()["faults"])
    # The page needs no table, and says what the callers get.
    console.switch("store", "unavailable")
    assert console.state()["status"]["accounts"][0]["account"] == "default"
    console.switch("store", "")


def fails_after_a_revocation(console):
    console.click("revoke")
    console.click("call")
    console.wait_for(callers("failed"))


def text_stays_in_its_card(console):
    outside = """[...document.querySelectorAll(".card, .callers li")].filter((card) => {
        const { right } = card.getBoundingClientRect();
        return [...card.querySelectorAll("*")].some((part) =>
            part.getBoundingClientRect().right > right || part.scrollWidth > part.clientWidth + 1 && part.clientWidth > 0);
    }).map((card) => card.innerText)"""
    for width in (1280, 1000, 390):
        console.resize(width, 900)
        assert not console.evaluate(outside), (width, console.evaluate(outside))


def five_revocations_are_explained(console):
    """Two are healed. Then the account's share of the logins is used up, and the page says so."""
    console.heal()
    console.heal()
    for _ in range(3):
        fails_after_a_revocation(console)
        console.wait_for(f'{text("hint")}.includes("share of the broker\'s logins")')
        console.wait_for(f'{text("account-default")}.includes("login budget exhausted, for")')
        console.wait_for(f'{text("logins")}.includes("but not of default")')
        console.wait_for(f'{text("account-default")}.includes("3 in a row")')
    text_stays_in_its_card(console)
    console.click("reset")
    console.wait_for(callers("idle"))
    console.heal()


def early_deaths_are_explained(console):
    console.heal()
    console.heal()
    fails_after_a_revocation(console)
    convirza = os.environ["CONVIRZA_URL"]
    urllib.request.urlopen(f"{convirza}/_emulator/clock?forward_seconds=80", data=b"")
    console.click("call")
    console.wait_for(callers("healed"))
    fails_after_a_revocation(console)
    console.wait_for(f'{text("hint")}.includes("3 generations in a row died within two hours")')
    console.wait_for(f'{text("account-default")}.includes("reports are ignored for")')
    text_stays_in_its_card(console)
    console.click("unblock-default")
    console.wait_for(f'{text("hint")}.includes("Instances keep what they have read")')
    urllib.request.urlopen(f"{convirza}/_emulator/clock?forward_seconds=31", data=b"")
    console.click("call")
    console.wait_for(callers("healed"))


def a_rejected_password_is_no_dead_end(console):
    console.click("call")
    console.wait_for(callers("accepted"))
    console.switch("login", "wrong_password")
    fails_after_a_revocation(console)
    console.wait_for(f'{text("hint")}.includes("A fault is on (Convirza: login: wrong password)")')
    text_stays_in_its_card(console)
    console.switch("login", "")
    console.wait_for(f'{text("hint")}.includes("Unblock") && !{text("hint")}.includes("A fault is on")')
    console.click("unblock-default")
    console.wait_for('document.getElementById("unblock-default").hidden')
    console.click("call")
    console.wait_for(callers("healed"))


def a_fleet_logs_in_once(console):
    console.wait_for(f'{text("totals")}.includes(" 1 logins")')
    assert console.evaluate('document.getElementById("reset").hidden'), "a run cannot be restarted"


def main(promise, url, *arguments):
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, Console(profile, url) as console:
        if promise == "picture":
            path, scheme, width = [*arguments, *("light", "1000")[len(arguments) - 1:]]
            console.color_scheme(scheme)
            console.resize(int(width), 600)
            console.heal()
            console.screenshot(path)
            return
        globals()[promise](console)
        assert not console.errors, console.errors


main(*sys.argv[1:])
