//! The user of a task: what images write as `USER`, found in the files of the sandbox as Docker finds it.

use super::Failure;

/// Who runs the task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

impl User {
    /// `text` is `name`, `uid`, `name:group` or `uid:gid`; empty: root. `passwd` and `group` are the sandbox's
    /// files of that name. A number needs no entry there, a name does.
    pub(super) fn find(text: &str, passwd: &str, group: &str) -> Result<User, Failure> {
        let (wanted, wanted_group) = text.split_once(':').map_or((text, ""), |(user, group)| (user, group));
        let wanted = if wanted.is_empty() { "0" } else { wanted };
        let unknown = |kind: &str, name: &str, file: &str| {
            Failure::new(
                format!("finding {kind} `{name}` of the image"),
                format!("there is no such entry in its `{file}`"),
            )
            .help("change `USER` of the image, or `image:docker:user` of the job; a number needs no entry")
        };
        let mut user = User { home: "/".to_owned(), ..User::default() };
        let mut name = None;
        if let Some(fields) = entry(passwd, wanted) {
            let number = |index: usize| fields.get(index).and_then(|text| text.parse().ok());
            (user.uid, user.gid) = (number(2).unwrap_or_default(), number(3).unwrap_or_default());
            if let Some(home) = fields.get(5).filter(|home| home.starts_with('/')) {
                user.home = (*home).to_owned();
            }
            name = fields.first().copied();
        } else {
            user.uid = wanted.parse().map_err(|_| unknown("user", wanted, "/etc/passwd"))?;
        }
        if wanted_group.is_empty() {
            user.groups = name.map(|name| groups_of(name, group)).unwrap_or_default();
        } else {
            let number = entry(group, wanted_group).and_then(|fields| fields.get(2)?.parse().ok());
            user.gid = number
                .or_else(|| wanted_group.parse().ok())
                .ok_or_else(|| unknown("group", wanted_group, "/etc/group"))?;
        }
        Ok(user)
    }
}

/// The first line with that name or number, in fields. Lines whose number is none are not there.
fn entry<'f>(file: &'f str, wanted: &str) -> Option<Vec<&'f str>> {
    let mut lines = file.lines().map(|line| line.trim().split(':').collect::<Vec<_>>());
    lines.find(|fields| {
        let number = fields.get(2).filter(|number| number.parse::<u32>().is_ok());
        number.is_some_and(|number| fields[0] == wanted || *number == wanted)
    })
}

/// Numbers of the groups that have `name` as a member.
fn groups_of(name: &str, file: &str) -> Vec<u32> {
    let member = |line: &str| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let is_in = fields.get(3)?.split(',').any(|member| member.trim() == name);
        fields[2].parse().ok().filter(|_| is_in)
    };
    // the kernel takes no more
    file.lines().filter_map(member).take(65_536).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "\
        root:x:0:0:root:/root:/bin/sh\n\
        broken\n\
        ann:x:1000:100:Ann:/home/ann:/bin/sh\n\
        odd:x:nobody:1::/:\n\
        7:x:1007:1007::relative:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\ndocker:x:999:bob, ann\naudio:x:29:ann,bob\nbad:x:y:ann\n";

    #[test]
    fn users_are_found_by_name_or_number_as_docker_does() {
        let user = |uid, gid, groups: &[u32], home: &str| User {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        };
        let table = [
            ("", user(0, 0, &[], "/root")),
            ("root", user(0, 0, &[], "/root")),
            ("ann", user(1000, 100, &[999, 29], "/home/ann")),
            ("1000", user(1000, 100, &[999, 29], "/home/ann")),
            ("ann:docker", user(1000, 999, &[], "/home/ann")),
            ("ann:5", user(1000, 5, &[], "/home/ann")),
            ("1234", user(1234, 0, &[], "/")),
            ("1234:1235", user(1234, 1235, &[], "/")),
            ("7", user(1007, 1007, &[], "/")),
            (":users", user(0, 100, &[], "/root")),
        ];
        for (text, expected) in table {
            assert_eq!(User::find(text, PASSWD, GROUP).unwrap(), expected, "{text}");
        }
        assert_eq!(User::find("", "", "").unwrap(), user(0, 0, &[], "/"));
    }

    #[test]
    fn names_without_an_entry_are_refused() {
        for (text, what) in
            [("eve", "user `eve`"), ("odd", "user `odd`"), ("ann:nobody", "group `nobody`"), ("-1", "`-1`")]
        {
            let failure = User::find(text, PASSWD, GROUP).unwrap_err();
            assert!(failure.to_string().contains(what), "{failure}");
        }
    }
}
