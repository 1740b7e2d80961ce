# The console of the local stack, in a headless Chromium.
# shellcheck shell=bash

browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
if ! browser >/dev/null && ! { may_install && apt_install chromium; } >"$LOGS/chromium.log" 2>&1; then
    skip "console" "Chromium is not installed and cannot be installed"
    return
fi
CHROMIUM=$(browser)
export CHROMIUM
console() { PYTHONDONTWRITEBYTECODE=1 timeout 120 python3 tests/system/console.py "$@"; }

# Each promise on its own stack, because the login limiter remembers the last minute.
on_a_new_stack() {
    start_local && CONVIRZA_URL=$CONVIRZA_URL console "$1" "$(sed -n 's/^  the console  *\([^ ]*\).*/\1/p' "$LOGS/local.log")"
}

for promise in one_report_heals_all_callers_with_one_login works_with_the_keyboard_alone fits_a_phone_in_light_and_dark \
    shows_no_token_and_no_password notices_that_the_stack_is_gone takes_no_command_from_another_site \
    a_fault_is_switched_on_and_off five_revocations_are_explained early_deaths_are_explained \
    a_rejected_password_is_no_dead_end; do
    check "console: ${promise//_/ }" on_a_new_stack "$promise"
done

# watched: a fleet starts when its console is opened, which shows its end.
watched() {
    background fleet target/debug/token-broker-local fleet --watch --instances 20 --requests 2000
    wait_for 30 grep -q 'the run starts then' "$LOGS/fleet.log" || return
    console a_fleet_logs_in_once "$(sed -n 's/^Open \([^ ]*\) in a browser.*/\1/p' "$LOGS/fleet.log")" || return
    wait_for 30 grep -q '^PASSED' "$LOGS/fleet.log"
}
check "console: a fleet is watched" watched
