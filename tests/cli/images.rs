//! `ci images` against a real registry.

use crate::registry::Registry;
use crate::tree::Tree;

#[test]
fn images_come_are_listed_and_go() {
    let registry = Registry::with(&["tiny", "noshell"]);
    let tree = Tree::bare();
    let name = format!("{}/tiny", registry.address);
    let none = tree.run(&["images"]);
    assert!(none.code == 0 && none.contains("no images"), "{none}");

    let pulled = tree.run(&["images", "pull", &name]);
    assert!(pulled.code == 0 && pulled.stdout.starts_with(&format!("{name} sha256:")), "{pulled}");
    let listed = tree.run(&["images"]);
    for text in
        ["NAME", "LAST USED", &format!("{name}:latest"), "linux/amd64", "just now", "1 image, 2.0 MB on disk"]
    {
        assert!(listed.contains(text), "`{text}`: {listed}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&tree.run(&["images", "--format", "json"]).stdout).unwrap();
    assert_eq!(json[0]["name"], format!("{name}:latest"));
    assert!(json[0]["bytes"].as_u64().unwrap() > 1_000_000);

    let gone = tree.run(&["images", "rm", &name, "nobody"]);
    assert!(
        gone.code == 1 && gone.contains("removed") && gone.contains("there is no image `nobody`"),
        "{gone}"
    );
    assert!(tree.run(&["images"]).contains("no images"));
}

#[test]
fn what_can_not_be_pulled_is_explained() {
    let registry = Registry::with(&["tiny"]);
    let tree = Tree::bare();
    let absent = format!("{}/absent", registry.address);
    let tiny = format!("{}/tiny", registry.address);
    for (arguments, code, texts) in [
        (&["images", "pull", &absent][..], 1, &["has no image"][..]),
        (&["images", "pull", "127.0.0.1:1/x"], 1, &["`127.0.0.1:1` can't be reached", "refused"]),
        (&["images", "pull", "No Name"], 2, &["`No Name` is not the name of an image"]),
        (
            &["images", "pull", "--platform", "linux/s390x", &tiny],
            1,
            &["not made for `linux/s390x`", "`linux/amd64`"],
        ),
        (&["images", "pull", "--platform", "a/b/c/d", &tiny], 2, &["is no platform"]),
        (&["images", "import", "nothing.tar"], 1, &["nothing.tar", "No such file"]),
        (&["images", "rm", "nobody"], 1, &["there is no image `nobody`", "`ci images` lists them"]),
    ] {
        let said = tree.run(arguments);
        assert_eq!(said.code, code, "{arguments:?}: {said}");
        for text in texts {
            assert!(said.contains(text), "{arguments:?}: `{text}`: {said}");
        }
    }
}

#[test]
fn a_mirror_in_the_settings_is_asked_first() {
    let registry = Registry::with(&["tiny"]);
    let settings = format!("registries:\n  registry.invalid: {{mirror: \"{}\"}}\n", registry.address);
    let tree = Tree::with(&[(".ci/settings.yml", &settings)]);
    let pulled = tree.run(&["images", "pull", "registry.invalid/tiny"]);
    assert_eq!(pulled.code, 0, "{pulled}");
    assert!(tree.run(&["images"]).contains("registry.invalid/tiny:latest"));
}

#[test]
fn the_end_of_a_run_removes_images_beyond_the_settings() {
    let registry = Registry::with(&["tiny"]);
    let yaml = format!("job: {{image: {}/tiny, script: [echo inside]}}\n", registry.address);
    let tree = Tree::with(&[(".gitlab-ci.yml", &yaml), (".ci/settings.yml", "keep: {images: 1 GB}\n")]);
    let run = |said: crate::tree::Said| assert_eq!(said.code, 0, "{said}");
    run(tree.run(&["run"]));
    assert!(tree.run(&["images"]).contains("/tiny:latest"));
    tree.write(".ci/settings.yml", "keep: {images: 1 kB}\n");
    run(tree.run(&["run"]));
    assert!(tree.run(&["images"]).contains("no images"));
}
