//! `weir cache purge`.

use super::{Failure, client, print_outcome};
use crate::admin::plane::{Outcome, PurgeCache};
use crate::cli::{CacheArgs, CacheCommand};
use hyper::Method;

pub(super) async fn run(args: &CacheArgs) -> Result<u8, Failure> {
    let CacheCommand::Purge(args) = &args.command;
    let body = PurgeCache {
        service: args.service.clone(),
        path: args.path.clone(),
        all: args.all,
        why: args.why.clone(),
    };
    let outcome: Outcome = client(&args.admin)?.send(Method::POST, "/cache/purge", &body).await?;
    print_outcome(&outcome, args.json)
}
