//! A release archive, read into what decisions need.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use super::{
    Error,
    archive::{self, Entry, Kind, LIMITS},
    erlang::Beam,
    rel::{AppVersion, Rel, ReleasesEntry, parse_releases, parse_start_erl},
    relup::Relup,
};

/// No file that is kept whole (`relup`, `sys.config`, a module, ...) is larger.
const MAX_KEPT: u64 = 64 << 20;

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagedFile {
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// SHA-256 in hex; of the link's target for a link.
    pub sha256: String,
}

/// A release archive and all that was read from it. Paths are relative, without `./`.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    /// The archive.
    pub path: PathBuf,
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
    /// `releases/VSN/NAME.rel`.
    pub rel: Rel,
    /// The `VSN` of the directory that the `.rel` file lies in.
    pub directory: String,
    /// Every file and link.
    pub files: BTreeMap<String, PackagedFile>,
    /// By application of the release: its modules, if the package holds it.
    pub modules: BTreeMap<String, BTreeMap<String, Beam>>,
    /// `releases/RELEASES`; empty without that file.
    pub releases: Vec<ReleasesEntry>,
    /// `releases/start_erl.data`: erts and release version.
    pub start_erl: Option<(String, String)>,
    /// Application upgrade files as text, by application. Packages of `rebar3 tar` have none.
    pub appups: BTreeMap<String, String>,
    /// The files of `releases/VSN/`, by name.
    pub(super) documents: BTreeMap<String, Vec<u8>>,
}

impl Package {
    /// Reads the archive at `path` to its end.
    ///
    /// # Errors
    /// It is broken, cut short or unsafe; has no single `releases/VSN/NAME.rel`; a module or a file of terms
    /// that every package needs can't be read.
    pub fn read(path: &Path) -> Result<Package, Error> {
        let mut files = BTreeMap::new();
        let mut kept = BTreeMap::new();
        archive::visit(path, LIMITS, |entry, data| {
            if entry.kind == Kind::Directory {
                return Ok(());
            }
            let (file, bytes) = read_file(path, entry, data)?;
            files.insert(entry.path.clone(), file);
            kept.extend(bytes.map(|bytes| (entry.path.clone(), bytes)));
            Ok(())
        })?;
        let rel_path = single_rel(path, &files)?;
        let rel = Rel::parse(&rel_path, &utf8(&rel_path, &kept)?)?;
        plain_names(&rel_path, &rel)?;
        let directory = rel_path.split('/').nth(1).unwrap_or_default().to_owned();
        let modules = read_modules(&rel, &kept)?;
        let releases = match kept.contains_key("releases/RELEASES") {
            true => parse_releases("releases/RELEASES", &utf8("releases/RELEASES", &kept)?)?,
            false => Vec::new(),
        };
        let start_erl = kept.get("releases/start_erl.data").map(|data| String::from_utf8_lossy(data));
        let start_erl = start_erl.and_then(|text| parse_start_erl(&text));
        let appups = read_appups(&rel, &kept)?;
        let prefix = format!("releases/{directory}/");
        let documents = kept
            .into_iter()
            .filter_map(|(path, data)| Some((path.strip_prefix(&prefix)?.to_owned(), data)))
            .collect();
        let (sha256, size) = archive::digest(path)?;
        let path = path.to_owned();
        Ok(Package {
            path,
            sha256,
            size,
            rel,
            directory,
            files,
            modules,
            releases,
            start_erl,
            appups,
            documents,
        })
    }

    /// The version of an application in this release.
    #[must_use]
    pub fn app_version(&self, app: &str) -> Option<&str> {
        self.rel.apps.iter().find(|(name, _)| name == app).map(|(_, version)| &**version)
    }

    /// Whether the Erlang runtime system itself is in the package.
    #[must_use]
    pub fn has_erts(&self) -> bool {
        self.holds(&format!("erts-{}/bin/", self.rel.erts))
    }

    /// Whether the package holds the code of an application of its release.
    #[must_use]
    pub fn has_app(&self, app: &AppVersion) -> bool {
        self.holds(&format!("lib/{}-{}/ebin/", app.0, app.1))
    }

    /// SHA-256 over every file's path, mode and content, but for the relup and a cookie: the same release has the same value
    /// whatever it upgrades from, and however its archive was compressed.
    #[must_use]
    pub fn content_sha256(&self) -> String {
        let relup = format!("releases/{}/relup", self.directory);
        // mix makes another cookie for every clean build
        let counts = |path: &str| path != relup && path != "releases/COOKIE";
        let files = self.files.iter().filter(|(path, _)| counts(path));
        let list: String =
            files.map(|(path, file)| format!("{} {:o} {path}\n", file.sha256, file.mode)).collect();
        crate::digest::sha256_hex(list.as_bytes())
    }

    /// Writes the package to `to` with this relup in it, in place of its own if it has one.
    ///
    /// # Errors
    /// The package can't be read or the file not written.
    pub fn with_relup(&self, relup: &[u8], to: &Path) -> Result<Package, Error> {
        let path = format!("releases/{}/relup", self.directory);
        let file = archive::NewFile { path, mode: 0o644, data: relup.to_vec() };
        archive::rewrite(&self.path, to, |_| true, &[file])?;
        Package::read(to)
    }

    /// Writes the package to `to` with its entries in the order of their paths, times and owners zeroed.
    ///
    /// # Errors
    /// The package can't be read or the file not written.
    pub fn sorted(&self, to: &Path) -> Result<Package, Error> {
        archive::sort(&self.path, to)?;
        Package::read(to)
    }

    fn holds(&self, prefix: &str) -> bool {
        self.files.range(prefix.to_owned()..).next().is_some_and(|(path, _)| path.starts_with(prefix))
    }

    /// A file of `releases/VSN/`, such as `sys.config`.
    #[must_use]
    pub fn document(&self, name: &str) -> Option<&[u8]> {
        self.documents.get(name).map(Vec::as_slice)
    }

    /// The release upgrade file, if there is one.
    ///
    /// # Errors
    /// It doesn't parse.
    pub fn relup(&self) -> Result<Option<Relup>, Error> {
        let Some(data) = self.document("relup") else { return Ok(None) };
        let file = format!("releases/{}/relup", self.directory);
        let source = std::str::from_utf8(data).map_err(|_| Error::document(&file, "it is not UTF-8"))?;
        Relup::parse(&file, source).map(Some)
    }
}

/// Unpacks an archive that nobody vouches for into the new directory `to`.
///
/// # Errors
/// It is broken or cut short, too large, or would write outside of `to`.
pub fn unpack(archive: &Path, to: &Path) -> Result<(), Error> {
    archive::unpack(archive, to)
}

fn read_file(
    archive: &Path,
    entry: &Entry,
    data: &mut dyn Read,
) -> Result<(PackagedFile, Option<Vec<u8>>), Error> {
    let broken = |e: std::io::Error| Error::Archive {
        path: archive.to_owned(),
        reason: format!("`{}` is broken or cut short ({e})", entry.path),
    };
    let (bytes, sha256);
    if let Kind::Symlink(target) = &entry.kind {
        (bytes, sha256) = (None, archive::digest_of(&mut target.as_bytes()).map_err(broken)?.0);
    } else if is_kept(&entry.path) {
        if entry.size > MAX_KEPT {
            let reason = format!("`{}` is larger than {MAX_KEPT} bytes", entry.path);
            return Err(Error::Archive { path: archive.to_owned(), reason });
        }
        let mut whole = Vec::new();
        data.read_to_end(&mut whole).map_err(broken)?;
        sha256 = archive::digest_of(&mut &*whole).map_err(broken)?.0;
        bytes = Some(whole);
    } else {
        (bytes, sha256) = (None, archive::digest_of(data).map_err(broken)?.0);
    }
    Ok((PackagedFile { size: entry.size, mode: entry.mode, sha256 }, bytes))
}

fn is_kept(path: &str) -> bool {
    let in_ebin = path.starts_with("lib/") && path.contains("/ebin/");
    path.starts_with("releases/") || in_ebin && (path.ends_with(".beam") || path.ends_with(".appup"))
}

fn single_rel(archive: &Path, files: &BTreeMap<String, PackagedFile>) -> Result<String, Error> {
    let is_rel = |path: &&String| {
        let parts: Vec<&str> = path.split('/').collect();
        matches!(parts[..], ["releases", _, name] if name.ends_with(".rel"))
    };
    let found: Vec<&String> = files.keys().filter(is_rel).collect();
    match found[..] {
        [one] => Ok(one.clone()),
        _ => Err(Error::Archive {
            path: archive.to_owned(),
            reason: format!("it should hold one `releases/VSN/NAME.rel`, it has {}", found.len()),
        }),
    }
}

/// Names and versions become file names, arguments and text of scripts: none may mean anything to a shell.
fn plain_names(file: &str, rel: &Rel) -> Result<(), Error> {
    let own = [&rel.name, &rel.version, &rel.erts];
    let apps = rel.apps.iter().flat_map(|(app, version)| [app, version]);
    match own.into_iter().chain(apps).find(|name| !is_plain_name(name)) {
        None => Ok(()),
        Some(name) => Err(Error::document(
            file,
            format!(
                "`{}` is no name or version of a release: letters, digits and `._+~-` only",
                name.escape_debug()
            ),
        )),
    }
}

/// Letters, digits and `._+~-`, not beginning with a sign that a path or an option begins with.
pub(crate) fn is_plain_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(plain)
}

fn utf8(path: &str, kept: &BTreeMap<String, Vec<u8>>) -> Result<String, Error> {
    let data = kept.get(path).cloned().unwrap_or_default();
    String::from_utf8(data).map_err(|_| Error::document(path, "it is not UTF-8"))
}

fn in_app<'a>(
    app: &AppVersion,
    kept: &'a BTreeMap<String, Vec<u8>>,
) -> impl Iterator<Item = (&'a String, &'a Vec<u8>)> {
    let prefix = format!("lib/{}-{}/ebin/", app.0, app.1);
    kept.range(prefix.clone()..).take_while(move |(path, _)| path.starts_with(&prefix))
}

fn read_modules(
    rel: &Rel,
    kept: &BTreeMap<String, Vec<u8>>,
) -> Result<BTreeMap<String, BTreeMap<String, Beam>>, Error> {
    let mut modules = BTreeMap::new();
    for app in &rel.apps {
        let mut beams = BTreeMap::new();
        for (path, data) in in_app(app, kept).filter(|(path, _)| path.ends_with(".beam")) {
            let beam = Beam::parse(data).map_err(|e| Error::document(path, e.to_string()))?;
            beams.insert(beam.module.clone(), beam);
        }
        if !beams.is_empty() {
            modules.insert(app.0.clone(), beams);
        }
    }
    Ok(modules)
}

fn read_appups(rel: &Rel, kept: &BTreeMap<String, Vec<u8>>) -> Result<BTreeMap<String, String>, Error> {
    let mut appups = BTreeMap::new();
    for app in &rel.apps {
        for (path, _) in in_app(app, kept).filter(|(path, _)| path.ends_with(".appup")) {
            appups.insert(app.0.clone(), utf8(path, kept)?);
        }
    }
    Ok(appups)
}

#[cfg(test)]
mod tests {
    use super::{super::archive::tests::write_archive, *};

    const REL: &[u8] = br#"{release,{"urf","0.1.0"},{erts,"13.1.5"},[{kernel,"8.5.3"},{urf,"0.1.0"}]}."#;

    fn read(files: &[(&str, &[u8])]) -> Result<Package, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("urf-0.1.0.tar.gz");
        write_archive(&path, files);
        Package::read(&path).map_err(|e| e.to_string().replace(&path.display().to_string(), "P"))
    }

    #[test]
    fn a_package_tells_its_release_and_documents() {
        let package = read(&[
            ("releases/urf.rel", REL),
            ("releases/0.1.0/urf.rel", REL),
            ("releases/0.1.0/sys.config", b"[]."),
            ("releases/start_erl.data", b"13.1.5 0.1.0"),
            ("erts-13.1.5/bin/erl", b"x"),
            ("lib/urf-0.1.0/ebin/urf.app", b"x"),
            ("lib/urf-0.1.0/ebin/urf.appup", b"{\"0.1.0\",[],[]}."),
        ])
        .unwrap();
        assert_eq!((&*package.rel.version, &*package.directory), ("0.1.0", "0.1.0"));
        assert_eq!(package.document("sys.config"), Some(&b"[]."[..]));
        assert_eq!(package.start_erl, Some(("13.1.5".into(), "0.1.0".into())));
        assert!(package.has_erts() && package.has_app(&("urf".into(), "0.1.0".into())));
        assert!(!package.has_app(&("kernel".into(), "8.5.3".into())));
        assert_eq!(package.appups["urf"], "{\"0.1.0\",[],[]}.");
        assert_eq!(package.relup().unwrap(), None);
    }

    #[test]
    fn broken_packages_are_refused_with_the_file_named() {
        let rel = ("releases/0.1.0/urf.rel", REL);
        type Files<'a> = &'a [(&'a str, &'a [u8])];
        let cases: &[(Files, &str)] = &[
            (&[], "the package `P` is not usable: it should hold one `releases/VSN/NAME.rel`, it has 0"),
            (
                &[rel, ("releases/0.2.0/urf.rel", REL)],
                "the package `P` is not usable: it should hold one `releases/VSN/NAME.rel`, it has 2",
            ),
            (
                &[("releases/0.1.0/urf.rel", b"{")],
                "`releases/0.1.0/urf.rel` can't be read: line 1, column 2: expected a term, found the end of the text",
            ),
            (
                &[rel, ("lib/urf-0.1.0/ebin/a.beam", b"FOR1")],
                "`lib/urf-0.1.0/ebin/a.beam` can't be read: not a whole BEAM file: the header is missing",
            ),
            (
                &[rel, ("releases/RELEASES", b"ok.")],
                "`releases/RELEASES` can't be read: it is not a list of `{release, Name, Vsn, Erts, Libs, Status}`",
            ),
        ];
        for (files, expected) in cases {
            assert_eq!(read(files).unwrap_err(), *expected);
        }
    }
}
