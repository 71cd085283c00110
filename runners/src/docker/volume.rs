//! Files that go into a volume and back, as tar streams of the engine.

use super::engine::{Engine, told};
use super::files::opened;
use crate::archive::Unpacked;
use crate::executor::{ExecutorError, Site};
use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use futures_util::{StreamExt, stream};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Bytes of one piece of a stream.
const PIECE: usize = 128 * 1024;

/// Makes the project's directory and, for its owner only unless `mode` says more, the one of file variables.
pub(super) async fn make_directories(
    engine: &Engine,
    container: &str,
    site: &Site,
    mode: u32,
) -> Result<(), ExecutorError> {
    let (builds, project, temporary) = (site.builds.clone(), site.project.clone(), site.temporary.clone());
    let tar = written(move |tar| {
        let mut path = PathBuf::new();
        for part in project.strip_prefix(&builds).unwrap_or(&project).components() {
            path.push(part);
            directory(tar, &path, mode | 0o755)?;
        }
        directory(tar, temporary.strip_prefix(&builds).unwrap_or(&temporary), mode)
    });
    upload(engine, container, &site.builds, tar.await?).await
}

/// Copies the tree `from` into a directory of the container; `open`: for everybody to write.
pub(super) async fn upload_tree(
    engine: &Engine,
    container: &str,
    into: &Path,
    from: PathBuf,
    open: bool,
) -> Result<(), ExecutorError> {
    let tar = written(move |tar| {
        let mut waiting = vec![PathBuf::new()];
        while let Some(relative) = waiting.pop() {
            for entry in fs::read_dir(from.join(&relative))? {
                let path = relative.join(entry?.file_name());
                if append(tar, &from, &path, open)? {
                    waiting.push(path);
                }
            }
        }
        Ok(())
    });
    upload(engine, container, into, tar.await?).await
}

/// One file, link or directory; true for a directory.
fn append(tar: &mut Builder<File>, root: &Path, path: &Path, open: bool) -> io::Result<bool> {
    let full = root.join(path);
    let found = fs::symlink_metadata(&full)?;
    let mut header = Header::new_gnu();
    header.set_mode(if open { opened(found.mode()) } else { found.mode() & 0o777 | 0o200 });
    header.set_mtime(u64::try_from(found.mtime()).unwrap_or(0));
    header.set_size(0);
    if found.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        tar.append_link(&mut header, path, fs::read_link(&full)?)?;
    } else if found.is_dir() {
        header.set_entry_type(EntryType::Directory);
        tar.append_data(&mut header, path, io::empty())?;
    } else if found.is_file() {
        header.set_size(found.len());
        tar.append_data(&mut header, path, File::open(&full)?.take(found.len()))?;
    }
    Ok(found.is_dir())
}

fn directory(tar: &mut Builder<File>, path: &Path, mode: u32) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Directory);
    header.set_mode(mode);
    header.set_size(0);
    tar.append_data(&mut header, path, io::empty())
}

/// Unpacks an archive of ours into a directory of the container. The engine keeps it inside the container's root.
pub(super) async fn upload_archive(
    engine: &Engine,
    container: &str,
    into: &Path,
    archive: File,
    open: bool,
) -> Result<Unpacked, ExecutorError> {
    let (told, counted) = std::sync::mpsc::channel();
    let tar = written(move |tar| {
        let mut unpacked = Unpacked::default();
        let mut archive = tar::Archive::new(zstd::Decoder::new(archive)?);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            let mut header = entry.header().clone();
            if open {
                header.set_mode(opened(header.mode()?));
            }
            header.set_uid(0);
            header.set_gid(0);
            if header.entry_type() == EntryType::Symlink {
                let target = entry.link_name()?.unwrap_or_default().into_owned();
                tar.append_link(&mut header, &path, target)?;
                unpacked.files += 1;
            } else {
                unpacked.files += u64::from(header.entry_type() == EntryType::Regular);
                unpacked.bytes += entry.size();
                tar.append_data(&mut header, &path, &mut entry)?;
            }
        }
        // its reader waits below
        let _ = told.send(unpacked);
        Ok(())
    });
    upload(engine, container, into, tar.await?).await?;
    Ok(counted.recv().unwrap_or_default())
}

/// A tar file without a name, ready to be read.
async fn written(
    fill: impl FnOnce(&mut Builder<File>) -> io::Result<()> + Send + 'static,
) -> Result<File, ExecutorError> {
    let failed =
        |error: &dyn std::fmt::Display| ExecutorError::system("packing files for the container", error);
    let writing = tokio::task::spawn_blocking(move || {
        let mut tar = Builder::new(tempfile::tempfile()?);
        fill(&mut tar)?;
        let mut file = tar.into_inner()?;
        file.rewind()?;
        Ok::<File, io::Error>(file)
    });
    writing.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

async fn upload(engine: &Engine, container: &str, into: &Path, tar: File) -> Result<(), ExecutorError> {
    let pieces = stream::unfold(Some(tokio::fs::File::from_std(tar)), |file| async move {
        let mut file = file?;
        let mut piece = vec![0; PIECE];
        match tokio::io::AsyncReadExt::read(&mut file, &mut piece).await {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some((Ok(piece.into()), Some(file)))
            }
            Err(error) => Some((Err(error), None)),
        }
    });
    let options = UploadToContainerOptionsBuilder::new().path(&into.to_string_lossy()).build();
    let sent =
        engine.api.upload_to_container(container, Some(options), bollard::body_try_stream(pieces)).await;
    sent.map_err(|error| ExecutorError::system("copying files into the container", told(&error)))
}

/// A directory of the container, as a directory of that name in a temporary one.
pub(super) async fn download(
    engine: &Engine,
    container: &str,
    directory: &Path,
) -> Result<tempfile::TempDir, ExecutorError> {
    let failed =
        |error: &dyn std::fmt::Display| ExecutorError::system("copying files from the container", error);
    let options = DownloadFromContainerOptionsBuilder::new().path(&directory.to_string_lossy()).build();
    let mut pieces = std::pin::pin!(engine.api.download_from_container(container, Some(options)));
    let mut file = tempfile::tempfile().map_err(|error| failed(&error))?;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| failed(&told(&error)))?;
        // the page cache takes it
        file.write_all(&piece).map_err(|error| failed(&error))?;
    }
    let unpacking = tokio::task::spawn_blocking(move || {
        file.rewind()?;
        let directory = tempfile::tempdir()?;
        let mut archive = tar::Archive::new(file);
        archive.set_preserve_permissions(true);
        // never through a link, never out of the directory
        archive.unpack(directory.path())?;
        Ok::<_, io::Error>(directory)
    });
    unpacking.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}
