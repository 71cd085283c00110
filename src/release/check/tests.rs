//! One fault a row: a sound pair of packages, one thing changed, the codes that must come out.

use std::collections::BTreeSet;

use super::{
    super::{
        archive::tests::write_archive,
        erlang::{Beam, Term},
        package::Package,
        rel::Rel,
    },
    upgrade,
};

const RELUP: &str = r#"{"2",[{"1",[],[{load_object_code,{urf,"2",[server,sup]}},point_of_no_return,{suspend,[server]},
    {load,{server,soft_purge,soft_purge}},{load,{sup,soft_purge,soft_purge}},
    {code_change,up,[{server,[]},{sup,[]}]},{resume,[server]},{apply,{supervisor,restart_child,[sup,x]}}]}],
    [{"1",[],[point_of_no_return]}]}."#;

/// A package of version `version` whose modules `server` and `sup` have the MD5 `md5`.
fn package(version: &str, relup: Option<&str>) -> Package {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("urf-{version}.tar.gz"));
    let rel = format!(
        "{{release,{{\"urf\",\"{version}\"}},{{erts,\"13\"}},[{{kernel,\"8\"}},{{sasl,\"4\"}},{{urf,\"{version}\"}}]}}."
    );
    let at = |file: &str| format!("releases/{version}/{file}");
    let mut files = vec![
        (at("urf.rel"), rel.into_bytes()),
        (at("start.boot"), vec![131, 106]),
        (at("sys.config"), b"[].".to_vec()),
        (at("vm.args"), b"-name urf@h\n-setcookie c\n".to_vec()),
        (format!("bin/urf-{version}"), b"#!/bin/sh".to_vec()),
        (format!("lib/urf-{version}/ebin/urf.app"), Vec::new()),
        (format!("lib/urf-{version}/priv/a.so"), b"native".to_vec()),
    ];
    files.extend(relup.map(|relup| (at("relup"), relup.as_bytes().to_vec())));
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, data)| (&**path, &**data)).collect();
    write_archive(&path, &files);
    let mut package = Package::read(&path).unwrap();
    let md5 = version.bytes().next().unwrap();
    package.modules.insert("urf".into(), ["server", "sup"].map(|name| (name.into(), beam(name, md5))).into());
    package
}

fn beam(name: &str, md5: u8) -> Beam {
    let supervisor = Term::List(vec![Term::atom("supervisor")]);
    Beam {
        module: name.into(),
        md5: [md5; 16],
        exports: BTreeSet::from([("code_change".to_owned(), 3)]),
        imports: BTreeSet::new(),
        attributes: if name == "sup" { vec![("behaviour".into(), supervisor)] } else { Vec::new() },
    }
}

/// A change to one of the two packages.
type Fault = fn(&mut Package);

fn codes(old_fault: Fault, new_fault: Fault, relup: Option<&str>) -> Vec<String> {
    let (mut old, mut new) = (package("1", None), package("2", relup));
    old_fault(&mut old);
    new_fault(&mut new);
    let severity = |error| if error { "" } else { "w" };
    upgrade(&old, &new).iter().map(|f| format!("{}{}", f.code, severity(f.is_error()))).collect()
}

const NONE: Fault = |_| {};

fn rel(package: &mut Package) -> &mut Rel {
    &mut package.rel
}

#[test]
fn a_sound_upgrade_has_only_its_call_to_mention() {
    assert_eq!(codes(NONE, NONE, Some(RELUP)), ["R014w"]);
}

#[test]
fn every_fault_of_a_package_is_found() {
    let cases: &[(&str, Fault, Fault, &[&str])] = &[
        ("other name", |old| rel(old).name = "x".into(), NONE, &["R001"]),
        ("other directory", NONE, |new| new.directory = "3".into(), &["R001"]),
        ("other file name", NONE, |new| new.path = "urf.tar.gz".into(), &["R001"]),
        ("no sasl before", |old| rel(old).apps.retain(|a| a.0 != "sasl"), NONE, &["R002", "R007", "R015w"]),
        ("no script", NONE, |new| drop(new.files.remove("bin/urf-2")), &["R003"]),
        ("cut boot file", NONE, |new| set(new, "start.boot", b"\x83l\0"), &["R004"]),
        ("no boot file", NONE, |new| drop(new.documents.remove("start.boot")), &["R004"]),
        ("broken sys.config", NONE, |new| set(new, "sys.config", b"[{a,}]."), &["R005"]),
        ("sys.config no list", NONE, |new| set(new, "sys.config", b"a."), &["R005"]),
        ("other cookie", NONE, |new| set(new, "vm.args", b"-name urf@h\n-setcookie d\n"), &["R006"]),
        ("other flags", NONE, |new| set(new, "vm.args", b"-name urf@h\n# x\n-setcookie c\n+S 2"), &["R006w"]),
        (
            "new app not packed",
            NONE,
            |new| rel(new).apps.push(("dep".into(), "1".into())),
            &["R007", "R015w"],
        ),
        ("same app version", |old| rel(old).apps[2].1 = "2".into(), NONE, &["R008", "R018"]),
        ("other erts", |old| rel(old).erts = "12".into(), NONE, &["R010"]),
        (
            "module missing",
            NONE,
            |new| drop(new.modules.get_mut("urf").unwrap().remove("server")),
            &["R012", "R011w"],
        ),
        ("app gone", |old| rel(old).apps.push(("dep".into(), "1".into())), NONE, &["R015w"]),
        ("other OTP app", |old| rel(old).apps[0].1 = "7".into(), NONE, &["R007", "R017"]),
        (
            "other native code",
            NONE,
            |new| new.files.get_mut("lib/urf-2/priv/a.so").unwrap().sha256.clear(),
            &["R018"],
        ),
    ];
    for (name, old_fault, new_fault, expected) in cases {
        let mut found = codes(*old_fault, *new_fault, Some(RELUP));
        found.retain(|code| code != "R014w");
        assert_eq!(found, *expected, "{name}");
    }
}

fn set(package: &mut Package, document: &str, data: &[u8]) {
    package.documents.insert(document.to_owned(), data.to_vec());
}

#[test]
fn every_fault_of_a_relup_is_found() {
    let without = |text: &str| {
        assert!(RELUP.contains(text), "{text}");
        Some(RELUP.replacen(text, "", 1))
    };
    let instead = |text: &str, by: &str| Some(RELUP.replacen(text, by, 1));
    let cases: Vec<(&str, Option<String>, &[&str])> = vec![
        ("missing", None, &["R009"]),
        ("broken", Some("{".into()), &["R009"]),
        ("for another version", instead("{\"2\",[{", "{\"3\",[{"), &["R009"]),
        ("from another version", instead("[{\"1\",[]", "[{\"0\",[]"), &["R009"]),
        ("no way back", without("{\"1\",[],[point_of_no_return]}"), &["R009w"]),
        ("restarts", instead("{resume,[server]}", "restart_emulator"), &["R010"]),
        ("not loaded", without("{load,{server,soft_purge,soft_purge}},"), &["R011"]),
        ("loads more", instead("[server,sup]}}", "[server,sup,x]}}"), &["R012"]),
        ("other app version", instead("{urf,\"2\"", "{urf,\"1\""), &["R012", "R012"]),
        ("no conversion", instead("[{server,[]},{sup,[]}]", "[{sup,[]}]"), &["R013"]),
        ("kills", instead("{server,soft_purge,soft_purge}", "{server,soft_purge,brutal_purge}"), &["R016w"]),
        ("no child", without(",{apply,{supervisor,restart_child,[sup,x]}}"), &["R019w"]),
    ];
    for (name, relup, expected) in cases {
        let mut found = codes(NONE, NONE, relup.as_deref());
        found.retain(|code| code != "R014w");
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_package_alone_is_checked_too() {
    let alone = |fault: Fault, relup: Option<&str>| -> Vec<&'static str> {
        let mut package = package("2", relup);
        fault(&mut package);
        super::alone(&package).iter().map(|finding| finding.code).collect()
    };
    let cases: &[(&str, Fault, Option<&str>, &[&str])] = &[
        ("sound", NONE, Some(RELUP), &[]),
        ("without a relup", NONE, None, &[]),
        ("broken relup", NONE, Some("{"), &["R009"]),
        (
            "relup of another version",
            |new| rel(new).version = "3".into(),
            Some(RELUP),
            &["R001", "R001", "R003", "R009"],
        ),
        ("sasl that is not started", |new| rel(new).idle.push("sasl".into()), Some(RELUP), &["R002"]),
        ("no sasl", |new| rel(new).apps.retain(|app| app.0 != "sasl"), None, &["R002"]),
        (
            "module missing",
            |new| drop(new.modules.get_mut("urf").unwrap().remove("sup")),
            Some(RELUP),
            &["R012"],
        ),
        (
            "appup of another version",
            |new| drop(new.appups.insert("urf".into(), "{\"1\",[],[]}.".into())),
            None,
            &["R023"],
        ),
        ("appup broken", |new| drop(new.appups.insert("urf".into(), "{".into())), None, &["R023"]),
    ];
    for (name, fault, relup, expected) in cases {
        assert_eq!(alone(*fault, *relup), *expected, "{name}");
    }
}

#[test]
fn an_archive_must_be_the_one_whose_digest_lies_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("urf-2.tar.gz");
    let rel: &[u8] = b"{release,{\"urf\",\"2\"},{erts,\"13\"},[{sasl,\"4\"}]}.";
    write_archive(&path, &[("releases/2/urf.rel", rel)]);
    let package = Package::read(&path).unwrap();
    let has = |digest: &str| {
        std::fs::write(dir.path().join("urf-2.tar.gz.sha256"), format!("{digest}  urf-2.tar.gz\n")).unwrap();
        super::alone(&package).iter().any(|finding| finding.code == "R021")
    };
    assert!(!has(&package.sha256));
    assert!(has("0000"));
}

mod on_a_target {
    use super::*;
    use crate::release::installed::{Evidence, InstalledRelease, Snapshot};

    fn evidence() -> Evidence {
        let release = |version: &str, status: &str| InstalledRelease {
            version: version.into(),
            status: status.into(),
            libraries: [format!("urf-{version}")].into(),
        };
        let snapshot = Snapshot {
            releases: vec![release("1", "permanent")],
            applications: [("urf".to_owned(), "1".to_owned())].into(),
            modules: [("server".to_owned(), "31".repeat(16)), ("sup".to_owned(), "31".repeat(16))].into(),
            ..Snapshot::default()
        };
        let entries = ["lib/urf-1", "releases/1"].map(str::to_owned).into();
        Evidence { snapshot: Some(snapshot), free: Some(1 << 20), entries, ..Evidence::default() }
    }

    type Change = fn(&mut Evidence);

    #[test]
    fn every_fault_of_a_target_is_found() {
        let cases: &[(&str, Change, &[&str])] = &[
            ("sound", |_| {}, &[]),
            ("no room", |e| e.free = Some(3), &["R020"]),
            ("a library left", |e| _ = e.entries.insert("lib/urf-2".into()), &["R022"]),
            ("a release left", |e| _ = e.entries.insert("releases/2".into()), &["R022"]),
            ("unpacked", |e| status(e, "2", "unpacked"), &["R022"]),
            ("unpacked another", |e| status(e, "3", "unpacked"), &[]),
            ("never made permanent", |e| status(e, "1.5", "current"), &["R027"]),
            (
                "other code runs",
                |e| drop(e.snapshot.as_mut().unwrap().modules.insert("sup".into(), "00".repeat(16))),
                &["R024"],
            ),
            ("no node answers", |e| e.snapshot = None, &[]),
        ];
        for (name, change, expected) in cases {
            let mut evidence = evidence();
            change(&mut evidence);
            let found = super::super::target(&package("2", None), Some(&package("1", None)), &evidence);
            let codes: Vec<_> = found.iter().map(|finding| finding.code).collect();
            assert_eq!(codes, *expected, "{name}: {found:?}");
        }
    }

    fn status(evidence: &mut Evidence, version: &str, status: &str) {
        evidence.snapshot.as_mut().unwrap().releases.push(InstalledRelease {
            version: version.into(),
            status: status.into(),
            ..InstalledRelease::default()
        });
    }

    #[test]
    fn processes_that_would_be_missed_or_killed_are_found() {
        let new = package("2", Some(RELUP));
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let codes = |missed: &[&str], lingering: &[&str]| -> Vec<&'static str> {
            let live = super::super::Processes { missed: set(missed), lingering: set(lingering) };
            super::super::processes(&new, "1", &live).iter().map(|finding| finding.code).collect()
        };
        assert_eq!(codes(&[], &[]), [""; 0]);
        assert_eq!(codes(&["server"], &["sup"]), ["R025", "R026"]);
        assert_eq!(codes(&["other"], &["other"]), [""; 0]);
    }
}
