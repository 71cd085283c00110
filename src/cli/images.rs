//! `ci images`: the container images on this machine.

use super::{Format, print_json, print_raw};
use crate::error::{CliError, CliResult};
use crate::settings::{Settings, State};
use anstream::eprintln;
use clap::Subcommand;
use runners::image::{Image, ImageError, Listed, Platform, PullPolicy, Store, Told, Wanted};
use runners::sandbox::Sandbox;
use std::future::Future;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Bytes between two lines of progress.
const STEP: u64 = 1 << 20;

#[derive(clap::Args)]
pub(super) struct ImagesArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// How the list is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Subcommand)]
enum Verb {
    /// Fetch an image from its registry, or its newest version
    Pull {
        /// `debian:bookworm`, `registry.example.org/group/image@sha256:...`
        name: String,
        /// Platform, if not this machine's: `linux/arm64`
        #[arg(long)]
        platform: Option<Platform>,
    },
    /// Remove images
    Rm {
        /// As `ci images` shows them
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Take an image from a file: of `docker save`, an OCI layout (also a directory), or a root file system as tar
    Import {
        /// The file or directory; gzip and zstd are undone
        file: PathBuf,
        /// Name that jobs use [default: the one in the file]
        #[arg(long)]
        name: Option<String>,
    },
}

pub(super) fn run(args: &ImagesArgs) -> CliResult {
    match &args.verb {
        None => list(args.format),
        Some(Verb::Pull { name, platform }) => {
            let auth_config = std::env::var("DOCKER_AUTH_CONFIG").ok();
            let wanted = Wanted {
                name,
                policies: &[PullPolicy::Always],
                platform: platform.as_ref(),
                auth_config: auth_config.as_deref(),
            };
            let progress = Progress::default();
            let tell = move |told| progress.tell(told);
            with_store(async |store| show(&store.get(&wanted, &tell).await.map_err(failed)?))
        }
        Some(Verb::Rm { names }) => with_store(async |store| remove(&store, names).await),
        Some(Verb::Import { file, name }) => with_store(async |store| {
            let progress = Progress::default();
            let tell = move |told| progress.tell(told);
            show(&store.import(file, name.as_deref(), &tell).await.map_err(failed)?)
        }),
    }
}

/// The store, as this directory's settings have it.
fn open() -> CliResult<Store> {
    let here =
        std::env::current_dir().map_err(|e| CliError::usage(format!("finding this directory: {e}")))?;
    let root = here.ancestors().find(|dir| dir.join(".git").exists()).unwrap_or(&here);
    let registries = Settings::load(root)?.registries.into_inner();
    Store::open(&State::images()?, Sandbox::default(), registries).map_err(failed)
}

fn with_store<F: Future<Output = CliResult>>(work: impl FnOnce(Store) -> F) -> CliResult {
    let runtime = super::runtime::runtime()?;
    let store = open()?;
    runtime.block_on(async {
        tokio::select! {
            done = work(store) => done,
            _ = tokio::signal::ctrl_c() => Err(CliError::new(crate::error::ErrorKind::Canceled, "canceled")),
        }
    })
}

fn failed(error: ImageError) -> CliError {
    let error = match error {
        // the one policy that was asked for is no news here
        ImageError::Policies { last, .. } => *last,
        other => other,
    };
    match &error {
        ImageError::Name { .. } => CliError::usage(error.to_string()),
        ImageError::Unreachable { registry, reason } if reason.contains("certificate") => {
            CliError::failed(error.to_string()).hint(format!(
                "its authority's file: `registries: {{\"{registry}\": {{ca: /path}}}}` in `.ci/settings.yml`, or \
                 `/etc/docker/certs.d/{registry}/ca.crt`"
            ))
        }
        ImageError::Unreachable { registry, reason } if !reason.contains("refused") => CliError::failed(error.to_string()).hint(format!(
            "a registry without TLS needs `registries: {{\"{registry}\": {{http: true}}}}` in `.ci/settings.yml`"
        )),
        _ => CliError::failed(error.to_string()),
    }
}

async fn remove(store: &Store, names: &[String]) -> CliResult {
    let mut absent = Vec::new();
    for name in names {
        if store.remove(name).await.map_err(failed)? {
            print_raw(format!("removed {name}\n").as_bytes())?;
        } else {
            absent.push(format!("`{name}`"));
        }
    }
    match absent.is_empty() {
        true => Ok(()),
        false => {
            let text = format!("there is no image {} on this machine", absent.join(", "));
            Err(CliError::failed(text).hint("`ci images` lists them"))
        }
    }
}

fn show(image: &Image) -> CliResult {
    print_raw(format!("{} {}\n", image.reference, image.digest).as_bytes())
}

fn list(format: Format) -> CliResult {
    let store = open()?;
    let listed = store.list().map_err(failed)?;
    if format == Format::Json {
        return print_json(&listed.iter().map(json).collect::<Vec<_>>());
    }
    if listed.is_empty() {
        return print_raw(b"no images; `ci run` and `ci images pull NAME` fetch them\n");
    }
    print_raw(table(&listed, store.bytes().map_err(failed)?, SystemTime::now()).as_bytes())
}

fn json(image: &Listed) -> serde_json::Value {
    let used = image.used.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let used = jiff::Timestamp::from_second(i64::try_from(used.as_secs()).unwrap_or(0)).unwrap_or_default();
    serde_json::json!({
        "name": image.name, "platform": image.platform, "digest": image.digest, "bytes": image.bytes,
        "last_used": used.to_string(),
    })
}

fn table(listed: &[Listed], bytes: u64, now: SystemTime) -> String {
    let rows: Vec<[String; 4]> = listed
        .iter()
        .map(|image| {
            let since = now.duration_since(image.used).unwrap_or_default();
            [short(&image.name).to_owned(), image.platform.clone(), size(image.bytes), ago(since)]
        })
        .collect();
    let head = ["NAME", "PLATFORM", "SIZE", "LAST USED"].map(str::to_owned);
    let width = |column: usize| {
        rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let (name, platform, bytes_width) = (width(0), width(1), width(2));
    let mut text = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        text.push_str(&format!(
            "{:name$}  {:platform$}  {:>bytes_width$}  {}\n",
            row[0], row[1], row[2], row[3]
        ));
    }
    let noun = if listed.len() == 1 { "image" } else { "images" };
    text.push_str(&format!("{} {noun}, {} on disk\n", listed.len(), size(bytes)));
    text
}

/// As people write it.
fn short(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

#[allow(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 999.5
        && let Some(larger) = units.next()
    {
        value /= 1000.0;
        unit = larger;
    }
    if unit == "B" || value >= 99.95 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

fn ago(since: Duration) -> String {
    let seconds = since.as_secs();
    let (number, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{} ago", if number == 1 { "" } else { "s" })
}

/// Tells on standard error, on terminals also how far it is.
#[derive(Default)]
struct Progress {
    shown: AtomicU64,
}

impl Progress {
    fn tell(&self, told: Told) {
        match told {
            Told::Line(line) => eprintln!("{line}"),
            Told::Warning(line) => eprintln!("warning: {line}"),
            Told::Received { received, total } => {
                let shown = self.shown.load(Ordering::Relaxed);
                if std::io::stderr().is_terminal() && (received >= shown + STEP || received == total) {
                    self.shown.store(received, Ordering::Relaxed);
                    let end = if received == total { "\n" } else { "\r" };
                    anstream::eprint!("  {} of {}   {end}", size(received), size(total));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_for_people() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let image = |name: &str, bytes, since| Listed {
            name: name.to_owned(),
            platform: "linux/amd64".to_owned(),
            digest: String::new(),
            bytes,
            used: now - Duration::from_secs(since),
        };
        let listed = [
            image("docker.io/library/debian:bookworm", 171_138_560, 5),
            image("registry.lan:5000/a/b:1", 1_940, 7_200),
        ];
        let expected = "\
NAME                     PLATFORM       SIZE  LAST USED
debian:bookworm          linux/amd64  171 MB  just now
registry.lan:5000/a/b:1  linux/amd64  1.9 kB  2 hours ago
2 images, 171 MB on disk
";
        assert_eq!(table(&listed, 171_140_510, now), expected);
        assert_eq!(
            [size(0), size(999), size(999_999), size(12_345_678)],
            ["0 B", "999 B", "1.0 MB", "12.3 MB"]
        );
        assert_eq!(ago(Duration::from_secs(86_400)), "1 day ago");
    }
}
