//! What `weir top`, `weir explain` and `weir limits list` show, as golden text; and that outside strings cannot leave
//! their place on a terminal or in a shell.

#[path = "commands/amplification.rs"]
mod amplification;
#[path = "commands/statements.rs"]
mod statements;

use std::path::Path;
use weir::admin::model::{
    CallerRow, ConfigReport, ControlRow, ExpensiveRow, HeavyRow, Instance, LaneRow, Largest, Limited,
    LimitsReport, LimitsView, ListenerRow, PoolRow, ServerRow, Snapshot, Totals,
};
use weir::check::{bounds, compare};
use weir::commands::{Explanation, Look, explain, fingerprint_line, limits_list, render, tap_line};
use weir::config::{Config, Host, effective, reference};
use weir::overrides::{Bound, Class, Feature, LimitPatch, Mode, Override, Target, UnixTime, Who};

const NOW_MS: u64 = 1_795_233_790_000;

/// Compares with a file of this repository; `WEIR_BLESS=1` writes it instead.
fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/commands").join(name);
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, actual).expect("the golden file can be written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == actual, "{} differs (WEIR_BLESS=1 writes it):\n{actual}", path.display());
}

fn observe(ceiling: u64) -> LimitsView {
    LimitsView { operations_per_request: Some(ceiling), mode: Some(Mode::Observe), ..LimitsView::default() }
}

fn importer() -> CallerRow {
    CallerRow {
        caller: "importer".into(),
        principal: "uid:1001".into(),
        limited_as: "uid:1001".into(),
        listener: "shared".into(),
        process: Some("importer".into()),
        class: Some(Class::Interactive),
        connections: 12,
        requests: 180,
        operations: 3_150_000,
        backend_operations: 3_149_000,
        hits: 3_000_000,
        misses: 149_000,
        bytes_in: 120_000_000,
        bytes_out: 600_000_000,
        requests_per_second: 2.9,
        operations_per_second: 52_500.4,
        largest_last_minute: Some(Largest {
            operations: 17_500,
            method: "get".into(),
            at_unix_ms: Some(NOW_MS - 2_000),
        }),
        largest_ever: Some(Largest { operations: 20_000, method: "get".into(), at_unix_ms: None }),
        work_share: 0.92,
        request_share: 0.0006,
        limited: Limited { observed: 175, paced: 0, refused: 0 },
        limits: observe(2_000),
        operations_in_flight: 256,
        bytes_in_flight: 1_300_000,
        operations_queued: 16_000,
        first_seen_unix_ms: NOW_MS - 7_500_000,
        last_seen_unix_ms: Some(NOW_MS - 1_000),
        ..CallerRow::default()
    }
}

fn april() -> Snapshot {
    let appview = CallerRow {
        caller: "appview".into(),
        principal: "appview".into(),
        limited_as: "appview".into(),
        listener: "appview".into(),
        class: Some(Class::Interactive),
        connections: 640,
        requests: 40_000_000,
        operations: 800_000_000,
        requests_per_second: 4_980.0,
        operations_per_second: 4_560.0,
        largest_last_minute: Some(Largest { operations: 263, method: "get".into(), at_unix_ms: None }),
        work_share: 0.08,
        request_share: 0.9994,
        limits: LimitsView {
            operations_per_second: Some(175_000),
            mode: Some(Mode::Refuse),
            ..observe(1_000)
        },
        override_until_unix: Some(UnixTime(NOW_MS / 1_000 + 1_800)),
        first_seen_unix_ms: NOW_MS - 700_000_000,
        ..CallerRow::default()
    };
    let hostile = CallerRow {
        caller: "\u{1b}[2J\u{202e}$(reboot)".into(),
        listener: "appview".into(),
        ..CallerRow::default()
    };
    let lane = |state: &str| LaneRow { state: state.into(), ..LaneRow::default() };
    let up = ServerRow {
        address: "10.0.0.1:11211".into(),
        weight: 1,
        state: "up".into(),
        operations_in_flight: 300,
        operations_in_flight_max: 1_024,
        queue: 16_000,
        operations_per_second: 57_000.0,
        lanes: vec![lane("up"), lane("up")],
        ..ServerRow::default()
    };
    let down = ServerRow {
        address: "unix:/run/memcached-of-the-second-rack.sock".into(),
        state: "down".into(),
        operations_in_flight_max: 1_024,
        last_error: Some("Connection refused \u{1b}[0m".into()),
        lanes: vec![lane("waiting"), lane("connecting")],
        ..ServerRow::default()
    };
    Snapshot {
        taken_at_unix_ms: NOW_MS,
        instance: Instance {
            version: "0.1.0".into(),
            pid: 4_242,
            started_at_unix_ms: NOW_MS - 11_520_000,
            workers: 2,
            config_hash: "0123456789abcdef".into(),
            not_ready: None,
            overrides_active: 1,
        },
        totals: Totals {
            requests: 40_000_180,
            operations: 803_150_000,
            requests_per_second: 4_982.9,
            operations_per_second: 57_060.4,
            connections: 652,
        },
        callers: vec![hostile, appview, importer()],
        expensive: vec![ExpensiveRow {
            at_unix_ms: NOW_MS - 2_000,
            caller: "importer".into(),
            listener: "shared".into(),
            method: "get".into(),
            operations: 17_500,
            chunks: 137,
            backend_operations: 17_500,
            hits: 17_000,
            misses: 500,
            bytes_in: 700_000,
            bytes_out: 3_400_000,
            queue_wait_us: 900_000,
            backend_us: 300_000,
            total_us: 1_200_000,
            outcome: "ok".into(),
            request_id: "1-7f".into(),
            ..ExpensiveRow::default()
        }],
        heavy_hitters: vec![
            HeavyRow { caller: "importer".into(), operations: 3_150_000, error: 0 },
            HeavyRow { caller: "backfill-77".into(), operations: 120_000, error: 4_000 },
        ],
        pools: vec![PoolRow {
            name: "main".into(),
            kind: "memcached".into(),
            ring: "libmemcached-weighted".into(),
            servers: vec![up, down],
            control: None,
        }],
        listeners: vec![ListenerRow {
            name: "shared".into(),
            switched_off: vec!["split".into()],
            ..ListenerRow::default()
        }],
        ..Snapshot::default()
    }
}

fn overrides() -> LimitsReport {
    let limits = LimitPatch {
        operations_per_request: Some(Bound::At(1_000)),
        bytes_in_flight: Some(Bound::None),
        mode: Some(Mode::Refuse),
        ..LimitPatch::default()
    };
    let by = Who { uid: Some(0), name: "root".into() };
    let entry = |target, why: Option<&str>| Override {
        target,
        set_at_unix: UnixTime(NOW_MS / 1_000 - 1_800),
        expires_at_unix: UnixTime(NOW_MS / 1_000 + 1_800),
        by: by.clone(),
        why: why.map(str::to_owned),
    };
    LimitsReport {
        now_unix: UnixTime(NOW_MS / 1_000),
        undeclared: observe(2_000),
        callers: [("appview".to_owned(), LimitsView { bytes_in_flight: Some(8 << 20), ..observe(1_000) })]
            .into(),
        overrides: vec![
            entry(Target::Limits { caller: "appview".into(), limits }, Some("incident 4711\u{1b}[31m")),
            entry(Target::SwitchOff { listener: "shared".into(), feature: Feature::Split }, None),
        ],
        kept_in: Some("/var/lib/weir/overrides.json".into()),
    }
}

fn plain(width: usize) -> Look {
    Look { width, height: None, colour: false, statements: false }
}

#[test]
fn top_at_80_columns() {
    let text = render(&april(), &plain(80));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    golden("top-80.txt", &text);
}

#[test]
fn top_on_a_wide_terminal() {
    let text = render(&april(), &plain(140));
    assert!(text.lines().all(|line| line.chars().count() <= 140), "{text}");
    golden("top-140.txt", &text);
}

#[test]
fn top_shows_the_nodes_of_a_cluster() {
    let lane = |state: &str, in_flight| LaneRow { state: state.into(), in_flight, ..LaneRow::default() };
    let node = |address: &str, lanes: Vec<LaneRow>| ServerRow {
        address: address.into(),
        weight: 1,
        state: "up".into(),
        operations_in_flight: 15_400,
        requests_in_flight: Some(lanes.iter().map(|lane| lane.in_flight).sum()),
        requests_in_flight_max: Some(512),
        operations_per_second: 31_000.0,
        lanes,
        ..ServerRow::default()
    };
    let mut down = node("10.0.0.12:9042", vec![lane("waiting", 0)]);
    (down.state, down.last_error) = ("down".into(), Some("Connection refused".into()));
    (down.data_center, down.rack, down.shards) = (Some("west".into()), Some("r2".into()), Some(8));
    let nodes = vec![node("10.0.0.11:9042", vec![lane("up", 40), lane("up", 2)]), down];
    let control = ControlRow {
        nodes: 2,
        read_at_unix: Some(NOW_MS / 1_000 - 190),
        last_error: Some("Connect timeout elapsed".into()),
        ..ControlRow::default()
    };
    let snapshot = Snapshot {
        pools: vec![PoolRow {
            name: "timelines".into(),
            kind: "cql".into(),
            servers: nodes,
            control: Some(control),
            ..PoolRow::default()
        }],
        taken_at_unix_ms: NOW_MS,
        ..Snapshot::default()
    };
    golden("top-cql.txt", &render(&snapshot, &plain(100)));
}

#[test]
fn explain_tells_where_a_request_went_as_far_as_it_is_known() {
    let asked = |change: fn(&mut ExpensiveRow)| {
        let mut snapshot = april();
        change(&mut snapshot.expensive[0]);
        explain("importer", &snapshot, &overrides(), None).expect("it was seen").to_text()
    };
    assert!(!asked(|_| ()).contains(" at 10."), "many parts, or no node");
    let node = |row: &mut ExpensiveRow| row.node = Some("10.0.0.12:9042".into());
    assert!(asked(node).contains(" in 137 chunks at 10.0.0.12:9042, "));
    let all = |row: &mut ExpensiveRow| {
        row.node = Some("10.0.0.12:9042".into());
        (row.data_center, row.rack, row.shard) = (Some("west".into()), Some("r2".into()), Some(3));
    };
    assert!(asked(all).contains(" in 137 chunks at 10.0.0.12:9042 (west/r2, shard 3), "));
}

#[test]
fn top_of_a_weir_that_has_just_started() {
    golden("top-empty.txt", &render(&Snapshot::default(), &plain(80)));
}

#[test]
fn top_fits_the_terminals_height() {
    let mut snapshot = april();
    snapshot.callers =
        (0..500).map(|index| CallerRow { caller: format!("c{index}"), ..importer() }).collect();
    for height in [1, 5, 10, 24, 50] {
        let text = render(&snapshot, &Look { height: Some(height), ..plain(80) });
        assert!(text.lines().count() <= height, "{height}: {text}");
    }
    let text = render(&snapshot, &Look { height: Some(24), ..plain(80) });
    assert_eq!(text.lines().count(), 24);
    assert!(text.contains("and 487 more") && text.contains("POOL SERVER"), "{text}");
}

#[test]
fn a_hundred_servers_leave_room_for_callers() {
    let mut snapshot = april();
    let servers = &mut snapshot.pools[0].servers;
    let up = servers[0].clone();
    servers.splice(0..0, (0..100).map(|_| up.clone()));
    let text = render(&snapshot, &Look { height: Some(24), ..plain(80) });
    assert!(text.contains("importer") && text.contains("and 95 more servers, all up"), "{text}");
    assert!(text.contains("down "), "what is not up comes first: {text}");
}

#[test]
fn colours_are_ours_alone() {
    let text = render(&april(), &Look { colour: true, ..plain(80) });
    for (at, _) in text.match_indices('\x1b') {
        let code: String = text[at..].chars().skip(1).take_while(|c| *c != 'm').collect();
        assert!(["[0", "[1", "[31", "[32", "[33"].contains(&code.as_str()), "{code:?}");
    }
}

#[test]
fn explain_names_the_culprit_and_the_commands() {
    let found = explain("importer", &april(), &overrides(), None).expect("it was seen");
    assert_eq!(
        found.summary,
        "importer asks for 17,500 keys in one get: 8.8 times its ceiling of 2,000; weir let it pass and counted it; \
         first seen 2026-11-21 01:58:10 UTC"
    );
    golden("explain-importer.txt", &found.to_text());
}

#[test]
fn explain_tells_overrides() {
    let admin = Some("unix:/run/weir/admin.sock");
    let found = explain("appview", &april(), &overrides(), admin).expect("it was seen");
    golden("explain-appview.txt", &found.to_text());
}

#[test]
fn explain_proposes_nothing_that_is_in_force() {
    let mut snapshot = april();
    let row = snapshot.callers.iter_mut().find(|row| row.caller == "importer").expect("it is there");
    row.limits = LimitsView { operations_per_second: Some(50_000), mode: Some(Mode::Refuse), ..observe(500) };
    let capped = explain("importer", &snapshot, &overrides(), None).expect("it was seen");
    assert!(capped.summary.contains("weir refused it"), "{}", capped.summary);
    let proposed = |found: &Explanation| {
        found.commands.iter().map(|advice| advice.command.clone()).collect::<Vec<_>>().join("\n")
    };
    let commands = proposed(&capped);
    assert!(!commands.contains("operations-per") && commands.contains("--class batch"), "{commands}");

    // Where limits are switched off nothing is in force; what is off comes first.
    snapshot.listeners[0].switched_off = vec!["limits".into()];
    snapshot.listeners[0].name = "shared".into();
    let off = explain("importer", &snapshot, &overrides(), None).expect("it was seen");
    let commands = proposed(&off);
    assert!(commands.starts_with("weir switch limits on --listener shared\n"), "{commands}");
    assert!(commands.contains("--operations-per-request 500 --mode refuse"), "{commands}");
}

#[test]
fn explain_of_a_listener_names_who_was_above_the_ceiling_there() {
    let mut snapshot = april();
    let unnamed = CallerRow {
        caller: "shared".into(),
        principal: "shared".into(),
        limited_as: "shared".into(),
        listener: "shared".into(),
        largest_ever: Some(Largest { operations: 19_365, method: "get".into(), at_unix_ms: None }),
        operations_per_second: 60_000.0,
        limits: observe(2_000),
        ..CallerRow::default()
    };
    let small = CallerRow { caller: "timeline".into(), largest_ever: None, ..unnamed.clone() };
    let feed = CallerRow {
        caller: "feed".into(),
        largest_ever: Some(Largest { operations: 2_500, method: "get".into(), at_unix_ms: None }),
        ..unnamed.clone()
    };
    snapshot.callers.extend([unnamed.clone(), small, feed]);
    let found = explain("shared", &snapshot, &overrides(), None).expect("it was seen");
    golden("explain-listener.txt", &found.to_text());

    // With a name for everybody, the listener's stands for nobody and caps nobody either.
    snapshot.callers.retain(|row| row.caller != "shared");
    let found = explain("shared", &snapshot, &overrides(), None).expect("it has callers");
    assert_eq!(
        found.summary,
        "shared is a listener, and its callers are known by name; seen above its ceiling there: importer, feed"
    );
    assert!(
        found.commands.iter().all(|advice| !advice.command.contains("limits set")),
        "{:?}",
        found.commands
    );
}

#[test]
fn explain_finds_principals_and_hidden_callers() {
    let found = explain("uid:1001", &april(), &overrides(), None).expect("a principal");
    assert_eq!(found.rows[0].caller, "importer");
    let hidden = explain("backfill-77", &april(), &overrides(), None).expect("a heavy hitter");
    assert!(hidden.to_text().contains("116,000 to 120,000 operations"), "{}", hidden.to_text());
    assert!(explain("nobody", &april(), &overrides(), None).is_none());
}

#[test]
fn explained_commands_are_commands() {
    use clap::Parser as _;
    for caller in ["importer", "appview", "backfill-77"] {
        let found = explain(caller, &april(), &overrides(), Some("unix:/a b")).expect("it was seen");
        assert!(!found.commands.is_empty());
        for advice in found.commands {
            let words = std::process::Command::new("bash")
                .arg("-c")
                .arg(format!("printf '%s\\n' {}", advice.command))
                .output()
                .expect("bash runs");
            let words = String::from_utf8(words.stdout).expect("text");
            weir::cli::Cli::try_parse_from(words.lines())
                .unwrap_or_else(|error| panic!("{}: {error}", advice.command));
        }
    }
}

#[test]
fn names_from_outside_cannot_leave_their_place() {
    let snapshot = april();
    let hostile = snapshot.callers[0].caller.clone();
    let found = explain(&hostile, &snapshot, &overrides(), None).expect("it was seen");
    let request = ExpensiveRow { caller: hostile, method: "\n".into(), ..ExpensiveRow::default() };
    for text in
        [render(&snapshot, &plain(80)), found.to_text(), tap_line(&request), limits_list(&overrides())]
    {
        assert!(!text.contains('\x1b') && !text.contains('\u{202e}'), "{text:?}");
    }
    assert_eq!(tap_line(&request).lines().count(), 1);
    let cap = &found.commands[0].command;
    assert!(cap.contains("$'\\x1b[2J") && !cap.contains(" $("), "{cap}");
}

#[test]
fn limits_in_force() {
    golden("limits-list.txt", &limits_list(&overrides()));
}

#[test]
fn requests_as_they_end() {
    golden("tap.txt", &tap_line(&april().expensive[0]));
}

fn config(text: &str) -> Config {
    Config::from_text("weir.toml", text, &Host::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn check_prints_the_bounds() {
    golden("check-bounds.txt", &bounds(&config(reference::EXAMPLE_FILE)));
}

#[test]
fn check_against_a_running_weir() {
    let running = config(&format!(
        "{}[listener.two]\naddress = \"unix:/two\"\npool = \"cache\"\n",
        reference::EXAMPLE_FILE
    ));
    let new = reference::EXAMPLE_FILE
        .replace("{ address = \"10.0.0.2:11211\", weight = 2 }", "\"10.0.0.2:11211\", \"10.0.0.3:11211\"")
        .replace("operations_per_request = 500", "operations_per_request = 100");
    let new = config(&format!("{new}burst = \"none\"\nclass = \"batch\"\n"));
    let report = ConfigReport {
        source: "/etc/weir/weir.toml".into(),
        hash: running.hash.to_string(),
        toml: effective::to_toml(&running),
        overrides: overrides().overrides,
        ..ConfigReport::default()
    };
    let again = config(&report.toml);
    golden("check-against.txt", &compare(&again, &new).to_text(&report));
    let same = compare(&running, &running);
    assert!(same.rings.iter().all(|ring| ring.percent == 0.0));
    assert!(same.tightened.is_empty() && same.others.is_empty() && same.needs_restart.is_empty());
}

#[test]
fn check_against_a_weir_with_clusters() {
    let running = config(&format!(
        "{}[cluster.old]\ncontacts = \"10.9.0.1:9042\"\n[listener.old]\naddress = \"127.0.0.1:9143\"\ncluster = \"old\"\n",
        reference::EXAMPLE_FILE
    ));
    let new = reference::EXAMPLE_FILE.replace("\"10.0.0.12:9042\"", "\"10.0.0.13:9042\"");
    let new = format!("{new}[listener.old]\naddress = \"127.0.0.1:9143\"\npool = \"cache\"\n");
    let report = ConfigReport { source: "weir.toml".into(), hash: "0".into(), ..ConfigReport::default() };
    let found = compare(&running, &config(&new));
    golden("check-against-clusters.txt", &found.to_text(&report));
    let json = found.to_json(&report);
    assert_eq!(json["clusters_lost"][0], "old (10.9.0.1:9042)");
    assert_eq!(json["contacts_changed"][0], "main: + 10.0.0.13:9042, - 10.0.0.12:9042");
    assert_eq!(json["backends_changed"][0], "old: cluster old -> pool cache");
    let order = reference::EXAMPLE_FILE
        .replace("\"10.0.0.11:9042\", \"10.0.0.12:9042\"", "\"10.0.0.12:9042\", \"10.0.0.11:9042\"");
    let found = compare(&config(reference::EXAMPLE_FILE), &config(&order));
    assert_eq!(found.contacts_changed, ["main: another order"]);
    assert!(found.needs_restart.is_empty() && found.others.is_empty(), "{found:?}");
}

#[test]
fn adding_one_server_of_ten_moves_a_tenth_of_the_keys() {
    let servers = |count: usize| -> String {
        let all: Vec<String> = (0..count).map(|index| format!("\"10.0.0.{index}:11211\"")).collect();
        format!(
            "[pool.a]\nservers = [{}]\n[listener.a]\naddress = \"127.0.0.1:1\"\nmax_connections = 1\n",
            all.join(", ")
        )
    };
    let found = compare(&config(&servers(9)), &config(&servers(10)));
    assert!((5.0..15.0).contains(&found.rings[0].percent), "{:?}", found.rings);
    let other = servers(9).replace("[listener", "ring = \"twemproxy-fnv1a64\"\n[listener");
    let found = compare(&config(&servers(9)), &config(&other));
    assert!(found.rings[0].percent > 80.0, "another ring moves nearly every key: {:?}", found.rings);
}

#[test]
fn a_fingerprint_is_that_of_the_qualified_statement() {
    let prepared = fingerprint_line("SELECT * FROM shop.carts WHERE id = ?", None).expect("understood");
    assert!(prepared.ends_with("  select * from shop.carts where id = ?"), "{prepared}");
    assert_eq!(fingerprint_line("select * from Carts WHERE id=7", Some("shop")), Ok(prepared.clone()));
    let digits = &prepared[..16];
    let file = format!(
        "[cluster.main]\ncontacts = \"10.0.0.1:9042\"\n[cluster.main.rule.one]\nfingerprint = \"{digits}\"\n\
         [listener.cql]\naddress = \"127.0.0.1:9142\"\n"
    );
    Config::from_text("weir.toml", &file, &Host::default()).expect("what is printed can be written");
    assert!(fingerprint_line("SELECT * FROM carts", None).is_err_and(|told| told.contains("--keyspace")));
    assert!(fingerprint_line("SELECT 'open FROM a.b", None).is_err());
}
