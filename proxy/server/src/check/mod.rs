//! `weir check`: every problem of a file at once, the bounds it sets, and what it would change about a running weir.
//!
//! Exit codes: 0 the file is good; 1 it has errors, or listeners would be lost; 2 the file cannot be read or the running
//! weir cannot be asked.

mod against;
mod bounds;

pub use against::{Comparison, RingMove, SAMPLE_KEYS, compare};
pub use bounds::bounds;

use crate::admin::client::Client;
use crate::admin::model::ConfigReport;
use crate::cli::CheckArgs;
use crate::config::problem::file_name;
use crate::config::{Config, Host, Problems};
use serde_json::json;

/// What a check prints, and its exit code.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// For standard output.
    pub text: String,
    /// See the module.
    pub code: u8,
}

/// Checks as the command line says.
pub async fn run(args: &CheckArgs) -> Verdict {
    let name = file_name(&args.file);
    if let Err(error) = std::fs::File::open(&args.file) {
        return failed(args, &format!("{name} cannot be opened: {error}"));
    }
    let config = match Config::from_file(&args.file) {
        Ok(config) => config,
        Err(problems) => return with_problems(args, &problems),
    };
    let comparison = match &args.against {
        None => None,
        Some(_) => match running(args).await {
            Ok((report, running)) => Some((report, compare(&running, &config))),
            Err(why) => return failed(args, &why),
        },
    };
    let lost = comparison.as_ref().is_some_and(|(_, found)| !found.listeners_lost.is_empty());
    let text = if args.json {
        let shown = json!({
            "ok": true,
            "hash": config.hash.to_string(),
            "problems": config.warnings.iter().map(|warning| warning.to_json()).collect::<Vec<_>>(),
            "against": comparison.as_ref().map(|(report, found)| found.to_json(report)),
        });
        format!("{shown}\n")
    } else {
        let mut text: String = config.warnings.iter().map(|warning| format!("{warning}\n")).collect();
        text.push_str(&format!("{name}: ok\n\n{}", bounds(&config)));
        if let Some((report, found)) = &comparison {
            text.push_str(&format!("\n{}", found.to_text(report)));
        }
        text
    };
    Verdict { text, code: u8::from(lost) }
}

fn with_problems(args: &CheckArgs, problems: &Problems) -> Verdict {
    let text = if args.json {
        let all: Vec<_> = problems.0.iter().map(|problem| problem.to_json()).collect();
        format!("{}\n", json!({ "ok": false, "problems": all }))
    } else {
        format!("{problems}\n")
    };
    Verdict { text, code: 1 }
}

fn failed(args: &CheckArgs, why: &str) -> Verdict {
    let text = if args.json { format!("{}\n", json!({ "error": why })) } else { format!("error: {why}\n") };
    Verdict { text, code: 2 }
}

/// The configuration of the running weir, without this machine's say: it may run elsewhere.
async fn running(args: &CheckArgs) -> Result<(ConfigReport, Config), String> {
    let client = Client::new(args.against.as_ref(), args.admin_token_file.as_deref())
        .map_err(|error| error.to_string())?;
    let report: ConfigReport = client.get("/config").await.map_err(|error| error.to_string())?;
    let config = Config::from_text("running", &report.toml, &Host::default()).map_err(|problems| {
        format!("the running weir's configuration is not understood (another version?):\n{problems}")
    })?;
    Ok((report, config))
}
