//! Artifacts as runners of GitLab exchange them: zip archives, gzip members one after the other, plain files. Here they
//! are tar archives compressed with zstd. Everything blocks.

use flate2::{Compression, GzBuilder};
use runners::archive::PackedFile;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use zip::write::{FullFileOptions, ZipWriter};
use zip::{CompressionMethod, ExtraField, ZipArchive};

/// Id of the extra field with times to the second: the times of zip itself have no zone and count in twos.
const TIMES: u16 = 0x5455;
/// Says that the modification time is there.
const MODIFIED: u8 = 1;
/// Much quicker than the usual 6, and not much larger.
const LEVEL: u32 = 3;
/// Longer paths are no links.
const LONGEST_LINK: u64 = 4096;

fn broken(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// From tar and zstd to zip.
pub(super) fn zip(from: File, to: File) -> io::Result<()> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(from)?);
    let mut writer = ZipWriter::new(io::BufWriter::with_capacity(256 * 1024, to));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let header = entry.header();
        let (mode, time, kind) = (header.mode()?, header.mtime()?, header.entry_type());
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let options = options(mode, time, entry.size())?;
        match kind {
            tar::EntryType::Directory => writer.add_directory(name, options).map_err(broken)?,
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().map(|t| t.into_owned()).unwrap_or_default();
                let target = String::from_utf8_lossy(&target).into_owned();
                writer.add_symlink(name, target, options).map_err(broken)?;
            }
            tar::EntryType::Regular => {
                writer.start_file(name, options).map_err(broken)?;
                io::copy(&mut entry, &mut writer)?;
            }
            _ => {}
        }
    }
    writer.finish().map_err(broken)?.flush()
}

fn options(mode: u32, time: u64, size: u64) -> io::Result<FullFileOptions<'static, 'static>> {
    let mut options = FullFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(i64::from(LEVEL)))
        .unix_permissions(mode & 0o777)
        .large_file(size >= u64::from(u32::MAX));
    if let Ok(time) = u32::try_from(time) {
        let mut field = vec![MODIFIED];
        field.extend(time.to_le_bytes());
        options.add_extra_field(TIMES, field, false).map_err(broken)?;
    }
    Ok(options)
}

/// From tar and zstd to gzip: one member for each file, its name in front.
pub(super) fn gzip(from: File, mut to: impl Write) -> io::Result<()> {
    each_file(from, |name, time, content| {
        let name: Vec<u8> = name.bytes().filter(|byte| *byte != 0).collect();
        let header = GzBuilder::new().filename(name).mtime(u32::try_from(time).unwrap_or(0));
        let mut member = header.write(&mut to, Compression::new(LEVEL));
        io::copy(content, &mut member)?;
        member.finish().map(|_| ())
    })?;
    to.flush()
}

/// From tar and zstd to the one file that is in it; its name.
///
/// # Errors
/// There are several, or none.
pub(super) fn raw(from: File, mut to: impl Write) -> io::Result<String> {
    let mut found: Option<String> = None;
    each_file(from, |name, _, content| match &found {
        Some(first) => Err(broken(format!(
            "only one file can be uploaded as it is, and there are `{first}` and `{name}`"
        ))),
        None => {
            found = Some(name.rsplit('/').next().unwrap_or(name).to_owned());
            io::copy(content, &mut to).map(|_| ())
        }
    })?;
    to.flush()?;
    found.ok_or_else(|| broken("there is no file in it"))
}

fn each_file(from: File, mut done: impl FnMut(&str, u64, &mut dyn Read) -> io::Result<()>) -> io::Result<()> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(from)?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() {
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let time = entry.header().mtime().unwrap_or(0);
            done(&name, time, &mut entry)?;
        }
    }
    Ok(())
}

/// What came as an archive of other jobs, by its first bytes, to tar and zstd; what is in it. Names are left as they
/// are: unpacking refuses those that lead out of the project.
pub(super) fn unzip(mut from: File, to: &Path) -> io::Result<Vec<PackedFile>> {
    let mut magic = [0; 4];
    let length = from.read(&mut magic)?;
    from.seek(SeekFrom::Start(0))?;
    match &magic[..length] {
        [b'P', b'K', ..] => {}
        [0x28, 0xb5, 0x2f, 0xfd] => {
            io::copy(&mut from, &mut File::create(to)?)?;
            return Ok(Vec::new());
        }
        [] => return Err(broken("it is empty")),
        _ => return Err(broken("it is neither a zip nor a zstd archive")),
    }
    let mut archive = ZipArchive::new(io::BufReader::new(from)).map_err(broken)?;
    let mut builder = tar::Builder::new(zstd::Encoder::new(File::create(to)?, 1)?);
    let mut files = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let path = entry.name().map_err(broken)?.into_owned();
        let size = append(&mut builder, &mut entry, &path)?;
        files.push(PackedFile { path, size });
    }
    builder.into_inner()?.finish()?.flush()?;
    Ok(files)
}

fn append<R: Read>(
    builder: &mut tar::Builder<impl Write>,
    entry: &mut zip::read::ZipFile<'_, R>,
    path: &str,
) -> io::Result<u64> {
    let mut header = tar::Header::new_gnu();
    let directory = entry.is_dir();
    header.set_mode(entry.unix_mode().unwrap_or(if directory { 0o755 } else { 0o644 }) & 0o777);
    header.set_mtime(modified(entry));
    header.set_size(0);
    if directory {
        header.set_entry_type(tar::EntryType::Directory);
        return put(builder, header, path, &[][..]).map(|()| 0);
    }
    if entry.is_symlink() {
        let mut target = Vec::new();
        entry.take(LONGEST_LINK).read_to_end(&mut target)?;
        header.set_entry_type(tar::EntryType::Symlink);
        header
            .set_link_name_literal(&target)
            .map_err(|_| broken("a link leads to a path that is too long"))?;
        return put(builder, header, path, &[][..]).map(|()| 0);
    }
    let size = entry.size();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    // tar wants exactly as much as was promised
    let exactly = entry.take(size);
    put(builder, header, path, exactly).map(|()| size)
}

/// Names are kept as they are, also those that tar itself would refuse: unpacking decides.
fn put(
    builder: &mut tar::Builder<impl Write>,
    mut header: tar::Header,
    path: &str,
    content: impl Read,
) -> io::Result<()> {
    let outside = path.starts_with('/') || path.split('/').any(|part| part == "..");
    if outside {
        return Err(broken(format!("`{path}` leads out of the directory")));
    }
    builder.append_data(&mut header, path, content)
}

fn modified<R: Read>(entry: &zip::read::ZipFile<'_, R>) -> u64 {
    let exact = entry.extra_data_fields().find_map(|field| match field {
        ExtraField::ExtendedTimestamp(times) => times.mod_time(),
        _ => None,
    });
    if let Some(exact) = exact {
        return u64::from(exact);
    }
    let written = entry.last_modified().and_then(|t| {
        let date = jiff::civil::DateTime::new(
            i16::try_from(t.year()).ok()?,
            i8::try_from(t.month()).ok()?,
            i8::try_from(t.day()).ok()?,
            i8::try_from(t.hour()).ok()?,
            i8::try_from(t.minute()).ok()?,
            i8::try_from(t.second()).ok()?,
            0,
        );
        let seconds = date.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
        u64::try_from(seconds).ok()
    });
    written.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runners::archive::{Selection, pack, unpack};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Duration, SystemTime};

    fn packed(root: &Path) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        let selection = Selection { paths: vec!["out".to_owned()], ..Selection::default() };
        pack(root, &selection, &mut file).expect("packed");
        file.seek(SeekFrom::Start(0)).expect("rewound");
        file
    }

    #[test]
    fn an_archive_comes_back_as_it_went() {
        let (from, to) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_001);
        std::fs::create_dir_all(from.path().join("out/empty")).expect("a directory");
        std::fs::write(from.path().join("out/run"), "#!/bin/sh\n").expect("a file");
        std::fs::set_permissions(from.path().join("out/run"), PermissionsExt::from_mode(0o755))
            .expect("mode");
        File::options()
            .append(true)
            .open(from.path().join("out/run"))
            .and_then(|file| file.set_modified(time))
            .expect("a time");
        symlink("run", from.path().join("out/link")).expect("a link");
        let zipped = to.path().join("artifacts.zip");
        zip(packed(from.path()), File::create(&zipped).expect("a file")).expect("zipped");
        let tar = to.path().join("artifacts.tar.zst");
        let files = unzip(File::open(&zipped).expect("a file"), &tar).expect("unzipped");
        assert!(files.iter().any(|file| file.path == "out/run" && file.size == 10), "{files:?}");
        let root = to.path().join("root");
        std::fs::create_dir(&root).expect("a directory");
        unpack(&root, File::open(&tar).expect("a file")).expect("unpacked");
        let run = std::fs::metadata(root.join("out/run")).expect("a file");
        assert_eq!((run.permissions().mode() & 0o777, run.modified().expect("a time")), (0o755, time));
        assert_eq!(std::fs::read_link(root.join("out/link")).expect("a link"), Path::new("run"));
        assert!(root.join("out/empty").is_dir());
    }

    #[test]
    fn reports_are_gzip_members_and_raw_is_one_file() {
        let from = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(from.path().join("out")).expect("a directory");
        std::fs::write(from.path().join("out/a"), "first ").expect("a file");
        let mut bytes = Vec::new();
        assert_eq!(raw(packed(from.path()), &mut bytes).expect("one file"), "a");
        assert_eq!(bytes, b"first ");
        std::fs::write(from.path().join("out/b"), "second").expect("a file");
        let error = raw(packed(from.path()), Vec::new()).expect_err("two files").to_string();
        assert!(error.contains("`out/b`"), "{error}");
        let mut bytes = Vec::new();
        gzip(packed(from.path()), &mut bytes).expect("gzipped");
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text).expect("text");
        assert_eq!(text, "first second");
    }

    #[test]
    fn what_is_no_archive_or_leads_out_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let read = |content: &[u8]| {
            let path = dir.path().join("x");
            std::fs::write(&path, content).expect("a file");
            unzip(File::open(&path).expect("a file"), &dir.path().join("y")).expect_err("refused").to_string()
        };
        assert!(read(b"").contains("empty") && read(b"<html>").contains("neither"));
        read(b"PK\x03\x04 and nonsense");
        for name in ["../out", "/etc/x", "a/../../b"] {
            let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
            writer.start_file(name, FullFileOptions::default()).expect("an entry");
            writer.write_all(b"x").expect("written");
            let error = read(&writer.finish().expect("a zip").into_inner());
            assert!(error.contains("leads out"), "{error}");
        }
    }
}
