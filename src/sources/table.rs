//! Which project is where.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Projects (`group/project`, `host/group/project`, `group/*`, `*`) and their places.
#[derive(Clone, Debug, Default)]
pub struct SourceTable(BTreeMap<Pattern, Place>);

/// The key of an entry, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pattern(String);

/// Where a project is. `*` in it stands for what the `*` of its key matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Something that git can fetch from.
    Url(String),
    /// A git repository, or a directory that stands for every ref.
    Directory(PathBuf),
}

impl SourceTable {
    /// Directories by the paths of their projects; what is no path of a project is left out.
    pub fn of(places: impl IntoIterator<Item = (String, PathBuf)>) -> SourceTable {
        let entry =
            |(path, dir): (String, PathBuf)| Some((Pattern::parse(&path).ok()?, Place::Directory(dir)));
        SourceTable(places.into_iter().filter_map(entry).collect())
    }

    /// These entries, and those of `below` that aren't among them.
    #[must_use]
    pub fn over(mut self, below: SourceTable) -> SourceTable {
        for (pattern, place) in below.0 {
            self.0.entry(pattern).or_insert(place);
        }
        self
    }

    /// Relative directories are relative to `base`, those with `~/` to the user's home.
    pub fn relative_to(&mut self, base: &Path) {
        for place in self.0.values_mut() {
            let Place::Directory(path) = place else { continue };
            *path = match (path.strip_prefix("~"), std::env::var_os("HOME")) {
                (Ok(rest), Some(home)) => Path::new(&home).join(rest),
                _ => base.join(&*path),
            };
        }
    }

    /// The place of a project: its own entry, else the one of the longest prefix.
    pub fn place(&self, project: &str) -> Option<Place> {
        // a path could climb out of the directory that `*` stands in
        if project.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return None;
        }
        let lower = project.to_lowercase();
        let matched = self.0.iter().filter_map(|(Pattern(pattern), place)| {
            let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
            let rest = lower.strip_prefix(prefix)?;
            (rest.is_empty() != pattern.ends_with('*')).then_some((prefix.len(), rest.len(), place))
        });
        let (_, rest, place) = matched.max_by_key(|(prefix, ..)| *prefix)?;
        Some(place.filled(project.get(project.len() - rest..).unwrap_or_default()))
    }
}

impl Place {
    fn filled(&self, rest: &str) -> Place {
        match self {
            Place::Url(url) => Place::Url(url.replace('*', rest)),
            Place::Directory(path) => Place::Directory(path.to_string_lossy().replace('*', rest).into()),
        }
    }

    fn has_star(&self) -> bool {
        match self {
            Place::Url(url) => url.contains('*'),
            Place::Directory(path) => path.to_string_lossy().contains('*'),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // a user in an http address may be a token
            Place::Url(url) => match url.split_once("://").zip(url.rsplit_once('@')) {
                Some(((scheme, _), (_, rest))) if scheme.starts_with("http") => {
                    write!(f, "{scheme}://{rest}")
                }
                _ => f.write_str(url),
            },
            Place::Directory(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, String> {
        let stem = text.strip_suffix('*').unwrap_or(text);
        let complete = if stem.len() < text.len() {
            stem.is_empty() || stem.ends_with('/')
        } else {
            !stem.is_empty() && !stem.ends_with('/')
        };
        if !complete || stem.contains('*') || stem.starts_with('/') {
            return Err(format!(
                "`{text}` is no project: write `group/project`, `host/group/project`, `group/*` or `*`"
            ));
        }
        Ok(Pattern(text.to_lowercase()))
    }
}

impl Place {
    fn parse(text: &str, pattern: &Pattern) -> Result<Place, String> {
        let place = match text.split_once("://") {
            Some((_, rest)) => {
                let user = rest.split('/').next().unwrap_or_default().rsplit_once('@');
                if user.is_some_and(|(user, _)| user.contains(':')) {
                    return Err("a URL with a password in it: leave that to git's credential helper".into());
                }
                Place::Url(text.to_owned())
            }
            // `user@host:path`, as git takes it
            None if text.split_once(':').is_some_and(|(host, _)| !host.contains('/')) => {
                Place::Url(text.to_owned())
            }
            None if text.trim().is_empty() => return Err("a git URL or a directory is missing".into()),
            None => Place::Directory(text.into()),
        };
        if pattern.0.ends_with('*') != place.has_star() {
            let pattern = &pattern.0;
            return Err(format!("`{pattern}` and its place `{place}` must both have a `*`, or none of them"));
        }
        Ok(place)
    }
}

// by hand, so that a mistake is reported at its own line and not at that of the whole table

impl<'de> Deserialize<'de> for SourceTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SourceTable, D::Error> {
        deserializer.deserialize_map(TableVisitor)
    }
}

struct TableVisitor;

impl<'de> Visitor<'de> for TableVisitor {
    type Value = SourceTable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of projects to git URLs or directories")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SourceTable, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(pattern) = map.next_key::<Pattern>()? {
            let place = map.next_value_seed(PlaceOf(&pattern))?;
            if entries.contains_key(&pattern) {
                return Err(A::Error::custom(format!("`{}` is there twice", pattern.0)));
            }
            entries.insert(pattern, place);
        }
        Ok(SourceTable(entries))
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pattern, D::Error> {
        deserializer.deserialize_str(PatternVisitor)
    }
}

struct PatternVisitor;

impl Visitor<'_> for PatternVisitor {
    type Value = Pattern;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a project's path")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Pattern, E> {
        Pattern::parse(text).map_err(E::custom)
    }
}

struct PlaceOf<'p>(&'p Pattern);

impl<'de> DeserializeSeed<'de> for PlaceOf<'_> {
    type Value = Place;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Place, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for PlaceOf<'_> {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a git URL or a directory")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Place, E> {
        Place::parse(text, self.0).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> SourceTable {
        serde_yaml::from_str(text).expect("a table")
    }

    #[test]
    fn the_longest_entry_wins() {
        let table = table(
            "a/b: https://x/own.git\na/*: 'git@x:a/*.git'\nhost.org/*: https://host.org/*.git\n'*': /srv/*\n",
        );
        let cases = [
            ("a/b", Some("https://x/own.git")),
            ("A/B", Some("https://x/own.git")),
            ("a/c", Some("git@x:a/c.git")),
            ("a/c/D", Some("git@x:a/c/D.git")),
            ("host.org/g/p", Some("https://host.org/g/p.git")),
            ("z/p", Some("/srv/z/p")),
            ("a/../../etc", None),
            ("/a", None),
        ];
        for (project, place) in cases {
            assert_eq!(table.place(project).map(|p| p.to_string()).as_deref(), place, "{project}");
        }
    }

    #[test]
    fn entries_of_the_project_win_over_those_of_the_user() {
        let both = table("a/b: /own\n").over(table("a/b: /user\na/c: /user\n"));
        assert_eq!(both.place("a/b"), Some(Place::Directory("/own".into())));
        assert_eq!(both.place("a/c"), Some(Place::Directory("/user".into())));
    }

    #[test]
    fn addresses_are_shown_without_who_gets_in() {
        let place = Place::Url("https://token@host/a/b.git".into());
        assert_eq!(place.to_string(), "https://host/a/b.git");
    }
}
