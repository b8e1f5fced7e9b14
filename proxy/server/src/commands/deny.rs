//! `weir deny` and `weir allow`.

use super::{Failure, client, print_outcome};
use crate::admin::plane::{Deny, Outcome};
use crate::cli::{AllowArgs, DenyArgs};
use hyper::Method;

pub(super) async fn deny(args: &DenyArgs) -> Result<u8, Failure> {
    let seconds = Some(args.duration.0 / 1_000_000);
    let body = Deny { method: args.method.clone(), for_seconds: seconds, why: args.why.clone() };
    let outcome: Outcome = client(&args.admin)?.send(Method::POST, "/deny", &body).await?;
    print_outcome(&outcome, args.json)
}

pub(super) async fn allow(args: &AllowArgs) -> Result<u8, Failure> {
    let body = Deny { method: args.method.clone(), for_seconds: None, why: None };
    let outcome: Outcome = client(&args.admin)?.send(Method::POST, "/deny", &body).await?;
    print_outcome(&outcome, args.json)
}
