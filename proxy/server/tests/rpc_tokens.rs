//! Service tokens through a running weir: a verified one names its caller, with limits of its own; any other names nobody
//! and is counted; all of them reach the service as they came.

mod support;
mod support_rpc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use k256::ecdsa::SigningKey;
use k256::ecdsa::signature::Signer as _;
use support::{Weir, eventually};
use support_rpc::{Grpc, POSTS, Service, elements};

const ISSUER: &str = "did:plc:z72i7hdynmk6r22z27h6tvur";
const AUDIENCE: &str = "did:web:api.weir.test";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).expect("a scalar")
}

fn did_key(key: &SigningKey) -> String {
    let point = key.verifying_key().to_encoded_point(true);
    format!("did:key:z{}", bs58::encode([&[0xe7, 0x01], point.as_bytes()].concat()).into_string())
}

/// `Bearer ...`, good for this many seconds.
fn bearer(key: &SigningKey, issuer: &str, audience: &str, seconds: i64) -> String {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let until = now.saturating_add_signed(seconds);
    let claims = format!(r#"{{"iss":"{issuer}","aud":"{audience}","exp":{until},"lxm":"{POSTS}"}}"#);
    let head = BASE64_URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ES256K"}"#);
    let signed = format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims));
    let signature: k256::ecdsa::Signature = key.sign(signed.as_bytes());
    format!("Bearer {signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

fn file(service: &Service, listener: &str, callers: &str) -> String {
    format!(
        "[service.dataplane]\nservers = [\"127.0.0.1:{}\"]\npreset = \"bsky\"\nsplit = false\n\
         [listener.edge]\naddress = \"127.0.0.1:{{port}}\"\nservice = \"dataplane\"\n{listener}{callers}",
        service.port
    )
}

fn audience() -> String {
    format!("jwt_audiences = [\"did:web:else.weir.test\", \"{AUDIENCE}\"]\n")
}

fn caller(name: &str, key: &SigningKey, more: &str) -> String {
    format!("[callers.\"{name}\"]\njwt_keys = [\"{}\"]\n{more}", did_key(key))
}

fn counted(weir: &Weir, result: &str) -> f64 {
    weir.series("weir_tokens_total", &[("listener", "edge"), ("result", result)]).unwrap_or(0.0)
}

#[test]
fn a_signed_token_names_its_caller_and_passes_on() {
    let (signs, stranger) = (key(7), key(8));
    let service = Service::start(1, None);
    let limits = "operations_per_request = 10\nmode = \"refuse\"\n";
    let text = file(&service, &audience(), &caller(ISSUER, &signs, limits));
    let weir = Weir::with_file(&text);
    let mut client = Grpc::over_tcp(weir.port);
    let good = bearer(&signs, ISSUER, AUDIENCE, 60);
    // what a caller says of itself beside its token is nothing
    let headers = [("authorization", good.as_str()), ("x-atlantis-caller", "somebody")];
    client.call(POSTS, elements(3), &headers).expect("answered");
    client.call(POSTS, elements(4), &headers).expect("answered");
    let seen = service.seen();
    assert_eq!(seen[0].headers["authorization"], good.as_str(), "untouched");
    assert!(!seen[0].headers.contains_key("x-atlantis-caller"));
    let own = [("caller", ISSUER), ("protocol", "grpc")];
    eventually("both are its own", || weir.series("weir_operations_total", &own) == Some(7.0));
    assert_eq!((counted(&weir, "ok"), weir.series("weir_token_checks_total", &[])), (2.0, Some(1.0)));
    assert_eq!(weir.series("weir_bound", &[("name", "jwt_cached_max")]), Some(4_096.0));
    let refused = client.call(POSTS, elements(11), &headers).expect_err("its own limit");
    assert!(refused.message().contains(ISSUER), "{refused:?}");

    for (token, why) in [
        (bearer(&stranger, ISSUER, AUDIENCE, 60), "signature"),
        (bearer(&signs, ISSUER, "did:web:weir.test", 60), "audience"),
        (bearer(&signs, "did:plc:nobody", AUDIENCE, 60), "issuer"),
        (bearer(&signs, ISSUER, AUDIENCE, -1), "expired"),
        ("Bearer opaque".to_owned(), "malformed"),
    ] {
        let headers = [("authorization", token.as_str())];
        client.call(POSTS, elements(11), &headers).expect("nobody's limit");
        assert_eq!(service.seen().last().expect("seen").headers["authorization"], token.as_str());
        assert_eq!(counted(&weir, why), 1.0, "{why}");
    }
    let elsewhere = [("authorization", good.as_str())];
    client.call("bsky.Service/GetLikeRecords", elements(11), &elsewhere).expect("nobody's limit");
    assert_eq!(counted(&weir, "method"), 1.0);
    let nobody = [("caller", "edge"), ("protocol", "grpc")];
    eventually("they are the listener's", || weir.series("weir_operations_total", &nobody) == Some(66.0));
    assert_eq!(weir.series("weir_operations_total", &[("caller", "did:plc:nobody")]), None);
    let row = weir.control("/callers").to_string();
    assert!(row.contains(&format!("\"principal\":\"{ISSUER}\"")) && !row.contains("somebody"), "{row}");
}

#[test]
fn a_reload_changes_keys_and_forgets_what_they_vouched_for() {
    let (old, new) = (key(7), key(8));
    let service = Service::start(1, None);
    let by = |key: &SigningKey| {
        let issuer = format!("jwt_issuer = \"{ISSUER}#pds\"\n");
        file(&service, &audience(), &caller("pds", key, &issuer))
    };
    let weir = Weir::with_file(&by(&old));
    let mut client = Grpc::over_tcp(weir.port);
    let token = bearer(&old, &format!("{ISSUER}#pds"), AUDIENCE, 60);
    let mut call = || client.call(POSTS, elements(1), &[("authorization", &token)]).expect("answered");
    call();
    eventually("a name of the file", || {
        weir.series("weir_operations_total", &[("caller", "pds")]) == Some(1.0)
    });
    weir.rewrite(&by(&new));
    weir.hang_up();
    eventually("the old key vouches for nobody", || {
        call();
        counted(&weir, "signature") > 0.0
    });
}

#[test]
fn without_audiences_no_token_is_looked_at() {
    let signs = key(7);
    let service = Service::start(1, None);
    let weir = Weir::with_file(&file(&service, "", &caller(ISSUER, &signs, "")));
    let token = bearer(&signs, ISSUER, AUDIENCE, 60);
    Grpc::over_tcp(weir.port).call(POSTS, elements(3), &[("authorization", &token)]).expect("answered");
    let own = [("caller", "edge"), ("protocol", "grpc")];
    eventually("it is the listener's", || weir.series("weir_operations_total", &own) == Some(3.0));
    assert_eq!(weir.series("weir_tokens_total", &[]), None);
}
