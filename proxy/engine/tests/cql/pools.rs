//! Users with connections of their own: what one asks never travels on another's connections, is never answered with
//! another's answer, and costs the nodes no more than all together may.

use crate::bench::{Bench, Caller, settings};
use crate::placed::{Map, node};
use crate::wire::{With, execute, int, list, prepare, query};
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_cql::response::ErrorCode;
use weir_cql::{Response, Version};
use weir_engine::CloseHow;
use weir_engine::cql::principals::Principals;
use weir_engine::settings::{ClientSignIn, Rule, Settings, SplitChoice, Subject};
use weir_engine::units::{ClusterId, Operations, Span};

const VERSIONS: [Version; 3] = [Version::V3, Version::V4, Version::V5];
const READ: &str = "SELECT v FROM shop.hot WHERE k = ?";
const MANY: &str = "SELECT k, v FROM shop.t WHERE k IN ?";
const IDLE: Span = Span::secs(60);

fn own(nodes: usize) -> Settings {
    let mut settings = settings(nodes);
    let cluster = &mut settings.clusters[0];
    (cluster.clients, cluster.principal_idle) = (ClientSignIn::Own, IDLE);
    cluster.auth_file = Some("/weir's own".into());
    settings
}

fn with_rule(mut settings: Settings) -> Settings {
    let subject = Subject::Table { keyspace: "shop".into(), table: "hot".into() };
    let cache_ttl = Some(Span::secs(60));
    let rule = Rule { join_in_flight: true, cache_ttl, ..Rule::new("hot", subject) };
    settings.clusters[0].rules = [rule].into();
    settings
}

/// Whose connection this lane is.
fn user_of(bench: &Bench, lane: usize) -> String {
    let (_, info) = bench.engine.lanes().find(|(id, _)| id.0 as usize == lane).expect("a lane");
    assert_eq!((info.of, &info.auth_file), (ClusterId(0), &None), "nobody is served as weir's own user");
    info.principal.as_ref().expect("somebody's").user().to_string()
}

/// Lanes by user: those for requests, and those for parts.
fn lanes(bench: &Bench) -> BTreeMap<String, (usize, usize)> {
    let mut all = BTreeMap::<String, (usize, usize)>::new();
    for (_, info) in bench.engine.lanes() {
        let counts = all.entry(info.principal.as_ref().expect("somebody's").user().to_string()).or_default();
        if info.bulk { counts.1 += 1 } else { counts.0 += 1 }
    }
    all
}

fn asked_by(bench: &Bench, user: &str) -> usize {
    let busy = bench.wires.iter().enumerate().filter(|(_, wire)| !wire.asked.is_empty());
    busy.filter(|(lane, _)| user_of(bench, *lane) == user).map(|(_, wire)| wire.asked.len()).sum()
}

fn read(caller: &Caller, stream: i16, id: &[u8], key: i32, timestamp: i64) -> Vec<u8> {
    let with = With { timestamp: Some(timestamp), ..With::values(&[int(key)]) };
    execute(caller.version, stream, id, &with)
}

#[test]
fn each_user_asks_on_connections_of_its_own() {
    for version in VERSIONS {
        let mut bench = Bench::new(own(2));
        assert_eq!(bench.engine.lanes().count(), 0);
        let mut a = bench.open_own("a", version);
        let mut b = bench.open_own("b", version);
        let mut again = bench.open_own("a", version);
        bench.turn();
        assert_eq!(lanes(&bench), BTreeMap::from([("a".into(), (2, 0)), ("b".into(), (2, 0))]));
        for (caller, user, other) in [(&mut a, "a", "b"), (&mut b, "b", "a"), (&mut again, "a", "b")] {
            bench.query(caller, 5, "SELECT v FROM shop.t WHERE k = 1");
            bench.turn();
            assert_eq!((asked_by(&bench, user), asked_by(&bench, other)), (1, 0), "{version:?}");
            assert_eq!(bench.one(caller).values(), ["shop.t/1"]);
        }
        // one for all, whoever prepares it; a node that does not know it is told on the connection of who asks
        let id = bench.prepare(&mut a, "SELECT v FROM shop.t WHERE k = ?");
        let heard = |bench: &Bench| bench.nodes.iter().map(|node| node.prepares).sum::<usize>();
        let before = heard(&bench);
        assert_eq!(bench.prepare(&mut b, "SELECT v FROM shop.t WHERE k = ?"), id);
        assert_eq!(heard(&bench), before);
        bench.send(&b, &execute(version, 6, &id, &With::values(&[int(7)])));
        bench.turn();
        for _ in 0..3 {
            // EXECUTE, PREPARE, EXECUTE
            assert_eq!((asked_by(&bench, "a"), asked_by(&bench, "b")), (0, 1));
            let lane = bench.wires.iter().position(|wire| !wire.asked.is_empty()).expect("asked");
            bench.answer(lane, 0);
            bench.turn();
        }
        assert_eq!(bench.answers(&mut b).last().expect("an answer").values(), ["shop.t/7"]);
        let counts = &bench.engine.cluster_counts()[0];
        assert_eq!((counts.principals, counts.prepared, counts.repaired), (2, 1, 1));
        assert_eq!((counts.nodes, counts.nodes_up), (2, 2));
        // an operator sees nodes, not pools
        let shown = bench.engine.snapshot(bench.now).servers;
        let lanes: Vec<usize> = shown.iter().map(|node| node.lanes.len()).collect();
        assert_eq!(lanes, [2, 2]);
        bench.engine.check_quiet();
    }
}

/// Names that no caller may bear share one, and nothing else.
#[test]
fn nobody_is_given_anothers_answer() {
    for version in VERSIONS {
        let mut settings = with_rule(own(1));
        settings.clusters[0].requests_in_flight = Operations(2);
        let mut bench = Bench::new(settings);
        let users = ["odd one", "odd two"];
        let mut callers: Vec<Caller> = users
            .iter()
            .flat_map(|user| [(); 2].map(|()| *user))
            .map(|u| bench.open_own(u, version))
            .collect();
        let id = bench.prepare(&mut callers[0], READ);
        // all four wait, or are under way, together: two answers, each for the two of one user
        for (place, caller) in callers.iter().enumerate() {
            bench.send(caller, &read(caller, 9, &id, 7, 10 + place as i64));
        }
        bench.settle();
        let said = |bench: &mut Bench, caller: &mut Caller| bench.answers(caller)[0].values().remove(0);
        let answers: Vec<String> = callers.iter_mut().map(|caller| said(&mut bench, caller)).collect();
        let own = ["shop.hot/7#0@10", "shop.hot/7#0@10", "shop.hot/7#0@12", "shop.hot/7#0@12"];
        assert_eq!(answers, own, "{version:?}");
        // and the same from what is kept
        for (place, caller) in callers.iter_mut().enumerate() {
            let message = read(caller, 9, &id, 7, 20 + place as i64);
            assert_eq!(bench.ask(caller, &message).values(), [own[place]], "{version:?}");
        }
        let counts = &bench.engine.cluster_counts()[0];
        assert_eq!((counts.joined, counts.cache_hits, counts.cached), (2, 4, 2));
        // a write by either ends what is kept for both
        bench.ask_text(&mut callers[3], "UPDATE shop.hot SET n = n + 1 WHERE k = 7");
        for place in [0, 2] {
            let message = read(&callers[place], 9, &id, 7, 30 + place as i64);
            let answer = bench.ask(&mut callers[place], &message);
            assert_eq!(answer.values(), [format!("shop.hot/7#1@{}", 30 + place)]);
        }
        // another user in the place of one that has gone finds nothing there
        let places = bench.engine.cluster_counts()[0].cached;
        for caller in callers {
            bench.engine.close_client(caller.id, bench.now);
        }
        bench.wait(IDLE);
        bench.cut();
        assert_eq!((bench.engine.cluster_counts()[0].cached, places), (0, 2));
        let mut next = bench.open_own("next", version);
        let message = read(&next, 9, &id, 7, 99);
        assert_eq!(bench.ask(&mut next, &message).values(), ["shop.hot/7#1@99"]);
        bench.engine.check_quiet();
    }
}

#[test]
fn a_prepare_that_fails_for_one_is_asked_again_for_the_other() {
    let mut bench = Bench::new(own(1));
    let version = Version::V4;
    let (mut a, mut b) = (bench.open_own("a", version), bench.open_own("b", version));
    let mut c = bench.open_own("a", version);
    bench.turn();
    let lane = (0..bench.wires.len()).find(|lane| user_of(&bench, *lane) == "a").expect("a lane");
    let (node, _) = bench.info(lane);
    bench.nodes[node].refuse_prepare = Some("not for you");
    for caller in [&a, &b, &c] {
        bench.send(caller, &prepare(version, 3, READ));
    }
    bench.turn();
    assert_eq!(bench.asked(), 1, "they wait for the first one's");
    bench.settle();
    for caller in [&mut a, &mut c] {
        assert_eq!(bench.answers(caller)[0].error(), (ErrorCode::INVALID, "not for you".into()));
    }
    bench.answers(&mut b)[0].prepared();
    bench.engine.check_quiet();
}

#[test]
fn so_many_users_have_connections_and_the_others_are_told() {
    let mut settings = own(1);
    settings.clusters[0].principals_max = 2;
    let principals = Arc::new(Principals::default());
    let mut benches = [Bench::new(settings.clone()), Bench::new(settings)];
    benches.iter_mut().for_each(|bench| bench.engine.share_principals(principals.clone()));
    let [one, two] = &mut benches;
    let version = Version::V4;
    let a = one.open_own("a", version);
    let b = two.open_own("b", version);
    // over all workers; who is known has its place on each
    let (mut full, answer) = one.sign_in("c", "secret", version, &[]);
    let (code, words) = answer.error();
    assert_eq!(code, ErrorCode::INVALID);
    assert!(words.contains("principals_max (2)") && words.contains("principal_idle"), "{words}");
    assert_eq!(
        one.ask_text(&mut full, "SELECT v FROM shop.t WHERE k = 1").code(),
        Some(ErrorCode::PROTOCOL_ERROR)
    );
    assert_eq!(one.engine.client_closing(full.id), None::<CloseHow>, "it may try again");
    assert_eq!(one.engine.cluster_counts()[0].principals_refused, 1);
    let other = one.open_own("b", version);
    one.turn();
    assert_eq!(lanes(one).len(), 2);
    // a place is free when no worker has had a client of it for principal_idle
    one.engine.close_client(other.id, one.now);
    one.wait(IDLE);
    one.cut();
    assert_eq!(lanes(one).into_keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(principals.count("main"), 2);
    two.engine.close_client(b.id, two.now);
    two.wait(Span::secs(59));
    assert!(one.sign_in("c", "secret", version, &[]).1.code().is_some());
    let back = two.open_own("b", version);
    two.wait(Span::secs(30));
    assert_eq!(principals.count("main"), 2, "it was back in time");
    two.engine.close_client(back.id, two.now);
    assert!(two.engine.next_deadline().is_some_and(|due| due <= two.now.after(IDLE)));
    two.wait(IDLE);
    two.cut();
    assert_eq!((principals.count("main"), two.engine.lanes().count()), (1, 0));
    assert!(one.sign_in("c", "secret", version, &[]).1.code().is_none());
    one.engine.close_client(a.id, one.now);
    one.turn();
    one.engine.check_quiet();
    two.engine.check_quiet();
}

#[test]
fn credentials_that_are_refused_later_send_their_clients_away() {
    let principals = Arc::new(Principals::default());
    let mut bench = Bench::new(own(2));
    bench.engine.share_principals(principals.clone());
    let version = Version::V4;
    let (mut a, mut idle, mut b) =
        (bench.open_own("a", version), bench.open_own("a", version), bench.open_own("b", version));
    bench.turn();
    let of_a: Vec<usize> = (0..bench.wires.len()).filter(|lane| user_of(&bench, *lane) == "a").collect();
    // one request is at a node, one waits behind the limit of its connection
    bench.query(&a, 1, "SELECT v FROM shop.t WHERE k = 1");
    bench.turn();
    let kept = *of_a.iter().find(|lane| !bench.wires[**lane].asked.is_empty()).expect("asked");
    let lost = *of_a.iter().find(|lane| **lane != kept).expect("another");
    bench.lose(lost);
    bench.refuse(lost);
    bench.turn();
    // who has asked nothing hears it at once, the other one has its answer first
    let told = bench.answers(&mut idle);
    let (code, words) = told[0].error();
    assert_eq!(code, ErrorCode::BAD_CREDENTIALS);
    assert!(words.contains("credentials of a ") && !words.contains("secret"), "{words}");
    assert_eq!(bench.engine.client_closing(idle.id), Some(CloseHow::Protocol));
    assert_eq!(bench.engine.client_closing(a.id), None);
    bench.settle();
    assert_eq!(bench.answers(&mut a)[0].values(), ["shop.t/1"]);
    assert_eq!(bench.engine.client_closing(a.id), Some(CloseHow::Protocol));
    assert_eq!(principals.take_refused().collect::<Vec<_>>(), [("main".into(), "a".into())]);
    // the other user notices nothing; the place is free as soon as the clients are gone
    assert!(bench.ask_text(&mut b, "SELECT v FROM shop.t WHERE k = 1").code().is_none());
    bench.engine.close_client(a.id, bench.now);
    assert_eq!(principals.count("main"), 2);
    bench.engine.close_client(idle.id, bench.now);
    bench.turn();
    bench.cut();
    assert_eq!(principals.count("main"), 1);
    assert_eq!(lanes(&bench).into_keys().collect::<Vec<_>>(), ["b"]);

    // what waits for the first connection is answered
    bench.connect = false;
    let mut a = bench.open_own("a", version);
    bench.query(&a, 3, "SELECT v FROM shop.t WHERE k = 1");
    bench.turn();
    let new = (0..bench.wires.len()).find(|lane| bench.is_live(*lane) && user_of(&bench, *lane) == "a");
    bench.refuse(new.expect("a lane"));
    let answers = bench.answers(&mut a);
    assert_eq!((answers.len(), answers[0].stream()), (1, 3));
    assert_eq!(answers[0].code(), Some(ErrorCode::BAD_CREDENTIALS));
    assert_eq!(bench.engine.client_closing(a.id), Some(CloseHow::Protocol));
    // it signs in with a new password before the first client has gone: what is refused now may be the old one
    let (mut new_a, _) = bench.sign_in("a", "new", version, &[]);
    bench.engine.close_client(a.id, bench.now);
    bench.turn();
    let of_a: Vec<usize> =
        (0..bench.wires.len()).filter(|lane| bench.is_live(*lane) && user_of(&bench, *lane) == "a").collect();
    bench.refuse(of_a[0]);
    assert_eq!(bench.engine.client_closing(new_a.id), None);
    for lane in &of_a {
        bench.up(*lane);
    }
    assert!(bench.ask_text(&mut new_a, "SELECT v FROM shop.t WHERE k = 1").code().is_none());
    bench.wait(Span::secs(6)); // connect_timeout is over: now it is the new one
    bench.lose(of_a[0]);
    bench.refuse(of_a[0]);
    assert_eq!(bench.answers(&mut new_a)[0].code(), Some(ErrorCode::BAD_CREDENTIALS));
}

#[test]
fn nodes_are_asked_no_more_than_by_one() {
    let mut settings = own(1);
    settings.clusters[0].requests_in_flight = Operations(4);
    let mut bench = Bench::new(settings);
    let version = Version::V4;
    let users = ["a", "b", "c"];
    let mut callers: Vec<Caller> = users.iter().map(|user| bench.open_own(user, version)).collect();
    bench.turn();
    // one is first and takes all there is; the others get their share as it comes back
    for caller in &callers {
        for stream in 0..20 {
            bench.query(caller, stream, &format!("SELECT v FROM shop.t WHERE k = {stream}"));
        }
        bench.turn();
    }
    assert_eq!(users.map(|user| asked_by(&bench, user)), [4, 0, 0]);
    let mut served = BTreeMap::<String, usize>::new();
    for round in 0..36 {
        let busy = (0..bench.wires.len()).filter(|lane| !bench.wires[*lane].asked.is_empty());
        let lane = busy.min_by_key(|lane| served.get(&user_of(&bench, *lane)).copied()).expect("asked");
        *served.entry(user_of(&bench, lane)).or_default() += 1;
        bench.answer(lane, 0);
        bench.turn();
        assert!(bench.asked() <= 4, "in flight at the node");
        if round > 8 {
            assert!(users.iter().all(|user| asked_by(&bench, user) > 0), "everybody has a share");
        }
    }
    assert!(served.values().all(|count| *count >= 8), "{served:?}");
    bench.settle();
    for caller in &mut callers {
        assert_eq!(bench.answers(caller).len(), 20);
    }
    bench.engine.check_quiet();
}

#[test]
fn parts_are_sent_on_connections_of_their_own_and_bounded_together() {
    for version in VERSIONS {
        let mut settings = own(1);
        let cluster = &mut settings.clusters[0];
        (cluster.split, cluster.chunk_keys, cluster.chunks_in_flight) = (SplitChoice::On, 10, 4);
        cluster.chunks_beside_requests = 4;
        let mut bench = Bench::new(settings);
        let users = ["a", "b", "c"];
        let mut callers: Vec<Caller> = users.iter().map(|user| bench.open_own(user, version)).collect();
        let id = bench.prepare(&mut callers[0], MANY);
        for caller in &callers {
            bench.send(caller, &execute(version, 4, &id, &With::values(&[list(0..200)])));
            bench.turn();
        }
        assert_eq!(lanes(&bench)["b"], (1, 1), "a connection for parts each");
        let mut seen = BTreeMap::<String, usize>::new();
        while bench.asked() > 0 {
            assert!(bench.asked() <= 4, "parts in flight at the node");
            assert!(bench.engine.cluster_counts()[0].parts_in_flight <= 4);
            let lane =
                (0..bench.wires.len()).find(|lane| !bench.wires[*lane].asked.is_empty()).expect("asked");
            *seen.entry(user_of(&bench, lane)).or_default() += 1;
            bench.answer(lane, 0);
            bench.turn();
        }
        assert!(seen.values().all(|parts| *parts >= 20), "{seen:?}");
        for caller in &mut callers {
            assert_eq!(bench.answers(caller)[0].keys().len(), 200);
        }
        assert_eq!(bench.engine.cluster_counts()[0].split_ended.iter().sum::<u64>(), 3);
        bench.engine.check_quiet();
    }
}

#[test]
fn pools_follow_the_cluster_and_new_settings() {
    let mut bench = Bench::new(own(1));
    let version = Version::V4;
    let (mut a, b) = (bench.open_own("a", version), bench.open_own("b", version));
    bench.turn();
    let nodes: Vec<_> = (0..3).map(|n| node(n, "a/1")).collect();
    bench.engine.place(ClusterId(0), Map::of(nodes.clone(), 1).shared(), bench.now);
    bench.turn();
    bench.cut();
    assert_eq!(lanes(&bench), BTreeMap::from([("a".into(), (3, 0)), ("b".into(), (3, 0))]));
    let c = bench.open_own("c", version);
    bench.turn();
    assert_eq!(lanes(&bench)["c"], (3, 0), "who comes later knows the nodes as well");

    // another cluster before it, and other bounds
    let mut settings = own(1);
    let mut other = settings.clusters[0].clone();
    other.name = "other".into();
    settings.clusters.insert(0, other);
    settings.clusters[1].principal_idle = Span::secs(1);
    settings.listeners[0].backend = weir_engine::settings::Backend::Cluster(ClusterId(1));
    bench.engine.apply(Arc::new(settings), bench.now);
    bench.turn();
    for (_, info) in bench.engine.lanes() {
        assert_eq!(info.of, ClusterId(1));
    }
    assert!(bench.ask_text(&mut a, "SELECT v FROM shop.t WHERE k = 1").code().is_none());
    bench.engine.close_client(b.id, bench.now);
    bench.wait(Span::secs(1));
    bench.cut();
    assert_eq!(lanes(&bench).into_keys().collect::<Vec<_>>(), ["a", "c"]);
    bench.engine.place(ClusterId(1), Map::of(nodes[..2].to_vec(), 1).shared(), bench.now);
    bench.turn();
    bench.cut();
    assert_eq!(lanes(&bench), BTreeMap::from([("a".into(), (2, 0)), ("c".into(), (2, 0))]));
    let message = query(version, 5, "SELECT v FROM shop.t WHERE k = 1", &With::default());
    assert!(matches!(bench.ask(&mut a, &message).read(), Response::Result(_)));
    bench.engine.close_client(c.id, bench.now);
    bench.engine.close_client(a.id, bench.now);
    bench.wait(Span::secs(1));
    bench.cut();
    assert_eq!(bench.engine.lanes().count(), 0);
    bench.engine.check_quiet();
}
