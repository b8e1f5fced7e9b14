//! `[service.NAME]` from the outside: what it says about files with problems (golden), where methods come from, what a check tells.

use std::path::Path;
use weir::cli::{Route, RunArgs};
use weir::config::address::parse_address;
use weir::config::{Config, Host, effective};
use weir_engine::settings::Backend;
use weir_engine::units::ServiceId;

fn read(text: &str) -> Result<Config, String> {
    Config::from_text("weir.toml", text, &Host::default()).map_err(|problems| problems.to_string())
}

#[test]
fn every_problem_of_services_is_told_at_once() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let text = std::fs::read_to_string(folder.join("services.toml")).expect("the file is there");
    let actual = format!("{}\n", read(&text).expect_err("little in it is right"));
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(folder.join("services.txt"), &actual).expect("the golden file can be written");
    }
    let expected = std::fs::read_to_string(folder.join("services.txt")).expect("the golden file is there");
    assert!(expected == actual, "services.txt differs (WEIR_BLESS=1 writes it):\n{actual}");
}

#[test]
fn a_preset_and_files_describe_the_methods_of_a_service() {
    let text = "[service.dataplane]\nservers = [\"127.0.0.1:3000\"]\npreset = \"bsky\"\n\
                [listener.dataplane]\naddress = \"127.0.0.1:3100\"\n";
    let config = read(text).expect("good");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.settings.listeners[0].backend, Backend::Service(ServiceId(0)), "the only one there is");
    let table = &config.services[0].1.0;
    let posts = table.find("/bsky.Service/GetPostRecords").expect("described");
    assert_eq!(posts.keys.iter().map(|key| &**key).collect::<Vec<_>>(), ["uris"]);
    assert!(config.settings.services[0].methods.iter().any(|name| **name == *posts.name));
    let again = read(&effective::to_toml(&config)).expect("the effective configuration is good");
    assert_eq!(again.hash, config.hash);
    let idle = |config: &Config| config.settings.listeners[0].idle_timeout.0 / 1_000_000;
    assert_eq!((idle(&config), idle(&again)), (900, 900), "idle clients are not kept for ever");
    assert_eq!(
        idle(&read(&format!("{text}idle_timeout = \"0s\"\n")).expect("good")),
        0,
        "unless it is asked for"
    );

    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let proto = file(
        "a.proto",
        "syntax = \"proto3\"; package a; message Q { repeated string ids = 1; } message R { repeated string rows = 1; } \
         service S { rpc Many(Q) returns (R); rpc One(Q) returns (R); }",
    );
    let methods = file("methods.toml", "[method.\"a.S/Many\"]\nkeys = [\"ids\"]\n");
    let host = Host { files: true, ..Host::default() };
    let text = format!(
        "[service.a]\nservers = [\"127.0.0.1:3000\"]\nprotos = [\"{proto}\"]\nmethods = \"{methods}\"\n\
         [listener.a]\naddress = \"127.0.0.1:3100\"\n"
    );
    let config = Config::from_text("weir.toml", &text, &host).expect("good");
    let names: Vec<&str> = config.services[0].1.0.methods().map(|method| &*method.name).collect();
    assert_eq!(names, ["a.S/Many", "a.S/One"]);
    file(
        "methods.toml",
        "[method.\"a.S/Mny\"]\nkeys = [\"ids\"]\n[method.\"a.S/Many\"]\nkeys = [\"uris\"]\n",
    );
    let problems = Config::from_text("weir.toml", &text, &host).expect_err("two mistakes");
    assert_eq!(problems.errors(), 2, "{problems}");
    assert!(problems.to_string().contains("did you mean `a.S/Many`?"), "{problems}");
}

#[test]
fn services_come_from_flags_too() {
    let rpc = Route {
        listen: parse_address("127.0.0.1:3100").expect("one"),
        servers: vec![parse_address("127.0.0.1:3000").expect("one")],
    };
    let args = RunArgs { rpc: vec![rpc], rpc_preset: Some("bsky".to_owned()), ..RunArgs::default() };
    let config = Config::from_flags(&args).expect("good");
    assert_eq!(&*config.settings.services[0].name, "rpc");
    assert!(config.settings.services[0].methods.len() >= 41);
    let problems =
        Config::from_flags(&RunArgs { rpc_preset: Some("x".to_owned()), ..args }).expect_err("no preset");
    assert!(problems.to_string().contains("the presets are bsky"), "{problems}");
}

#[test]
fn a_check_tells_the_bounds_of_kept_answers_and_of_listeners() {
    let text = "[service.dataplane]\nservers = [\"127.0.0.1:3000\"]\npreset = \"bsky\"\ncache_paths = [\"/xrpc/\", \"/img\"]\n\
                cache_bytes_max = \"128MiB\"\ncache_ttl_max = \"90s\"\n\
                [listener.dataplane]\naddress = \"127.0.0.1:3100\"\nidle_timeout = \"2m\"\njwt_audiences = [\"did:web:a.test\"]\n";
    let told = weir::check::bounds(&read(text).expect("good"));
    for line in [
        "  keeps answers under /xrpc/, /img: 128MiB and 32MiB on their way; 10_000 answers of at most 1MiB; fresh for 90s at \
         most, stale for 10m",
        "  a key also has accept-language, atproto-accept-labelers, atproto-proxy; 1_024 requests wait for another one's \
         answer, 5s at most; 16 answers asked for again at once",
        "listener dataplane: 127.0.0.1:3100 -> dataplane; HTTP/1.1 and HTTP/2; one principal (dataplane); service tokens are read",
        "  at most 20_000 connections (20_000 per principal), closed after 2m without a call; 8_192 calls under way, 250 on one \
         connection; headers of 64KiB",
    ] {
        assert!(told.lines().any(|told| told == line), "no {line:?} in\n{told}");
    }
    assert!(
        !weir::check::bounds(&read(&text.replace("cache_paths", "# ")).expect("good"))
            .contains("keeps answers")
    );
}
