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
