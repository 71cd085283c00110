//! Whom registries of companies have their certificates from: files beside those that the system trusts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_client::client::{Certificate, CertificateEncoding};

use super::ImageError;

/// Where Docker and Podman look, each in `HOST:PORT/*.crt`.
const DIRECTORIES: [&str; 2] = ["/etc/docker/certs.d", "/etc/containers/certs.d"];
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The authorities of `registry`: those of the file in its settings, and what Docker and Podman would take.
pub(super) fn authorities(registry: &str, setting: Option<&Path>) -> Result<Vec<Certificate>, ImageError> {
    let own = DIRECTORIES.iter().flat_map(|directory| certificates(&Path::new(directory).join(registry)));
    let mut found = Vec::new();
    for file in setting.map(Path::to_owned).into_iter().chain(own) {
        let failed = |source: io::Error| ImageError::Io {
            doing: format!("reading the certificate authority of `{registry}` in `{}`", file.display()),
            source,
        };
        let before = found.len();
        found.extend(pem(&fs::read_to_string(&file).map_err(failed)?));
        if found.len() == before {
            return Err(failed(io::Error::other("it holds no certificate in PEM form")));
        }
    }
    Ok(found)
}

fn certificates(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "crt")).collect()
}

/// Each by itself: the client reads only the first of a text.
fn pem(text: &str) -> impl Iterator<Item = Certificate> {
    let blocks = text.split(BEGIN).skip(1).filter_map(|rest| rest.split_once(END));
    blocks.map(|(body, _)| Certificate {
        encoding: CertificateEncoding::Pem,
        data: format!("{BEGIN}{body}{END}\n").into_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_of_a_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.crt");
        fs::write(&file, format!("about it\n{BEGIN}\nAA==\n{END}\n{BEGIN}\nBB==\n{END}\n")).unwrap();
        let found = authorities("none.example", Some(&file)).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].data, format!("{BEGIN}\nBB==\n{END}\n").into_bytes());
        fs::write(&file, "nothing").unwrap();
        let error = authorities("none.example", Some(&file)).unwrap_err().to_string();
        assert!(error.contains("ca.crt") && error.contains("no certificate"), "{error}");
        assert!(authorities("none.example", None).unwrap().is_empty());
    }
}
