//! Where the releases of an environment lie.

use std::path::Path;

use super::address::Address;
use super::error::Error;
use super::packages;
use super::settings::Settings;

/// One directory of a release on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The way in.
    pub destination: String,
    /// The directory there.
    pub directory: String,
    /// The release's name.
    pub name: String,
}

/// All places of an environment, in order. The project in the current directory tells the release's name.
///
/// # Errors
/// The project can't be read.
pub fn all(settings: &Settings) -> Result<Vec<Place>, Error> {
    let (name, _) = packages::identity(Path::new("."), &settings.profile)?;
    let place = |address: &Address| Place {
        destination: address.destination.clone(),
        directory: settings.directory_of(address, &name),
        name: name.clone(),
    };
    Ok(settings.targets.iter().map(place).collect())
}
