//! `ci server init`, `backup`, `restore`.

use super::print_raw;
use super::runtime::runtime;
use crate::error::{CliError, CliResult};
use crate::server::config::Config;
use crate::server::ops::backup;
use std::io::Write;
use std::path::Path;

/// Every setting, explained; all have their defaults.
const EXAMPLE: &str = include_str!("../../examples/server.yml");

pub(super) fn init(file: &Path) -> CliResult {
    let doing = |e: std::io::Error| CliError::usage(format!("writing `{}`: {e}", file.display()));
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(file);
    made.and_then(|mut file| file.write_all(EXAMPLE.as_bytes())).map_err(doing)?;
    let text = format!(
        "wrote {0}\nnext: `ci server --config {0}`; it prints the address where you sign in as `admin` the first time\n",
        file.display()
    );
    print_raw(text.as_bytes())
}

pub(super) fn backup(config: &Config, file: &Path, with_key: bool) -> CliResult {
    let made = runtime()?.block_on(backup::backup(config, file, with_key));
    let made = made.map_err(|e| CliError::failed(format!("backing up to `{}`: {e}", file.display())))?;
    let rows: u64 = made.tables.values().map(|table| table.rows).sum();
    let key = match with_key {
        true => "with the key of the secrets: keep it as safe as those",
        false => {
            "without the key of the secrets: keep `key` of the data directory elsewhere, or they are lost"
        }
    };
    let text = format!(
        "{}: {rows} rows, {} files, {key}\nproved: restored and compared\n",
        file.display(),
        made.files
    );
    print_raw(text.as_bytes())
}

pub(super) fn restore(config: &Config, file: &Path) -> CliResult {
    let made = runtime()?.block_on(backup::restore(file, config));
    let made = made.map_err(|e| CliError::failed(format!("restoring `{}`: {e}", file.display())))?;
    let data = config.data.display();
    let key = match made.key {
        true => String::new(),
        false => format!("next: put the old `key` into {data}; without it no secret can be read\n"),
    };
    let text = format!("restored what was there at {} into {data}, and compared it\n{key}", made.at);
    print_raw(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_holds_every_setting_with_its_default() {
        let config: Config = serde_yaml::from_str(EXAMPLE).unwrap();
        let value = |config: &Config| serde_json::to_value(config).unwrap();
        assert_eq!(value(&config), value(&Config::default()));
        for name in value(&config).as_object().unwrap().keys() {
            let written =
                EXAMPLE.lines().any(|l| l.trim_start_matches("# ").starts_with(&format!("{name}:")));
            assert!(written, "`{name}` is not in examples/server.yml");
        }
    }
}
