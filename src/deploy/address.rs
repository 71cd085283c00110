//! One target as it is written: a way in and, after it, the directory if it isn't the environment's.

use super::error::Error;

/// A target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `user@host`, a host of the ssh configuration, or `ssh://user@host:port`.
    pub destination: String,
    /// Directory of the release there; `None` is the environment's.
    pub directory: Option<String>,
}

impl Address {
    /// Reads `user@host`, `user@host:port`, `user@host:/directory` or `ssh://user@host:port/directory`. `name`
    /// is where it is written, for the error.
    ///
    /// # Errors
    /// `ssh` would take it for an option, or the directory is no absolute one.
    pub fn parse(written: &str, name: &str) -> Result<Self, Error> {
        let odd = written.starts_with('-') || written.contains(|c: char| c.is_whitespace() || c.is_control());
        let (scheme, rest) = match written.strip_prefix("ssh://") {
            Some(rest) => ("ssh://", rest),
            None => ("", written),
        };
        let (host, directory) = match rest.split_once('/') {
            Some((host, directory)) if scheme.is_empty() => (host.strip_suffix(':'), Some(directory)),
            Some((host, directory)) => (Some(host), Some(directory).filter(|path| !path.is_empty())),
            None => (Some(rest), None),
        };
        let host = host.filter(|host| {
            let machine = host.rsplit_once('@').map_or(*host, |(_, machine)| machine);
            !odd && !machine.is_empty() && !machine.starts_with('-')
        });
        let Some(host) = host else {
            return Err(Error::refused(format!(
                "{name} is `{}`, which is not a host",
                written.escape_debug()
            ))
            .help(
                "use `user@host`, a host of your ssh configuration, or `ssh://user@host:port`; a directory \
                       of its own follows as in `user@host:/data/urf`",
            ));
        };
        let directory = directory.map(|path| check_directory(&format!("/{path}"), name)).transpose()?;
        let port = |(_, port): (&str, &str)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let plain = scheme.is_empty() && host.matches(':').count() == 1;
        let scheme = if plain && host.rsplit_once(':').is_some_and(port) { "ssh://" } else { scheme };
        Ok(Self { destination: format!("{scheme}{host}"), directory })
    }
}

/// A directory on a target: absolute, and not the root itself.
pub(super) fn check_directory(directory: &str, name: &str) -> Result<String, Error> {
    let trimmed = directory.trim_end_matches('/');
    let odd = trimmed.contains(char::is_control) || trimmed.split('/').any(|part| part == "..");
    if !trimmed.starts_with('/') || odd {
        let directory = directory.escape_debug();
        return Err(Error::refused(format!(
            "{name} has the directory `{directory}`, which is not an absolute path below `/`"
        ))
        .help("give the release a directory of its own, as `/data/urf`"));
    }
    Ok(trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_with_port_and_directory() {
        let cases = [
            ("urf@dev1", Some(("urf@dev1", None))),
            ("dev1", Some(("dev1", None))),
            ("urf@dev1:2222", Some(("ssh://urf@dev1:2222", None))),
            ("urf@dev1:/data/urf1/", Some(("urf@dev1", Some("/data/urf1")))),
            ("urf@dev1:2222:/data/urf1", Some(("ssh://urf@dev1:2222", Some("/data/urf1")))),
            ("ssh://urf@dev1:2222/data/urf1", Some(("ssh://urf@dev1:2222", Some("/data/urf1")))),
            ("ssh://dev1/", Some(("ssh://dev1", None))),
            ("-oProxyCommand=sh", None),
            ("urf@-oProxyCommand=sh", None),
            ("ssh://-oProxyCommand=sh", None),
            ("a b", None),
            ("", None),
            ("urf@", None),
            ("dev1/data", None),
            ("dev1:/", None),
            ("dev1:/a/../..", None),
        ];
        for (written, expected) in cases {
            let found = Address::parse(written, "`targets`").ok();
            let found = found.as_ref().map(|a| (a.destination.as_str(), a.directory.as_deref()));
            assert_eq!(found, expected, "{written}");
        }
    }
}
