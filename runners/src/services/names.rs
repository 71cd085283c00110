//! Under which names a job finds a service.

use pipelines::plan::Service;

/// The names of a service: those of its image, without tag and port, with `/` as `__` and as `-`; then its aliases.
pub fn host_names(service: &Service) -> Vec<String> {
    let image = without_version(&service.image.name);
    let image = match image.split_once('/') {
        Some((registry, rest)) => {
            let host = registry.split_once(':').map_or(registry, |(host, _port)| host);
            format!("{host}/{rest}")
        }
        None => image.to_owned(),
    };
    let mut names = Vec::new();
    for name in [image.replace('/', "__"), image.replace('/', "-")].into_iter().chain(aliases(service)) {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        // what is no name would be another line of /etc/hosts
        if !name.is_empty() && name.chars().all(fits) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn aliases(service: &Service) -> impl Iterator<Item = String> {
    let aliases = service.alias.as_deref().unwrap_or_default();
    aliases.split([' ', ',', '\t', '\n']).map(str::to_owned)
}

/// `registry:5000/group/name` of `registry:5000/group/name:tag@sha256:...`.
fn without_version(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _digest)| name);
    let last = image.rfind('/').map_or(0, |slash| slash + 1);
    match image[last..].find(':') {
        Some(colon) => &image[..last + colon],
        None => image,
    }
}

/// What a service is called where people look for its log: its first alias, else the name of its image.
pub fn log_name(service: &Service) -> String {
    let names = host_names(service);
    let alias = aliases(service).find(|alias| names.contains(alias));
    let name = alias.or_else(|| names.last().cloned());
    // also a file's name: not hidden, not a parent directory
    name.filter(|name| !name.starts_with('.')).unwrap_or_else(|| "service".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(image: &str, alias: Option<&str>) -> Service {
        let json = serde_json::json!({"name": image, "alias": alias});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn names_come_from_the_image_and_the_aliases() {
        let table: [(&str, Option<&str>, &[&str]); 9] = [
            ("postgres", None, &["postgres"]),
            ("postgres:15", None, &["postgres"]),
            ("library/postgres:15", None, &["library__postgres", "library-postgres"]),
            ("localhost:5000/postgres:15", None, &["localhost__postgres", "localhost-postgres"]),
            ("r.example.org:5000/a/b/db:1", None, &["r.example.org__a__b__db", "r.example.org-a-b-db"]),
            ("mysql@sha256:0123", None, &["mysql"]),
            ("mysql:8", Some("db,database  other"), &["mysql", "db", "database", "other"]),
            ("mysql:8", Some("mysql db"), &["mysql", "db"]),
            ("mysql:8", Some("a\n127.0.0.1 b/c"), &["mysql", "a", "127.0.0.1"]),
        ];
        for (image, alias, expected) in table {
            assert_eq!(host_names(&service(image, alias)), expected, "{image} {alias:?}");
        }
    }

    #[test]
    fn logs_are_called_by_the_first_alias() {
        let table = [
            ("library/postgres:15", None, "library-postgres"),
            ("postgres:15", Some("db, pg"), "db"),
            ("postgres:15", Some("postgres"), "postgres"),
            ("postgres:15", Some(".."), "service"),
        ];
        for (image, alias, expected) in table {
            assert_eq!(log_name(&service(image, alias)), expected, "{image} {alias:?}");
        }
    }
}
