//! `ci rollback`: puts the version before back on an environment's targets.

use std::path::Path;

use anstream::eprintln;

use super::deploy::{VARIABLES, cli_error, settings, show};
use super::runtime::runtime;
use super::{history, print_raw};
use crate::deploy::{self, Care, Error, Kind, Outcome, Settings, Steps, Target, place, service};
use crate::error::CliResult;

/// Go back to the version that ran before, or to another that is still installed: by its relup where there is one,
/// so that the node and its state stay, else by a restart. What is left behind is marked bad: it is not deployed
/// there again until `ci env clear`
#[derive(clap::Args)]
#[command(after_long_help = VARIABLES)]
pub(super) struct RollbackArgs {
    /// Environment, as `dev`
    #[arg(value_name = "ENV")]
    environment: String,
    /// Version to go back to [default: the one before]
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
}

pub(super) fn run(args: &RollbackArgs) -> CliResult {
    let settings = settings(&args.environment)?;
    let kind = service::of(Path::new("."), &settings);
    let care = Care::of(&settings).map_err(cli_error)?;
    let mut steps = Steps::new(show);
    let places = place::all(&settings).map_err(cli_error)?;
    runtime()?.block_on(async {
        let mut failed = None;
        for place in &places {
            match one(place, &mut steps, (&settings, kind), (args.to.as_deref(), &care)).await {
                Ok(Back { left, now, well }) => {
                    if let Err(error) = history::record_return(&args.environment, place, &left, &now) {
                        eprintln!("warning: this is not in the ledger: {error}");
                    }
                    if let Err(error) = well {
                        failed = Some(told(failed, place, error, places.len()));
                        continue;
                    }
                    let line = format!(
                        "{} ({}): {} {now} runs again\n",
                        args.environment, place.destination, place.name
                    );
                    print_raw(line.as_bytes())?;
                }
                Err(error) => failed = Some(told(failed, place, error, places.len())),
            }
        }
        failed.map_or(Ok(()), |error| Err(cli_error(error)))
    })
}

/// A target that went back.
struct Back {
    left: String,
    now: String,
    well: Result<(), Error>,
}

async fn one(
    place: &place::Place,
    steps: &mut Steps,
    (settings, kind): (&Settings, Option<Kind>),
    (to, care): (Option<&str>, &Care),
) -> Result<Back, Error> {
    let mut target = Target::connect(&place.destination, &place.directory, &place.name).await?;
    let back = match kind {
        Some(kind) => service::back(&mut target, steps, &settings.rules, kind, to)
            .await
            .map(|(left, now)| Back { left, now, well: Ok(()) }),
        None => deploy::back(&mut target, steps, to, care).await.map(|back| Back {
            now: back.survey.installed.running().unwrap_or_default().to_owned(),
            left: back.left,
            well: back.well,
        }),
    };
    target.close().await;
    back
}

/// Shows an error that will not be the last word, or is one of several targets'.
fn told(so_far: Option<Error>, place: &place::Place, error: Error, targets: usize) -> Error {
    if so_far.is_some() || targets > 1 {
        eprintln!("{}: {error}", place.destination);
    }
    worse(so_far, error)
}

fn worse(so_far: Option<Error>, next: Error) -> Error {
    let rank = |error: &Error| matches!(error.outcome, Outcome::Restarted | Outcome::RolledBack);
    match so_far {
        Some(error) if rank(&error) || !rank(&next) => error,
        _ => next,
    }
}
