//! The three files that say which release this is: `NAME.rel`, `RELEASES` and `start_erl.data`.
//!
//! Sources: rel(4) and relup(4) of SASL; what relx 4.7 writes.

use std::fmt::Write as _;

use super::{
    Error,
    erlang::{Term, text},
};

/// An application and its version.
pub type AppVersion = (String, String);

/// The content of a `.rel` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rel {
    /// The release's name.
    pub name: String,
    /// The release's version.
    pub version: String,
    /// The version of the Erlang runtime system.
    pub erts: String,
    /// The applications, in the file's order.
    pub apps: Vec<AppVersion>,
    /// Those of them that are there and not started: their type is `load` or `none`.
    pub idle: Vec<String>,
}

impl Rel {
    /// Parses a `.rel` file; `file` names it in errors.
    ///
    /// # Errors
    /// The text doesn't parse, or is no release.
    pub fn parse(file: &str, source: &str) -> Result<Rel, Error> {
        let term = text::parse_one(source).map_err(|e| Error::text(file, &e))?;
        Rel::from_term(&term).ok_or_else(|| {
            Error::document(file, "it is not `{release, {Name, Vsn}, {erts, Vsn}, [{App, Vsn}, ...]}`")
        })
    }

    fn from_term(term: &Term) -> Option<Rel> {
        let [tag, release, erts, apps] = term.as_tuple()? else { return None };
        let ([name, version], [erts_tag, erts]) = (release.as_tuple()?, erts.as_tuple()?) else {
            return None;
        };
        if tag.as_atom() != Some("release") || erts_tag.as_atom() != Some("erts") {
            return None;
        }
        let apps = apps.as_list()?;
        let idle = apps.iter().filter_map(idle).collect();
        let apps = apps.iter().map(app_version).collect::<Option<_>>()?;
        Some(Rel { name: name.text()?, version: version.text()?, erts: erts.text()?, apps, idle })
    }
}

/// The name of an application that is not started.
fn idle(term: &Term) -> Option<String> {
    let items = term.as_tuple()?;
    let kind = items.get(2)?.as_atom()?;
    matches!(kind, "load" | "none").then(|| items[0].as_atom().map(str::to_owned)).flatten()
}

fn app_version(term: &Term) -> Option<AppVersion> {
    let items = term.as_tuple()?;
    Some((items.first()?.as_atom()?.to_owned(), items.get(1)?.text()?))
}

/// How a release stands in `RELEASES`. A release that is installed but not permanent reads `Unpacked` there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// On disk, not running.
    Unpacked,
    /// Running until the next boot; never on disk, only in the node's answer.
    Current,
    /// What the next boot starts.
    Permanent,
    /// Ran before.
    Old,
}

impl Status {
    /// Reads `unpacked`, `current`, `permanent` or `old`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Status> {
        Some(match name {
            "unpacked" => Status::Unpacked,
            "current" => Status::Current,
            "permanent" => Status::Permanent,
            "old" => Status::Old,
            _ => return None,
        })
    }
}

/// One entry of `RELEASES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleasesEntry {
    /// The release itself.
    pub rel: Rel,
    /// How it stands.
    pub status: Status,
}

/// Parses `RELEASES`; `file` names it in errors. Newest first, as in the file.
///
/// # Errors
/// The text doesn't parse, or is no list of releases.
pub fn parse_releases(file: &str, source: &str) -> Result<Vec<ReleasesEntry>, Error> {
    let term = text::parse_one(source).map_err(|e| Error::text(file, &e))?;
    let entries = term.as_list().and_then(|entries| entries.iter().map(releases_entry).collect());
    entries.ok_or_else(|| {
        Error::document(file, "it is not a list of `{release, Name, Vsn, Erts, Libs, Status}`")
    })
}

fn releases_entry(term: &Term) -> Option<ReleasesEntry> {
    let [tag, name, version, erts, libs, status] = term.as_tuple()? else { return None };
    if tag.as_atom() != Some("release") {
        return None;
    }
    let apps = libs.as_list()?.iter().map(app_version).collect::<Option<_>>()?;
    let (name, version, erts) = (name.text()?, version.text()?, erts.text()?);
    let rel = Rel { name, version, erts, apps, idle: Vec::new() };
    Some(ReleasesEntry { rel, status: Status::parse(status.as_atom()?)? })
}

/// Parses `start_erl.data`: the versions of erts and of the release that a boot starts.
#[must_use]
pub fn parse_start_erl(source: &str) -> Option<(String, String)> {
    let (erts, version) = source.trim().split_once(' ')?;
    Some((erts.to_owned(), version.to_owned()))
}

/// The text of `RELEASES`: `new` is what boots, the others are old.
#[must_use]
pub fn releases_text(new: &ReleasesEntry, others: Vec<ReleasesEntry>) -> String {
    let mut text = "%% coding: utf-8\n[".to_owned();
    let others = others.into_iter().filter(|other| other.rel.version != new.rel.version);
    for (place, entry) in std::iter::once(new.clone()).chain(others).enumerate() {
        let status = match (place, entry.status) {
            (0, _) => "permanent",
            (_, Status::Unpacked) => "unpacked",
            _ => "old",
        };
        let Rel { name, version, erts, apps, .. } = &entry.rel;
        let comma = if place == 0 { "" } else { ",\n " };
        let string = Term::string;
        let apps: Vec<String> = apps
            .iter()
            .map(|(app, version)| {
                format!(
                    "{{{},{},{}}}",
                    Term::atom(app),
                    string(version),
                    string(&format!("lib/{app}-{version}"))
                )
            })
            .collect();
        let _ = write!(
            text,
            "{comma}{{release,{},{},{},\n  [{}],\n  {status}}}",
            string(name),
            string(version),
            string(erts),
            apps.join(",\n   ")
        );
    }
    text.push_str("].\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rel_file_gives_name_versions_and_applications() {
        let source = r#"{release,{"urf","0.1.0"},{erts,"13.1.5"},[{kernel,"8.5.3"},{x,"1",load,[y]}]}."#;
        let rel = Rel::parse("urf.rel", source).unwrap();
        assert_eq!((&*rel.name, &*rel.version, &*rel.erts), ("urf", "0.1.0", "13.1.5"));
        assert_eq!(rel.apps, [("kernel".into(), "8.5.3".into()), ("x".into(), "1".into())]);
    }

    #[test]
    fn other_terms_are_refused_by_name() {
        for source in
            ["", "ok.", "{release,{\"a\",\"1\"}}.", "{release,{\"a\",\"1\"},{erts,\"1\"},[{\"k\",1}]}."]
        {
            assert!(
                Rel::parse("a.rel", source).unwrap_err().to_string().starts_with("`a.rel` can't be read: ")
            );
        }
        assert!(parse_releases("RELEASES", "[{release,\"a\",\"1\",\"2\",[],frozen}].").is_err());
    }

    #[test]
    fn releases_lists_each_version_with_its_status() {
        let source = "%% coding: utf-8\n[{release,\"urf\",\"0.2.0\",\"13.1.5\",[{kernel,\"8.5.3\",\"lib/kernel-8.5.3\"}],permanent},
                      {release,\"urf\",\"0.1.0\",\"13.1.5\",[],old}].";
        let entries = parse_releases("RELEASES", source).unwrap();
        let seen: Vec<_> = entries.iter().map(|e| (&*e.rel.version, e.status)).collect();
        assert_eq!(seen, [("0.2.0", Status::Permanent), ("0.1.0", Status::Old)]);
        assert_eq!(parse_start_erl("13.1.5 0.2.0\n"), Some(("13.1.5".into(), "0.2.0".into())));
        assert_eq!(parse_start_erl("13.1.5"), None);
    }
}
