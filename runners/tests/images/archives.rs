//! Images from files, and layers that mean harm: an archive of a root file system is a layer as any other.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use runners::image::PullPolicy;
use sha2::{Digest as _, Sha256};

use super::{Place, Wanted, get};

/// A tar of entries: name, kind, link, content.
type Row<'a> = (&'a str, tar::EntryType, &'a str, &'a [u8]);

fn archive(rows: &[Row<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, link, content) in rows {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if *kind == Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        // written by hand: the crate refuses what we want to see refused
        let raw = header.as_old_mut();
        raw.name[..name.len()].copy_from_slice(name.as_bytes());
        raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn file(place: &Place, name: &str, bytes: &[u8]) -> PathBuf {
    let path = place.dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

use tar::EntryType::{Char, Directory, Link, Regular, Symlink};

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_lead_out_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("target");
    fs::write(&target, "untouched").unwrap();
    let target = target.to_str().unwrap();
    let up = format!("{}{}", "../".repeat(12), target.trim_start_matches('/'));
    let table: &[(&str, &[Row<'_>], &str)] = &[
        ("dots", &[("../escaped", Regular, "", b"x")], "leads out of it"),
        ("dots to a file", &[(&up, Regular, "", b"x")], "leads out of it"),
        ("hard link by dots", &[("x", Link, &up, b"")], "leads out of it"),
        // from the layer's own top there is no such file
        ("absolute hard link", &[("x", Link, target, b"")], "linking it to"),
        ("whiteout of the parent", &[("a/.wh...", Regular, "", b"")], "deletes no name"),
        ("whiteout of itself", &[(".wh..", Regular, "", b"")], "deletes no name"),
        ("a whiteout as device", &[("x", Char, "", b"")], "whiteout of overlayfs"),
        ("a file as parent", &[("x", Regular, "", b""), ("x/y", Regular, "", b"")], "directory"),
        ("not a tar", &[], ""),
    ];
    for (what, rows, expected) in table {
        let place = Place::new();
        let bytes = if rows.is_empty() { b"x".repeat(2048) } else { archive(rows) };
        let imported = place.store().import(&file(&place, "x.tar", &bytes), Some("x"), &|_| {}).await;
        let error = imported
            .map(|image| panic!("{what}: {image:?}"))
            .unwrap_or_else(|e: runners::image::ImageError| e.to_string());
        assert!(error.contains(expected), "{what}: {error}");
        place.assert_clean(0);
    }
    assert_eq!(fs::read_to_string(target).unwrap(), "untouched");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_followed_inside_the_layer_only() {
    let outside = tempfile::tempdir().unwrap();
    let top = outside.path().to_str().unwrap();
    let place = Place::new();
    let deep = top.trim_start_matches('/');
    let through = "link/file";
    let bytes = archive(&[
        (deep, Directory, "", b""),
        ("link", Symlink, top, b""),
        (through, Regular, "", b"inside"),
    ]);
    let image = place.store().import(&file(&place, "x.tar", &bytes), Some("x"), &|_| {}).await.unwrap();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(image.layers[0].join(deep).join("file")).unwrap(), "inside");
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_of_overlayfs_in_a_layer_are_refused() {
    for name in ["user.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy"] {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([(format!("SCHILY.xattr.{name}").as_str(), &b"y"[..])]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        header.set_mode(0o644);
        builder.append_data(&mut header, "x", &b""[..]).unwrap();
        let place = Place::new();
        let path = file(&place, "x.tar", &builder.into_inner().unwrap());
        let error = place.store().import(&path, Some("x"), &|_| {}).await.unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("overlayfs' own"), "{error}");
        place.assert_clean(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_entry_replaces_an_earlier_one() {
    let bytes = archive(&[
        ("a", Regular, "", b"old"),
        ("a", Regular, "", b"new"),
        ("b", Directory, "", b""),
        ("b/inside", Regular, "", b"x"),
        ("b", Regular, "", b"now a file"),
        ("c", Symlink, "/nowhere", b""),
        ("c/", Directory, "", b""),
        ("c/file", Regular, "", b"y"),
    ]);
    let place = Place::new();
    let image = place.store().import(&file(&place, "x.tar", &bytes), Some("x"), &|_| {}).await.unwrap();
    let read = |name: &str| fs::read_to_string(image.layers[0].join(name)).unwrap();
    assert_eq!([read("a"), read("b"), read("c/file")], ["new", "now a file", "y"]);
}

/// An image of `docker save`: its layer is a link, as in old ones.
fn saved(layer: &[u8], diff_id: &str) -> Vec<u8> {
    let config = format!(
        r#"{{"os": "linux", "architecture": "amd64", "config": {{"User": "app"}},
            "rootfs": {{"type": "layers", "diff_ids": ["sha256:{diff_id}"]}}}}"#
    );
    let manifest = br#"[{"Config": "c.json", "RepoTags": ["saved/image:1"], "Layers": ["a/layer.tar"]}]"#;
    archive(&[
        ("b/layer.tar", Regular, "", layer),
        ("a/layer.tar", Symlink, "../b/layer.tar", b""),
        ("c.json", Regular, "", config.as_bytes()),
        ("manifest.json", Regular, "", manifest),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_archives_are_imported_under_their_name() {
    let layer = archive(&[("file", Regular, "", b"content")]);
    let plain = saved(&layer, &sha256(&layer));
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap()
    };
    for bytes in [plain, gzip, zstd::encode_all(&saved(&layer, &sha256(&layer))[..], 1).unwrap()] {
        let place = Place::new();
        let store = place.store();
        let image = store.import(&file(&place, "x.tar", &bytes), None, &|_| {}).await.unwrap();
        assert_eq!((image.reference.as_str(), image.config.user.as_str()), ("saved/image:1", "app"));
        let wanted = Wanted { name: "saved/image:1", policies: &[PullPolicy::Never], ..Wanted::default() };
        let found = get(&store, &wanted).await.unwrap();
        assert_eq!(fs::read_to_string(found.layers[0].join("file")).unwrap(), "content");
        place.assert_clean(1);
    }
    let place = Place::new();
    let lie = saved(&layer, &sha256(b"another"));
    let error =
        place.store().import(&file(&place, "x.tar", &lie), None, &|_| {}).await.unwrap_err().to_string();
    assert!(error.contains("is damaged"), "{error}");
    place.assert_clean(0);
}

fn layout(top: &Path, layer: &[u8]) {
    let blobs = top.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        fs::write(blobs.join(sha256(bytes)), bytes).unwrap();
        format!(r#""digest": "sha256:{}", "size": {}"#, sha256(bytes), bytes.len())
    };
    let config =
        put(format!(r#"{{"rootfs": {{"type": "layers", "diff_ids": ["sha256:{}"]}}}}"#, sha256(layer))
            .as_bytes());
    let packed = put(&zstd::encode_all(layer, 1).unwrap());
    let manifest = put(format!(
        r#"{{"schemaVersion": 2, "config": {{{config}}}, "layers": [{{{packed}}}]}}"#
    )
    .as_bytes());
    let index = format!(
        r#"{{"manifests": [{{{manifest}, "annotations": {{"org.opencontainers.image.ref.name": "1.0"}}}}]}}"#
    );
    fs::write(top.join("index.json"), index).unwrap();
    fs::write(top.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn oci_layouts_are_imported_from_directories_and_archives() {
    let place = Place::new();
    let top = place.dir.path().join("layout");
    layout(&top, &archive(&[("file", Regular, "", b"content")]));
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", &top).unwrap();
    let tar = file(&place, "layout.tar", &builder.into_inner().unwrap());
    let store = place.store();
    let nameless = store.import(&top, None, &|_| {}).await.unwrap_err().to_string();
    assert!(nameless.contains("give one with `--name`"), "{nameless}");
    for (path, name) in [(&top, "a"), (&tar, "b:2")] {
        let image = store.import(path, Some(name), &|_| {}).await.unwrap();
        assert_eq!(fs::read_to_string(image.layers[0].join("file")).unwrap(), "content");
    }
    let names: Vec<String> = store.list().unwrap().into_iter().map(|listed| listed.name).collect();
    assert!(names.contains(&"docker.io/library/a:latest".to_owned()), "{names:?}");
    for (path, text) in
        [(place.dir.path().join("nothing"), "No such file"), (place.dir.path().to_owned(), "neither")]
    {
        let error = store.import(&path, Some("x"), &|_| {}).await.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}
