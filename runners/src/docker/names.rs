//! Host names of services.

/// The names under which a job reaches a service: those made from its image (`group/db:1` is `group__db` and
/// `group-db`), then its aliases, separated by spaces or commas.
pub(super) fn host_names(image: &str, alias: Option<&str>) -> Vec<String> {
    let path = path(image);
    let mut names = vec![path.replace('/', "__"), path.replace('/', "-")];
    let aliases = alias.unwrap_or_default().split([' ', ',', '\t', '\n']);
    names.extend(aliases.filter(|name| !name.is_empty()).map(str::to_owned));
    let mut unique: Vec<String> = Vec::new();
    for name in names.into_iter().filter(|name| is_host_name(name)) {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

/// An image's name without tag, digest and the port of its registry.
fn path(image: &str) -> String {
    let name = image.split('@').next().unwrap_or_default();
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let name = match name[last..].rfind(':') {
        Some(colon) => &name[..last + colon],
        None => name,
    };
    match name.split_once('/') {
        Some((registry, rest)) => {
            let host = registry.split(':').next().unwrap_or_default();
            format!("{host}/{rest}")
        }
        None => name.to_owned(),
    }
}

/// Nothing that would be more than a name in a hosts file.
fn is_host_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_image_and_the_aliases() {
        let table: &[(&str, Option<&str>, &[&str])] = &[
            ("postgres", None, &["postgres"]),
            ("postgres:15.2-alpine", Some("db"), &["postgres", "db"]),
            ("library/postgres:15", None, &["library__postgres", "library-postgres"]),
            (
                "registry.example.org:5000/a/b:1",
                Some("one two,three, one"),
                &["registry.example.org__a__b", "registry.example.org-a-b", "one", "two", "three"],
            ),
            ("localhost:5000/redis", None, &["localhost__redis", "localhost-redis"]),
            ("redis@sha256:0123", Some("redis"), &["redis"]),
            ("", Some("x\ty bad:name"), &["x", "y"]),
        ];
        for (image, alias, expected) in table {
            assert_eq!(host_names(image, *alias), *expected, "{image}");
        }
    }
}
