//! `[service.NAME]` from the outside: what it says about files with problems (golden), and where methods come from.

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
