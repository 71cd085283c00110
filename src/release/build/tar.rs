//! `rebar3 tar`, and what its package must hold.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    super::{Error, Package, Project},
    command::{Log, Step, run},
    staging::{blocking, profile_dir, remove},
};

/// Builds the fat package of the project's sources with `base` as rebar3's base directory. Dependencies that
/// are already compiled there are used again, the project's applications and releases are not.
pub(super) async fn build(project: &Project, base: &Path, log: Log<'_>) -> Result<Package, Error> {
    if let Some(how) = &project.mix {
        return super::mix::build(project, how, base, log).await;
    }
    let profile = base.join(profile_dir(&project.profile));
    clean(project, base, &profile)?;
    let mut args = Vec::new();
    if project.profile != "default" {
        args.extend(["as".to_owned(), project.profile.clone()]);
    }
    args.push("tar".to_owned());
    let env = vec![("REBAR_BASE_DIR", base.as_os_str().to_owned())];
    run(Step { program: "rebar3", args, dir: &project.dir, env, input: String::new() }, log).await?;
    let releases = profile.join("rel").join(&project.name);
    let project = project.clone();
    blocking(move || {
        let package = Package::read(&find(&project, &releases)?)?;
        complete(&project, &package)?;
        Ok(package)
    })
    .await
}

/// Old appups, modules of deleted sources and scripts of other versions would end up in the package.
fn clean(project: &Project, base: &Path, profile: &Path) -> Result<(), Error> {
    remove(&profile.join("rel"))?;
    for app in &project.apps {
        remove(&profile.join("lib").join(&app.name))?;
        remove(&base.join("default/lib").join(&app.name))?;
    }
    Ok(())
}

fn find(project: &Project, releases: &Path) -> Result<PathBuf, Error> {
    let expected = releases.join(format!("{}-{}.tar.gz", project.name, project.version));
    if expected.is_file() {
        return Ok(expected);
    }
    let entries = fs::read_dir(releases).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let built: Vec<String> =
        names.filter(|name| name.ends_with(".tar.gz")).map(|n| format!("`{n}`")).collect();
    let built = if built.is_empty() { "no package".to_owned() } else { built.join(", ") };
    Err(Error::Project(format!(
        "`rebar.config` says release `{}` `{}`, but rebar3 built {built}; does `rebar.config.script` change the \
         release? write its name and version in `rebar.config`",
        project.name, project.version
    )))
}

fn complete(project: &Project, package: &Package) -> Result<(), Error> {
    let place = match &*project.profile {
        "default" => "`relx` of `rebar.config`".to_owned(),
        profile => format!("`relx` of the profile `{profile}` in `rebar.config`"),
    };
    let kernel = package.rel.apps.iter().find(|(name, _)| name == "kernel");
    let (missing, setting) = if !package.has_erts() {
        (format!("the Erlang runtime system `erts-{}`", package.rel.erts), "include_erts")
    } else if !kernel.is_some_and(|app| package.has_app(app)) {
        ("Erlang's own libraries".to_owned(), "system_libs")
    } else {
        return Ok(());
    };
    Err(Error::Project(format!(
        "the package of `{}` `{}` lacks {missing}: set `{{{setting}, true}}` in {place} and check that \
         `rebar.config.script` does not set it to false; the thin package for an upgrade is made from the whole \
         one by itself, `RELUP_TAR` is not needed",
        project.name, project.version
    )))
}
