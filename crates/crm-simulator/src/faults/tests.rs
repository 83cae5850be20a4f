//! When rules fire, and what they refuse.

use super::*;

fn fires(faults: &Faults, method: &str, target: &str) -> bool {
    !faults.decide(method, target).actions.is_empty()
}

/// A rule fires after the requests that it skips, and only so many times.
#[test]
fn rule_fires_after_skips_and_limited_times() {
    let faults = Faults::new(1);
    let rule = FaultRule { skip: 2, times: Some(2), ..FaultRule::once("/users", Fault::ServerError) };
    let id = faults.add(rule).unwrap();

    let fired: Vec<bool> = (0..6).map(|_| fires(&faults, "GET", "/api/users?x")).collect();

    assert_eq!(fired, [false, false, true, true, false, false]);
    assert_eq!(faults.fired(id), 2);
}

#[test]
fn other_paths_and_methods_are_left_alone() {
    let faults = Faults::new(1);
    faults.add(FaultRule { method: Some("post".to_owned()), ..FaultRule::always("/users", Fault::Hang) }).unwrap();

    assert!(!fires(&faults, "GET", "/users"));
    assert!(!fires(&faults, "POST", "/tickets"));
    assert!(fires(&faults, "POST", "/users"));
    faults.clear();
    assert!(!fires(&faults, "POST", "/users"));
}

#[test]
fn chance_comes_from_the_seed() {
    let draw = |seed| {
        let faults = Faults::new(seed);
        faults.add(FaultRule { probability: 0.3, ..FaultRule::always("", Fault::ServerError) }).unwrap();
        (0..1_000).map(|_| fires(&faults, "GET", "/")).collect::<Vec<bool>>()
    };

    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    let hits = draw(7).into_iter().filter(|hit| *hit).count();
    assert!((200..400).contains(&hits), "{hits} of 1000");
}

/// Only requests for many rows fail, where that is wished.
#[test]
fn only_large_pages_fail_where_wished() {
    let faults = Faults::new(1);
    faults.add(FaultRule { rows_above: Some(500), ..FaultRule::always("", Fault::Hang) }).unwrap();

    for (target, fails) in [
        ("/api/v2/incremental/users/cursor?start_time=0&per_page=1000", true),
        ("/api/v2/incremental/users/cursor?start_time=0&per_page=500", false),
        ("/services/data/v67.0/queryAll?q=SELECT+Id+FROM+Lead+LIMIT+2000", true),
        ("/services/data/v67.0/queryAll?q=SELECT+Id+FROM+Lead+LIMIT+1", false),
        ("/services/data/v67.0/jobs/query/7/results?maxRecords=10000", true),
        ("/api/v2/persons?limit=501&sort_by=id", true),
        ("/api/v2/users/7", false),
    ] {
        assert_eq!(fires(&faults, "GET", target), fails, "{target}");
    }
}

/// Rules are read from JSON with defaults, and unknown fields are rejected.
#[test]
fn rules_read_with_defaults_reject_unknown_fields() {
    let read = |text| serde_json::from_str::<FaultRule>(text);

    let rule = read(r#"{"path":"/x","fault":{"kind":"rate_limited","retry_after_seconds":3}}"#).unwrap();
    assert_eq!(rule, FaultRule::once("/x", Fault::RateLimited { retry_after_seconds: Some(3) }));
    assert_eq!(
        read(r#"{"path":"","times":null,"fault":{"kind":"hang"}}"#).unwrap(),
        FaultRule::always("", Fault::Hang)
    );
    assert!(read(r#"{"path":"/x","often":3,"fault":{"kind":"hang"}}"#).is_err());
    assert!(read(r#"{"path":"/x","fault":{"kind":"delay","seconds":3}}"#).is_err());
}

#[test]
fn values_out_of_range_are_refused_by_field() {
    let faults = Faults::new(1);
    let error = faults.add(FaultRule { probability: 1.5, ..FaultRule::once("", Fault::Hang) }).unwrap_err();

    assert_eq!(error.to_string(), "probability must be from 0 to 1");
    assert!(faults.add(FaultRule::once("", Fault::Drip { chunk_bytes: 0, every_ms: 1 })).is_err());
    assert!(faults.add(FaultRule::once("", Fault::answer(99, ("retry-after", "1"), ""))).is_err());
    assert!(faults.add(FaultRule::once("", Fault::answer(403, ("a name", "1"), ""))).is_err());
    assert!(faults.add(FaultRule::once("", Fault::page(403))).is_ok());
    assert!(faults.add(FaultRule::once("", Fault::GzipBomb { mib: 10_000 })).is_err());
}

#[test]
fn log_normal_delays_have_their_median_and_tail() {
    let faults = Faults::new(1);
    faults.add(FaultRule::always("/query", Fault::LogNormalDelay { median_ms: 200, p95_ms: 600 })).unwrap();
    let mut delays: Vec<u64> = (0..2_000)
        .flat_map(|_| faults.decide("GET", "/query").actions)
        .map(|action| match action {
            Action::Fault(Fault::Delay { ms }) => ms,
            _ => panic!("another fault"),
        })
        .collect();
    delays.sort_unstable();

    assert_eq!(delays.len(), 2_000);
    assert!((185..215).contains(&delays[1_000]), "{}", delays[1_000]);
    assert!((540..660).contains(&delays[1_900]), "{}", delays[1_900]);
    let wrong =
        |median_ms, p95_ms| faults.add(FaultRule::once("", Fault::LogNormalDelay { median_ms, p95_ms })).is_err();
    assert!(wrong(0, 1) && wrong(2, 1) && wrong(1, 600_001) && !wrong(1, 1));
}
