//! The jobs' files. Where the engine sees this machine's files and we may delete what containers write, they are in
//! a directory here that containers have as `/builds`; else they are in a volume, and go there and back as tar
//! streams. Nothing of the job runs while we work on them: its container is stopped between steps.

use super::engine::{Engine, told};
use super::execution::Belongings;
use super::executor::{BUILDS, Docker};
use super::job_container::{bind, volume};
use super::owner;
use super::pull::Pulled;
use super::volume::{download, upload_archive, upload_tree};
use crate::archive::{self, Packed, Selection, Unpacked};
use crate::executor::{Directory, ExecutorError, Site};
use crate::workspace;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, VolumeCreateRequest};
use bollard::query_parameters::{ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where they are.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// `/builds` on this machine; none: in a volume.
    here: Option<PathBuf>,
    /// For everybody to write: the container's user is not root. GitLab does it for all images.
    open: bool,
}

impl Files {
    /// Decides where they are, and makes the volume if that is where.
    pub(super) async fn make(
        docker: &Docker,
        image: &Pulled,
        root_inside: bool,
        belongings: &mut Belongings,
    ) -> Result<Files, ExecutorError> {
        let open = !root_inside;
        let root_here = rustix::process::geteuid().is_root();
        let deletable = root_here || (docker.engine.rootless && root_inside);
        if deletable && docker.engine.is_near() && shares(docker, image).await {
            let here = belongings.workspace().map(|workspace| workspace.builds.clone());
            belongings.image = Some(image.id.clone());
            return Ok(Files { here, open });
        }
        let name = owner::unique_name();
        let request = VolumeCreateRequest {
            name: Some(name.clone()),
            labels: Some(owner::labels()),
            ..Default::default()
        };
        belongings.volume = Some(name);
        let made = docker.engine.api.create_volume(request).await;
        made.map_err(|error| ExecutorError::system("making a volume", told(&error)))?;
        Ok(Files { here: None, open })
    }

    /// `/builds` of the container.
    pub(super) fn mount(&self, belongings: &Belongings) -> Mount {
        match &self.here {
            Some(directory) => bind(directory, BUILDS),
            None => volume(belongings.volume.as_deref().unwrap_or_default(), BUILDS),
        }
    }

    /// Makes the project's directory and the one of file variables.
    pub(super) async fn fill(
        &self,
        engine: &Engine,
        container: &str,
        site: &Site,
    ) -> Result<(), ExecutorError> {
        match &self.here {
            Some(here) => {
                let (here, open) = (here.clone(), self.open);
                blocking("opening the workspace", move || if open { open_up(&here) } else { Ok(()) }).await
            }
            None => {
                let mode = if self.open { 0o777 } else { 0o700 };
                super::volume::make_directories(engine, container, site, mode).await
            }
        }
    }

    /// Copies the sources into the project's directory.
    pub(super) async fn copy(
        &self,
        engine: &Engine,
        container: &str,
        site: &Site,
        checkout: PathBuf,
    ) -> Result<(), ExecutorError> {
        let Some(here) = self.here.clone() else {
            return upload_tree(engine, container, &site.project, checkout, self.open).await;
        };
        let (relative, open) = (below(&site.project), self.open);
        blocking("getting the sources", move || {
            let project = real_directory(&here, &relative)?;
            workspace::copy_tree(&checkout, &project)?;
            if open { open_up(&project) } else { Ok(()) }
        })
        .await
    }

    /// See [`archive::pack`].
    pub(super) async fn pack(
        &self,
        engine: &Engine,
        container: &str,
        site: &Site,
        selection: Selection,
        archive: File,
    ) -> Result<Packed, ExecutorError> {
        let selection = relative(selection, &site.project);
        let (here, fetched) = match &self.here {
            Some(here) => (here.clone(), None),
            None => {
                let directory = download(engine, container, &site.project).await?;
                (directory.path().to_owned(), Some(directory))
            }
        };
        let path = match fetched {
            // the archive of a directory begins with its name
            Some(_) => PathBuf::from(site.project.file_name().unwrap_or_default()),
            None => below(&site.project),
        };
        let packed = tokio::task::spawn_blocking(move || {
            // removed when all is read
            let _fetched = fetched;
            let project = real_directory(&here, &path)
                .map_err(|error| ExecutorError::system("packing files", error))?;
            Ok(archive::pack(&project, &selection, archive)?)
        });
        packed.await.map_err(|error| ExecutorError::system("packing files", error))?
    }

    /// See [`archive::unpack`].
    pub(super) async fn unpack(
        &self,
        engine: &Engine,
        container: &str,
        site: &Site,
        into: Directory,
        archive: File,
    ) -> Result<Unpacked, ExecutorError> {
        let directory = match into {
            Directory::Project => &site.project,
            Directory::Temporary => &site.temporary,
        };
        let Some(here) = self.here.clone() else {
            return upload_archive(engine, container, directory, archive, self.open).await;
        };
        let (path, open) = (below(directory), self.open);
        let unpacked = tokio::task::spawn_blocking(move || {
            let failed = |error: io::Error| ExecutorError::system("unpacking files", error);
            let directory = real_directory(&here, &path).map_err(failed)?;
            let unpacked = archive::unpack(&directory, archive)?;
            if open {
                open_up(&directory).map_err(failed)?;
            }
            Ok(unpacked)
        });
        unpacked.await.map_err(|error| ExecutorError::system("unpacking files", error))?
    }
}

/// Does the engine see the files of this machine? Asked once, with a directory that only we know.
async fn shares(docker: &Docker, image: &Pulled) -> bool {
    *docker.shares.get_or_init(|| looked_up(docker, image)).await
}

async fn looked_up(docker: &Docker, image: &Pulled) -> bool {
    let name = owner::unique_name();
    let Ok(directory) = tempfile::tempdir_in(&docker.builds) else { return false };
    if File::create(directory.path().join(&name)).is_err() {
        return false;
    }
    let mounts = Some(vec![bind(directory.path(), BUILDS)]);
    let body = ContainerCreateBody {
        image: Some(image.id.clone()),
        cmd: Some(vec!["true".to_owned()]),
        labels: Some(owner::labels()),
        host_config: Some(HostConfig { mounts, ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let api = &docker.engine.api;
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    let path = ContainerArchiveInfoOptionsBuilder::new().path(&format!("{BUILDS}/{name}")).build();
    let seen = api.create_container(Some(options), body).await.is_ok()
        && api.get_container_archive_info(&name, Some(path)).await.is_ok();
    // what is left, the sweep removes
    let _ = owner::remove_container(&docker.engine, &name).await;
    seen
}

/// Path of a directory of the job, relative to `/builds`.
fn below(directory: &Path) -> PathBuf {
    directory.strip_prefix(BUILDS).unwrap_or(directory).to_owned()
}

/// Patterns relative to the project: here its path is another one.
fn relative(selection: Selection, project: &Path) -> Selection {
    let one = |text: String| match Path::new(&text).strip_prefix(project) {
        Ok(rest) if rest.as_os_str().is_empty() => ".".to_owned(),
        Ok(rest) => {
            // a slash at the end means something in a pattern
            let slash = if text.ends_with('/') { "/" } else { "" };
            format!("{}{slash}", rest.display())
        }
        Err(_) => text,
    };
    Selection {
        paths: selection.paths.into_iter().map(one).collect(),
        exclude: selection.exclude.into_iter().map(one).collect(),
        ..selection
    }
}

/// The directory, if no part of its path was replaced by a link: a job could lead us out of its files so.
fn real_directory(root: &Path, relative: &Path) -> io::Result<PathBuf> {
    let mut path = root.to_owned();
    for component in relative.components() {
        path.push(component);
        if !fs::symlink_metadata(&path)?.is_dir() {
            let text = format!("`{}` is no directory any more: the job replaced it", relative.display());
            return Err(io::Error::other(text));
        }
    }
    Ok(path)
}

/// Lets everybody read and write, and enter directories and run what its owner may run. Links are left alone.
fn open_up(directory: &Path) -> io::Result<()> {
    let mut waiting = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        let found = fs::symlink_metadata(&path)?;
        if found.is_symlink() {
            continue;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(opened(found.permissions().mode())))?;
        if found.is_dir() {
            for entry in fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        }
    }
    Ok(())
}

/// A mode for everybody.
pub(super) fn opened(mode: u32) -> u32 {
    let run = if mode & 0o100 != 0 { 0o111 } else { 0 };
    mode & 0o7777 | 0o666 | run
}

async fn blocking(
    doing: &str,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), ExecutorError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ExecutorError::system(doing, error))?
        .map_err(|error| ExecutorError::system(doing, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_patterns_below_the_project_become_relative() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let paths =
            texts(&["/builds/g/p/out/*.o", "/builds/g/p/dir/", "/builds/g/p", "rel/**", "/etc/passwd"]);
        let got = relative(Selection { paths, ..Selection::default() }, Path::new("/builds/g/p"));
        assert_eq!(got.paths, ["out/*.o", "dir/", ".", "rel/**", "/etc/passwd"]);
    }

    #[test]
    fn a_project_that_became_a_link_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("g/p")).unwrap();
        assert!(real_directory(root.path(), Path::new("g/p")).is_ok());
        fs::remove_dir(root.path().join("g/p")).unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("g/p")).unwrap();
        assert!(real_directory(root.path(), Path::new("g/p")).unwrap_err().to_string().contains("replaced"));
    }

    #[test]
    fn files_for_everybody_keep_whether_they_can_be_run() {
        for (mode, expected) in [(0o600, 0o666), (0o755, 0o777), (0o500, 0o777), (0o4755, 0o4777)] {
            assert_eq!(opened(mode), expected, "{mode:o}");
        }
    }
}
