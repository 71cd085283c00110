//! Paths of projects, addresses of repositories.

/// # Errors
/// What is wrong with the path, and what one looks like.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    let good = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            && !part.contains("..")
            && !part.ends_with(".git")
            && !part.ends_with('.')
    };
    // a number is the project's number wherever a project is named
    let number = path.bytes().all(|b| b.is_ascii_digit());
    match !number && path.len() <= 200 && path.split('/').all(good) {
        true => Ok(()),
        false => Err(format!(
            "`{}` is no path of a project: it is like `group/name`, of letters, digits, `-`, `_` and `.`",
            crate::server::hooks::event::short(path).0
        )),
    }
}

/// # Errors
/// What is wrong with the address.
pub(super) fn check_git_url(url: &str) -> Result<(), String> {
    if url.is_empty() || url.len() > 1000 || url.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err("`git_url` is no address of a repository".to_owned());
    }
    let forms = "`https://host/path`, `ssh://user@host/path`, `user@host:path`, `file:///path`";
    let wrong = || format!("`git_url` must be one of {forms}");
    if let Some((scheme, _)) = url.split_once("://") {
        let parsed = url::Url::parse(url).map_err(|e| format!("`git_url` is no address: {e}"))?;
        if parsed.password().is_some() {
            return Err(
                "`git_url` holds a password: give user and password as `git` instead, they are stored sealed"
                    .to_owned(),
            );
        }
        return match scheme {
            "https" | "http" | "ssh" | "git" if parsed.has_host() => Ok(()),
            "file" if parsed.path().len() > 1 => Ok(()),
            _ => Err(wrong()),
        };
    }
    let plain = |text: &str| !text.is_empty() && !text.starts_with('-');
    match url.split_once(':') {
        Some((host, path)) if plain(host) && plain(path) && !host.contains('/') && !path.starts_with(':') => {
            Ok(())
        }
        _ => Err(wrong()),
    }
}

/// # Errors
/// What is wrong with the address of a forge's API.
pub(super) fn check_api_url(url: &str) -> Result<(), String> {
    let good = |url: &url::Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    };
    match url.is_empty() || url::Url::parse(url).is_ok_and(|url| good(&url)) {
        true => Ok(()),
        false => Err("`forge_url` must be the `https://` address of the forge's API, or empty".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_groups_and_names_and_never_numbers() {
        for good in ["app", "group/app", "a/b/c-d_e.f", "7/app", "_x/1"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in
            ["", "7", "/app", "app/", "a//b", "../x", "a/../b", "a b", "a/-x", "app.git", "ä", "a\0", "a/b."]
        {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_such_that_git_knows_and_hold_no_password() {
        let good = [
            "https://host/o/r.git",
            "http://127.0.0.1:3000/r",
            "ssh://git@host:22/r",
            "git@host:o/r.git",
            "file:///srv/r.git",
        ];
        for url in good {
            assert_eq!(check_git_url(url), Ok(()), "{url}");
        }
        let bad = [
            "",
            "app",
            "-x:y",
            "host:-x",
            "ext::sh -c x",
            "https://u:p@host/r",
            "https://",
            "file://",
            "ftp://host/r",
            "https://host/r\n",
            "ext::sh",
            "/srv/app.git",
        ];
        for url in bad {
            assert!(check_git_url(url).is_err(), "{url}");
        }
        assert!(check_git_url("https://u:p@host/r").unwrap_err().contains("sealed"));
    }

    #[test]
    fn the_api_is_reached_by_http_without_credentials_in_its_address() {
        for good in ["", "https://api.github.com", "http://127.0.0.1:8/api/v4"] {
            assert!(check_api_url(good).is_ok(), "{good}");
        }
        for bad in ["x", "file:///etc/passwd", "https://t@host/", "ftp://host"] {
            assert!(check_api_url(bad).is_err(), "{bad}");
        }
    }
}
