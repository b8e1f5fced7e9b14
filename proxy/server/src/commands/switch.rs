//! `weir switch`.

use super::{Failure, client, print_outcome};
use crate::admin::plane::{Outcome, Switch};
use crate::cli::{Position, SwitchArgs};
use hyper::Method;

pub(super) async fn run(args: &SwitchArgs) -> Result<u8, Failure> {
    let body = Switch {
        feature: args.feature,
        on: args.position == Position::On,
        listener: args.listener.clone(),
        for_seconds: args.duration.map(|span| span.0 / 1_000_000),
        why: args.why.clone(),
    };
    let outcome: Outcome = client(&args.admin)?.send(Method::POST, "/switch", &body).await?;
    print_outcome(&outcome, args.json)
}
