//! The invariants hold in every state of every configuration.

use crate::{
    check,
    setting::{FIRST, InitialRecord, Outage, REFRESHABLE, REPORT_LATEST, Setting, Successor, TOKEN},
};
use std::time::Duration;
use token_broker_protocol::{Intent, Task};

const REFRESH_REFUSED: InitialRecord = InitialRecord::Pair { seconds_left: 30, access: true, refresh: false };
const FRESH: InitialRecord = InitialRecord::Pair { seconds_left: 500_000, access: true, refresh: true };
const DEAD: InitialRecord = InitialRecord::Pair { seconds_left: 500_000, access: false, refresh: true };
const DUE: InitialRecord = InitialRecord::Pair { seconds_left: 3_600, access: true, refresh: true };
const REPORT: Intent = Intent::Token { min_ttl: Duration::from_secs(60), rejected: Some(FIRST) };

#[test]
fn after_a_fault_and_a_pause() {
    let setting = Setting { faults: 1, pauses: 1, ..Setting::default() };
    let sights =
        ["a lease recognised after a lost reply", "a delayed write that is applied", "an orphan recorded"];
    check("a fault and a pause", setting, &sights);
}

#[test]
fn after_two_faults() {
    let setting = Setting { faults: 2, pauses: 0, ..Setting::default() };
    let sights = ["a takeover after a lapsed lease", "a saved pair recognised after a lost reply"];
    check("two faults", setting, &sights);
}

#[test]
fn after_two_pauses() {
    let setting = Setting { faults: 0, pauses: 2, ..Setting::default() };
    check("two pauses", setting, &["a takeover after a lapsed lease", "an orphan recorded"]);
}

#[test]
fn with_two_requests_per_instance() {
    let setting = Setting {
        clocks: vec![2, 0],
        requests: vec![vec![(0, TOKEN); 2]; 2],
        faults: 1,
        pauses: 0,
        ..Setting::default()
    };
    check("two requests each", setting, &["a takeover after a lapsed lease"]);
}

#[test]
fn with_three_instances() {
    let setting = Setting {
        clocks: vec![0; 3],
        requests: vec![vec![(0, TOKEN)]; 3],
        faults: 1,
        pauses: 0,
        ..Setting::default()
    };
    check("three instances", setting, &["a takeover after a lapsed lease"]);
}

#[test]
fn during_an_outage_of_the_table() {
    let setting = Setting {
        clocks: vec![0],
        requests: vec![vec![(0, TOKEN); 3]],
        faults: 1,
        outages: &[Outage::Table, Outage::Writes],
        ..Setting::default()
    };
    let sights = ["a pair that cannot be saved", "a pending write that is applied later"];
    check("an outage", setting, &sights);
}

/// Reads continue. The last pair is due for an early refresh.
#[test]
fn while_the_table_refuses_writes() {
    for records in [vec![InitialRecord::Absent], vec![REFRESHABLE], vec![DUE]] {
        let setting = Setting {
            early_refresh: records == [DUE],
            records: vec![records],
            faults: 1,
            pauses: 0,
            outages: &[Outage::Writes],
            ..Setting::default()
        };
        check("writes refused", setting, &["a pair that cannot be saved"]);
    }
}

#[test]
fn while_the_table_refuses_to_record_verdicts() {
    let setting = Setting {
        requests: vec![vec![(0, REPORT)], vec![(0, TOKEN)]],
        records: vec![vec![FRESH], vec![DEAD]],
        faults: 1,
        pauses: 0,
        outages: &[Outage::Writes],
        ..Setting::default()
    };
    check("reports, writes refused", setting, &["a token found alive", "a token found dead"]);
}

#[test]
fn for_two_accounts_that_share_the_limiter() {
    let setting = Setting {
        clocks: vec![2, 0],
        requests: vec![vec![(0, TOKEN)], vec![(1, TOKEN); 2]],
        records: vec![vec![InitialRecord::Absent; 2]],
        login_budget: 1,
        faults: 1,
        pauses: 0,
        horizon: 100,
        ..Setting::default()
    };
    check("two accounts", setting, &["a login that the limiter refuses"]);
}

#[test]
fn for_a_pair_that_has_run_out() {
    let records = vec![vec![REFRESHABLE], vec![REFRESH_REFUSED]];
    for (faults, pauses) in [(1, 0), (0, 1)] {
        let setting = Setting { records: records.clone(), faults, pauses, ..Setting::default() };
        check("refresh", setting, &["a refused refresh that leads to a login"]);
    }
}

/// Tokens that live for less than a caller may keep one, and expire within the run.
#[test]
fn for_pairs_with_a_short_life() {
    for (faults, pauses) in [(1, 0), (0, 1)] {
        let setting = Setting {
            clocks: vec![2, 0],
            requests: vec![vec![(0, TOKEN); 2], vec![(0, TOKEN)]],
            lifetime: Duration::from_secs(20),
            faults,
            pauses,
            ..Setting::default()
        };
        check("short lives", setting, &["a pair that is renewed"]);
    }
}

/// A refresh returns the same refresh token, or none. It may be sent again if the reply arrived.
#[test]
fn for_refresh_tokens_that_live_on() {
    let cases = [
        (Successor::Same, vec![vec![(0, TOKEN); 3]], 2),
        (Successor::Absent, vec![vec![(0, TOKEN); 3]], 2),
        (Successor::Same, vec![vec![(0, TOKEN); 2], vec![(0, TOKEN)]], 0),
    ];
    for (successor, requests, faults) in cases {
        let setting = Setting {
            clocks: vec![0; requests.len()],
            requests,
            records: vec![vec![REFRESHABLE]],
            lifetime: Duration::from_secs(20),
            successor,
            faults,
            pauses: 0,
            ..Setting::default()
        };
        check(&format!("successor {successor:?}"), setting, &["a pair that is renewed"]);
    }
}

#[test]
fn for_a_pair_that_is_due() {
    let records = vec![vec![DUE]];
    let setting = Setting { records, early_refresh: true, faults: 1, pauses: 1, ..Setting::default() };
    check("due", setting, &["an orphan recorded"]);
}

#[test]
fn when_credentials_are_refused() {
    for (faults, pauses) in [(1, 0), (0, 1)] {
        let setting = Setting { secrets: vec![false, true], faults, pauses, ..Setting::default() };
        check("refused credentials", setting, &["a secret version rejected"]);
    }
}

#[test]
fn when_an_operator_unblocks_the_account() {
    for (faults, pauses) in [(1, 0), (0, 1)] {
        let setting = Setting {
            requests: vec![vec![(0, TOKEN); 2], vec![(0, Intent::Unblock)]],
            secrets: vec![false],
            faults,
            pauses,
            ..Setting::default()
        };
        check("unblocked", setting, &["an account unblocked", "a secret version rejected"]);
    }
}

/// Another login of the same user ends the session at any moment. A caller reports the token that it was given.
#[test]
fn when_sessions_are_lost() {
    let reports = vec![(0, TOKEN), (0, REPORT_LATEST)];
    let cases =
        [(FRESH, reports.clone(), 1, 0), (REFRESHABLE, reports, 0, 0), (FRESH, vec![(0, REPORT)], 0, 1)];
    for (record, first, faults, pauses) in cases {
        let setting = Setting {
            requests: vec![first, vec![(0, TOKEN)]],
            records: vec![vec![record]],
            lost_sessions: 1,
            faults,
            pauses,
            ..Setting::default()
        };
        let sights = ["a token found alive", "a token found dead", "a refused refresh that leads to a login"];
        check("lost sessions", setting, &sights);
    }
}

/// Each session is lost as soon as it exists, and each loss is reported.
#[test]
fn when_sessions_are_lost_again_and_again() {
    let mut requests = vec![(0, REPORT_LATEST); 5];
    requests[0] = (0, TOKEN);
    let setting = Setting {
        clocks: vec![0],
        requests: vec![requests],
        records: vec![vec![FRESH]],
        lost_sessions: 5,
        faults: 1,
        pauses: 0,
        ..Setting::default()
    };
    check("lost again and again", setting, &["a token found dead", "a login that the limiter refuses"]);
}

#[test]
fn when_callers_and_probes_lie() {
    let requests = vec![(0, TOKEN), (0, REPORT_LATEST), (0, REPORT_LATEST)];
    let setting = Setting {
        requests: vec![requests, vec![(0, TOKEN), (0, REPORT_LATEST)]],
        records: vec![vec![FRESH]],
        probes_lie: true,
        faults: 0,
        pauses: 0,
        ..Setting::default()
    };
    check("lies", setting, &["a token found dead"]);
}

/// A pair whose holder lost the lease is revoked by the schedule, and no other.
#[test]
fn when_the_schedule_revokes_orphans() {
    let setting = Setting {
        requests: vec![vec![(0, TOKEN)], vec![(0, TOKEN), (0, Intent::Maintain(Task::Revoke))]],
        records: vec![vec![InitialRecord::Absent], vec![REFRESHABLE]],
        faults: 0,
        pauses: 1,
        ..Setting::default()
    };
    check("orphans", setting, &["an orphan recorded", "a token revoked"]);
}

#[test]
fn while_an_operator_revokes() {
    let setting = Setting {
        requests: vec![vec![(0, Intent::Revoke)], vec![(0, TOKEN)]],
        records: vec![vec![REFRESHABLE], vec![REFRESH_REFUSED]],
        faults: 1,
        pauses: 0,
        ..Setting::default()
    };
    check("revocation", setting, &["a pair withdrawn"]);
}

/// While the pair is revoked, its refresh is refused, and so is the login that follows. If the operator did not wait
/// for the lease, another instance could log in beside its holder, after the refusal was recorded.
#[test]
fn while_an_operator_revokes_and_credentials_are_refused() {
    let setting = Setting {
        clocks: vec![0; 3],
        requests: vec![vec![(0, Intent::Revoke)], vec![(0, TOKEN)], vec![(0, TOKEN)]],
        records: vec![vec![REFRESH_REFUSED]],
        secrets: vec![false],
        faults: 0,
        pauses: 0,
        ..Setting::default()
    };
    check("revocation, refused", setting, &["a pair withdrawn", "a secret version rejected"]);
}

#[test]
fn when_callers_report_a_rejected_token() {
    let setting = Setting {
        requests: vec![vec![(0, REPORT)], vec![(0, REPORT)]],
        records: vec![vec![FRESH], vec![DEAD]],
        faults: 1,
        pauses: 0,
        ..Setting::default()
    };
    check("reports", setting, &["a token found alive", "a token found dead"]);
}

#[test]
fn while_an_operator_and_the_schedule_renew() {
    let setting = Setting {
        requests: vec![vec![(0, Intent::Replace)], vec![(0, Intent::Maintain(Task::Renew))]],
        records: vec![vec![DUE]],
        faults: 1,
        pauses: 1,
        ..Setting::default()
    };
    check("replace, maintain", setting, &["a lease lost"]);
}

/// The store dates its replies. One clock is off by hours, either way, and its instance may crash with the lease.
#[test]
fn with_a_clock_that_is_off() {
    for ahead in [6_600, -6_600] {
        for (records, faults, pauses) in
            [(InitialRecord::Absent, 1, 0), (REFRESHABLE, 1, 0), (InitialRecord::Absent, 0, 1)]
        {
            let setting = Setting {
                clocks: vec![ahead, 0],
                dated: true,
                records: vec![vec![records]],
                login_budget: 1,
                faults,
                pauses,
                ..Setting::default()
            };
            check(&format!("a clock {ahead} s off"), setting, &["a takeover after a lapsed lease"]);
        }
    }
}

/// A wall clock steps at any moment, in the middle of a request too.
#[test]
fn with_a_clock_that_steps() {
    for step in [3_600, -3_600] {
        for records in [InitialRecord::Absent, REFRESHABLE] {
            let setting = Setting {
                clocks: vec![0, 0],
                dated: true,
                steps: 1,
                step,
                records: vec![vec![records]],
                faults: 0,
                pauses: 0,
                horizon: 40,
                ..Setting::default()
            };
            check(&format!("a clock steps by {step} s"), setting, &[]);
        }
    }
}

/// A request tries a rejected secret version again after six hours, and no sooner.
#[test]
fn when_refused_credentials_are_tried_again() {
    let setting = Setting {
        clocks: vec![0],
        requests: vec![vec![(0, TOKEN); 3]],
        secrets: vec![false],
        faults: 1,
        pauses: 0,
        horizon: 7 * 3_600,
        ..Setting::default()
    };
    check("refused credentials, later", setting, &["a secret version rejected"]);
}
