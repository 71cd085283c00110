//! The package of a `mix release`, given what upgrades of a running node need: `RELEASES`, a script of every version, and
//! one that speaks as rebar3's does. The script that starts it stays mix's.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{
    super::{
        Error, Package, Project, archive,
        mix::{self, Mix},
        rel::{Rel, ReleasesEntry, Status, releases_text},
        tree,
    },
    command::{Log, Step, run},
    staging::{blocking, remove},
};

const SCRIPT: &str = include_str!("relx.sh");

/// Builds the package of the project's sources below `base`.
pub(super) async fn build(project: &Project, how: &Mix, base: &Path, log: Log<'_>) -> Result<Package, Error> {
    let environment = mix::environment(&project.profile);
    let tree = base.join("rel").join(&project.name);
    remove(&tree)?;
    let mut env = vec![
        ("MIX_ENV", environment.into()),
        ("NAME", (&*project.name).into()),
        ("VERSION", (&*project.version).into()),
    ];
    for command in &how.commands {
        let args = vec!["-c".to_owned(), command.clone()];
        run(Step { program: "sh", args, dir: &project.dir, env: env.clone(), input: String::new() }, log)
            .await?;
    }
    if how.package.is_none() {
        let path = tree.display().to_string();
        let args = ["release", &project.name, "--overwrite", "--path", &path].map(str::to_owned).to_vec();
        env.push(("MIX_BUILD_PATH", base.join(environment).into()));
        run(Step { program: "mix", args, dir: &project.dir, env, input: String::new() }, log).await?;
    }
    let left = how.package.clone();
    let to = base.join(format!("{}-{}.tar.gz", project.name, project.version));
    let project = project.clone();
    blocking(move || {
        if let Some(left) = left {
            archive::unpack(&left, &tree)?;
        }
        dress(&project, &tree)?;
        tree::pack(&tree, &to)?;
        Package::read(&to)
    })
    .await
}

/// Adds to an assembled release what release_handler and we need.
fn dress(project: &Project, tree: &Path) -> Result<(), Error> {
    let Project { name, version, .. } = project;
    let release = tree.join("releases").join(version);
    let script = tree.join("bin").join(name);
    let rel = release.join(format!("{name}.rel"));
    if !rel.is_file() || !script.is_file() {
        return Err(Error::Project(format!(
            "what was built holds no release `{name}` `{version}` (bin/{name}, releases/{version}/{name}.rel): `version:` in \
             mix.exs or in `releases:` there has to be the version that is deployed"
        )));
    }
    let text = fs::read_to_string(&rel).map_err(Error::io("reading", &rel))?;
    let rel = Rel::parse(&format!("{name}.rel"), &text)?;
    let text = releases_text(&ReleasesEntry { rel, status: Status::Permanent }, Vec::new());
    write(&tree.join("releases/RELEASES"), text.as_bytes(), 0o644)?;
    let own = fs::read(&script).map_err(Error::io("reading", &script))?;
    write(&tree.join("bin").join(format!("{name}-{version}")), &own, 0o755)?;
    write(&tree.join("bin/slipway"), SCRIPT.replace("@NAME@", name).as_bytes(), 0o755)?;
    consolidate(tree, &release.join("consolidated"))
}

/// The node runs protocols from `consolidated`, but upgrades read `lib`: there they are the same from now on, so that
/// what a version changes in them is seen.
fn consolidate(tree: &Path, consolidated: &Path) -> Result<(), Error> {
    let libraries: Vec<PathBuf> =
        fs::read_dir(tree.join("lib")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    for beam in fs::read_dir(consolidated).into_iter().flatten().flatten() {
        for library in &libraries {
            let plain = library.join("ebin").join(beam.file_name());
            if plain.is_file() {
                fs::copy(beam.path(), &plain).map_err(Error::io("copying to", &plain))?;
            }
        }
    }
    Ok(())
}

fn write(path: &Path, data: &[u8], mode: u32) -> Result<(), Error> {
    fs::write(path, data)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(Error::io("writing", path))
}
