//! `jwt_*` from the outside: what is said about a file with problems (golden), and what a good one means.

use std::path::Path;
use weir::config::{Config, Host, effective};

fn read(text: &str) -> Result<Config, String> {
    Config::from_text("weir.toml", text, &Host::default()).map_err(|problems| problems.to_string())
}

#[test]
fn every_problem_of_tokens_is_told_at_once() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let text = std::fs::read_to_string(folder.join("tokens.toml")).expect("the file is there");
    let actual = format!("{}\n", read(&text).expect_err("little in it is right"));
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(folder.join("tokens.txt"), &actual).expect("the golden file can be written");
    }
    let expected = std::fs::read_to_string(folder.join("tokens.txt")).expect("the golden file is there");
    assert!(expected == actual, "tokens.txt differs (WEIR_BLESS=1 writes it):\n{actual}");
}

const LISTENER: &str = "[service.dataplane]\nservers = [\"127.0.0.1:3000\"]\n\
                        [listener.views]\naddress = \"127.0.0.1:3100\"\n";
const AUDIENCES: &str =
    "jwt_audiences = [\"did:web:api.weir.test\", \"did:web:api.weir.test#bsky_appview\"]\n";
const KEY: &str = "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme";

#[test]
fn issuers_and_audiences_are_read_and_shown() {
    let callers = format!(
        "[callers.\"did:plc:abc\"]\njwt_keys = [\"{KEY}\"]\n\
         [callers.pds]\njwt_issuer = \"did:web:pds.weir.test%3A3000#pds\"\njwt_keys = [\"{KEY}\"]\n"
    );
    let config = read(&format!("{LISTENER}{AUDIENCES}{callers}")).expect("good");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let issuers: Vec<_> = config.issuers.iter().map(|issuer| (&*issuer.issuer, &*issuer.caller)).collect();
    assert_eq!(issuers, [("did:plc:abc", "did:plc:abc"), ("did:web:pds.weir.test%3A3000#pds", "pds")]);
    assert_eq!(config.doors[0].tokens.audiences.len(), 2);
    let again = read(&effective::to_toml(&config)).expect("the effective configuration is good");
    assert_eq!((again.hash, &again.issuers), (config.hash, &config.issuers));
}

#[test]
fn half_of_it_is_warned_of() {
    let caller = format!("[callers.\"did:plc:abc\"]\njwt_keys = [\"{KEY}\"]\n");
    for (text, warning) in [
        (format!("{LISTENER}{caller}"), "no listener looks at tokens"),
        (format!("{LISTENER}{AUDIENCES}"), "no section of [callers] has jwt_keys"),
        (format!("{LISTENER}jwt_cached_max = 7\n"), "has no effect without jwt_audiences"),
    ] {
        let warnings = format!("{:?}", read(&text).expect("good").warnings);
        assert!(warnings.contains(warning), "no {warning:?} in {warnings}");
    }
}
